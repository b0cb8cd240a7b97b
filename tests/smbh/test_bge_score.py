"""The BGe score against its formula written out, score equivalence, a peer, and wrong input."""

from __future__ import annotations

import itertools
from math import lgamma, log, pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.smbh.bge_score import (
    log_scores,
    log_scores_from_R,
    posterior_matrix,
    principal_log_determinants,
    standardise,
    sufficient_statistics,
)
from lib.smbh.data_matrix import DataMatrixError
from tests.smbh.plain_dags import all_dags, equivalent, to_masks


def correlated(seed: int, rows: int, n: int, offset: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, n)) @ rng.normal(size=(n, n)) + offset


def plain_score(X: np.ndarray, j: int, parents: list[int], alpha_mu: float, alpha_w: float) -> float:
    """Equation of section 2.2 for one child and parent set, determinant by determinant."""
    N, n = X.shape
    l = len(parents)
    t = alpha_mu * (alpha_w - n - 1) / (alpha_mu + 1)
    mean = X.mean(axis=0)
    R = t * np.eye(n) + sum(np.outer(x - mean, x - mean) for x in X)
    R = R + N * alpha_mu / (N + alpha_mu) * np.outer(mean, mean)
    f = alpha_w - n + l + 1
    family = [*parents, j]
    log_det = np.linalg.slogdet(R[np.ix_(parents, parents)])[1] if parents else 0.0
    log_det_family = np.linalg.slogdet(R[np.ix_(family, family)])[1]
    return (
        0.5 * log(alpha_mu / (N + alpha_mu))
        + lgamma((N + f) / 2)
        - lgamma(f / 2)
        - N / 2 * log(pi)
        + (f + l) / 2 * log(t)
        + (N + f - 1) / 2 * log_det
        - (N + f) / 2 * log_det_family
    )


@pytest.mark.parametrize(
    ("n", "alpha_mu", "alpha_w"), [(1, 1.0, None), (4, 1.0, None), (5, 0.1, 9.5), (3, 10.0, 40)]
)
def test_scores_follow_the_equation(n: int, alpha_mu: float, alpha_w: float | None) -> None:
    X = correlated(n, 17, n, offset=1.3)
    scores = log_scores(X, alpha_mu, alpha_w)
    for j, mask in itertools.product(range(n), range(2**n)):
        parents = [i for i in range(n) if mask >> i & 1]
        if j in parents:
            assert scores[j, mask] == -np.inf
        else:
            expected = plain_score(X, j, parents, alpha_mu, alpha_w or n + 2)
            assert scores[j, mask] == pytest.approx(expected, abs=1e-9)


def test_default_degrees_of_freedom_follow_the_number_of_variables() -> None:
    X = correlated(0, 20, 6)
    assert np.array_equal(log_scores(X), log_scores(X, alpha_w=8))
    assert not np.allclose(log_scores(X)[:, 0], log_scores(X, alpha_w=9)[:, 0])
    # With alpha_w = n + 2 the score does not depend on the variables that are left out (n cancels in f and t) ...
    np.testing.assert_allclose(log_scores(X[:, :5])[:, :32], log_scores(X)[:5, :32], atol=1e-9)
    # ... but it does where alpha_w is kept fixed, as it would be by a 9 written for n = 7.
    assert not np.allclose(log_scores(X[:, :5], alpha_w=9)[:, :32], log_scores(X, alpha_w=9)[:5, :32])


