"""The single-step objectives as functions: importance sampling, ReinMax, KL, rewards, the weighted control."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from lib.ddpp.denoising_posterior import (
    complete,
    importance_log_z,
    kl_loss,
    kl_loss_exact,
    log_mean_exp,
    residual,
    single_step_loss,
)
from lib.ddpp.masked_diffusion import symbol_log_probs
from lib.ddpp.reinmax import reinmax_one_hot
from lib.ddpp.rewards import (
    FunctionReward,
    Reward,
    TableReward,
    floor_log_reward,
)
from lib.ddpp.weighted_denoising import (
    effective_sample_size,
    resample,
    weighted_denoising_loss,
)
from tests.ddpp.small_denoisers import clean_states, mu, random_denoiser

MASK = 3


def random_table(n: int, n_symbols: int, seed: int) -> Tensor:
    return torch.randn((n_symbols,) * n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact_log_z(log_p: Tensor, noisy: Tensor, reward: Reward) -> Tensor:
    """log of the sum over all completions, written out."""
    n_symbols = log_p.shape[-1]
    result = []
    for b, row in enumerate(noisy.tolist()):
        masked = [i for i, v in enumerate(row) if v == n_symbols]
        total = 0.0
        for symbols in itertools.product(range(n_symbols), repeat=len(masked)):
            full, p = list(row), 1.0
            for i, v in zip(masked, symbols, strict=True):
                full[i] = v
                p *= math.exp(log_p[b, i, v])
            total += p * math.exp(float(reward(torch.tensor([full]))))
        result.append(math.log(total))
    return torch.tensor(result, dtype=torch.float64)


def test_completions_keep_open_tokens_and_draw_the_others() -> None:
    denoiser = random_denoiser(2, 3, seed=0)
    noisy = torch.tensor([[MASK, 1], [MASK, MASK]])
    log_p = symbol_log_probs(denoiser(noisy).detach())
    drawn = complete(log_p, noisy, MASK, 50_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 50_000, 2)
    assert (drawn[0, :, 1] == 1).all()
    counts = torch.bincount(drawn[0, :, 0], minlength=3)
    expected = 50_000 * torch.tensor(mu(denoiser, (MASK, 1), 0), dtype=torch.float64)
    assert stats.chisquare(counts.double(), expected).pvalue > 1e-3


@pytest.mark.parametrize("proposal", ["prior", "posterior"])
def test_importance_sampling_converges_to_log_z(proposal: str) -> None:
    prior, tuned = (random_denoiser(3, 3, seed) for seed in (1, 2))
    reward = TableReward(random_table(3, 3, 3), exponent=1.5)
    noisy = torch.tensor([[MASK, MASK, MASK], [0, MASK, MASK], [0, 2, MASK], [0, 2, 1]])
    with torch.no_grad():
        log_p, log_q = symbol_log_probs(prior(noisy)), symbol_log_probs(tuned(noisy))
    estimate = importance_log_z(
        log_p,
        noisy,
        reward,
        200_000,
        torch.Generator().manual_seed(0),
        log_q if proposal == "posterior" else None,
    )
    torch.testing.assert_close(estimate, exact_log_z(log_p, noisy, reward), atol=0.05, rtol=0)
    assert estimate[-1] == reward(noisy[-1:])[0]  # nothing masked: exact


def test_bias_of_the_estimate_is_negative_and_falls_like_one_over_m() -> None:
    """log|bias| against log M has slope −1; a control variate of mean zero, Ẑ/Z − 1, takes the noise away."""
    log_p = torch.log(torch.tensor([[[0.9, 0.1]]], dtype=torch.float64))
    reward = TableReward(torch.tensor([0.0, 1.5], dtype=torch.float64))
    noisy = torch.tensor([[2]])
    z = 0.9 + 0.1 * math.exp(1.5)
    generator = torch.Generator().manual_seed(0)
    sizes, biases = [4, 8, 16, 32, 64, 128, 256], []
    for m in sizes:
        rows = 1_600_000 // m
        estimate = importance_log_z(log_p.expand(rows, 1, 2), noisy.expand(rows, 1), reward, m, generator)
        estimate -= math.log(z)
        biases.append(float((estimate - torch.expm1(estimate)).mean()))
        k = torch.arange(m + 1)
        weight = torch.from_numpy(stats.binom.pmf(k.numpy(), m, 0.1))
        exact = float((weight * torch.log(((m - k) + k * math.exp(1.5)) / m)).sum()) - math.log(z)
        assert biases[-1] == pytest.approx(exact, rel=0.06)
        variance = 0.9 * (1 - z) ** 2 + 0.1 * (math.exp(1.5) - z) ** 2
        if m >= 64:
            assert biases[-1] == pytest.approx(-variance / (2 * m * z * z), rel=0.15)
    assert max(biases) < 0
    slope = stats.linregress([math.log(m) for m in sizes], [math.log(-b) for b in biases]).slope
    assert -1.2 <= slope <= -0.8


def test_no_gradient_flows_through_the_importance_sampling_log_z() -> None:
    denoiser = random_denoiser(2, 3, seed=4)
    noisy = torch.tensor([[MASK, MASK]])
    log_q = symbol_log_probs(denoiser(noisy))
    reward = TableReward(random_table(2, 3, 5))
    assert log_q.requires_grad
    for proposal in (None, log_q):
        assert not importance_log_z(log_q, noisy, reward, 4, torch.Generator(), proposal).requires_grad


def test_log_mean_exp_is_exact_for_equal_values_and_stable() -> None:
    for value in (0.1, -1e4, 3e4):
        values = torch.full((2, 7), value)
        assert torch.equal(log_mean_exp(values), values[:, 0])
    x = torch.randn((3, 9), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(log_mean_exp(x), x.logsumexp(-1) - math.log(9))


def test_loss_is_zero_exactly_at_the_denoising_posterior_with_one_mask() -> None:
    """β enters as an exponent of R, and its sign is not inverted."""
    prior = random_denoiser(2, 3, seed=6)
    reward = TableReward(random_table(2, 3, 7), exponent=2.0)
    noisy = torch.tensor([[MASK, 1]])
    log_p = symbol_log_probs(prior(noisy).detach())[0, 0]
    clean = torch.tensor([[v, 1] for v in range(3)])
    r = reward(clean)
    assert torch.equal(r, 2.0 * reward.table[:, 1])
    log_z = (log_p + r).logsumexp(0)
    log_q = log_p + r - log_z
    torch.testing.assert_close(residual(log_q, log_p, r, log_z), torch.zeros(3, dtype=torch.float64))
    assert float(single_step_loss(log_q, log_p, r, log_z)) < 1e-25
    assert float(single_step_loss(log_q, log_p, r / 4, log_z)) > 1e-3


# --- ReinMax -----------------------------------------------------------------------------------------------------------


def dense_reinmax_gradient(logits: Tensor, onehot: Tensor, grad: Tensor, tau: float) -> Tensor:
    """J(p')(2g) − J(p)(g/2) with Jacobians as matrices, less the mean over symbols; vectors (V,)."""

    def jacobian(p: Tensor) -> Tensor:
        return torch.diag(p) - torch.outer(p, p)

    half = 0.5 * ((logits / tau).softmax(0) + onehot)
    result = jacobian(half) @ (2 * grad) - jacobian(logits.softmax(0)) @ (grad / 2)
    return result - result.mean()


@pytest.mark.parametrize("tau", [1.0, 1.4])
def test_reinmax_gradient_is_the_written_one(tau: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 5), generator=generator, dtype=torch.float64, requires_grad=True)
    drawn = torch.randint(5, (3, 2), generator=generator)
    weights = torch.randn((3, 2, 5), generator=generator, dtype=torch.float64)
    onehot = reinmax_one_hot(logits, drawn, tau)
    assert torch.equal(onehot, torch.nn.functional.one_hot(drawn, 5).double())
    (onehot * weights).sum().backward()
    expected = torch.stack(
        [
            sum(
                dense_reinmax_gradient(logits[b].detach(), onehot[k, b].detach(), weights[k, b], tau)
                for k in range(3)
            )
            for b in range(2)
        ]
    )
    torch.testing.assert_close(logits.grad, expected, atol=1e-12, rtol=0)


