"""The BGe score of every parent set of every variable, for many data sets at once.

The trick: all that the score of child ``j`` with parent set ``P`` needs from the data are the log-determinants of two
principal submatrices of one n x n matrix R, ``log det R[P, P]`` and ``log det R[P + j, P + j]``. There are only 2**n
principal submatrices, so their log-determinants are computed once per data set, by walking a binary tree of Schur
complements: at step d variable d is either left out (drop its row and column) or taken in (its pivot joins the
log-determinant, the rest becomes the Schur complement). All n * 2**(n - 1) scores are then sums of table entries.

The score is that of Geiger and Heckerman in the corrected form of Kuipers, Moffa and Heckerman (2014); it is equal
for all DAGs of one Markov equivalence class. A set of variables is an integer bit mask: bit i stands for variable i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from lib.smbh.data_matrix import Array, DataMatrixError, check_data, standard_deviation


class SufficientStatistics(NamedTuple):
    """What the BGe score needs of a data set: rows, mean ``(..., n)`` and centred scatter matrix ``(..., n, n)``."""

    n_rows: int
    mean: Array
    scatter: Array


def standardise(X: ArrayLike, names: Sequence[str] | None = None, ddof: int = 1) -> Array:
    """Centre every column and divide it by its standard deviation.

    Args:
        X: data, shape (..., N, n).
        names: names of the columns, for the errors.
        ddof: the deviation divides by N - ddof; the paper uses 1.

    Returns:
        Array of the same shape, in units of standard deviations.

    Raises:
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`.
    """
    X = check_data(X, names)
    return (X - X.mean(axis=-2, keepdims=True)) / standard_deviation(X, ddof)


def sufficient_statistics(X: ArrayLike, names: Sequence[str] | None = None) -> SufficientStatistics:
    """Return rows, mean and centred scatter matrix of the data ``X`` of shape (..., N, n).

    Raises:
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`; ``names`` are those of the columns.
    """
    X = check_data(X, names)
    mean = X.mean(axis=-2)
    centred = X - mean[..., None, :]
    return SufficientStatistics(X.shape[-2], mean, np.swapaxes(centred, -1, -2) @ centred)


def prior_scale(n: int, alpha_mu: float, alpha_w: float) -> float:
    """Return t, the scale of the prior matrix T = t I: alpha_mu (alpha_w - n - 1) / (alpha_mu + 1)."""
    if not alpha_mu > 0:
        raise DataMatrixError(f"alpha_mu={alpha_mu} must be positive")
    if not alpha_w > n + 1:
        raise DataMatrixError(f"alpha_w={alpha_w} must be above n + 1 = {n + 1}")
    return alpha_mu * (alpha_w - n - 1) / (alpha_mu + 1)


def posterior_matrix(
    statistics: SufficientStatistics, alpha_mu: float = 1.0, alpha_w: float | None = None
) -> Array:
    """Return R = t I + scatter + N alpha_mu / (N + alpha_mu) mean mean', shape (..., n, n) (prior mean 0)."""
    n_rows, mean, scatter = statistics
    n = mean.shape[-1]
    t = prior_scale(n, alpha_mu, n + 2 if alpha_w is None else alpha_w)
    shrinkage = n_rows * alpha_mu / (n_rows + alpha_mu)
    return t * np.eye(n) + scatter + shrinkage * mean[..., :, None] * mean[..., None, :]


def principal_log_determinants(R: Array) -> Array:
    """Return the log-determinants of all principal submatrices of symmetric positive definite matrices.

    Args:
        R: shape (..., n, n).

    Returns:
        Array (..., 2**n); entry m is log det of the rows and columns in mask m, 0 for the empty mask.

    Raises:
        DataMatrixError: a matrix is not positive definite.
    """
    n = R.shape[-1]
    rest = R[..., None, :, :]  # (..., masks over variables < d, n - d, n - d): Schur complements
    log_det = np.zeros((*R.shape[:-2], 1))
    for _ in range(n):
        pivot, column, without = rest[..., 0, 0], rest[..., 1:, 0], rest[..., 1:, 1:]
        if not (pivot > 0).all():
            raise DataMatrixError("the matrix R of the BGe score is not positive definite")
        taken = without - column[..., :, None] * (column / pivot[..., None])[..., None, :]
        # Variable d is bit d: masks that contain it follow all those that do not.
        rest = np.concatenate([without, taken], axis=-3)
        log_det = np.concatenate([log_det, log_det + np.log(pivot)], axis=-1)
    return log_det


