"""Leave one galaxy out.

The authors standardise ONCE, on all galaxies, and then drop a row: the reduced table has neither mean 0 nor deviation 1.
Standardising again after the omission is the cleaner way; single marginals move by up to some thousandths.
"""

from __future__ import annotations

import numpy as np

from lib.smbh.bge_score import standardise


def omissions(values: np.ndarray, again: bool = False) -> np.ndarray:
    """All tables with one galaxy left out.

    Args:
        values: raw values (N, n).
        again: whether each reduced table is standardised again (the authors do not).

    Returns:
        (N, N - 1, n), entry [g] without galaxy g.
    """
    rows = len(values)
    keep = np.array([np.delete(np.arange(rows), g) for g in range(rows)])  # (N, N - 1)
    reduced = standardise(values)[keep]
    return standardise(reduced) if again else reduced


def kept_share(lead: np.ndarray, base_lead: float) -> float:
    """Share of repetitions (repetitions,) whose lead has the sign of the base run's."""
    return float(np.mean(np.sign(lead) == np.sign(base_lead)))


def most_influential(
    values: np.ndarray, base: float, names: tuple[str, ...], count: int
) -> list[tuple[str, float]]:
    """The ``count`` galaxies whose omission moves a marginal (N,) farthest from its value on all galaxies."""
    order = np.argsort(-np.abs(values - base), kind="stable")[:count]
    return [(names[g], float(values[g])) for g in order]
