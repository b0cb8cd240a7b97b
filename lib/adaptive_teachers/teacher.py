"""The Teacher's reward: a function of the Student's error, so that sampling from it means going where the Student is wrong.

With the trajectory-balance residual of the Student on one trajectory τ that ends in x,

    δ(τ) = log R(x) + log P_B(τ | x) − log Z − log P_F(τ),

δ > 0 says that the Student gives x too *little* mass. The Teacher's target is

    log R_T(x) = log log(1 + ε + (1 + C·1[δ > 0]) δ²) + α log R(x),      ε = 1e-3, C = 19.

The inner logarithm is the reward itself, the outer one turns it into the log-reward that trajectory balance takes.
"""

from __future__ import annotations

import torch
from torch import Tensor

OFFSET = 1e-3
"""ε of the Teacher's reward; it keeps the reward of a perfectly fitted state at log(1.001)."""
ASYMMETRY = 19.0
"""C of the paper: under-sampled states weigh 1 + C = 20 times as much as over-sampled ones."""


def weighted_squares(
    delta: Tensor, asymmetry: Tensor | float = ASYMMETRY, clamp: float | None = None
) -> Tensor:
    """(1 + C·1[δ > 0]) δ², same shape as ``delta``.

    Args:
        delta: residuals of the Student, positive where it gives too little mass.
        asymmetry: C ≥ 0, a number or a tensor that broadcasts with ``delta``.
        clamp: largest value that δ² is given before the weight (5000 in the sequence tasks of the released code).
    """
    squares = delta.square() if clamp is None else delta.square().clamp(max=clamp)
    return squares * (1 + asymmetry * (delta > 0).to(delta.dtype))


def teacher_log_reward(
    delta: Tensor,
    log_reward: Tensor,
    *,
    asymmetry: Tensor | float = ASYMMETRY,
    mixing: Tensor | float = 0.0,
    scale: float = 1.0,
    clamp: float | None = None,
    floor: float = 0.0,
) -> Tensor:
    """log R_T of each trajectory's end point, without gradient.

    Args:
        delta: residual δ of one trajectory per end point, any shape; taken *before* the Student's step.
        log_reward: log R of the end points, same shape.
        asymmetry: C, the additional weight of under-sampled states (19).
        mixing: α, the power of the reward that is mixed in (0 on grids, 0.5 elsewhere).
        scale: factor on δ² (1 on grids and sequences, 0.5 in the diffusion code, whose loss is 0.5 δ²).
        clamp: see :func:`weighted_squares`.
        floor: added to the reward before its logarithm (1e-8 on grids).

    Raises:
        ValueError: if the shapes differ.
    """
    if delta.shape != log_reward.shape:
        raise ValueError(
            f"delta {tuple(delta.shape)} and log_reward {tuple(log_reward.shape)} differ in shape"
        )
    with torch.no_grad():
        reward = torch.log1p(OFFSET + scale * weighted_squares(delta, asymmetry, clamp))
        return torch.log(reward + floor) + mixing * log_reward


def teacher_log_reward_of_transitions(
    residuals: Tensor,
    live: Tensor,
    log_reward: Tensor,
    *,
    asymmetry: Tensor | float = ASYMMETRY,
    mixing: Tensor | float = 0.0,
    floor: float = 0.0,
) -> Tensor:
    """The detailed-balance form: R_T sums log(1 + ε + (1 + C·1[d > 0]) d²) over the transitions of a trajectory.

    Args:
        residuals: d of each transition, (..., T), positive where the *next* state gets too little flow.
        live: which transitions exist, (..., T); the others are padding.
        log_reward: log R of the end points, (...).
        asymmetry, mixing, floor: see :func:`teacher_log_reward`; tensors must broadcast with (..., T) and (...).
    """
    with torch.no_grad():
        terms = torch.log1p(OFFSET + weighted_squares(residuals, asymmetry))
        reward = torch.where(live, terms, 0.0).sum(-1)
        return torch.log(reward + floor) + mixing * log_reward
