"""Trainings of DAG-GFlowNets: they reach the posterior, repeat with their seed, and keep what they should."""

import math

import numpy as np
import pytest
import torch

from lib.records import Run
from lib.smbh import galaxies
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_gflownet import DagGFlowNet, ReplayBuffer, Training
from lib.smbh.dag_states import DagStates
from lib.smbh.directions import marginals
from lib.smbh.experiments.dag_gflownet import OFFICIAL, train
from lib.smbh.profiles import PROFILES
from lib.smbh.sampled_graphs import compare_marginals
from lib.smbh.state_graph import StateGraph, posterior_law, terminal_law, total_variation

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = Training(environments=32, replayed=32, capacity=2000)


@pytest.fixture
def run(tmp_path):
    return Run.start("smbh", PROFILES, profile="smoke", accelerator="cpu", data="standin", out_dir=tmp_path)


def table(n, kind="spr"):
    return log_scores(standardise(galaxies.simulate(np.random.default_rng(5)).base[kind].values[:, :n]))


@pytest.mark.thorough
def test_training_reaches_the_posterior_of_four_variables(run):
    scores, graph = table(4), StateGraph.of(4)
    law = posterior_law(graph, scores)
    options = Training(environments=64, replayed=128)
    watch = (400, lambda m: total_variation(terminal_law(m, graph), law))
    module = train(run, scores, options, 1600, 0, (), "n4", watch)
    values = [v for _, v in module.evaluations]
    assert [s for s, _ in module.evaluations] == [400, 800, 1200, 1600]
    assert values[-1] < 0.05
    assert values[-1] < values[0]
    exact = marginals(galaxies.simulate(np.random.default_rng(5)).base["spr"].values[:, :4])
    learned = compare_marginals(module, *exact, 5000, torch.Generator().manual_seed(0))
    assert learned.edge_rmse < 0.03
    assert learned.path_rmse < 0.03
    assert learned.parents.shape == (5000, 4)


def test_the_official_settings_start_on_seven_variables(run):
    module = train(run, table(7), Training(**OFFICIAL), 2, 0, (), "official")
    assert len(module.losses) == 2
    assert all(map(math.isfinite, module.losses))
    assert module.exploration(0) == 1.0
    assert module.exploration(2) == pytest.approx(0.1)
    assert module.settings.learning_rate == 1e-5
    assert len(module.replay) >= 32


def test_the_same_seed_gives_the_same_training(run):
    first, second = (train(run, table(3), SMALL, 8, 4, (), "same").losses for _ in range(2))
    assert first == second


def test_weights_and_actions_have_streams_of_their_own(run, monkeypatch):
    """No training's weights are made of the numbers that its exploration draws next, nor of another training's."""
    numbers = []
    fill = DagGFlowNet.on_fit_start

    def look(self):
        weight = self.policy.body[0].weight.detach()
        numbers.append(((weight * weight.shape[1] ** 0.5 + 1) / 2).flatten()[:64])  # uniform on (0, 1)
        numbers.append(torch.rand(64))
        fill(self)

    monkeypatch.setattr(DagGFlowNet, "on_fit_start", look)
    for kind, n in ((0, 3), (0, 4), (1, 3)):
        train(run, table(n), SMALL, 1, 0, (kind, n), f"{kind}-{n}")
    assert len(numbers) == 6
    assert all(0 < u.min() < u.max() < 1 for u in numbers)
    for k, u in enumerate(numbers):
        assert not any(torch.allclose(u, other, atol=1e-3) for other in numbers[:k])


def test_the_replay_buffer_is_a_ring_without_stops():
    buffer = ReplayBuffer(5, 3)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(1)
    for action in (1, 9, 2, 3, 5, 6, 7):  # 9 is stop
        buffer.add(DagStates.empty(1, 3), torch.tensor([action]))
    assert len(buffer) == 5
    assert sorted(buffer.action.tolist()) == [2, 3, 5, 6, 7]


def test_the_target_follows_only_every_so_often(run):
    options = Training(environments=8, replayed=8, capacity=100, target_every=1000)
    module = train(run, table(3), options, 5, 0, (), "target")
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
