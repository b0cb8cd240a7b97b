"""Freshness of stored notebooks: code counts, wording does not."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
import pytest

from lib.publishing import execute, freshness
from lib.publishing.execute import ExecutionError
from lib.publishing.pairing import sync

NOTEBOOK = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Title

# %% tags=["parameters"]
profile = "default"
out_dir = None
data = "auto"

# %%
import json
from pathlib import Path

from lib.sample.method import CONSTANT

Path(out_dir, "results.json").write_text(json.dumps({"constant": CONSTANT}));

# %%
# NBVAL_CHECK_OUTPUT
print("C1: holds")
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one chapter, one shared module and one that nobody imports."""
    for folder in ("lib/sample", "notebooks", "book/runs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "lib/__init__.py").write_text("")
    (tmp_path / "lib/sample/__init__.py").write_text('"""The sample."""\n')
    (tmp_path / "lib/sample/method.py").write_text("from lib import shared\n\nCONSTANT = shared.VALUE + 1\n")
    (tmp_path / "lib/shared.py").write_text("VALUE = 1\n")
    (tmp_path / "lib/unrelated.py").write_text("VALUE = 1\n")
    (tmp_path / "notebooks/sample.py").write_text(NOTEBOOK)
    monkeypatch.setattr(freshness, "ROOT", tmp_path)
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("lib/sample/method.py", "+ 1", "+ 2", True),
        ("lib/shared.py", "VALUE = 1", "VALUE = 2", True),
        ("notebooks/sample.py", "C1: holds", "C1: fails", True),
        ("lib/unrelated.py", "VALUE = 1", "VALUE = 2", False),
        ("lib/sample/method.py", "CONSTANT =", "# why\nCONSTANT =", False),
        ("lib/sample/__init__.py", "The sample.", "Another docstring.", False),
        ("notebooks/sample.py", "# # Title", "# # Another title", False),
        ("notebooks/sample.py", "import json\n", "import json  # wording\n", False),
    ],
)
def test_what_changes_the_hash(root: Path, file: str, old: str, new: str, changes: bool) -> None:
    before = freshness.content_hash("sample", "default")
    edit(root / file, old, new)
    assert (freshness.content_hash("sample", "default") != before) == changes
    assert freshness.content_hash("sample", "gpu") != freshness.content_hash("sample", "default")


def test_a_changed_constant_of_a_real_chapter_is_noticed(tmp_path: Path) -> None:
    source = (freshness.ROOT / "lib/claims.py").read_text()
    assert freshness.code_fingerprint(source) == freshness.code_fingerprint(source + "\n# a comment\n")
    assert freshness.code_fingerprint(source) != freshness.code_fingerprint(source.replace("0.0", "0.5"))


def store(root: Path, code: str | None = None) -> nbformat.NotebookNode:
    """Execute the sample, as ``make refresh`` does, with its package on the kernel's path."""
    if code:
        edit(root / "notebooks/sample.py", 'print("C1: holds")', code)
    execute.execute("sample", allow_standin=True)
    notebook = freshness.stored("sample")
    assert notebook is not None
    return notebook


@pytest.fixture
def kernel_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(root))
    return root


def test_execute_then_fresh_then_stale_then_reworded(kernel_path: Path) -> None:
    assert freshness.faults("sample") == [
        "sample: notebooks/sample.ipynb is missing; run 'make refresh CHAPTER=sample'"
    ]
    notebook = store(kernel_path)
    assert freshness.faults("sample") == []
    assert notebook.cells[3].outputs[0].text == "C1: holds\n"
    assert (kernel_path / "book/runs/sample/default/results.json").read_text() == '{"constant": 2}'
    assert len(notebook.cells) == 4  # the injected cell is gone

    edit(kernel_path / "notebooks/sample.py", "# # Title", "# # Reworded")
    assert freshness.faults("sample") == ["sample: notebooks/sample.py was edited (cell 1); run 'make sync'"]
    assert sync("sample", root=kernel_path) == "new wording copied (cell 1)"
    assert sync("sample", root=kernel_path) == "up to date"
    assert freshness.faults("sample") == []
    reworded = freshness.stored("sample")
    assert reworded is not None
    assert reworded.cells[0].source == "# Reworded"
    assert reworded.cells[3].outputs == notebook.cells[3].outputs

    edit(kernel_path / "lib/shared.py", "VALUE = 1", "VALUE = 5")
    [fault] = freshness.faults("sample")
    assert "stale" in fault
    assert "make refresh CHAPTER=sample" in fault


