"""Every chapter through papermill, as a researcher would call it from the repository's root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat
import pytest

from lib.agreement import comparison, firm_verdicts
from lib.claims import ledger
from lib.datasets import chapter_files, mirror, registry
from lib.experiment import KEPT
from lib.fingerprint import ROOT, slugs
from lib.profiles import ParameterError
from tests.waiting import HANG

PARAMETERS = {
    "profile": "default",
    "seed": 0,
    "accelerator": "auto",
    "data": "auto",
    "out_dir": None,
    "overrides": {},
}


def papermill(
    notebook: Path | str,
    output: Path | str,
    *words: str,
    options: Sequence[str] = (),
    folder: Path = ROOT,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run ``python options… -m papermill --inject-output-path <notebook> output words…`` in ``folder``.

    Args:
        notebook: a path, or a chapter's slug: a notebook made from its source, without outputs.
    """
    with tempfile.TemporaryDirectory() as temporary:
        if isinstance(notebook, str):
            source, notebook = ROOT / "notebooks" / f"{notebook}.py", Path(temporary) / f"{notebook}.ipynb"
            jupytext.write(jupytext.read(source), notebook)
        command = [
            sys.executable,
            *options,
            "-m",
            "papermill",
            "--inject-output-path",
            str(notebook),
            str(output),
        ]
        environment = {
            **os.environ, "PAPERS_PROGRESS": "0", "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT),
            "PWD": str(folder),  # as a shell says it
            **variables,
        }  # fmt: skip
        return subprocess.run(
            [*command, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=HANG
        )  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("slug", slugs())
def test_smoke_on_the_stand_in(slug: str, tmp_path: Path) -> None:
    """Without mirror, cache or network every path of every chapter still runs; checkpoints change no number and are gone at the end."""
    words = ["-p", "profile", "smoke", "-p", "seed", "1", "-p", "data", "standin"]
    records = []
    for name, more in (("plain", []), ("kept", ["-y", "overrides: {checkpoint_every: 2}"])):
        folder = tmp_path / name
        folder.mkdir()
        done = papermill(slug, folder / "x.ipynb", *words, *more, PAPERS_DATA=str(tmp_path / "nothing"))
        assert done.returncode == 0, done.stderr[-2000:]
        assert {p.name for p in folder.iterdir()} - {KEPT} == {"results.json", "x.ipynb"}
        records.append(json.loads((folder / "results.json").read_text()))  # beside the output notebook
    record, kept = records
    assert record["slug"] == slug
    assert record["profile"] == "smoke"
    assert record["seed"] == 1
    assert record["data_source"] in ("standin", "generated")
    assert record["metrics"]
    assert set(record["verdicts"].values()) == {"not run"}
    assert set(record["verdicts"]) == {claim.id for claim in ledger(slug).claims}
    assert kept["settings"]["checkpoint_every"] == 2
    timed = {name for name, metric in record["metrics"].items() if metric["varies"] == "clock"}
    for metrics in (record["metrics"], kept["metrics"]):
        for name in timed:
            del metrics[name]
    assert kept["metrics"] == record["metrics"]


WRONG = [
    ("profile", "tiny", "profile='tiny' is not one of smoke, default, gpu, paper"),
    ("seed", "abc", "seed='abc' is not a whole number"),
    ("overrides", {"no_such_setting": 1}, "overrides: unknown setting 'no_such_setting'"),
    ("accelerator", "cpus", "accelerator='cpus' is not one of auto, cpu, gpu, mps; did you mean 'cpu'?"),
    ("data", "fake", "data='fake' is not one of auto, real, standin"),
]


@pytest.mark.parametrize("slug", slugs())
def test_a_wrong_parameter_stops_before_anything_is_written(slug: str, tmp_path: Path) -> None:
    """The notebook's own opening cells, run in this process with one parameter changed."""
    cells = [c for c in jupytext.read(ROOT / "notebooks" / f"{slug}.py").cells if c.cell_type == "code"]
    last = next(i for i, cell in enumerate(cells) if "Run.start(" in cell.source)
    opening = "\n".join(cell.source for cell in cells[1 : last + 1])
    for name, value, message in WRONG:
        names: dict[str, object] = {}
        exec(cells[0].source, names)
        assert name in names
        names |= {name: value, "out_dir": str(tmp_path / "out")}
        with pytest.raises(ParameterError) as caught:
            exec(opening, names)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("slug", "words", "message"),
    [
        *((slug, ["-p", *WRONG[0][:2]], WRONG[0][2]) for slug in slugs()),
        (slugs()[0], ["-p", *WRONG[1][:2]], WRONG[1][2]),
        (slugs()[0], ["-y", "overrides: {no_such_setting: 1}"], WRONG[2][2]),
    ],
)
def test_a_wrong_parameter_ends_papermill_with_one_line(
    slug: str, words: list[str], message: str, tmp_path: Path
) -> None:
    out_dir = tmp_path / "out"
    done = papermill(slug, tmp_path / "x.ipynb", *words, "-p", "out_dir", str(out_dir))
    assert done.returncode != 0
    assert message in done.stderr.strip().splitlines()[-1]
    assert not out_dir.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.ipynb"]


