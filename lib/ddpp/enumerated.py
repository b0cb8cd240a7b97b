"""Trainings on problems that can be enumerated: equal budgets of model calls, and the exact law of the sampler along the way.

A budget is a number of *model calls* per sequence of a batch: passes of the tuned network in the loss plus passes of a sampler that fills the replay
buffer or the pool. The frozen network's passes in the loss come to the same number for every objective but the weighted cross-entropy, which needs none;
they are counted apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lib.checkpoints import KeepCheckpoint
from lib.ddpp.denoisers import EmbeddingMLP
from lib.ddpp.dit import DiT, DiTLogZ
from lib.ddpp.exact_law import (
    Distance,
    Space,
    clean_law,
    denoising_table,
    distance,
    log_normalisers,
    posterior,
    product_law,
    space_of,
)
from lib.ddpp.rewards import TableReward
from lib.ddpp.steering import SteeringResult, steer
from lib.profiles import choose

LARGEST_TABLE = 2**15
"""States for which looking up the frozen network's answers pays."""


@dataclass(frozen=True)
class Method:
    """A row of the tables: an objective of :func:`~lib.ddpp.steering.steer` with the settings that make it this row."""

    objective: str
    options: dict[str, Any] = field(default_factory=dict)
    paper: bool = False
    """Whether it is one of the paper's three objectives."""


METHODS: dict[str, Method] = {
    "IS": Method("is", paper=True),
    "LB": Method("lb", paper=True),
    "KL": Method("kl", paper=True),
    "KL, path gradient": Method("kl", {"path_gradient_only": True}),
    "RTB": Method("rtb"),
    "sub-trajectory": Method("subtrajectory"),
    "weighted CE": Method("weighted_ce"),
    "IS, on-policy": Method("is", {"buffer": "on-policy"}),
    "LB, on-policy": Method("lb", {"buffer": "on-policy"}),
    "IS, mixed buffer": Method("is", {"buffer": "mixed"}),
    "LB, mixed buffer": Method("lb", {"buffer": "mixed"}),
}
"""Name → method. Where a name says nothing of the buffer, it is the task's own: IS and LB on the grid mix, all else is on-policy."""


@dataclass(frozen=True)
class Problem:
    """A prior's task: the space, log R of every clean state, and which states count as rewarded."""

    name: str
    n_tokens: int
    n_symbols: int
    log_reward: Tensor
    rewarded: Tensor

    @property
    def space(self) -> Space:
        """All states."""
        return space_of(self.n_tokens, self.n_symbols)

    def reward(self) -> TableReward:
        """log R as what :func:`~lib.ddpp.steering.steer` takes."""
        return TableReward(self.log_reward.float().reshape(self.space.shape))


@dataclass(frozen=True)
class Budget:
    """Sizes and rates of every training on one problem; see :class:`~lib.ddpp.steering.SteeringSettings`."""

    calls: float
    batch: int
    rate: float
    log_z_rate: float
    trajectory_log_z_rate: float
    completions: int
    kl_samples: int
    pool: int
    refill_every: int
    refill_size: int
    buffer_size: int
    evaluations: int
    mixed: bool
    """Whether IS and LB mix prior samples into the buffer where the method does not say."""

    def steps(self, objective: str, n_tokens: int) -> int:
        """Optimiser steps that spend the budget.

        Raises:
            ValueError: if the pool of the weighted cross-entropy costs more than the budget.
        """
        refill = self.refill_size * n_tokens / (self.refill_every * self.batch)
        pool = self.pool * n_tokens / self.batch
        if objective == "weighted_ce":
            if pool >= self.calls:
                raise ValueError(f"a pool of {self.pool} costs {pool:g} of {self.calls:g} calls")
            return max(1, round(self.calls - pool))
        # one pass; one at every state of a trajectory; one at every event after x_t, n/2 of them on average
        per_step = {"rtb": float(n_tokens), "subtrajectory": n_tokens / 2 + refill}.get(objective, 1 + refill)
        return max(1, round(self.calls / per_step))


@dataclass
class SteeredRun:
    """One training, with exact numbers.

    Attributes:
        problem, method, seed: which.
        calls, reward_calls: per sequence of a batch, at every evaluation; the first is zero.
        distances: to the target, at every evaluation.
        law: of the tuned sampler at the end, (V^n,).
        log_z: LB's and the sub-trajectories' learned log Z of every state with a mask, (S,), else None.
        log_z_scalar: RTB's, else None.
        bound_excess: largest excess over all states of E_q[log p + r − log q] over log Z_t, nats; q is the tuned one-step law.
        single_mask_tv: largest total variation to the exact posterior over states with one mask.
        ess: effective size of the weighted control's pool, else None.
        per_step: model and reward calls of one training step, without the buffer's.
    """

    problem: str
    method: str
    seed: int
    calls: list[float]
    reward_calls: list[float]
    distances: list[Distance]
    law: Tensor
    log_z: Tensor | None
    log_z_scalar: float | None
    bound_excess: float
    single_mask_tv: float
    ess: float | None
    per_step: dict[str, float]

    @property
    def last(self) -> Distance:
        """Distance at the end."""
        return self.distances[-1]


def make_denoiser(
    network: str, n_tokens: int, n_symbols: int, embedding: int, width: int, depth: int, heads: int, seed: int
) -> nn.Module:
    """An untrained denoiser.

    Args:
        network: ``mlp`` (``depth`` hidden layers) or ``dit`` (``depth`` blocks).

    Raises:
        ParameterError: for another network.
    """
    if choose("network", network, ("mlp", "dit")) == "mlp":
        return EmbeddingMLP(n_tokens, n_symbols, embedding, width, depth, seed=seed)
    return DiT(n_tokens, n_symbols, width, depth, heads, 0.0, seed=seed)


