"""The two files of a chapter: which side was edited, what is carried over, and that no edit is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from jupytext.cli import jupytext as jupytext_command
from nbformat import NotebookNode

from lib import fingerprint
from lib.publishing import execute, freshness, pairing
from lib.publishing.pairing import PairError, compare, sync

REPOSITORY = freshness.ROOT
NOTEBOOK = """# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Title

# %% tags=["parameters"]
profile = "default"


# %%
print("C1: holds")  # a comment

# %% [markdown]
# The end.
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one chapter whose two files are in step."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(REPOSITORY / "jupytext.toml", tmp_path)
    (tmp_path / "notebooks/sample.py").write_text(NOTEBOOK)
    store(tmp_path, "sample")
    for module in (fingerprint, freshness, execute):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def store(root: Path, slug: str) -> None:
    """Write the notebook that an execution of the source would leave."""
    source, notebook = pairing.paths(slug, root)
    executed = pairing.read_source(source)
    for cell in executed.cells:
        if cell.cell_type == "code" and cell.source.startswith("print"):
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="C1: holds\n")]
    pairing.tidy(executed)
    pairing.note_agreement(executed)
    pairing.write_notebook(notebook, executed)


def edit_source(root: Path, old: str, new: str) -> None:
    path = root / "notebooks/sample.py"
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))


def edit_notebook(root: Path, change: Callable[[NotebookNode], object]) -> None:
    """Change the stored notebook and save it as Jupyter does."""
    path = root / "notebooks/sample.ipynb"
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def reword(number: int, text: str) -> Callable[[NotebookNode], None]:
    def change(notebook: NotebookNode) -> None:
        notebook.cells[number - 1].source = text

    return change


def contents(root: Path) -> tuple[bytes, bytes]:
    py, ipynb = pairing.paths("sample", root)
    return py.read_bytes(), ipynb.read_bytes()


def test_a_stored_pair_is_in_step(root: Path) -> None:
    assert compare("sample", root).outcome == "in step"
    assert pairing.faults("sample", root) == []
    before = contents(root)
    assert sync("sample", root=root) == "up to date"
    assert contents(root) == before


def save_from_jupyter(notebook: NotebookNode) -> None:
    """What Jupyter changes by opening and saving: no source."""
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}
    notebook.metadata["language_info"] = {"name": "python", "version": "3.13.0"}
    notebook.metadata.kernelspec.display_name = "Python 3.13"
    notebook.nbformat_minor = 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"other{number}"
        cell.metadata["collapsed"] = False
        cell.metadata["tags"] = cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            cell.execution_count = 40 + number
            cell.metadata["execution"] = {"iopub.status.busy": "2026-01-01"}
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="something\n")]


def test_opened_and_saved_in_jupyter_is_no_edit(root: Path) -> None:
    edit_notebook(root, save_from_jupyter)
    assert compare("sample", root).outcome == "in step"
    assert pairing.faults("sample", root) == []


WORDINGS = [
    ("# # Title", "# # Reworded", "cell 1"),
    ("# a comment", "# another comment", "cell 3"),
    ('tags=["parameters"]', 'tags=["parameters", "hide-cell"]', "cell 2"),
    ("# The end.\n", "# The end.\n\n# %% [markdown]\n# More.\n", "cell 5"),
    ("\n# %% [markdown]\n# The end.\n", "", "1 removed after cell 3"),
]


@pytest.mark.parametrize(("old", "new", "cells"), WORDINGS)
def test_wording_of_the_source_is_carried_over(root: Path, old: str, new: str, cells: str) -> None:
    edit_source(root, old, new)
    assert pairing.faults("sample", root) == [
        f"sample: notebooks/sample.py was edited ({cells}); run 'make sync'"
    ]
    assert sync("sample", root=root) == f"new wording copied ({cells})"
    assert pairing.faults("sample", root) == []
    notebook = pairing.read_notebook(root / "notebooks/sample.ipynb")
    assert [cell.outputs[0].text for cell in notebook.cells if cell.get("outputs")] == ["C1: holds\n"]
    assert [cell.source for cell in notebook.cells] == [
        cell.source for cell in pairing.read_source(root / "notebooks/sample.py").cells
    ]


