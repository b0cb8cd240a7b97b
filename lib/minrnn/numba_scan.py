r"""The scan as a compiled CPU loop: b, then t, then d, with d contiguous so that LLVM vectorises it.

One pass over memory, no intermediate. The plain forward reads a, b and writes h; the backward reads ḡ, a, h and writes
∂a, ∂b, carrying δ in a row of D numbers. With the gates fused, the forward reads the pre-activations and writes h, and
the backward computes the gates again from the pre-activations, row by row, while they are in the first-level cache.

Two tricks make the gates as cheap as the scan:

* the exponential has to be arithmetic that LLVM can vectorise (a call of libm's is scalar and three times slower than
  PyTorch's): x = n ln 2 + r with |r| ≤ ln 2 / 2, exp(r) by its Taylor polynomial of degree 7 (remainder r⁸/8! < 6e-9,
  below float32's half unit 6e-8), 2ⁿ by writing n into the exponent bits. float64 calls libm;
* no exponential ever sees a positive argument: σ(x) is 1/(1+e) or e/(1+e) with e = exp(−|x|), and the normalised gates
  of minLSTM are (e^c + e^{c−i}) / (2e^c + e^{c−i} + e^{c−f}) with c = min(f, i, 0). Nothing overflows.

Work is shared between threads over the batch and over blocks of D, never over T: no thread waits for another. The
kernels release the interpreter lock, so ordinary threads do.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numba
import numpy as np
import torch
from numba import types
from numba.extending import intrinsic, overload
from torch import Tensor

from lib.compilation import njit

SERIAL_BELOW = 1 << 15  # elements; a smaller scan costs less than handing it to threads
# A kind is a tuple whose length is its number: its length is part of the compiled signature, so that each kind is
# compiled when it is first used, and no other.
KINDS = {"min_gru": (0,), "min_lstm": (0, 0), "min_lstm_normalised": (0, 0, 0)}

# contract: a·b + c may be one fused instruction. The flag changes rounding only, never the treatment of NaN or inf.
_compile: Any = njit(error_model="numpy", fastmath={"contract"})
_inline: Any = numba.njit(inline="always", error_model="numpy")
_intrinsic: Any = intrinsic
Range = tuple[int, int]


# --- the plain scan -----------------------------------------------------------------------------------------------


@_compile
def _forward(a, b, h0, h, reverse, rows, columns):  # type: ignore[no-untyped-def]
    steps = a.shape[1]
    low, high = columns
    for n in range(rows[0], rows[1]):
        state = h0[n, low:high].copy()
        for step in range(steps):
            t = steps - 1 - step if reverse else step
            row_a = a[n, t, low:high]
            row_b = b[n, t, low:high]
            row_h = h[n, t, low:high]
            for d in range(state.shape[0]):
                value = row_a[d] * state[d] + row_b[d]
                state[d] = value
                row_h[d] = value


@_compile
def _backward(a, h, h0, grad_h, grad_a, grad_b, grad_h0, rows, columns):  # type: ignore[no-untyped-def]
    low, high = columns
    for n in range(rows[0], rows[1]):
        carry = np.zeros_like(h0[n, low:high])  # a_{t+1} δ_{t+1}
        for t in range(a.shape[1] - 1, -1, -1):
            row_a = a[n, t, low:high]
            row_g = grad_h[n, t, low:high]
            previous = h[n, t - 1, low:high] if t > 0 else h0[n, low:high]
            out_a = grad_a[n, t, low:high]
            out_b = grad_b[n, t, low:high]
            for d in range(carry.shape[0]):
                delta = row_g[d] + carry[d]
                out_b[d] = delta
                out_a[d] = delta * previous[d]
                carry[d] = row_a[d] * delta
        grad_h0[n, low:high] = carry


def scan(a: Tensor, b: Tensor, h0: Tensor | None, reverse: bool = False, out: Tensor | None = None) -> Tensor:
    """Return h (B, T, D) with h_t = a_t h_{t-1} + b_t, or with h_{t+1} in place of h_{t-1} if ``reverse``.

    Args:
        a, b: (B, T, D) on the CPU. h0: (B, D) or None for zeros. Half precision is accumulated in float32.
        out: contiguous memory for h in the dtype of the state; new memory if None.
    """
    dtype = a.dtype
    a, b = _rows(a), _rows(b)
    h = torch.empty_like(b) if out is None else out
    _share(partial(_forward, *_arrays(a, b, _state(h0, a), h), reverse), a.shape)
    return h.to(dtype)


def scan_backward(
    a: Tensor, h: Tensor, h0: Tensor | None, grad_h: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (∂L/∂a, ∂L/∂b, ∂L/∂h0) for :func:`scan` from its saved a, h (B, T, D), h0 and ḡ = ``grad_h``."""
    dtype = a.dtype
    a, h, grad_h = _rows(a), _rows(h), _rows(grad_h)
    state = _state(h0, a)
    grad_a, grad_b, grad_h0 = torch.empty_like(a), torch.empty_like(a), torch.empty_like(state)
    _share(partial(_backward, *_arrays(a, h, state, grad_h, grad_a, grad_b, grad_h0)), a.shape)
    return grad_a.to(dtype), grad_b.to(dtype), None if h0 is None else grad_h0


