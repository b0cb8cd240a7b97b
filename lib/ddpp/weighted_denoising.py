"""The plain control: reward-weighted denoising cross-entropy on samples of the prior.

Prior samples resampled with weights R^{1/β} follow the target; the denoising loss on them is the forward KL, whose optimum is the
target's MARGINALS given x_t, exactly what a sampler of the target needs (no single-step bias).
"""

from __future__ import annotations

import torch
from torch import Tensor


def normalised_weights(log_weights: Tensor) -> Tensor:
    """Self-normalised importance weights (N,) in float64.

    Raises:
        ValueError: for no or non-finite weights.
    """
    if log_weights.numel() == 0 or not bool(torch.isfinite(log_weights).all()):
        raise ValueError("importance weights need at least one finite log-weight, and only finite ones")
    return log_weights.double().softmax(-1)


def effective_sample_size(log_weights: Tensor) -> float:
    """(Σ w)² / Σ w², between 1 and N, of log-weights (N,)."""
    return float(1 / normalised_weights(log_weights).square().sum())


def resample(log_weights: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Indices (size,) of a pool, drawn with its self-normalised weights by inverting their cumulative sum in float64.

    Raises:
        ValueError: for a size below 1, or weights that are not finite.
    """
    if size < 1:
        raise ValueError(f"size={size} must be positive")
    cumulative = normalised_weights(log_weights).cumsum(0)
    uniform = torch.rand(size, dtype=torch.float64, generator=generator, device=log_weights.device)
    index = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
    return index.clamp_(max=len(log_weights) - 1)


def weighted_denoising_loss(log_q: Tensor, t: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over the batch of weight · (1/t) · −log q, a scalar.

    Args:
        log_q: Σ over masked of log μ_θ(x_0^i|x_t), (B,). t: times (B,).
        weights: (B,) with mean 1, or None where the batch was resampled by weight already.
    """
    loss = -log_q / t
    return (loss if weights is None else loss * weights).mean()
