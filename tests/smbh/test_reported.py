"""The published matrices come back from the real tables, and a wrong matrix would be noticed."""

import numpy as np
import pytest

from lib.smbh.directions import posterior
from lib.smbh.galaxies import BASE, DISTANCE, TYPES
from lib.smbh.reported import ROUNDING, entry, matrix, matrix_deviation, reported


@pytest.mark.parametrize("kind", TYPES)
def test_base_run(real, kind):
    found, paper = posterior(real.base[kind].values), reported()["base"]
    assert matrix_deviation(found.edges, paper["edges"][kind]) < ROUNDING
    assert matrix_deviation(found.paths, paper["paths"][kind]) < ROUNDING
    assert matrix_deviation(found.edges.T, paper["edges"][kind]) > 0.1  # transposed
    assert matrix_deviation(found.edges, paper["paths"][kind]) > 0.1  # edges taken for paths


@pytest.mark.parametrize("kind", TYPES)
def test_the_deviation_that_the_authors_divide_by_matters(real, kind):
    from lib.smbh.bge_score import log_scores, standardise
    from lib.smbh.dag_posterior import dag_posterior

    X = standardise(real.base[kind].values, ddof=0)
    gap = matrix_deviation(dag_posterior(log_scores(X)).paths, reported()["base"]["paths"][kind])
    exact = matrix_deviation(posterior(real.base[kind].values).paths, reported()["base"]["paths"][kind])
    assert gap > exact


@pytest.mark.parametrize("kind", ["ell", "spr", "nofb"])
def test_semi_analytic_model(real, kind):
    found, paper = posterior(real.sam[kind].values), reported()["sam"]
    assert matrix_deviation(found.edges, paper["edges"][kind]) < ROUNDING
    assert matrix_deviation(found.paths, paper["paths"][kind]) < ROUNDING


@pytest.mark.parametrize("kind", TYPES)
def test_distance_run(real, kind):
    found, paper = posterior(real.distance[kind].values), reported()["distance"]
    for variable, row in paper["rows"][kind].items():
        assert matrix_deviation(found.edges[[DISTANCE.index(variable)]], row) < ROUNDING
    assert matrix_deviation(found.edges[:, 0][None], paper["into_M_bh"][kind]) < ROUNDING
    for arrow, value in paper["paths"][kind].items():
        assert abs(entry(found.paths, arrow, DISTANCE) - value) < ROUNDING


def test_every_block_names_its_source():
    assert all(block.get("source") for block in reported().values())


def test_reported_matrices_have_an_empty_diagonal_and_marginals_that_may_coexist():
    for kind in TYPES:
        edges = matrix(reported()["base"]["edges"][kind])
        assert edges.shape == (len(BASE), len(BASE))
        assert np.isnan(np.diag(edges)).all()
        assert np.isnan(edges).sum() == len(BASE)
        assert np.nanmax(edges + edges.T) <= 1.011


def test_malformed_matrices_are_refused():
    with pytest.raises(ValueError, match="length"):
        matrix("- .1\n.2 - .3\n")
    with pytest.raises(ValueError, match="shapes differ"):
        matrix_deviation(np.zeros((3, 3)), "- .1\n.2 -\n")


def test_entry_reads_parent_row_and_child_column():
    values = np.arange(8.0).reshape(2, 2, 2)
    np.testing.assert_array_equal(entry(values, "b -> a", ("a", "b")), [2.0, 6.0])
