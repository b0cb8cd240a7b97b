"""What the layers of a trained minGRU do with the first, the second, … data token: how depth gives back what the gates lost.

The gates of layer 1 read the token and nothing else. Its state can count all the same, and the gates of layer 2 read that state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.kept_results import Array
from lib.minrnn.mixers import MinGRU

TINY = 1e-8
"""Variances below this are rounding."""


@dataclass(frozen=True)
class GateReading:
    """Gates and counts of one minGRU over sequences with M data tokens each.

    Attributes:
        openings: (layers, M, d_hidden), gate z of each channel at the j-th data token, mean over sequences; 1 writes, 0 keeps.
        explained: for each layer, the share of the gates' variance at data tokens that the order j of the token explains
            (summed over channels).
        counted: (M + 1, 2), mean and standard deviation of the linear read-out of layer 1's state of how many data tokens have
            been read, by true number (NaN for a number that does not occur); fitted on half of the sequences, read on the other half.
        count_r2: share of the variance of the true number that this read-out explains.
    """

    openings: Array
    explained: tuple[float, ...]
    counted: Array
    count_r2: float


def read_gates(model: nn.Module, tokens: Tensor, data: Tensor, members: int = 1) -> list[GateReading | None]:
    """Read a minGRU, or every member of a stack of them.

    Args:
        model: maps tokens to logits.
        tokens: (members · B, T), the members' sequences behind one another. data: of the same shape, True at data tokens,
            of which every sequence has equally many.
        members: of the stack.

    Returns:
        One reading a member; None where the layers are not minGRU, or a member has fewer than two sequences.
    """
    if len(tokens) < 2 * members or not any(isinstance(m, MinGRU) for m in model.modules()):
        return [None] * members
    gates, state = _watch(model, tokens, data)
    rows = [slice(i * len(tokens) // members, (i + 1) * len(tokens) // members) for i in range(members)]
    return [_reading(gates[:, own], state[own], data[own].cumsum(1).cpu().numpy()) for own in rows]


@torch.no_grad()
def _watch(model: nn.Module, tokens: Tensor, data: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Gates z of every layer at the data tokens, (layers, rows, M, d_hidden), and states h of layer 1, (rows, T, d_hidden)."""
    gates: list[np.ndarray] = []
    states: list[np.ndarray] = []

    def see_gate(_: nn.Module, __: Any, out: Tensor) -> None:
        z = torch.sigmoid(out.chunk(2, dim=-1)[0][data])  # (rows · M, d_hidden)
        gates.append(z.view(len(tokens), -1, z.shape[-1]).cpu().numpy())

    def see_state(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        states.append(inputs[0].cpu().numpy())

    layers = [m for m in model.modules() if isinstance(m, MinGRU)]
    hooks = [layer.project_in.register_forward_hook(see_gate) for layer in layers]
    hooks.append(layers[0].project_out.register_forward_pre_hook(see_state))
    try:
        model(tokens.to(next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return np.stack(gates), states[0]


def _reading(gates: np.ndarray, state: np.ndarray, number: np.ndarray) -> GateReading:
    """The reading of one model.

    Args:
        gates: (layers, B, M, d_hidden). state: of layer 1, (B, T, d_hidden). number: data tokens read so far, (B, T).
    """
    openings = gates.mean(1)  # (layers, M, d_hidden)
    every = gates.reshape(len(gates), -1, gates.shape[-1])  # (layers, B · M, d_hidden)
    explained = openings.var(1).sum(-1) / np.maximum(every.var(1).sum(-1), TINY)
    rows = np.concatenate([state, np.ones_like(state[..., :1])], axis=-1)  # (B, T, d_hidden + 1)
    half = len(rows) // 2
    fitted, read = (part.reshape(-1, rows.shape[-1]) for part in (rows[:half], rows[half:]))
    weights = np.linalg.lstsq(fitted, number[:half].ravel(), rcond=None)[0]
    found, true = read @ weights, number[half:].ravel()
    counted = np.full((gates.shape[2] + 1, 2), np.nan)
    for n in np.unique(true):
        counted[n] = found[true == n].mean(), found[true == n].std()
    r2 = 1 - np.square(found - true).sum() / max(np.square(true - true.mean()).sum(), TINY)
    return GateReading(openings, tuple(map(float, explained)), counted, float(r2))
