"""The experiment with Shakespeare's characters: settings, jobs, metrics, and what is left of a killed run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib import checkpoints
from lib.experiment import Machine, Work
from lib.minrnn.character_text import CharacterText, standin_text
from lib.minrnn.experiments import text
from lib.minrnn.experiments.text import PROFILES, Settings
from lib.minrnn.language_model import TextResult, train_language_model
from lib.minrnn.token_model import History
from lib.profiles import ParameterError, put_together
from lib.records import Run
from tests.interruptions import check_resumes

CHAPTER = put_together({"text": text}, {name: Machine(workers=1) for name in PROFILES})
MODELS = ["minGRU", "S6", "Transformer + conv"]
SMALL: dict[str, Any] = {
    "text_width": 8, "text_block": 8, "text_batch": 2, "text_steps": 7, "text_test_windows": 2, "text_evaluate_every": 3,
}  # fmt: skip


def start(folder: Path, profile: str = "smoke", **overrides: Any) -> Run[Any]:
    return Run.start(
        "minrnn",
        CHAPTER,
        profile=profile,
        accelerator="cpu",
        data="standin",
        out_dir=folder,
        overrides=overrides,
    )


def written(model: str, seed: int, losses: list[float]) -> TextResult:
    steps = [50 * (i + 1) for i in range(len(losses))]
    return TextResult(model, seed, 1e-3, History(steps, losses, [0.0] * len(losses)), 1, 1, 1.0, 2.5)


def test_text_gap_takes_the_worse_of_the_two_cells_and_the_ratio_is_a_bound(tmp_path: Path) -> None:
    run = start(tmp_path, "default")
    seeds = (0, 1, 2)
    results = [
        [written("minGRU", seed, [2.6, 2.2, 2.0]) for seed in seeds],
        [written("minLSTM", seed, [2.6, 2.3, 2.1 + 0.01 * seed]) for seed in seeds],
        [written("Transformer", seed, [3.0, 2.0 if seed else 2.9, 2.5]) for seed in seeds],
        [written("Transformer + conv", seed, [3.0, 2.5, 2.2]) for seed in seeds],
    ]
    text.measure(run, results)
    np.testing.assert_allclose(run.measurements["text_loss_gap_transformer"].values, [0.4, 0.39, 0.38])
    np.testing.assert_allclose(run.measurements["transformer_steps_ratio"].values, [1, 100 / 150, 100 / 150])


def test_it_runs_shows_and_is_kept(tmp_path: Path) -> None:
    changes = {"text_models": MODELS, "text_learning_rates": [[1e-2]], "text_sample_characters": 5}
    for again in (False, True):
        run = start(tmp_path, **SMALL, **changes)
        work = Work(run)
        results = work.finish(text)
        work.close()
        assert run.experiments["text"]["reused"] == (3 if again else 0)
    assert [len(own[0].sample) for own in results] == [5, 0, 0]
    settings = run.of(Settings)
    assert list(text.tables(settings, results)["models"]["model"]) == [
        "minGRU",
        "S6 (Mamba)",
        "Transformer + conv",
    ]
    assert list(text.figures(settings, results)) == ["losses"]


@pytest.mark.parametrize("profile", list(PROFILES))
def test_every_model_is_tried_with_as_many_rates_and_gets_equal_steps(profile: str) -> None:
    settings = PROFILES[profile]
    assert len({len(settings.rates(model)) for model in settings.models}) == 1
    assert len({settings.optimisation(1e-3) for _ in settings.models}) == 1
    sizes = [settings.architecture(model) for model in settings.models]
    assert len({(a.n_layers, a.d_model, a.mlp, a.dropout) for a in sizes}) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"text_models": ["minGRUs"]}, "text_models.*did you mean 'minGRU'"),
        ({"text_models": []}, "text_models.*must not be empty"),
        ({"text_models": ["minGRU", "minGRU"]}, "text_models.*names one of them twice"),
        ({"text_heads": 5}, "text_heads=5 does not divide"),
        ({"text_learning_rates": [[1e-3], [1e-3]]}, "text_learning_rates.*needs one tuple"),
        ({"text_learning_rates": [[]]}, "text_learning_rates.*must not be empty"),
        ({"text_learning_rates": [[1e-3, 2e-3, 1e-3]]}, "text_learning_rates.*names one of them twice"),
        ({"text_learning_rates": [[0.0]]}, "text_learning_rates.*must be above 0"),
        ({"text_seeds": 0}, "text_seeds=0 must be at least 1"),
        ({"text_block": 1}, "text_block=1 must be at least 2"),
        ({"text_dropout": 1.0}, "text_dropout=1.0 must be below 1"),
        ({"text_steps": "many"}, "text_steps='many' is not of type int"),
    ],
)
def test_wrong_settings_are_one_line(overrides: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=message):
        start(tmp_path / "x", "default", **overrides)
    assert not (tmp_path / "x").exists()


@pytest.fixture
def same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources are hashed for every training; here they are the same throughout."""
    monkeypatch.setattr(checkpoints, "code_hash", lambda slug, profile: "code")


