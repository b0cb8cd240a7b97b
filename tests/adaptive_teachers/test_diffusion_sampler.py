"""Targets, bridge, telescoping ratio, bounds, and stacked trainings of the diffusion samplers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from torch import Tensor

from lib.adaptive_teachers.diffusion_sampler import (
    DriftNetwork,
    Target,
    brownian_bridge,
    log_forward_over_backward,
    residual,
    roll_out,
    score,
    score_paths,
)
from lib.adaptive_teachers.diffusion_training import (
    METHODS,
    SamplerRun,
    SamplerSizes,
    StackedSamplers,
    evaluate,
    train_samplers,
    wasserstein,
)
from lib.adaptive_teachers.gaussian_mixture import GaussianMixture
from lib.adaptive_teachers.manywell import Manywell
from lib.adaptive_teachers.profiles import PROFILES
from lib.records import Run


def _generators(n: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(n)]


def _network(members: int, dim: int = 2, steps: int = 5, target: Target | None = None) -> DriftNetwork:
    network = DriftNetwork(dim, 8, steps, _generators(members), harmonics=4, target=target)
    with torch.no_grad():  # the last layer starts at zero; give it a drift
        network.out.weight.copy_(
            torch.randn(network.out.weight.shape, generator=torch.Generator().manual_seed(7))
        )
    return network


def _normal_log_density(x: Tensor, mean: Tensor, variance: Tensor | float) -> Tensor:
    variance = torch.as_tensor(variance, dtype=torch.float64)
    return (-0.5 * ((x - mean) ** 2 / variance + torch.log(2 * math.pi * variance))).sum(-1)


def _ratio_step_by_step(path: Tensor, drift: Tensor, sigma: float) -> Tensor:
    """log P_F − log P_B of paths (B, T + 1, D) from the densities of every step, as the method defines them."""
    steps = drift.shape[1]
    dt = 1 / steps
    total = torch.zeros(len(path), dtype=torch.float64)
    for i in range(steps):
        x, y = path[:, i].double(), path[:, i + 1].double()
        total += _normal_log_density(y, x + drift[:, i].double() * dt, sigma**2 * dt)
        if i:  # the first step back ends at the origin with certainty
            total -= _normal_log_density(x, y * i / (i + 1), sigma**2 * dt * i / (i + 1))
    return total


# --- targets ------------------------------------------------------------------------------------------------------


def test_mixture_is_the_sum_of_25_gaussians_and_is_normalised() -> None:
    target = GaussianMixture()
    x = 8 * torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    modes = torch.cartesian_prod(target.centres(), target.centres()).double()
    direct = torch.stack([_normal_log_density(x, m, 0.3) for m in modes]).logsumexp(0) - math.log(25)
    torch.testing.assert_close(target.log_reward(x), direct, rtol=0, atol=1e-5)
    axis = torch.linspace(-15, 15, 1501, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    assert float(target.log_reward(grid).exp().sum() * 0.02**2) == pytest.approx(1, abs=1e-6)


def test_manywell_log_z_by_quadrature() -> None:
    assert Manywell(32).log_z == pytest.approx(164.69567532, abs=1e-7)
    z_a, _ = integrate.quad(lambda a: math.exp(-(a**4) + 6 * a**2 + 0.5 * a), -6, 6, epsabs=1e-7, limit=200)
    assert z_a == pytest.approx(11784.50927, abs=1e-4)
    assert Manywell(8).log_z == pytest.approx(4 * (math.log(z_a) + 0.5 * math.log(2 * math.pi)), abs=1e-9)


def test_manywell_samples_have_the_wells_mass_and_the_gaussians_variance() -> None:
    x = Manywell(8).sample(20_000, torch.Generator().manual_seed(0))
    right = (x[:, ::2] > 0).double().mean(0)
    assert (right - 0.84431).abs().max() < 4 * math.sqrt(0.844 * 0.156 / 20_000)
    assert (x[:, 1::2].var(0) - 1).abs().max() < 0.05
    assert int(Manywell(8).modes_covered(x)) == 8
    assert int(Manywell(8).modes_covered(x.abs())) == 4


def test_exact_samples_of_the_mixture_cover_all_modes() -> None:
    target = GaussianMixture()
    x = target.sample(4000, torch.Generator().manual_seed(0)).view(2, 2000, 2)
    assert target.modes_covered(x).tolist() == [25, 25]
    one_mode = 5 + 0.3 * torch.randn(2000, 2)
    assert int(target.modes_covered(one_mode)) == 1
    assert int(target.modes_covered(torch.full((2000, 2), 2.5))) == 0  # between modes


def test_targets_refuse_other_dimensions() -> None:
    with pytest.raises(ValueError, match="2 coordinates"):
        GaussianMixture().log_reward(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="even dimension"):
        Manywell(3)
    with pytest.raises(ValueError, match="8 coordinates"):
        Manywell(8).log_reward(torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("target", "low", "high"), [(GaussianMixture(), 0.27, 0.30), (Manywell(32), 5.40, 5.45)]
)
def test_distance_between_two_exact_samples(target: Target, low: float, high: float) -> None:
    """W2 has a floor that no sampler gets below: with 2000 samples each 0.28 to 0.29, and 5.40 to 5.45 on Manywell-32."""
    g = torch.Generator().manual_seed(0)
    a, b = target.sample(2000, g).numpy(), target.sample(2000, g).numpy()
    assert low < wasserstein(a, b) < high


def test_wasserstein_of_a_shift_is_the_shift_and_needs_equal_shapes() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3))
    assert wasserstein(x, x[::-1] + np.array([3.0, 0.0, 4.0])) == pytest.approx(5)
    with pytest.raises(ValueError, match="one shape"):
        wasserstein(x, x[:10])


# --- process ------------------------------------------------------------------------------------------------------


@given(steps=st.integers(1, 30), dim=st.integers(1, 6), sigma=st.floats(0.3, 5), seed=st.integers(0, 10_000))
def test_ratio_telescopes_for_any_path(steps: int, dim: int, sigma: float, seed: int) -> None:
    """The formula with the drift's terms only equals the densities of all steps; without a drift it is log N(x; 0, σ²I)."""
    g = torch.Generator().manual_seed(seed)
    path = torch.cat([torch.zeros(3, 1, dim), sigma * torch.randn(3, steps, dim, generator=g)], 1)
    drift = torch.randn(3, steps, dim, generator=g)
    s = torch.tensor([sigma])
    expected = _ratio_step_by_step(path, drift, float(s))
    found = log_forward_over_backward(path.unsqueeze(0), drift.unsqueeze(0), s)[0]
    scale = max(1.0, float(expected.abs().max()))
    assert float((found - expected).abs().max()) < 1e-4 * scale
    free = log_forward_over_backward(path.unsqueeze(0), torch.zeros_like(drift).unsqueeze(0), s)[0]
    end = _normal_log_density(path[:, -1].double(), torch.zeros(dim), float(s) ** 2)
    torch.testing.assert_close(free, end, rtol=0, atol=1e-4 * scale)


