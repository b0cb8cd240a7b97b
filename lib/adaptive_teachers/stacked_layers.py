"""Layers of many small networks at once: every weight has a leading axis of members, and members never mix."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

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


def clip_by_member(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale the gradients of each member to a norm of at most ``largest``, over all its parameters; in place.

    A common norm would couple the members, and runs in one stack would no longer be what they are alone.

    Args:
        parameters: each with the members along its first axis; those without a gradient are left out.
        largest: the norm.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    squares = torch.stack([g.reshape(len(g), -1).square().sum(1) for g in gradients])  # (parameters, M)
    factor = (largest / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))
