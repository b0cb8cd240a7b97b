"""Results by method and seed: one value per seed, and comparisons that pair equal seeds.

A comparison of methods over repetitions pairs equal seeds. Arrays that happen to have one length do not say whose seeds they
hold, so a method that lacks a seed is compared with another one's, or in another order, without a word. A :class:`BySeed`
knows its seeds, and refuses to be paired with others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

import numpy as np

from lib.profiles import OneLineError


class SeedError(OneLineError, ValueError):
    """Results that cannot be compared by seed: none, two of one seed, or the other side has other seeds."""


class Seeded(Protocol):
    """A result of one repetition."""

    @property
    def seed(self) -> int: ...


Result = TypeVar("Result", bound=Seeded)
Other = TypeVar("Other", bound=Seeded)
Key = TypeVar("Key")


class BySeed(Sequence[float]):
    """One value per seed, in the order of the seeds: a sequence of its values, whose differences and ratios pair equal seeds.

    Args:
        values: seed → value, in any order.
        what: says in the error whose values these would be.

    Raises:
        SeedError: for no seed, or when it is paired with other seeds than its own.
    """

    def __init__(self, values: Mapping[int, float], what: str = "result") -> None:
        if not values:
            raise SeedError(f"there is no {what} to compare by seed")
        self.seeds = tuple(sorted(values))
        self.values = np.array([values[seed] for seed in self.seeds], dtype=float)  # (n,)

    def __len__(self) -> int:
        return len(self.seeds)

    @overload
    def __getitem__(self, index: int) -> float: ...

    @overload
    def __getitem__(self, index: slice) -> list[float]: ...

    def __getitem__(self, index: int | slice) -> float | list[float]:
        return self.values[index].tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"BySeed({dict(zip(self.seeds, self.values.tolist(), strict=True))})"

    def mean(self) -> float:
        """Mean over seeds."""
        return float(self.values.mean())

    def __sub__(self, other: BySeed) -> BySeed:
        own, others = paired(self, other)
        return self._with(own - others)

    def __truediv__(self, other: BySeed | float) -> BySeed:
        return self._with(self.values / (paired(self, other)[1] if isinstance(other, BySeed) else other))

    def _with(self, values: np.ndarray) -> BySeed:
        return BySeed(dict(zip(self.seeds, values, strict=True)))


def by_seed(results: Iterable[Result], value: Callable[[Result], float], what: str = "result") -> BySeed:
    """The value of each result, one result per seed.

    Args:
        what: says in an error whose results these are, e.g. ``result of 'RTB'``.

    Raises:
        SeedError: for no result, or for two of one seed: those are no repetitions, but two tasks or two settings of a method.
    """
    values: dict[int, float] = {}
    for result in results:
        _once(values, result.seed, what)
        values[result.seed] = value(result)
    return BySeed(values, what)


def mean_by_seed(results: Iterable[Result], value: Callable[[Result], float], what: str = "result") -> BySeed:
    """The mean value of each seed's results, as over the tasks that every repetition ran.

    Args:
        what: as in :func:`by_seed`.

    Raises:
        SeedError: for no result, or where one seed has more of them than another.
    """
    values: dict[int, list[float]] = {}
    for result in results:
        values.setdefault(result.seed, []).append(value(result))
    if len({len(own) for own in values.values()}) > 1:
        counts = ", ".join(f"{len(own)} of seed {seed}" for seed, own in sorted(values.items()))
        raise SeedError(f"not every seed has as many of each {what}: {counts}")
    return BySeed({seed: float(np.mean(own)) for seed, own in values.items()}, what)


def pairs(first: Iterable[Result], second: Iterable[Other]) -> list[tuple[Result, Other]]:
    """Two methods' results of equal seeds, in the order of the seeds.

    Raises:
        SeedError: if one side has a seed twice, or another seed than the other side.
    """
    sides: tuple[dict[int, Any], dict[int, Any]] = ({}, {})
    for side, results in zip(sides, (first, second), strict=True):
        for result in results:
            _once(side, result.seed, "result")
            side[result.seed] = result
    _same_seeds(*map(sorted, sides))
    return [(sides[0][seed], sides[1][seed]) for seed in sorted(sides[0])]


def paired(*tables: BySeed) -> np.ndarray:
    """The values of tables of the same seeds, one row per table and one column per seed, (k, n).

    Raises:
        SeedError: for no table, or tables of different seeds.
    """
    if not tables:
        raise SeedError("there is nothing to pair by seed")
    for table in tables[1:]:
        _same_seeds(tables[0].seeds, table.seeds)
    return np.stack([table.values for table in tables])


def common(*tables: BySeed) -> tuple[BySeed, ...]:
    """The tables cut down to the seeds that all of them have.

    Raises:
        SeedError: if they share no seed.
    """
    shared = set.intersection(*(set(table.seeds) for table in tables))
    return tuple(
        BySeed({seed: value for seed, value in zip(t.seeds, t.values, strict=True) if seed in shared})
        for t in tables
    )


def highest(tables: Iterable[BySeed]) -> BySeed:
    """For each seed the highest value of the tables."""
    return _reduced(np.max, tables)


def lowest(tables: Iterable[BySeed]) -> BySeed:
    """For each seed the lowest value of the tables."""
    return _reduced(np.min, tables)


def average(tables: Iterable[BySeed]) -> BySeed:
    """For each seed the mean of the tables."""
    return _reduced(np.mean, tables)


def _reduced(function: Callable[..., np.ndarray], tables: Iterable[BySeed]) -> BySeed:
    rows = list(tables)
    values = function(paired(*rows), axis=0)
    return BySeed(dict(zip(rows[0].seeds, values, strict=True)))


def best(tables: Mapping[Key, BySeed], largest: bool = True) -> Key:
    """The key whose values have the largest mean (or the smallest), the first of equals.

    Raises:
        SeedError: for no table, or a mean that is NaN and therefore neither above nor below another.
    """
    means = {key: table.mean() for key, table in tables.items()}
    if not means or any(math.isnan(mean) for mean in means.values()):
        raise SeedError(f"the best cannot be told of the means {means}")
    return (max if largest else min)(means, key=lambda key: means[key])


def _once(known: Mapping[int, object], seed: int, what: str) -> None:
    if seed in known:
        raise SeedError(f"seed {seed} has more than one {what}")


def _same_seeds(first: Sequence[int], second: Sequence[int]) -> None:
    if list(first) != list(second):
        own, others = (", ".join(map(str, seeds)) for seeds in (first, second))
        raise SeedError(f"results of the seeds {own} cannot be paired with those of the seeds {others}")
