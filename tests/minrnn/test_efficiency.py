"""Claim C2: what is timed, and what is made of the times."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lib.experiment import Machine, Work
from lib.minrnn import efficiency
from lib.minrnn.efficiency import CopyLimit, EfficiencySettings, Timing
from lib.minrnn.experiments import efficiency as experiment
from lib.minrnn.scan import linear_scan
from lib.profiles import ParameterError, put_together
from lib.publishing.benchmark import Report
from lib.records import Run

CPU = torch.device("cpu")
PROFILES = put_together({"efficiency": experiment}, {n: Machine(workers=1) for n in experiment.PROFILES})


@pytest.mark.parametrize("model", list(efficiency.MODELS))
def test_a_training_step_reaches_every_time_step_and_every_weight(model: str) -> None:
    torch.manual_seed(0)
    module = efficiency.build(model, 8, CPU)
    x = torch.randn(2, 9, 8, requires_grad=True)
    efficiency.training_step(module, x)
    assert x.grad is not None
    assert (x.grad.abs().amax((0, 2)) > 0).all()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


def test_every_round_times_every_model_once() -> None:
    settings = EfficiencySettings(lengths=(4, 8), batch=1, width=4, repeats=3)
    timings = efficiency.time_models(["minGRU", "GRU, fused"], settings, CPU, seed=0)
    keys = [(t.model, t.length, t.round) for t in timings]
    assert len(keys) == len(set(keys)) == 12
    assert all(t.seconds > 0 for t in timings)


def test_speedups_and_growth_on_known_times() -> None:
    timings = [Timing("a", n, i, 1e-3) for n in (10, 100) for i in range(2)]
    timings += [Timing("b", n, i, 1e-3 * n**0.5 * (i + 1)) for n in (10, 100) for i in range(2)]
    speedups = efficiency.log_speedups(timings, "a", "b")
    np.testing.assert_allclose(np.exp(speedups[100]), [10, 20])
    np.testing.assert_allclose(efficiency.growth_slopes(speedups), [0.5, 0.5])
    with pytest.raises(ValueError, match="'c' was not timed"):
        efficiency.log_speedups(timings, "a", "c")
    with pytest.raises(ValueError, match="two lengths"):
        efficiency.growth_slopes({10: np.zeros(2)})


def test_the_copy_limit_is_so_many_copies_of_the_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 · 256 · 32 numbers minGRU moves 36 bytes each and minLSTM 48; a copy moves 8."""
    monkeypatch.setattr(efficiency, "copy_seconds", lambda elements, device, dtype: float(elements))
    settings = EfficiencySettings(lengths=(256,), batch=4, width=32)
    limits = {limit.model: limit.seconds for limit in efficiency.copy_limits(settings, CPU)}
    assert limits == {"minGRU": 4.5 * 4 * 256 * 32, "minLSTM": 6 * 4 * 256 * 32}


def test_a_copy_goes_into_memory_that_is_there() -> None:
    copy = efficiency.ready_copy(1000, CPU, torch.float64)
    first = copy()
    assert (first.dtype, first.numel()) == (torch.float64, 1000)
    assert bool((first == 1).all())
    assert copy().data_ptr() == first.data_ptr()


class Recorder(Report):
    """A report that takes the work of each row, and times nothing."""

    def __init__(self) -> None:
        super().__init__(turns=1)
        self.works: dict[str, tuple[Any, Any]] = {}

    def compare(self, what: str, peer: str, version: str, shape: str, ours: Any, theirs: Any, *rest: Any, **options: Any) -> float:  # fmt: skip
        self.works[peer] = ours, theirs
        return 1.0


