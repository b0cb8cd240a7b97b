"""A GPU for some minutes: run what needs it within a budget, and bring home what finished.

``python3 -m lib.publishing.gpu`` (``make gpu``) starts this module after it has seen to the packages. It runs the rows of the
benchmarks that need a GPU and the profile ``gpu`` of the chapters, each in a process of its own:

1. what measures speed first and alone: the benchmarks, then the cells tagged ``timed`` of each chapter that has such cells (the rest of
   that chapter waits until all timed cells are through);
2. everything else side by side on the one GPU, longest first;
3. nothing is started that cannot end within the budget; what still runs when the budget ends is ended with all its processes.

What has no result in the book yet goes before what has one. Results gather in a work folder, and after each of them the archive is
written anew: a session that is killed leaves the archive of what had finished. Given again, the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO, Any

import psutil

from lib.atomic import write_text
from lib.profiles import PROFILE_NAMES, OneLineError, ParameterError, nearest
from lib.publishing.gpu_archive import ArchiveError, write_archive
from lib.publishing.gpu_work import TIMED_DONE, TIMED_TAG
from lib.publishing.provenance import ROOT, Kind, sources_of

WORK = ROOT / "runs" / "gpu"
OUT = ROOT / "runs" / "gpu-archive"
RECORD = "results.json"
REQUEST = "request.json"
HAS_GPU_ROWS = "add_gpu_options("
"""What stands in a benchmark script that has rows for a GPU."""

EXPECTED_SECONDS = {"smoke": 20.0, "default": 90.0, "gpu": 120.0, "paper": 36_000.0}
"""Expected duration of a run that no record tells: half of the bound that the smaller profiles have, so that it gets its chance."""

BENCHMARK_SHARE = 0.15
"""Largest share of the budget that one benchmark may take."""

PACKING_SECONDS = 15.0
GRACE_SECONDS = 5.0
HANGING_SECONDS = 300.0
CORES_PER_RUN = 3
GB_PER_RUN = 16.0
LOG_BYTES = 2**20
_TIMED = re.compile(rf'^# %%.*"{TIMED_TAG}"', re.MULTILINE)


class SessionError(OneLineError, RuntimeError):
    """A session that cannot begin."""


class Interrupted(BaseException):
    """SIGTERM or SIGINT has come; what finished is packed."""


@dataclass
class Job:
    """A chapter's run or a benchmark, and where it stands.

    Args:
        kind, slug: which one. command: what is started. outputs: the files that make it done, in the order in which they are written.
        request: what was asked for and from which sources; equal requests give the same result.
        timed: whether it measures speed and has to be alone (a chapter: until its gate).
        expected: seconds. known: whether the book has a result of it already.
    """

    kind: Kind
    slug: str
    command: list[str]
    folder: Path
    outputs: tuple[str, ...]
    request: dict[str, Any]
    timed: bool
    expected: float
    known: bool
    limit: float = float("inf")
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    held: bool = False
    released: bool = False

    @property
    def name(self) -> str:
        """For progress lines."""
        return self.slug if self.kind == "runs" else f"benchmark {self.slug}"

    @property
    def log(self) -> Path:
        """Standard output and standard error."""
        return self.folder.parent.parent / "logs" / f"{self.kind}-{self.slug}.log"

    @property
    def alone(self) -> bool:
        """Whether nothing else may run now."""
        return self.timed and not self.held and not self.released

    def asked_before(self) -> bool:
        """Whether the folder holds what was made for this very request."""
        try:
            return json.loads((self.folder / REQUEST).read_text(encoding="utf-8")) == self.request
        except (OSError, ValueError):
            return False

    def done(self) -> bool:
        """Whether this very request is finished: of its outputs the last is written last."""
        return self.asked_before() and all((self.folder / name).is_file() for name in self.outputs)

    def clear(self) -> None:
        """Make the folder ready for a run; a finished record of this very request stays until the run writes another."""
        if not self.asked_before():
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (TIMED_DONE, self.outputs[-1]):
            (self.folder / name).unlink(missing_ok=True)
        write_text(self.folder / REQUEST, json.dumps(self.request, indent=1))
        self.log.parent.mkdir(parents=True, exist_ok=True)


@dataclass
class Clock:
    """The budget.

    Args:
        started: seconds since the epoch. budget: seconds.
    """

    started: float
    budget: float
    now: Callable[[], float] = time.time

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.now() - self.started

    @property
    def left(self) -> float:
        """Seconds until work has to stop; packing comes after that."""
        return self.budget - min(PACKING_SECONDS, self.budget / 10) - self.elapsed

    def say(self, text: str) -> None:
        """Print a progress line with elapsed time and budget."""
        spent, whole = int(self.elapsed), int(self.budget)
        print(f"[{spent // 60:2d}:{spent % 60:02d} of {whole // 60}:{whole % 60:02d}] {text}", flush=True)


# ---------------------------------------------------------------- what there is to do


def chapters_with_profile(names: Sequence[str], root: Path = ROOT) -> list[str]:
    """The chapters named, or all that there are.

    Raises:
        ParameterError: for a chapter that has no notebook.
    """
    present = sorted(path.stem for path in (root / "notebooks").glob("*.py"))
    for name in names:
        if name not in present:
            raise ParameterError(
                f"chapter {name!r} has no notebook; there are {', '.join(present)}{nearest(name, present)}"
            )
    return list(dict.fromkeys(names)) or present


def expected_seconds(slug: str, profile: str, root: Path = ROOT) -> float:
    """How long a run may take: a fifth more than the book's record of this profile took, else a guess."""
    path = root / "book" / "runs" / slug / profile / RECORD
    if path.is_file():
        return 1.2 * float(json.loads(path.read_text(encoding="utf-8"))["wall_time_s"])
    return EXPECTED_SECONDS[profile]


