"""The scan engines against the step loop, written out here from the recurrence, and against closed forms."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lib.minrnn import numba_scan
from lib.minrnn import scan as scan_module
from lib.minrnn.scan import (
    KINDS,
    choose_engine,
    g,
    gated_scan,
    linear_scan,
    log_g,
    log_space_scan,
    min_gru_scan,
    min_lstm_scan,
)

LINEAR_ENGINES = ("loop", "chunked", "numba", *(("triton",) if torch.cuda.is_available() else ()))
ALL_ENGINES = (*LINEAR_ENGINES, "heinsen")
ROOT = Path(__file__).parents[2]


def device_of(engine: str) -> str:
    return "cuda" if engine == "triton" else "cpu"


def step_loop(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """The recurrence as it is written, one step after another: (B, T, D)."""
    state = torch.zeros_like(b[:, 0]) if h0 is None else h0
    states = []
    for t in range(a.shape[1]):
        state = a[:, t] * state + b[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


def operands(
    batch: int,
    steps: int,
    channels: int,
    *,
    positive: bool,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(batch, steps, channels, generator=generator, dtype=dtype)
    b, h0 = (torch.randn(*shape, generator=generator, dtype=dtype) for shape in (a.shape, (batch, channels)))
    return [a, b.abs() + 0.1, h0.abs() + 0.1] if positive else [2 * a - 1, b, h0]


def worst(x: Tensor, y: Tensor) -> float:
    """max |x − y| / max(1, |y|)."""
    return float(((x.cpu() - y).abs() / y.abs().clamp(min=1)).detach().max()) if y.numel() else 0.0


# --- engines agree with the step loop ----------------------------------------------------------------


@pytest.mark.parametrize("with_h0", [False, True])
@pytest.mark.parametrize("channels", [1, 5, 64])
@pytest.mark.parametrize("engine", ALL_ENGINES)
def test_engine_agrees_with_step_loop(engine: str, channels: int, with_h0: bool) -> None:
    for steps in (1, 2, 3, 17, 64, 257):
        a, b, h0 = operands(2, steps, channels, positive=engine == "heinsen")
        start = h0 if with_h0 else None
        to = device_of(engine)
        h = linear_scan(a.to(to), b.to(to), None if start is None else start.to(to), engine)
        assert h.shape == a.shape
        assert worst(h, step_loop(a, b, start)) < 1e-12


@pytest.mark.parametrize("with_h0", [False, True])
@pytest.mark.parametrize("engine", LINEAR_ENGINES)
def test_gradients_agree_with_autograd_through_step_loop(engine: str, with_h0: bool) -> None:
    """a differs at every step and channel: a shift by one in the backward cannot hide."""
    for steps in (1, 2, 3, 17, 65):
        leaves = [x.requires_grad_() for x in operands(3, steps, 5, positive=False)][: 3 if with_h0 else 2]
        weight = torch.randn(3, steps, 5, dtype=torch.float64)
        expected = torch.autograd.grad(step_loop(*leaves), leaves, weight)
        to = device_of(engine)
        moved = [x.detach().to(to).requires_grad_() for x in leaves]
        h = linear_scan(moved[0], moved[1], moved[2] if with_h0 else None, engine)
        for mine, theirs in zip(torch.autograd.grad(h, moved, weight.to(to)), expected, strict=True):
            assert worst(mine, theirs) < 1e-12


@pytest.mark.parametrize("engine", ALL_ENGINES)
def test_gradcheck(engine: str) -> None:
    inputs = [x.to(device_of(engine)).requires_grad_() for x in operands(2, 7, 3, positive=True)]
    assert torch.autograd.gradcheck(lambda a, b, h0: linear_scan(a, b, h0, engine), inputs)


@pytest.mark.parametrize("engine", ["loop", "chunked", "numba"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_gated_scan_gradcheck(kind: str, engine: str) -> None:
    torch.manual_seed(1)
    pre = 2 * torch.randn(2, 6, 3 * KINDS[kind][0], dtype=torch.float64, requires_grad=True)
    h0 = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda pre, h0: gated_scan(pre, h0, kind, engine), (pre, h0))
    assert torch.autograd.gradcheck(lambda pre: gated_scan(pre, None, kind, engine), (pre,))


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    steps=st.integers(1, 70),
    channels=st.integers(1, 40),
    cut=st.integers(0, 70),
    seed=st.integers(0, 2**31),
)
def test_engines_agree_on_any_shape_and_any_cut(
    batch: int, steps: int, channels: int, cut: int, seed: int
) -> None:
    a, b, h0 = operands(batch, steps, channels, positive=False, seed=seed)
    expected = step_loop(a, b, h0)
    cut = min(cut, steps)
    for engine in ("loop", "chunked", "numba"):
        left = linear_scan(a[:, :cut], b[:, :cut], h0, engine)
        right = linear_scan(a[:, cut:], b[:, cut:], left[:, -1] if cut else h0, engine)
        assert worst(torch.cat([left, right], dim=1), expected) < 1e-12


@pytest.mark.parametrize("engine", ALL_ENGINES)
def test_empty_sequence_and_empty_batch(engine: str) -> None:
    for shape in ((2, 0, 3), (0, 4, 3)):
        a = torch.rand(shape, requires_grad=True)
        h = linear_scan(
            a, torch.rand(shape), torch.rand(shape[0], 3), "loop" if engine == "triton" else engine
        )
        assert h.shape == shape
        h.sum().backward()
        assert a.grad is not None
        assert a.grad.shape == shape


@pytest.mark.parametrize("engine", ALL_ENGINES)
def test_non_contiguous_inputs(engine: str) -> None:
    a, b, h0 = operands(1, 6, 19, positive=True)
    views = [
        a.transpose(1, 2),
        b.transpose(1, 2),
        torch.stack([h0, h0], dim=-1)[..., 0],
    ]  # (1, 19, 6): strides swapped
    views[2] = torch.stack([b[:, :, 0], b[:, :, 0]], dim=-1)[..., 0]
    assert not any(x.is_contiguous() for x in views[:2])
    to = device_of(engine)
    expanded = views[0][:, :, :1].expand(1, 19, 6)  # stride 0
    assert worst(linear_scan(*[x.to(to) for x in views], engine), step_loop(*views)) < 1e-12
    assert (
        worst(linear_scan(expanded.to(to), views[1].to(to), None, engine), step_loop(expanded, views[1]))
        < 1e-12
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_threads_share_the_work_without_changing_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than sequences, so that both the batch and the channels are cut."""
    torch.manual_seed(2)
    pre = torch.randn(2, 11, 70 * KINDS[kind][0], requires_grad=True)
    alone = gated_scan(pre, None, kind, "numba")
    (grad_alone,) = torch.autograd.grad(alone.square().sum(), pre)
    monkeypatch.setattr(numba_scan, "SERIAL_BELOW", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    shared = gated_scan(pre, None, kind, "numba")
    (grad_shared,) = torch.autograd.grad(shared.square().sum(), pre)
    assert torch.equal(alone, shared)
    assert torch.equal(grad_alone, grad_shared)


# --- precision --------------------------------------------------------------------------------


def random_gates(steps: int, channels: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """k ~ N(3, 1) and v ~ N(0, 2²), (1, T, D), float32: gates that mostly forget."""
    generator = torch.Generator().manual_seed(seed)
    k = 3 + torch.randn(1, steps, channels, generator=generator)
    return k, 2 * torch.randn(1, steps, channels, generator=generator)


def exact_min_gru(k: Tensor, v: Tensor) -> Tensor:
    k, v = k.double(), v.double()
    return step_loop(1 - torch.sigmoid(k), torch.sigmoid(k) * torch.where(v >= 0, v + 0.5, torch.sigmoid(v)))


def relative_error(k: Tensor, v: Tensor, engine: str) -> float:
    exact = exact_min_gru(k, v)
    to = device_of(engine)
    return float(
        ((min_gru_scan(k.to(to), v.to(to), None, engine).cpu().double() - exact) / exact).abs().max()
    )


@pytest.mark.parametrize("engine", LINEAR_ENGINES)
def test_linear_engines_keep_float32_precision_over_4096_steps(engine: str) -> None:
    assert relative_error(*random_gates(4096), engine) <= 1e-6


def test_log_space_error_grows_linearly_in_the_log_decay() -> None:
    lengths = (64, 256, 1024, 4096)
    decay, error = [], []
    for steps in lengths:
        runs = [random_gates(steps, seed=seed) for seed in range(2)]
        decay.append(np.mean([float(torch.nn.functional.softplus(k).sum(1).max()) for k, _ in runs]))
        error.append(np.mean([relative_error(k, v, "heinsen") for k, v in runs]))
    slope = np.polyfit(np.log(decay), np.log(error), 1)[0]
    assert 0.8 <= slope <= 1.2
    assert 1e-4 <= error[-1] <= 1e-2


@pytest.mark.parametrize("engine", LINEAR_ENGINES)
def test_half_precision_is_accumulated_in_float32(engine: str) -> None:
    """Slow decay, a = 255/256: a bfloat16 accumulator stops growing once b is below half its spacing."""
    naive = []
    for steps in (64, 4096):
        a = torch.full((1, steps, 8), 255 / 256, dtype=torch.bfloat16)
        b = torch.rand(1, steps, 8, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
        exact = step_loop(a.double(), b.double())
        to = device_of(engine)
        h = linear_scan(a.to(to), b.to(to), None, engine)
        assert h.dtype == torch.bfloat16
        assert float(((h.cpu().double() - exact) / exact).abs().max()) <= 2**-7  # one rounding of the output
        naive.append(float(((step_loop(a, b).double() - exact) / exact).abs().max()))
    assert naive[-1] > 5 * 2**-7  # the accumulation that this test is there to exclude


@pytest.mark.parametrize("engine", ["loop", "chunked", "numba"])
def test_half_precision_gated_scan_with_gradient(engine: str) -> None:
    torch.manual_seed(0)
    pre = torch.randn(2, 300, 12).to(torch.bfloat16).requires_grad_()
    exact_pre = pre.detach().double().requires_grad_()
    h, exact = gated_scan(pre, None, "min_gru", engine), gated_scan(exact_pre, None, "min_gru", "loop")
    assert h.dtype == torch.bfloat16
    assert worst(h.double(), exact) < 2**-7
    h.sum().backward()
    exact.sum().backward()
    assert pre.grad is not None
    assert exact_pre.grad is not None
    assert pre.grad.dtype == torch.bfloat16
    assert worst(pre.grad.double(), exact_pre.grad) < 0.03


# --- exact and saturated gates -----------------------------------------------------------------


@pytest.mark.parametrize("engine", LINEAR_ENGINES)
def test_exact_gates(engine: str) -> None:
    """a = 0 returns b, a = 1 the cumulative sum; a change from one to the other in mid-sequence is exact too."""
    to = device_of(engine)
    b = torch.arange(1.0, 41.0, dtype=torch.float64).view(1, 20, 2).to(to)
    h0 = torch.tensor([[3.0, -7.0]], dtype=torch.float64).to(to)
    zeros, ones = torch.zeros_like(b), torch.ones_like(b)
    assert torch.equal(linear_scan(zeros, b, h0, engine), b)
    assert torch.equal(linear_scan(ones, b, h0, engine), h0.unsqueeze(1) + b.cumsum(1))
    mixed = ones.clone()
    mixed[:, 10] = 0
    mixed.requires_grad_()
    h = linear_scan(mixed, b, h0, engine)
    assert torch.equal(h[:, 10:], b[:, 10:].cumsum(1))
    h.sum().backward()
    assert mixed.grad is not None
    assert bool(mixed.grad.isfinite().all())
    # ten states from step 10 on carry the coefficient of h_9
    assert float(mixed.grad[0, 10, 0]) == 10 * float(h[0, 9, 0].detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("engine", ["loop", "chunked", "numba", "heinsen"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_saturated_pre_activations_stay_finite(kind: str, engine: str, dtype: torch.dtype) -> None:
    corners = torch.cartesian_prod(*[torch.tensor([-100.0, 0.0, 100.0])] * KINDS[kind][0]).to(
        dtype
    )  # (3^p, p)
    pre = corners[:, None].expand(-1, 9, -1).contiguous().requires_grad_()
    h0 = torch.full((len(corners), 1), 2.0, dtype=dtype, requires_grad=True)
    h = gated_scan(pre, h0, kind, engine)
    h.square().sum().backward()
    assert bool(h.isfinite().all())
    assert pre.grad is not None
    assert bool(pre.grad.isfinite().all())
    assert h0.grad is not None
    assert bool(h0.grad.isfinite().all())


@st.composite
def non_negative_operands(draw: st.DrawFn) -> tuple[list[Tensor], Tensor]:
    """(a, b, h0) in float64 and a gradient ḡ; a in [0, 1]; zeros in all three, and ones in a, are frequent."""
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 40)), draw(st.integers(1, 4)))
    zeros, ones = draw(st.sampled_from([0.0, 0.1, 0.9, 1.0])), draw(st.sampled_from([0.0, 0.2, 1.0]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    a, b, grad, chance = torch.rand(4, *shape, generator=generator, dtype=torch.float64).unbind(0)
    a = torch.where(chance < ones, 1.0, a)
    h0 = torch.rand(shape[0], shape[2], generator=generator, dtype=torch.float64)
    hit = [torch.rand(x.shape, generator=generator) < zeros for x in (a, b, h0)]
    return [x.masked_fill(zero, 0.0) for x, zero in zip((a, b, h0), hit, strict=True)], 2 * grad - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("engine", ALL_ENGINES)
@settings(max_examples=30, deadline=None)
@given(case=non_negative_operands(), with_h0=st.booleans())
def test_exact_zeros_and_ones_in_every_engine_and_dtype(
    engine: str, dtype: torch.dtype, case: tuple[list[Tensor], Tensor], with_h0: bool
) -> None:
    """Values and gradients against the step loop in float64 on the same numbers.

    An error is judged by what the sum of all magnitudes would be, the log-space engine's by Σ |log a| as well.
    """
    count = 3 if with_h0 else 2
    to = device_of(engine)
    leaves = [x.to(to, dtype).requires_grad_() for x in case[0][:count]]
    grad = case[1].to(dtype)
    exact = [x.detach().cpu().double().requires_grad_() for x in leaves]
    h, expected = linear_scan(*leaves, engine=engine), step_loop(*exact)
    assert h.dtype == dtype
    grads = torch.autograd.grad(h, leaves, grad.to(to))
    expected_grads = torch.autograd.grad(expected, exact, grad.double(), retain_graph=True)
    magnitude = torch.autograd.grad(expected, exact, grad.double().abs())  # every term of them is positive
    unit = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 2**-8}[dtype]
    if engine == "heinsen":  # its state is float32 for bfloat16
        log_a = exact[0].detach().clamp(min=1e-12).log().abs().sum(dim=1, keepdim=True)
        unit = unit + (1e-14 if dtype == torch.float64 else 1e-6) * float(log_a.max())
    assert bool(((h.cpu().double() - expected).abs() <= unit * expected + 1e-30).all())
    for mine, theirs, scale in zip(grads, expected_grads, magnitude, strict=True):
        assert mine.dtype == dtype
        error = (mine.cpu().double() - theirs).abs()
        assert bool((error <= 4 * unit * scale + 1e-30).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("engine", ALL_ENGINES)
@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), zeros=st.sampled_from([0.0, 0.5, 1.0]), scale=st.sampled_from([1.0, 6.0]))
def test_initial_states_with_zeros_in_every_gate_fused_scan(
    kind: str, engine: str, dtype: torch.dtype, seed: int, zeros: float, scale: float
) -> None:
    """h0 holds 0 and a number so small that its reciprocal is infinite; some pre-activations are exactly 0."""
    generator = torch.Generator().manual_seed(seed)
    pre = scale * torch.randn(2, 12, 3 * KINDS[kind][0], generator=generator, dtype=torch.float64)
    pre = pre.masked_fill(torch.rand(pre.shape, generator=generator) < 0.2 * zeros, 0.0)
    h0 = torch.rand(2, 3, generator=generator, dtype=torch.float64) + 0.1
    h0 = h0.masked_fill(torch.rand(2, 3, generator=generator) < zeros, 0.0)
    h0[0, 0] = 1e-40 if zeros else 1.0
    grad = torch.randn(2, 12, 3, generator=generator, dtype=torch.float64).to(dtype)
    to = device_of(engine)
    leaves = [x.to(to, dtype).requires_grad_() for x in (pre, h0)]
    exact = [x.detach().cpu().double().requires_grad_() for x in leaves]
    h, expected = gated_scan(*leaves, kind, engine), gated_scan(*exact, kind, "loop")
    unit = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2**-8}[dtype]
    assert bool(((h.cpu().double() - expected).abs() <= unit * expected).all())
    grads = torch.autograd.grad(h, leaves, grad.to(to))
    for mine, theirs in zip(grads, torch.autograd.grad(expected, exact, grad.double()), strict=True):
        error = (mine.cpu().double() - theirs).abs().max()
        assert float(error) <= 8 * unit * max(1.0, float(expected.detach().max()))


def test_log_space_scan_takes_minus_infinity_for_zero() -> None:
    a, b, h0 = operands(2, 37, 3, positive=True)
    a[0, 5], a[1, 0], a[:, 20, 1], b[:, :3], b[0, 5] = 0, 0, 0, 0, 0
    h = log_space_scan(a.log(), b.log(), h0.log()).exp()
    assert worst(h, step_loop(a, b, h0)) < 1e-12
    assert worst(log_space_scan(a.log(), b.log()).exp(), step_loop(a, b)) < 1e-12
    assert bool((h[0, 5] == 0).all())  # a = b = 0: exactly nothing is left


def test_equal_saturated_gates_share_equally() -> None:
    """f̂ = î gives f' = i' = 1/2 however far both are saturated: no clamp may stand in for the ratio."""
    for level in (-300.0, -100.0, 0.0, 100.0):
        f = torch.full((1, 3, 4), level)
        for engine in ("loop", "numba"):
            h = min_lstm_scan(f, f, torch.full_like(f, 1.5), torch.full((1, 4), 4.0), True, engine)
            torch.testing.assert_close(h[0, :, 0], torch.tensor([3.0, 2.5, 2.25]))
    f, i = torch.full((1, 1, 1), -100.0), torch.full((1, 1, 1), -98.0)
    for engine in ("loop", "numba"):
        h = min_lstm_scan(f, i, torch.full_like(f, 0.5), torch.zeros(1, 1), True, engine)
        assert abs(h.item() - 1 / (1 + math.exp(-2))) < 1e-6


def test_log_g_is_the_logarithm_of_g() -> None:
    x = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    assert float((log_g(x) - g(x).log()).abs().max()) < 1e-12
    assert g(torch.zeros(1)).item() == 0.5
    steep = torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4], requires_grad=True)
    log_g(steep).sum().backward()
    assert steep.grad is not None
    assert bool(steep.grad.isfinite().all())
    assert abs(float(steep.grad[0]) - 1) < 1e-6
    assert abs(float(steep.grad[4]) - 1e-4) < 1e-7


