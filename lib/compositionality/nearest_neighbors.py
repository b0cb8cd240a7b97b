"""Distances to the nearest neighbours of every point, in one blocked pass that is fast and provably right.

The trick. Squared distances of all pairs are a matrix product, ‖x‖² + ‖y‖² − 2 x·y, which is fast but cancels: in
float32 a few coordinates of huge size (trained language models have them) drown the small differences that nearest
neighbours live on. So the product, on centred points, only *proposes* a few more candidates than are asked for. Their
distances are then computed afresh in float64 from differences of coordinates, and a bound on the product's rounding
error certifies, point by point, that no neighbour can have been left out. Points without the certificate go through a
float64 product, and what is left after that through float64 differences with all points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SPARE_CANDIDATES = 6
"""Candidates that the product proposes beyond the neighbours asked for."""

_CPU_BLOCK = 2**22
_GPU_BLOCK = 2**28


@dataclass(frozen=True)
class Neighbors:
    """The ``k`` nearest other points of every point.

    Attributes:
        distances: Euclidean, ascending, float64, (..., N, k).
        indices: of those points, int64, (..., N, k).
        uncertified: points of all batches whose float32 candidates were not provably enough.
    """

    distances: Tensor
    indices: Tensor
    uncertified: int


def check_points(points: Tensor, at_least: int = 3) -> Tensor:
    """Return ``points`` (..., N, D) as float64.

    Raises:
        ValueError: for fewer than two axes, fewer than ``at_least`` points, no coordinate, or a value that is not finite.
    """
    if points.ndim < 2:
        raise ValueError(f"points need the axes (..., N, D), got the shape {tuple(points.shape)}")
    if points.shape[-2] < at_least or points.shape[-1] < 1 or points.numel() == 0:
        raise ValueError(
            f"at least {at_least} points with a coordinate are needed, got the shape {tuple(points.shape)}"
        )
    points = points.double()
    if not torch.isfinite(points).all():
        raise ValueError("points hold a NaN or an infinite coordinate")
    return points


def nearest_neighbors(points: Tensor, k: int, block: int | None = None) -> Neighbors:
    """Find the ``k`` nearest other points of every point, exactly to float64 rounding.

    Args:
        points: (..., N, D), any floating type, on any device; leading axes are batches (layers, data sets).
        k: neighbours per point, 1 ≤ k < N.
        block: entries of the distance matrix held at a time; by default what fits the device's caches.

    Raises:
        ValueError: for points that :func:`check_points` refuses, or ``k`` out of range.
    """
    points = check_points(points, at_least=2)
    *batch, n, dim = points.shape
    if not 1 <= k < n:
        raise ValueError(f"k={k} must lie between 1 and N − 1 = {n - 1}")
    centred = (points - points.mean(dim=-2, keepdim=True)).reshape(-1, n, dim).contiguous()
    if block is None:
        block = _CPU_BLOCK if centred.device.type == "cpu" else _GPU_BLOCK
    distances = centred.new_empty(len(centred), n, k)
    indices = torch.empty(len(centred), n, k, dtype=torch.long, device=centred.device)
    uncertified = 0
    for x, d, i in zip(centred, distances, indices, strict=True):
        uncertified += _fill(x, d, i, k, block)
    return Neighbors(distances.reshape(*batch, n, k), indices.reshape(*batch, n, k), uncertified)


def _fill(x: Tensor, distances: Tensor, indices: Tensor, k: int, block: int) -> int:
    """Write the neighbours of one set x (N, D); return how many points float32 could not certify."""
    n = len(x)
    rows = max(1, block // n)
    candidates = min(k + SPARE_CANDIDATES, n - 1)
    pending = torch.arange(n, device=x.device)
    uncertified = 0
    for dtype in (torch.float32, torch.float64):
        low = x.to(dtype)
        norms = low.square().sum(dim=-1)
        left = []
        for chosen in pending.split(rows):
            certain, d, i = _candidates(x, low, norms, chosen, k, candidates)
            distances[chosen], indices[chosen] = d, i
            left.append(chosen[~certain])
        pending = torch.cat(left)
        uncertified = uncertified or len(pending)
        if not len(pending):
            return uncertified
    for chosen in pending.split(rows):
        d = torch.cdist(x[chosen], x, compute_mode="donot_use_mm_for_euclid_dist")
        d[torch.arange(len(chosen), device=x.device), chosen] = torch.inf
        distances[chosen], indices[chosen] = d.topk(k, dim=-1, largest=False)
    return uncertified


def _candidates(
    x: Tensor, low: Tensor, norms: Tensor, chosen: Tensor, k: int, m: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbours of the points ``chosen`` (B,) by the product in the precision of ``low``, and whether they are certain (B,).

    The product's squared distance errs by at most (D + 8) u (‖x‖² + ‖y‖²), u the unit roundoff: D from the inner product
    (2|x·y| ≤ ‖x‖² + ‖y‖²), the rest from rounding the coordinates, the norms and the sums. A point outside the m
    candidates is at least as far as the last of them by the product; if that, less the error, is no nearer than the
    k-th candidate really is, none was left out.
    """
    inner_product = _product(low[chosen], low)  # (B, N)
    approximate = torch.addcmul(
        norms, inner_product, inner_product.new_tensor(-2.0)
    )  # less ‖x‖², the same in a row
    approximate[torch.arange(len(chosen), device=x.device), chosen] = torch.inf
    nearest, index = approximate.topk(m, dim=-1, largest=False)  # (B, m)
    exact = _squared_distances(x, chosen, index)
    exact, order = exact.sort(dim=-1)
    index = index.gather(-1, order)[:, :k]
    if m == len(x) - 1:
        certain = torch.ones(len(chosen), dtype=torch.bool, device=x.device)
    else:
        roundoff = torch.finfo(low.dtype).eps / 2
        own = norms[chosen].double()
        error = (x.shape[-1] + 8) * roundoff * (own + norms.max().double())
        certain = nearest[:, -1].double() + own - error >= exact[:, k - 1]
    return certain, exact[:, :k].sqrt(), index


