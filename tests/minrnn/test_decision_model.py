"""The decision model: what it may see, and how it is evaluated."""

import numpy as np
import pytest
import torch

from lib.minrnn import decision_model as dm
from lib.minrnn.decision_model import DecisionSettings
from lib.minrnn.offline_windows import Normalisation, OfflineWindows, held_out_split
from lib.minrnn.pendulum import Trajectories, collect, hanging_start, observe, pendulum_step
from lib.minrnn.token_model import Architecture, Optimisation

MIXERS = ["min_gru", "min_lstm", "attention", "s6", "diagonal_ssm", "memoryless"]


def model_of(mixer: str, d_observation: int = 3, context: int = 6) -> dm.DecisionModel:
    torch.manual_seed(0)
    options = {"max_positions": 3 * context, "options": (("heads", 2),)} if mixer == "attention" else {}
    architecture = Architecture(mixer, 2, 16, mlp="gelu", **options)  # type: ignore[arg-type]
    return dm.DecisionModel(d_observation, 1, 2.0, architecture, Optimisation(1, 1e-3)).eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 6, n, generator=generator) for n in (1, 3, 1))  # type: ignore[return-value]


@pytest.mark.parametrize("mixer", MIXERS)
def test_an_action_is_predicted_without_itself_and_without_the_future(mixer: str) -> None:
    model, (r, s, a) = model_of(mixer), inputs()
    before = model(r, s, a)
    for changed, first in ((0, 3), (1, 3), (2, 4)):  # R_3, s_3 act from step 3 on; a_3 from step 4 on
        columns = [r.clone(), s.clone(), a.clone()]
        columns[changed][:, 3] += 1
        after = model(*columns)
        torch.testing.assert_close(before[:, :first], after[:, :first])
        depends = (before[:, first:] - after[:, first:]).abs().max() > 1e-6
        assert depends == (mixer != "memoryless" or changed != 2)


def test_the_memoryless_control_has_no_past() -> None:
    model, (r, s, a) = model_of("memoryless"), inputs()
    alone = model(r[:, 4:5], s[:, 4:5], a[:, 4:5])
    torch.testing.assert_close(model(r, s, a)[:, 4:5], alone)


def data_of(context: int = 6) -> OfflineWindows:
    train, held_out = collect("medium-expert", 6, 0).split(5)
    return OfflineWindows(train, held_out, DecisionSettings(context=context, batch=16), seed=0)


def test_windows_hold_one_episode_in_order_and_mark_their_padding() -> None:
    data = data_of()
    returns, observations, actions, real = data.windows(data.train_set, 400, np.random.default_rng(0))
    scale = data.normalisation
    episodes = scale.observations(data.train_set.observations).astype(np.float32)
    assert 0 < (real == 0).sum() < real.numel() / 10
    for i in range(400):
        n = int(real[i].sum())
        assert real[i, :n].all()
        assert not real[i, n:].any()
        assert not observations[i, n:].any()
        assert not actions[i, n:].any()
        assert not returns[i, n:].any()
        hits = [
            (e, t)
            for e in range(5)
            for t in np.flatnonzero(episodes[e, :, 2] == observations[i, 0, 2].numpy())
            if np.array_equal(episodes[e, t : t + n], observations[i, :n].numpy())
        ]
        assert hits
        e, t = hits[0]
        expected = data.train_set.rewards[e, t:].sum() / scale.return_scale
        assert float(returns[i, 0, 0]) == pytest.approx(expected, rel=1e-5)
    assert observations.reshape(-1, 3).std(0).sub(1).abs().max() < 0.3


def test_padding_is_left_out_of_the_error() -> None:
    model, (r, s, a) = model_of("min_gru"), inputs()
    real = torch.ones(2, 6)
    real[:, 4:] = 0
    changed = a.clone()
    changed[:, 4:] += 100
    assert model.action_error((r, s, a, real)) == model.action_error((r, s, changed, real))
    by_hand = (model(r, s, a) - a)[:, :4].square().mean()
    torch.testing.assert_close(model.action_error((r, s, a, real)), by_hand)


def test_evaluation_takes_rewards_off_the_target_and_keeps_the_trained_context() -> None:
    data = data_of(context=4)
    asked: list[tuple[int, np.ndarray, np.ndarray]] = []

    class Spy(dm.DecisionModel):
        def forward(self, returns, observations, actions):  # type: ignore[no-untyped-def]
            asked.append((returns.shape[1], returns[:, -1, 0].numpy().copy(), actions[:, :-1].numpy().copy()))
            return torch.full((*returns.shape[:2], 1), 1.0)

    spy = Spy(3, 1, 2.0, Architecture("min_gru", 1, 8), Optimisation(1, 1e-3))
    totals = dm.evaluate_pendulum(spy, data, -300.0, 3, np.random.default_rng(0))
    theta, speed = hanging_start(3, np.random.default_rng(0))
    to_go = np.full(3, -300.0)
    for t in range(200):
        length, shown, past_actions = asked[t]
        assert length == min(t + 1, 4)
        np.testing.assert_allclose(shown, to_go / data.normalisation.return_scale, rtol=1e-4, atol=1e-6)
        assert (past_actions == 1.0).all()
        theta, speed, reward = pendulum_step(theta, speed, np.ones(3))
        to_go = to_go - reward
    np.testing.assert_allclose(totals, -300 - to_go, rtol=1e-6)


def test_normalisation_is_that_of_the_real_training_steps() -> None:
    base = collect("medium", 3, 0)
    observations, actions, rewards = (x.copy() for x in (base.observations, base.actions, base.rewards))
    for x in (observations, actions, rewards):
        x[0, 50:] = 0
    cut = Trajectories(observations, actions, rewards, np.array([50, 200, 200]))
    found = Normalisation.of(cut)
    real = np.concatenate([base.observations[0, :50], base.observations[1], base.observations[2]])
    np.testing.assert_allclose(found.mean, real.mean(0))
    np.testing.assert_allclose(found.sd, real.std(0), rtol=1e-3)


def test_hidden_velocity_never_reaches_the_model() -> None:
    train, held_out = collect("medium", 4, 0).hide((2,)).split(3)
    data = OfflineWindows(train, held_out, DecisionSettings(context=4, batch=8), 0)
    model = model_of("min_gru", d_observation=2)
    totals = dm.evaluate_pendulum(model, data, -300.0, 2, np.random.default_rng(0), hidden=(2,))
    assert totals.shape == (2,)
    assert (totals < 0).all()
    assert observe(np.zeros(1), np.ones(1))[0, 2] == 1  # column 2 is the velocity


def test_the_memoryless_control_has_about_as_many_weights() -> None:
    settings = DecisionSettings()
    sizes = {}
    for mixer in ("min_gru", "memoryless"):
        model = dm.DecisionModel(3, 1, 2.0, settings.architecture(mixer), settings.optimisation(1e-3))
        sizes[mixer] = sum(p.numel() for p in model.parameters())
    assert 0.8 < sizes["memoryless"] / sizes["min_gru"] < 1.25


def test_a_tenth_of_the_episodes_is_held_out_and_never_none() -> None:
    for episodes, kept in ((40, 4), (6, 1), (2, 1)):
        train, rest = held_out_split(collect("medium", episodes, 0))
        assert (len(train.lengths), len(rest.lengths)) == (episodes - kept, kept)
