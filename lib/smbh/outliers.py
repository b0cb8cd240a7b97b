"""Rows far from the bulk of their table, in units that the outliers themselves do not widen."""

from __future__ import annotations

import numpy as np

from lib.smbh.data_matrix import DataMatrixError
from lib.smbh.galaxies import Sample


def without_outliers(sample: Sample, deviations: float) -> Sample:
    """The rows within ``deviations`` robust standard deviations (1.4826 MAD) of every column's median.

    Raises:
        DataMatrixError: for a column of which half the values are equal: it has no spread to count in.
    """
    centre = np.median(sample.values, axis=0)
    spread = 1.4826 * np.median(np.abs(sample.values - centre), axis=0)
    for variable, width in zip(sample.variables, spread, strict=True):
        if width == 0:
            raise DataMatrixError(
                f"column {variable!r}: half of the values are equal, so no value is an outlier"
            )
    keep = (np.abs(sample.values - centre) <= deviations * spread).all(axis=1)
    names = tuple(name for name, k in zip(sample.names, keep, strict=True) if k)
    return Sample(names, sample.variables, sample.values[keep], None, sample.truth)
