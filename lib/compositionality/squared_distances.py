"""The inner loops of the neighbour pass on a CPU: candidates from tiles of a product, and their exact distances."""

from __future__ import annotations

import numpy as np

from lib.compilation import njit

_CHUNK = 16


@njit()
def _keep_smallest(keys: np.ndarray, count: int, kept: int) -> None:
    """Move the ``kept`` smallest of keys[:count] to its front, in no order (quickselect)."""
    low, high = 0, count - 1
    while low < high:
        pivot = keys[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while keys[left] < pivot:
                left += 1
            while keys[right] > pivot:
                right -= 1
            if left <= right:
                keys[left], keys[right] = keys[right], keys[left]
                left += 1
                right -= 1
        if kept - 1 <= right:
            high = right
        elif kept - 1 >= left:
            low = left
        else:
            return


@njit()
def _put(
    keys: np.ndarray, counts: np.ndarray, limits: np.ndarray, m: int, i: int, bits: int, other: int
) -> None:
    """Put point ``other`` at the distance ``bits`` into the reservoir of point i."""
    keys[i, counts[i]] = (
        max(np.int64(bits), np.int64(0)) << 32  # type: ignore[operator]
    ) | other  # a negative number is rounding: zero
    counts[i] += 1
    if counts[i] == keys.shape[1]:
        _keep_smallest(keys[i], counts[i], m)
        counts[i] = m
        limits[i] = keys[i, :m].max() >> 32


@njit(fastmath={"reassoc", "contract"})
def collect(
    product: np.ndarray,
    norms: np.ndarray,
    first_row: int,
    first_column: int,
    m: int,
    keys: np.ndarray,
    counts: np.ndarray,
    limits: np.ndarray,
) -> None:
    """Read one tile of the product once, for the neighbours of its rows and of its columns.

    Every point has a reservoir of keys, a squared distance's bits in the upper half and the other point in the lower one.
    What is nearer than the point's limit goes in; a full reservoir keeps its ``m`` smallest and lowers the limit to the
    last of them. So whatever was left out is at least as far as the limit.

    Args:
        product: x_i · x_j, float32, (R, C), for the points i from ``first_row`` and j from ``first_column``; where the two are
            equal, only pairs i < j are read. norms: ‖x‖², float32, (N,).
        keys: int64, (N, > m), counts: int64, (N,), limits: float32, (N,), at first empty and with a limit that
            at least m others are within: the reservoirs.
    """
    values = np.empty(_CHUNK, np.float32)
    bits, limit_bits = values.view(np.int32), limits.view(np.int32)
    for a in range(product.shape[0]):
        i = first_row + a
        for begin in range(a + 1 if first_row == first_column else 0, product.shape[1], _CHUNK):
            row = product[a, begin : begin + _CHUNK]
            first = first_column + begin
            others, their_limits = norms[first : first + len(row)], limits[first : first + len(row)]
            own, limit = norms[i], limits[i]
            near = np.int32(0)
            for c in range(len(row)):  # without a branch, so that the compiler makes it a vector loop
                value = (own + others[c]) - np.float32(2) * row[c]
                values[c] = value
                near += np.int32(value < limit) | np.int32(value < their_limits[c])
            if near == 0:
                continue
            for c in range(len(row)):
                j = first + c
                if values[c] < limits[i]:
                    _put(keys, counts, limit_bits, m, i, bits[c], j)
                if values[c] < limits[j]:
                    _put(keys, counts, limit_bits, m, j, bits[c], i)


@njit()
def finish(keys: np.ndarray, counts: np.ndarray, m: int, candidates: np.ndarray, limits: np.ndarray) -> None:
    """Empty the reservoirs of :func:`collect`.

    Args:
        candidates: written, int64, (N, m). limits: written, what was left out is at least as far; −inf, and no use of the
            candidates, where fewer than m were found (the first limit was too near).
    """
    limit_bits = limits.view(np.int32)
    for i in range(len(keys)):
        if counts[i] < m:
            candidates[i] = (i + 1) % len(keys)
            limits[i] = -np.inf
            continue
        _keep_smallest(keys[i], counts[i], m)
        limit_bits[i] = keys[i, :m].max() >> 32
        for c in range(m):
            candidates[i, c] = keys[i, c] & 0xFFFFFFFF


@njit(fastmath={"reassoc", "contract"})
def squared_distances(x: np.ndarray, rows: np.ndarray, candidates: np.ndarray, out: np.ndarray) -> None:
    """Write out[b, c] = Σ_d (x[rows[b], d] − x[candidates[b, c], d])².

    Args:
        x: points, float64, (N, D), rows contiguous. rows: int64, (B,). candidates: int64, (B, m). out: float64, (B, m).
    """
    for b in range(candidates.shape[0]):
        point = x[rows[b]]
        for c in range(candidates.shape[1]):
            other = x[candidates[b, c]]
            total = 0.0
            for d in range(x.shape[1]):
                difference = point[d] - other[d]
                total += difference * difference
            out[b, c] = total