def test_bridge_has_mean_tx_and_variance_sigma_squared_t_one_minus_t() -> None:
    steps, n = 8, 40_000
    x = torch.tensor([[[3.0, -2.0]]]).expand(1, n, 2)
    sigma = torch.tensor([1.7])
    noise = torch.randn(1, n, steps, 2, generator=torch.Generator().manual_seed(0))
    path = brownian_bridge(x, sigma, noise)[0]
    t = torch.linspace(0, 1, steps + 1).unsqueeze(1)
    variance = 1.7**2 * t * (1 - t)
    assert (path.mean(0) - t * x[0, 0]).abs().max() < 5 * 1.7 * 0.5 / math.sqrt(n)
    assert (path.var(0) - variance).abs().max() < 0.03
    torch.testing.assert_close(path[:, -1], x[0])
    assert float(path[:, 0].abs().max()) == 0
    # neighbours of a bridge: Cov(X_s, X_t) = σ² s (1 − t)
    covariance = (path[:, 2, 0] - path[:, 2, 0].mean()) * (path[:, 5, 0] - path[:, 5, 0].mean())
    assert float(covariance.mean()) == pytest.approx(1.7**2 * 2 / 8 * 3 / 8, abs=0.02)


def test_bridge_agrees_with_sequential_backward_steps_in_law() -> None:
    """The released code's loop over steps and the closed form give the same means and covariances."""
    steps, n, sigma = 5, 60_000, 1.3
    g = torch.Generator().manual_seed(0)
    x = torch.full((n, 1), 2.0)
    path = [x]
    for i in range(steps - 1, -1, -1):
        spread = sigma * math.sqrt(i / (steps * (i + 1)))
        path.append(path[-1] * i / (i + 1) + spread * torch.randn(n, 1, generator=g))
    loop = torch.stack(path[::-1], 1)[..., 0]
    noise = torch.randn(1, n, steps, 1, generator=g)
    closed = brownian_bridge(x.unsqueeze(0), torch.tensor([sigma]), noise)[0, ..., 0]
    assert (loop.mean(0) - closed.mean(0)).abs().max() < 0.02
    assert (torch.cov(loop.T) - torch.cov(closed.T)).abs().max() < 0.02


