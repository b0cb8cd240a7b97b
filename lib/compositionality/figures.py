"""The chapter's figures: each function takes tables and returns a matplotlib figure; captions live in the notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.by_seed import paired
from lib.compositionality.experiments import SKILL_TASKS, pick, rank_correlations, separation
from lib.compositionality.grammar import degrees_of_freedom, entropy_bits
from lib.compositionality.kolmogorov import official_name
from lib.compositionality.shuffles import MODES
from lib.figures import PALETTE
from lib.statistics import mean_interval

SHORT = {
    "coherent": "coherent",
    "glued": "official\nshuffle",
    "dot": "stop\nfixed",
    "inner": "word and\nstop fixed",
}
MODE_COLOURS = {"coherent": PALETTE[0], "glued": PALETTE[3], "dot": PALETTE[2], "inner": PALETTE[4]}
K_COLOURS = {1: "#08306b", 2: "#2171b5", 3: "#6baed6", 4: "#fd8d3c"}
"""Dark to light with k, the least compositional set apart in orange."""

_NUMBERS = {
    "id": r"intrinsic dimension $I_d$ (TwoNN)",
    "d": "linear dimension $d$ (PCA, 99 %)",
    "pr": "participation ratio",
}


def _curve(
    ax: plt.Axes,
    x: Sequence[float] | np.ndarray,
    values: pd.DataFrame,
    label: str | None,
    colour: Any,
    style: str,
) -> None:
    """Mean over the columns' rows with a 95 % band; values has one row per seed and one column per x."""
    intervals = [mean_interval(values[column].dropna()) for column in values.columns]
    ax.plot(x, [i.mean for i in intervals], style, marker="o", ms=4, color=colour, label=label)
    if all(i.n > 1 for i in intervals):
        ax.fill_between(
            x, [i.low for i in intervals], [i.high for i in intervals], color=colour, alpha=0.13, lw=0
        )


def _step_axis(ax: plt.Axes, steps: Sequence[float]) -> np.ndarray:
    """Log axis of 1 + step with the steps themselves as labels; returns the places."""
    x = 1 + np.asarray(steps, dtype=float)
    ax.set_xscale("log")
    shown = [s for i, s in enumerate(steps) if i == 0 or np.log10((1 + s) / (1 + steps[i - 1])) > 0.16]
    ax.set_xticks([1 + s for s in shown], [f"{s:g}" for s in shown], fontsize=9)
    ax.minorticks_off()
    ax.set_xlabel("training step (log scale of 1 + step)")
    return x