def log_z_head(prior: nn.Module, seed: int) -> nn.Module | None:
    """A small DiT for log Z where the denoiser is one (as in the paper); None lets ``steer`` take its own perceptron."""
    if not isinstance(prior, DiT):
        return None
    return DiTLogZ(int(prior.n_tokens), int(prior.n_symbols), seed=seed)


def moments_of_evaluation(steps: int, evaluations: int) -> list[int]:
    """Steps at which a training is looked at, doubling towards the end, the last one included."""
    return sorted({max(1, round(steps / 2**i)) for i in range(evaluations)})


def train_problem(
    problem: Problem,
    prior: nn.Module,
    method: str,
    seed: int,
    budget: Budget,
    device: torch.device,
    keep: KeepCheckpoint | None = None,
) -> SteeredRun:
    """Tune ``prior`` with one method and one seed, within the budget."""
    spec = METHODS[choose("method", method, METHODS)]
    space = problem.space
    steps = budget.steps(spec.objective, problem.n_tokens)
    moments = moments_of_evaluation(steps, budget.evaluations)
    mixes = budget.mixed and spec.objective in ("is", "lb")
    options: dict[str, Any] = {"buffer": "mixed" if mixes else "on-policy", **spec.options}
    result = steer(
        prior,
        problem.reward(),
        spec.objective,
        seed=seed,
        device=device,
        log_z_model=log_z_head(prior, seed) if spec.objective in ("lb", "subtrajectory") else None,
        keep_at=moments[:-1],
        keep=keep,
        steps=steps,
        batch_size=budget.batch,
        learning_rate=budget.rate,
        log_z_rate=budget.trajectory_log_z_rate if spec.objective == "rtb" else budget.log_z_rate,
        completions=budget.completions,
        kl_samples=budget.kl_samples,
        pool=budget.pool,
        refill_every=budget.refill_every,
        refill_size=budget.refill_size,
        buffer_size=budget.buffer_size,
        tabulate_prior=(space.n_symbols + 1) ** space.n_tokens <= LARGEST_TABLE,
        **options,
    )
    base_table = denoising_table(space, prior)
    base = clean_law(space, base_table)
    target, _ = posterior(base, problem.log_reward)

    def measured(law: Tensor) -> Distance:
        return distance(law, target, problem.log_reward, problem.rewarded)

    laws = [clean_law(space, denoising_table(space, result.checkpoints[m])) for m in moments[:-1]]
    table = denoising_table(space, result.denoiser)
    laws.append(clean_law(space, table))
    history = {int(entry["step"]): entry for entry in result.history}
    return SteeredRun(
        problem=problem.name,
        method=method,
        seed=seed,
        calls=[0.0, *(history[m]["model_calls"] for m in moments)],
        reward_calls=[0.0, *(history[m]["reward_calls"] for m in moments)],
        distances=[measured(base), *map(measured, laws)],
        law=laws[-1],
        log_z=learned_log_z(space, result.log_z_model),
        log_z_scalar=result.log_z,
        bound_excess=float(bound_excess(space, base_table, table, problem.log_reward).max()),
        single_mask_tv=single_mask_tv(space, base_table, table, problem.log_reward),
        ess=result.ess,
        per_step=calls_per_step(result, steps),
    )


def calls_per_step(result: SteeringResult, steps: int) -> dict[str, float]:
    """Calls of one training step per sequence of the batch: tuned network, frozen network, reward; without the buffer's."""
    return {name: getattr(result.counter, name) / steps for name in ("model", "prior", "reward")}


@torch.no_grad()
def learned_log_z(space: Space, model: nn.Module | None) -> Tensor | None:
    """The learned log Z of every state with a mask, (S,) in float64; None without a network."""
    if model is None:
        return None
    device = next(model.parameters()).device
    return torch.cat([model(part).double().cpu() for part in space.partial.to(device).split(2**15)])


def bound_excess(space: Space, prior: Tensor, table: Tensor, log_reward: Tensor) -> Tensor:
    """E_q[log p + r − log q] − log Z_t for every state with a mask, (S,): Prop. 1's left side minus its right one.

    q and p are the one-step product laws of the tuned and the frozen denoiser; the expectation is a sum over all completions.

    Args:
        prior, table: μ of the frozen and q of the tuned denoiser, (S, n, V). log_reward: r, (V^n,).
    """
    log_z = log_normalisers(space, prior, log_reward)
    parts = []
    for pattern in space.patterns:
        log_q = product_law(table, pattern)
        inside = product_law(prior, pattern) + space.arranged(log_reward.double(), pattern) - log_q
        parts.append((log_q.exp() * inside).sum(1))
    return torch.cat(parts) - log_z


def single_mask_posterior(space: Space, prior: Tensor, log_reward: Tensor) -> tuple[Tensor, Tensor]:
    """The states with one mask (rows of :attr:`Space.partial`) and their exact posterior μ exp r / Z, (rows, V)."""
    rows, laws = [], []
    for pattern in space.patterns:
        if len(pattern.masked) == 1:
            rows.append(torch.arange(pattern.rows.start, pattern.rows.stop))
            tilted = product_law(prior, pattern) + space.arranged(log_reward.double(), pattern)
            laws.append(torch.softmax(tilted, 1))
    return torch.cat(rows), torch.cat(laws)


def single_mask_tv(space: Space, prior: Tensor, table: Tensor, log_reward: Tensor) -> float:
    """Largest total variation between q and the exact posterior over the states with one mask."""
    rows, exact = single_mask_posterior(space, prior, log_reward)
    where = (space.partial[rows] == space.n_symbols).long().argmax(1)
    return float(0.5 * (table[rows, where] - exact).abs().sum(1).max())