def plan(options: argparse.Namespace, work: Path, root: Path = ROOT) -> list[Job]:
    """All jobs in the order in which they start: what the book lacks, then timed work, then the longest."""
    jobs = []
    for slug in chapters_with_profile(options.chapters, root):
        script = root / "benchmarks" / f"{slug}.py"
        if options.benchmarks and script.is_file() and HAS_GPU_ROWS in script.read_text(encoding="utf-8"):
            folder = work / "benchmarks" / slug
            device = "cuda" if options.accelerator == "gpu" else "cpu"
            command = [sys.executable, str(script), "--gpu-rows", "--device", device]
            command += ["--out", str(folder / RECORD), *(["--quick"] if options.quick else [])]
            limit = BENCHMARK_SHARE * 60 * options.minutes
            sources = sources_of("benchmarks", slug, root)
            request = {"quick": options.quick, "device": device, "sources": sources}
            known = (root / "benchmarks" / "results" / f"{slug}.gpu.json").is_file()
            job = Job("benchmarks", slug, command, folder, (RECORD,), request, True, min(60.0, limit), known)
            job.limit = limit
            jobs.append(job)
        folder = work / "runs" / slug
        parameters = {
            "profile": options.profile,
            "seed": 0,
            "accelerator": options.accelerator,
            "data": options.data,
            "overrides": options.overrides.get(slug, {}),
        }
        words = ["chapter", slug, "--out", str(folder), "--parameters", json.dumps(parameters)]
        command = [sys.executable, "-m", "lib.publishing.gpu_work", *words]
        request = {"parameters": parameters, "sources": sources_of("runs", slug, root)}
        known = (root / "book" / "runs" / slug / "gpu" / RECORD).is_file()
        timed = bool(_TIMED.search((root / "notebooks" / f"{slug}.py").read_text(encoding="utf-8")))
        expected = expected_seconds(slug, options.profile, root)
        jobs.append(
            Job("runs", slug, command, folder, (RECORD, f"{slug}.ipynb"), request, timed, expected, known)
        )
    return sorted(jobs, key=lambda job: (job.known, not job.timed, job.kind == "runs", -job.expected))


# ---------------------------------------------------------------- running it


@dataclass
class Session:
    """Runs jobs within the budget.

    Args:
        jobs: in the order in which they start. side_by_side: how many at once. environment: of their processes.
        finished: called after each job that ended well.
        status: job's name → how it ended, filled while it runs.
    """

    jobs: list[Job]
    clock: Clock
    side_by_side: int
    environment: dict[str, str]
    finished: Callable[[], None]
    status: dict[str, str] = field(default_factory=dict)
    running: list[Job] = field(default_factory=list)

    def run(self) -> None:
        """Until everything has ended or the budget has; leaves no process behind, however it ends."""
        waiting = []
        for job in self.jobs:
            if job.done():
                self.status[job.name] = "done"
                self.clock.say(f"{job.name}: done by an earlier session")
            else:
                waiting.append(job)
        try:
            while waiting or self.running:
                self._collect()
                self._start_what_can(waiting)
                if self.clock.left <= 0:
                    break
                time.sleep(0.1)
        finally:
            self._stop(self.running, "stopped: the budget was over" if self.clock.left <= 0 else "stopped")
            for job in waiting:
                self.status.setdefault(job.name, "not started: the session ended before its turn")

    def _start_what_can(self, waiting: list[Job]) -> None:
        while waiting:
            job = waiting[0]
            if job.expected > self.clock.left:
                waiting.pop(0)
                text = f"not started: {job.expected:.0f} s expected, {max(self.clock.left, 0):.0f} s left"
                self.status[job.name] = text
                self.clock.say(f"{job.name}: {text}")
                continue
            if any(other.alone for other in self.running) or len(self.running) >= self.side_by_side:
                if len(self.running) >= self.side_by_side and all(other.held for other in self.running):
                    self._release()
                return
            if job.timed and any(not other.held for other in self.running):
                return
            if not job.timed:
                self._release()
            self._start(waiting.pop(0))
        if not any(job.alone for job in self.running):
            self._release()

    def _start(self, job: Job) -> None:
        job.clear()
        log: IO[bytes]
        with job.log.open("wb") as log:
            job.process = subprocess.Popen(
                job.command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=self.environment, cwd=ROOT,
                start_new_session=True,
            )  # fmt: skip
        job.begun = self.clock.elapsed
        self.running.append(job)
        self.clock.say(f"{job.name}: started{', alone' if job.timed else ''}")

    def _release(self) -> None:
        for job in self.running:
            if job.held and job.process is not None and job.process.stdin is not None:
                job.held, job.released = False, True
                with contextlib.suppress(BrokenPipeError):  # it has ended; that is seen next
                    job.process.stdin.write(b"\n")
                    job.process.stdin.flush()
                self.clock.say(f"{job.name}: goes on beside the others")

    def _collect(self) -> None:
        for job in list(self.running):
            assert job.process is not None
            code, spent = job.process.poll(), self.clock.elapsed - job.begun
            if code is None:
                if spent > job.limit:
                    self._stop([job], f"stopped: longer than {job.limit:.0f} s")
                elif job.alone and (job.folder / TIMED_DONE).exists():
                    job.held = True
                    self.clock.say(f"{job.name}: timed cells done")
                continue
            self.running.remove(job)
            if code == 0 and job.done():
                self.status[job.name] = "done"
                self.clock.say(f"{job.name}: done in {spent:.0f} s")
            else:
                self.status[job.name] = f"failed: {last_line(job.log)}"
                self.clock.say(f"{job.name}: {self.status[job.name]}")
            self.finished()

    def _stop(self, jobs: Sequence[Job], why: str) -> None:
        families = [(job, end_softly(job.process)) for job in jobs if job.process is not None]
        everyone = [process for _, family in families for process in family]
        _, alive = psutil.wait_procs(everyone, timeout=GRACE_SECONDS)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=GRACE_SECONDS)
        for job, _ in families:
            assert job.process is not None
            job.process.wait()
            if job in self.running:
                self.running.remove(job)
            self.status[job.name] = "done" if job.done() else why
            self.clock.say(f"{job.name}: {self.status[job.name]}")


