"""Committed files that follow from ledgers and code, and what is checked of committed notebooks before a build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lib.atomic import write_text
from lib.claims import Ledger, ledgers
from lib.publishing.freshness import standard_error
from lib.publishing.pages.places import chapter_document, has_notebook, run_documents
from lib.publishing.pages.reference import modules, reference_stub
from lib.publishing.pairing import read_notebook
from lib.publishing.rendering import PageError, render
from lib.publishing.scorecard import CHAPTERS, ROOT

TOC_HEAD = """\
# Written by `python -m lib.publishing.pages sync`: a paper's stub gives way to its notebook when that is there.
"""
AROUND = ("rerun", "contributing", "benchmarks", "api", "references")
"""Pages after the papers, in ``book/``."""


def toc(slugs: Iterable[str], root: Path = ROOT) -> str:
    """The table of contents as YAML: all papers, each with its chapter or its stub, and the pages around them."""

    def entry(document: str, below: Iterable[str] = ()) -> dict[str, Any]:
        sections = [{"file": page} for page in below]
        return {"file": document, **({"sections": sections} if sections else {})}

    reference = [f"book/api/{group}" for group in modules(root)]
    parts = {
        "Start here": [entry("book/reading"), entry("book/scorecard")],
        "Ten papers": [entry(chapter_document(slug, root), run_documents(slug, root)) for slug in slugs],
        "Use and extend": [entry(f"book/{page}", reference if page == "api" else ()) for page in AROUND],
    }
    listed = [{"caption": caption, "chapters": chapters} for caption, chapters in parts.items()]
    book = {"format": "jb-book", "root": "book/intro", "parts": listed}
    return TOC_HEAD + yaml.safe_dump(book, sort_keys=False)


def stub(ledger: Ledger) -> str:
    """The committed page of a paper without a chapter; what it says comes from the ledger."""
    return render("paper_stub.md", title=ledger.title, slug=ledger.slug)


def committed_files(all_ledgers: Mapping[str, Ledger], root: Path = ROOT) -> dict[Path, str | None]:
    """Path → content of every committed file that follows from ledgers and code; None for a page that must go."""
    slugs = [slug for slug in CHAPTERS if slug in all_ledgers]
    files: dict[Path, str | None] = {root / "_toc.yml": toc(slugs, root)}
    for folder in ("papers", "api"):
        files |= dict.fromkeys(sorted((root / "book" / folder).glob("*.md")))
    files |= {root / "book" / "api" / f"{group}.md": f"{reference_stub(group)}\n" for group in modules(root)}
    for slug in slugs:
        if not has_notebook(slug, root):
            files[root / "book" / "papers" / f"{slug}.md"] = f"{stub(all_ledgers[slug])}\n"
    return files


def sync_committed(all_ledgers: Mapping[str, Ledger] | None = None, root: Path = ROOT) -> list[str]:
    """Write ``_toc.yml`` and the stubs, remove stubs of written chapters; returns the paths that changed."""
    changed = []
    for path, content in committed_files(ledgers() if all_ledgers is None else all_ledgers, root).items():
        if content is None:
            path.unlink()
            changed.append(path.relative_to(root).as_posix())
        elif write_if_changed(path, content):
            changed.append(path.relative_to(root).as_posix())
    return changed


def check_committed(all_ledgers: Mapping[str, Ledger] | None = None, root: Path = ROOT) -> None:
    """Check that ``_toc.yml`` and the stubs follow from the ledgers and the notebooks that are there.

    Raises:
        PageError: naming the first file that does not, and the command that repairs it.
    """
    for path, content in committed_files(ledgers() if all_ledgers is None else all_ledgers, root).items():
        present = path.read_text(encoding="utf-8") if path.is_file() else None
        if present != content:
            raise PageError(
                f"{path.relative_to(root).as_posix()} no longer follows from the ledgers and notebooks; "
                f"run 'python -m lib.publishing.pages sync'"
            )


def check_outputs(root: Path = ROOT) -> None:
    """Check that no cell of a notebook that becomes a page left something on standard error.

    Raises:
        PageError: naming each page, cell and text.
    """
    documents = [f"notebooks/{slug}" for slug in CHAPTERS if has_notebook(slug, root)]
    documents += [document for slug in CHAPTERS for document in run_documents(slug, root)]
    found = [
        f"{document}.ipynb, {line}"
        for document in documents
        for line in standard_error(read_notebook(root / f"{document}.ipynb"))
    ]
    if found:
        raise PageError("; ".join(found) + "; run 'make refresh' for these chapters")


def write_if_changed(path: Path, content: str) -> bool:
    """Write ``content`` atomically unless the file holds it already, so that an incremental build sees no change."""
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, content)
    return True
