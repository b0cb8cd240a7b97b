"""ReinMax: second-order straight-through gradients of one-hot draws (Liu et al., arXiv:2304.08612)."""

from __future__ import annotations

import torch
from torch import Tensor


def _one_hot(drawn: Tensor, logits: Tensor) -> Tensor:
    """(K, …, V) of draws (K, …), in the logits' type."""
    zeros = logits.new_zeros((*drawn.shape, logits.shape[-1]))
    return zeros.scatter_(-1, drawn.unsqueeze(-1), 1.0)


def _jacobian(p: Tensor, v: Tensor) -> Tensor:
    """J(p) v = p (v − ⟨p, v⟩)."""
    return p * (v - (p * v).sum(-1, keepdim=True))


class _ReinMax(torch.autograd.Function):
    """One-hot forwards; backwards Heun's second-order rule in place of the identity."""

    @staticmethod
    def forward(ctx, logits: Tensor, drawn: Tensor, tau: float) -> Tensor:  # type: ignore[no-untyped-def,override]
        ctx.save_for_backward(logits, drawn)
        ctx.tau = tau
        return _one_hot(drawn, logits)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def,override]
        logits, drawn = ctx.saved_tensors
        p, soft = logits.softmax(-1), (logits / ctx.tau).softmax(-1)
        total = grad.sum(0)  # Σ_k g_k
        # Σ_k J(p'_k) 2 g_k with p'_k = (soft + D_k)/2, written without a tensor of K one-hots
        at_draw = grad.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)  # ⟨D_k, g_k⟩
        mean = 0.5 * ((grad * soft).sum(-1) + at_draw)  # ⟨p'_k, g_k⟩
        first = soft * (total - mean.sum(0).unsqueeze(-1))
        first.scatter_add_(-1, drawn.movedim(0, -1), (at_draw - mean).movedim(0, -1))
        result = first - _jacobian(p, 0.5 * total)
        return result - result.mean(-1, keepdim=True), None, None


def reinmax_one_hot(logits: Tensor, drawn: Tensor, tau: float = 1.0) -> Tensor:
    """One-hot form (K, …, V) of K draws (K, …) from softmax(logits), logits (…, V), with ReinMax gradients.

    With p = softmax(logits), D the one-hot, p' = (softmax(logits/τ) + D)/2 and J(p) v = p (v − ⟨p, v⟩), a gradient g reaches
    the logits as J(p')(2g) − J(p)(g/2), less its mean over symbols. All K draws share one set of logits.
    """
    return _ReinMax.apply(logits, drawn, tau)
