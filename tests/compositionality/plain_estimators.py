"""The estimators once more, one point at a time, as their papers write them down: slow, and independent of the library."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor


def all_distances(points: np.ndarray) -> np.ndarray:
    """Sorted distances to all other points by direct differences, (N, N − 1)."""
    d = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    d.sort(axis=1)
    return d[:, 1:]


def two_nn_line(distances: np.ndarray, fraction: float = 0.9) -> float:
    """Least squares through the origin by a solver."""
    n = len(distances)
    x = np.sort(np.log(distances[:, 1] / distances[:, 0]))[: int(fraction * n)]
    y = np.array([-math.log(1 - j / n) for j in range(1, len(x) + 1)])
    return float(np.linalg.lstsq(x[:, None], y, rcond=None)[0][0])


def levina_bickel(distances: np.ndarray, k: int) -> list[float]:
    """Pointwise estimates."""
    return [1 / (sum(math.log(r[k - 1] / r[j]) for j in range(k - 1)) / (k - 1)) for r in distances]


def gride_root(distances: np.ndarray, n: int, correction: int = 1) -> float:
    """The zero of the likelihood's derivative by Brent's method."""
    log_mu = np.log(distances[:, 2 * n - 1] / distances[:, n - 1])

    def slope(d: float) -> float:
        share = 1 / (1 - np.exp(-d * log_mu))  # μ^d / (μ^d − 1)
        return float((len(log_mu) - correction) / d + (log_mu * ((n - 1) * share - (2 * n - 1))).sum())

    return float(brentq(slope, 1e-2, 999, xtol=1e-12))


def gride_log_likelihood(log_mu: Tensor, n: int, d: Tensor) -> Tensor:
    r"""Σ_i log f(μ_i | d) of GRIDE (Denti et al. 2022) with n₁ = n, n₂ = 2n.

    f(μ|d) = d (μ^d − 1)^(n−1) / (μ^((2n−1)d+1) B(n, n)).

    Args:
        log_mu: log(r₂ₙ/rₙ) > 0, (N,). n: order. d: dimensions at which to evaluate, (M,).
    """
    t = d[:, None] * log_mu
    log_beta = 2 * math.lgamma(n) - math.lgamma(2 * n)
    terms = d.log()[:, None] - log_beta - ((2 * n - 1) * d[:, None] + 1) * log_mu
    if n > 1:  # log(μ^d − 1) = t + log(1 − e^(−t))
        terms = terms + (n - 1) * (t + torch.log(-torch.expm1(-t)))
    return terms.sum(-1)
