"""The registry: look-up order, checksums, and what happens when data is out of reach."""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path

import pytest

from lib import datasets, network
from lib.datasets import DataError, DataFile, OutOfReachError, PublicFile
from lib.profiles import ParameterError

CONTENT = b"a,b\n1,2\n"
NAME = "sample/table.csv"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A mirror and a cache of their own, one registered file, and a canonical URL that nothing answers."""
    mirror, cache = tmp_path / "mirror", tmp_path / "home" / "cache"
    (mirror / NAME).parent.mkdir(parents=True)
    item = DataFile("http://127.0.0.1:9/table.csv", hashlib.sha256(CONTENT).hexdigest(), "CC0", "nobody")
    monkeypatch.setenv(datasets.MIRROR_VARIABLE, str(mirror))
    monkeypatch.setattr(datasets, "cache_dir", lambda: cache)
    monkeypatch.setattr(datasets, "registry", lambda: {NAME: item})
    monkeypatch.setattr(network, "_reasons", {})
    return mirror, cache


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that every address serves."""
    path = tmp_path / "served"

    class Copy:
        def __init__(self, **options: object) -> None:
            pass

        def __call__(self, url: str, output: str, pup: object) -> None:
            Path(output).write_bytes(path.read_bytes())

    monkeypatch.setattr(datasets.pooch, "HTTPDownloader", Copy)
    monkeypatch.setattr(datasets, "out_of_reach", lambda _: {})
    return path


def put(folder: Path, content: bytes = CONTENT) -> Path:
    path = folder / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_mirror_comes_before_cache(folders: tuple[Path, Path]) -> None:
    mirror, cache = put(folders[0]), put(folders[1])
    assert datasets.locate([NAME]) == [mirror]
    mirror.unlink()
    assert datasets.locate([NAME]) == [cache]


@pytest.mark.parametrize("content", [CONTENT[:-3], CONTENT + b"x", b""])
@pytest.mark.parametrize("data", ["auto", "real"])
def test_a_corrupt_file_is_an_error_and_never_a_stand_in(
    folders: tuple[Path, Path], content: bytes, data: str
) -> None:
    path = put(folders[0], content)
    with pytest.raises(DataError, match="checksum mismatch") as caught:
        datasets.locate([NAME], data)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_out_of_reach_real_fails_with_the_command(folders: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="make data") as caught:
        datasets.locate([NAME], "real")
    assert "\n" not in str(caught.value)
    assert not list(folders[1].rglob("*.csv"))


def test_out_of_reach_auto_means_stand_in(folders: tuple[Path, Path]) -> None:
    assert datasets.locate([NAME], "auto") is None
    assert not datasets.reachable([NAME])


def test_standin_is_forced_even_where_the_data_is(folders: tuple[Path, Path]) -> None:
    put(folders[0])
    assert datasets.locate([NAME], "standin") is None
    assert datasets.reachable([NAME])