# --- the exponential ----------------------------------------------------------------------------------------------


@_intrinsic
def _bits_as_float(context, bits):  # type: ignore[no-untyped-def]
    """Reinterpret an int32 as a float32."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x) for x ≤ 0; compiled code only, by the overload below."""
    return math.exp(x)


@overload(_exp, inline="always")
def _exp_for(x):  # type: ignore[no-untyped-def]
    if x != types.float32:
        return lambda x: math.exp(x)

    def vectorisable(x):  # type: ignore[no-untyped-def]
        x = max(x, np.float32(-87.0))  # 2ⁿ stays a normal number; exp(−87) = 1.6e-38
        n = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
        r = x - n * np.float32(
            0.693359375
        )  # ln 2 in two parts: the first has few bits, so n times it is exact
        r = r + n * np.float32(2.12194440054690581e-4)
        p = np.float32(1 / 5040)
        p = p * r + np.float32(1 / 720)
        p = p * r + np.float32(1 / 120)
        p = p * r + np.float32(1 / 24)
        p = p * r + np.float32(1 / 6)
        p = p * r + np.float32(0.5)
        p = p * r + np.float32(1.0)
        p = p * r + np.float32(1.0)
        return p * _bits_as_float(np.int32((np.int32(n) + np.int32(127)) << np.int32(23)))

    return vectorisable


@_inline
def _sigmoid_pair(x, one):  # type: ignore[no-untyped-def]
    """(σ(x), σ(−x)), both to full relative precision."""
    e = _exp(-abs(x))
    large = one / (one + e)
    small = e * large
    return (large, small) if x >= 0 else (small, large)


@_inline
def _candidate(v, one, half):  # type: ignore[no-untyped-def]
    """g(v), and its slope."""
    e = _exp(min(v, one - one))  # exp(0) where the other branch is taken
    small = e / (one + e)
    return (v + half, one) if v >= 0 else (small, small * (one - small))


@_inline
def _normalised(f, i, one):  # type: ignore[no-untyped-def]
    """(f', i', σ(−f), σ(−i)) for f' = σ(f)/(σ(f)+σ(i)) and i' = 1 − f'."""
    c = min(min(f, i), one - one)
    e_c, e_f, e_i = _exp(c), _exp(c - f), _exp(c - i)
    per_f, per_i = e_c + e_f, e_c + e_i  # e^c / σ(f), e^c / σ(i)
    total = per_f + per_i
    return per_i / total, per_f / total, e_f / per_f, e_i / per_i


# --- the scan with its gates, one row of D channels at a time ------------------------------------------------------
# Forward rows fill decay = a and drive = b. Backward rows take δ_t and h_{t-1}, write the gradients of the
# pre-activations, and leave a_t δ_t, which the step before needs, in carry.


@_compile
def _min_gru_row(k, v, decay, drive):  # type: ignore[no-untyped-def]
    one, half = k.dtype.type(1), k.dtype.type(0.5)
    for d in range(k.shape[0]):
        z, decay[d] = _sigmoid_pair(k[d], one)
        drive[d] = z * _candidate(v[d], one, half)[0]


@_compile
def _min_gru_row_backward(k, v, previous, delta, grad_k, grad_v, carry):  # type: ignore[no-untyped-def]
    one, half = k.dtype.type(1), k.dtype.type(0.5)
    for d in range(k.shape[0]):
        z, a = _sigmoid_pair(k[d], one)
        candidate, slope = _candidate(v[d], one, half)
        kept = a * delta[d]
        grad_k[d] = kept * z * (candidate - previous[d])
        grad_v[d] = delta[d] * z * slope
        carry[d] = kept


