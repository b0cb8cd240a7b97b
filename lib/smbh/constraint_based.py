"""PC and FCI on the same tables: graphs from independence tests instead of scores (causal-learn, Fisher's z).

A graph is a frozenset of marked edges in text form: ``a -> b``, ``a -- b``, ``a <-> b``, ``a o-> b``, ``a o-o b``. PC may end with a
graph that is no completed partially directed acyclic graph: :func:`has_semi_directed_cycle` finds the cycle.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from lib.profiles import choose
from lib.smbh.data_matrix import DataMatrixError, check_data, check_independent_columns, check_names

ALGORITHMS = ("pc", "fci")
_ENDPOINTS = {-1: "-", 1: ">", 2: "o"}
_SPELLING = {
    ("-", ">"): "->",
    ("-", "-"): "--",
    (">", ">"): "<->",
    ("o", ">"): "o->",
    ("o", "o"): "o-o",
    ("o", "-"): "o-",
}
"""(mark at the left end, mark at the right end) → text."""

MarkedGraph = frozenset[str]


def constraint_graph(
    values: np.ndarray, variables: Sequence[str], algorithm: str, alpha: float
) -> MarkedGraph:
    """Run PC or FCI with default options.

    Args:
        values: raw values (N, n); the test does not see units.
        variables: symbols of the columns.
        algorithm: ``pc`` or ``fci``.
        alpha: level of the independence tests (the authors: .15).

    Raises:
        ParameterError: for another algorithm.
        ValueError: for a level outside (0, 1).
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`; also for fewer than n + 2 rows, which leave a test that holds
            all other variables fixed without a degree of freedom, and for a column that is a linear combination of others.
    """
    choose("algorithm", algorithm, ALGORITHMS)
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha={alpha} is not between 0 and 1")
    values = check_data(values, variables, least_rows=len(variables) + 2)
    if values.ndim != 2:
        raise DataMatrixError(f"data of shape {values.shape}: one data set (rows, variables) is needed")
    check_independent_columns(values, variables)
    # causal-learn prints progress to both streams and imports slowly: both stay in here
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        if algorithm == "pc":
            from causallearn.search.ConstraintBased.PC import pc

            marks = pc(values, alpha, show_progress=False).G.graph
        else:
            from causallearn.search.ConstraintBased.FCI import fci

            marks = fci(values, alpha=alpha, show_progress=False, verbose=False)[0].graph
    return marked_edges(np.asarray(marks), variables)


def marked_edges(marks: np.ndarray, variables: Sequence[str]) -> MarkedGraph:
    """Turn causal-learn's endpoint matrix (n, n) into text; entry [j, i] is the mark at j's end of the edge i, j.

    Raises:
        DataMatrixError: unless there is one name of its own for each of the n variables.
    """
    n = len(check_names(variables, len(marks)))
    return frozenset(
        spell(variables[i], _ENDPOINTS[int(marks[i, j])], _ENDPOINTS[int(marks[j, i])], variables[j])
        for i in range(n)
        for j in range(i + 1, n)
        if marks[i, j] != 0
    )


def spell(left: str, at_left: str, at_right: str, right: str) -> str:
    """One spelling per edge: arrows point right, circles stand left, symmetric edges are in alphabetical order."""
    turned = (at_left, at_right) not in _SPELLING or (at_left == at_right and left > right)
    if turned:
        left, at_left, at_right, right = right, at_right, at_left, left
    return f"{left} {_SPELLING[at_left, at_right]} {right}"


def read_edge(edge: str) -> str:
    """The same spelling for an edge given as text.

    Raises:
        ValueError: for a mark that is not known.
    """
    left, mark, right = edge.split()
    for (at_left, at_right), text in _SPELLING.items():
        if text == mark:
            return spell(left, at_left, at_right, right)
    raise ValueError(f"edge {edge!r} has an unknown mark; known: {', '.join(_SPELLING.values())}")


def reported_graph(edges: Iterable[str]) -> MarkedGraph:
    """A graph from the list of its edges in text form."""
    return frozenset(read_edge(edge) for edge in edges)


def directed(graph: MarkedGraph) -> list[tuple[str, str]]:
    """Edges with one arrowhead and no circle, as (parent, child), sorted."""
    return sorted((e.split()[0], e.split()[2]) for e in graph if e.split()[1] == "->")


def bidirected_at(graph: MarkedGraph, variable: str) -> list[str]:
    """Bidirected edges at ``variable``: FCI's sign of a hidden common cause."""
    return sorted(e for e in graph if e.split()[1] == "<->" and variable in (e.split()[0], e.split()[2]))


def has_semi_directed_cycle(graph: MarkedGraph) -> list[str]:
    """A cycle of directed and undirected edges with at least one arrow, as its variables in order; empty if there is none.

    No completed partially directed acyclic graph holds one: such a graph stands for no equivalence class.
    """
    steps: dict[str, set[str]] = {}
    for edge in graph:
        left, mark, right = edge.split()
        if mark in ("->", "--"):
            steps.setdefault(left, set()).add(right)
        if mark == "--":
            steps.setdefault(right, set()).add(left)
    for parent, child in directed(graph):
        # a way back from the child to the parent closes the cycle
        frontier, came_from = [child], {child: ""}
        while frontier:
            here = frontier.pop(0)
            for following in sorted(steps.get(here, set()) - came_from.keys()):
                came_from[following] = here
                frontier.append(following)
        if parent in came_from:
            way = [parent]
            while way[-1] != child:
                way.append(came_from[way[-1]])
            return [parent, *reversed(way[1:])]
    return []


def against_posterior(
    graph: MarkedGraph, paths: np.ndarray, variables: Sequence[str], threshold: float = 0.7
) -> list[str]:
    """Directed edges a -> b of ``graph`` although the exact path marginal of b ~> a exceeds ``threshold``.

    Args:
        graph: PC's or FCI's. paths: exact path marginals (n, n). variables: their symbols.

    Raises:
        DataMatrixError: unless there is one name of its own for each variable, and every variable of the graph is among them.
    """
    index = {name: i for i, name in enumerate(check_names(variables, len(paths)))}
    for edge in sorted(graph):
        for name in (edge.split()[0], edge.split()[2]):
            if name not in index:
                raise DataMatrixError(f"edge {edge!r}: {name!r} is not among {', '.join(variables)}")
    return [f"{a} -> {b}" for a, b in directed(graph) if paths[index[b], index[a]] > threshold]
