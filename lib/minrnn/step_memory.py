"""Claim C3: memory of a training step, counted twice.

What the forward pass keeps for the backward pass grows with the depth of a network; of whichever implementation: an nn.LSTM keeps the
workspace of its fused kernel, a log-space scan the masks of its piecewise functions, an S6 all its states unless it computes them
again. The peak of one training step is what must fit into the memory of a device; it holds the temporaries of both passes and the
gradients as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lib.minrnn.efficiency import build, inputs, training_step
from lib.minrnn.peak_memory import peak_bytes
from lib.profiles import setting, settings_class
from lib.random_streams import stream


@settings_class
class MemorySettings:
    """Sizes of the training step whose memory is counted."""

    lengths: tuple[int, ...] = setting(
        (64, 128, 256, 512),
        "steps",
        "lengths T; models are compared at the longest",
        "64..4096",
        least=1,
        distinct=True,
    )
    batch: int = setting(1, "sequences", "batch of the training step", 64, least=1)
    width: int = setting(64, "channels", "width d of the cells", "not found", least=1)


@dataclass(frozen=True)
class StepMemory:
    """Memory of one model's training step in float32, in bytes for each token.

    Attributes:
        saved, saved_without_masks: kept for the backward pass, with and without boolean tensors; see :func:`saved_bytes`.
        peak: activations, temporaries and gradients that are there at once; see :func:`lib.minrnn.peak_memory.peak_bytes`.
    """

    model: str
    length: int
    saved: float
    saved_without_masks: float
    peak: float


def step_memory(
    models: Sequence[str], settings: MemorySettings, device: torch.device, seed: int
) -> list[StepMemory]:
    """Memory of every model at every length.

    Args:
        models: names of :data:`lib.minrnn.efficiency.MODELS`. seed: of weights and inputs.
    """
    result = []
    for name in models:
        with stream(seed, "initialisation").as_global():
            module = build(name, settings.width, device)
        for length in settings.lengths:
            x = inputs((settings.batch, length, settings.width), seed, device)
            module.zero_grad(set_to_none=True)  # the gradients of the length before are no memory of this one
            sizes = (
                saved_bytes(module, x),
                saved_bytes(module, x, masks=False),
                peak_bytes(partial(training_step, module, x)),
            )
            result.append(StepMemory(name, length, *(size / (settings.batch * length) for size in sizes)))
    return result


def saved_bytes(module: nn.Module, x: Tensor, *, masks: bool = True) -> int:
    """Bytes that the forward pass keeps for the backward pass, parameters left out.

    Counts each storage once, through ``saved_tensors_hooks``; works alike on CPU and GPU. What a library's fused kernel keeps for its
    backward (the workspace of oneDNN, the reserve of cuDNN) is a saved tensor of bytes, and is counted.

    Args:
        module: called with x (B, T, d). masks: count boolean tensors, a byte an element, too. They say which branch of a piecewise
            function was taken, and belong to how that function is written, not to the recurrence.
    """
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, Tensor] = {}  # holding the tensors keeps a freed address from being counted twice or lost

    def pack(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in parameters and tensor.numel() and (masks or tensor.dtype != torch.bool):
            kept[address] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y, _ = module(x)
        loss = y.float().square().mean()
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del loss
    return size
