"""Distances between feature sets against closed forms and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from lib.ddpp.image_metrics import (
    class_histogram,
    feature_likelihood_divergence,
    fit_log_variances,
    frechet_distance,
    mixture_log_likelihood,
)

G = torch.Generator().manual_seed(0)


def test_frechet_distance_equals_the_matrix_square_root_of_scipy():
    a = torch.randn(300, 6, generator=G) @ torch.randn(6, 6, generator=G)
    b = torch.randn(200, 6, generator=G) @ torch.randn(6, 6, generator=G) + 1.0
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = linalg.sqrtm(cov_a @ cov_b).real
    wanted = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-5)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-4)


def test_frechet_distance_of_shifted_and_scaled_features():
    a = torch.randn(500, 3, generator=G, dtype=torch.float64)
    assert frechet_distance(a, a + 2.0) == pytest.approx(12.0, rel=1e-9)
    # one axis: (σ − 2σ)² = σ²
    line = a[:, :1]
    assert frechet_distance(line - line.mean(), 2 * (line - line.mean())) == pytest.approx(
        float(line.var()), rel=1e-9
    )


def test_mixture_likelihood_equals_scipy():
    points, centres = (torch.randn(n, 4, generator=G, dtype=torch.float64) for n in (9, 3))
    log_variance = torch.tensor([0.3, -1.0, 0.8], dtype=torch.float64)
    logs = mixture_log_likelihood(torch.cdist(points, centres).square(), log_variance, 4)
    density = np.mean(
        [
            stats.multivariate_normal(c.numpy(), math.exp(v) * np.eye(4)).pdf(points.numpy())
            for c, v in zip(centres, log_variance.tolist())
        ],
        axis=0,
    )
    assert np.allclose(logs.exp().numpy(), density)


def test_fitted_variance_of_one_centre_is_the_mean_square():
    points = 0.7 * torch.randn(1000, 5, generator=G, dtype=torch.float64)
    log_variance = fit_log_variances(torch.zeros(1, 5, dtype=torch.float64), points, steps=300)
    # the background shares the points, so only the order of magnitude is fixed by the closed form
    assert float(log_variance.exp()) == pytest.approx(0.49, rel=0.3)


def test_fld_prefers_fresh_real_data_to_noise_copies_and_a_missing_mode():
    def real(n):
        centre = torch.randint(0, 2, (n, 1), generator=G) * 4.0
        return torch.randn(n, 8, generator=G) + centre

    train, test, fresh = real(400), real(400), real(200)
    good = feature_likelihood_divergence(train, test, fresh)
    noise = feature_likelihood_divergence(train, test, 3 * torch.randn(200, 8, generator=G) + 2)
    copies = feature_likelihood_divergence(train, test, train[:200])
    one_mode = feature_likelihood_divergence(train, test, fresh[fresh.mean(1) < 2])
    assert abs(good) < 5.0
    assert noise > good + 5
    assert one_mode > good + 5
    assert copies > good + 5


def test_histogram():
    assert class_histogram(torch.tensor([1, 1, 3, 9]))[:4] == [0.0, 0.5, 0.0, 0.25]
    with pytest.raises(ValueError, match="at least one"):
        class_histogram(torch.tensor([], dtype=torch.long))


@pytest.mark.parametrize(
    "bad", [torch.zeros(5, 2), torch.zeros(1, 3), torch.full((4, 3), float("nan")), torch.zeros(4)]
)
def test_wrong_features(bad):
    with pytest.raises(ValueError, match="features must be"):
        frechet_distance(torch.randn(5, 3, generator=G), bad)
    with pytest.raises(ValueError, match="features must be"):
        feature_likelihood_divergence(torch.randn(5, 3, generator=G), torch.randn(5, 3, generator=G), bad)
