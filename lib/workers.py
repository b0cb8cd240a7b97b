"""Independent trainings side by side on the cores of one machine."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

import torch

from lib.cores import available_cores, limit_threads

Result = TypeVar("Result")


def _prepare() -> None:
    """One thread a process, no longer than its parent, and no bars: they have no place in a page."""
    _end_with_parent()
    limit_threads(1)
    os.environ["PAPERS_PROGRESS"] = "0"


def _end_with_parent() -> None:
    """End this worker when its parent ends, however that comes about; a killed parent cannot tell its workers.

    The end of the parent closes its end of a pipe. A thread waits for that. On Linux the system also kills the worker
    by itself, for a thread does not get its turn inside compiled code that holds the interpreter's lock. (``PR_SET_PDEATHSIG``
    would kill the worker already when the thread ends that started it.)
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)


def _end_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


class Workers:
    """Runs independent jobs in ``n`` processes of one thread each, or right here where ``n`` is 1.

    Small models gain nothing from a second thread and everything from a second process. Results do not depend on ``n``, since
    every job seeds itself.

    Args:
        n: number of processes; 0 means one for each of :func:`lib.cores.available_cores`, and 1 on a GPU run.

    Raises:
        ValueError: for a negative number.
    """

    def __init__(self, n: int, device: torch.device | None = None) -> None:
        if n < 0:
            raise ValueError(f"workers={n} must not be negative")
        on_gpu = device is not None and device.type != "cpu"
        self.n = (1 if on_gpu else available_cores()) if n == 0 else n
        self._pool: ProcessPoolExecutor | None = None
        if self.n > 1:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.n, context, initializer=_prepare)

    def start(self, function: Callable[..., Result], jobs: Iterable[tuple[Any, ...]]) -> Pending[Result]:
        """Queue ``function(*job)`` for every job and return at once; longest jobs first use the processes best.

        Args:
            function: importable by name, so that another process finds it.
            jobs: for each job its arguments; a dictionary in the last place holds keyword arguments. Picklable.
        """
        calls = [(job[:-1], job[-1]) if job and isinstance(job[-1], dict) else (job, {}) for job in jobs]
        if self._pool is None:
            return Pending([_done(function(*positional, **named)) for positional, named in calls])
        return Pending([self._pool.submit(function, *positional, **named) for positional, named in calls])

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class Pending(list["Future[Result]"]):
    """Jobs under way."""

    def results(self) -> list[Result]:
        """Wait for all jobs; an exception in a job is raised here."""
        return [future.result() for future in self]


def _done(value: Result) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(value)
    return future
