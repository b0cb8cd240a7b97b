"""Training: fixed points, counts, the frozen prior, the buffer, resuming."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib.ddpp.denoisers import EmbeddingMLP
from lib.ddpp.dit import DiT
from lib.ddpp.masked_diffusion import symbol_log_probs
from lib.ddpp.replay_buffer import ReplayBuffer
from lib.ddpp.rewards import TableReward
from lib.ddpp.steering import METHODS, ROUND, Steering, SteeringSettings, steer
from lib.ddpp.trainer import fit
from lib.profiles import ParameterError
from tests.ddpp.small_denoisers import (
    TimedDenoiser,
    law_by_orders,
    random_denoiser,
    random_law,
    total_variation,
    true_conditionals,
)


def table(n: int, n_symbols: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn((n_symbols,) * n, generator=torch.Generator().manual_seed(seed))


def fingerprint(network: nn.Module) -> str:
    """Hash of all parameters."""
    digest = hashlib.sha256()
    for parameter in network.state_dict().values():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


SMALL: dict[str, Any] = {"refill_size": 256, "buffer_size": 512, "refill_every": 25, "pool": 20_000}


@pytest.mark.parametrize("method", ["is", "lb", "kl"])
@pytest.mark.parametrize("buffer", ["on-policy", "prior"])
def test_one_masked_token_is_learned_exactly(method: str, buffer: str) -> None:
    """q = μ R^(1/β) / Z with one mask: n = 1."""
    prior = random_denoiser(1, 5, seed=0).float()
    reward = TableReward(table(1, 5, 1), exponent=1.5)
    result = steer(
        prior, reward, method, steps=250, learning_rate=0.05, log_z_rate=0.02, completions=128, buffer=buffer, **SMALL
    )  # fmt: skip
    target = (symbol_log_probs(prior.table[5, 0].detach()) + 1.5 * reward.table).softmax(0)
    trained = symbol_log_probs(result.denoiser.table[5, 0].detach()).exp()
    assert total_variation(trained, target) < 0.01
    assert total_variation(symbol_log_probs(prior.table[5, 0].detach()).exp(), target) > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_constant_reward_leaves_the_prior_where_it_is(method: str) -> None:
    """The loss starts at zero and nothing moves; the two whose gradient is noise of mean zero stay close."""
    prior = true_conditionals(random_law(2, 3, seed=2)).float()
    options = {"path_gradient_only": True} if method == "kl" else {}
    rate = 1e-3 if method == "weighted_ce" else 0.05
    result = steer(
        prior, TableReward(torch.zeros(3, 3)), method, steps=50, learning_rate=rate, **{**SMALL, **options}
    )
    drift = total_variation(
        law_by_orders(result.denoiser.double()), law_by_orders(copy.deepcopy(prior).double())
    )
    if method == "weighted_ce":
        assert drift < 0.02
        return
    assert drift < 1e-6
    if method != "kl":
        assert result.losses.abs().max() == 0


def test_importance_sampling_starts_at_zero_for_any_constant() -> None:
    prior = random_denoiser(2, 3, seed=3).float()
    result = steer(prior, TableReward(torch.full((3, 3), -1.7)), "is", steps=30, learning_rate=0.05, **SMALL)
    assert result.losses.abs().max() == 0
    assert fingerprint(result.denoiser) == fingerprint(prior)


def test_rtb_learns_log_z_and_the_target() -> None:
    n, v = 2, 6
    law = random_law(n, v, seed=4)
    prior = true_conditionals(law).float()
    base = law_by_orders(copy.deepcopy(prior).double())
    reward = TableReward(
        torch.where(torch.arange(v).view(-1, 1) >= v // 2, 0.0, -4.0).expand(v, v).contiguous()
    )
    target = base * reward.table.double().exp()
    options: dict[str, Any] = {"steps": 400, "learning_rate": 0.05, "log_z_rate": 0.05}
    result = steer(prior, reward, "rtb", **options)
    assert result.log_z == pytest.approx(float(target.sum().log()), abs=0.05)
    assert total_variation(law_by_orders(result.denoiser.double()), target / target.sum()) < 0.03
    vargrad = steer(prior, reward, "rtb", vargrad=True, buffer="mixed", **{**options, **SMALL})
    assert vargrad.log_z is None
    assert total_variation(law_by_orders(vargrad.denoiser.double()), target / target.sum()) < 0.03


@pytest.mark.parametrize("method", ["rtb", "subtrajectory", "weighted_ce"])
def test_what_is_exact_reaches_a_target_that_is_not_additive(method: str) -> None:
    """A dependent prior and a reward with interaction: no single-step bias is left."""
    law = random_law(2, 3, seed=5)
    prior = true_conditionals(law).float()
    reward = TableReward(table(2, 3, 6, 1.5))
    target = law * reward.table.double().exp()
    result = steer(
        prior, reward, method, steps=600, batch_size=128, learning_rate=0.05, log_z_rate=0.03,
        buffer="mixed", refill_size=512, buffer_size=2048, refill_every=25, pool=40_000,
    )  # fmt: skip
    assert total_variation(law_by_orders(result.denoiser.double()), target / target.sum()) < 0.03
    assert total_variation(law, target / target.sum()) > 0.1
    if method == "weighted_ce":
        assert 1 < result.ess < 40_000


# --- Table 1 ---------------------------------------------------------------------------------------------------------------


class CountedReward(TableReward):
    """Counts sequences that are scored, by either way."""

    asked = 0

    def log_reward(self, clean: Tensor) -> Tensor:
        self.asked += len(clean)
        return super().log_reward(clean)

    def log_reward_at_vertex(self, onehot: Tensor, clean: Tensor) -> Tensor:
        self.asked += len(clean)
        return super().log_reward(clean).to(onehot.dtype) + 0 * onehot.sum((-1, -2))


CALLS = {  # method, settings: calls of the tuned network, of the frozen one, of the reward, per item and step
    "is": ({"completions": 16}, 1, 1, 16),
    "lb": ({}, 1, 1, 0),
    "kl": ({"kl_samples": 8}, 1, 1, 8),
    "rtb": ({}, 4, 4, 1),
    "rtb, 3 steps": ({"sampling_steps": 2}, None, None, 1),
    "weighted_ce": ({}, 1, 0, 0),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_a_step(name: str) -> None:
    """Table 1: T calls of RTB, one of the others; IS pays M rewards. Counted by hooks and by the counter."""
    method = name.split(",")[0]
    settings, model, frozen, rewards = CALLS[name]
    prior = EmbeddingMLP(4, 3, 8, 8, 1)
    reward = CountedReward(table(4, 3, 0))
    module = Steering(
        prior, reward, method, SteeringSettings(steps=10, batch_size=32, **{**SMALL, **settings})
    )
    module.on_fit_start()
    module._refill()
    rows = {"posterior": 0, "prior": 0}
    for part in rows:
        getattr(module, part).register_forward_hook(
            lambda m, args, out, part=part: rows.__setitem__(part, rows[part] + len(args[0]))
        )
    before, reward.asked = copy.deepcopy(module.counter), 0
    module.loss()
    after = module.counter
    assert after.rows - before.rows == rows["posterior"] + rows["prior"]
    assert after.model - before.model == rows["posterior"] / 32
    assert after.prior - before.prior == rows["prior"] / 32
    assert after.reward - before.reward == reward.asked / 32 == rewards
    assert after.reward_rows - before.reward_rows == reward.asked
    if model is not None:
        assert after.model - before.model == model
        assert after.prior - before.prior == frozen
    else:
        assert 1 < after.model - before.model <= 3  # at most T events and the left-over
    assert after.sampling == before.sampling


def test_refills_are_counted_apart_and_history_adds_up() -> None:
    prior, reward = EmbeddingMLP(3, 3, 8, 8, 1), CountedReward(table(3, 3, 0))
    result = steer(
        prior, reward, "lb", steps=60, batch_size=16, keep_at=(0, 25, 60), refill_every=30, refill_size=64
    )
    assert [h["step"] for h in result.history] == [0, 25, 60]
    end = result.history[-1]
    assert end["model"] == 60
    assert end["sampling"] == 2 * 3 * 64 / 16
    assert end["sampling_reward"] == 2 * 64 / 16 == reward.asked / 16
    assert end["model_calls"] == end["model"] + end["sampling"]
    assert end["reward_calls"] == end["sampling_reward"]
    assert sorted(result.checkpoints) == sorted(result.log_z_checkpoints) == [0, 25, 60]
    assert fingerprint(result.checkpoints[0]) == fingerprint(prior)
    assert fingerprint(result.checkpoints[60]) == fingerprint(result.denoiser)
    assert len({fingerprint(network) for network in result.checkpoints.values()}) == 3


# --- what must not change ------------------------------------------------------------------------------------------------


class CleanOnlyReward(TableReward):
    """Refuses a sequence that still holds a mask."""

    def log_reward(self, clean: Tensor) -> Tensor:
        assert (clean < 4).all(), "a reward was asked for a masked sequence"
        return super().log_reward(clean)

    def log_reward_at_vertex(self, onehot: Tensor, clean: Tensor) -> Tensor:
        assert torch.equal(onehot.detach(), nn.functional.one_hot(clean, 4).to(onehot.dtype))
        return super().log_reward_at_vertex(onehot, clean)


@pytest.mark.parametrize("method", METHODS)
def test_the_prior_is_frozen_and_the_buffer_clean(method: str) -> None:
    prior = DiT(3, 4, width=16, blocks=1, heads=2, dropout=0.5)
    nn.init.normal_(prior.output.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    before = fingerprint(prior)
    module = Steering(
        prior, CleanOnlyReward(table(3, 4, 1)), method, SteeringSettings(steps=ROUND, batch_size=16, **{**SMALL, "pool": 500})
    )  # fmt: skip
    fit(module, steps=module.rounds, seed=0)
    assert fingerprint(prior) == fingerprint(module.prior) == before
    assert fingerprint(module.posterior) != before
    assert all(p.grad is None and not p.requires_grad for p in module.prior.parameters())
    assert not any(m.training for m in module.modules())  # dropout is off in both
    if method != "rtb":
        assert len(module.buffer) > 0
    assert (module.buffer.tokens[: len(module.buffer)] < 4).all()
    assert torch.isfinite(module.losses).all()


def test_buffer() -> None:
    buffer = ReplayBuffer(5, 2, 3, "cpu")
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(1, torch.Generator())
    buffer.add(torch.tensor([[0, 1], [1, 1], [2, 2]]), torch.tensor([0.0, 1.0, 2.0]))
    buffer.add(torch.tensor([[0, 0], [1, 0], [2, 0]]), torch.tensor([3.0, 4.0, 5.0]))
    assert len(buffer) == 5
    assert sorted(buffer.reward.tolist()) == [1, 2, 3, 4, 5]  # the oldest made room
    tokens, reward = buffer.sample(20_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(reward.long(), minlength=6)[1:]
    assert (counts - 4000).abs().max() < 4 * (20_000 * 0.16) ** 0.5
    assert (tokens[reward == 5] == torch.tensor([2, 0])).all()
    with pytest.raises(ValueError, match="mask"):
        buffer.add(torch.tensor([[3, 0]]), torch.zeros(1))
    with pytest.raises(ValueError, match="finite"):
        buffer.add(torch.tensor([[0, 0]]), torch.tensor([torch.nan]))
    other = ReplayBuffer(5, 2, 3, "cpu")
    other.load(buffer.state())
    assert torch.equal(other.tokens, buffer.tokens)
    assert (other.next, len(other)) == (buffer.next, 5)
    with pytest.raises(ValueError, match="capacity"):
        ReplayBuffer(0, 2, 3, "cpu")


def test_another_seed_gives_another_network() -> None:
    prior, reward = EmbeddingMLP(3, 4, 8, 16, 1), TableReward(table(3, 4, 2))
    results = [steer(prior, reward, "is", seed=seed, steps=10, **SMALL) for seed in (1, 1, 2)]
    first, same, other = (fingerprint(result.denoiser) for result in results)
    assert first == same != other


# --- settings that change how, not what ---------------------------------------------------------------------------------


def test_tabulating_the_prior_changes_nothing() -> None:
    prior, reward = EmbeddingMLP(2, 4, 8, 16, 1), TableReward(table(2, 4, 3))
    results = [
        steer(prior, reward, "is", steps=30, tabulate_prior=t, **{**SMALL, "buffer": "mixed"})
        for t in (False, True)
    ]
    torch.testing.assert_close(results[0].losses, results[1].losses, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_time_conditioned_networks(method: str) -> None:
    prior = random_denoiser(3, 2, seed=7, kind=TimedDenoiser).float()
    result = steer(
        prior, TableReward(table(3, 2, 4)), method, steps=20, time_conditioned=True, sub_steps=2, detached=0.4,
        **{**SMALL, "buffer": "mixed", "pool": 500},
    )  # fmt: skip
    assert torch.isfinite(result.losses).all()
    assert fingerprint(result.denoiser) != fingerprint(prior)


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_runs_close_to_float32(method: str) -> None:
    """Half precision in the networks; log-probabilities, log Z and residuals stay in float32."""
    prior = EmbeddingMLP(3, 4, 16, 32, 1, seed=1)
    options: dict[str, Any] = {**SMALL, "steps": ROUND, "pool": 500, "buffer": "prior"}
    results = [
        steer(prior, TableReward(table(3, 4, 6)), method, precision=p, **options)
        for p in ("32-true", "bf16-mixed")
    ]
    full, half = (r.losses for r in results)
    assert half.dtype == torch.float32
    assert torch.isfinite(half).all()
    assert float((full - half).abs().mean()) < 0.1 * float(full.abs().mean()) + 0.01


def test_log_z_warm_up_moves_log_z_only() -> None:
    prior = random_denoiser(2, 3, seed=8).float()
    for method in ("lb", "subtrajectory"):
        result = steer(
            prior, TableReward(table(2, 3, 5)), method, steps=40, log_z_warm_up=20, keep_at=(20, 40), **SMALL
        )
        assert fingerprint(result.checkpoints[20]) == fingerprint(prior)
        assert fingerprint(result.denoiser) != fingerprint(prior)
        at_all_masked = result.log_z_checkpoints[20](torch.tensor([[3, 3]]))
        assert float(at_all_masked.detach()) != 0.0


def test_given_data_feed_the_mixed_buffer() -> None:
    prior, data = random_denoiser(2, 3, seed=9).float(), torch.tensor([[2, 1], [2, 2]])
    result = steer(
        prior, TableReward(table(2, 3, 5)), "lb", steps=10, buffer="prior", data=data, refill_size=64
    )
    assert {tuple(row) for row in result.buffer_tokens.tolist()} == {(2, 1), (2, 2)}
    assert result.counter.sampling == 0


def test_moving_average_is_what_is_returned() -> None:
    prior = random_denoiser(2, 3, seed=10).float()
    options: dict[str, Any] = {**SMALL, "steps": 30, "learning_rate": 0.05}
    slow = steer(prior, TableReward(table(2, 3, 5)), "is", ema_decay=0.99, **options)
    fast = steer(prior, TableReward(table(2, 3, 5)), "is", **options)
    start = prior.table.detach()
    assert (slow.denoiser.table - start).norm() < 0.5 * (fast.denoiser.table - start).norm()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "lbs"}, ParameterError, "did you mean 'lb'"),
        ({"buffer": "offline"}, ParameterError, "buffer"),
        ({"steps": 0}, ValueError, "steps=0"),
        ({"completions": 0}, ValueError, "completions=0"),
        ({"detached": 1.0}, ValueError, "detached"),
        ({"kl_samples": -1}, ValueError, "kl_samples"),
        ({"sub_steps": 0}, ValueError, "sub_steps"),
        ({"tabulate_prior": True, "time_conditioned": True}, ValueError, "tabulate_prior"),
        ({"data": torch.zeros((2, 5), dtype=torch.long)}, ValueError, "data: expected shape"),
        ({"device": "cuda"}, ValueError, "CUDA"),
        ({"device": "mps"}, ValueError, "float64"),
        ({"precision": "16-mixed"}, ValueError, "bf16-mixed"),
    ],
)
def test_wrong_settings_stop_in_one_line(
    options: dict[str, Any], error: type, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = {"method": "is", "steps": 2, **options}
    with pytest.raises(error, match=message) as caught:
        steer(random_denoiser(2, 3, seed=0).float(), TableReward(table(2, 3, 0)), **options)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    prior = EmbeddingMLP(2, 3, 8, 8, 1)
    nn.init.constant_(prior.output.bias, torch.nan)
    with pytest.raises(FloatingPointError, match="lb"):
        steer(prior, TableReward(table(2, 3, 0)), "lb", steps=2, buffer="prior", data=torch.tensor([[0, 1]]))