def dataset_figure(sizes: pd.DataFrame, official: Mapping[str, int] | None) -> Figure:
    """Left: which slots share an index, for every k. Right: gzip bytes by k, with entropy of the sentences above."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.3), width_ratios=[3, 2])
    slots = ["quality", "nation", "job", "verb", "size", "texture", "colour", "animal", "verb", "size", "quality", "nation", "job"]  # fmt: skip
    for row, k in enumerate((1, 2, 3, 4)):
        for slot in range(13):
            group = slot // k
            left.barh(row, 0.96, left=slot + 0.02, height=0.62, color=PALETTE[group % 8], alpha=0.85)
            left.text(slot + 0.5, row, str(group + 1), ha="center", va="center", color="white", fontsize=9)
        bits = f"{degrees_of_freedom(k)} choices\n{entropy_bits(k):.1f} bits"
        left.text(13.2, row, bits, va="center", fontsize=9)
    left.set_yticks(range(4), [f"k = {k}" for k in (1, 2, 3, 4)])
    left.set_xticks(np.arange(13) + 0.5, slots, rotation=60, fontsize=9)
    left.set(
        xlim=(0, 16.5), xlabel="slot of the sentence", title="Slots of one colour share one choice of 50"
    )
    left.invert_yaxis()
    left.grid(False)
    ks = sorted(sizes["k"].unique())
    for place, mode in enumerate(("coherent", "glued")):
        own = sizes[sizes["mode"] == mode].sort_values("k")
        x = np.array(ks) + (place - 0.5) * 0.36
        right.bar(
            x, own["bytes"] / 1000, width=0.34, color=MODE_COLOURS[mode], label=SHORT[mode].replace("\n", " ")
        )
        if official is not None:
            marks = [official[official_name(k, mode == "glued")] / 1000 for k in ks]
            label = "released size" if place == 0 else None
            right.plot(x, marks, "D", color="white", mec="black", ms=6, label=label)
    right.set_xticks(ks)
    right.set(xlabel="coupling k", ylabel="gzip size of 8000 sentences (kB)", title="Compressed size")
    right.legend(fontsize=9, loc="upper left", bbox_to_anchor=(0, -0.16), ncol=3)
    return fig


def layer_figure(frame: pd.DataFrame, steps: Sequence[int], bag: pd.DataFrame | None) -> Figure:
    """I_d (top) and d (bottom) by layer at several steps: coherent solid, officially shuffled dashed, one colour per k."""
    fig, axes = plt.subplots(
        2, len(steps), figsize=(4 * len(steps), 7), sharex=True, sharey="row", squeeze=False
    )
    layers = sorted(frame["layer"].unique())
    ks = sorted(frame["k"].unique())
    for column, step in enumerate(steps):
        for row, value in enumerate(("id", "d")):
            ax = axes[row, column]
            for k in ks:
                for mode, style in (("coherent", "-"), ("glued", "--")):
                    own = frame[(frame["step"] == step) & (frame["mode"] == mode) & (frame["k"] == k)]
                    table = own.pivot_table(index="seed", columns="layer", values=value)
                    _curve(ax, layers, table, None, K_COLOURS[k], style)
                if bag is not None and row == 0 and column == len(steps) - 1:
                    level = bag[bag["k"] == k]["id"].mean()
                    ax.plot(layers[-1] + 0.35, level, "<", color=K_COLOURS[k], ms=8, clip_on=False)
            ax.set_xticks(layers if len(layers) <= 12 else layers[:: len(layers) // 8])
            if row == 0:
                ax.set_title("untrained (step 0)" if step == 0 else f"step {step}")
            else:
                ax.set_xlabel("layer")
        axes[0, column].set_xlim(layers[0] - 0.3, layers[-1] + 0.6)
    axes[0, 0].set_ylabel(_NUMBERS["id"])
    axes[1, 0].set_ylabel(_NUMBERS["d"])
    for ax in axes[:, 0]:
        ax.set_ylim(bottom=0)
    handles = [Line2D([], [], color=K_COLOURS[k], label=f"k = {k}") for k in ks]
    handles += [
        Line2D([], [], color="0.3", ls=s, label=m) for s, m in (("-", "coherent"), ("--", "official shuffle"))
    ]
    if bag is not None:
        handles.append(Line2D([], [], color="0.3", ls="", marker="<", label="bag of words, no model"))
    fig.legend(handles=handles, loc="outside lower center", ncol=4, fontsize=10)
    return fig


def training_figure(frame: pd.DataFrame, history: pd.DataFrame, zero_shot: pd.DataFrame | None) -> Figure:
    """Top left: separation by step for all orders of words. Bottom left: skill. Top right: I_d by layer. Bottom right: Pythia's skill."""
    fig, axes = plt.subplots(2, 2, figsize=(12, 8))
    steps = sorted(frame["step"].unique())
    (apart, layers_ax), (skill_ax, real) = axes
    x = _step_axis(apart, steps)
    for mode, colour in MODE_COLOURS.items():
        curves = paired(*(separation(pick(frame, mode=mode, step=s)) for s in steps)).T
        _curve(apart, x, pd.DataFrame(curves, columns=steps), SHORT[mode].replace("\n", " "), colour, "-")
    apart.axhline(0, color="black", lw=0.8)
    apart.set(ylabel="$I_d$(smallest k) − $I_d$(largest k)", title="Separation by k, last layer")
    apart.legend(fontsize=9)
    apart.set_ylim(top=1.12 * apart.get_ylim()[1])
    x = _step_axis(layers_ax, steps)
    k = int(frame["k"].min())
    layers = sorted(frame["layer"].unique())
    for i, layer in enumerate(layers):
        own = frame[(frame["mode"] == "coherent") & (frame["k"] == k) & (frame["layer"] == layer)]
        table = own.pivot_table(index="seed", columns="step", values="id")
        shade = plt.get_cmap("viridis")(0.15 + 0.7 * i / max(1, len(layers) - 1))
        _curve(layers_ax, x, table, f"layer {layer}", shade, "-")
    layers_ax.set(ylabel=_NUMBERS["id"], title=f"Coherent text, k = {k}, by layer")
    layers_ax.legend(fontsize=8, ncol=1 + len(layers) // 9)
    x = _step_axis(skill_ax, steps)
    if not history.empty:
        table = history.pivot_table(index="seed", columns="step", values="skill")
        _curve(skill_ax, x, table, "share of right answers", PALETTE[0], "-")
        skill_ax.axhline(1 / 50, color="0.5", ls=":", label="chance")
        skill_ax.legend(fontsize=9)
    skill_ax.set(ylim=(-0.03, 1.03), ylabel="skill (accuracy)", title="Skill of the model trained here")
    if zero_shot is None:
        real.text(0.5, 0.5, "Pythia's accuracies: real data needed", ha="center", transform=real.transAxes)
        real.set_axis_off()
        return fig
    steps = sorted(zero_shot["step"].unique())
    x = _step_axis(
        real, [s for s in steps if s in (0, 1, 4, 16, 64, 256, 1000, 4000, 13_000, 33_000, 143_000)]
    )
    for i, task in enumerate(SKILL_TASKS):
        own = zero_shot[(zero_shot["task"] == task) & (zero_shot["model_size"] == "6.9b")].sort_values("step")
        real.errorbar(1 + own["step"], own["acc"], yerr=own["acc_stderr"], marker="osD^"[i], ms=4, color=PALETTE[i], label=task)  # fmt: skip
    real.axvline(1001, color="black", lw=1, ls="--")
    real.text(880, 0.9, "step 1000", ha="right", fontsize=9)
    real.set(
        ylabel="zero-shot accuracy", ylim=(-0.03, 1.03), title="Pythia 6.9b (released accuracies, ± s.e.)"
    )
    real.tick_params(axis="x", rotation=45)
    real.legend(fontsize=8, loc="upper left")
    return fig


def width_figure(frame: pd.DataFrame) -> Figure:
    """I_d and d at the last step, mean over layers, against the model's width; log-log, with lines of slope 0 and 1."""
    fig, axes = plt.subplots(1, 2, figsize=(12, 4.6))
    last = frame[frame["step"] == frame["step"].max()]
    widths = sorted(last["width"].unique())
    for ax, value in zip(axes, ("id", "d"), strict=True):
        for k in sorted(last["k"].unique()):
            for mode, style in (("coherent", "-"), ("glued", "--")):
                own = pick(last, "mean", mode=mode, k=k)
                table = own.pivot_table(index="seed", columns="width", values=value)
                label = f"k = {k}" if mode == "coherent" else None
                _curve(ax, widths, table, label, K_COLOURS[k], style)
        ax.set(xscale="log", yscale="log", xlabel="width D of the model (channels)", ylabel=_NUMBERS[value])
        ax.set_xticks(widths, [str(w) for w in widths])
        low, high = ax.get_ylim()
        ticks = [
            t for t in (2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 200, 500, 1000, 2000) if low <= t <= high
        ]
        ax.set_yticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
    axes[1].plot(widths, widths, color="0.4", ls=":", label="d = D")
    for ax in axes:
        ax.legend(fontsize=9, title="solid: coherent, dashed: official shuffle", title_fontsize=8)
    axes[0].set_title("Nonlinear")
    axes[1].set_title("Linear")
    return fig


def surface_figure(table: pd.DataFrame) -> Figure:
    """Dimensions against gzip size over the data sets, with Spearman's ρ (mean over seeds) and the number of data sets."""
    fig, axes = plt.subplots(1, 2, figsize=(12, 4.6))
    rho = rank_correlations(table)
    for ax, value in zip(axes, ("id", "d"), strict=True):
        for mode, marker in (("coherent", "o"), ("glued", "s")):
            for k in sorted(table["k"].unique()):
                own = table[(table["mode"] == mode) & (table["k"] == k)]
                interval = mean_interval(own[value])
                label = f"k = {k}, {SHORT[mode]}".replace("\n", " ")
                ax.errorbar(own["bytes"].iloc[0] / 1000, interval.mean, yerr=interval.error_bar, fmt=marker, ms=8, capsize=4,
                            color=K_COLOURS[k], mfc=K_COLOURS[k] if mode == "coherent" else "white", label=label)  # fmt: skip
        ax.set(xlabel="gzip size of 8000 sentences (kB)", ylabel=_NUMBERS[value])
        ax.set_title(f"Spearman ρ = {rho[f'rho_{value}'].mean():.2f} (n = {int(rho['n'].iloc[0])} data sets)")
    axes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def last_token_figure(frame: pd.DataFrame, neighbors: pd.DataFrame, groups: pd.DataFrame) -> Figure:
    """Left two: I_d of every order of words, untrained and trained. Right: I_d within groups of equal last token."""
    fig, axes = plt.subplots(1, 3, figsize=(13, 4.8), width_ratios=[1, 1, 1.15])
    modes = [m for m in MODES if m in set(frame["mode"])]
    top = 0.0
    for ax, step in zip(axes, (frame["step"].min(), frame["step"].max()), strict=False):
        for k in sorted(frame["k"].unique()):
            table = pd.DataFrame(
                {m: pick(frame, mode=m, step=step, k=k).set_index("seed")["id"] for m in modes}
            )
            intervals = [mean_interval(table[m]) for m in modes]
            means = [i.mean for i in intervals]
            error = [[i.mean - i.low for i in intervals], [i.high - i.mean for i in intervals]]
            shift = np.arange(len(modes)) + 0.12 * (k - 2.5)
            ax.errorbar(shift, means, yerr=error if intervals[0].n > 1 else None, fmt="o", ms=6, capsize=3,
                        color=K_COLOURS[k], label=f"k = {k}")  # fmt: skip
            top = max(top, *(i.high if i.n > 1 else i.mean for i in intervals))
        ax.set_xticks(range(len(modes)), [SHORT[m] for m in modes], fontsize=9)
        near = neighbors[neighbors["step"] == step].groupby("mode")["share"].mean()
        for place, mode in enumerate(modes):
            ax.text(place, 0.4, f"{100 * near[mode]:.0f} %", ha="center", fontsize=9, color="0.35")
        ax.set_title("untrained (step 0)" if step == 0 else f"trained (step {step})")
        ax.grid(axis="x", visible=False)
    for ax in axes[:2]:
        ax.set_ylim(0, 1.18 * top)
    axes[0].set_ylabel(_NUMBERS["id"])
    axes[0].legend(fontsize=9, ncol=2, loc="upper left")
    right = axes[2]
    if groups.empty:
        right.set_axis_off()
        return fig
    last = groups[groups["step"] == groups["step"].max()]
    ks = sorted(last["k"].unique())
    kinds = (("id_coherent", "coherent", MODE_COLOURS["coherent"]), ("id_mixed", "shuffled, any last token", MODE_COLOURS["glued"]),
             ("id", "shuffled, one last token", PALETTE[1]))  # fmt: skip
    names = [*dict.fromkeys(last["token"])]
    for place, k in enumerate(ks):
        for j, (column, label, colour) in enumerate(kinds):
            means = [last[(last["k"] == k) & (last["token"] == t)][column].mean() for t in names]
            x = np.arange(len(names)) + place * (len(names) + 1)
            right.bar(
                x + 0.27 * (j - 1), means, width=0.25, color=colour, label=label if place == 0 else None
            )
    sizes = [last[(last["k"] == k) & (last["token"] == t)]["n"].mean() for k in ks for t in names]
    ticks = [i + p * (len(names) + 1) for p in range(len(ks)) for i in range(len(names))]
    labels = [
        f"{'stop' if t == '.' else t}\n({n:.0f})" for (t, n) in zip(names * len(ks), sizes, strict=True)
    ]
    right.set_xticks(ticks, labels, fontsize=9)
    right.set_xlabel("last token (number of sentences)")
    right.set(
        title="Within one last token (" + " | ".join(f"k = {k}" for k in ks) + ")", ylabel="$I_d$ at equal N"
    )
    right.grid(axis="x", visible=False)
    right.legend(fontsize=8, loc="upper right")
    right.set_ylim(top=1.45 * right.get_ylim()[1])
    return fig


def scale_figure(scales: pd.DataFrame, bag: pd.DataFrame) -> Figure:
    """GRIDE at every order of neighbours, last layer, last step: a panel per order of words, and the bag of words."""
    last = scales[scales["step"] == scales["step"].max()]
    modes = [m for m in ("coherent", "glued", "dot") if m in set(last["mode"])]
    fig, axes = plt.subplots(1, len(modes) + 1, figsize=(3.4 * (len(modes) + 1), 4.3), sharey=True)
    panels = [*((SHORT[m].replace("\n", " "), last[last["mode"] == m]) for m in modes), ("bag of words", bag)]
    for ax, (title, own) in zip(axes, panels, strict=True):
        for k in sorted(own["k"].unique()):
            table = own[own["k"] == k].pivot_table(index="seed", columns="order", values="id")
            _curve(ax, list(table.columns), table, f"k = {k}", K_COLOURS[k], "-")
        ax.set(xscale="log", xlabel="order n of $r_{2n}/r_n$", title=title)
        orders = sorted(own["order"].unique())
        ax.set_xticks(orders, [str(o) for o in orders])
        ax.minorticks_off()
    axes[0].set_ylabel("intrinsic dimension (GRIDE)")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=9)
    return fig


