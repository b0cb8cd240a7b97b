"""DAG-GFlowNet: the environment against networkx, the balance equation at its exact solution, learned laws against exact ones."""

import math

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.records import Run
from lib.smbh import dag_gflownet as gfn
from lib.smbh import galaxies
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_gflownet import DagGFlowNet, DagStates, GFlowNetOptions
from lib.smbh.directions import posterior
from lib.smbh.profiles import PROFILES
from tests.smbh import plain_dags

SMALL = GFlowNetOptions(environments=32, replayed=32, capacity=2000)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(tmp_path):
    return Run.start("smbh", PROFILES, profile="smoke", accelerator="cpu", data="standin", out_dir=tmp_path)


def table(n, kind="spr"):
    return log_scores(standardise(galaxies.simulate(5).base[kind].values[:, :n]))


# The environment


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
    scores = table(4)
    graph = gfn.StateGraph.of(4)
    whole = gfn.log_rewards(graph.dags, scores)
    gains = gfn.score_gains(DagStates.of(graph.dags), torch.as_tensor(scores))
    found = gains.flatten(1)[graph.origin, graph.action]
    torch.testing.assert_close(found, whole[graph.destination] - whole[graph.origin])
    invalid = ~DagStates.of(graph.dags).valid_edges()
    assert (gains[invalid] == 0).all()


@pytest.mark.parametrize(("n", "count"), [(1, 1), (2, 3), (3, 25), (4, 543), (5, 29281)])
def test_every_graph_is_listed_once(n, count):
    dags = gfn.all_dags(n)
    assert len(dags) == count == len(gfn.state_codes(dags).unique())
    assert (dags.sum(dim=(1, 2)).diff() >= 0).all()
    DagStates.of(dags)  # raises for a cycle


def test_more_than_five_variables_are_not_listed():
    with pytest.raises(ValueError, match="n=6"):
        gfn.all_dags(6)


# Policies


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_policies_are_laws_on_valid_actions(seed):
    generator = torch.Generator().manual_seed(seed)
    dags = gfn.all_dags(4)
    states = DagStates.of(dags[torch.randint(len(dags), (20,), generator=generator)])
    logits = 30 * torch.randn(20, 4, 4, generator=generator)
    stop = 30 * torch.randn(20, generator=generator)
    p = gfn.log_policy(logits, stop, states.valid_edges()).exp()
    torch.testing.assert_close(p.sum(dim=1), torch.ones(20))
    assert (p[:, :-1][~states.valid_edges().flatten(1)] == 0).all()
    full = ~states.valid_edges().flatten(1).any(dim=1)
    assert (p[full, -1] == 1).all()


@pytest.mark.parametrize("network", ["mlp", "transformer"])
def test_networks_have_the_right_shapes_and_all_parameters_learn(network):
    module = DagGFlowNet(
        table(4), GFlowNetOptions(network=network, environments=8, replayed=8, capacity=100), 10
    )
    states = DagStates.of(gfn.all_dags(4)[[0, 5, 100]])
    log_p, gains = module.log_probabilities(states)
    assert log_p.shape == (3, 17)
    assert gains.shape == (3, 4, 4)
    action = log_p[:, :-1].argmax(dim=1)
    module.transition_loss(states, action, log_p, gains).backward()
    dead = [name for name, p in module.policy.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert all(p.grad is None for p in module.target.parameters())


def test_the_official_network_has_the_official_size():
    policy = gfn.TransformerPolicy(7)
    assert (len(policy.shared), len(policy.edge_blocks), len(policy.stop_blocks)) == (3, 2, 2)
    assert policy.nodes.weight.shape == (14, 128)
    assert policy.shared[0].queries_keys_values.out_features == 3 * 4 * 64
    assert [m.out_features for m in policy.stop_head if isinstance(m, torch.nn.Linear)] == [256, 128, 1]


def test_linear_attention_equals_the_quadratic_form():
    block = gfn.LinearAttentionBlock(width=6, heads=2, key_size=3, embedding=4)
    hidden, entries = torch.randn(2, 5, 6), torch.randint(0, 2, (2, 5, 1)).float()
    joint = block.norm_attention(torch.cat((block.entry(entries), hidden), dim=-1))
    q, k, v = block.queries_keys_values(joint).view(2, 5, 3, 2, 3).unbind(2)
    weight = torch.einsum("bthk,bshk->bhts", torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1)
    weight = weight / weight.sum(dim=-1, keepdim=True)  # tokens x tokens, which the block never forms
    mixed = torch.einsum("bhts,bshv->bthv", weight, v).flatten(2)
    wanted = hidden + block.out(mixed)
    wanted = wanted + block.mlp(block.norm_mlp(torch.cat((block.entry(entries), wanted), dim=-1)))
    torch.testing.assert_close(block(hidden, entries), wanted)


# The balance equation and the exact law


def exact_module(n, kind="spr"):
    scores = table(n, kind)
    graph = gfn.StateGraph.of(n)
    module = DagGFlowNet(scores, SMALL, 1)
    module.log_scores = module.log_scores.double()
    module.policy = module.target = gfn.optimal_policy(graph, scores)
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
    module.target = gfn.optimal_policy(graph, table(4, kind))
    assert float(module.transition_loss(moved, action, log_p, gains)) > 1e-4


@pytest.mark.thorough
def test_the_exact_solution_stops_at_the_posterior():
    module, graph, scores = exact_module(4)
    law = gfn.terminal_law(module, graph)
    exact = gfn.posterior_law(graph, scores)
    assert gfn.total_variation(law, exact) < 1e-10
    edges = torch.einsum("g,gij->ij", exact, graph.dags.double()).numpy()
    np.testing.assert_allclose(
        edges, posterior(galaxies.simulate(5).base["spr"].values[:, :4]).edges, atol=1e-10
    )


@pytest.mark.parametrize("n", [3, 4, 5])
def test_the_law_of_any_policy_sums_to_one(n):
    module = DagGFlowNet(table(n), SMALL, 1)
    law = gfn.terminal_law(module, gfn.StateGraph.of(n))
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-5)
    assert (law >= 0).all()


