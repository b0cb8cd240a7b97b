"""Point clouds on which this collection and its peers are compared, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch


def gaussian() -> torch.Tensor:
    """Twelve dimensions embedded linearly in 64, N = 1500."""
    rng = np.random.Generator(np.random.PCG64(1))
    return torch.as_tensor(rng.standard_normal((1500, 12)) @ rng.standard_normal((12, 64)))


def curved() -> torch.Tensor:
    """A noisy four-dimensional surface of squares and products in 30 dimensions, N = 1000."""
    rng = np.random.Generator(np.random.PCG64(2))
    u = rng.standard_normal((1000, 4))
    products = (u[:, :, None] * u[:, None]).reshape(1000, 16)
    features = np.concatenate([u, products], axis=1)
    return torch.as_tensor(features @ rng.standard_normal((20, 30)) + 0.01 * rng.standard_normal((1000, 30)))


def spiked() -> torch.Tensor:
    """A cloud with one coordinate ten thousand times as large as the others, N = 800."""
    rng = np.random.Generator(np.random.PCG64(3))
    points = rng.standard_normal((800, 40))
    points[:, 7] *= 1e4
    return torch.as_tensor(points)


CLOUDS: dict[str, Callable[[], torch.Tensor]] = {"gaussian": gaussian, "curved": curved, "spiked": spiked}
