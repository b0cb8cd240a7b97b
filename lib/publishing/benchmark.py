"""What the scripts in ``benchmarks/`` share: timing in turns, intervals of ratios, the machine, the results file.

A script measures this collection's code and a peer on the same inputs in one run, checks that their results are equal
first, and writes rows of ratios that the book's benchmark page shows.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from lib.records import device_name, write_json

Work = Callable[[], Any]
CPU = "CPU, 1 thread"


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


class Report:
    """Rows of ratios, our own absolute times, and remarks computed from them.

    Args:
        turns: how often peer and ours are timed in turn.
    """

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.rows: list[dict[str, Any]] = []
        self.times: list[dict[str, Any]] = []
        self.remarks: list[str] = []

    def compare(
        self,
        what: str,
        peer: str,
        version: str,
        shape: str,
        ours: Work,
        theirs: Work,
        bar: float | None,
        dtype: str = "float32",
        device: str = CPU,
        *,
        share: float = 1.0,
        turns: int | None = None,
    ) -> float:
        """Time both in turn and add the row.

        Args:
            what, peer, version, shape, bar, dtype, device: columns of the benchmark page.
            ours, theirs: the work that is compared.
            share: the part of our time that is compared, 1/K for one run of a stack of K.
            turns: in place of the report's own.

        Returns:
            our median seconds, before ``share``.
        """
        ours(), theirs()  # compilation and first allocations
        pairs = []
        for turn in range(turns or self.turns):
            if turn % 2:
                other, mine = seconds(theirs), seconds(ours)
            else:
                mine, other = seconds(ours), seconds(theirs)
            pairs.append((mine, other))
        ratios = [other / (mine * share) for mine, other in pairs]
        self.add(what, peer, version, shape, ratios, bar, dtype, device)
        median = float(np.median([mine for mine, _ in pairs]))
        own = {"what": what, "peer": peer, "shape": shape, "dtype": dtype}
        self.times.append({**own, "milliseconds": 1e3 * median * share})
        return median

    def add(
        self,
        what: str,
        peer: str,
        version: str,
        shape: str,
        ratios: Sequence[float],
        bar: float | None,
        dtype: str = "float32",
        device: str = CPU,
    ) -> None:
        """Add a row of independent ``ratios``, peer over ours; the columns are those of :meth:`compare`.

        The bar is met where the low end of the interval meets it.
        """
        ratio, low, high = median_interval(ratios)
        columns = {"peer": peer, "version": version, "what": what, "shape": shape, "dtype": dtype}
        judged = {"bar": bar, "meets_bar": None if bar is None else low >= bar}
        self.rows.append({**columns, "device": device, "ratio": ratio, "low": low, "high": high, **judged})
        print(f"{what}, {shape}, {dtype}: {peer} {ratio:.3g} [{low:.3g}, {high:.3g}], bar {bar}", flush=True)


def check_equal(name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Stop if results that must be equal are not: max |ours − theirs| / max |theirs|.

    Raises:
        SystemExit: naming the difference.
    """
    difference = float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())
    if not difference <= tolerance:
        raise SystemExit(
            f"{name}: results differ by {difference:.1e}, above {tolerance:.0e}; nothing is timed"
        )


def add_gpu_options(parser: argparse.ArgumentParser) -> None:
    """The options of a script that has rows for a GPU; ``make gpu`` knows such a script by the first."""
    parser.add_argument(
        "--gpu-rows", action="store_true", help="measure the rows that need a GPU and no others"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal")


def check_device(device: str) -> None:
    """Stop if the GPU that is asked for is not there.

    Raises:
        SystemExit: with one line.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--gpu-rows: no CUDA GPU is visible to torch; --device cpu rehearses")


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


class PeerProcess:
    """A benchmark script served by another interpreter, whose packages do not go together with ours.

    ``script --serve`` writes its packages' versions first and then answers requests, one JSON object a line. It ends with its input, which
    ends with this process, however that comes about.

    Args:
        python: the interpreter. script: the benchmark. packages: what has to be installed there.

    Raises:
        SystemExit: if the process ends, as it does where a package is missing.
    """

    def __init__(self, python: Path, script: str, packages: Sequence[str]) -> None:
        self.packages = packages
        command = [str(python), str(Path(script).resolve()), "--serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self._read()
        self._folder = tempfile.TemporaryDirectory()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the peers' process ended: are {', '.join(self.packages)} installed there?")
        return json.loads(line)

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def path(self, name: str) -> Path:
        """Where a file for the peers may be written."""
        return Path(self._folder.name) / name

    def close(self) -> None:
        """End the process, every answer of which has been read."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait()
        self._folder.cleanup()
