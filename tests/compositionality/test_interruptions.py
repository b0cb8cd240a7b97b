"""Every kind of training of the chapter: killed and started again it ends with equal tables, and takes nobody else's checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from lib.compositionality import experiments as ex
from lib.compositionality import natural_text
from lib.compositionality.geometry import Tables
from lib.compositionality.grammar import Lexicon
from lib.compositionality.lifetime import lifetime_job
from lib.compositionality.natural_text import text_job
from lib.compositionality.profiles import PROFILES, Settings
from lib.digest import digest
from lib.records import Run
from tests.interruptions import Killed, check_resumes, killed_after

SIZES: dict[str, Any] = {
    "checkpoint_every": 2, "steps": 8, "checkpoints": [0, 4, 8], "prompts": 100, "group_prompts": 200, "sample_sizes": [100],
    "width": 8, "widths": [4], "heads": 2, "batch": 4, "length_prompts": 100, "text_steps": 6, "text_batch": 2, "text_prompts": 100,
    "text_width": 8,
}  # fmt: skip
HUB: dict[str, Any] = {
    "seeds": 0, "text_seeds": 0, "hub_models": ["one/pythia", "another/pythia"], "hub_steps": [[0, 512], []], "hub_splits": 1,
}  # fmt: skip


def start(folder: Path, **changes: Any) -> Run[Settings]:
    overrides = {**SIZES, **changes}
    return Run.start(
        "compositionality", PROFILES, profile="smoke", accelerator="cpu", data="standin", out_dir=folder, overrides=overrides
    )  # fmt: skip


def inputs(seed: int = 0) -> ex.Inputs:
    """Small, and as the stand-in makes them."""
    text = natural_text.standin_text(seed, 3000)
    return ex.Inputs(Lexicon.standin(seed), ex.standin_prompts(seed, 400), {}, None, None, None, text)


@pytest.mark.parametrize("kind", ["lifetime", "width", "length"])
def test_models_of_the_grammar(tmp_path: Path, kind: str) -> None:
    jobs = {"lifetime": ex.lifetime_jobs, "width": ex.width_jobs, "length": ex.length_jobs}[kind]

    def train(folder: Path, **changes: Any) -> list[Tables]:
        return [lifetime_job(*job) for job in jobs(start(folder, **changes), inputs())]

    check_resumes(train, tmp_path)
    assert digest(train(tmp_path / "plain", checkpoint_every=None)) == digest(train(tmp_path / "again"))


def test_the_control_with_natural_text(tmp_path: Path) -> None:
    def train(folder: Path, **changes: Any) -> list[Tables]:
        return [text_job(*job) for job in ex.text_jobs(start(folder, **changes), inputs())]

    check_resumes(train, tmp_path)
    assert digest(train(tmp_path / "plain", checkpoint_every=None)) == digest(train(tmp_path / "again"))


def test_every_training_of_a_run_has_a_label_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[str] = []

    def remember(run: Any, *, name: str, **_: Any) -> None:
        labels.append(name)
        raise Killed

    monkeypatch.setattr("lib.compositionality.lifetime.make_trainer", remember)
    monkeypatch.setattr("lib.compositionality.natural_text.make_trainer", remember)
    run = start(tmp_path, seeds=2, width_seeds=2, text_seeds=2, widths=[4, 8], lengths=[3, 13])
    made = inputs()
    jobs = [*ex.lifetime_jobs(run, made), *ex.width_jobs(run, made), *ex.length_jobs(run, made)]
    for job in jobs:
        with pytest.raises(Killed):
            lifetime_job(*job)
    for job in ex.text_jobs(run, made):
        with pytest.raises(Killed):
            text_job(*job)
    assert len(labels) == len(set(labels)) == 2 + 2 * 2 + 2 * 2 + 2


def test_a_training_on_the_stand_in_is_not_gone_on_with_on_real_data(tmp_path: Path) -> None:
    def train(source: str, made: ex.Inputs) -> list[int]:
        run = start(tmp_path)
        run.data_source = source
        with killed_after(10**9) as written:
            lifetime_job(*ex.lifetime_jobs(run, made)[0])
            text_job(*ex.text_jobs(run, made)[0])
        return written

    with killed_after(2), pytest.raises(Killed):
        train("standin", inputs())
    every_step = [2, 4, 6, 8, 2, 4, 6]
    assert train("real", inputs()) == every_step
    assert train("real", inputs(seed=1)) == every_step
    assert train("standin", inputs()) == every_step[2:]


# --- models of the hub --------------------------------------------------------------------------------------------------


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Models of a single weight in place of the hub's; gives what was loaded."""
    loaded: list[tuple[str, str]] = []

    def load(source: str, revision: str, *_: Any) -> tuple[nn.Module, None]:
        loaded.append((source, revision))
        model = nn.Linear(1, 1)
        nn.init.constant_(model.weight, len(source) + len(revision))
        return model, None

    def measure(run: Any, made: Any, model: Any, step: int, loaded: nn.Module, tokenizer: Any) -> Tables:
        value = float(loaded.weight.detach()) / 3
        return Tables(geometry=[{"model": model.name, "step": step, "id": value}], history=[{"loss": value}])

    monkeypatch.setattr(ex, "load", load)
    monkeypatch.setattr(ex, "_hub_step", measure)
    return loaded


