"""Plain slow code that lists every DAG, for comparison: no layers, no bit tricks, nothing shared with the package."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np


@cache
def all_dags(n: int) -> np.ndarray:
    """Adjacency matrices (count, n, n) of all DAGs: all choices absent / forward / backward per pair, without cycles."""
    pairs = list(itertools.combinations(range(n), 2))
    choices = np.array(list(itertools.product(range(3), repeat=len(pairs))), dtype=np.int8)
    adjacency = np.zeros((len(choices), n, n), dtype=np.int64)
    for place, (i, j) in enumerate(pairs):
        adjacency[:, i, j] = choices[:, place] == 1
        adjacency[:, j, i] = choices[:, place] == 2
    power = adjacency
    for _ in range(n):
        power = power @ adjacency  # walks of n or more steps exist only around cycles
    return adjacency[(power == 0).all(axis=(1, 2))]


@cache
def all_closures(n: int) -> np.ndarray:
    """Ancestor relations (count, n, n) of :func:`all_dags`: Warshall's closure."""
    reach = all_dags(n).astype(bool)
    for via in range(n):
        reach = reach | (reach[:, :, via : via + 1] & reach[:, via : via + 1, :])
    return reach


def to_masks(adjacency: np.ndarray) -> np.ndarray:
    """Parent bit masks (..., n) of adjacency matrices (..., n, n)."""
    return (adjacency.astype(np.int64) * (1 << np.arange(adjacency.shape[-1]))[:, None]).sum(axis=-2)


def dag_log_scores(log_scores: np.ndarray) -> np.ndarray:
    """Log score of every DAG of :func:`all_dags`."""
    n = len(log_scores)
    return log_scores[np.arange(n), to_masks(all_dags(n))].sum(axis=1)


def posterior(log_scores: np.ndarray) -> dict[str, np.ndarray]:
    """All posterior quantities by listing the DAGs."""
    n = len(log_scores)
    logs = dag_log_scores(log_scores)
    largest = logs.max()
    log_partition = largest + np.log(np.exp(logs - largest).sum())
    p = np.exp(logs - log_partition)
    masks, closures = to_masks(all_dags(n)), all_closures(n)
    parent_sets, descendants = np.zeros((2, n, 2**n))
    of = (closures | np.eye(n, dtype=bool)).astype(np.int64) @ (1 << np.arange(n))  # De(s) as a mask, with s
    for j in range(n):
        np.add.at(parent_sets[j], masks[:, j], p)
        np.add.at(descendants[j], of[:, j], p)
    return {
        "log_partition": log_partition,
        "parent_sets": parent_sets,
        "edges": np.einsum("g,gij->ij", p, all_dags(n)),
        "paths": np.einsum("g,gij->ij", p, closures),
        "descendants": descendants,
    }


def random_table(rng: np.random.Generator, n: int, scale: float = 1.0) -> np.ndarray:
    """Score table (n, 2**n) of normal numbers, -inf where the set contains the child."""
    table = scale * rng.normal(size=(n, 2**n))
    for j in range(n):
        for mask in range(2**n):
            if mask >> j & 1:
                table[j, mask] = -np.inf
    return table


def equivalent(n: int) -> np.ndarray:
    """Class label of every DAG of :func:`all_dags`, from skeletons and unshielded colliders found by plain loops."""
    labels: dict[tuple, int] = {}
    result = []
    for A in all_dags(n):
        skeleton = tuple(sorted((i, j) for i, j in itertools.combinations(range(n), 2) if A[i, j] or A[j, i]))
        colliders = tuple(
            (a, c, b)
            for c in range(n)
            for a, b in itertools.combinations(range(n), 2)
            if A[a, c] and A[b, c] and not A[a, b] and not A[b, a]
        )
        result.append(labels.setdefault((skeleton, colliders), len(labels)))
    return np.array(result)
