"""Plain files: what is read, and the one line for everything else."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib import plain_files
from lib.plain_files import parse_json, parse_yaml, read_bytes, read_gzip, read_json, read_text, read_yaml
from lib.profiles import OneLineError


class Refused(OneLineError, ValueError):
    """The error that these callers name."""


def refusal(read: Callable[[Path, type[OneLineError]], Any], path: Path) -> str:
    """The message of the one-line error that ``read`` raises for ``path``."""
    with pytest.raises(Refused) as caught:
        read(path, Refused)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_a_byte_order_mark_and_line_ends_are_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffä\r\nb\rc\n".encode())
    assert read_text(path, Refused) == "ä\nb\nc\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("café".encode("latin-1"), "Latin-1"),
        ("café".encode("utf-16"), "UTF-16"),
        ("cafe".encode("utf-16-le"), "NUL"),
        (b"\x80\x04K\x01.", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("read", [read_text, read_json, read_yaml])
def test_another_encoding_is_named(
    content: bytes, said: str, read: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert said in refusal(read, path)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "nothing").symlink_to("missing")
    for name in ("pipe", "device"):
        assert "no regular file" in refusal(read_bytes, tmp_path / name)
    for name in ("nothing", "missing"):
        assert "no such file" in refusal(read_bytes, tmp_path / name)
    assert "no regular file" in refusal(read_bytes, tmp_path)


def test_an_unreadable_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("x")

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    assert "Permission denied" in refusal(read_text, path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON"),
        ('{"a": 1', "not valid JSON"),
        ('{"a": NaN}', "not a finite number"),
        ("[1e999]", "not a finite number"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' occurs twice"),
        ("9" * 10_000, "not valid JSON"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper"),
        ('{"a":' * 300 + "1" + "}" * 300, "nested deeper"),
    ],
)
def test_what_is_not_json_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    path.write_text(text)
    assert said in refusal(read_json, path)


def test_json_and_yaml_of_allowed_depth_are_read() -> None:
    deep = "[" * plain_files.DEEPEST + "]" * plain_files.DEEPEST
    wanted: Any = []
    for _ in range(plain_files.DEEPEST - 1):
        wanted = [wanted]
    assert parse_json(deep, "x", Refused) == parse_yaml(deep, "x", Refused) == wanted
    for parse in (parse_json, parse_yaml):
        with pytest.raises(Refused, match="nested deeper"):
            parse(f"[{deep}]", "x", Refused)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [\n  b: {\n", "not valid YAML"),
        ("!!python/object/apply:os.system ['touch x']", "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: 2026-13-45", "not valid YAML"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!int ''", "not valid YAML"),
        ("? [a]\n: b", "not valid YAML"),
        ("a: 1\nb: {c: 1, c: 2}", "'c' occurs twice"),
        ("a: &x [1]\nb: *x", "alias"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("[" * 100_000, "nested deeper"),
        ("{a: " * 300, "nested deeper"),
        ("\x07", "not valid YAML"),
    ],
)
def test_what_is_not_plain_yaml_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "value.yml"
    path.write_text(text)
    assert said in refusal(read_yaml, path)


def test_gzip_is_read_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "packed.gz"
    packed = gzip.compress(b"x" * 5000)
    path.write_bytes(packed)
    assert read_gzip(path, Refused) == b"x" * 5000
    other_sum = packed[:-8] + bytes(4) + packed[-4:]
    for damaged in (packed[:-9], packed[:12], b"", b"text", packed + b"more", other_sum):
        path.write_bytes(damaged)
        assert "not a whole gzip file" in refusal(read_gzip, path)
    path.write_bytes(packed)
    monkeypatch.setattr(plain_files, "LARGEST", 4999)
    assert "unpacks to more" in refusal(read_gzip, path)
    path.write_bytes(b"x" * 5000)
    assert "larger than" in refusal(read_bytes, path)
