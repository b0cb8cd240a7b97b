"""Which commit made a run, told from the sources themselves: where the run was made there may be no git.

A run carries the git blob id of each source file behind it; in a clone these lead back to a commit.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lib.profiles import OneLineError

ROOT = Path(__file__).resolve().parent.parent.parent
Kind = Literal["runs", "benchmarks"]
"""A chapter's run, or the rows of its benchmark; also the folder in which its results lie."""

BENCHMARK = "lib/publishing/benchmark.py"
SUFFIXES = (".py", ".yml", ".yaml", ".csv", ".json")
COMMITS = 400
"""How many commits before HEAD are searched."""


class ProvenanceError(OneLineError, RuntimeError):
    """Sources that no commit of this clone holds, or a folder that is no clone."""


def blob_id(content: bytes) -> str:
    """The id that git gives a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def decides(kind: Kind, slug: str, path: str) -> bool:
    """Whether the file ``path`` can decide the numbers of a run: the notebook, or the benchmark script with what it compares with; the
    chapter's package; the shared modules."""
    peers = f"benchmarks/peers/{slug}.py"
    scripts = {"runs": [f"notebooks/{slug}.py"], "benchmarks": [f"benchmarks/{slug}.py", peers, BENCHMARK]}
    if path in scripts[kind]:
        return True
    folder, _, name = path.rpartition("/")
    if folder == "lib":
        return name.endswith(".py")
    return path.startswith(f"lib/{slug}/") and name.endswith(SUFFIXES)


def sources_of(kind: Kind, slug: str, root: Path = ROOT) -> dict[str, str]:
    """Path → git blob id of every source file that :func:`decides` the numbers of a run here."""
    folders = ("lib", "notebooks", "benchmarks")
    files = {p.relative_to(root).as_posix(): p for folder in folders for p in (root / folder).rglob("*")}
    return {
        name: blob_id(path.read_bytes())
        for name, path in sorted(files.items())
        if decides(kind, slug, name) and path.is_file()
    }


def _git(root: Path, *words: str) -> str:
    try:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ProvenanceError(
            f"{root} is no clone of this repository, so that no commit can be told"
        ) from error


def commit_of(kind: Kind, slug: str, sources: Mapping[str, str], root: Path = ROOT) -> str:
    """The newest commit, from HEAD backwards, that holds exactly these sources.

    Args:
        sources: path → blob id, as :func:`sources_of` gave it where the run was made.

    Raises:
        ProvenanceError: if none of the last :data:`COMMITS` commits does, naming what differs from HEAD.
    """
    differing: list[str] | None = None
    for commit in _git(root, "rev-list", f"--max-count={COMMITS}", "HEAD").split():
        lines = _git(root, "ls-tree", "-r", "-z", commit, "--", "lib", "notebooks", "benchmarks").split("\0")
        entries = [line.split("\t", 1) for line in lines if line]
        held = {path: about.split()[2] for about, path in entries if decides(kind, slug, path)}
        if held == sources:
            return commit
        if differing is None:
            differing = sorted(p for p in {**held, **sources} if held.get(p) != sources.get(p))
    raise ProvenanceError(
        f"{kind}/{slug}: no commit of this clone holds the sources of this run; other than in HEAD: "
        f"{', '.join((differing or [])[:5])}{' …' if len(differing or []) > 5 else ''}"
    )


def is_ancestor(older: str, newer: str, root: Path = ROOT) -> bool:
    """Whether ``older`` is a commit before ``newer``; False where one of them is unknown here."""
    command = ["git", "-C", str(root), "merge-base", "--is-ancestor", older, newer]
    return older != newer and subprocess.run(command, capture_output=True).returncode == 0
