"""The initial bias of the gates (version 3 of the paper): does a model that remembers at the start train faster?

- *forget-bias slope*: slope of log2(steps to the threshold) against the bias, by seed; a run that misses the threshold counts with
  all its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

from lib.minrnn.model_styles import LABELS
from lib.minrnn.selective_copying import CopyingResult, CopyingSettings, train_copying
from lib.profiles import setting, settings_class

if TYPE_CHECKING:
    from lib.records import Run

OPTION = {"min_lstm": "forget_bias", "min_gru": "gate_bias"}
"""The mixer's option that is swept."""


@settings_class
class Settings(CopyingSettings):
    """Sizes of the sweep."""

    steps: int = setting(300, "steps", "optimiser steps of every run", least=1)
    layers: int = setting(2, "layers", "depth", least=1)
    forget_biases: tuple[float, ...] = setting(
        (0.0, 1.5, 3.0), "1", "initial biases of minLSTM's forget gate", "not found", distinct=True
    )
    gate_biases: tuple[float, ...] = setting(
        (0.0, -1.5), "1", "initial biases of minGRU's gate z (negative remembers)", distinct=True
    )
    threshold: float = setting(
        0.5, "share", "accuracy that the steps are counted to", "not found", above=0, most=1
    )

    def biases(self, mixer: str) -> tuple[float, ...]:
        """The sweep of ``mixer``."""
        return self.forget_biases if mixer == "min_lstm" else self.gate_biases


_GPU = Settings(
    length=32,
    data_tokens=6,
    batch=64,
    steps=800,
    seeds=5,
    evaluation_sequences=1024,
    forget_biases=(0.0, 1.0, 2.0, 3.0, 4.0),
    gate_biases=(0.0, -1.0, -2.0, -3.0),
)

PROFILES = {
    "smoke": Settings(
        data_tokens=2, width=16, batch=8, steps=6, seeds=2, evaluation_sequences=16, evaluate_every=3
    ),
    "default": Settings(),
    "gpu": _GPU,
    "paper": replace(
        _GPU,
        length=4096,
        data_tokens=16,
        expansion=6.0,
        steps=20_000,
        learning_rate=3e-4,
        warmup=0,
        seeds=3,
        evaluation_sequences=12_800,
        evaluate_every=1000,
    ),
}


def jobs(run: Run[Any]) -> list[partial[list[CopyingResult]]]:
    """All biases and seeds of one cell in one job."""
    s = run.of(Settings)
    return [
        partial(train_copying, run, s, mixer, s.layers, s.steps, run.seeds(s.seeds),
                variants=[((option, bias),) for bias in s.biases(mixer)], name="bias")
        for mixer, option in OPTION.items()
    ]  # fmt: skip


def metrics(settings: Settings) -> list[str]:
    """Names of what :func:`measure` records."""
    return [f"{option}_{what}" for option in OPTION.values() for what in ("slope", "rank_correlation")]


def measure(run: Run[Any], results: list[list[CopyingResult]]) -> None:
    """C8: :func:`bias_effect` for minLSTM's forget gate (judged), and for minGRU's gate z (shown).

    Where no run reaches the threshold there is no time to compare, and nothing is recorded: the claim stays "not run".
    """
    threshold = run.of(Settings).threshold
    for (mixer, option), own in zip(OPTION.items(), results, strict=True):
        if all(r.history.steps_to(threshold) is None for r in own):
            continue
        slope, rank = bias_effect(own, mixer, threshold)
        run.measure(f"{option}_slope", slope, unit="1")
        run.measure(f"{option}_rank_correlation", rank, unit="1")


def bias_effect(
    results: Sequence[CopyingResult], mixer: str, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Per seed: slope of log2(steps to ``threshold``) against the bias, and Spearman's rank correlation of the two.

    A run that never reaches the threshold counts with the steps that it had. Equal steps for every bias give 0 for both.
    """
    slopes, ranks = [], []
    for seed in sorted({r.seed for r in results}):
        own = [r for r in results if r.seed == seed]
        bias = np.array([bias_of(r, mixer) for r in own])
        steps = np.array([r.history.steps_to(threshold) or r.history.steps[-1] for r in own], dtype=float)
        slopes.append(float(np.polyfit(bias, np.log2(steps), 1)[0]))
        ranks.append(0.0 if np.ptp(steps) == 0 else float(stats.spearmanr(bias, steps).statistic))
    return np.array(slopes), np.array(ranks)


def bias_of(result: CopyingResult, mixer: str) -> float:
    """The swept bias of a result."""
    return float(dict(result.architecture.options)[OPTION[mixer]])


def tables(settings: Settings, results: list[list[CopyingResult]]) -> dict[str, pd.DataFrame]:
    """``steps``: steps to the threshold by bias and seed."""
    rows = [
        {
            "model": LABELS[mixer],
            "bias": bias_of(r, mixer),
            "seed": r.seed,
            "steps": r.history.steps_to(settings.threshold) or f"> {r.history.steps[-1]}",
        }
        for mixer, own in zip(OPTION, results, strict=True)
        for r in own
    ]
    return {"steps": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[list[CopyingResult]]) -> dict[str, Figure]:
    """``curves``: learning curves for each initial bias, one panel per cell; thin lines are seeds."""
    fig, axes = plt.subplots(1, len(OPTION), figsize=(12, 4.2), sharey=True, squeeze=False)
    for ax, (mixer, option), own in zip(axes[0], OPTION.items(), results, strict=True):
        biases = sorted(settings.biases(mixer))
        for colour, bias in zip(sns.color_palette("viridis", len(biases)), biases, strict=True):
            chosen = [r for r in own if bias_of(r, mixer) == bias]
            for r in chosen:
                ax.plot(r.history.steps, 100 * np.array(r.history.accuracy), color=colour, alpha=0.35, lw=0.8)
            mean = 100 * np.mean([r.history.accuracy for r in chosen], axis=0)
            ax.plot(chosen[0].history.steps, mean, color=colour, lw=2.2, label=f"bias {bias:+g}")
        ax.set(xlabel="training steps", ylabel="accuracy (%)")
        ax.set_title(f"{LABELS[mixer]}: {option.replace('_', ' ')} at initialisation")
        ax.legend()
    return {"curves": fig}
