"""Plain forms of what ``benchmarks/ddpp.py`` times: the same work without the saving."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lib.ddpp.denoising_posterior import complete, kl_loss, prior_log_probs
from lib.ddpp.masked_diffusion import symbol_log_probs
from lib.ddpp.samplers import LAST_TIME, draw


def plain_kl(
    posterior: nn.Module, prior: nn.Module, noisy: Tensor, reward: Any, draws: int, generator: Any
) -> Tensor:
    """DDPP-KL with the batch repeated K times through both networks."""
    repeated = noisy.repeat(draws, 1)
    return kl_loss(posterior(repeated), prior_log_probs(prior, repeated), repeated, reward, 1, generator)


def plain_log_z(prior: nn.Module, noisy: Tensor, reward: Any, draws: int, generator: Any) -> Tensor:
    """Importance sampling that asks the network for each completion."""
    values = []
    for _ in range(draws):
        one = complete(prior_log_probs(prior, noisy), noisy, prior.n_symbols, 1, generator)  # type: ignore[arg-type]
        values.append(reward(one.squeeze(1)))
    return torch.stack(values, -1).logsumexp(-1) - math.log(draws)


def kernel_log_ratio(posterior: nn.Module, prior: nn.Module, states: Tensor, stays: Tensor) -> Tensor:
    """Σ over T transitions of log q − log p with whole kernels (B, n, V+1) built in the log domain; states (B, T+1, n)."""
    mask, total = posterior.n_symbols, torch.zeros(len(states))
    for k, stay in enumerate(stays.tolist()):
        now, following = states[:, k], states[:, k + 1]
        hidden = (now == mask).unsqueeze(-1)
        certain = nn.functional.one_hot(now, mask + 1).float().clamp(min=1e-30).log()  # type: ignore[operator]
        for sign, model in ((1, posterior), (-1, prior)):
            log_mu = nn.functional.pad(model(now)[..., :-1].log_softmax(-1), (0, 1), value=-torch.inf)
            kernel = torch.logaddexp(log_mu + math.log1p(-stay), certain + math.log(max(stay, 1e-30)))
            kernel = torch.where(hidden, kernel, certain)
            total = total + sign * kernel.gather(-1, following.unsqueeze(-1)).squeeze(-1).sum(-1)
    return total


def looped_svdd(
    model: nn.Module, reward: Any, n_samples: int, particles: int, steps: int, generator: Any
) -> Tensor:
    """SVDD that asks the network for one particle after the other."""
    mask = model.n_symbols
    x = torch.full((n_samples, model.n_tokens), mask)  # type: ignore[arg-type,list-item]
    grid = torch.linspace(1, LAST_TIME, steps + 1, dtype=torch.float64)
    with torch.no_grad():
        for k in range(steps):
            log_probs = symbol_log_probs(model(x))
            best, best_value = x, torch.full((n_samples,), -torch.inf)
            for _ in range(particles):
                leaves = (x == mask) & (
                    torch.rand(x.shape, dtype=torch.float64, generator=generator) >= grid[k + 1] / grid[k]
                )
                candidate = torch.where(leaves, draw(log_probs, generator).squeeze(-1), x)
                guess = symbol_log_probs(model(candidate)).argmax(-1)
                value = reward(torch.where(candidate == mask, guess, candidate))
                better = value > best_value
                best = torch.where(better.unsqueeze(-1), candidate, best)
                best_value = torch.where(better, value, best_value)
            x = best
    return x


def dictionary_law(
    table: dict[tuple[int, ...], list[list[float]]], n: int, v: int
) -> dict[tuple[int, ...], float]:
    """p_∞ over clean states by a dictionary of partial states: state → μ of each position."""
    layer = {(v,) * n: 1.0}
    for left in range(n, 0, -1):
        following: dict[tuple[int, ...], float] = {}
        for state, mass in layer.items():
            mu = table[state]
            for i in range(n):
                if state[i] != v:
                    continue
                for symbol in range(v):
                    child = (*state[:i], symbol, *state[i + 1 :])
                    following[child] = following.get(child, 0.0) + mass * mu[i][symbol] / left
        layer = following
    return layer
