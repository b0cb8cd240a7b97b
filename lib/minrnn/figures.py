"""The chapter's figures: each function takes results and returns a matplotlib figure; captions live in the notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.figures import PALETTE
from lib.minrnn.decision_model import DecisionResult
from lib.minrnn.efficiency import Timing, log_speedups
from lib.minrnn.formal_languages import FormalResult
from lib.minrnn.language_model import TextResult
from lib.minrnn.parameter_count import Share
from lib.minrnn.precision import PrecisionPoint
from lib.minrnn.selective_copying import BLANK, CHANCE, PREDICT, CopyingResult
from lib.statistics import mean_interval

MIXER_LABELS = {
    "min_gru": "minGRU",
    "min_lstm": "minLSTM",
    "s6": "S6 (Mamba)",
    "diagonal_ssm": "S4-type control",
    "attention": "Decision Transformer",
    "memoryless": "memoryless MLP",
    "gru": "GRU",
    "lstm": "LSTM",
    "tanh_gate": "tanh gate",
}


def parameter_figure(shares: Sequence[Share]) -> Figure:
    """Bars of counted shares, dots of the paper's percentages, lines of the formula, against α."""
    frame = pd.DataFrame([{"α = d_h / d_x": s.alpha, "cell": s.cell, "share": 100 * s.ratio} for s in shares])
    fig, ax = plt.subplots()
    sns.barplot(frame, x="α = d_h / d_x", y="share", hue="cell", ax=ax, width=0.7)
    for i, cell in enumerate(("minGRU", "minLSTM")):
        own = [s for s in shares if s.cell == cell]
        x = np.arange(len(own)) + (i - 0.5) * 0.35
        ax.plot(x, [100 * s.formula for s in own], color="black", lw=1, label="formula" if i == 0 else None)
        ax.plot(
            x, [s.reported_percent for s in own], "D", color="white", mec="black", ms=6,
            label="paper (rounded)" if i == 0 else None,
        )  # fmt: skip
    ax.set(ylabel="share of the full cell's weights (%)", title="What dropping h from the gates saves")
    ax.legend(title=None)
    return fig


def speed_figure(timings: Sequence[Timing], limits: Mapping[int, float], batch: int) -> Figure:
    """Left: time per training step against T, log-log, with the copy limit as a band. Right: minGRU and minLSTM against baselines.

    Args:
        limits: length → seconds of the copy limit of minGRU.
    """
    frame = pd.DataFrame([{"model": t.model, "length": t.length, "ms": 1e3 * t.seconds} for t in timings])
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
    models = list(dict.fromkeys(frame["model"]))
    markers = dict(zip(models, "oosXPDv^<>"[: len(models)], strict=False))
    sns.lineplot(
        frame, x="length", y="ms", hue="model", style="model", markers=markers, dashes=False, estimator="median",
        errorbar=("pi", 100), ax=left, palette=sns.color_palette([*PALETTE, "#000000", "#7f3b08"], len(models)),
    )  # fmt: skip
    lengths = sorted(limits)
    floor = frame["ms"].min() / 200
    left.fill_between(
        lengths, floor, [1e3 * limits[n] for n in lengths], color="0.8", label="below the copy limit"
    )
    left.set(xscale="log", yscale="log", xlabel="sequence length T (steps)", ylabel="training step (ms)")
    left.set_title(f"Forward, loss and backward, batch {batch}")
    left.set_ylim(bottom=floor)
    left.legend(fontsize=8, title=None, loc="upper left", bbox_to_anchor=(0, -0.15), ncol=2)
    present = {t.model for t in timings}
    for colour, (model, cell) in enumerate((("minGRU", "GRU"), ("minLSTM", "LSTM"))):
        for style, baseline in (("-", "step loop"), ("--", "fused")):
            if f"{cell}, {baseline}" not in present:
                continue
            speedups = log_speedups(timings, model, f"{cell}, {baseline}")
            _ratio_line(right, speedups, f"{model} over {baseline} {cell}", PALETTE[colour], style)
    copy = {
        n: np.log([limits[n] / t.seconds for t in timings if t.model == "minGRU" and t.length == n])
        for n in lengths
    }
    _ratio_line(right, copy, "minGRU over the copy limit", "0.4", ":")
    right.axhline(1, color="black", lw=0.8)
    right.set(xscale="log", yscale="log", xlabel="sequence length T (steps)", ylabel="speed-up (×)")
    right.set_title("Against three baselines")
    right.legend(fontsize=8, title=None, loc="upper left", bbox_to_anchor=(0, -0.15), ncol=2)
    for ax in (left, right):
        ax.set_xticks(lengths, [str(n) for n in lengths])
        ax.minorticks_off()
    return fig