def test_reinmax_equals_the_published_package() -> None:
    reinmax = pytest.importorskip("reinmax").reinmax
    torch.manual_seed(0)
    logits = torch.randn((64, 7), dtype=torch.float64)
    weights = torch.randn((64, 7), dtype=torch.float64)
    theirs = logits.clone().requires_grad_()
    onehot, _ = reinmax(theirs, 1.0)
    (onehot * weights).sum().backward()
    ours = logits.clone().requires_grad_()
    same = reinmax_one_hot(ours, onehot.argmax(-1).unsqueeze(0))
    (same[0] * weights).sum().backward()
    assert torch.equal(same[0].detach(), onehot.detach())
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=0)


def gradient(loss: Tensor, denoiser: torch.nn.Module) -> Tensor:
    (result,) = torch.autograd.grad(loss, denoiser.table)
    return result.flatten()


def straight_through_one_hot(logits: Tensor, drawn: Tensor) -> Tensor:
    """As :func:`reinmax_one_hot` with the first-order gradient J(p) g (Bengio et al., arXiv:1308.3432)."""
    soft = logits.softmax(-1)
    hard = torch.nn.functional.one_hot(drawn, logits.shape[-1]).to(logits)
    return hard + (soft - soft.detach())


def cosines(reward_on_onehots: Reward) -> dict[str, float]:
    """Cosine between the mean sampled gradient and the exact one, which knows the reward at the vertices only."""
    prior, tuned = random_denoiser(3, 4, seed=8), random_denoiser(3, 4, seed=9)
    states = clean_states(3, 4)
    at_vertices = reward_on_onehots.log_reward_of_onehot(torch.nn.functional.one_hot(states, 4).double())
    table = TableReward(at_vertices.view(4, 4, 4))
    noisy = torch.tensor([[4, 4, 4], [1, 4, 4]])
    log_p = symbol_log_probs(prior(noisy)).detach()
    exact = gradient(kl_loss_exact(tuned(noisy), log_p, noisy, table), tuned)
    result = {}
    for name, rule in (("reinmax", reinmax_one_hot), ("straight-through", straight_through_one_hot)):
        generator = torch.Generator().manual_seed(0)
        loss = kl_loss(tuned(noisy), log_p, noisy, reward_on_onehots, 100_000, generator, one_hot=rule)
        result[name] = float(torch.cosine_similarity(gradient(loss, tuned), exact, dim=0))
    return result