@pytest.mark.thorough
@pytest.mark.parametrize("slug", slugs())
def test_a_corrupt_data_file_ends_with_one_line(slug: str, tmp_path: Path) -> None:
    mirror, out_dir = tmp_path / "mirror", tmp_path / "out"
    for name in chapter_files(slug):
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).write_text("truncated")
    words = ["-p", "profile", "smoke", "-p", "out_dir", str(out_dir)]
    done = papermill(slug, tmp_path / "x.ipynb", *words, PAPERS_DATA=str(mirror))
    assert done.returncode != 0
    assert "checksum mismatch" in done.stderr.strip().splitlines()[-1]
    assert not (out_dir / "results.json").exists()
    assert all((mirror / name).read_text() == "truncated" for name in chapter_files(slug))


@pytest.mark.parametrize("slug", slugs())
def test_the_notebook_keeps_the_contract(slug: str) -> None:
    notebook = jupytext.read(ROOT / "notebooks" / f"{slug}.py")
    [cell] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    names: dict[str, object] = {}
    exec(cell.source, names)  # the cell holds nothing but assignments of constants
    assert {name: names[name] for name in PARAMETERS} == PARAMETERS
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        assert len(cell.source.splitlines()) <= 40, f"code cell {number} is too long to read"
        assert not any(line.lstrip().startswith(("!", "%")) for line in cell.source.splitlines())
        for forbidden in ("subprocess", "os.system", "pickle", "eval(", "exec("):
            assert forbidden not in cell.source
    checked = [c.source for c in notebook.cells if c.source.startswith("# NBVAL_CHECK_OUTPUT")]
    assert any("compare_with_book(run)" in source for source in checked)


@pytest.mark.parametrize("slug", slugs())
def test_a_changed_verdict_in_a_stored_output_is_noticed(slug: str) -> None:
    """What nbval compares: the page says what the committed record says of itself, with every firm verdict."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{slug}.ipynb", as_version=4)
    record = json.loads((ROOT / "book" / "runs" / slug / "default" / "results.json").read_text())
    [printed] = [
        output.text
        for cell in notebook.cells
        if "compare_with_book(run)" in cell.source
        for output in cell.outputs
    ]
    lines = comparison(ledger(slug), record, record)
    assert printed == "\n".join(lines) + "\n"
    for claim, verdict in firm_verdicts(ledger(slug), record).items():
        assert verdict == "not run" or f"  {claim}: {verdict}" in lines


@pytest.mark.parametrize("slug", slugs())
def test_the_stored_notebook_is_compared_where_a_mirror_holds_its_data(
    slug: str, request: pytest.FixtureRequest
) -> None:
    """A chapter that registers a file for its larger profiles only must not lose nbval by it."""
    folder = mirror()
    if folder is None or not any((folder / name).is_file() for name in chapter_files(slug)):
        pytest.skip(f"no mirror with files of {slug}")
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    assert conftest is not None
    assert conftest.missing_data(slug) == ""
    assert registry().keys() >= conftest.LARGER_PROFILES_ONLY


# --- where the record goes ----------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A notebook that starts and finishes a run and does nothing else."""
    cells = [
        nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "from lib.records import Run\nfrom tests.sample_chapter import PROFILES\n"
            "run = Run.start('minrnn', PROFILES, profile='smoke', seed=seed, accelerator='cpu')\nrun.finish()"
        ),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "notebooks" / "tiny.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def seeds(folder: Path) -> dict[str, int]:
    """Path of every record in ``folder`` → its seed."""
    return {
        path.relative_to(folder).as_posix(): json.loads(path.read_text())["seed"]
        for path in folder.rglob("*results*.json")
    }


@pytest.mark.thorough
def test_the_record_lies_beside_the_notebook_that_papermill_writes(tiny: Path, tmp_path: Path) -> None:
    """With a parameter in the output path, warnings switched off, another working folder, and two notebooks in one folder."""
    out, elsewhere = tmp_path / "out-7", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    nowhere = {"PAPERS_RUNS": str(tmp_path / "runs")}
    done = papermill(
        tiny, "out-{seed}/a.ipynb", "-p", "seed", "7", options=["-W", "ignore"], folder=tmp_path, **nowhere
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert seeds(tmp_path) == {"out-7/results.json": 7}
    done = papermill(
        tiny, "out-7/b.ipynb", "-p", "seed", "8", "--cwd", str(elsewhere), folder=tmp_path, **nowhere
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert seeds(tmp_path) == {"out-7/results.json": 7, "out-7/b.results.json": 8}
    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "runs").exists()


@pytest.mark.thorough
def test_runs_through_papermill_s_python_interface_have_folders_of_their_own(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That interface does not say where the notebook goes: no run may overwrite another's record."""
    from papermill import execute_notebook

    monkeypatch.setenv("PAPERS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for seed in (3, 3, 4):
        execute_notebook(tiny, tmp_path / "out.ipynb", {"seed": seed}, progress_bar=False)
    found = seeds(tmp_path)
    assert sorted(found.values()) == [3, 3, 4]
    assert all(path.startswith(f"runs/minrnn/smoke-seed{seed}-") for path, seed in found.items())
