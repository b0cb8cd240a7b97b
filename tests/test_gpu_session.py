"""A GPU session without a GPU: what starts when, what is stopped, what is kept. The jobs are scripts of a few lines."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from lib.profiles import ParameterError
from lib.publishing import gpu, gpu_session
from lib.publishing.gpu_archive import find_volumes, read_archive
from lib.publishing.gpu_session import Clock, Interrupted, Job, Session, main, pack, parse, plan
from lib.publishing.provenance import ROOT
from tests.waiting import HANG

OPENING = """
import json, os, pathlib, sys, time
name, folder, events = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
def say(text):
    with events.open("a") as file:
        file.write(f"{text} {name}\\n")
def wait(*texts):
    while not all(text in events.read_text().splitlines() for text in texts):
        time.sleep(0.01)
say("start")
"""
FINISH = (
    '\n(folder / "results.json").write_text("{}")\n(folder / f"{name}.ipynb").write_text("{}")\nsay("end")\n'
)
GATE = '\nsay("timed")\n(folder / "timed-done").touch()\nsys.stdin.readline()\nsay("go")\n'

Make = Callable[..., Job]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events"
    path.touch()
    return path


@pytest.fixture
def make(tmp_path: Path, events: Path) -> Make:
    def job(
        name: str, body: str = "", timed: bool = False, expected: float = 1.0, finish: str = FINISH
    ) -> Job:
        folder = tmp_path / "work" / "runs" / name
        command = [sys.executable, "-c", OPENING + body + finish, name, str(folder), str(events)]
        request = {"parameters": {"name": name}, "sources": {}}
        return Job(
            "runs", name, command, folder, ("results.json", f"{name}.ipynb"), request, timed, expected, False
        )

    return job


def hold(jobs: list[Job], side_by_side: int = 4, clock: Clock | None = None, **options: Any) -> Session:
    saves = options.pop("finished", lambda: None)
    session = Session(
        jobs,
        clock or Clock(0.0, HANG, now=itertools.count(0.0, 0.01).__next__),
        side_by_side,
        dict(os.environ),
        saves,
    )
    session.run()
    return session


def test_timed_work_is_alone_and_the_rest_side_by_side(make: Make, events: Path) -> None:
    # c and d end only when all four have gone on or started: they run side by side
    together = 'wait("go a", "go b", "start c", "start d")'
    jobs = [
        make("a", GATE + together, timed=True),
        make("b", GATE + together, timed=True),
        make("c", together),
        make("d", together),
    ]
    session = hold(jobs)
    assert session.status == dict.fromkeys("abcd", "done")
    lines = events.read_text().splitlines()
    assert lines[:4] == ["start a", "timed a", "start b", "timed b"]
    assert not [line for line in lines[:4] if line.startswith("go")]


def test_a_benchmark_is_alone_until_it_ends(make: Make, events: Path) -> None:
    hold([make("a", timed=True), make("b", GATE, timed=True), make("c")])
    lines = events.read_text().splitlines()
    assert lines[:4] == ["start a", "end a", "start b", "timed b"]


def test_no_more_side_by_side_than_fit(make: Make, events: Path) -> None:
    hold([make("a", GATE, timed=True), make("b"), make("c")], side_by_side=1)
    kinds = [line.split()[0] for line in events.read_text().splitlines()]
    assert kinds == ["start", "timed", "go", "end", "start", "end", "start", "end"]


def test_nothing_starts_that_cannot_end_within_the_budget(make: Make, events: Path) -> None:
    session = hold([make("long", expected=HANG + 1), make("short")])
    assert session.status["short"] == "done"
    assert session.status["long"].startswith("not started: 1801 s expected")
    assert "start long" not in events.read_text()


STUBBORN = """
import signal, subprocess
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(9999)"],
    stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