def test_a_moved_markdown_cell_is_wording(root: Path) -> None:
    title = "# %% [markdown]\n# # Title\n\n"
    edit_source(root, title, "")
    (root / "notebooks/sample.py").write_text((root / "notebooks/sample.py").read_text() + "\n" + title[:-1])
    assert sync("sample", root=root).startswith("new wording copied (cell")
    assert pairing.faults("sample", root) == []


CODE = [
    ("C1: holds", "C1: fails", "cell 3"),
    ('profile = "default"', 'profile = "default"\n\n# %%\nseed = 0', "cell 3"),
    ('print("C1: holds")  # a comment', "a = 1\n\n# %%\nb = 2", "cells 3, 4"),
]


@pytest.mark.parametrize(("old", "new", "cells"), CODE)
def test_check_and_sync_say_the_same_of_edited_code(root: Path, old: str, new: str, cells: str) -> None:
    edit_source(root, old, new)
    before = contents(root)
    line = f"sample: code was edited in notebooks/sample.py ({cells}); run 'make refresh CHAPTER=sample'"
    assert pairing.faults("sample", root) == [line]
    for side in (None, "py", "ipynb"):  # the notebook was not edited: no side brings old code back
        with pytest.raises(PairError) as caught:
            sync("sample", side, root)
        assert str(caught.value) == line
    assert contents(root) == before


def test_a_cell_cut_in_two_asks_for_an_execution_although_the_code_is_the_same(root: Path) -> None:
    edit_source(root, 'profile = "default"\n', 'profile = "default"\nseed = 0\n')
    store(root, "sample")
    edit_source(root, "seed = 0", "\n# %%\nseed = 0")
    assert compare("sample", root).asks_for_execution
    with pytest.raises(PairError, match="make refresh CHAPTER=sample"):
        sync("sample", root=root)


def test_an_edit_of_the_notebook_is_never_overwritten_unasked(root: Path) -> None:
    edit_notebook(root, reword(4, "A better end."))
    before = contents(root)
    line = (
        "sample: notebooks/sample.ipynb was edited (cell 4); nothing was overwritten: 'make sync CHAPTER=sample FROM=ipynb' "
        "takes the .ipynb's cells into the .py, 'make sync CHAPTER=sample FROM=py' takes the .py's"
    )
    assert pairing.faults("sample", root) == [line]
    with pytest.raises(PairError) as caught:
        sync("sample", root=root)
    assert str(caught.value) == line
    assert contents(root) == before


def test_an_edit_of_the_notebook_is_taken_into_the_source_and_nothing_else_changes(root: Path) -> None:
    edit_notebook(root, save_from_jupyter)
    edit_notebook(root, reword(4, "A better end."))
    assert sync("sample", "ipynb", root) == "the notebook's edit (cell 4) taken into notebooks/sample.py"
    assert (root / "notebooks/sample.py").read_text() == NOTEBOOK.replace("The end.", "A better end.")
    assert pairing.faults("sample", root) == []


def test_an_edited_cell_keeps_the_blank_lines_after_it(root: Path) -> None:
    edit_notebook(root, lambda notebook: notebook.cells[1].metadata.tags.append("hide-cell"))
    sync("sample", "ipynb", root)
    text = (root / "notebooks/sample.py").read_text()
    assert text == NOTEBOOK.replace('["parameters"]', '["parameters", "hide-cell"]')


def test_new_removed_and_moved_cells_of_the_notebook_are_taken(root: Path) -> None:
    def change(notebook: NotebookNode) -> None:
        title = notebook.cells.pop(0)
        notebook.cells[-1:] = [nbformat.v4.new_markdown_cell("New."), title]

    edit_notebook(root, change)
    sync("sample", "ipynb", root)
    cells = pairing.read_source(root / "notebooks/sample.py").cells
    assert [cell.source for cell in cells[2:]] == ["New.", "# Title"]
    assert (root / "notebooks/sample.py").read_text().startswith(NOTEBOOK.split("\n\n")[0])
    assert pairing.faults("sample", root) == []


