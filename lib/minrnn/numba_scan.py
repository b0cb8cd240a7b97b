"""The scan as a compiled CPU loop: b, then t, then d, with d contiguous so that LLVM vectorises it.

One pass over memory, no intermediate: the forward reads a, b and writes h; the backward reads ḡ, a, h and writes
∂a, ∂b, carrying δ in a row of D numbers. Work is shared between threads over the batch and over blocks of D, never
over T: no thread waits for another. The kernels release the interpreter lock, so ordinary threads do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numba
import numpy as np
import torch
from torch import Tensor

SERIAL_BELOW = 1 << 15  # elements; a smaller scan costs less than handing it to threads


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _forward(a, b, h0, h, rows, columns, reverse):  # type: ignore[no-untyped-def]
    steps = a.shape[1]
    for n in range(rows[0], rows[1]):
        state = h0[n, columns[0] : columns[1]].copy()
        for step in range(steps):
            t = steps - 1 - step if reverse else step
            row_a = a[n, t, columns[0] : columns[1]]
            row_b = b[n, t, columns[0] : columns[1]]
            row_h = h[n, t, columns[0] : columns[1]]
            for d in range(state.shape[0]):
                value = row_a[d] * state[d] + row_b[d]
                state[d] = value
                row_h[d] = value


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _backward(a, h, h0, grad_h, grad_a, grad_b, grad_h0, rows, columns):  # type: ignore[no-untyped-def]
    steps = a.shape[1]
    for n in range(rows[0], rows[1]):
        carry = np.zeros_like(h0[n, columns[0] : columns[1]])  # a_{t+1} δ_{t+1}
        for t in range(steps - 1, -1, -1):
            row_a = a[n, t, columns[0] : columns[1]]
            row_g = grad_h[n, t, columns[0] : columns[1]]
            row_p = h[n, t - 1, columns[0] : columns[1]] if t > 0 else h0[n, columns[0] : columns[1]]
            out_a = grad_a[n, t, columns[0] : columns[1]]
            out_b = grad_b[n, t, columns[0] : columns[1]]
            for d in range(carry.shape[0]):
                delta = row_g[d] + carry[d]
                out_b[d] = delta
                out_a[d] = delta * row_p[d]
                carry[d] = row_a[d] * delta
        grad_h0[n, columns[0] : columns[1]] = carry


def scan(a: Tensor, b: Tensor, h0: Tensor | None, reverse: bool = False) -> Tensor:
    """Return h (B, T, D) with h_t = a_t h_{t-1} + b_t, or with h_{t+1} in place of h_{t-1} if ``reverse``.

    Args:
        a, b: (B, T, D) on the CPU. h0: (B, D) or None for zeros. Half precision is accumulated in float32.
    """
    dtype, work = a.dtype, _work_dtype(a.dtype)
    a, b = _rows(a, work), _rows(b, work)
    state = torch.zeros(a.shape[0], a.shape[2], dtype=work) if h0 is None else _rows(h0, work)
    h = torch.empty_like(b)
    arrays = [x.numpy() for x in (a, b, state, h)]
    _share(lambda rows, columns: _forward(*arrays, rows, columns, reverse), a.shape)
    return h.to(dtype)


def scan_backward(
    a: Tensor, h: Tensor, h0: Tensor | None, grad_h: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (∂L/∂a, ∂L/∂b, ∂L/∂h0) for :func:`scan` from its saved a, h (B, T, D), h0 and ḡ = ``grad_h``."""
    dtype, work = a.dtype, _work_dtype(a.dtype)
    a, h, grad_h = _rows(a, work), _rows(h, work), _rows(grad_h, work)
    state = torch.zeros(a.shape[0], a.shape[2], dtype=work) if h0 is None else _rows(h0, work)
    grad_a, grad_b, grad_h0 = torch.empty_like(a), torch.empty_like(a), torch.empty_like(state)
    arrays = [x.numpy() for x in (a, h, state, grad_h, grad_a, grad_b, grad_h0)]
    _share(lambda rows, columns: _backward(*arrays, rows, columns), a.shape)
    return grad_a.to(dtype), grad_b.to(dtype), None if h0 is None else grad_h0.to(h0.dtype)


def _work_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x`` in ``dtype`` with its last axis contiguous, copied only where it must be."""
    return x.detach().to(dtype).contiguous()


def _share(kernel: Callable[[tuple[int, int], tuple[int, int]], None], shape: torch.Size) -> None:
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
    parts = [
        (
            (batch * i // row_parts, batch * (i + 1) // row_parts),
            (channels * j // column_parts, channels * (j + 1) // column_parts),
        )
        for i in range(row_parts)
        for j in range(column_parts)
    ]
    for done in [_threads(threads, os.getpid()).submit(kernel, *part) for part in parts]:
        done.result()


@cache
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """The pool of this process: keyed by its id, since threads do not survive a fork."""
    return ThreadPoolExecutor(count, thread_name_prefix=f"scan-{process}")
