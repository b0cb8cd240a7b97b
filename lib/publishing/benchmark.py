"""What the scripts in ``benchmarks/`` share: their options, timing in turns, intervals of ratios, the results file.

A script measures this collection's code and a peer on the same inputs in one run, checks that their results are equal
first, and writes rows of ratios that the book's benchmark page shows.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy import stats

from lib.publishing.peers import PeerProcess
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


def median_seconds(work: Work, turns: int) -> float:
    """The median of :func:`seconds` over several turns, after a first call that compiles."""
    work()
    return float(np.median([seconds(work) for _ in range(turns)]))


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
        dtype, device: columns of the rows that say nothing else.
    """

    def __init__(self, turns: int, dtype: str = "float32", device: str = CPU) -> None:
        self.turns, self.dtype, self.device = turns, dtype, device
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
        *,
        dtype: str | None = None,
        device: str | None = None,
        share: float = 1.0,
        clocked: bool = False,
        turns: int | None = None,
    ) -> list[float]:
        """Time both in turn and add the row.

        Args:
            what, peer, version, shape, bar, dtype, device: columns of the benchmark page.
            ours, theirs: the work that is compared.
            share: the part of our time that is compared, 1/K for one run of a stack of K.
            clocked: whether ``theirs`` returns its seconds in place of being timed here: a peer in another process, a stated time.
            turns: in place of the report's own.

        Returns:
            the ratios, one for each turn.
        """
        timed: Callable[[Work], float] = (lambda work: work()) if clocked else seconds
        ours(), theirs()  # compilation and first allocations
        pairs = []
        for turn in range(turns or self.turns):
            if turn % 2:
                other, mine = timed(theirs), seconds(ours)
            else:
                mine, other = seconds(ours), timed(theirs)
            pairs.append((mine * share, other))
        ratios = [other / mine for mine, other in pairs]
        self.add(what, peer, version, shape, ratios, bar, dtype=dtype, device=device)
        self.own(what, shape, [mine for mine, _ in pairs], peer=peer, dtype=dtype)
        return ratios

    def add(
        self,
        what: str,
        peer: str,
        version: str,
        shape: str,
        ratios: Sequence[float],
        bar: float | None,
        *,
        dtype: str | None = None,
        device: str | None = None,
    ) -> None:
        """Add a row of independent ``ratios``, peer over ours; the columns are those of :meth:`compare`.

        The bar is met where the low end of the interval meets it.
        """
        ratio, low, high = median_interval(ratios)
        columns = {
            "peer": peer,
            "version": version,
            "what": what,
            "shape": shape,
            "dtype": dtype or self.dtype,
        }
        judged = {"bar": bar, "meets_bar": None if bar is None else low >= bar}
        place = {"device": device or self.device}
        self.rows.append({**columns, **place, "ratio": ratio, "low": low, "high": high, **judged})
        print(f"{what}, {shape}: {peer} {ratio:.3g} [{low:.3g}, {high:.3g}], bar {bar}", flush=True)

    def own(
        self, what: str, shape: str, values: Sequence[float], *, peer: str = "", dtype: str | None = None
    ) -> None:
        """Add our own absolute time, the median of ``values`` in seconds."""
        columns = {"what": what, "peer": peer, "shape": shape, "dtype": dtype or self.dtype}
        milliseconds = 1e3 * float(np.median(values))
        self.times.append({**columns, "milliseconds": milliseconds})
        if not peer:
            print(f"{what}, {shape}: ours {milliseconds:.3g} ms", flush=True)

    def write(self, path: Path | None, packages: Iterable[str]) -> None:
        """Write what the benchmark page reads: the machine, rows of ratios, own absolute times, and the remarks as a note.

        Args:
            path: None writes nothing. packages: those whose versions stand beside the machine.
        """
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": machine(*packages), "rows": self.rows, "times": self.times}
        write_json(path, {**content, "note": " ".join(self.remarks)})


def check_difference(name: str, difference: float, tolerance: float) -> None:
    """Stop if results that must be equal are not.

    Raises:
        SystemExit: naming the difference, where it is above ``tolerance`` or not a number.
    """
    if not difference <= tolerance:
        raise SystemExit(
            f"{name}: results differ by {difference:.1e}, above {tolerance:.0e}; nothing is timed"
        )


def check_equal(name: str, ours: Any, theirs: Any, tolerance: float, *, each: bool = False) -> None:
    """Stop if tensors, arrays or numbers that must be equal are not.

    Args:
        tolerance: largest max |ours − theirs| / max |theirs|.
        each: each difference is compared with its own value of ``theirs`` instead.

    Raises:
        SystemExit: naming the difference; also for results of two shapes.
    """
    a, b = (_array(values) for values in (ours, theirs))
    if a.shape != b.shape:
        raise SystemExit(f"{name}: results have the shapes {a.shape} and {b.shape}; nothing is timed")
    scale = np.abs(b) if each else np.abs(b).max()
    check_difference(name, float((np.abs(a - b) / scale).max()), tolerance)


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu().double() if isinstance(values, torch.Tensor) else values, float)


def installed(module: str, distribution: str) -> tuple[ModuleType, str] | None:
    """A peer's module and version, or None with a line to standard error where it is not installed."""
    try:
        return importlib.import_module(module), metadata.version(distribution)
    except ImportError as error:
        print(f"{distribution} is not there ({error}): its rows are left out", file=sys.stderr)
        return None


def benchmark_parser(description: str) -> argparse.ArgumentParser:
    """The options of every script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--quick", action="store_true", help="small sizes and few turns")
    return parser


def add_peer_options(parser: argparse.ArgumentParser, packages: Iterable[str]) -> None:
    """The options of a script whose peers live in another environment."""
    parser.add_argument("--peer-python", type=Path, help=f"interpreter that has {', '.join(packages)}")
    parser.add_argument("--reference", type=Path, help="write the peers' values on the inputs of the tests")


def keeps_rows(options: argparse.Namespace, packages: Iterable[str]) -> bool:
    """Whether nothing is to be measured: without the peers, results that hold their rows are not written again.

    Raises:
        SystemExit: for values of peers that are not there.
    """
    if options.peer_python is not None:
        return False
    if options.reference:
        raise SystemExit("--reference needs --peer-python")
    print(f"no --peer-python: {', '.join(packages)} are skipped", file=sys.stderr)
    if options.out is None or not options.out.exists():
        return False
    print(f"{options.out} keeps its rows", file=sys.stderr)
    return True


def start_peers(
    options: argparse.Namespace, script: Path, packages: Iterable[str]
) -> AbstractContextManager[PeerProcess | None]:
    """The peers' process, as long as the context lasts; None without ``--peer-python``."""
    if options.peer_python is None:
        return nullcontext()
    return PeerProcess(options.peer_python, script, packages)


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
