"""The list of top DAGs against the list of all DAGs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.smbh.dag_posterior import dag_posterior
from lib.smbh.data_matrix import DataMatrixError
from lib.smbh.top_dags import top_dags
from tests.smbh.plain_dags import all_dags, dag_log_scores, random_table, to_masks


@given(st.integers(0, 10**6), st.sampled_from([2, 3, 4, 5]), st.floats(0.2, 8.0), st.floats(-9.0, -1.0))
@settings(max_examples=25, deadline=None)
def test_lists_exactly_the_dags_above_the_threshold(seed: int, n: int, scale: float, exponent: float) -> None:
    table = random_table(np.random.default_rng(seed), n, scale)
    threshold = 10.0**exponent
    log_p = dag_log_scores(table) - dag_posterior(table, paths=False).log_partition
    above = log_p >= np.log(threshold)
    expected = {tuple(masks): p for masks, p in zip(to_masks(all_dags(n))[above], log_p[above], strict=True)}
    found = top_dags(table, threshold)
    assert len(found.parents) == len(expected)
    assert {tuple(masks) for masks in found.parents} == set(expected)
    for masks, p in zip(found.parents, found.log_probability, strict=True):
        assert p == pytest.approx(expected[tuple(masks)], abs=1e-9)
    assert (np.diff(found.log_probability) <= 0).all()
    assert found.covered == pytest.approx(np.exp(log_p[above]).sum(), abs=1e-9)


def test_forbidden_parent_sets_are_never_listed() -> None:
    table = random_table(np.random.default_rng(1), 4)
    table[2, 1:] = -np.inf
    found = top_dags(table, 1e-12)
    assert (found.parents[:, 2] == 0).all()
    assert found.covered == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("threshold", [0.0, -1e-3, 1.5, float("nan")])
def test_bad_threshold(threshold: float) -> None:
    with pytest.raises(DataMatrixError, match="threshold"):
        top_dags(np.zeros((3, 8)), threshold)


def test_one_table_at_a_time() -> None:
    with pytest.raises(DataMatrixError, match="one table"):
        top_dags(np.zeros((2, 3, 8)), 0.1)
