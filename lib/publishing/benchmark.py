"""What the scripts in ``benchmarks/`` share: timing in turns, intervals of ratios, the machine, the results file.

A script measures this collection's code and a peer on the same inputs in one run, checks that their results are equal
first, and writes rows of ratios that the book's benchmark page shows.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from lib.records import device_name, write_json

Work = Callable[[], Any]


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Work, at_least: float = 0.03) -> float:
    """Wall time of one call of ``work`` in seconds, averaged over as many calls as fill ``at_least`` seconds."""
    synchronise()
    calls, start = 0, time.perf_counter()
    while True:
        work()
        calls += 1
        synchronise()
        elapsed = time.perf_counter() - start
        if elapsed >= at_least:
            return elapsed / calls


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median of independent ``values`` and its distribution-free 95 % interval (the range where there are few).

    Raises:
        ValueError: if there is no value.
    """
    if not len(values):
        raise ValueError("median_interval needs at least one value")
    ordered = sorted(values)
    rank = max(int(stats.binom.ppf(0.025, len(ordered), 0.5)) - 1, 0)
    return float(np.median(ordered)), ordered[rank], ordered[-1 - rank]


def machine(*packages: str) -> dict[str, Any]:
    """CPU model, cores, threads, GPU, and the versions of Python and ``packages``; no host name."""
    described: dict[str, Any] = {
        "CPU": device_name(torch.device("cpu")).removeprefix("CPU "),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        described["GPU"] = torch.cuda.get_device_name()
    return {**described, "Python": platform.python_version(), **{p: metadata.version(p) for p in packages}}


def write_results(
    path: Path, about: Mapping[str, Any], rows: Sequence[Any], times: Sequence[Any], note: str
) -> None:
    """Write what the benchmark page reads: the machine, rows of ratios, own absolute times, and a note."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"machine": dict(about), "rows": list(rows), "times": list(times), "note": note})
