"""A parameter that no cell declares ends the run with one line, however it came into the notebook."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from lib.fingerprint import ROOT, slugs
from lib.injected_parameters import PARAMETERS, assignments, check_injected, injected_names
from lib.profiles import ParameterError
from lib.publishing.execute import set_parameters
from tests.sample_chapter import start
from tests.test_notebooks import papermill
from tests.waiting import HANG

DECLARED = """\
profile = "default"  # smoke, default, gpu or paper
seed = 0
accelerator = "auto"
data = "auto"
out_dir = None
overrides = {}
temperature: float = 1.0  # one more, which this notebook reads
"""
RUN = """\
from lib.records import Run
from tests.sample_chapter import PROFILES
run = Run.start('minrnn', PROFILES, profile='smoke', seed=seed, accelerator='cpu', out_dir=out_dir, overrides=overrides)
run.finish()
"""
NAMES = [*PARAMETERS, "temperature"]
SETTINGS = ("steps", "copying_steps")


@pytest.mark.parametrize(
    ("cells", "injected"),
    [
        ([], []),
        ([RUN], []),
        ([DECLARED, RUN], []),  # plain Jupyter
        ([DECLARED, "seed = 4", RUN], ["seed"]),
        ([DECLARED, "seed = 4\nsead = 3", RUN], ["seed", "sead"]),
        ([DECLARED, "# Parameters\nsead = 3\nx = float('nan')\n", RUN], ["sead", "x"]),
        (
            ["# Parameters\nsead = 3", DECLARED, RUN],
            [],
        ),  # a notebook without the tag: nobody knows what it declares
        (["seed = 0", "# Parameters\nsead = 3", RUN], ["sead"]),
        ([DECLARED, "colours = ['red']\nwidth = -3", RUN], []),  # a cell of one's own, in Jupyter
        ([DECLARED, "seed = 4\nimport os", RUN], []),
        ([DECLARED, "%matplotlib inline\nseed = 4", RUN], []),
        ([DECLARED, "seed = 4\nrun = start(seed)"], []),
        (
            [DECLARED, "# Parameters\nsead = 3", RUN, "# Parameters\nseed = 3", RUN],
            ["seed"],
        ),  # mended, in Jupyter
        ([DECLARED, "# Parameters\nsead = 3", RUN, DECLARED, "# Parameters\nseet = 3", RUN], ["seet"]),
    ],
)
def test_which_names_were_injected(cells: list[str], injected: list[str]) -> None:
    assert injected_names(cells)[0] == injected


def test_a_cell_of_constants() -> None:
    assert assignments(DECLARED) == (NAMES, True)
    assert assignments("a, (b, c) = 1, (2, 3)\nd = e = {'x': [1, -2]}") == (["a", "b", "c", "d", "e"], True)
    assert assignments("a = b") == (["a"], False)
    assert assignments("a = 1\nprint(a)") == (["a"], False)
    assert assignments("!ls") == ([], False)
    assert assignments("a = " + "[" * 10_000) == ([], False)
    assert assignments("a = '\0'") == ([], False)


def kernel(monkeypatch: pytest.MonkeyPatch, *cells: str) -> None:
    """As if these cells had been executed, and the last one were running."""
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(In=["", *cells]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("sead = 3", "unknown parameter 'sead'; did you mean 'seed'?"),
        ("profil = 'smoke'", "unknown parameter 'profil'; did you mean 'profile'?"),
        ("temprature = 1", "unknown parameter 'temprature'; did you mean 'temperature'?"),
        ("copying_steps = 5", "unknown parameter 'copying_steps': it is a setting and belongs in overrides"),
        ("copying_step = 5", "unknown parameter 'copying_step'; did you mean the setting 'copying_steps', which belongs in overrides?"),
        ("zzz = 5", f"unknown parameter 'zzz'; allowed: {', '.join(NAMES)}"),
        ("seed = 1\nsead = 3\ncopying_steps = 5", "unknown parameter 'sead'; did you mean 'seed'?; unknown parameter 'copying_steps': it is a setting and belongs in overrides"),
    ],
)  # fmt: skip
def test_each_unknown_name_is_corrected(monkeypatch: pytest.MonkeyPatch, injected: str, message: str) -> None:
    kernel(monkeypatch, DECLARED, f"# Parameters\n{injected}\n", RUN)
    with pytest.raises(ParameterError) as caught:
        check_injected(SETTINGS)
    assert str(caught.value) == message


def test_a_cell_that_was_mended_and_run_again_is_judged_by_what_the_notebook_declares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel(monkeypatch, DECLARED, "# Parameters\nsead = 3\n", RUN, "# Parameters\nseed = 3\n", RUN)
    check_injected(SETTINGS)


def test_what_a_notebook_declares_may_be_injected(monkeypatch: pytest.MonkeyPatch) -> None:
    check_injected(SETTINGS)  # outside a kernel
    kernel(monkeypatch, DECLARED, RUN)
    check_injected(SETTINGS)
    every = "".join(f"{name} = 1\n" for name in [*NAMES, "PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"])
    kernel(monkeypatch, DECLARED, f"# Parameters\n{every}", RUN)
    check_injected(SETTINGS)


def test_a_run_with_an_unknown_parameter_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel(monkeypatch, DECLARED, "# Parameters\nsteps = 3\n", RUN)
    with pytest.raises(ParameterError, match="'steps': it is a setting and belongs in overrides"):
        start(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("slug", slugs())
def test_every_chapter_declares_the_parameters(slug: str) -> None:
    """What the check of an injected cell without papermill's mark relies on."""
    [cell] = [
        cell
        for cell in jupytext.read(ROOT / "notebooks" / f"{slug}.py").cells
        if "parameters" in cell.metadata.get("tags", [])
    ]
    declared, only_constants = assignments(cell.source)
    assert declared[: len(PARAMETERS)] == list(PARAMETERS)
    assert only_constants


