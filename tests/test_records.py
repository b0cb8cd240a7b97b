"""The run record: what it holds, how it is written, and what a wrong parameter leaves behind."""

from __future__ import annotations

import json
import math
import sys
import types
from importlib import metadata
from pathlib import Path

import pytest
import torch

from lib import records
from lib.datasets import DataError
from lib.profiles import ParameterError
from lib.records import Run, read_measurements, write_json
from tests.sample_chapter import start


def test_record_holds_what_repeats_the_run(tmp_path: Path) -> None:
    run = start(tmp_path, seed=3, overrides={"steps": 5})
    run.measure("accuracy", [0.8, 0.9, 1.0], unit="1")
    run.measure("exact", 2.0)
    run.measure("single", [0.5])
    run.finish()
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["slug"] == "minrnn"
    assert record["seed"] == 3
    assert record["overrides"] == {"steps": 5}
    assert record["settings"] == {"steps": 5}
    assert record["versions"]["torch"] == metadata.version("torch")
    assert record["device"].startswith("CPU ")
    assert record["wall_time_s"] >= 0
    assert record["peak_memory_mb"] > 10
    assert record["metrics"]["accuracy"]["values"] == [0.8, 0.9, 1.0]
    assert record["metrics"]["single"]["low"] is None  # one seed has no interval
    measured = read_measurements(record)
    assert measured == run.measurements
    assert measured["single"].low == -math.inf
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"profile": "tiny"}, "smoke, default, gpu, paper"),
        ({"seed": "abc"}, "seed='abc'"),
        ({"overrides": {"stepz": 1}}, "did you mean 'steps'"),
        ({"accelerator": "cpuu"}, "did you mean 'cpu'"),
        ({"data": "fake"}, "data='fake'"),
    ],
)
def test_a_wrong_parameter_writes_nothing(tmp_path: Path, parameters: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        start(tmp_path / "out", **parameters)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no CUDA GPU"):
        start(tmp_path, accelerator="gpu")


def test_an_out_dir_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError, match=r"out_dir=.*cannot be made"):
        start(tmp_path / "file" / "below")
    with pytest.raises(ParameterError, match="out_dir=3"):
        start(3)  # type: ignore[arg-type]
    if Path("/proc/self").is_dir():  # a folder in which nobody makes a file
        with pytest.raises(ParameterError, match=r"out_dir='/proc/self' cannot be written"):
            start(Path("/proc/self"))


@pytest.mark.parametrize("out_dir", ["", " ", "'runs'", "file:///tmp/runs", "~nobody-of-this-name", "a\0b"])
def test_an_out_dir_that_spells_no_folder_leaves_nothing(
    out_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="out_dir=") as caught:
        start(out_dir)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert start("~/x").out_dir == (tmp_path / "home" / "x").resolve()
    monkeypatch.setenv(records.RUNS_VARIABLE, "~/runs")
    assert records.runs_folder() == tmp_path / "home" / "runs"
    assert not (tmp_path / "~").exists()
    monkeypatch.setenv(records.RUNS_VARIABLE, "'runs'")
    with pytest.raises(ParameterError, match="it should be PAPERS_RUNS=runs"):
        records.runs_folder()


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    start(tmp_path, seed=7)
    first = torch.rand(3)
    start(tmp_path, seed=7)
    assert torch.equal(first, torch.rand(3))


@pytest.mark.parametrize(
    ("values", "interval", "words"),
    [
        ([], None, "finite values"),
        ([1.0, math.nan], None, "finite values"),
        (math.inf, None, "finite values"),
        (1.0, (2.0, 3.0), "misses its mean"),
    ],
)
def test_bad_measurements_are_refused(tmp_path: Path, values: object, interval: object, words: str) -> None:
    run = start(tmp_path)
    with pytest.raises(ValueError, match=words):
        run.measure("x", values, interval=interval)  # type: ignore[arg-type]
    run.measure("y", 1.0)
    with pytest.raises(ValueError, match="measured already"):
        run.measure("y", 1.0)