@pytest.mark.parametrize("curvature", ["quadratic", "saturating"])
def test_reinmax_is_closer_to_the_exact_gradient_than_straight_through(curvature: str) -> None:
    """Rewards that are curved between the one-hots, as networks are; second order is exact where they are quadratic."""
    weights = torch.randn((3, 4), generator=torch.Generator().manual_seed(10), dtype=torch.float64)

    def log_reward(onehot: Tensor) -> Tensor:
        score = (onehot * weights).sum((-1, -2))
        return score**2 if curvature == "quadratic" else 2 * torch.tanh(score)

    cosine = cosines(FunctionReward(log_reward, 4))
    assert cosine["reinmax"] > cosine["straight-through"]
    if curvature == "quadratic":
        assert cosine["reinmax"] > 0.999
        assert cosine["straight-through"] < 0.99


def test_for_a_table_reward_both_gradients_have_no_bias() -> None:
    """The multilinear extension has no curvature along one token: there the second order has nothing to correct."""
    assert min(cosines(TableReward(2 * random_table(3, 4, 10))).values()) > 0.9995


# --- KL ------------------------------------------------------------------------------------------------------------------


def test_sampled_kl_has_the_exact_value_and_needs_one_forward_pass() -> None:
    prior, tuned = random_denoiser(3, 3, seed=11), random_denoiser(3, 3, seed=12)
    reward = TableReward(random_table(3, 3, 13), exponent=1.5)
    noisy = torch.tensor([[MASK, MASK, MASK], [1, MASK, MASK], [2, 0, MASK], [2, 0, 1]])
    log_p = symbol_log_probs(prior(noisy)).detach()
    exact = kl_loss_exact(tuned(noisy), log_p, noisy, reward).detach()
    # against enumeration of every completion
    by_hand = 0.0
    for b, row in enumerate(noisy.tolist()):
        masked = [i for i, v in enumerate(row) if v == MASK]
        tables = {i: mu(tuned, tuple(row), i) for i in masked}
        for symbols in itertools.product(range(3), repeat=len(masked)):
            full, q, ratio = list(row), 1.0, 0.0
            for i, v in zip(masked, symbols, strict=True):
                full[i] = v
                q *= tables[i][v]
                ratio += math.log(tables[i][v]) - float(log_p[b, i, v])
            by_hand += q * (ratio - float(reward(torch.tensor([full]))))
    assert float(exact) == pytest.approx(by_hand / len(noisy), abs=1e-9)
    sampled = kl_loss(tuned(noisy), log_p, noisy, reward, 100_000, torch.Generator().manual_seed(0))
    assert float(sampled.detach()) == pytest.approx(float(exact), abs=0.02)


def test_dropping_the_score_term_changes_the_noise_but_not_the_mean() -> None:
    prior, tuned = random_denoiser(2, 3, seed=14), random_denoiser(2, 3, seed=15)
    reward = TableReward(random_table(2, 3, 16))
    noisy = torch.tensor([[MASK, MASK]])
    log_p = symbol_log_probs(prior(noisy)).detach()

    def draws(size: int, count: int, path: bool) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.stack(
            [
                gradient(
                    kl_loss(tuned(noisy), log_p, noisy, reward, size, generator, path_gradient_only=path),
                    tuned,
                )
                for _ in range(count)
            ]
        )

    whole, path = draws(100_000, 1, False)[0], draws(100_000, 1, True)[0]
    torch.testing.assert_close(whole, path, atol=0.01, rtol=0)
    same = tuned.table.detach().clone()
    prior.table.data.copy_(same)
    log_p = symbol_log_probs(prior(noisy)).detach()
    reward = TableReward(torch.zeros(3, 3, dtype=torch.float64))
    assert draws(8, 5, True).abs().max() < 1e-12  # at q = p with a constant reward: exactly still
    assert draws(8, 5, False).abs().max() > 1e-3


