"""Stamp a stored page as fresh where a change of code changes no number, without executing the chapter again.

``python -m lib.publishing.restamp [SLUG ...] [--base COMMIT] [--check]`` runs the profile ``smoke`` of a stale chapter twice with the code
that made its page, in a temporary worktree of that commit, and once with the present code: same machine, interpreter, seed and data. If every
metric and every output is equal to the last byte, the settings of the page's own profile are equal, and smoke has shown every
statement that differs (:mod:`lib.publishing.code_changes`), the page's key becomes that of the present code and its record says so, in a
list ``restamped``. Otherwise the reasons are printed and the chapter is executed, as by ``make refresh``; with ``--check`` nothing is written.

What differs between the two runs of the same code depends on the clock (a speed, a time); it is left out of the comparison and named.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import jupytext
import nbformat

from lib.atomic import replacing
from lib.datasets import MIRROR_VARIABLE, mirror
from lib.fingerprint import ROOT, SourceError, cells_fingerprint, content_hash, notebook_cells, slugs
from lib.profiles import OneLineError
from lib.publishing.code_changes import Changes, Trace, changes
from lib.publishing.execute import (
    ExecutionError,
    check_slug,
    execute,
    run_notebook,
    set_parameters,
    tidy,
)
from lib.publishing.freshness import (
    HALF_STAMPED,
    METADATA_KEY,
    RECORD_NAME,
    STAMPS,
    is_fresh,
    output_faults,
    page_path,
    pair_fault,
    record_path,
    stored,
)
from lib.records import write_json

PROFILE = "default"
"""The profile of a chapter's page."""

KERNEL = "kernel"
"""File of what the kernel of a run executed."""

_COVERAGE = """\
[run]
branch = true
parallel = true
data_file = {folder}/coverage
include = {root}/lib/*
disable_warnings = no-data-collected, module-not-measured, couldnt-parse
"""
_SAVE = """\
import pathlib

import coverage

measured = coverage.Coverage.current()
measured.stop()
pathlib.Path({path!r}).write_bytes(measured.get_data().dumps())
"""
_FRESH = "import sys; from lib.publishing.freshness import is_fresh; print('fresh' if is_fresh(sys.argv[1]) else 'stale')"
_SETTINGS = """\
import dataclasses, json, sys
from lib.{slug}.profiles import PROFILES
print(json.dumps(dataclasses.asdict(PROFILES[sys.argv[1]]), default=repr, sort_keys=True))
"""


class RestampError(OneLineError, RuntimeError):
    """A chapter that cannot be compared with the code that made its page."""


@dataclass
class Smoke:
    """One run of the profile ``smoke``: its record, what each code cell shows, and the lines that it executed."""

    record: dict[str, Any]
    outputs: list[str]
    trace: Trace


@dataclass
class Comparison:
    """The code that made a page against the present code.

    Attributes:
        base: the commit of the former.
        key: the content hash of the latter, taken before it ran.
        files: sources that differ.
        left_out: metrics and cells that differ between two runs of the same code.
        reasons: why the page cannot be stamped; none if it can.
    """

    base: str = ""
    key: str = ""
    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def git(*words: str) -> str:
    """The output of a git command in the repository.

    Raises:
        RestampError: if git is not there or the command fails; the message is git's last line.
    """
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise RestampError("git is not installed") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["failed"]
        raise RestampError(f"git {words[0]}: {lines[-1]}") from error
    return done.stdout


@contextlib.contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """A checkout of ``commit`` in ``folder``, gone when the block ends, however it ends."""
    tree = folder / commit[:12]
    git("worktree", "prune")  # of runs that were killed
    try:
        git("worktree", "add", "--detach", "--force", str(tree), commit)
        yield tree
    finally:
        shutil.rmtree(tree, ignore_errors=True)
        git("worktree", "prune")


