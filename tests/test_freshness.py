"""Freshness of stored notebooks: code counts, wording does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jupytext
import nbformat
import pytest

from lib import fingerprint, records
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
    for module in (fingerprint, freshness, execute):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


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


def test_an_execution_finds_what_the_last_one_kept_and_drops_what_it_did_not_use(kernel_path: Path) -> None:
    store(kernel_path)
    folder = kernel_path / "runs/book/sample/default"
    for name in ("walk-used", "walk-gone"):
        (folder / "kept" / name).mkdir(parents=True)
    seen = """
folder = Path(out_dir)
print(sorted(path.name for path in folder.rglob("*")))
record = {"constant": CONSTANT, "experiments": {"walk": {"key": "walk-used"}}}
(folder / "results.json").write_text(json.dumps(record));
"""
    edit(
        kernel_path / "notebooks/sample.py",
        'Path(out_dir, "results.json")',
        f"{seen}\nPath(out_dir, 'other.json')",
    )
    execute.execute("sample", allow_standin=True)
    notebook = freshness.stored("sample")
    assert notebook is not None
    assert (
        notebook.cells[2].outputs[0].text == "['kept', 'walk-gone', 'walk-used']\n"
    )  # no record of the last one
    assert [path.name for path in (folder / "kept").iterdir()] == ["walk-used"]

    execute.bring_up_to_date("sample", "default", force=True, side="py")
    assert not (folder / "kept").exists()


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


@pytest.fixture
def page(kernel_path: Path) -> Path:
    """The stored page of the executed sample, with its record."""
    store(kernel_path)
    assert freshness.faults("sample") == []
    return kernel_path / "notebooks/sample.ipynb"


def test_a_kill_between_record_and_page_is_named(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is replaced first; the old page does not belong to it."""
    record, old_page = page.parent.parent / "book/runs/sample/default/results.json", page.read_bytes()
    edit(page.parent.parent / "lib/shared.py", "VALUE = 1", "VALUE = 5")
    replacing, replaced = execute.replacing, []

    @contextmanager
    def killed(path: Path) -> Iterator[Path]:
        with replacing(path) as temporary:
            yield temporary
            if replaced:
                raise KeyboardInterrupt
        replaced.append(path)

    monkeypatch.setattr(execute, "replacing", killed)
    with pytest.raises(KeyboardInterrupt):
        execute.execute("sample", allow_standin=True)
    assert replaced == [record]
    assert json.loads(record.read_text()) == {"constant": 6}
    assert page.read_bytes() == old_page
    [fault] = freshness.faults("sample")
    assert "different runs" in fault
    assert not freshness.is_fresh("sample")  # so that make book executes it
    assert sorted(p.name for p in record.parent.iterdir()) == ["results.json"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"constant": 3}', "the notebook and its record come from different runs, or the record was edited"),
        ('{"constant": 2', "the record cannot be read (JSONDecodeError)"),
        ("[]", "the record cannot be read (AttributeError)"),
        (None, "the notebook has no record"),
    ],
)
def test_a_record_that_is_not_the_pages_own_is_named(page: Path, text: str | None, words: str) -> None:
    record = page.parent.parent / "book/runs/sample/default/results.json"
    record.unlink() if text is None else record.write_text(text)
    assert freshness.faults("sample") == [f"sample: {words}; run 'make refresh CHAPTER=sample'"]


@pytest.mark.parametrize("text", ["", '{"cells": [', "<<<<<<< HEAD\n{}"])
def test_a_page_that_cannot_be_read_is_one_line(page: Path, text: str) -> None:
    page.write_text(text)
    [fault] = freshness.faults("sample")
    assert fault.startswith("sample: notebooks/sample.ipynb is no readable notebook (")
    assert fault.endswith("or run 'make refresh CHAPTER=sample FROM=py'")
    assert not freshness.is_fresh("sample")


def test_layout_and_line_ends_of_a_record_do_not_count(page: Path) -> None:
    record = page.parent.parent / "book/runs/sample/default/results.json"
    record.write_bytes(b'{\r\n "constant": 2\r\n}\r\n')
    assert freshness.faults("sample") == []


@pytest.mark.parametrize(
    ("mark", "words"), [("record", "which record it belongs to"), ("profile", "one of profile None")]
)
def test_a_page_of_before_the_pairs_needs_a_refresh(page: Path, mark: str, words: str) -> None:
    notebook = nbformat.read(page, as_version=4)
    del notebook.metadata[freshness.METADATA_KEY][mark]
    nbformat.write(notebook, page)
    [fault] = freshness.faults("sample")
    assert words in fault
    assert "make refresh CHAPTER=sample" in fault


def test_a_larger_profiles_notebook_and_record_are_a_pair_too(page: Path) -> None:
    execute.execute("sample", "gpu", allow_standin=True)
    runs = page.parent.parent / "book/runs/sample/gpu"
    edit(page.parent.parent / "lib/unrelated.py", "VALUE = 1", "VALUE = 2")
    assert freshness.faults("sample") == []
    (runs / "results.json").write_text('{"constant": 9}')
    [fault] = freshness.faults("sample")
    assert fault.startswith("sample, profile gpu: the notebook and its record come from different runs")
    assert "make refresh CHAPTER=sample PROFILE=gpu" in fault
    (runs / "sample.ipynb").write_text("{")
    [fault] = freshness.faults("sample")
    assert fault.startswith("sample, profile gpu: the notebook cannot be read")
    (runs / "sample.ipynb").unlink()  # as where a session on a GPU was stopped between the two
    assert freshness.faults("sample") == []


def test_later_code_does_not_make_a_larger_profile_stale(page: Path) -> None:
    execute.execute("sample", "gpu", allow_standin=True)
    edit(page.parent.parent / "lib/shared.py", "VALUE = 1", "VALUE = 5")
    execute.execute("sample", allow_standin=True)
    assert freshness.faults("sample") == []


def test_a_source_that_is_not_python_is_one_line(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (page.parent.parent / "lib/shared.py").write_text("VALUE = (\n")
    [fault] = freshness.faults("sample")
    assert fault == "sample: lib/shared.py is not Python ('(' was never closed)"
    assert execute.main(["sample"]) == 1
    assert capsys.readouterr().err == "lib/shared.py is not Python ('(' was never closed)\n"


def test_the_records_name_is_the_same_everywhere() -> None:
    assert freshness.RECORD_NAME == records.RECORD_NAME


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
        execute.main([fingerprint.slugs()[0], "--profile", "smoke"])
    assert "invalid choice: 'smoke'" in capsys.readouterr().err


def test_every_stored_notebook_is_fit_for_its_page() -> None:
    assert [fault for slug in fingerprint.slugs() for fault in freshness.faults(slug)] == []


def test_sources_are_py_percent() -> None:
    for slug in fingerprint.slugs():
        notebook = jupytext.read(fingerprint.ROOT / "notebooks" / f"{slug}.py")
        tags = [tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
        assert tags.count("parameters") == 1, slug
        assert tags.count("card") == 1, slug
