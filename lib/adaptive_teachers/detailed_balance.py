"""Detailed balance: the network has one more output, log F(s), and every transition has a residual of its own.

    d = log F(s') + log P_B(s|s') − log F(s) − log P_F(s'|s),      F(x) = R(x) at the end of an episode.

The sign is that of trajectory balance: d > 0 where the *next* state gets too little flow. (Written as "forward minus
backward", as in much released code, the indicator of the Teacher's asymmetry would mark over-estimated flow.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib.adaptive_teachers.trajectory_balance import Packed


def following_value(values: Tensor, packed: Packed, at_end: Tensor) -> Tensor:
    """Value of the state that each transition leads to, (K, N).

    The transitions of a trajectory lie behind one another, so that is the next entry, and ``at_end`` (K, B) for the last one.
    """
    nothing = packed.walk.new_full((len(values), 1), -1)
    is_last = packed.walk != torch.cat([packed.walk[:, 1:], nothing], 1)
    shifted = torch.cat([values[:, 1:], values[:, :1]], 1)
    padded = torch.cat([at_end, at_end.new_zeros(len(at_end), 1)], 1)
    return torch.where(is_last, padded.gather(1, packed.walk), shifted.to(at_end.dtype))


def detailed_balance_residual(
    log_flow: Tensor, log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, packed: Packed
) -> Tensor:
    """d of each transition, (K, N), zero on padding.

    Args:
        log_flow: log F(s) of the state of each transition, (K, N).
        log_pf, log_pb: of each transition, (K, N).
        log_reward: log R of the end points, (K, B).
    """
    following = following_value(log_flow.double(), packed, log_reward)
    d = following + log_pb - log_flow.double() - log_pf.double()
    return torch.where(packed.walk < log_reward.shape[1], d, 0.0)


def detailed_balance_loss(residuals: Tensor, batch: int) -> Tensor:
    """Sum over transitions of d², mean over the trajectories, (K, N) → (K,)."""
    return residuals.square().sum(1) / batch
