"""The interval of a share that was counted."""

from __future__ import annotations

import numpy as np


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % Wilson interval of a share.

    Raises:
        ValueError: unless 0 <= successes <= trials and trials > 0.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials make no share")
    z, share = 1.959963984540054, successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, min(share, float(centre - half))), min(1.0, max(share, float(centre + half)))
