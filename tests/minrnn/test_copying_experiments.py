"""Selective copying and the bias sweep: what their numbers are made of, and which settings they refuse."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.experiment import Experiment, Machine, Work, own_settings
from lib.minrnn.experiments import forget_bias, selective_copying
from lib.minrnn.selective_copying import CopyingResult, train_copying, weights_of
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


@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_controls_have_the_weights_of_the_larger_cell(profile: str, tmp_path: Path) -> None:
    run = start(tmp_path, profile)
    s = run.of(selective_copying.Settings)
    deepest = max(s.layers)
    largest = max(weights_of(s, mixer, deepest, s.expansion) for mixer in ("min_gru", "min_lstm"))
    for job in selective_copying.jobs(run):
        if job.keywords["name"] == "control":
            own = weights_of(s, job.args[2], deepest, job.keywords["expansion"])
            assert own == pytest.approx(largest, rel=0.01 if s.width > 16 else 0.05)


def biased(
    firsts: dict[int, tuple[int | None, ...]], mixer: str = "min_lstm", biases: tuple[float, ...] = (0.0, 1.5, 3.0)
) -> list[CopyingResult]:  # fmt: skip
    """Results whose accuracy passes one half at evaluation number ``firsts[seed][i]`` with bias i, or never."""
    return [
        copied(
            mixer,
            2,
            seed,
            [0.9 if first is not None and i >= first else 0.1 for i in range(8)],
            **{forget_bias.OPTION[mixer]: bias},
        )
        for seed, numbers in firsts.items()
        for bias, first in zip(biases, numbers, strict=True)
    ]


def test_the_speedup_is_that_of_the_largest_bias_over_the_smallest(tmp_path: Path) -> None:
    run = start(tmp_path, bias_forget_biases=[3.0, 0.0, 1.5])
    # steps 1200, 600, 300; 1200, never, 600; the order of the results does not count
    forget_bias.measure(run, [biased({0: (7, 3, 1), 1: (7, None, 3)})[::-1]])
    found = run.measurements["forget_bias_speedup"]
    assert found.mean == pytest.approx(8**0.5)
    assert found.low < 2 < 4 < found.high
    assert set(run.measurements) == set(forget_bias.metrics(run.of(forget_bias.Settings)))


def test_runs_that_miss_the_threshold_are_not_judged_and_ties_are_no_speedup(tmp_path: Path) -> None:
    censored, tied = start(tmp_path / "a"), start(tmp_path / "b")
    forget_bias.measure(censored, [biased({0: (7, 3, 1), 1: (None, 3, 1)})])
    assert not censored.measurements
    forget_bias.measure(tied, [biased({0: (3, 3, 3), 1: (1, 1, 1)})])
    assert tied.measurements["forget_bias_speedup"].mean == 1


def test_a_gate_z_remembers_with_a_negative_bias(tmp_path: Path) -> None:
    run = start(tmp_path, bias_forget_biases=[], bias_gate_biases=[-2.0, 0.0])
    results = [biased({0: (3, 1), 1: (3, 1)}, "min_gru", (0.0, -2.0))]
    assert [job.args[2] for job in forget_bias.jobs(run)] == ["min_gru"]
    forget_bias.measure(run, results)
    assert set(run.measurements) == {"gate_bias_speedup"}
    assert run.measurements["gate_bias_speedup"].mean == pytest.approx(2)


def test_no_sweep_and_one_bias_measure_nothing(tmp_path: Path) -> None:
    none = start(tmp_path / "a", bias_forget_biases=[])
    forget_bias.measure(none, [])
    settings = none.of(forget_bias.Settings)
    assert forget_bias.jobs(none) == forget_bias.metrics(settings) == []
    assert forget_bias.figures(settings, []) == {}
    assert forget_bias.tables(settings, [])["steps"].empty
    one = start(tmp_path / "b", bias_forget_biases=[1.0])
    forget_bias.measure(one, [biased({0: (3,)}, biases=(1.0,))])
    assert not one.measurements


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"copying_data_tokens": 40}, "copying_data_tokens=40 must be at most length=12"),
        ({"copying_step": 3}, "did you mean 'copying_steps'"),
        ({"copying_controls": ["s4"]}, "'s4' is not one of"),
        ({"copying_controls": ["gru"]}, "'gru' is not one of"),
        ({"copying_layers": [0]}, "must be at least 1"),
        ({"copying_layers": []}, "must not be empty"),
        ({"copying_layers": [1, 2, 1]}, "names one of them twice"),
        ({"copying_steps": "many"}, "not of type int"),
        ({"copying_control_steps": 600}, "control_steps=600 must lie between"),
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


@pytest.mark.parametrize("profile", ["smoke", "gpu"])
def test_a_run_measures_and_draws(profile: str, tmp_path: Path) -> None:
    both = {
        "length": 6,
        "data_tokens": 2,
        "width": 8,
        "batch": 2,
        "steps": 3,
        "seeds": 2,
        "evaluate_every": 1,
        "evaluation_sequences": 6,
    }
    small = {f"{prefix}_{name}": value for prefix in EXPERIMENTS for name, value in both.items()}
    longer = {"lengths": [7] if profile == "gpu" else [], "data_tokens": 3, "steps": 1, "seeds": 1}
    small |= {f"copying_long_{name}": value for name, value in longer.items()}
    small |= {"copying_control_steps": 2, "workers": 1}
    run = start(tmp_path, profile, **small)
    work = Work(run)
    for experiment in EXPERIMENTS.values():
        results, settings = work.finish(experiment), own_settings(run, experiment)
        missed = set(experiment.metrics(settings)) - set(run.measurements)
        assert missed <= {"forget_bias_speedup", "gate_bias_speedup"}  # so short a run may never get there
        tables = experiment.tables(settings, results)
        pictures = experiment.figures(settings, results)
        if experiment is selective_copying:
            assert list(pictures) == ["depth", "gates"]
            assert list(tables["gates"]["seed"]) == [0, 1]
            assert len(tables["longer"]) == (2 if profile == "gpu" else 0)
            weights = tables["controls"].set_index("model")["weights"]
            assert weights["S4-type control"] == pytest.approx(weights["minLSTM"], rel=0.05)
        else:
            assert len(tables["steps"]) == sum(map(len, settings.sweeps().values()))
            assert len(pictures["curves"].axes) == len(settings.sweeps())
    plt.close("all")