@_compile
def _min_lstm_row(f, i, v, decay, drive):  # type: ignore[no-untyped-def]
    one, half = f.dtype.type(1), f.dtype.type(0.5)
    for d in range(f.shape[0]):
        decay[d] = _sigmoid_pair(f[d], one)[0]
        drive[d] = _sigmoid_pair(i[d], one)[0] * _candidate(v[d], one, half)[0]


@_compile
def _min_lstm_row_backward(f, i, v, previous, delta, grad_f, grad_i, grad_v, carry):  # type: ignore[no-untyped-def]
    one, half = f.dtype.type(1), f.dtype.type(0.5)
    for d in range(f.shape[0]):
        forget, not_forget = _sigmoid_pair(f[d], one)
        take, not_take = _sigmoid_pair(i[d], one)
        candidate, slope = _candidate(v[d], one, half)
        kept, taken = forget * delta[d], take * delta[d]
        grad_f[d] = kept * not_forget * previous[d]
        grad_i[d] = taken * not_take * candidate
        grad_v[d] = taken * slope
        carry[d] = kept


@_compile
def _normalised_row(f, i, v, decay, drive):  # type: ignore[no-untyped-def]
    one, half = f.dtype.type(1), f.dtype.type(0.5)
    for d in range(f.shape[0]):
        decay[d], take, _, _ = _normalised(f[d], i[d], one)
        drive[d] = take * _candidate(v[d], one, half)[0]


@_compile
def _normalised_row_backward(f, i, v, previous, delta, grad_f, grad_i, grad_v, carry):  # type: ignore[no-untyped-def]
    one, half = f.dtype.type(1), f.dtype.type(0.5)
    for d in range(f.shape[0]):
        forget, take, not_f, not_i = _normalised(f[d], i[d], one)
        candidate, slope = _candidate(v[d], one, half)
        kept = forget * delta[d]
        shared = kept * take * (previous[d] - candidate)
        grad_f[d] = shared * not_f
        grad_i[d] = -shared * not_i
        grad_v[d] = delta[d] * take * slope
        carry[d] = kept


def _row(kind, row, low, high, width, decay, drive):  # type: ignore[no-untyped-def]
    """The forward row of a kind, from the fused pre-activations of one step; compiled code only."""


def _row_backward(kind, row, low, high, width, previous, delta, grad_row, carry):  # type: ignore[no-untyped-def]
    """The backward row of a kind; compiled code only."""


@overload(_row)
def _row_for(kind, row, low, high, width, decay, drive):  # type: ignore[no-untyped-def]
    def two(kind, row, low, high, width, decay, drive):  # type: ignore[no-untyped-def]
        _min_gru_row(row[low:high], row[width + low : width + high], decay, drive)

    if len(kind) == 1:
        return two
    forward = _min_lstm_row if len(kind) == 2 else _normalised_row

    def three(kind, row, low, high, width, decay, drive):  # type: ignore[no-untyped-def]
        second, third = row[width + low : width + high], row[2 * width + low : 2 * width + high]
        forward(row[low:high], second, third, decay, drive)

    return three


@overload(_row_backward)
def _row_backward_for(kind, row, low, high, width, previous, delta, grad_row, carry):  # type: ignore[no-untyped-def]
    def two(kind, row, low, high, width, previous, delta, grad_row, carry):  # type: ignore[no-untyped-def]
        first, second = grad_row[low:high], grad_row[width + low : width + high]
        _min_gru_row_backward(
            row[low:high], row[width + low : width + high], previous, delta, first, second, carry
        )

    if len(kind) == 1:
        return two
    backward = _min_lstm_row_backward if len(kind) == 2 else _normalised_row_backward

    def three(kind, row, low, high, width, previous, delta, grad_row, carry):  # type: ignore[no-untyped-def]
        second, third = row[width + low : width + high], row[2 * width + low : 2 * width + high]
        grad_second = grad_row[width + low : width + high]
        grad_third = grad_row[2 * width + low : 2 * width + high]
        backward(
            row[low:high], second, third, previous, delta, grad_row[low:high], grad_second, grad_third, carry
        )

    return three