def _ratio_line(ax: plt.Axes, logs: Mapping[int, np.ndarray], label: str, colour: str, style: str) -> None:
    lengths = sorted(logs)
    intervals = [mean_interval(logs[n]) for n in lengths]
    ax.plot(lengths, [np.exp(i.mean) for i in intervals], style, marker="o", ms=4, color=colour, label=label)
    if all(i.n > 1 for i in intervals):
        ax.fill_between(
            lengths,
            [np.exp(i.low) for i in intervals],
            [np.exp(i.high) for i in intervals],
            color=colour,
            alpha=0.15,
        )


def memory_figure(saved: Mapping[tuple[str, int], float], length: int) -> Figure:
    """Bytes kept for the backward pass per token: bars at one length, and against T."""
    frame = pd.DataFrame([{"model": m, "length": n, "bytes": b} for (m, n), b in saved.items()])
    at = frame[frame["length"] == length].sort_values("bytes")
    fig, (ax, right) = plt.subplots(1, 2, figsize=(12, 4.8), width_ratios=[3, 2])
    ours = at["model"].str.startswith("min")
    ax.barh(at["model"], at["bytes"], color=[PALETTE[0] if o else PALETTE[6] for o in ours])
    for y, value in enumerate(at["bytes"]):
        ax.text(value * 1.05, y, f"{value:.0f}", va="center", fontsize=9)
    ax.set(xscale="log", xlabel="bytes saved for backward, per token (log scale)", ylabel="")
    ax.set_title(f"Memory of a training step, T = {length}, float32")
    limit = at["bytes"].max() * 2.5
    ax.set_xlim(right=limit)
    ticks = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
    ax.set_xticks([t for t in ticks if at["bytes"].min() / 2 < t < limit])
    ax.xaxis.set_major_formatter("{x:.0f}")
    shown = ["minGRU", "minGRU, log-space scan", "GRU, step loop", "S6"]
    for i, model in enumerate(shown):
        line = frame[frame["model"] == model].sort_values("length")
        right.plot(line["length"], line["bytes"], marker="osD^"[i], color=PALETTE[i], label=model)
    lengths = sorted(set(frame["length"]))
    right.set(xscale="log", yscale="log", xlabel="sequence length T (steps)", ylabel="bytes per token")
    right.set_xticks(lengths, [str(n) for n in lengths])
    right.set_title("Per token the price is the same at every T")
    right.legend(fontsize=9)
    for panel in (ax, right):
        panel.minorticks_off()
    return fig


