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
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from lib.atomic import replacing
from lib.fingerprint import ROOT, SourceError, code_fingerprint, content_hash, slugs
from lib.profiles import PROFILE_NAMES, OneLineError, ParameterError, nearest
from lib.publishing.freshness import (
    METADATA_KEY,
    RECORD_NAME,
    is_fresh,
    page_path,
    record_digest,
    record_path,
    source_cells,
    stored,
)
from lib.training import PROGRESS_VARIABLE


class ExecutionError(OneLineError, RuntimeError):
    """A chapter whose execution failed; its stored notebook is unchanged."""


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
    source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters", "remove-cell"]})
    notebook.cells.insert(at + 1, cell)


def execute(slug: str, profile: str = "default", allow_standin: bool = False) -> None:
    """Run a chapter and store its notebook and its record.

    The profile ``default`` is the chapter's page (``notebooks/<slug>.ipynb``); another profile's notebook goes to
    ``book/runs/<slug>/<profile>/``.

    Raises:
        ExecutionError: if a cell fails or the real data was out of reach; nothing has been replaced then.
    """
    notebook = jupytext.read(ROOT / "notebooks" / f"{slug}.py")
    key = content_hash(slug, profile)
    with tempfile.TemporaryDirectory(prefix="chapter-") as folder:
        data = {} if allow_standin else {"data": "real"}
        set_parameters(notebook, {"profile": profile, "out_dir": folder, **data})
        try:
            run_notebook(notebook, ROOT)
        except ExecutionError as error:
            raise ExecutionError(
                f"{slug} (profile {profile}): {error}; the stored notebook is unchanged"
            ) from error
        store(slug, profile, notebook, Path(folder) / RECORD_NAME, key)


def run_notebook(
    notebook: nbformat.NotebookNode, root: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Run a notebook in place, in a kernel of its own that starts in ``root``, without progress bars.

    Args:
        environment: variables that the kernel has beside those of this process.

    Raises:
        ExecutionError: if a cell fails or the kernel dies; the message is one line.
    """
    client = NotebookClient(
        notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(root)}}
    )
    try:
        client.execute(env={**os.environ, PROGRESS_VARIABLE: "0", **(environment or {})})
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise ExecutionError(str(error).strip().splitlines()[-1]) from error


def store(slug: str, profile: str, notebook: nbformat.NotebookNode, record: Path, key: str) -> None:
    """Store an executed notebook and its record as a pair: the record first, and the notebook knows its digest.

    A kill between the two leaves the new record beside the old notebook, which the freshness check then names.

    Args:
        record: the run's record.
        key: the content hash of the code that ran.

    Raises:
        ExecutionError: if there is no record; nothing has been replaced then.
    """
    if not record.is_file():
        raise ExecutionError(f"{slug}: the notebook wrote no {RECORD_NAME} (is run.finish() its last call?)")
    digest = record_digest(json.loads(record.read_text(encoding="utf-8")))
    tidy(notebook)
    notebook.metadata[METADATA_KEY] = {"hash": key, "profile": profile, "record": digest}
    record_path(slug, profile).parent.mkdir(parents=True, exist_ok=True)
    with replacing(page_path(slug, profile)) as new_page:
        nbformat.write(notebook, new_page)
        with replacing(record_path(slug, profile)) as new_record:
            shutil.copyfile(record, new_record)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop the injected cell and what differs from run to run without meaning: timings, identifiers, widget state."""
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count


def write_notebook(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Write a notebook, whole or not at all."""
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)


def sync(slug: str) -> bool:
    """Copy Markdown, comments and metadata from the source into the executed notebook, keeping its outputs.

    Returns:
        True if the notebook changed. A notebook whose code has changed is left alone: it must be executed again.
    """
    executed, source = stored(slug), jupytext.read(ROOT / "notebooks" / f"{slug}.py")
    if executed is None:
        return False
    old = [cell for cell in executed.cells if cell.cell_type == "code"]
    new = [cell for cell in source.cells if cell.cell_type == "code"]
    if [code_fingerprint(c.source) for c in old] != [code_fingerprint(c.source) for c in new]:
        return False
    before = (source_cells(executed), [dict(cell.metadata) for cell in executed.cells])
    for cell, previous in zip(new, old, strict=True):
        cell.outputs, cell.execution_count = previous.outputs, previous.execution_count
    executed.cells = source.cells
    tidy(executed)
    if before == (source_cells(executed), [dict(cell.metadata) for cell in executed.cells]):
        return False
    write_notebook(ROOT / "notebooks" / f"{slug}.ipynb", executed)
    return True


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description="Execute stale chapters and store their notebooks and records."
    )
    parser.add_argument("chapters", nargs="*", help="slugs; all chapters by default")
    parser.add_argument("--profile", choices=PROFILE_NAMES, default="default")
    parser.add_argument("--force", action="store_true", help="execute also what is fresh")
    parser.add_argument("--sync-only", action="store_true", help="bring new wording over; execute nothing")
    options = parser.parse_args(arguments)
    failures = 0
    for slug in options.chapters or slugs():
        try:
            check_slug(slug)
            fresh = options.profile == "default" and is_fresh(slug) and not options.force
            if fresh or options.sync_only:
                print(f"{slug}: {'new wording copied' if sync(slug) else 'up to date' if fresh else 'stale'}")
                continue
            print(f"{slug}: executing (profile {options.profile}) …", flush=True)
            start = time.perf_counter()
            execute(slug, options.profile)
            print(f"{slug}: done in {time.perf_counter() - start:.0f} s", flush=True)
        except (OneLineError, SourceError) as error:
            failures += 1
            print(error, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