def environment(root: Path) -> dict[str, str]:
    """Variables with which ``lib`` is that of ``root``, and the data the same from everywhere."""
    variables = {"PYTHONPATH": str(root)}
    folder = mirror()
    if folder is not None:
        variables[MIRROR_VARIABLE] = str(folder.resolve())  # a relative path would count from the other root
    return variables


def ask(root: Path, code: str, *words: str) -> str:
    """What a few lines of Python print, run with the ``lib`` of ``root``.

    Raises:
        RestampError: if they fail; the message is the last line of the error.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=root,
        env={**os.environ, **environment(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RestampError((done.stderr.strip().splitlines() or ["failed"])[-1])
    return done.stdout.strip()


def find_base(slug: str, base: str | None) -> list[str]:
    """Commits whose stored page may be the present one, the last first.

    Raises:
        RestampError: if ``base`` is no commit or has another page, or no commit has this page.
    """
    name = page_path(slug, PROFILE).relative_to(ROOT).as_posix()
    page = stored(slug)
    mark = page.metadata.get(METADATA_KEY) if page is not None else None
    if base is not None:
        commits = git("rev-parse", "--verify", "--end-of-options", f"{base}^{{commit}}").split()
    else:
        commits = git("log", "--format=%H", "--diff-filter=AM", "--", name).split()
    same = [c for c in commits if _mark(git("show", f"{c}:{name}")) == mark] if mark else []
    if not same:
        where = f"commit {base}" if base else "any commit (it is committed after it was executed)"
        raise RestampError(f"the stored page is not that of {where}")
    return same


def _mark(notebook: str) -> object:
    return nbformat.reads(notebook, as_version=4).metadata.get(METADATA_KEY)


def smoke(slug: str, root: Path, folder: Path) -> Smoke:
    """Run the profile ``smoke`` of a chapter with the code of ``root``, measured by coverage.py in its kernel and its workers.

    Args:
        folder: an empty folder; the same path for every run, since it may be shown.

    Raises:
        ExecutionError: if the run fails.
        RestampError: if nothing of the chapter's package was executed from ``root``.
    """
    root = root.resolve()
    results, lines = folder / "results", folder / "coverage"
    for each in (results, lines):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir(parents=True)
    settings = folder / "coverage.ini"
    settings.write_text(_COVERAGE.format(folder=lines, root=root), encoding="utf-8")
    notebook = jupytext.read(root / "notebooks" / f"{slug}.py")
    set_parameters(notebook, {"profile": "smoke", "out_dir": str(results), "data": "real"})
    notebook.cells.append(
        nbformat.v4.new_code_cell(
            _SAVE.format(path=str(lines / KERNEL)), metadata={"tags": ["injected-parameters"]}
        )
    )
    measured = {
        "COVERAGE_PROCESS_START": str(settings),
        "NUMBA_JIT_COVERAGE": "0",
    }  # compiling is not executing
    run_notebook(notebook, root, {**environment(root), **measured})
    tidy(notebook)
    trace = read_trace(lines, root)
    if not any(name.startswith(f"lib/{slug}/") for name in trace.lines):
        raise RestampError(f"smoke executed nothing of lib/{slug} in {root}")
    return Smoke(
        record=json.loads((results / RECORD_NAME).read_text(encoding="utf-8")),
        outputs=[shown(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"],
        trace=trace,
    )


def shown(outputs: list[nbformat.NotebookNode]) -> str:
    """What a cell shows, as text; where the kernel cut a printed text into pieces does not count."""
    joined: list[dict[str, Any]] = []
    for output in map(dict, outputs):
        last = joined[-1] if joined else {}
        if output["output_type"] == last.get("output_type") == "stream" and output["name"] == last["name"]:
            last["text"] += output["text"]
        else:
            joined.append(output)
    return json.dumps(joined, sort_keys=True)


def read_trace(folder: Path, root: Path) -> Trace:
    """What all processes of a run executed below ``root``.

    The kernel's lines come from what the last cell wrote, since the kernel may still be ending and writing its own file. A file that is not
    whole is left out: what is not seen counts as not taken.
    """
    data, trace = coverage.CoverageData(no_disk=True), Trace()
    data.loads((folder / KERNEL).read_bytes())
    for path in sorted(folder.glob("coverage.*")):
        worker = coverage.CoverageData(str(path))
        with contextlib.suppress(coverage.CoverageException):
            worker.read()
            data.update(worker)
    for path in map(Path, data.measured_files()):
        name = path.resolve().relative_to(root).as_posix()
        trace.lines[name] = set(data.lines(str(path)) or ())
        trace.steps[name] = set(data.arcs(str(path)) or ())
    return trace


def differing_metrics(one: Smoke, other: Smoke) -> set[str]:
    """Names of metrics that differ in anything, or that only one of the runs has."""
    first, second = (
        {name: json.dumps(value, sort_keys=True) for name, value in run.record["metrics"].items()}
        for run in (one, other)
    )
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}


def differing_cells(one: Smoke, other: Smoke) -> set[int]:
    """Numbers, from 1, of code cells that show something else."""
    pairs = zip(one.outputs, other.outputs, strict=True)
    return {number for number, (a, b) in enumerate(pairs, start=1) if a != b}


def judge(before: Smoke, again: Smoke, after: Smoke, changed: Changes) -> tuple[list[str], list[str]]:
    """(what is left out of the comparison, why the page cannot be stamped)."""
    clock, noise = differing_metrics(before, again), differing_cells(before, again)
    left_out = [f"metric {name}" for name in sorted(clock)] + [
        f"what code cell {n} shows" for n in sorted(noise)
    ]
    reasons = [
        f"metric {name} has another value" for name in sorted(differing_metrics(before, after) - clock)
    ]
    if not set(before.record["metrics"]) - clock:
        reasons.append("no metric is the same in two runs of the same code: there is nothing to compare")
    reasons += [f"code cell {n} shows something else" for n in sorted(differing_cells(before, after) - noise)]
    reasons += [
        f"the record's {name} differs"
        for name in ("settings", "data_source", "notices")
        if before.record.get(name) != after.record.get(name)
    ]
    return left_out, reasons + changed.unshown(before.trace, after.trace)


def compare(slug: str, base: str | None = None) -> Comparison:
    """Compare the present code of a chapter with the code that made its page; nothing is written.

    Raises:
        RestampError: if there is no such code, or the runs cannot be compared.
        ExecutionError: if a run of smoke fails.
        SourceError: if a source is not Python.
    """
    with tempfile.TemporaryDirectory(prefix="chapter-restamp-") as name:
        folder = Path(name).resolve()
        for commit in find_base(slug, base):
            with worktree(commit, folder) as tree:
                if ask(tree, _FRESH, slug) == "fresh":
                    return _compare(slug, commit, tree, folder)
    raise RestampError(
        f"by its own code the stored page is stale in commit {base}"
        if base
        else "by its own code the stored page is stale in every commit that has it"
    )


def _compare(slug: str, commit: str, tree: Path, folder: Path) -> Comparison:
    source, key = f"notebooks/{slug}.py", content_hash(slug, PROFILE)
    cells = [cells_fingerprint(notebook_cells(root / source), source) for root in (tree, ROOT)]
    changed = changes(slug, tree, ROOT)
    comparison = Comparison(commit, key, changed.files)
    if cells[0] != cells[1]:
        comparison.files.append(source)
        comparison.reasons.append(f"{source}: the code of its cells changed")
        return comparison
    if changed.data:
        comparison.reasons += changed.unshown(Trace(), Trace())[: len(changed.data)]
        return comparison
    if (tree / "lib" / slug / "profiles.py").is_file():
        code = _SETTINGS.format(slug=slug)
        for profile in (PROFILE, "smoke"):
            if ask(tree, code, profile) != ask(ROOT, code, profile):
                comparison.reasons.append(f"the settings of the profile {profile} changed")
        if comparison.reasons:
            return comparison
    before, again, after = (smoke(slug, root, folder / "run") for root in (tree, tree, ROOT))
    comparison.left_out, comparison.reasons = judge(before, again, after, changed)
    return comparison


def stamp(slug: str, comparison: Comparison) -> None:
    """Mark the stored page as made by the present code, the record first.

    A kill between the two leaves a stamp in the record that the page does not know: the freshness check names it, and the next
    stamp takes its place.
    """
    page, path = stored(slug), record_path(slug, PROFILE)
    assert page is not None
    mark, record = page.metadata[METADATA_KEY], json.loads(path.read_text(encoding="utf-8"))
    stamps = record.get(STAMPS, [])
    while stamps and stamps[-1]["key"] != mark["hash"]:
        stamps.pop()
    changed = git("status", "--porcelain").strip()
    entry = {
        "base": comparison.base,
        "commit": git("rev-parse", "HEAD").strip() + ("+changes" if changed else ""),
        "key": comparison.key,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "files": comparison.files,
    }
    record[STAMPS] = [*stamps, entry]
    page.metadata[METADATA_KEY] = {**mark, "hash": comparison.key}
    with replacing(page_path(slug, PROFILE)) as new_page:
        nbformat.write(page, new_page)
        write_json(path, record)


def obstacle(slug: str) -> str | None:
    """Why a page has to be executed whatever changed; None if it could be stamped."""
    fault = pair_fault(slug, PROFILE)
    if fault and fault != HALF_STAMPED:
        return fault
    page = stored(slug)
    return "it has no stored page" if page is None else next(iter(output_faults(page)), None)


def restamp(slug: str, base: str | None = None, check: bool = False) -> bool:
    """Stamp a stale chapter, or say why not and execute it.

    Args:
        base: the commit whose code made the page; found where it is None.
        check: only report.

    Returns:
        Whether the page is, or with ``check`` could be, stamped.

    Raises:
        ExecutionError: if the chapter had to be executed and failed; nothing has been replaced then.
        SourceError: if a source is not Python.
    """
    if is_fresh(slug):
        print(f"{slug}: fresh")
        return True
    try:
        if reason := obstacle(slug):
            comparison = Comparison(reasons=[reason])
        else:
            print(
                f"{slug}: running smoke twice with the code of its page and once with the present code …",
                flush=True,
            )
            comparison = compare(slug, base)
    except (RestampError, ExecutionError) as error:
        comparison = Comparison(reasons=[str(error)])
    if comparison.base:
        print(
            f"{slug}: compared with commit {comparison.base[:12]}; changed: {', '.join(comparison.files) or 'nothing'}"
        )
    for what in comparison.left_out:
        print(f"{slug}: left out, since two runs of the same code differ: {what}")
    for reason in comparison.reasons:
        print(f"{slug}: not stamped: {reason}")
    if check:
        print(f"{slug}: {'would be executed' if comparison.reasons else 'would be stamped'}")
    elif comparison.reasons:
        print(f"{slug}: executing (profile {PROFILE}) …", flush=True)
        execute(slug)
    else:
        stamp(slug, comparison)
        print(f"{slug}: stamped as fresh")
    return not comparison.reasons


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit 1 if a chapter fails, or with ``--check`` if one could not be stamped."""
    parser = argparse.ArgumentParser(description="Stamp stale pages whose numbers have not changed.")
    parser.add_argument("chapters", nargs="*", help="slugs; all chapters by default")
    parser.add_argument("--base", help="the commit whose code made the page; found by default")
    parser.add_argument("--check", action="store_true", help="only report")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a worktree goes
    failures = 0
    for slug in options.chapters or slugs():
        try:
            check_slug(slug)
            stamped = restamp(slug, options.base, options.check)
            failures += options.check and not stamped
        except (OneLineError, SourceError) as error:
            failures += 1
            print(error, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