def _product(queries: Tensor, points: Tensor) -> Tensor:
    """queries @ pointsᵀ without TF32, whatever the caller's setting."""
    if not queries.is_cuda:
        return queries @ points.T
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return queries @ points.T
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed


def _squared_distances(x: Tensor, chosen: Tensor, index: Tensor) -> Tensor:
    """Σ (x_i − x_j)² for i in ``chosen`` (B,) and its candidates j (B, m), in float64."""
    if x.device.type == "cpu":
        from lib.compositionality.squared_distances import squared_distances

        out = x.new_empty(index.shape)
        squared_distances(x.numpy(), chosen.numpy(), index.numpy(), out.numpy())
        return out
    parts = [
        (x[near] - x[point][:, None]).square().sum(dim=-1)
        for point, near in zip(chosen.split(1024), index.split(1024), strict=True)
    ]
    return torch.cat(parts)


def distinct_rows(points: Tensor) -> Tensor:
    """Indices, ascending, of the first of every group of exactly equal rows of points (N, D).

    TwoNN divides by the distance to the nearest point, so a data set must hold every point once.
    """
    values = points.double() + 0.0  # −0 becomes 0
    bits = values.contiguous().view(torch.int64)
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(2**62, (bits.shape[-1],), generator=generator) * 2 + 1
    fingerprint = (bits * odd.to(bits.device)).sum(
        dim=-1
    )  # equal rows agree; sums of integers wrap around alike
    if len(torch.unique(fingerprint)) == len(values):
        return torch.arange(len(values), device=points.device)
    _, group = torch.unique(values, dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(values), device=points.device)
    first.scatter_reduce_(0, group, torch.arange(len(values), device=points.device), "amin")
    return first.sort().values
