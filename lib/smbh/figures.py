"""The chapter's figures. Each function takes numbers and returns a matplotlib figure; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.figures import PALETTE
from lib.smbh.calibration import CalibrationCurve
from lib.smbh.constraint_based import MarkedGraph
from lib.smbh.equivalence_classes import TopClasses
from lib.smbh.galaxies import TYPE_NAMES, TYPE_SHORT, Sample
from lib.smbh.permutation import PermutationTest
from lib.smbh.power import PowerPoint

LABELS = {
    "M_bh": r"$M_\bullet$",
    "sigma0": r"$\sigma_0$",
    "Re": r"$R_e$",
    "Sigma_e": r"$\langle\Sigma\rangle_e$",
    "Mstar": r"$M_*$",
    "sSFR": "sSFR",
    "W2W3": "W2−W3",
    "DL": r"$D_L$",
    "n_sph": r"$n_{sph}$",
    "W1W2": "W1−W2",
    "Mbulge": r"$M_{bulge}$",
}
UNITS = {
    "M_bh": "log M☉",
    "sigma0": "log km/s",
    "Re": "log kpc",
    "Sigma_e": "log density",
    "Mstar": "log M☉",
    "sSFR": "log 1/yr",
    "W2W3": "mag",
}
COLOURS = {"ell": PALETTE[3], "len": PALETTE[2], "spr": PALETTE[0]}
MARKERS = {"ell": "o", "len": "s", "spr": "^"}


def pairplot(samples: Mapping[str, Sample]) -> Figure:
    """Every variable against every other one, coloured by type."""
    variables = next(iter(samples.values())).variables
    names = [f"{LABELS[v]}\n[{UNITS[v]}]" for v in variables]
    frames = [
        pd.DataFrame(s.values, columns=names).assign(type=TYPE_SHORT[t])  # (N, n + 1)
        for t, s in samples.items()
    ]
    with plt.rc_context({"figure.constrained_layout.use": False}):  # the grid brings its own layout
        grid = sns.pairplot(
            pd.concat(frames, ignore_index=True),
            hue="type",
            corner=True,
            height=1.25,
            diag_kind="hist",
            palette={TYPE_SHORT[t]: COLOURS[t] for t in samples},
            markers=[MARKERS[t] for t in samples],
            plot_kws={"s": 14, "alpha": 0.8},
            diag_kws={"bins": 12, "element": "step"},
        )
    for ax in grid.axes.flat:
        if ax is not None:
            ax.xaxis.set_major_locator(MaxNLocator(2))
            ax.yaxis.set_major_locator(MaxNLocator(3))
    sns.move_legend(grid, "upper right", bbox_to_anchor=(0.85, 0.95), title="", fontsize=13, markerscale=2)
    return grid.figure


def _heat(ax: Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], size: float) -> None:
    """Grey cells with their numbers; cells that are no marginal (NaN) stay white and empty."""
    ax.imshow(values, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value > 0.5 else "black"
            text = ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=size, color=colour)
            text.set_in_layout(False)  # it lies inside its cell: no need to measure it
    ax.grid(False)
    ax.set_xticks(range(len(columns)), columns, fontsize=9)
    ax.set_yticks(range(len(rows)), rows, fontsize=9)


def marginal_maps(
    edges: Mapping[str, np.ndarray],
    paths: Mapping[str, np.ndarray],
    variables: Sequence[str],
    names: Mapping[str, str],
) -> Figure:
    """Edge marginals above, path marginals below, one column per sample; rows are causes."""
    columns = len(edges)
    fig, axes = plt.subplots(2, columns, figsize=(3.6 * columns, 7.4), squeeze=False)
    for column, kind in enumerate(edges):
        for row, (title, values) in enumerate((("edge", edges[kind]), ("path", paths[kind]))):
            ax = axes[row, column]
            labels = [LABELS[v] for v in variables]
            shown = np.where(np.eye(len(variables), dtype=bool), np.nan, values)
            _heat(ax, shown, labels, labels, 7.5 if len(variables) > 5 else 10)
            ax.tick_params(axis="x", rotation=60)
            ax.set_title(f"{names[kind]}: {title}")
            ax.set_xlabel("child" if row == 0 else "descendant")
            ax.set_ylabel(("parent" if row == 0 else "ancestor") if column == 0 else "")
    return fig


def cost(rows: Mapping[str, float], residuals: Mapping[int, float]) -> Figure:
    """Seconds per data set, and the largest difference between enumeration and dynamic programme at each size."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), width_ratios=(2, 1))
    names = list(rows)
    left.barh(
        names, [rows[n] for n in names], color=[PALETTE[6] if "quoted" in n else PALETTE[0] for n in names]
    )
    left.set_xscale("log")
    left.invert_yaxis()
    left.set_xlabel("seconds per data set, edges and paths")
    for i, name in enumerate(names):
        left.text(rows[name] * 1.15, i, f"{rows[name]:.3g} s", va="center", fontsize=9)
    left.set_xlim(right=max(rows.values()) * 12)
    right.plot(list(residuals), [max(r, 1e-17) for r in residuals.values()], "o", color=PALETTE[3])
    right.set_yscale("log")
    right.set_ylim(1e-17, 1e-6)
    right.set_xticks(list(residuals))
    right.set_xlabel("variables n")
    right.set_ylabel("largest difference")
    return fig


