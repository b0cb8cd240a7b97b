"""Independent samples against exact probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_posterior import dag_posterior
from lib.smbh.dag_sampling import sample_dags
from lib.smbh.data_matrix import DataMatrixError
from tests.smbh.plain_dags import all_dags, dag_log_scores, posterior, random_table, to_masks


def closure(parents: np.ndarray) -> np.ndarray:
    """Reachability (K, n, n) of parent masks (K, n) by repeated squaring."""
    n = parents.shape[1]
    reach = (parents[:, None, :] >> np.arange(n)[:, None] & 1).astype(bool)
    for _ in range(n.bit_length()):
        reach = reach | (reach.astype(np.uint8) @ reach.astype(np.uint8) > 0)
    return reach


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_every_dag_has_its_probability(scale: float) -> None:
    """All 543 DAGs on 4 nodes: chi-square of the counts."""
    table = random_table(np.random.default_rng(0), 4, scale)
    p = np.exp(dag_log_scores(table) - posterior(table)["log_partition"])
    samples = sample_dags(table, 50_000, np.random.default_rng(1))
    place = {tuple(masks): g for g, masks in enumerate(to_masks(all_dags(4)))}
    counts = np.bincount(
        [place[tuple(masks)] for masks in samples], minlength=543
    )  # a cycle would be a KeyError
    often = 50_000 * p >= 5
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(50_000 * p[often], 50_000 * p[~often].sum() + 1e-9)
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1] * observed[:-1].sum() / expected[:-1].sum()
    assert chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-4


def test_seven_variables_edges_and_paths() -> None:
    """50,000 samples, all acyclic, frequencies within 5 standard errors."""
    rng = np.random.default_rng(2)
    scores = log_scores(standardise(rng.normal(size=(30, 7)) @ rng.normal(size=(7, 7))))
    size = 50_000
    samples = sample_dags(scores, size, np.random.default_rng(3))
    reach = closure(samples)
    assert not np.diagonal(reach, axis1=1, axis2=2).any()
    exact = dag_posterior(scores)
    assert exact.paths is not None
    edges = (samples[:, None, :] >> np.arange(7)[:, None] & 1).mean(axis=0)
    for frequency, p in ((edges, exact.edges), (reach.mean(axis=0), exact.paths)):
        assert (np.abs(frequency - p) <= 5 * np.sqrt(p * (1 - p) / size) + 1e-12).all()


def test_huge_score_ranges_and_forbidden_sets() -> None:
    table = random_table(np.random.default_rng(4), 5, 800.0)
    table[3, 1:] = -np.inf
    samples = sample_dags(table, 200, np.random.default_rng(0))
    best = to_masks(all_dags(5))[np.argmax(dag_log_scores(table))]
    assert (samples == best).all()
    assert (samples[:, 3] == 0).all()


def test_same_seed_same_samples() -> None:
    table = random_table(np.random.default_rng(5), 5)
    assert np.array_equal(
        sample_dags(table, 100, np.random.default_rng(7)), sample_dags(table, 100, np.random.default_rng(7))
    )
    assert not np.array_equal(
        sample_dags(table, 100, np.random.default_rng(7)), sample_dags(table, 100, np.random.default_rng(8))
    )
    assert sample_dags(table, 0, np.random.default_rng(7)).shape == (0, 5)


def test_bad_arguments() -> None:
    with pytest.raises(DataMatrixError, match="size=-1"):
        sample_dags(np.zeros((3, 8)), -1, np.random.default_rng(0))
    with pytest.raises(DataMatrixError, match="one table"):
        sample_dags(np.zeros((2, 3, 8)), 1, np.random.default_rng(0))
