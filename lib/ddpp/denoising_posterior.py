"""Denoising posterior prediction: the three single-step objectives as plain functions on tensors (Eqs. 10–13).

For a partially masked x_t the steered denoiser is asked for π_t(x_0|x_t) = p(x_0|x_t) R(x_0)^{1/β} / Z_t(x_t). With
log q = Σ over masked i of log μ_θ(x_0^i|x_t), log p the same of the frozen network, and r = (1/β) log R(x_0), the residual is

    log q − log p − r + log Z_t(x_t),

and IS, LB and KL differ in what stands for log Z_t: an estimate by importance sampling, a learned network, or nothing at all.
Sums run over MASKED tokens only and are never averaged over tokens, which would change the temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lib.ddpp.masked_diffusion import symbol_log_probs
from lib.ddpp.reinmax import reinmax_one_hot
from lib.ddpp.samplers import draw

RewardOf = Callable[[Tensor], Tensor]  # clean tokens (N, n) → r (N,)


def residual(log_q: Tensor, log_p: Tensor, reward: Tensor, log_z: Tensor) -> Tensor:
    """log q − log p − r + log Z, all (B,); zero for every x_0 where q is the denoising posterior."""
    return log_q - log_p - reward + log_z


def single_step_loss(log_q: Tensor, log_p: Tensor, reward: Tensor, log_z: Tensor) -> Tensor:
    """Mean squared residual (Eq. 11), a scalar. The gradient flows through ``log_q``, and through ``log_z`` where it is learned."""
    return residual(log_q, log_p, reward, log_z).square().mean()


def log_mean_exp(values: Tensor) -> Tensor:
    """log of the mean of exp over the last dimension; exact for equal values."""
    top = values.amax(-1, keepdim=True)
    return (values - top).exp().mean(-1).log() + top.squeeze(-1)


def complete(
    log_probs: Tensor, noisy: Tensor, mask_symbol: int, draws: int, generator: torch.Generator
) -> Tensor:
    """``draws`` completions (B, draws, n) of x_t (B, n) from the product law log_probs (B, n, V); open tokens stay."""
    drawn = draw(log_probs, generator, draws).transpose(1, 2)  # (B, draws, n)
    noisy = noisy.unsqueeze(1)
    return torch.where(noisy == mask_symbol, drawn, noisy)


@torch.no_grad()
def importance_log_z(
    log_p: Tensor,
    noisy: Tensor,
    reward: RewardOf,
    draws: int,
    generator: torch.Generator,
    log_q: Tensor | None = None,
) -> Tensor:
    """DDPP-IS: log Z_t(x_t) estimated from M completions, (B,), without gradient.

    With the prior as the proposal it is logsumexp_j r(x'_j) − log M, x'_j ~ p(·|x_t). With the steered model as the proposal
    each term is log p + r − log q. Either lies below log Z_t on average, by about Var(w) / (2 M E[w]²), w the weights.

    Args:
        log_p: log μ of the frozen network, (B, n, V): one forward pass serves all M completions.
        noisy: x_t, (B, n). reward: clean (B·M, n) → r (B·M,), one flat batch.
        draws: M; the paper takes 16.
        log_q: log μ_θ (B, n, V) to propose from, or None for the prior.

    Raises:
        ValueError: for fewer than one draw.
    """
    if draws < 1:
        raise ValueError(f"completions={draws} must be positive")
    mask_symbol = log_p.shape[-1]
    completions = complete(log_p if log_q is None else log_q, noisy, mask_symbol, draws, generator)
    weights = reward(completions.flatten(0, 1)).view(len(noisy), draws)
    if log_q is not None:
        picked = (log_p - log_q).unsqueeze(1).expand(-1, draws, -1, -1)
        ratio = picked.gather(-1, completions.unsqueeze(-1)).squeeze(-1)
        weights = weights + (ratio * (noisy == mask_symbol).unsqueeze(1)).sum(-1)
    return log_mean_exp(weights)


def kl_loss(
    logits: Tensor,
    log_p: Tensor,
    noisy: Tensor,
    reward: Any,
    draws: int,
    generator: torch.Generator,
    *,
    path_gradient_only: bool = False,
    one_hot: Callable[[Tensor, Tensor], Tensor] = reinmax_one_hot,
) -> Tensor:
    """DDPP-KL (Eqs. 12–13): reverse KL to the denoising posterior up to log Z_t, a scalar.

    mean over K draws x̂ ~ μ_θ(·|x_t) and over the batch of Σ over masked ⟨onehot, log μ_θ − log μ⟩ − r(onehot); the one-hots carry
    ReinMax gradients. All K draws come from one forward pass.

    Args:
        logits: of the steered model, (B, n, V+1); log_p: log μ of the frozen one, (B, n, V).
        reward: a :class:`~lib.ddpp.rewards.Reward`; it gets one-hots (K·B, n, V), open tokens as constants.
        draws: K; the paper takes 8.
        path_gradient_only: drop the score term E[∇ log μ_θ(x̂)] = 0, which only adds noise.
        one_hot: how gradients pass a draw.

    Raises:
        ValueError: for fewer than one draw.
    """
    if draws < 1:
        raise ValueError(f"kl_samples={draws} must be positive")
    real = logits[..., :-1]
    real = real.to(torch.promote_types(real.dtype, torch.float32))
    masked = noisy == real.shape[-1]
    log_q = F.log_softmax(real, -1)
    drawn = draw(log_q, generator, draws).movedim(-1, 0)  # (K, B, n)
    clean = torch.where(masked, drawn, noisy)
    hidden = masked.unsqueeze(-1)
    onehot = one_hot(torch.where(hidden, real, real.detach()), clean)  # (K, B, n, V)
    log_ratio = ((log_q.detach() if path_gradient_only else log_q) - log_p) * hidden
    divergence = (onehot.mean(0) * log_ratio).sum() / len(noisy)
    r = reward.exponent * reward.log_reward_at_vertex(onehot.flatten(0, 1), clean.flatten(0, 1))
    return divergence - r.mean()


def kl_loss_exact(logits: Tensor, log_p: Tensor, noisy: Tensor, reward: Any) -> Tensor:
    """The expectation that :func:`kl_loss` samples, for rewards whose one-hot form is multilinear, such as tables.

    Σ over masked of KL(μ_θ^i ‖ μ^i) − E[r], the second term being the multilinear extension at the probabilities.
    """
    real = logits[..., :-1]
    masked = (noisy == real.shape[-1]).unsqueeze(-1)
    log_q = F.log_softmax(real.to(torch.promote_types(real.dtype, torch.float32)), -1)
    q = log_q.exp()
    divergence = (q * (log_q - log_p) * masked).sum((-1, -2))
    open_tokens = noisy.clamp(max=real.shape[-1] - 1)
    point = torch.where(masked, q, F.one_hot(open_tokens, real.shape[-1]).to(q.dtype))
    return (divergence - reward.exponent * reward.log_reward_of_onehot(point)).mean()


def prior_log_probs(prior: Any, noisy: Tensor, sigma: Tensor | None = None) -> Tensor:
    """log μ of the frozen network at x_t, (B, n, V), without gradient."""
    with torch.no_grad():
        return symbol_log_probs(prior(noisy, sigma))