def size_figure(sizes: pd.DataFrame) -> Figure:
    """I_d and d of the last layer against the number of sentences N."""
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    for ax, value in zip(axes, ("id", "d"), strict=True):
        for mode in sizes["mode"].unique():
            for k, style in zip(sorted(sizes["k"].unique()), ("-", "--"), strict=False):
                own = sizes[(sizes["mode"] == mode) & (sizes["k"] == k)].sort_values("n")
                label = f"{SHORT[mode]}, k = {k}".replace("\n", " ")
                ax.plot(own["n"], own[value], style, marker="o", color=MODE_COLOURS[mode], label=label)
        ns = sorted(sizes["n"].unique())
        ax.set(xscale="log", xlabel="number of sentences N", ylabel=_NUMBERS[value])
        ax.set_xticks(ns, [str(n) for n in ns])
        ax.minorticks_off()
        ax.set_ylim(bottom=0)
        ax.set_ylim(top=1.06 * ax.get_ylim()[1])
    axes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def freedom_figure(frame: pd.DataFrame, bag: pd.DataFrame) -> Figure:
    """I_d of coherent text against the degrees of freedom G of the sentences: untrained, trained, and the bag of words."""
    fig, ax = plt.subplots(figsize=(7.5, 4.5))
    ks = sorted(frame["k"].unique())
    freedom = [degrees_of_freedom(k) for k in ks]
    for label, own, colour in (
        ("untrained", pick(frame, mode="coherent", step=frame["step"].min()), PALETTE[6]),
        ("trained", pick(frame, mode="coherent", step=frame["step"].max()), PALETTE[0]),
        ("bag of words", pick(bag), PALETTE[1]),
    ):
        table = own.pivot_table(index="seed", columns="k", values="id")[ks]
        _curve(ax, freedom, table, label, colour, "-")
    ax.plot(freedom, freedom, color="0.4", ls=":", label="$I_d = G$")
    ax.set(xlabel="degrees of freedom G = ⌈13/k⌉", ylabel=_NUMBERS["id"], ylim=(0, None))
    ax.set_xticks(freedom, [f"{g}\n(k = {k})" for g, k in zip(freedom, ks, strict=True)])
    ax.legend()
    return fig


def length_figure(frame: pd.DataFrame) -> Figure:
    """Left: I_d(coherent) − I_d(shuffled) at k = 1 against sentence length. Right: d(k = 1) − d(k = 2), coherent."""
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    last = frame[frame.groupby("words")["layer"].transform("max") == frame["layer"]]
    one = last[last["k"] == 1].pivot_table(index=["seed", "words"], columns="mode", values="id")
    gap = (one["coherent"] - one["glued"]).unstack("words")
    _curve(axes[0], list(gap.columns), gap, None, PALETTE[0], "-")
    axes[0].set(ylabel="$I_d$ coherent − $I_d$ shuffled, k = 1", xlabel="words in a sentence")
    both = last[(last["mode"] == "coherent") & last["k"].isin((1, 2))].pivot_table(
        index=["seed", "words"], columns="k", values="d"
    )
    if {1, 2} <= set(both.columns):
        fall = (both[1] - both[2]).dropna().unstack("words")
        _curve(axes[1], list(fall.columns), fall, None, PALETTE[1], "-")
    axes[1].set(ylabel="d(k = 1) − d(k = 2), coherent", xlabel="words in a sentence")
    for ax in axes:
        ax.axhline(0, color="black", lw=0.8)
    return fig
