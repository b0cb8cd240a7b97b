"""Files from outside, read as plain data: text, JSON, YAML, and what gzip packs. Tables and arrays: :mod:`lib.numeric_files`.

What is wrong with a file is one line that names it, as the error that the caller names. Nothing in a file is run, and nothing that it says
of its own size is believed: memory is taken for what is there, up to :data:`LARGEST` bytes.

Text is UTF-8; a byte order mark in front of it is no part of it, and line ends are read as ``\\n``.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import zlib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from lib.profiles import OneLineError

LARGEST = 2**28
"""Bytes that one file may hold, also after it has been unpacked."""

DEEPEST = 100
"""Lists and mappings inside each other in a JSON or YAML file."""

_BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_bytes(path: Path, error: type[OneLineError], name: str = "") -> bytes:
    """A file's bytes.

    Args:
        name: what the message calls the file; its name without its folder by default. It is the same in all readers.

    Raises:
        error: if it is missing, no regular file, unreadable, or larger than :data:`LARGEST`.
    """
    name = name or path.name
    try:
        if not path.is_file():  # a folder, a pipe or a device: reading could wait for ever
            raise error(f"{name}: {'no regular file' if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > LARGEST:
                raise error(f"{name} is larger than {LARGEST >> 20} MiB")
            return file.read()
    except OSError as reason:
        raise error(f"{name} cannot be read ({reason.strerror or reason})") from reason


def decode(content: bytes, name: str, error: type[OneLineError]) -> str:
    """Bytes as text.

    Args:
        name: of the file, for the message.

    Raises:
        error: for another encoding than UTF-8, or a NUL, which no text holds.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        other = _BYTE_ORDER_MARKS.get(content[:2], "another encoding, such as Latin-1")
        raise error(
            f"{name} is not UTF-8 text but {other} (byte {reason.start + 1} is 0x{content[reason.start]:02x}); "
            f"save it as UTF-8"
        ) from reason
    if "\x00" in text:
        raise error(f"{name} is not text: it holds a NUL character (binary, or UTF-16)")
    return text


def read_text(path: Path, error: type[OneLineError], name: str = "") -> str:
    """A UTF-8 text file, line ends as ``\\n``, without a byte order mark.

    Raises:
        error: if the file cannot be read, or is not UTF-8 text.
    """
    text = decode(read_bytes(path, error, name), name or path.name, error)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: Path, error: type[OneLineError], name: str = "") -> Any:
    """The value in a JSON file.

    Raises:
        error: if the file cannot be read or is not UTF-8; for anything that is not JSON (also NaN and infinities, which JSON has not);
            for a name that occurs twice in an object; for nesting deeper than :data:`DEEPEST`.
    """
    return parse_json(read_text(path, error, name), name or path.name, error)


def parse_json(text: str, name: str, error: type[OneLineError]) -> Any:
    """The value of a JSON text, as :func:`read_json` takes it; ``name`` stands in the message."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
    except RecursionError as reason:
        raise error(f"{name}: nested deeper than {DEEPEST} levels") from reason
    except ValueError as reason:  # also an integer of thousands of digits
        raise error(f"{name}: not valid JSON ({one_line(reason)})") from reason
    _check_depth(value, name, error)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = repeated(name for name, _ in pairs)
    if twice is not None:
        raise ValueError(f"the name {twice!r} occurs twice in one object")
    return dict(pairs)


def repeated(items: Iterable[str]) -> str | None:
    """The first of ``items`` that occurred before, or None."""
    seen: set[str] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:30]} is not a finite number")
    return value


def read_yaml(path: Path, error: type[OneLineError], name: str = "") -> Any:
    """The value in a YAML file of plain types.

    Raises:
        error: if the file cannot be read or is not UTF-8; for anything that is not YAML; for a tag that stands for an object of Python; for
            an alias, which lets a small file stand for a vast one; for a key that occurs twice; for nesting deeper than :data:`DEEPEST`.
    """
    return parse_yaml(read_text(path, error, name), name or path.name, error)


def parse_yaml(text: str, name: str, error: type[OneLineError]) -> Any:
    """The value of a YAML text, as :func:`read_yaml` takes it; ``name`` stands in the message."""
    try:
        return _PlainLoader(text).get_single_data()
    except RecursionError as reason:
        raise error(f"{name}: nested deeper than {DEEPEST} levels") from reason
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as reason:
        # besides its own error PyYAML lets out those of its conversions, such as AttributeError for "!!timestamp x"
        raise error(f"{name}: not valid YAML ({one_line(reason)})") from reason


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, repeated keys and deep nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "an alias (*) is not allowed", self.peek_event().start_mark
            )
        deeper = self.check_event(yaml.CollectionStartEvent)
        self.depth += deeper
        if self.depth > DEEPEST:
            raise RecursionError
        node = super().compose_node(parent, index)
        self.depth -= deeper
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        twice = repeated(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice!r} occurs twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def _check_depth(value: Any, name: str, error: type[OneLineError]) -> None:
    level, depth = [value], 0
    while inside := [item for item in level if isinstance(item, (dict, list))]:
        if depth == DEEPEST:
            raise error(f"{name}: nested deeper than {DEEPEST} levels")
        level = [x for item in inside for x in (item.values() if isinstance(item, dict) else item)]
        depth += 1


def one_line(reason: BaseException | str) -> str:
    """What an exception or a text says, in one line of at most 300 characters."""
    text = " ".join(str(reason).split()) or type(reason).__name__
    return text if len(text) <= 300 else text[:299] + "…"


def read_gzip(path: Path, error: type[OneLineError]) -> bytes:
    """The content of a gzip file.

    Raises:
        error: if the file cannot be read, is no whole gzip file, or holds more than :data:`LARGEST` bytes.
    """
    packed = io.BytesIO(read_bytes(path, error))
    try:
        with gzip.GzipFile(fileobj=packed) as file:
            content = bytearray()
            while len(content) <= LARGEST and (more := file.read(2**20)):
                content += more
        if not packed.getbuffer():
            raise EOFError("it is empty")
    except (OSError, EOFError, zlib.error) as reason:
        raise error(f"{path.name} is not a whole gzip file ({one_line(reason)})") from reason
    if len(content) > LARGEST:
        raise error(f"{path.name} unpacks to more than {LARGEST >> 20} MiB")
    return bytes(content)
