"""Tiny Shakespeare, a megabyte of plays: the text that chapters train models of characters on."""

from __future__ import annotations

from pathlib import Path

from lib.datasets import DataError
from lib.plain_files import read_text

FILE = "tinyshakespeare/input.txt"
TRAIN_SHARE = 0.9
"""Share of the characters, from the first on, that is trained on; the rest is held out."""


def read_plays(path: Path, least: int) -> str:
    """The text, line ends as ``\\n``.

    Args:
        least: characters that are needed.

    Raises:
        DataError: if the file cannot be read, is not UTF-8 text, or is shorter.
    """
    text = read_text(path, DataError)
    if len(text) < least:
        raise DataError(f"{path.name}: the text has {len(text)} characters; at least {least} are needed")
    return text