ALL = [("one/pythia", "step0"), ("one/pythia", "step512"), ("another/pythia", "main")]


def test_models_of_the_hub_go_on_after_the_last_that_was_measured(
    tmp_path: Path, loads: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ex.hub_tables(start(tmp_path / "whole", **HUB), inputs())
    assert loads == ALL
    for cut in (0, 1, 2, 3):
        folder = tmp_path / f"cut-{cut}"
        with monkeypatch.context() as patch:
            if cut < 3:
                patch.setattr(ex, "write_part", _dies_after(cut, ex.write_part))
                with pytest.raises(Killed):
                    ex.hub_tables(start(folder, **HUB), inputs())
            else:
                ex.hub_tables(start(folder, **HUB), inputs())
        loads.clear()
        run = start(folder, **HUB)
        assert digest(ex.hub_tables(run, inputs())) == digest(whole)
        assert loads == ALL[cut:]
        run.finish()
        assert [path.name for path in folder.iterdir()] == ["results.json"]


def _dies_after(n: int, write: Any) -> Any:
    """``write`` whose process ends before the part after the ``n``-th is written."""
    written: list[None] = []

    def part(*arguments: Any) -> None:
        if len(written) == n:
            raise Killed
        written.append(None)
        write(*arguments)

    return part


def test_what_was_measured_of_a_hub_model_belongs_to_its_job(
    tmp_path: Path, loads: list[tuple[str, str]]
) -> None:
    """Not to another precision, list of models, stand-in, or set of sentences."""
    ex.hub_tables(start(tmp_path, **HUB), inputs())
    real = start(tmp_path, **HUB)
    real.data_source = "real"
    others = [
        (real, inputs()),
        (start(tmp_path, **HUB), replace(inputs(), pile=["a snippet"])),
        (start(tmp_path, **HUB), inputs(seed=1)),
        (start(tmp_path, **{**HUB, "hub_precision": "float32"}), inputs()),
        (start(tmp_path, **{**HUB, "couplings": [1, 2]}), inputs()),
    ]
    for run, made in others:
        loads.clear()
        ex.hub_tables(run, made)
        assert loads == ALL
    loads.clear()
    ex.hub_tables(start(tmp_path, **HUB), inputs())
    assert loads == []


@pytest.mark.parametrize("damage", ["cut", "digit", "list", "bytes"])
def test_a_damaged_part_is_set_aside_and_measured_anew(
    tmp_path: Path, loads: list[tuple[str, str]], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = ex.hub_tables(start(tmp_path, **HUB), inputs())
    [path] = tmp_path.glob("checkpoints/*/0-step512.json")
    text = path.read_text()
    value = json.loads(text)["tables"]["geometry"][0]["id"]
    damaged = {
        "cut": text[: len(text) // 2].encode(),
        "digit": text.replace(repr(value), repr(value + 1)).encode(),
        "list": b"[1]",
        "bytes": b"\xff\xfe",
    }[damage]
    path.write_bytes(damaged)
    loads.clear()
    again = ex.hub_tables(start(tmp_path, **HUB), inputs())
    assert loads == [ALL[1]]
    assert digest(again) == digest(whole)
    notice = capsys.readouterr().out
    assert "NOTICE: the checkpoint of 'pythia step512' is damaged" in notice
    assert "unreadable-0-step512.json" in notice
    assert path.with_name("unreadable-0-step512.json").read_bytes() == damaged
