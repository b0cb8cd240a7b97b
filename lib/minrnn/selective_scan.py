"""Mamba's selective state space between its two outer projections, with the choice of keeping its states or not.

h has d_inner · N numbers a step, N = 16 for each channel. A scan with a hand-written backward keeps them, and as many decays. Mamba's
fused kernel keeps neither: it keeps its inputs and computes the rest again in the backward (Gu and Dao 2023, section 3.3.2). :func:`recomputed` does that for one stretch of the sequence at a time, so that the memory of a
training step is that of the inputs, of one state a stretch, and of one stretch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.minrnn.scan import linear_scan, state_dtype

Work = Callable[..., tuple[Tensor, ...]]


def selective_scan(
    u_and_gate: Tensor,
    taps: Tensor,
    h0: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    to_delta_b_c: Tensor,
    delta_weight: Tensor,
    delta_bias: Tensor,
    log_minus_a: Tensor,
    skip: Tensor,
    engine: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gated output y, and taps and h for the continuation; the equations are those of :class:`~lib.minrnn.mixers.S6`.

    Args:
        u_and_gate: (B, T, 2 d_inner) = u | gate s, before the convolution. taps: (B, kernel − 1, d_inner), the inputs before it.
        h0: (B, d_inner · N). conv_weight: (d_inner, 1, kernel). conv_bias: (d_inner,).
        to_delta_b_c: (rank + 2N, d_inner). delta_weight: (d_inner, rank). delta_bias: (d_inner,).
        log_minus_a: (d_inner, N). skip: (d_inner,). engine: as in :func:`lib.minrnn.scan.linear_scan`.

    Returns:
        y (B, T, d_inner) in the dtype of ``u_and_gate``; taps as given; h (B, d_inner · N) after the last step. Decays are
        computed and states accumulated in float32 for half precision: a decay near 1 must not be rounded to 1.
    """
    batch, steps, _ = u_and_gate.shape
    (d_inner, d_state), rank = log_minus_a.shape, delta_weight.shape[1]
    u, s = u_and_gate.chunk(2, dim=-1)  # (B, T, d_inner) each
    padded = torch.cat([taps, u], dim=1)  # (B, kernel − 1 + T, d_inner)
    u = F.silu(F.conv1d(padded.transpose(1, 2), conv_weight, conv_bias, groups=d_inner).transpose(1, 2))
    delta, b, c = F.linear(u, to_delta_b_c).split([rank, d_state, d_state], dim=-1)
    delta = F.softplus(F.linear(delta, delta_weight, delta_bias))  # (B, T, d_inner)
    delta = delta.to(state_dtype(delta.dtype))
    decay = torch.exp(delta.unsqueeze(-1) * -log_minus_a.to(delta.dtype).exp())  # (B, T, d_inner, N)
    drive = (delta * u).unsqueeze(-1) * b.unsqueeze(2)  # (B, T, d_inner, N)
    h = linear_scan(decay.flatten(2), drive.flatten(2), h0, engine)  # (B, T, d_inner·N)
    y = torch.einsum("btdn,btn->btd", h.view(batch, steps, d_inner, d_state), c.to(h.dtype))
    y = ((y + skip * u) * F.silu(s)).to(u_and_gate.dtype)
    return y, padded[:, steps:], h[:, -1] if steps else h0


def recomputed(work: Work, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return ``work(*inputs)``, keeping ``inputs`` alone for the backward, which does the work again.

    Args:
        work: a function of tensors that returns a tuple of tensors and draws no random numbers.
    """
    return _Recomputed.apply(work, *inputs)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, work: Work, *inputs: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        ctx.save_for_backward(*inputs)
        device = inputs[0].device.type
        ctx.work = work
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        # an output that is a view would keep all states that it is a part of
        return tuple(y.clone() if y._is_view() else y for y in work(*inputs))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        leaves = [
            x.detach().requires_grad_(needed)
            for x, needed in zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        ]
        with torch.enable_grad(), torch.autocast(*ctx.autocast):
            outputs = ctx.work(*leaves)
        pairs = [(y, grad) for y, grad in zip(outputs, grads, strict=True) if y.requires_grad]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in pairs],
                [x for x in leaves if x.requires_grad],
                [grad for _, grad in pairs],
                allow_unused=True,
            )
        )
        return None, *(next(found) if x.requires_grad else None for x in leaves)
