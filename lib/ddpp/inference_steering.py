"""Steering without training: best-of-N, sampling-importance-resampling, and SVDD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib.ddpp.masked_diffusion import noise_level, symbol_log_probs
from lib.ddpp.rewards import CallCounter
from lib.ddpp.samplers import LAST_TIME, draw
from lib.ddpp.weighted_denoising import resample


def _groups(log_reward: Tensor, n: int) -> Tensor:
    if n < 1 or len(log_reward) < n or len(log_reward) % n:
        raise ValueError(
            f"a pool of {len(log_reward)} samples does not divide into groups of n={n}; draw a multiple of n"
        )
    return log_reward.view(-1, n)


def best_of_n(tokens: Tensor, log_reward: Tensor, n: int) -> Tensor:
    """The sequence of largest reward in each group of N base samples: (S·N, length) → (S, length).

    Its law is NOT the target: the larger N, the more it collapses onto the largest reward.

    Raises:
        ValueError: if the pool does not divide into groups.
    """
    best = _groups(log_reward, n).argmax(1)
    return tokens[best + n * torch.arange(len(best), device=tokens.device)]


def sir_pool(tokens: Tensor, reward: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """``size`` sequences resampled from one whole pool (N, length) with weights exp(r), (size, length)."""
    return tokens[resample(reward, size, generator)]


@dataclass
class SvddSamples:
    """Sequences (B, n) and what they cost per sequence."""

    tokens: Tensor
    counter: CallCounter


@torch.no_grad()
def svdd(
    denoiser: Any,
    reward: Any,
    n_samples: int,
    *,
    particles: int = 10,
    steps: int = 32,
    alpha: float = 0.0,
    value_of: str = "argmax",
    generator: torch.Generator,
    device: torch.device | str | None = None,
    time_conditioned: bool = False,
    batch_size: int = 4096,
) -> SvddSamples:
    """SVDD (Li et al., arXiv:2408.08252): at each step draw N candidates, keep one by the reward of its denoised sequence.

    Args:
        reward: a :class:`~lib.ddpp.rewards.Reward`; candidates are scored by r.
        particles: N. steps: T, on the grid of :func:`~lib.ddpp.samplers.ancestral`.
        alpha: temperature of softmax(value/α); 0 keeps the best candidate, as released code does.
        value_of: the denoised sequence that is scored: ``"argmax"`` or ``"draw"``.
        batch_size: rows per network call; all candidates of a step go through together where they fit.

    Returns:
        tokens, and calls per sequence: N network and N reward calls each step, and one network call to begin with.

    Raises:
        ValueError: for sizes below 1, a negative α or an unknown ``value_of``.
    """
    if min(n_samples, particles, steps) < 1 or alpha < 0:
        raise ValueError(
            f"svdd needs positive n_samples={n_samples}, particles={particles}, steps={steps}, and alpha={alpha} ≥ 0"
        )
    if value_of not in ("argmax", "draw"):
        raise ValueError(f"value_of={value_of!r} is not one of argmax, draw")
    place = torch.device(device) if device is not None else generator.device
    n, mask_symbol = denoiser.n_tokens, denoiser.n_symbols
    counter = CallCounter()
    rows = torch.arange(n_samples, device=place)

    def ask(tokens: Tensor, t: Tensor) -> Tensor:
        sigma = noise_level(t.expand(len(tokens))) if time_conditioned else None
        parts = [
            symbol_log_probs(denoiser(part, None if sigma is None else sigma[: len(part)]))
            for part in tokens.split(batch_size)
        ]
        counter.add(model=len(tokens) / n_samples, rows=len(tokens))
        return torch.cat(parts)

    tokens = torch.full((n_samples, n), mask_symbol, dtype=torch.long, device=place)
    grid = torch.linspace(1, LAST_TIME, steps + 1, dtype=torch.float64, device=place)
    log_probs = ask(tokens, grid[0].float())  # (B, n, V)
    for k in range(steps + 1):
        done = k == steps
        if done and not bool((tokens == mask_symbol).any()):
            break
        drawn = draw(log_probs, generator, particles).movedim(-1, 1)  # (B, N, n)
        leaves = (tokens == mask_symbol).unsqueeze(1)
        if not done:
            shape = (n_samples, particles, n)
            u = torch.rand(shape, dtype=torch.float64, generator=generator, device=place)
            leaves = leaves & (u >= grid[k + 1] / grid[k])
        candidates = torch.where(leaves, drawn, tokens.unsqueeze(1)).flatten(0, 1)  # (B·N, n)
        if done:
            denoised, next_log_probs = candidates, None
        else:
            next_log_probs = ask(candidates, grid[k + 1].float())
            guess = (
                next_log_probs.argmax(-1)
                if value_of == "argmax"
                else draw(next_log_probs, generator).squeeze(-1)
            )
            denoised = torch.where(candidates == mask_symbol, guess, candidates)
        value = reward(denoised).view(n_samples, particles)
        counter.add(reward=particles, reward_rows=value.numel())
        if alpha == 0:
            best = value.argmax(1)
        else:
            best = draw((value.double() / alpha).log_softmax(1), generator).squeeze(1)
        index = rows * particles + best
        tokens = candidates[index]
        if next_log_probs is not None:
            log_probs = next_log_probs[index]
    return SvddSamples(tokens, counter)
