"""The run record: what it holds, how it is written, and what a wrong parameter leaves behind."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from lib import records
from lib.datasets import DataError
from lib.profiles import ParameterError
from lib.records import Run, read_measurements, write_json
from tests.sample_chapter import PROFILES, start


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
    assert record["versions"]["torch"] == torch.__version__
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


def test_outside_papermill_runs_get_a_folder_of_their_own() -> None:
    assert records.papermill_output() is None
    assert records.default_out_dir("minrnn", "smoke", 4) == records.ROOT / "runs" / "minrnn" / "smoke-seed4"
    assert set(PROFILES) == {"smoke", "default", "gpu", "paper"}
