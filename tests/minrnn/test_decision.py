"""The experiment with the pendulum: settings, jobs, metrics, and what is left of a killed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib import checkpoints
from lib.experiment import Machine, Work
from lib.minrnn.decision_model import MEMORYLESS, DecisionResult
from lib.minrnn.experiments import decision
from lib.minrnn.experiments.decision import PROFILES, WITHOUT_VELOCITY, Settings
from lib.minrnn.rate_search import rates_of
from lib.profiles import ParameterError, put_together
from lib.records import Run
from tests.interruptions import check_resumes

CHAPTER = put_together({"decision": decision}, {name: Machine(workers=1) for name in PROFILES})
ONE_RATE = [[1e-2]]
SMALL: dict[str, Any] = {
    "decision_width": 8, "decision_batch": 2, "decision_steps": 7, "decision_episodes": 4, "decision_dropout": 0.1,
    "decision_evaluation_episodes": 1, "decision_learning_rates": [[1e-2]], "decision_blind_learning_rates": [[1e-2]],
}  # fmt: skip


def start(folder: Path, profile: str = "smoke", **overrides: Any) -> Run[Any]:
    return Run.start(
        "minrnn", CHAPTER, profile=profile, accelerator="cpu", out_dir=folder, overrides=overrides
    )


def result(
    model: str, seed: int, score: float, error: float = 0.1, hidden: tuple[int, ...] = ()
) -> DecisionResult:
    return DecisionResult(model, "medium-expert", seed, 1e-3, score, 70.0, error, 1, hidden)


def test_decision_gap_is_to_the_best_other_sequence_model_not_to_the_control(tmp_path: Path) -> None:
    scores = {"min_gru": 70, "attention": 60, "s6": 65, MEMORYLESS: 99, "diagonal_ssm": 50}
    run = start(tmp_path, decision_models=list(scores), decision_learning_rates=ONE_RATE, decision_seeds=2)
    results = [[result(m, seed, v + seed) for seed in (0, 1)] for m, v in scores.items()]
    errors = {"min_gru": 0.1, MEMORYLESS: 0.1 * np.e}
    results += [[result(m, seed, 0.0, e, WITHOUT_VELOCITY) for seed in (0, 1)] for m, e in errors.items()]
    decision.measure(run, results)
    for name, gap in (("best_other", 5), ("memoryless", -29), ("s4", 20)):
        np.testing.assert_allclose(run.measurements[f"decision_gap_{name}"].values, [gap, gap])
    np.testing.assert_allclose(run.measurements["hidden_velocity_log_error_ratio"].values, [1, 1])
    assert set(run.measurements) == set(decision.metrics(run.of(Settings)))


@pytest.mark.parametrize("models", [["min_gru", "attention", MEMORYLESS], ["min_lstm"], ["min_gru"]])
def test_it_runs_shows_and_is_kept(models: list[str], tmp_path: Path) -> None:
    for again in (False, True):
        run = start(tmp_path, **SMALL, decision_models=models)
        work = Work(run)
        results = work.finish(decision)
        work.close()
        assert run.experiments["decision"]["reused"] == (len(results) if again else 0)
    assert set(run.measurements) == set(decision.metrics(run.of(Settings)))
    blind = [m for m in models if m in ("min_gru", MEMORYLESS)]
    assert [r.model for [r] in results if r.hidden] == blind
    assert [r.model for [r] in results if not r.hidden] == models
    assert all(np.isfinite([r.score, r.action_error, r.data_score]).all() for [r] in results)
    drawn = decision.figures(run.of(Settings), results)
    assert list(drawn) == ["scores", "hidden_velocity"][: 1 + bool(blind)]
    assert len(decision.tables(run.of(Settings), results)["models"]) == len(models)


def test_training_lowers_the_action_error(tmp_path: Path) -> None:
    errors = []
    for steps in (1, 60):
        sizes = {
            "decision_steps": steps,
            "decision_episodes": 10,
            "decision_models": ["min_gru"],
            "decision_batch": 16,
        }
        run = start(
            tmp_path / str(steps),
            **sizes,
            decision_learning_rates=ONE_RATE,
            decision_blind_learning_rates=ONE_RATE,
        )
        errors.append(decision.jobs(run)[0]()[0].action_error)
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("profile", list(PROFILES))
def test_every_model_gets_an_equal_training_and_an_equal_search(profile: str) -> None:
    settings = PROFILES[profile]
    assert len({len(rates_of(m, settings.learning_rates, settings.models)) for m in settings.models}) == 1
    blind = settings.blind_models
    assert len({len(rates_of(m, settings.blind_learning_rates, blind)) for m in blind}) == 1
    sizes = [settings.architecture(model) for model in settings.models if model != MEMORYLESS]
    assert len({(a.n_layers, a.d_model, a.mlp, a.mlp_multiple, a.dropout) for a in sizes}) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"decision_models": ["attnetion"]}, "decision_models.*did you mean 'attention'"),
        ({"decision_models": []}, "decision_models.*must not be empty"),
        ({"decision_sets": ["mediun"]}, "decision_sets.*did you mean 'medium'"),
        ({"decision_sets": ["medium", "medium"]}, "decision_sets.*names one of them twice"),
        (
            {"decision_models": ["min_gru"]},
            "decision_learning_rates.*needs one tuple, or one for each of the 1 models",
        ),
        ({"decision_learning_rates": [[1e-3], [1e-3, 2e-3], [1e-3]]}, "tries more rates for one model"),
        (
            {"decision_blind_learning_rates": [[1e-3]] * 3},
            "decision_blind_learning_rates.*each of the 2 models",
        ),
        ({"decision_heads": 5}, "decision_heads=5 does not divide"),
        ({"decision_episodes": 1}, "decision_episodes=1 must be at least 2"),
        ({"decision_context": 0}, "decision_context=0 must be at least 1"),
        ({"decision_clip": 0.0}, "decision_clip=0.0 must be above 0"),
        ({"decision_sedes": 3}, "did you mean 'decision_seeds'"),
    ],
)
def test_wrong_settings_are_one_line(overrides: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=message):
        start(tmp_path / "x", "default", **overrides)
    assert not (tmp_path / "x").exists()


def test_the_rate_is_chosen_by_the_held_out_error_not_by_order(tmp_path: Path) -> None:
    changes = {
        "decision_models": ["min_gru"],
        "decision_learning_rates": [[1e-6, 1e-2, 1e-5]],
        "decision_steps": 30,
    }
    run = start(tmp_path, **{**SMALL, **changes})
    [[result]] = [job() for job in decision.jobs(run)[:1]]
    assert result.learning_rate == 1e-2


@pytest.fixture
def same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources are hashed for every training; here they are the same throughout."""
    monkeypatch.setattr(checkpoints, "code_hash", lambda slug, profile: "code")


