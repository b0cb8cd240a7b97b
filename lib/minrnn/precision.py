"""How exact the scans are in float32: each engine against the same recurrence in extended precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.minrnn.scan import g, linear_scan, log_space_scan
from lib.profiles import setting, settings_class
from lib.random_streams import stream


@settings_class
class PrecisionSettings:
    """Sizes of the comparison with extended precision."""

    lengths: tuple[int, ...] = setting(
        (64, 256, 1024, 4096), "steps", "lengths of the precision figure", least=1, distinct=True
    )
    width: int = setting(64, "channels", "channels of the precision figure", least=1)


@dataclass(frozen=True)
class PrecisionPoint:
    """One engine at one length.

    Attributes:
        engine: name of the engine. length: T. log_decay: the largest |Σ log a| over channels.
        error: max |h − h*| / |h*| over time and channels, h* computed in extended precision.
    """

    engine: str
    length: int
    log_decay: float
    error: float


def random_gates(length: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pre-activations of minGRU: k ~ N(3, 1) and v ~ N(0, 2²), float32, each (1, length, width)."""
    generator = stream(seed, "random gates", length).torch()
    k = 3 + torch.randn(1, length, width, generator=generator)
    v = 2 * torch.randn(1, length, width, generator=generator)
    return k, v


def exact_states(k: Tensor, v: Tensor) -> np.ndarray:
    """States of minGRU from zero, step by step in numpy's extended precision, (B, T, D)."""
    wide_k, wide_v = k.numpy().astype(np.longdouble), v.numpy().astype(np.longdouble)
    z = 1 / (1 + np.exp(-wide_k))
    one_minus_z = 1 / (1 + np.exp(wide_k))
    candidate = np.where(wide_v >= 0, wide_v + np.longdouble(0.5), 1 / (1 + np.exp(-wide_v)))
    h = np.empty_like(wide_k)
    state: np.ndarray = np.zeros_like(wide_k[:, 0])
    for t in range(k.shape[1]):
        state = one_minus_z[:, t] * state + z[:, t] * candidate[:, t]
        h[:, t] = state
    return h


def float32_states(k: Tensor, v: Tensor, engine: str) -> Tensor:
    """States of minGRU in float32 by one engine; ``heinsen`` works on logarithms as the paper's appendix B does."""
    if engine == "heinsen":
        log_z = -torch.nn.functional.softplus(-k)
        log_candidate = torch.where(v >= 0, (torch.relu(v) + 0.5).log(), -torch.nn.functional.softplus(-v))
        return log_space_scan(-torch.nn.functional.softplus(k), log_z + log_candidate).exp()
    return linear_scan(torch.sigmoid(-k), torch.sigmoid(k) * g(v), engine=engine)


def relative_error(found: Tensor, exact: np.ndarray) -> float:
    """Largest relative error max |h − h*| / |h*|; every exact state here is positive."""
    return float((np.abs(found.numpy().astype(np.longdouble) - exact) / np.abs(exact)).max())


def precision_table(
    settings: PrecisionSettings, engines: Sequence[str], seed: int, device: torch.device | None = None
) -> list[PrecisionPoint]:
    """Errors of all engines at all lengths on the same random gates; the engines run on ``device`` (the CPU if None)."""
    points = []
    for length in settings.lengths:
        k, v = random_gates(length, settings.width, seed)
        exact = exact_states(k, v)
        log_decay = float(torch.nn.functional.softplus(k.double()).sum(1).max())
        for engine in engines:
            error = relative_error(float32_states(k.to(device), v.to(device), engine).cpu(), exact)
            points.append(PrecisionPoint(engine, length, log_decay, error))
    return points


def error_slope(points: Sequence[PrecisionPoint], engine: str) -> float:
    """Slope of log error against log |Σ log a| for one engine: 1 means that digits are lost in proportion.

    Raises:
        ValueError: for fewer than two lengths of that engine.
    """
    chosen = [p for p in points if p.engine == engine]
    if len(chosen) < 2:
        raise ValueError(f"a slope needs at least two lengths of engine {engine!r}, got {len(chosen)}")
    x = [math.log(p.log_decay) for p in chosen]
    y = [math.log(p.error) for p in chosen]
    return float(np.polyfit(x, y, 1)[0])
