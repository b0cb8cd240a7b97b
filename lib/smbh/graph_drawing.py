"""Causal graphs on a circle, with arrows, lines, and the marks of FCI."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np
from matplotlib.axes import Axes

from lib.figures import PALETTE
from lib.smbh.appearance import LABELS

Edge = tuple[str, str, str]
"""Variable, mark, variable: ``->``, ``--``, ``<->``, ``o->``, ``o-o`` or ``o-``."""


def class_edges(compelled: np.ndarray, reversible: np.ndarray, variables: Sequence[str]) -> list[Edge]:
    """Edges of one equivalence class, from its matrices (n, n): compelled ones as arrows, reversible ones as lines."""
    edges = []
    for i, a in enumerate(variables):
        for j, b in enumerate(variables):
            if compelled[i, j]:
                edges.append((a, "->", b))
            elif i < j and reversible[i, j]:
                edges.append((a, "--", b))
    return edges


def positions_of(variables: Sequence[str]) -> dict[str, tuple[float, float]]:
    """All variables on one circle, the black hole on top: no edge runs through a third variable."""
    ring = ["M_bh"] + [v for v in variables if v != "M_bh"]
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(ring)) / len(ring)
    return {v: (float(np.cos(a)), float(np.sin(a))) for v, a in zip(ring, angle, strict=True)}


def draw_graph(ax: Axes, edges: Sequence[Edge], variables: Sequence[str], title: str) -> None:
    """Draw (left, mark, right) edges: ``->`` as an arrow, ``--`` as a line; FCI's circles as dots, ``<->`` with two heads."""
    graph = nx.DiGraph()
    graph.add_nodes_from(variables)
    positions = positions_of(variables)
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
            edge_color=PALETTE[4] if mark == "<->" else "0.2",
            style="solid" if mark in ("->", "--", "<->") else "dashed",
        )
    ax.set_title(title, fontsize=9.5)
    ax.margins(0.18)
    ax.set_axis_off()
