"""The exact law of a sampler's end points, by dynamic programming over the grid.

With u(s) the probability that an episode visits s, u(0) = 1 and

    u(s') = Σ_i u(s' − e_i) π_i(s' − e_i)   over parents that are not terminal,
    p(x) = u(x) π_stop(x) in the interior, p(x) = u(x) on the border.

States are processed by level sets of Σ_i s_i: one batched forward pass, then d(H−2)+1 additions of whole levels, in float64. No
sample is drawn, so the law has no sampling noise.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lib.adaptive_teachers.deceptive_grid import DeceptiveGrid
from lib.adaptive_teachers.policy_network import StackedPolicy

CHUNK = 2**18
"""States times members that are scored in one forward pass."""


def level_sets(grid: DeceptiveGrid) -> list[Tensor]:
    """Interior states by their level Σ_i s_i = 0, 1, …, d(H−2)."""
    states = grid.interior.nonzero().squeeze(1)
    level = grid.coordinates[states].sum(1)
    order = level.argsort(stable=True)
    return list(states[order].split(torch.bincount(level).tolist()))


@torch.no_grad()
def policy_table(grid: DeceptiveGrid, policy: StackedPolicy, members: Tensor | None = None) -> Tensor:
    """π of every interior state, (M, H^d, d+1) in float64; zero where no action is taken."""
    weights = policy.weights(members)
    n_members = len(weights[0])
    states = grid.interior.nonzero().squeeze(1)
    table = torch.zeros(n_members, grid.n_states, grid.dim + 1, dtype=torch.float64, device=grid.device)
    for chunk in states.split(max(1, CHUNK // n_members)):
        logits = policy(chunk.expand(n_members, -1), weights)[..., : grid.dim + 1]
        table[:, chunk] = torch.softmax(logits.double(), -1)
    return table


def terminal_law(grid: DeceptiveGrid, table: Tensor) -> Tensor:
    """p(x) on all H^d states, (M, H^d), from a policy table (M, H^d, d+1)."""
    visits = torch.zeros(table.shape[:2], dtype=torch.float64, device=table.device)
    visits[:, 0] = 1.0
    for level in level_sets(grid):
        reach = visits[:, level]
        for i in range(grid.dim):
            visits.index_add_(1, level + grid.strides[i], reach * table[:, level, i])
    law = torch.where(grid.interior, visits * table[..., grid.dim], 0.0)
    return torch.where(grid.border, visits, law)


def exact_law(grid: DeceptiveGrid, policy: StackedPolicy, members: Tensor | None = None) -> Tensor:
    """The exact terminal law of members of a stack, (M, H^d); a few members at a time where the grid is large."""
    chosen = torch.arange(policy.members, device=grid.device) if members is None else members
    parts = chosen.split(max(1, 2**22 // (grid.n_states * (grid.dim + 1))))
    return torch.cat([terminal_law(grid, policy_table(grid, policy, part)) for part in parts])


def expected_residual(
    grid: DeceptiveGrid, table: Tensor, log_z: Tensor, log_reward: Tensor
) -> tuple[Tensor, Tensor]:
    """E[δ] and E[δ²] over backward trajectories to each state, by the same recursion; both (M, H^d).

    With c(s → s') = log P_B(s|s') − log π(s → s'), the sum of c along a backward walk has the mean m(s') = E[m(s) + c] and the
    second moment q(s') = E[q(s) + 2 c m(s) + c²] over the parents s of s'. Only the valid backward policy has such an
    expectation on the border.

    Args:
        table: policies (M, H^d, d+1); log_z: (M,); log_reward: (H^d,) or (M, H^d).

    Raises:
        ValueError: for the official backward policy.
    """
    if grid.pb != "valid":
        raise ValueError("an expectation over backward walks needs pb='valid'")
    log_table = table.log()
    mean = torch.zeros(table.shape[:2], dtype=torch.float64, device=table.device)
    square = torch.zeros_like(mean)
    share = grid.log_pb.exp()
    for level in level_sets(grid):
        m, q = mean[:, level], square[:, level]
        for i in range(grid.dim):
            child = level + grid.strides[i]
            cost = grid.log_pb[child] - log_table[:, level, i]
            mean.index_add_(1, child, share[child] * (m + cost))
            square.index_add_(1, child, share[child] * (q + 2 * cost * m + cost.square()))
    stop = torch.where(grid.interior, -log_table[..., grid.dim], 0.0)
    offset = log_reward + stop - log_z.double().unsqueeze(1)
    first = offset + mean
    second = offset.square() + 2 * offset * mean + square
    zero = torch.zeros((), dtype=torch.float64, device=table.device)
    return torch.where(grid.is_terminal, first, zero), torch.where(grid.is_terminal, second, zero)


def optimal_policy(grid: DeceptiveGrid, log_reward: Tensor | None = None) -> tuple[Tensor, float]:
    """The policy that makes every residual zero, (1, H^d, d+1), and its log Z.

    Flows by backward recursion, F(s) = R(s) + Σ_i F(s + e_i) P_B(s | s + e_i), and π(s'|s) = F(s') P_B(s|s') / F(s).

    Args:
        log_reward: log R of all states, (H^d,); the grid's own by default.
    """
    log_reward = grid.log_reward if log_reward is None else log_reward.double()
    log_flow = torch.where(grid.is_terminal, log_reward, -torch.inf).clone()
    table = torch.zeros(grid.n_states, grid.dim + 1, dtype=torch.float64, device=grid.device)
    for level in reversed(level_sets(grid)):
        children = level.unsqueeze(1) + grid.strides[:-1]  # (n, d)
        parts = torch.cat([log_flow[children] + grid.log_pb[children], log_reward[level].unsqueeze(1)], 1)
        log_flow[level] = torch.logsumexp(parts, 1)
        table[level] = (parts - log_flow[level].unsqueeze(1)).exp()
    return table.unsqueeze(0), float(log_flow[0])


def total_variation(law: Tensor, target: Tensor) -> Tensor:
    """½ Σ |p − q| over the last axis."""
    return 0.5 * (law - target).abs().sum(-1)


def kl_divergence(target: Tensor, law: Tensor) -> Tensor:
    """KL(target ‖ law) in nats over the last axis; infinite where the law misses a part of the target."""
    terms = torch.where(target > 0, target * (target.clamp(min=1e-300).log() - law.log()), 0.0)
    return terms.sum(-1)


def mode_recall(grid: DeceptiveGrid, law: Tensor, target: Tensor) -> Tensor:
    """Share of the modes that the law gives at least half of their target mass, (M,)."""
    return (law[..., grid.is_mode] >= 0.5 * target[grid.is_mode]).double().mean(-1)


def sampled_l1(
    grid: DeceptiveGrid, law: Tensor, target: Tensor, samples: int, rng: np.random.Generator
) -> float:
    """The paper's L1: mean over terminal states of |empirical − target|, with ``samples`` draws from ``law`` (H^d,).

    Counts of independent draws are multinomial, so one draw of counts replaces the episodes.
    """
    p = law[grid.terminals].cpu().numpy()
    counts = rng.multinomial(samples, p / p.sum())
    return float(np.abs(counts / samples - target[grid.terminals].cpu().numpy()).mean())


def l1_floor(grid: DeceptiveGrid, samples: int, rng: np.random.Generator, repeats: int = 3) -> float:
    """The L1 that a PERFECT sampler scores: :func:`sampled_l1` of the target itself, mean of ``repeats`` draws."""
    return float(np.mean([sampled_l1(grid, grid.target, grid.target, samples, rng) for _ in range(repeats)]))
