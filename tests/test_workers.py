"""Jobs side by side: order, errors, and what is not allowed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from threadpoolctl import threadpool_info

from lib.cores import available_cores
from lib.workers import Workers
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent


def test_workers_keep_the_order_and_pass_errors_on() -> None:
    for n in (1, 2):
        workers = Workers(n)
        assert workers.start(divmod, [(7, 2), (9, 4), (1, 1)]).results() == [(3, 1), (2, 1), (1, 0)]
        assert workers.start(int, [("11", {"base": 2})]).results() == [3]
        if n == 2:  # with one worker the error is raised at once
            with pytest.raises(ZeroDivisionError):
                workers.start(divmod, [(1, 0)]).results()
        workers.close()


def test_how_many_workers_there_are() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Workers(-1)
    assert Workers(0, torch.device("cuda")).n == 1  # a GPU is not shared
    assert Workers(0, torch.device("cpu")).n == available_cores() >= 1


RUN = """
import ctypes, os, sys
from pathlib import Path
from lib.workers import Workers

def hold(folder, at):
    Path(folder, f"{os.getpid()}.pid").touch()
    if at == "lock":
        ctypes.PyDLL(None).sleep(100_000)  # compiled code that never gives the interpreter's lock back
    while True:
        pass

if __name__ == "__main__":
    workers = Workers(2)
    workers.start(hold, [(sys.argv[1], "lock"), (sys.argv[1], "loop")])
    workers.start(hold, [(sys.argv[1], "queued")])
    ctypes.CDLL(None).pause()
"""


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    parent = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2, alive=lambda: parent.poll() is None)
        family = psutil.Process(parent.pid).children(recursive=True)
        assert {int(path.stem) for path in tmp_path.glob("*.pid")} <= {child.pid for child in family}
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not any(is_alive(child) for child in family))


def threads() -> tuple[str | None, int, int]:
    pools = [pool["num_threads"] for pool in threadpool_info()]
    return os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads(), max(pools)


def test_a_worker_has_one_thread_for_everything() -> None:
    workers = Workers(2)
    assert workers.start(threads, [()]).results() == [("1", 1, 1)]
    workers.close()
