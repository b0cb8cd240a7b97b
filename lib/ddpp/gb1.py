"""Four sites of protein GB1: a sequence space of 20⁴ whose law before and after selection was measured.

Wu et al. (eLife 2016) sequenced a library of variants before and after one round of binding selection. Selected counts are proportional to
input counts times fitness, so the selected library IS the target of steering for the prior "input library" and the reward "fitness" with
exponent 1. Fitness was computed from the same counts: a real, measured target, but no independent proof.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.atomic import replacing
from lib.datasets import DataError
from lib.ddpp.exact_law import Space, space_of
from lib.numeric_files import read_arrays
from lib.plain_files import LARGEST, one_line, read_bytes
from lib.profiles import choose
from lib.records import Run

FILE = "ddpp/gb1_four_sites.npz"
ALPHABET = "ACDEFGHIKLMNPQRSTVWY"
SITES = ("V39", "D40", "G41", "V54")
FLOOR = 0.01
"""Fitness of variants that were not measured, or measured as zero or less than this."""
KEYS = ("variants", "count_input", "count_selected", "fitness", "hamming_to_wt", "alphabet")


@dataclass(frozen=True)
class Landscape:
    """Laws and fitness over all words of four symbols, in the order of :attr:`Space.clean`.

    Attributes:
        alphabet: the V amino acids.
        input_law, selected_law: shares of the library before and after selection, (V⁴,).
        fitness: relative to the wild type, NaN where not measured, (V⁴,).
    """

    alphabet: str
    input_law: Tensor
    selected_law: Tensor
    fitness: Tensor

    @property
    def space(self) -> Space:
        """All states."""
        return space_of(len(SITES), len(self.alphabet))

    def log_reward(self, floor: float = FLOOR) -> Tensor:
        """log fitness, floored, (V⁴,).

        Raises:
            ValueError: for a floor that is not positive.
        """
        if not floor > 0:
            raise ValueError(f"floor={floor} must be positive")
        return self.fitness.nan_to_num(floor).clamp(min=floor).log()

    def mean_fitness(self, law: Tensor, floor: float = FLOOR) -> float:
        """E fitness under a law, with the floor of the reward."""
        return float((law * self.log_reward(floor).exp()).sum())

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Words of the input library, (size, 4), by inverting its cumulative law."""
        cumulative = self.input_law.cumsum(0).to(generator.device)
        u = torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)
        index = torch.searchsorted(cumulative, u * cumulative[-1], right=True).clamp(max=len(cumulative) - 1)
        return self.space.clean.to(generator.device)[index]

    def restricted(self, symbols: str) -> Landscape:
        """The landscape of words over a part of the alphabet.

        Raises:
            ParameterError: for a letter that is not in the alphabet.
        """
        for symbol in symbols:
            choose("symbols", symbol, list(self.alphabet))
        where = torch.tensor([self.alphabet.index(s) for s in symbols])
        shape, index = self.space.shape, torch.meshgrid(*[where] * len(SITES), indexing="ij")
        cut = [t.reshape(shape)[index].flatten() for t in (self.input_law, self.selected_law, self.fitness)]
        return Landscape(symbols, cut[0] / cut[0].sum(), cut[1] / cut[1].sum(), cut[2])

    def site_shares(self, law: Tensor) -> np.ndarray:
        """Share of each amino acid at each site under a law, (4, V)."""
        cube = law.reshape(self.space.shape)
        sites = range(len(SITES))
        return torch.stack([cube.sum([j for j in sites if j != i]) for i in sites]).numpy()


def read_landscape(path: Path) -> Landscape:
    """Read the registry's file.

    Raises:
        DataError: for a file without the keys, or with values that cannot be.
    """
    arrays = read_arrays(path, DataError, KEYS)
    variants, before, after, fitness = (arrays[key] for key in KEYS[:4])
    words = (len(variants) if variants.ndim else 0, len(SITES))
    alphabet = "".join(map(str, arrays["alphabet"].flat))
    if alphabet != ALPHABET or variants.shape != words or len(variants) == 0:
        raise DataError(f"{path.name}: expected variants (N, {len(SITES)}) over {ALPHABET}")
    for key, array in zip(KEYS[1:4], (before, after, fitness), strict=True):
        if array.shape != words[:1] or array.dtype.kind not in "iuf":
            raise DataError(f"{path.name}: {key!r} is no list of {len(variants)} numbers")
        if not (np.isfinite(array) & (array >= 0)).all() or array.sum() == 0:
            raise DataError(f"{path.name}: a symbol, a count or a fitness is out of range")
    if variants.dtype.kind not in "iu" or variants.min() < 0 or variants.max() >= len(ALPHABET):
        raise DataError(f"{path.name}: a symbol, a count or a fitness is out of range")
    return _landscape(variants, before, after, fitness)


