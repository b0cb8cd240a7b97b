"""Tables and arrays from outside, checked before a number is taken from them; see :mod:`lib.plain_files`."""

from __future__ import annotations

import csv
import io
import math
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.plain_files import LARGEST, decode, one_line, read_bytes, repeated
from lib.profiles import OneLineError, nearest

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_KINDS = "biufU"  # NumPy's types of truth values, numbers and text: neither objects nor raw bytes
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_table(
    path: Path, error: type[OneLineError], columns: Sequence[str] = (), header: int = 0
) -> pd.DataFrame:
    """A CSV file as a data frame.

    Args:
        columns: names that it must have; others may be there, too.
        header: the line, from 0, that holds the columns' names; lines before it are left out.

    Raises:
        error: if the file cannot be read or is not UTF-8; if it has no row below its header, or a line with more or fewer fields than the
            header; for a missing column, or two of one name.
    """
    text = decode(read_bytes(path, error), path.name, error)
    _lines(text, path.name, error, columns, header)
    try:
        return pd.read_csv(io.StringIO(text), header=header)
    except (ValueError, OverflowError) as reason:  # pandas' own errors are ValueErrors
        raise error(f"{path.name}: not a table of comma-separated values ({one_line(reason)})") from reason


def read_rows(path: Path, error: type[OneLineError], columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file as texts by column; arguments and errors are those of :func:`read_table`."""
    text = decode(read_bytes(path, error), path.name, error)
    names, *rows = _lines(text, path.name, error, columns)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _lines(
    text: str, name: str, error: type[OneLineError], columns: Sequence[str], header: int = 0
) -> list[list[str]]:
    """The fields of the header and of each line below it, as many everywhere; empty lines are left out."""
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as reason:
        raise error(f"{name}: not a table of comma-separated values ({one_line(reason)})") from reason
    if len(lines) <= header + 1:
        raise error(f"{name}: the file is empty or truncated ({len(lines)} lines)")
    titles = lines[header]
    for number, line in enumerate(lines[header:], start=header + 1):
        if len(line) != len(titles):
            raise error(f"{name}: line {number} has {len(line)} fields instead of {len(titles)}; truncated?")
    for title, times in Counter(titles).items():
        if title and times > 1:
            raise error(f"{name}: column {title!r} stands {times} times in the file")
    for column in columns:
        if column not in titles:
            raise error(f"{name}: column {column!r} is missing{nearest(column, titles)}")
    return lines[header:]


def numbers(frame: pd.DataFrame, columns: Sequence[str], where: str, error: type[OneLineError]) -> np.ndarray:
    """Columns of a table as finite numbers, float64, (rows, columns).

    Args:
        where: what the table is, for the message.

    Raises:
        error: for a missing column, or a value that is missing, not a number or not finite; it names column and row.
    """
    for column in columns:
        if column not in frame:
            raise error(f"{where}: column {column!r} is missing{nearest(column, map(str, frame.columns))}")
        values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise error(
                f"{where}: column {column!r}, data row {bad[0] + 1}: value is missing or not a number"
            )
    return frame[list(columns)].apply(pd.to_numeric).to_numpy(dtype=float, copy=True)


def read_arrays(
    path: Path, error: type[OneLineError], names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Arrays of numbers or text from an ``.npz`` file; nothing is unpickled.

    Args:
        names: the arrays wanted; None for all.

    Raises:
        error: if the file cannot be read or is no such archive; if an array is missing; for another type than numbers, truth values and
            text; if an array's header promises more or less than the archive holds, or the arrays hold more than :data:`LARGEST` bytes.
    """
    packed = io.BytesIO(read_bytes(path, error))
    try:
        with zipfile.ZipFile(packed) as archive:
            members = archive.infolist()
            held = [member.filename.removesuffix(".npy") for member in members]
            twice = repeated(held)
            if twice is not None:
                raise error(f"{path.name}: two arrays are called {twice!r}")
            missing = [name for name in names or () if name not in held]
            if missing:
                raise error(f"{path.name}: array {missing[0]!r} is missing{nearest(missing[0], held)}")
            if sum(member.file_size for member in members) > LARGEST:
                raise error(f"{path.name} unpacks to more than {LARGEST >> 20} MiB")
            wanted = held if names is None else names
            return {name: _array(archive, members[held.index(name)]) for name in wanted}
    except (
        *(OSError, EOFError, ValueError, TypeError, RuntimeError, NotImplementedError, RecursionError),
        *(struct.error, zlib.error, zipfile.BadZipFile, MemoryError, OverflowError),
    ) as reason:  # what the readers of archives and headers raise depends on which byte is wrong
        if isinstance(reason, error):
            raise
        raise error(f"{path.name} is not an archive of arrays ({one_line(reason)})") from reason


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    name = member.filename
    if member.compress_type not in _COMPRESSIONS:
        raise ValueError(f"{name!r} is compressed in a way that NumPy does not use")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{name!r} has a header of version {version}")
        shape, fortran_order, dtype = _HEADERS[version](file)
        if dtype.kind not in _KINDS or dtype.itemsize == 0:
            raise ValueError(f"{name!r} holds {dtype}, which is neither numbers nor text")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or file.tell() + size != member.file_size:
            raise ValueError(
                f"{name!r} promises {dtype} of shape {shape}, it holds {member.file_size - file.tell()} bytes"
            )
        content = bytearray(file.read(size))  # by what is there: the archive, too, may promise more
    if len(content) != size:
        raise EOFError(f"{name!r} is cut off")
    flat = np.frombuffer(content, dtype) if size else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C")