def rank_curves(probabilities: Mapping[str, np.ndarray], distances: Mapping[str, np.ndarray]) -> Figure:
    """Probability of each graph against its rank, coloured by the distance to the best graph."""
    fig, axes = plt.subplots(
        1, len(probabilities), figsize=(3.6 * len(probabilities), 3.4), sharey=True, squeeze=False
    )
    points = None
    for ax, (kind, p) in zip(axes[0], probabilities.items(), strict=True):
        rank = np.unique(np.geomspace(1, len(p), 1500).astype(int)) - 1
        points = ax.scatter(
            rank + 1, 100 * p[rank], c=distances[kind][rank], s=7, cmap="viridis", vmin=0, vmax=15
        )
        ax.set(xscale="log", yscale="log", title=TYPE_NAMES[kind], xlabel="rank of the graph")
    axes[0, 0].set_ylabel("posterior probability [%]")
    if points is not None:
        fig.colorbar(points, ax=axes[0].tolist(), label="edges apart from the best graph")
    return fig


def _positions(variables: Sequence[str]) -> dict[str, tuple[float, float]]:
    """All variables on one circle, the black hole on top: no edge runs through a third variable."""
    ring = ["M_bh"] + [v for v in variables if v != "M_bh"]
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(ring)) / len(ring)
    return {v: (float(np.cos(a)), float(np.sin(a))) for v, a in zip(ring, angle, strict=True)}


def draw_graph(ax: Axes, edges: Sequence[tuple[str, str, str]], variables: Sequence[str], title: str) -> None:
    """Draw (left, mark, right) edges: ``->`` as an arrow, ``--`` as a line; FCI's circles as dots, ``<->`` with two heads."""
    graph = nx.DiGraph()
    graph.add_nodes_from(variables)
    positions = _positions(variables)
    nx.draw_networkx_nodes(
        graph,
        positions,
        ax=ax,
        node_size=820,
        node_color=["#ffe3b3" if v == "M_bh" else "#e8eef5" for v in variables],
        edgecolors="0.4",
    )
    nx.draw_networkx_labels(graph, positions, {v: LABELS[v] for v in variables}, ax=ax, font_size=8.5)
    styles = {"->": "-|>", "--": "-", "<->": "<|-|>", "o->": "-|>", "o-o": "-", "o-": "-"}
    for left, mark, right in edges:
        nx.draw_networkx_edges(
            graph,
            positions,
            edgelist=[(left, right)],
            ax=ax,
            arrows=True,
            arrowstyle=styles[mark],
            arrowsize=13,
            node_size=820,
            width=1.5,
            edge_color=PALETTE[3] if mark == "<->" else "0.2",
            style="solid" if mark in ("->", "--", "<->") else "dashed",
        )
    ax.set_title(title, fontsize=9.5)
    ax.margins(0.18)
    ax.set_axis_off()


