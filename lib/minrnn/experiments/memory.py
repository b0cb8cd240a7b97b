"""Figure 1, right (claim C3): bytes that a training step keeps for its backward pass."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.minrnn.efficiency import MEMORY_MODELS, MemorySettings, SavedBytes, saved_bytes_per_token
from lib.minrnn.model_styles import style_of

if TYPE_CHECKING:
    from lib.records import Run

GRU_LOG, LSTM_LOG = "minGRU, log-space scan", "minLSTM, log-space scan"

COMPARED = {
    "peak_memory_excess_mingru": ("peak", GRU_LOG, "GRU, step loop"),
    "peak_memory_excess_minlstm": ("peak", LSTM_LOG, "LSTM, step loop"),
    "peak_memory_excess_mingru_over_fused": ("peak", GRU_LOG, "GRU, fused"),
    "peak_memory_excess_minlstm_over_fused": ("peak", LSTM_LOG, "LSTM, fused"),
    "peak_memory_excess_s6_over_mingru": ("peak", FAIR_S6, GRU_LOG),
    "memory_excess_mingru": ("saved", GRU_LOG, "GRU, step loop"),
    "memory_excess_minlstm": ("saved", LSTM_LOG, "LSTM, step loop"),
    "memory_excess_mingru_without_masks": ("saved_without_masks", GRU_LOG, "GRU, step loop"),
    "memory_excess_minlstm_without_masks": ("saved_without_masks", LSTM_LOG, "LSTM, step loop"),
    "memory_excess_mingru_linear": ("saved", "minGRU", "GRU, step loop"),
    "memory_excess_s6_over_mingru": ("saved", "S6", GRU_LOG),
    "memory_excess_s6_recomputed_over_mingru": ("saved", FAIR_S6, GRU_LOG),
}
"""Metric → what is compared with what."""

WITHOUT_MASKS = {
    "memory_excess_mingru_without_masks": COMPARED["memory_excess_mingru"],
    "memory_excess_minlstm_without_masks": COMPARED["memory_excess_minlstm"],
}
"""The same where boolean tensors, which belong to how a function is written, are not counted."""

PROFILES = {
    "smoke": MemorySettings(width=8),
    "default": MemorySettings(),
    "gpu": MemorySettings(width=384),
    "paper": MemorySettings(width=384),
}


def jobs(run: Run[Any]) -> list[partial[list[SavedBytes]]]:
    """One job, which counts."""
    settings = run.of(MemorySettings)
    return [partial(saved_bytes_per_token, tuple(MEMORY_MODELS), settings, run.device, run.seed)]


def metrics(settings: MemorySettings) -> list[str]:
    """What :func:`measure` records."""
    return [*COMPARED, *WITHOUT_MASKS]


def measure(run: Run[Any], results: list[list[SavedBytes]]) -> None:
    """memory_excess_*: 100·(bytes of the model / bytes of what it is compared with − 1) at the longest T, in %."""
    at = at_longest(run.of(MemorySettings), results)
    for name, (model, baseline) in COMPARED.items():
        run.measure(name, 100 * (at[model].with_masks / at[baseline].with_masks - 1), unit="%")
    for name, (model, baseline) in WITHOUT_MASKS.items():
        run.measure(name, 100 * (at[model].without_masks / at[baseline].without_masks - 1), unit="%")


def at_longest(settings: MemorySettings, results: list[list[SavedBytes]]) -> dict[str, SavedBytes]:
    """Model → its saved bytes at the longest T, smallest first."""
    own = [s for s in results[0] if s.length == max(settings.lengths)]
    return {s.model: s for s in sorted(own, key=lambda s: s.with_masks)}


def tables(settings: MemorySettings, results: list[list[SavedBytes]]) -> dict[str, pd.DataFrame]:
    """``bytes``: bytes per token at the longest T, with and without boolean masks."""
    rows = [
        {"model": s.model, "bytes per token": round(s.with_masks), "without masks": round(s.without_masks)}
        for s in at_longest(settings, results).values()
    ]
    return {"bytes": pd.DataFrame(rows)}


def figures(settings: MemorySettings, results: list[list[SavedBytes]]) -> dict[str, Figure]:
    """``memory``: bytes per token as bars at the longest T, and against T."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=[3, 2])
    _draw_bars(left, at_longest(settings, results), max(settings.lengths))
    for model in ("minGRU", GRU_LOG, "GRU, step loop", "S6, states recomputed", "S6"):
        own = sorted((s.length, s.with_masks) for s in results[0] if s.model == model)
        x, y = zip(*own, strict=True)
        style = style_of(model)
        right.plot(x, y, ls=style.line, marker=style.marker, color=style.colour, label=style.label)
    right.set(xscale="log", yscale="log", xlabel="sequence length T (steps)", ylabel="bytes per token")
    right.set_xticks(sorted(settings.lengths), [str(n) for n in sorted(settings.lengths)])
    right.set_title("Peak of a training step")
    right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.15))
    for ax in (left, right):
        ax.minorticks_off()
    return {"memory": fig}


def _draw_bars(ax: Axes, at: dict[str, StepMemory], length: int) -> None:
    """Peak as an open bar, and in it what is kept for the backward pass."""
    labels, colours = [style_of(model).label for model in at], [style_of(model).colour for model in at]
    peaks, saved = [m.peak for m in at.values()], [m.saved for m in at.values()]
    ax.barh(labels, peaks, color="white", edgecolor=colours)
    ax.barh(labels, saved, color=colours)
    for y, value in enumerate(peaks):
        ax.text(value * 1.05, y, f"{value:.0f}", va="center", fontsize=9)
    ax.set(xscale="log", xlabel="bytes saved for backward, per token (log scale)", ylabel="")
    ax.set_title(f"Memory of a training step, T = {length}, float32")
    limit = max(sizes) * 2.5
    ax.set_xlim(right=limit)
    ticks = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
    ax.set_xticks([t for t in ticks if min(sizes) / 2 < t < limit])
    ax.xaxis.set_major_formatter("{x:.0f}")
