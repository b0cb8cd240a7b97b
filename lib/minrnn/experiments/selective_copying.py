"""Selective copying (Tables 1 and 2): what depth gives back, and what a model needs gates for.

minGRU and minLSTM at every depth; S6 and a time-invariant control at the largest one, as wide as gives them the weights of the
larger of the two cells, and compared after the steps that the controls had; in larger profiles also longer sequences.

- *accuracy*: share of the last M outputs whose largest logit is the right token, in percent.
- *depth gain*: accuracy with L layers − accuracy with one, paired by seed, in points.
- *control gap*: accuracy − accuracy of the S4-type control after equal steps, paired by seed, in points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures import PALETTE
from lib.minrnn.model_styles import LABELS, style_of
from lib.minrnn.selective_copying import (
    CHANCE,
    CopyingResult,
    CopyingSettings,
    expansion_of_weights,
    train_copying,
    weights_of,
)
from lib.profiles import ParameterError, setting, settings_class
from lib.statistics import mean_interval

if TYPE_CHECKING:
    from lib.records import Run

CELLS = {"min_gru": "mingru", "min_lstm": "minlstm"}
"""The paper's cells, as mixers and as parts of a metric's name."""

REPORTED = {  # Table 2: the model alone; in an H3 block; in a Mamba block
    "min_gru": "99.5 ± 0.2",
    "min_lstm": "96.0 ± 2.8",
    "s6": "97.0 / 99.7 / 99.8",
    "diagonal_ssm": "18.3 / 57.0 / 56.4",
}


@settings_class
class Settings(CopyingSettings):
    """Sizes of Tables 1 and 2."""

    steps: int = setting(500, "steps", "optimiser steps of minGRU and minLSTM", 400_000, least=1)
    layers: tuple[int, ...] = setting(
        (1, 2, 3), "layers", "depths that are compared", (1, 2, 3), least=1, distinct=True
    )
    controls: tuple[str, ...] = setting(
        ("s6", "diagonal_ssm"), "names", "other mixers of Table 2", "S4, H3, Hyena, S6",
        among=("s6", "diagonal_ssm"), empty=True, distinct=True,
    )  # fmt: skip
    control_steps: int = setting(
        300, "steps", "optimiser steps of the controls, after which all are compared", 400_000, least=1
    )
    long_lengths: tuple[int, ...] = setting(
        (), "tokens", "further lengths T, at the largest depth", (4096,), least=1, empty=True, distinct=True
    )
    long_data_tokens: int = setting(16, "tokens", "M at the further lengths", 16, least=1)
    long_steps: int = setting(0, "steps", "optimiser steps at the further lengths", 400_000, least=0)
    long_seeds: int = setting(3, "seeds", "repetitions at the further lengths", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.control_steps > self.steps or self.evaluate_every > self.control_steps:
            raise ParameterError(
                f"control_steps={self.control_steps} must lie between evaluate_every={self.evaluate_every} and steps={self.steps}"
            )
        if self.long_lengths and (self.long_steps < 1 or self.long_data_tokens > min(self.long_lengths)):
            raise ParameterError(
                f"long_lengths={self.long_lengths} needs long_steps of at least 1 and at most as many long_data_tokens"
            )


_GPU = Settings(
    length=32,
    data_tokens=6,
    width=64,
    batch=64,
    steps=1500,
    evaluation_sequences=1024,
    control_steps=600,
    gate_bias=-2.0,
    forget_bias=3.0,
    state_size=16,
    long_lengths=(256,),
    long_steps=2500,
)

PROFILES = {
    "smoke": Settings(
        data_tokens=2,
        width=16,
        batch=8,
        steps=6,
        control_steps=6,
        seeds=2,
        evaluation_sequences=16,
        evaluate_every=3,
    ),
    "default": Settings(),
    "gpu": _GPU,
    "paper": replace(
        _GPU,
        length=4096,
        data_tokens=16,
        expansion=6.0,
        steps=400_000,
        learning_rate=3e-4,
        warmup=0,
        evaluation_sequences=12_800,
        evaluate_every=1000,
        control_steps=400_000,
        gate_bias=0.0,
        long_lengths=(),
        long_steps=0,
    ),
}

Job = partial[list[CopyingResult]]


def jobs(run: Run[Any]) -> list[Job]:
    """All seeds of a cell at one depth in one job, deepest first; each seed of a control in one; then the further lengths."""
    s = run.of(Settings)
    deepest, seeds = max(s.layers), run.seeds(s.seeds)
    depth = [
        partial(train_copying, run, s, mixer, layers, s.steps, seeds, name="depth")
        for layers in sorted(s.layers, reverse=True)
        for mixer in CELLS
    ]
    weights = max(weights_of(s, mixer, deepest, s.expansion) for mixer in CELLS)
    controls = [
        partial(train_copying, run, s, mixer, deepest, s.control_steps, [seed],
                expansion=expansion_of_weights(s, mixer, deepest, weights), name="control")
        for mixer in s.controls
        for seed in seeds
    ]  # fmt: skip
    longer = [
        partial(train_copying, run, replace(s, length=length, data_tokens=s.long_data_tokens), mixer, deepest,
                s.long_steps, run.seeds(s.long_seeds), name="long")
        for length in s.long_lengths
        for mixer in CELLS
    ]  # fmt: skip
    return [*depth, *controls, *longer]


def metrics(settings: Settings) -> list[str]:
    """Names of what :func:`measure` records."""
    deepest, names = max(settings.layers), []
    for cell in CELLS.values():
        names += [f"copying_accuracy_{cell}_{layers}" for layers in settings.layers]
        if 1 in settings.layers:
            names += [f"depth_gain_{layers}_{cell}" for layers in settings.layers if layers > 1]
    names += [f"copying_accuracy_{mixer}_{deepest}" for mixer in settings.controls]
    if "diagonal_ssm" in settings.controls:
        names += [f"control_gap_{cell}" for cell in CELLS.values()]
        names += ["control_gap_s6"] if "s6" in settings.controls else []
    return names


def measure(run: Run[Any], results: list[list[CopyingResult]]) -> None:
    """C4 and Table 1: accuracies and depth gains. C5 and Table 2: control gaps."""
    s = run.of(Settings)
    found = at_main_length(s, results)
    deepest = max(s.layers)
    for mixer, cell in CELLS.items():
        for layers in s.layers:
            accuracy = accuracies(found, mixer, layers)
            run.measure(f"copying_accuracy_{cell}_{layers}", accuracy, unit="%")
            if layers > 1 and 1 in s.layers:
                gain = accuracy - accuracies(found, mixer, 1)
                run.measure(f"depth_gain_{layers}_{cell}", gain, unit="points")
    for mixer in s.controls:
        run.measure(f"copying_accuracy_{mixer}_{deepest}", accuracies(found, mixer, deepest), unit="%")
    if "diagonal_ssm" in s.controls:
        control = accuracies(found, "diagonal_ssm", deepest)
        for mixer, cell in CELLS.items():
            gap = accuracies(found, mixer, deepest, s.control_steps) - control
            run.measure(f"control_gap_{cell}", gap, unit="points")
        if "s6" in s.controls:
            run.measure("control_gap_s6", accuracies(found, "s6", deepest) - control, unit="points")


def at_main_length(settings: Settings, results: list[list[CopyingResult]]) -> list[CopyingResult]:
    """The results of Tables 1 and 2, without those of the further lengths."""
    further = len(settings.long_lengths) * len(CELLS)
    return [result for job in results[: len(results) - further] for result in job]


def accuracies(
    results: Sequence[CopyingResult], mixer: str, layers: int, step: int | None = None
) -> np.ndarray:
    """Accuracy in percent by seed, (seeds,), at the last evaluation or at the last one up to ``step``."""
    chosen = [r for r in results if (r.architecture.mixer, r.architecture.n_layers) == (mixer, layers)]
    return np.array([100 * r.history.accuracy_at(step) for r in sorted(chosen, key=lambda r: r.seed)])


def tables(settings: Settings, results: list[list[CopyingResult]]) -> dict[str, pd.DataFrame]:
    """``depth``: accuracy by seed. ``gates``: :func:`gate_table`. ``controls``: Table 2 with a column measured here. ``longer``: the further lengths."""
    found, deepest = at_main_length(settings, results), max(settings.layers)
    by_seed = [
        {
            "model": LABELS[r.architecture.mixer],
            "layers": r.architecture.n_layers,
            "seed": r.seed,
            "accuracy (%)": r.accuracy,
        }
        for r in found
        if r.architecture.mixer in CELLS
    ]
    depth = pd.DataFrame(by_seed).pivot_table(
        index=["model", "layers"], columns="seed", values="accuracy (%)"
    )
    rows = []
    for mixer in (*CELLS, *settings.controls):
        interval = mean_interval(accuracies(found, mixer, deepest, settings.control_steps))
        rows.append(
            {
                "model": LABELS[mixer],
                "paper, T = 4096 (%)": REPORTED.get(mixer, "–"),
                "measured here (%)": interval.mean,
                "95 % low": interval.low,
                "95 % high": interval.high,
                "seeds": interval.n,
                "weights": next(r.parameters for r in found
                                if (r.architecture.mixer, r.architecture.n_layers) == (mixer, deepest)),
            }
        )  # fmt: skip
    longer = [
        {"model": LABELS[r.architecture.mixer], "seed": r.seed, "accuracy (%)": r.accuracy}
        for job in results[len(results) - len(settings.long_lengths) * len(CELLS) :]
        for r in job
    ]
    return {
        "depth": depth.reset_index(),
        "gates": gate_table(found),
        "controls": pd.DataFrame(rows),
        "longer": pd.DataFrame(longer),
    }


def gate_table(results: Sequence[CopyingResult]) -> pd.DataFrame:
    """Two-layer minGRUs by seed: how well layer 1 counts, and how much the order of a data token says about each layer's gates."""
    rows = [
        {
            "seed": r.seed,
            "count, untrained (R²)": r.untrained.count_r2,
            "count, trained (R²)": r.trained.count_r2,
            "layer 1: gates explained by order (%)": 100 * r.trained.explained[0],
            "layer 2: gates explained by order (%)": 100 * r.trained.explained[1],
        }
        for r in results
        if (r.architecture.mixer, r.architecture.n_layers) == ("min_gru", 2) and r.untrained and r.trained
    ]
    return pd.DataFrame(rows)


