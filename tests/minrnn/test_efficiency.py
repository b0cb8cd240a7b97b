"""What is timed and what is counted, parameter shares, and float32 precision."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from lib.minrnn import efficiency, precision
from lib.minrnn.efficiency import Timing
from lib.minrnn.parameter_count import parameter_shares
from lib.minrnn.peak_memory import peak_bytes
from lib.minrnn.scan import linear_scan
from lib.publishing.benchmark import Report

CPU = torch.device("cpu")


def test_parameter_shares_equal_the_formula_exactly_and_round_to_the_paper() -> None:
    shares = parameter_shares(16)
    assert len(shares) == 8
    for s in shares:
        d_h = s.alpha * 16
        assert s.min_weights == {"minGRU": 2, "minLSTM": 3}[s.cell] * d_h * 16
        assert s.full_weights == {"minGRU": 3, "minLSTM": 4}[s.cell] * d_h * (16 + d_h)
        assert s.ratio == pytest.approx(s.formula, abs=1e-15)
        assert abs(100 * s.ratio - s.reported_percent) <= 0.5


@pytest.mark.parametrize("model", list(efficiency.MEMORY_MODELS))
def test_a_training_step_reaches_every_time_step_and_every_weight(model: str) -> None:
    torch.manual_seed(0)
    module = efficiency.build(model, 8, CPU)
    x = torch.randn(2, 9, 8, requires_grad=True)
    efficiency.training_step(module, x)
    assert x.grad is not None
    assert (x.grad.abs().amax((0, 2)) > 0).all()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


def test_every_round_times_every_model_once() -> None:
    timings = efficiency.time_models(["minGRU", "GRU, fused"], (4, 8), 1, 4, 3, CPU)
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


def test_saved_bytes_of_a_known_graph() -> None:
    class Square(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(4))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return (x * self.weight).exp(), None  # keeps x (weight is a parameter) and exp's result

    x = torch.randn(2, 3, 4, requires_grad=True)
    # x, exp(...), which the square of the loss keeps once more
    assert efficiency.saved_bytes(Square(), x) == 2 * x.numel() * 4


def test_the_fused_scan_keeps_at_most_half_of_what_the_log_space_scan_keeps() -> None:
    saved = efficiency.saved_bytes_per_token(
        ["minGRU", "minGRU, log-space scan", "minLSTM", "minLSTM, log-space scan"], (64, 256), 2, 32, CPU
    )
    for cell in ("minGRU", "minLSTM"):
        for length in (64, 256):
            assert saved[cell, length] <= 0.5 * saved[f"{cell}, log-space scan", length]


def test_masks_are_counted_apart() -> None:
    """log g(x) keeps a boolean an element, a quarter of a float32 number; the linear-space scan keeps none."""
    models, batch, d = ["minGRU", "minGRU, log-space scan"], 2, 32
    with_masks, without = (
        efficiency.saved_bytes_per_token(models, (64,), batch, d, CPU, masks=masks) for masks in (True, False)
    )
    assert with_masks["minGRU", 64] - without["minGRU", 64] == pytest.approx(
        d / (64 * batch)
    )  # of g(θ), (d,)
    difference = with_masks["minGRU, log-space scan", 64] - without["minGRU, log-space scan", 64]
    assert difference == pytest.approx(d + d / (64 * batch))


def test_the_workspace_of_a_fused_kernel_is_counted() -> None:
    """oneDNN's LSTM keeps its four gates and two states in a workspace of bytes, not of booleans."""
    d = 32
    saved = efficiency.saved_bytes_per_token(["LSTM, fused", "GRU, fused"], (64,), 2, d, CPU, masks=False)
    outside = 4 * 4 * d  # x, h as the kernel returns it, and as the projection and the loss take it
    assert saved["LSTM, fused", 64] >= outside + 6 * 4 * d or not torch.backends.mkldnn.is_available()
    assert saved["GRU, fused", 64] >= outside


def test_s6_that_recomputes_keeps_its_inputs_and_one_state_in_many_steps() -> None:
    length, d = 4 * efficiency.RECOMPUTED_STEPS, 16
    saved = efficiency.saved_bytes_per_token(list(efficiency.MEMORY_MODELS), (length,), 1, d, CPU)
    state = 4 * 2 * d * 16  # bytes of h
    inputs = 4 * (d + 4 * d + 2 * d + d)  # x; u and gate; the gated output; the output in the loss
    again = saved["S6, states recomputed", length]
    assert inputs <= again <= inputs + 2 * state / efficiency.RECOMPUTED_STEPS
    assert saved["S6", length] > 2 * state  # decays and states of every step


def test_the_peak_of_known_allocations() -> None:
    old = torch.ones(300)

    def work() -> None:
        a = torch.empty(1000)
        b = old.add(1)  # 300
        a.view(10, 100).add_(1)  # no new storage, nor is a view of an old one
        old.view(3, 100).mul_(1)
        del a
        c = torch.empty(600)
        d = torch.empty(0)
        del b, c, d

    assert peak_bytes(work) == 4 * 1300
    assert peak_bytes(work) == 4 * 1300
    assert peak_bytes(lambda: old.t()) == 0


def test_the_peak_of_known_gradients() -> None:
    weight = torch.ones(50, requires_grad=True)
    peak = peak_bytes(lambda: weight.exp().sum().backward())
    # exp(w), kept; its sum and the 1 that the backward begins with; the gradient of w, which is left
    assert peak == 4 * (50 + 1 + 1 + 50)


def test_a_training_step_takes_more_than_it_keeps() -> None:
    models, lengths = list(efficiency.MEMORY_MODELS), (64, 128)
    saved = efficiency.saved_bytes_per_token(models, lengths, 2, 16, CPU)
    peak = efficiency.peak_bytes_per_token(models, lengths, 2, 16, CPU)
    assert peak == efficiency.peak_bytes_per_token(models, lengths, 2, 16, CPU)
    assert all(peak[key] > saved[key] for key in saved)
    for length in lengths:  # all states of S6 at once are many times one stretch of them
        assert peak["S6, states recomputed", length] < peak["S6", length]


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


def test_the_copy_limit_is_below_every_measured_step() -> None:
    timings = efficiency.time_models(["minGRU"], (256,), 4, 32, 3, CPU)
    limit = efficiency.copy_limit("minGRU", 4, 256, 32, CPU)
    assert 0 < limit < min(t.seconds for t in timings)


def test_precision_at_4096() -> None:
    points = precision.precision_table((64, 256, 1024, 4096), 16, ("heinsen", "chunked", "loop"), seed=0)
    error = {(p.engine, p.length): p.error for p in points}
    assert error["chunked", 4096] < 1e-6
    assert error["loop", 4096] < 1e-6
    assert 1e-4 < error["heinsen", 4096] < 1e-2
    assert 0.8 < precision.error_slope(points, "heinsen") < 1.2
    assert abs(precision.error_slope(points, "chunked")) < 0.3
    with pytest.raises(ValueError, match="at least two lengths"):
        precision.error_slope(points[:1], "heinsen")


def test_the_extended_precision_reference_is_the_recurrence() -> None:
    k, v = precision.random_gates(20, 3, seed=1)
    h = np.zeros((1, 3))
    for t in range(20):
        z = 1 / (1 + np.exp(-k[:, t].double().numpy()))
        x = v[:, t].double().numpy()
        h = (1 - z) * h + z * np.where(x >= 0, x + 0.5, 1 / (1 + np.exp(-x)))
    np.testing.assert_allclose(precision.exact_states(k, v)[:, -1].astype(float), h, rtol=1e-12)
