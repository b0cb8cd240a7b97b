"""The pendulum swing-up as offline reinforcement learning: dynamics, behaviour policies, data sets, scores.

The dynamics are those of gymnasium's ``Pendulum-v1``, written for a whole batch of episodes at once:

    θ̇ ← clip(θ̇ + (15 sin θ + 3u)·0.05, ±8),   θ ← θ + 0.05 θ̇,   r = −(θ² + 0.1 θ̇² + 0.001 u²),

with θ wrapped to (−π, π] and the reward taken before the step, |u| ≤ 2, 200 steps. Episodes start hanging down, because with
gymnasium's uniform start the attainable return depends on the start and conditioning on one target return is ill posed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lib.random_streams import stream

STEPS = 200
TORQUE_LIMIT = 2.0
SPEED_LIMIT = 8.0
TIME_STEP = 0.05
# Return-to-go is fed to the models in units of this many reward points, so that it is of order one.
RETURN_SCALE = 500.0
DATA_SETS = ("medium", "medium-replay", "medium-expert")
# The column of an observation that holds the velocity.
VELOCITY = 2

Array = np.ndarray
Policy = Callable[[Array, Array], Array]


def wrap_angle(theta: Array) -> Array:
    """Wrap angles in radians to [−π, π)."""
    return (theta + np.pi) % (2 * np.pi) - np.pi


def pendulum_step(theta: Array, speed: Array, torque: Array) -> tuple[Array, Array, Array]:
    """Advance a batch of pendulums by one step of 0.05 s.

    Args:
        theta: angles from upright (N,), rad.
        speed: angular velocities (N,), rad/s.
        torque: torques (N,), clipped to ±2.

    Returns:
        New angles, new velocities, and the rewards of the states *before* the step, each (N,).
    """
    torque = np.clip(torque, -TORQUE_LIMIT, TORQUE_LIMIT)
    reward = -(wrap_angle(theta) ** 2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = np.clip(speed + (15 * np.sin(theta) + 3 * torque) * TIME_STEP, -SPEED_LIMIT, SPEED_LIMIT)
    return theta + speed * TIME_STEP, speed, reward


def observe(theta: Array, speed: Array) -> Array:
    """Observations (N, 3): cos θ, sin θ, θ̇."""
    return np.stack([np.cos(theta), np.sin(theta), speed], axis=-1)


def hanging_start(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Start states of ``n`` episodes: θ = π + U(±0.3), θ̇ = U(±0.3)."""
    return np.pi + rng.uniform(-0.3, 0.3, n), rng.uniform(-0.3, 0.3, n)


def expert_torque(theta: Array, speed: Array) -> Array:
    """The smooth controller u*: pump energy while far from upright, balance near it.

    u* = (1−m)·2 tanh(3θ̇) tanh(5−E) + m·(−(10θ + 2.5θ̇)) with E = θ̇²/6 + 5 cos θ and m = σ(20(0.5−|θ|)), clipped to ±2.

    Args:
        theta, speed: states (N,), rad and rad/s.
    """
    theta = wrap_angle(theta)
    energy = speed**2 / 6 + 5 * np.cos(theta)
    near = 1 / (1 + np.exp(-20 * (0.5 - np.abs(theta))))
    pump = 2 * np.tanh(3 * speed) * np.tanh(5 - energy)
    balance = -(10 * theta + 2.5 * speed)
    return np.clip((1 - near) * pump + near * balance, -TORQUE_LIMIT, TORQUE_LIMIT)


@dataclass(frozen=True)
class Trajectories:
    """Offline episodes, padded at the end to the longest.

    Attributes:
        observations: (N, T, d). actions: (N, T, k). rewards: (N, T), zero after an episode's end.
        lengths: number of steps of each episode (N,).
    """

    observations: Array
    actions: Array
    rewards: Array
    lengths: Array

    def __post_init__(self) -> None:
        n, t = self.rewards.shape
        if n == 0 or t == 0:
            raise ValueError("a data set needs at least one episode of at least one step")
        if self.observations.shape[:2] != (n, t) or self.actions.shape[:2] != (n, t):
            raise ValueError(
                f"observations {self.observations.shape}, actions {self.actions.shape} and rewards "
                f"{self.rewards.shape} disagree on episodes and steps"
            )
        if self.lengths.shape != (n,) or self.lengths.min() < 1 or self.lengths.max() > t:
            raise ValueError("every episode length must lie between 1 and the padded length")
        for name in ("observations", "actions", "rewards"):
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} hold a value that is not finite")

    @property
    def returns(self) -> Array:
        """Undiscounted return of each episode (N,)."""
        return self.rewards.sum(axis=1)

    @property
    def returns_to_go(self) -> Array:
        """Sum of rewards from step t to the episode's end, (N, T)."""
        return np.flip(np.cumsum(np.flip(self.rewards, axis=1), axis=1), axis=1)

    def hide(self, columns: tuple[int, ...]) -> Trajectories:
        """The same episodes with some observation columns removed."""
        kept = [i for i in range(self.observations.shape[2]) if i not in columns]
        return Trajectories(self.observations[:, :, kept], self.actions, self.rewards, self.lengths)

    def split(self, n_first: int) -> tuple[Trajectories, Trajectories]:
        """The first ``n_first`` episodes and the rest."""
        fields = (self.observations, self.actions, self.rewards, self.lengths)
        return Trajectories(*(x[:n_first] for x in fields)), Trajectories(*(x[n_first:] for x in fields))


