"""Results by seed: what is compared comes from equal seeds, or from nothing at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.by_seed import (
    BySeed,
    SeedError,
    average,
    best,
    by_seed,
    common,
    highest,
    lowest,
    mean_by_seed,
    paired,
    pairs,
)
from lib.profiles import OneLineError
from lib.statistics import mean_interval


@dataclass(frozen=True)
class Result:
    """One method's result with one seed."""

    method: str
    seed: int
    loss: float


RESULTS = [Result("A", 2, 0.2), Result("B", 1, 9.0), Result("A", 0, 0.5), Result("A", 1, 0.1)]


def losses(method: str) -> BySeed:
    return by_seed((r for r in RESULTS if r.method == method), lambda r: r.loss, f"result of {method!r}")


def test_values_stand_in_the_order_of_the_seeds() -> None:
    found = losses("A")
    assert found.seeds == (0, 1, 2)
    assert list(found) == [0.5, 0.1, 0.2]
    assert np.asarray(found).tolist() == [0.5, 0.1, 0.2]
    assert np.ndim(found) == 1
    assert (len(found), found[-1], found[:2]) == (3, 0.2, [0.5, 0.1])
    assert found.mean() == np.mean([0.5, 0.1, 0.2])
    assert mean_interval(found) == mean_interval([0.5, 0.1, 0.2])


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_differences_pair_equal_seeds_in_whatever_order_the_results_came(
    one: list[int], other: list[int]
) -> None:
    difference = BySeed({s: 10.0 * s for s in one}) - BySeed({s: float(s) for s in other})
    assert difference.seeds == tuple(range(6))
    assert list(difference) == [9.0 * s for s in range(6)]


def test_other_seeds_are_refused_in_one_line_that_names_them() -> None:
    message = "seeds 0, 1, 2 cannot be paired with those of the seeds 1$"
    for compare in (lambda a, b: a - b, lambda a, b: a / b, paired, lambda a, b: highest([a, b])):
        with pytest.raises(SeedError, match=message):
            compare(losses("A"), losses("B"))
    with pytest.raises(SeedError, match=message):
        pairs([r for r in RESULTS if r.method == "A"], [r for r in RESULTS if r.method == "B"])
    # as many seeds on both sides, which arrays would have taken for pairs
    with pytest.raises(SeedError, match="seeds 0, 1 cannot be paired with those of the seeds 1, 2"):
        BySeed({0: 1.0, 1: 1.0}) - BySeed({1: 1.0, 2: 1.0})
    assert issubclass(SeedError, OneLineError)


def test_no_result_and_two_of_one_seed_are_refused() -> None:
    with pytest.raises(SeedError, match="there is no result of 'C' to compare by seed"):
        losses("C")
    with pytest.raises(SeedError, match="seed 1 has more than one result of any method"):
        by_seed(RESULTS, lambda r: r.loss, "result of any method")
    with pytest.raises(SeedError, match="seed 1 has more than one"):
        pairs(RESULTS, RESULTS[:1])
    with pytest.raises(SeedError, match="nothing to pair"):
        paired()


def test_results_are_paired_whole() -> None:
    ours = [Result("A", s, 1.0 * s) for s in (2, 0, 1)]
    theirs = [Result("B", s, 2.0 * s) for s in (0, 1, 2)]
    assert [(a.seed, b.seed) for a, b in pairs(ours, theirs)] == [(0, 0), (1, 1), (2, 2)]
    assert pairs([], []) == []


def test_means_over_tasks_need_every_task_of_every_seed() -> None:
    rows = [Result("x", 0, 1.0), Result("y", 0, 3.0), Result("x", 1, 5.0), Result("y", 1, 7.0)]
    assert list(mean_by_seed(rows, lambda r: r.loss)) == [2.0, 6.0]
    with pytest.raises(SeedError, match="2 of seed 0, 1 of seed 1"):
        mean_by_seed(rows[:3], lambda r: r.loss)


def test_seeds_that_one_side_lacks_are_left_out_on_request_only() -> None:
    one, other = common(losses("A"), losses("B"))
    assert (one.seeds, list(one - other)) == ((1,), [0.1 - 9.0])
    with pytest.raises(SeedError, match="no result"):
        common(BySeed({0: 1.0}), BySeed({1: 1.0}))


def test_extremes_and_means_over_methods_are_taken_seed_by_seed() -> None:
    tables = [BySeed({0: 1.0, 1: 4.0}), BySeed({1: 2.0, 0: 3.0})]
    assert list(highest(tables)) == [3.0, 4.0]
    assert list(lowest(iter(tables))) == [1.0, 2.0]
    assert list(average(tables)) == [2.0, 3.0]
    assert list(tables[0] / 2.0) == [0.5, 2.0]
    assert list(tables[0] / tables[1]) == [1 / 3, 2.0]


def test_the_best_has_the_best_mean() -> None:
    tables = {"A": losses("A"), "B": losses("B"), "again": losses("B")}
    assert best(tables) == "B"
    assert best(tables, largest=False) == "A"
    with pytest.raises(SeedError, match="nan"):
        best({"A": losses("A"), "unmeasured": BySeed({0: float("nan")})})
    with pytest.raises(SeedError, match="best cannot be told"):
        best({})
