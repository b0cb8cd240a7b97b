"""Losses over several denoising steps: relative trajectory balance and the sub-trajectory form (Eqs. 7–8).

Along a trajectory x_1 → x_0 the steered and the pretrained chain share the schedule, so that the probabilities of staying masked
and of which token leaves the mask cancel:

    Σ_s [log q(x_s|x_t) − log p(x_s|x_t)]  =  Σ over tokens i of [log μ_θ(x^i|·) − log μ(x^i|·)],

each token at the state in which it was unmasked. No kernel over (B, n, V+1) states is built.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lib.ddpp.masked_diffusion import noise_level, symbol_log_probs
from lib.ddpp.samplers import states_before


def token_log_probs(
    denoiser: Any,
    clean: Tensor,
    event: Tensor,
    *,
    times: Tensor | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    """log μ of each token at the state before the event that unmasked it, (B, n); 0 where it was never masked or not kept.

    One forward pass over all (sequence, event) pairs that exist.

    Args:
        clean: x_0, (B, n). event: (B, n), 0 … E−1, −1 where not masked; events of a row are numbered without gaps.
        times: (B, E) for a time-conditioned network, else None.
        kept: (B, E) bool, events to evaluate; None for all.
    """
    total = event.amax(1) + 1  # events of each row
    n_events = int(total.max()) if len(total) else 0
    if n_events == 0:
        return torch.zeros(clean.shape, device=clean.device)
    if kept is None and bool((event >= 0).all() & (total == n_events).all()):
        return _all_token_log_probs(denoiser, clean, event, n_events, times)
    exists = torch.arange(n_events, device=clean.device) < total.unsqueeze(1)  # (B, E)
    if kept is not None:
        exists = exists & kept[:, :n_events]
    row, index = exists.nonzero(as_tuple=True)  # P pairs
    states = torch.where(event[row] >= index.unsqueeze(1), denoiser.n_symbols, clean[row])  # (P, n)
    logits = denoiser(states, None if times is None else noise_level(times[row, index]))
    pair = torch.zeros_like(exists, dtype=torch.long)
    pair[row, index] = torch.arange(len(row), device=clean.device)
    counted = (event >= 0) & exists.gather(1, event.clamp(min=0))
    b, i = counted.nonzero(as_tuple=True)
    log_probs = symbol_log_probs(logits[pair[b, event[b, i]], i])  # (tokens, V)
    chosen = log_probs.gather(-1, clean[b, i].unsqueeze(-1)).squeeze(-1)
    result = torch.zeros(clean.shape, dtype=chosen.dtype, device=clean.device)
    return result.index_put((b, i), chosen)


def _all_token_log_probs(
    denoiser: Any, clean: Tensor, event: Tensor, n_events: int, times: Tensor | None
) -> Tensor:
    """:func:`token_log_probs` where every sequence begins fully masked and has E events: nothing is left out or packed."""
    states = states_before(clean, event, n_events, denoiser.n_symbols).flatten(0, 1)  # (B·E, n)
    sigma = None if times is None else noise_level(times[:, :n_events].flatten())
    logits = denoiser(states, sigma).unflatten(0, (len(clean), n_events))  # (B, E, n, V+1)
    row = torch.arange(len(clean), device=clean.device).unsqueeze(1)
    position = torch.arange(clean.shape[1], device=clean.device)
    log_probs = symbol_log_probs(logits[row, event, position])  # (B, n, V)
    return log_probs.gather(-1, clean.unsqueeze(-1)).squeeze(-1)


def choose_events(n_events: int, detached: float, generator: torch.Generator) -> Tensor:
    """Which of ``n_events`` steps keep their gradient, (n_events,) bool: a random share 1 − ``detached``, at least one.

    Raises:
        ValueError: for a share outside [0, 1).
    """
    if not 0 <= detached < 1:
        raise ValueError(f"detached={detached} must lie in [0, 1)")
    kept = max(1, round((1 - detached) * n_events))
    order = torch.rand(n_events, generator=generator, device=generator.device).argsort()
    return torch.zeros(n_events, dtype=torch.bool, device=order.device).index_fill_(0, order[:kept], True)


def trajectory_residual(
    token_log_q: Tensor, token_log_p: Tensor, reward: Tensor, log_z: Tensor | float
) -> Tensor:
    """log Z + Σ tokens (log q − log p) − r, (B,), from log-probabilities at unmasking (B, n)."""
    return (token_log_q - token_log_p).sum(-1) - reward + log_z


def relative_trajectory_balance_loss(
    token_log_q: Tensor, token_log_p: Tensor, reward: Tensor, log_z: Tensor | None
) -> Tensor:
    """RTB (Venkatraman et al., arXiv:2405.20971): mean squared trajectory residual, a scalar.

    Args:
        log_z: the learned scalar, or None for the VarGrad form, which SUBTRACTS the batch's mean in its place.

    Raises:
        ValueError: for the VarGrad form of a single trajectory.
    """
    if log_z is not None:
        return trajectory_residual(token_log_q, token_log_p, reward, log_z).square().mean()
    if len(reward) < 2:
        raise ValueError("the VarGrad form needs at least two trajectories")
    delta = trajectory_residual(token_log_q, token_log_p, reward, 0.0)
    return (delta - delta.mean()).square().mean()


def sub_trajectory_loss(
    token_log_q: Tensor, token_log_p: Tensor, reward: Tensor, log_z: Tensor, scale: Tensor | float = 1.0
) -> Tensor:
    """Sub-trajectory loss from x_t to x_0 (Eq. 7), a scalar.

    Args:
        token_log_q, token_log_p: (B, n), 0 for tokens that are not masked in x_t, or whose event was not evaluated.
        log_z: log Z_t(x_t), (B,).
        scale: (B,), k/S where only S of k events were evaluated. This is Eq. 8: the sum over steps becomes t times their mean
            at random times. The estimate of the sum has no bias, its square does, by the variance of the estimate.
    """
    ratio = (token_log_q - token_log_p).sum(-1) * scale
    return (ratio - reward + log_z).square().mean()


def sample_events(total: Tensor, n_events: int, size: int, generator: torch.Generator) -> Tensor:
    """``size`` random events of each row, or all where a row has fewer: (B, n_events) bool, for rows of ``total`` (B,) events."""
    noise = torch.rand((len(total), n_events), generator=generator, device=total.device)
    missing = torch.arange(n_events, device=total.device) >= total.unsqueeze(1)
    rank = noise.masked_fill_(missing, 2.0).argsort(1).argsort(1)
    return (rank < size) & ~missing