def test_code_edited_in_the_notebook_is_taken_and_asks_for_an_execution(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_notebook(root, reword(3, 'print("C1: fails")'))
    [line] = pairing.faults("sample", root)
    assert (
        "'make refresh CHAPTER=sample FROM=py' takes the .py's" in line
    )  # its outputs may be of the other code
    with pytest.raises(PairError) as caught:
        sync("sample", "py", root)
    assert str(caught.value) == line
    monkeypatch.setattr(execute, "slugs", lambda: ["sample"])
    assert execute.main(["--sync-only", "--from", "ipynb"]) == 0
    assert capsys.readouterr().out == (
        "sample: the notebook's edit (cell 3) taken into notebooks/sample.py; its outputs are stale (code changed since they "
        "were made); run 'make refresh CHAPTER=sample'\n"
    )
    assert 'print("C1: fails")' in (root / "notebooks/sample.py").read_text()


def test_the_source_is_taken_where_that_was_asked_for(root: Path) -> None:
    edit_notebook(root, reword(4, "A worse end."))
    before = contents(root)
    assert sync("sample", "py", root) == "the notebook's edit (cell 4) dropped"
    assert contents(root)[0] == before[0]
    assert pairing.faults("sample", root) == []


def test_both_edited_loses_neither(root: Path) -> None:
    edit_source(root, "# # Title", "# # Reworded")
    edit_notebook(root, reword(4, "A better end."))
    before = contents(root)
    with pytest.raises(
        PairError, match=r"notebooks/sample.py \(cell 1\) and .*ipynb \(cell 4\) were both edited"
    ):
        sync("sample", root=root)
    assert contents(root) == before
    sync("sample", "py", root)
    assert pairing.read_notebook(root / "notebooks/sample.ipynb").cells[3].source == "The end."


def test_the_same_edit_on_both_sides_is_noted(root: Path) -> None:
    edit_source(root, "The end.", "An end.")
    edit_notebook(root, reword(4, "An end."))
    assert "make sync" in pairing.faults("sample", root)[0]
    sync("sample", root=root)
    assert pairing.faults("sample", root) == []


def test_a_notebook_without_digests(root: Path) -> None:
    """Stored before there were digests: equal files are noted, different ones left alone."""
    edit_notebook(root, lambda notebook: notebook.metadata[pairing.METADATA_KEY].pop("cells"))
    assert compare("sample", root).outcome == "not noted"
    edit_source(root, "The end.", "An end.")
    before = contents(root)
    with pytest.raises(PairError, match=r"differ \(cell 4\), and nothing notes which of them was edited"):
        sync("sample", root=root)
    assert contents(root) == before
    edit_source(root, "An end.", "The end.")
    assert sync("sample", root=root) != "up to date"
    assert pairing.faults("sample", root) == []


@pytest.mark.parametrize("lost", ["attachment", "marker"])
def test_what_a_source_cannot_hold_is_refused(root: Path, lost: str) -> None:
    def change(notebook: NotebookNode) -> None:
        if lost == "attachment":
            notebook.cells[3]["attachments"] = {"picture.png": {"image/png": "AA=="}}
        else:
            notebook.cells[2].source += "\n# %% [markdown]\n# not a cell"

    edit_notebook(root, change)
    before = contents(root)
    with pytest.raises(PairError, match=r"holds what a \.py cannot"):
        sync("sample", "ipynb", root)
    assert contents(root) == before


def test_a_source_in_another_form_is_not_reformatted(root: Path) -> None:
    edit_source(root, "# %% [markdown]\n# # Title", "# %%   [markdown]\n# # Title")
    edit_notebook(root, reword(4, "A better end."))
    before = contents(root)
    with pytest.raises(PairError, match="not in the form that jupytext writes"):
        sync("sample", "ipynb", root)
    assert contents(root) == before


def test_a_foreign_kernel_is_refused(root: Path) -> None:
    def change(notebook: NotebookNode) -> None:
        notebook.metadata.kernelspec.name = "conda-env-mine"

    edit_notebook(root, change)
    assert pairing.faults("sample", root) == [
        "sample: notebooks/sample.ipynb names the kernel 'conda-env-mine', not 'python3', which every machine has; "
        "run 'make sync'"
    ]
    sync("sample", root=root)
    assert pairing.faults("sample", root) == []
    edit_source(root, "#     name: python3", "#     name: conda-env-mine")
    assert "write 'name: python3' in its header" in pairing.faults("sample", root)[0]
    with pytest.raises(PairError, match="write 'name: python3'"):
        sync("sample", root=root)
    with pytest.raises(PairError, match="write 'name: python3'"):
        execute.bring_up_to_date("sample", "default", force=True, side=None)


def test_a_file_that_is_no_notebook_is_one_line(root: Path) -> None:
    path = root / "notebooks/sample.ipynb"
    for text in ("", "{}", "[]", path.read_text()[:200], "<<<<<<< HEAD\n" + path.read_text()):
        path.write_text(text)
        [line] = freshness.faults("sample")
        assert "notebooks/sample.ipynb is no readable notebook" in line
        assert "\n" not in line
        with pytest.raises(PairError):
            sync("sample", "ipynb", root)


def test_execution_does_not_overwrite_an_edit_either(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``make book`` and ``make refresh`` write the notebook anew, too."""
    executed: list[str] = []
    monkeypatch.setattr(execute, "execute", lambda slug, profile: executed.append(slug))
    monkeypatch.setattr(execute, "is_fresh", lambda slug: False)
    monkeypatch.setattr(execute, "slugs", lambda: ["sample"])
    edit_notebook(root, reword(4, "A better end."))
    before = contents(root)
    assert execute.main([]) == 1
    assert execute.main(["sample", "--force"]) == 1
    assert (executed, contents(root)) == ([], before)
    assert execute.main(["sample", "--force", "--from", "ipynb"]) == 0
    assert executed == ["sample"]
    assert "A better end." in (root / "notebooks/sample.py").read_text()
    edit_notebook(root, reword(4, "Another end."))
    assert execute.main(["sample", "--force", "--from", "py"]) == 0
    assert executed == ["sample", "sample"]


def test_taking_the_notebooks_side_leaves_edited_code_of_the_source_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``FROM=ipynb`` without ``CHAPTER`` meets chapters whose source alone was edited: those are executed as ever."""
    executed: list[str] = []
    monkeypatch.setattr(execute, "execute", lambda slug, profile: executed.append(slug))
    monkeypatch.setattr(execute, "is_fresh", lambda slug: False)
    edit_source(root, "C1: holds", "C1: fails")
    before = contents(root)
    assert execute.main(["sample", "--from", "ipynb"]) == 0
    assert (executed, contents(root)) == (["sample"], before)


def test_sync_of_an_edited_notebook_ends_with_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "slugs", lambda: ["sample"])
    edit_notebook(root, reword(4, "A better end."))
    assert execute.main(["--sync-only"]) == 1
    assert execute.main(["--sync-only", "--from", "ipynb"]) == 0
    assert execute.main(["--sync-only"]) == 0


# ---------------------------------------------------------------- jupytext --sync


def changed_by_jupytext(folder: Path, newer: str, argument: str) -> list[str]:
    """Names of the files below ``folder`` that ``jupytext --sync`` changes, one kind being newer, as a clone may have it."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for path in before:
        os.utime(path, (2e9, 2e9) if path.suffix == newer else (1e9, 1e9))
    jupytext_command(["--sync", "--quiet", *[str(path) for path in before if path.suffix == argument]])
    return [path.name for path, content in before.items() if path.read_bytes() != content]


@pytest.mark.parametrize("newer", [".py", ".ipynb"])
@pytest.mark.parametrize("argument", [".py", ".ipynb"])
def test_jupytext_changes_nothing_of_a_stored_pair(root: Path, newer: str, argument: str) -> None:
    assert changed_by_jupytext(root / "notebooks", newer, argument) == []


@pytest.mark.parametrize("newer", [".py", ".ipynb"])
@pytest.mark.parametrize("slug", freshness.slugs())
def test_jupytext_changes_nothing_of_a_chapter(slug: str, newer: str, tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    shutil.copy(REPOSITORY / "jupytext.toml", tmp_path)
    for path in pairing.paths(slug):
        shutil.copy(path, tmp_path / "notebooks")
    assert changed_by_jupytext(tmp_path / "notebooks", newer, ".py") == []


@pytest.mark.parametrize("slug", freshness.slugs())
def test_an_edit_of_a_chapters_notebook_changes_one_line_of_its_source(slug: str, tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    shutil.copy(REPOSITORY / "jupytext.toml", tmp_path)
    source, notebook_path = pairing.paths(slug, tmp_path)
    shutil.copy(REPOSITORY / "notebooks" / source.name, source)
    store(tmp_path, slug)
    notebook = nbformat.read(notebook_path, as_version=4)
    last = next(cell for cell in reversed(notebook.cells) if cell.cell_type == "markdown")
    last.source += "\nOne more sentence."
    nbformat.write(notebook, notebook_path)
    old = source.read_text().splitlines()
    pairing.sync(slug, "ipynb", tmp_path)
    new = source.read_text().splitlines()
    new.remove("# One more sentence.")
    assert new == old
