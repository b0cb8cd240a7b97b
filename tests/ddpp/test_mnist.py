"""Readers and resolutions of the digits, against bytes written by hand."""

import gzip
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.datasets import DataError, chapter_files
from lib.ddpp import mnist


def idx_file(path, array):
    header = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))
    return path


@pytest.fixture
def pair(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 28, 28), dtype=np.uint8)
    labels = np.array([0, 1, 2, 3, 4, 5, 9], dtype=np.uint8)
    return images, labels, [idx_file(tmp_path / "i.gz", images), idx_file(tmp_path / "l.gz", labels)]


def test_idx_files_become_the_npz_that_is_read(pair, tmp_path):
    images, labels, public = pair
    mnist.convert_idx(public, tmp_path / "digits.npz")
    data = mnist.read_npz(tmp_path / "digits.npz")
    assert np.array_equal(data.images, images)
    assert np.array_equal(data.labels, labels)
    with np.load(tmp_path / "digits.npz", allow_pickle=False) as file:
        assert file.files == ["images", "labels"]
        assert file["labels"].dtype == np.uint8


def test_converter_leaves_nothing_behind_when_the_files_do_not_fit(pair, tmp_path):
    images, labels, public = pair
    idx_file(public[1], labels[:-1])
    with pytest.raises(DataError, match="7 digit images have 6 labels"):
        mnist.convert_idx(public, tmp_path / "digits.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i.gz", "l.gz"]


def test_damaged_files_are_named(pair, tmp_path):
    images, labels, public = pair
    whole = public[0].read_bytes()
    public[0].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a whole gzip file"):
        mnist.read_idx(public[0])
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"\x00\x00\x0d\x01" + b"0" * 20))
    with pytest.raises(DataError, match="not an IDX file"):
        mnist.read_idx(tmp_path / "x.gz")
    (tmp_path / "s.gz").write_bytes(gzip.compress(b"\x00\x00\x08\x01" + struct.pack(">I", 9) + b"123"))
    with pytest.raises(DataError, match="header promises"):
        mnist.read_idx(tmp_path / "s.gz")
    np.savez(tmp_path / "n.npz", images=images)
    with pytest.raises(DataError, match=r"n\.npz: array 'labels' is missing"):
        mnist.read_npz(tmp_path / "n.npz")
    np.savez(tmp_path / "p.npz", images=np.array([{}], dtype=object), labels=labels)
    with pytest.raises(DataError, match="neither numbers nor text"):  # a pickled object is refused
        mnist.read_npz(tmp_path / "p.npz")


def test_labels_and_shapes_are_checked():
    images = np.zeros((2, 4, 4), dtype=np.uint8)
    with pytest.raises(DataError, match=r"0\.\.9"):
        mnist.LabelledImages(images, np.array([0, 10]))
    with pytest.raises(DataError, match="uint8"):
        mnist.LabelledImages(images.astype(float), np.array([0, 1]))
    with pytest.raises(DataError, match="non-empty"):
        mnist.LabelledImages(images[:0], np.array([], dtype=int))


def test_shrinking_is_the_mean_of_blocks():
    images = np.random.default_rng(1).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    small = mnist.shrink(images, 14)
    assert small.shape == (3, 14, 14)
    assert small[1, 2, 5] == pytest.approx(images[1, 4:6, 10:12].mean() / 255)
    with pytest.raises(ValueError, match="side=13"):
        mnist.shrink(images, 13)


def test_binary_tokens_follow_the_threshold_of_their_resolution():
    images = np.full((1, 28, 28), 110, dtype=np.uint8)  # ink 0.431
    assert mnist.to_tokens(images, 28).sum() == 0
    assert mnist.to_tokens(images, 14).sum() == 14 * 14


def test_stochastic_pixels_have_their_ink_as_probability():
    images = np.full((40, 28, 28), 51, dtype=np.uint8)  # ink 0.2
    tokens = mnist.to_tokens(images, 28, generator=torch.Generator().manual_seed(0))
    n = tokens.numel()
    assert abs(tokens.float().mean().item() - 0.2) < 4 * (0.16 / n) ** 0.5


@given(levels=st.integers(3, 256), grey=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_grey_tokens_are_the_floor_of_the_scaled_grey(levels, grey):
    images = np.full((1, 4, 4), grey, dtype=np.uint8)
    tokens = mnist.to_tokens(images, 4, levels)
    assert tokens.unique().tolist() == [grey * levels // 256]


def test_task_of_files_and_pixels(pair, tmp_path):
    images, labels, public = pair
    mnist.convert_idx(public, tmp_path / "d.npz")
    task = mnist.digit_task([tmp_path / "d.npz", tmp_path / "d.npz"], 14, limit=5)
    assert task.train.shape == (5, 196)
    assert task.test.shape == (7, 196)
    assert torch.equal(task.test_of([9]), task.test[task.test_labels == 9])
    three = mnist.digit_task([*public, tmp_path / "d.npz"], 28, 16)
    assert len(three.train) == 7
    assert three.train.max() == 15
    pixels = three.pixels(three.train)
    assert pixels.shape == (7, 1, 28, 28)
    assert pixels.max() == 1.0


def test_standin_has_all_classes_and_never_changes():
    train, test = mnist.standin_digits()
    assert (len(train), len(test)) == (1297, 500)
    assert set(train.labels.tolist()) == set(test.labels.tolist()) == set(range(10))
    again, _ = mnist.standin_digits()
    assert np.array_equal(train.images, again.images)
    assert mnist.digit_task(None, 14).side == 8


def test_the_registry_names_the_converter_and_the_published_checksums():
    entries = chapter_files("ddpp")
    assert set(mnist.TRAIN_60K) | {mnist.TRAIN_10K, mnist.TEST_10K} <= set(entries)
    assert entries[mnist.TEST_10K].converter == "lib.ddpp.mnist:convert_idx"
