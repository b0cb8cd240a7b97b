"""Exact laws on spaces that can be enumerated: what a denoiser samples, what it should sample, and how far apart the two are.

A partial state holds a symbol or the mask at each of n positions; there are (V+1)^n of them. A sampler that unmasks one uniformly chosen
position at a time (the limit of many steps) walks from "all masked" through states with n−1, n−2, …, 0 masks. Its law is a sum over layers,

    P(all masked) = 1,   P(x with x_i = v) += P(x with i masked) · μ_i(v | x) / k   where k positions are masked,

which is one batched forward pass over the states that hold a mask, and n² additions of whole layers (``index_add``), in float64. No sample is
drawn, so no number here has sampling noise.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from lib.ddpp.masked_diffusion import subs_log_probs

CHUNK = 2**15
"""States that pass through a denoiser at once."""
LARGEST_SPACE = 2**22
"""States, with masks or without, that a space may hold."""


@dataclass(frozen=True)
class Pattern:
    """The states that are masked at one set of positions: row r of the block has the r-th combination of observed symbols."""

    masked: tuple[int, ...]
    observed: tuple[int, ...]
    rows: slice
    """Their place in :attr:`Space.partial`."""


class Space:
    """All states of n tokens over V symbols and the mask symbol V.

    Attributes:
        clean: (V^n, n) states without masks, the last token fastest. A law or a reward over clean states is a vector (V^n,) in this order.
        partial: (S, n) states with at least one mask, by number of masks (n first), then by pattern, then observed tokens row-major.
        n_masks: (S,) their numbers of masks.
        patterns: one entry per non-empty set of masked positions, in the order of ``partial``.

    Raises:
        ValueError: if n or V is below 1, or the space is too large to enumerate.
    """

    def __init__(self, n_tokens: int, n_symbols: int) -> None:
        if n_tokens < 1 or n_symbols < 1:
            raise ValueError(
                f"a space needs n_tokens >= 1 and n_symbols >= 1, got {n_tokens} and {n_symbols}"
            )
        if (n_symbols + 1) ** n_tokens > LARGEST_SPACE:
            raise ValueError(
                f"{n_symbols + 1}^{n_tokens} states are too many to enumerate; at most {LARGEST_SPACE}"
            )
        self.n_tokens, self.n_symbols = n_tokens, n_symbols
        self.strides = [(n_symbols + 1) ** (n_tokens - 1 - i) for i in range(n_tokens)]
        self.clean = _grid(n_tokens, n_symbols)
        blocks, self.patterns, start = [], [], 0
        self.layers: list[slice] = []
        for k in range(n_tokens, 0, -1):
            first = start
            for masked in itertools.combinations(range(n_tokens), k):
                observed = tuple(i for i in range(n_tokens) if i not in masked)
                block = torch.full((n_symbols ** len(observed), n_tokens), n_symbols)
                block[:, observed] = _grid(len(observed), n_symbols)
                blocks.append(block)
                self.patterns.append(Pattern(masked, observed, slice(start, start + len(block))))
                start += len(block)
            self.layers.append(slice(first, start))
        self.partial = torch.cat(blocks)
        self.n_masks = (self.partial == n_symbols).sum(1)
        place = torch.tensor(self.strides)
        self.partial_index = self.partial @ place
        self.clean_index = self.clean @ place

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (V, …, V) of a table over clean states."""
        return (self.n_symbols,) * self.n_tokens

    def arranged(self, table: Tensor, pattern: Pattern) -> Tensor:
        """A vector over clean states as a matrix (V^observed, V^masked): rows as in ``partial``, columns the completions."""
        k = len(pattern.masked)
        moved = table.reshape(self.shape).permute(*pattern.observed, *pattern.masked)
        return moved.reshape(-1, self.n_symbols**k)

    def sums(self, table: Tensor) -> Tensor:
        """Σ of a non-negative vector over all completions of every state, (V+1,)*n; the mask is each axis's last entry."""
        full = table.reshape(self.shape)
        for axis in range(self.n_tokens):
            full = torch.cat([full, full.sum(axis, keepdim=True)], axis)
        return full

    def clean_flat(self, tokens: Tensor) -> Tensor:
        """Index of clean ``tokens`` (N, n) among :attr:`clean`."""
        place = self.n_symbols ** torch.arange(self.n_tokens - 1, -1, -1, device=tokens.device)
        return tokens @ place


