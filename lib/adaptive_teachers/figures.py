"""Figures of the experiments on the grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lib.adaptive_teachers.deceptive_grid import DeceptiveGrid
from lib.adaptive_teachers.experiments import of_method, present
from lib.adaptive_teachers.grid_methods import METHODS
from lib.adaptive_teachers.stacked_training import GridResult
from lib.figures import PALETTE
from lib.statistics import mean_interval

MAIN = ("TB", "ε-noisy", "GAFN", "PRT", "PER", "Teacher", "Teacher + PER", "Teacher + PRT")
COLOURS = {
    "TB": PALETTE[6],
    "ε-noisy": PALETTE[5],
    "GAFN": PALETTE[4],
    "PRT": PALETTE[2],
    "PER": PALETTE[7],
    "Teacher": PALETTE[3],
    "Teacher + PER": PALETTE[0],
    "Teacher + PRT": PALETTE[1],
}
MARKERS = dict(zip(MAIN, "osv^PD*X", strict=True))


def _picture(grid: DeceptiveGrid, law: np.ndarray) -> np.ndarray:
    """A law of a 2-dimensional grid as an image, blank where no episode ends."""
    image = law.reshape(grid.side, grid.side).copy()
    image[~grid.is_terminal.cpu().numpy().reshape(grid.side, grid.side)] = np.nan
    return image


def maps_figure(grid: DeceptiveGrid, result: GridResult, moments: Sequence[int]) -> Figure:
    """Exact laws of Student and Teacher at four moments of one training, beside the target.

    Student and target are shown as probabilities, the Teacher relative to the uniform law, from a thirtieth to thirty times it.
    """
    fig, axes = plt.subplots(2, len(moments) + 1, figsize=(12, 5.2))
    target = grid.target.cpu().numpy()
    norm = LogNorm(target[target > 0].min() / 3, 3 * target.max())
    pictures: list[tuple[Axes, np.ndarray, str]] = [(axes[0, 0], target, "target")]
    relative: list[tuple[Axes, np.ndarray, str]] = []
    for column, moment in enumerate(moments, start=1):
        student, teacher = result.laws[moment]
        pictures.append((axes[0, column], student, f"Student, {result.calls[moment]:,} calls"))
        many = teacher * len(grid.terminals)
        relative.append((axes[1, column], many, f"Teacher, {result.calls[moment]:,} calls"))
    for kind, scale, colours, label in (
        (pictures, norm, "viridis", "Student, target:\nprobability"),
        (relative, LogNorm(1 / 30, 30), "vlag", "Teacher: probability\nover the uniform law's"),
    ):
        for ax, law, title in kind:
            image = ax.imshow(_picture(grid, law).T, origin="lower", norm=scale, cmap=colours)
            ax.set_title(title, fontsize=10)
            ax.grid(False)
            ax.set(xlabel="$s_1$", ylabel="$s_2$")
            ax.set_xticks([0, grid.side // 2, grid.side - 1])
            ax.set_yticks([0, grid.side // 2, grid.side - 1])
        row = axes[0 if kind is pictures else 1]
        fig.colorbar(image, ax=list(row), location="right", fraction=0.04, label=label)
    axes[1, 0].axis("off")
    return fig


def _thousands(ax: Axes) -> None:
    """Write large numbers of the horizontal axis as 4k, 8k, …"""
    if ax.get_xlim()[1] > 5000:
        ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")


def _curves(ax: Axes, results: Sequence[GridResult], method: str, axis: str, curve: str) -> None:
    own = of_method(results, method)
    values = np.array([r.curves[curve] for r in own])  # (seeds, evaluations)
    x = (
        np.array(own[0].calls)
        if axis == "calls"
        else np.array(own[0].student_steps) + np.array(own[0].teacher_steps)
    )
    ax.fill_between(x, values.min(0), values.max(0), color=COLOURS[method], alpha=0.15, lw=0)
    ax.plot(x, values.mean(0), color=COLOURS[method], marker=MARKERS[method], ms=5, label=method)


def modes_figure(results: Sequence[GridResult]) -> Figure:
    """Modes visited against reward calls (left) and against network updates (right); mean and range over seeds."""
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    for ax, axis, label in zip(axes, ("calls", "updates"), ("reward calls", "network updates"), strict=True):
        for method in present(results, MAIN):
            _curves(ax, results, method, axis, "modes")
        ax.axhline(results[0].n_modes, color="0.4", ls="--", lw=1)
        ax.set(xlabel=label, title=f"against {label}")
        _thousands(ax)
    axes[0].set_ylabel(f"modes visited in training (of {results[0].n_modes})")
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def _strip(ax: Axes, groups: dict[str, list[float]]) -> None:
    """Seeds as dots and the mean with its 95 % interval, one row per group."""
    for y, (name, values) in enumerate(groups.items()):
        colour = COLOURS.get(name.split(" (")[0], PALETTE[6])
        interval = mean_interval(values)
        ax.plot(values, [y] * len(values), "o", ms=4, color=colour, alpha=0.5)
        ax.errorbar(interval.mean, y, xerr=interval.error_bar, fmt="D", ms=6, capsize=4, color=colour)
    ax.set_yticks(range(len(groups)), list(groups))
    ax.invert_yaxis()


def final_figure(results: Sequence[GridResult], floor: float) -> Figure:
    """What each method ends with: modes visited, exact total variation, and the paper's sampled L1 with its noise floor."""
    fig, axes = plt.subplots(1, 3, figsize=(12, 4.6), sharey=True)
    methods = present(results, [m for m in METHODS if m in MAIN or "2x" in m])
    columns = [
        (f"modes visited (of {results[0].n_modes})", lambda r: r.last("modes")),
        ("exact total variation", lambda r: r.last("tv")),
        ("sampled L1", lambda r: r.l1),
    ]
    for ax, (label, read) in zip(axes, columns, strict=True):
        _strip(ax, {m: [read(r) for r in of_method(results, m)] for m in methods})
        ax.set_xlabel(label)
    axes[2].axvline(floor, color="0.3", ls="--")
    axes[2].text(floor, -0.55, " perfect sampler", fontsize=9, va="bottom", color="0.3")
    axes[2].ticklabel_format(axis="x", style="sci", scilimits=(0, 0))
    axes[2].set_xlim(left=0)
    return fig


