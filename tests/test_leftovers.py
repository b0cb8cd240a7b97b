"""What killed runs leave behind goes; what belongs to a live process, or to nobody's run, stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib.atomic import replacing
from lib.fingerprint import ROOT
from lib.publishing import leftovers


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def old_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half")
    os.utime(path, (1e9, 1e9))
    return path


def test_only_what_a_dead_process_left_is_removed(tmp_path: Path, dead: int) -> None:
    root = tmp_path / "root"
    gone = [
        old_file(root / f"runs/x/.results.json.{dead}.tmp"),
        old_file(root / f"book/.a.b.{dead}.tmp"),
    ]
    kept = [
        old_file(root / f".page.md.{os.getpid()}.tmp"),
        old_file(root / "runs/x/results.json"),
        old_file(root / f"runs/x/results.json.{dead}.tmp"),
        old_file(root / "runs/x/.name.tmp"),
        old_file(root / f".venv/.x.{dead}.tmp"),
    ]
    recent = root / f".new.{dead}.tmp"  # a machine that shares the file system may be writing it
    recent.write_text("half")
    assert leftovers.main(root) == 0
    assert [path for path in gone if path.exists()] == []
    assert [path for path in [*kept, recent] if not path.exists()] == []


def test_the_names_are_those_that_the_writers_give(tmp_path: Path) -> None:
    with replacing(tmp_path / "results.json") as temporary:
        assert leftovers.TEMPORARY_FILE.fullmatch(temporary.name)
        temporary.write_text("whole")


def test_it_runs_before_anything_is_installed() -> None:
    """With ``-S`` no installed package can be imported."""
    code = "from lib.publishing import leftovers"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=True)
