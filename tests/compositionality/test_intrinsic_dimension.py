"""Estimators against plain loops, other libraries' values, known manifolds and invariances."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.compositionality.intrinsic_dimension import (
    estimate,
    gride,
    intrinsic_dimension,
    levina_bickel,
    two_nn,
    two_nn_ml,
)
from lib.compositionality.nearest_neighbors import nearest_neighbors
from tests.compositionality import plain_estimators as plain
from tests.compositionality.clouds import CLOUDS

PEERS = json.loads((Path(__file__).parent / "peer_values.json").read_text(encoding="utf-8"))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(n: int, dim: int, ambient: int, seed: int = 0) -> torch.Tensor:
    g = generator(seed)
    plane = torch.linalg.qr(torch.randn(ambient, dim, generator=g, dtype=torch.float64)).Q
    return torch.randn(n, dim, generator=g, dtype=torch.float64) @ plane.T


# --- against plain loops and peers ----------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(n=st.integers(25, 80), dim=st.integers(1, 12), seed=st.integers(0, 99))
def test_all_estimators_equal_plain_loops(n: int, dim: int, seed: int) -> None:
    points = torch.randn(n, dim, generator=generator(seed), dtype=torch.float64)
    distances = plain.all_distances(points.numpy())
    result = estimate(points, orders=(1, 2, 4), k=10)
    assert float(result.two_nn) == pytest.approx(plain.two_nn_line(distances), rel=1e-9)
    logs = np.log(distances[:, 1] / distances[:, 0])
    assert float(result.two_nn_ml) == pytest.approx((n - 1) / logs.sum(), rel=1e-9)
    pointwise = plain.levina_bickel(distances, 10)
    assert float(result.levina_bickel) == pytest.approx(1 / np.mean(1 / np.array(pointwise)), rel=1e-9)
    mean = levina_bickel(torch.as_tensor(distances.copy()), 10, "mean")
    assert float(mean) == pytest.approx(np.mean(pointwise), rel=1e-9)
    for place, order in enumerate((1, 2, 4)):
        assert float(result.gride[place]) == pytest.approx(plain.gride_root(distances, order), rel=1e-8)


@pytest.mark.parametrize("name", sorted(CLOUDS))
def test_equal_to_dadapy_and_scikit_dimension(name: str) -> None:
    """Values of the peers on the same clouds, obtained by ``benchmarks/compositionality.py --reference``."""
    points, peer = CLOUDS[name](), PEERS["values"][name]
    assert float(points.sum()) == pytest.approx(peer["checksum"], rel=1e-12)  # the very same cloud
    ours = estimate(points)
    assert float(ours.two_nn) == pytest.approx(peer["dadapy 2NN base"], rel=1e-6)
    assert float(ours.two_nn_ml) == pytest.approx(peer["dadapy 2NN ml"], rel=1e-8)
    assert float(ours.two_nn) == pytest.approx(peer["scikit-dimension TwoNN"], rel=1e-6)
    assert float(ours.levina_bickel) == pytest.approx(peer["scikit-dimension MLE"], rel=1e-6)
    mean = levina_bickel(nearest_neighbors(points, 20).distances, aggregation="mean")
    assert float(mean) == pytest.approx(peer["scikit-dimension MLE mean"], rel=1e-6)
    np.testing.assert_allclose(ours.gride, peer["dadapy GRIDE"], rtol=1e-5)
    np.testing.assert_allclose(ours.gride_error, peer["dadapy GRIDE error"], rtol=0.02)


# --- known manifolds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "ambient", "low", "high"), [(5, 32, 4.6, 5.5), (12, 64, 10.5, 12.5)])
def test_gaussians(dim: int, ambient: int, low: float, high: float) -> None:
    assert low <= float(intrinsic_dimension(gaussian(1500, dim, ambient))) <= high


def test_swiss_roll_and_sphere() -> None:
    g = generator(1)
    u, v = torch.rand(2, 2000, generator=g, dtype=torch.float64)
    t = 1.5 * math.pi * (1 + 2 * u)
    roll = torch.stack([t * t.cos(), 21 * v, t * t.sin()], dim=1)
    assert 1.85 <= float(intrinsic_dimension(roll)) <= 2.1
    sphere = torch.nn.functional.normalize(torch.randn(2000, 9, generator=g, dtype=torch.float64), dim=1)
    assert 7 <= float(intrinsic_dimension(sphere)) <= 8.2


def test_standard_error_of_maximum_likelihood() -> None:
    """Relative error of ``ml`` is about 1/√N: the spread over independent clouds agrees."""
    n = 400
    values = [
        float(
            two_nn_ml(
                nearest_neighbors(torch.rand(n, 2, generator=generator(s), dtype=torch.float64), 2).distances
            )
        )
        for s in range(40)
    ]
    assert np.std(values) / np.mean(values) == pytest.approx(1 / math.sqrt(n), rel=0.35)


# --- invariances ----------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), scale=st.floats(1e-3, 1e3))
def test_invariances(seed: int, scale: float) -> None:
    g = generator(seed)
    points = torch.randn(120, 8, generator=g, dtype=torch.float64)
    value = float(intrinsic_dimension(points))
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=g, dtype=torch.float64)).Q
    changed = {
        "rotation": points @ rotation,
        "translation": points + 100 * torch.randn(8, generator=g, dtype=torch.float64),
        "scaling": scale * points,
        "permutation": points[torch.randperm(120, generator=g)],
        "zero columns": torch.cat([points, torch.zeros(120, 5)], dim=1),
        "duplicates": torch.cat([points, points[:37]]),
    }
    for name, moved in changed.items():
        assert float(intrinsic_dimension(moved)) == pytest.approx(value, rel=1e-6), name


def test_anisotropic_scaling_changes_intrinsic_dimension_mildly() -> None:
    points = gaussian(1500, 5, 5)
    stretched = points * torch.tensor([3.0, 1.0, 1.0, 1.0, 0.5], dtype=torch.float64)
    before, after = float(intrinsic_dimension(points)), float(intrinsic_dimension(stretched))
    assert after != before
    assert after == pytest.approx(before, rel=0.15)


def test_duplicates_in_one_set_of_a_batch() -> None:
    sets = torch.stack([gaussian(200, 4, 9, seed) for seed in range(3)])
    sets[1, 150:] = sets[1, :50]
    result = estimate(sets, orders=(1, 2), k=5)
    assert result.points.tolist() == [200, 150, 200]
    assert float(result.two_nn[1]) == pytest.approx(float(intrinsic_dimension(sets[1, :150])), rel=1e-12)
    assert float(result.gride[0, 1]) == pytest.approx(float(estimate(sets[0], (1, 2), 5).gride[1]), rel=1e-12)
    np.testing.assert_allclose(intrinsic_dimension(sets), result.two_nn, rtol=1e-12)


# --- GRIDE ----------------------------------------------------------------------------------------------------------


def test_gride_at_order_one_is_maximum_likelihood() -> None:
    distances = nearest_neighbors(gaussian(700, 6, 20), 2).distances
    d, error = gride(distances, (1,))
    assert float(d[0]) == pytest.approx(float(two_nn_ml(distances)), rel=1e-10)
    assert float(error[0]) == pytest.approx(float(d[0]) / math.sqrt(699), rel=1e-10)
    plain_maximum, _ = gride(distances, (1,), correction=0)
    assert float(plain_maximum[0]) == pytest.approx(float(d[0]) * 700 / 699, rel=1e-10)


def test_gride_stands_on_the_top_of_its_likelihood() -> None:
    distances = nearest_neighbors(gaussian(400, 7, 30), 64).distances
    d, _ = gride(distances, correction=0)
    for place, order in enumerate((1, 2, 4, 8, 16, 32)):
        log_mu = (distances[:, 2 * order - 1] / distances[:, order - 1]).log()
        at = d[place] * torch.tensor([1 - 1e-3, 1.0, 1 + 1e-3], dtype=torch.float64)
        below, top, above = plain.gride_log_likelihood(log_mu, order, at).tolist()
        assert top > below
        assert top > above
        variable = d[place].clone().requires_grad_()
        (slope,) = torch.autograd.grad(
            plain.gride_log_likelihood(log_mu, order, variable[None]).sum(), variable
        )
        assert abs(float(slope)) < 1e-8 * len(log_mu)


def test_gride_likelihood_is_a_density() -> None:
    log_mu = torch.linspace(1e-6, 8, 400_001, dtype=torch.float64)
    for order in (1, 2, 5):
        # one point at a time: the mass of f(μ) dμ = f e^{log μ} d log μ
        t = 3.0 * log_mu
        log_beta = 2 * math.lgamma(order) - math.lgamma(2 * order)
        log_f = math.log(3.0) - log_beta - (2 * order - 1) * t - log_mu
        if order > 1:
            log_f = log_f + (order - 1) * (t + torch.log(-torch.expm1(-t)))
        assert float(torch.trapezoid((log_f + log_mu).exp(), log_mu)) == pytest.approx(1, rel=1e-4)
        one = plain.gride_log_likelihood(log_mu[1000:1001], order, torch.tensor([3.0], dtype=torch.float64))
        assert float(one) == pytest.approx(float(log_f[1000]), rel=1e-10)


def test_newton_equals_bisection_on_difficult_ratios() -> None:
    rng = np.random.default_rng(0)
    for spread in (0.01, 1.0, 3.0):
        ratios = np.exp(spread * rng.random((50, 1)))
        distances = torch.as_tensor(
            np.concatenate([np.ones((50, 1)), ratios, ratios * 1.5, ratios * 2], axis=1)
        )
        d, _ = gride(distances, (1, 2))
        assert float(d[0]) == pytest.approx(49 / np.log(ratios).sum(), rel=1e-6)
        assert float(d[1]) == pytest.approx(plain.gride_root(distances.numpy(), 2), rel=1e-7)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_errors_say_what_is_wrong() -> None:
    distances = nearest_neighbors(gaussian(50, 3, 3), 4).distances
    with pytest.raises(ValueError, match="fraction"):
        two_nn(distances, 1.5)
    with pytest.raises(ValueError, match="distance zero"):
        two_nn(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="20 neighbours"):
        levina_bickel(distances)
    with pytest.raises(ValueError, match="aggregation"):
        levina_bickel(distances, 4, "median")
    with pytest.raises(ValueError, match="at least 2"):
        levina_bickel(distances, 1)
    with pytest.raises(ValueError, match="orders"):
        gride(distances, ())
    with pytest.raises(ValueError, match="distinct points"):
        estimate(torch.ones(100, 3))
    with pytest.raises(ValueError, match="distinct points"):
        intrinsic_dimension(torch.ones(100, 3))
    with pytest.raises(ValueError, match="NaN"):
        intrinsic_dimension(torch.full((10, 2), torch.nan))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_estimators_on_a_gpu_equal_those_on_a_cpu() -> None:
    sets = torch.randn(2, 500, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sets[1, 7] = sets[1, 3]  # one set holds a duplicate
    here, there = estimate(sets), estimate(sets.cuda())
    for name in ("two_nn", "two_nn_ml", "levina_bickel", "gride", "gride_error"):
        torch.testing.assert_close(getattr(there, name).cpu(), getattr(here, name), rtol=1e-9, atol=0)
    assert there.points.tolist() == here.points.tolist() == [500, 499]
    torch.testing.assert_close(
        intrinsic_dimension(sets.cuda()).cpu(), intrinsic_dimension(sets), rtol=1e-9, atol=0
    )
