"""Graphs that grow edge by edge: the environment against networkx, gains of steps against scores of whole graphs."""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.smbh import galaxies
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_states import DagStates, score_gains
from lib.smbh.state_graph import StateGraph, log_rewards
from tests.smbh import plain_dags


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**31), st.integers(1, 15))
def test_random_walks_stay_acyclic_and_closures_are_right(n, seed, steps):
    generator = torch.Generator().manual_seed(seed)
    states = DagStates.empty(3, n)
    for _ in range(steps):
        weights = torch.nn.functional.pad(states.valid_edges().flatten(1).float(), (0, 1), value=0.2)
        states = states.step(torch.multinomial(weights, 1, generator=generator).squeeze(1))
        for b in range(3):
            graph = nx.from_numpy_array(states.adjacency[b].numpy(), create_using=nx.DiGraph)
            reach = nx.to_numpy_array(nx.transitive_closure(graph, reflexive=True), nodelist=range(n)) > 0
            assert nx.is_directed_acyclic_graph(graph)
            np.testing.assert_array_equal(states.closure[b].numpy(), reach)
            for i in range(n):
                for j in range(n):
                    graph_with = nx.DiGraph(graph)
                    graph_with.add_edge(i, j)
                    allowed = not graph.has_edge(i, j) and nx.is_directed_acyclic_graph(graph_with)
                    assert bool(states.valid_edges()[b, i, j]) == allowed


def test_stop_leads_back_to_the_empty_graph():
    states = DagStates.empty(2, 3).step(torch.tensor([1, 5]))
    after = states.step(torch.tensor([9, 2]))
    assert after.edge_count().tolist() == [0, 2]
    assert torch.equal(after.closure[0], torch.eye(3, dtype=torch.bool))


def test_states_of_given_graphs_and_a_cycle():
    dags = torch.from_numpy(plain_dags.all_dags(4).astype(bool))
    states = DagStates.of(dags)
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_array_equal(
        states.closure.numpy()[:, off], plain_dags.all_closures(4)[:, off].astype(bool)
    )
    with pytest.raises(ValueError, match="cycle"):
        DagStates.of(torch.tensor([[[0, 1], [1, 0]]], dtype=torch.bool))


def test_score_gains_are_differences_of_scores_of_whole_graphs():
    scores = log_scores(standardise(galaxies.simulate(np.random.default_rng(5)).base["spr"].values[:, :4]))
    graph = StateGraph.of(4)
    whole = log_rewards(graph.dags, scores)
    gains = score_gains(DagStates.of(graph.dags), torch.as_tensor(scores))
    found = gains.flatten(1)[graph.origin, graph.action]
    torch.testing.assert_close(found, whole[graph.destination] - whole[graph.origin])
    invalid = ~DagStates.of(graph.dags).valid_edges()
    assert (gains[invalid] == 0).all()
