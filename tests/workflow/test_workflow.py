"""The sweep: its configuration, the real workflow on small notebooks, a kill half-way, and what is collected."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "workflow"))

from collect import RecordError, collect, main, read_record  # noqa: E402
from sweep import Job, fingerprint, read_sweep  # noqa: E402

from lib.profiles import ParameterError  # noqa: E402
from tests.waiting import HANG, wait_for  # noqa: E402

PARAMETERS = """\
profile = "default"
seed = 0
accelerator = "auto"
data = "auto"
out_dir = None
overrides = {}
"""

# Notes each start, waits for a file to appear if it is told to, and writes what a chapter's run.finish() writes.
BODY = """\
import json, os, time
from pathlib import Path

folder = Path(out_dir)
with (folder / "starts").open("a") as starts:
    starts.write("started\\n")
gate = overrides.get("gate")
while gate and not Path(gate).exists():
    time.sleep(0.05)
if overrides.get("fail"):
    raise ValueError("this run was told to fail")
record = {
    "slug": "CHAPTER", "profile": profile, "seed": seed, "overrides": overrides, "data_source": "generated",
    "device": "CPU <b>model</b>", "versions": {}, "commit": None, "wall_time_s": 0.1, "peak_memory_mb": 1.0,
    "metrics": {"gap": {"mean": 10.0 + seed, "low": None, "high": None, "values": [10.0 + seed], "unit": "nats"}},
    "verdicts": {"C1": "not run"},
}
(folder / "results.json.tmp").write_text(json.dumps(record))
os.replace(folder / "results.json.tmp", folder / "results.json")
"""


def write_notebook(folder: Path, chapter: str = "toy", body: str = BODY) -> None:
    """A chapter that takes no time: the parameters cell and one cell that writes a record."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [
        nbformat.v4.new_code_cell(PARAMETERS),
        nbformat.v4.new_code_cell(body.replace("CHAPTER", chapter)),
    ]
    cells[0].metadata["tags"] = ["parameters"]
    notebook.cells = cells
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, folder / f"{chapter}.ipynb")


def write_config(folder: Path, **keys: Any) -> None:
    config = {"profiles": ["smoke"], "seeds": [0], "chapters": {"toy": {"base": {}}}, **keys}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))


def command(*words: str) -> list[str]:
    snakefile = str(ROOT / "workflow" / "Snakefile")
    return [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        snakefile,
        "--cores",
        "2",
        "--configfile",
        "sweep.yaml",
        *words,
    ]


def snakemake(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow with ``folder`` as its working directory."""
    return subprocess.run(command(*words), cwd=folder, capture_output=True, text=True, timeout=HANG)


def starts(folder: Path) -> dict[str, int]:
    """How often each run was started, by its folder."""
    sweep = folder / "runs" / "sweep"
    return {
        path.parent.relative_to(sweep).as_posix(): len(path.read_text().splitlines())
        for path in sweep.rglob("starts")
    }


@pytest.fixture
def sweep_folder(tmp_path: Path) -> Path:
    write_notebook(tmp_path / "notebooks")
    return tmp_path


ODD = 'it\'s <b>$HOME</b> "quoted"'


@pytest.fixture(scope="module")
def finished_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of three runs that has ended; one of them failed."""
    folder = tmp_path_factory.mktemp("sweep")
    write_notebook(folder / "notebooks")
    variants = {"base": {}, "odd": {"text": ODD, "sizes": [1, 2]}, "bad": {"fail": True}}
    write_config(folder, seeds=[3], chapters={"toy": variants})
    done = snakemake(folder)
    assert done.returncode != 0
    assert "Error in rule run" in done.stderr
    return folder


def test_each_run_has_its_folder_its_log_and_its_parameters(finished_sweep: Path) -> None:
    run = finished_sweep / "runs/sweep/toy/smoke/odd/seed3"
    record = json.loads((run / "results.json").read_text())
    assert record["overrides"] == {"text": ODD, "sizes": [1, 2]}  # through shell, YAML and papermill unharmed
    assert (record["profile"], record["seed"]) == ("smoke", 3)
    assert (run / "toy.ipynb").is_file()
    assert "Executing" in (run / "run.log").read_text()
    assert starts(finished_sweep) == {f"toy/smoke/{variant}/seed3": 1 for variant in ("base", "odd", "bad")}


def test_a_failed_run_keeps_its_notebook_and_the_others_finish(finished_sweep: Path) -> None:
    bad = finished_sweep / "runs/sweep/toy/smoke/bad/seed3"
    assert (bad.parent.parent / "base/seed3/results.json").is_file()
    assert not (bad / "results.json").exists()
    assert "this run was told to fail" in (bad / "toy.ipynb").read_text()
    assert "this run was told to fail" in (bad / "run.log").read_text()


def test_what_is_there_can_be_collected_by_hand(finished_sweep: Path) -> None:
    out = finished_sweep / "runs" / "sweep"
    assert not (
        out / "results.csv"
    ).exists()  # a run is missing: the workflow makes no table that looks complete
    assert main([str(out)]) == 0
    table = pd.read_csv(out / "results.csv", keep_default_na=False)
    assert set(table.variant) == {"base", "odd"}
    assert list(table[table.kind == "metric"].value.astype(float)) == [13.0, 13.0]
    page = (out / "summary.html").read_text()
    assert "&lt;b&gt;$HOME&lt;/b&gt;" in page
    assert "<b>" not in page


def test_changed_code_is_run_again_and_changed_wording_is_not(finished_sweep: Path) -> None:
    record = "runs/sweep/toy/smoke/odd/seed3/results.json"
    write_notebook(finished_sweep / "notebooks", body=BODY + "\n# a comment\n")
    assert "Nothing to be done" in snakemake(finished_sweep, "-n", record).stdout
    write_notebook(finished_sweep / "notebooks", body=BODY.replace("10.0 + seed", "11.0 + seed"))
    assert "rule run" in snakemake(finished_sweep, "-n", record).stdout


def test_keys_of_the_command_line_change_the_sweep_of_the_repository(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "workflow" / "config.yaml").read_text())
    for chapter in config["chapters"]:
        write_notebook(tmp_path / "notebooks", chapter)
    words = [
        word for word in command("-n", "--config", "seeds=[4]") if word not in ("--configfile", "sweep.yaml")
    ]
    planned = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=HANG).stdout
    for chapter in config["chapters"]:
        assert f"runs/sweep/{chapter}/smoke/base/seed4/results.json" in planned
    assert "seed0" not in planned


