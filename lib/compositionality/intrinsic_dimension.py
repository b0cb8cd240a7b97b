r"""Nonlinear intrinsic dimension from distances to nearest neighbours: TwoNN, GRIDE, Levina-Bickel.

All estimators read the same table of distances (..., N, k), so that one neighbour pass serves them all, and all work on
batches (layers, data sets) at once. If the density around a point is constant out to its second neighbour, the volumes
of the shells between successive neighbours are independent and exponential; μ = r₂/r₁ then follows a Pareto law whose
exponent is the dimension, P(μ ≤ m) = 1 − m^(−d), whatever the density (Facco et al. 2017). GRIDE (Denti et al. 2022)
reads μ = r₂ₙ/rₙ in the same way, at the scale of the n-th neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.compositionality.nearest_neighbors import check_points, distinct_rows, nearest_neighbors

GRIDE_ORDERS = (1, 2, 4, 8, 16, 32)
"""Orders n of the neighbours whose ratio r₂ₙ/rₙ GRIDE reads."""

LARGEST_DIMENSION = 1000.0
SMALLEST_DIMENSION = 1e-3
_NEWTON_STEPS = 100


def _log_ratio(distances: Tensor, first: int, second: int) -> Tensor:
    """log(r_second / r_first), (..., N); neighbours count from 1.

    Raises:
        ValueError: for too few neighbours, or a nearest neighbour at distance zero.
    """
    if distances.ndim < 2 or distances.shape[-1] < second:
        raise ValueError(
            f"{second} neighbours are needed, got distances of the shape {tuple(distances.shape)}"
        )
    if not (distances[..., first - 1] > 0).all():
        raise ValueError("a neighbour lies at distance zero (or NaN): remove duplicate points first")
    return (distances[..., second - 1] / distances[..., first - 1]).log()


def two_nn(distances: Tensor, fraction: float = 0.9) -> Tensor:
    r"""TwoNN by the line of Facco et al. (2017), the paper's I_d (dadapy's algorithm ``base``).

    x_j = log μ_(j) ascending, y_j = −log(1 − j/N); the smallest n = int(fraction·N) points are kept, and the line goes
    through the origin: I_d = Σ_{j≤n} x_j y_j / Σ_{j≤n} x_j².

    Args:
        distances: (..., N, ≥ 2), ascending in the last axis. fraction: of the ratios that are kept, in (0, 1).

    Returns:
        The dimension, (...).

    Raises:
        ValueError: for a fraction outside (0, 1) or one that keeps no point, or distances that are too few or zero.
    """
    x = _log_ratio(distances, 1, 2).sort(dim=-1).values
    n = x.shape[-1]
    kept = int(fraction * n)
    if not 0 < fraction < 1 or kept < 1:
        raise ValueError(f"fraction={fraction} must lie in (0, 1) and keep at least one of {n} points")
    x = x[..., :kept]
    y = -torch.log1p(-torch.arange(1, kept + 1, dtype=x.dtype, device=x.device) / n)
    return (x * y).sum(-1) / x.square().sum(-1)


def two_nn_ml(distances: Tensor) -> Tensor:
    """TwoNN by maximum likelihood, (N − 1)/Σ log μ over all points: relative standard error 1/√N.

    Args:
        distances: (..., N, ≥ 2). Returns the dimension, (...).

    Raises:
        ValueError: for distances that are too few or zero.
    """
    log_mu = _log_ratio(distances, 1, 2)
    return (log_mu.shape[-1] - 1) / log_mu.sum(-1)


def levina_bickel(distances: Tensor, k: int = 20, aggregation: str = "harmonic") -> Tensor:
    r"""Maximum likelihood of Levina and Bickel (2004) with k neighbours.

    Pointwise m_i = [1/(k−1) Σ_{j<k} log(r_k/r_j)]⁻¹.

    Args:
        distances: (..., N, ≥ k). k: neighbours, at least 2.
        aggregation: ``harmonic``, 1/mean(1/m_i) (MacKay and Ghahramani; scikit-dimension 0.5's default), or ``mean``.

    Returns:
        The dimension, (...).

    Raises:
        ValueError: for an unknown aggregation, k < 2, or distances that are too few or zero.
    """
    if aggregation not in ("harmonic", "mean"):
        raise ValueError(f"aggregation={aggregation!r} is not one of harmonic, mean")
    if k < 2:
        raise ValueError(f"k={k} must be at least 2")
    _log_ratio(distances, 1, k)  # its checks
    logs = distances[..., :k].log()
    inverse = logs[..., -1] - logs[..., :-1].mean(-1)  # 1/m_i
    return 1 / inverse.mean(-1) if aggregation == "harmonic" else (1 / inverse).mean(-1)


def _gride_terms(log_mu: Tensor, n: Tensor, d: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """First and second derivative in d of GRIDE's log-likelihood; log_mu (..., S, N), n and d (..., S)."""
    positive = log_mu > 0
    t = torch.where(positive, d[..., None] * log_mu, 1.0)
    shrink = -torch.expm1(-t)  # 1 − μ^(−d), without cancellation
    inside = (n[..., None] - 1) * torch.where(positive, log_mu / shrink, 0.0) - (
        2 * n[..., None] - 1
    ) * log_mu
    curvature = (n[..., None] - 1) * torch.where(
        positive, log_mu.square() * torch.exp(-t) / shrink.square(), 0.0
    )
    return points / d + inside.sum(-1), -points / d.square() - curvature.sum(-1)


def gride(
    distances: Tensor, orders: tuple[int, ...] = GRIDE_ORDERS, correction: int = 1
) -> tuple[Tensor, Tensor]:
    """GRIDE: the dimension at the scale of the n-th neighbour, for all orders n at once.

    Solves (N − correction)/d + Σ_i log μ_i [(n−1) μ_i^d/(μ_i^d − 1) − (2n−1)] = 0 by Newton's method, with a bracket that any
    step outside falls back to (bisection); the left side falls in d, since the log-likelihood is concave.

    Args:
        distances: (..., N, ≥ 2·max(orders)). orders: the n of r₂ₙ/rₙ, each at least 1.
        correction: 1 removes the bias of the maximum at n = 1, which then is :func:`two_nn_ml`, as in dadapy; 0 is the plain
            maximum of the likelihood.

    Returns:
        The dimension and its standard error by the observed Fisher information, each (..., len(orders)).

    Raises:
        ValueError: for no order or one below 1, or distances that are too few or zero.
    """
    if not orders or min(orders) < 1:
        raise ValueError(f"orders={orders} must hold at least one order, each at least 1")
    log_mu = torch.stack([_log_ratio(distances, n, 2 * n) for n in orders], dim=-2)  # (..., S, N)
    n = torch.tensor(orders, dtype=log_mu.dtype, device=log_mu.device).expand(log_mu.shape[:-1])
    points = log_mu.shape[-1] - correction
    low, high = torch.full_like(n, SMALLEST_DIMENSION), torch.full_like(n, LARGEST_DIMENSION)
    # log μ at order n is about the sum of n exponentials with means 1/(d j), j = n … 2n−1: their sum is a good start
    harmonic = torch.tensor(
        [sum(1 / j for j in range(o, 2 * o)) for o in orders], dtype=n.dtype, device=n.device
    )
    d = (harmonic / log_mu.mean(-1)).clamp(low, high)
    for _ in range(_NEWTON_STEPS):
        slope, curvature = _gride_terms(log_mu, n, d, points)
        low, high = torch.where(slope > 0, d, low), torch.where(slope < 0, d, high)
        step = -slope / curvature
        # the error after a step is about the step's square: one this small is the last, whatever rounding says of its sign
        done = step.abs() <= 1e-9 * d
        inside = (d + step > low) & (d + step < high)
        d = torch.where(done | inside, d + step, (low + high) / 2)
        if bool(done.all()):
            break
    _, curvature = _gride_terms(log_mu, n, d, points)
    return d, (-curvature).rsqrt()


@dataclass(frozen=True)
class Estimates:
    """Every nonlinear estimate of one data set, or of a batch of them, from one neighbour pass.

    Attributes:
        two_nn: the paper's I_d, (...). two_nn_ml, levina_bickel: (...).
        gride, gride_error: dimension and standard error by order, (..., S).
        orders: the S orders that the points allowed. points: distinct points that were used, (...), int64.
    """

    two_nn: Tensor
    two_nn_ml: Tensor
    levina_bickel: Tensor
    gride: Tensor
    gride_error: Tensor
    orders: tuple[int, ...]
    points: Tensor


def _distances(sets: Tensor, k: int) -> list[Tensor]:
    """Distances to the k nearest of the distinct points of every set (B, N, D): together, (B, N, k), or one by one where sets hold duplicates.

    Duplicates show as a nearest neighbour at distance zero, so that sets without any are not searched for them.

    Raises:
        ValueError: for a set of no more than k distinct points.
    """
    if sets.shape[1] > k:
        distances = nearest_neighbors(sets, k).distances
        if (distances[..., 0] > 0).all():
            return [distances]
    rows = [distinct_rows(x) for x in sets]
    fewest = min(map(len, rows))
    if fewest <= k:
        raise ValueError(f"{k} neighbours need more than {k} distinct points, a set has {fewest}")
    return [nearest_neighbors(x[chosen][None], k).distances for x, chosen in zip(sets, rows, strict=True)]


def estimate(
    points: Tensor, orders: tuple[int, ...] = GRIDE_ORDERS, k: int = 20, fraction: float = 0.9
) -> Estimates:
    """All nonlinear estimates of points (..., N, D) from one neighbour pass, after exact duplicates are removed.

    Args:
        points: leading axes are batches. orders: of GRIDE. k: neighbours of Levina-Bickel. fraction: of TwoNN's line.

    Raises:
        ValueError: for points that are not finite, or fewer distinct ones than the largest order and k need.
    """
    points = check_points(points)
    *batch, _, _ = points.shape
    needed = max(2 * max(orders), k, 2)
    results, sizes = [], []
    for distances in _distances(points.reshape(-1, *points.shape[-2:]), needed):
        sizes += len(distances) * [distances.shape[-2]]
        results.append(
            (
                two_nn(distances, fraction),
                two_nn_ml(distances),
                levina_bickel(distances, k),
                *gride(distances, orders),
            )
        )
    base, ml, mle, dimension, error = (torch.cat(parts) for parts in zip(*results, strict=True))
    return Estimates(
        base.reshape(batch),
        ml.reshape(batch),
        mle.reshape(batch),
        dimension.reshape(*batch, len(orders)),
        error.reshape(*batch, len(orders)),
        tuple(orders),
        torch.tensor(sizes).reshape(batch),
    )


def intrinsic_dimension(points: Tensor, fraction: float = 0.9) -> Tensor:
    """The paper's I_d of points (..., N, D): duplicates removed, TwoNN by the line. Two neighbours, nothing else.

    Raises:
        ValueError: for points that are not finite, or fewer than three distinct ones.
    """
    points = check_points(points)
    *batch, _, _ = points.shape
    found = _distances(points.reshape(-1, *points.shape[-2:]), 2)
    return torch.cat([two_nn(distances, fraction) for distances in found]).reshape(batch)
