"""The blocked pass against brute force, also where float32 alone would fail."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.compositionality import nearest_neighbors as module
from lib.compositionality.intrinsic_dimension import intrinsic_dimension, two_nn
from lib.compositionality.nearest_neighbors import distinct_rows, nearest_neighbors
from tests.compositionality.plain_estimators import all_distances


def cloud(n: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(3, 60),
    dim=st.integers(1, 40),
    k=st.integers(1, 12),
    scale=st.sampled_from([1e-6, 1.0, 1e5]),
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_equals_brute_force_on_any_cloud(
    n: int, dim: int, k: int, scale: float, offset: float, seed: int
) -> None:
    k = min(k, n - 1)
    points = scale * cloud(n, dim, seed) + offset
    found = nearest_neighbors(points, k, block=64)
    np.testing.assert_allclose(
        found.distances.numpy(), all_distances(points.numpy())[:, :k], rtol=1e-9, atol=1e-13 * scale
    )


def test_spiked_coordinate_is_exact_and_float32_alone_is_not() -> None:
    points = cloud(1200, 32)
    points[:, 5] *= 1e4
    truth = all_distances(points.numpy())[:, :2]
    found = nearest_neighbors(points, 2)
    np.testing.assert_allclose(found.distances.numpy(), truth, rtol=1e-9)
    assert found.uncertified > 0  # the certificate noticed what float32 cannot promise
    low = points.float()
    gram = low.square().sum(1)[:, None] + low.square().sum(1) - 2 * low @ low.T
    naive = gram.fill_diagonal_(torch.inf).clamp(min=0).topk(2, largest=False).values.sqrt()
    assert np.abs(naive.numpy() / truth - 1).max() > 1e-3
    expected = float(two_nn(torch.as_tensor(truth)))
    assert float(intrinsic_dimension(points)) == pytest.approx(expected, rel=1e-5)


def test_points_that_no_precision_certifies_are_compared_with_all_others() -> None:
    points = cloud(300, 8)
    points[:, 0] += torch.repeat_interleave(torch.tensor([-1e12, 1e12], dtype=torch.float64), 150)
    np.testing.assert_allclose(
        nearest_neighbors(points, 3).distances.numpy(), all_distances(points.numpy())[:, :3], rtol=1e-3
    )


def test_indices_belong_to_the_distances() -> None:
    points = cloud(200, 6)
    found = nearest_neighbors(points, 5)
    direct = (points[:, None] - points[found.indices]).norm(dim=-1)
    torch.testing.assert_close(direct, found.distances)
    assert not (found.indices == torch.arange(200)[:, None]).any()  # no point is its own neighbour


def test_batches_equal_single_sets_and_blocks_do_not_matter() -> None:
    sets = torch.stack([cloud(150, 7, seed) for seed in range(6)]).reshape(2, 3, 150, 7)
    together = nearest_neighbors(sets, 4).distances
    for i in range(2):
        for j in range(3):
            alone = nearest_neighbors(sets[i, j], 4, block=1000).distances
            torch.testing.assert_close(together[i, j], alone, rtol=1e-12, atol=0)


def test_loop_in_python_equals_the_compiled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    points = cloud(80, 5)
    compiled = nearest_neighbors(points, 3).distances

    def with_torch(x: torch.Tensor, chosen: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return (x[index] - x[chosen][:, None]).square().sum(-1)

    monkeypatch.setattr(module, "_squared_distances", with_torch)
    torch.testing.assert_close(nearest_neighbors(points, 3).distances, compiled, rtol=1e-13, atol=0)


def test_distinct_rows_keeps_first_of_equal_rows() -> None:
    points = cloud(20, 3)
    points[7], points[9], points[15] = points[2], points[2], points[0]
    points[4] = torch.tensor([0.0, -0.0, 1.0])
    points[5] = torch.tensor([-0.0, 0.0, 1.0])
    assert distinct_rows(points).tolist() == [i for i in range(20) if i not in (5, 7, 9, 15)]
    assert distinct_rows(cloud(30, 3)).tolist() == list(range(30))


@pytest.mark.parametrize(
    ("points", "k", "message"),
    [
        (torch.zeros(5), 1, "axes"),
        (torch.zeros(1, 3), 1, "at least 2"),
        (torch.zeros(0, 3), 1, "at least 2"),
        (torch.zeros(5, 0), 1, "coordinate"),
        (torch.tensor([[0.0], [torch.nan], [1.0]]), 1, "NaN"),
        (torch.zeros(5, 2), 5, "k=5"),
        (torch.zeros(5, 2), 0, "k=0"),
    ],
)
def test_bad_points_are_refused(points: torch.Tensor, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_neighbors(points, k)


@pytest.mark.parametrize("k", [1, 30, 64])
def test_many_points_in_order_and_in_clumps(k: int) -> None:
    """Tiles, reservoirs and the first limits from a sample, where neighbours stand side by side and where they do not."""
    points = cloud(1200, 10)
    points[300:700] *= 0.01  # a clump that a regular sample sees as often as the rest
    points[700:710] += 50
    for chosen in (points, points[points[:, 0].argsort()]):
        found = nearest_neighbors(chosen, k)
        np.testing.assert_allclose(found.distances.numpy(), all_distances(chosen.numpy())[:, :k], rtol=1e-9)


def test_limits_that_are_too_near_only_cost_time(monkeypatch: pytest.MonkeyPatch) -> None:
    points = cloud(600, 6)
    before = nearest_neighbors(points, 40)

    def too_near(low: torch.Tensor, norms: torch.Tensor, m: int) -> np.ndarray:
        limits = np.full(len(low), np.inf, dtype=np.float32)
        limits[::3] = 1e-3
        return limits

    monkeypatch.setattr(module, "_first_limits", too_near)
    after = nearest_neighbors(points, 40)
    assert after.uncertified == 200
    torch.testing.assert_close(after.distances, before.distances, rtol=1e-12, atol=0)


def test_most_points_are_certified_by_the_product_alone() -> None:
    assert nearest_neighbors(cloud(1200, 30), 64).uncertified <= 12
    assert nearest_neighbors(cloud(1200, 30), 2).uncertified == 0


def test_size_of_the_numbers_does_not_matter() -> None:
    points = cloud(300, 12)
    expected = nearest_neighbors(points, 5).distances
    for exponent in (-400, -80, 70, 300):  # float32 and even float64 squares would vanish or overflow
        scaled = nearest_neighbors(points * 2.0**exponent, 5)
        assert scaled.uncertified == 0
        assert torch.equal(scaled.distances, expected * 2.0**exponent)


def test_same_numbers_every_time() -> None:
    points = cloud(900, 20)
    first, second = nearest_neighbors(points, 64), nearest_neighbors(points.clone(), 64)
    assert torch.equal(first.distances, second.distances)
    assert torch.equal(first.indices, second.indices)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_equals_cpu() -> None:
    points = cloud(500, 40)
    points[:, 0] *= 1e4
    there = nearest_neighbors(points.cuda(), 8).distances.cpu()
    torch.testing.assert_close(there, nearest_neighbors(points, 8).distances, rtol=1e-10, atol=0)
