"""Streams of random numbers: the same for the same name, strangers for every other."""

import random

import numpy as np
import pytest
import torch
from scipy import stats

from lib.random_streams import stream


def test_the_same_name_gives_the_same_numbers_and_every_call_starts_anew() -> None:
    one, other = stream(3, "initialisation", 1), stream(3, "initialisation", 1)
    assert np.array_equal(one.numpy().random(5), other.numpy().random(5))
    assert np.array_equal(one.numpy().random(5), one.numpy().random(5))
    assert torch.equal(torch.rand(5, generator=one.torch()), torch.rand(5, generator=other.torch()))
    assert one.integer() == other.integer()


def test_numbers_of_different_seeds_purposes_and_indices_are_strangers() -> None:
    names = [
        (s, p, i)
        for s in (0, 1, 2)
        for p in ("initialisation", "noise", "data")
        for i in ((), (0,), (1,), (0, 0))
    ]
    drawn = np.array([stream(s, p, *i).numpy().standard_normal(4000) for s, p, i in names])
    correlation = np.corrcoef(drawn)[np.triu_indices(len(names), 1)]
    assert np.abs(correlation).max() < 6 / np.sqrt(4000)
    firsts = {stream(s, p, *i).integer(64) for s, p, i in names}
    assert len(firsts) == len(names)


def test_torch_and_numpy_numbers_of_one_stream_are_uniform_and_not_equal() -> None:
    of_torch = torch.rand(5000, generator=stream(0, "noise").torch(), dtype=torch.float64).numpy()
    of_numpy = stream(0, "noise").numpy().random(5000)
    assert stats.kstest(of_torch, "uniform").pvalue > 1e-3
    assert stats.kstest(of_numpy, "uniform").pvalue > 1e-3
    assert not np.isclose(of_torch, of_numpy).any()


def test_integers_have_their_bits() -> None:
    values = [stream(0, "seed", i).integer(31) for i in range(200)]
    assert all(0 <= v < 2**31 for v in values)
    assert max(values) > 2**30
    with pytest.raises(ValueError, match="bits=65"):
        stream(0, "seed").integer(65)


def test_global_generators_draw_from_the_stream_inside_and_go_on_as_before_outside() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    expected = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    with stream(0, "initialisation").as_global():
        inside = torch.rand(3), np.random.rand(3), random.random()
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])
    assert random.random() == expected[2]
    with stream(0, "initialisation").as_global():
        again = torch.rand(3), np.random.rand(3), random.random()
    assert torch.equal(inside[0], again[0])
    assert np.array_equal(inside[1], again[1])
    assert inside[2] == again[2]


@pytest.mark.parametrize(("seed", "purpose", "index"), [(-1, "noise", ()), (0, "", ()), (0, "noise", (-1,))])
def test_no_stream_without_a_name(seed: int, purpose: str, index: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no stream"):
        stream(seed, purpose, *index)