def test_writing_is_atomic(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(path, {"bad": math.nan})
    with pytest.raises(TypeError):
        write_json(path, {"bad": object()})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_stand_in_is_loud_and_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(records.datasets, "locate", lambda names, data: None)
    run = start(tmp_path)
    assert run.fetch("tinyshakespeare/input.txt") is None
    assert "STAND-IN" in capsys.readouterr().out
    assert run.record()["data_source"] == "standin"
    assert "STAND-IN" in run.record()["notices"][0]


def test_forced_stand_in_is_recorded_without_a_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(tmp_path, data="standin")
    assert run.fetch("tinyshakespeare/input.txt") is None
    assert capsys.readouterr().out == ""
    assert run.record()["data_source"] == "standin"


def test_unknown_data_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not in the registry"):
        start(tmp_path).fetch("nothing/here.csv")


def test_claims_table_escapes_and_names_every_claim(tmp_path: Path) -> None:
    run: Run = start(tmp_path, profile="smoke")
    shown = run.claims_table()
    for claim, verdict in run.verdicts().items():
        assert f"<td>{claim}</td>" in shown.html
        assert verdict == "not run"
    assert "optimiser steps" in run.settings_table().html


def test_outside_papermill_runs_get_a_folder_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert records.papermill_output() is None
    assert records.runs_folder() == records.ROOT / "runs"
    monkeypatch.setenv("PAPERS_RUNS", str(tmp_path))
    folders = []
    for _ in range(2):  # with equal parameters, too
        run = start(None, profile="smoke", seed=4)
        run.finish()
        folders.append(run.out_dir)
        assert run.out_dir == tmp_path / "minrnn" / f"smoke-seed4-{run.run_id[:8]}"
        assert json.loads((run.out_dir / "results.json").read_text())["run_id"] == run.run_id
    assert len(set(folders)) == 2


def written_notebook(path: Path, injected: str, **metadata: object) -> None:
    """What papermill has written when its kernel starts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    papermill = {"parameters": {"PAPERMILL_OUTPUT_PATH": injected}, "end_time": None, **metadata}
    write_json(path, {"cells": [], "metadata": {"papermill": papermill}, "nbformat": 4, "nbformat_minor": 5})


@pytest.mark.parametrize(
    ("injected", "names", "where"),
    [
        ("x.ipynb", {}, "x.ipynb"),
        ("runs/seed{seed}/x.ipynb", {"seed": 3}, "runs/seed3/x.ipynb"),
        ("runs/{profile}-{seed}.ipynb", {"seed": 3, "profile": "smoke"}, "runs/smoke-3.ipynb"),
    ],
)
@pytest.mark.parametrize("started_elsewhere", [False, True], ids=["", "--cwd"])
def test_the_notebook_that_papermill_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: str, names: dict[str, object], where: str,
    started_elsewhere: bool,
) -> None:  # fmt: skip
    start_folder, kernel_folder = tmp_path / "start", tmp_path / "kernel"
    written_notebook(start_folder / where, injected)
    kernel_folder.mkdir()
    monkeypatch.chdir(kernel_folder if started_elsewhere else start_folder)
    monkeypatch.setenv("PWD", str(start_folder))
    main = types.SimpleNamespace(PAPERMILL_OUTPUT_PATH=injected, **names)
    monkeypatch.setitem(sys.modules, "__main__", main)  # type: ignore[arg-type]
    assert records.papermill_output() == start_folder / where


@pytest.mark.parametrize(
    "case", ["not there", "another notebook", "finished long ago", "unknown name", "no JSON"]
)
def test_a_notebook_that_is_not_being_written_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    injected = "{pm[run_uuid]}.ipynb" if case == "unknown name" else "x.ipynb"
    if case == "another notebook":
        written_notebook(tmp_path / "x.ipynb", "elsewhere/x.ipynb")
    elif case == "finished long ago":
        written_notebook(tmp_path / "x.ipynb", "x.ipynb", end_time="2026-01-01T00:00:00")
    elif case == "no JSON":
        (tmp_path / "x.ipynb").write_text("{")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        sys.modules,
        "__main__",
        types.SimpleNamespace(PAPERMILL_OUTPUT_PATH=injected),  # type: ignore[arg-type]
    )
    assert records.papermill_output() is None


def finish(folder: Path, notebook: str | None, seed: int = 0) -> str:
    run = start(folder, seed=seed)
    run.notebook = notebook
    run.finish()
    return run.run_id


def owners(folder: Path) -> dict[str, str]:
    return {p.name: json.loads(p.read_text())["run_id"] for p in folder.glob("*.json")}


def test_two_notebooks_in_one_folder_have_a_record_each(tmp_path: Path) -> None:
    a, b = finish(tmp_path, "a.ipynb"), finish(tmp_path, "b.ipynb")
    assert owners(tmp_path) == {"results.json": a, "b.results.json": b}
    again = finish(tmp_path, "b.ipynb", seed=1)
    assert owners(tmp_path) == {
        "results.json": a, "b.results.json": again, f"b.results-{b[:8]}.json": b,
    }  # fmt: skip
    alone = finish(tmp_path, None)
    assert owners(tmp_path)[f"{alone[:8]}.results.json"] == alone
    assert owners(tmp_path)["results.json"] == a


def test_another_run_in_the_same_folder_never_overwrites_a_record(tmp_path: Path) -> None:
    first, second = finish(tmp_path, None), finish(tmp_path, None, seed=1)
    third = finish(tmp_path, "a.ipynb")
    assert owners(tmp_path) == {
        "results.json": third, f"results-{first[:8]}.json": first, f"results-{second[:8]}.json": second,
    }  # fmt: skip
    (tmp_path / "results.json").write_text("no record")
    last = finish(tmp_path, None)
    assert (tmp_path / "results-unknown.json").read_text() == "no record"
    assert json.loads((tmp_path / "results.json").read_text())["run_id"] == last


def test_what_varies_is_recorded(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.measure("a", 1.0)
    run.measure("b", [1.0, 2.0])
    run.measure("c", [1.0, 2.0], varies="clock")
    run.measure("d", 1.0, interval=(0.5, 2.0))
    metrics = run.record()["metrics"]
    assert [metrics[name]["varies"] for name in "abcd"] == ["nothing", "training", "clock", "training"]
