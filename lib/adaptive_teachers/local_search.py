"""Back-and-forth local search: undo the second half of a trajectory, walk forward again, keep the better end point."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lib.adaptive_teachers.deceptive_grid import PADDING, DeceptiveGrid, Walks
from lib.adaptive_teachers.policy_network import StackedPolicy
from lib.adaptive_teachers.trajectory_balance import roll_out


def half_way(grid: DeceptiveGrid, back: Walks) -> tuple[Tensor, Tensor]:
    """Cut trajectories after half of their states.

    Of a trajectory with n states (the start and the end point among them) the last ⌊n/2⌋ steps are dropped.

    Returns:
        the states to go on from, (K, B), and the kept actions, (K, B, T), −1 where they were dropped.
    """
    moves = (back.live & (back.actions != grid.dim)).sum(-1)  # n − 1
    kept = (moves - (moves + 1) // 2).clamp(min=0)
    time = torch.arange(back.actions.shape[-1], device=grid.device)
    prefix = torch.where(time < kept.unsqueeze(-1), back.actions, PADDING)
    state = (grid.strides[prefix.clamp(min=0)] * (prefix != PADDING)).sum(-1)
    return state, prefix


def local_search(
    grid: DeceptiveGrid,
    policy: StackedPolicy,
    members: Tensor,
    walks: Walks,
    score: Callable[[Walks], Tensor],
    draw: Callable[[int], Tensor],
    rounds: int,
    noise: Tensor | None = None,
) -> tuple[Walks, Tensor]:
    """Refine the end points of a batch.

    Args:
        members: which member walks forward, (K,): the Teacher where there is one.
        walks: the batch to start from.
        score: (K, B) of a batch; a proposal is accepted where its score is higher.
        draw: n → uniform numbers (K, B, n), each run from its own generator.
        rounds: proposals per trajectory (4); each costs one reward call.
        noise: ε of the forward policy, (K,).

    Returns:
        the accepted trajectories, and all end points that were tried, (K, B, rounds).
    """
    best, tried = score(walks), []
    for _ in range(rounds):
        back = grid.backward_walks(walks.terminal, draw(grid.dim * (grid.side - 1)))
        start, prefix = half_way(grid, back)
        onward = roll_out(grid, policy, members, draw(grid.max_steps), noise, start)
        actions = torch.cat([prefix, onward.actions], -1)
        proposal = Walks(grid.states_before(actions), actions, onward.terminal)
        tried.append(proposal.terminal)
        value = score(proposal)
        better = value > best
        walks = _choose(better, proposal, walks)
        best = torch.where(better, value, best)
    return walks, torch.stack(tried, -1)


def _choose(first: Tensor, a: Walks, b: Walks) -> Walks:
    """Trajectories of ``a`` where ``first`` (K, B), else of ``b``; the shorter ones are padded."""
    length = max(a.actions.shape[-1], b.actions.shape[-1])

    def pad(x: Tensor, value: int) -> Tensor:
        return torch.nn.functional.pad(x, (0, length - x.shape[-1]), value=value)

    choice = first.unsqueeze(-1)
    return Walks(
        torch.where(choice, pad(a.states, 0), pad(b.states, 0)),
        torch.where(choice, pad(a.actions, PADDING), pad(b.actions, PADDING)),
        torch.where(first, a.terminal, b.terminal),
    )
