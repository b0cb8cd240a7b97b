"""Handwritten digits as token sequences: readers, resolutions, binarisation, and the built-in stand-in.

An image of S × S pixels becomes n = S² tokens in row-major order. With two symbols a token is 1 where the ink is above a threshold;
with V > 2 symbols it is the grey level, floor(V · grey / 256).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.atomic import replacing
from lib.datasets import DataError
from lib.numeric_files import read_arrays
from lib.plain_files import read_gzip

TRAIN_10K = "ddpp/mnist_train10k.npz"
TEST_10K = "ddpp/mnist_test10k.npz"
TRAIN_60K = ("ddpp/train-images-idx3-ubyte.gz", "ddpp/train-labels-idx1-ubyte.gz")
N_CLASSES = 10
THRESHOLDS = {28: 0.5, 14: 0.4, 8: 0.5}
"""Side in pixels → share of full ink above which a binary pixel is 1 (14 × 14 is the mean of 2 × 2 blocks, which is paler)."""


@dataclass(frozen=True)
class LabelledImages:
    """Grey images (N, H, W) uint8, 0 to 255, with their classes (N,) int64, 0 to 9."""

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        """Check shapes and ranges.

        Raises:
            DataError: if images and labels do not fit each other, or hold other values.
        """
        if self.images.ndim != 3 or self.images.dtype != np.uint8 or len(self.images) == 0:
            raise DataError(
                f"digit images must be a non-empty uint8 array (N, H, W), got {self.images.dtype} {self.images.shape}"
            )
        if self.labels.shape != self.images.shape[:1]:
            raise DataError(f"{len(self.images)} digit images have {self.labels.size} labels")
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= N_CLASSES:
            raise DataError(f"digit labels must lie in 0..{N_CLASSES - 1}")

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class DigitTask:
    """Token sequences of one resolution.

    Attributes:
        side: S, pixels. n_symbols: V. train, test: tokens (N, S²) int64. train_labels, test_labels: classes (N,) int64.
        source: which images these are, in words.
    """

    side: int
    n_symbols: int
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    source: str

    @property
    def n_tokens(self) -> int:
        """Tokens of one image, S²."""
        return self.side**2

    def pixels(self, tokens: Tensor) -> Tensor:
        """Images (N, 1, S, S) float in [0, 1] of clean tokens (N, S²): symbol v has the ink v / (V − 1)."""
        return (tokens.float() / (self.n_symbols - 1)).view(-1, 1, self.side, self.side)

    def test_of(self, classes: Sequence[int]) -> Tensor:
        """The test tokens whose class is one of ``classes``."""
        return self.test[torch.isin(self.test_labels, torch.tensor(list(classes)))]


def read_idx(path: Path) -> np.ndarray:
    """Read one gzip-compressed IDX file of unsigned bytes, the form in which MNIST is published.

    Raises:
        DataError: if the file is no such file, or is truncated.
    """
    raw = read_gzip(path, DataError)
    n_axes = raw[3] if len(raw) > 3 else 0
    header = 4 + 4 * n_axes
    if raw[:3] != b"\x00\x00\x08" or not 0 < n_axes <= 3 or len(raw) < header:
        raise DataError(f"{path.name} is not an IDX file of unsigned bytes with one to three axes")
    shape = struct.unpack(f">{n_axes}I", raw[4:header])
    if len(raw) - header != math.prod(shape):
        raise DataError(f"{path.name}: its header promises {shape}, it holds {len(raw) - header} bytes")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape)


def convert_idx(public: Sequence[Path], target: Path) -> None:
    """Write the published pair of IDX files (images, labels) as one npz file with these keys.

    Raises:
        DataError: if a file is malformed or the two do not fit; nothing is written then.
    """
    images, labels = (read_idx(path) for path in public)
    LabelledImages(images, labels.astype(np.int64))
    with replacing(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, images=images, labels=labels)


def read_npz(path: Path) -> LabelledImages:
    """Read ``images`` and ``labels`` from an npz file; nothing is unpickled.

    Raises:
        DataError: if the file is malformed or lacks an array.
    """
    arrays = read_arrays(path, DataError, ["images", "labels"])
    if arrays["labels"].dtype.kind not in "iu":
        raise DataError(f"{path.name}: labels are {arrays['labels'].dtype}, not whole numbers")
    return LabelledImages(arrays["images"], arrays["labels"].astype(np.int64))


def shrink(images: np.ndarray, side: int) -> np.ndarray:
    """Mean ink in [0, 1] of square blocks, (N, side, side), from grey images (N, H, H) with H a multiple of ``side``.

    Raises:
        ValueError: if the sides do not divide.
    """
    n, height, width = images.shape
    if side <= 0 or height != width or height % side:
        raise ValueError(f"images of {height} x {width} pixels cannot be averaged to side={side}")
    block = height // side
    return images.reshape(n, side, block, side, block).mean(axis=(2, 4)) / 255.0


def to_tokens(
    images: np.ndarray, side: int, n_symbols: int = 2, generator: torch.Generator | None = None
) -> Tensor:
    """Tokens (N, side²) int64 of grey images (N, H, H) uint8.

    Args:
        side: resolution; H must be a multiple.
        n_symbols: 2 for binary images, else the number of grey levels.
        generator: given, binary pixels are drawn with the ink as probability; else they are thresholded (:data:`THRESHOLDS`).

    Raises:
        ValueError: for sizes that do not fit.
    """
    if not 2 <= n_symbols <= 256:
        raise ValueError(f"n_symbols={n_symbols} must lie in 2..256")
    ink = torch.from_numpy(shrink(images, side)).flatten(1)
    if n_symbols > 2:
        return (ink * 255.0 * n_symbols / 256.0).floor().long()
    if generator is not None:
        return (torch.rand(ink.shape, generator=generator, dtype=ink.dtype) < ink).long()
    return (ink > THRESHOLDS.get(side, 0.5)).long()


def shuffled(data: LabelledImages, seed: int) -> LabelledImages:
    """The same images in a random order (the 10 000 training digits come sorted by class)."""
    order = np.random.default_rng(seed).permutation(len(data))
    return LabelledImages(data.images[order], data.labels[order])


def standin_digits() -> tuple[LabelledImages, LabelledImages]:
    """The 8 × 8 digits that scikit-learn ships (UCI optdigits): 1297 for training, 500 for testing."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.clip(np.round(bunch.images * (255.0 / 16.0)), 0, 255).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], bunch.target[order].astype(np.int64)
    return LabelledImages(images[:-500], labels[:-500]), LabelledImages(images[-500:], labels[-500:])