def test_paths_are_scored_as_they_were_made_and_the_exploration_widens_them() -> None:
    network = _network(2, steps=6)
    sigma = torch.tensor([1.0, 2.0])
    noise = torch.randn(2, 4, 6, 2, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        path = roll_out(network, sigma, noise)
        drifts = network(path[:, :, :-1], network.weights())
        for i in range(6):  # the step's definition; one time at a time gives the drifts of all at once
            drift = network(path[:, :, i], network.weights(), i)
            torch.testing.assert_close(drift, drifts[:, :, i], rtol=0, atol=1e-5)
            step = drift / 6 + sigma.view(2, 1, 1) * math.sqrt(1 / 6) * noise[:, :, i]
            torch.testing.assert_close(path[:, :, i + 1], path[:, :, i] + step, rtol=0, atol=1e-5)
        for k in range(2):
            expected = _ratio_step_by_step(path[k], drifts[k], float(sigma[k]))
            torch.testing.assert_close(score_paths(network, path, sigma)[k], expected, rtol=0, atol=1e-4)
        still = DriftNetwork(2, 8, 6, _generators(2), harmonics=4)  # no drift yet
        wide = roll_out(still, sigma, noise, exploration=torch.tensor([0.0, 1.5]))
        plain = roll_out(still, sigma, noise)
    torch.testing.assert_close(wide[0], plain[0])
    ratio = math.sqrt((4 / 6 + 1.5**2) / (4 / 6))
    torch.testing.assert_close(wide[1], ratio * plain[1], rtol=1e-5, atol=1e-5)


def test_langevin_parametrisation_adds_the_scaled_score() -> None:
    target = GaussianMixture()
    plain, langevin = _network(1), _network(1, target=target)
    langevin.load_state_dict(plain.state_dict(), strict=False)
    x = 4 * torch.randn(1, 6, 5, 2, generator=torch.Generator().manual_seed(1))
    gradient = score(target, x)
    nearest = target.centres()[(x.unsqueeze(-1) - target.centres()).abs().argmin(-1)]
    close = (x - nearest).abs() < 1  # there one mode dominates and the score is that of its Gaussian
    torch.testing.assert_close(gradient[close], ((nearest - x) / 0.3)[close], rtol=1e-3, atol=1e-3)
    difference = langevin(x, langevin.weights()) - plain(x, plain.weights())
    torch.testing.assert_close(difference, 0.01 * gradient, rtol=1e-4, atol=1e-5)


# --- bounds -------------------------------------------------------------------------------------------------------


class _OneGaussian:
    """N(0, σ²I): plain Brownian motion samples it exactly."""

    name, dim, log_z, n_modes = "a Gaussian", 2, 0.0, 1

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def log_reward(self, x: Tensor) -> Tensor:
        return _normal_log_density(x.double(), torch.zeros(2), self.sigma**2)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.sigma * torch.randn(n, 2, generator=generator)

    def modes_covered(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), dtype=torch.long)


def test_bounds_meet_for_a_perfect_sampler_and_enclose_log_z_otherwise() -> None:
    perfect = DriftNetwork(2, 8, 5, _generators(1), harmonics=4)
    found = evaluate(perfect, _OneGaussian(1.3), torch.tensor([1.3]), 700, _generators(1))
    for name in ("elbo", "eubo", "log_z_is"):
        assert float(found[name][0]) == pytest.approx(0, abs=1e-5)
    wrong = evaluate(perfect, _OneGaussian(1.3), torch.tensor([1.0]), 4000, _generators(1))
    # KL both ways between N(0, 1) and N(0, 1.3²) in two dimensions
    elbo = -2 * (math.log(1.3) + 1 / (2 * 1.69) - 0.5)
    eubo = 2 * (-math.log(1.3) + 1.69 / 2 - 0.5)
    assert float(wrong["elbo"][0]) == pytest.approx(elbo, abs=0.03)
    assert float(wrong["eubo"][0]) == pytest.approx(eubo, abs=0.05)
    assert float(wrong["elbo"][0]) < float(wrong["log_z_is"][0]) < float(wrong["eubo"][0])


