"""The Teacher's reward (specification check 6)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.adaptive_teachers.teacher import (
    teacher_log_reward,
    teacher_log_reward_of_transitions,
    weighted_squares,
)

finite = st.floats(-50, 50, allow_nan=False)


def reward(delta: float, **options: float) -> float:
    value = torch.tensor([delta], dtype=torch.float64)
    return float(teacher_log_reward(value, torch.zeros_like(value), **options).exp())  # type: ignore[arg-type]


def test_a_fitted_state_has_reward_log_1001() -> None:
    assert reward(0.0) == pytest.approx(math.log(1.001), rel=1e-9)


@given(finite, st.floats(0, 100))
def test_formula(delta: float, asymmetry: float) -> None:
    weight = 1 + asymmetry if delta > 0 else 1
    assert reward(delta, asymmetry=asymmetry) == pytest.approx(math.log(1.001 + weight * delta**2), rel=1e-9)


@given(st.floats(0.01, 20))
def test_under_sampled_states_weigh_twenty_times(d: float) -> None:
    ratio = reward(d) / reward(-d)
    assert ratio == pytest.approx(math.log(1.001 + 20 * d**2) / math.log(1.001 + d**2), rel=1e-9)
    assert ratio > 1


@given(st.floats(0, 20), st.floats(0.01, 5))
def test_monotone_in_the_size_of_the_error(d: float, more: float) -> None:
    assert reward(d + more) > reward(d)
    assert reward(-d - more) > reward(-d)


def test_options() -> None:
    delta = torch.tensor([3.0, -3.0]).double()
    log_r = torch.tensor([-2.0, 1.0]).double()
    plain = teacher_log_reward(delta, torch.zeros(2).double())
    assert torch.allclose(teacher_log_reward(delta, log_r, mixing=0.5), plain + 0.5 * log_r)
    assert float(teacher_log_reward(delta, log_r, scale=0.5)[1].exp()) == pytest.approx(math.log(1.001 + 4.5))
    assert weighted_squares(torch.tensor([100.0]), 19.0, clamp=5000.0).item() == 20 * 5000
    per_run = teacher_log_reward(
        delta.expand(2, 2), log_r.expand(2, 2), asymmetry=torch.tensor([[0.0], [19.0]])
    )
    assert float(per_run[0, 0]) == pytest.approx(float(plain[1]))  # C = 0 is symmetric
    assert float(per_run[1, 0]) == pytest.approx(float(plain[0]))


def test_no_gradient_reaches_the_student() -> None:
    delta = torch.ones(3, requires_grad=True)
    assert not teacher_log_reward(delta * 2, torch.zeros(3)).requires_grad


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        teacher_log_reward(torch.zeros(2), torch.zeros(3))


def test_transitions_are_summed_inside_the_logarithm() -> None:
    d = torch.tensor([[1.0, -2.0, 7.0]]).double()
    live = torch.tensor([[True, True, False]])
    expected = math.log(math.log(1.001 + 20) + math.log(1.001 + 4)) + 0.5 * 3
    value = teacher_log_reward_of_transitions(d, live, torch.tensor([3.0]).double(), mixing=0.5)
    assert float(value) == pytest.approx(expected)