def test_standard_error_is_refused_where_it_arises(kernel_path: Path) -> None:
    store(kernel_path)
    old = (kernel_path / "notebooks/sample.ipynb").read_bytes()
    code = "import sys; print('left\\nbehind', file=sys.stderr)"
    edit(kernel_path / "notebooks/sample.py", 'print("C1: holds")', code)
    with pytest.raises(ExecutionError) as caught:
        execute.execute("sample", allow_standin=True)
    assert str(caught.value) == (
        "sample: cell 4: standard error: left behind; the stored notebook is unchanged"
    )
    assert (kernel_path / "notebooks/sample.ipynb").read_bytes() == old


def test_all_cells_with_standard_error_are_named() -> None:
    def noisy(*texts: str) -> nbformat.NotebookNode:
        return nbformat.v4.new_code_cell(
            "1", outputs=[nbformat.v4.new_output("stream", name="stderr", text=text) for text in texts]
        )

    notebook = nbformat.v4.new_notebook(cells=[noisy("a\n", "b"), noisy(), noisy("c" * 1000)])
    assert freshness.standard_error(notebook) == [
        "cell 1: standard error: a b",
        f"cell 3: standard error: {'c' * 150} … {'c' * 150}",
    ]


def test_a_failing_chapter_keeps_its_old_files(kernel_path: Path) -> None:
    store(kernel_path)
    old = (kernel_path / "notebooks/sample.ipynb").read_bytes()
    edit(kernel_path / "notebooks/sample.py", 'print("C1: holds")', "1 / 0")
    with pytest.raises(ExecutionError, match="ZeroDivisionError") as caught:
        execute.execute("sample", allow_standin=True)
    assert "\n" not in str(caught.value)
    assert (kernel_path / "notebooks/sample.ipynb").read_bytes() == old
    assert sorted(p.name for p in (kernel_path / "notebooks").iterdir()) == ["sample.ipynb", "sample.py"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('UserWarning: old')", "a warning"),
        ("print('/home/somebody/file')", "a path (/home/somebody)"),
    ],
)
def test_what_must_not_reach_a_page(kernel_path: Path, code: str, words: str) -> None:
    store(kernel_path, code)
    assert any(words in fault for fault in freshness.faults("sample"))


def test_an_error_or_an_unexecuted_cell_is_a_fault() -> None:
    cell = nbformat.v4.new_code_cell("1/0", outputs=[nbformat.v4.new_output("error", ename="E", evalue="e")])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    assert freshness.output_faults(notebook) == [
        "cell 1: an output holds an error (E: e)",
        "cell 1: was not executed",
    ]


def test_web_addresses_and_pictures_are_no_paths() -> None:
    output = nbformat.v4.new_output(
        "display_data",
        {"text/html": '<a href="https://x.org/home/a">x</a><img src="data:image/png;base64,/tmp/aa"/>'},
    )
    cell = nbformat.v4.new_code_cell("1", outputs=[output], execution_count=1)
    assert freshness.output_faults(nbformat.v4.new_notebook(cells=[cell])) == []


def test_unknown_chapter() -> None:
    assert execute.main(["minrn"]) == 1


def test_a_profile_that_no_page_shows_is_refused_before_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        execute.main([freshness.slugs()[0], "--profile", "smoke"])
    assert "invalid choice: 'smoke'" in capsys.readouterr().err


def test_every_stored_notebook_is_fit_for_its_page() -> None:
    assert [fault for slug in freshness.slugs() for fault in freshness.faults(slug)] == []


def test_sources_are_py_percent() -> None:
    for slug in freshness.slugs():
        notebook = jupytext.read(freshness.ROOT / "notebooks" / f"{slug}.py")
        tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
        assert tags.count("parameters") == 1, slug
        assert tags.count("card") == 1, slug