def test_a_killed_training_ends_with_the_same_numbers(same_code: None, tmp_path: Path) -> None:
    changes = {
        "decision_models": ["min_gru"],
        "decision_learning_rates": [[1e-2, 1e-4]],
        "checkpoint_every": 2,
    }

    def train(folder: Path) -> list[DecisionResult]:
        return decision.jobs(start(folder, **{**SMALL, **changes}))[0]()

    check_resumes(train, tmp_path)


def test_a_training_depends_on_its_streams_alone(same_code: None, tmp_path: Path) -> None:
    results = []
    for before in (1, 2):
        torch.manual_seed(before)
        run = start(tmp_path / str(before), **SMALL, decision_models=["min_gru"])
        results.append(decision.jobs(run)[0]())
    assert results[0] == results[1]


def test_no_two_trainings_share_a_checkpoint(same_code: None, tmp_path: Path) -> None:
    changes = {
        "decision_steps": 1,
        "decision_learning_rates": [[1e-3, 1.0000001e-3]],
        "decision_blind_learning_rates": [[1e-3, 1.0000001e-3]],
    }
    run = start(
        tmp_path, **{**SMALL, **changes}, decision_sets=["medium", "medium-expert"], decision_layers=1,
        decision_models=["min_gru", MEMORYLESS], decision_seeds=2, checkpoint_every=1,
    )  # fmt: skip
    for job in decision.jobs(run):
        job()
    marks = [path.read_text() for path in (tmp_path / "checkpoints").glob("*/run-*")]
    assert len(marks) == len(set(marks)) == 2 * (2 + 2 * 2) + 2 * (2 + 2)
