"""The inner loop of the neighbour pass on a CPU: exact squared distances to given candidates, without copying them."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, fastmath={"reassoc", "contract"}, nogil=True)
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