def _grid(n: int, v: int) -> Tensor:
    """All words of n symbols, the last one fastest, (v^n, n)."""
    if n == 0:
        return torch.zeros(1, 0, dtype=torch.int64)
    return torch.cartesian_prod(*[torch.arange(v)] * n).reshape(-1, n)


@cache
def space_of(n_tokens: int, n_symbols: int) -> Space:
    """The space, built once per process."""
    return Space(n_tokens, n_symbols)


# --- laws ---------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def denoising_table(space: Space, denoiser: nn.Module) -> Tensor:
    """μ_i(v | x) of every state with a mask, (S, n, V) in float64 on the CPU; one-hot at positions that are not masked.

    Args:
        denoiser: maps tokens (B, n) to logits (B, n, V+1); dropout must be off.
    """
    parameter = next(denoiser.parameters(), None)
    device = space.partial.device if parameter is None else parameter.device
    parts = []
    for chunk in space.partial.to(device).split(CHUNK):
        log_probs = subs_log_probs(denoiser(chunk).double(), chunk)
        parts.append(log_probs[..., : space.n_symbols].exp().cpu())
    return torch.cat(parts)


def clean_law(space: Space, table: Tensor) -> Tensor:
    """p_∞: the law over clean states (V^n,) of unmasking one uniformly chosen position at a time.

    Args:
        table: μ of every state with a mask, (S, n, V), as from :func:`denoising_table`.
    """
    reach = torch.zeros((space.n_symbols + 1) ** space.n_tokens, dtype=torch.float64)
    reach[-1] = 1.0  # all masked
    symbols = torch.arange(space.n_symbols) - space.n_symbols
    for layer in space.layers:
        index, masks = space.partial_index[layer], space.n_masks[layer]
        share = reach[index] / masks
        for i, stride in enumerate(space.strides):
            rows = (space.partial[layer, i] == space.n_symbols).nonzero().squeeze(1)
            children = index[rows, None] + symbols * stride
            reach.index_add_(0, children.flatten(), (share[rows, None] * table[layer][rows, i]).flatten())
    return reach[space.clean_index]


def exact_law(space: Space, denoiser: nn.Module) -> Tensor:
    """p_∞ of a denoiser over clean states, (V^n,)."""
    return clean_law(space, denoising_table(space, denoiser))


def law_of_steps(space: Space, table: Tensor, steps: int) -> Tensor:
    """The law of ancestral sampling in T uniform steps for n = 2: p_T = (1 − 1/T) p_∞ + (1/T) μ_1 × μ_2.

    Both tokens are unmasked in the same step with probability 1/T, and then independently of each other.

    Raises:
        ValueError: if the space does not have two tokens, or ``steps`` is below 1.
    """
    if space.n_tokens != 2 or steps < 1:
        raise ValueError(
            f"the closed form holds for 2 tokens and at least 1 step, got {space.n_tokens} and {steps}"
        )
    at_once = (table[0, 0, :, None] * table[0, 1, None, :]).flatten()
    return (1 - 1 / steps) * clean_law(space, table) + at_once / steps


def posterior(law: Tensor, log_reward: Tensor) -> tuple[Tensor, float]:
    """The target π ∝ p exp(r) over clean states (V^n,), and the exact log Z = log Σ p exp(r).

    Args:
        law: p, the law of the pretrained sampler. log_reward: r = exponent · log R of every clean state.
    """
    weighted = law.log() + log_reward.double()
    log_z = torch.logsumexp(weighted, 0)
    return (weighted - log_z).exp(), float(log_z)


