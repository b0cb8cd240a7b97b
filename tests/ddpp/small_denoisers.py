"""Denoisers that are tables, and the plain slow forms of what the chapter computes fast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.ddpp.masked_diffusion import clean_log_probability


class TableDenoiser(nn.Module):
    """Logits (V+1)^n × n × (V+1) looked up by the partial state; trainable."""

    def __init__(self, logits: Tensor, n_tokens: int, n_symbols: int) -> None:
        super().__init__()
        self.n_tokens, self.n_symbols = n_tokens, n_symbols
        self.table = nn.Parameter(logits)

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
        index = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
        for i in range(self.n_tokens):
            index = index * (self.n_symbols + 1) + tokens[:, i]
        return self.table[index]


class TimedDenoiser(TableDenoiser):
    """Its first logit grows with the noise level, so that a wrong time shows."""

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
        logits = super().forward(tokens).clone()
        if sigma is not None:
            logits[..., 0] += sigma.view(-1, 1)
        return logits


def random_denoiser(n: int, n_symbols: int, seed: int, scale: float = 1.0, kind: type = TableDenoiser):
    """A table of normal logits, float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = ((n_symbols + 1) ** n, n, n_symbols + 1)
    return kind(scale * torch.randn(shape, generator=generator, dtype=torch.float64), n, n_symbols)


def clean_states(n: int, n_symbols: int) -> Tensor:
    """All clean sequences (V^n, n), last token fastest."""
    return torch.tensor(list(itertools.product(range(n_symbols), repeat=n)))


def random_law(n: int, n_symbols: int, seed: int) -> Tensor:
    """A law over clean states, (V,)*n float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn((n_symbols,) * n, generator=generator, dtype=torch.float64)
    return logits.flatten().softmax(0).view_as(logits)


def true_conditionals(law: Tensor) -> TableDenoiser:
    """The denoiser that holds the exact one-token conditionals of ``law`` (V,)*n at every partial state."""
    n, n_symbols = law.dim(), law.shape[0]
    states = itertools.product(range(n_symbols + 1), repeat=n)
    logits = torch.full(((n_symbols + 1) ** n, n, n_symbols + 1), -50.0, dtype=torch.float64)
    for row, state in enumerate(states):
        part = law[tuple(slice(None) if s == n_symbols else slice(s, s + 1) for s in state)]
        for i in range(n):
            if state[i] == n_symbols:
                other = [j for j in range(n) if j != i]
                logits[row, i, :-1] = (part.sum(other) / part.sum()).log()
    return TableDenoiser(logits, n, n_symbols)


def mu(denoiser: nn.Module, state: tuple[int, ...], i: int, sigma: float | None = None) -> list[float]:
    """μ of token i at one partial state, written out."""
    with torch.no_grad():
        level = None if sigma is None else torch.tensor([sigma], dtype=torch.float64)
        logits = denoiser(torch.tensor([state]), level)[0, i, :-1].double()
    return logits.softmax(0).tolist()


def law_by_steps(
    denoiser: nn.Module, steps: int, last: float = 1e-5, timed: Callable[[float], float] | None = None
) -> dict[tuple[int, ...], float]:
    """The T-step ancestral law by a dictionary of partial states: every subset of masked tokens may leave, left-overs are drawn."""
    n, n_symbols = denoiser.n_tokens, denoiser.n_symbols
    grid = [1 + (last - 1) * k / steps for k in range(steps + 1)]
    law = {(n_symbols,) * n: 1.0}
    for k in range(steps + 1):
        stay = grid[k + 1] / grid[k] if k < steps else 0.0
        sigma = None if timed is None else timed(grid[k])
        following: dict[tuple[int, ...], float] = {}
        for state, mass in law.items():
            masked = [i for i in range(n) if state[i] == n_symbols]
            tables = {i: mu(denoiser, state, i, sigma) for i in masked}
            for choice in itertools.product(range(n_symbols + 1), repeat=len(masked)):
                weight, new = mass, list(state)
                for i, v in zip(masked, choice, strict=True):
                    weight *= stay if v == n_symbols else (1 - stay) * tables[i][v]
                    new[i] = v
                if weight > 0:
                    key = tuple(new)
                    following[key] = following.get(key, 0.0) + weight
        law = following
    return law


def law_by_orders(denoiser: nn.Module) -> Tensor:
    """p_∞ as the average over all n! orders, (V,)*n float64."""
    n, n_symbols = denoiser.n_tokens, denoiser.n_symbols
    law = torch.zeros((n_symbols,) * n, dtype=torch.float64)
    orders = list(itertools.permutations(range(n)))
    for clean in itertools.product(range(n_symbols), repeat=n):
        total = 0.0
        for order in orders:
            state, p = [n_symbols] * n, 1.0
            for i in order:
                p *= mu(denoiser, tuple(state), i)[clean[i]]
                state[i] = clean[i]
            total += p
        law[clean] = total / math.factorial(n)
    return law


def histogram(tokens: Tensor, n_symbols: int) -> Tensor:
    """Counts of clean sequences (N, n), (V,)*n."""
    n = tokens.shape[1]
    index = (tokens * n_symbols ** torch.arange(n - 1, -1, -1)).sum(1)
    return torch.bincount(index, minlength=n_symbols**n).view((n_symbols,) * n)


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the sum of absolute differences."""
    return float((p - q).abs().sum() / 2)


def mask_patterns(n_tokens: int, device: torch.device | str = "cpu") -> Tensor:
    """All 2^n masks, (2^n, n) bool."""
    return torch.cartesian_prod(*[torch.tensor([False, True], device=device)] * n_tokens).reshape(
        -1, n_tokens
    )


def exact_nelbo(denoiser: nn.Module, clean: Tensor) -> Tensor:
    """The T → ∞ NELBO of rows (B, n) in nats, (B,): all 2^n masks, no Monte Carlo error; for small n.

    With ε → 0 the integral over t gives a mask of k of n tokens the weight ∫ t^(k−1) (1−t)^(n−k) dt = (k−1)! (n−k)! / n!.
    """
    n, mask_symbol = int(denoiser.n_tokens), int(denoiser.n_symbols)
    total = torch.zeros(len(clean), dtype=torch.float64, device=clean.device)
    with torch.no_grad():
        for mask in mask_patterns(n, clean.device)[1:]:
            k = int(mask.sum())
            noisy = clean.masked_fill(mask, mask_symbol)
            log_prob = clean_log_probability(denoiser(noisy), clean, mask.expand_as(noisy)).double()
            total -= log_prob * math.exp(math.lgamma(k) + math.lgamma(n - k + 1) - math.lgamma(n + 1))
    return total
