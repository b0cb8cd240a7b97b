"""Execute chapters for the book, and bring new wording into executed notebooks without re-running them.

``python -m lib.publishing.execute`` re-executes the chapters whose stored outputs are stale (all named on the command line, or
all there are), writes ``book/runs/<slug>/<profile>/results.json`` and ``notebooks/<slug>.ipynb``, in this order, and syncs the
Markdown and comments of the others. A chapter whose execution fails keeps its old files.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from traitlets import default

from lib.agreement import BOOK_RECORDS_VARIABLE
from lib.atomic import replacing
from lib.experiment import KEPT
from lib.fingerprint import ROOT, SourceError, content_hash, slugs
from lib.injected_parameters import MARK
from lib.profiles import OneLineError, ParameterError, nearest
from lib.publishing.freshness import (
    RECORD_NAME,
    is_fresh,
    page_path,
    record_digest,
    record_path,
    standard_error,
)
from lib.publishing.larger_run import as_page
from lib.publishing.pairing import (
    METADATA_KEY,
    SIDES,
    PairError,
    Side,
    compare,
    note_agreement,
    read_source,
    source_kernel_fault,
    sync,
    tidy,
)
from lib.publishing.scorecard import JUDGING_PROFILES
from lib.training import PROGRESS_VARIABLE

AfterCell = Callable[[nbformat.NotebookNode], Awaitable[None]]


class ExecutionError(OneLineError, RuntimeError):
    """A chapter whose execution failed; its stored notebook is unchanged."""


class OwnPythonKernel(AsyncKernelManager):
    """The kernel of this very interpreter, whatever kernels are registered on the machine."""

    @default("kernel_spec_manager")
    def _only_our_own(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def check_slug(slug: str) -> str:
    """Return ``slug`` if the chapter has a notebook.

    Raises:
        ParameterError: otherwise.
    """
    if slug not in slugs():
        raise ParameterError(
            f"chapter {slug!r} has no notebook; there are {', '.join(slugs())}{nearest(slug, slugs())}"
        )
    return slug


def set_parameters(notebook: nbformat.NotebookNode, parameters: dict[str, object]) -> None:
    """Add a cell that sets ``parameters`` after the cell tagged ``parameters``."""
    at = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    source = "\n".join([MARK, *(f"{name} = {value!r}" for name, value in parameters.items())])
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters", "remove-cell"]})
    notebook.cells.insert(at + 1, cell)


def execute(slug: str, profile: str = "default", allow_standin: bool = False) -> None:
    """Run a chapter and store its notebook and its record.

    The profile ``default`` is the chapter's page (``notebooks/<slug>.ipynb``); another profile's notebook goes to
    ``book/runs/<slug>/<profile>/``. The run works in a folder that stays, so that what a killed execution had finished, and the
    results of experiments that did not change, are there the next time.

    Raises:
        ExecutionError: if a cell fails, leaves something on standard error, or the real data was out of reach; nothing has been
            replaced then.
    """
    folder = work_folder(slug, profile)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):  # records of earlier executions, which are stored
        old.unlink()
    data = {} if allow_standin else {"data": "real"}
    notebook = run_chapter(slug, {"profile": profile, "out_dir": str(folder), **data})
    refuse_noise(slug, notebook)
    if profile == "default":
        note_agreement(notebook)
    else:
        notebook = as_page(notebook, slug, profile)
    record = (folder / RECORD_NAME).read_text(encoding="utf-8")
    store(page_path(slug, profile), notebook, record_path(slug, profile), record)
    drop_unused(folder, json.loads(record))


def work_folder(slug: str, profile: str) -> Path:
    """Where executions of a chapter for the book keep their results."""
    return ROOT / "runs" / "book" / slug / profile


def drop_unused(folder: Path, record: Mapping[str, Any]) -> None:
    """Remove the kept results that the run of ``record`` did not use: those of code or settings that are gone."""
    used = {done["key"] for done in record.get("experiments", {}).values()}
    for results in (folder / KEPT).glob("*"):
        if results.name not in used:
            shutil.rmtree(results)


def run_chapter(
    slug: str, parameters: dict[str, Any], after_cell: AfterCell | None = None
) -> nbformat.NotebookNode:
    """Run a chapter's notebook from its source; the record lies in the parameter ``out_dir`` then.

    Args:
        parameters: the values that are set after the cell of parameters, ``profile`` and ``out_dir`` among them.
        after_cell: awaited after each cell, with the cell.

    Returns:
        The executed notebook, tidied and marked with the hash of what made it.

    Raises:
        ExecutionError: if a cell fails or no record was written.
    """
    notebook = read_source(ROOT / "notebooks" / f"{slug}.py")
    profile, folder = parameters["profile"], Path(parameters["out_dir"])
    key = content_hash(slug, profile)
    set_parameters(notebook, parameters)
    its_own_measure = {BOOK_RECORDS_VARIABLE: str(folder / "no records")}
    try:
        run_notebook(notebook, ROOT, its_own_measure, after_cell)
    except ExecutionError as error:
        raise ExecutionError(
            f"{slug} (profile {profile}): {error}; the stored notebook is unchanged"
        ) from error.__cause__
    if not (folder / RECORD_NAME).is_file():
        raise ExecutionError(f"{slug}: the notebook wrote no {RECORD_NAME} (is run.finish() its last call?)")
    tidy(notebook)
    notebook.metadata[METADATA_KEY] = {"hash": key, "profile": profile}
    return notebook


def run_notebook(
    notebook: nbformat.NotebookNode,
    root: Path,
    environment: Mapping[str, str] | None = None,
    after_cell: AfterCell | None = None,
) -> None:
    """Run a notebook in place, in a kernel of its own that starts in ``root``, without progress bars.

    Args:
        environment: variables that the kernel has beside those of this process.
        after_cell: awaited after each cell, with the cell.

    Raises:
        ExecutionError: if a cell fails or the kernel dies; the message is one line.
    """
    client = NotebookClient(
        notebook,
        timeout=3600,
        kernel_name="python3",
        kernel_manager_class=OwnPythonKernel,
        resources={"metadata": {"path": str(root)}},
    )
    if after_cell is not None:
        follow = after_cell

        async def hook(cell: nbformat.NotebookNode, **_: Any) -> None:
            await follow(cell)

        client.on_cell_executed = hook
    try:
        client.execute(env={**os.environ, PROGRESS_VARIABLE: "0", **(environment or {})})
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise ExecutionError(str(error).strip().splitlines()[-1]) from error


def store(page: Path, notebook: nbformat.NotebookNode, path: Path, record: str) -> None:
    """Store an executed notebook and its record as a pair: the record first, and the notebook knows its digest.

    A kill between the two leaves the new record beside the old notebook, which the freshness check then names.

    Args:
        page: where the notebook goes.
        path: where the record goes.
        record: the run's record, as JSON.
    """
    notebook.metadata[METADATA_KEY]["record"] = record_digest(json.loads(record))
    page.parent.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(page) as new_page:
        nbformat.write(notebook, new_page)
        with replacing(path) as new_record:
            new_record.write_text(record, encoding="utf-8")


def refuse_noise(slug: str, notebook: nbformat.NotebookNode) -> None:
    """Refuse an executed notebook with something on standard error, which the book's build would stop at.

    Raises:
        ExecutionError: naming each cell and its text.
    """
    if lines := standard_error(notebook):
        raise ExecutionError(f"{slug}: {'; '.join(lines)}; the stored notebook is unchanged")


def bring_up_to_date(slug: str, profile: str, force: bool, side: Side | None) -> None:
    """Execute a chapter if its outputs are stale (or ``force``), else bring its two files into step.

    Raises:
        PairError: if its notebook holds an edit that an execution would overwrite, unless ``side`` says whose cells count, or if
            its source names a kernel that other machines lack.
        ExecutionError: see :func:`execute`.
    """
    if line := source_kernel_fault(slug, ROOT):
        raise PairError(line)
    overwrites = profile == "default" and (ROOT / "notebooks" / f"{slug}.ipynb").is_file()
    if overwrites and not (force and side == "py"):  # forced from the source, whatever stands in the notebook
        found = compare(slug, ROOT)
        if found.loses_an_edit and side is None:
            raise PairError(str(found.line()))
        if found.loses_an_edit and side == "ipynb":
            print(f"{slug}: {sync(slug, side, ROOT)}")
            found = compare(slug, ROOT)
        if is_fresh(slug) and not found.code_differs and not force:
            print(f"{slug}: {sync(slug, side, ROOT)}")
            return
    if force:
        shutil.rmtree(work_folder(slug, profile), ignore_errors=True)
    print(f"{slug}: executing (profile {profile}) …", flush=True)
    start = time.perf_counter()
    execute(slug, profile)
    print(f"{slug}: done in {time.perf_counter() - start:.0f} s", flush=True)


def stale_note(slug: str) -> str:
    """What follows the words on a sync of a chapter whose outputs are stale, so that they cannot be read as "all is well"."""
    return f"; its outputs are stale (code changed since they were made); run 'make refresh CHAPTER={slug}'"


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description="Execute stale chapters and store their notebooks and records."
    )
    parser.add_argument("chapters", nargs="*", help="slugs; all chapters by default")
    parser.add_argument("--profile", choices=JUDGING_PROFILES, default="default")
    parser.add_argument(
        "--force", action="store_true", help="execute also what is fresh, and nothing from kept results"
    )
    parser.add_argument("--sync-only", action="store_true", help="bring new wording over; execute nothing")
    parser.add_argument(
        "--from", dest="side", choices=SIDES, help="whose cells count where the .ipynb was edited, too"
    )
    options = parser.parse_args(arguments)
    failures = 0
    for slug in options.chapters or slugs():
        try:
            check_slug(slug)
            if options.sync_only:
                done = sync(slug, options.side, ROOT)
                print(f"{slug}: {done}{'' if is_fresh(slug) else stale_note(slug)}")
            else:
                bring_up_to_date(slug, options.profile, options.force, options.side)
        except (OneLineError, SourceError) as error:
            failures += 1
            print(error, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
