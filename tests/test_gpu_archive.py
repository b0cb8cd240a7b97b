"""What comes home from a GPU session: packed within limits, read without trust, imported one by one."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lib.claims import ledger
from lib.publishing import gpu_archive, gpu_import, provenance
from lib.publishing.gpu_archive import (
    MANIFEST,
    ArchiveError,
    distribute,
    find_volumes,
    read_archive,
    volume_name,
    write_archive,
)
from lib.publishing.gpu_import import import_archive, main
from lib.publishing.pairing import METADATA_KEY
from lib.publishing.provenance import ProvenanceError, commit_of, sources_of
from lib.publishing.scorecard import read_record

ABOUT: dict[str, Any] = {"session": "s", "machine": {"device": "GPU"}, "requests": {}, "status": {}}


def salted(n: int) -> bytes:
    """``n`` bytes that do not compress."""
    return b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(n // 32))


def rewrite(path: Path, change: Any) -> None:
    """Write a volume anew with ``change`` applied to its members (name → bytes)."""
    with tarfile.open(path) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]
    change(members)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


# ---------------------------------------------------------------- writing


def test_what_is_written_is_read(tmp_path: Path) -> None:
    files = {"runs/a/results.json": b"{}", "runs/a/a.ipynb": b"x" * 1000, "logs/runs-a.log": b""}
    assert write_archive(tmp_path, files, ABOUT) == [tmp_path / "gpu-session.tar.gz"]
    contents = read_archive(find_volumes(tmp_path))
    assert contents.files == files
    assert contents.faults == []
    assert contents.manifest["machine"] == {"device": "GPU"}


def test_a_larger_archive_is_divided_and_an_earlier_division_goes(tmp_path: Path) -> None:
    write_archive(tmp_path, {"runs/a/results.json": b"{}"}, ABOUT)
    files = {f"runs/{slug}/{slug}.ipynb": salted(40_000) for slug in "abc"}
    paths = write_archive(tmp_path, files, ABOUT, volume_bytes=60_000)
    assert [p.name for p in paths] == [volume_name(i, 3) for i in (1, 2, 3)]
    assert sorted(tmp_path.iterdir()) == paths
    assert all(p.stat().st_size <= 60_000 for p in paths)
    assert read_archive(find_volumes(paths[1])).files == files  # one volume leads to the others
    paths[2].unlink()
    contents = read_archive(find_volumes(tmp_path))
    assert set(contents.files) == {"runs/a/a.ipynb", "runs/b/b.ipynb"}
    assert contents.faults == ["runs/c/c.ipynb: missing (volume 3 of 3)"]


def test_what_finds_no_room_is_named_and_the_rest_is_written(tmp_path: Path) -> None:
    files = {"runs/a/results.json": b"{}", "runs/a/a.ipynb": salted(100_000)}
    with pytest.raises(ArchiveError, match=r"no room for: runs/a/a\.ipynb"):
        write_archive(tmp_path, files, ABOUT, volume_bytes=60_000)
    assert set(read_archive(find_volumes(tmp_path)).files) == {"runs/a/results.json"}


def test_files_fill_volumes_in_order_of_importance() -> None:
    sizes = {"a": 5, "b": 6, "c": 4, "d": 11, "e": 9}
    assert distribute(sizes, 10, 2) == ([["a", "c"], ["b"]], ["d", "e"])


# ---------------------------------------------------------------- reading


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    files = {"runs/a/results.json": b"{}", "runs/a/a.ipynb": salted(9000), "logs/runs-a.log": b"log"}
    return write_archive(tmp_path, files, ABOUT)[0]


def test_changed_bytes_are_noticed(volume: Path) -> None:
    rewrite(volume, lambda members: members.update({"runs/a/a.ipynb": b"other"}))
    contents = read_archive([volume])
    assert contents.faults == ["runs/a/a.ipynb: damaged (its SHA-256 is not the manifest's)"]
    assert set(contents.files) == {"runs/a/results.json", "logs/runs-a.log"}


def test_what_stands_before_a_cut_is_read(volume: Path) -> None:
    volume.write_bytes(volume.read_bytes()[:-4000])
    contents = read_archive([volume])
    assert contents.files == {"runs/a/results.json": b"{}"}
    assert contents.faults[0].startswith("gpu-session.tar.gz: damaged or cut off")
    assert "runs/a/a.ipynb: missing (volume 1 of 1)" in contents.faults


def test_flipped_bytes_never_pass(volume: Path) -> None:
    whole = volume.read_bytes()
    for at in range(0, len(whole), 97):
        volume.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            contents = read_archive([volume])
        except ArchiveError:
            continue
        good = {"runs/a/results.json": b"{}", "runs/a/a.ipynb": salted(9000), "logs/runs-a.log": b"log"}
        assert contents.files.items() <= good.items()
        assert contents.faults or contents.files == good


@pytest.mark.parametrize(
    "name",
    ["../../outside.json", "/tmp/outside.json", "runs/a/../../x.ipynb", "runs/a/b.ipynb", "runs/A/results.json", "runs/a/evil.py", "lib/x.py"],
)  # fmt: skip
def test_a_name_that_no_session_writes_is_refused(tmp_path: Path, name: str) -> None:
    path = write_archive(tmp_path, {name: b"x", "runs/a/results.json": b"{}"}, ABOUT)[0]
    contents = read_archive([path])
    assert contents.faults == [f"{name!r}: refused, no file of a session has such a name"]
    assert set(contents.files) == {"runs/a/results.json"}


def test_a_member_that_the_manifest_does_not_name_is_refused(volume: Path) -> None:
    rewrite(volume, lambda members: members.update({"runs/b/results.json": b"{}"}))
    assert read_archive([volume]).faults == ["'runs/b/results.json': refused, the manifest does not name it"]


def test_a_link_is_refused(volume: Path) -> None:
    with tarfile.open(volume) as tar:
        manifest = tar.extractfile(MANIFEST).read()  # type: ignore[union-attr]
    with tarfile.open(volume, "w:gz") as tar:
        head, link = tarfile.TarInfo(MANIFEST), tarfile.TarInfo("runs/a/results.json")
        head.size, link.type, link.linkname = len(manifest), tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(head, io.BytesIO(manifest))
        tar.addfile(link)
    contents = read_archive([volume])
    assert contents.files == {}
    assert "is no regular file" in contents.faults[0]


def test_an_oversized_member_is_not_read(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_archive, "FILE_BYTES", 8000)
    contents = read_archive([volume])
    assert set(contents.files) == {"runs/a/results.json"}
    assert "is too large" in contents.faults[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop(MANIFEST),
        lambda m: m.update({MANIFEST: b"not JSON"}),
        lambda m: m.update({MANIFEST: json.dumps({**json.loads(m[MANIFEST]), "format": 9}).encode()}),
        lambda m: m.update(
            {MANIFEST: json.dumps({**json.loads(m[MANIFEST]), "files": [{"name": 3}]}).encode()}
        ),
        lambda m: m.update({MANIFEST: b"[]"}),
    ],
)
def test_without_a_sound_manifest_nothing_is_read(volume: Path, change: Any) -> None:
    rewrite(volume, change)
    with pytest.raises(ArchiveError, match=r"^gpu-session\.tar\.gz: .*") as caught:
        read_archive([volume])
    assert "\n" not in str(caught.value)


def test_volumes_of_two_sessions_do_not_mix(tmp_path: Path) -> None:
    one = write_archive(tmp_path / "1", {"runs/a/results.json": b"{}"}, ABOUT)
    two = write_archive(tmp_path / "2", {"runs/b/results.json": b"{}"}, {**ABOUT, "session": "t"})
    with pytest.raises(ArchiveError, match="another session"):
        read_archive([*one, *two])
    with pytest.raises(ArchiveError, match="there is no gpu-session"):
        find_volumes(tmp_path)


# ---------------------------------------------------------------- which commit


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    def git(*words: str) -> None:
        who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    files = [
        "lib/shared.py",
        "lib/a/__init__.py",
        "lib/a/data.csv",
        "lib/b/other.py",
        "notebooks/a.py",
        "benchmarks/a.py",
        "benchmarks/peers/a.py",
    ]
    for name in [*files, "lib/publishing/benchmark.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    (tmp_path / "lib/shared.py").write_text("two\n")
    (tmp_path / "lib/b/other.py").write_text("two\n")
    git("commit", "-qam", "two")
    return tmp_path


def head(clone: Path, name: str = "HEAD") -> str:
    done = subprocess.run(
        ["git", "-C", str(clone), "rev-parse", name], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_sources_lead_back_to_the_commit(clone: Path) -> None:
    sources = sources_of("runs", "a", clone)
    assert list(sources) == ["lib/a/__init__.py", "lib/a/data.csv", "lib/shared.py", "notebooks/a.py"]
    assert set(sources_of("benchmarks", "a", clone)) - set(sources) == {
        "benchmarks/a.py",
        "benchmarks/peers/a.py",
        "lib/publishing/benchmark.py",
    }
    assert commit_of("runs", "a", sources, clone) == head(clone)
    (clone / "lib/shared.py").write_text("lib/shared.py\n")
    assert commit_of("runs", "a", sources_of("runs", "a", clone), clone) == head(clone, "HEAD~1")
    assert provenance.is_ancestor(head(clone, "HEAD~1"), head(clone), clone)
    assert not provenance.is_ancestor(head(clone), head(clone), clone)


@pytest.mark.parametrize("change", ["edited", "added", "left out"])
def test_sources_that_no_commit_holds_are_named(clone: Path, change: str) -> None:
    sources = sources_of("runs", "a", clone)
    if change == "edited":
        sources["lib/a/data.csv"] = "0" * 40
    elif change == "added":
        sources["lib/new.py"] = "0" * 40
    else:
        del sources["lib/a/data.csv"]
    name = "lib/new.py" if change == "added" else "lib/a/data.csv"
    with pytest.raises(ProvenanceError, match=f"no commit .* other than in HEAD: {name}$"):
        commit_of("runs", "a", sources, clone)


def test_outside_a_clone_no_commit_can_be_told(tmp_path: Path) -> None:
    with pytest.raises(ProvenanceError, match="is no clone"):
        commit_of("runs", "a", {}, tmp_path)


# ---------------------------------------------------------------- importing


COMMIT, LATER = "a" * 40, "b" * 40


def record(**changes: Any) -> dict[str, Any]:
    metrics = {"loop_speedup_mingru_512": {"mean": 2.0, "low": 1.0, "high": 3.0, "values": [2.0], "unit": ""}}
    return {
        "slug": "minrnn", "profile": "gpu", "seed": 0, "overrides": {}, "data_source": "real", "device": "NVIDIA X",
        "wall_time_s": 100.0, "commit": None, "versions": {"python": "3.12.3", "torch": "2.11.0"}, "metrics": metrics,
        "verdicts": {"C1": "reproduced"}, **changes,
    }  # fmt: skip


def page(*outputs: Any) -> bytes:
    title = nbformat.v4.new_markdown_cell("# Title\n\nSee [below](#here).")
    code = nbformat.v4.new_code_cell("1", outputs=list(outputs), execution_count=1)
    mark = {METADATA_KEY: {"hash": "of the code there", "profile": "gpu"}}
    return nbformat.writes(nbformat.v4.new_notebook(cells=[title, code], metadata=mark)).encode()


BENCHMARK = {
    "machine": {"GPU": "NVIDIA X"}, "rows": [], "times": [], "note": "",
}  # fmt: skip


def archive(folder: Path, files: Mapping[str, bytes], finished: str = "2027-01-02T00:00:00+00:00") -> Path:
    keys = {name.rsplit("/", 1)[0] for name in files}
    requests = {key: {"sources": {}, "quick": False, "finished": finished} for key in sorted(keys)}
    return write_archive(folder, files, {**ABOUT, "requests": requests})[0]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gpu_import, "commit_of", lambda kind, slug, sources: COMMIT)
    monkeypatch.setattr(gpu_import, "is_ancestor", lambda older, newer: (older, newer) == (COMMIT, LATER))
    return tmp_path / "home"


def run_files(**changes: Any) -> dict[str, bytes]:
    return {
        "runs/minrnn/results.json": json.dumps(record(**changes)).encode(),
        "runs/minrnn/minrnn.ipynb": page(),
    }


def test_a_run_comes_into_the_book_judged_by_the_present_rules(home: Path, tmp_path: Path) -> None:
    files = {**run_files(), "benchmarks/minrnn/results.json": json.dumps(BENCHMARK).encode()}
    done, refused = import_archive(archive(tmp_path / "out", files), home)
    assert refused == []
    assert done[0] == f"benchmark minrnn: imported, 0 rows, commit {COMMIT[:10]}"
    assert done[1] == f"minrnn: imported, NVIDIA X, commit {COMMIT[:10]}, 100 s"
    assert "  C1: reproduced in the run, not run by the present rules" in done
    folder = home / "book" / "runs" / "minrnn" / "gpu"
    stored = json.loads((folder / "results.json").read_text())
    assert stored["commit"] == COMMIT
    assert set(stored["verdicts"]) == {claim.id for claim in ledger("minrnn").claims}
    assert stored["metrics"] == record()["metrics"]
    assert read_record(folder / "results.json", ledger("minrnn")).commit == COMMIT
    assert "[below](#here)" in (folder / "minrnn.ipynb").read_text()
    assert json.loads((home / "benchmarks/results/minrnn.gpu.json").read_text())["commit"] == COMMIT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profile": "smoke"}, "a rehearsal"),
        ({"overrides": {"workers": 1}}, "a rehearsal"),
        ({"device": "CPU AMD, 2 cores"}, "ran on CPU AMD, 2 cores, not on a GPU"),
        ({"versions": {}}, "the versions of Python and torch are not recorded"),
        ({"slug": "smbh"}, "this is the record of 'smbh'"),
        ({"metrics": {"x": {"mean": 1.0}}}, "not a run record"),
        ({"metrics": []}, "not a run record"),
        ({"wall_time_s": "long"}, "wall_time_s='long' is not a number"),
    ],
)
def test_what_is_no_run_for_the_book_is_refused(
    home: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    done, [fault] = import_archive(archive(tmp_path / "out", run_files(**changes)), home)
    assert message in fault
    assert "\n" not in fault
    assert not home.exists()


def test_a_newer_record_stays_unless_forced(home: Path, tmp_path: Path) -> None:
    path = archive(tmp_path / "out", run_files())
    target = home / "book" / "runs" / "minrnn" / "gpu" / "results.json"
    for present in ({"commit": LATER}, {"commit": COMMIT, "finished": "2027-01-03T00:00:00+00:00"}):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(present))
        _, [fault] = import_archive(path, home)
        assert "the book has a newer one" in fault
        assert json.loads(target.read_text()) == present
    assert import_archive(path, home, force=True)[1] == []
    assert json.loads(target.read_text())["wall_time_s"] == 100.0
    target.write_text(json.dumps({"commit": COMMIT, "finished": "2027-01-01T00:00:00+00:00"}))
    assert import_archive(path, home)[1] == []  # an older one is replaced unasked


def test_the_intact_ones_are_imported_and_the_others_named(home: Path, tmp_path: Path) -> None:
    rows = {"benchmarks/minrnn/results.json": json.dumps(BENCHMARK).encode()}
    path = archive(tmp_path / "out", {**run_files(), **rows})
    rewrite(path, lambda members: members.update({"runs/minrnn/results.json": b"{"}))
    done, refused = import_archive(path, home)
    assert done[0].startswith("benchmark minrnn: imported")
    assert refused == [
        "runs/minrnn/results.json: damaged (its SHA-256 is not the manifest's)",
        "runs/minrnn: its record is not in the archive",
    ]
    assert not (home / "book").exists()


def test_a_record_without_its_notebook_takes_the_old_page_away(home: Path, tmp_path: Path) -> None:
    old = home / "book" / "runs" / "minrnn" / "gpu" / "minrnn.ipynb"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    files = {"runs/minrnn/results.json": run_files()["runs/minrnn/results.json"]}
    done, refused = import_archive(archive(tmp_path / "out", files), home)
    assert refused == []
    assert any("came without its notebook" in line for line in done)
    assert not old.exists()


def test_standard_error_does_not_reach_the_page_and_is_told(home: Path, tmp_path: Path) -> None:
    noise = nbformat.v4.new_output("stream", name="stderr", text="some library says hello\n")
    said = nbformat.v4.new_output("stream", name="stdout", text="a result\n")
    files = {**run_files(), "runs/minrnn/minrnn.ipynb": page(noise, said)}
    done, refused = import_archive(archive(tmp_path / "out", files), home)
    assert refused == []
    assert any("cell 2: standard error: some library says hello" in line for line in done)
    text = (home / "book" / "runs" / "minrnn" / "gpu" / "minrnn.ipynb").read_text()
    assert "hello" not in text
    assert "a result" in text


@pytest.mark.parametrize(
    ("notebook", "message"),
    [
        (b"{}", "not a notebook"),
        (b"\xff\xfe", "not a notebook"),
        (
            page(nbformat.v4.new_output("error", ename="E", evalue="e", traceback=[])),
            "an output holds an error",
        ),
    ],
)
def test_a_notebook_that_is_none_or_failed_is_refused(
    home: Path, tmp_path: Path, notebook: bytes, message: str
) -> None:
    _, [fault] = import_archive(
        archive(tmp_path / "out", {**run_files(), "runs/minrnn/minrnn.ipynb": notebook}), home
    )
    assert message in fault
    assert not home.exists()


def test_what_did_not_finish_is_named(home: Path, tmp_path: Path) -> None:
    about = {**ABOUT, "status": {"smbh": "not started: 120 s expected, 40 s left", "minrnn": "done"}}
    assert import_archive(write_archive(tmp_path / "out", {}, about)[0], home) == (
        [],
        ["smbh: not started: 120 s expected, 40 s left"],
    )


def test_a_request_for_a_strange_path_writes_nothing(home: Path, tmp_path: Path) -> None:
    about = {
        **ABOUT,
        "requests": {"runs/../../x": {"sources": {}, "finished": ""}, "lib/a": {}, "runs/minrnn": 3},
    }
    path = write_archive(tmp_path / "out", run_files(), about)[0]
    done, refused = import_archive(path, home)
    assert len(refused) == 3
    assert done == []
    assert not home.exists()


def test_a_rehearsal_goes_into_a_folder_of_its_own(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = archive(tmp_path / "out", run_files(profile="smoke", device="CPU"))
    assert main([str(path), "--into", str(home)]) == 0
    assert (home / "book" / "runs" / "minrnn" / "gpu" / "results.json").is_file()
    capsys.readouterr()
    assert main([str(tmp_path / "nothing.tar.gz"), "--into", str(home)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    rewrite(path, lambda members: members.update({"runs/minrnn/results.json": b"{"}))
    assert main([str(path), "--into", str(home)]) == 1
    assert capsys.readouterr().err.startswith("not imported: runs/minrnn/results.json: damaged")
