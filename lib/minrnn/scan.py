r"""The linear recurrence h_t = a_t ⊙ h_{t-1} + b_t: one function, five engines, one hand-written backward.

The trick first. Once the gates of a GRU no longer read h_{t-1}, the state is a *linear* recurrence with coefficients
that are known for all t at once. Two steps compose into one step of the same kind,

    (a_2, b_2) ∘ (a_1, b_1) = (a_2 a_1, a_2 b_1 + b_2),

and ∘ is associative, so the steps may be combined in any grouping: in chunks, in a tree, or all elements of (B, D) at
once while t advances.

The gradient is again such a recurrence. With ḡ_t = ∂L/∂h_t as it arrives from above, the total derivative
δ_t = dL/dh_t obeys

    δ_T = ḡ_T,   δ_t = ḡ_t + a_{t+1} ⊙ δ_{t+1}          (the same scan, run backwards, with a shifted by one)
    ∂L/∂b_t = δ_t,   ∂L/∂a_t = δ_t ⊙ h_{t-1},   ∂L/∂h_0 = a_1 ⊙ δ_1,

so (a, h) is all that a backward pass needs. With fused gates (:func:`min_gru_scan`, :func:`min_lstm_scan`) the
pre-activations and h are enough and a, b are computed again.

Engines, chosen by :func:`choose_engine`:

========  ==========================================================================================================
loop      the obvious step loop; fastest for very few steps
heinsen   the paper's log-space scan (appendix B): exp of a log-cumulative-sum-exp; needs a, b, h_0 ≥ 0; kept for
          fidelity. It loses precision in proportion to |Σ log a|, which the linear forms do not
chunked   plain PyTorch, 2√T vectorised steps; the choice where there is no compiler
numba     compiled loop on the CPU, about two memory copies' worth of time
triton    compiled tiles on a GPU
========  ==========================================================================================================

No engine divides by a cumulative product: with a in [0, 1] products only shrink, underflow to 0 is the right answer
and nothing can overflow. Half-precision inputs are accumulated in float32.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.profiles import nearest

Gates = Callable[..., tuple[Tensor, Tensor]]
ENGINES = ("loop", "heinsen", "chunked", "numba", "triton")


# --- the public functions -----------------------------------------------------------------------------------------


def linear_scan(a: Tensor, b: Tensor, h0: Tensor | None = None, engine: str = "auto") -> Tensor:
    """Return h with h_t = a_t ⊙ h_{t-1} + b_t for t = 1..T.

    Args:
        a: decay (B, T, D), floating point.
        b: input (B, T, D), same shape, dtype and device as ``a``.
        h0: initial state (B, D); zeros if None. Any floating dtype, used in the dtype of the state.
        engine: ``"auto"`` or one of :data:`ENGINES`.

    Returns:
        h (B, T, D) in the dtype of ``a``. bfloat16 and float16 inputs are accumulated in float32.

    Raises:
        ValueError: one line, for an unknown engine, for shapes, dtypes or devices that do not fit, for a triton
            engine without a GPU, and for negative ``a``, ``b`` or ``h0`` given to the log-space engine.
    """
    _check_operands({"a": a, "b": b}, h0)
    engine = _resolve_engine(engine, a)
    if a.numel() == 0:
        return a * b  # nothing to scan; keeps dtype and the graph
    if engine == "heinsen":
        _check_logarithms({"a": a, "b": b, "h0": h0})
    h0 = None if h0 is None else h0.to(state_dtype(a.dtype))
    return _LinearScan.apply(a, b, h0, engine)


def log_space_scan(log_a: Tensor, log_b: Tensor, log_h0: Tensor | None = None) -> Tensor:
    r"""Return log h for a, b, h_0 ≥ 0: the paper's parallel scan (appendix B, after Heinsen 2023).

    With s_t = Σ_{u≤t} log a_u,  log h_t = s_t + logcumsumexp_t([log h_0, log b_1 − s_1, …, log b_t − s_t]).

    Args:
        log_a: (B, T, D), −∞ where a = 0. log_b: (B, T, D), −∞ where b = 0. log_h0: (B, D) or None for h_0 = 0.

    Returns:
        log h (B, T, D). Differentiated by autograd, as in the paper, where the logarithms are finite; at b = 0 or
        h_0 = 0 a logarithm has no slope, and :func:`linear_scan` has the gradients.

    Raises:
        ValueError: one line, if shapes, dtypes or devices do not fit.
    """
    _check_operands({"log_a": log_a, "log_b": log_b}, log_h0, state_name="log_h0")
    s = log_a.cumsum(dim=1)  # (B, T, D)
    if bool(s[:, -1:].isneginf().any()):  # some a = 0
        return _forgetful_log_space_scan(log_a, log_b, log_h0)
    terms = log_b - s
    if log_h0 is not None:
        terms = torch.cat([log_h0.to(terms.dtype).unsqueeze(1), terms], dim=1)  # (B, 1+T, D)
    log_sum = terms.logcumsumexp(dim=1)
    if log_h0 is not None:
        log_sum = log_sum[:, 1:]
    return s + log_sum


def min_gru_scan(k: Tensor, v: Tensor, h0: Tensor | None = None, engine: str = "auto") -> Tensor:
    """Return the states of minGRU from its pre-activations, gates fused into the scan.

    z = σ(k), h̃ = g(v), h_t = (1 − z_t) ⊙ h_{t-1} + z_t ⊙ h̃_t. Only k, v and h (and h0) are kept for the backward.

    Args:
        k: gate pre-activation (B, T, D). v: candidate pre-activation (B, T, D). h0: (B, D), a state: not put through g.
        engine: as in :func:`linear_scan`; ``"heinsen"`` computes in log space as the paper does and needs h0 ≥ 0.

    Returns:
        h (B, T, D) in the dtype of ``k``.

    Raises:
        ValueError: as :func:`linear_scan`.
    """
    _check_operands({"k": k, "v": v}, h0)
    return gated_scan(torch.cat([k, v], dim=-1), h0, "min_gru", engine)


def min_lstm_scan(
    f: Tensor, i: Tensor, v: Tensor, h0: Tensor | None = None, normalised: bool = True, engine: str = "auto"
) -> Tensor:
    """Return the states of minLSTM from its pre-activations, gates fused into the scan.

    h_t = f' ⊙ h_{t-1} + i' ⊙ g(v). Normalised (v2 of the paper): f' = σ(f)/(σ(f)+σ(i)), i' = σ(i)/(σ(f)+σ(i)).
    Otherwise f' = σ(f), i' = σ(i).

    Args:
        f: forget pre-activation (B, T, D). i: input pre-activation (B, T, D). v: candidate pre-activation (B, T, D).
        h0: (B, D), a state: not put through g. engine: as in :func:`min_gru_scan`.

    Returns:
        h (B, T, D) in the dtype of ``f``.

    Raises:
        ValueError: as :func:`linear_scan`.
    """
    _check_operands({"f": f, "i": i, "v": v}, h0)
    return gated_scan(
        torch.cat([f, i, v], dim=-1), h0, "min_lstm_normalised" if normalised else "min_lstm", engine
    )


def gated_scan(pre: Tensor, h0: Tensor | None, kind: str, engine: str = "auto") -> Tensor:
    """Return the states of minGRU or minLSTM from their *fused* pre-activations, as one projection computes them.

    The form for layers: it spares the copies that taking the parts out and putting their gradients together would cost.

    Args:
        pre: (B, T, 2D) = k | v for ``kind="min_gru"``; (B, T, 3D) = f | i | v for ``"min_lstm"`` and
            ``"min_lstm_normalised"``. h0: (B, D) or None. engine: as in :func:`min_gru_scan`.

    Returns:
        h (B, T, D) in the dtype of ``pre``.

    Raises:
        ValueError: as :func:`linear_scan`, and for an unknown kind or a width that its parts do not divide.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not one of {', '.join(KINDS)}{nearest(kind, KINDS)}")
    parts = KINDS[kind][0]
    if pre.dim() != 3 or pre.shape[-1] % parts:
        raise ValueError(f"pre has shape {tuple(pre.shape)}, expected (B, T, {parts}D) for {kind}")
    first = pre[..., : pre.shape[-1] // parts]
    _check_operands({"pre": first}, h0)
    engine = _resolve_engine(engine, first)
    if pre.numel() == 0:
        return pre[..., : first.shape[-1]].clone()
    if engine == "heinsen":
        return _gated_log_space_scan(pre, h0, kind)
    return _GatedScan.apply(pre, None if h0 is None else h0.to(state_dtype(pre.dtype)), kind, engine)


def g(x: Tensor) -> Tensor:
    """Candidate non-linearity (appendix B): x + 0.5 for x ≥ 0, σ(x) below. Positive, continuous, kinked at 0."""
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


def log_g(x: Tensor) -> Tensor:
    """log g(x) without leaving log space: log(relu(x) + 0.5) for x ≥ 0, −softplus(−x) below.

    Both branches are finite with finite slopes for every finite x, so ``where`` passes no NaN into the gradient.
    """
    return torch.where(x >= 0, torch.log(x.clamp(min=0) + 0.5), F.logsigmoid(x))


def choose_engine(device: torch.device, shape: Sequence[int], dtype: torch.dtype) -> str:
    """Return the engine for operands of ``shape`` (B, T, D): the fastest one that is installed and fits ``device``.

    ``dtype`` matters for the compiled engines only, which take floating-point numbers.
    """
    if shape[1] <= 2:
        return "loop"  # recurrent mode: one or two steps are cheaper than any set-up
    if device.type == "cuda" and _installed("triton"):
        return "triton"
    if device.type == "cpu" and _installed("numba") and dtype.is_floating_point:
        return "numba"
    return "chunked"


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a state is accumulated: float32 for half precision, else the dtype itself."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


# --- checks -------------------------------------------------------------------------------------------------------


@cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _resolve_engine(engine: str, x: Tensor) -> str:
    if engine == "auto":
        return choose_engine(x.device, x.shape, x.dtype)
    if engine not in ENGINES:
        raise ValueError(
            f"engine={engine!r} is not one of auto, {', '.join(ENGINES)}{nearest(engine, ENGINES)}"
        )
    if engine == "numba":
        if x.device.type != "cpu":
            raise ValueError(f"engine='numba' runs on the CPU, the operands are on {x.device}")
        return "numba" if _installed("numba") else "chunked"
    if engine == "triton" and not _installed("triton"):
        raise ValueError("engine='triton' needs the package triton, which comes with PyTorch for CUDA")
    return engine


def _check_operands(operands: dict[str, Tensor], h0: Tensor | None, state_name: str = "h0") -> None:
    (first_name, first), *others = operands.items()
    if first.dim() != 3:
        raise ValueError(f"{first_name} has shape {tuple(first.shape)}, expected (B, T, D)")
    if not first.dtype.is_floating_point:
        raise ValueError(f"{first_name} has dtype {first.dtype}, expected a floating-point dtype")
    for name, x in others:
        if x.shape != first.shape:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}, expected that of {first_name}: {tuple(first.shape)}"
            )
        if x.dtype != first.dtype:
            raise ValueError(f"{name} has dtype {x.dtype}, expected that of {first_name}: {first.dtype}")
        if x.device != first.device:
            raise ValueError(f"{name} is on {x.device}, expected the device of {first_name}: {first.device}")
    if h0 is not None:
        expected = (first.shape[0], first.shape[2])
        if tuple(h0.shape) != expected:
            raise ValueError(f"{state_name} has shape {tuple(h0.shape)}, expected (B, D) = {expected}")
        if not h0.dtype.is_floating_point:
            raise ValueError(f"{state_name} has dtype {h0.dtype}, expected a floating-point dtype")
        if h0.device != first.device:
            raise ValueError(
                f"{state_name} is on {h0.device}, expected the device of {first_name}: {first.device}"
            )


