"""Is a stored notebook still what its sources would produce?

Every executed notebook records a content hash of what made it: the code of its source, of its chapter's package, of the
shared modules that these import, and the profile. Comments, docstrings and Markdown are left out, so that a change of
wording re-runs nothing. Sources are compared as syntax trees.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat

from lib.fingerprint import ROOT, code_fingerprint
from lib.publishing import pairing
from lib.publishing.pairing import METADATA_KEY

_PATH = re.compile(
    r"(?<![\w.:/<])(/(?:home|root|Users|tmp|var|opt|work|mnt|private|content|workspace)/[\w.\-]+|[A-Z]:\\\\)"
)
_WARNING = re.compile(r"\b\w*Warning\b:")


def notebook_code(source: Path) -> str:
    """The code cells of a py:percent notebook, joined."""
    notebook = jupytext.read(source)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def imported_modules(source: str) -> set[str]:
    """Names of the modules of ``lib`` that ``source`` imports, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name == "lib" or name.startswith("lib.")}


def module_file(name: str) -> Path | None:
    """The file of a module of ``lib``, or None where ``name`` is no module (but a name inside one)."""
    base = ROOT.joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def sources(slug: str) -> list[Path]:
    """Files that determine a run of the chapter: its package, and the shared modules that are imported from it."""
    package = ROOT / "lib" / slug
    files = {path for path in package.rglob("*") if path.suffix in (".py", ".yml", ".yaml", ".csv", ".json")}
    pending = [notebook_code(ROOT / "notebooks" / f"{slug}.py")]
    pending += [path.read_text(encoding="utf-8") for path in files if path.suffix == ".py"]
    while pending:
        for name in imported_modules(pending.pop()):
            path = module_file(name)
            if path is not None and path not in files:
                files.add(path)
                pending.append(path.read_text(encoding="utf-8"))
    return sorted(files)


def content_hash(slug: str, profile: str) -> str:
    """SHA-256 over the profile, the notebook's code and every source file of the chapter."""
    digest = hashlib.sha256(f"profile={profile}\n".encode())
    digest.update(code_fingerprint(notebook_code(ROOT / "notebooks" / f"{slug}.py")).encode())
    for path in sources(slug):
        text = path.read_text(encoding="utf-8")
        content = code_fingerprint(text) if path.suffix == ".py" else text
        digest.update(f"\n{path.relative_to(ROOT).as_posix()}\n{content}".encode())
    return digest.hexdigest()


def slugs() -> list[str]:
    """The chapters that have a notebook."""
    return sorted(path.stem for path in (ROOT / "notebooks").glob("*.py"))


def stored(slug: str) -> nbformat.NotebookNode | None:
    """The executed notebook of a chapter, or None where there is none yet.

    Raises:
        PairError: if the file is no notebook.
    """
    path = ROOT / "notebooks" / f"{slug}.ipynb"
    return pairing.read_notebook(path) if path.is_file() else None


def is_fresh(slug: str) -> bool:
    """Whether the stored notebook was made by the present code."""
    notebook = stored(slug)
    if notebook is None:
        return False
    mark = notebook.metadata.get(METADATA_KEY, {})
    return mark.get("hash") == content_hash(slug, mark.get("profile", "default"))


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


def standard_error(notebook: nbformat.NotebookNode) -> list[str]:
    """One line for each cell that left something on standard error: its number and the text, in one line."""
    texts: dict[int, str] = {}
    for number, kind, text in output_texts(notebook):
        if kind == "stderr":
            texts[number] = " ".join((texts.get(number, "") + " " + text).split())
    return [f"cell {number}: standard error: {shortened(text)}" for number, text in texts.items()]


def shortened(text: str, width: int = 300) -> str:
    """``text``, with its middle left out where it is longer than ``width``."""
    return text if len(text) <= width else f"{text[: width // 2]} … {text[-width // 2 :]}"


def output_faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What must not stand on a page: errors, standard error, warnings, paths of a machine, cells that never ran."""
    faults = standard_error(notebook)
    for number, kind, text in output_texts(notebook):
        if kind == "error":
            faults.append(f"cell {number}: an output holds an error ({text})")
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
    try:
        notebook = stored(slug)
    except pairing.PairError as error:
        return [f"{slug}: {error}"]
    if notebook is None:
        return [f"{slug}: notebooks/{slug}.ipynb is missing; {refresh}"]
    found = pairing.faults(slug, ROOT)
    if not is_fresh(slug) and not pairing.compare(slug, ROOT).asks_for_execution:
        found.append(f"{slug}: stored outputs are stale (code changed since they were made); {refresh}")
    found += [f"{slug}: {fault}; {refresh}" for fault in output_faults(notebook)]
    return found


def main() -> int:
    """Print every fault of every chapter; exit 1 if there is one."""
    found = [fault for slug in slugs() for fault in faults(slug)]
    print("\n".join(found) or f"fresh: {', '.join(slugs()) or 'no chapter yet'}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