def test_compiled_exponential_is_accurate_to_float32() -> None:
    """σ through the numba kernel, T = 1 and h_0 = 0: h = σ(k) · 1 where v = 0.5."""
    k = torch.linspace(-80, 80, 40001).view(1, 1, -1)
    h = min_gru_scan(k, torch.full_like(k, 0.5), None, "numba")
    exact = torch.sigmoid(k.double())
    assert float(((h.double() - exact) / exact).abs().max()) < 4e-7


# --- the gate-fused scans are the scans of their gates ---------------------------------------------------------------


@pytest.mark.parametrize("engine", ALL_ENGINES)
def test_gate_fused_scans_follow_the_equations(engine: str) -> None:
    torch.manual_seed(3)
    f, i, v = (2 * torch.randn(2, 33, 5, dtype=torch.float64) for _ in range(3))
    h0 = torch.rand(2, 5, dtype=torch.float64)
    candidate = torch.where(v >= 0, v + 0.5, torch.sigmoid(v))
    forget, take = torch.sigmoid(f), torch.sigmoid(i)
    to = device_of(engine)
    f_, i_, v_, h0_ = (x.to(to) for x in (f, i, v, h0))
    gru = step_loop(1 - forget, forget * candidate, h0)
    assert worst(min_gru_scan(f_, v_, h0_, engine), gru) < 1e-12
    plain = step_loop(forget, take * candidate, h0)
    assert worst(min_lstm_scan(f_, i_, v_, h0_, False, engine), plain) < 1e-11
    total = forget + take
    normalised = step_loop(forget / total, take / total * candidate, h0)
    assert worst(min_lstm_scan(f_, i_, v_, h0_, True, engine), normalised) < 1e-12