def _check_logarithms(operands: dict[str, Tensor | None]) -> None:
    for name, x in operands.items():
        if x is not None and bool((x < 0).any()):
            raise ValueError(f"engine='heinsen' takes logarithms and needs {name} >= 0; use another engine")


# --- autograd -----------------------------------------------------------------------------------------------------


class _LinearScan(torch.autograd.Function):
    """h = scan(a, b, h0), keeping (a, h, h0)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Tensor | None, engine: str) -> Tensor:  # type: ignore[override]
        h = _scan(a, b, h0, engine)
        ctx.save_for_backward(a, h, h0)
        ctx.engine = engine
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_h: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        a, h, h0 = ctx.saved_tensors
        grad_a, grad_b, grad_h0 = _scan_backward(a, h, h0, grad_h, ctx.engine)
        return grad_a, grad_b, grad_h0, None


class _GatedScan(torch.autograd.Function):
    """h = scan(gates(pre), h0), keeping (pre, h, h0); a and b are computed again in the backward."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, h0: Tensor | None, kind: str, engine: str) -> Tensor:  # type: ignore[override]
        if engine in ("numba", "triton"):
            h = _compiled(engine).gated_scan(pre, h0, kind)
        else:
            parts, gates, _ = KINDS[kind]
            exact = pre.to(state_dtype(pre.dtype))  # a decay near 1 must not be rounded to 1
            h = _scan(*gates(*exact.chunk(parts, dim=-1)), h0, engine).to(pre.dtype)
        ctx.save_for_backward(pre, h, h0)
        ctx.kind, ctx.engine = kind, engine
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_h: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        pre, h, h0 = ctx.saved_tensors
        if ctx.engine in ("numba", "triton"):
            grad_pre, grad_h0 = _compiled(ctx.engine).gated_scan_backward(pre, h, h0, grad_h, ctx.kind)
            return grad_pre, grad_h0, None, None
        parts, gates, _ = KINDS[ctx.kind]
        with torch.enable_grad():
            leaf = pre.detach().to(state_dtype(pre.dtype)).requires_grad_()
            a, b = gates(*leaf.chunk(parts, dim=-1))
        h, grad_h = h.to(a.dtype), grad_h.to(a.dtype)
        grad_a, grad_b, grad_h0 = _scan_backward(a.detach(), h, h0, grad_h, ctx.engine)
        (grad_pre,) = torch.autograd.grad((a, b), leaf, (grad_a, grad_b))
        return grad_pre.to(pre.dtype), grad_h0, None, None


