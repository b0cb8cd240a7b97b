"""Selective copying and the bias sweep: what their numbers are made of, and which settings they refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.experiment import Experiment, Machine
from lib.minrnn.experiments import forget_bias, selective_copying
from lib.minrnn.selective_copying import CopyingResult, train_copying
from lib.minrnn.token_model import Architecture, History
from lib.profiles import PROFILE_NAMES, ParameterError, put_together
from lib.records import Run

EXPERIMENTS: dict[str, Experiment] = {"copying": selective_copying, "bias": forget_bias}
PROFILES = put_together(EXPERIMENTS, {name: Machine() for name in PROFILE_NAMES})


def start(out_dir: Path, profile: str = "default", **overrides: Any) -> Run[Any]:
    return Run.start(
        "minrnn", PROFILES, profile=profile, accelerator="cpu", out_dir=out_dir, overrides=overrides
    )


def copied(mixer: str, layers: int, seed: int, accuracy: list[float], **options: float) -> CopyingResult:
    steps = [150 * (i + 1) for i in range(len(accuracy))]
    architecture = Architecture(mixer, layers, 8, options=tuple(options.items()))
    return CopyingResult(architecture, seed, History(steps, [1.0] * len(steps), accuracy), 10)


def test_gains_and_gaps_are_paired_by_seed_whatever_the_order(tmp_path: Path) -> None:
    run = start(tmp_path)
    cells = [
        [copied(mixer, layers, seed, [0.1, 0.5, 0.1 * layers + 0.01 * seed * layers]) for seed in (2, 0, 1)]
        for layers in (3, 1, 2)
        for mixer in ("min_gru", "min_lstm")
    ]
    controls = [
        [copied(mixer, 3, seed, [0.1, level + 0.01 * seed])]  # the controls stop at step 300
        for mixer, level in (("s6", 0.4), ("diagonal_ssm", 0.3))
        for seed in (1, 0, 2)
    ]
    selective_copying.measure(run, [*cells, *controls])
    found = run.measurements
    np.testing.assert_allclose(found["depth_gain_3_mingru"].values, [20, 22, 24])
    np.testing.assert_allclose(found["copying_accuracy_minlstm_2"].values, [20, 22, 24])
    assert found["one_layer_accuracy_best"].mean == pytest.approx(11)
    np.testing.assert_allclose(found["control_gap_mingru"].values, [20, 19, 18])
    np.testing.assert_allclose(found["control_gap_s6"].values, [10, 10, 10])
    assert set(found) == set(selective_copying.metrics(run.of(selective_copying.Settings)))


def test_results_of_further_lengths_are_kept_apart(tmp_path: Path) -> None:
    s = start(tmp_path, "gpu").of(selective_copying.Settings)
    main, longer = [[copied("min_gru", 1, 0, [0.5])]], [[copied("min_gru", 3, 0, [0.1])]] * 2
    assert selective_copying.at_main_length(s, [*main, *longer]) == main[0]


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_what_is_compared_has_equal_budgets(profile: str, tmp_path: Path) -> None:
    run = start(tmp_path, profile)
    for experiment in EXPERIMENTS.values():
        steps: dict[tuple[str, int], set[int]] = {}
        for job in experiment.jobs(run):
            settings, _, _, optimiser_steps = job.args[1:5]
            steps.setdefault((job.keywords["name"], settings.length), set()).add(optimiser_steps)
        assert all(len(found) == 1 for found in steps.values())


def test_the_paper_profile_starts_at_the_papers_own_task(tmp_path: Path) -> None:
    """The sizes that make a run long are cut; task, optimiser and model stay the paper's."""
    small = {
        "copying_steps": 1,
        "copying_control_steps": 1,
        "copying_evaluate_every": 1,
        "copying_evaluation_sequences": 2,
        "copying_batch": 1,
        "copying_seeds": 1,
        "checkpoint_every": 1,
    }
    run = start(tmp_path, "paper", **small)
    job = next(j for j in selective_copying.jobs(run) if j.args[3] == 1)
    settings = job.args[1]
    assert (settings.length, settings.data_tokens, settings.expansion, settings.learning_rate) == (
        4096,
        16,
        6.0,
        3e-4,
    )
    (result,) = train_copying(*job.args, **job.keywords)
    assert result.history.steps == [1]
    assert (tmp_path / "checkpoints").is_dir()


def test_bias_effect_of_known_curves() -> None:
    def curve(first: int) -> list[float]:
        return [0.9 if i >= first else 0.1 for i in range(8)]

    results = [
        copied("min_lstm", 2, seed, curve(first), forget_bias=bias)
        for seed, firsts in ((0, (7, 3, 1)), (1, (9, 9, 9)))
        for bias, first in zip((0.0, 1.0, 2.0), firsts, strict=True)
    ]
    slopes, ranks = forget_bias.bias_effect(results, "min_lstm", 0.5)
    np.testing.assert_allclose(slopes, [-1, 0], atol=1e-9)  # steps 1200, 600, 300; and never, never, never
    np.testing.assert_allclose(ranks, [-1, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"copying_data_tokens": 40}, "copying_data_tokens=40 must be at most length=16"),
        ({"copying_step": 3}, "did you mean 'copying_steps'"),
        ({"copying_controls": ["s4"]}, "'s4' is not one of"),
        ({"copying_controls": ["s6"]}, "needs one number for each of the 1 controls"),
        ({"copying_layers": [0]}, "must be at least 1"),
        ({"copying_layers": []}, "must not be empty"),
        ({"copying_layers": [1, 2, 1]}, "names one of them twice"),
        ({"copying_steps": "many"}, "not of type int"),
        ({"copying_control_steps": 500}, "control_steps=500 must lie between"),
        ({"copying_long_lengths": [64]}, "needs long_steps"),
        ({"copying_batch": -1}, "must be at least 1"),
        ({"bias_threshold": 1.5}, "must be at most 1"),
        ({"bias_seeds": 0}, "must be at least 1"),
    ],
)
def test_wrong_settings_are_one_line(overrides: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        start(tmp_path / "x", **overrides)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()
