"""Where the pages of a paper lie, and which file makes a page."""

from __future__ import annotations

import os
from pathlib import Path

from lib.publishing.scorecard import ROOT


def has_notebook(slug: str, root: Path = ROOT) -> bool:
    """Whether the chapter's executed notebook is there; until then a stub stands in its place."""
    return (root / "notebooks" / f"{slug}.ipynb").is_file()


def chapter_document(slug: str, root: Path = ROOT) -> str:
    """The chapter's document, relative to the root and without suffix."""
    return f"notebooks/{slug}" if has_notebook(slug, root) else f"book/papers/{slug}"


def chapter_source(slug: str, root: Path = ROOT) -> str:
    """The file behind :func:`chapter_document`, relative to the root."""
    return chapter_document(slug, root) + (".ipynb" if has_notebook(slug, root) else ".md")


def from_the_book(path: str) -> str:
    """``path``, relative to the root, as a link of a page in ``book/``."""
    return os.path.relpath(path, "book")


def run_documents(slug: str, root: Path = ROOT) -> list[str]:
    """Executed notebooks of the chapter's larger runs, as documents."""
    return [
        f"book/runs/{slug}/{profile}/{slug}"
        for profile in ("gpu", "paper")
        if (root / "book" / "runs" / slug / profile / f"{slug}.ipynb").is_file()
    ]


def edited_file(document: str, root: Path = ROOT) -> str | None:
    """The file that someone edits to change a page, relative to the root; None for a page that no single file makes.

    A chapter's page and the pages of its larger runs come from ``notebooks/<slug>.py``, a paper's stub from its ledger; the pages
    of the reference come from docstrings.
    """
    folder, name = document.rsplit("/", 1) if "/" in document else ("", document)
    if folder == "notebooks" or folder.startswith("book/runs/"):
        candidates = [f"notebooks/{name}.py"]
    elif folder == "book/papers":
        candidates = [f"book/claims/{name}.yml"]
    elif folder == "book/api":
        candidates = []
    else:
        candidates = [f"{document}.md"]
    return next((path for path in candidates if (root / path).is_file()), None)
