"""The skeleton of a chapter: in its places, overwriting nothing, and held to the contract as it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.claims import ledgers
from lib.fingerprint import ROOT, slugs
from lib.profiles import ParameterError
from lib.publishing.new_chapter import PLACES, write_chapter

TO_COME = sorted(set(ledgers()) - set(slugs()))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of what a chapter stands on, without the chapters."""
    others = shutil.ignore_patterns("__pycache__", *slugs(), *(f"{slug}.*" for slug in slugs()))
    for folder in ("lib", "tests", "notebooks", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=others)
    shutil.copytree(ROOT / "book/claims", tmp_path / "book/claims")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_a_skeleton_lies_in_the_places_of_a_chapter_and_names_its_paper(tmp_path: Path) -> None:
    slug = TO_COME[0]
    shutil.copytree(ROOT / "book/claims", tmp_path / "book/claims")
    mine = tmp_path / "tests" / slug / "test_random_walk.py"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine\n")
    ledger = (tmp_path / f"book/claims/{slug}.yml").read_bytes()
    written = write_chapter(slug, tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in [*written, mine]} == {
        place.format(slug=slug) for place in PLACES.values()
    }
    assert mine.read_text() == "mine\n"
    assert (tmp_path / f"book/claims/{slug}.yml").read_bytes() == ledger
    notebook = (tmp_path / f"notebooks/{slug}.py").read_text()
    assert ledgers()[slug].arxiv in notebook
    with pytest.raises(ParameterError, match="is there already"):
        write_chapter(slug, tmp_path)


@pytest.mark.parametrize("slug", ["", "minrn", "../x", "meta flow"])
def test_a_name_without_a_ledger_is_one_line(slug: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "book/claims", tmp_path / "book/claims")
    with pytest.raises(ParameterError, match="has no ledger") as caught:
        write_chapter(slug, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "lib").exists()


@pytest.mark.thorough
@pytest.mark.parametrize("slug", TO_COME)
def test_a_skeleton_is_clean(slug: str, root: Path) -> None:
    files = [str(path) for path in write_chapter(slug, root)]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *files], cwd=root, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.thorough
def test_a_skeleton_passes_the_test_of_the_chapters_and_its_own(root: Path) -> None:
    slug = TO_COME[0]
    write_chapter(slug, root)
    chapters = root / "tests/test_chapters.py"
    text = chapters.read_text()
    waiting = next(line for line in text.splitlines() if line.startswith("OLD_FORM = "))
    chapters.write_text(text.replace(waiting, "OLD_FORM = ()"))
    environment = {**os.environ, "PYTHONPATH": str(root)}
    where = "import lib, sys; sys.exit(not lib.__file__.startswith(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", where, str(root)], cwd=root, env=environment, check=True)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/test_chapters.py",
            f"tests/{slug}",
        ],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout
