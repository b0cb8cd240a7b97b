"""All graphs of a few variables: their number, exact laws of policies, and the policy that follows the posterior."""

import numpy as np
import pytest
import torch

from lib.smbh import galaxies
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_gflownet import DagGFlowNet, Training
from lib.smbh.dag_states import DagStates, state_codes
from lib.smbh.directions import posterior
from lib.smbh.sampled_graphs import marginals, sample_graphs
from lib.smbh.state_graph import (
    StateGraph,
    all_dags,
    optimal_policy,
    posterior_law,
    terminal_law,
    total_variation,
)

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = Training(environments=32, replayed=32, capacity=2000)


def table(n, kind="spr"):
    return log_scores(standardise(galaxies.simulate(np.random.default_rng(5)).base[kind].values[:, :n]))


@pytest.mark.parametrize(("n", "count"), [(1, 1), (2, 3), (3, 25), (4, 543), (5, 29281)])
def test_every_graph_is_listed_once(n, count):
    dags = all_dags(n)
    assert len(dags) == count == len(state_codes(dags).unique())
    assert (dags.sum(dim=(1, 2)).diff() >= 0).all()
    DagStates.of(dags)  # raises for a cycle


def test_more_than_five_variables_are_not_listed():
    with pytest.raises(ValueError, match="n=6"):
        all_dags(6)


def exact_module(n, kind="spr"):
    scores = table(n, kind)
    graph = StateGraph.of(n)
    module = DagGFlowNet(scores, SMALL, 1)
    module.log_scores = module.log_scores.double()
    module.policy = module.target = optimal_policy(graph, scores)
    return module, graph, scores


@pytest.mark.parametrize("kind", ["ell", "spr"])
def test_the_loss_vanishes_at_the_exact_solution(kind):
    module, graph, _ = exact_module(4, kind)
    states, action = DagStates.of(graph.dags[graph.origin]), graph.action
    log_p, gains = module.log_probabilities(states)
    assert float(module.transition_loss(states, action, log_p, gains)) < 1e-12
    module.policy.stop_logit += 0.1
    log_p, gains = module.log_probabilities(states)
    moved = DagStates.of(graph.dags[graph.origin])
    module.target = optimal_policy(graph, table(4, kind))
    assert float(module.transition_loss(moved, action, log_p, gains)) > 1e-4


@pytest.mark.thorough
def test_the_exact_solution_stops_at_the_posterior():
    module, graph, scores = exact_module(4)
    law = terminal_law(module, graph)
    exact = posterior_law(graph, scores)
    assert total_variation(law, exact) < 1e-10
    edges = torch.einsum("g,gij->ij", exact, graph.dags.double()).numpy()
    np.testing.assert_allclose(
        edges,
        posterior(galaxies.simulate(np.random.default_rng(5)).base["spr"].values[:, :4]).edges,
        atol=1e-10,
    )


@pytest.mark.parametrize("n", [3, 4, 5])
def test_the_law_of_any_policy_sums_to_one(n):
    module = DagGFlowNet(table(n), SMALL, 1)
    law = terminal_law(module, StateGraph.of(n))
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-5)
    assert (law >= 0).all()


def test_sampled_graphs_follow_the_exact_law():
    module = DagGFlowNet(table(3), SMALL, 1)
    graph = StateGraph.of(3)
    law = terminal_law(module, graph).numpy()
    adjacency, closure = sample_graphs(module, 20_000, torch.Generator().manual_seed(1))
    DagStates.of(adjacency)
    code = {int(c): k for k, c in enumerate(state_codes(graph.dags))}
    count = np.bincount([code[int(c)] for c in state_codes(adjacency)], minlength=25)
    z = (count / 20_000 - law) / np.sqrt(law * (1 - law) / 20_000 + 1e-12)
    assert np.abs(z).max() < 5
    edges, paths = marginals(adjacency, closure)
    assert (paths >= edges).all()
    assert (np.diag(paths) == 0).all()
    again, _ = sample_graphs(module, 20_000, torch.Generator().manual_seed(1))
    assert torch.equal(adjacency, again)


def test_no_graph_is_no_sample():
    with pytest.raises(ValueError, match="size=0"):
        sample_graphs(DagGFlowNet(table(3), SMALL, 1), 0, torch.Generator().manual_seed(0))


def test_distances_of_laws_by_hand():
    p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert total_variation(p, q) == 1.0
    assert total_variation(p, p) == 0.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_law_is_the_same_on_a_gpu():
    module, graph = DagGFlowNet(table(4), SMALL, 1), StateGraph.of(4)
    here = terminal_law(module, graph)
    assert total_variation(here, terminal_law(module.cuda(), graph)) < 1e-5