(folder / "child").write_text(str(child.pid))
say("waiting")
time.sleep(9999)
"""


def test_the_budget_ends_everything_descendants_included(
    make: Make, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_session, "GRACE_SECONDS", 0.2)
    over = ["waiting stubborn", "end quick"]
    clock = Clock(0.0, 100.0, lambda: 99.0 if all(x in events.read_text() for x in over) else 0.0)
    stubborn, quick, late = make("stubborn", STUBBORN), make("quick"), make("late", expected=1000.0)
    session = hold([stubborn, quick, late], clock=clock)
    assert session.status["stubborn"] == "stopped: the budget was over"
    assert session.status["quick"] == "done"
    assert session.status["late"].startswith("not started")
    pid = int((stubborn.folder / "child").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_job_over_its_own_limit_makes_room(make: Make) -> None:
    slow = make("slow", "time.sleep(9999)", timed=True)
    slow.limit = 0.0
    session = hold([slow, make("next")])
    assert session.status == {"slow": "stopped: longer than 0 s", "next": "done"}


def test_a_failure_is_told_in_its_last_line_and_stops_nothing(make: Make, tmp_path: Path) -> None:
    session = hold([make("bad", "raise SystemExit('no such thing')"), make("good")])
    assert session.status == {"bad": "failed: no such thing", "good": "done"}
    [path] = pack(tmp_path / "work", {"session": "s", "machine": {}}, tmp_path / "out")
    contents = read_archive([path])
    assert contents.files["logs/runs-bad.log"] == b"no such thing\n"
    assert set(contents.manifest["requests"]) == {"runs/good"}


def test_a_session_that_was_interrupted_goes_on(make: Make, events: Path) -> None:
    def interrupt() -> None:
        raise Interrupted("SIGTERM")

    with pytest.raises(Interrupted):
        hold([make("a"), make("b", "time.sleep(9999)")], side_by_side=1, finished=interrupt)
    session = hold([make("a"), make("b")])
    assert session.status == {"a": "done", "b": "done"}
    assert events.read_text().split("\n").count("start a") == 1


def test_what_was_made_for_another_request_is_made_again(make: Make, events: Path) -> None:
    hold([make("a")])
    changed = make("a")
    changed.request = {**changed.request, "sources": {"lib/x.py": "0"}}
    hold([changed])
    assert events.read_text().split("\n").count("start a") == 2


def test_a_record_without_its_page_is_kept_until_the_run_has_another(make: Make) -> None:
    job = make("a")
    hold([job])
    (job.folder / "a.ipynb").unlink()
    job.clear()
    assert (job.folder / "results.json").is_file()
    assert not job.done()


def test_a_job_ends_when_its_session_is_gone(tmp_path: Path) -> None:
    code = "import pathlib, sys, time; from lib.publishing.gpu_work import Gate; Gate(1, pathlib.Path(sys.argv[1])); time.sleep(9999)"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, cwd=ROOT)
    assert child.stdin is not None
    child.stdin.close()  # what the end of a killed session is to it
    assert child.wait(timeout=HANG) != 0


# ---------------------------------------------------------------- what there is to do


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Chapters a (timed, with a benchmark for the GPU), b, c and d; the book has a GPU record of a and of d."""
    for slug in "abcd":
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        (tmp_path / "notebooks" / f"{slug}.py").write_text(
            '# %% tags=["timed"]\n' if slug == "a" else "# %%\n"
        )
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "a.py").write_text("add_gpu_options(parser)\n")
    (tmp_path / "benchmarks" / "b.py").write_text("nothing for a GPU\n")
    for slug, seconds in (("a", 10), ("d", 300)):
        folder = tmp_path / "book" / "runs" / slug / "gpu"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps({"wall_time_s": seconds}))
    return tmp_path


def options(**changes: Any) -> Namespace:
    return Namespace(**{**vars(parse([])), **changes})


def test_what_the_book_lacks_comes_first_then_timed_work_then_the_longest(tree: Path) -> None:
    jobs = plan(options(), tree / "work", tree)
    assert [job.name for job in jobs] == ["benchmark a", "b", "c", "a", "d"]
    assert [job.expected for job in jobs[1:]] == [120.0, 120.0, 12.0, 360.0]
    assert [job.timed for job in jobs] == [True, False, False, True, False]


