"""What the paper hides or gets wrong about its grids, computed exactly (findings F1 to F4)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from lib.adaptive_teachers.deceptive_grid import BackwardForm, DeceptiveGrid
from lib.adaptive_teachers.exact_law import l1_floor, total_variation


def mode_counts(sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """F1: maximum-reward cells when 0.6 and 0.8 are compared in float64 (official) and in integers (exact), by (d, H)."""
    rows = []
    for dim, side in sizes:
        official, exact = DeceptiveGrid(dim, side, "official"), DeceptiveGrid(dim, side, "exact")
        rows.append(
            {
                "d": dim,
                "H": side,
                "terminal states": len(official.terminals),
                "modes, official": official.n_modes,
                "modes, exact": exact.n_modes,
                "mass of the modes": round(float(official.target[official.is_mode].sum()), 4),
                "log Z": round(official.log_z, 4),
            }
        )
    return rows


def backward_sum(dim: int, side: int, coordinates: tuple[int, ...], pb: BackwardForm) -> float:
    """F2: Σ P_B(τ | x) over ALL trajectories from 0 to x, by enumeration of every path; 1 if the policy is normalised."""
    grid = DeceptiveGrid(dim, side, pb=pb)

    @cache
    def down(state: tuple[int, ...]) -> float:
        if sum(state) == 0:
            return 1.0
        total = 0.0
        for i in range(dim):
            parent = tuple(c - (j == i) for j, c in enumerate(state))
            if parent[i] >= 0 and max(parent) < side - 1:
                index = sum(c * int(s) for c, s in zip(state, grid.strides, strict=False))
                total += float(grid.log_pb[index].exp()) * down(parent)
        return total

    return down(coordinates)


def border_bias(sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """F2: exact total variation between the target and the optimum of the official loss, and its log Z, by (d, H)."""
    rows = []
    for dim, side in sizes:
        valid, official = DeceptiveGrid(dim, side), DeceptiveGrid(dim, side, pb="official")
        tv = float(total_variation(official.optimal_law(), valid.target))
        rows.append(
            {"d": dim, "H": side, "tv": tv, "log_z": valid.log_z, "official_log_z": official.optimal_log_z()}
        )
    return rows


def noise_floors(sizes: Sequence[tuple[int, int]], samples: int, seed: int) -> list[dict[str, Any]]:
    """F3: the L1 of a perfect sampler with ``samples`` draws, by (d, H)."""
    rng = np.random.default_rng(seed)
    return [{"d": d, "H": h, "floor": l1_floor(DeceptiveGrid(d, h), samples, rng)} for d, h in sizes]
