"""Independent samples from the exact posterior over DAGs.

The trick: the layered sum of :mod:`lib.smbh.dag_posterior` already holds, for every state (X, L), the total weight
H(X, L) of all ways to go on. Walking forward, the next layer T has probability

    [prod over j in T of beta_j(X, L)] H(X + T, T) / H(X, L),

and inside the layer the nodes choose their parent sets independently, P with probability w_j(P) / beta_j(X, L). No
Markov chain, no burn-in, no correlation: the standard error of any functional of the DAG is its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.compilation import njit
from lib.smbh.dag_posterior import LOGARITHMS, Lattice, Sweep, check_scores, compress
from lib.smbh.data_matrix import DataMatrixError


@njit()
def _walk(
    lattice: Lattice,
    scores: np.ndarray,
    beta: np.ndarray,
    H: np.ndarray,
    uniform: np.ndarray,
    parents: np.ndarray,
) -> None:
    """Fill ``parents`` (size, n) from logarithms of the sums and uniform numbers (size, 2 n)."""
    n = lattice.n
    everything = (1 << n) - 1
    weight = np.empty(1 << n)
    for sample in range(parents.shape[0]):
        X, L, used = 0, 0, 0
        while everything ^ X:
            outside, m = everything ^ X, n - lattice.size[X]
            base, row = lattice.beta[X] + compress(L, X) * m, lattice.row[X]
            weight[0] = 0.0
            for k in range(m):  # log of the product over T, by doubling
                for t in range(1 << k):
                    weight[(1 << k) + t] = weight[t] + beta[base + k]
            largest = -np.inf
            for t in range(1, 1 << m):
                weight[t] += H[row + t]
                largest = max(largest, weight[t])
            total = 0.0
            for t in range(1, 1 << m):
                weight[t] = np.exp(weight[t] - largest)
                total += weight[t]
            left = uniform[sample, used] * total
            used += 1
            layer = 0
            for t in range(1, 1 << m):
                if weight[t] > 0.0:
                    layer = t  # the last possible one if rounding leaves a rest
                    left -= weight[t]
                    if left < 0.0:
                        break
            k, T = 0, 0
            for j in range(n):
                if not outside >> j & 1:
                    continue
                if layer >> k & 1:
                    T |= 1 << j
                    left = uniform[sample, n + j]
                    P = X
                    while True:
                        if (P & L or X == 0) and scores[j, P] > -np.inf:
                            parents[sample, j] = P
                            left -= np.exp(scores[j, P] - beta[base + k])
                            if left < 0.0:
                                break
                        if P == 0:
                            break
                        P = (P - 1) & X
                k += 1
            X, L = X | T, T


def sample_dags(log_scores: ArrayLike, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw independent DAGs from their exact posterior.

    Args:
        log_scores: (n, 2**n), entry [j, P] = s_j(P), of one data set.
        size: number of DAGs.
        rng: of the uniform numbers.

    Returns:
        Bit masks (size, n); entry [g, j] is the parent set of j in DAG g.

    Raises:
        DataMatrixError: wrong shape or values of the scores, or a negative size.
    """
    scores = check_scores(log_scores)
    if scores.ndim != 2:
        raise DataMatrixError(f"log_scores of shape {scores.shape}: one table (n, 2**n) is needed")
    if size < 0:
        raise DataMatrixError(f"size={size} must not be negative")
    n = len(scores)
    sweep = Sweep(n, LOGARITHMS)
    sweep.partition(scores[None])
    uniform = rng.random((size, 2 * n))
    parents = np.zeros((size, n), dtype=np.int64)
    _walk(sweep.lattice, scores, sweep.beta, sweep.H, uniform, parents)
    return parents