def test_chapters_are_chosen_by_name(tree: Path) -> None:
    assert [job.name for job in plan(options(chapters=["c"]), tree / "work", tree)] == ["c"]
    with pytest.raises(ParameterError, match=r"chapter 'e' has no notebook; there are a, b, c, d"):
        plan(options(chapters=["e"]), tree / "work", tree)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "MINUTES=0 is not between"),
        (["--profile", "gpus"], "profile='gpus' is not one of .*did you mean 'gpu'"),
        (["--overrides-file", "/nothing/here.json"], "here.json"),
        (["--chapters", "nothing_like_it"], "chapter 'nothing_like_it' has no notebook"),
    ],
)
def test_a_wrong_option_ends_with_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_real_chapters_say_what_they_time() -> None:
    jobs = plan(options(), ROOT / "runs" / "gpu")
    assert {job.slug for job in jobs if job.kind == "runs"} == {p.stem for p in ROOT.glob("notebooks/*.py")}
    assert {job.slug for job in jobs if job.kind == "runs" and job.timed} == {"minrnn"}
    assert {job.slug for job in jobs if job.kind == "benchmarks"} == {"minrnn", "adaptive_teachers"}


@pytest.mark.thorough
@pytest.mark.parametrize("slug", ["minrnn", "adaptive_teachers"])
def test_gpu_rows_without_a_gpu_end_with_one_line(slug: str) -> None:
    command = [sys.executable, f"benchmarks/{slug}.py", "--gpu-rows"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=hidden, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 1
    assert done.stderr == "--gpu-rows: no CUDA GPU is visible to torch; --device cpu rehearses\n"


# ---------------------------------------------------------------- the command itself


def test_wheels_of_packages_that_are_there_are_not_installed(tmp_path: Path) -> None:
    for name in (
        "nbclient-0.1-py3-none-any.whl",
        "jupyter_core-9-py3-none-any.whl",
        "surely_absent-1-py3-none-any.whl",
    ):
        (tmp_path / name).touch()
    assert [path.name for path in gpu.missing_wheels(tmp_path)] == ["surely_absent-1-py3-none-any.whl"]


def test_a_wheel_that_does_not_fit_ends_with_one_line(tmp_path: Path) -> None:
    wheel = tmp_path / "surely_absent-1-cp20-cp20-any.whl"
    wheel.touch()
    with pytest.raises(SystemExit, match="the wheels could not be installed: "):
        gpu.install([wheel], tmp_path / "packages")
    assert list((tmp_path / "packages").iterdir()) == []


@pytest.mark.thorough
def test_the_real_command_on_a_real_chapter(tmp_path: Path) -> None:
    """The chapter with timed cells, in its smallest profile on the CPU; the work is kept, so that a second command runs nothing."""
    words = [
        "--profile",
        "smoke",
        "--accelerator",
        "cpu",
        "--data",
        "standin",
        "--no-benchmarks",
        "--minutes",
        "60",
    ]
    words += ["--chapters", "minrnn", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "lib.publishing.gpu", *words]
    for expected in ("minrnn: timed cells done", "minrnn: done by an earlier session"):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG)
        assert done.returncode == 0, done.stdout + done.stderr
        assert expected in done.stdout
    contents = read_archive(find_volumes(tmp_path / "out"))
    assert contents.faults == []
    assert set(contents.files) == {
        "runs/minrnn/results.json",
        "runs/minrnn/minrnn.ipynb",
        "logs/runs-minrnn.log",
    }
    record = json.loads(contents.files["runs/minrnn/results.json"])
    assert (record["profile"], record["data_source"]) == ("smoke", "standin")
    notebook = json.loads(contents.files["runs/minrnn/minrnn.ipynb"])
    assert all("injected-parameters" not in cell["metadata"].get("tags", []) for cell in notebook["cells"])
    assert contents.manifest["machine"]["versions"]["torch"]
    assert contents.manifest["requests"]["runs/minrnn"]["sources"]["notebooks/minrnn.py"]
