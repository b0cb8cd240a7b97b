"""Tables and arrays: the numbers of pandas and NumPy to the last bit, and one line for what is no table or no archive."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lib import numeric_files
from lib.numeric_files import numbers, read_arrays, read_table
from lib.profiles import OneLineError

TIB = 2**40


class Refused(OneLineError, ValueError):
    """The error that these callers name."""


def refusal(read: Callable[..., Any], path: Path, **options: Any) -> str:
    """The message of the one-line error that ``read`` raises for ``path``."""
    with pytest.raises(Refused) as caught:
        read(path, Refused, **options)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert len(message) < 500
    return message


def member(shape: str, content: bytes = b"", descr: str = "'<f8'") -> bytes:
    """An ``.npy`` member whose header promises ``shape`` of ``descr``."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def archive(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def test_a_table_has_the_numbers_of_pandas(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    text = 'first,line\r\nname,x,y\r\n"a, b",0.1,3\r\n\r\nc,1e-300,4\r\n'
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    table = read_table(path, Refused, ["x", "name"], header=1)
    pd.testing.assert_frame_equal(table, pd.read_csv(io.StringIO(text), header=1), check_exact=True)
    assert numbers(table, ["y", "x"], path.name, Refused).tolist() == [[3, 0.1], [4, 1e-300]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"a,b\n", "empty or truncated"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 fields instead of 2"),
        (b"a,b\n1,2,3\n", "line 2 has 3 fields instead of 2"),
        (b"a,a\n1,2\n", "column 'a' stands 2 times"),
        (b"a,bb\n1,2\n", r"column 'b' is missing; did you mean 'bb'"),
        ("a,b\né,2\n".encode("latin-1"), "Latin-1"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b'a,b\n"1,2\n', "not a table"),
        (b'a,b\n"1"x,2\n', "not a table"),
        (b"a,b\n" + b"1" * 200_000 + b",2\n", "not a table"),
        (b"\x80\x04]\x94(K\x01K\x02e.", "not UTF-8"),
    ],
)
def test_what_is_no_table_is_one_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    assert said in refusal(read_table, path, columns=["b"])


@pytest.mark.parametrize("cell", ["", "x", "inf", "nan", "1e999", '=cmd|"/C calc"!A0'])
def test_a_cell_that_is_no_finite_number_is_named(cell: str) -> None:
    table = pd.DataFrame({"a": ["1", cell]})
    with pytest.raises(Refused, match=r"here: column 'a', data row 2"):
        numbers(table, ["a"], "here", Refused)
    with pytest.raises(Refused, match="'aa' is missing; did you mean 'a'"):
        numbers(table, ["aa"], "here", Refused)


def test_arrays_are_those_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    arrays = {
        "floats": np.linspace(0, 1, 6).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "text": np.array(["a", "bcd"]),
        "truth": np.array([True, False]),
        "empty": np.zeros((0, 5), dtype=np.uint8),
        "scalar": np.array(3.5),
        "big_endian": np.arange(3, dtype=">i8"),
    }
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays)
        found = read_arrays(path, Refused)
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            assert found[name].flags.f_contiguous == array.flags.f_contiguous
            assert found[name].flags.writeable
            np.testing.assert_array_equal(found[name], array, strict=True)
    assert list(read_arrays(path, Refused, ["truth", "text"])) == ["truth", "text"]
    assert "array 'float' is missing; did you mean 'floats'" in refusal(read_arrays, path, names=["float"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (member(f"({100 * TIB},)"), "promises"),
        (member(f"({2**63}, {2**63})"), "promises"),
        (member("(3,)", bytes(16)), "promises"),
        (member("(1,)", bytes(16)), "promises"),
        (member("(-1,)", bytes(8)), "promises"),
        (member("(2**40,)", bytes(8)), "not an archive of arrays"),
        (member("('a',)", bytes(8)), "not an archive of arrays"),
        (member("(1,)", bytes(8), "'|O'"), "neither numbers nor text"),
        (member("(1,)", bytes(8), "'|V8'"), "neither numbers nor text"),
        (member("(1,)", bytes(8), "[('a', '<f8')]"), "neither numbers nor text"),
        (member("(9,)", b"", "'<U0'"), "neither numbers nor text"),
        (member("(1,)", bytes(8), "__import__('os').system('touch x')"), "not an archive of arrays"),
        (member("(" * 2000 + ")" * 2000), "not an archive of arrays"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "not an archive of arrays"),
        (b"\x93NUMPY\x09\x00", "version"),
        (b"\x80\x04K\x01.", "not an archive of arrays"),
        (b"", "not an archive of arrays"),
    ],
)
def test_a_header_is_not_believed(content: bytes, said: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "arrays.npz", x=content)
    tracemalloc.start()
    try:
        assert said in refusal(read_arrays, path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_an_archive_that_promises_more_than_it_holds_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numeric_files, "LARGEST", 2**26)
    size = 2**25
    path = archive(tmp_path / "arrays.npz", x=member(f"({size},)", descr="'|u1'"))
    content = bytearray(path.read_bytes())
    header = len(member(f"({size},)", descr="'|u1'"))
    for place in (content.find(b"PK\x03\x04") + 22, content.find(b"PK\x01\x02") + 24):  # the member's sizes
        content[place : place + 4] = (header + size).to_bytes(4, "little")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        assert "not an archive of arrays" in refusal(read_arrays, path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numeric_files, "LARGEST", 2**20)
    size = 2**22
    bomb = member(f"({size},)", bytes(size), "'|u1'")
    path = archive(tmp_path / "arrays.npz", zipfile.ZIP_DEFLATED, x=bomb)
    assert path.stat().st_size < 2**13
    assert "unpacks to more than 1 MiB" in refusal(read_arrays, path)


@pytest.mark.parametrize("cut", [0, 10, 200, -1, -30])
def test_a_file_cut_off_is_one_line(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, x=np.arange(50))
    path.write_bytes(path.read_bytes()[:cut])
    assert "not an archive of arrays" in refusal(read_arrays, path)


def test_damaged_twice_named_and_foreign_members_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, x=np.arange(50))
    content = bytearray(path.read_bytes())
    content[content.find(bytes([7, 0, 0, 0, 0, 0, 0, 0]))] ^= 1
    path.write_bytes(content)
    assert "CRC" in refusal(read_arrays, path)
    whole = member("(1,)", bytes(8))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", whole)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("x.npy", whole)
    assert "two arrays are called 'x'" in refusal(read_arrays, path)
    archive(path, zipfile.ZIP_LZMA, x=whole)
    assert "compressed in a way" in refusal(read_arrays, path)
