"""What a data matrix has to be before anything is computed from it: one check, for the score and for the tests of independence.

Scores and tests give some answer for any numbers. A constant column gets an arrow from every other variable, a copied one
shares the arrows of its twin, and with too few names the last columns vanish from the graph. So every public function that takes
data checks them here first, and the error is one line that names the column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lib.profiles import OneLineError

Array = NDArray[np.float64]

# 2**n masks per child: at n = 16 the score table of one data set holds a million numbers.
MAX_VARIABLES = 16
LARGEST = 1e150  # squares of larger numbers overflow
SAME = 1e-12  # one minus the correlation of a column with its copy, which rounding leaves


class DataMatrixError(OneLineError, ValueError):
    """A data matrix or score table of the wrong shape, too small, constant, copied or not finite, or names that do not fit."""


def check_names(names: Sequence[str], columns: int) -> tuple[str, ...]:
    """Return the names of ``columns`` columns as a tuple.

    Raises:
        DataMatrixError: for another number of names, or one that stands twice.
    """
    names = tuple(names)
    if len(names) != columns:
        raise DataMatrixError(f"{len(names)} names for {columns} columns: {', '.join(map(str, names))}")
    for i, name in enumerate(names):
        if name in names[:i]:
            raise DataMatrixError(
                f"columns {names.index(name) + 1} and {i + 1} are both called {name!r}: each needs a name of its own"
            )
    return names


def check_data(X: ArrayLike, names: Sequence[str] | None = None, *, least_rows: int = 2) -> Array:
    """Return data (..., N, n) as float64 once nothing is wrong with them.

    Args:
        X: data, one column per variable; leading dimensions are data sets.
        names: names of the columns, for the errors; without them a column is called by its number, the first 1.
        least_rows: rows that the caller needs.

    Raises:
        DataMatrixError: one line, for a wrong shape, too few rows, another number of names, a name that stands twice, a value that
            is no finite number, or a column that is constant or the copy of another one (up to shift and scale).
    """
    try:
        X = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataMatrixError(f"the data are no rectangle of numbers ({error})") from None
    if X.ndim < 2:
        raise DataMatrixError(f"data of shape {X.shape}: expected (..., rows, variables)")
    n_rows, n = X.shape[-2:]
    if not 1 <= n <= MAX_VARIABLES:
        raise DataMatrixError(
            f"data of shape {X.shape}: 1 to {MAX_VARIABLES} variables are possible, found {n}"
        )
    called = _call(None if names is None else check_names(names, n), n)
    if n_rows < least_rows:
        raise DataMatrixError(
            f"data of shape {X.shape}: at least {least_rows} rows are needed, found {n_rows}"
        )
    _check_values(X, called)
    _check_columns(X, called)
    return X


def standard_deviation(X: Array, ddof: int = 1) -> Array:
    """Standard deviation of every column (..., 1, n), squared deviations divided by N - ddof; 0 for a constant column."""
    centred = X - X.mean(axis=-2, keepdims=True)
    deviation: Array = np.sqrt((centred**2).sum(axis=-2, keepdims=True) / (X.shape[-2] - ddof))
    # A constant column leaves rounding noise behind, so zero means zero on the scale of the column's values.
    constant = deviation <= 1e-13 * np.abs(X).max(axis=-2, keepdims=True)
    return np.where(constant, 0.0, deviation)


def check_independent_columns(X: Array, names: Sequence[str]) -> None:
    """Check that no column (N, n) is a sum of multiples of other ones, which leaves partial correlations undefined.

    Raises:
        DataMatrixError: naming the first column that follows from the columns before it.
    """
    Z = (X - X.mean(axis=0)) / standard_deviation(X)
    left = np.abs(
        np.diagonal(np.linalg.qr(Z / np.sqrt(len(X) - 1), mode="r"))
    )  # of each column's unit length
    dependent = np.flatnonzero(left < np.sqrt(SAME))
    if dependent.size:
        raise DataMatrixError(
            f"column {names[int(dependent[0])]!r} is a linear combination of the columns before it: no partial correlation exists"
        )


def _call(names: Sequence[str] | None, n: int) -> list[str]:
    return [f"column {i + 1} of {n}" for i in range(n)] if names is None else [f"column {v!r}" for v in names]


def _check_values(X: Array, called: Sequence[str]) -> None:
    bad = ~(np.abs(X) < LARGEST)
    if bad.any():
        *_, row, column = np.argwhere(bad)[0]
        value = X[bad][0]
        what = (
            "NaN"
            if np.isnan(value)
            else "infinite"
            if np.isinf(value)
            else f"{value:g}, too large to be squared"
        )
        raise DataMatrixError(f"{called[column]}, row {row + 1} of the data: the value is {what}")


def _check_columns(X: Array, called: Sequence[str]) -> None:
    deviation = standard_deviation(X)
    if not deviation.all():
        column = int(np.argwhere(deviation == 0)[0, -1])
        raise DataMatrixError(f"{called[column]} of the data is constant: it has zero variance")
    if X.shape[-2] == 2:
        return  # any two columns of two rows are copies
    Z = (X - X.mean(axis=-2, keepdims=True)) / deviation
    correlation = np.swapaxes(Z, -1, -2) @ Z / (X.shape[-2] - 1)
    for *dataset, first, second in np.argwhere(np.triu(1.0 - np.abs(correlation) < SAME, k=1)):
        # two columns of three rows may be as close as this by chance, but not as close as rounding brings a copy
        at = tuple(dataset)
        turned = np.sign(correlation[(*at, first, second)])
        apart = np.abs(Z[at][:, first] - turned * Z[at][:, second]).max()
        noise = (np.abs(X[at]).max(axis=0) / deviation[at][0])[[first, second]].sum() * np.finfo(float).eps
        if apart <= 1e-9 + 4.0 * noise:
            raise DataMatrixError(f"{called[second]} is a copy of {called[first]}, up to shift and scale")