def marginals(space: Space, law: Tensor) -> Tensor:
    """P(x_i = v | observed tokens) under ``law`` for every state with a mask, (S, n, V): the denoiser that samples ``law`` exactly.

    Positions that are not masked are one-hot. Where the law gives the observed tokens no mass, masked positions are uniform.
    """
    full = space.sums(law).flatten()
    table = torch.zeros(len(space.partial), space.n_tokens, space.n_symbols, dtype=torch.float64)
    symbols = torch.arange(space.n_symbols)
    for i, stride in enumerate(space.strides):
        token = space.partial[:, i]
        rows = (token == space.n_symbols).nonzero().squeeze(1)
        index = space.partial_index[rows]
        joint = full[index[:, None] + (symbols - space.n_symbols) * stride]
        total = joint.sum(1, keepdim=True)
        table[rows, i] = torch.where(total > 0, joint / total, 1 / space.n_symbols)
        rows = (token < space.n_symbols).nonzero().squeeze(1)
        table[rows, i, token[rows]] = 1.0
    return table


def product_law(table: Tensor, pattern: Pattern) -> Tensor:
    """log Π_i μ_i(x_i | x) over completions for the states of one pattern, (rows, V^masked); additive over positions."""
    total = torch.zeros(pattern.rows.stop - pattern.rows.start, 1, dtype=torch.float64)
    for i in pattern.masked:
        log_probs = table[pattern.rows, i].log()
        total = (total[:, :, None] + log_probs[:, None, :]).flatten(1)
    return total


def log_normalisers(space: Space, table: Tensor, log_reward: Tensor) -> Tensor:
    """log Z_t(x) = log Σ over completions of Π_i μ_i exp(r), for every state with a mask, (S,); the factorised one-step posterior of Eq. 11."""
    return torch.cat(
        [
            torch.logsumexp(
                product_law(table, p) + space.arranged(log_reward.double(), p), 1
            )
            for p in space.patterns
        ]
    )  # fmt: skip


def mask_weights(space: Space, law: Tensor) -> Tensor:
    """How often training sees each state with a mask, (S,): x_0 from ``law``, t uniform, each token masked with probability t; sums to 1.

    A given set of k of n positions is masked with probability ∫ t^k (1−t)^(n−k) dt = 1 / ((n+1) · C(n, k)).
    """
    n = space.n_tokens
    per_pattern = torch.tensor([1 / ((n + 1) * math.comb(n, k)) for k in range(n + 1)], dtype=torch.float64)
    weights = space.sums(law).flatten()[space.partial_index] * per_pattern[space.n_masks]
    return weights / weights.sum()


# --- divergences --------------------------------------------------------------------------------------------------------


def total_variation(p: Tensor, q: Tensor) -> float:
    """½ Σ |p − q|."""
    return float(0.5 * (p - q).abs().sum())


def kl_divergence(p: Tensor, q: Tensor) -> float:
    """KL(p ‖ q) in nats; infinite where q misses a part of p."""
    ratio = torch.where(p > 0, p.clamp(min=1e-300).log() - q.log(), 0.0)
    return float((p * ratio).sum())


def entropy(p: Tensor) -> float:
    """−Σ p log p in nats."""
    return float(-torch.special.xlogy(p, p).sum())


@dataclass(frozen=True)
class Distance:
    """How far a sampler's exact law q is from the target π; all from tables."""

    tv: float
    kl: float
    """KL(q ‖ π), nats."""
    reverse_kl: float
    """KL(π ‖ q), nats."""
    mass: float
    """q's mass on the rewarded set."""
    log_reward: float
    """E_q log R, nats."""
    entropy: float
    """of q, nats."""


def distance(law: Tensor, target: Tensor, log_reward: Tensor, rewarded: Tensor | None = None) -> Distance:
    """Compare the exact law q with the target π.

    Args:
        law, target: q and π over clean states, (V^n,).
        log_reward: log R of every clean state, (V^n,).
        rewarded: which clean states count as rewarded, (V^n,) bool; those above the smallest log R by default.
    """
    chosen = log_reward > log_reward.min() if rewarded is None else rewarded
    return Distance(
        tv=total_variation(law, target),
        kl=kl_divergence(law, target),
        reverse_kl=kl_divergence(target, law),
        mass=float(law[chosen].sum()),
        log_reward=float((law * log_reward.double()).sum()),
        entropy=entropy(law),
    )


# --- inference-time baselines -------------------------------------------------------------------------------------------