def _min_gru_gates(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return torch.sigmoid(-k), torch.sigmoid(k) * g(v)  # 1 − z as σ(−k): exact where z rounds to 1


def _min_gru_log_gates(k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return -F.softplus(k), -F.softplus(-k) + log_g(v)


def _min_lstm_gates(f: Tensor, i: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return torch.sigmoid(f), torch.sigmoid(i) * g(v)


def _min_lstm_log_gates(f: Tensor, i: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return -F.softplus(-f), -F.softplus(-i) + log_g(v)


def _normalised_gates(f: Tensor, i: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    odds = F.softplus(-f) - F.softplus(-i)  # log(i' / f'): gates that sum to one are minGRU's with k = odds
    return torch.sigmoid(-odds), torch.sigmoid(odds) * g(v)


def _normalised_log_gates(f: Tensor, i: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    odds = F.softplus(-f) - F.softplus(-i)
    return -F.softplus(odds), -F.softplus(-odds) + log_g(v)


# number of pre-activations, gates -> (a, b), the same in log space -> (log a, log b)
KINDS: dict[str, tuple[int, Gates, Gates]] = {
    "min_gru": (2, _min_gru_gates, _min_gru_log_gates),
    "min_lstm": (3, _min_lstm_gates, _min_lstm_log_gates),
    "min_lstm_normalised": (3, _normalised_gates, _normalised_log_gates),
}


def _compiled(engine: str) -> ModuleType:
    """The module of a compiled engine, imported when it is first used."""
    return importlib.import_module(f"lib.minrnn.{engine}_scan")


def _scan(a: Tensor, b: Tensor, h0: Tensor | None, engine: str, reverse: bool = False) -> Tensor:
    """The bare scan, without a graph. ``reverse`` runs t = T..1: h_t = a_t h_{t+1} + b_t; not in log space."""
    if engine in ("numba", "triton"):
        return _compiled(engine).scan(a, b, h0, reverse)
    if engine == "heinsen":
        return _heinsen(a, b, h0)
    return (_loop if engine == "loop" else _chunked)(a, b, h0, reverse)


def _scan_backward(
    a: Tensor, h: Tensor, h0: Tensor | None, grad_h: Tensor, engine: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (∂L/∂a, ∂L/∂b, ∂L/∂h0) from the saved (a, h, h0) and ḡ = ``grad_h``, all (B, T, D)."""
    if engine in ("numba", "triton"):
        return _compiled(engine).scan_backward(a, h, h0, grad_h)
    if engine == "heinsen":
        engine = "chunked"  # ḡ has either sign, and the slope of a logarithm at 0 would be infinite
    shifted_a = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)  # a_2, …, a_T, 0
    delta = _scan(shifted_a, grad_h, None, engine, reverse=True)
    first = torch.zeros_like(h[:, :1]) if h0 is None else h0.to(h.dtype).unsqueeze(1)
    previous_h = torch.cat([first, h[:, :-1]], dim=1)  # h_0, …, h_{T-1}
    grad_h0 = None if h0 is None else (a[:, 0] * delta[:, 0]).to(h0.dtype)
    return delta * previous_h, delta, grad_h0


# --- engines in plain PyTorch -------------------------------------------------------------------------------------


def _loop(a: Tensor, b: Tensor, h0: Tensor | None, reverse: bool) -> Tensor:
    """T steps over (B, D)."""
    a, b, out_dtype = _in_state_dtype(a, b)
    out = torch.empty_like(b)
    h = torch.zeros_like(b[:, 0]) if h0 is None else h0  # (B, D)
    steps = range(a.shape[1])
    for t in reversed(steps) if reverse else steps:
        h = torch.addcmul(b[:, t], a[:, t], h)
        out[:, t] = h
    return out.to(out_dtype)


def _chunked(a: Tensor, b: Tensor, h0: Tensor | None, reverse: bool) -> Tensor:
    """2√T vectorised steps: inside all chunks at once, then the carries from chunk to chunk.

    T is cut into C chunks of L ≈ √T. Scanning every chunk from zero gives its part of h and, on the way, the running
    product P of a; the state that enters chunk c then adds P ⊙ carry_c.
    """
    a, b, out_dtype = _in_state_dtype(a, b)
    batch, length, channels = a.shape
    chunk = max(1, math.isqrt(length))
    padding = -length % chunk
    if padding:  # a = 1, b = 0 at the end that is scanned last or first leaves every real step as it is
        edge = (0, 0, padding, 0) if reverse else (0, 0, 0, padding)
        a, b = F.pad(a, edge, value=1.0), F.pad(b, edge)
    a = a.reshape(batch, -1, chunk, channels)  # (B, C, L, D)
    h = b.reshape(batch, -1, chunk, channels).clone(memory_format=torch.contiguous_format)
    product = a.clone(memory_format=torch.contiguous_format)
    inside = range(chunk)
    order = list(reversed(inside)) if reverse else list(inside)
    for before, now in itertools.pairwise(order):
        h[:, :, now].addcmul_(a[:, :, now], h[:, :, before])
        product[:, :, now].mul_(product[:, :, before])
    chunks = range(a.shape[1])
    carry = torch.zeros_like(h[:, 0, 0]) if h0 is None else h0  # (B, D)
    for c in reversed(chunks) if reverse else chunks:
        h[:, c].addcmul_(product[:, c], carry.unsqueeze(1))
        carry = h[:, c, order[-1]]
    h = h.reshape(batch, -1, channels)
    h = h[:, padding:] if reverse else h[:, :length]
    return h.to(out_dtype).contiguous()


# --- in log space -------------------------------------------------------------------------------------------------


def _heinsen(a: Tensor, b: Tensor, h0: Tensor | None) -> Tensor:
    a, b, out_dtype = _in_state_dtype(a, b)  # bfloat16 could not hold the digits of a logarithm
    return log_space_scan(a.log(), b.log(), None if h0 is None else h0.log()).exp().to(out_dtype)


def _forgetful_log_space_scan(log_a: Tensor, log_b: Tensor, log_h0: Tensor | None) -> Tensor:
    """:func:`log_space_scan` where some a = 0: log₂T rounds of the composition ∘.

    Behind a zero s = −∞, and no difference of cumulative sums can say what came after it.
    """
    if log_h0 is not None:
        first = torch.logaddexp(log_a[:, :1] + log_h0.to(log_b.dtype).unsqueeze(1), log_b[:, :1])
        log_b = torch.cat([first, log_b[:, 1:]], dim=1)
    reach = 1  # every pair (log a, log b) composes as many steps
    while reach < log_b.shape[1]:
        later = torch.logaddexp(log_a[:, reach:] + log_b[:, :-reach], log_b[:, reach:])
        log_b = torch.cat([log_b[:, :reach], later], dim=1)
        log_a = torch.cat([log_a[:, :reach], log_a[:, reach:] + log_a[:, :-reach]], dim=1)
        reach *= 2
    return log_b


def _gated_log_space_scan(pre: Tensor, h0: Tensor | None, kind: str) -> Tensor:
    """h from the fused pre-activations as the paper's appendix B computes it, differentiated by autograd."""
    parts, _, log_gates = KINDS[kind]
    log_a, log_b = log_gates(*pre.to(state_dtype(pre.dtype)).chunk(parts, dim=-1))
    if h0 is None:
        return log_space_scan(log_a, log_b).exp().to(pre.dtype)
    _check_logarithms({"h0": h0})
    h0 = h0.to(log_a.dtype)
    without_slope = h0 < torch.finfo(h0.dtype).tiny  # 1/h0 would be infinite
    if not (h0.requires_grad and bool(without_slope.any())):
        return log_space_scan(log_a, log_b, h0.log()).exp().to(pre.dtype)
    log_h0 = h0.masked_fill(without_slope, 1.0).log().masked_fill(without_slope, -math.inf)
    rest = h0.masked_fill(~without_slope, 0.0).unsqueeze(1)  # it enters h linearly, with the product of all a
    return (log_space_scan(log_a, log_b, log_h0).exp() + log_a.cumsum(dim=1).exp() * rest).to(pre.dtype)


def _in_state_dtype(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, torch.dtype]:
    dtype = state_dtype(a.dtype)
    return a.to(dtype), b.to(dtype), a.dtype
