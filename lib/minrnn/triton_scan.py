r"""The scan as GPU tiles: h_t = a_t ⊙ h_{t-1} + b_t with or without its gates fused, forward and backward.

One program owns one sequence, one block of BD channels (contiguous, so loads coalesce) and one segment of T. It marches
over its segment in tiles of (BT, BD) held in registers: an associative scan of the pairs (a, b) inside the tile,

    (a_2, b_2) ∘ (a_1, b_1) = (a_2 a_1, a_2 b_1 + b_2),

then h = b-part + a-part ⊙ carry, and the last row is the carry of the next tile. With the gates fused, a and b never
touch memory: minGRU reads k, v and writes h forward, reads k, v, h, ḡ and writes ∂k, ∂v backward, 36 bytes an element
in float32 altogether.

*Positions.* All kernels scan positions p = 0, 1, …; position p is step t = p forwards and t = T − 1 − p in reverse.
The backward pass is the reversed scan with the pairs (a_{t+1}, ḡ_t).

*Few programs.* Where (sequences × channel blocks) would leave multiprocessors idle, T is cut into segments: pass 1
computes each segment's (Π a, state from zero), pass 2 scans these summaries, pass 3 is the scan proper with each
segment's own initial state. That costs one more read of the inputs.

Accumulation is in float32 (float64 for float64). ``TRITON_INTERPRET=1`` runs the same kernels on the CPU.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lib.triton_cache import ensure_triton_cache

KINDS = {"scan": 0, "min_gru": 1, "min_lstm": 2, "min_lstm_normalised": 3}
PARTS = {"scan": 1, "min_gru": 2, "min_lstm": 3, "min_lstm_normalised": 3}
STEPS = 32  # BT, steps in a tile
CHANNELS = 64  # BD, channels in a tile, at most
PROGRAMS_PER_MULTIPROCESSOR = 4  # below this many, T is cut into segments
TILES_PER_SEGMENT = 4  # at least

_jit: Any = triton.jit
ensure_triton_cache()


# --- inside a tile ------------------------------------------------------------------------------------------------


@_jit
def _compose(a1, b1, a2, b2):  # type: ignore[no-untyped-def]
    return a1 * a2, a2 * b1 + b2


@_jit
def _last_row(x, STEPS: tl.constexpr):  # type: ignore[no-untyped-def]
    """(BD,) from (BT, BD)."""
    row = tl.arange(0, STEPS)[:, None]
    return tl.sum(tl.where(row == STEPS - 1, x, 0.0), axis=0)


@_jit
def _sigmoid_pair(x):  # type: ignore[no-untyped-def]
    """(σ(x), σ(−x)), both to full relative precision; no exponential of a positive number."""
    e = tl.exp(-tl.abs(x))
    large = 1.0 / (1.0 + e)
    small = e * large
    return tl.where(x >= 0, large, small), tl.where(x >= 0, small, large)


@_jit
def _candidate(v):  # type: ignore[no-untyped-def]
    """g(v), and its slope."""
    small, _ = _sigmoid_pair(v)
    return tl.where(v >= 0, v + 0.5, small), tl.where(v >= 0, 1.0, small * (1.0 - small))


@_jit
def _read(pointer, row, column, mask, STATE: tl.constexpr):  # type: ignore[no-untyped-def]
    return tl.load(pointer + row + column, mask=mask, other=0.0).to(STATE)


@_jit
def _decay_and_weight(x, row, column, mask, width, KIND: tl.constexpr, STATE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The decay a, the factor of the candidate, and what the gates' gradients need, of one tile.

    x points to the inputs: a itself, or the fused pre-activations with rows of PARTS · D numbers.
    """
    if KIND == 0:
        decay = _read(x, row, column, mask, STATE)
        weight, not_first, not_second = decay, decay, decay
    elif KIND == 1:
        weight, decay = _sigmoid_pair(_read(x, row, column, mask, STATE))
        not_first, not_second = decay, decay
    else:
        f = _read(x, row, column, mask, STATE)
        i = _read(x, row, column + width, mask, STATE)
        if KIND == 2:
            decay, not_first = _sigmoid_pair(f)
            weight, not_second = _sigmoid_pair(i)
        else:  # f' = (e^c + e^{c−i}) / (2 e^c + e^{c−i} + e^{c−f}), c = min(f, i, 0)
            c = tl.minimum(tl.minimum(f, i), 0.0)
            e_c, e_f, e_i = tl.exp(c), tl.exp(c - f), tl.exp(c - i)
            per_f, per_i = e_c + e_f, e_c + e_i
            total = per_f + per_i
            decay, weight = per_i / total, per_f / total
            not_first, not_second = e_f / per_f, e_i / per_i
    return decay, weight, not_first, not_second


