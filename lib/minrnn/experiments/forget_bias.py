"""The initial bias of the gates (version 3 of the paper): does a model that remembers at the start train faster?

- *speed-up*: steps to the threshold with the bias that remembers least over steps with the one that remembers most, paired by
  seed: geometric mean, with the t-interval of the logarithms. It is measured where every run of the two reaches the threshold, since
  a run that does not has no number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.minrnn.model_styles import LABELS
from lib.minrnn.selective_copying import CopyingResult, CopyingSettings, train_copying
from lib.profiles import setting, settings_class
from lib.statistics import mean_interval

if TYPE_CHECKING:
    from lib.records import Run

OPTION = {"min_lstm": "forget_bias", "min_gru": "gate_bias"}
"""The mixer's option that is swept."""


@settings_class
class Settings(CopyingSettings):
    """Sizes of the sweep."""

    steps: int = setting(300, "steps", "optimiser steps of every run", least=1)
    layers: int = setting(2, "layers", "depth", least=1)
    evaluate_every: int = setting(10, "steps", "steps between evaluations", least=1)
    forget_biases: tuple[float, ...] = setting(
        (0.0, 1.5, 3.0),
        "1",
        "initial biases of minLSTM's forget gate",
        "not found",
        least=-20,
        most=20,
        distinct=True,
        empty=True,
    )
    gate_biases: tuple[float, ...] = setting(
        (),
        "1",
        "initial biases of minGRU's gate z (negative remembers)",
        least=-20,
        most=20,
        distinct=True,
        empty=True,
    )
    threshold: float = setting(
        0.4, "share", "accuracy that the steps are counted to", "not found", above=0, most=1
    )

    def sweeps(self) -> dict[str, tuple[float, ...]]:
        """Mixer → its initial biases, from the one that remembers least to the one that remembers most; without empty sweeps."""
        sweeps = {
            "min_lstm": tuple(sorted(self.forget_biases)),
            "min_gru": tuple(sorted(self.gate_biases, reverse=True)),
        }
        return {mixer: biases for mixer, biases in sweeps.items() if biases}


_GPU = Settings(
    length=32,
    data_tokens=6,
    width=64,
    batch=64,
    steps=800,
    evaluation_sequences=1024,
    forget_biases=(0.0, 1.0, 2.0, 3.0, 4.0),
    gate_biases=(0.0, -1.0, -2.0, -3.0),
    threshold=0.5,
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
        evaluation_sequences=12_800,
        evaluate_every=1000,
    ),
}


def jobs(run: Run[Any]) -> list[partial[list[CopyingResult]]]:
    """All biases and seeds of one cell in one job."""
    s = run.of(Settings)
    return [
        partial(train_copying, run, s, mixer, s.layers, s.steps, run.seeds(s.seeds),
                variants=[((OPTION[mixer], bias),) for bias in biases], name="bias")
        for mixer, biases in s.sweeps().items()
    ]  # fmt: skip


def metrics(settings: Settings) -> list[str]:
    """Names of what :func:`measure` records."""
    return [f"{OPTION[mixer]}_speedup" for mixer, biases in settings.sweeps().items() if len(biases) > 1]


def measure(run: Run[Any], results: list[list[CopyingResult]]) -> None:
    """C8: the speed-up by minLSTM's forget gate (judged), and by minGRU's gate z (shown)."""
    s = run.of(Settings)
    for (mixer, biases), own in zip(s.sweeps().items(), results, strict=True):
        logs = log_speedups(own, mixer, biases, s.threshold) if len(biases) > 1 else None
        if logs is not None:
            mean, low, high, _ = mean_interval(logs)
            ends = (math.exp(low), math.exp(min(high, 700.0)))
            run.measure(
                f"{OPTION[mixer]}_speedup", math.exp(mean), unit="x", interval=ends, varies="training"
            )


def log_speedups(
    results: Sequence[CopyingResult], mixer: str, biases: Sequence[float], threshold: float
) -> np.ndarray | None:
    """Per seed, log(steps to ``threshold`` with the first of ``biases`` / steps with the last); None if one of the runs misses it."""
    ratios = []
    for seed in sorted({r.seed for r in results}):
        steps = {bias_of(r, mixer): r.history.steps_to(threshold) for r in results if r.seed == seed}
        slow, fast = steps[biases[0]], steps[biases[-1]]
        if slow is None or fast is None:
            return None
        ratios.append(math.log(slow / fast))
    return np.array(ratios)


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
            "steps": str(r.history.steps_to(settings.threshold) or f"> {r.history.steps[-1]}"),
        }
        for mixer, own in zip(settings.sweeps(), results, strict=True)
        for r in own
    ]
    frame = pd.DataFrame(rows, columns=["model", "bias", "seed", "steps"])
    return {"steps": frame.pivot(index=["model", "bias"], columns="seed", values="steps").reset_index()}


def figures(settings: Settings, results: list[list[CopyingResult]]) -> dict[str, Figure]:
    """``curves``: learning curves for each initial bias, one panel per cell; thin lines are seeds."""
    sweeps = settings.sweeps()
    if not sweeps:
        return {}
    fig, axes = plt.subplots(1, len(sweeps), figsize=(4 + 4 * len(sweeps), 4.2), sharey=True, squeeze=False)
    for ax, (mixer, biases), own in zip(axes[0], sweeps.items(), results, strict=True):
        for colour, bias in zip(sns.color_palette("viridis", len(biases)), biases, strict=True):
            chosen = [r for r in own if bias_of(r, mixer) == bias]
            for r in chosen:
                ax.plot(r.history.steps, 100 * np.array(r.history.accuracy), color=colour, alpha=0.35, lw=0.8)
            mean = 100 * np.mean([r.history.accuracy for r in chosen], axis=0)
            ax.plot(chosen[0].history.steps, mean, color=colour, lw=2.2, label=f"bias {bias:+g}")
        ax.axhline(100 * settings.threshold, color="0.4", lw=1, ls="--")
        ax.set(xlabel="training steps", ylabel="accuracy (%)")
        ax.set_title(f"{LABELS[mixer]}: {OPTION[mixer].replace('_', ' ')} at initialisation")
        ax.legend()
    return {"curves": fig}