def end_softly(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Send SIGTERM to a process; returns it with all its descendants, in whatever process groups these are."""
    try:
        root = psutil.Process(process.pid)
        family = [root, *root.children(recursive=True)]
        root.terminate()
    except psutil.NoSuchProcess:
        return []
    return family


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


# ---------------------------------------------------------------- packing


def pack(work: Path, about: dict[str, Any], out: Path) -> list[Path]:
    """Write the archive of all that is in the work folder: records, benchmark rows, executed notebooks, logs.

    Raises:
        ArchiveError: if something found no room; the rest has been written.
    """
    records: dict[str, bytes] = {}
    notebooks: dict[str, bytes] = {}
    requests: dict[str, Any] = {}
    for path in sorted(work.glob(f"*/*/{RECORD}")):
        asked = json.loads((path.parent / REQUEST).read_text(encoding="utf-8"))
        finished = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
        key = path.parent.relative_to(work).as_posix()
        requests[key] = {**asked, "finished": finished}
        records[f"{key}/{RECORD}"] = path.read_bytes()
        notebooks |= {f"{key}/{page.name}": page.read_bytes() for page in path.parent.glob("*.ipynb")}
    logs = {f"logs/{log.name}": log.read_bytes()[-LOG_BYTES:] for log in sorted(work.glob("logs/*.log"))}
    return write_archive(out, {**records, **notebooks, **logs}, {**about, "requests": requests})


def machine(accelerator: str, environment: dict[str, str]) -> dict[str, Any]:
    """What a process on the accelerator says of it.

    Raises:
        SessionError: with that process's last line.
    """
    command = [sys.executable, "-m", "lib.publishing.gpu_work", "machine", "--accelerator", accelerator]
    try:
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=HANGING_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise SessionError(f"nothing can run here: no answer within {HANGING_SECONDS:.0f} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise SessionError(f"nothing can run here: {lines[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def environment_of_jobs(wheels: Path, scratch: Path, threads: int | None = None) -> dict[str, str]:
    """The environment of the jobs: no network is tried, nothing is written into HOME, data that travelled with the wheels is found."""
    fixed = {
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "agg",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "PYTHONUNBUFFERED": "1",
        "PAPERS_PROGRESS": "0",
        "IPYTHONDIR": str(scratch / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(scratch / "jupyter"),
    }
    environment = {**os.environ, **fixed}
    for variable in ("MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR"):
        environment.setdefault(variable, str(scratch / variable.lower()))
    if threads is not None:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    if any((wheels / "data").glob("*/*")):
        environment.setdefault("PAPERS_DATA", str((wheels / "data").resolve()))
    return environment


def abilities(about: dict[str, Any]) -> int:
    """How many runs fit side by side, by cores and by the GPU's memory."""
    by_memory = int(about["memory_gb"] / GB_PER_RUN) if "memory_gb" in about else about["cores"]
    return max(1, min(about["cores"] // CORES_PER_RUN, by_memory))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options.

    Raises:
        ParameterError: for a value that is not allowed.
    """
    parser = argparse.ArgumentParser(
        prog="python3 -m lib.publishing.gpu",
        description="Run what needs a GPU within a budget and pack what finished.",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="budget, packing included")
    parser.add_argument("--chapters", nargs="*", default=[], help="slugs; all chapters by default")
    parser.add_argument("--out", type=Path, default=OUT, help="where the archive goes")
    parser.add_argument("--work", type=Path, default=WORK, help="where results gather; kept between sessions")
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", help="wheels, and data/ beside them")
    parser.add_argument("--side-by-side", type=int, default=0, help="runs at once; 0: as many as fit")
    parser.add_argument("--no-benchmarks", dest="benchmarks", action="store_false")
    rehearsal = parser.add_argument_group("rehearsal, on a machine without a GPU")
    rehearsal.add_argument("--profile", default="gpu")
    rehearsal.add_argument("--accelerator", default="gpu")
    rehearsal.add_argument("--data", default="auto")
    rehearsal.add_argument("--quick", action="store_true", help="benchmarks: small sizes, few turns")
    rehearsal.add_argument("--overrides-file", type=Path, help="JSON: chapter to overrides of its settings")
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= 24 * 60:
        raise ParameterError(f"MINUTES={options.minutes:g} is not between 0 and {24 * 60}")
    if options.profile not in PROFILE_NAMES:
        raise ParameterError(
            f"profile={options.profile!r} is not one of {', '.join(PROFILE_NAMES)}{nearest(options.profile, PROFILE_NAMES)}"
        )
    options.chapters = [name for words in options.chapters for name in words.replace(",", " ").split()]
    options.overrides = {}
    if options.overrides_file is not None:
        try:
            options.overrides = json.loads(options.overrides_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ParameterError(f"--overrides-file {options.overrides_file}: {error}") from error
        if not isinstance(options.overrides, dict):
            raise ParameterError(f"--overrides-file {options.overrides_file}: not a mapping of chapters")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit status 0 if everything that was asked for is in the archive."""
    with tempfile.TemporaryDirectory(prefix="gpu-session-") as scratch:
        try:
            return hold(parse(arguments), Path(scratch))
        except (OneLineError, OSError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1


def hold(options: argparse.Namespace, scratch: Path) -> int:
    """Hold the session.

    Raises:
        OneLineError: if it cannot begin.
    """
    clock = Clock(options.started or time.time(), 60 * options.minutes)
    options.work = options.work.resolve()
    jobs = plan(options, options.work)
    environment = environment_of_jobs(options.wheels, scratch)
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    here = machine(options.accelerator, environment)
    many = options.side_by_side or abilities(here)
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    clock.say(f"{here['device']}; {many} side by side; {versions}")
    about = {
        "session": uuid.uuid4().hex,
        "minutes": options.minutes,
        "profile": options.profile,
        "machine": here,
    }
    faults: list[str] = []

    def save() -> None:
        faults.clear()
        try:
            pack(options.work, {**about, "status": session.status}, options.out)
        except ArchiveError as error:
            faults.append(str(error))

    threads = max(1, here["cores"] // many)
    session = Session(jobs, clock, many, environment_of_jobs(options.wheels, scratch, threads), save)

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # once is enough: what follows must not be cut short
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        session.run()
    except Interrupted as error:
        clock.say(f"{error}: what finished is packed")
    finally:
        save()
        for number, handler in before.items():
            signal.signal(number, handler)
    for path in sorted(options.out.glob("gpu-session*.tar.gz")):
        clock.say(f"{path} ({path.stat().st_size / 2**20:.1f} MiB)")
    lacking = {name: text for name, text in session.status.items() if text != "done"}
    clock.say(
        f"{len(session.status) - len(lacking)} of {len(jobs)} done"
        + "".join(f"\n  {n}: {t}" for n, t in lacking.items())
    )
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if lacking or faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
