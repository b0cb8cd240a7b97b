"""Losses over several steps: the schedule cancels, sums are over tokens, VarGrad subtracts."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lib.ddpp.masked_diffusion import mask_probability, noise_level
from lib.ddpp.samplers import LAST_TIME, cached, first_hitting, random_order
from lib.ddpp.trajectory_balance import (
    choose_events,
    relative_trajectory_balance_loss,
    sample_events,
    sub_trajectory_loss,
    token_log_probs,
    trajectory_residual,
)
from tests.ddpp.small_denoisers import TimedDenoiser, mu, random_denoiser


def transition_log_prob(denoiser, before: list[int], after: list[int], stay: float) -> float:
    """log of one ancestral transition, with the probabilities of staying and leaving written out."""
    total = 0.0
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        if a == denoiser.n_symbols:
            leaves = b != denoiser.n_symbols
            total += math.log((1 - stay) * mu(denoiser, tuple(before), i)[b]) if leaves else math.log(stay)
    return total


def test_transition_log_ratios_sum_to_token_log_ratios() -> None:
    """The schedule cancels: whole T-step trajectories against one ratio per token."""
    q, p = random_denoiser(4, 3, seed=0), random_denoiser(4, 3, seed=1)
    steps, mask = 6, 3
    grid = torch.linspace(1, LAST_TIME, steps + 1, dtype=torch.float64)
    made = cached(q, 40, steps=steps, generator=torch.Generator().manual_seed(0))
    ratio = token_log_probs(q, made.tokens, made.event) - token_log_probs(p, made.tokens, made.event)
    for b in range(40):
        # the step at which each token left the mask, from the time of its event
        step = [int((grid - made.times[b, e]).abs().argmin()) for e in made.event[b].tolist()]
        assert max(step) < steps
        total = 0.0
        for k in range(steps):
            before = [int(v) if s < k else mask for v, s in zip(made.tokens[b], step, strict=True)]
            after = [int(v) if s <= k else mask for v, s in zip(made.tokens[b], step, strict=True)]
            stay = float(mask_probability(grid[k + 1]) / mask_probability(grid[k]))
            total += transition_log_prob(q, before, after, stay) - transition_log_prob(p, before, after, stay)
        assert float(ratio[b].detach().sum()) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("timed", [False, True])
def test_rescoring_equals_what_the_sampler_saw(timed: bool) -> None:
    denoiser = random_denoiser(4, 3, seed=2, kind=TimedDenoiser)
    for made in (
        first_hitting(denoiser, 30, generator=torch.Generator().manual_seed(0), time_conditioned=timed),
        cached(denoiser, 30, steps=3, generator=torch.Generator().manual_seed(0), time_conditioned=timed),
    ):
        again = token_log_probs(denoiser, made.tokens, made.event, times=made.times if timed else None)
        torch.testing.assert_close(again.float(), made.log_prob.float(), atol=1e-5, rtol=0)
    assert float(noise_level(torch.tensor(0.5))) > 0


def test_partial_trajectories_and_chosen_events() -> None:
    denoiser = random_denoiser(3, 2, seed=3)
    clean = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 1]])
    masked = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
    event = random_order(masked, torch.Generator().manual_seed(0))
    whole = token_log_probs(denoiser, clean, event).detach()
    assert (whole[~masked] == 0).all()
    for b, i in masked.nonzero().tolist():
        state = [2 if event[b, j] >= event[b, i] else int(clean[b, j]) for j in range(3)]
        assert float(whole[b, i]) == pytest.approx(
            math.log(mu(denoiser, tuple(state), i)[clean[b, i]]), abs=1e-9
        )
    kept = torch.tensor([[True, False, False], [False, True, True], [True, True, True]])
    part = token_log_probs(denoiser, clean, event, kept=kept).detach()
    rest = token_log_probs(denoiser, clean, event, kept=~kept).detach()
    torch.testing.assert_close(part + rest, whole)
    assert ((part == 0) | (rest == 0)).all()
    assert not token_log_probs(denoiser, clean, torch.full_like(event, -1)).any()


def test_residual_vanishes_for_the_tilted_chain() -> None:
    """q = p with a constant reward: log Z is that constant."""
    p = random_denoiser(2, 3, seed=4)
    made = first_hitting(p, 10, generator=torch.Generator().manual_seed(0))
    token = token_log_probs(p, made.tokens, made.event)
    reward = torch.full((10,), 1.7, dtype=torch.float64)
    delta = trajectory_residual(token, token, reward, 1.7)
    assert delta.abs().max() < 1e-12
    assert float(
        relative_trajectory_balance_loss(token, token, reward, torch.tensor(0.7)).detach()
    ) == pytest.approx(1.0)


def test_vargrad_subtracts_the_mean() -> None:
    q = torch.tensor([[1.0], [3.0]], requires_grad=True)
    p, reward = torch.zeros(2, 1), torch.tensor([10.0, 10.0])
    loss = relative_trajectory_balance_loss(q, p, reward, None)
    assert (
        float(loss.detach()) == 1.0
    )  # residuals −9 and −7 about their mean −8; adding it would give 256 and more
    with pytest.raises(ValueError, match="at least two"):
        relative_trajectory_balance_loss(q[:1], p[:1], reward[:1], None)


def test_share_of_detached_steps() -> None:
    generator = torch.Generator().manual_seed(0)
    assert int(choose_events(32, 0.3, generator).sum()) == 22
    assert int(choose_events(4, 0.99, generator).sum()) == 1
    assert bool(choose_events(5, 0.0, generator).all())
    counts = torch.stack([choose_events(5, 0.6, generator) for _ in range(2000)]).sum(0)
    assert (counts - 800).abs().max() < 100
    with pytest.raises(ValueError, match="detached"):
        choose_events(5, 1.0, generator)


def test_subsampled_steps_estimate_the_sum_without_bias() -> None:
    """Eq. 8: k/S times the sum over S random steps of k has the mean of the whole sum (Eq. 7)."""
    q, p = random_denoiser(3, 2, seed=5), random_denoiser(3, 2, seed=6)
    clean = torch.tensor([[0, 1, 1]]).expand(4000, -1)
    event = torch.tensor([[1, 0, 2]]).expand(4000, -1)
    total = torch.full((4000,), 3)
    kept = sample_events(total, 3, 2, torch.Generator().manual_seed(0))
    assert (kept.sum(1) == 2).all()
    ratio = [
        (token_log_probs(q, clean, event, kept=k) - token_log_probs(p, clean, event, kept=k)).detach().sum(1)
        for k in (None, kept)
    ]
    estimate = ratio[1] * 3 / 2
    assert float(estimate.mean()) == pytest.approx(
        float(ratio[0][0]), abs=4 * float(estimate.std()) / math.sqrt(4000)
    )
    assert float(estimate.std()) > 0.01
    few = sample_events(torch.tensor([0, 1, 3]), 3, 2, torch.Generator().manual_seed(0))
    assert few.sum(1).tolist() == [0, 1, 2]


def test_sub_trajectory_loss_is_the_written_square() -> None:
    log_q, log_p = torch.tensor([[-1.0, -2.0], [-0.5, 0.0]]), torch.tensor([[-1.5, -1.0], [-1.0, 0.0]])
    reward, log_z = torch.tensor([-0.2, 0.3]), torch.tensor([0.1, 0.4])
    expected = ((-0.5 + 0.2 + 0.1) ** 2 + (0.5 - 0.3 + 0.4) ** 2) / 2
    assert float(sub_trajectory_loss(log_q, log_p, reward, log_z)) == pytest.approx(expected)


def enumerate_trajectories(denoiser, n: int, n_symbols: int) -> tuple[Tensor, Tensor]:
    """All (clean, event) of first-hitting trajectories."""
    rows = [
        (clean, order)
        for clean in itertools.product(range(n_symbols), repeat=n)
        for order in itertools.permutations(range(n))
    ]
    return torch.tensor([c for c, _ in rows]), torch.tensor([o for _, o in rows])


def test_zero_loss_on_all_trajectories_means_the_target() -> None:
    """Residuals of the exact tilted conditionals vanish on every trajectory, with Z of the enumerated target."""
    from tests.ddpp.small_denoisers import random_law, true_conditionals

    law = random_law(3, 2, seed=7)
    log_reward = torch.randn((2, 2, 2), generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    tilted = law * log_reward.exp()
    prior, posterior = true_conditionals(law), true_conditionals(tilted / tilted.sum())
    clean, event = enumerate_trajectories(prior, 3, 2)
    delta = trajectory_residual(
        token_log_probs(posterior, clean, event),
        token_log_probs(prior, clean, event),
        log_reward[tuple(clean.T)],
        tilted.sum().log(),
    )
    assert delta.abs().max() < 1e-9


def test_loss_with_a_scalar_log_z_equals_the_stored_value_of_torchgfn() -> None:
    """Trajectory balance of torchgfn on a hypergrid; its backward policy takes the place of the frozen chain."""
    stored = json.loads((Path(__file__).parent / "peer_values.json").read_text())["trajectory_balance"]
    log_pf, log_pb, reward = (torch.tensor([stored[k]]).T for k in ("log_pf", "log_pb", "log_reward"))
    loss = relative_trajectory_balance_loss(log_pf, log_pb, reward.squeeze(1), torch.tensor(stored["log_z"]))
    assert float(loss) == pytest.approx(stored["loss"], rel=1e-5)
    assert stored["loss"] > 0.1
