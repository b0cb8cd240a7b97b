"""Peers of a benchmark in a process of their own, for packages that do not go together with ours.

A script in ``benchmarks/peers`` calls :func:`serve`, and :class:`PeerProcess` starts it with the peers' interpreter. One JSON object
a line goes each way. This module needs the standard library alone: the peers' environment lacks the packages of this collection.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
THREADS = dict.fromkeys(_VARIABLES, "1")
"""Environment of a process that computes on one thread."""

Makers: TypeAlias = Mapping[str, Callable[..., Callable[[], Any]]]


def serve(packages: Iterable[str], makers: Makers) -> int:
    """Answer requests until the input ends; the versions of ``packages`` come first.

    ``{"make", "name", "arguments"}`` prepares a piece of work and keeps it under its name, ``{"call"}`` does it and answers with its value,
    which has to be what JSON knows, and its seconds.
    """
    warnings.filterwarnings("ignore")
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not mix with the answers

    def answer(content: Mapping[str, Any]) -> None:
        print(json.dumps(content), file=out, flush=True)

    kept: dict[str, Callable[[], Any]] = {}
    answer({name: metadata.version(name) for name in packages})
    for line in sys.stdin:
        request = json.loads(line)
        if "make" in request:
            kept[request["name"]] = makers[request["make"]](**request["arguments"])
            answer({})
            continue
        start = time.perf_counter()
        value = kept[request["call"]]()
        answer({"seconds": time.perf_counter() - start, "value": value})
    return 0


class PeerProcess:
    """A script of peers, served by another interpreter on one thread. It ends with this process, however that comes about.

    Args:
        python: the interpreter. script: what calls :func:`serve`. packages: what has to be installed there.

    Raises:
        SystemExit: if the process cannot be started, or ends, as it does where a package is missing.
    """

    def __init__(self, python: Path, script: Path, packages: Iterable[str]) -> None:
        self.packages = list(packages)
        try:
            self.process = subprocess.Popen(
                [str(python), str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **THREADS},
            )
        except OSError as error:
            raise SystemExit(f"--peer-python {python}: cannot be started ({error.strerror})") from error
        self.versions = self._read()
        self._folder = tempfile.TemporaryDirectory()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the peers' process ended: are {', '.join(self.packages)} installed there?")
        return json.loads(line)

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def path(self, name: str) -> Path:
        """Where a file for the peers may be written."""
        return Path(self._folder.name) / name

    def make(self, name: str, make: str, **arguments: Any) -> None:
        """Prepare a piece of work under ``name``."""
        self._ask({"name": name, "make": make, "arguments": arguments})

    def value(self, name: str) -> Any:
        """The value of a piece of work."""
        return self._ask({"call": name})["value"]

    def seconds(self, name: str) -> float:
        """The seconds that a piece of work takes there."""
        return self._ask({"call": name})["seconds"]

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, every answer of which has been read."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait()
        self._folder.cleanup()
