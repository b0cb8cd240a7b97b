"""Figures of the experiments on enumerable problems; captions live in the notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

from lib.ddpp import gb1
from lib.ddpp.enumerated import SteeredRun
from lib.ddpp.experiments import GB1, Prediction, Prior, of, present
from lib.figures import PALETTE
from lib.statistics import mean_interval

COLOURS = {
    "IS": PALETTE[1],
    "LB": PALETTE[0],
    "KL": PALETTE[2],
    "KL, path gradient": PALETTE[7],
    "RTB": PALETTE[3],
    "sub-trajectory": PALETTE[4],
    "weighted CE": PALETTE[6],
    "LB, mixed buffer": PALETTE[5],
    "IS, mixed buffer": PALETTE[5],
    "LB, on-policy": PALETTE[5],
    "IS, on-policy": PALETTE[5],
}
MARKERS = dict(zip(COLOURS, "^ovPs*DXXXX", strict=True))


def maps_figure(
    priors: Mapping[str, Prior], runs: Sequence[SteeredRun], methods: Sequence[str], seed: int
) -> Figure:
    """F1: exact laws on the grid, one row per task: prior, target, and the tuned sampler of each method with one seed."""
    columns = ["prior", "target π", *methods]
    fig, axes = plt.subplots(
        len(priors), len(columns), figsize=(1.85 * len(columns), 2.15 * len(priors) + 0.3), squeeze=False
    )
    for number, (name, prior) in enumerate(priors.items()):
        row = axes[number]
        side = prior.problem.n_symbols
        peak = float(prior.target.max())
        norm = LogNorm(1e-3 * peak, peak, clip=True)
        laws: list[tuple[Tensor, str]] = [(prior.law, ""), (prior.target, "")]
        for method in methods:
            own = [r for r in of(runs, method, name) if r.seed == seed]
            laws.append((own[0].law, f"TV {own[0].last.tv:.3f}\nKL {own[0].last.kl:.3f}"))
        for ax, (law, text), column in zip(row, laws, columns, strict=True):
            picture = law.reshape(side, side).numpy()
            image = ax.imshow(picture, origin="lower", norm=norm, cmap="viridis", interpolation="nearest")
            ax.grid(False)
            ax.set_xticks([0, side // 2], ["0", str(side // 2)], fontsize=8)
            ax.set_yticks([0, side // 2], ["0", str(side // 2)], fontsize=8)
            ax.set_title(column if number == 0 else "", fontsize=10)
            ax.set_xlabel(text or "$x^2$", fontsize=8)
        row[0].set_ylabel(f"{name}\n$x^1$", fontsize=9)
        fig.colorbar(image, ax=list(row), fraction=0.012, pad=0.01).ax.tick_params(labelsize=7)
    return fig


def budget_figure(runs: Sequence[SteeredRun], problems: Sequence[str]) -> Figure:
    """F3: exact total variation against model calls and against reward calls, log axes; mean over seeds, bands are ranges."""
    fig, axes = plt.subplots(len(problems), 2, figsize=(11, 3.9 * len(problems)), sharey="row", squeeze=False)
    for row, problem in zip(axes, problems, strict=True):
        for ax, attribute, label in zip(
            row, ("calls", "reward_calls"), ("model calls", "reward calls"), strict=True
        ):
            for method in present(runs, problem):
                own = of(runs, method, problem)
                x = np.array(getattr(own[0], attribute)[1:])
                tv = np.array([[d.tv for d in r.distances[1:]] for r in own])
                colour = COLOURS[method]
                ax.fill_between(x, tv.min(0), tv.max(0), color=colour, alpha=0.15, lw=0)
                ax.plot(x, tv.mean(0), color=colour, marker=MARKERS[method], ms=5, label=method)
            ax.set(xscale="log", yscale="log", xlabel=f"{label} per sequence of a batch")
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
        row[0].set_ylabel(f"{problem}: exact TV to the target")
        row[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def bias_figure(found: Sequence[Prediction], curve: Sequence[Mapping[str, Any]]) -> Figure:
    """T2 as a picture: trained against predicted total variation to the target (left), and the prediction against interaction (right)."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.4))
    families = {"strings": "o", "corner": "s", "half plane": "^", "half plane, diagonal data": "v", GB1: "D"}
    shown: set[str] = set()
    for p in found:
        if p.predicted.tv < 1e-6:  # the weighted cross-entropy has no bias to predict
            continue
        family = "strings" if p.problem.startswith("strings") else p.problem
        interval = mean_interval([d.tv for d in p.trained])
        left.errorbar(
            p.predicted.tv,
            interval.mean,
            yerr=interval.error_bar,
            fmt=families[family],
            color=COLOURS[p.method],
            ms=7,
            capsize=3,
        )
        shown.add(family)
    low, high = 7e-4, 0.5
    left.plot([low, high], [low, high], color="0.5", ls="--", lw=1)
    left.set(
        xscale="log",
        yscale="log",
        xlabel="TV to the target, predicted without training",
        ylabel="TV to the target, trained",
        ylim=(1e-3, 0.6),
        xlim=(low, high),
    )
    handles = [
        plt.Line2D([], [], marker=m, ls="", color="0.4", label=name)
        for name, m in families.items()
        if name in shown
    ]
    methods = [m for m in COLOURS if any(p.method == m and p.predicted.tv >= 1e-6 for p in found)]
    handles += [plt.Line2D([], [], marker="o", ls="", color=COLOURS[m], label=m) for m in methods]
    left.legend(handles=handles, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    frame = pd.DataFrame(curve)
    for method, own in frame.groupby("objective", sort=False):
        right.plot(own["coupling"], own["tv"], color=COLOURS[str(method)], label=f"{method}, predicted")
    for p in found:
        if p.problem.startswith("strings"):
            coupling = float(p.problem.rsplit(" ", 1)[1])
            right.plot(
                [coupling] * len(p.trained),
                [d.tv for d in p.trained],
                MARKERS[p.method],
                color=COLOURS[p.method],
                ms=5,
                alpha=0.7,
            )
    right.set(xlabel="strength of the interaction in log R", ylabel="exact TV to the target")
    right.legend()
    return fig


def log_z_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """F2: learned against exact log Z_t (left), and error of every estimate by number of masks (right)."""
    frame = pd.DataFrame(rows)
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), width_ratios=(1, 1.5))
    learned = next(name for name in frame["estimate"].unique() if name.startswith("learned"))
    own = frame[frame["estimate"] == learned]
    for masks, part in own.groupby("masks"):
        left.scatter(
            part["exact"],
            part["exact"] + part["error"],
            s=9,
            alpha=0.5,
            color=PALETTE[int(masks) % len(PALETTE)],
            label=f"{masks} of {int(own['masks'].max())} masked",
        )
    ends = [float(own["exact"].min()), float(own["exact"].max())]
    left.plot(ends, ends, color="0.4", lw=1, ls="--")
    left.set(xlabel="exact log $Z_t$ (nats)", ylabel=f"log $Z_t$, {learned} (nats)")
    left.legend(fontsize=8)
    colours = PALETTE[: frame["estimate"].nunique()]
    sns.boxplot(
        frame, x="masks", y="error", hue="estimate", fliersize=1.5, linewidth=0.8, ax=right, palette=colours
    )
    right.axhline(0, color="0.3", lw=1)
    right.set(xlabel="masked tokens in $x_t$", ylabel="estimate − exact log $Z_t$ (nats)", ylim=(-3, 2))
    right.legend(fontsize=8, loc="lower left", title=None)
    return fig


