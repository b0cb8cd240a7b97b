"""Manywell: independent pairs, each a double well in one coordinate and a Gaussian in the other, so 2^(d/2) modes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

# The density of the double well is below 1e-90 of its peak outside ±6, so a fine grid there is the whole line.
_GRID = np.linspace(-6.0, 6.0, 24_001)


def _double_well(a: np.ndarray) -> np.ndarray:
    return -(a**4) + 6 * a**2 + 0.5 * a


@cache
def _double_well_table() -> tuple[float, np.ndarray]:
    """The integral of exp(−a⁴ + 6a² + a/2), and its cumulative distribution on the grid (trapezoids)."""
    density = np.exp(_double_well(_GRID))
    steps = 0.5 * (density[1:] + density[:-1]) * np.diff(_GRID)
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    return float(cumulative[-1]), cumulative / cumulative[-1]


@dataclass(frozen=True)
class Manywell:
    """log R(x) = Σ over pairs (a, b) of −a⁴ + 6a² + a/2 − b²/2; coordinates 0, 2, … are the a.

    Args:
        dim: d, even; 32 in the paper.

    Raises:
        ValueError: for a dimension that is odd or below 2.
    """

    dim: int = 32

    def __post_init__(self) -> None:
        if self.dim < 2 or self.dim % 2:
            raise ValueError(f"Manywell needs an even dimension of at least 2, got {self.dim}")

    @property
    def name(self) -> str:
        return f"Manywell-{self.dim}"

    @property
    def n_modes(self) -> int:
        """Two wells in each pair."""
        return 2 ** (self.dim // 2)

    @property
    def log_z(self) -> float:
        """log of the integral of R, by quadrature of one double well (164.69567532 for d = 32)."""
        return self.dim // 2 * (math.log(_double_well_table()[0]) + 0.5 * math.log(2 * math.pi))

    def log_reward(self, x: Tensor) -> Tensor:
        """log R(x), x (..., d) → (...).

        Raises:
            ValueError: for points of another dimension.
        """
        if x.shape[-1] != self.dim:
            raise ValueError(f"points of {self.dim} coordinates are needed, got {x.shape[-1]}")
        square, b = x[..., ::2].square(), x[..., 1::2]
        return (square * (6 - square) + 0.5 * x[..., ::2] - 0.5 * b.square()).sum(-1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact samples, (n, d), by inversion of the well's distribution on a fine grid."""
        device = generator.device
        uniform = torch.rand(n, self.dim // 2, generator=generator, device=device, dtype=torch.float64)
        a = np.interp(uniform.cpu().numpy(), _double_well_table()[1], _GRID)
        x = torch.randn(n, self.dim, generator=generator, device=device)
        x[:, ::2] = torch.from_numpy(a).to(x)
        return x

    def modes_covered(self, x: Tensor) -> Tensor:
        """Wells that hold at least a twentieth of the samples, summed over pairs: at most d, x (..., n, d) → (...).

        The modes themselves, 2^(d/2) sign patterns, are too many to be counted on samples.
        """
        right = (x[..., ::2] > 0).double().mean(-2)
        return ((right >= 0.05).int() + (right <= 0.95).int()).sum(-1)