def test_log_space_scan_without_initial_state() -> None:
    a, b, _ = operands(2, 20, 3, positive=True)
    assert worst(log_space_scan(a.log(), b.log()).exp(), step_loop(a, b)) < 1e-12


# --- memory -------------------------------------------------------------------------------------------


def saved_bytes(engine: str) -> int:
    """Bytes of all distinct storages that autograd keeps for the backward of a gate-fused scan."""
    k, v = (torch.randn(4, 128, 32, requires_grad=True) for _ in range(2))
    kept: dict[int, Tensor] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        min_gru_scan(k, v, torch.ones(4, 32), engine)
    return sum(x.untyped_storage().nbytes() for x in kept.values())


def test_gate_fused_scan_keeps_at_most_half_of_what_log_space_keeps() -> None:
    assert saved_bytes("numba") <= 0.5 * saved_bytes("heinsen")
    elements = 4 * 128 * 32
    assert saved_bytes("numba") == 4 * (3 * elements + 4 * 32)  # k, v, h and h_0, nothing else


# --- choosing, falling back, refusing --------------------------------------------------------------------------------


def test_choice_of_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu, shape = torch.device("cpu"), torch.device("cuda"), (4, 100, 8)
    monkeypatch.setattr(scan_module, "_installed", lambda package: True)
    assert choose_engine(cpu, shape, torch.float32) == "numba"
    assert choose_engine(gpu, shape, torch.bfloat16) == "triton"
    assert choose_engine(torch.device("mps"), shape, torch.float32) == "chunked"
    assert choose_engine(cpu, (4, 1, 8), torch.float32) == "loop"
    monkeypatch.setattr(scan_module, "_installed", lambda package: False)
    assert choose_engine(cpu, shape, torch.float32) == "chunked"
    assert choose_engine(gpu, shape, torch.float32) == "chunked"


