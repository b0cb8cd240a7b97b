"""Is a stored notebook still what its sources would produce?

Every executed notebook records a hash of what made it (:mod:`lib.fingerprint`): the code of its source, of its chapter's package,
of the shared modules that these import, and the profile. A change of wording re-runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jupytext
import nbformat

from lib.fingerprint import ROOT, content_hash, slugs

METADATA_KEY = "executable_papers"
_PATH = re.compile(
    r"(?<![\w.:/<])(/(?:home|root|Users|tmp|var|opt|work|mnt|private|content|workspace)/[\w.\-]+|[A-Z]:\\\\)"
)
_WARNING = re.compile(r"\b\w*Warning\b:")


def stored(slug: str) -> nbformat.NotebookNode | None:
    """The executed notebook of a chapter, or None where there is none yet."""
    path = ROOT / "notebooks" / f"{slug}.ipynb"
    return nbformat.read(path, as_version=4) if path.is_file() else None


def is_fresh(slug: str) -> bool:
    """Whether the stored notebook was made by the present code."""
    notebook = stored(slug)
    if notebook is None:
        return False
    mark = notebook.metadata.get(METADATA_KEY, {})
    return mark.get("hash") == content_hash(slug, mark.get("profile", "default"))


def source_cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """(kind, source) of every cell."""
    return [(cell.cell_type, cell.source.rstrip()) for cell in notebook.cells]


def output_texts(notebook: nbformat.NotebookNode) -> Iterator[tuple[int, str, str]]:
    """(cell number, kind of output, text) of every output; pictures are left out of the text."""
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            kind = output["output_type"]
            if kind == "stream":
                yield number, output["name"], output["text"]
            elif kind == "error":
                yield number, "error", f"{output['ename']}: {output['evalue']}"
            else:
                texts = [_join(v) for mime, v in output["data"].items() if mime.startswith("text/")]
                yield number, kind, re.sub(r'src="data:[^"]*"', 'src=""', "\n".join(texts))


def _join(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def output_faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What must not stand on a page: errors, standard error, warnings, paths of a machine, cells that never ran."""
    faults = []
    for number, kind, text in output_texts(notebook):
        if kind == "error":
            faults.append(f"cell {number}: an output holds an error ({text})")
        if kind == "stderr":
            faults.append(f"cell {number}: an output holds standard error ({text.strip()[:80]!r})")
        if _WARNING.search(text):
            faults.append(f"cell {number}: an output holds a warning ({_WARNING.search(text)[0]})")  # type: ignore[index]
        if match := _PATH.search(text):
            faults.append(f"cell {number}: an output holds a path ({match[0]})")
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            faults.append(f"cell {number}: was not executed")
    return faults


def faults(slug: str) -> list[str]:
    """One line for each way in which the stored notebook of ``slug`` is not fit to be the chapter's page."""
    refresh = f"run 'make refresh CHAPTER={slug}'"
    notebook = stored(slug)
    if notebook is None:
        return [f"{slug}: notebooks/{slug}.ipynb is missing; {refresh}"]
    found = []
    if not is_fresh(slug):
        found.append(f"{slug}: stored outputs are stale (code changed since they were made); {refresh}")
    if source_cells(notebook) != source_cells(jupytext.read(ROOT / "notebooks" / f"{slug}.py")):
        found.append(f"{slug}: notebooks/{slug}.py and .ipynb differ in source; run 'make sync'")
    found += [f"{slug}: {fault}; {refresh}" for fault in output_faults(notebook)]
    return found


def main() -> int:
    """Print every fault of every chapter; exit 1 if there is one."""
    found = [fault for slug in slugs() for fault in faults(slug)]
    print("\n".join(found) or f"fresh: {', '.join(slugs()) or 'no chapter yet'}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