def test_download_is_checked_and_leaves_nothing_behind(folders: tuple[Path, Path], served: Path) -> None:
    served.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="checksum differs"):
        datasets.locate([NAME], "auto")
    assert not [p for p in folders[1].rglob("*") if p.is_file()]
    served.write_bytes(CONTENT)
    assert datasets.locate([NAME], "auto") == [folders[1] / NAME]
    assert (folders[1] / NAME).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_named(
    folders: tuple[Path, Path], served: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A home that is read-only is not a network that is away."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(datasets, "cache_dir", lambda: tmp_path / "file" / "cache")
    with pytest.raises(OutOfReachError, match=r"the cache .* cannot be written.*XDG_CACHE_HOME"):
        datasets.locate([NAME], "real")
    assert datasets.locate([NAME], "auto") is None


def test_a_relative_mirror_counts_from_the_repository(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    item = DataFile("http://127.0.0.1:9/x", hashlib.sha256(CONTENT).hexdigest(), "CC0", "nobody")
    monkeypatch.setattr(datasets, "registry", lambda: {NAME: item})
    monkeypatch.setattr(datasets, "ROOT", tmp_path)
    monkeypatch.setenv(datasets.MIRROR_VARIABLE, "mirror")
    path = put(tmp_path / "mirror")
    assert datasets.locate([NAME]) == [path]


def slips(mirror: Path) -> dict[str, tuple[str, str]]:
    """Slip → (what PAPERS_DATA says then, what the line says that it should be)."""
    whole = f"it should be PAPERS_DATA={mirror}"
    return {
        "no folder": (f"{mirror}x", "is no folder; name one that holds the files as <data set>/<file>"),
        "a file": (str(mirror / NAME), "is no folder"),
        "single quotes": (f"'{mirror}'", whole),
        "double quotes": (f'"{mirror}"', whole),
        "a blank": (f"{mirror} ", whole),
        "a URL": (f"file://{mirror}", whole),
        "another URL": ("https://example.org/data", "is a URL"),
        "too deep": (str(mirror / "sample"), whole),
        "too high": (str(mirror.parent), whole),
        "another folder": (str(mirror.parent / "empty"), "holds none of the data sets sample"),
        "no home": ("~nobody-of-this-name/data", "no such home folder"),
    }


@pytest.mark.parametrize("slip", list(slips(Path())))
@pytest.mark.parametrize("data", ["auto", "real"])
def test_a_mirror_that_is_none_is_said_and_never_ignored(
    slip: str, data: str, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folders[0])
    put(folders[1])  # even where the cache has the file
    (folders[0].parent / "empty").mkdir()
    value, said = slips(folders[0])[slip]
    monkeypatch.setenv(datasets.MIRROR_VARIABLE, value)
    with pytest.raises(DataError) as caught:
        datasets.locate([NAME], data)
    assert f"PAPERS_DATA={value}" in str(caught.value) or f"PAPERS_DATA={value!r}" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_make_data_says_once_what_is_wrong_with_the_mirror(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(datasets.MIRROR_VARIABLE, f"{folders[0]}x")
    assert datasets.main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


def test_a_mirror_below_the_home_folder_is_found(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folders[0])
    monkeypatch.setenv("HOME", str(folders[0].parent))
    monkeypatch.setenv(datasets.MIRROR_VARIABLE, "~/mirror")
    assert datasets.locate([NAME]) == [path]


@pytest.mark.parametrize("value", [None, ""])
def test_no_mirror_is_no_slip(
    value: str | None, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folders[1])
    if value is None:
        monkeypatch.delenv(datasets.MIRROR_VARIABLE)
    else:
        monkeypatch.setenv(datasets.MIRROR_VARIABLE, value)
    assert datasets.locate([NAME]) == [path]


@pytest.mark.parametrize("what", ["folder", "pipe", "link to nothing", "loop"])
def test_what_is_no_file_is_never_taken_for_a_missing_one(what: str, folders: tuple[Path, Path]) -> None:
    path = folders[0] / NAME
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nothing" if what == "link to nothing" else path.name)
    with pytest.raises(DataError, match=r"sample/table.csv: .* is no regular file, or a link to nothing"):
        datasets.locate([NAME], "auto")


def test_a_file_that_may_not_be_read_is_one_line(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folders[0])

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(datasets.pooch, "file_hash", forbidden)
        with pytest.raises(DataError, match=r"sample/table.csv: .* cannot be read \(Permission denied\)"):
            datasets.locate([NAME], "auto")
    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        datasets.locate([NAME], "auto")


def test_unknown_name_and_policy() -> None:
    with pytest.raises(DataError, match=r"did you mean 'tinyshakespeare/input\.txt'"):
        datasets.locate(["tinyshakespeare/inputs.txt"])
    with pytest.raises(ParameterError, match=r"data='reel'.*did you mean 'real'"):
        datasets.locate([], "reel")


def test_a_file_without_a_public_form_comes_from_a_mirror_only(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    item = DataFile(None, hashlib.sha256(CONTENT).hexdigest(), "CC0", "nobody", "a pickle of nobody's")
    monkeypatch.setattr(datasets, "registry", lambda: {NAME: item})
    assert not datasets.reachable([NAME])
    assert datasets.locate([NAME], "auto") is None
    with pytest.raises(DataError, match=r"mirror only.*a pickle of nobody's"):
        datasets.locate([NAME], "real")
    assert datasets.main() == 0
    assert "from a mirror only" in capsys.readouterr().out
    path = put(folders[0])
    assert datasets.locate([NAME], "real") == [path]


PUBLIC = b"b;a\n2;1\n"


def swap_columns(public: list[Path], target: Path) -> None:
    """A converter: the public file holds the columns the other way round."""
    rows = [line.split(";")[::-1] for line in public[0].read_text().splitlines()]
    target.write_text("\n".join(",".join(row) for row in rows) + "\n")


def refuse(public: list[Path], target: Path) -> None:
    """A converter that stops half-way."""
    target.write_text("a")
    raise DataError("no column 'a'")


@pytest.mark.parametrize("same_bytes", [True, False])
def test_a_file_of_another_public_form_is_converted_checked_and_kept(
    same_bytes: bool, folders: tuple[Path, Path], served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The converted file is read again from the cache also where its bytes (a compression, say) differ from the mirror's."""
    part = PublicFile("http://127.0.0.1:9/public.csv", hashlib.sha256(PUBLIC).hexdigest())
    digest = hashlib.sha256(CONTENT if same_bytes else b"other").hexdigest()
    item = DataFile(None, digest, "CC0", "nobody", "x", (part,), f"{__name__}:swap_columns")
    monkeypatch.setattr(datasets, "registry", lambda: {NAME: item})
    served.write_bytes(PUBLIC[:-1])
    with pytest.raises(DataError, match="checksum differs"):
        datasets.locate([NAME], "real")
    assert not [p for p in folders[1].rglob("*") if p.is_file()]
    served.write_bytes(PUBLIC)
    assert datasets.locate([NAME], "real") == [folders[1] / NAME]
    assert (folders[1] / NAME).read_bytes() == CONTENT
    served.unlink()
    assert datasets.locate([NAME], "real") == [folders[1] / NAME]
    (folders[1] / NAME).write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match="checksum mismatch"):
        datasets.locate([NAME], "auto")


def test_a_converter_that_fails_leaves_nothing(
    folders: tuple[Path, Path], served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = PublicFile("http://127.0.0.1:9/public.csv", hashlib.sha256(PUBLIC).hexdigest())
    item = DataFile(None, "0" * 64, "CC0", "nobody", "x", (part,), f"{__name__}:refuse")
    monkeypatch.setattr(datasets, "registry", lambda: {NAME: item})
    served.write_bytes(PUBLIC)
    with pytest.raises(DataError, match="no column 'a'"):
        datasets.locate([NAME], "auto")
    assert not [p for p in folders[1].rglob("*") if p.is_file()]


def test_a_checksum_beside_a_file_of_the_mirror_does_not_count(folders: tuple[Path, Path]) -> None:
    path = put(folders[0], CONTENT[:-1])
    note = path.with_name(path.name + ".sha256")
    note.write_text(hashlib.sha256(CONTENT[:-1]).hexdigest())
    with pytest.raises(DataError, match="checksum mismatch"):
        datasets.locate([NAME])


@pytest.mark.parametrize(
    "text",
    [
        "a/b:\n  sha: 1\n",
        "- a\n",
        "a/b: text\n",
        "a: [\n  b: {\n",
        "a/b: {url: null, sha256: '0', licence: x, citation: y, converter: 'lib.m:f'}\n",
        "a/b: {url: null, sha256: '0', licence: x, citation: y, converter: 'os:system', public: [{url: 'https://z', sha256: '0'}]}\n",
        "a/b: {url: null, sha256: 0, licence: x, citation: y}\n",
        "a/b: {url: null, sha256: '0', licence: x, citation: y, public: [{url: 1, sha256: '0'}], converter: 'lib.m:f'}\n",
        "../b: {url: null, sha256: '0', licence: x, citation: y}\n",
        "a/../b: {url: null, sha256: '0', licence: x, citation: y}\n",
        "/a/b: {url: null, sha256: '0', licence: x, citation: y}\n",
        "a/b: {url: null, sha256: '0', licence: x, citation: y}\na/b: {url: null, sha256: '1', licence: x, citation: y}\n",
        "[" * 100_000,
        "a/b: caf\udce9\n",
        "a/b: {url: null, sha256: '0', licence: x, citation: y, converter: 'm:f', public: [{url: 'https://z'}]}\n",
    ],
)
def test_a_malformed_list_of_files_is_one_line(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "PACKAGE", tmp_path / "lib")
    monkeypatch.setattr(datasets, "ROOT", tmp_path)
    (tmp_path / "lib" / "malformed").mkdir(parents=True)
    (tmp_path / "lib" / "malformed" / "data_files.yml").write_text(
        text, encoding="utf-8", errors="surrogateescape"
    )
    datasets.chapter_files.cache_clear()
    datasets.registry.cache_clear()
    with pytest.raises(DataError, match=r"lib/malformed/data_files\.yml") as caught:
        datasets.registry()
    assert "\n" not in str(caught.value)
    datasets.chapter_files.cache_clear()
    datasets.registry.cache_clear()


def test_two_chapters_may_share_a_file_but_not_disagree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "PACKAGE", tmp_path / "lib")
    monkeypatch.setattr(datasets, "ROOT", tmp_path)
    line = "shared/x.csv: {url: null, sha256: '%s', licence: CC0, citation: nobody, origin: here}\n"
    for slug, digest in (("first", "0"), ("second", "0"), ("third", "1")):
        (tmp_path / "lib" / slug).mkdir(parents=True)
        (tmp_path / "lib" / slug / "data_files.yml").write_text(line % digest)
        datasets.chapter_files.cache_clear()
        datasets.registry.cache_clear()
        if slug != "third":
            assert list(datasets.registry()) == ["shared/x.csv"]
    with pytest.raises(DataError, match="registered differently"):
        datasets.registry()
    datasets.chapter_files.cache_clear()
    datasets.registry.cache_clear()


def test_every_entry_is_https_with_a_sha256_a_licence_and_a_citation() -> None:
    entries = datasets.registry()
    assert {"tinyshakespeare/input.txt", "smbh/sam_ell.csv"} <= entries.keys()
    for name, item in entries.items():
        assert all(url.startswith("https://") for url in item.addresses), name
        assert all(len(part.sha256) == 64 for part in item.public), name
        if item.converter:
            module, function = item.converter.split(":")
            assert callable(getattr(importlib.import_module(module), function)), name
        assert item.origin, name
        assert len(item.sha256) == 64, name
        assert int(item.sha256, 16) >= 0, name
        assert item.licence, name
        assert item.citation, name
        assert not any(url.endswith((".pkl", ".pickle", ".pt", ".pth")) for url in item.addresses), name
