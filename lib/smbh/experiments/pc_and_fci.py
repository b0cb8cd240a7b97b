"""PC and FCI (section 9; C7, X3): graphs from independence tests beside the exact posterior, per type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.kept_results import Array
from lib.profiles import setting, settings_class
from lib.records import Run
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.constraint_based import (
    ALGORITHMS,
    MarkedGraph,
    against_posterior,
    bidirected_at,
    constraint_graph,
    directed,
    has_semi_directed_cycle,
    reported_graph,
)
from lib.smbh.directions import marginals
from lib.smbh.equivalence_classes import top_classes
from lib.smbh.galaxies import BASE, SIX, TYPE_SHORT, Sample, Selection, load
from lib.smbh.graph_drawing import class_edges, draw_graph
from lib.smbh.reported import reported

STRONG = 0.7  # a path marginal that an edge must not contradict


@settings_class
class Settings:
    """Levels of the independence tests."""

    level: float = setting(
        0.15, "1", "level of the independence tests of PC and FCI", 0.15, above=0.0, below=1.0
    )
    further_levels: tuple[float, ...] = setting(
        (0.01, 0.05, 0.30),
        "1",
        "other levels that are shown",
        above=0.0,
        below=1.0,
        distinct=True,
        empty=True,
    )

    @property
    def levels(self) -> list[float]:
        """All levels, from small to large."""
        return sorted({self.level, *self.further_levels})


PROFILES = {
    "smoke": Settings(further_levels=()),
    "default": Settings(),
    "gpu": Settings(),
    "paper": Settings(),
}


@dataclass(frozen=True)
class Found:
    """A graph that an algorithm found at a level: the text of its edges, sorted."""

    algorithm: str
    level: float
    edges: tuple[str, ...]

    @property
    def graph(self) -> MarkedGraph:
        """The graph as the science takes it."""
        return frozenset(self.edges)


@dataclass(frozen=True)
class TestedType:
    """One type: graphs on seven variables at every level, graphs on six at the authors', and what is exact.

    Attributes:
        kind: the type. seven, six: the graphs.
        paths: (7, 7) exact path marginals. compelled, reversible: (7, 7) bool, edges of the most probable class.
    """

    kind: str
    seven: tuple[Found, ...]
    six: tuple[Found, ...]
    paths: Array
    compelled: Array
    reversible: Array


def run_both(kind: str, seven: Sample, six: Sample, settings: Settings) -> TestedType:
    """Run both algorithms on one type."""
    _, paths = marginals(seven.values, seven.variables)
    best = top_classes(log_scores(standardise(seven.values)), 1)
    return TestedType(
        kind,
        tuple(find(seven, a, level) for a in ALGORITHMS for level in settings.levels),
        tuple(find(six, a, settings.level) for a in ALGORITHMS),
        paths,
        best.compelled[0],
        best.reversible[0],
    )


def find(sample: Sample, algorithm: str, level: float) -> Found:
    """The graph that one algorithm finds at one level."""
    graph = constraint_graph(sample.values, sample.variables, algorithm, level)
    return Found(algorithm, level, tuple(sorted(graph)))


def jobs(run: Run[Any]) -> list[partial[TestedType]]:
    sample, s = load(run), run.of(Settings)
    return [
        partial(run_both, kind, sample.base[kind], sample.six[kind], s) for kind in run.of(Selection).types
    ]


def metrics(settings: Settings) -> list[str]:
    return ["constraint_graphs_differing", "constraint_edges_against_posterior", "fci_bidirected_at_bh"]


def measure(run: Run[Any], results: list[TestedType]) -> None:
    level, published = run.of(Settings).level, reported()["constraint_based"]
    differing = [f.graph != reported_graph(published[f.algorithm][r.kind]) for r in results for f in r.six]
    run.measure("constraint_graphs_differing", sum(differing), unit="graphs")
    judged = [(r, f) for r in results for f in r.seven if f.level == level]
    against = [e for r, f in judged for e in against_posterior(f.graph, r.paths, BASE, STRONG)]
    run.measure("constraint_edges_against_posterior", len(against), unit="edges")
    hidden = [e for _, f in judged if f.algorithm == "fci" for e in bidirected_at(f.graph, "M_bh")]
    run.measure("fci_bidirected_at_bh", len(hidden), unit="edges")


def tables(settings: Settings, results: list[TestedType]) -> dict[str, pd.DataFrame]:
    seven = [
        {
            "type": TYPE_SHORT[r.kind],
            "algorithm": f.algorithm.upper(),
            "level": f.level,
            "oriented": len(directed(f.graph)),
            f"against a path marginal > {STRONG:g}": words(against_posterior(f.graph, r.paths, BASE, STRONG)),
            "two-headed at M_bh": words(bidirected_at(f.graph, "M_bh")),
            "cycle": " → ".join(has_semi_directed_cycle(f.graph)) if f.algorithm == "pc" else "",
        }
        for r in results
        for f in r.seven
    ]
    six = [
        {
            "type": TYPE_SHORT[r.kind],
            "variables": len(SIX),
            "cycle in the PC graph": " → ".join(has_semi_directed_cycle(f.graph)) or "none",
        }
        for r in results
        for f in r.six
        if f.algorithm == "pc"
    ]
    return {"levels": pd.DataFrame(seven), "cycles": pd.DataFrame(six)}


def words(edges: Sequence[str]) -> str:
    """The edges as text."""
    return ", ".join(edges) or "none"


def figures(settings: Settings, results: list[TestedType]) -> dict[str, Figure]:
    fig, axes = plt.subplots(len(results), 3, figsize=(9.3, 3.0 * len(results)), squeeze=False)
    for row, r in zip(axes, results, strict=True):
        judged = {f.algorithm: f for f in r.seven if f.level == settings.level}
        name = TYPE_SHORT[r.kind]
        for ax, algorithm in zip(row, ALGORITHMS, strict=False):
            edges = [(e.split()[0], e.split()[1], e.split()[2]) for e in judged[algorithm].edges]
            draw_graph(ax, edges, BASE, f"{name}: {algorithm.upper()}")
        draw_graph(row[2], class_edges(r.compelled, r.reversible, BASE), BASE, f"{name}: best exact class")
    return {"graphs": fig}
