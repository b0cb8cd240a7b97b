"""GAFN: a generative flow network with an intrinsic reward for novel states, by random network distillation.

Two networks per run: one fixed at random, one trained to predict it. Their distance on a state,
r_i(s) = scale · ‖f_pred(s) − f_rand(s)‖₂, shrinks where the run has been. In trajectory balance it enters twice: the last step adds it
to the reward, and every earlier transition has

    log(P_B(s_{t−1}|s_t) + r_i(s_t) / F(s_t))   in place of   log P_B(s_{t−1}|s_t),

with F(s) = exp of one more output of the policy network. It is a training signal only: an evaluation never sees it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.adaptive_teachers.deceptive_grid import DeceptiveGrid
from lib.adaptive_teachers.detailed_balance import following_value
from lib.adaptive_teachers.policy_network import StackedPolicy
from lib.adaptive_teachers.trajectory_balance import Packed

FEATURES = 128


class RandomDistillation(nn.Module):
    """Predictor and random target of K runs, one-hot → h → h → 128 with leaky rectifiers.

    Args:
        grid, hidden, generators: as in :class:`StackedPolicy`, one generator a run.
        scale: factor of the intrinsic reward (0.01).
    """

    def __init__(
        self,
        grid: DeceptiveGrid,
        hidden: int,
        generators: Sequence[torch.Generator],
        scale: float = 0.01,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.target = StackedPolicy(grid, hidden, FEATURES, generators).requires_grad_(False)
        self.predictor = StackedPolicy(grid, hidden, FEATURES, generators)
        self.predictor.log_z.requires_grad_(False)

    def distance(self, states: Tensor) -> Tensor:
        """‖f_pred − f_rand‖₂ of states (K, N), with gradient to the predictor."""
        return (self.predictor(states) - self.target(states)).norm(dim=-1)


def augmented_terms(
    intrinsic: Tensor, log_flow: Tensor, log_pb: Tensor, log_reward: Tensor, packed: Packed
) -> tuple[Tensor, Tensor]:
    """Backward terms of each transition (K, N) and log-rewards (K, B) with the intrinsic reward in them.

    Args:
        intrinsic: r_i of the state that each transition leads to, (K, N).
        log_flow: log F of the state in which each transition starts, (K, N).
        log_pb: log P_B of each transition, (K, N).
        log_reward: log R of the end points, (K, B).
    """
    batch = log_reward.shape[1]
    nothing = packed.walk.new_full((len(intrinsic), 1), -1)
    is_last = packed.walk != torch.cat([packed.walk[:, 1:], nothing], 1)
    following = following_value(log_flow.double(), packed, log_reward)  # log F(s'), unused for the last step
    log_bonus = intrinsic.double().clamp(min=1e-300).log()
    terms = torch.where(is_last, log_pb, torch.logaddexp(log_pb, log_bonus - following))
    last = torch.where(is_last & (packed.walk < batch), intrinsic.double(), 0.0)
    at_end = F.pad(torch.zeros_like(log_reward), (0, 1)).scatter_add(1, packed.walk, last)[:, :batch]
    return terms, torch.logaddexp(log_reward, at_end.clamp(min=1e-300).log())
