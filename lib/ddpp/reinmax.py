"""ReinMax: second-order straight-through gradients of one-hot draws (Liu et al., arXiv:2304.08612)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class _ReinMax(torch.autograd.Function):
    """One-hot forwards; backwards Heun's second-order rule in place of the identity."""

    @staticmethod
    def forward(ctx, logits: Tensor, drawn: Tensor, tau: float) -> Tensor:  # type: ignore[no-untyped-def,override]
        onehot = F.one_hot(drawn, logits.shape[-1]).to(logits.dtype)  # (K, …, V)
        ctx.save_for_backward(logits, onehot)
        ctx.tau = tau
        return onehot

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def,override]
        logits, onehot = ctx.saved_tensors
        p = logits.softmax(-1)
        half = 0.5 * ((logits / ctx.tau).softmax(-1) + onehot)  # p', (K, …, V)
        weighted = half * grad
        first = 2 * (weighted - half * weighted.sum(-1, keepdim=True)).sum(0)  # Σ_k J(p'_k) 2 g_k
        weighted = p * (0.5 * grad.sum(0))
        second = weighted - p * weighted.sum(-1, keepdim=True)  # J(p) Σ_k g_k / 2
        result = first - second
        return result - result.mean(-1, keepdim=True), None, None


def reinmax_one_hot(logits: Tensor, drawn: Tensor, tau: float = 1.0) -> Tensor:
    """One-hot form (K, …, V) of K draws (K, …) from softmax(logits), logits (…, V), with ReinMax gradients.

    With p = softmax(logits), D the one-hot, p' = (softmax(logits/τ) + D)/2 and J(p) v = p (v − ⟨p, v⟩), a gradient g reaches
    the logits as J(p')(2g) − J(p)(g/2), less its mean over symbols. All K draws share one set of logits.
    """
    return _ReinMax.apply(logits, drawn, tau)


class _StraightThrough(torch.autograd.Function):
    """One-hot forwards, softmax backwards."""

    @staticmethod
    def forward(ctx, logits: Tensor, drawn: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        ctx.save_for_backward(logits)
        return F.one_hot(drawn, logits.shape[-1]).to(logits.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def,override]
        (logits,) = ctx.saved_tensors
        p = logits.softmax(-1)
        weighted = p * grad.sum(0)
        return weighted - p * weighted.sum(-1, keepdim=True), None


def straight_through_one_hot(logits: Tensor, drawn: Tensor) -> Tensor:
    """As :func:`reinmax_one_hot` with the first-order gradient J(p) g (Bengio et al., arXiv:1308.3432)."""
    return _StraightThrough.apply(logits, drawn)
