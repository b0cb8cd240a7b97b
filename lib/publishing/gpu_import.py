"""Bring home what a GPU session packed: ``make gpu-import ARCHIVE=path``.

Each run is checked by itself: its bytes against the manifest, its form, that it is a true run of the profile ``gpu`` without
overrides on a GPU, that its versions are recorded, and that a commit of this clone holds the sources behind it. That commit is written
into the record; its claims are judged by the present rules. Then the record and its page take their place in ``book/runs/<slug>/gpu/``,
the rows of a benchmark in ``benchmarks/results/<slug>.gpu.json``. What is damaged or refused is named, and the rest is imported.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from lib.claims import ledgers
from lib.plain_files import one_line
from lib.profiles import OneLineError
from lib.publishing import readme
from lib.publishing.execute import store
from lib.publishing.freshness import output_faults
from lib.publishing.gpu_archive import Contents, find_volumes, read_archive
from lib.publishing.gpu_session import RECORD
from lib.publishing.larger_run import as_page
from lib.publishing.notebook_faults import NOT_A_NOTEBOOK
from lib.publishing.pages.__main__ import main as write_pages
from lib.publishing.pages.benchmarks import check_benchmark
from lib.publishing.provenance import ROOT, commit_of, is_ancestor
from lib.publishing.scorecard import judged_record
from lib.records import as_json, write_json

PROFILE = "gpu"


class ImportRefused(OneLineError, ValueError):
    """A run that must not become part of the book."""


def _json(name: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ImportRefused(f"{name}: not valid JSON ({one_line(error)})") from error
    if not isinstance(value, dict):
        raise ImportRefused(f"{name}: not a record")
    return value


def check_true_run(name: str, record: Mapping[str, Any]) -> None:
    """Check that a record is of a run for the book, and not of a rehearsal.

    Raises:
        ImportRefused: naming what it lacks.
    """
    lacking = [key for key in ("versions", "device", "overrides", "profile", "metrics") if key not in record]
    if lacking:
        raise ImportRefused(f"{name}: the record lacks {', '.join(lacking)}")
    if record["profile"] != PROFILE or record["overrides"]:
        raise ImportRefused(
            f"{name}: a rehearsal (profile {record['profile']!r}, overrides {record['overrides']!r})"
        )
    if str(record["device"]).startswith("CPU"):
        raise ImportRefused(f"{name}: ran on {record['device']}, not on a GPU")
    if not record["versions"].get("torch") or not record["versions"].get("python"):
        raise ImportRefused(f"{name}: the versions of Python and torch are not recorded")


def check_newer(name: str, target: Path, commit: str, finished: str) -> None:
    """Check that no newer result would be replaced.

    Args:
        target: the file that would be. commit: of the sources. finished: when the run ended, ISO 8601 in UTC.

    Raises:
        ImportRefused: if the present one is of a later commit, or of this one and a later time.
    """
    if not target.is_file():
        return
    present = json.loads(target.read_text(encoding="utf-8"))
    theirs = str(present.get("commit") or "").removesuffix("+changes")
    later = theirs == commit and str(present.get("finished", "")) > finished
    if later or is_ancestor(commit, theirs):
        raise ImportRefused(f"{name}: the book has a newer one (commit {theirs[:10]}); FORCE=1 replaces it")


def shown_notebook(name: str, content: bytes) -> tuple[nbformat.NotebookNode, list[str]]:
    """The notebook as its page shows it, without standard error, and a line for each thing that should be looked at.

    Raises:
        ImportRefused: for a notebook that is malformed, holds an error or a cell that did not run.
    """
    try:
        notebook = nbformat.reads(content.decode("utf-8"), as_version=4)
        nbformat.validate(notebook)
    except NOT_A_NOTEBOOK as error:
        raise ImportRefused(f"{name}: not a notebook ({one_line(error)})") from error
    remarks = []
    for fault in output_faults(notebook):
        if "holds an error" in fault or "was not executed" in fault:
            raise ImportRefused(f"{name}: {fault}")
        remarks.append(f"{name}: {fault}")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook, remarks


def import_run(contents: Contents, slug: str, root: Path, rehearsal: bool, force: bool) -> list[str]:
    """Import one chapter's run: the record first, then its page.

    Returns:
        Lines that say what was done.

    Raises:
        OneLineError: if it is refused; nothing has been written then.
    """
    key, all_ledgers = f"runs/{slug}", ledgers()
    name, page_name = f"{key}/{RECORD}", f"{key}/{slug}.ipynb"
    if name not in contents.files:
        raise ImportRefused(f"{key}: its record is not in the archive")
    if slug not in all_ledgers:
        raise ImportRefused(f"{key}: no ledger has this slug")
    record, request = _json(name, contents.files[name]), contents.manifest["requests"][key]
    if not rehearsal:
        check_true_run(name, record)
    if record.get("slug") != slug:
        raise ImportRefused(f"{name}: this is the record of {record.get('slug')!r}")
    commit = commit_of("runs", slug, request["sources"])
    if not isinstance(record["wall_time_s"], (int, float)):
        raise ImportRefused(f"{name}: wall_time_s={record['wall_time_s']!r} is not a number")
    folder = root / "book" / "runs" / slug / PROFILE
    if not force:
        check_newer(name, folder / RECORD, commit, request["finished"])
    before = record.get("verdicts", {})
    record |= {"commit": commit, "finished": request["finished"]}
    record["verdicts"] = judged_record(name, record, all_ledgers[slug]).verdicts
    page, remarks = (
        shown_notebook(page_name, contents.files[page_name]) if page_name in contents.files else (None, [])
    )
    text = f"{slug}: imported, {record['device']}, commit {commit[:10]}, {record['wall_time_s']:.0f} s"
    if page is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RECORD, record)
        (folder / f"{slug}.ipynb").unlink(missing_ok=True)
        remarks.append(f"{key}: the record came without its notebook, so that it has no page")
    else:
        page = as_page(page, slug, PROFILE)
        store(folder / f"{slug}.ipynb", page, folder / RECORD, as_json(record))
    changed = [
        f"{claim}: {before.get(claim)} in the run, {verdict} by the present rules"
        for claim, verdict in record["verdicts"].items()
        if before.get(claim) != verdict
    ]
    return [text, *(f"  {line}" for line in [*changed, *remarks])]


def import_benchmark(contents: Contents, slug: str, root: Path, rehearsal: bool, force: bool) -> list[str]:
    """Import the rows of one benchmark.

    Returns:
        Lines that say what was done.

    Raises:
        OneLineError: if they are refused; nothing has been written then.
    """
    key = f"benchmarks/{slug}"
    name = f"{key}/{RECORD}"
    if name not in contents.files:
        raise ImportRefused(f"{key}: its rows are not in the archive")
    if slug not in ledgers():
        raise ImportRefused(f"{key}: no ledger has this slug")
    content, request = _json(name, contents.files[name]), contents.manifest["requests"][key]
    check_benchmark(name, content)
    if not rehearsal and (request["quick"] or "GPU" not in content["machine"]):
        raise ImportRefused(f"{name}: a rehearsal, not measured on a GPU")
    commit = commit_of("benchmarks", slug, request["sources"])
    target = root / "benchmarks" / "results" / f"{slug}.gpu.json"
    if not force:
        check_newer(name, target, commit, request["finished"])
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, {**content, "commit": commit, "finished": request["finished"]})
    return [f"benchmark {slug}: imported, {len(content['rows'])} rows, commit {commit[:10]}"]


def import_archive(
    path: Path, root: Path = ROOT, rehearsal: bool = False, force: bool = False
) -> tuple[list[str], list[str]]:
    """Import everything that is intact.

    Args:
        path: a volume, or the folder of all volumes.
        root: where ``book/runs`` and ``benchmarks/results`` lie.
        rehearsal: take runs of any profile and device.
        force: replace newer results.

    Returns:
        What was imported, and what was damaged, refused, or did not finish in the session.

    Raises:
        ArchiveError: if nothing can be read.
    """
    contents = read_archive(find_volumes(path))
    done, refused = [], list(contents.faults)
    for key in contents.manifest["requests"]:
        kind, _, slug = key.partition("/")
        bring = {"runs": import_run, "benchmarks": import_benchmark}.get(kind)
        try:
            if bring is None or not any(name.startswith(f"{key}/") for name in contents.files):
                raise ImportRefused(f"{key}: nothing of it is in the archive")
            done += bring(contents, slug, root, rehearsal, force)
        except (KeyError, TypeError, AttributeError) as error:
            refused.append(f"{key}: malformed ({type(error).__name__}: {error})")
        except OneLineError as error:
            refused.append(str(error))
    for name, text in contents.manifest.get("status", {}).items():
        if text != "done":
            refused.append(f"{name}: {text}")
    return done, refused


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit status 0 if something was imported, whatever else had to be left out and is named."""
    parser = argparse.ArgumentParser(description="Import the archive of a GPU session.")
    parser.add_argument("archive", type=Path)
    parser.add_argument("--force", action="store_true", help="replace newer results")
    parser.add_argument(
        "--into", type=Path, help="rehearsal: another folder than this clone, runs of any profile"
    )
    options = parser.parse_args(arguments)
    try:
        root = ROOT if options.into is None else options.into
        done, refused = import_archive(options.archive, root, options.into is not None, options.force)
    except OneLineError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(done) or "nothing was imported")
    for line in refused:
        print(f"not imported: {line}", file=sys.stderr)
    if options.into is None and done and (write_pages(["sync"]) or readme.main([])):
        return 1
    return 0 if done else 1


if __name__ == "__main__":
    raise SystemExit(main())
