"""Every chapter through papermill, as a researcher would call it from the repository's root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

from lib.agreement import comparison, firm_verdicts
from lib.claims import ledger
from lib.datasets import MIRROR_VARIABLE, chapter_files, registry
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


def papermill(slug: str, output: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``papermill notebooks/<slug>.ipynb output words…`` from the root."""
    command = [sys.executable, "-m", "papermill", f"notebooks/{slug}.ipynb", str(output), *words]
    environment = {**os.environ, "PAPERS_PROGRESS": "0", "OMP_NUM_THREADS": "2", **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANG)


@pytest.mark.parametrize("slug", slugs())
def test_smoke_on_the_stand_in(slug: str, tmp_path: Path) -> None:
    """Without mirror, cache or network every path of every chapter still runs."""
    output = tmp_path / "x.ipynb"
    words = ["-p", "profile", "smoke", "-p", "seed", "1", "-p", "data", "standin"]
    done = papermill(slug, output, *words, PAPERS_DATA=str(tmp_path / "nothing"))
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "results.json").read_text())  # beside the output notebook
    assert record["slug"] == slug
    assert record["profile"] == "smoke"
    assert record["seed"] == 1
    assert record["data_source"] in ("standin", "generated")
    assert record["metrics"]
    assert set(record["verdicts"].values()) == {"not run"}
    assert set(record["verdicts"]) == {claim.id for claim in ledger(slug).claims}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json", "x.ipynb"]


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
    mirror = os.environ.get(MIRROR_VARIABLE)
    names = list(chapter_files(slug))
    if mirror is None or not any((ROOT / Path(mirror).expanduser() / name).is_file() for name in names):
        pytest.skip(f"no mirror with files of {slug}")
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    assert conftest is not None
    assert conftest.missing_data(slug) == ""
    assert registry().keys() >= conftest.LARGER_PROFILES_ONLY
