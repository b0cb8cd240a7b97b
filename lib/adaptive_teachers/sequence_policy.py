"""Policies over strings that grow at both ends: each child is scored beside its parent, many policies as one network.

With e(s) = W₂ φ(E·onehot(s) + b₁) + b₂ the encoding of a string (its symbols one-hot, aligned left, padded with zeros; φ a leaky
rectifier), a child is scored as

    score(s, s') = wᵀ φ(U e(s) + V e(s') + c),     P_F(s' | s) = softmax over the unique children s' of s.

Three things make this fast and change nothing. The first layer is a sum of rows of E. A child's sum is its parent's plus one row:
appending adds E[k, a]; prepending shifts all symbols by one place, and the shifted sum serves all A prepended children. And e is
linear after φ, so U W₂ and V W₂ are multiplied once a step instead of encodings once a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.adaptive_teachers.sequence_space import SequenceSpace
from lib.adaptive_teachers.stacked_layers import StackedLinear

SLOPE = 0.01  # of the leaky rectifier
LARGEST_LOGIT = 50.0
_ACTIVATIONS = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Numbers in one layer of one chunk of the exact evaluation: what fits a core's cache, and what fills a GPU."""


class ChildScorer(nn.Module):
    """M policies, each with its log Z.

    Args:
        space: the strings. hidden: width of all layers. generators: one for each member; draws its initial weights.
        log_z: initial value of log Z.

    Raises:
        ValueError: for no member.
    """

    def __init__(
        self, space: SequenceSpace, hidden: int, generators: Sequence[torch.Generator], log_z: float = 5.0
    ) -> None:
        super().__init__()
        if not generators:
            raise ValueError("a stack needs at least one member")
        self.space, self.hidden, self.members = space, hidden, len(generators)
        self.first = StackedLinear(space.length * space.symbols, hidden, generators)
        self.second = StackedLinear(hidden, hidden, generators)
        self.pair = StackedLinear(2 * hidden, hidden, generators)
        self.last = StackedLinear(hidden, 1, generators)
        self.last.bias.requires_grad_(False)  # cancels in the softmax
        self.log_z = nn.Parameter(torch.full((self.members,), log_z))

    def weights(self, members: slice = slice(None)) -> Weights:
        """The weights of ``members`` with U W₂ and V W₂ multiplied out."""
        h = self.hidden
        pair, second = self.pair.weight[members], self.second.weight[members]
        u, v = pair[:, :h], pair[:, h:]
        bias = self.pair.bias[members].unsqueeze(1) + self.second.bias[members].unsqueeze(1) @ (u + v)
        return Weights(
            self.first.weight[members],
            self.first.bias[members],
            second @ u,
            second @ v,
            bias,
            self.last.weight[members],
        )

    def logits(self, weights: Weights, codes: Tensor, length: int) -> Tensor:
        """Scores of all children of strings of one length, codes (M, N) → (M, N, 2A); −inf for those that do not count.

        Args:
            weights: of the M members that act.
        """
        space, h = self.space, self.hidden
        m, n = codes.shape
        a = space.symbols
        table = weights.first
        if length:
            digits = space.digits(codes, length)  # (M, N, k)
            place = a * torch.arange(length, device=codes.device)
            member = table.shape[1] * torch.arange(m, device=codes.device).view(-1, 1, 1)
            rows = torch.cat(
                [digits + place + member, digits + place + a + member], 1
            )  # aligned left, and shifted
            sums = F.embedding_bag(rows.reshape(-1, length), table.reshape(-1, h), mode="sum")
            left, shifted = sums.view(m, 2, n, h).unbind(1)
            left, shifted = left + weights.bias1.unsqueeze(1), shifted + weights.bias1.unsqueeze(1)
        else:
            left = shifted = weights.bias1.unsqueeze(1).expand(m, n, h)
        appended = left.unsqueeze(2) + table[:, length * a : (length + 1) * a].unsqueeze(1)  # (M, N, A, h)
        prepended = shifted.unsqueeze(2) + table[:, :a].unsqueeze(1)
        grown = F.leaky_relu(torch.cat([appended, prepended], 2), SLOPE)
        of_child = grown.view(m, -1, h) @ weights.of_child  # (M, N·2A, h)
        of_parent = torch.baddbmm(weights.bias2, F.leaky_relu(left, SLOPE), weights.of_parent)  # (M, N, h)
        both = F.leaky_relu(of_child.view(m, n, 2 * a, h) + of_parent.unsqueeze(2), SLOPE)
        scores = (both * weights.last.view(m, 1, 1, h)).sum(-1)  # faster than a product with one column
        _, counts = space.children(codes, length)
        return scores.clamp(-LARGEST_LOGIT, LARGEST_LOGIT).masked_fill(~counts, -torch.inf)

    def logits_along(self, weights: Weights, path: Tensor) -> Tensor:
        """Scores of all children of every string of paths but the last, (M, B, L + 1) → (M, B, L, 2A), in one pass."""
        space, h = self.space, self.hidden
        a, length = space.symbols, space.length
        codes = path[..., :-1]  # (M, B, L): one string of each length
        m = len(codes)
        place = torch.arange(length, device=codes.device)
        exponent = place.unsqueeze(1) - 1 - place  # (lengths, places), negative where a string has no symbol
        digits = codes.unsqueeze(-1) // a ** exponent.clamp(min=0) % a  # (M, B, L, L)
        member = length * a * torch.arange(m, device=codes.device).view(-1, 1, 1, 1)
        rows = digits + a * place + member
        nothing = m * length * a  # a row of zeros behind the tables
        absent = exponent < 0
        aligned = rows.masked_fill(absent, nothing)
        moved = (rows + a).masked_fill(absent, nothing)  # a string below length L has room for the shift
        table = torch.cat([weights.first.reshape(-1, h), weights.first.new_zeros(1, h)])
        bags = torch.stack([aligned, moved]).view(-1, length)
        sums = F.embedding_bag(bags, table, mode="sum", padding_idx=nothing).view(2, m, -1, length, h)
        left, shifted = (sums + weights.bias1.view(m, 1, 1, h)).unbind(0)  # (M, B, L, h)
        appended = left.unsqueeze(3) + weights.first.view(m, 1, length, a, h)
        prepended = shifted.unsqueeze(3) + weights.first[:, :a].view(m, 1, 1, a, h)
        grown = F.leaky_relu(torch.cat([appended, prepended], 3), SLOPE)
        of_child = (grown.view(m, -1, h) @ weights.of_child).view(grown.shape)
        of_parent = torch.baddbmm(
            weights.bias2, F.leaky_relu(left, SLOPE).reshape(m, -1, h), weights.of_parent
        )
        both = F.leaky_relu(of_child + of_parent.view(left.shape).unsqueeze(3), SLOPE)
        scores = (both * weights.last.view(m, 1, 1, 1, h)).sum(-1)
        counts = space.counts_along(codes)
        return scores.clamp(-LARGEST_LOGIT, LARGEST_LOGIT).masked_fill(~counts, -torch.inf)

    def log_pf(self, path: Tensor, members: slice = slice(None)) -> Tensor:
        """log P_F of each step of paths (M, B, L + 1) → (M, B, L)."""
        log_p = torch.log_softmax(self.logits_along(self.weights(members), path), -1)
        return log_p.gather(-1, self.space.actions(path).unsqueeze(-1)).squeeze(-1)

    @torch.no_grad()
    def sample(self, uniform: Tensor, exploration: float = 0.0, members: slice = slice(None)) -> Tensor:
        """Draw trajectories forward.

        Args:
            uniform: numbers in [0, 1), (M, B, L).
            exploration: ε; with this probability a step goes to a child drawn uniformly.

        Returns:
            paths (M, B, L + 1).
        """
        weights, space = self.weights(members), self.space
        codes = torch.zeros(uniform.shape[:2], dtype=torch.long, device=uniform.device)
        path = [codes]
        for k in range(space.length):
            logits = self.logits(weights, codes, k)
            counts = torch.isfinite(logits)
            chance = torch.softmax(logits, -1)
            if exploration:
                chance = (1 - exploration) * chance + exploration * counts / counts.sum(-1, keepdim=True)
            cumulative = chance.cumsum(-1)
            draw = uniform[..., k, None] * cumulative[..., -1:]
            action = (draw >= cumulative).sum(-1, keepdim=True).clamp(max=space.n_children - 1)
            codes = space.children(codes, k)[0].gather(-1, action).squeeze(-1)
            path.append(codes)
        return torch.stack(path, -1)

    def parameters_per_member(self) -> int:
        """Weights of one member, log Z included."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad) // self.members


@dataclass(frozen=True)
class Weights:
    """Weights ready for use: E (M, L·A, h), b₁ (M, h), U W₂ and V W₂ (M, h, h), (U + V) b₂ + c (M, 1, h), w (M, h, 1)."""

    first: Tensor
    bias1: Tensor
    of_parent: Tensor
    of_child: Tensor
    bias2: Tensor
    last: Tensor


# --- exact evaluation ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExactLaw:
    """What dynamic programming over all strings gives, each (M, …) in float64.

    Attributes:
        leaves: probability of each end point, (M, A^L). elbo, eubo: exact expectations, nats, (M,).
    """

    leaves: Tensor
    elbo: Tensor
    eubo: Tensor


@torch.no_grad()
def exact_law(policy: ChildScorer, log_reward: Tensor) -> ExactLaw:
    """Exact law of the end points, ELBO and EUBO of every member, by one sweep over the strings of each length.

    u(s') = Σ_s u(s) P_F(s'|s) gives the law; with v the flow of the target walked backward by P_B,
    v(s) = Σ_s' v(s') P_B(s|s'), the bounds are sums over edges:

        ELBO = Σ_x u(x) log R(x) + Σ_(s,s') u(s) P_F(s'|s) (log P_B − log P_F),
        EUBO = Σ_x v(x) log R(x) + Σ_(s,s') v(s') P_B(s|s') (log P_B − log P_F).

    Args:
        log_reward: of every end point, (A^L,).

    Raises:
        ValueError: if ``log_reward`` does not name every end point.
    """
    space, m = policy.space, policy.members
    if log_reward.shape != (space.n_leaves,):
        raise ValueError(f"log_reward must have {space.n_leaves} entries, got {tuple(log_reward.shape)}")
    log_reward = log_reward.double()
    target = [torch.softmax(log_reward, 0)]
    for k in range(space.length, 0, -1):
        codes = torch.arange(space.symbols**k, device=log_reward.device)
        share = target[0] / 2  # to each end; where both ends give one parent it gets both halves
        above = torch.zeros(space.symbols ** (k - 1), dtype=torch.float64, device=log_reward.device)
        for parents in space.parents(codes, k):
            above.index_add_(0, parents, share)
        target.insert(0, above)

    weights = policy.weights()
    room = _ACTIVATIONS.get(log_reward.device.type, 1 << 22)
    rows_at_once = max(1, room // (m * space.n_children * policy.hidden))
    flow = torch.ones(m, 1, dtype=torch.float64, device=log_reward.device)
    elbo, eubo = (torch.zeros(m, dtype=torch.float64, device=log_reward.device) for _ in range(2))
    for k in range(space.length):
        below = torch.zeros(m, space.symbols ** (k + 1), dtype=torch.float64, device=log_reward.device)
        for codes in torch.arange(space.symbols**k, device=log_reward.device).split(rows_at_once):
            log_pf = torch.log_softmax(policy.logits(weights, codes.expand(m, -1), k).double(), -1)
            children, counts = space.children(codes, k)
            log_pb = space.log_pb(children, k + 1)
            step = torch.where(counts, log_pb - log_pf, 0.0)  # (M, n, 2A)
            edge = flow[:, codes].unsqueeze(-1) * log_pf.exp()
            below.index_add_(1, children.flatten(), edge.flatten(1))
            elbo += (edge * step).sum((1, 2))
            eubo += (target[k + 1][children] * log_pb.exp() * step).sum((1, 2))
        flow = below
    return ExactLaw(flow, elbo + flow @ log_reward, eubo + target[-1] @ log_reward)


def total_variation(law: Tensor, log_reward: Tensor) -> Tensor:
    """½ Σ_x |p(x) − R(x)/Z|, law (M, A^L) → (M,)."""
    return 0.5 * (law - torch.softmax(log_reward.double(), 0)).abs().sum(1)


def mode_recall(law: Tensor, log_reward: Tensor, modes: Tensor) -> Tensor:
    """Share of the modes to which a sampler gives at least half of their mass under the target, law (M, A^L) → (M,)."""
    wanted = torch.softmax(log_reward.double(), 0)[modes]
    return (law[:, modes] >= 0.5 * wanted).double().mean(1)


def effective_support(log_reward: Tensor) -> tuple[float, float]:
    """Entropy −Σ p log p in nats and effective number of end points 1/Σ p², of the law p ∝ R."""
    p = torch.softmax(log_reward.double().flatten(), 0)
    entropy = -torch.special.xlogy(p, p).sum()
    return float(entropy), float(1 / p.square().sum())


def log_partition(log_reward: Tensor) -> float:
    """log Z = log Σ_x R(x), nats."""
    return float(torch.logsumexp(log_reward.double().flatten(), 0))
