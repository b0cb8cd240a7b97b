"""Replay buffers against an ordered dictionary and against their draw probabilities (specification check 8)."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lib.adaptive_teachers.replay_buffer import ReplayBuffer, VectorBuffer, draw_ranks, rank_weights

batches = st.lists(st.lists(st.integers(0, 19), min_size=4, max_size=4), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(batches, st.integers(1, 7), st.booleans())
def test_content_is_that_of_an_ordered_dictionary(added: list[list[int]], capacity: int, table: bool) -> None:
    """First in first out; a repeated state moves to the newest place with its new priority, run by run."""
    buffer = ReplayBuffer(2, capacity, 20 if table else None)
    plain: list[OrderedDict[int, float]] = [OrderedDict(), OrderedDict()]
    for number, batch in enumerate(added):
        states = torch.tensor([batch, [19 - s for s in batch]])
        priority = torch.tensor([[(s * 7 + number) % 5 for s in row] for row in states.tolist()]).double()
        buffer.add(states, priority)
        for k in range(2):
            for s, p in zip(states[k].tolist(), priority[k].tolist(), strict=True):
                plain[k].pop(s, None)
                plain[k][s] = p
                if len(plain[k]) > capacity:
                    plain[k].popitem(last=False)
    for k in range(2):
        held = {
            s: p
            for s, p in zip(buffer.states[k].tolist(), buffer.priority[k].tolist(), strict=True)
            if s >= 0
        }
        assert held == dict(plain[k])
        ranked = buffer.states[k][buffer.ranked()[k]].tolist()[: len(held)]
        assert ranked == sorted(plain[k], key=lambda s: -plain[k][s])  # ties oldest first
    assert buffer.size.tolist() == [len(p) for p in plain]


def test_rank_weights() -> None:
    weights = rank_weights(torch.tensor([5, 200]), 200)
    expected = 1 / (0.01 * 200 + np.arange(200))
    assert np.allclose(weights[1], expected, rtol=1e-12, atol=0)
    assert np.allclose(weights[0, :5], 1 / (0.05 + np.arange(5)), rtol=1e-12, atol=0)
    assert (weights[0, 5:] == 0).all()


def test_draws_have_the_rank_probabilities() -> None:
    uniform = torch.rand(1, 40_000, generator=torch.Generator().manual_seed(0))
    ranks = draw_ranks(torch.tensor([30]), 50, uniform)[0]
    weights = rank_weights(torch.tensor([30]), 50)[0, :30].numpy()
    observed = np.bincount(ranks.numpy(), minlength=30)
    assert len(observed) == 30
    assert stats.chisquare(observed, 40_000 * weights / weights.sum()).pvalue > 1e-3


def test_sampling_prefers_the_highest_priority() -> None:
    buffer = ReplayBuffer(1, 100, 1000)
    buffer.add(torch.arange(100).unsqueeze(0), torch.arange(100).unsqueeze(0).double())
    drawn = buffer.sample(torch.rand(1, 20_000, generator=torch.Generator().manual_seed(0)))[0]
    weights = 1 / (1 + np.arange(100))
    assert float((drawn == 99).double().mean()) == pytest.approx(1 / weights.sum(), rel=0.05)


def test_vector_buffer_is_a_ring() -> None:
    buffer = VectorBuffer(2, 3, 1)
    for t in range(5):
        keep = torch.tensor([[True], [t % 2 == 0]])
        buffer.add(torch.full((2, 1, 1), float(t)), torch.full((2, 1), float(t)), keep)
    assert sorted(buffer.points[0].flatten().tolist()) == [2, 3, 4]
    assert sorted(buffer.points[1].flatten().tolist()) == [0, 2, 4]
    drawn = buffer.sample(torch.zeros(2, 1))
    assert drawn.flatten().tolist() == [4, 4]


def test_errors() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ReplayBuffer(0, 3)
    with pytest.raises(ValueError, match="at least 1"):
        VectorBuffer(1, 0, 2)
    buffer = ReplayBuffer(1, 3, 10)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="not a number"):
        buffer.add(torch.tensor([[1]]), torch.tensor([[float("nan")]]))
    with pytest.raises(ValueError, match="must both be"):
        buffer.add(torch.tensor([[1], [2]]), torch.zeros(2, 1))
    assert int(buffer.size) == 0
    with pytest.raises(ValueError, match="do not fit"):
        VectorBuffer(1, 1, 1).add(torch.zeros(1, 2, 1), torch.zeros(1, 2))