class _SomeModes(_OneGaussian):
    """Equal parts of 25 equal modes; a sampler that is perfect on k of them is what the closed form speaks of."""

    def __init__(self, k: int) -> None:
        super().__init__(1.0)
        self.share = k / 25

    def log_reward(self, x: Tensor) -> Tensor:  # k modes of 25, all of them where the sampler is
        return super().log_reward(x) + math.log(self.share)


@pytest.mark.parametrize("k", [1, 20])
def test_collapsed_sampler_has_elbo_log_k_of_25(k: int) -> None:
    perfect_on_k = DriftNetwork(2, 8, 5, _generators(1), harmonics=4)
    found = evaluate(perfect_on_k, _SomeModes(k), torch.tensor([1.0]), 500, _generators(1))
    assert float(found["elbo"][0]) == pytest.approx(math.log(k / 25), abs=1e-5)
    assert float(found["log_z_is"][0]) == pytest.approx(math.log(k / 25), abs=1e-5)


def test_residual_is_positive_where_the_sampler_gives_too_little() -> None:
    """A sampler that stays at the origin, and a mode far away: δ > 0 there, δ < 0 at home."""
    network = DriftNetwork(2, 8, 5, _generators(1), harmonics=4)
    sigma, target = torch.tensor([1.0]), GaussianMixture()
    x = torch.tensor([[[10.0, 10.0], [1.5, 0.0]]])
    noise = torch.randn(1, 2, 5, 2, generator=torch.Generator().manual_seed(0))
    path = brownian_bridge(x, sigma, noise)
    delta = residual(target.log_reward(x), score_paths(network, path, sigma), network.log_z)
    assert delta[0, 0].item() > 50
    assert delta[0, 1].item() < 0


# --- trainings ----------------------------------------------------------------------------------------------------

TINY = SamplerSizes(
    steps=4, hidden=8, harmonics=4, batch=8, iterations=24, capacity=40, learning_rate=0.01, evaluation_samples=50,
    transport_samples=20, evaluations=2, snapshots=2,
)  # fmt: skip


def _run(tmp_path: Path) -> Run[Any]:
    return Run.start("adaptive_teachers", PROFILES, profile="smoke", accelerator="cpu", out_dir=tmp_path)


