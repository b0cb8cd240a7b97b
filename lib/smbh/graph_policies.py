"""Policies that grow graphs: networks from a state to the log probabilities of its actions.

A network gives a logit for every edge (B, n, n) and one for stopping (B,); :func:`log_policy` makes a law on the valid actions of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.smbh.dag_states import DagStates, state_codes


def log_policy(edge_logits: Tensor, stop_logit: Tensor, valid: Tensor) -> Tensor:
    """Log probabilities of all actions (B, n * n + 1); the last is stop.

    P(stop) = sigmoid(stop logit); the rest is shared among valid edges by a softmax; without a valid edge stop has
    probability 1.

    Args:
        edge_logits: (B, n, n). stop_logit: (B,). valid: (B, n, n) bool.
    """
    valid = valid.flatten(1)
    some = valid.any(dim=1)
    floor = torch.finfo(edge_logits.dtype).min
    edges = F.log_softmax(edge_logits.flatten(1).masked_fill(~valid, floor), dim=1)
    edges = (edges + F.logsigmoid(-stop_logit)[:, None]).masked_fill(~valid, -math.inf)
    stop = torch.where(some, F.logsigmoid(stop_logit), torch.zeros_like(stop_logit))
    return torch.cat((edges, stop[:, None]), dim=1)


class MlpPolicy(nn.Module):
    """The adjacency matrix through a multilayer perceptron; outputs in units of ``scale`` nats.

    Log scores of neighbouring graphs differ by tens of nats, and so do the logits that solve (1).
    """

    def __init__(self, n: int, hidden: int = 256, layers: int = 3, scale: float = 10.0) -> None:
        super().__init__()
        self.n, self.scale = n, scale
        sizes = [n * n] + [hidden] * layers
        blocks = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.GELU())]
        self.body = nn.Sequential(*blocks, nn.Linear(hidden, n * n + 1))

    def forward(self, states: DagStates) -> tuple[Tensor, Tensor]:
        out = self.scale * self.body(states.adjacency.flatten(1).float())
        return out[:, :-1].view(-1, self.n, self.n), out[:, -1]


class LinearAttentionBlock(nn.Module):
    """Pre-norm attention with feature map elu(x) + 1 (linear in the number of tokens), then a two-layer perceptron.

    Both halves read [embedding of the 0/1 adjacency entry, hidden], normalised.
    """

    def __init__(
        self, width: int, heads: int = 4, key_size: int = 64, embedding: int = 128, widening: int = 2
    ) -> None:
        super().__init__()
        self.heads, self.key_size = heads, key_size
        self.entry = nn.Linear(1, embedding)
        joint = embedding + width
        self.norm_attention, self.norm_mlp = nn.LayerNorm(joint), nn.LayerNorm(joint)
        self.queries_keys_values = nn.Linear(joint, 3 * heads * key_size)
        self.out = nn.Linear(heads * key_size, width)
        self.mlp = nn.Sequential(
            nn.Linear(joint, widening * width), nn.GELU(), nn.Linear(widening * width, width)
        )

    def forward(self, hidden: Tensor, entries: Tensor) -> Tensor:
        """hidden (B, tokens, width), entries (B, tokens, 1) -> (B, tokens, width)."""
        batch, tokens, _ = hidden.shape
        entry = self.entry(entries)
        joint = self.norm_attention(torch.cat((entry, hidden), dim=-1))
        q, k, v = self.queries_keys_values(joint).view(batch, tokens, 3, self.heads, self.key_size).unbind(2)
        q, k = F.elu(q) + 1.0, F.elu(k) + 1.0  # (B, tokens, heads, key)
        summary = torch.einsum("bthk,bthv->bhkv", k, v)
        scale = torch.einsum("bthk,bhk->bth", q, k.sum(dim=1)).clamp(min=1e-6)
        mixed = torch.einsum("bthk,bhkv->bthv", q, summary) / scale[..., None]
        hidden = hidden + self.out(mixed.flatten(2))
        return hidden + self.mlp(self.norm_mlp(torch.cat((entry, hidden), dim=-1)))


class TransformerPolicy(nn.Module):
    """The official-size network: n * n tokens, three shared blocks, two more for edges, two more for stop."""

    def __init__(self, n: int, embedding: int = 128, heads: int = 4, key_size: int = 64) -> None:
        super().__init__()
        self.n = n
        self.nodes = nn.Embedding(2 * n, embedding)  # as source, as target
        width = 2 * embedding

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(
                LinearAttentionBlock(width, heads, key_size, embedding) for _ in range(count)
            )

        def head(bias: bool) -> nn.Sequential:
            last = nn.Linear(128, 1, bias=bias)
            return nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 128), nn.GELU(), last)

        self.shared, self.edge_blocks, self.stop_blocks = blocks(3), blocks(2), blocks(2)
        # a bias common to all edges would cancel in the softmax over edges
        self.edge_head, self.stop_head = head(bias=False), head(bias=True)

    def forward(self, states: DagStates) -> tuple[Tensor, Tensor]:
        batch, n = states.adjacency.shape[0], self.n
        token = torch.arange(n * n, device=states.adjacency.device)
        pairs = torch.stack((token // n, n + token % n), dim=1)  # (tokens, 2)
        hidden = self.nodes(pairs).flatten(1).expand(batch, -1, -1)  # (B, tokens, 2 * embedding)
        entries = states.adjacency.flatten(1).unsqueeze(-1).float()
        for block in self.shared:
            hidden = block(hidden, entries)
        edges, stop = hidden, hidden
        for block in self.edge_blocks:
            edges = block(edges, entries)
        for block in self.stop_blocks:
            stop = block(stop, entries)
        return self.edge_head(edges).view(batch, n, n), self.stop_head(stop.mean(dim=1)).squeeze(-1)


class TabularPolicy(nn.Module):
    """A policy given by a table: state code (see :func:`state_codes`) -> log probabilities. For exact checks at small n."""

    codes: Tensor
    edge_logits: Tensor
    stop_logit: Tensor

    def __init__(self, codes: Tensor, edge_logits: Tensor, stop_logit: Tensor) -> None:
        super().__init__()
        order = codes.argsort()
        self.register_buffer("codes", codes[order])
        self.register_buffer("edge_logits", edge_logits[order])
        self.register_buffer("stop_logit", stop_logit[order])

    def forward(self, states: DagStates) -> tuple[Tensor, Tensor]:
        row = torch.searchsorted(self.codes, state_codes(states.adjacency))
        return self.edge_logits[row], self.stop_logit[row]


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"mlp": MlpPolicy, "transformer": TransformerPolicy}
