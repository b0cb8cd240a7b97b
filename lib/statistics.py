"""Means with intervals: Student's t throughout, so that three seeds give an honest width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean with its confidence interval, over ``n`` values."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Return the mean of ``values`` (n,) with its two-sided t-interval.

    A single value has no spread to estimate: its interval is infinite.

    Raises:
        ValueError: if there is no value, or one is not finite.
    """
    array = np.asarray(values, dtype=float).ravel()
    if array.size == 0:
        raise ValueError("mean_interval needs at least one value")
    if not np.isfinite(array).all():
        raise ValueError(f"mean_interval needs finite values, got {array.tolist()}")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    half = float(stats.t.ppf(0.5 + level / 2, array.size - 1) * stats.sem(array))
    return Interval(mean, mean - half, mean + half, int(array.size))


def difference_interval(
    a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, paired: bool = True, level: float = 0.95
) -> Interval:
    """Return the mean of ``a − b`` with its t-interval.

    Args:
        a, b: one value per seed, (n,) and (m,).
        paired: True where ``a[i]`` and ``b[i]`` share a seed; False for Welch's unequal-variance interval.

    Raises:
        ValueError: for paired samples of different lengths, or fewer than two values a side without pairing.
    """
    first, second = np.asarray(a, dtype=float).ravel(), np.asarray(b, dtype=float).ravel()
    if paired:
        if first.size != second.size:
            raise ValueError(f"paired samples differ in length: {first.size} and {second.size}")
        return mean_interval(first - second, level)
    if min(first.size, second.size) < 2:
        raise ValueError("Welch's interval needs at least two values a side")
    interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(level)
    mean = float(first.mean() - second.mean())
    return Interval(mean, float(interval.low), float(interval.high), int(min(first.size, second.size)))