def benchmark_script() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "minrnn.py"
    spec = importlib.util.spec_from_file_location("minrnn_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_side_of_the_row_against_a_memory_copy_makes_new_memory() -> None:
    report = Recorder()
    script = benchmark_script()
    script.compare_scans(report, [(2, 40, 8)])
    ours, copy = report.works["memory copy of the same bytes"]
    for work in (ours, copy):
        first, second = work(), work()
        assert first.data_ptr() == second.data_ptr()
    assert (
        copy().numel() == 3 * ours().numel() // 2
    )  # reads and writes 12 bytes for each of the scan's states
    torch.manual_seed(0)
    a, b = script.scan_operands(2, 40, 8)
    torch.manual_seed(0)
    script.compare_scans(report, [(2, 40, 8)])
    assert torch.equal(report.works["memory copy of the same bytes"][0](), linear_scan(a, b))


def known_results(lengths: tuple[int, ...], rounds: int) -> list[list[Timing] | list[CopyLimit]]:
    """Times that grow as T, those of step loops as T to the power 1.5, and limits at half of minGRU's first time."""
    seconds = {
        "minGRU": 1.0,
        "minLSTM": 2.0,
        "GRU, step loop": 30.0,
        "LSTM, step loop": 40.0,
        "GRU, fused": 3.0,
        "LSTM, fused": 1.0,
    }
    timings = [
        Timing(m, n, i, s * n ** (1.5 if "loop" in m else 1.0) * (1 + 0.01 * i))
        for m, s in seconds.items()
        for n in lengths
        for i in range(rounds)
    ]
    return [timings, [CopyLimit(m, n, 0.5 * n) for m in ("minGRU", "minLSTM") for n in lengths]]


def start(tmp_path: Path, **overrides: object) -> Run:
    return Run.start("minrnn", PROFILES, accelerator="cpu", out_dir=tmp_path, overrides=overrides)


def test_metrics_read_all_three_baselines(tmp_path: Path) -> None:
    run = start(tmp_path, efficiency_lengths=[64, 512, 4096])
    experiment.measure(run, known_results((64, 512, 4096), 3))
    assert set(run.measurements) == set(experiment.metrics(run.of(EfficiencySettings)))
    assert run.measurements["loop_speedup_mingru_512"].mean == pytest.approx(30 * 512**0.5)
    assert run.measurements["loop_speedup_minlstm_4096"].mean == pytest.approx(20 * 4096**0.5)
    np.testing.assert_allclose(run.measurements["loop_speedup_slope_mingru"].values, 0.5)
    assert run.measurements["fused_log_speedup_mingru"].mean == pytest.approx(math.log(3))
    assert run.measurements["fused_log_speedup_minlstm"].mean == pytest.approx(math.log(0.5))
    assert run.measurements["copy_limit_multiple"].mean == pytest.approx(2.02)
    assert {m.varies for m in run.measurements.values()} == {"clock"}


def test_one_length_and_one_round_measure_no_growth(tmp_path: Path) -> None:
    run = start(tmp_path, efficiency_lengths=[64])
    experiment.measure(run, known_results((64,), 1))
    assert set(run.measurements) == {
        "fused_log_speedup_mingru",
        "fused_log_speedup_minlstm",
        "copy_limit_multiple",
    }
    assert set(run.measurements) == set(experiment.metrics(run.of(EfficiencySettings)))


@pytest.mark.parametrize(("profile", "half"), [("smoke", False), ("gpu", True), ("paper", True)])
def test_a_run_times_and_draws(profile: str, half: bool, tmp_path: Path) -> None:
    small = {"efficiency_lengths": [4, 512], "efficiency_batch": 1, "efficiency_width": 4}
    run = Run.start(
        "minrnn",
        PROFILES,
        profile=profile,
        accelerator="cpu",
        out_dir=tmp_path,
        overrides={**small, "efficiency_repeats": 1},
    )
    results = Work(run).here(experiment)
    settings = run.of(EfficiencySettings)
    assert set(run.measurements) == set(experiment.metrics(settings))
    tables = experiment.tables(settings, results)
    assert list(tables) == (["half"] if half else [])
    if half:
        assert list(tables["half"].columns) == ["model", 4, 512]
    left, right = experiment.figures(settings, results)["speed"].axes
    assert left.get_xlabel() == right.get_xlabel() == "sequence length T (steps)"
    plt.close("all")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"efficiency_lengths": []}, "efficiency_lengths=.* must not be empty"),
        ({"efficiency_lengths": [0]}, "efficiency_lengths=.* must be at least 1"),
        ({"efficiency_lengths": [4, 4]}, "efficiency_lengths=.* names one of them twice"),
        ({"efficiency_repeats": 0}, "efficiency_repeats=0 must be at least 1"),
        ({"efficiency_length": [4]}, "did you mean 'efficiency_lengths'"),
    ],
)
def test_wrong_settings_are_one_line(overrides: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=message):
        start(tmp_path / "x", **overrides)
    assert not (tmp_path / "x").exists()
