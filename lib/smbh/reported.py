"""The numbers that the authors report, read from ``reported.yml``, and comparison with them.

The authors sum in single precision and display two decimals; a difference up to .006 is rounding (.005) plus their sums
(up to 3e-4), see :data:`ROUNDING`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lib.smbh.data_matrix import check_names

ROUNDING = 0.006


@cache
def reported() -> Mapping[str, Any]:
    """The content of ``reported.yml``: one block per experiment, each with its source."""
    return yaml.safe_load(Path(__file__).with_name("reported.yml").read_text(encoding="utf-8"))


def matrix(text: str) -> np.ndarray:
    """Parse rows of numbers with ``-`` on the diagonal into an array (rows, columns); the diagonal is NaN.

    Raises:
        ValueError: if the rows differ in length or hold something else than numbers.
    """
    rows = [
        [np.nan if word == "-" else float(word) for word in line.split()]
        for line in text.splitlines()
        if line
    ]
    if len({len(row) for row in rows}) != 1:
        raise ValueError("the rows of a reported matrix differ in length")
    return np.array(rows)


def matrix_deviation(measured: np.ndarray, text: str) -> float:
    """Largest absolute difference between ``measured`` (rows, columns) and a reported matrix, its diagonal left out.

    Raises:
        ValueError: if the shapes differ.
    """
    wanted = matrix(text)
    if wanted.shape != measured.shape:
        raise ValueError(f"shapes differ: reported {wanted.shape}, measured {measured.shape}")
    return float(np.nanmax(np.abs(wanted - measured)))


def entry(measured: np.ndarray, arrow: str, variables: Sequence[str]) -> np.ndarray:
    """The entries (...) of matrices ``measured`` (..., n, n) at an arrow such as ``"sigma0 -> M_bh"``.

    Raises:
        ValueError: for a variable that is not among ``variables``, or names that do not fit the matrices.
    """
    variables = check_names(variables, measured.shape[-1])
    parent, child = arrow.split(" -> ")
    return measured[..., variables.index(parent), variables.index(child)]


def spread_deviation(
    edges: np.ndarray, paths: np.ndarray, block: Mapping[str, Any], kind: str, variables: Sequence[str]
) -> float:
    """Largest difference of mean and standard deviation (ddof 0) over repetitions from the reported pairs.

    Args:
        edges, paths: marginals of the repetitions (repetitions, n, n).
        block: ``error_draws`` or ``leave_one_out`` of :func:`reported`.
        kind: galaxy type.
        variables: symbols of the columns.
    """
    gaps = []
    for name, measured in (("edges", edges), ("paths", paths)):
        for arrow, (mean, spread) in block[name][kind].items():
            values = entry(measured, arrow, variables)
            gaps += [abs(values.mean() - mean), abs(values.std() - spread)]
    return float(max(gaps))