def frequency_figure(
    landscape: gb1.Landscape, prior: Prior, runs: Sequence[SteeredRun], methods: Sequence[str], seed: int
) -> Figure:
    """F5: frequency of every variant under each sampler against its measured frequency in the selected library, log-log."""
    names = ["base", *methods]
    fig, axes = plt.subplots(1, len(names), figsize=(3.1 * len(names), 3.4), sharex=True, sharey=True)
    selected = landscape.selected_law.numpy()
    seen = selected > 0
    for ax, name in zip(axes, names, strict=True):
        law = (
            prior.law if name == "base" else next(r.law for r in of(runs, name, GB1) if r.seed == seed)
        ).numpy()
        image = ax.hexbin(
            selected[seen],
            law[seen],
            xscale="log",
            yscale="log",
            gridsize=45,
            bins="log",
            cmap="viridis",
            mincnt=1,
        )
        ends = [selected[seen].min(), selected.max()]
        ax.plot(ends, ends, color=PALETTE[3], lw=1, ls="--")
        tv = 0.5 * np.abs(law - selected).sum()
        ax.set_title(f"{name}\nTV to the measured library {tv:.3f}", fontsize=9)
        ax.set(xlabel="measured frequency", ylim=(1e-10, 1e-1))
    axes[0].set_ylabel("frequency under the sampler")
    fig.colorbar(image, ax=list(axes), label="variants in a cell", fraction=0.03)
    return fig


