"""The two files of a chapter: ``notebooks/<slug>.py``, its source, and ``notebooks/<slug>.ipynb``, the same notebook executed.

The executed notebook notes a digest of every cell as it was when the two files last agreed. The digests tell which file was
edited since then, and in which cells, so that wording can be carried over without running anything and without losing an
edit: what was edited in the ``.ipynb`` is overwritten only by whoever asks for it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import jupytext
import nbformat
from jupytext.config import load_jupytext_config
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

from lib.atomic import replacing, write_text
from lib.fingerprint import ROOT, code_fingerprint
from lib.profiles import OneLineError
from lib.publishing.notebook_faults import NOT_A_NOTEBOOK

METADATA_KEY = "executable_papers"
KERNEL = "python3"
SIDES = ("py", "ipynb")

Side = Literal["py", "ipynb"]
Outcome = Literal["in step", "not noted", "py", "ipynb", "both", "unknown"]


class PairError(OneLineError, RuntimeError):
    """A chapter's two files that cannot be brought into step unasked; neither was changed."""


# ---------------------------------------------------------------- the two files


def paths(slug: str, root: Path = ROOT) -> tuple[Path, Path]:
    """The chapter's source and its executed notebook."""
    folder = root / "notebooks"
    return folder / f"{slug}.py", folder / f"{slug}.ipynb"


def read_source(path: Path) -> NotebookNode:
    """A py:percent notebook with the metadata that jupytext gives its ``.ipynb``, so that ``jupytext --sync`` finds no difference."""
    notebook = jupytext.read(path, config=load_jupytext_config(str(path)))
    notebook.metadata.get("jupytext", {}).pop("text_representation", None)
    return notebook


def read_notebook(path: Path) -> NotebookNode:
    """An executed notebook.

    Raises:
        FileNotFoundError: if it is missing.
        PairError: if the file is no notebook: cut off, or with the marks of a merge in it.
    """
    faults: tuple[type[Exception], ...] = (OSError, *NOT_A_NOTEBOOK)
    try:
        if path.exists() and not path.is_file():  # a pipe: reading would wait for ever
            raise ValueError("no regular file")
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise
    except faults as error:
        raise PairError(
            f"{path.parent.name}/{path.name} is no readable notebook ({type(error).__name__}); take it from the history, "
            f"or run 'make refresh CHAPTER={path.stem} FROM=py'"
        ) from error


def write_notebook(path: Path, notebook: NotebookNode) -> None:
    """Write an executed notebook, whole or not at all."""
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)


def kernel_fault(notebook: NotebookNode) -> str | None:
    """What is wrong with the kernel that a notebook names: only ``python3`` is there on every machine."""
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name == KERNEL:
        return None
    return f"names {f'the kernel {name!r}' if name else 'no kernel'}, not {KERNEL!r}, which every machine has"


def source_kernel_fault(slug: str, root: Path = ROOT) -> str | None:
    """What is wrong with the kernel that the chapter's source names, in one line."""
    fault = kernel_fault(read_source(paths(slug, root)[0]))
    return fault and f"{slug}: notebooks/{slug}.py {fault}; write 'name: {KERNEL}' in its header"


# ---------------------------------------------------------------- which side was edited


def digests(notebook: NotebookNode) -> list[str]:
    """One digest for each cell: its kind, source, tags and the names of its attachments. Outputs and other metadata, which
    Jupyter changes by itself, are left out."""
    return [
        hashlib.sha256(
            json.dumps(
                [
                    cell.cell_type,
                    cell.source.rstrip(),
                    sorted(cell.metadata.get("tags", [])),
                    sorted(cell.get("attachments", {})),
                ]
            ).encode()
        ).hexdigest()[:16]
        for cell in notebook.cells
    ]


def note_agreement(notebook: NotebookNode) -> None:
    """Note in an executed notebook that its cells are those of its source."""
    notebook.metadata.setdefault(METADATA_KEY, {})["cells"] = digests(notebook)