def test_numba_falls_back_to_chunked_when_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, h0 = operands(2, 30, 4, positive=False)
    monkeypatch.setattr(scan_module, "_installed", lambda package: False)
    monkeypatch.setattr(scan_module, "_compiled", lambda engine: pytest.fail(f"{engine} was imported"))
    assert worst(linear_scan(a, b, h0, "numba"), step_loop(a, b, h0)) < 1e-12


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"engine": "nunba"}, "did you mean 'numba'"),
        ({"a": torch.rand(2, 3)}, "a has shape (2, 3), expected (B, T, D)"),
        ({"b": torch.rand(2, 3, 5)}, "b has shape (2, 3, 5), expected that of a: (2, 3, 4)"),
        ({"b": torch.rand(2, 3, 4, dtype=torch.float64)}, "b has dtype torch.float64"),
        ({"a": torch.ones(2, 3, 4, dtype=torch.long)}, "a has dtype torch.int64"),
        ({"h0": torch.rand(4)}, "h0 has shape (4,), expected (B, D) = (2, 4)"),
        ({"h0": torch.ones(2, 4, dtype=torch.long)}, "h0 has dtype torch.int64"),
        ({"a": -torch.rand(2, 3, 4), "engine": "heinsen"}, "needs a >= 0"),
        ({"b": -torch.rand(2, 3, 4), "engine": "heinsen"}, "needs b >= 0"),
        ({"h0": -torch.rand(2, 4), "engine": "heinsen"}, "needs h0 >= 0"),
        ({"b": torch.rand(2, 3, 4, device="meta")}, "b is on meta"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments: dict[str, object], fragment: str) -> None:
    given_arguments = {"a": torch.rand(2, 3, 4), "b": torch.rand(2, 3, 4), **arguments}
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is checked below)
        linear_scan(**given_arguments)  # type: ignore[arg-type]
    assert fragment in one_line(error)


