"""Figure 1, right (claim C3): bytes that a training step keeps for its backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from lib.figures import PALETTE
from lib.minrnn.efficiency import MODELS, saved_bytes_per_token
from lib.profiles import setting, settings_class
from lib.records import Run


@settings_class
class Settings:
    """Sizes of the training step whose saved bytes are counted."""

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


PROFILES = {
    "smoke": Settings(width=8),
    "default": Settings(),
    "gpu": Settings(width=384),
    "paper": Settings(width=384),
}


@dataclass(frozen=True)
class SavedBytes:
    """Bytes that a forward pass keeps for the backward pass, for each token, in float32."""

    model: str
    length: int
    bytes_per_token: float


def count_saved_bytes(settings: Settings, device: torch.device, seed: int) -> list[SavedBytes]:
    """Saved bytes of every model at every length."""
    saved = saved_bytes_per_token(
        list(MODELS), settings.lengths, settings.batch, settings.width, device, seed
    )
    return [SavedBytes(model, length, size) for (model, length), size in saved.items()]


def jobs(run: Run[Any]) -> list[partial[list[SavedBytes]]]:
    """One job, which counts."""
    return [partial(count_saved_bytes, run.of(Settings), run.device, run.seed)]


# metric → (model, baseline)
COMPARED = {
    "memory_excess_mingru": ("minGRU, log-space scan", "GRU, step loop"),
    "memory_excess_minlstm": ("minLSTM, log-space scan", "LSTM, step loop"),
    "memory_excess_s6_over_mingru": ("S6", "minGRU, log-space scan"),
    "memory_excess_mingru_linear": ("minGRU", "GRU, step loop"),
}


def metrics(settings: Settings) -> list[str]:
    """What :func:`measure` records."""
    return list(COMPARED)


def measure(run: Run[Any], results: list[list[SavedBytes]]) -> None:
    """memory_excess_*: 100·(bytes of the model / bytes of the baseline − 1) at the longest T, in %."""
    at = _at_longest(run.of(Settings), results)
    for name, (model, baseline) in COMPARED.items():
        run.measure(name, 100 * (at[model] / at[baseline] - 1), unit="%")


def _at_longest(settings: Settings, results: list[list[SavedBytes]]) -> dict[str, float]:
    return {s.model: s.bytes_per_token for s in results[0] if s.length == max(settings.lengths)}


def tables(settings: Settings, results: list[list[SavedBytes]]) -> dict[str, pd.DataFrame]:
    """No table."""
    return {}


def figures(settings: Settings, results: list[list[SavedBytes]]) -> dict[str, Figure]:
    """``memory``: bytes per token as bars at the longest T, and against T."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=[3, 2])
    at = _at_longest(settings, results)
    _draw_bars(left, dict(sorted(at.items(), key=lambda item: item[1])), max(settings.lengths))
    for i, model in enumerate(("minGRU", "minGRU, log-space scan", "GRU, step loop", "S6")):
        own = sorted((s.length, s.bytes_per_token) for s in results[0] if s.model == model)
        x, y = zip(*own, strict=True)
        right.plot(x, y, marker="osD^"[i], color=PALETTE[i], label=model)
    right.set(xscale="log", yscale="log", xlabel="sequence length T (steps)", ylabel="bytes per token")
    right.set_xticks(sorted(settings.lengths), [str(n) for n in sorted(settings.lengths)])
    right.set_title("Per token the price is the same at every T")
    right.legend(fontsize=9)
    for ax in (left, right):
        ax.minorticks_off()
    return {"memory": fig}


def _draw_bars(ax: plt.Axes, saved: dict[str, float], length: int) -> None:
    """Bars of bytes per token, in the order of ``saved``: model → bytes."""
    colours = [PALETTE[0] if model.startswith("min") else PALETTE[6] for model in saved]
    ax.barh(list(saved), list(saved.values()), color=colours)
    for y, value in enumerate(saved.values()):
        ax.text(value * 1.05, y, f"{value:.0f}", va="center", fontsize=9)
    ax.set(xscale="log", xlabel="bytes saved for backward, per token (log scale)", ylabel="")
    ax.set_title(f"Memory of a training step, T = {length}, float32")
    limit = max(saved.values()) * 2.5
    ax.set_xlim(right=limit)
    ticks = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
    ax.set_xticks([t for t in ticks if min(saved.values()) / 2 < t < limit])
    ax.xaxis.set_major_formatter("{x:.0f}")