def test_a_killed_sweep_redoes_only_what_had_not_finished(sweep_folder: Path) -> None:
    gate = sweep_folder / "gate"
    write_config(sweep_folder, chapters={"toy": {"fast": {}, "slow": {"gate": str(gate)}}})
    screen = sweep_folder / "screen"
    with screen.open("w") as output:
        killed = subprocess.Popen(
            command(), cwd=sweep_folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        finished = sweep_folder / "runs/sweep/toy/smoke/fast/seed0/results.json"
        wait_for(
            lambda: "Finished jobid" in screen.read_text() and len(starts(sweep_folder)) == 2,
            alive=lambda: killed.poll() is None,
        )
    finally:
        os.killpg(killed.pid, signal.SIGKILL)  # no clean-up of any kind
        killed.wait()
    slow = sweep_folder / "runs/sweep/toy/smoke/slow/seed0"
    assert not (slow / "results.json").exists()
    (slow / "results.json").write_text("{}")  # as a tool that writes in place would have left it
    before = finished.stat().st_mtime_ns
    gate.touch()
    assert snakemake(sweep_folder, "--unlock").returncode == 0
    again = snakemake(sweep_folder)
    assert again.returncode == 0, again.stderr
    assert starts(sweep_folder) == {"toy/smoke/fast/seed0": 1, "toy/smoke/slow/seed0": 2}
    assert finished.stat().st_mtime_ns == before
    assert json.loads((slow / "results.json").read_text())["slug"] == "toy"
    assert len(pd.read_csv(sweep_folder / "runs/sweep/results.csv")) == 4


def test_a_mistake_in_the_sweep_ends_the_workflow_with_one_line(sweep_folder: Path) -> None:
    write_config(sweep_folder, chapters={"toi": {"base": {}}})
    done = snakemake(sweep_folder)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "sweep: chapter='toi' is not one of toy; did you mean 'toy'?"
    assert "Traceback" not in done.stderr
    assert not (sweep_folder / "runs").exists()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"profiles": ["smok"]},
            "profiles='smok' is not one of smoke, default, gpu, paper; did you mean 'smoke'?",
        ),
        ({"seeds": ["abc"]}, "seed='abc' is not a whole number from 0 to 4294967295"),
        ({"chapter": {"toy": {}}}, "unknown key 'chapter'; did you mean 'chapters'"),
        ({"chapters": {}}, "chapters={} is not a mapping"),
        ({"chapters": {"toy": {"../up": {}}}}, "names a folder"),
        ({"chapters": {"toy": {"base": [1]}}}, "not a mapping setting -> value"),
        ({"seeds": []}, "at least one entry"),
        ({"seeds": [1, 1]}, "listed twice"),
        ({"seeds": [-1]}, "not a whole number"),
        ({"accelerator": "tpu"}, "sweep: accelerator='tpu' is not one of"),
        ({"resources": {"smoke": {"memory": 1}}}, "is not one of threads, mem_mb, runtime, gpu"),
        ({"resources": {"smoke": {"mem_mb": "4G"}}}, "mem_mb='4G' is not a whole number"),
        ({"notebooks": "nowhere"}, "holds no notebook"),
        ({"notebooks": ""}, "notebooks='' is empty"),
        ({"notebooks": None}, "notebooks=None is not a folder's path"),
        ({"out": ""}, "out='' is empty"),
        ({"out": "/"}, "no folder of the sweep's own"),
        ({"out": "."}, "no folder of the sweep's own"),
        ({"out": "'runs'"}, "it should be sweep: out=runs"),
        ({"out": "file:///runs"}, "is a URL"),
        ({"chapters": {"toy": {"=1+1": {}}}}, "a letter or digit first"),
        ({"chapters": {"toy": {"..": {}}}}, "a letter or digit first"),
    ],
)
def test_every_key_is_checked(
    sweep_folder: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(sweep_folder)
    with pytest.raises(ParameterError) as caught:
        read_sweep({"chapters": {"toy": {"base": {}}}, **keys})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sweep_is_the_product_of_its_keys(sweep_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sweep_folder)
    write_notebook(sweep_folder / "notebooks", "other")
    sweep = read_sweep(
        {
            "chapters": {"toy": {"a": {"x": 1}, "b": None}, "other": None},
            "profiles": ["smoke", "default"],
            "seeds": [0, 7],
            "resources": {"default": {"gpu": 1}},
        }
    )
    assert len(sweep.jobs) == len(set(sweep.jobs)) == 3 * 2 * 2
    assert Job("toy", "default", "a", 7).folder == "toy/default/a/seed7"
    assert Job("other", "smoke", "base", 0) in sweep.jobs
    assert json.loads(sweep.parameters("toy", "a"))["overrides"] == {"x": 1}
    assert sweep.resources["default"]["gpu"] == 1
    assert sweep.resources["smoke"]["gpu"] == 0


def test_numbers_of_the_command_line_count_as_numbers(
    sweep_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sweep_folder)
    sweep = read_sweep({"chapters": {"toy": {}}, "seeds": ["0", "5"], "resources": {"gpu": {"gpu": "2"}}})
    assert [job.seed for job in sweep.jobs] == [0, 5]
    assert sweep.resources["gpu"]["gpu"] == 2


def test_the_sweep_of_the_repository_and_both_profiles_are_valid() -> None:
    config = yaml.safe_load((ROOT / "workflow" / "config.yaml").read_text())
    assert set(config) <= {"profiles", "seeds", "chapters"}
    for chapter in config["chapters"]:
        assert (ROOT / "notebooks" / f"{chapter}.py").is_file(), chapter
    slurm = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    assert slurm["executor"] == "slurm"
    for profile in ("default", "slurm"):
        text = (ROOT / f"workflow/profiles/{profile}/config.yaml").read_text()
        assert yaml.safe_load(text)["rerun-incomplete"] is True


def test_the_fingerprint_follows_the_profile_free_code(tmp_path: Path) -> None:
    write_notebook(tmp_path, "one")
    write_notebook(tmp_path, "two", body=BODY.replace("CHAPTER", "one") + "# wording\n")
    write_notebook(tmp_path, "three", body=BODY.replace("0.05", "0.06"))
    prints = {name: fingerprint(tmp_path / f"{name}.ipynb", "smoke") for name in ("one", "two", "three")}
    assert prints["one"] == prints["two"] != prints["three"]


def write_record(folder: Path, **changes: Any) -> Path:
    record = {
        "slug": "toy",
        "profile": "smoke",
        "seed": 0,
        "overrides": {},
        "metrics": {"gap": {"mean": 0.1 + 0.2, "low": 0.1, "high": 0.5, "values": [0.3], "unit": "nats"}},
        "verdicts": {"C1": "same direction"},
        **changes,
    }
    path = folder / "toy" / "smoke" / "base" / f"seed{changes.get('seed', 0)}" / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return path


def test_a_record_becomes_one_row_per_metric_and_verdict(tmp_path: Path) -> None:
    records = [write_record(tmp_path, seed=seed) for seed in (1, 0)]
    table = collect(records, tmp_path / "results.csv", tmp_path / "summary.html")
    assert list(table.seed) == [0, 0, 1, 1]
    stored = pd.read_csv(tmp_path / "results.csv")
    metric = stored[stored.kind == "metric"].iloc[0]
    assert metric.value == 0.1 + 0.2  # every digit survives
    assert (metric.low, metric.high, metric.unit) == (0.1, 0.5, "nats")
    assert list(stored[stored.kind == "verdict"].verdict) == ["same direction"] * 2
    assert not list(tmp_path.glob(".*tmp"))


def test_an_infinite_interval_survives_the_table(tmp_path: Path) -> None:
    metric = {"mean": 1.0, "low": None, "high": None, "values": [1.0], "unit": ""}
    row = read_record(write_record(tmp_path, metrics={"gap": metric}))[0]
    assert (row["low"], row["high"]) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "lacks slug"),
        ('{"slug": "toy"}', "lacks profile, seed, metrics, verdicts"),
        (
            '{"slug": "toy", "profile": "smoke", "seed": 5, "metrics": {}, "verdicts": {}}',
            "record of another run",
        ),
    ],
)
def test_a_broken_record_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    path = write_record(tmp_path)
    path.write_text(content)
    with pytest.raises(RecordError, match=words) as caught:
        read_record(path)
    assert "\n" not in str(caught.value)
    assert main([str(tmp_path)]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "results.csv").exists()


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "no results.json" in capsys.readouterr().err


