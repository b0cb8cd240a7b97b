"""A file is written whole or not at all: into a temporary file beside it, which is then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; it takes the place of ``path`` when the block ends without an error.

    What was written is on the disk before the old file goes, so that a power cut, too, leaves one of the two.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
        _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Wait until the disk holds a file's content, or a folder's names where the system lets a folder be opened."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path``."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