def test_sampled_graphs_follow_the_exact_law():
    module = DagGFlowNet(table(3), SMALL, 1)
    graph = gfn.StateGraph.of(3)
    law = gfn.terminal_law(module, graph).numpy()
    adjacency, closure = gfn.sample_graphs(module, 20_000, seed=1)
    DagStates.of(adjacency)
    code = {int(c): k for k, c in enumerate(gfn.state_codes(graph.dags))}
    count = np.bincount([code[int(c)] for c in gfn.state_codes(adjacency)], minlength=25)
    z = (count / 20_000 - law) / np.sqrt(law * (1 - law) / 20_000 + 1e-12)
    assert np.abs(z).max() < 5
    edges, paths = gfn.marginals(adjacency, closure)
    assert (paths >= edges).all()
    assert (np.diag(paths) == 0).all()
    again, _ = gfn.sample_graphs(module, 20_000, seed=1)
    assert torch.equal(adjacency, again)


def test_distances_of_laws_by_hand():
    p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert gfn.total_variation(p, q) == 1.0
    assert gfn.total_variation(p, p) == 0.0


# Training


@pytest.mark.thorough
def test_training_reaches_the_posterior_of_four_variables(run):
    scores, graph = table(4), gfn.StateGraph.of(4)
    law = gfn.posterior_law(graph, scores)
    options = GFlowNetOptions(environments=64, replayed=128)
    watch = (400, lambda m: gfn.total_variation(gfn.terminal_law(m, graph), law))
    module = gfn.train_gflownet(run, scores, options, 1600, 0, "n4", watch)
    values = [v for _, v in module.evaluations]
    assert [s for s, _ in module.evaluations] == [400, 800, 1200, 1600]
    assert values[-1] < 0.05
    assert values[-1] < values[0]
    exact = posterior(galaxies.simulate(5).base["spr"].values[:, :4])
    learned = gfn.compare_marginals(module, exact.edges, exact.paths, 5000, 0)
    assert learned.edge_rmse < 0.03
    assert learned.path_rmse < 0.03
    assert learned.parents.shape == (5000, 4)


def test_the_official_settings_start_on_seven_variables(run):
    module = gfn.train_gflownet(run, table(7), gfn.OFFICIAL, 2, 0, "official")
    assert len(module.losses) == 2
    assert all(map(math.isfinite, module.losses))
    assert module.exploration(0) == 1.0
    assert module.exploration(2) == pytest.approx(0.1)
    assert module.options.learning_rate == 1e-5
    assert len(module.replay) >= 32


def test_the_same_seed_gives_the_same_training(run):
    first, second = (gfn.train_gflownet(run, table(3), SMALL, 8, 4, "same").losses for _ in range(2))
    assert first == second


def test_the_replay_buffer_is_a_ring_without_stops():
    buffer = gfn.ReplayBuffer(5, 3)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(1)
    for action in (1, 9, 2, 3, 5, 6, 7):  # 9 is stop
        buffer.add(DagStates.empty(1, 3), torch.tensor([action]))
    assert len(buffer) == 5
    assert sorted(buffer.action.tolist()) == [2, 3, 5, 6, 7]


def test_the_target_follows_only_every_so_often(run):
    options = GFlowNetOptions(environments=8, replayed=8, capacity=100, target_every=1000)
    module = gfn.train_gflownet(run, table(3), options, 5, 0, "target")
    policy, target = (dict(m.named_parameters()) for m in (module.policy, module.target))
    assert any(not torch.equal(policy[k], target[k]) for k in policy)


def test_exploration_falls_over_the_first_half():
    module = DagGFlowNet(table(3), SMALL, 100)
    assert [module.exploration(s) for s in (0, 25, 50, 100)] == pytest.approx([0.5, 0.275, 0.05, 0.05])


@pytest.mark.parametrize(
    ("scores", "message"),
    [(np.zeros((3, 4)), r"shape \(3, 4\)"), (np.full((2, 4), np.nan), "NaN")],
)
def test_bad_score_tables_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        DagGFlowNet(scores, SMALL, 1)


def test_no_graph_is_no_sample():
    with pytest.raises(ValueError, match="size=0"):
        gfn.sample_graphs(DagGFlowNet(table(3), SMALL, 1), 0, seed=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_law_is_the_same_on_a_gpu():
    module, graph = DagGFlowNet(table(4), SMALL, 1), gfn.StateGraph.of(4)
    here = gfn.terminal_law(module, graph)
    assert gfn.total_variation(here, gfn.terminal_law(module.cuda(), graph)) < 1e-5
