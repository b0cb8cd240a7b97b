"""Claim C2: time of a training step, against three baselines.

The paper's baseline is a GRU or LSTM cell stepped through time in Python. The fair baseline is the library's fused ``nn.GRU`` and
``nn.LSTM`` (cuDNN on a GPU). The physical limit is a memory copy: a gate-fused scan must read its pre-activations and write its
states, and no implementation can be faster than moving those bytes.

A training step here is forward, loss and backward; the loss is the mean square of *all* outputs, so that no part of the scan is dead
code. Timings are taken in rounds, each round timing every model once, so that a busy moment of the machine hits them alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.minrnn.mixers import make_mixer
from lib.profiles import setting, settings_class
from lib.random_streams import stream

# S6 keeps one state in so many steps and computes the others again. Mamba's kernel does that, with the others on the chip; here so
# many of them are in memory for a while, and a peak is an upper bound of the kernel's.
RECOMPUTED_STEPS = 32
# Name in the figures → mixer and its options.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "minGRU": ("min_gru", {}),
    "minLSTM": ("min_lstm", {}),
    "minGRU, log-space scan": ("min_gru", {"scan": "heinsen"}),
    "minLSTM, log-space scan": ("min_lstm", {"scan": "heinsen"}),
    "minGRU, chunked": ("min_gru", {"scan": "chunked"}),
    "GRU, step loop": ("step_gru", {}),
    "LSTM, step loop": ("step_lstm", {}),
    "GRU, fused": ("gru", {}),
    "LSTM, fused": ("lstm", {}),
    "S6": ("s6", {}),
    "S6, states recomputed": ("s6", {"recompute": RECOMPUTED_STEPS}),
}
BASELINES = {
    "minGRU": {"step loop": "GRU, step loop", "fused": "GRU, fused"},
    "minLSTM": {"step loop": "LSTM, step loop", "fused": "LSTM, fused"},
}
# Bytes per element of (B, T, d_h) that a gate-fused float32 scan must move in forward and backward:
# minGRU reads k, v, writes h (12), then reads k, v, h, ḡ, writes dk, dv (24); minLSTM has one pre-activation more.
FUSED_BYTES = {"minGRU": 36, "minLSTM": 48}


@settings_class
class EfficiencySettings:
    """Sizes of the timed training step."""

    lengths: tuple[int, ...] = setting(
        (64, 256, 512, 1024), "steps", "lengths T that are timed", "64..4096", least=1, distinct=True
    )
    batch: int = setting(8, "sequences", "batch of the timed training step", 64, least=1)
    width: int = setting(64, "channels", "width d of the timed cells", "not found", least=1)
    repeats: int = setting(8, "rounds", "timed rounds; every round times every model once", least=1)
    half_precision: bool = setting(False, "1", "time bfloat16 as well")


@dataclass(frozen=True)
class Timing:
    """One timed training step: model, length T, round of the measurement, seconds."""

    model: str
    length: int
    round: int
    seconds: float


@dataclass(frozen=True)
class CopyLimit:
    """Seconds that moving the bytes of one model's training step takes at length T."""

    model: str
    length: int
    seconds: float


