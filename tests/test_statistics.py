"""Intervals against their definition and their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.stats.api as sms
from hypothesis import given
from hypothesis import strategies as st

from lib.claims import Measurement
from lib.statistics import interval_text, mean_interval, mean_text

samples = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-3)


@given(samples)
def test_t_interval_equals_statsmodels(values: list[float]) -> None:
    found = mean_interval(values)
    low, high = sms.DescrStatsW(values).tconfint_mean()
    assert found.low == pytest.approx(low, rel=1e-9, abs=1e-9)
    assert found.high == pytest.approx(high, rel=1e-9, abs=1e-9)
    assert found.low <= found.mean <= found.high


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = [i.low <= 1.0 <= i.high for i in (mean_interval(rng.normal(1, 3, 4)) for _ in range(4000))]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.012)


def test_one_value_has_an_infinite_interval() -> None:
    assert mean_interval([2.0]) == (2.0, -math.inf, math.inf, 1)
    assert mean_interval([2.0]).error_bar is None
    low, high = mean_interval([1.0, 3.0])[1:3]
    assert mean_interval([1.0, 3.0]).error_bar == [[2.0 - low], [high - 2.0]]


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 0.0]])
def test_bad_values_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="mean_interval needs"):
        mean_interval(values)


@pytest.mark.parametrize(
    ("values", "form", "text"),
    [
        ([1.0, 2.0, 3.0], ".2f", "2.00 [-0.48, 4.48]"),
        ([1.0, 2.0, 3.0], "+.1f", "+2.0 [-0.5, +4.5]"),
        ([0.12345], ".3g", "0.123"),  # one seed has no interval
        ([484.0, 484.0], ".3g", "484"),  # nothing varied
        ([math.nan, math.nan], ".3g", "–"),  # not measured
        ([1.0, math.nan], ".3g", "nan"),
        ([1.0, math.inf], ".3g", "inf"),
        ([-math.inf, math.inf], ".3g", "nan"),
    ],
)
def test_a_mean_is_written_with_its_interval(values: list[float], form: str, text: str) -> None:
    assert mean_text(values, form) == text


def test_no_value_is_no_dash() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        mean_text([])


def test_a_measurement_is_written_like_an_interval() -> None:
    asymmetric = Measurement(2.0, 1.5, 4.0, (1.0, 3.0))
    assert interval_text(asymmetric, ".1f") == "2.0 [1.5, 4.0]"
    assert interval_text(mean_interval([1.0, 2.0, 3.0]), ".2f") == mean_text([1.0, 2.0, 3.0], ".2f")
    assert interval_text(Measurement(2.0, 2.0, 2.0)) == "2"
    assert interval_text(Measurement(2.0, -math.inf, math.inf, (2.0,))) == "2"
