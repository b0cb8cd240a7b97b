"""Data that cannot be meant are refused in one line that names the column, by every function that takes data."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.datasets import DataError
from lib.smbh import constraint_based, directions, galaxies
from lib.smbh.bge_score import log_scores, standardise, sufficient_statistics
from lib.smbh.calibration import edge_marginals
from lib.smbh.data_matrix import DataMatrixError, check_data, check_names
from lib.smbh.galaxies import Sample
from lib.smbh.leave_one_out import most_influential, omissions
from lib.smbh.outliers import without_outliers
from lib.smbh.permutation import lead, permutation_test
from lib.smbh.power import power_curve
from lib.smbh.reported import entry
from lib.smbh.sensitivity import rank_gaussianise, sensitivity

NAMES = ("M_bh", "sigma0", "Re", "sSFR")
GOOD = np.random.default_rng(3).normal(size=(20, 4))
RNG = np.random.default_rng(0)

WITH_NAMES: dict[str, Callable[[np.ndarray, Any], Any]] = {
    "pc": lambda X, names: constraint_based.constraint_graph(X, names, "pc", 0.15),
    "fci": lambda X, names: constraint_based.constraint_graph(X, names, "fci", 0.15),
    "standardise": standardise,
    "log_scores": lambda X, names: log_scores(X, names=names),
    "sufficient_statistics": sufficient_statistics,
    "posterior": directions.posterior,
    "omissions": lambda X, names: omissions(X, names=names),
    "sensitivity": lambda X, names: sensitivity(X, 5, RNG, names),
    "permutation, first": lambda X, names: permutation_test(X, GOOD, 0, 1, 2, RNG, names),
    "permutation, second": lambda X, names: permutation_test(GOOD, X, 0, 1, 2, RNG, names),
    "power": lambda X, names: power_curve(X, 0, 1, (8,), 2, RNG, names),
}
WITHOUT: dict[str, Callable[[np.ndarray], Any]] = {
    "ranks": rank_gaussianise,
    "lead": lambda X: lead(X[None], 0, 1),
    "calibration, standardised": lambda X: edge_marginals(X[None], True),
    "calibration": lambda X: edge_marginals(X[None], False),
}


def changed(column: int, values: Any) -> np.ndarray:
    X = GOOD.copy()
    X[:, column] = values
    return X


def not_a_number(column: int, value: float) -> np.ndarray:
    X = GOOD.copy()
    X[6, column] = value
    return X


FAULTS = {
    "constant": (changed(2, 0.1), 2, "is constant"),
    "copied": (changed(3, GOOD[:, 1]), 3, "is a copy of"),
    "copied, shifted and turned": (changed(3, 1e3 - 0.01 * GOOD[:, 1]), 3, "is a copy of"),
    "NaN": (not_a_number(1, np.nan), 1, "row 7 of the data: the value is NaN"),
    "infinite": (not_a_number(1, -np.inf), 1, "row 7 of the data: the value is infinite"),
    "huge": (not_a_number(2, 1e200), 2, "too large"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("function", WITH_NAMES)
def test_the_column_is_named(function: str, fault: str) -> None:
    X, column, what = FAULTS[fault]
    with pytest.raises(DataMatrixError, match=f"^column '{NAMES[column]}'.*{what}") as error:
        WITH_NAMES[function](X, NAMES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("function", WITHOUT)
def test_a_column_without_a_name_is_called_by_its_number(function: str, fault: str) -> None:
    X, column, what = FAULTS[fault]
    with pytest.raises(DataMatrixError, match=f"^column {column + 1} of 4.*{what}"):
        WITHOUT[function](X)


@pytest.mark.parametrize("function", WITH_NAMES)
@pytest.mark.parametrize(
    ("X", "names", "message"),
    [
        (GOOD, NAMES[:3], "3 names for 4 columns: M_bh, sigma0, Re"),
        (GOOD, (*NAMES, "W2W3"), "5 names for 4 columns"),
        (GOOD, ("M_bh", "Re", "sigma0", "Re"), "columns 2 and 4 are both called 'Re'"),
        (GOOD[:1], NAMES, "rows are needed, found 1"),
        (GOOD[:0], NAMES, "rows are needed, found 0"),
        (GOOD[0], NAMES, "expected"),
        ([["a", "b", "c", "d"]] * 9, NAMES, "no rectangle of numbers"),
        ([[1.0, 2.0, 3.0, 4.0], [1.0]], NAMES, "no rectangle of numbers"),
    ],
)
def test_names_and_rows_are_counted(function: str, X: Any, names: Any, message: str) -> None:
    with pytest.raises(DataMatrixError, match=message) as error:
        WITH_NAMES[function](X, names)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("function", [*WITH_NAMES])
def test_good_data_pass(function: str) -> None:
    WITH_NAMES[function](GOOD, NAMES)


@given(st.integers(0, 2**31), st.integers(6, 30), st.integers(1, 6), st.sampled_from([1e-8, 1.0, 1e8]))
def test_no_other_column_is_taken_for_a_copy(seed: int, rows: int, n: int, offset: float) -> None:
    X = np.random.default_rng(seed).normal(size=(rows, n)) + offset
    np.testing.assert_array_equal(check_data(X), X)


def test_three_rows_may_be_close_by_chance() -> None:
    X = np.array([[0.0, 0.0], [1.0, 1.0], [3.0, 3.0 + 1e-6]])  # correlation 1 - 1e-13
    assert 1 - np.corrcoef(X.T)[0, 1] < 1e-12
    check_data(X)


def test_a_copy_far_from_zero_is_one() -> None:
    x = np.random.default_rng(0).normal(size=30)
    with pytest.raises(DataMatrixError, match="column 2 of 2 is a copy of column 1 of 2"):
        check_data(np.column_stack([x, 1e7 + x]))


def test_two_rows_make_all_columns_copies_and_are_not_called_so() -> None:
    check_data(GOOD[:2])


# PC and FCI need more than the score does


@pytest.mark.parametrize("algorithm", ["pc", "fci"])
def test_tests_of_independence_need_two_rows_more_than_columns(algorithm: str) -> None:
    constraint_based.constraint_graph(GOOD[:6], NAMES, algorithm, 0.15)
    with pytest.raises(DataMatrixError, match="at least 6 rows are needed, found 5"):
        constraint_based.constraint_graph(GOOD[:5], NAMES, algorithm, 0.15)


@pytest.mark.parametrize("algorithm", ["pc", "fci"])
def test_a_sum_of_other_columns_has_no_partial_correlation(algorithm: str) -> None:
    X = changed(3, GOOD[:, 0] - 2 * GOOD[:, 2])
    with pytest.raises(DataMatrixError, match="column 'sSFR' is a linear combination"):
        constraint_based.constraint_graph(X, NAMES, algorithm, 0.15)
    log_scores(X, names=NAMES)  # the score's prior makes its matrix positive definite


def test_a_batch_has_no_one_graph() -> None:
    with pytest.raises(DataMatrixError, match="one data set"):
        constraint_based.constraint_graph(GOOD[None], NAMES, "pc", 0.15)


# Names beside matrices and galaxies


def test_names_beside_matrices_are_counted() -> None:
    marks = np.zeros((4, 4), dtype=int)
    calls: list[Callable[[Any], Any]] = [
        lambda names: constraint_based.marked_edges(marks, names),
        lambda names: constraint_based.against_posterior(frozenset(), marks, names),
        lambda names: entry(marks, "M_bh -> sigma0", names),
        lambda names: directions.lead(marks, ("M_bh", "sigma0"), names),
        lambda names: check_names(names, 4),
        lambda names: most_influential(np.zeros(4), 0.0, names, 2),
    ]
    for call in calls:
        call(NAMES)
        with pytest.raises(DataMatrixError, match="3 names for 4 columns"):
            call(NAMES[:3])
        with pytest.raises(DataMatrixError, match="columns 1 and 2 are both called 'M_bh'"):
            call(("M_bh", "M_bh", "Re", "sSFR"))


def test_a_graph_of_other_variables_is_not_compared() -> None:
    graph = constraint_based.reported_graph(["M_bh -> W2W3"])
    with pytest.raises(DataMatrixError, match="'W2W3' is not among M_bh, sigma0, Re, sSFR"):
        constraint_based.against_posterior(graph, np.zeros((4, 4)), NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("a", "b")}, "2 galaxies for values of shape"),
        ({"names": ("a", "b", "a")}, "galaxy 'a' stands 2 times"),
        ({"variables": ("M_bh",)}, "1 names for 2 columns"),
        ({"variables": ("M_bh", "M_bh")}, "both called 'M_bh'"),
        ({"errors": np.ones((3, 3))}, r"errors of shape \(3, 3\)"),
        ({"truth": np.ones((3, 3))}, r"a graph of shape \(3, 3\)"),
    ],
)
def test_a_sample_fits_together(changes: dict[str, Any], message: str) -> None:
    whole = {"names": ("a", "b", "c"), "variables": ("M_bh", "Re"), "values": np.eye(3)[:, :2]}
    Sample(**whole)
    with pytest.raises(DataError, match=message):
        Sample(**(whole | changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Galaxy,M_BH,log_sigma0\na,1,2\nb,3,2\n", "column 'log_sigma0' of the data is constant"),
        ("Galaxy,M_BH,log_sigma0\na,1,2\nb,3,4\nc,2,3\n", "column 'log_sigma0' is a copy of column 'M_BH'"),
        ("Galaxy,M_BH,log_sigma0\na,1,2\n", "data of shape (1, 2): at least 2 rows are needed, found 1"),
        ("Galaxy,M_BH,log_sigma0\na,1,2\na,3,4\nc,2,9\n", "galaxy 'a' stands 2 times"),
        ("Galaxy,M_BH,log_sigma0,M_BH\na,1,2,1\nb,3,4,3\nc,2,9,2\n", "column 'M_BH' stands 2 times"),
    ],
)
def test_a_file_is_named_with_its_column(tmp_path: Any, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(f"t.csv: {message}")) as error:
        galaxies.read_table(path, ("M_bh", "sigma0"))
    assert "\n" not in str(error.value)


def test_a_column_without_spread_has_no_outliers() -> None:
    values = np.column_stack([np.r_[np.zeros(15), np.arange(5.0)], GOOD[:, 1]])
    sample = Sample(tuple(map(str, range(20))), ("M_bh", "Re"), values)
    with pytest.raises(DataMatrixError, match="column 'M_bh': half of the values are equal"):
        without_outliers(sample, 6.0)


def test_no_repetition_is_no_experiment() -> None:
    with pytest.raises(DataMatrixError, match="permutations=0"):
        permutation_test(GOOD, GOOD, 0, 1, 0, RNG)
    with pytest.raises(DataMatrixError, match="subsamples=0"):
        power_curve(GOOD, 0, 1, (8,), 0, RNG)
    with pytest.raises(DataMatrixError, match="differ in columns"):
        permutation_test(GOOD, GOOD[:, :3], 0, 1, 2, RNG)
