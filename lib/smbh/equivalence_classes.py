"""Markov equivalence classes of DAGs: which edges the data can orient, and how many DAGs say the same.

Two DAGs are equivalent if they have the same skeleton and the same unshielded colliders (Verma and Pearl 1990), so
these two bit vectors are the key of a class. What all members agree on follows from the key by Meek's rules: a
*compelled* edge has one direction in every member, a *reversible* one has both. The reversible edges form chordal
components that are oriented independently of each other; the number of members is the product of the components'
numbers of orientations, and those follow from a recursion over the possible roots (He, Jia and Yu 2015).

All DAGs of a class have the same BGe score, so the probability of a class is its size times that of a member.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.compilation import njit
from lib.smbh.data_matrix import Array, DataMatrixError
from lib.smbh.top_dags import TopDags, top_dags

Masks = NDArray[np.int64]


@dataclass(frozen=True)
class EquivalenceClasses:
    """The classes of a list of DAGs.

    Attributes:
        keys: (C, words) unsigned integers: skeleton bits, then the bits of the unshielded colliders.
        member_of: (K,) index of each DAG's class.
        representative: (C,) index of the first listed DAG of each class.
        sizes: (C,) number of DAGs in the class, listed or not.
        compelled: (C, n, n) True at [i, j] if i -> j in every member.
        reversible: (C, n, n) True at [i, j] and [j, i] if the edge has both directions among the members.
    """

    keys: NDArray[np.uint64]
    member_of: NDArray[np.int64]
    representative: NDArray[np.int64]
    sizes: NDArray[np.int64]
    compelled: NDArray[np.bool_]
    reversible: NDArray[np.bool_]


@dataclass(frozen=True)
class TopClasses:
    """The most probable equivalence classes, best first.

    Attributes:
        probability: (k,) posterior probability of the class.
        sizes: (k,) number of DAGs in it.
        parents: (k, n) bit masks of one member.
        compelled: (k, n, n) and reversible: (k, n, n), as in :class:`EquivalenceClasses`.
        unseen_below: no class outside the list of DAGs behind this table is as probable as this.
        complete: whether every class shown exceeds that bound, so that the ranking is proven.
        dags: the list of DAGs behind the table.
    """

    probability: Array
    sizes: NDArray[np.int64]
    parents: Masks
    compelled: NDArray[np.bool_]
    reversible: NDArray[np.bool_]
    unseen_below: float
    complete: bool
    dags: TopDags


@dataclass(frozen=True)
class EdgeShares:
    """Shares of the posterior mass, entry [i, j] for i -> j, each (n, n), with standard errors of the same shape.

    The errors are those of independent samples; they are 0 for a weighted list.
    """

    share: Array
    standard_error: Array


@njit()
def _keys(parents: np.ndarray, words: np.ndarray) -> None:
    n = parents.shape[1]
    for g in range(parents.shape[0]):
        place = 0
        for j in range(n):
            for i in range(j):
                if parents[g, j] >> i & 1 or parents[g, i] >> j & 1:
                    words[g, place >> 6] |= np.uint64(1) << np.uint64(place & 63)
                place += 1
        for child in range(n):
            for j in range(n):
                for i in range(j):
                    if child in (i, j):
                        continue
                    both = parents[g, child] >> i & 1 and parents[g, child] >> j & 1
                    if both and not (parents[g, j] >> i & 1 or parents[g, i] >> j & 1):
                        words[g, place >> 6] |= np.uint64(1) << np.uint64(place & 63)
                    place += 1


@njit()
def _complete_pattern(parents: np.ndarray, into: np.ndarray, line: np.ndarray) -> None:
    """Fill the masks ``into[j]`` (i with i -> j compelled) and ``line[j]`` (i with i - j reversible) of one DAG."""
    n = parents.size
    adjacent = np.zeros(n, dtype=np.int64)
    into[:] = 0
    for j in range(n):
        for i in range(n):
            if parents[j] >> i & 1:
                adjacent[i] |= 1 << j
                adjacent[j] |= 1 << i
    for j in range(n):
        for i in range(n):
            if parents[j] >> i & 1 and parents[j] & ~adjacent[i] & ~(1 << i):
                into[j] |= 1 << i
    changed = True
    while changed:  # an edge of the DAG that a rule orients can only be oriented as in the DAG
        changed = False
        for j in range(n):
            for i in range(n):
                if not parents[j] >> i & 1 or into[j] >> i & 1:
                    continue
                forced = into[i] & ~adjacent[j] & ~(1 << j) != 0  # h -> i - j, h and j not adjacent
                for h in range(n):
                    if into[j] >> h & 1:
                        if into[h] >> i & 1:  # i -> h -> j
                            forced = True
                        if adjacent[i] & ~into[i] & 1 << h:  # i - h -> j <- g - i, h and g not adjacent
                            others = into[j] & adjacent[i] & ~into[i] & ~adjacent[h] & ~(1 << h)
                            if others:
                                forced = True
                if forced:
                    into[j] |= 1 << i
                    changed = True
    for j in range(n):
        out = 0
        for i in range(n):
            if into[i] >> j & 1:
                out |= 1 << i
        line[j] = adjacent[j] & ~into[j] & ~out


@njit()
def _component(neighbours: np.ndarray, start: int, inside: int) -> int:
    """Mask of the nodes of ``inside`` that can be reached from ``start``."""
    reached = 1 << start
    while True:
        more = reached
        for i in range(neighbours.size):
            if reached >> i & 1:
                more |= neighbours[i] & inside
        if more == reached:
            return reached
        reached = more


@njit()
def _orientations(neighbours: np.ndarray, component: int) -> int:
    """Number of acyclic orientations without unshielded collider of a connected chordal graph (He, Jia, Yu 2015)."""
    n = neighbours.size
    nodes, ends = 0, 0
    for i in range(n):
        if component >> i & 1:
            nodes += 1
            rest = neighbours[i] & component
            while rest:
                rest &= rest - 1
                ends += 1
    if ends == 2 * (nodes - 1):  # a tree: any node can be the root
        return nodes
    if ends == nodes * (nodes - 1):  # complete: any order
        count = 1
        for i in range(2, nodes + 1):
            count *= i
        return count
    total = 0
    for root in range(n):
        if not component >> root & 1:
            continue
        left = np.zeros(n, dtype=np.int64)  # edges that stay undirected once this root is fixed
        into = np.zeros(n, dtype=np.int64)
        before, rest = 1 << root, component ^ 1 << root
        while rest:
            level = 0
            for i in range(n):
                if before >> i & 1:
                    level |= neighbours[i] & rest
            for j in range(n):
                if level >> j & 1:
                    into[j] |= neighbours[j] & before
                    left[j] = neighbours[j] & level
            changed = True
            while changed:
                changed = False
                for i in range(n):
                    for j in range(n):
                        if left[i] >> j & 1 and into[i] & ~neighbours[j] & ~(
                            1 << j
                        ):  # h -> i - j, h, j apart
                            left[i] ^= 1 << j
                            left[j] ^= 1 << i
                            into[j] |= 1 << i
                            changed = True
            rest ^= level
            before = level
        product, rest = 1, component ^ 1 << root
        while rest:
            start = 0
            while not rest >> start & 1:
                start += 1
            part = _component(left, start, rest)
            product *= _orientations(left, part)
            rest ^= part
        total += product
    return total


@njit()
def _describe(parents: np.ndarray, sizes: np.ndarray, compelled: np.ndarray, reversible: np.ndarray) -> None:
    n = parents.shape[1]
    into, line = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for c in range(parents.shape[0]):
        _complete_pattern(parents[c], into, line)
        for j in range(n):
            for i in range(n):
                compelled[c, i, j] = into[j] >> i & 1
                reversible[c, i, j] = line[j] >> i & 1
        size, rest = 1, (1 << n) - 1
        while rest:
            start = 0
            while not rest >> start & 1:
                start += 1
            part = _component(line, start, rest)
            size *= _orientations(line, part)
            rest ^= part
        sizes[c] = size


def _masks(parents: ArrayLike) -> Masks:
    masks = np.ascontiguousarray(parents, dtype=np.int64)
    if masks.ndim != 2 or masks.shape[1] == 0:
        raise DataMatrixError(f"parents of shape {masks.shape}: expected bit masks (DAGs, n)")
    return masks


def classify(parents: ArrayLike) -> EquivalenceClasses:
    """Group DAGs by Markov equivalence class.

    Args:
        parents: (K, n) bit masks of the parent sets of K DAGs.

    Returns:
        The classes, in the order of their keys.

    Raises:
        DataMatrixError: wrong shape.
    """
    masks = _masks(parents)
    n = masks.shape[1]
    bits = n * (n - 1) // 2 * (n - 1)  # n (n - 1) / 2 pairs, n times (n - 1)(n - 2) / 2 possible colliders
    words = np.zeros((len(masks), max(1, -(-bits // 64))), dtype=np.uint64)
    _keys(masks, words)
    order = np.lexsort(words.T)
    new = np.ones(len(masks), dtype=bool)
    new[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    member_of = np.empty(len(masks), dtype=np.int64)
    member_of[order] = np.cumsum(new) - 1
    representative = order[new]
    count = len(representative)
    sizes = np.empty(count, dtype=np.int64)
    compelled, reversible = np.empty((2, count, n, n), dtype=bool)
    _describe(masks[representative], sizes, compelled, reversible)
    return EquivalenceClasses(words[representative], member_of, representative, sizes, compelled, reversible)


def top_classes(log_scores: ArrayLike, k: int, threshold: float | None = None) -> TopClasses:
    """Return the k most probable Markov equivalence classes, with a proof of completeness.

    A class on n variables has at most n! members, all equally probable. So a class without a member in the list of
    all DAGs above ``threshold`` has a probability below n! * threshold; if every class shown exceeds that, none is
    missing.

    Args:
        log_scores: (n, 2**n) of one data set, from a score that is equal within classes.
        k: number of classes.
        threshold: probability down to which DAGs are listed; if None, low enough to prove the ranking.

    Returns:
        The table; ``complete`` tells whether the ranking is proven.

    Raises:
        DataMatrixError: wrong shape or values of the scores, k < 1, or a bad threshold.
    """
    if k < 1:
        raise DataMatrixError(f"k={k} must be at least 1")
    n = np.shape(log_scores)[-2] if np.ndim(log_scores) >= 2 else 0
    # The k-th class seen so far is a lower bound of the true k-th class, so one refinement suffices.
    steps = [threshold] if threshold is not None else [1e-3, 1e-4, 1e-5]
    for level in steps:
        dags = top_dags(log_scores, level)
        table = _rank(dags, k, n)
        if len(table.sizes) >= k:
            break
    if threshold is None and not table.complete and len(table.sizes):
        dags = top_dags(log_scores, float(table.probability[-1]) / factorial(n) * (1 - 1e-6))
        table = _rank(dags, k, n)
    return table


def _rank(dags: TopDags, k: int, n: int) -> TopClasses:
    classes = classify(dags.parents)
    probability: Array = np.exp(dags.log_probability[classes.representative]) * classes.sizes.astype(
        np.float64
    )
    best = np.argsort(-probability, kind="stable")[:k]
    unseen_below = factorial(n) * dags.threshold
    everything = dags.covered > 1 - 1e-9
    return TopClasses(
        probability[best],
        classes.sizes[best],
        dags.parents[classes.representative[best]],
        classes.compelled[best],
        classes.reversible[best],
        unseen_below,
        everything or bool(len(best) == k and (probability[best] > unseen_below).all()),
        dags,
    )


def _adjacency(masks: Masks) -> NDArray[np.bool_]:
    """Return (K, n, n), True at [g, i, j] for i -> j."""
    return (masks[:, None, :] >> np.arange(masks.shape[1])[:, None] & 1).astype(bool)


def _share(indicator: NDArray[np.bool_], weights: Array | None) -> EdgeShares:
    """Self-normalised mean of ``indicator`` (K, n, n) under ``weights``, or of samples, then with its error."""
    w = np.ones(len(indicator)) if weights is None else weights
    w = w / w.sum()
    share = np.einsum("g,gij->ij", w, indicator)
    if weights is not None:
        return EdgeShares(share, np.zeros_like(share))
    variance = np.einsum("g,gij->ij", w**2, (indicator - share) ** 2)
    return EdgeShares(share, np.sqrt(variance))


def edge_shares(parents: ArrayLike, weights: ArrayLike | None = None) -> tuple[EdgeShares, EdgeShares]:
    """Split every edge's posterior mass into the part that the data orient and the part that counting orients.

    Args:
        parents: (K, n) bit masks: independent samples of the posterior, or a list of distinct DAGs with weights.
        weights: (K,) probabilities of the listed DAGs, None for samples. Shares are relative to their sum.

    Returns:
        Shares of i -> j compelled, and of i -> j present but reversible; they add up to the edge's marginal.

    Raises:
        DataMatrixError: wrong shape.
    """
    masks = _masks(parents)
    classes = classify(masks)
    edges = _adjacency(masks)
    given = None if weights is None else np.asarray(weights, dtype=np.float64)
    compelled = edges & classes.compelled[classes.member_of]
    reversible = edges & classes.reversible[classes.member_of]
    return _share(compelled, given), _share(reversible, given)


def shd(parents: ArrayLike, reference: ArrayLike) -> NDArray[np.int64]:
    """Return the structural Hamming distance of DAGs: pairs of nodes joined differently; a reversed edge counts once.

    Args:
        parents: (..., n) bit masks.
        reference: (..., n) bit masks, broadcast against ``parents``.
    """
    a, b = np.asarray(parents, dtype=np.int64), np.asarray(reference, dtype=np.int64)
    n = a.shape[-1]
    distance = np.zeros(np.broadcast_shapes(a.shape, b.shape)[:-1], dtype=np.int64)
    for j in range(n):
        for i in range(j):
            forward = (a[..., j] ^ b[..., j]) >> i & 1
            backward = (a[..., i] ^ b[..., i]) >> j & 1
            distance += forward | backward
    return distance
