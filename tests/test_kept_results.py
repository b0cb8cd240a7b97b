"""Results as files: what comes back is what went in, and what does not fit is no result."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lib.kept_results import Array, KeptResultError, keep, read_kept


@dataclass(frozen=True)
class Curve:
    steps: list[int]
    loss: list[float]


@dataclass(frozen=True)
class Result:
    name: str
    seed: int
    curve: Curve
    rate: float | None
    options: tuple[tuple[str, float], ...]
    by_length: dict[int, float]
    picture: Array | None = None


def train() -> list[Result]:
    return [
        Result("min_gru", 3, Curve([1, 2], [0.1 + 0.2, 1e-300]), None, (("bias", -1.5),), {20: 0.5}),
        Result("gru", 4, Curve([], []), 1.0, (), {}, np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1]),
    ]


def law() -> Array:
    raise NotImplementedError


def numbers() -> list[float]:
    raise NotImplementedError


def silent():
    return 3


def test_a_result_comes_back_with_its_types_its_last_bits_and_its_seconds(tmp_path: Path) -> None:
    keep(tmp_path / "a" / "0.safetensors", train, train(), 1.5)
    kept = read_kept(tmp_path / "a" / "0.safetensors", train)
    assert kept is not None
    assert kept.seconds == 1.5
    first, second = kept.result
    assert first == train()[0]
    assert isinstance(first.options, tuple)
    np.testing.assert_array_equal(second.picture, train()[1].picture)
    assert second.picture.dtype == np.float32
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.bool_]),
        hnp.array_shapes(min_dims=0, min_side=0),
    )
)
def test_every_array_comes_back(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "array.safetensors"
    keep(path, law, array, 0.0)
    kept = read_kept(path, law)
    assert kept is not None
    assert kept.result.dtype == array.dtype
    assert kept.result.shape == array.shape
    np.testing.assert_array_equal(kept.result, array)


@given(st.lists(st.floats()))
def test_every_number_comes_back(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.getbasetemp() / "numbers.safetensors"
    keep(path, numbers, values, 0.0)
    kept = read_kept(path, numbers)
    assert kept is not None
    for found, value in zip(kept.result, values, strict=True):
        assert found == value or (math.isnan(found) and math.isnan(value))


def test_what_is_missing_damaged_or_of_another_kind_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "0.safetensors"
    assert read_kept(path, train) is None
    keep(path, numbers, [1.0], 0.0)
    assert read_kept(path, train) is None
    keep(path, train, train(), 0.0)
    whole = path.read_bytes()
    for damaged in (b"", whole[:40], whole[:-3], b"\x80\x04N." + whole):
        path.write_bytes(damaged)
        assert read_kept(path, train) is None


def test_a_function_says_what_it_returns_and_returns_that(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="silent does not say what it returns"):
        keep(tmp_path / "x", silent, 3, 0.0)
    with pytest.raises(TypeError, match="a result of numbers cannot be kept"):
        keep(tmp_path / "x", numbers, ["text"], 0.0)
    assert not (tmp_path / "x").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeptResultError, match="cannot be written") as caught:
        keep(tmp_path / "file" / "0.safetensors", numbers, [1.0], 0.0)
    assert "\n" not in str(caught.value)