def test_wrong_fused_arguments_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="did you mean 'min_gru'") as error:
        gated_scan(torch.rand(2, 3, 4), None, "mingru")
    one_line(error)
    with pytest.raises(ValueError, match=r"expected \(B, T, 3D\) for min_lstm") as error:
        gated_scan(torch.rand(2, 3, 4), None, "min_lstm")
    one_line(error)
    for kind, (parts, _, _) in KINDS.items():
        with pytest.raises(ValueError, match="engine='heinsen' takes logarithms and needs h0 >= 0") as error:
            gated_scan(torch.rand(2, 3, 4 * parts), -torch.rand(2, 4), kind, "heinsen")
        one_line(error)


# --- Triton ----------------------------------------------------------------------------------------------------------

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)

INTERPRETED = """
import torch
from lib.minrnn import triton_scan
from lib.minrnn.scan import KINDS, gated_scan, linear_scan

torch.manual_seed(0)
def worst(xs, ys):
    return max(float((x - y).abs().max()) for x, y in zip(xs, ys))
a, b = torch.rand(2, 70, 3, dtype=torch.float64), torch.randn(2, 70, 3, dtype=torch.float64)
h0, grad = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 70, 3, dtype=torch.float64)
leaves = [x.requires_grad_() for x in (a, b, h0)]
h = linear_scan(*leaves, engine="loop")
grads = torch.autograd.grad(h, leaves, grad)
a, b, h0, h = (x.detach() for x in (a, b, h0, h))
for segments in (1, 3):
    assert worst([triton_scan.scan(a, b, h0, segments=segments)], [h]) < 1e-12, segments
    assert worst(triton_scan.scan_backward(a, h, h0, grad, segments=segments), grads) < 1e-12, segments
back = triton_scan.scan(a, b, h0, reverse=True, segments=2)
assert worst([back], [linear_scan(a.flip(1), b.flip(1), h0, "loop").flip(1)]) < 1e-12
for kind, (parts, _, _) in KINDS.items():
    pre = (3 * torch.randn(1, 40, 3 * parts, dtype=torch.float64)).requires_grad_()
    h0 = torch.rand(1, 3, dtype=torch.float64, requires_grad=True)
    results = []
    for engine in ("loop", "triton"):
        h = gated_scan(pre, h0, kind, engine)
        results.append((h, *torch.autograd.grad(h, (pre, h0), grad[:1, :40])))
    assert worst(*results) < 1e-12, kind
low = [x.to(torch.bfloat16) for x in (a, b)]
h = triton_scan.scan(*low, None, segments=1)
assert h.dtype == torch.bfloat16
assert worst([h.double()], [linear_scan(*[x.double() for x in low], None, "loop")]) < 0.05
print("agrees")
"""