def class_edges(classes: TopClasses, index: int, variables: Sequence[str]) -> list[tuple[str, str, str]]:
    """Edges of one class: compelled ones as arrows, reversible ones as lines."""
    edges = []
    for i, a in enumerate(variables):
        for j, b in enumerate(variables):
            if classes.compelled[index, i, j]:
                edges.append((a, "->", b))
            elif i < j and classes.reversible[index, i, j]:
                edges.append((a, "--", b))
    return edges


def class_graphs(classes: Mapping[str, TopClasses], variables: Sequence[str], best: int = 3) -> Figure:
    """The most probable classes of each type."""
    fig, axes = plt.subplots(len(classes), best, figsize=(3.1 * best, 3.0 * len(classes)), squeeze=False)
    for row, (kind, top) in enumerate(classes.items()):
        for k in range(best):
            title = (
                f"{TYPE_SHORT[kind]}, no. {k + 1}: {100 * top.probability[k]:.2f} % ({top.sizes[k]} graphs)"
            )
            draw_graph(axes[row, k], class_edges(top, k, variables), variables, title)
    return fig


def constraint_graphs(
    graphs: Mapping[tuple[str, str], MarkedGraph], classes: Mapping[str, TopClasses], variables: Sequence[str]
) -> Figure:
    """PC and FCI beside the most probable exact class, one row per type."""
    kinds = list(classes)
    fig, axes = plt.subplots(len(kinds), 3, figsize=(9.3, 3.0 * len(kinds)), squeeze=False)
    for row, kind in enumerate(kinds):
        for column, algorithm in enumerate(("pc", "fci")):
            edges = [(e.split()[0], e.split()[1], e.split()[2]) for e in sorted(graphs[kind, algorithm])]
            draw_graph(axes[row, column], edges, variables, f"{TYPE_SHORT[kind]}: {algorithm.upper()}")
        draw_graph(
            axes[row, 2],
            class_edges(classes[kind], 0, variables),
            variables,
            f"{TYPE_SHORT[kind]}: best exact class",
        )
    return fig


def compelled_bars(
    compelled: Mapping[str, np.ndarray], reversible: Mapping[str, np.ndarray], variables: Sequence[str]
) -> Figure:
    """Mass of the edges at the black hole: oriented by the data (compelled) and by counting graphs (reversible)."""
    kinds = list(compelled)
    fig, axes = plt.subplots(1, len(kinds), figsize=(3.7 * len(kinds), 4.4), sharex=True, squeeze=False)
    hole = list(variables).index("M_bh")
    others = [i for i in range(len(variables)) if i != hole]
    arrows = [(i, hole) for i in others] + [(hole, i) for i in others]
    names = [f"{LABELS[variables[i]]} → {LABELS[variables[j]]}" for i, j in arrows]
    for ax, kind in zip(axes[0], kinds, strict=True):
        fixed = np.array([compelled[kind][a] for a in arrows])
        free = np.array([reversible[kind][a] for a in arrows])
        ax.barh(names, fixed, color=PALETTE[0], label="compelled")
        ax.barh(names, free, left=fixed, color=PALETTE[1], hatch="//", edgecolor="white", label="reversible")
        ax.invert_yaxis()
        ax.set(title=TYPE_NAMES[kind], xlabel="posterior mass", xlim=(0, 1))
        ax.axhline(len(others) - 0.5, color="0.6", lw=0.8)
        if ax is not axes[0, 0]:
            ax.set_yticklabels([])
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside upper center", ncol=2)
    return fig


def omission_strips(
    leaving: Mapping[str, np.ndarray],
    entering: Mapping[str, np.ndarray],
    influential: Sequence[tuple[str, float]],
) -> Figure:
    """Marginals of M_bh -> sigma0 and its reverse with each galaxy left out; names of the most influential spirals."""
    rows = [
        {"type": TYPE_SHORT[t], "edge": name, "marginal": value}
        for t in leaving
        for name, values in (("M∙ → σ₀", leaving[t]), ("σ₀ → M∙", entering[t]))
        for value in values
    ]
    fig, ax = plt.subplots(figsize=(8, 4.2))
    sns.stripplot(
        pd.DataFrame(rows),
        x="type",
        y="marginal",
        hue="edge",
        dodge=True,
        jitter=0.12,
        size=5,
        alpha=0.8,
        ax=ax,
    )
    place = list(leaving).index("spr") if "spr" in leaving else None
    if place is not None:
        above = 1.0
        for name, value in sorted(influential, key=lambda pair: -pair[1]):
            above = min(value, above - 0.045)  # names must not cover each other
            line = {"arrowstyle": "-", "lw": 0.5, "color": "0.5"}
            ax.annotate(
                name, (place - 0.2, value), (place + 0.5, above), fontsize=8, va="center", arrowprops=line
            )
        ax.set_xlim(right=place + 1.0)
    ax.set(ylim=(0, 1), ylabel="edge marginal, one galaxy left out", xlabel="")
    ax.legend(title="", loc="upper left", bbox_to_anchor=(0.2, 1.0))
    return fig


def error_histograms(
    edges: Mapping[str, tuple[np.ndarray, np.ndarray]], paths: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """Marginals of M_bh → sigma0 and of its reverse over error draws: edges filled, paths as dashed outlines."""
    fig, axes = plt.subplots(1, len(edges), figsize=(3.6 * len(edges), 3.2), sharex=True, squeeze=False)
    bins = np.linspace(0, 1, 41).tolist()
    for ax, kind in zip(axes[0], edges, strict=True):
        for k, name in enumerate(("M∙ → σ₀", "σ₀ → M∙")):
            ax.hist(edges[kind][k], bins=bins, alpha=0.55, color=PALETTE[k], label=f"{name}, edge")
            ax.hist(
                paths[kind][k],
                bins=bins,
                histtype="step",
                ls="--",
                lw=1.6,
                color=PALETTE[k],
                label=f"{name}, path",
            )
        ax.set(title=TYPE_NAMES[kind], xlabel="marginal", xlim=(0, 1))
    axes[0, 0].set_ylabel("error draws")
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, fontsize=8.5, loc="outside lower center", ncol=4)
    return fig


def distance_maps(edges: Mapping[str, np.ndarray], variables: Sequence[str]) -> Figure:
    """Rows of M_bh and of distance, and what enters M_bh, in the run with distance."""
    fig, axes = plt.subplots(len(edges), 1, figsize=(6.4, 2.1 * len(edges)), squeeze=False)
    hole, far = list(variables).index("M_bh"), list(variables).index("DL")
    for ax, (kind, values) in zip(axes[:, 0], edges.items(), strict=True):
        shown = np.stack([values[hole], values[far], values[:, hole]])
        shown[0, hole] = shown[1, far] = shown[2, hole] = np.nan
        _heat(ax, shown, ["M∙ → column", "$D_L$ → column", "column → M∙"], [LABELS[v] for v in variables], 9)
        ax.set_title(TYPE_NAMES[kind])
    return fig


