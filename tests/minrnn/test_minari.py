"""The experiment with D4RL's data sets, where none of them is at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.experiment import Machine, Work
from lib.minrnn.decision_model import DecisionResult
from lib.minrnn.experiments import minari
from lib.minrnn.experiments.minari import PROFILES
from lib.profiles import ParameterError, put_together
from lib.records import Run

CHAPTER = put_together({"minari": minari}, {name: Machine(workers=1) for name in PROFILES})
NINE = [
    f"mujoco/{e}/{k}-v0"
    for e in ("halfcheetah", "hopper", "walker2d")
    for k in ("medium", "expert", "simple")
]


def start(folder: Path, profile: str = "default", **overrides: Any) -> Run[Any]:
    return Run.start(
        "minrnn", CHAPTER, profile=profile, accelerator="cpu", out_dir=folder, overrides=overrides
    )


def test_nothing_is_run_and_shown_where_no_set_is_named(tmp_path: Path) -> None:
    run = start(tmp_path)
    work = Work(run)
    results = work.finish(minari)
    work.close()
    assert results == []
    assert run.measurements == {}
    settings = run.of(minari.Settings)
    assert (minari.tables(settings, results), minari.figures(settings, results)) == ({}, {})


def scored(model: str, dataset_id: str, scores: list[float]) -> list[DecisionResult]:
    return [DecisionResult(model, dataset_id, seed, 1e-4, s, 0.0, 0.1, 1) for seed, s in enumerate(scores)]


def test_averages_and_gaps_are_over_the_sets_by_seed(tmp_path: Path) -> None:
    worth = {"min_gru": 3.0, "min_lstm": 1.0, "attention": 0.0, "s6": 2.0, "diagonal_ssm": -5.0}
    run = start(tmp_path, minari_ids=NINE, minari_models=list(worth), minari_seeds=2)
    results = [
        scored(m, i, [10.0 * n + v, 10.0 * n + v + 1]) for n, i in enumerate(NINE) for m, v in worth.items()
    ]
    minari.measure(run, results)
    expected = {
        "d4rl_mingru_hopper_medium": (33, 34),
        "d4rl_mingru_average": (43, 44),
        "d4rl_minlstm_average": (41, 42),
        "d4rl_gap_best_other_mingru": (1, 1),
        "d4rl_gap_best_other_minlstm": (-1, -1),
        "d4rl_gap_s4_mingru": (8, 8),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(run.measurements[name].values, values)
    assert set(run.measurements) == set(minari.metrics(run.of(minari.Settings)))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["hopper"], "minari_ids: 'hopper' is not of the form"),
        (["mujoco/hopper/medium-v0", "mujoco/hopper/medium-v1"], "names two versions of one data set"),
        (["mujoco/hopper/medium-v0"] * 2, "names one of them twice"),
    ],
)
def test_wrong_ids_are_one_line(ids: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=message):
        start(tmp_path, minari_ids=ids)
