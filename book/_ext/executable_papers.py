"""Sphinx extension of this book: write the generated pages before the build, and make its parts fit together."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).resolve().parent.parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from lib.profiles import OneLineError  # noqa: E402
from lib.publishing import build  # noqa: E402
from lib.publishing.pages import committed, generated, places, reference  # noqa: E402


def begin_build(app: Sphinx, config: Config) -> None:
    """Build from nothing where the last build was not whole, or was made in another environment."""
    build.begin(Path(app.doctreedir), Path(app.outdir))


def write_pages(app: Sphinx, config: Config) -> None:
    """Compute the scorecard and write ``book/generated`` before Sphinx looks for documents."""
    try:
        committed.check_committed()
        committed.check_outputs()
        generated.write_generated()
    except OneLineError as error:
        sys.exit(f"book: {error}")  # one line; raising inside Sphinx would print three tracebacks


def set_edit_button(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Let the button "Suggest edit" open the file that makes the page; without such a file there is no button."""
    path = places.edited_file(pagename)
    for group in context.get("header_buttons", []):
        for button in [b for b in group.get("buttons", []) if b.get("label") == "source-edit-button"]:
            if path is None:
                group["buttons"].remove(button)
            else:
                suffix = f"{pagename}{context['page_source_suffix']}"
                button["url"] = button["url"].removesuffix(suffix) + path


def set_theme_options(app: Sphinx, config: Config) -> None:
    """Set what ``_config.yml`` has no key for: the book's name beside its logo, and one search field instead of two."""
    logo = {"text": config.html_title, "alt_text": "A page with a play sign on it"}
    config.html_theme_options.update({"logo": logo, "navbar_persistent": []})


def link_explicit_targets(app: Sphinx, doctree: Any) -> None:
    """Let ``[text](page.md#target)`` find explicit targets, ``(target)=``; MyST itself looks at headings only."""
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for name, explicit in doctree.nametypes.items():
        if explicit and name not in slugs and doctree.nameids.get(name):
            slugs[name] = (0, doctree.nameids[name], name)


def keep_intervals_together(app: Sphinx, doctree: nodes.document) -> None:
    """Break no line of a table between a value and its interval: the spaces around ± do not break."""
    for node in doctree.findall(nodes.raw):
        if 'class="run-table' in node.rawsource:
            kept = node.astext().replace(" ± ", "\u00a0±\u00a0")
            node.children = [nodes.Text(kept)]
            node.rawsource = kept


# Literals, roles and matched emphasis stay as they are; every other bar, star or final underscore is a character
# of a formula or a name.
MARKUP = re.compile(r"(``.+?``|:[a-z:]+:`[^`]+`|(?<![\w*])\*{1,2}(?=[^\s*])[^*]*[^\s*]\*{1,2}(?![\w*]))")


def escape_formulas(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep ``|x|`` and ``a * b`` in docstrings: reStructuredText would read substitutions, emphasis and links."""
    for number, line in enumerate(lines):
        parts = MARKUP.split(line)
        parts[::2] = [re.sub(r"([|*]|_(?!\w))", r"\\\1", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def link_to_module(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element) -> Any:
    """Link a name that exists in a module of ``lib`` but has no entry of its own (a constant, a type variable) to its module."""
    module, _, name = str(node.get("reftarget", "")).rpartition(".")
    entry = env.get_domain("py").data["modules"].get(module) if node.get("refdomain") == "py" else None
    if entry is None or not hasattr(importlib.import_module(module), name):
        return None
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, text)


def mock_what_is_absent(app: Sphinx, config: Config) -> None:
    """Document Triton kernels also where Triton, which needs a GPU, is not installed.

    Everything else is imported before the mock is set up, because torch and Lightning ask whether Triton is there.
    """
    if importlib.util.find_spec("triton") is not None:
        return
    for name in (name for group in reference.modules().values() for name in group):
        with contextlib.suppress(Exception):  # autodoc imports it again, and reports what is wrong with it
            importlib.import_module(name)
    config.autodoc_mock_imports = ["triton"]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the hooks."""
    app.connect("config-inited", begin_build, priority=50)
    app.connect("config-inited", write_pages, priority=100)
    app.connect("config-inited", set_theme_options, priority=200)
    app.connect("config-inited", mock_what_is_absent, priority=200)
    app.connect("html-page-context", set_edit_button, priority=900)  # after the theme has made its buttons
    app.connect("missing-reference", link_to_module)
    app.connect("doctree-read", link_explicit_targets)
    app.connect("doctree-read", keep_intervals_together)
    app.connect("autodoc-process-docstring", escape_formulas, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