def fit_figure(results: Sequence[GridResult]) -> Figure:
    """Exact total variation and the error of log Z along training."""
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.3))
    for ax, curve, label in zip(
        axes, ("tv", "log_z_error"), ("exact total variation", "|log Z error| (nats)"), strict=True
    ):
        for method in present(results, MAIN):
            _curves(ax, results, method, "calls", curve)
        ax.set(xlabel="reward calls", ylabel=label)
        _thousands(ax)
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def unvisited_figure(results: Sequence[GridResult]) -> Figure:
    """Exact mass on modes not yet visited: Teacher, Student, and the untrained net, geometric mean over seeds that still have any."""
    fig, ax = plt.subplots()
    own = of_method(results, "Teacher")
    series = (
        ("teacher", "Teacher", 3, "D"),
        ("student", "Student", 0, "o"),
        ("untrained", "untrained net", 6, "s"),
    )
    for key, label, colour, marker in series:
        values = np.array([r.curves[f"unvisited_{key}"] for r in own])
        for row in values:
            ax.plot(own[0].calls, row, color=PALETTE[colour], alpha=0.25, lw=0.8)
        some = np.isfinite(values).any(0)
        mean = np.array([np.nanmean(values[:, i]) for i in np.flatnonzero(some)])
        ax.plot(np.array(own[0].calls)[some], mean, color=PALETTE[colour], marker=marker, label=label)
    ax.set(xlabel="reward calls", ylabel="log mass on unvisited modes (nats)")
    _thousands(ax)
    ax.legend()
    return fig


