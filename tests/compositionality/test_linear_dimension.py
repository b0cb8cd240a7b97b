"""Linear dimension against scikit-learn's PCA, known spectra, and the two ways of counting."""

import math

import numpy as np
import pytest
import torch

from lib.compositionality.linear_dimension import (
    dimension_of_spectrum,
    participation_ratio,
    pca_dimension,
    spectrum,
)


def cloud(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(300, 20), (20, 60)])
def test_spectrum_equals_scikit_learn(shape: tuple[int, int]) -> None:
    PCA = pytest.importorskip("sklearn.decomposition").PCA
    points = cloud(*shape) @ cloud(shape[1], shape[1], 1) + 5
    peer = PCA().fit(points.numpy())
    np.testing.assert_allclose(spectrum(points), peer.explained_variance_, rtol=1e-9, atol=1e-9)
    reached = np.cumsum(peer.explained_variance_ratio_)
    assert int(pca_dimension(points)) == int(np.argmax(reached >= 0.99)) + 1
    assert int(pca_dimension(points, count="official")) == int((reached < 0.99).sum())


@pytest.mark.parametrize("m", [10, 37, 100])
def test_identity_covariance(m: int) -> None:
    points = torch.cat(
        [torch.eye(m), -torch.eye(m)]
    ).double()  # its covariance is exactly a multiple of the identity
    assert int(pca_dimension(points, 0.985)) == math.ceil(0.985 * m)
    assert int(pca_dimension(points, 0.985, "official")) == math.ceil(0.985 * m) - 1
    assert float(participation_ratio(points)) == pytest.approx(m)
    assert int(pca_dimension(cloud(20_000, 40))) == math.ceil(0.99 * 40)


def test_rank_limits_both() -> None:
    points = cloud(200, 4) @ cloud(4, 50, 1) + 3  # not centred
    assert int(pca_dimension(points)) <= 4
    assert float(participation_ratio(points)) <= 4 + 1e-9
    few = cloud(6, 50)
    assert int(pca_dimension(few)) <= 5


def test_participation_ratio_equals_its_definition_in_batches() -> None:
    sets = torch.stack([cloud(40, 9, s) * torch.arange(1.0, 10) for s in range(3)])
    values = spectrum(sets)
    torch.testing.assert_close(participation_ratio(sets), values.sum(-1) ** 2 / values.square().sum(-1))
    assert pca_dimension(sets).shape == (3,)
    assert int(pca_dimension(sets)[1]) == int(pca_dimension(sets[1]))


def test_centring_and_anisotropic_scaling() -> None:
    points = cloud(2000, 30)
    assert int(pca_dimension(points + 1000)) == int(pca_dimension(points))
    assert int(pca_dimension(points * torch.logspace(0, -3, 30))) < int(pca_dimension(points))


def test_counts_of_a_given_spectrum() -> None:
    values = torch.tensor([0.9, 0.09, 0.009, 0.001])  # cumulative 0.9, 0.99, 0.999, 1
    assert int(dimension_of_spectrum(values.double(), 0.95)) == 2
    assert int(dimension_of_spectrum(values.double(), 0.95, "official")) == 1


def test_errors() -> None:
    with pytest.raises(ValueError, match="textbook"):
        pca_dimension(cloud(10, 3), count="code")
    with pytest.raises(ValueError, match="variance=1"):
        pca_dimension(cloud(10, 3), variance=1.0)
    with pytest.raises(ValueError, match="without any variance"):
        pca_dimension(torch.ones(10, 3))
    with pytest.raises(ValueError, match="without any variance"):
        participation_ratio(torch.ones(10, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_equals_cpu() -> None:
    for shape in ((400, 30), (40, 90)):
        points = cloud(*shape)
        torch.testing.assert_close(spectrum(points.cuda()).cpu(), spectrum(points), rtol=1e-9, atol=1e-9)
        assert int(pca_dimension(points.cuda())) == int(pca_dimension(points))
        ratio = participation_ratio(points.cuda()).cpu()
        torch.testing.assert_close(ratio, participation_ratio(points), rtol=1e-9, atol=0)
