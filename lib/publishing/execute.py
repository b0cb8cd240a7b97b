"""Execute chapters for the book, and bring new wording into executed notebooks without re-running them.

``python -m lib.publishing.execute`` re-executes the chapters whose stored outputs are stale (all named on the command line, or
all there are), writes ``notebooks/<slug>.ipynb`` and ``book/runs/<slug>/<profile>/results.json`` together, and syncs the
Markdown and comments of the others. A chapter whose execution fails keeps its old files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from traitlets import default

from lib.atomic import replacing
from lib.profiles import PROFILE_NAMES, OneLineError, ParameterError, nearest
from lib.publishing.freshness import (
    METADATA_KEY,
    ROOT,
    code_fingerprint,
    content_hash,
    is_fresh,
    slugs,
    source_cells,
    stored,
)
from lib.publishing.larger_run import as_page
from lib.records import RECORD_NAME
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
    with tempfile.TemporaryDirectory(prefix="chapter-") as folder:
        data = {} if allow_standin else {"data": "real"}
        notebook = run_notebook(slug, {"profile": profile, "out_dir": folder, **data})
        runs = ROOT / "book" / "runs" / slug / profile
        runs.mkdir(parents=True, exist_ok=True)
        if profile == "default":
            write_notebook(ROOT / "notebooks" / f"{slug}.ipynb", notebook)
        else:
            write_notebook(runs / f"{slug}.ipynb", as_page(notebook, slug, profile))
        with replacing(runs / RECORD_NAME) as temporary:
            shutil.copyfile(Path(folder) / RECORD_NAME, temporary)


def run_notebook(
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
    notebook = jupytext.read(ROOT / "notebooks" / f"{slug}.py")
    profile = parameters["profile"]
    mark = content_hash(slug, profile)
    set_parameters(notebook, parameters)
    os.environ[PROGRESS_VARIABLE] = "0"
    client = NotebookClient(
        notebook,
        timeout=3600,
        kernel_name="python3",
        kernel_manager_class=OwnPythonKernel,
        resources={"metadata": {"path": str(ROOT)}},
    )
    if after_cell is not None:
        follow = after_cell

        async def hook(cell: nbformat.NotebookNode, **_: Any) -> None:
            await follow(cell)

        client.on_cell_executed = hook
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        last = str(error).strip().splitlines()[-1]
        raise ExecutionError(
            f"{slug} (profile {profile}): {last}; the stored notebook is unchanged"
        ) from error
    if not (Path(parameters["out_dir"]) / RECORD_NAME).is_file():
        raise ExecutionError(f"{slug}: the notebook wrote no {RECORD_NAME} (is run.finish() its last call?)")
    tidy(notebook)
    notebook.metadata[METADATA_KEY] = {"hash": mark, "profile": profile}
    return notebook


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
        except OneLineError as error:
            failures += 1
            print(error, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