def test_open_tokens_get_no_gradient_and_reach_the_reward_as_constants() -> None:
    tuned = random_denoiser(2, 3, seed=17)
    seen = []

    def log_reward(onehot: Tensor) -> Tensor:
        seen.append(onehot.detach().clone())
        return (onehot * torch.arange(1.0, 4.0, dtype=onehot.dtype)).sum((-1, -2))

    noisy = torch.tensor([[MASK, 2]])
    logits = tuned(noisy)
    log_p = symbol_log_probs(logits).detach()
    loss = kl_loss(logits, log_p, noisy, FunctionReward(log_reward, 3), 6, torch.Generator())
    (grad,) = torch.autograd.grad(loss, logits)
    assert grad[0, 0].any()
    assert not grad[0, 1].any()
    assert seen[0].shape == (6, 2, 3)
    assert (seen[0][:, 1] == torch.tensor([0.0, 0.0, 1.0])).all()


# --- rewards -------------------------------------------------------------------------------------------------------------


def test_table_reward_at_vertices_equals_its_multilinear_extension() -> None:
    reward = TableReward(random_table(3, 4, 18), exponent=3.0)
    clean = torch.randint(4, (20, 3), generator=torch.Generator().manual_seed(0))
    onehot = torch.nn.functional.one_hot(clean, 4).double()
    by_hand = torch.tensor([reward.table[tuple(row)] for row in clean.tolist()], dtype=torch.float64)
    torch.testing.assert_close(reward.log_reward(clean), by_hand)
    torch.testing.assert_close(reward(clean), 3 * by_hand)
    slow, fast = onehot.clone().requires_grad_(), onehot.clone().requires_grad_()
    weights = torch.randn(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (reward.log_reward_of_onehot(slow) * weights).sum().backward()
    value = reward.log_reward_at_vertex(fast, clean)
    torch.testing.assert_close(value.detach(), by_hand)
    (value * weights).sum().backward()
    torch.testing.assert_close(fast.grad, slow.grad)
    assert torch.autograd.gradcheck(reward.log_reward_of_onehot, torch.rand((2, 3, 4), dtype=torch.float64, requires_grad=True))  # fmt: skip


def test_floor_and_bad_rewards() -> None:
    values = torch.tensor([-torch.inf, -3.0, 1.0])
    assert floor_log_reward(values, -10).tolist() == [-10.0, -3.0, 1.0]
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="log R"):
            floor_log_reward(torch.tensor([bad]), -10)
    with pytest.raises(ValueError, match="finite"):
        floor_log_reward(values, -math.inf)
    with pytest.raises(ValueError, match="floor it"):
        TableReward(values)
    with pytest.raises(ValueError, match="shape"):
        TableReward(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="exponent"):
        TableReward(torch.zeros(2, 2), exponent=-1)


# --- the weighted control ----------------------------------------------------------------------------------------------


def test_resampling_follows_the_weights_and_ess() -> None:
    log_weights = torch.tensor([0.0, math.log(3.0), -800.0])
    index = resample(log_weights, 100_000, torch.Generator().manual_seed(0))
    assert (index < 2).all()
    assert float((index == 1).double().mean()) == pytest.approx(0.75, abs=0.006)
    assert effective_sample_size(log_weights) == pytest.approx(16 / 10, rel=1e-6)
    assert effective_sample_size(torch.full((50,), -1e4)) == pytest.approx(50)
    with pytest.raises(ValueError, match="finite"):
        resample(torch.tensor([torch.nan]), 1, torch.Generator())
    with pytest.raises(ValueError, match="size"):
        resample(log_weights, 0, torch.Generator())


def test_weighted_loss() -> None:
    log_q, t = torch.tensor([-2.0, -1.0]), torch.tensor([0.5, 0.25])
    assert float(weighted_denoising_loss(log_q, t)) == 4.0
    assert float(weighted_denoising_loss(log_q, t, torch.tensor([2.0, 0.0]))) == 4.0
    assert float(weighted_denoising_loss(log_q, t, torch.tensor([0.5, 1.5]))) == 4.0


def test_sizes_below_one_are_refused() -> None:
    log_p, noisy = torch.zeros((1, 1, 2)), torch.tensor([[2]])
    reward = TableReward(torch.zeros(2))
    with pytest.raises(ValueError, match="completions"):
        importance_log_z(log_p, noisy, reward, 0, torch.Generator())
    with pytest.raises(ValueError, match="kl_samples"):
        kl_loss(torch.zeros(1, 1, 3), log_p, noisy, reward, 0, torch.Generator())
