"""Version 3's formal languages: what the gates gave up. Parity needs a factor that can be negative."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.minrnn.formal_languages import TASKS, FormalResult, FormalSettings, train_formal
from lib.minrnn.model_styles import style_of

if TYPE_CHECKING:
    from lib.records import Run

MODELS = (("gru", 1), ("tanh_gate", 1), ("min_gru", 1), ("min_gru", 2))

PROFILES = {
    "smoke": FormalSettings(width=16, steps=4, warmup=1, batch=8, test_lengths=(20, 40), seeds=1),
    "default": FormalSettings(),
    "gpu": FormalSettings(tasks=("parity_check", "cycle_nav", "even_pairs"), width=64, steps=600),
    "paper": FormalSettings(
        tasks=(
            "parity_check",
            "even_pairs",
            "cycle_nav",
            "majority",
            "majority_count",
            "missing_duplicate",
            "bucket_sort",
        ),
        width=256,
        steps=500_000,
        batch=128,
        learning_rate=3e-4,
    ),
}


def jobs(run: Run[Any]) -> list[partial[FormalResult]]:
    """GRU, the tanh variant and minGRU with one layer, minGRU with two, on every task and seed."""
    s = run.of(FormalSettings)
    return [
        partial(train_formal, run, s, task, mixer, layers, seed)
        for task in s.tasks
        for mixer, layers in MODELS
        for seed in run.seeds(s.seeds)
    ]


def metrics(settings: FormalSettings) -> list[str]:
    """What :func:`measure` records."""
    names = []
    if "parity_check" in settings.tasks:
        names += [f"parity_accuracy_{mixer}_{layers}" for mixer, layers in MODELS]
    if len(settings.tasks) == len(TASKS):
        names += ["formal_language_accuracy_mean"]
    return names


def measure(run: Run[Any], results: list[FormalResult]) -> None:
    """Parity at the longest test length, by model and seed, in percent.

    formal_language_accuracy_mean: over all tasks and test lengths, of minGRU with two layers, where a run has all seven tasks.
    """
    s = run.of(FormalSettings)
    if "parity_check" in s.tasks:
        for mixer, layers in MODELS:
            own = _of(results, mixer, layers, "parity_check")
            values = [r.accuracy_at(max(s.test_lengths)) for r in own]
            run.measure(f"parity_accuracy_{mixer}_{layers}", values, unit="%")
    if len(s.tasks) == len(TASKS):
        own = _of(results, "min_gru", 2)
        means = [float(np.mean([r.accuracy for r in own if r.seed == seed])) for seed in run.seeds(s.seeds)]
        run.measure("formal_language_accuracy_mean", means, unit="%")


def _of(results: Sequence[FormalResult], mixer: str, layers: int, task: str = "") -> list[FormalResult]:
    """The results of one model, on all tasks or on one."""
    return [r for r in results if (r.mixer, r.n_layers) == (mixer, layers) and task in ("", r.task)]


def tables(settings: FormalSettings, results: list[FormalResult]) -> dict[str, pd.DataFrame]:
    """No table."""
    return {}


def figures(settings: FormalSettings, results: list[FormalResult]) -> dict[str, Figure]:
    """One figure a task, under its name: accuracy against test length for each model; the training lengths are shaded."""
    return {task: _figure(settings, [r for r in results if r.task == task], task) for task in settings.tasks}


def _figure(settings: FormalSettings, results: list[FormalResult], task: str) -> Figure:
    fig, ax = plt.subplots()
    lengths = sorted(settings.test_lengths)
    for i, (mixer, layers) in enumerate(MODELS):
        curves = [[r.accuracy_at(n) for n in lengths] for r in _of(results, mixer, layers)]
        style = style_of(mixer)
        line, fill = ("-", style.colour) if layers == 1 else ("--", "white")
        for curve in curves:
            ax.plot(lengths, curve, ls=line, color=style.colour, alpha=0.35, lw=0.8)
        # the first model's line is drawn wide, so that one that coincides with it can be seen on top
        look = {"lw": 6, "ms": 12, "alpha": 0.6} if i == 0 else {"lw": 2, "ms": 6}
        label = f"{style.label}, {layers} layer{'s' if layers > 1 else ''}"
        mean = np.mean(curves, axis=0)
        ax.plot(lengths, mean, line, marker=style.marker, mfc=fill, color=style.colour, label=label, **look)
    limits = (lengths[0] * 0.8, lengths[-1] * 1.2)
    ax.axvspan(limits[0], settings.longest, color="0.9", lw=0, zorder=0)
    ax.text(settings.longest, 3, " trained lengths end here", fontsize=9, color="0.3")
    ax.set(
        xscale="log",
        xlabel="length of the string (symbols)",
        ylabel="accuracy (%)",
        ylim=(0, 105),
        xlim=limits,
    )
    ax.set_xticks(lengths, [str(n) for n in lengths])
    ax.minorticks_off()
    ax.set_title(f"Task {task.replace('_', ' ')}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig
