"""Files that mean harm: what runs when it is loaded carelessly, what claims more than it holds, what never ends, what is cut, what lies.

A *canary* is a folder that exists as soon as any code of a hostile file has run.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import os
import pickle
import re
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

BOMB = 2**26
"""Bytes that a bomb unpacks to."""


class Payload:
    """What a pickle of this runs when it is loaded: it makes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.makedirs, (self.canary,)


def pickled(canary: Path, protocol: int = 4) -> bytes:
    return pickle.dumps(Payload(canary), protocol=protocol)


def yaml_call(canary: Path) -> str:
    """YAML that an unsafe loader runs."""
    return f"!!python/object/apply:os.makedirs [{json.dumps(str(canary))}]"


def npy(shape: str, content: bytes = b"", descr: str = "'<f8'", version: bytes = b"\x01\x00") -> bytes:
    """An array file whose header promises ``shape`` of ``descr``."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return (
        b"\x93NUMPY"
        + version
        + struct.pack("<H" if version < b"\x02" else "<I", len(header))
        + header
        + content
    )


ONE = npy("(1,)", bytes(8))


def zipped(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    """A zip archive; a name's double underscores are slashes, and a final one stands for ``.npy``."""
    return zipped_names({f"{name}.npy": content for name, content in members.items()}, compression)


def zipped_names(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def changed(content: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    """``content`` with ``new`` at ``offset`` behind each ``mark``."""
    found = bytearray(content)
    place = found.find(mark)
    while place >= 0:
        found[place + offset : place + offset + len(new)] = new
        place = found.find(mark, place + 4)
    return bytes(found)


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def twice_named() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("x.npy", ONE)
            archive.writestr("x.npy", ONE)
    return buffer.getvalue()


def linked_member(canary: Path) -> bytes:
    """An archive with a symbolic link as its member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("x.npy")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, str(canary))
    return buffer.getvalue()


def tarred(mode: str = "w:gz", **member: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo(member.pop("name", "x"))
        content = member.pop("content", b"")
        info.size = len(content)
        for key, value in member.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def torch_saved(canary: Path, new: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": Payload(canary)}, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def objects(canary: Path, archive: bool) -> bytes:
    """An array of objects as NumPy pickles it."""
    buffer = io.BytesIO()
    array = np.array([Payload(canary)], dtype=object)
    np.savez(buffer, x=array) if archive else np.save(buffer, array)
    return buffer.getvalue()


def safetensors(header: bytes | dict[str, Any], size: int | None = None, content: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if size is None else size) + raw + content


def gzip_named(canary: Path) -> bytes:
    """A gzip file whose header names another place to unpack to."""
    packed = gzip.compress(b"text\n")
    return packed[:3] + b"\x08" + packed[4:10] + f"../../..{canary}".encode() + b"\x00" + packed[10:]


def idx(kind: int, axes: int, *shape: int, content: bytes = b"") -> bytes:
    return gzip.compress(bytes([0, 0, kind, axes]) + struct.pack(f">{len(shape)}I", *shape) + content)


def alias_bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(lines)


def notebook(canary: Path) -> str:
    source = f"import os; os.makedirs({str(canary)!r})"
    cell = {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}
    return json.dumps(
        {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "../x"}}, "cells": [cell]}
    )


def _pickles(c: Path) -> Iterator[tuple[str, bytes]]:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield f"pickle of protocol {protocol}", pickled(c, protocol)
    yield "pickle after a byte order mark", b"\xef\xbb\xbf" + pickled(c, 0)
    yield "pickle in gzip", gzip.compress(pickled(c))
    yield "pickle as a member", zipped(x=pickled(c))
    yield "pickle beside an array", zipped_names({"x.npy": ONE, "y.pkl": pickled(c), "data.pkl": pickled(c)})
    yield "npy of objects", objects(c, archive=False)
    yield "npz of objects", objects(c, archive=True)
    yield "npz with a pickle behind a header of objects", zipped(x=npy("(1,)", pickled(c), "'|O'"))
    yield "torch file", torch_saved(c, new=True)
    yield "torch file of old", torch_saved(c, new=False)
    yield "header that calls", zipped(x=npy("(1,)", bytes(8), f"__import__('os').makedirs({str(c)!r})"))
    yield "header whose shape calls", zipped(x=npy(f"(__import__('os').makedirs({str(c)!r}),)", bytes(8)))


def _zips(c: Path) -> Iterator[tuple[str, bytes]]:
    whole = zipped(x=ONE)
    yield "npz that claims 728 TiB", zipped(x=npy(f"({91 * 2**40},)"))
    yield "npz of overflowing shape", zipped(x=npy(f"({2**62}, {2**62}, {2**62})"))
    yield "npz of negative shape", zipped(x=npy("(-1,)", bytes(8)))
    yield "npz of texts of no width", zipped(x=npy(f"({2**50},)", b"", "'<U0'"))
    yield "npz of vast texts", zipped(x=npy("(1,)", b"", f"'<U{2**29 - 1}'"))
    yield "npz of structures", zipped(x=npy("(1,)", bytes(8), "[('a', '<f8')]"))
    yield "npz with a nested header", zipped(x=npy("(" * 3000 + ")" * 3000))
    yield "npz with an endless header", zipped(x=b"\x93NUMPY\x02\x00\xff\xff\xff\xff{")
    yield "npz of an unknown version", zipped(x=npy("(1,)", bytes(8), version=b"\x09\x00"))
    yield (
        "npz that lies about its size",
        changed(changed(whole, LOCAL, 22, struct.pack("<I", 2**31)), CENTRAL, 24, struct.pack("<I", 2**31)),
    )
    yield "npz that lies about its packed size", changed(whole, CENTRAL, 20, struct.pack("<I", 2**31))
    yield "npz with a wrong sum", changed(changed(whole, LOCAL, 14, b"abcd"), CENTRAL, 16, b"abcd")
    yield "npz with a password", changed(changed(whole, LOCAL, 6, b"\x01\x00"), CENTRAL, 8, b"\x01\x00")
    yield (
        "npz of an unknown compression",
        changed(changed(whole, LOCAL, 8, b"\x63\x00"), CENTRAL, 10, b"\x63\x00"),
    )
    yield "npz whose member lies outside", changed(whole, CENTRAL, 42, struct.pack("<I", 2**31))
    yield "npz that claims 65,535 members", changed(whole, END, 8, b"\xff\xff\xff\xff")
    yield "npz with a directory outside", changed(whole, END, 16, struct.pack("<I", 2**31))
    yield "npz twice named", twice_named()
    yield "npz cut off", whole[: len(whole) // 2]
    yield "npz in xz", zipped(zipfile.ZIP_LZMA, x=ONE)
    yield "npz in bzip2", zipped(zipfile.ZIP_BZIP2, x=ONE)
    yield "zip bomb", zipped(zipfile.ZIP_DEFLATED, x=npy(f"({BOMB},)", bytes(BOMB), "'|u1'"))
    yield "zip in a zip", zipped(x=whole)
    yield (
        "zip that climbs",
        zipped_names({"../../x.npy": ONE, f"{c}.npy": ONE, "four_mutations_full_data.csv": b"\xff"}),
    )
    yield "zip with a table that is none", zipped_names({"../four_mutations_full_data.csv": b"Variants\n\n"})
    yield "zip with a link", linked_member(c)
    yield "zip of nothing", zipped()
    yield "npy alone", npy(f"({91 * 2**40},)")


def _streams(c: Path) -> Iterator[tuple[str, bytes]]:
    yield "gzip bomb", gzip.compress(bytes(BOMB))
    yield "gzip cut off", gzip.compress(b"text\n" * 100)[:-12]
    yield "gzip with a wrong sum", gzip.compress(b"text\n")[:-8] + bytes(8)
    yield "gzip with a name that climbs", gzip_named(c)
    yield "gzip of Latin-1", gzip.compress("café\n".encode("latin-1"))
    yield "idx that claims 74 ZiB", idx(8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)
    yield "idx of 255 axes", idx(8, 255, content=bytes(2000))
    yield "idx of no axis", idx(8, 0, content=bytes(1))
    yield "idx of another type", idx(13, 1, 1, content=bytes(8))
    yield "idx cut in its header", gzip.compress(b"\x00\x00\x08\x03\x00")
    yield "tar that climbs", tarred(name=f"../../..{c}", content=b"x")
    yield "tar with a link", tarred(name="x", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    yield "tar with a device", tarred(name="x", type=tarfile.CHRTYPE, devmajor=1, devminor=5)
    yield "tar with a pickle", tarred(name="manifest.json", content=pickled(c))
    yield "tar with a deep manifest", tarred(name="manifest.json", content=b"[" * 100_000)
    yield "tar bomb", tarred(name="manifest.json", content=bytes(BOMB))
    yield "safetensors that claims 8 EiB", safetensors(b"{}", size=2**63 - 1)
    yield (
        "safetensors past its end",
        safetensors({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
    )
    yield (
        "safetensors of overflowing shape",
        safetensors({"x": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 0]}}),
    )
    yield (
        "safetensors of no type",
        safetensors({"x": {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}}, content=bytes(8)),
    )
    yield "safetensors nested deep", safetensors(b"[" * 100_000)
    yield "safetensors with a pickle for a header", safetensors(pickled(c))
    yield "hdf5 cut off", b"\x89HDF\r\n\x1a\n" + bytes(64)


def _texts(c: Path) -> Iterator[tuple[str, bytes]]:
    for encoding in ("latin-1", "utf-16", "utf-16-le", "utf-32", "cp1252", "shift_jis"):
        text = "名a,b\n1,2\n" if encoding == "shift_jis" else "é,b\n1,2\n"
        yield f"table in {encoding}", text.encode(encoding)
    yield "table with formulas", f"file,gzip_bytes\n\"=cmd|'/C mkdir {c}'!A0\",1\n@SUM(1),+1\n".encode()
    yield "table without a row", b"a,b\n"
    yield "table of nothing", b""
    yield "table of empty lines", b"\n\n\n"
    yield "ragged table", b"a,b\n1,2,3\n"
    yield "table with an open quote", b'a,b\n"1,2\n'
    yield "table with a vast field", b"a,b\n" + b"1" * 140_000 + b",2\n"
    yield "table of 10,000 columns", b",".join([b"a"] * 10_000) + b"\n"
    yield "table with a NUL", b"a,b\n1,\x002\n"
    yield "table with a column twice", b"a,a\n1,2\n"
    yield "table of infinities", b"Galaxy,M_BH,file,gzip_bytes\ninf,nan,-inf,1e999\n"
    yield "json nested deep", b"[" * 100_000 + b"]" * 100_000
    yield "json nested deep in names", b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    yield "json nested by 500", b'{"a":' * 500 + b"1" + b"}" * 500
    yield "json of a vast number", b"1" * 100_000
    yield "json that is not finite", b'{"metrics": 1e999, "seed": NaN}'
    yield "json with a name twice", b'{"slug": "toy", "slug": "x"}'
    yield "json cut off", b'{"slug": "toy", "metr'
    yield "json of a list", b"[1, 2]"
    yield "json of a lone surrogate", b'{"categories": "\\ud800"}'
    yield (
        "json that names a class",
        b'{"py/object": "os.system", "__class__": "os", "n_heads": "12", "categories": {"jobs": 3}}',
    )
    yield "yaml that calls", yaml_call(c).encode()
    yield "yaml that makes an object", b"x: !!python/object/new:os.system ['true']"
    yield "yaml that names a module", b"x: !!python/module:os"
    yield "yaml that names a function", b"x: !!python/name:os.system"
    yield "yaml of aliases", alias_bomb().encode()
    yield "yaml inside itself", b"a: &a [*a]"
    yield "yaml nested deep", b"{a: " * 100_000
    yield "yaml of a wrong time", b"a: !!timestamp x"
    yield "yaml of two documents", b"a: 1\n---\nb: 2\n"
    yield "notebook that calls", notebook(c).encode()
    yield "script", f"#!/bin/sh\nmkdir {c}\n".encode()
    yield "program", b"\x7fELF\x02\x01\x01" + bytes(57)
    yield "page with a script", b"<!DOCTYPE html><script>alert(1)</script>\n"
    yield "escapes of a terminal", b"\x1b]0;x\x07\x1b[2J"
    yield "one long line", b"x" * 20_000


_OTHERS: dict[str, Callable[[Path], Any]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "link to an endless device": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "nothing at all": lambda path: None,
}


@functools.cache
def hostile_contents(canary: Path) -> dict[str, bytes]:
    """Name → content of every hostile file that is one."""
    listed = [item for source in (_pickles, _zips, _streams, _texts) for item in source(canary)]
    contents = dict(listed)
    assert len(contents) == len(listed)
    return contents


def hostile_files(folder: Path, suffix: str, canary: Path) -> Iterator[tuple[str, Path]]:
    """Every hostile file, and what looks like one and is none, written into ``folder`` as ``<name><suffix>``."""
    for name, content in hostile_contents(canary).items():
        path = folder / f"{_file_name(name)}{suffix}"
        path.write_bytes(content)
        yield name, path
    for name, make in _OTHERS.items():
        path = folder / f"{_file_name(name)}{suffix}"
        make(path)
        yield name, path


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "-", name)


def unsafe_load(content: bytes) -> Any:
    """What a careless loader does with a pickle."""
    return pickle.loads(content)


def unsafe_yaml(text: str) -> Any:
    """What a careless loader does with YAML."""
    return yaml.unsafe_load(text)