@_compile
def _gated_forward(pre, h0, h, kind, rows, columns):  # type: ignore[no-untyped-def]
    low, high = columns
    for n in range(rows[0], rows[1]):
        state = h0[n, low:high].copy()
        decay, drive = np.empty_like(state), np.empty_like(state)
        for t in range(h.shape[1]):
            _row(kind, pre[n, t], low, high, h.shape[2], decay, drive)
            row_h = h[n, t, low:high]
            for d in range(state.shape[0]):
                value = decay[d] * state[d] + drive[d]
                state[d] = value
                row_h[d] = value


@_compile
def _gated_backward(pre, h, h0, grad_h, grad_pre, grad_h0, kind, rows, columns):  # type: ignore[no-untyped-def]
    low, high = columns
    for n in range(rows[0], rows[1]):
        carry = np.zeros_like(h0[n, low:high])  # a_{t+1} δ_{t+1}
        delta = np.empty_like(carry)
        for t in range(h.shape[1] - 1, -1, -1):
            row_g = grad_h[n, t, low:high]
            for d in range(carry.shape[0]):
                delta[d] = row_g[d] + carry[d]
            previous = h[n, t - 1, low:high] if t > 0 else h0[n, low:high]
            _row_backward(kind, pre[n, t], low, high, h.shape[2], previous, delta, grad_pre[n, t], carry)
        grad_h0[n, low:high] = carry


def gated_scan(pre: Tensor, h0: Tensor | None, kind: str) -> Tensor:
    """Return h (B, T, D) of minGRU or minLSTM from the fused pre-activations.

    Args:
        pre: (B, T, 2D) = k | v for ``"min_gru"``, (B, T, 3D) = f | i | v for ``"min_lstm"`` and
            ``"min_lstm_normalised"``, on the CPU. h0: (B, D) or None for zeros. kind: a key of :data:`KINDS`.
    """
    rows = _rows(pre)
    batch, steps, width = pre.shape
    h = rows.new_empty(batch, steps, width // (2 if kind == "min_gru" else 3))
    _share(partial(_gated_forward, *_arrays(rows, _state(h0, h), h), KINDS[kind]), h.shape)
    return h.to(pre.dtype)


def gated_scan_backward(
    pre: Tensor, h: Tensor, h0: Tensor | None, grad_h: Tensor, kind: str
) -> tuple[Tensor, Tensor | None]:
    """Return (∂L/∂pre, ∂L/∂h0) for :func:`gated_scan` from its saved pre, h, h0 and ḡ = ``grad_h``."""
    rows, h, grad_h = _rows(pre), _rows(h), _rows(grad_h)
    state = _state(h0, h)
    grad_pre, grad_h0 = torch.empty_like(rows), torch.empty_like(state)
    _share(
        partial(_gated_backward, *_arrays(rows, h, state, grad_h, grad_pre, grad_h0), KINDS[kind]), h.shape
    )
    return grad_pre.to(pre.dtype), None if h0 is None else grad_h0


# --- plumbing -----------------------------------------------------------------------------------------------------


def _rows(x: Tensor) -> Tensor:
    """``x`` in float32 or float64 with its last axis contiguous, copied only where it must be."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.detach().to(dtype).contiguous()


def _state(h0: Tensor | None, like: Tensor) -> Tensor:
    return like.new_zeros(like.shape[0], like.shape[2]) if h0 is None else _rows(h0.to(like.dtype))


def _arrays(*tensors: Tensor) -> list[Any]:
    return [x.numpy() for x in tensors]


def _share(kernel: Callable[[Range, Range], None], shape: torch.Size) -> None:
    """Run ``kernel(rows, columns)`` over all of (B, ·, D), one part per thread of PyTorch."""
    batch, _, channels = shape
    threads = torch.get_num_threads()
    if threads == 1 or shape.numel() < SERIAL_BELOW:
        kernel((0, batch), (0, channels))
        return
    row_parts = min(batch, threads)
    column_parts = min(
        -(-threads // row_parts), max(1, channels // 16)
    )  # at least one cache line of float32 each
    pool = _threads(threads, os.getpid())
    parts = [
        pool.submit(kernel, rows, columns)
        for rows in _cut(batch, row_parts)
        for columns in _cut(channels, column_parts)
    ]
    for part in parts:
        part.result()


def _cut(length: int, parts: int) -> list[Range]:
    return [(length * i // parts, length * (i + 1) // parts) for i in range(parts)]


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """The pool of this process: keyed by its id, since threads do not survive a fork."""
    return ThreadPoolExecutor(count, thread_name_prefix=f"scan-{process}")
