"""Equivalence classes against plain grouping of all DAGs, closed forms, and the authors' top-10 lists."""

from __future__ import annotations

from math import factorial

import numpy as np
import pandas as pd
import pytest

from lib.datasets import local_path
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_posterior import dag_posterior
from lib.smbh.dag_sampling import sample_dags
from lib.smbh.data_matrix import DataMatrixError
from lib.smbh.equivalence_classes import classify, edge_shares, shd, top_classes
from lib.smbh.top_dags import top_dags
from tests.smbh.plain_dags import all_dags, dag_log_scores, equivalent, posterior, random_table, to_masks

# From the history of the authors' repository, in percent.
TOP_CLASSES = {
    "ell": [0.963, 0.69, 0.534, 0.515, 0.499, 0.433, 0.418, 0.354, 0.329, 0.314],
    "len": [0.812, 0.704, 0.695, 0.681, 0.593, 0.503, 0.384, 0.285, 0.275, 0.274],
    "spr": [0.901, 0.477, 0.35, 0.309, 0.287, 0.272, 0.27, 0.252, 0.232, 0.218],
}
BEST_CLASS_SIZE = {"ell": 4, "len": 4, "spr": 6}
TOP_DAGS = {
    "ell": [0.267] * 2 + [0.258] * 2 + [0.25] * 2 + [0.241] * 4,
    "len": [0.352] * 2 + [0.203] * 4 + [0.174] * 4,
    "spr": [0.15] * 6 + [0.0794] * 4,
}
M, s, R, S, m, f, w = range(7)
BEST_CLASS = {  # compelled (from, to), reversible pairs
    "ell": ({(s, M), (m, M), (f, M), (s, R), (S, R), (s, m), (S, m)}, {(R, m), (f, w)}),
    "len": ({(s, M), (S, M), (M, R), (S, R), (m, R)}, {(s, m), (f, w)}),
    "spr": ({(m, f), (w, f)}, {(M, s), (M, R), (M, m), (M, w), (R, S)}),
}


def galaxy_scores(kind: str) -> np.ndarray:
    path = local_path(f"smbh/causal_BH_{kind}_withname.csv")
    if path is None:
        pytest.skip("the galaxies are needed: set PAPERS_DATA to a mirror of the data")
    table = pd.read_csv(path).iloc[:, 1:]
    return log_scores(standardise(table.to_numpy()))


@pytest.mark.parametrize(("n", "classes"), [(1, 1), (2, 2), (3, 11), (4, 185), (5, 8782)])
def test_classes_of_all_dags(n: int, classes: int) -> None:
    found = classify(to_masks(all_dags(n)))
    assert len(found.sizes) == classes
    # All members are listed, so counting them must give the sizes that the chordal recursion computes.
    assert np.array_equal(np.bincount(found.member_of), found.sizes)
    assert found.sizes.sum() == len(all_dags(n))
    for c in range(0, classes, 7):
        members = all_dags(n)[found.member_of == c].astype(bool)
        assert np.array_equal(found.compelled[c], members.all(axis=0))
        assert np.array_equal(found.reversible[c], members.any(axis=0) & members.any(axis=0).T)


def test_grouping_is_that_of_skeletons_and_colliders() -> None:
    found, plain = classify(to_masks(all_dags(4))).member_of, equivalent(4)
    pairs = set(zip(found.tolist(), plain.tolist(), strict=True))
    assert len(pairs) == 185  # a one-to-one relation between the labels


@pytest.mark.parametrize("n", [2, 6, 9, 14])
def test_sizes_in_closed_form(n: int) -> None:
    complete = [(1 << j) - 1 for j in range(n)]
    chain = [0] + [1 << (j - 1) for j in range(1, n)]
    star = [0] + [1] * (n - 1)
    collider = [0] * (n - 1) + [(1 << (n - 1)) - 1]
    found = classify([complete, chain, star, collider, [0] * n])
    sizes = found.sizes[found.member_of]
    assert sizes.tolist() == [factorial(n), n, n, 1 if n > 2 else 2, 1]
    if n > 2:
        assert found.compelled[found.member_of[3]].sum() == n - 1


def test_size_of_a_chordal_ring_of_triangles() -> None:
    """The path of triangles 012, 123, 234, 345: counted by listing all orientations."""
    pairs = [(i, i + d) for i in range(6) for d in (1, 2) if i + d < 6]
    parents = [sum(1 << i for i, j in pairs if j == child) for child in range(6)]
    count = 0
    for code in range(2 ** len(pairs)):
        A = np.zeros((6, 6), dtype=int)
        for bit, (i, j) in enumerate(pairs):
            a, b = (i, j) if code >> bit & 1 else (j, i)
            A[a, b] = 1
        acyclic = not np.linalg.matrix_power(A, 6).any()
        apart = [
            (a, b)
            for c in range(6)
            for a in np.flatnonzero(A[:, c])
            for b in np.flatnonzero(A[:, c])
            if a < b and (a, b) not in pairs
        ]
        count += acyclic and not apart
    assert classify([parents]).sizes.tolist() == [count]