def logo_figure(landscape: gb1.Landscape, laws: Mapping[str, Tensor]) -> Figure:
    """F5: sequence logos of the four sites; heights are information in bits, (log2 V − entropy) times the share."""
    import logomaker

    fig, axes = plt.subplots(1, len(laws), figsize=(2.9 * len(laws), 2.8), sharey=True)
    for ax, (name, law) in zip(axes, laws.items(), strict=True):
        shares = landscape.site_shares(law)  # (4, V)
        bits = np.log2(shares.shape[1]) + np.sum(shares * np.log2(np.clip(shares, 1e-12, None)), 1)
        frame = pd.DataFrame(shares * bits[:, None], columns=list(landscape.alphabet))
        logomaker.Logo(frame, ax=ax, color_scheme="chemistry")
        ax.set_xticks(range(len(gb1.SITES)), gb1.SITES)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("site")
        ax.grid(False)
    axes[0].set_ylabel("information (bits)")
    return fig


def steps_figure(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """T-step bias: exact total variation between the law with T steps and its limit, for several denoisers."""
    fig, ax = plt.subplots(figsize=(7, 4))
    for i, (name, rows) in enumerate(curves.items()):
        ax.plot(
            [r["T"] for r in rows], [r["tv"] for r in rows], "os^D"[i % 4] + "-", color=PALETTE[i], label=name
        )
    ax.set(xscale="log", yscale="log", xlabel="denoising steps T", ylabel="TV to the limit of many steps")
    ax.legend()
    return fig


def selection_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Best-of-N against SIR-N: exact total variation to the target, by N."""
    fig, axes = plt.subplots(1, len(curves), figsize=(5.2 * len(curves), 3.9), sharey=True, squeeze=False)
    for ax, (name, rows) in zip(axes[0], curves.items(), strict=True):
        frame = pd.DataFrame(rows)
        for i, (selection, own) in enumerate(frame.groupby("selection", sort=False)):
            ax.plot(own["N"], own["tv"], "os"[i] + "-", color=PALETTE[(3, 0)[i]], label=selection)
        ax.set(xscale="log", xlabel="base samples N per kept sample", title=name)
    axes[0, 0].set_ylabel("exact TV to the target")
    axes[0, 0].legend()
    return fig


def gumbel_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Entropy lost to single-precision Gumbel noise against the number of steps, for several laws of a token."""
    fig, ax = plt.subplots(figsize=(7, 4))
    frame = pd.DataFrame(rows)
    for i, (name, own) in enumerate(frame.groupby("law", sort=False)):
        ax.plot(own["T"], own["loss"], "os^"[i % 3] + "-", color=PALETTE[i], label=name)
    ax.set(xscale="log", xlabel="denoising steps T", ylabel="entropy lost (nats)")
    ax.legend()
    return fig