def figures(settings: Settings, results: list[list[CopyingResult]]) -> dict[str, Figure]:
    """``depth``: accuracy and learning curves by depth. ``gates``: what the layers of two-layer minGRUs do, by seed."""
    found = [r for r in at_main_length(settings, results) if r.architecture.mixer in CELLS]
    drawn = {"depth": depth_figure(found)}
    two_layers = [r for r in found if (r.architecture.mixer, r.architecture.n_layers) == ("min_gru", 2)]
    if two_layers and all(r.trained for r in two_layers):
        drawn["gates"] = gate_figure(two_layers)
    return drawn


def depth_figure(results: Sequence[CopyingResult]) -> Figure:
    """Left: accuracy against depth with every seed as a dot. Right: learning curves, mean over seeds."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    for place, mixer in enumerate(CELLS):
        own = [r for r in results if r.architecture.mixer == mixer]
        for depth in sorted({r.architecture.n_layers for r in own}):
            chosen = [r for r in own if r.architecture.n_layers == depth]
            x = depth + 0.12 * (place - 0.5)
            _draw_interval(left, x, [r.accuracy for r in chosen], mixer, named=depth == 1)
            curve = 100 * np.mean([r.history.accuracy for r in chosen], axis=0)
            right.plot(
                chosen[0].history.steps, curve, ls=[":", "--", "-"][min(depth, 3) - 1], color=style_of(mixer).colour,
                label=f"{LABELS[mixer]}, {depth} layer{'s' if depth > 1 else ''}",
            )  # fmt: skip
    for ax in (left, right):
        ax.axhline(100 * CHANCE, color="0.5", lw=1, ls="-.")
    left.set(xlabel="layers", ylabel="accuracy on fresh sequences (%)", ylim=(0, 105))
    left.set_title("Depth, with 95 % intervals")
    left.set_xticks(sorted({r.architecture.n_layers for r in results}))
    left.legend(loc="upper left")
    right.set(xlabel="training steps", title="Learning curves (mean over seeds; chance dash-dotted)")
    right.legend(fontsize=8)
    return fig


def _draw_interval(ax: Axes, x: float, values: Sequence[float], mixer: str, named: bool) -> None:
    """Seeds as dots, and their mean with its interval as a diamond."""
    interval = mean_interval(values)
    error = [[interval.mean - interval.low], [interval.high - interval.mean]] if interval.n > 1 else None
    ax.plot([x] * len(values), values, "o", ms=4, alpha=0.6, color=style_of(mixer).colour)
    ax.errorbar(
        x, interval.mean, yerr=error, fmt="D", ms=8, capsize=5, color=style_of(mixer).colour,
        label=LABELS[mixer] if named else None,
    )  # fmt: skip


def gate_figure(results: Sequence[CopyingResult]) -> Figure:
    """Two-layer minGRUs. Left: layer 1 counts. Right: layer 2 treats the first data token differently; all seeds thin, mean thick."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2))
    trained = [r.trained for r in results if r.trained is not None]
    numbers = np.arange(len(trained[0].counted))
    for reading in trained:
        mean, spread = reading.counted.T
        left.errorbar(numbers, mean, yerr=spread, fmt="o", ms=4, capsize=3, color=PALETTE[0], alpha=0.6)
    left.plot(numbers, numbers, color="0.4", lw=1, ls="--")
    left.set(xlabel="data tokens read so far", ylabel="read from layer 1's state by a linear map")
    left.set_title("Layer 1 counts")
    order = numbers[1:]
    for layer, marker in enumerate("os"):
        curves = [reading.openings[layer].mean(-1) for reading in trained]
        for curve in curves:
            right.plot(order, curve, color=PALETTE[layer], alpha=0.35, lw=0.8)
        label = f"layer {layer + 1}"
        right.plot(order, np.mean(curves, axis=0), marker=marker, color=PALETTE[layer], lw=2, label=label)
    right.set(xlabel="order of the data token in its sequence", ylabel="mean gate z (1 writes, 0 keeps)")
    right.set_ylim(-0.02, 1.02)
    right.set_title("What each layer does with the first, second, … data token")
    right.legend()
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
    return fig