def rollout(policy: Policy, n: int, rng: np.random.Generator, steps: int = STEPS) -> Trajectories:
    """Run ``n`` episodes of a policy that sees the full state.

    Args:
        policy: maps angles (n,) and velocities (n,) to torques (n,).
        n: episodes.
        rng: draws the start states.
        steps: length of an episode.
    """
    theta, speed = hanging_start(n, rng)
    observations, actions, rewards = [], [], []
    for _ in range(steps):
        torque = np.clip(policy(theta, speed), -TORQUE_LIMIT, TORQUE_LIMIT)
        observations.append(observe(theta, speed))
        actions.append(torque[:, None])
        theta, speed, reward = pendulum_step(theta, speed, torque)
        rewards.append(reward)
    return Trajectories(
        np.stack(observations, 1), np.stack(actions, 1), np.stack(rewards, 1), np.full(n, steps)
    )


def behaviour(skill: float | Array, noise: float, rng: np.random.Generator) -> Policy:
    """The behaviour family u = clip(c·u* + σ·N(0, 1), ±2).

    Args:
        skill: c, one number or one per episode (n,).
        noise: σ.
        rng: draws the action noise.
    """
    return lambda theta, speed: skill * expert_torque(theta, speed) + noise * rng.standard_normal(theta.shape)


def _concatenate(first: Trajectories, second: Trajectories) -> Trajectories:
    return Trajectories(
        np.concatenate([first.observations, second.observations]),
        np.concatenate([first.actions, second.actions]),
        np.concatenate([first.rewards, second.rewards]),
        np.concatenate([first.lengths, second.lengths]),
    )


def _interleave(data: Trajectories, rng: np.random.Generator) -> Trajectories:
    order = rng.permutation(len(data.lengths))
    return Trajectories(
        data.observations[order], data.actions[order], data.rewards[order], data.lengths[order]
    )


# Skill c and noise σ of a policy; the skill of medium-replay rises to this from episode to episode.
POLICIES = {"random": (0.0, 1.2), "medium-replay": (0.6, 0.4), "medium": (0.45, 0.3), "expert": (1.0, 0.1)}


def policy_episodes(policy: str, episodes: int, seed: int, purpose: str) -> Trajectories:
    """Episodes of one policy of :data:`POLICIES`.

    Args:
        seed: of start states and action noise. purpose: what the episodes are for; each has random numbers of its own.
    """
    most, noise = POLICIES[policy]
    skill = np.linspace(0, most, episodes) if policy == "medium-replay" else most
    noises = stream(seed, f"{purpose}: action noise, {policy}").numpy()
    starts = stream(seed, f"{purpose}: start states, {policy}").numpy()
    return rollout(behaviour(skill, noise, noises), episodes, starts)


def collect(name: str, episodes: int, seed: int, purpose: str = "data set") -> Trajectories:
    """Collect an offline data set named as in D4RL.

    medium: c = 0.45, σ = 0.3. medium-replay: c rising from 0 to 0.6, σ = 0.4. medium-expert: half medium, half expert
    (c = 1, σ = 0.1), the episodes of the sets that have these names. expert and random (c = 0, σ = 1.2) fix the scale of the scores.

    Args:
        name: one of ``medium``, ``medium-replay``, ``medium-expert``, ``expert``, ``random``.
        episodes: number of episodes, at least 2.
        seed: of starts, noise and order. purpose: see :func:`policy_episodes`.

    Raises:
        ValueError: for another name or fewer than two episodes.
    """
    if episodes < 2:
        raise ValueError(f"a data set needs at least two episodes, got {episodes}")
    if name not in (*POLICIES, "medium-expert"):
        raise ValueError(
            f"pendulum data set {name!r} is not one of {', '.join([*POLICIES, 'medium-expert'])}"
        )
    if name == "medium-expert":
        data = _concatenate(
            policy_episodes("medium", episodes // 2, seed, purpose),
            policy_episodes("expert", episodes - episodes // 2, seed, purpose),
        )
    else:
        data = policy_episodes(name, episodes, seed, purpose)
    return _interleave(data, stream(seed, f"{purpose}: order of episodes, {name}").numpy())


@dataclass(frozen=True)
class ScoreScale:
    """Mean returns of the random and of the expert policy: the two ends of the normalised score."""

    random: float
    expert: float

    def score(self, returns: Array) -> Array:
        """100·(R − R_random)/(R_expert − R_random), the normalisation of D4RL."""
        return 100 * (np.asarray(returns) - self.random) / (self.expert - self.random)


def score_scale(episodes: int, seed: int) -> ScoreScale:
    """Measure the scale on episodes of its own, never on those that are trained on or evaluated."""
    ends = [
        collect(name, episodes, seed, "scale of the scores").returns.mean() for name in ("random", "expert")
    ]
    return ScoreScale(float(ends[0]), float(ends[1]))
