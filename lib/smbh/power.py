"""Power at the real number of galaxies: how often does a subsample of a simulated universe show its direction?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.kept_results import Array
from lib.smbh.data_matrix import DataMatrixError, check_data
from lib.smbh.permutation import lead


@dataclass(frozen=True)
class PowerPoint:
    """Subsamples of one size.

    Attributes:
        rows: galaxies per subsample.
        leads: (subsamples,) P(cause ~> effect) - P(effect ~> cause).
        full_lead: the same on the full sample.
    """

    rows: int
    leads: Array
    full_lead: float

    @property
    def agreeing(self) -> int:
        """Number of subsamples whose lead has the sign of the full sample's."""
        return int(np.sum(np.sign(self.leads) == np.sign(self.full_lead)))


def power_curve(
    values: np.ndarray,
    cause: int,
    effect: int,
    sizes: Sequence[int],
    subsamples: int,
    rng: np.random.Generator,
    names: Sequence[str] | None = None,
) -> list[PowerPoint]:
    """Draw ``subsamples`` subsets without replacement at each size and compute the lead of cause over effect exactly.

    Args:
        values: raw values (N, n) of the full sample.
        cause, effect: columns.
        sizes: subsample sizes; those above N are left out.
        subsamples: per size. rng: of the draws.
        names: of the columns, for the errors.

    Raises:
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`; also if no size is left, and for no subsample.
    """
    values = check_data(values, names)
    if subsamples < 1:
        raise DataMatrixError(f"subsamples={subsamples}: at least one is needed")
    full = float(lead(values[None], cause, effect)[0])
    points = []
    for rows in sizes:
        if rows > len(values):
            continue
        chosen = np.stack([rng.choice(len(values), rows, replace=False) for _ in range(subsamples)])
        points.append(PowerPoint(rows, lead(values[chosen], cause, effect), full))
    if not points:
        raise DataMatrixError(f"no subsample size in {tuple(sizes)} is at most {len(values)}")
    return points