def code(notebook: NotebookNode) -> list[str]:
    """The fingerprint of every code cell; a cell that is no Python (a magic, a slip) stands for itself."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            try:
                found.append(code_fingerprint(cell.source))
            except SyntaxError:
                found.append(f"not Python: {cell.source}")
    return found


def edited_cells(old: list[str], new: list[str]) -> str:
    """Where ``new`` differs from ``old``, in words: ``"cells 3, 7"``, numbered from 1 as in ``new``."""
    numbers: list[int] = []
    removed: list[str] = []
    for kind, first, last, start, stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            numbers += range(start + 1, stop + 1)
        if kind == "delete":
            removed.append(f"{last - first} removed after cell {start}")
    words = f"cell{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}" if numbers else ""
    return "; ".join([*([words] if words else []), *removed])


@dataclass(frozen=True)
class Comparison:
    """How the two files of a chapter stand to each other.

    Attributes:
        outcome: ``"in step"``; ``"not noted"``: they agree, and the digests are of another time or missing; ``"py"``,
            ``"ipynb"`` or ``"both"``: what was edited since they last agreed; ``"unknown"``: they differ and no digest says why.
        py_cells: which cells of the source differ, in words (from the digests; if those are missing, from the notebook).
        ipynb_cells: the same for the executed notebook.
        code_differs: whether the code of the two differs, and not only comments and Markdown.
    """

    slug: str
    outcome: Outcome
    py_cells: str
    ipynb_cells: str
    code_differs: bool

    @property
    def loses_an_edit(self) -> bool:
        """Whether writing the notebook anew from the source would, or might, drop an edit that was made in the notebook."""
        return self.outcome in ("ipynb", "both", "unknown")

    @property
    def asks_for_execution(self) -> bool:
        """Whether code was edited in the source alone, so that :meth:`line` asks for an execution."""
        return self.outcome == "py" and self.code_differs

    def line(self) -> str | None:
        """What to do, in one line; None if the two are in step."""
        slug = self.slug
        py, ipynb = f"notebooks/{slug}.py", f"notebooks/{slug}.ipynb"
        refresh = f"'make refresh CHAPTER={slug}'"
        from_py = f"make {'refresh' if self.code_differs else 'sync'} CHAPTER={slug} FROM=py"
        from_ipynb = f"make sync CHAPTER={slug} FROM=ipynb"
        choice = f"'{from_ipynb}' takes the .ipynb's cells into the .py, '{from_py}' takes the .py's"
        if self.outcome == "in step":
            return None
        if self.outcome == "not noted":
            return f"{slug}: {py} and .ipynb agree, but the .ipynb does not note it; run 'make sync'"
        if self.asks_for_execution:
            return f"{slug}: code was edited in {py} ({self.py_cells}); run {refresh}"
        if self.outcome == "py":
            return f"{slug}: {py} was edited ({self.py_cells}); run 'make sync'"
        if self.outcome == "ipynb":
            return f"{slug}: {ipynb} was edited ({self.ipynb_cells}); nothing was overwritten: {choice}"
        if self.outcome == "both":
            where = f"{py} ({self.py_cells}) and {ipynb} ({self.ipynb_cells}) were both edited"
            return f"{slug}: {where}; nothing was overwritten: {choice}"
        where = f"{py} and .ipynb differ ({self.py_cells}), and nothing notes which of them was edited"
        return f"{slug}: {where}; nothing was overwritten: {choice}"


def compare(slug: str, root: Path = ROOT) -> Comparison:
    """Compare a chapter's two files with each other and with what they were when they last agreed.

    Raises:
        PairError: if the executed notebook cannot be read.
        FileNotFoundError: if one of the two is missing.
    """
    source_path, notebook_path = paths(slug, root)
    source, notebook = read_source(source_path), read_notebook(notebook_path)
    py, ipynb = digests(source), digests(notebook)
    noted: list[str] | None = notebook.metadata.get(METADATA_KEY, {}).get("cells")
    outcome: Outcome
    if py == ipynb:
        outcome = "in step" if py == noted else "not noted"
    elif noted is None:
        outcome = "unknown"
    elif py == noted:
        outcome = "ipynb"
    else:
        outcome = "py" if ipynb == noted else "both"
    return Comparison(
        slug,
        outcome,
        py_cells=edited_cells(ipynb if noted is None else noted, py),
        ipynb_cells=edited_cells(py if noted is None else noted, ipynb),
        code_differs=code(source) != code(notebook),
    )


def faults(slug: str, root: Path = ROOT) -> list[str]:
    """One line for each way in which the chapter's two files do not fit together.

    Raises:
        PairError: if the executed notebook cannot be read.
    """
    source_path, notebook_path = paths(slug, root)
    found = []
    if line := source_kernel_fault(slug, root):
        found.append(line)
    if fault := kernel_fault(read_notebook(notebook_path)):
        found.append(f"{slug}: notebooks/{slug}.ipynb {fault}; run 'make sync'")
    if line := compare(slug, root).line():
        found.append(line)
    return found


# ---------------------------------------------------------------- bringing them into step


def tidy(notebook: NotebookNode) -> None:
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


def carry_wording(slug: str, root: Path = ROOT) -> bool:
    """Copy Markdown, comments, tags and the header's metadata from the source into the executed notebook, keeping its outputs.

    The code of the two must be the same.

    Returns:
        Whether the notebook changed.
    """
    source_path, notebook_path = paths(slug, root)
    source, notebook = read_source(source_path), read_notebook(notebook_path)
    before = notebook_path.read_bytes()
    if digests(source) != digests(notebook):
        old = [cell for cell in notebook.cells if cell.cell_type == "code"]
        new = [cell for cell in source.cells if cell.cell_type == "code"]
        for cell, previous in zip(new, old, strict=True):
            cell.outputs, cell.execution_count = previous.outputs, previous.execution_count
        notebook.cells = source.cells
        tidy(notebook)
    notebook.metadata.update({k: v for k, v in source.metadata.items() if k in ("jupytext", "kernelspec")})
    note_agreement(notebook)
    write_notebook(notebook_path, notebook)
    return notebook_path.read_bytes() != before


def take_into_source(slug: str, root: Path = ROOT) -> None:
    """Write the cells of the executed notebook into the source; its header and every cell that is the same stay, byte for byte.

    Raises:
        PairError: if other lines of the source would change, or if it could not hold the notebook's cells; nothing has been
            written then.
    """
    source_path, notebook_path = paths(slug, root)
    source, notebook = read_source(source_path), read_notebook(notebook_path)
    config = load_jupytext_config(str(source_path))

    def text() -> str:
        return jupytext.writes(source, fmt="py:percent", config=config).rstrip("\n") + "\n"

    if text().encode() != source_path.read_bytes():
        raise PairError(
            f"{slug}: notebooks/{slug}.py is not in the form that jupytext writes, and more than the edit would change; "
            f"edit it by hand, or run 'jupytext --to py:percent notebooks/{slug}.py' first"
        )
    old, new = digests(source), digests(notebook)
    cells: list[NotebookNode] = []
    for kind, first, last, start, stop in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        before, after = source.cells[first:last], notebook.cells[start:stop]
        cells += (
            before if kind == "equal" else [source_cell(c, b) for c, b in zip_longest(after, before) if c]
        )
    source.cells = cells
    written = digests(jupytext.reads(text(), fmt="py:percent", config=config))
    if written != new:
        raise PairError(
            f"{slug}: notebooks/{slug}.ipynb ({edited_cells(written, new)}) holds what a .py cannot: an attached picture, or a "
            "line that begins a cell; nothing was written"
        )
    write_text(source_path, text())


def source_cell(cell: NotebookNode, before: NotebookNode | None) -> NotebookNode:
    """A cell of the executed notebook as a cell of the source, laid out like the one in whose place it stands."""
    layout = before.metadata if before is not None and before.cell_type == cell.cell_type else {}
    metadata = {key: value for key, value in layout.items() if key != "tags"}
    if tags := cell.metadata.get("tags"):
        metadata["tags"] = tags
    make = {"code": new_code_cell, "markdown": new_markdown_cell, "raw": new_raw_cell}[cell.cell_type]
    return make(cell.source, metadata=metadata)


def sync(slug: str, side: Side | None = None, root: Path = ROOT) -> str:
    """Bring the two files of a chapter into step without running anything.

    Wording that was edited in the source alone goes into the executed notebook. Where the notebook was edited, too, nothing
    happens unless ``side`` says whose cells count: ``"py"`` writes them into the notebook, ``"ipynb"`` into the source.

    Returns:
        What was done, in a few words.

    Raises:
        PairError: saying which side was edited and what to do, if nothing may be overwritten or the code has to be run.
    """
    if not paths(slug, root)[1].is_file():
        raise PairError(f"{slug}: notebooks/{slug}.ipynb is missing; run 'make refresh CHAPTER={slug}'")
    if line := source_kernel_fault(slug, root):
        raise PairError(line)
    found = compare(slug, root)
    if found.outcome in ("in step", "not noted"):
        return "the notebook's metadata brought up to date" if carry_wording(slug, root) else "up to date"
    if side == "ipynb" and found.loses_an_edit:
        take_into_source(slug, root)
        carry_wording(slug, root)
        return f"the notebook's edit ({found.ipynb_cells}) taken into notebooks/{slug}.py"
    if found.code_differs or (found.loses_an_edit and side is None):
        raise PairError(str(found.line()))
    carry_wording(slug, root)
    if found.outcome == "ipynb":
        return f"the notebook's edit ({found.ipynb_cells}) dropped"
    return f"new wording copied ({found.py_cells})"