def set_sizes(n: int) -> NDArray[np.int64]:
    """Return the number of members of every bit mask 0 .. 2**n - 1, shape (2**n,)."""
    return np.bitwise_count(np.arange(2**n)).astype(np.int64)


def membership(n: int) -> NDArray[np.bool_]:
    """Return the (2**n, n) table whose entry [m, i] says whether variable i is in mask m."""
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)


def log_scores_from_R(
    R: Array, n_rows: ArrayLike, alpha_mu: float = 1.0, alpha_w: float | None = None
) -> Array:
    """Return the BGe log score of every child and parent set from the matrix R of :func:`posterior_matrix`.

    Args:
        R: shape (..., n, n).
        n_rows: number of rows N behind each R; a number, or an array that broadcasts with ``R``'s batch shape.
        alpha_mu: prior weight of the mean, in rows.
        alpha_w: degrees of freedom of the Wishart prior; ``n + 2`` if None, as in the paper.

    Returns:
        Array (..., n, 2**n) of s_j(P), natural logarithms; ``-inf`` where mask P contains j.

    Raises:
        DataMatrixError: R is not square or not positive definite, or a hyper-parameter is out of range.
    """
    R = np.asarray(R, dtype=np.float64)
    if R.ndim < 2 or R.shape[-1] != R.shape[-2]:
        raise DataMatrixError(f"R of shape {R.shape}: expected (..., n, n)")
    n = R.shape[-1]
    alpha_w = n + 2 if alpha_w is None else alpha_w
    t = prior_scale(n, alpha_mu, alpha_w)
    N = np.asarray(n_rows, dtype=np.float64)[..., None]  # (..., 1)
    size = np.arange(n)  # l, the number of parents
    f = alpha_w - n + size + 1
    by_size = (  # (..., n): everything that depends on the parent set through its size only
        0.5 * np.log(alpha_mu / (N + alpha_mu))
        + gammaln((N + f) / 2)
        - gammaln(f / 2)
        - N / 2 * np.log(np.pi)
        + (f + size) / 2 * np.log(t)
    )
    log_det = principal_log_determinants(R)  # (..., 2**n)
    sizes = np.minimum(set_sizes(n), n - 1)  # the full mask is no parent set
    f = f[sizes]
    parents_part = by_size[..., sizes] + (N + f - 1) / 2 * log_det
    masks = np.arange(2**n)
    scores = np.full((*log_det.shape[:-1], n, 2**n), -np.inf)
    for j in range(n):
        free = masks[masks >> j & 1 == 0]  # masks without j
        scores[..., j, free] = (
            parents_part[..., free] - ((N + f) / 2)[..., free] * log_det[..., free | 1 << j]
        )
    return scores


def log_scores(
    X: ArrayLike,
    alpha_mu: float = 1.0,
    alpha_w: float | None = None,
    names: Sequence[str] | None = None,
) -> Array:
    """Return the BGe log score of every child and parent set.

    The data are scored as they come: standardise them first (:func:`standardise`) to follow the paper.

    Args:
        X: data, shape (..., N, n).
        alpha_mu: prior weight of the mean, in rows.
        alpha_w: degrees of freedom of the Wishart prior; ``n + 2`` if None, as in the paper.
        names: names of the columns, for the errors.

    Returns:
        Array (..., n, 2**n) of s_j(P), natural logarithms; ``-inf`` where mask P contains j. The log marginal
        likelihood of a DAG is the sum over j of s_j(Pa_j).

    Raises:
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`; or a hyper-parameter out of range.
    """
    statistics = sufficient_statistics(X, names)
    R = posterior_matrix(statistics, alpha_mu, alpha_w)
    return log_scores_from_R(R, statistics.n_rows, alpha_mu, alpha_w)