# --- kernels ------------------------------------------------------------------------------------------------------


@_jit
def _forward_kernel(  # type: ignore[no-untyped-def]
    x, b, start, out, product_out, steps, width, segment, segments, blocks,
    KIND: tl.constexpr, PARTS: tl.constexpr, REVERSE: tl.constexpr, SUMMARY: tl.constexpr,
    STATE: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Scan one segment. x: a (B, T, D) or the pre-activations; b: (B, T, D), read for the plain scan only.

    start: state before each segment (B, S, D). SUMMARY: start from zero in place of it, and write only the segment's
    last state to out and its product of a to product_out, both (B, S, D); else write h (B, T, D) to out.
    """
    program = tl.program_id(0)
    block = program % blocks
    n_segment = program // blocks  # index into (B, S)
    n = (n_segment // segments).to(tl.int64)
    first = (n_segment % segments) * segment
    column = block * BD + tl.arange(0, BD)
    inside = column < width
    place = n_segment.to(tl.int64) * width + column
    if SUMMARY:
        state = tl.zeros([BD], dtype=STATE)
    else:
        state = tl.load(start + place, mask=inside, other=0.0).to(STATE)
    product = tl.zeros([BD], dtype=STATE) + 1.0
    for tile in range(0, segment, BT):
        position = first + tile + tl.arange(0, BT)
        mask = (position < steps)[:, None] & inside[None, :]
        t = steps - 1 - position if REVERSE else position
        row = (n * steps + t)[:, None] * width
        columns = column[None, :]
        decay, weight, _, _ = _decay_and_weight(x, row * PARTS, columns, mask, width, KIND, STATE)
        if KIND == 0:
            drive = _read(b, row, columns, mask, STATE)
        else:
            v = _read(x, row * PARTS, columns + (PARTS - 1) * width, mask, STATE)
            candidate, _ = _candidate(v)
            drive = weight * candidate
        decay = tl.where(mask, decay, 1.0)
        drive = tl.where(mask, drive, 0.0)
        products, h = tl.associative_scan((decay, drive), 0, _compose)
        h += products * state[None, :]
        state = _last_row(h, BT)
        if SUMMARY:
            product *= _last_row(products, BT)
        else:
            tl.store(out + row + columns, h.to(out.dtype.element_ty), mask=mask)
    if SUMMARY:
        tl.store(out + place, state, mask=inside)
        tl.store(product_out + place, product, mask=inside)


@_jit
def _backward_kernel(  # type: ignore[no-untyped-def]
    x, h, h0, grad_h, start, grad_x, grad_b, grad_h0, product_out, steps, width, segment, segments, blocks,
    KIND: tl.constexpr, PARTS: tl.constexpr, SUMMARY: tl.constexpr,
    STATE: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Scan one segment of δ_t = ḡ_t + a_{t+1} δ_{t+1} from the end, and turn δ into the gradients.

    start: δ behind each segment (B, S, D). SUMMARY: start from zero and write only the segment's last δ to grad_b and
    its product to product_out, both (B, S, D); else write ∂a or ∂pre to grad_x, ∂b to grad_b (plain scan only), and
    ∂h0 (B, D).
    """
    program = tl.program_id(0)
    block = program % blocks
    n_segment = program // blocks
    n = (n_segment // segments).to(tl.int64)
    first = (n_segment % segments) * segment
    column = block * BD + tl.arange(0, BD)
    inside = column < width
    place = n_segment.to(tl.int64) * width + column
    if SUMMARY:
        carry = tl.zeros([BD], dtype=STATE)
    else:
        carry = tl.load(start + place, mask=inside, other=0.0).to(STATE)
    product = tl.zeros([BD], dtype=STATE) + 1.0
    for tile in range(0, segment, BT):
        position = first + tile + tl.arange(0, BT)
        mask = (position < steps)[:, None] & inside[None, :]
        t = steps - 1 - position
        row = (n * steps + t)[:, None] * width
        columns = column[None, :]
        later = mask & (position > 0)[:, None]  # a_{t+1} exists
        next_decay, _, _, _ = _decay_and_weight(x, (row + width) * PARTS, columns, later, width, KIND, STATE)
        next_decay = tl.where(mask, tl.where(later, next_decay, 0.0), 1.0)
        products, delta = tl.associative_scan(
            (next_decay, _read(grad_h, row, columns, mask, STATE)), 0, _compose
        )
        delta += products * carry[None, :]
        carry = _last_row(delta, BT)
        if SUMMARY:
            product *= _last_row(products, BT)
        else:
            begin = mask & (t == 0)[:, None]
            previous = _read(h, row - width, columns, mask & (t > 0)[:, None], STATE)
            previous += _read(h0, n * width + 0 * row, columns, begin, STATE)
            if KIND == 0:
                decay = _read(x, row, columns, begin, STATE)
                tl.store(grad_x + row + columns, (delta * previous).to(grad_x.dtype.element_ty), mask=mask)
                tl.store(grad_b + row + columns, delta.to(grad_b.dtype.element_ty), mask=mask)
            else:
                to = row * PARTS
                decay, weight, not_first, not_second = _decay_and_weight(
                    x, to, columns, mask, width, KIND, STATE
                )
                candidate, slope = _candidate(_read(x, to, columns + (PARTS - 1) * width, mask, STATE))
                if KIND == 1:
                    grad_first = delta * decay * weight * (candidate - previous)
                elif KIND == 2:
                    grad_first = delta * decay * not_first * previous
                    grad_second = delta * weight * not_second * candidate
                else:
                    shared = delta * decay * weight * (previous - candidate)
                    grad_first = shared * not_first
                    grad_second = -shared * not_second
                kind = grad_x.dtype.element_ty
                tl.store(grad_x + to + columns, grad_first.to(kind), mask=mask)
                if KIND > 1:
                    tl.store(grad_x + to + columns + width, grad_second.to(kind), mask=mask)
                grad_v = delta * weight * slope
                tl.store(grad_x + to + columns + (PARTS - 1) * width, grad_v.to(kind), mask=mask)
            tl.store(grad_h0 + n * width + 0 * row + columns, decay * delta, mask=begin)
    if SUMMARY:
        tl.store(grad_b + place, carry, mask=inside)
        tl.store(product_out + place, product, mask=inside)


# --- the engine's functions ---------------------------------------------------------------------------------------


def scan(
    a: Tensor, b: Tensor, h0: Tensor | None, reverse: bool = False, segments: int | None = None
) -> Tensor:
    """Return h (B, T, D) with h_t = a_t h_{t-1} + b_t, or with h_{t+1} in place of h_{t-1} if ``reverse``.

    Args:
        a, b: (B, T, D) on a GPU. h0: (B, D) or None for zeros. segments: into how many T is cut; None to choose.

    Raises:
        ValueError: one line, if the operands are not on a GPU (and the interpreter is off).
    """
    return _scan("scan", a.contiguous(), b.contiguous(), h0, torch.empty_like(b), reverse, segments)


def gated_scan(pre: Tensor, h0: Tensor | None, kind: str, segments: int | None = None) -> Tensor:
    """Return h (B, T, D) of minGRU or minLSTM from fused pre-activations (B, T, 2D) or (B, T, 3D).

    Args:
        pre: k | v for ``kind="min_gru"``, f | i | v for ``"min_lstm"`` and ``"min_lstm_normalised"``.
        h0: (B, D) or None for zeros. segments: as for :func:`scan`.
    """
    batch, steps, width = pre.shape
    out = pre.new_empty(batch, steps, width // PARTS[kind])
    return _scan(kind, pre.contiguous(), pre, h0, out, False, segments)


def scan_backward(
    a: Tensor, h: Tensor, h0: Tensor | None, grad_h: Tensor, segments: int | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return (∂L/∂a, ∂L/∂b, ∂L/∂h0) for :func:`scan` from its saved a, h (B, T, D), h0 and ḡ = ``grad_h``."""
    grad_b = torch.empty_like(h)
    grad_a, grad_h0 = _backward("scan", a.contiguous(), h, h0, grad_h, grad_b, segments)
    return grad_a, grad_b, grad_h0


def gated_scan_backward(
    pre: Tensor, h: Tensor, h0: Tensor | None, grad_h: Tensor, kind: str, segments: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return (∂L/∂pre, ∂L/∂h0) for :func:`gated_scan` from its saved pre, h, h0 and ḡ = ``grad_h``."""
    return _backward(kind, pre.contiguous(), h, h0, grad_h, h, segments)


def _scan(
    kind: str, x: Tensor, b: Tensor, h0: Tensor | None, out: Tensor, reverse: bool, segments: int | None
) -> Tensor:
    plan = _Plan(kind, x, out, segments)
    with torch.cuda.device_of(x):
        start = plan.first_state(h0)
        if plan.segments > 1:
            ends, products = plan.new_states(), plan.new_states()
            _forward_kernel[plan.grid](
                x, b, start, ends, products, *plan.sizes, REVERSE=reverse, SUMMARY=True, **plan.constants
            )
            start = _states_before(ends, products, h0)
        _forward_kernel[plan.grid](
            x, b, start, out, start, *plan.sizes, REVERSE=reverse, SUMMARY=False, **plan.constants
        )
    return out


def _backward(
    kind: str, x: Tensor, h: Tensor, h0: Tensor | None, grad_h: Tensor, grad_b: Tensor, segments: int | None
) -> tuple[Tensor, Tensor | None]:
    plan = _Plan(kind, x, h, segments)
    grad_h = grad_h.contiguous()
    grad_x = torch.empty_like(x)
    with torch.cuda.device_of(x):
        initial = plan.first_state(h0)[:, 0].contiguous()  # (B, D)
        grad_h0 = torch.empty_like(initial)
        start = plan.first_state(None)
        operands = (x, h, initial, grad_h)
        if plan.segments > 1:
            ends, products = plan.new_states(), plan.new_states()
            _backward_kernel[plan.grid](
                *operands, start, grad_x, ends, grad_h0, products, *plan.sizes, SUMMARY=True, **plan.constants
            )
            start = _states_before(ends, products, None)
        _backward_kernel[plan.grid](
            *operands, start, grad_x, grad_b, grad_h0, start, *plan.sizes, SUMMARY=False, **plan.constants
        )
    return grad_x, None if h0 is None else grad_h0


def _states_before(ends: Tensor, products: Tensor, h0: Tensor | None) -> Tensor:
    """The state before each segment (B, S, D): a scan of the segments' summaries, one place later."""
    after = scan(products, ends, h0, segments=1)
    first = torch.zeros_like(after[:, 0]) if h0 is None else h0.to(after.dtype)
    return torch.cat([first.unsqueeze(1), after[:, :-1]], dim=1)


class _Plan:
    """Tile sizes, segments and grid for one scan of h (B, T, D)."""

    def __init__(self, kind: str, x: Tensor, h: Tensor, segments: int | None) -> None:
        if x.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            raise ValueError(f"engine='triton' runs on a GPU, the operands are on {x.device}")
        self.batch, steps, self.width = h.shape
        channels = min(CHANNELS, triton.next_power_of_2(self.width))
        blocks = triton.cdiv(self.width, channels)
        tiles = triton.cdiv(steps, STEPS)
        if segments is None:
            segments = _segments(self.batch * blocks, tiles, x.device)
        per_segment = triton.cdiv(tiles, segments) * STEPS
        self.segments = triton.cdiv(steps, per_segment)
        self.grid = (self.batch * self.segments * blocks,)
        self.sizes = (steps, self.width, per_segment, self.segments, blocks)
        self.dtype = torch.float64 if h.dtype == torch.float64 else torch.float32
        self.device = h.device
        self.constants = {
            "KIND": KINDS[kind],
            "PARTS": PARTS[kind],
            "STATE": tl.float64 if h.dtype == torch.float64 else tl.float32,
            "BT": STEPS,
            "BD": channels,
        }

    def new_states(self) -> Tensor:
        return torch.empty(self.batch, self.segments, self.width, dtype=self.dtype, device=self.device)

    def first_state(self, h0: Tensor | None) -> Tensor:
        """(B, S, D) with h0 before the first segment; only that one is read when there is one segment."""
        state = torch.zeros(self.batch, self.segments, self.width, dtype=self.dtype, device=self.device)
        if h0 is not None:
            state[:, 0] = h0
        return state


def _segments(programs: int, tiles: int, device: torch.device) -> int:
    """Into how many segments T is cut, given the programs there are without cutting and the tiles in T."""
    if device.type != "cuda":
        return 1
    wanted = PROGRAMS_PER_MULTIPROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(triton.cdiv(wanted, programs), tiles // TILES_PER_SEGMENT))