@given(st.integers(0, 10**6), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_principal_log_determinants(seed: int, n: int) -> None:
    A = np.random.default_rng(seed).normal(size=(n + 2, n))
    R = A.T @ A + 0.1 * np.eye(n)
    log_det = principal_log_determinants(R)
    for mask in range(2**n):
        members = [i for i in range(n) if mask >> i & 1]
        expected = np.linalg.slogdet(R[np.ix_(members, members)])[1] if members else 0.0
        assert log_det[mask] == pytest.approx(expected, abs=1e-9)


def test_batches_equal_single_data_sets() -> None:
    X = np.stack([[correlated(10 * a + b, 12, 4, b) for b in range(3)] for a in range(2)])
    scores = log_scores(X)
    assert scores.shape == (2, 3, 4, 16)
    for a, b in itertools.product(range(2), range(3)):
        np.testing.assert_allclose(scores[a, b], log_scores(X[a, b]), atol=1e-10)


def test_sufficient_statistics_give_the_same_scores_for_several_sample_sizes() -> None:
    samples = [correlated(1, 12, 4), correlated(2, 30, 4, 2.0)]
    R = np.stack([posterior_matrix(sufficient_statistics(X)) for X in samples])
    together = log_scores_from_R(R, np.array([12, 30]))
    for scores, X in zip(together, samples, strict=True):
        np.testing.assert_allclose(scores, log_scores(X), atol=1e-10)


def test_equivalent_dags_have_equal_scores() -> None:
    """All 185 classes on 4 nodes (score equivalence), for data with nonzero means."""
    scores = log_scores(correlated(3, 15, 4, offset=0.7))
    per_dag = scores[np.arange(4), to_masks(all_dags(4))].sum(axis=1)
    labels = equivalent(4)
    assert labels.max() + 1 == 185
    for label in range(185):
        assert np.ptp(per_dag[labels == label]) < 1e-9
    assert len(np.unique(per_dag.round(6))) == 185  # and the score tells the classes apart


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_permuting_columns_permutes_the_table(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, order = correlated(seed, 14, 4), rng.permutation(4)
    scores, permuted = log_scores(X), log_scores(X[:, order])
    for j, mask in itertools.product(range(4), range(16)):
        original = sum(1 << int(order[i]) for i in range(4) if mask >> i & 1)
        np.testing.assert_allclose(permuted[j, mask], scores[order[j], original], atol=1e-9)


def test_standardise_divides_by_the_sample_deviation_and_forgets_units() -> None:
    X = correlated(4, 11, 3, offset=5.0)
    Z = standardise(X)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(Z.std(axis=0, ddof=1), 1, atol=1e-12)
    assert not np.allclose(Z, standardise(X, ddof=0))
    np.testing.assert_allclose(standardise(X * [2.0, 0.1, 30.0] - [1.0, 8.0, 0.0]), Z, atol=1e-10)


def test_scores_equal_those_of_sumu() -> None:
    sumu = pytest.importorskip("sumu", reason="the peer package sumu is not installed")
    for seed, offset in ((0, 0.0), (1, 1.7)):
        X = correlated(seed, 25, 4, offset)
        peer = sumu.LocalScore(data=sumu.Data(X, discrete=False), scoref="bge", prior="unif", maxid=3)
        scores = log_scores(X)
        for j, mask in itertools.product(range(4), range(16)):
            if not mask >> j & 1:
                parents = np.array([i for i in range(4) if mask >> i & 1], dtype=int)
                assert scores[j, mask] == pytest.approx(peer.local(j, parents), abs=1e-9)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(3), "expected"),
        (np.zeros((1, 3)), "at least 2 rows"),
        (np.zeros((0, 3)), "at least 2 rows"),
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "column 2 of 2, row 1 of the data: the value is NaN"),
        (np.array([[1.0, 3.0], [0.0, np.inf]]), "column 2 of 2, row 2 of the data: the value is infinite"),
        (np.zeros((5, 0)), "variables"),
        (np.zeros((5, 17)), "variables"),
    ],
)
def test_bad_data_is_one_clear_line(X: np.ndarray, message: str) -> None:
    for function in (log_scores, standardise):
        with pytest.raises(DataMatrixError, match=message) as error:
            function(X)
        assert "\n" not in str(error.value)


def test_bad_hyper_parameters() -> None:
    X = correlated(5, 9, 3)
    with pytest.raises(DataMatrixError, match="alpha_w=4"):
        log_scores(X, alpha_w=4)
    with pytest.raises(DataMatrixError, match="alpha_mu=0"):
        log_scores(X, alpha_mu=0)
    with pytest.raises(DataMatrixError, match="positive definite"):
        log_scores_from_R(-np.eye(3), 5)
    with pytest.raises(DataMatrixError, match="expected"):
        log_scores_from_R(np.ones((2, 3)), 5)
