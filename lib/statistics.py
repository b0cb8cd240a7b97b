"""Means with intervals: Student's t throughout, so that three seeds give an honest width; and how they are written, in one form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean with its confidence interval, over ``n`` values."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def error_bar(self) -> list[list[float]] | None:
        """Lengths below and above the mean as matplotlib's ``yerr`` takes them; None for a single value, whose interval is infinite."""
        return [[self.mean - self.low], [self.high - self.mean]] if self.n > 1 else None


class HasInterval(Protocol):
    """A mean and the ends of its interval: an :class:`Interval`, or a measurement of a run."""

    @property
    def mean(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


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


def interval_text(value: HasInterval, form: str = ".3g") -> str:
    """A mean with its interval as text, ``1.23 [1.1, 1.36]``; the mean alone where nothing varied or a single value gave it.

    Args:
        form: Python's format specification of all three numbers, e.g. ``.2f``, or ``+.1f`` for a difference.
    """
    if value.low == value.high or not math.isfinite(value.high - value.low):
        return format(value.mean, form)
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"


def mean_text(values: Sequence[float] | np.ndarray, form: str = ".3g") -> str:
    """The mean of ``values`` (n,) with its 95 % t-interval as text, in the form of :func:`interval_text`.

    A dash where every value is NaN, which stands for "not measured"; ``nan`` or ``inf`` where only some are not finite.

    Raises:
        ValueError: if there is no value.
    """
    array = np.asarray(values, dtype=float).ravel()
    if array.size and np.isnan(array).all():
        return "–"
    if not np.isfinite(array).all():
        with np.errstate(invalid="ignore"):  # infinities of both signs
            return format(float(array.sum()), form)
    return interval_text(mean_interval(array), form)
