"""The mixture of 25 Gaussians: modes on a 5 × 5 lattice in the plane, far from the origin and from one another."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianMixture:
    """Equal weights, modes {−10, −5, 0, 5, 10}², covariance 0.3 I; the density is normalised, so log Z = 0.

    The density is a product of one mixture of five per axis, so a log-sum-exp over five terms per coordinate is enough.
    """

    variance: float = 0.3
    name: str = "25 Gaussians"
    dim: int = 2
    log_z: float = 0.0
    n_modes: int = 25

    @staticmethod
    def centres(device: torch.device | str = "cpu") -> Tensor:
        """Coordinates of the modes along one axis, (5,)."""
        return torch.tensor([-10.0, -5.0, 0.0, 5.0, 10.0], device=device)

    def log_reward(self, x: Tensor) -> Tensor:
        """log R(x), x (..., 2) → (...).

        Raises:
            ValueError: for points of another dimension.
        """
        if x.shape[-1] != self.dim:
            raise ValueError(f"points of {self.dim} coordinates are needed, got {x.shape[-1]}")
        exponents = -(x.unsqueeze(-1) - self.centres(x.device)).square() / (2 * self.variance)  # (..., 2, 5)
        per_axis = torch.logsumexp(exponents, -1) - math.log(5) - 0.5 * math.log(2 * math.pi * self.variance)
        return per_axis.sum(-1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact samples, (n, 2), in random order, with as many from each mode as from any other (±1).

        Every sample has the target's law; the equal numbers take the noise of the modes' counts out of what is averaged over them.
        """
        device = generator.device
        mode = torch.randperm(n, generator=generator, device=device) % self.n_modes
        noise = torch.randn(n, self.dim, generator=generator, device=device)
        places = torch.stack([mode // 5, mode % 5], 1)
        return self.centres(device)[places] + math.sqrt(self.variance) * noise

    def modes_covered(self, x: Tensor, at_least: int = 10, radius: float = 3.0) -> Tensor:
        """Modes with ``at_least`` samples within ``radius`` standard deviations, x (..., n, 2) → (...)."""
        axis = self.centres(x.device)
        nearest = (x.unsqueeze(-1) - axis).abs().argmin(-1)  # (..., n, 2)
        close = (x - axis[nearest]).norm(dim=-1) <= radius * math.sqrt(self.variance)
        mode = nearest[..., 0] * 5 + nearest[..., 1]
        counts = torch.zeros(*x.shape[:-2], self.n_modes, device=x.device)
        counts.scatter_add_(-1, mode, close.to(counts.dtype))
        return (counts >= at_least).sum(-1)
