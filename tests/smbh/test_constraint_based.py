"""PC and FCI: the graphs of the repository's history, invalid outputs, spelling of edges."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.profiles import ParameterError
from lib.smbh.constraint_based import (
    against_posterior,
    bidirected_at,
    constraint_graph,
    directed,
    has_semi_directed_cycle,
    marked_edges,
    reported_graph,
)
from lib.smbh.galaxies import SIX, TYPES
from lib.smbh.reported import reported


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("algorithm", ["pc", "fci"])
def test_published_graphs(real, kind, algorithm):
    found = constraint_graph(real.six[kind].values, SIX, algorithm, 0.15)
    assert found == reported_graph(reported()["constraint_based"][algorithm][kind])


def test_the_published_lenticular_graph_is_no_class():
    graphs = {t: reported_graph(reported()["constraint_based"]["pc"][t]) for t in TYPES}
    assert has_semi_directed_cycle(graphs["len"]) == ["M_bh", "sigma0", "Mstar", "Re"]
    assert has_semi_directed_cycle(graphs["ell"]) == []
    assert has_semi_directed_cycle(graphs["spr"]) == []


def test_a_collider_is_oriented_and_a_chain_is_not():
    rng = np.random.default_rng(0)
    a, b, noise = rng.normal(size=(3, 2000))
    assert constraint_graph(np.stack([a, b, a + b + noise], axis=1), ("a", "b", "c"), "pc", 0.01) == {
        "a -> c",
        "b -> c",
    }
    second = a + b
    chain = np.stack([a, second, second + noise], axis=1)
    assert constraint_graph(chain, ("a", "b", "c"), "pc", 0.01) == {"a -- b", "b -- c"}


def test_endpoint_matrices_are_spelled_from_left_to_right():
    marks = np.zeros((5, 5), dtype=int)
    for (i, j), (at_i, at_j) in {(0, 1): (1, -1), (0, 2): (2, 1), (1, 3): (1, 1), (2, 4): (1, 2)}.items():
        marks[i, j], marks[j, i] = at_i, at_j
    assert marked_edges(marks, "abcde") == {"b -> a", "a o-> c", "b <-> d", "e o-> c"}


@given(st.integers(0, 2**20), st.integers(2, 6))
def test_a_directed_graph_has_a_cycle_exactly_if_it_is_not_acyclic(bits, n):
    pairs = [(i, j) for i in range(n) for j in range(n) if i < j]
    graph = nx.DiGraph()
    edges = []
    for k, (i, j) in enumerate(pairs):
        if bits >> 2 * k & 1:
            parent, child = (i, j) if bits >> 2 * k + 1 & 1 else (j, i)
            graph.add_edge(parent, child)
            edges.append(f"v{parent} -> v{child}")
    cycle = has_semi_directed_cycle(reported_graph(edges))
    assert bool(cycle) == (not nx.is_directed_acyclic_graph(graph))
    for a, b in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True):
        assert f"{a} -> {b}" in edges


def test_undirected_cycles_are_allowed_and_mixed_ones_are_not():
    assert has_semi_directed_cycle(reported_graph(["a -- b", "b -- c", "c -- a"])) == []
    assert has_semi_directed_cycle(reported_graph(["a -> b", "b -- c", "c -- a"])) == ["a", "b", "c"]


def test_edges_against_the_posterior_and_signs_of_hidden_causes():
    graph = reported_graph(["a -> b", "c <-> a", "b o-> c", "b -> d"])
    paths = np.zeros((4, 4))
    paths[1, 0], paths[3, 1] = 0.71, 0.69
    assert against_posterior(graph, paths, "abcd") == ["a -> b"]
    assert directed(graph) == [("a", "b"), ("b", "d")]
    assert bidirected_at(graph, "a") == ["a <-> c"]
    assert bidirected_at(graph, "b") == []


def test_wrong_arguments_are_named():
    values = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ParameterError, match="algorithm='ges'"):
        constraint_graph(values, "ab", "ges", 0.1)
    with pytest.raises(ValueError, match=r"alpha=1\.5"):
        constraint_graph(values, "ab", "pc", 1.5)
    with pytest.raises(ValueError, match="unknown mark"):
        reported_graph(["a => b"])
