"""Every kind of training of the chapter, killed and started again, ends with equal numbers; no two of a run share a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib import checkpoints
from lib.digest import digest
from lib.experiment import Experiment
from lib.minrnn.character_text import text_from
from lib.minrnn.experiments import decision, forget_bias, formal_languages, selective_copying, text
from lib.minrnn.language_model import train_language_model
from lib.minrnn.profiles import PROFILES
from lib.minrnn.selective_copying import train_copying
from lib.records import Run
from tests.interruptions import check_resumes

SMALL: dict[str, Any] = {
    "checkpoint_every": 2,
    **{f"{prefix}_width": 8 for prefix in ("copying", "bias", "text", "decision", "formal")},
    **{f"{prefix}_batch": 2 for prefix in ("copying", "bias", "text", "decision", "formal")},
    **{f"{prefix}_steps": 7 for prefix in ("copying", "bias", "text", "decision", "formal")},
    **{f"{prefix}_length": 6 for prefix in ("copying", "bias")},
    **{f"{prefix}_evaluation_sequences": 4 for prefix in ("copying", "bias")},
    **{f"{prefix}_evaluate_every": 3 for prefix in ("copying", "bias", "text")},
    "copying_control_steps": 7,
    "text_block": 8,
    "text_heads": 1,
    "text_test_windows": 2,
    "text_dropout": 0.2,
    "decision_episodes": 4,
    "decision_dropout": 0.1,
    "decision_heads": 1,
    "decision_evaluation_episodes": 1,
}


@pytest.fixture(autouse=True)
def _same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources are hashed for every training; here they are the same throughout."""
    monkeypatch.setattr(checkpoints, "content_hash", lambda slug, profile: "code")


def start(folder: Path, profile: str = "smoke", **changes: Any) -> Run[Any]:
    overrides = {**SMALL, **changes}
    return Run.start(
        "minrnn",
        PROFILES,
        profile=profile,
        accelerator="cpu",
        data="standin",
        out_dir=folder,
        overrides=overrides,
    )


TRAININGS: dict[str, tuple[Experiment, int, dict[str, Any]]] = {
    "stack": (forget_bias, 0, {"bias_seeds": 2}),
    "one model": (selective_copying, -1, {"copying_seeds": 2}),
    "text, with a choice of rates": (
        text,
        0,
        {"text_models": ["Transformer"], "text_learning_rates": [[1e-2, 1e-4]], "text_seeds": 1},
    ),
    "decisions": (
        decision,
        0,
        {"decision_models": ["attention"], "decision_learning_rates": [[1e-3]], "decision_seeds": 1},
    ),
    "formal languages": (formal_languages, 0, {}),
}


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_killed_training_ends_with_the_same_numbers(kind: str, tmp_path: Path) -> None:
    experiment, number, changes = TRAININGS[kind]
    check_resumes(lambda folder: experiment.jobs(start(folder, **changes))[number](), tmp_path)


def test_the_depth_run_and_the_bias_sweep_keep_checkpoints_apart(tmp_path: Path) -> None:
    """Both train two layers of minLSTM in stacks of two: once with a bias of 1.5, once with 0 and 3."""

    def both(folder: Path, **changes: Any) -> list[Any]:
        run = start(folder, copying_forget_bias=1.5, bias_forget_biases=[0.0, 3.0], **changes)
        jobs = [*selective_copying.jobs(run), *forget_bias.jobs(run)]
        return [job() for job in jobs]

    check_resumes(both, tmp_path)
    assert digest(both(tmp_path / "kept")) == digest(both(tmp_path / "plain", checkpoint_every=None))


def test_no_two_trainings_of_a_run_share_a_checkpoint(tmp_path: Path) -> None:
    """All experiments at once, where sizes coincide: the long length is the main one.

    A checkpoint's label is taken once, or the run ends with an error.
    """
    run = start(
        tmp_path, copying_length=16, copying_data_tokens=16, copying_long_lengths=[16], copying_long_steps=7,
        copying_long_seeds=1, bias_length=16,
        text_models=["Transformer", "Transformer + conv"], text_learning_rates=[[1e-3, 1.0000001e-3]], text_seeds=2,
        decision_sets=["medium", "medium-expert"], decision_models=["min_gru", "memoryless"],
        decision_learning_rates=[[1e-3, 1.0000001e-3]], decision_blind_learning_rates=[[1e-3]], decision_seeds=2,
    )  # fmt: skip
    for experiment in (selective_copying, forget_bias, text, decision, formal_languages):
        for job in experiment.jobs(run):
            job()
    # seeds and variants that cannot be stacked are trained one by one
    settings = run.of(selective_copying.Settings)
    train_copying(
        run, settings, "diagonal_ssm", 1, 7, (0, 1), variants=((("d_state", 2),), (("d_state", 3),))
    )
    marks = [path.read_text() for path in (tmp_path / "checkpoints").glob(f"*/run-{run.run_id}")]
    assert len(marks) == len(set(marks)) > 30


def test_what_a_training_reads_belongs_to_its_key(tmp_path: Path) -> None:
    """A run that starts again with other data or another optimisation does not go on from what is there."""
    settings = start(tmp_path).of(text.Settings)
    characters = text_from(None, 0)

    def train(characters: Any, **changes: Any) -> None:
        again = start(tmp_path)
        train_language_model(again, replace(settings, **changes), "minGRU", characters, 1e-2, 0)

    train(characters)
    train(characters)
    assert len(list(tmp_path.glob("checkpoints/*"))) == 1
    train(characters, weight_decay=0.5)
    other = characters.train.clone()
    other[0] = 1 - other[0].clamp(max=1)
    train(replace(characters, train=other))
    train(characters, steps=9)
    assert len(list(tmp_path.glob("checkpoints/*"))) == 4
