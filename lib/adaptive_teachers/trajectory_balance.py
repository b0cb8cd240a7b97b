"""Rolling out policies, and the residuals of trajectory balance and detailed balance.

Trajectory balance does not differentiate through states. So a batch is first walked without gradient, and then all its states
are scored in ONE batched forward pass. All sums over a trajectory are in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.adaptive_teachers.deceptive_grid import PADDING, DeceptiveGrid, Walks
from lib.adaptive_teachers.policy_network import StackedPolicy


@torch.no_grad()
def roll_out(
    grid: DeceptiveGrid,
    policy: StackedPolicy,
    members: Tensor,
    uniform: Tensor,
    noise: Tensor | None = None,
    start: Tensor | None = None,
) -> Walks:
    """Walk a batch of every run forward until all have ended.

    Args:
        members: which member acts in each run, (K,).
        uniform: numbers in [0, 1), (K, B, T) with T ≥ the longest episode; an action is drawn by inversion.
        noise: ε of each run, (K,): actions come from (1−ε) π + ε/(d+1).
        start: states to start from, (K, B), interior; 0 by default.

    Returns:
        walks of at most d(H−2)+1 transitions.
    """
    runs, batch, _ = uniform.shape
    weights = policy.weights(members)
    states = torch.zeros(runs, batch, dtype=torch.long, device=grid.device) if start is None else start
    done = torch.zeros_like(states, dtype=torch.bool)
    visited, taken = [], []
    for t in range(grid.max_steps):
        logits = policy(states, weights)[..., : grid.dim + 1]
        probabilities = torch.softmax(logits, -1)
        if noise is not None:
            share = noise.view(-1, 1, 1)
            probabilities = (1 - share) * probabilities + share / (grid.dim + 1)
        cumulative = probabilities.cumsum(-1)
        actions = (uniform[..., t, None] * cumulative[..., -1:] >= cumulative).sum(-1).clamp(max=grid.dim)
        visited.append(states)
        taken.append(actions.masked_fill(done, PADDING))
        states, ended = grid.step(states, actions.masked_fill(done, grid.dim))  # who has ended, stays
        done = done | ended
        if done.all():
            break
    return Walks(torch.stack(visited, -1), torch.stack(taken, -1), states)


@dataclass(frozen=True)
class Packed:
    """The transitions of a batch without its padding: per run a list of (state, action, trajectory), padded to one length.

    All (K, N); ``walk`` is the trajectory's number in the batch, B for padding, so that sums land in a column that is dropped.
    """

    states: Tensor
    actions: Tensor
    walk: Tensor
    position: Tensor

    def of_runs(self, runs: Tensor) -> Packed:
        """The lists of chosen runs, (n,), in that order."""
        return Packed(
            *(x.index_select(0, runs) for x in (self.states, self.actions, self.walk, self.position))
        )

    def of_members(self, members: slice) -> Packed:
        """The lists of a range of members."""
        return Packed(self.states[members], self.actions[members], self.walk[members], self.position[members])


def pack(walks: Walks) -> Packed:
    """Leave out padding: trajectories differ much in length, and the sums of their lengths over a batch do not."""
    runs, batch, length = walks.actions.shape
    live = walks.live.flatten(1)
    longest = int(live.sum(1).max())
    position = live.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    kept = live.gather(1, position)
    walk = torch.where(kept, position // length, batch)
    states = walks.states.flatten(1).gather(1, position)
    actions = walks.actions.flatten(1).gather(1, position).clamp(min=0)
    return Packed(states, actions, walk, position)


def sum_by_walk(values: Tensor, packed: Packed, batch: int) -> Tensor:
    """Sums of per-transition values (K, N) over each trajectory, (K, B), in float64."""
    sums = values.new_zeros(len(values), batch + 1, dtype=torch.float64)
    return sums.scatter_add(1, packed.walk, values.double())[:, :batch]


def log_policy(outputs: Tensor, actions: Tensor, dim: int) -> Tensor:
    """log π of the taken actions, (K, N), from network outputs (K, N, ≥ d+1)."""
    return torch.log_softmax(outputs[..., : dim + 1], -1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def trajectory_balance_residual(log_reward: Tensor, log_pb: Tensor, log_z: Tensor, log_pf: Tensor) -> Tensor:
    """δ(τ) = log R(x) + log P_B(τ|x) − log Z − log P_F(τ), (K, B).

    Positive where the sampler gives the end point too little mass.

    Args:
        log_reward, log_pb, log_pf: of each trajectory, (K, B).
        log_z: (K,).
    """
    return log_reward + log_pb - log_z.double().unsqueeze(1) - log_pf


def trajectory_balance_loss(delta: Tensor) -> Tensor:
    """Mean squared residual of each run, (K, B) → (K,)."""
    return delta.square().mean(1)
