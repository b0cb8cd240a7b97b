"""Distances to the nearest neighbours of every point, in one blocked pass that is fast and provably right.

The trick. Squared distances of all pairs are a matrix product, ‖x‖² + ‖y‖² − 2 x·y, which is fast but cancels: in
float32 a few coordinates of huge size (trained language models have them) drown the small differences that nearest
neighbours live on. So the product, on centred points, only *proposes* a few more candidates than are asked for. Their
distances are then computed afresh in float64 from differences of coordinates, and a bound on the product's rounding
error certifies, point by point, that no neighbour can have been left out. Points without the certificate go through a
float64 product, and what is left after that through float64 differences with all points.

On a CPU the float32 product is computed in tiles, each pair of points once, and a tile is read once for the neighbours of
its rows and of its columns while it is in the cache. On a GPU, which has multiplications to spare, whole rows are selected
from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SPARE_CANDIDATES = 6
"""Candidates that the product proposes beyond the neighbours asked for."""

_CPU_BLOCK = 2**22
_GPU_BLOCK = 2**28
_TILE = 256
_SAMPLE = 1000
_MANY = 32


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
    # one pass in the usual case: whatever is not finite makes the sum so, too
    if not torch.isfinite(points.sum()) and not torch.isfinite(points).all():
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
    if block is None:
        block = _CPU_BLOCK if points.device.type == "cpu" else _GPU_BLOCK
    sets = points.reshape(-1, n, dim)
    distances = sets.new_empty(len(sets), n, k)
    indices = torch.empty(len(sets), n, k, dtype=torch.long, device=sets.device)
    uncertified = 0
    for x, d, i in zip(sets, distances, indices, strict=True):
        x = (x - x.mean(dim=0)).contiguous()
        # a power of two, which is exact: squares then neither overflow nor vanish, in float32 either
        scale = 2.0 ** -int(torch.frexp(x.abs().amax()).exponent)
        uncertified += _fill(x.mul_(scale), d, i, k, block)
        d /= scale
    return Neighbors(distances.reshape(*batch, n, k), indices.reshape(*batch, n, k), uncertified)


def _fill(x: Tensor, distances: Tensor, indices: Tensor, k: int, block: int) -> int:
    """Write the neighbours of one set x (N, D); return how many points float32 could not certify."""
    n = len(x)
    rows = max(1, block // n)
    m = min(k + SPARE_CANDIDATES, n - 1)
    norms = x.square().sum(dim=-1)
    pending = torch.arange(n, device=x.device)
    uncertified = 0
    for dtype in (torch.float32, torch.float64):
        low = x.to(dtype)
        own = norms.to(dtype)
        if x.device.type == "cpu" and dtype == torch.float32:
            blocks = [(pending, *_symmetric_candidates(low, own, m, block))]
        else:
            blocks = [(chosen, *_row_candidates(low, own, chosen, m)) for chosen in pending.split(rows)]
        left = []
        for chosen, index, bound in blocks:
            exact, index = _nearest_of(x, chosen, index, k)
            if m < n - 1:
                left.append(chosen[~_certain(exact[:, -1], bound, norms, chosen, x.shape[1], dtype)])
            distances[chosen], indices[chosen] = exact.sqrt(), index
        pending = torch.cat(left) if left else pending[:0]
        uncertified = uncertified or len(pending)
        if not len(pending):
            return uncertified
    for chosen in pending.split(rows):
        d = torch.cdist(x[chosen], x, compute_mode="donot_use_mm_for_euclid_dist")
        d[torch.arange(len(chosen), device=x.device), chosen] = torch.inf
        distances[chosen], indices[chosen] = d.topk(k, dim=-1, largest=False)
    return uncertified


def _certain(
    furthest: Tensor, bound: Tensor, norms: Tensor, chosen: Tensor, dim: int, dtype: torch.dtype
) -> Tensor:
    """Whether the candidates of the points ``chosen`` (B,) are provably enough, (B,).

    The product's squared distance errs by at most (D + 8) u (‖x‖² + ‖y‖²), u the unit roundoff: D from the inner product
    (2|x·y| ≤ ‖x‖² + ‖y‖²), the rest from rounding the coordinates, the norms and the sums. A point that is no candidate is
    at least ``bound`` (B,) away by the product; if that, less the error, is no nearer than the k-th neighbour among the
    candidates, ``furthest`` (B,), really is, none was left out.
    """
    error = (dim + 8) * torch.finfo(dtype).eps / 2 * (norms[chosen] + norms.max())
    return bound.double() - error >= furthest


def _symmetric_candidates(low: Tensor, norms: Tensor, m: int, block: int) -> tuple[Tensor, Tensor]:
    """Of every point the m others that are nearest by the product, (N, m), and how far at least the rest is by it, (N,)."""
    from lib.compositionality.squared_distances import collect, finish

    n = len(low)
    tile = min(_TILE, max(1, math.isqrt(block)))
    keys, counts = np.empty((n, 2 * m), dtype=np.int64), np.zeros(n, dtype=np.int64)
    limits = _first_limits(low, norms, m)
    product = low.new_empty(tile * tile)
    parts = low.split(tile)
    for i, queries in enumerate(parts):
        for j, others in enumerate(parts[i:], start=i):
            here = product[: len(queries) * len(others)].view(len(queries), len(others))
            torch.mm(queries, others.T, out=here)
            collect(here.numpy(), norms.numpy(), i * tile, j * tile, m, keys, counts, limits)
    candidates = np.empty((n, m), dtype=np.int64)
    finish(keys, counts, m, candidates, limits)
    return torch.as_tensor(candidates), torch.as_tensor(limits)


def _first_limits(low: Tensor, norms: Tensor, m: int) -> np.ndarray:
    """For every point a distance, by the product, within which m others are expected and some more, float32, (N,).

    Where many neighbours are asked for, most of the work would be to collect points and to discard them for nearer ones. A
    regular sample of s points tells beforehand how far the m-th of N may lie: about as far as the (m s / N)-th of the sample; the rank r
    that is taken leaves three standard deviations, r − 3 √r = m s / N. A point for which this is too near is left uncertified.
    """
    n = len(low)
    stride = max(4, n // _SAMPLE)
    sample = torch.arange(0, n, stride)
    expected = m * len(sample) / n
    rank = math.ceil(((3 + math.sqrt(9 + 4 * expected)) / 2) ** 2)
    limits = np.full(n, np.inf, dtype=np.float32)
    if m < _MANY or rank >= len(sample):
        return limits
    chosen, their_norms = low[sample].T.contiguous(), norms[sample]
    for start in range(0, n, _TILE):
        distances = torch.addmm(their_norms, low[start : start + _TILE], chosen, alpha=-2).numpy()
        distances.partition(rank, axis=1)
        limits[start : start + _TILE] = distances[:, rank] + norms[start : start + _TILE].numpy()
    return limits


def _row_candidates(low: Tensor, norms: Tensor, chosen: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """The same for the points ``chosen`` (B,), from whole rows of the product: (B, m) and (B,)."""
    inner_product = _product(low[chosen], low)  # (B, N)
    # less ‖x‖², the same in a row
    approximate = torch.addcmul(norms, inner_product, inner_product.new_tensor(-2.0))
    approximate[torch.arange(len(chosen), device=low.device), chosen] = torch.inf
    nearest, index = approximate.topk(m, dim=-1, largest=False)
    return index, nearest[:, -1].double() + norms[chosen].double()


def _nearest_of(x: Tensor, chosen: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Exact squared distances of the points ``chosen`` (B,) to the k nearest of their candidates, ascending, and these, (B, k)."""
    exact = _squared_distances(x, chosen, index)
    if x.device.type == "cpu":  # NumPy sorts short rows many times faster
        order = torch.as_tensor(np.argsort(exact.numpy(), axis=1)[:, :k].copy())
    else:
        order = exact.argsort(dim=-1)[:, :k]
    return exact.gather(-1, order), index.gather(-1, order)


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