def build(model: str, d: int, device: torch.device, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The mixer behind a name of :data:`MODELS`, d → d."""
    mixer, options = MODELS[model]
    expansion = 2.0 if mixer == "s6" else 1.0  # Mamba's own expansion
    return make_mixer(mixer, d, expansion, **options).to(device=device, dtype=dtype)


def inputs(
    shape: tuple[int, int, int], seed: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """x ~ N(0, 1) of ``shape`` (B, T, d), of which a gradient is asked for."""
    generator = stream(seed, "inputs", shape[1]).torch(device)
    return torch.randn(shape, generator=generator, device=device, dtype=dtype, requires_grad=True)


def training_step(module: nn.Module, x: Tensor) -> None:
    """Forward, loss over all outputs, backward."""
    module.zero_grad(set_to_none=True)
    y, _ = module(x)
    y.float().square().mean().backward()


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's queue emptied before and after."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def ready_copy(
    elements: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Callable[[], Tensor]:
    """Work that copies ``elements`` numbers into memory that is there already, and returns that memory.

    A copy that makes a new tensor, such as ``clone``, times the allocation: on a CPU every page of a large tensor is handed over by the
    operating system when it is first touched, which can take longer than the copy.
    """
    source = torch.ones(elements, device=device, dtype=dtype)
    target = torch.zeros_like(source).copy_(source)  # touched
    return lambda: target.copy_(source)


def copy_seconds(
    elements: int, device: torch.device, dtype: torch.dtype = torch.float32, repeats: int = 9
) -> float:
    """Median seconds of copying ``elements`` numbers from one buffer to another, both ready."""
    copy = ready_copy(elements, device, dtype)
    timed(copy, device)
    return float(np.median([timed(copy, device) for _ in range(repeats)]))


def copy_limit(
    model: str, batch: int, length: int, d: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> float:
    """Seconds that moving a gate-fused scan's bytes takes at the copy bandwidth measured at this very size.

    A copy reads and writes, 8 bytes an element in float32, so the limit is FUSED_BYTES/8 copies of (batch, length, d); the ratio
    is the same for 16-bit elements.
    """
    return FUSED_BYTES[model] / 8 * copy_seconds(batch * length * d, device, dtype)


def copy_limits(settings: EfficiencySettings, device: torch.device) -> list[CopyLimit]:
    """:func:`copy_limit` of minGRU and minLSTM in float32 at every length."""
    return [
        CopyLimit(model, length, copy_limit(model, settings.batch, length, settings.width, device))
        for model in FUSED_BYTES
        for length in settings.lengths
    ]


def time_models(
    models: Sequence[str],
    settings: EfficiencySettings,
    device: torch.device,
    seed: int,
    dtype: torch.dtype = torch.float32,
) -> list[Timing]:
    """Time a training step of every model at every length.

    The first call (compilation, allocation) of each model at each length is not counted.

    Args:
        models: names of :data:`MODELS`. device, dtype: of the numbers. seed: of weights and inputs.
    """
    with stream(seed, "initialisation").as_global():
        built = {name: build(name, settings.width, device, dtype) for name in models}
    timings = []
    for length in settings.lengths:
        x = inputs((settings.batch, length, settings.width), seed, device, dtype)
        # a GPU picks kernels by shape; a CPU compiles once, so a short call warms it up
        warm_up = x if device.type == "cuda" else x[:, : min(settings.lengths)]
        for module in built.values():
            training_step(module, warm_up)
        for i in range(settings.repeats):
            for name, module in built.items():
                seconds = timed(partial(training_step, module, x), device)
                timings.append(Timing(name, length, i, seconds))
    return timings


def log_speedups(timings: Sequence[Timing], model: str, baseline: str) -> dict[int, np.ndarray]:
    """log(baseline's time / model's time) by length, one value per round (repeats,).

    Raises:
        ValueError: if one of the two was not timed.
    """
    seconds = {(t.model, t.length, t.round): t.seconds for t in timings}
    lengths = sorted({t.length for t in timings if t.model == model})
    rounds = sorted({t.round for t in timings})
    try:
        return {
            n: np.array([math.log(seconds[baseline, n, i] / seconds[model, n, i]) for i in rounds])
            for n in lengths
        }
    except KeyError as error:
        raise ValueError(f"{error.args[0][0]!r} was not timed at T = {error.args[0][1]}") from error


def growth_slopes(speedups: dict[int, np.ndarray]) -> np.ndarray:
    """Slope of log speed-up against log T, one value per round: 0 if the speed-up does not grow with the length.

    Raises:
        ValueError: for fewer than two lengths.
    """
    if len(speedups) < 2:
        raise ValueError("a growth with T needs at least two lengths")
    x = np.log(np.array(sorted(speedups), dtype=float))
    values = np.stack([speedups[n] for n in sorted(speedups)])  # (lengths, rounds)
    return np.polyfit(x, values, 1)[0]
