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
    check_equal,
    machine,
    median_interval,
    seconds,
    write_results,
)
from lib.publishing.pages.benchmarks import read_benchmark
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
    spent = report.compare("scan", "peer", "1", "n = 2", lambda: 0.5, lambda: 2.0, 3.0, share=1 / 8)
    assert spent == 0.5
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


PEERS = """
import json, sys, time
from pathlib import Path
if "--serve" in sys.argv:
    print(json.dumps({"peer": "1"}), flush=True)
    for line in sys.stdin:
        print(line, end="", flush=True)
else:
    from lib.publishing.benchmark import PeerProcess
    peers = PeerProcess(Path(sys.executable), __file__, ["peer"])
    assert peers.ask({"x": 1}) == {"x": 1}
    print(peers.process.pid, flush=True)
    if sys.argv[1] == "wait":
        time.sleep(100_000)
    peers.close()
"""


def is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("ending", ["wait", "close"])
def test_the_peers_process_ends_with_ours(ending: str, tmp_path: Path) -> None:
    script = tmp_path / "bench.py"
    script.write_text(PEERS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    ours = subprocess.Popen(
        [sys.executable, str(script), ending], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert ours.stdout is not None
    peers = int(ours.stdout.readline())
    if ending == "wait":
        assert psutil.pid_exists(peers)
        ours.kill()
    assert ours.wait() == (-signal.SIGKILL if ending == "wait" else 0)
    wait_for(lambda: not psutil.pid_exists(peers) or is_zombie(peers))
    ours.stdout.close()


def test_results_are_read_by_the_page(tmp_path: Path) -> None:
    row = {"peer": "p", "version": "1", "shape": "n = 2", "ratio": 2.0, "low": 1.5, "high": 2.5}
    write_results(
        tmp_path / "new" / "x.json", machine("torch"), [{**row, "bar": 1.0, "meets_bar": True}], [], "a note"
    )
    content = read_benchmark(tmp_path / "new" / "x.json")
    assert content["machine"]["torch"]
    assert content["rows"][0]["ratio"] == 2.0
