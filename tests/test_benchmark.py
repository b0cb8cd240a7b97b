"""What the benchmark scripts share."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.publishing import benchmark
from lib.publishing.benchmark import (
    Report,
    add_peer_options,
    benchmark_parser,
    check_equal,
    installed,
    keeps_rows,
    median_interval,
    seconds,
)
from lib.publishing.pages.benchmarks import read_benchmark
from lib.publishing.peers import PeerProcess
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent


def test_the_interval_of_a_median_by_order_statistics() -> None:
    # n = 9: P(both ends miss) = 2 P(Binomial(9, 1/2) <= 1) = 2 * 10 / 512 = 3.9 %, so the second and the eighth value
    assert median_interval(list(range(9, 0, -1))) == (5.0, 2, 8)
    assert median_interval([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    with pytest.raises(ValueError, match="at least one"):
        median_interval([])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_the_interval_holds_the_median(values: list[float]) -> None:
    median, low, high = median_interval(values)
    assert min(values) <= low <= median <= high <= max(values)


def test_seconds_are_those_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count()
    monkeypatch.setattr(
        benchmark.time, "perf_counter", lambda: next(now)
    )  # each look at the clock is a second
    calls: list[None] = []
    assert seconds(lambda: calls.append(None), at_least=5) == 1.0
    assert len(calls) == 5


def test_a_report_divides_the_peers_time_by_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "seconds", lambda work: work())
    report = Report(turns=4)
    ratios = report.compare("scan", "peer", "1", "n = 2", lambda: 0.5, lambda: 2.0, 3.0, share=1 / 8)
    assert ratios == [32.0] * 4
    [row], [time_row] = report.rows, report.times
    assert (row["ratio"], row["low"], row["high"]) == (32.0, 32.0, 32.0)
    assert row["meets_bar"] is True
    assert time_row["milliseconds"] == 62.5
    report.add(
        "scan", "other", "1", "n = 2", [2.0, 4.0, 5.0], 3.0
    )  # the low end of the interval decides, not the median
    assert report.rows[1]["meets_bar"] is False
    report.add("scan", "other", "1", "n = 2", [1.0, 2.0, 3.0], None)
    assert report.rows[2]["meets_bar"] is None


def test_nothing_is_timed_where_results_differ() -> None:
    ours, theirs = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1])
    check_equal("close", ours, theirs, 0.1)
    with pytest.raises(SystemExit, match=r"far: results differ by 4\.8e-02, above 1e-02; nothing is timed"):
        check_equal("far", ours, theirs, 0.01)
    with pytest.raises(SystemExit):
        check_equal("not a number", ours * float("nan"), theirs, 0.1)
    with pytest.raises(SystemExit, match=r"shapes \(2,\) and \(1,\)"):
        check_equal("one of two", ours, [2.0], 1.0)
    check_equal("relative to the largest", [1.0, 100.0], [1.1, 100.0], 0.01)
    with pytest.raises(SystemExit, match="each: results differ by"):
        check_equal("each", [1.0, 100.0], [1.1, 100.0], 0.01, each=True)


def test_a_peer_that_says_its_own_seconds_is_not_timed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "seconds", lambda work: work())
    report = Report(turns=3, dtype="float64")
    told = iter([9.0, 2.0, 4.0, 6.0])  # the first is the call that compiles
    report.compare("x", "peer", "1", "n", lambda: 2.0, lambda: next(told), None, clocked=True)
    [row], [time_row] = report.rows, report.times
    assert (row["ratio"], row["low"], row["high"], row["dtype"]) == (2.0, 1.0, 3.0, "float64")
    assert time_row["milliseconds"] == 2000.0


def test_a_peer_that_is_absent_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = installed("torch", "torch")
    assert found is not None
    assert found == (torch, torch.__version__)
    assert installed("surely_absent", "surely-absent") is None
    assert capsys.readouterr().err.startswith("surely-absent is not there")


def test_without_its_peers_a_script_writes_no_shorter_results(tmp_path: Path) -> None:
    parser = benchmark_parser("x")
    add_peer_options(parser, ["peer"])
    out = ["--out", str(tmp_path / "x.json")]
    assert not keeps_rows(parser.parse_args(out), ["peer"])
    (tmp_path / "x.json").write_text("{}")
    assert keeps_rows(parser.parse_args(out), ["peer"])
    assert not keeps_rows(parser.parse_args([*out, "--peer-python", "python"]), ["peer"])
    with pytest.raises(SystemExit, match="needs --peer-python"):
        keeps_rows(parser.parse_args(["--reference", "y.json"]), ["peer"])


SERVER = """
import os
from lib.publishing.peers import serve
def shout(text):
    print("a library says something")
    return lambda: [text.upper(), os.environ["OMP_NUM_THREADS"]]
raise SystemExit(serve(["numpy"], {"shout": shout}))
"""
CLIENT = """
import sys, time
from pathlib import Path
from lib.publishing.peers import PeerProcess
with PeerProcess(Path(sys.executable), Path(sys.argv[2]), ["numpy"]) as peers:
    assert set(peers.versions) == {"numpy"}
    peers.make("a", "shout", text="x")
    peers.make("b", "shout", text="y")
    assert [peers.value(name) for name in "aba"] == [["X", "1"], ["Y", "1"], ["X", "1"]]
    assert peers.seconds("a") >= 0
    print(peers.process.pid, flush=True)
    if sys.argv[1] == "wait":
        time.sleep(100_000)
"""


def is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("ending", ["wait", "close"])
def test_the_peers_process_ends_with_ours(ending: str, tmp_path: Path) -> None:
    script, server = tmp_path / "bench.py", tmp_path / "peers.py"
    script.write_text(CLIENT)
    server.write_text(SERVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    ours = subprocess.Popen(
        [sys.executable, str(script), ending, str(server)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert ours.stdout is not None
    peers = int(ours.stdout.readline())
    if ending == "wait":
        assert psutil.pid_exists(peers)
        ours.kill()
    assert ours.wait() == (-signal.SIGKILL if ending == "wait" else 0)
    wait_for(lambda: not psutil.pid_exists(peers) or is_zombie(peers))
    ours.stdout.close()


def test_a_peers_process_that_ends_is_one_line(tmp_path: Path) -> None:
    script = tmp_path / "peers.py"
    script.write_text("raise SystemExit(1)")
    with pytest.raises(SystemExit, match="ended: are some, packages installed there"):
        PeerProcess(Path(sys.executable), script, ["some", "packages"])
    with pytest.raises(SystemExit, match="absent: cannot be started") as caught:
        PeerProcess(tmp_path / "absent", script, ["some"])
    assert "\n" not in str(caught.value)


def test_results_are_read_by_the_page(tmp_path: Path) -> None:
    report = Report(turns=1)
    report.add("what", "p", "1", "n = 2", [2.0], 1.0)
    report.own("what", "n = 2", [0.5])
    report.remarks += ["One.", "Two."]
    report.write(None, ["torch"])
    assert list(tmp_path.iterdir()) == []
    report.write(tmp_path / "new" / "x.json", ["torch"])
    content = read_benchmark(tmp_path / "new" / "x.json")
    assert content["machine"]["torch"]
    assert content["rows"][0]["ratio"] == 2.0
    assert content["times"][0]["milliseconds"] == 500.0
    assert content["note"] == "One. Two."


SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_writes_through_the_one_report(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert "    report.write(options.out, [" in text
    assert "benchmark_parser(" in text
    for own in ("class Report", "json.dump", "ArgumentParser(", "meets_bar", "perf_counter() - start) >"):
        assert own not in text
