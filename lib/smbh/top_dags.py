"""The exact list of all DAGs whose posterior probability exceeds a threshold.

The trick: the layered sum of :mod:`lib.smbh.dag_posterior` with "add" replaced by "take the larger" gives, for every
state (X, L), the score of the BEST way to complete a DAG from there. A depth-first search over layers and parent sets
that turns back as soon as (score so far) + (best completion) falls below the threshold visits nothing in vain: every
branch that it follows ends in at least one DAG of the list, and no DAG above the threshold is missed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.compilation import njit
from lib.smbh.dag_posterior import LOGARITHMS, MAX_PRODUCT, Lattice, Sweep, check_scores, compress
from lib.smbh.data_matrix import Array, DataMatrixError

# Bounds and scores add the same numbers in another order; the search prunes this much later, the list does not.
ROUNDING = 1e-9


@dataclass(frozen=True)
class TopDags:
    """All DAGs above a probability threshold, the most probable first.

    Attributes:
        parents: (K, n) bit masks; entry [g, j] is the parent set of j in DAG g.
        log_probability: (K,) natural logarithm of the posterior probability.
        threshold: the probability that the listed DAGs reach.
    """

    parents: NDArray[np.int64]
    log_probability: Array
    threshold: float

    @property
    def covered(self) -> float:
        """The posterior mass of the list."""
        return float(np.exp(self.log_probability).sum())


@njit()
def _search(
    lattice: Lattice,
    scores: np.ndarray,
    best: np.ndarray,
    completion: np.ndarray,
    cut: float,
    X: int,
    L: int,
    T: int,
    undecided: int,
    score: float,
    ahead: float,
    chosen: np.ndarray,
    count: int,
    parents: np.ndarray,
    totals: np.ndarray,
) -> int:
    """Decide parent sets for the nodes of layer T on top of (X, L), then go on; returns the number of DAGs found.

    ``ahead`` is the best that the undecided nodes of T and all later layers can add. DAGs are stored while the arrays
    have room, and counted in any case.
    """
    n = lattice.n
    everything = (1 << n) - 1
    if undecided:
        j = 0
        while not undecided >> j & 1:
            j += 1
        m = n - lattice.size[X]
        k = lattice.size[(everything ^ X) & ((1 << j) - 1)]
        rest = ahead - best[lattice.beta[X] + compress(L, X) * m + k]
        P = X
        while True:
            if (P & L or X == 0) and score + scores[j, P] + rest >= cut - ROUNDING:
                chosen[j] = P
                count = _search(
                    lattice,
                    scores,
                    best,
                    completion,
                    cut,
                    X,
                    L,
                    T,
                    undecided ^ 1 << j,
                    score + scores[j, P],
                    rest,
                    chosen,
                    count,
                    parents,
                    totals,
                )
            if P == 0:
                return count
            P = (P - 1) & X
    X, L = X | T, T
    outside = everything ^ X
    if outside == 0:
        if score >= cut:
            if count < parents.shape[0]:
                parents[count] = chosen
                totals[count] = score
            count += 1
        return count
    m = n - lattice.size[X]
    base = lattice.beta[X] + compress(L, X) * m
    T = outside
    while T:
        t = compress(T, outside)
        ahead = completion[lattice.row[X] + t]
        for k in range(m):
            if t >> k & 1:
                ahead += best[base + k]
        if score + ahead >= cut - ROUNDING:
            count = _search(
                lattice,
                scores,
                best,
                completion,
                cut,
                X,
                L,
                T,
                T,
                score,
                ahead,
                chosen,
                count,
                parents,
                totals,
            )
        T = (T - 1) & outside
    return count


def top_dags(log_scores: ArrayLike, threshold: float) -> TopDags:
    """Return every DAG with posterior probability of at least ``threshold``.

    Args:
        log_scores: (n, 2**n), entry [j, P] = s_j(P), of one data set.
        threshold: probability above 0; 2e-6 gives some 57,000 DAGs for the galaxies of the paper.

    Returns:
        The list, most probable first.

    Raises:
        DataMatrixError: wrong shape or values of the scores, or a threshold that is not in (0, 1].
    """
    scores = check_scores(log_scores)
    if scores.ndim != 2:
        raise DataMatrixError(f"log_scores of shape {scores.shape}: one table (n, 2**n) is needed")
    if not 0 < threshold <= 1:
        raise DataMatrixError(f"threshold={threshold} is not a probability above 0")
    n = len(scores)
    log_partition = Sweep(n, LOGARITHMS).partition(scores[None])[0]
    bound = Sweep(n, MAX_PRODUCT)
    bound.partition(scores[None])
    cut = log_partition + np.log(threshold)
    room = 0
    while True:  # count first, then store
        parents, totals = np.empty((room, n), dtype=np.int64), np.empty(room)
        chosen = np.zeros(n, dtype=np.int64)
        found = _search(
            bound.lattice, scores, bound.beta, bound.H, cut, 0, 0, 0, 0, 0.0, 0.0, chosen, 0, parents, totals
        )
        if found == room:
            break
        room = found
    order = np.argsort(-totals, kind="stable")
    return TopDags(parents[order], totals[order] - log_partition, threshold)
