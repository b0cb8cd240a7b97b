"""Sphinx extension of this book: write the generated pages before the build, and help three of its parts to fit together."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

ROOT = Path(__file__).resolve().parent.parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from lib.profiles import OneLineError  # noqa: E402
from lib.publishing import pages  # noqa: E402


def write_pages(app: Sphinx, config: Config) -> None:
    """Compute the scorecard and write ``book/generated`` before Sphinx looks for documents."""
    try:
        pages.check_committed()
        pages.write_generated()
    except OneLineError as error:
        sys.exit(f"book: {error}")  # one line; raising inside Sphinx would print three tracebacks


def link_explicit_targets(app: Sphinx, doctree: Any) -> None:
    """Let ``[text](page.md#target)`` find explicit targets, ``(target)=``; MyST itself looks at headings only."""
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for name, explicit in doctree.nametypes.items():
        if explicit and name not in slugs and doctree.nameids.get(name):
            slugs[name] = (0, doctree.nameids[name], name)


# Literals, roles and matched emphasis stay as they are; every other bar and star is a character of a formula.
MARKUP = re.compile(r"(``.+?``|:[a-z:]+:`[^`]+`|(?<![\w*])\*{1,2}(?=[^\s*])[^*]*[^\s*]\*{1,2}(?![\w*]))")


def escape_formulas(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep ``|x|`` and ``a * b`` in docstrings: reStructuredText would read substitutions and emphasis."""
    for number, line in enumerate(lines):
        parts = MARKUP.split(line)
        parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the hooks."""
    app.connect("config-inited", write_pages, priority=100)
    app.connect("doctree-read", link_explicit_targets)
    app.connect("autodoc-process-docstring", escape_formulas, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
