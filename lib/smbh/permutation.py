"""Permutation of morphology labels: would any two groups of galaxies of these sizes contrast as much as E and S do?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.kept_results import Array
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_posterior import dag_posterior
from lib.smbh.data_matrix import DataMatrixError


@dataclass(frozen=True)
class PermutationTest:
    """Contrast of the real labels, contrasts of permuted ones (permutations,), and how many of these are as large."""

    observed: float
    null: Array

    @property
    def as_large(self) -> int:
        """Number of permutations whose contrast is at least as large in absolute value."""
        return int(np.sum(np.abs(self.null) >= abs(self.observed)))

    @property
    def p_value(self) -> float:
        """Two-sided p; the real labelling counts as one of the permutations, so it is never 0."""
        return (self.as_large + 1) / (len(self.null) + 1)


def lead(values: np.ndarray, cause: int, effect: int, batch: int = 500) -> np.ndarray:
    """P(cause ~> effect) - P(effect ~> cause) of tables (B, N, n), each standardised; (B,).

    Raises:
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`.
    """
    leads = []
    for begin in range(0, len(values), batch):
        paths = dag_posterior(log_scores(standardise(values[begin : begin + batch]))).paths
        assert paths is not None
        leads.append(paths[:, cause, effect] - paths[:, effect, cause])
    return np.concatenate(leads)


def permutation_test(
    first: np.ndarray,
    second: np.ndarray,
    cause: int,
    effect: int,
    permutations: int,
    rng: np.random.Generator,
    names: Sequence[str] | None = None,
) -> PermutationTest:
    """Contrast the lead of cause over effect in ``second`` with that in ``first``, under real and shuffled labels.

    Each group is centred and scaled before they are pooled, so that shuffled groups differ in structure and not in location;
    every shuffled group is standardised as the real ones are.

    Args:
        first, second: raw values (N1, n) and (N2, n).
        cause, effect: columns.
        permutations: number of shuffles. rng: of the shuffles.
        names: of the columns, for the errors.

    Raises:
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`; also for groups of other columns, and for no permutation.
    """
    groups = standardise(first, names), standardise(second, names)
    if groups[0].shape[1:] != groups[1].shape[1:]:
        raise DataMatrixError(f"the groups differ in columns: {first.shape[1:]} and {second.shape[1:]}")
    if permutations < 1:
        raise DataMatrixError(f"permutations={permutations}: at least one is needed")
    pooled = np.concatenate(groups)
    orders = np.stack([rng.permutation(len(pooled)) for _ in range(permutations)])
    shuffled = pooled[orders]  # (permutations, N1 + N2, n)
    null = lead(shuffled[:, len(first) :], cause, effect) - lead(shuffled[:, : len(first)], cause, effect)
    observed = lead(second[None], cause, effect) - lead(first[None], cause, effect)
    return PermutationTest(float(observed[0]), null)
