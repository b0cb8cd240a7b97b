"""Policies of many samplers as one network: every weight has a leading axis of members.

A member is the Student or the Teacher of one run. A network of this size spends most of its time on overhead, which a stack pays
once. Members never mix: products are batched over the leading axis, so each member computes what it would compute alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.adaptive_teachers.deceptive_grid import DeceptiveGrid
from lib.adaptive_teachers.stacked_layers import StackedLinear

SLOPE = 0.01  # of the leaky rectifier


class StackedPolicy(nn.Module):
    """M networks state → outputs, one-hot(s_1), …, one-hot(s_d) → h → h → outputs, with leaky rectifiers.

    The first layer acts on d concatenated one-hot vectors, so its product with the weights is a sum of d rows,
    b + Σ_i E_i[s_i]: d look-ups in place of a (dH × h) product.

    Args:
        grid: gives d, H and the table of coordinates.
        hidden: h.
        outputs: d + 1 logits of the forward policy, one more where the objective needs a flow.
        generators: one generator for each member; draws its initial weights (torch's default for linear layers).

    Raises:
        ValueError: for no member.
    """

    def __init__(
        self, grid: DeceptiveGrid, hidden: int, outputs: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        if not generators:
            raise ValueError("a stack needs at least one member")
        self.members, self.dim, self.side = len(generators), grid.dim, grid.side
        sizes = [(grid.dim * grid.side, hidden), (hidden, hidden), (hidden, outputs)]
        (self.embedding, self.bias1), (self.weight2, self.bias2), (self.weight3, self.bias3) = (
            (layer.weight, layer.bias) for layer in (StackedLinear(*size, generators) for size in sizes)
        )
        self.log_z = nn.Parameter(torch.zeros(self.members))
        rows = grid.coordinates + grid.side * torch.arange(grid.dim, device=grid.device)
        self.register_buffer("rows", rows, persistent=False)  # (H^d, d) rows of the first layer

    rows: Tensor

    def weights(self, members: Tensor | None = None) -> tuple[Tensor, ...]:
        """First-layer table, biases and weights, of all members or of a chosen list (n,)."""
        every = (self.embedding, self.bias1, self.weight2, self.bias2, self.weight3, self.bias3)
        return every if members is None else tuple(w.index_select(0, members) for w in every)

    def forward(self, states: Tensor, weights: tuple[Tensor, ...] | None = None) -> Tensor:
        """States (M, N) → outputs (M, N, outputs), member m acting on row m."""
        embedding, bias1, weight2, bias2, weight3, bias3 = self.weights() if weights is None else weights
        members, n = states.shape
        offset = self.dim * self.side * torch.arange(members, device=states.device)
        rows = self.rows[states] + offset.view(-1, 1, 1)  # (M, N, d)
        h = F.embedding_bag(rows.view(-1, self.dim), embedding.flatten(0, 1), mode="sum")
        h = F.leaky_relu(h.view(members, n, -1) + bias1.unsqueeze(1), SLOPE)
        h = F.leaky_relu(torch.baddbmm(bias2.unsqueeze(1), h, weight2), SLOPE)
        return torch.baddbmm(bias3.unsqueeze(1), h, weight3)

    def parameters_per_member(self) -> int:
        """Weights of one member, log Z included."""
        return sum(p.numel() for p in self.parameters()) // self.members
