"""Figure 1, right (claim C3): memory of a training step.

- *peak excess*: 100·(peak bytes of a step of the model / those of what it is compared with − 1) at the longest T, in %.
- *memory excess*: the same of the bytes that the forward pass keeps for the backward pass; *without masks*, of those that are no
  boolean tensors, which belong to how a piecewise function is written.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.minrnn.efficiency import MODELS
from lib.minrnn.model_styles import style_of
from lib.minrnn.step_memory import MemorySettings, StepMemory, step_memory

if TYPE_CHECKING:
    from lib.records import Run

GRU_LOG, LSTM_LOG, FAIR_S6 = "minGRU, log-space scan", "minLSTM, log-space scan", "S6, states recomputed"

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
"""Metric → field of :class:`StepMemory`, model, and what it is compared with."""

PROFILES = {
    "smoke": MemorySettings(width=8),
    "default": MemorySettings(),
    "gpu": MemorySettings(width=384),
    "paper": MemorySettings(width=384),
}


def jobs(run: Run[Any]) -> list[partial[list[StepMemory]]]:
    """One job, which counts."""
    return [partial(step_memory, tuple(MODELS), run.of(MemorySettings), run.device, run.seed)]


def metrics(settings: MemorySettings) -> list[str]:
    """What :func:`measure` records."""
    return list(COMPARED)


def measure(run: Run[Any], results: list[list[StepMemory]]) -> None:
    """The excesses of :data:`COMPARED`, in %."""
    at = at_longest(run.of(MemorySettings), results)
    for name, (field, model, baseline) in COMPARED.items():
        ours, theirs = getattr(at[model], field), getattr(at[baseline], field)
        run.measure(name, 100 * (ours / theirs - 1), unit="%")


def at_longest(settings: MemorySettings, results: list[list[StepMemory]]) -> dict[str, StepMemory]:
    """Model → its memory at the longest T, smallest peak first."""
    own = [m for m in results[0] if m.length == max(settings.lengths)]
    return {m.model: m for m in sorted(own, key=lambda m: m.peak)}


def tables(settings: MemorySettings, results: list[list[StepMemory]]) -> dict[str, pd.DataFrame]:
    """``bytes``: bytes per token at the longest T."""
    rows = [
        {
            "model": style_of(m.model).label,
            "peak": round(m.peak),
            "kept for backward": round(m.saved),
            "without boolean masks": round(m.saved_without_masks),
        }
        for m in at_longest(settings, results).values()
    ]
    return {"bytes": pd.DataFrame(rows)}


def figures(settings: MemorySettings, results: list[list[StepMemory]]) -> dict[str, Figure]:
    """``memory``: bytes per token as bars at the longest T, and the peak against T."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=[3, 2])
    _draw_bars(left, at_longest(settings, results), max(settings.lengths))
    for model in ("minGRU", GRU_LOG, "GRU, step loop", FAIR_S6, "S6"):
        own = sorted((m.length, m.peak) for m in results[0] if m.model == model)
        x, y = zip(*own, strict=True)
        style = style_of(model)
        right.plot(x, y, ls=style.line, marker=style.marker, color=style.colour, label=style.label)
    right.set(xscale="log", yscale="log", xlabel="sequence length T (steps)", ylabel="peak bytes per token")
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
    ax.set(xscale="log", xlabel="bytes per token (log scale)", ylabel="")
    ax.set_title(f"T = {length}, float32: kept for the backward pass (filled), peak (open)")
    limit = max(peaks) * 2.5
    ax.set_xlim(left=min(saved) / 2, right=limit)
    ticks = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000)
    ax.set_xticks([t for t in ticks if min(saved) / 2 < t < limit])
    ax.xaxis.set_major_formatter("{x:.0f}")