GOOD = {"mean": 1.0, "low": None, "high": None, "values": [1.0], "unit": "nats"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": {'=HYPERLINK("http://x")': GOOD}}, "begins as a formula does"),
        ({"metrics": {"@SUM(A1)": GOOD}}, "begins as a formula does"),
        ({"metrics": {"\t=1": GOOD}}, "begins as a formula does"),
        ({"metrics": {"gap": {**GOOD, "unit": "=1+1"}}}, "begins as a formula does"),
        ({"verdicts": {"+C1": "not run"}}, "begins as a formula does"),
        ({"device": "=cmd|' /C calc'!A0"}, "begins as a formula does"),
        ({"commit": "-1+1"}, "begins as a formula does"),
        ({"verdicts": {"C1": "=1+1"}}, "C1: '=1+1' is no verdict"),
        ({"metrics": []}, "metrics is not a mapping of names"),
        ({"metrics": {"gap": 1.0}}, "gap is not a mapping of names"),
        ({"metrics": {"gap": {"low": 1.0}}}, "metric 'gap' has no mean"),
        ({"metrics": {"gap": {**GOOD, "mean": "1"}}}, "gap: mean is not a number"),
        ({"metrics": {"gap": {**GOOD, "mean": True}}}, "gap: mean is not a number"),
        ({"metrics": {"gap": {**GOOD, "mean": 10**400}}}, "gap: mean is too large a number"),
        ({"metrics": {"gap": {**GOOD, "unit": []}}}, "gap: unit is not a text"),
        ({"verdicts": ["not run"]}, "verdicts is not a mapping of names"),
        ({"overrides": [1]}, "overrides is not a mapping of names"),
        ({"wall_time_s": "1"}, "wall_time_s is not a number"),
        ({"device": {"name": "x"}}, "device is not a text"),
        ({"slug": ["toy"]}, "holds the record of another run"),
    ],
)
def test_a_record_that_no_run_writes_is_one_line_and_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    path = write_record(tmp_path, **changes)
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().err
    assert str(path) in printed
    assert words in printed
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "results.csv").exists()
    assert not (tmp_path / "summary.html").exists()


@pytest.mark.parametrize(
    "content",
    [b"[]", b"1", b"null", b"", b"{", b"[" * 100_000, b'{"a":' * 500 + b"1" + b"}" * 500, "é".encode("utf-16"), b"\xe9",
     b'{"slug": 1, "slug": 2}', b'{"metrics": NaN}', b"\x80\x04K\x01."],
)  # fmt: skip
def test_a_file_that_is_no_record_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = write_record(tmp_path)
    path.write_bytes(content)
    assert main([str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "results.csv").exists()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xe9", b"[" * 100_000, b'{"cells": 1, "nbformat": 4}', b"{}"]
)
def test_a_file_that_is_no_notebook_has_no_fingerprint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "toy.ipynb").write_bytes(content)
    with pytest.raises(ParameterError, match=r"toy\.ipynb") as caught:
        fingerprint(tmp_path / "toy.ipynb", "smoke")
    assert "\n" not in str(caught.value)