# --- in real kernels ----------------------------------------------------------------------------------------------------


def notebook() -> nbformat.NotebookNode:
    cells = [
        nbformat.v4.new_code_cell(DECLARED, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(RUN),
    ]
    kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "tiny.ipynb"
    path.parent.mkdir()
    nbformat.write(notebook(), path)
    return path


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "sead", "3"], "unknown parameter 'sead'; did you mean 'seed'?"),
        (["-p", "steps", "5"], "unknown parameter 'steps': it is a setting and belongs in overrides"),
        (["-y", "{seed: 3, sead: 3}"], "unknown parameter 'sead'; did you mean 'seed'?"),
        (["-f", "{folder}/parameters.yml"], "unknown parameter 'outdir'; did you mean 'out_dir'?"),
        (["-p", "seed", "1.5"], "seed=1.5 is not a whole number"),
        (["-p", "overrides", '{"steps": 1'], "overrides='{\"steps\": 1': not valid JSON"),
        (["-p", "overrides", '{"steps": 1e400}'], "1e400 is not a finite number"),
        (["-y", "overrides: {steps: 1.5}"], "overrides: steps=1.5 is not of type int"),
        (["-p", "out_dir", "3"], "out_dir=3 is not a folder's path or None"),
    ],
)
def test_papermill_ends_with_one_line(source: Path, words: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "parameters.yml").write_text("outdir: x\n")
    words = [word.format(folder=tmp_path) if word.startswith("{folder}") else word for word in words]
    done = papermill(source, tmp_path / "x.ipynb", *words)
    assert done.returncode != 0
    assert message in done.stderr.strip().splitlines()[-1]
    assert not list(tmp_path.rglob("*results*"))


@pytest.mark.thorough
def test_papermill_with_its_own_and_the_notebook_s_parameters(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    words = ["-p", "temperature", "nan", "-y", "overrides: {steps: 3}"]
    done = papermill(source, out / "x.ipynb", *words, options=[])
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((out / "results.json").read_text())["overrides"] == {"steps": 3}
    # what was written, run again with another parameter: papermill replaces its cell
    again = papermill(out / "x.ipynb", tmp_path / "again.ipynb", "-p", "sead", "3")
    assert "unknown parameter 'sead'" in again.stderr.strip().splitlines()[-1]


@pytest.mark.thorough
@pytest.mark.parametrize("marked", [True, False])
def test_an_inserted_cell_under_nbclient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marked: bool
) -> None:
    monkeypatch.setenv("PAPERS_RUNS", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    wrong, right = notebook(), notebook()
    for book, name in ((wrong, "seeed"), (right, "temperature")):
        if marked:
            set_parameters(book, {"seed": 2, name: 3})
        else:
            book.cells.insert(1, nbformat.v4.new_code_cell(f"seed = 2\n{name} = 3"))
    with pytest.raises(CellExecutionError, match="unknown parameter 'seeed'; did you mean 'seed'"):
        NotebookClient(wrong, timeout=HANG).execute()
    assert not list(tmp_path.rglob("*results*"))
    NotebookClient(right, timeout=HANG).execute()
    [record] = tmp_path.rglob("results.json")
    assert json.loads(record.read_text())["seed"] == 2
