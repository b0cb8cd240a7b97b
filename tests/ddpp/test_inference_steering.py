"""Steering without training: laws of best-of-N, SIR and SVDD, and what they cost."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from lib.ddpp.inference_steering import best_of_n, sir_pool, svdd
from lib.ddpp.rewards import TableReward
from lib.ddpp.samplers import sample
from tests.ddpp.small_denoisers import (
    histogram,
    law_by_steps,
    random_denoiser,
    random_law,
    true_conditionals,
)


def p_value(tokens: Tensor, law: Tensor) -> float:
    """Chi-square test of samples against a law over clean states."""
    counts = histogram(tokens, law.shape[0]).flatten().double()
    expected = (len(tokens) * law / law.sum()).flatten()
    return float(stats.chisquare(counts.numpy(), expected.numpy()).pvalue)


def setting() -> tuple[torch.nn.Module, TableReward, Tensor]:
    """A prior, a reward and the target law."""
    law = random_law(2, 3, seed=0)
    table = torch.randn((3, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    reward = TableReward(table, exponent=1.5)
    target = law * (1.5 * table).exp()
    return true_conditionals(law), reward, target / target.sum()


def test_sir_has_the_target_law_and_best_of_n_has_not() -> None:
    denoiser, reward, target = setting()
    pool = sample(denoiser, 400_000, generator=torch.Generator().manual_seed(0), batch_size=400_000)
    log_reward = reward.log_reward(pool)
    generator = torch.Generator().manual_seed(1)
    resampled = sir_pool(pool, reward(pool), 2000, generator)
    assert len(resampled) == 2000
    assert p_value(resampled, target) > 0.01
    best = best_of_n(pool, log_reward, 10)
    assert len(best) == 40_000
    assert p_value(best[:2000], target) < 1e-6
    # the largest N keeps nothing but the best state
    winner = reward.table.flatten().argmax()
    assert (histogram(best_of_n(pool, log_reward, 4000), 3).flatten().nonzero() == winner).all()
    groups = log_reward.view(-1, 10)
    torch.testing.assert_close(reward.log_reward(best), groups.amax(1))


def test_svdd_with_one_particle_is_the_base_sampler() -> None:
    denoiser, reward, _ = setting()
    made = svdd(denoiser, reward, 60_000, particles=1, steps=3, generator=torch.Generator().manual_seed(0), batch_size=60_000)  # fmt: skip
    law = torch.zeros((3, 3), dtype=torch.float64)
    for state, mass in law_by_steps(denoiser, 3).items():
        law[state] = mass
    assert p_value(made.tokens, law) > 0.01
    tilted = svdd(denoiser, reward, 5000, particles=4, steps=3, generator=torch.Generator().manual_seed(0))
    assert p_value(tilted.tokens, law) < 1e-6


@pytest.mark.parametrize("particles", [1, 10])
def test_svdd_asks_the_network_n_times_a_step(particles: int) -> None:
    """Table 1: N model calls per inference step, and as many rewards; one call to begin with."""
    network = random_denoiser(3, 3, seed=2)
    asked = {"network": 0, "reward": 0}
    network.register_forward_hook(
        lambda m, args, out: asked.__setitem__("network", asked["network"] + len(args[0]))
    )

    class Counted(TableReward):
        def log_reward(self, clean: Tensor) -> Tensor:
            asked["reward"] += len(clean)
            return super().log_reward(clean)

    reward = Counted(torch.zeros(3, 3, 3))
    made = svdd(network, reward, 7, particles=particles, steps=5, generator=torch.Generator().manual_seed(0))
    assert made.counter.model == 5 * particles + 1
    assert made.counter.reward == 5 * particles
    assert asked == {"network": made.counter.rows, "reward": made.counter.reward_rows}
    assert made.counter.rows == 7 * (5 * particles + 1)


def test_svdd_temperature_and_value() -> None:
    denoiser, reward, _ = setting()
    mean = {}
    for alpha in (0.0, 1.0, 1e6):
        made = svdd(
            denoiser,
            reward,
            8000,
            particles=5,
            steps=4,
            alpha=alpha,
            generator=torch.Generator().manual_seed(0),
        )
        mean[alpha] = float(reward.log_reward(made.tokens).mean())
    assert mean[0.0] > mean[1.0] > mean[1e6]
    base = sum(mass * float(reward.table[state]) for state, mass in law_by_steps(denoiser, 4).items())
    assert mean[1e6] == pytest.approx(base, abs=0.05)  # the flattest choice is the base sampler
    drawn = svdd(
        denoiser,
        reward,
        4000,
        particles=5,
        steps=4,
        value_of="draw",
        generator=torch.Generator().manual_seed(0),
    )
    assert float(reward.log_reward(drawn.tokens).mean()) > mean[1e6]
    assert (drawn.tokens < 3).all()


def test_errors() -> None:
    denoiser, reward, _ = setting()
    pool, r = torch.zeros((5, 2), dtype=torch.long), torch.zeros(5)
    with pytest.raises(ValueError, match="groups of n=2"):
        best_of_n(pool, r, 2)
    with pytest.raises(ValueError, match="groups of n=0"):
        best_of_n(pool, r, 0)
    with pytest.raises(ValueError, match="particles=0"):
        svdd(denoiser, reward, 2, particles=0, generator=torch.Generator())
    with pytest.raises(ValueError, match="value_of"):
        svdd(denoiser, reward, 2, value_of="mode", generator=torch.Generator())
