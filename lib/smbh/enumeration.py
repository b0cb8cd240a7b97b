"""Brute force: visit every single DAG and add it up. The audit of the dynamic programme.

Every DAG is visited exactly once, through the ordered partition of its nodes into layers (sources, sources of the
rest, ...): given the partition, each node chooses its parents among the earlier layers, with at least one in the layer
just before. There are 47,293 ordered partitions of 7 nodes and 1,138,779,265 DAGs. Nothing here is shared with
:mod:`lib.smbh.dag_posterior`: no sum over parent sets is ever formed before a DAG is complete, the ancestors are found
by closing each DAG, and the tables count what was seen.

Run it with ``python -m lib.smbh.enumeration --galaxies E``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from lib.compilation import njit
from lib.datasets import locate
from lib.smbh.bge_score import log_scores, membership, standardise
from lib.smbh.dag_posterior import check_scores, dag_posterior
from lib.smbh.data_matrix import Array, DataMatrixError
from lib.smbh.galaxies import BASE, read_table

MAX_ENUMERATED = 7  # 8 variables have 7.8e11 DAGs
BIN_WIDTH = 0.25  # of the histogram of log posterior probabilities, in natural logarithms
CHUNKS = (
    256  # pieces of work, for threads and for the progress bar; fixed, so that sums do not depend on threads
)


@dataclass(frozen=True)
class EnumeratedPosterior:
    """What the visit of all DAGs has counted; sets are bit masks.

    Attributes:
        n_dags: number of DAGs visited.
        log_partition: log of the sum over all DAGs of exp(score).
        parent_sets: (n, 2**n) p(Pa_j = P).
        edges: (n, n) p(i in Pa_j), row = parent.
        paths: (n, n) p(i is an ancestor of j).
        descendants: (n, 2**n) p(De(s) = D), D contains s.
        edge_count: (n (n - 1) / 2 + 1,) law of the number of edges.
        histogram: (bins,) number of DAGs by log posterior probability.
        bin_edges: (bins + 1,) limits of the bins, natural logarithms.
    """

    n_dags: int
    log_partition: float
    parent_sets: Array
    edges: Array
    paths: Array
    descendants: Array
    edge_count: Array
    histogram: NDArray[np.int64]
    bin_edges: Array


def ordered_partitions(n: int) -> Iterator[list[int]]:
    """Yield every list of disjoint nonempty masks that together hold n nodes (1, 3, 13, 75, 541, ... of them)."""

    def extend(rest: int, layers: list[int]) -> Iterator[list[int]]:
        if rest == 0:
            yield layers
        layer = rest
        while layer:
            yield from extend(rest ^ layer, [*layers, layer])
            layer = (layer - 1) & rest

    yield from extend(2**n - 1, [])


def dags_in_partition(layers: list[int]) -> int:
    """Number of DAGs with these layers: each later node has 2**|placed| - 2**(|placed| - |last|) parent sets."""
    count, placed, last = 1, 0, 0
    for layer in layers:
        size = layer.bit_count()
        if placed:
            count *= (2**placed - 2 ** (placed - last)) ** size
        placed, last = placed + size, size
    return count


@njit()
def _visit(
    layer_lists: np.ndarray,
    weights: np.ndarray,
    logs: np.ndarray,
    lowest: float,
    bin_width: float,
    parent_sets: np.ndarray,
    descendants: np.ndarray,
    edge_count: np.ndarray,
    histogram: np.ndarray,
) -> tuple[int, float]:
    """Visit all DAGs of some ordered partitions (rows of masks, 0 after the last); returns their number and weight.

    Node by node, in the order of the layers, an odometer runs through the parent sets. The ancestors of all nodes
    are kept as one 64-bit word, byte j for node j. Sums are collected per partition first, then added to the tables:
    a billion numbers added one by one would lose digits.
    """
    n = weights.shape[0]
    node, placed, last = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    parent = np.zeros(n, np.int64)
    weight, log_weight, mass = np.ones(n + 1), np.zeros(n + 1), np.zeros(n + 1)
    n_edges, ancestors = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.uint64)
    closure, subset = np.zeros(1 << n, np.uint64), np.zeros(1 << n, np.int64)
    popcount = np.zeros(1 << n, np.int64)
    for mask in range(1, 1 << n):
        popcount[mask] = popcount[mask >> 1] + (mask & 1)
    parents_here, descendants_here = np.zeros_like(parent_sets), np.zeros_like(descendants)
    edges_here = np.zeros_like(edge_count)
    byte, eight = np.uint64(255), np.uint64(8)
    count, total = 0, 0.0
    for partition in range(layer_lists.shape[0]):
        i, before, previous = 0, 0, 0
        for layer in layer_lists[partition]:
            for j in range(n):
                if layer >> j & 1:
                    node[i], placed[i], last[i] = j, before, previous
                    i += 1
            before, previous = before | layer, layer
        parents_here[:] = 0.0
        descendants_here[:] = 0.0
        edges_here[:] = 0.0
        level = 0
        parent[0] = -1
        mass[0] = 0.0
        while level >= 0:
            j, U, L = node[level], placed[level], last[level]
            if level < n - 1:
                if parent[level] >= 0:  # back from the DAGs with this choice
                    parents_here[j, parent[level]] += mass[level + 1]
                    mass[level] += mass[level + 1]
                P = (
                    0 if parent[level] < 0 else (parent[level] - U) & U
                )  # the next subset of U, 0 after the last
                if parent[level] >= 0 and P == 0:
                    level -= 1
                    continue
                while U and not P & L:
                    P = (P - U) & U
                    if P == 0:
                        break
                if U and P == 0:
                    level -= 1
                    continue
                parent[level] = P
                above = np.uint64(P)
                for i in range(n):
                    if P >> i & 1:
                        above |= ancestors[level] >> (eight * np.uint64(i)) & byte
                ancestors[level + 1] = ancestors[level] | above << (eight * np.uint64(j))
                weight[level + 1] = weight[level] * weights[j, P]
                log_weight[level + 1] = log_weight[level] + logs[j, P]
                n_edges[level + 1] = n_edges[level] + popcount[P]
                level += 1
                parent[level] = -1
                mass[level] = 0.0
                continue
            i = 0  # the last node: every admissible parent set completes one DAG
            word = ancestors[level]
            closure[0], subset[0] = 0, 0
            for member in range(n):
                if U >> member & 1:
                    row = (word >> (eight * np.uint64(member)) & byte) | np.uint64(1) << np.uint64(member)
                    for c in range(1 << i):
                        closure[(1 << i) + c] = closure[c] | row
                        subset[(1 << i) + c] = subset[c] | 1 << member
                    i += 1
            sum_here = 0.0
            for c in range(1 << i):
                P = subset[c]
                if U and not P & L:
                    continue
                w = weight[level] * weights[j, P]
                sum_here += w
                parents_here[j, P] += w
                edges_here[n_edges[level] + popcount[P]] += w
                histogram[int((log_weight[level] + logs[j, P] - lowest) / bin_width)] += 1
                x = word | closure[c] << (eight * np.uint64(j))
                # Transpose the 8 x 8 bits, so that byte s holds the descendants of s.
                y = (x ^ (x >> np.uint64(7))) & np.uint64(0x00AA00AA00AA00AA)
                x = x ^ y ^ (y << np.uint64(7))
                y = (x ^ (x >> np.uint64(14))) & np.uint64(0x0000CCCC0000CCCC)
                x = x ^ y ^ (y << np.uint64(14))
                y = (x ^ (x >> np.uint64(28))) & np.uint64(0x00000000F0F0F0F0)
                x = x ^ y ^ (y << np.uint64(28))
                for s in range(n):
                    descendants_here[s, (x & byte) | np.uint64(1) << np.uint64(s)] += w
                    x >>= eight
                count += 1
            mass[level] = sum_here
            level -= 1
        total += mass[0]
        parent_sets += parents_here
        descendants += descendants_here
        edge_count += edges_here
    return count, total


def enumerate_posterior(
    log_scores: ArrayLike, n_threads: int = 1, show_progress: bool = True
) -> EnumeratedPosterior:
    """Visit every DAG on n <= 7 variables and add up its posterior weight.

    Args:
        log_scores: (n, 2**n), entry [j, P] = s_j(P), of one data set.
        n_threads: number of threads; the result does not depend on it.
        show_progress: whether to show a progress bar on a terminal.

    Returns:
        The counted posterior.

    Raises:
        DataMatrixError: wrong shape or values of the scores, more than 7 variables, fewer than 1 thread, or scores
            whose weights underflow.
    """
    scores = check_scores(log_scores)
    if scores.ndim != 2:
        raise DataMatrixError(f"log_scores of shape {scores.shape}: one table (n, 2**n) is needed")
    n = len(scores)
    if n > MAX_ENUMERATED:
        raise DataMatrixError(f"{n} variables have too many DAGs to visit: {MAX_ENUMERATED} are possible")
    if n_threads < 1:
        raise DataMatrixError(f"n_threads={n_threads} must be at least 1")
    possible = np.isfinite(scores)
    if not (possible | membership(n).T).all():
        raise DataMatrixError(
            "forbidden parent sets (-inf) cannot be placed in the histogram of the enumeration"
        )
    best = scores.max(axis=1)
    logs = np.where(possible, scores - best[:, None], 0.0)
    weights = np.where(possible, np.exp(logs), 0.0)
    lowest = float(logs.min(axis=1).sum())
    n_bins = int(-lowest / BIN_WIDTH) + 2

    partitions = list(ordered_partitions(n))
    sizes = np.array([dags_in_partition(layers) for layers in partitions])
    table = np.array([layers + [0] * (n - len(layers)) for layers in partitions], dtype=np.int64)
    # Cut where the running number of DAGs passes multiples of the total / CHUNKS.
    piece = np.minimum((np.cumsum(sizes) - sizes) * CHUNKS // sizes.sum(), CHUNKS - 1)

    def visit(chunk: int) -> tuple[int, float, Array, Array, Array, NDArray[np.int64]]:
        parent_sets, descendants = np.zeros((2, n, 2**n))
        edge_count, histogram = np.zeros(n * (n - 1) // 2 + 1), np.zeros(n_bins, dtype=np.int64)
        rows = table[piece == chunk]
        count, total = _visit(
            rows, weights, logs, lowest, BIN_WIDTH, parent_sets, descendants, edge_count, histogram
        )
        return count, total, parent_sets, descendants, edge_count, histogram

    pieces = np.unique(piece)
    n_dags, total = 0, 0.0
    parent_sets, descendants = np.zeros((2, n, 2**n))
    edge_count, histogram = np.zeros(n * (n - 1) // 2 + 1), np.zeros(n_bins, dtype=np.int64)
    silent = None if show_progress else True  # None: silent unless on a terminal
    with (
        ThreadPoolExecutor(n_threads) as pool,
        tqdm(total=int(sizes.sum()), desc="DAGs", unit="DAG", unit_scale=True, disable=silent) as bar,
    ):
        for counted in pool.map(visit, pieces.tolist()):
            n_dags += counted[0]
            total += counted[1]
            parent_sets += counted[2]
            descendants += counted[3]
            edge_count += counted[4]
            histogram += counted[5]
            bar.update(counted[0])
    if not total > 1e-200:
        raise DataMatrixError(
            "the scores span too many orders of magnitude to be enumerated as plain weights"
        )
    contains = membership(n).astype(np.float64)
    paths = descendants @ contains / total
    np.fill_diagonal(paths, 0.0)
    return EnumeratedPosterior(
        n_dags,
        float(np.log(total) + best.sum()),
        parent_sets / total,
        (parent_sets @ contains).T / total,
        paths,
        descendants / total,
        edge_count / total,
        histogram,
        lowest + BIN_WIDTH * np.arange(n_bins + 1) - np.log(total),
    )


def agreement(scores: Array, enumerated: EnumeratedPosterior) -> dict[str, float]:
    """Return the largest absolute difference between enumeration and dynamic programme, by quantity."""
    exact = dag_posterior(scores)
    pairs = {
        "log partition": (exact.log_partition, enumerated.log_partition),
        "parent sets": (exact.parent_sets, enumerated.parent_sets),
        "edges": (exact.edges, enumerated.edges),
        "paths": (exact.paths, enumerated.paths),
        "descendants": (exact.descendants, enumerated.descendants),
    }
    return {name: float(np.abs(np.asarray(a) - np.asarray(b)).max()) for name, (a, b) in pairs.items()}


def main(arguments: list[str] | None = None) -> int:
    """Command line: visit all DAGs of one galaxy type and print the agreement with the dynamic programme.

    Returns:
        0 if they agree to ``--tolerance``, else 1.
    """
    kinds = {"E": "ell", "S0": "len", "S": "spr"}
    parser = argparse.ArgumentParser(
        description="Visit every DAG and compare with the exact dynamic programme."
    )
    parser.add_argument(
        "--galaxies", choices=sorted(kinds), default="E", help="type of galaxies (default: E)"
    )
    parser.add_argument("--variables", type=int, default=7, help="use the first 1..7 variables (default: 7)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: 1)")
    parser.add_argument(
        "--tolerance", type=float, default=1e-9, help="largest difference accepted (default: 1e-9)"
    )
    options = parser.parse_args(arguments)
    if not 1 <= options.variables <= len(BASE):
        parser.error(f"--variables {options.variables}: 1 to {len(BASE)} are possible")
    located = locate([f"smbh/causal_BH_{kinds[options.galaxies]}_withname.csv"])
    if located is None:
        parser.error("the galaxies are out of reach; set PAPERS_DATA to a mirror of the data")
    sample = read_table(located[0], BASE[: options.variables])
    scores = log_scores(standardise(sample.values))
    start = time.perf_counter()
    counted = enumerate_posterior(scores, options.threads)
    seconds = time.perf_counter() - start
    print(f"{options.galaxies}: {len(sample.values)} galaxies, {options.variables} variables")
    print(f"{counted.n_dags:,} DAGs visited in {seconds:.1f} s")
    differences = agreement(scores, counted)
    for name, difference in differences.items():
        print(f"largest difference, {name:<13} {difference:.1e}")
    agree = max(differences.values()) <= options.tolerance
    print(f"{'agreement' if agree else 'NO AGREEMENT'} within {options.tolerance:.0e}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
