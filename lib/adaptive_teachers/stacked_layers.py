"""Layers of many small networks at once: every weight has a leading axis of members, and members never mix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StackedLinear(nn.Module):
    """M linear maps, x (M, N, d_in) → (M, N, d_out), member m acting on row m.

    Args:
        d_in, d_out: sizes.
        generators: one for each member; draws weight and bias as ``torch.nn.Linear`` does, uniform within ±1/√d_in.
        zero: start from zero weights and the constant bias ``bias`` instead.
        bias: the constant; used with ``zero`` only.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        generators: Sequence[torch.Generator],
        zero: bool = False,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_in)
        weights, biases = [], []
        for generator in generators:
            if zero:
                weights.append(torch.zeros(d_in, d_out))
                biases.append(torch.full((d_out,), bias))
            else:
                weights.append(torch.empty(d_in, d_out).uniform_(-bound, bound, generator=generator))
                biases.append(torch.empty(d_out).uniform_(-bound, bound, generator=generator))
        self.weight = nn.Parameter(torch.stack(weights))  # (M, d_in, d_out)
        self.bias = nn.Parameter(torch.stack(biases))  # (M, d_out)

    def forward(self, x: Tensor, members: slice = slice(None)) -> Tensor:
        """Apply the maps of ``members`` (all by default) to x (m, N, d_in)."""
        return torch.baddbmm(self.bias[members].unsqueeze(1), x, self.weight[members])
