"""The interval of a share, by hand and by its symmetry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.smbh.wilson import wilson_interval


def test_wilson_interval_by_hand():
    low, high = wilson_interval(90, 100)  # Wilson 1927; Newcombe 1998 tabulates such cases
    assert low == pytest.approx(0.8256, abs=1e-4)
    assert high == pytest.approx(0.9448, abs=1e-4)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_mirrors(pair):
    k, n = pair
    low, high = wilson_interval(k, n)
    assert 0 <= low <= k / n <= high <= 1
    mirrored = wilson_interval(n - k, n)
    assert low == pytest.approx(1 - mirrored[1], abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_shares_are_refused(k, n):
    with pytest.raises(ValueError, match="no share"):
        wilson_interval(k, n)