def depth_figure(results: Sequence[CopyingResult]) -> Figure:
    """Left: accuracy against depth with every seed as a dot. Right: learning curves, mean over seeds."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    for colour, mixer in enumerate(dict.fromkeys(r.architecture.mixer for r in results)):
        own = [r for r in results if r.architecture.mixer == mixer]
        layers = sorted({r.architecture.n_layers for r in own})
        x = np.array(layers) + 0.12 * (colour - 0.5)
        for shift, depth in zip(x, layers, strict=True):
            values = [r.accuracy for r in own if r.architecture.n_layers == depth]
            interval = mean_interval(values)
            left.plot([shift] * len(values), values, "o", ms=4, alpha=0.6, color=PALETTE[colour])
            error = (
                [[interval.mean - interval.low], [interval.high - interval.mean]] if interval.n > 1 else None
            )
            left.errorbar(
                shift, interval.mean, yerr=error, fmt="D", ms=8, capsize=5, color=PALETTE[colour],
                label=MIXER_LABELS[mixer] if depth == layers[0] else None,
            )  # fmt: skip
            curves = np.array([r.history.accuracy for r in own if r.architecture.n_layers == depth])
            steps = next(r.history.steps for r in own if r.architecture.n_layers == depth)
            right.plot(
                steps, 100 * curves.mean(0), ls=[":", "--", "-"][min(depth, 3) - 1], color=PALETTE[colour],
                label=f"{MIXER_LABELS[mixer]}, {depth} layer{'s' if depth > 1 else ''}",
            )  # fmt: skip
    for ax in (left, right):
        ax.axhline(100 * CHANCE, color="0.5", lw=1, ls="-.")
    left.set(
        xlabel="layers",
        ylabel="accuracy on fresh sequences (%)",
        title="Depth, with 95 % intervals",
        ylim=(0, 105),
    )
    left.set_xticks(sorted({r.architecture.n_layers for r in results}))
    left.legend(loc="upper left")
    right.set(xlabel="training steps", title="Learning curves (mean over seeds; chance dash-dotted)")
    right.legend(fontsize=8)
    return fig


def gate_figure(result: CopyingResult) -> Figure:
    """Mean gate opening of every layer over one sequence; data tokens and answers marked below.

    Raises:
        ValueError: if the result holds no gates (another mixer than minGRU).
    """
    if result.openings is None or result.sequence is None:
        raise ValueError("gates are recorded for minGRU only")
    tokens, openings = result.sequence, result.openings
    fig, ax = plt.subplots(figsize=(10, 4.2))
    time = np.arange(1, len(tokens) + 1)
    for layer, z in enumerate(openings):
        ax.plot(time, z, marker="os^"[layer % 3], ms=5, color=PALETTE[layer], label=f"layer {layer + 1}")
    for t, token in zip(time, tokens, strict=True):
        data = token not in (BLANK, PREDICT)
        if data:
            ax.axvspan(t - 0.5, t + 0.5, color=PALETTE[7], alpha=0.3, lw=0)
        text = "·" if token == BLANK else "?" if token == PREDICT else str(token)
        ax.text(float(t), -0.07, text, ha="center", fontsize=9, weight="bold" if data else "normal")
    ax.set_ylim(-0.12, 1.02)
    ax.set(
        xlabel="position t (· blank, ? answer asked for, numbers: data)",
        ylabel="mean gate z (1 writes, 0 keeps)",
    )
    ax.set_title("Where each layer of minGRU writes")
    ax.legend()
    return fig


def bias_figure(results: Mapping[str, Sequence[CopyingResult]], option: Mapping[str, str]) -> Figure:
    """Learning curves for each initial gate bias, one panel per mixer; mean over seeds.

    Args:
        results: mixer → results. option: mixer → name of its bias option.
    """
    fig, axes = plt.subplots(1, len(results), figsize=(12, 4.2), sharey=True, squeeze=False)
    for ax, (mixer, own) in zip(axes[0], results.items(), strict=True):
        biases = sorted({dict(r.architecture.options)[option[mixer]] for r in own})
        colours = sns.color_palette("viridis", len(biases))
        for colour, bias in zip(colours, biases, strict=True):
            chosen = [r for r in own if dict(r.architecture.options)[option[mixer]] == bias]
            for r in chosen:
                ax.plot(r.history.steps, 100 * np.array(r.history.accuracy), color=colour, alpha=0.35, lw=0.8)
            mean = 100 * np.mean([r.history.accuracy for r in chosen], axis=0)
            ax.plot(chosen[0].history.steps, mean, color=colour, lw=2.2, label=f"bias {bias:+g}")
        ax.set(xlabel="training steps", ylabel="accuracy (%)")
        ax.set_title(f"{MIXER_LABELS[mixer]}: {option[mixer].replace('_', ' ')} at initialisation")
        ax.legend()
    return fig


def text_figure(results: Sequence[TextResult], bigram: float) -> Figure:
    """Test loss against steps, and against floating-point operations; bands are the range over seeds."""
    rows = [
        {
            "model": r.model,
            "seed": r.seed,
            "step": s,
            "loss": x,
            "flops": s * r.tokens_per_step * r.flops_per_token,
        }
        for r in results
        for s, x in zip(r.history.steps, r.history.loss, strict=True)
    ]
    frame = pd.DataFrame(rows)
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    for ax, x, label in (
        (left, "step", "training steps"),
        (right, "flops", "tokens × operations per token (FLOP)"),
    ):
        sns.lineplot(
            frame, x=x, y="loss", hue="model", style="model", errorbar=("pi", 100), ax=ax, markers=True,
            dashes=False, ms=5, legend="auto" if ax is left else False,
        )  # fmt: skip
        ax.axhline(bigram, color="0.5", ls="--", lw=1)
        ax.set(xlabel=label, ylabel="test loss (nats per character)")
    left.text(left.get_xlim()[1], bigram, "bigram table", ha="right", va="bottom", fontsize=9, color="0.3")
    left.legend(title=None)
    left.set_title("Equal steps and tokens")
    right.set_title("Equal computation")
    return fig


def decision_figure(results: Sequence[DecisionResult], behaviour: Mapping[str, float]) -> Figure:
    """Normalised score by model and data set: seeds as dots, mean with 95 % interval, mean of the behaviour as a line."""
    sets = list(dict.fromkeys(r.data_set for r in results))
    models = list(dict.fromkeys(r.model for r in results))
    fig, axes = plt.subplots(1, len(sets), figsize=(4 + 4 * len(sets), 4.2), sharey=True, squeeze=False)
    for ax, data_set in zip(axes[0], sets, strict=True):
        for i, model in enumerate(models):
            values = [r.score for r in results if r.data_set == data_set and r.model == model]
            interval = mean_interval(values)
            ax.plot([i] * len(values), values, "o", ms=4, alpha=0.6, color=PALETTE[i])
            error = (
                [[interval.mean - interval.low], [interval.high - interval.mean]] if interval.n > 1 else None
            )
            ax.errorbar(i, interval.mean, yerr=error, fmt="D", ms=8, capsize=5, color=PALETTE[i])
        ax.axhline(behaviour[data_set], color="0.4", ls="--", lw=1)
        ax.text(
            len(models) - 0.5,
            behaviour[data_set],
            "data's mean",
            ha="right",
            va="bottom",
            fontsize=9,
            color="0.3",
        )
        ax.set_xticks(range(len(models)), [MIXER_LABELS[m].replace(" ", "\n") for m in models])
        ax.set(
            ylabel="score (0 random, 100 expert)",
            title=f"pendulum {data_set}",
            xlim=(-0.6, len(models) - 0.4),
        )
    return fig


def hidden_velocity_figure(full: Sequence[DecisionResult], hidden: Sequence[DecisionResult]) -> Figure:
    """Held-out action error of models with memory and without, with the full state and with the velocity hidden."""
    rows = [
        {"model": MIXER_LABELS[r.model], "error": r.action_error, "the model sees": what}
        for what, results in (("position and velocity", full), ("position only", hidden))
        for r in results
    ]
    fig, ax = plt.subplots()
    frame = pd.DataFrame(rows)
    sns.barplot(frame, x="the model sees", y="error", hue="model", errorbar=None, ax=ax, alpha=0.55)
    sns.stripplot(frame, x="the model sees", y="error", hue="model", dodge=True, ax=ax, legend=False, size=6)
    ax.set(ylabel="held-out action error (root mean square, Nm)", title="Who needs a memory?", xlabel="")
    ax.legend(title=None)
    return fig


def precision_figure(points: Sequence[PrecisionPoint]) -> Figure:
    """Largest relative error of each engine in float32 against |Σ log a|, log-log."""
    fig, ax = plt.subplots()
    for i, engine in enumerate(dict.fromkeys(p.engine for p in points)):
        own = [p for p in points if p.engine == engine]
        name = "heinsen (the paper's log-space scan)" if engine == "heinsen" else f"{engine} (linear space)"
        ax.plot(
            [p.log_decay for p in own],
            [p.error for p in own],
            marker="osD^"[i % 4],
            color=PALETTE[i],
            label=name,
        )
    spacing = np.array(sorted({p.log_decay for p in points}))
    ax.plot(spacing, 1.2e-7 * spacing, color="0.4", ls="--", lw=1, label="1.2·10⁻⁷ · |Σ log a|")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="|Σ log a| over the sequence",
        ylabel="largest relative error, float32",
    )
    ax.set_title("The log-space scan is the inaccurate one")
    ax.legend()
    return fig


def formal_figure(results: Sequence[FormalResult], task: str, longest: int) -> Figure:
    """Accuracy against test length for each model of one task; the training lengths are shaded."""
    fig, ax = plt.subplots()
    own = [r for r in results if r.task == task]
    for i, (mixer, layers) in enumerate(dict.fromkeys((r.mixer, r.n_layers) for r in own)):
        chosen = [r for r in own if (r.mixer, r.n_layers) == (mixer, layers)]
        lengths = sorted(chosen[0].accuracy)
        for r in chosen:
            ax.plot(lengths, [r.accuracy[n] for n in lengths], color=PALETTE[i], alpha=0.35, lw=0.8)
        mean = [np.mean([r.accuracy[n] for r in chosen]) for n in lengths]
        label = f"{MIXER_LABELS[mixer]}, {layers} layer{'s' if layers > 1 else ''}"
        # the first model's line is drawn wide, so that one that coincides with it can be seen on top
        width, size, alpha = (6, 12, 0.6) if i == 0 else (2, 6, 1)
        marker = "osD^v"[i % 5]
        ax.plot(lengths, mean, marker=marker, color=PALETTE[i], lw=width, ms=size, alpha=alpha, label=label)
    ticks = sorted({n for r in own for n in r.accuracy})
    limits = (ticks[0] * 0.8, ticks[-1] * 1.2)
    ax.axvspan(limits[0], longest, color="0.9", lw=0, zorder=0)
    ax.text(longest, 3, " trained lengths end here", fontsize=9, color="0.3")
    ax.set(
        xscale="log",
        xlabel="length of the string (symbols)",
        ylabel="accuracy (%)",
        ylim=(0, 105),
        xlim=limits,
    )
    ax.set_xticks(ticks, [str(n) for n in ticks])
    ax.minorticks_off()
    ax.set_title(f"Task {task.replace('_', ' ')}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig
