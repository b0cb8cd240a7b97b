"""A compendium of graphs (sections 5 and 6; C4, X2): the most probable graphs and equivalence classes, per type."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.kept_results import Array
from lib.profiles import ParameterError, setting, settings_class
from lib.records import Run
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.constraint_based import MarkedGraph, reported_graph
from lib.smbh.equivalence_classes import shd, top_classes
from lib.smbh.galaxies import BASE, TYPE_NAMES, TYPE_SHORT, TYPES, Sample, Selection, load
from lib.smbh.graph_drawing import class_edges, draw_graph
from lib.smbh.reported import reported

LISTED = 10  # as many classes and graphs as the authors list
DRAWN = 3
POINTS = 1500  # ranks of a curve


@settings_class
class Settings:
    """How far down the list of graphs goes."""

    threshold: float = setting(
        3e-7,
        "probability",
        "graphs at least this probable are listed and grouped into classes",
        above=0.0,
        most=1.0,
    )


PROFILES = {
    "smoke": Settings(threshold=1e-5),
    "default": Settings(),
    "gpu": Settings(),
    "paper": Settings(),
}


@dataclass(frozen=True)
class Compendium:
    """The best classes and graphs of one type.

    Attributes:
        kind: the type.
        classes: (k,) probabilities of the best classes. sizes: (k,) their numbers of graphs.
        compelled, reversible: (k, 7, 7) bool, edges of the classes.
        graphs: (k,) probabilities of the best graphs. covered: mass of all graphs listed.
        rank, probability, distance: (points,) ranks, probabilities, and edges apart from the best graph.
    """

    kind: str
    classes: Array
    sizes: Array
    compelled: Array
    reversible: Array
    graphs: Array
    covered: float
    rank: Array
    probability: Array
    distance: Array


def list_graphs(kind: str, sample: Sample, settings: Settings) -> Compendium:
    """List the graphs of one type that are at least as probable as the threshold, and group them.

    Raises:
        ParameterError: if the list holds fewer classes than are shown.
    """
    top = top_classes(log_scores(standardise(sample.values, sample.variables)), LISTED, settings.threshold)
    if len(top.sizes) < LISTED:
        raise ParameterError(
            f"compendium_threshold={settings.threshold:g}: the graphs above it fall into {len(top.sizes)} classes, {LISTED} are shown"
        )
    probability = np.exp(top.dags.log_probability)
    index = np.unique(np.geomspace(1, len(probability), POINTS).astype(int)) - 1
    return Compendium(
        kind,
        top.probability,
        top.sizes,
        top.compelled,
        top.reversible,
        probability[:LISTED],
        float(probability.sum()),
        index + 1,
        probability[index],
        shd(top.dags.parents[index], top.dags.parents[0]),
    )


def jobs(run: Run[Any]) -> list[partial[Compendium]]:
    sample, s = load(run), run.of(Settings)
    return [partial(list_graphs, kind, sample.base[kind], s) for kind in run.of(Selection).types]


def metrics(settings: Settings) -> list[str]:
    names = ["top_class_max", "top_dag_max", *(f"top_class_{kind}" for kind in TYPES)]
    return [*names, "top_class_deviation", "top_dag_deviation", "best_class_edges_differing"]


def measure(run: Run[Any], results: list[Compendium]) -> None:
    published = reported()
    run.measure("top_class_max", max(100 * r.classes[0] for r in results), unit="%")
    run.measure("top_dag_max", max(100 * r.graphs[0] for r in results), unit="%")
    for r in results:
        run.measure(f"top_class_{r.kind}", 100 * r.classes[0], unit="%")
    classes = [np.abs(100 * r.classes - published["top_classes"][r.kind]).max() for r in results]
    graphs = [np.abs(100 * r.graphs - published["top_dags"][r.kind]).max() for r in results]
    differing = [best_class(r) ^ reported_graph(published["best_class"][r.kind]) for r in results]
    run.measure("top_class_deviation", max(classes), unit="percentage points")
    run.measure("top_dag_deviation", max(graphs), unit="percentage points")
    run.measure("best_class_edges_differing", sum(map(len, differing)), unit="edges")


def best_class(found: Compendium) -> MarkedGraph:
    """The edges of the best class as text."""
    return reported_graph(
        " ".join(edge) for edge in class_edges(found.compelled[0], found.reversible[0], BASE)
    )


def tables(settings: Settings, results: list[Compendium]) -> dict[str, pd.DataFrame]:
    rows = [
        {"type": TYPE_SHORT[r.kind], "covered mass": r.covered}
        | {f"no. {k + 1}": 100 * p for k, p in enumerate(r.classes)}
        for r in results
    ]
    return {"classes": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[Compendium]) -> dict[str, Figure]:
    return {"classes": draw_classes(results), "ranks": draw_ranks(results)}


def draw_classes(results: list[Compendium]) -> Figure:
    """The most probable classes of each type."""
    rows = len(results)
    fig, axes = plt.subplots(rows, DRAWN, figsize=(3.1 * DRAWN, 3.0 * rows), squeeze=False)
    for row, r in enumerate(results):
        for k in range(DRAWN):
            title = f"{TYPE_SHORT[r.kind]}, no. {k + 1}: {100 * r.classes[k]:.2f} % ({r.sizes[k]} graphs)"
            draw_graph(axes[row, k], class_edges(r.compelled[k], r.reversible[k], BASE), BASE, title)
    return fig


def draw_ranks(results: list[Compendium]) -> Figure:
    """Probability of each graph against its rank, coloured by the distance to the best graph."""
    fig, axes = plt.subplots(1, len(results), figsize=(3.6 * len(results), 3.4), sharey=True, squeeze=False)
    for ax, r in zip(axes[0], results, strict=True):
        points = ax.scatter(r.rank, 100 * r.probability, c=r.distance, s=7, cmap="viridis", vmin=0, vmax=15)
        ax.set(xscale="log", yscale="log", title=TYPE_NAMES[r.kind], xlabel="rank of the graph")
    axes[0, 0].set_ylabel("posterior probability [%]")
    fig.colorbar(points, ax=axes[0].tolist(), label="edges apart from the best graph")
    return fig
