"""Calibration: of the edges reported at probability p, is a share p there?

Data are drawn from the very prior behind the BGe score, so that without standardising the answer must be yes: a test of score
and dynamic programme together. Standardising, as the paper does, throws away the scales that this prior speaks of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.kept_results import Array
from lib.smbh.bge_score import log_scores, prior_scale, standardise
from lib.smbh.dag_posterior import dag_posterior
from lib.smbh.dag_sampling import sample_dags
from lib.smbh.data_matrix import DataMatrixError
from lib.smbh.sensitivity import adjacency_of


@dataclass(frozen=True)
class Simulated:
    """Data sets (S, N, n) and the graphs (S, n, n) bool that made them."""

    values: np.ndarray
    truth: np.ndarray


def flat_scores(n: int) -> np.ndarray:
    """Score table (n, 2**n) under which all graphs are alike: 0, and -inf where the mask contains the child."""
    masks = np.arange(2**n)
    return np.where(masks[None, :] >> np.arange(n)[:, None] & 1, -np.inf, 0.0)


def simulate_from_prior(
    n: int,
    rows: int,
    datasets: int,
    rng: np.random.Generator,
    alpha_mu: float = 1.0,
    alpha_w: float | None = None,
) -> Simulated:
    """Draw graphs uniformly and data from the prior of the BGe score.

    For every node on its own: W ~ Wishart(alpha_w, I / t), Sigma = inverse of W; the node's regression on its parents from
    Sigma (coefficients b, residual variance v); intercept ~ N(0, v / alpha_mu). Then rows of Gaussian data.

    Args:
        n: variables. rows: per data set. datasets: number. rng: of everything drawn.
        alpha_mu, alpha_w: as in the score; ``alpha_w=None`` is n + 2.
    """
    alpha_w = n + 2.0 if alpha_w is None else alpha_w
    truth = adjacency_of(sample_dags(flat_scores(n), datasets, rng))
    t = prior_scale(n, alpha_mu, alpha_w)
    coefficients = np.zeros((datasets, n, n))  # [s, i, j] of i in j's equation
    innovations = np.empty((datasets, rows, n))
    lower = np.tril_indices(n, -1)
    for j in range(n):
        bartlett = np.zeros((datasets, n, n))
        bartlett[:, lower[0], lower[1]] = rng.standard_normal((datasets, len(lower[0])))
        for i in range(n):
            bartlett[:, i, i] = np.sqrt(rng.chisquare(alpha_w - i, datasets))
        covariance = np.linalg.inv(bartlett @ bartlett.transpose(0, 2, 1) / t)
        parents = truth[:, :, j].astype(float)  # (S, n)
        # rows and columns outside the parents become those of the identity, with right side 0
        inside = parents[:, :, None] * parents[:, None, :]
        system = inside * covariance + np.eye(n) * (1.0 - parents)[:, :, None]
        right = parents * covariance[:, :, j]
        b = np.linalg.solve(system, right[..., None])[..., 0]
        variance = covariance[:, j, j] - (b * right).sum(axis=1)
        coefficients[:, :, j] = b
        intercept = rng.standard_normal(datasets) * np.sqrt(variance / alpha_mu)
        innovations[:, :, j] = (
            intercept[:, None] + rng.standard_normal((datasets, rows)) * np.sqrt(variance)[:, None]
        )
    values = innovations
    for _ in range(n - 1):  # longest path of an acyclic graph
        values = innovations + values @ coefficients
    return Simulated(values, truth)


def edge_marginals(values: np.ndarray, standardised: bool, batch: int = 500) -> np.ndarray:
    """Exact edge marginals (S, n, n) of data sets (S, N, n), standardised first or as they are."""
    parts = []
    for begin in range(0, len(values), batch):
        X = values[begin : begin + batch]
        parts.append(dag_posterior(log_scores(standardise(X) if standardised else X), paths=False).edges)
    return np.concatenate(parts)


@dataclass(frozen=True)
class CalibrationCurve:
    """Reported marginals against frequencies, in bins that hold at least one edge.

    Attributes:
        reported: (bins,) mean marginal. frequency: (bins,) share of the edges that are there. count: (bins,) edges.
        error: (bins,) binomial standard error that a calibrated report would have.
    """

    reported: Array
    frequency: Array
    count: Array
    error: Array


def calibration_curve(edges: np.ndarray, truth: np.ndarray, bins: int = 10) -> CalibrationCurve:
    """Bin all off-diagonal marginals (S, n, n) and compare them with ``truth`` (S, n, n)."""
    off = ~np.eye(edges.shape[-1], dtype=bool)
    p, there = edges[:, off].ravel(), truth[:, off].ravel().astype(float)
    which = np.clip((p * bins).astype(int), 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    filled = count > 0
    total = np.maximum(count, 1)
    error = np.sqrt(np.bincount(which, p * (1 - p), bins)) / total
    reported, frequency = np.bincount(which, p, bins) / total, np.bincount(which, there, bins) / total
    return CalibrationCurve(reported[filled], frequency[filled], count[filled], error[filled])


def gap_above(edges: np.ndarray, truth: np.ndarray, threshold: float) -> tuple[float, float, float]:
    """Frequency minus reported marginal over edges reported above ``threshold``, with its 95 % interval.

    Edges of one data set depend on each other, so the interval is that of a ratio of sums over data sets.

    Raises:
        DataMatrixError: if no edge is reported above the threshold.
    """
    off = ~np.eye(edges.shape[-1], dtype=bool)
    p, there = edges[:, off], truth[:, off].astype(float)
    chosen = p > threshold
    if not chosen.any():
        raise DataMatrixError(f"no edge is reported above {threshold}")
    sums, counts = ((there - p) * chosen).sum(axis=1), chosen.sum(axis=1)
    gap = sums.sum() / counts.sum()
    half = 1.96 * np.sqrt(((sums - gap * counts) ** 2).sum()) / counts.sum()
    return float(gap), float(gap - half), float(gap + half)