def best_of_n_law(law: Tensor, score: Tensor, n: int) -> Tensor:
    """The exact law of keeping the best of N independent draws, ties broken uniformly among the draws.

    With F and G the probabilities of a score below and up to s, the best draw has score s with probability G^N − F^N, spread over its states
    in proportion to the law. Batched: the last axis is the state.

    Args:
        law: probabilities (…, S). score: (…, S). n: number N of draws.
    """
    order = score.argsort(-1)
    ranked, p = score.gather(-1, order), law.gather(-1, order)
    upto = p.cumsum(-1)
    new = torch.ones_like(ranked, dtype=torch.bool)
    new[..., 1:] = ranked[..., 1:] > ranked[..., :-1]
    group = new.long().cumsum(-1) - 1
    mass = torch.zeros_like(p).scatter_add_(-1, group, p)
    high = mass.cumsum(-1)
    low = high - mass
    ratio = torch.where(mass > 0, (high**n - low.clamp(min=0) ** n) / mass.clamp(min=1e-300), 0.0)
    total = upto[..., -1:]
    chosen = p * ratio.gather(-1, group) / total**n
    return torch.zeros_like(p).scatter_(-1, order, chosen)


def resampling_law(law: Tensor, log_weight: Tensor, n: int, nodes: int = 141) -> Tensor:
    """The exact law of SIR: draw N states from ``law``, keep one in proportion to its weight w = exp(``log_weight``).

    P(x) = N p(x) w(x) E[1 / (w(x) + S)] with S the weight of the other N − 1 draws, and 1/a = ∫ exp(−s a) ds turns the expectation into
    ∫ exp(−s w(x)) φ(s)^(N−1) ds, φ(s) = Σ p exp(−s w). The trapezoid rule in log s converges geometrically.

    Args:
        law: probabilities (S,). log_weight: (S,). n: number N of draws. nodes: quadrature points.
    """
    weight = (log_weight.double() - log_weight.max()).exp()
    log_s = torch.linspace(-30.0, 40.0, nodes, dtype=torch.float64)
    s = log_s.exp()
    levels, inverse = weight.unique(return_inverse=True)
    p = torch.zeros_like(levels).index_add_(0, inverse, law)
    expectation = torch.zeros_like(levels)
    for x in s:  # one node at a time: (levels,) and not (nodes, levels)
        damped = torch.exp(-x * levels)
        expectation += damped * (x * (damped @ p) ** (n - 1))
    result = n * law * (levels * expectation * (log_s[1] - log_s[0]))[inverse]
    return result / result.sum()


def svdd_law(space: Space, table: Tensor, log_reward: Tensor, n: int, value: str = "argmax") -> Tensor:
    """The exact law of SVDD with N candidates per unmasking step, keeping the best, on the walk that unmasks one position at a time.

    Every candidate is one step of the base sampler from the present state; its value is log R of the base denoiser's argmax completion, as in
    the released code, or the exact log Z_t of the candidate (``value="exact"``).

    Args:
        table: μ of the base denoiser, (S, n, V). log_reward: (V^n,). n: number N of candidates.

    Raises:
        ValueError: for another kind of value.
    """
    if value not in ("argmax", "exact"):
        raise ValueError(f"value={value!r} is not one of argmax, exact")
    values = torch.empty((space.n_symbols + 1) ** space.n_tokens, dtype=torch.float64)
    values[space.clean_index] = log_reward.double()
    if value == "argmax":
        best = space.clean_flat(table.argmax(-1))
        values[space.partial_index] = log_reward.double()[best]
    else:
        values[space.partial_index] = log_normalisers(space, table, log_reward)
    reach = torch.zeros_like(values)
    reach[-1] = 1.0
    symbols = torch.arange(space.n_symbols) - space.n_symbols
    for pattern in space.patterns:
        index = space.partial_index[pattern.rows]
        strides = torch.tensor([space.strides[i] for i in pattern.masked])
        children = (index[:, None, None] + strides[:, None] * symbols).flatten(1)  # (rows, kV)
        kernel = table[pattern.rows][:, pattern.masked].flatten(1) / len(pattern.masked)
        chosen = best_of_n_law(kernel, values[children], n)
        reach.index_add_(0, children.flatten(), (reach[index][:, None] * chosen).flatten())
    return reach[space.clean_index]
