"""Linear dimension: how many principal components hold 99 % of the variance, and the participation ratio.

Eigenvalues come from the smaller of XᵀX and XXᵀ, not from a singular value decomposition: no vectors are needed. The
participation ratio needs no eigenvalue at all, tr(C)²/‖C‖².
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib.compositionality.nearest_neighbors import check_points

_ROWS, _COLUMNS = 512, 64
"""Points and coordinates that are multiplied at a time on a CPU: few enough to stay in its cache."""


def _gram(points: Tensor) -> Tensor:
    """The smaller of the two Gram matrices of the centred points, float64, (..., min(N, D), min(N, D))."""
    points = check_points(points, at_least=2)
    mean = points.mean(dim=-2, keepdim=True)
    if points.shape[-1] > points.shape[-2]:
        centred = points - mean
        return centred @ centred.mT
    if points.device.type != "cpu":
        centred = points - mean
        return centred.mT @ centred
    gram = points.new_zeros(*points.shape[:-2], points.shape[-1], points.shape[-1])
    for x, own, total in zip(*(t.reshape(-1, *t.shape[-2:]) for t in (points, mean, gram)), strict=True):
        for rows in x.split(_ROWS):
            centred = rows - own
            for first in range(
                0, len(total), _COLUMNS
            ):  # every pair of columns once, but for those of one block
                block = centred[:, first : first + _COLUMNS]
                total[first : first + _COLUMNS, first:].addmm_(block.T, centred[:, first:])
    return gram.triu() + gram.triu(1).mT


def spectrum(points: Tensor) -> Tensor:
    """Eigenvalues of the covariance of points (..., N, D), descending, (..., min(N, D)); negative rounding is cut to 0.

    Raises:
        ValueError: for fewer than two points or coordinates that are not finite.
    """
    gram = _gram(points)
    return torch.linalg.eigvalsh(gram).flip(-1).clamp(min=0) / (points.shape[-2] - 1)


def pca_dimension(points: Tensor, variance: float = 0.99, count: str = "textbook") -> Tensor:
    """Number of principal components that hold a share of the variance. Limited by min(N − 1, D): never compare across N.

    Args:
        points: (..., N, D). variance: the share, in (0, 1).
        count: ``textbook``, the smallest j whose cumulative share is at least ``variance``; ``official``, the components
            whose cumulative share is strictly below it, which is one less (the released code).

    Returns:
        int64, (...).

    Raises:
        ValueError: for an unknown count, a share outside (0, 1), points without any variance, or bad points.
    """
    return dimension_of_spectrum(spectrum(points), variance, count)


def dimension_of_spectrum(eigenvalues: Tensor, variance: float = 0.99, count: str = "textbook") -> Tensor:
    """:func:`pca_dimension` from descending eigenvalues (..., M)."""
    if count not in ("textbook", "official"):
        raise ValueError(f"count={count!r} is not one of textbook, official")
    if not 0 < variance < 1:
        raise ValueError(f"variance={variance} must lie in (0, 1)")
    total = eigenvalues.sum(-1, keepdim=True)
    if not (total > 0).all():
        raise ValueError("points without any variance have no linear dimension")
    below = ((eigenvalues.cumsum(-1) / total) < variance).sum(-1)
    return below if count == "official" else below + 1


def participation_ratio(points: Tensor) -> Tensor:
    """(Σ λ)² / Σ λ² of the covariance's eigenvalues, (...): the number of equal variances that would spread as much.

    Raises:
        ValueError: for points without any variance, or bad points.
    """
    gram = _gram(points)
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    if not (trace > 0).all():
        raise ValueError("points without any variance have no linear dimension")
    return trace.square() / gram.square().sum((-2, -1))
