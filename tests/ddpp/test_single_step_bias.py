"""Predicted optima against minimised losses and trained networks (specification checks 7, 9)."""

from __future__ import annotations

import pytest
import torch

from lib.ddpp import exact_law
from lib.ddpp.enumerated import bound_excess, single_mask_posterior
from lib.ddpp.exact_law import Space
from lib.ddpp.experiments import string_prior
from lib.ddpp.grid import StringTask
from lib.ddpp.rewards import TableReward
from lib.ddpp.single_step_bias import (
    completion_weights,
    is_optimum,
    kl_optimum,
    lb_optimum,
    predicted_optimum,
)
from lib.ddpp.steering import steer
from tests.ddpp.test_exact_law import normal, random_table


def product_prior(space: Space, seed: int) -> torch.Tensor:
    """A denoiser whose answer does not depend on what is visible: an independent prior."""
    shape = (space.n_tokens, space.n_symbols)
    generator = torch.Generator().manual_seed(seed)
    law = torch.softmax(torch.randn(shape, generator=generator, dtype=torch.float64), -1)
    table = random_table(space)
    masked = (space.partial == space.n_symbols).unsqueeze(-1)
    return torch.where(masked, law.expand(len(space.partial), -1, -1), table)


def minimise(
    space: Space, prior: torch.Tensor, log_r: torch.Tensor, buffer: torch.Tensor, log_z: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimise E_w (log q − log p − r + c)² over free logits (and c where it is learned) by L-BFGS, state by state."""
    logits = torch.zeros(prior.shape, dtype=torch.float64, requires_grad=True)
    free = torch.zeros(len(prior), dtype=torch.float64, requires_grad=True)
    parameters = [logits] if log_z is not None else [logits, free]
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=3000, tolerance_grad=1e-11, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        log_q = torch.log_softmax(logits, -1)
        total = torch.zeros((), dtype=torch.float64)
        for pattern in space.patterns:
            sums = torch.zeros(pattern.rows.stop - pattern.rows.start, 1, dtype=torch.float64)
            for i in pattern.masked:
                sums = (sums[:, :, None] + log_q[pattern.rows, i][:, None]).flatten(1)
            c = (free if log_z is None else log_z)[pattern.rows]
            error = sums - exact_law.product_law(prior, pattern)
            error = error - space.arranged(log_r, pattern) + c[:, None]
            total = total + (completion_weights(space, buffer, pattern) * error.square()).sum()
        total.backward()
        return total

    optimiser.step(loss)
    masked = (space.partial == space.n_symbols).unsqueeze(-1)
    return torch.where(masked, torch.softmax(logits.detach(), -1), prior), free.detach()


def losses(
    space: Space,
    prior: torch.Tensor,
    log_r: torch.Tensor,
    buffer: torch.Tensor,
    table: torch.Tensor,
    c: torch.Tensor,
) -> torch.Tensor:
    """E_w (log q − log p − r + c)² at every state, (S,)."""
    parts = []
    for pattern in space.patterns:
        error = exact_law.product_law(table, pattern) - exact_law.product_law(prior, pattern)
        error = error - space.arranged(log_r, pattern) + c[pattern.rows][:, None]
        parts.append((completion_weights(space, buffer, pattern) * error.square()).sum(1))
    return torch.cat(parts)


@pytest.mark.parametrize("method", ["lb", "is"])
def test_optimum_equals_the_minimised_loss(method: str) -> None:
    """n = 5, V = 3, a random dependent prior, a random reward, a random buffer: table by table.

    IS's problem is not convex. Where the minimiser finds another minimum, it is a worse one.
    """
    space = Space(5, 3)
    prior, log_r = random_table(space, sharpness=0.7), normal(243)
    buffer = torch.softmax(0.7 * normal(243, 9), 0)
    log_z = exact_law.log_normalisers(space, prior, log_r)
    if method == "lb":
        table, constants = lb_optimum(space, prior, log_r, buffer)
        found, free = minimise(space, prior, log_r, buffer, None)
        assert torch.allclose(constants, free, atol=2e-4)
    else:
        table, constants = is_optimum(space, prior, log_r, buffer, log_z)
        found, free = minimise(space, prior, log_r, buffer, log_z)[0], log_z
    ours = losses(space, prior, log_r, buffer, table, constants)
    theirs = losses(space, prior, log_r, buffer, found, free)
    assert float((ours - theirs).max()) < 1e-8
    same = (ours - theirs).abs() < 1e-8
    assert float(same.double().mean()) > (0.999 if method == "lb" else 0.99)
    assert float((table - found)[same].abs().max()) < 5e-4
    marginals = exact_law.marginals(space, exact_law.posterior(exact_law.clean_law(space, prior), log_r)[0])
    assert float((table - marginals).abs().max()) > 0.05  # and it is not what a sampler needs


def test_kl_optimum_is_stationary() -> None:
    """The gradient of KL(Π q ‖ Π μ exp r / Z) with respect to free logits vanishes at every state."""
    space = Space(4, 3)
    prior, log_r = random_table(space, sharpness=0.7), normal(81)
    logits = kl_optimum(space, prior, log_r).table.clamp(min=1e-300).log().requires_grad_()
    log_q = torch.log_softmax(logits, -1)
    total = torch.zeros((), dtype=torch.float64)
    for pattern in space.patterns:
        sums = torch.zeros(pattern.rows.stop - pattern.rows.start, 1, dtype=torch.float64)
        for i in pattern.masked:
            sums = (sums[:, :, None] + log_q[pattern.rows, i][:, None]).flatten(1)
        inside = sums - exact_law.product_law(prior, pattern) - space.arranged(log_r, pattern)
        total = total + (sums.exp() * inside).sum()
    [gradient] = torch.autograd.grad(total, logits)
    assert float(gradient.abs().max()) < 1e-9


@pytest.mark.parametrize("method", ["is", "lb", "kl", "weighted_ce"])
def test_additive_reward_and_independent_prior_leave_no_bias(method: str) -> None:
    space = Space(5, 3)
    prior = product_prior(space, 4)
    log_r = torch.stack([normal(3, 20 + i)[space.clean[:, i]] for i in range(5)]).sum(0)
    target, _ = exact_law.posterior(exact_law.clean_law(space, prior), log_r)
    log_z = exact_law.log_normalisers(space, prior, log_r)
    for buffer in ("on-policy", "mixed", "prior"):
        optimum = predicted_optimum(space, prior, log_r, method, buffer, log_z)
        assert exact_law.total_variation(optimum.law, target) < 1e-6


@pytest.mark.parametrize("broken", ["reward", "prior"])
@pytest.mark.parametrize("method", ["is", "lb", "kl"])
def test_either_broken_condition_leaves_a_bias(method: str, broken: str) -> None:
    space = Space(3, 3)
    additive = torch.stack([normal(3, 20 + i)[space.clean[:, i]] for i in range(3)]).sum(0)
    prior = product_prior(space, 4)
    if broken == "prior":
        dependent = torch.softmax(2 * normal(27, 8), 0)
        prior, log_r = exact_law.marginals(space, dependent), additive
    else:
        log_r = additive + normal(27, 5)
    target, _ = exact_law.posterior(exact_law.clean_law(space, prior), log_r)
    log_z = exact_law.log_normalisers(space, prior, log_r)
    optimum = predicted_optimum(space, prior, log_r, method, "on-policy", log_z)
    assert exact_law.total_variation(optimum.law, target) > 0.005  # without a break it is below 1e-6
    exact = predicted_optimum(space, prior, log_r, "weighted_ce")
    assert exact_law.total_variation(exact.law, target) < 1e-10


@pytest.mark.parametrize("method", ["lb", "kl"])
def test_trained_networks_sit_on_the_prediction(method: str) -> None:
    """A network tuned on two-token strings is far closer to the predicted law than the prediction is to the target."""
    task = StringTask(2, 6, 1.0)
    network = string_prior(task, 0)
    space, log_r = task.space, task.log_reward()
    prior = exact_law.denoising_table(space, network)
    target, _ = exact_law.posterior(exact_law.clean_law(space, prior), log_r)
    optimum = predicted_optimum(space, prior, log_r, method)
    bias = exact_law.total_variation(optimum.law, target)
    reward = TableReward(log_r.float().reshape(6, 6))
    options = {"path_gradient_only": True} if method == "kl" else {}
    tuned = steer(
        network, reward, method, steps=500, batch_size=256, learning_rate=5e-3, log_z_rate=5e-3,
        refill_every=50, buffer_size=4096, **options,
    )  # fmt: skip
    law = exact_law.exact_law(space, tuned.denoiser)
    assert bias > 0.05
    assert exact_law.total_variation(law, optimum.law) < 0.3 * bias


def test_on_policy_expectation_never_exceeds_the_normaliser() -> None:
    """Prop. 1 at every state of three random models; equality where one mask is left and q is the posterior."""
    space = Space(3, 3)
    prior, log_r = random_table(space), normal(27)
    for seed in (11, 12, 13):
        assert float(bound_excess(space, prior, random_table(space, seed), log_r).max()) < 1e-12
    rows, exact = single_mask_posterior(space, prior, log_r)
    table = random_table(space, 14)
    where = (space.partial[rows] == 3).long().argmax(1)
    table[rows, where] = exact
    excess = bound_excess(space, prior, table, log_r)
    assert float(excess[rows].abs().max()) < 1e-12
    assert float(excess[space.n_masks > 1].max()) < -1e-3


@pytest.mark.parametrize("buffer", ["target", "on-policy"])
def test_learned_normaliser_exceeds_the_exact_one_where_completions_are_not_the_product(buffer: str) -> None:
    """A counter-example: the buffer's completions follow a joint law, LB's product does not, and the 'lower bound' lies above log Z."""
    task = StringTask(2, 6, 1.0)
    space, prior, log_r = task.space, task.prior_table(), task.log_reward()
    optimum = predicted_optimum(space, prior, log_r, "lb", buffer)
    exact = exact_law.log_normalisers(space, prior, log_r)
    assert float((optimum.log_z - exact)[space.n_masks == 2].min()) > 0.1
    assert torch.allclose(optimum.log_z[space.n_masks == 1], exact[space.n_masks == 1], atol=1e-8)


def test_wrong_names_and_a_missing_constant_are_one_line() -> None:
    task = StringTask(2, 3, 1.0)
    prior, log_r = task.prior_table(), task.log_reward()
    with pytest.raises(ValueError, match="method='rtbb'"):
        predicted_optimum(task.space, prior, log_r, "rtbb")
    with pytest.raises(ValueError, match="buffer='onpolicy'"):
        predicted_optimum(task.space, prior, log_r, "lb", "onpolicy")
    with pytest.raises(ValueError, match="IS needs log_z"):
        predicted_optimum(task.space, prior, log_r, "is")