@pytest.fixture
def _double() -> Iterator[None]:
    """Networks in float64: Adam turns the rounding noise of a vanishing gradient into whole steps."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
def test_stacked_samplers_equal_separate_ones(tmp_path: Path) -> None:
    """Every method, two seeds and two noise levels as one model: each run is what it is alone, evaluations included."""
    run, target = _run(tmp_path), GaussianMixture()
    runs = [SamplerRun(m, s, sigma) for m in METHODS for s, sigma in ((3, 1.5), (4, 2.0))]
    runs.append(SamplerRun("Teacher", 3, 1.5, mixing=0.0, asymmetry=0.0))
    together = train_samplers(run, target, runs, TINY)
    assert [r.run for r in together] == runs
    for alone_run, stacked in zip(runs, together, strict=True):
        alone = train_samplers(run, target, [alone_run], TINY)[0]
        assert alone.reward_calls == stacked.reward_calls
        assert alone.modes == stacked.modes
        for name in ("elbo", "eubo", "log_z_is", "log_z_learned"):
            np.testing.assert_allclose(getattr(stacked, name), getattr(alone, name), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(stacked.student[-1], alone.student[-1], atol=1e-8)
        assert stacked.w2 == pytest.approx(alone.w2, abs=1e-8)
    taught, plain = together[-1], together[runs.index(SamplerRun("TB", 3, 1.5))]
    assert len(taught.teacher) == 2
    assert not plain.teacher
    assert not np.allclose(taught.teacher[-1], together[-3].teacher[-1])  # the Teacher's constants matter
    # one threshold batch, then a batch an iteration (TB), every other (PER), three of four (Teacher)
    per = together[runs.index(SamplerRun("PER", 3, 1.5))]
    assert (plain.reward_calls[-1], per.reward_calls[-1], taught.reward_calls[-1]) == (200, 104, 152)
    assert taught.parameters == 2 * plain.parameters


def test_no_gradient_leaks_between_student_and_teacher() -> None:
    module = StackedSamplers(GaussianMixture(), [SamplerRun("Teacher", 0, 1.5)], TINY)
    module.on_fit_start()
    paths = module._behaviour(0)
    x = paths[:, :, -1]
    log_r = module.target.log_reward(x)
    delta = residual(log_r, score_paths(module.student, paths, module.sigma), module.student.log_z)
    module.threshold.fill_(-1e9)
    assert module.teacher is not None
    module._teacher_loss(x, log_r, delta).backward()
    assert all(p.grad is None or not p.grad.any() for p in module.student.parameters())
    assert any(p.grad is not None and p.grad.any() for p in module.teacher.parameters())
    module.zero_grad()
    delta.square().mean().backward()
    assert all(p.grad is None or not p.grad.any() for p in module.teacher.parameters())


def test_trajectory_balance_stops_gradients_at_states_and_pis_does_not() -> None:
    module = StackedSamplers(GaussianMixture(), [SamplerRun("PIS", 0, 1.5), SamplerRun("TB", 0, 1.5)], TINY)
    module.on_fit_start()
    assert not module._behaviour(0).requires_grad
    module._reverse_kl().backward()
    gradient = module.student.state1.weight.grad
    assert gradient is not None
    assert not gradient[1].any()  # the TB member takes no part
    module.student.zero_grad()
    with torch.no_grad():  # a drift, so that earlier layers matter
        module.student.out.weight.normal_(generator=torch.Generator().manual_seed(0))
    module._reverse_kl().backward()
    gradient = module.student.state1.weight.grad
    assert gradient is not None
    assert gradient[0].any()


def test_only_points_above_the_threshold_enter_the_buffer_after_the_first_batch() -> None:
    module = StackedSamplers(
        GaussianMixture(), [SamplerRun("PER", 0, 1.5), SamplerRun("Teacher", 0, 1.5)], TINY
    )
    module.on_fit_start()
    assert module.buffer is not None
    # both runs share a seed, and with it the untrained Student's samples: eight points of N(0, 1.5² I)
    noise = torch.randn(8, 4, 2, generator=torch.Generator().manual_seed(0))
    log_r = module.target.log_reward(1.5 * noise.sum(1) / 2)
    torch.testing.assert_close(module.threshold, torch.quantile(log_r, 0.9).expand(2))
    x = torch.tensor([[[0.0, 0.0]] * 8] * 2)
    delta = torch.ones(2, 8, dtype=torch.float64)
    below, above = module.threshold - 1, module.threshold + 1
    log_r = torch.where(torch.arange(8) < 3, above.unsqueeze(1), below.unsqueeze(1))
    module._remember(0, x, log_r, delta)
    assert module.buffer.size.tolist() == [8, 8]
    module._remember(2, x, log_r, delta)
    assert module.buffer.size.tolist() == [11, 8]  # PER keeps its own; with a Teacher only its samples enter
    priority = module._loss_priority(log_r, delta, module.replaying)
    torch.testing.assert_close(
        priority[:, 3:].exp(), torch.full((2, 5), math.log(1.001), dtype=torch.float64)
    )
    torch.testing.assert_close(
        priority[:, :3].exp(), torch.full((2, 3), math.log(11.001), dtype=torch.float64)
    )


def test_bad_parameters_are_one_clear_line() -> None:
    with pytest.raises(ValueError, match="method 'TBB' is not one of"):
        SamplerRun("TBB", 0, 1.0)
    with pytest.raises(ValueError, match="sigma=0"):
        SamplerRun("TB", 0, 0.0)
    with pytest.raises(ValueError, match="at least one run"):
        StackedSamplers(GaussianMixture(), [], TINY)
    with pytest.raises(ValueError, match="smaller than the batch"):
        StackedSamplers(GaussianMixture(), [SamplerRun("PER", 0, 1.0)], SamplerSizes(4, 8, 4, 8, 4, 7))
    with pytest.raises(ValueError, match="at least one member"):
        DriftNetwork(2, 8, 5, [])
