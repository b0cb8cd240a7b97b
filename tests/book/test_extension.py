"""The Sphinx extension's own transformations."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document

from lib.fingerprint import ROOT
from lib.publishing.pages import committed, places
from lib.publishing.rendering import PageError


def extension() -> Any:
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
    extension().keep_intervals_together(None, document)
    texts = [node.astext() for node in document.findall(nodes.raw)]
    assert texts == ['<div class="run-table"><td>0.5\u00a0±\u00a00.1</td></div>', other]


def documents() -> list[str]:
    """Every page of the book, from its table of contents."""

    def below(entry: dict[str, Any]) -> list[str]:
        children = [*entry.get("parts", []), *entry.get("chapters", []), *entry.get("sections", [])]
        own = [entry[key] for key in ("root", "file") if key in entry]
        return own + [document for child in children for document in below(child)]

    return below(yaml.safe_load((ROOT / "_toc.yml").read_text()))


def edit_address(document: str, suffix: str) -> str | None:
    """Where the button "Suggest edit" of a page leads after the hook; None if the button is gone."""
    base = "https://github.com/owner/repository/edit/main/"
    edit = {"label": "source-edit-button", "url": f"{base}{document}{suffix}"}
    issue = {"label": "source-issues-button", "url": "https://github.com/owner/repository/issues/new"}
    context = {
        "page_source_suffix": suffix,
        "header_buttons": [{"label": "download"}, {"label": "source-buttons", "buttons": [edit, issue]}],
    }
    extension().set_edit_button(None, document, "page.html", context, None)
    buttons = context["header_buttons"][1]["buttons"]
    assert issue in buttons
    return next((b["url"].removeprefix(base) for b in buttons if b["label"] == "source-edit-button"), None)


def test_the_edit_button_opens_what_makes_the_page() -> None:
    assert edit_address("notebooks/minrnn", ".ipynb") == "notebooks/minrnn.py"
    assert edit_address("book/runs/minrnn/gpu/minrnn", ".ipynb") == "notebooks/minrnn.py"
    assert edit_address("book/papers/harmaug", ".md") == "book/claims/harmaug.yml"
    assert edit_address("book/rerun", ".md") == "book/rerun.md"
    assert edit_address("book/api/lib.minrnn", ".md") is None  # the docstrings of many files
    assert edit_address("genindex", ".html") is None
    assert edit_address("book/runs/unknown/gpu/unknown", ".ipynb") is None


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_edit_button_leads_nowhere() -> None:
    tracked = set(
        subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    )
    found = {document: places.edited_file(document) for document in documents()}
    assert len(found) > 20
    assert {path for path in found.values() if path is not None} <= tracked
    assert [document for document, path in found.items() if path is None] == [
        document for document in documents() if document.startswith("book/api/")
    ]


def test_standard_error_in_a_page_names_page_cell_and_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = nbformat.v4.new_output("stream", name="stderr", text="a hint\nof a library\n")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("text"), nbformat.v4.new_code_cell("1", outputs=[noise])]
    )
    for path in ("notebooks/minrnn.ipynb", "book/runs/smbh/gpu/smbh.ipynb"):
        (tmp_path / path).parent.mkdir(parents=True)
        nbformat.write(notebook, tmp_path / path)
    with pytest.raises(PageError) as caught:
        committed.check_outputs(tmp_path)
    assert str(caught.value) == (
        "notebooks/minrnn.ipynb, cell 2: standard error: a hint of a library; "
        "book/runs/smbh/gpu/smbh.ipynb, cell 2: standard error: a hint of a library; "
        "run 'make refresh' for these chapters"
    )
    committed.check_outputs()  # the stored ones are quiet


def test_a_build_stops_with_that_line(monkeypatch: pytest.MonkeyPatch) -> None:
    module = extension()

    def fail() -> None:
        raise PageError("notebooks/x.ipynb, cell 2: standard error: a hint")

    monkeypatch.setattr(module.committed, "check_committed", lambda: None)
    monkeypatch.setattr(module.committed, "check_outputs", fail)
    with pytest.raises(SystemExit, match=r"book: notebooks/x\.ipynb, cell 2"):
        module.write_pages(None, None)