def everything(folder: Path, **changes: Any) -> list[list[TextResult]]:
    run = start(folder, **{**SMALL, **changes})
    return [job() for job in text.jobs(run)]


def test_a_killed_training_ends_with_the_same_numbers(same_code: None, tmp_path: Path) -> None:
    def train(folder: Path) -> list[list[TextResult]]:
        return everything(
            folder,
            text_models=["Transformer"],
            text_learning_rates=[[1e-2, 1e-4]],
            text_dropout=0.2,
            checkpoint_every=2,
        )

    check_resumes(train, tmp_path)


def test_a_training_depends_on_its_streams_alone(same_code: None, tmp_path: Path) -> None:
    losses = []
    for before in (1, 2):
        torch.manual_seed(before)
        [[result]] = everything(
            tmp_path / str(before),
            text_models=["Transformer"],
            text_learning_rates=[[1e-2]],
            text_dropout=0.2,
        )
        losses.append(result.history.loss)
    assert losses[0] == losses[1]


def test_no_two_trainings_share_a_checkpoint(same_code: None, tmp_path: Path) -> None:
    everything(
        tmp_path, text_models=["Transformer", "Transformer + conv"], text_learning_rates=[[1e-3, 1.0000001e-3]], text_seeds=2,
        text_steps=1, checkpoint_every=1,
    )  # fmt: skip
    marks = [path.read_text() for path in (tmp_path / "checkpoints").glob("*/run-*")]
    assert len(marks) == len(set(marks)) == 2 * (2 + 2)


def test_what_a_training_reads_belongs_to_its_key(same_code: None, tmp_path: Path) -> None:
    """A run that starts again with other data or another optimisation does not go on from what is there."""
    settings = replace(PROFILES["smoke"], width=8, block=8, batch=2, steps=4, test_windows=2)
    play = CharacterText.from_string(standin_text(4000, 0))

    def train(play: CharacterText, settings: Settings, rate: float = 1e-2) -> None:
        train_language_model(start(tmp_path, checkpoint_every=2), settings, "minGRU", play, rate, 0)

    train(play, settings)
    train(play, settings)
    assert len(list(tmp_path.glob("checkpoints/*"))) == 1
    other = play.train.clone()
    other[0] = 1 - other[0].clamp(max=1)
    train(replace(play, train=other), settings)
    train(play, replace(settings, weight_decay=0.0))
    train(play, settings, 2e-2)
    assert len(list(tmp_path.glob("checkpoints/*"))) == 4


@pytest.mark.slow
def test_a_short_training_beats_the_bigram_table(tmp_path: Path) -> None:
    run = Run.start("minrnn", CHAPTER, accelerator="cpu", out_dir=tmp_path, overrides={"text_models": ["minGRU"],
                    "text_learning_rates": [[8e-3]], "text_seeds": 1})  # fmt: skip
    [[result]] = [job() for job in text.jobs(run)]
    assert result.history.loss[-1] < result.bigram_loss - 0.1
