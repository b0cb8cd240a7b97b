"""Policies are laws on valid actions; networks have the official size and learn with all their parameters."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.smbh import galaxies
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_gflownet import DagGFlowNet, Training
from lib.smbh.dag_states import DagStates
from lib.smbh.graph_policies import LinearAttentionBlock, TransformerPolicy, log_policy
from lib.smbh.state_graph import all_dags

pytestmark = pytest.mark.usefixtures("one_thread")


def table(n, kind="spr"):
    return log_scores(standardise(galaxies.simulate(np.random.default_rng(5)).base[kind].values[:, :n]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_policies_are_laws_on_valid_actions(seed):
    generator = torch.Generator().manual_seed(seed)
    dags = all_dags(4)
    states = DagStates.of(dags[torch.randint(len(dags), (20,), generator=generator)])
    logits = 30 * torch.randn(20, 4, 4, generator=generator)
    stop = 30 * torch.randn(20, generator=generator)
    p = log_policy(logits, stop, states.valid_edges()).exp()
    torch.testing.assert_close(p.sum(dim=1), torch.ones(20))
    assert (p[:, :-1][~states.valid_edges().flatten(1)] == 0).all()
    full = ~states.valid_edges().flatten(1).any(dim=1)
    assert (p[full, -1] == 1).all()


@pytest.mark.parametrize("network", ["mlp", "transformer"])
def test_networks_have_the_right_shapes_and_all_parameters_learn(network):
    module = DagGFlowNet(table(4), Training(network=network, environments=8, replayed=8, capacity=100), 10)
    states = DagStates.of(all_dags(4)[[0, 5, 100]])
    log_p, gains = module.log_probabilities(states)
    assert log_p.shape == (3, 17)
    assert gains.shape == (3, 4, 4)
    action = log_p[:, :-1].argmax(dim=1)
    module.transition_loss(states, action, log_p, gains).backward()
    dead = [name for name, p in module.policy.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert all(p.grad is None for p in module.target.parameters())


def test_the_official_network_has_the_official_size():
    policy = TransformerPolicy(7)
    assert (len(policy.shared), len(policy.edge_blocks), len(policy.stop_blocks)) == (3, 2, 2)
    assert policy.nodes.weight.shape == (14, 128)
    assert policy.shared[0].queries_keys_values.out_features == 3 * 4 * 64
    assert [m.out_features for m in policy.stop_head if isinstance(m, torch.nn.Linear)] == [256, 128, 1]


def test_linear_attention_equals_the_quadratic_form():
    block = LinearAttentionBlock(width=6, heads=2, key_size=3, embedding=4)
    hidden, entries = torch.randn(2, 5, 6), torch.randint(0, 2, (2, 5, 1)).float()
    joint = block.norm_attention(torch.cat((block.entry(entries), hidden), dim=-1))
    q, k, v = block.queries_keys_values(joint).view(2, 5, 3, 2, 3).unbind(2)
    weight = torch.einsum("bthk,bshk->bhts", torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1)
    weight = weight / weight.sum(dim=-1, keepdim=True)  # tokens x tokens, which the block never forms
    mixed = torch.einsum("bhts,bshv->bthv", weight, v).flatten(2)
    wanted = hidden + block.out(mixed)
    wanted = wanted + block.mlp(block.norm_mlp(torch.cat((block.entry(entries), wanted), dim=-1)))
    torch.testing.assert_close(block(hidden, entries), wanted)
