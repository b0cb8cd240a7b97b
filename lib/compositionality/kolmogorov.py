"""Surface complexity by compression: the gzip size of a text stands for its Kolmogorov complexity."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.compositionality.grammar import COUPLINGS, KOLMOGOROV_TEMPLATE, Lexicon
from lib.compositionality.shuffles import shuffle_lines
from lib.datasets import DataError
from lib.numeric_files import numbers, read_table

LEVEL = 6
"""gzip's default level, the official one."""


def gzip_bytes(lines: Sequence[str], level: int = LEVEL) -> int:
    """Size in bytes of the gzip file of ``lines``, one per line without a final newline, no file name stored.

    Raises:
        ValueError: if there is no line.
    """
    if not lines:
        raise ValueError("gzip_bytes needs at least one line")
    return len(gzip.compress("\n".join(lines).encode("utf-8"), compresslevel=level, mtime=0))


def read_official_sizes(path: Path) -> dict[str, int]:
    """The 32 released sizes, file name → bytes.

    Raises:
        DataError: for a file that is no table, a missing column, or a size that is no positive whole number.
    """
    frame = read_table(path, DataError, ("file", "gzip_bytes"))
    sizes = numbers(frame, ["gzip_bytes"], path.name, DataError)[:, 0]
    if not ((sizes > 0) & (sizes % 1 == 0)).all():
        raise DataError(f"{path.name} holds a size that is no positive whole number")
    return dict(zip(map(str, frame["file"]), sizes.astype(int), strict=True))


def official_name(k: int, shuffled: bool, slots: int = 13) -> str:
    """Name of the released file of a data set's training part."""
    return f"train_prompts_length_{slots}_{k}_words_correlated{'_shuffled' if shuffled else ''}_rs0.txt.gz"


def released_shuffle(lines: Sequence[str], rng: np.random.Generator) -> list[str]:
    """The shuffle of the released gzip files: every line's words are permuted *with* its line end, then joined as they are.

    The line end is part of the last word and moves with it, so that line boundaries drift and two lines run together
    without a space. Only the official sizes of shuffled text need it.
    """
    pieces = []
    for line in lines:
        words = f"{line}\n".split(" ")
        pieces.append(" ".join(words[i] for i in rng.permutation(len(words))))
    return "".join(pieces).split("\n")


def grammar_sizes(lexicon: Lexicon, prompts: dict[str, np.ndarray], seed: int) -> pd.DataFrame:
    """gzip sizes of the coherent and the officially shuffled sentences for every k.

    Args:
        lexicon: the words. prompts: ``k1``..``k4`` → indices (n, 13) in the order colour, texture. seed: of the shuffles.

    Returns:
        Columns k, mode (``coherent``, ``glued``, and ``released`` for :func:`released_shuffle`), bytes.
    """
    rows = []
    for k in COUPLINGS:
        lines = lexicon.render(prompts[f"k{k}"], KOLMOGOROV_TEMPLATE)
        rng = np.random.default_rng([seed, k])
        for mode in ("coherent", "glued", "released"):
            text = released_shuffle(lines, rng) if mode == "released" else shuffle_lines(lines, mode, rng)
            rows.append({"k": k, "mode": mode, "bytes": gzip_bytes(text)})
    return pd.DataFrame(rows)