def power_curves(curves: Mapping[str, Sequence[PowerPoint]], names: Mapping[str, str]) -> Figure:
    """Lead of the full sample's direction in subsamples, and how often a subsample shows that direction."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6))
    for colour, (kind, points) in zip(PALETTE, curves.items(), strict=False):
        sizes = [p.rows for p in points]
        sign = np.sign(points[0].full_lead)
        mean = np.array([sign * p.leads.mean() for p in points])
        spread = np.array([p.leads.std() for p in points])
        left.plot(sizes, mean, "o-", color=colour, label=names[kind])
        left.fill_between(sizes, mean - spread, mean + spread, color=colour, alpha=0.15)
        left.axhline(abs(points[0].full_lead), color=colour, ls=":", lw=1)
        right.plot(sizes, [p.agreeing / len(p.leads) for p in points], "o-", color=colour, label=names[kind])
    for ax in (left, right):
        ax.axvline(35, color="0.5", lw=0.8, ls="--")
        ax.set(xscale="log", xlabel="galaxies in the subsample")
    left.axhline(0, color="0.3", lw=0.8)
    left.set_ylabel("lead of the full sample's direction")
    right.axhline(0.5, color="0.3", lw=0.8)
    right.set(ylim=(0, 1.02), ylabel="share with that direction")
    right.legend(fontsize=8.5)
    return fig


def gflownet_panels(
    pairs: Sequence[tuple[str, np.ndarray, np.ndarray]],
    curves: Mapping[str, Sequence[tuple[int, float]]],
    seconds: Mapping[int, float],
) -> Figure:
    """Learned against exact marginals; distance of the learned law from the posterior; time of the exact method."""
    fig, (a, b, c) = plt.subplots(1, 3, figsize=(11, 3.6))
    for k, (name, exact, learned) in enumerate(pairs):
        a.scatter(exact, learned, s=14, alpha=0.6, color=PALETTE[k], label=name)
    a.plot([0, 1], [0, 1], color="0.3", lw=0.8)
    a.set(xlabel="exact marginal", ylabel="DAG-GFlowNet marginal", xlim=(0, 1), ylim=(0, 1))
    a.legend(fontsize=8)
    for k, (name, points) in enumerate(curves.items()):
        b.plot([p[0] for p in points], [p[1] for p in points], "o-", ms=4, color=PALETTE[k], label=name)
    b.set(xlabel="optimiser steps", ylabel="total variation to the posterior", ylim=(0, 1))
    b.legend(fontsize=8)
    c.plot(list(seconds), list(seconds.values()), "o-", color=PALETTE[2])
    c.set(yscale="log", xlabel="variables n", ylabel="seconds, exact edge marginals")
    c.set_xticks(list(seconds))
    return fig


def permutation_histogram(test: PermutationTest) -> Figure:
    """Contrasts of shuffled labels with the observed one."""
    fig, ax = plt.subplots(figsize=(7, 3.4))
    ax.hist(test.null, bins=40, color=PALETTE[6])
    ax.axvline(test.observed, color=PALETTE[3], lw=2.5)
    ax.annotate(
        f"real labels\n{test.observed:.2f}",
        (test.observed, ax.get_ylim()[1] * 0.85),
        (-8, 0),
        textcoords="offset points",
        ha="right",
        color=PALETTE[3],
    )
    ax.set(xlabel="contrast of spirals and ellipticals in the lead of M∙ over σ₀", ylabel="permutations")
    return fig


def sensitivity_dots(leads: Mapping[str, Mapping[str, float]]) -> Figure:
    """Lead of sigma0 -> M_bh over its reverse, one row per setting, one mark per type."""
    settings = list(next(iter(leads.values())))
    fig, ax = plt.subplots(figsize=(8, 0.34 * len(settings) + 1.2))
    for kind, values in leads.items():
        ax.plot(
            [values[s] for s in settings],
            settings,
            MARKERS[kind],
            color=COLOURS[kind],
            ms=7,
            label=TYPE_NAMES[kind],
        )
    ax.axvline(0, color="0.3", lw=1)
    ax.invert_yaxis()
    ax.set(xlim=(-1, 1), xlabel="marginal of σ₀ → M∙ minus marginal of M∙ → σ₀")
    ax.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.4, 1.16), ncol=3)
    return fig


def calibration_curves(curves: Mapping[str, CalibrationCurve]) -> Figure:
    """Share of edges that are there against the marginal reported; bars: three binomial standard errors."""
    fig, ax = plt.subplots(figsize=(5.6, 4.6))
    ax.plot([0, 1], [0, 1], color="0.3", lw=0.8)
    for k, (name, curve) in enumerate(curves.items()):
        ax.errorbar(
            curve.reported,
            curve.frequency,
            3 * curve.error,
            fmt="os^D"[k % 4] + "-",
            color=PALETTE[k],
            ms=5,
            label=name,
        )
    ax.set(
        xlabel="edge marginal reported",
        ylabel="share of these edges that are there",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    ax.legend(fontsize=8.5)
    return fig


def descendant_laws(laws: Mapping[str, np.ndarray]) -> Figure:
    """Law of the number of descendants of the black hole; (n,) probabilities for 0, 1, ..., n - 1 per type."""
    fig, ax = plt.subplots(figsize=(7, 3.4))
    width = 0.8 / len(laws)
    for k, (kind, law) in enumerate(laws.items()):
        mean = float(np.arange(len(law)) @ law)
        ax.bar(
            np.arange(len(law)) + (k - (len(laws) - 1) / 2) * width,
            law,
            width,
            color=COLOURS[kind],
            label=f"{TYPE_NAMES[kind]}, mean {mean:.2f}",
        )
    ax.set(xlabel="descendants of the black-hole mass", ylabel="posterior probability")
    ax.legend()
    return fig
