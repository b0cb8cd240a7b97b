"""The executed notebook of a larger run as a page of its own, below its chapter.

It is the chapter's notebook once more, at another place of the book: its labels must not be those of the chapter, its links count
from another folder, and its first screen says what the page is.
"""

from __future__ import annotations

import posixpath
import re
from copy import deepcopy

import nbformat

_LABELS = re.compile(r"^\(([\w-]+)\)=\s*$|^:(?:label|name): *([\w-]+)\s*$", re.MULTILINE)
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_FILE = re.compile(r"^(`{3,}\{(?:literalinclude|include|figure|image)\} +)(\S+)()", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z]+:|#|/")


def document_folder(slug: str, profile: str) -> str:
    """Where the page lies, from the root."""
    return f"book/runs/{slug}/{profile}"


def as_page(notebook: nbformat.NotebookNode, slug: str, profile: str) -> nbformat.NotebookNode:
    """A copy of an executed chapter as the page of a larger run.

    Args:
        notebook: the chapter's notebook, run with ``profile``. Its Markdown is the chapter's own, written for the folder ``notebooks/``.
    """
    page = deepcopy(notebook)
    written = [cell for cell in page.cells if cell.cell_type == "markdown"]
    labels = {a or b for cell in written for a, b in _LABELS.findall(cell.source)}
    for cell in written:
        cell.source = _moved(_renamed(cell.source, labels, profile), document_folder(slug, profile))
    if written:
        written[0].source = _introduced(written[0].source, slug, profile)
    return page


def _renamed(text: str, labels: set[str], profile: str) -> str:
    """Give each label, and each reference to it, the profile's name."""
    for label in labels:
        name = rf"(?<![\w-]){re.escape(label)}(?![\w-])"
        new = f"{label}-{profile}"
        text = re.sub(rf"^\({name}\)=", f"({new})=", text, flags=re.MULTILINE)
        text = re.sub(rf"^(:(?:label|name): *){name}", rf"\g<1>{new}", text, flags=re.MULTILINE)
        text = re.sub(rf"\]\((#?){name}\)", rf"](\g<1>{new})", text)
        text = re.sub(rf"(\{{(?:eq|ref|numref)\}}`(?:[^`<]*<)?){name}(?=>?`)", rf"\g<1>{new}", text)
    return text


def _moved(text: str, folder: str) -> str:
    """Let relative links and included files, which count from ``notebooks/``, count from ``folder``."""

    def move(match: re.Match[str]) -> str:
        head, target, tail = match.groups()
        if _ELSEWHERE.match(target) or "." not in target:  # what is no file's name is a label
            return match[0]
        path, mark, anchor = target.partition("#")
        return head + posixpath.relpath(posixpath.join("notebooks", path), folder) + mark + anchor + tail

    return _FILE.sub(move, _LINK.sub(move, text))


def _introduced(text: str, slug: str, profile: str) -> str:
    """Say on the first screen which run this is."""
    up = posixpath.relpath(".", document_folder(slug, profile))
    note = (
        f"```{{admonition}} One run of a chapter\n:class: note\n"
        f"This is the notebook of [the chapter]({up}/notebooks/{slug}.ipynb) as it ran with the profile `{profile}`. The text is the "
        f"chapter's, written beside its own, smaller run. Numbers, figures and verdicts are this run's; how the present rules judge "
        f"it stands in [the scorecard]({up}/book/scorecard.md#scorecard-{slug}).\n```\n"
    )
    head, _, rest = text.partition("\n")
    return f"{head}: the run with the profile {profile}\n\n{note}{rest}"