def combinations_figure(results: Sequence[GridResult]) -> Figure:
    """Modes and exact total variation with the Teacher and without it, in each combination of claim C5."""
    pairs = (
        ("plain", "TB", "Teacher"),
        ("replay (PER)", "PER", "Teacher + PER"),
        ("replay (PRT)", "PRT", "Teacher + PRT"),
        ("local search", "TB + local search", "Teacher + local search"),
        ("detailed balance", "DB", "Teacher, DB"),
    )
    rows: list[dict[str, Any]] = [
        {
            "combination": name,
            "Teacher": label,
            "modes": r.last("modes"),
            "tv": r.last("tv"),
        }
        for name, without, with_teacher in pairs
        for label, method in (("without", without), ("with", with_teacher))
        if present(results, (without, with_teacher)) == [without, with_teacher]
        for r in of_method(results, method)
    ]
    frame = pd.DataFrame(rows)
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True)
    colours = {"without": PALETTE[6], "with": PALETTE[3]}
    for ax, column, label in zip(
        axes,
        ("modes", "tv"),
        (f"modes visited (of {results[0].n_modes})", "exact total variation"),
        strict=True,
    ):
        sns.barplot(
            frame, y="combination", x=column, hue="Teacher", errorbar=None, alpha=0.55, ax=ax, palette=colours
        )
        sns.stripplot(
            frame,
            y="combination",
            x=column,
            hue="Teacher",
            dodge=True,
            size=5,
            legend=False,
            ax=ax,
            palette=colours,
        )
        ax.set(xlabel=label, ylabel="")
    axes[0].get_legend().remove()
    axes[1].legend(title="Teacher", loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def ablation_figure(results: Sequence[GridResult]) -> Figure:
    """Share of modes visited by the Teacher for each pair (C, α): a heat map of means, with the range over seeds."""
    teachers = [r for r in results if r.run.method == "Teacher"]
    frame = pd.DataFrame([{"C": r.run.asymmetry, "α": r.run.mixing, "share": r.mode_share} for r in teachers])
    grouped = frame.groupby(["α", "C"])["share"]
    mean = grouped.mean().unstack()
    text = (
        grouped.agg(lambda v: f"{v.mean():.2f}\n({v.min():.2f}–{v.max():.2f}, n={len(v)})")
        .unstack()
        .fillna("")
    )
    fig, ax = plt.subplots(figsize=(max(4.5, 1.6 * mean.shape[1] + 2), max(2.4, 1.1 * mean.shape[0] + 1.2)))
    sns.heatmap(
        mean, annot=text, fmt="", cmap="viridis", vmin=0, vmax=1, ax=ax, cbar_kws={"label": "share of modes"}
    )
    ax.set(xlabel="asymmetry C", ylabel="mixing α")
    return fig


def border_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """F2: distance between the target and what the official loss is minimised by, against the side of the grid."""
    fig, ax = plt.subplots()
    for i, dim in enumerate(sorted({r["d"] for r in rows})):
        own = sorted((r for r in rows if r["d"] == dim), key=lambda r: r["H"])
        ax.plot(
            [r["H"] for r in own],
            [r["tv"] for r in own],
            marker="os^"[i % 3],
            color=PALETTE[i],
            label=f"d = {dim}",
        )
    ticks = sorted({r["H"] for r in rows})
    ax.set(xscale="log", yscale="log", xlabel="side H of the grid", ylabel="exact TV of optimum and target")
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.legend()
    return fig


def floor_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """F3: the L1 of a perfect sampler on each grid, with the paper's values where they are known."""
    fig, ax = plt.subplots(figsize=(8, 4.2))
    names = [f"({r['d']}, {r['H']})" for r in rows]
    ax.plot(
        names,
        [r["floor"] for r in rows],
        "_",
        ms=28,
        mew=4,
        color=PALETTE[6],
        label="perfect sampler, computed",
    )
    reported = {(2, 256): (9.4e-6, 1.55e-5), (4, 32): (1.634e-6, 1.664e-6)}
    labelled = False
    for name, row in zip(names, rows, strict=True):
        values = reported.get((row["d"], row["H"]), ())
        ax.plot(
            [name] * len(values),
            values,
            "D",
            color=PALETTE[3],
            label=None if labelled or not values else "paper, reported",
        )
        labelled = labelled or bool(values)
    ax.set(yscale="log", xlabel="grid (d, H)", ylabel="L1 with 100,000 samples")
    ax.legend()
    return fig
