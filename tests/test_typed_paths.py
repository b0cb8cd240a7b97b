"""What a person types for a path: a home is found, and for a slip the line says what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.profiles import ParameterError
from lib.typed_paths import typed_path


def test_a_home_is_found_and_other_paths_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert typed_path("out_dir", "~/x") == tmp_path / "x"
    assert typed_path("out_dir", "~") == tmp_path
    for text in ("a/b", "/a b/c", "C:/a", "../x", "a~b", "it's"):
        assert typed_path("out_dir", text) == Path(text)
    assert typed_path("out_dir", Path("a/b")) == Path("a/b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "out_dir='' is empty"),
        ("  ", "is empty"),
        ("'/a/b'", "it should be out_dir=/a/b"),
        ('"/a/b"', "it should be out_dir=/a/b"),
        ('/a/b"', "it should be out_dir=/a/b"),
        (" /a/b\n", "blanks around it; it should be out_dir=/a/b"),
        ("file:///a/b", "it should be out_dir=/a/b"),
        ("file://localhost/a/b", "it should be out_dir=/a/b"),
        ("file:/a/b", "it should be out_dir=/a/b"),
        ("https://host/a", "it should be a folder's path"),
        ("s3://host/a", "it should be a folder's path"),
        ("~nobody-of-this-name/x", "no such home folder"),
        ("a\x00b", "NUL"),
    ],
)
def test_a_slip_is_one_line_that_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        typed_path("out_dir", text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
