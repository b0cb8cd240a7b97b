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
from lib.minrnn.rate_search import rates_of
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


def measured(folder: Path, losses: dict[str, list[list[float]]]) -> Run[Any]:
    """A run that measured trainings with these test losses: model → by seed."""
    seeds = len(next(iter(losses.values())))
    run = start(folder, text_models=list(losses), text_learning_rates=[[1e-3]], text_seeds=seeds)
    text.measure(run, [[written(m, seed, x) for seed, x in enumerate(own)] for m, own in losses.items()])
    assert set(run.measurements) == set(text.metrics(run.of(Settings)))
    return run


def test_a_gap_is_to_the_worse_of_the_two_cells_by_seed(tmp_path: Path) -> None:
    losses = {
        "minGRU": [[2.6, 2.2, 2.0]] * 3,
        "minLSTM": [[2.6, 2.3, 2.1 + 0.01 * seed] for seed in range(3)],
        "S6": [[2.6, 1.9, 2.2]] * 3,
        "Transformer": [[3.0, 2.0, 2.45]] * 3,
        "Transformer + conv": [[3.0, 2.5, 2.2]] * 3,
    }
    found = measured(tmp_path, losses).measurements
    np.testing.assert_allclose(found["text_loss_gap_transformer"].values, [0.35, 0.34, 0.33])
    np.testing.assert_allclose(found["text_loss_gap_transformer_conv"].values, [0.1, 0.09, 0.08])
    np.testing.assert_allclose(found["text_loss_gap_s6"].values, [0.2, 0.21, 0.22])
    np.testing.assert_allclose(found["text_best_loss_transformer"].values, 2.0)
    np.testing.assert_allclose(found["text_bigram_margin"].values, 0.05)


def test_the_ratio_of_steps_is_taken_at_the_transformers_best_loss(tmp_path: Path) -> None:
    losses = {
        "minGRU": [[2.6, 2.4, 2.0], [2.6, 2.5, 2.4]],  # there at step 100; never there
        "minLSTM": [[2.3, 2.2, 2.0], [2.5, 2.3, 2.0]],
        "Transformer": [[3.0, 2.6, 2.5], [3.0, 2.3, 2.31]],  # best at step 150; at step 100
    }
    found = measured(tmp_path, losses).measurements
    np.testing.assert_allclose(found["transformer_steps_ratio_mingru"].values, [150 / 100, 100 / 150])
    np.testing.assert_allclose(found["transformer_steps_ratio_minlstm"].values, [150 / 50, 100 / 100])


def test_a_model_that_is_no_baseline_yet_shows_in_the_margin(tmp_path: Path) -> None:
    found = measured(tmp_path, {"minGRU": [[2.0, 1.9]], "Transformer": [[2.9, 2.56]]}).measurements
    np.testing.assert_allclose(found["text_bigram_margin"].values, -0.06)


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "smoke"])
def test_the_grid_of_test_losses_is_finer_than_the_effect(profile: str) -> None:
    """Ratios of steps near 2.5 are read off it."""
    settings = PROFILES[profile]
    assert settings.evaluate_every <= 0.02 * settings.steps
    assert settings.steps % settings.evaluate_every == 0


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
    assert len({len(rates_of(m, settings.learning_rates, settings.models)) for m in settings.models}) == 1
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
        ({"text_learning_rates": [[1e-3], [1e-3], [1e-3, 2e-3], [1e-3]]}, "tries more rates for one model"),
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
def test_every_model_of_the_default_profile_beats_the_bigram_table(tmp_path: Path) -> None:
    run = Run.start(
        "minrnn", CHAPTER, accelerator="cpu", out_dir=tmp_path, seed=7, overrides={"text_seeds": 1}
    )
    results = [job() for job in text.jobs(run)]
    text.measure(run, results)
    assert run.measurements["text_bigram_margin"].mean > 0.05
