"""The work of a run: done once, kept, and done again only where something changed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lib import experiment as contract
from lib.experiment import KEPT, Experiment, Machine, Work
from lib.profiles import ParameterError, put_together
from lib.records import Run
from tests import sample_experiment
from tests.sample_experiment import Settings

SAMPLE: Experiment = sample_experiment
PROFILES = put_together({"walk": SAMPLE}, {name: Machine(workers=1) for name in SAMPLE.PROFILES})


def start(out_dir: Path, **parameters: Any) -> Run[Any]:
    return Run.start("minrnn", PROFILES, **{"accelerator": "cpu", "out_dir": out_dir, **parameters})


def done(folder: Path) -> list[str]:
    return (folder / "count").read_text().split()


def finish(run: Run[Any]) -> list[Any]:
    work = Work(run)
    results = work.finish(SAMPLE)
    work.close()
    run.finish()
    return results


def test_work_is_done_measured_and_kept(tmp_path: Path) -> None:
    run = start(tmp_path)
    first = finish(run)
    assert [r.seed for r in first] == [0, 1]
    assert run.measurements["end"].values == tuple(r.positions[-1] for r in first)
    again = start(tmp_path)
    second = finish(again)
    assert done(tmp_path) == ["0", "1"]
    np.testing.assert_array_equal(first[1].positions, second[1].positions)
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["experiments"]["sample_experiment"]["reused"] == 2
    assert record["settings"] == {"workers": 1, "checkpoint_every": None, "walk_steps": 3, "walk_seeds": 2}


def test_only_the_missing_result_of_a_killed_run_is_made(tmp_path: Path) -> None:
    finish(start(tmp_path))
    (folder,) = (tmp_path / KEPT).iterdir()
    (folder / "001.safetensors").write_bytes(b"half")
    finish(start(tmp_path))
    assert done(tmp_path) == ["0", "1", "1"]


@pytest.mark.parametrize(
    "change",
    [{"seed": 5}, {"overrides": {"walk_steps": 4}}, {"profile": "smoke"}],
    ids=["seed", "settings", "profile"],
)
def test_another_seed_setting_or_profile_is_other_work(tmp_path: Path, change: dict[str, Any]) -> None:
    finish(start(tmp_path))
    finish(start(tmp_path, **change))
    assert len(done(tmp_path)) == 4


def test_other_code_is_other_work_and_other_processes_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(start(tmp_path))
    finish(start(tmp_path, overrides={"workers": 2, "checkpoint_every": 7}))
    assert len(done(tmp_path)) == 2
    monkeypatch.setattr(contract, "module_hash", lambda name: "other code")
    finish(start(tmp_path))
    assert len(done(tmp_path)) == 4


def test_worker_processes_give_the_same_results(tmp_path: Path) -> None:
    here = finish(start(tmp_path / "here"))
    there = finish(start(tmp_path / "there", overrides={"workers": 2}))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)


def test_timed_work_is_done_in_this_process(tmp_path: Path) -> None:
    work = Work(start(tmp_path, overrides={"workers": 2}))
    assert len(work.here(SAMPLE)) == 2
    work.close()


def test_an_error_in_a_job_is_raised_where_its_experiment_is_finished(tmp_path: Path) -> None:
    run = start(tmp_path, overrides={"workers": 2})
    (tmp_path / "count").mkdir()
    work = Work(run)
    work.start(SAMPLE)
    with pytest.raises(IsADirectoryError):
        work.finish(SAMPLE)
    work.close()


def test_what_is_measured_is_announced(tmp_path: Path) -> None:
    work = Work(start(tmp_path, overrides={"walk_steps": 99}))
    with pytest.raises(ValueError, match="sample_experiment measures \\['surprise'\\]"):
        work.finish(SAMPLE)


def test_an_experiment_is_under_way_once(tmp_path: Path) -> None:
    work = Work(start(tmp_path))
    work.start(SAMPLE)
    with pytest.raises(ValueError, match="under way already"):
        work.start(SAMPLE)


def test_a_run_knows_the_settings_of_its_experiments(tmp_path: Path) -> None:
    run = start(tmp_path, overrides='{"walk_seeds": 1}')
    assert run.of(Settings) == Settings(seeds=1)
    assert contract.own_settings(run, SAMPLE) is run.of(Settings)
    with pytest.raises(ParameterError, match="walk_seeds=0 must be at least 1"):
        start(tmp_path, overrides={"walk_seeds": 0})
    with pytest.raises(LookupError):
        run.of(SimpleNamespace)


def test_reused_results_count_with_the_time_that_they_took(tmp_path: Path) -> None:
    run = start(tmp_path)
    run.note_experiment("walk", "walk-1", 3, [60.0, 40.0], 2)
    assert run.experiments["walk"] == {"key": "walk-1", "jobs": 3, "reused": 2, "reused_s": 50.0}
    assert run.wall_time() > 50
