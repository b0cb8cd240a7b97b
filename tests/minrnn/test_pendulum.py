"""The vectorised pendulum against gymnasium, and the offline data made with it."""

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.minrnn import pendulum
from lib.minrnn.pendulum import Trajectories


def gymnasium_episode(theta: float, speed: float, torques: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    environment = gymnasium.make("Pendulum-v1").unwrapped
    environment.reset(seed=0)
    environment.state = np.array([theta, speed])
    observations, rewards = [], []
    for torque in torques:
        observation, reward, *_ = environment.step(np.array([torque]))
        observations.append(observation)
        rewards.append(reward)
    return np.array(observations), np.array(rewards)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_gymnasium_over_a_whole_episode(seed: int) -> None:
    rng = np.random.default_rng(seed)
    torques = rng.uniform(-3, 3, 200)  # beyond the limit, so that clipping is compared too
    theta, speed = pendulum.hanging_start(1, rng)
    expected_observations, expected_rewards = gymnasium_episode(theta[0], speed[0], torques)
    for t, torque in enumerate(torques):
        theta, speed, reward = pendulum.pendulum_step(theta, speed, np.array([torque]))
        np.testing.assert_allclose(
            pendulum.observe(theta, speed)[0], expected_observations[t], atol=1e-5, rtol=1e-5
        )
        np.testing.assert_allclose(reward[0], expected_rewards[t], atol=1e-5)


@given(st.floats(-100, 100))
def test_wrapping_keeps_the_direction_and_stays_in_range(theta: float) -> None:
    wrapped = pendulum.wrap_angle(np.array(theta))
    assert -np.pi <= wrapped <= np.pi
    np.testing.assert_allclose([np.cos(wrapped), np.sin(wrapped)], [np.cos(theta), np.sin(theta)], atol=1e-9)


def test_return_to_go_is_the_sum_of_the_rewards_that_follow() -> None:
    data = pendulum.collect("medium", 4, seed=0)
    for t in (0, 57, 199):
        np.testing.assert_allclose(data.returns_to_go[:, t], data.rewards[:, t:].sum(1))


def test_score_is_normalised_on_independent_episodes() -> None:
    scale = pendulum.score_scale(100, seed=0)
    other = {name: pendulum.collect(name, 100, seed=5) for name in ("expert", "random")}
    assert scale.score(np.array(scale.expert)) == pytest.approx(100)
    assert scale.score(np.array(scale.random)) == pytest.approx(0)
    assert 95 < scale.score(other["expert"].returns).mean() < 105
    assert -5 < scale.score(other["random"].returns).mean() < 5
    assert not np.isclose(scale.expert, pendulum.collect("expert", 100, seed=0).returns.mean())


def test_data_sets_lie_in_the_order_of_their_names() -> None:
    scale = pendulum.score_scale(100, seed=1)
    means = {
        name: scale.score(pendulum.collect(name, 60, seed=2).returns).mean() for name in pendulum.DATA_SETS
    }
    assert 25 < means["medium-replay"] < means["medium"] < means["medium-expert"] < 90


def test_same_seed_same_data_and_another_seed_other_data() -> None:
    first, again, other = (pendulum.collect("medium-expert", 6, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.actions, again.actions)
    assert not np.array_equal(first.actions, other.actions)


def test_episodes_for_another_purpose_are_other_episodes() -> None:
    data, scale = (
        pendulum.collect("expert", 4, 0, purpose) for purpose in ("data set", "scale of the scores")
    )
    assert not np.isin(data.observations[:, 0], scale.observations[:, 0]).any()


def test_medium_expert_is_half_of_each_as_in_d4rl() -> None:
    both = pendulum.collect("medium-expert", 6, 0)
    for half in ("medium", "expert"):
        own = pendulum.collect(half, 3, 0)
        assert np.isin(own.actions, both.actions).all()


def test_errors_are_one_clear_line() -> None:
    with pytest.raises(ValueError, match="'mediun' is not one of"):
        pendulum.collect("mediun", 4, 0)
    with pytest.raises(ValueError, match="at least two episodes"):
        pendulum.collect("medium", 1, 0)
    good = pendulum.collect("medium", 2, 0)
    rewards = good.rewards.copy()
    rewards[0, 3] = np.nan
    with pytest.raises(ValueError, match="rewards hold a value that is not finite"):
        Trajectories(good.observations, good.actions, rewards, good.lengths)
    with pytest.raises(ValueError, match="disagree"):
        Trajectories(good.observations[:1], good.actions, good.rewards, good.lengths)


def test_hiding_a_column_and_splitting_keep_the_rest() -> None:
    data = pendulum.collect("medium", 5, 0)
    np.testing.assert_array_equal(data.hide((2,)).observations, data.observations[:, :, :2])
    first, rest = data.split(3)
    assert len(first.lengths) == 3
    assert len(rest.lengths) == 2
    np.testing.assert_array_equal(rest.actions, data.actions[3:])