def _landscape(variants: np.ndarray, before: np.ndarray, after: np.ndarray, fitness: np.ndarray) -> Landscape:
    v = len(ALPHABET)
    index = torch.from_numpy(variants.astype(np.int64) @ v ** np.arange(len(SITES) - 1, -1, -1))
    full = [torch.zeros(v ** len(SITES), dtype=torch.float64) for _ in range(3)]
    full[2].fill_(torch.nan)
    for table, values in zip(full, (before, after, fitness), strict=True):
        table[index] = torch.from_numpy(values.astype(np.float64))
    return Landscape(ALPHABET, full[0] / full[0].sum(), full[1] / full[1].sum(), full[2])


def standin_landscape(seed: int = 0) -> Landscape:
    """An invented landscape with interactions, for runs without the data: no claim is judged on it.

    log fitness has main effects, pair effects and a wild type on top; the input library is a product law with log-normal noise.
    """
    rng = np.random.default_rng(seed)
    v, n = len(ALPHABET), len(SITES)
    words = np.indices((v,) * n).reshape(n, -1).T
    log_fitness = np.zeros(len(words))
    for i in range(n):
        log_fitness += rng.normal(-1.2, 0.8, v)[words[:, i]]
        for j in range(i + 1, n):
            log_fitness += rng.normal(0, 0.5, (v, v))[words[:, i], words[:, j]]
    fitness = np.exp(log_fitness - np.quantile(log_fitness, 0.99))
    shares = np.exp(rng.normal(0, 0.4, (n, v)))
    before = np.prod([shares[i][words[:, i]] for i in range(n)], 0) * np.exp(rng.normal(0, 0.3, len(words)))
    return _landscape(words, before, before * fitness, fitness)


def load_landscape(run: Run[Any], symbols: str = ALPHABET) -> Landscape:
    """The measured landscape, or the stand-in with a notice, over ``symbols``."""
    paths = run.fetch(FILE)
    full = standin_landscape(run.seed) if paths is None else read_landscape(paths[0])
    return full if symbols == ALPHABET else full.restricted(symbols)


def convert_flip(public: Sequence[Path], target: Path) -> None:
    """Write the registry's file from FLIP's archive of the published table.

    Args:
        public: the zip archive with ``four_mutations_full_data.csv``.
        target: the file to write, whole or not at all.

    Raises:
        DataError: if the archive or a column is not what was published.
    """
    import pandas as pd

    columns = {"Variants": str, "HD": np.uint8, "Count input": np.int32, "Count selected": np.int32}
    packed = io.BytesIO(read_bytes(public[0], DataError))
    try:
        with zipfile.ZipFile(packed) as archive:
            names = [name for name in archive.namelist() if Path(name).name == "four_mutations_full_data.csv"]
            if archive.getinfo(names[0]).file_size > LARGEST:
                raise ValueError(f"it unpacks to more than {LARGEST >> 20} MiB")
            content = archive.read(names[0])
        table = pd.read_csv(
            io.BytesIO(content), usecols=[*columns, "Fitness"], dtype={**columns, "Fitness": float}
        )
    except (
        *(OSError, EOFError, ValueError, IndexError, OverflowError, RuntimeError, NotImplementedError),
        *(struct.error, zlib.error, zipfile.BadZipFile),
    ) as error:  # what the reader of archives raises depends on which byte is wrong
        raise DataError(
            f"{public[0].name} is not FLIP's archive of the GB1 table ({one_line(error)})"
        ) from error
    words = table["Variants"].tolist()
    if not words or any(len(str(word)) != len(SITES) or set(str(word)) - set(ALPHABET) for word in words):
        raise DataError(f"{public[0].name}: a variant is not a word of {len(SITES)} amino acids")
    variants = np.array([[ALPHABET.index(c) for c in word] for word in words], dtype=np.uint8)
    with replacing(target) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            variants=variants,
            count_input=table["Count input"].to_numpy(),
            count_selected=table["Count selected"].to_numpy(),
            fitness=table["Fitness"].to_numpy(),
            hamming_to_wt=table["HD"].to_numpy(),
            alphabet=np.array(list(ALPHABET)),
        )
