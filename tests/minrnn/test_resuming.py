"""Every kind of training of the chapter, killed and started again, ends with equal numbers; no two of a run share a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lib import checkpoints
from lib.digest import digest
from lib.minrnn import experiments as ex
from lib.minrnn import language_model as lm
from lib.minrnn.decision_model import decision_job
from lib.minrnn.formal_languages import train_formal
from lib.minrnn.pendulum import ScoreScale
from lib.minrnn.profiles import PROFILES, Settings
from lib.minrnn.selective_copying import train_copying
from lib.minrnn.token_model import Architecture, Optimisation
from lib.records import Run
from tests.interruptions import check_resumes

SCALE = ScoreScale(-1700.0, -330.0)
SMALL: dict[str, Any] = {
    "checkpoint_every": 2, "copying_length": 6, "copying_width": 8, "copying_batch": 2, "copying_seeds": 2, "copying_steps": 7,
    "copying_control_steps": 7, "copying_bias_steps": 7, "copying_long_steps": 7, "copying_evaluation_sequences": 4,
    "text_width": 8, "text_block": 8, "text_batch": 2, "text_steps": 7, "text_test_windows": 2, "text_evaluate_every": 3,
    "text_dropout": 0.2, "decision_width": 8, "decision_batch": 2, "decision_steps": 7, "decision_episodes": 4,
    "decision_dropout": 0.1, "decision_evaluation_episodes": 1, "formal_width": 8, "formal_batch": 2, "formal_steps": 7,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources are hashed for every training; here they are the same throughout."""
    monkeypatch.setattr(checkpoints, "content_hash", lambda slug, profile: "code")


def start(folder: Path, profile: str = "smoke", **changes: Any) -> Run[Settings]:
    overrides = {**SMALL, **changes}
    return Run.start(
        "minrnn", PROFILES, profile=profile, accelerator="cpu", out_dir=folder, overrides=overrides
    )


def first(jobs: Callable[[Run[Settings]], list[ex.Job]], function: Callable[..., Any], **changes: Any) -> Any:
    """A training: the first of the experiment's jobs."""

    def train(folder: Path) -> Any:
        *positional, last = jobs(start(folder, **changes))[0]
        return function(*positional, **last) if isinstance(last, dict) else function(*positional, last)

    return train


TRAININGS = {
    "stack": first(ex.bias_jobs, train_copying),
    "one model": first(ex.control_jobs, train_copying),
    "text, with a choice of rates": first(
        lambda run: ex.text_jobs(run, None),
        lm.language_model_job,
        text_models=["Transformer"],
        text_learning_rates=[[1e-2, 1e-4]],
    ),
    "decisions": first(lambda run: ex.decision_jobs(run, SCALE), decision_job),
    "formal languages": first(ex.formal_jobs, train_formal),
}


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_killed_training_ends_with_the_same_numbers(kind: str, tmp_path: Path) -> None:
    check_resumes(TRAININGS[kind], tmp_path)


def test_the_depth_run_and_the_bias_sweep_keep_checkpoints_apart(tmp_path: Path) -> None:
    """Both train two layers of minLSTM in stacks of two: once with a bias of 1.5, once with 3.0."""
    biases = {"forget_bias": 1.5, "forget_biases": [3.0], "gate_biases": [-3.0]}

    def both(folder: Path, **changes: Any) -> list[Any]:
        run = start(folder, **biases, **changes)
        return [train_copying(*job) for job in (*ex.depth_jobs(run), *ex.bias_jobs(run))]

    check_resumes(both, tmp_path)
    plain = both(tmp_path / "plain", checkpoint_every=None)
    kept = both(tmp_path / "kept")
    assert digest(kept) == digest(plain)

    def losses(forget_bias: float) -> list[float]:
        found = [r for results in kept for r in results if r.architecture.mixer == "min_lstm"]
        at_two = [r for r in found if r.architecture.n_layers == 2 and r.seed == 0]
        return next(
            r.history.loss for r in at_two if r.architecture.options[-1] == ("forget_bias", forget_bias)
        )

    assert losses(1.5) != losses(3.0)


def test_no_two_trainings_of_a_run_share_a_checkpoint(tmp_path: Path) -> None:
    """All experiments at once, where sizes coincide: the long length is the main one, a control is a compared cell."""
    run = start(
        tmp_path, profile="gpu", copying_length=16, copying_data_tokens=16, copying_long_lengths=[16], copying_layers=[1, 2, 3],
        copying_controls=["min_gru"], copying_control_expansions=[2.0], copying_steps=1, copying_control_steps=1,
        copying_bias_steps=1, copying_long_steps=1, text_steps=1, decision_steps=1, formal_steps=1, text_layers=1, text_heads=1,
        text_models=["Transformer", "Transformer + conv"], text_learning_rates=[[1e-3, 1.0000001e-3]], text_seeds=2,
        decision_sets=["medium", "medium-expert"], decision_models=["min_gru", "memoryless"], decision_layers=1,
        decision_seeds=2, formal_tasks=["parity_check"], formal_seeds=1, checkpoint_every=1,
    )  # fmt: skip
    for job in (*ex.depth_jobs(run), *ex.control_jobs(run), *ex.bias_jobs(run), *ex.long_jobs(run)):
        train_copying(*job)
    # seeds and variants that cannot be stacked are trained one by one
    architecture = Architecture("diagonal_ssm", 1, 8)
    variants = ((("d_state", 2),), (("d_state", 3),))
    train_copying(
        run, ex.copying_task(run.settings), architecture, Optimisation(1, 1e-3), (0, 1), variants, 1
    )
    for job in ex.text_jobs(run, None):
        lm.language_model_job(*job)
    for job in (*ex.decision_jobs(run, SCALE), *ex.decision_jobs(run, SCALE, hidden=(2,))):
        decision_job(*job[:-1], **job[-1])
    for job in ex.formal_jobs(run):
        train_formal(*job[:-1], **job[-1])
    marks = [path.read_text() for path in (tmp_path / "checkpoints").glob(f"*/run-{run.run_id}")]
    assert len(marks) == len(set(marks)) == 6 + 2 + 2 + 2 + 4 + 2 * (2 + 2) + 8 + 4 + 4


def test_what_a_training_reads_belongs_to_its_key(tmp_path: Path) -> None:
    """A run that starts again with other data or another optimisation does not go on from what is there."""
    run = start(tmp_path, text_models=["minGRU"], text_learning_rates=[[1e-2]])
    [job] = ex.text_jobs(run, None)
    task, architecture, optimisation = job[3:6]
    text = lm.text_from(None, 4000, 0)

    def train(text: lm.CharacterText, optimisation: Optimisation) -> None:
        again = start(tmp_path, text_models=["minGRU"], text_learning_rates=[[1e-2]])
        lm.train_language_model(again, "m", text, task, architecture, optimisation, 0, checkpoint_every=2)

    train(text, optimisation)
    train(text, optimisation)
    assert len(list(tmp_path.glob("checkpoints/*"))) == 1
    train(text, replace(optimisation, cosine=False))
    other = text.train.clone()
    other[0] = 1 - other[0].clamp(max=1)
    train(replace(text, train=other), optimisation)
    train(text, replace(optimisation, steps=9))
    assert len(list(tmp_path.glob("checkpoints/*"))) == 4