def load_digits(
    paths: Sequence[Path] | None, limit: int | None = None
) -> tuple[LabelledImages, LabelledImages, str]:
    """Training images, test images, and what they are in words.

    Args:
        paths: [training npz, test npz], or [training images, training labels (IDX), test npz], or None for the stand-in.
        limit: take only so many training images, the first ones.

    Raises:
        DataError: if a file is malformed.
    """
    if paths is None:
        train, test = standin_digits()
        return train, test, "stand-in: 8 x 8 digits of scikit-learn"
    if len(paths) == 3:
        train = LabelledImages(read_idx(paths[0]), read_idx(paths[1]).astype(np.int64))
    else:
        train = read_npz(paths[0])
    train = LabelledImages(train.images[:limit], train.labels[:limit])
    return shuffled(train, seed=0), read_npz(paths[-1]), f"MNIST, {len(train)} training digits"


def digit_task(
    paths: Sequence[Path] | None,
    side: int,
    n_symbols: int = 2,
    *,
    limit: int | None = None,
    stochastic_seed: int | None = None,
) -> DigitTask:
    """Read the digits at one resolution; the stand-in always has side 8.

    Args:
        paths, limit: as in :func:`load_digits`. side: 28 or 14. n_symbols: V.
        stochastic_seed: given, binary pixels are drawn instead of thresholded.

    Raises:
        DataError: if a file is malformed. ValueError: for sizes that do not fit.
    """
    train, test, source = load_digits(paths, limit)
    side = 8 if paths is None else side
    generator = None if stochastic_seed is None else torch.Generator().manual_seed(stochastic_seed)
    tokens = [to_tokens(part.images, side, n_symbols, generator) for part in (train, test)]
    labels = [torch.from_numpy(part.labels) for part in (train, test)]
    return DigitTask(side, n_symbols, tokens[0], labels[0], tokens[1], labels[1], source)