@needs_triton
def test_triton_kernels_under_the_interpreter() -> None:
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout.strip() == "agrees", done.stderr[-2000:]


@needs_triton
@pytest.mark.parametrize("kind", ["scan", "min_gru"])
def test_triton_kernels_compile_for_a_gpu(kind: str) -> None:
    """The interpreter checks no types; the compiler does, and needs no GPU to produce machine code for one."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lib.minrnn import triton_scan

    constants = {
        **{
            "KIND": triton_scan.KINDS[kind],
            "PARTS": triton_scan.PARTS[kind],
            "SUMMARY": False,
            "REVERSE": False,
        },
        **{"STATE": triton.language.float32, "BT": triton_scan.STEPS, "BD": triton_scan.CHANNELS},
    }
    integers = ("steps", "width", "segment", "segments", "blocks")
    states = ("start", "product_out", "h0", "grad_h0")
    for kernel in (triton_scan._forward_kernel, triton_scan._backward_kernel):
        used = {name: constants[name] for name in kernel.arg_names if name in constants}
        types = {
            name: "i32" if name in integers else "*fp32" if name in states else "*bf16"
            for name in kernel.arg_names
        }
        source = ASTSource(
            kernel,
            signature={**types, **dict.fromkeys(used, "constexpr")},
            constexprs={(kernel.arg_names.index(name),): value for name, value in used.items()},
        )
        assert len(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]) > 0


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_triton_without_a_gpu_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="engine='triton' runs on a GPU, the operands are on cpu") as error:
        linear_scan(torch.rand(1, 4, 2), torch.rand(1, 4, 2), None, "triton")
    one_line(error)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("kind", list(KINDS))
def test_gated_triton_kernels_on_a_gpu(kind: str) -> None:
    torch.manual_seed(0)
    for batch, steps, channels in ((1, 5000, 100), (64, 300, 384)):
        pre = torch.randn(batch, steps, channels * KINDS[kind][0], requires_grad=True)
        h0 = torch.rand(batch, channels, requires_grad=True)
        results = []
        for engine, device in (("numba", "cpu"), ("triton", "cuda")):
            h = gated_scan(pre.to(device), h0.to(device), kind, engine)
            results.append((h.cpu(), *torch.autograd.grad(h.square().mean(), (pre, h0))))
        for mine, theirs in zip(*results, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