def test_class_probability_is_size_times_member() -> None:
    rng = np.random.default_rng(2)
    scores = log_scores(standardise(rng.normal(size=(25, 4)) @ rng.normal(size=(4, 4))))
    log_p = dag_log_scores(scores) - posterior(scores)["log_partition"]
    labels = equivalent(4)
    expected = np.sort(np.bincount(labels, np.exp(log_p)))[::-1]
    table = top_classes(scores, 20)
    assert table.complete
    assert (table.probability > table.unseen_below).all() or table.dags.covered > 1 - 1e-9
    np.testing.assert_allclose(table.probability, expected[:20], rtol=1e-9)


def test_more_classes_than_exist_and_bad_arguments() -> None:
    assert len(top_classes(np.zeros((3, 8)), 50).sizes) == 11
    with pytest.raises(DataMatrixError, match="k=0"):
        top_classes(np.zeros((3, 8)), 0)
    with pytest.raises(DataMatrixError, match="expected"):
        classify([1, 2, 3])
    rough = top_classes(random_table(np.random.default_rng(0), 5, 0.1), 3, threshold=3e-5)
    assert not rough.complete  # such a list proves nothing, and says so


def test_compelled_and_reversible_shares_add_up_to_the_edges() -> None:
    rng = np.random.default_rng(3)
    scores = log_scores(standardise(rng.normal(size=(25, 4)) @ rng.normal(size=(4, 4))))
    everything = top_dags(scores, 1e-14)
    compelled, reversible = edge_shares(everything.parents, np.exp(everything.log_probability))
    np.testing.assert_allclose(compelled.share + reversible.share, dag_posterior(scores).edges, atol=1e-9)
    samples = sample_dags(scores, 20_000, np.random.default_rng(0))
    for exact, sampled in zip((compelled, reversible), edge_shares(samples), strict=True):
        assert (exact.standard_error == 0).all()
        error = np.sqrt(exact.share * (1 - exact.share) / 20_000)
        assert (np.abs(sampled.share - exact.share) <= 5 * error + 1e-9).all()
        common = exact.share > 0.05
        np.testing.assert_allclose(sampled.standard_error[common], error[common], rtol=0.1)


def test_shd_counts_a_reversed_edge_once() -> None:
    chain, reverse, empty = [0, 0b001, 0b010], [0b010, 0b100, 0], [0, 0, 0]
    assert shd([chain], reverse).tolist() == [2]
    assert shd([chain, empty], chain).tolist() == [0, 2]
    assert shd([0, 1], [2, 0]) == 1
    A, masks = all_dags(4), to_masks(all_dags(4))
    rng = np.random.default_rng(0)
    a, b = rng.integers(len(A), size=(2, 200))
    differ = (A[a] != A[b]) | (A[a] != A[b]).transpose(0, 2, 1)
    assert np.array_equal(shd(masks[a], masks[b]), np.triu(differ).sum(axis=(1, 2)))


@pytest.mark.parametrize("kind", TOP_CLASSES)
def test_top_dags_and_classes_of_the_galaxies(kind: str) -> None:
    """Section 4.2: within .003 percentage points (and the rounding of the printed DAG probabilities)."""
    scores = galaxy_scores(kind)
    table = top_classes(scores, 10)
    assert table.complete
    assert table.sizes[0] == BEST_CLASS_SIZE[kind]
    np.testing.assert_allclose(100 * table.probability, TOP_CLASSES[kind], atol=0.003)
    np.testing.assert_allclose(100 * np.exp(table.dags.log_probability[:10]), TOP_DAGS[kind], atol=0.003)
    compelled, reversible = BEST_CLASS[kind]
    assert {(int(i), int(j)) for i, j in np.argwhere(table.compelled[0])} == compelled
    assert {(int(i), int(j)) for i, j in np.argwhere(np.triu(table.reversible[0]))} == reversible
    # Members counted in the list of DAGs, instead of computed:
    listed = classify(table.dags.parents)
    of_best = listed.member_of[0]
    assert (listed.member_of == of_best).sum() == listed.sizes[of_best]
    # Frequencies of the classes among exact samples: probability is size times member.
    size = 100_000
    samples = classify(sample_dags(scores, size, np.random.default_rng(0)))
    frequency = dict(zip(map(bytes, samples.keys), np.bincount(samples.member_of) / size, strict=True))
    for parents, p in zip(table.parents, table.probability, strict=True):
        sampled = frequency.get(bytes(classify([parents]).keys[0]), 0.0)
        assert abs(sampled - p) <= 4 * np.sqrt(p * (1 - p) / size)
