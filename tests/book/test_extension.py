"""The Sphinx extension's own transformations."""

from __future__ import annotations

import importlib.util

from docutils import nodes
from docutils.utils import new_document

from lib.fingerprint import ROOT


def extension() -> object:
    """The module ``book/_ext/executable_papers.py``, which is on no import path."""
    spec = importlib.util.spec_from_file_location("book_extension", ROOT / "book/_ext/executable_papers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_line_breaks_between_a_value_and_its_interval_in_a_table() -> None:
    document = new_document("page")
    table = '<div class="run-table"><td>0.5 ± 0.1</td></div>'
    other = "<p>0.5 ± 0.1</p>"
    document += nodes.raw(table, table, format="html")
    document += nodes.raw(other, other, format="html")
    extension().keep_intervals_together(None, document)  # type: ignore[attr-defined]
    texts = [node.astext() for node in document.findall(nodes.raw)]
    assert texts == ['<div class="run-table"><td>0.5\u00a0±\u00a00.1</td></div>', other]
