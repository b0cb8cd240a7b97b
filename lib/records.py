"""The run record: parameters in, measurements and verdicts out, written once as ``results.json``.

A notebook opens with :meth:`Run.start`, calls :meth:`Run.measure` for every metric that its ledger names, and closes with
:meth:`Run.finish`. The record holds what is needed to repeat and to trust the numbers: parameters, versions, commit, device,
data source, wall time, peak memory, the value of each metric for each seed, and the verdicts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from lib import claims, datasets
from lib.atomic import write_text
from lib.checkpoints import discard
from lib.claims import Measurement, Source, Verdict
from lib.cores import available_cores, limit_threads
from lib.figures import Rendered, table
from lib.injected_parameters import check_injected
from lib.plain_files import read_text
from lib.profiles import ACCELERATORS, ParameterError, check_seed, choose, fields_of, resolve, values_of
from lib.statistics import mean_interval
from lib.typed_paths import typed_path

ROOT = Path(__file__).resolve().parent.parent
RECORD_NAME = "results.json"
RUNS_VARIABLE = "PAPERS_RUNS"
PACKAGES = ("torch", "lightning", "numpy", "scipy", "numba", "pandas", "causal-learn", "gymnasium", "triton")
STANDIN_NOTICE = (
    "NOTICE: the real data could not be had; this run uses the built-in STAND-IN. "
    "Claims that need real data are not judged. Run 'make data' to get it."
)

Settings = TypeVar("Settings")
Part = TypeVar("Part")


@dataclasses.dataclass
class Run(Generic[Settings]):
    """One execution of a chapter. Build it with :meth:`start`."""

    slug: str
    profile: str
    settings: Settings
    seed: int
    device: torch.device
    data: str
    out_dir: Path
    overrides: dict[str, Any]
    run_id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    notebook: str | None = None
    data_source: str = "generated"
    notices: list[str] = dataclasses.field(default_factory=list)
    measurements: dict[str, Measurement] = dataclasses.field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    started: float = dataclasses.field(default_factory=time.perf_counter)

    @classmethod
    def start(
        cls,
        slug: str,
        profiles: Mapping[str, Settings],
        *,
        profile: str = "default",
        seed: int = 0,
        accelerator: str = "auto",
        data: str = "auto",
        out_dir: str | os.PathLike[str] | None = None,
        overrides: Mapping[str, Any] | str | None = None,
    ) -> Run[Settings]:
        """Check the notebook's parameters, seed every generator and make the output folder.

        Args:
            slug: the chapter.
            profiles: profile name → settings.
            profile, seed, accelerator, data, out_dir, overrides: the notebook's parameters cell. ``out_dir=None`` is the
                folder of papermill's output notebook where papermill names it (``--inject-output-path``), and else a folder
                of the run's own, ``runs/<slug>/<profile>-seed<seed>-<run id>``; ``PAPERS_RUNS`` names another place than
                ``runs``. In both ``~`` is the home folder.

        Raises:
            ParameterError: for a wrong value, and for an injected parameter that the notebook does not declare; nothing has been
                written then.
        """
        check_injected(values_of(next(iter(profiles.values()))))
        settings = resolve(profiles, profile, overrides)
        check_seed(seed)
        choose("data", data, datasets.DATA_POLICIES)
        device = choose_device(accelerator)
        unchanged = values_of(profiles[profile])
        changes = {name: value for name, value in values_of(settings).items() if value != unchanged[name]}
        if out_dir is not None and not isinstance(out_dir, (str, os.PathLike)):
            raise ParameterError(f"out_dir={out_dir!r} is not a folder's path or None")
        run_id, notebook = uuid.uuid4().hex, papermill_output()
        if out_dir is not None:
            folder = typed_path("out_dir", out_dir)
        elif notebook is not None:
            folder = notebook.parent
        else:
            folder = runs_folder() / slug / f"{profile}-seed{seed}-{run_id[:8]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ParameterError(f"out_dir={str(folder)!r} cannot be made ({error.strerror})") from error
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:  # now, and not when the run is over
            raise ParameterError(f"out_dir={str(folder)!r} cannot be written ({error.strerror})") from error
        limit_threads()
        seed_everything(seed)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        name = notebook.name if notebook is not None else None
        run = cls(slug, profile, settings, seed, device, data, folder.resolve(), changes, run_id, name)
        run.note_missing_cache()
        return run

    def note_missing_cache(self) -> None:
        """Say, once, where a read-only installation compiles its functions in every process again."""
        if os.access(ROOT / "lib", os.W_OK):
            return  # compiled code lies beside the source; numba is slow to import, so it is not asked
        from lib.compilation import notice

        if notice():
            self.notices.append(notice())
            print(notice())

    def of(self, kind: type[Part]) -> Part:
        """The settings of the experiment whose settings are a ``kind``.

        Raises:
            LookupError: if there is none.
        """
        return self.settings.of(kind)  # type: ignore[attr-defined]

    @property
    def checkpoint_every(self) -> int | None:
        """Steps between checkpoints of a training of this run; None for none."""
        return values_of(self.settings)["checkpoint_every"]

    def seeds(self, n: int) -> list[int]:
        """The ``n`` seeds of this run's repetitions: seed, seed + 1, …"""
        return [self.seed + i for i in range(n)]

    def fetch(self, *names: str) -> list[Path] | None:
        """Return verified paths of registry files, or None where the built-in stand-in is to be used.

        Prints a notice that cannot be missed when a run that asked for ``auto`` falls back to the stand-in.

        Raises:
            DataError: for a corrupt file, or with ``data="real"`` one that cannot be had.
        """
        paths = datasets.locate(names, self.data)
        if paths is not None:
            if self.data_source != "standin":
                self.data_source = "real"
            return paths
        self.data_source = "standin"
        if self.data == "auto" and STANDIN_NOTICE not in self.notices:
            self.notices.append(STANDIN_NOTICE)
            print(STANDIN_NOTICE)
        return None

    def measure(
        self,
        name: str,
        values: float | Sequence[float] | np.ndarray,
        *,
        unit: str = "",
        interval: tuple[float, float] | None = None,
        varies: Source | None = None,
    ) -> Measurement:
        """Record a metric.

        Args:
            name: the metric's name, as the ledger spells it.
            values: an exact number, or one value per seed (n,), summarised by its mean and 95 % t-interval.
            unit: shown beside the value.
            interval: (low, high) where the interval is computed otherwise than by t over ``values``.
            varies: see :class:`Measurement`; by default ``nothing`` for an exact number and ``training`` for anything else.

        Raises:
            ValueError: for an empty or non-finite value, a repeated name, or an interval that misses its mean.
        """
        if name in self.measurements:
            raise ValueError(f"metric {name!r} was measured already")
        array = np.atleast_1d(np.asarray(values, dtype=float)).ravel()
        if array.size == 0 or not np.isfinite(array).all():
            raise ValueError(f"metric {name!r}: needs finite values, got {array.tolist()}")
        mean = float(array.mean())
        if interval is not None:
            low, high = map(float, interval)
            if not low <= mean <= high:
                raise ValueError(f"metric {name!r}: interval [{low:g}, {high:g}] misses its mean {mean:g}")
        elif np.ndim(values) == 0:
            low = high = mean
        else:
            _, low, high, _ = mean_interval(array)
        exact = np.ndim(values) == 0 and interval is None
        varies = varies or ("nothing" if exact else "training")
        measurement = Measurement(mean, low, high, tuple(array.tolist()), unit, varies)
        self.measurements[name] = measurement
        return measurement

    def note_experiment(
        self, name: str, key: str, jobs: int, reused: Sequence[float], side_by_side: int
    ) -> None:
        """Note that an experiment was done, and how much of it was there already.

        Args:
            name: the experiment. key: the folder of its results. jobs: number of its jobs.
            reused: seconds that those of its jobs had taken whose results were there.
            side_by_side: how many jobs this run does at a time.
        """
        seconds = round(sum(reused) / side_by_side, 1)
        self.experiments[name] = {"key": key, "jobs": jobs, "reused": len(reused), "reused_s": seconds}

    def wall_time(self) -> float:
        """Seconds since the start, and those that reused results had taken: what the run takes from nothing."""
        reused = sum(done["reused_s"] for done in self.experiments.values())
        return time.perf_counter() - self.started + reused

    def verdicts(self) -> dict[str, Verdict]:
        """Claim id → verdict, by the rules of the ledger."""
        return claims.ledger(self.slug).judge(self.measurements, self.profile, self.data_source)

    def measured(self, names: Mapping[str, str]) -> list[dict[str, str]]:
        """Rows for a table of numbers: what each is in words → its metric. What this run did not measure is left out."""
        return [
            {"number": words, "measured": claims.format_measurement(self.measurements[name])}
            for words, name in names.items()
            if name in self.measurements
        ]

    def claims_table(self) -> Rendered:
        """The table of claims: reported, measured, rule, verdict."""
        rows, verdicts = [], self.verdicts()
        for claim in claims.ledger(self.slug).claims:
            measured = self.measurements.get(claim.metric)
            rows.append(
                {
                    "id": claim.id,
                    "claim": claim.claim,
                    "where": claim.where,
                    "reported": claims.format_reported(claim.reported),
                    "measured": claims.format_measurement(measured),
                    "rule": claim.rule(),
                    "verdict": verdicts[claim.id],
                }
            )
        return table(rows, caption=f"Claims of the paper against this run (profile {self.profile}).")

    def settings_table(self) -> Rendered:
        """The profile's settings: value, unit, meaning and the paper's own value where the paper fixes it."""
        rows = [
            {
                "setting": item.name,
                "value": str(item.value),
                "unit": item.unit,
                "paper": "–" if item.paper is None else str(item.paper),
                "meaning": item.doc,
            }
            for item in fields_of(self.settings)
        ]
        return table(rows, caption=f"Settings of the profile {self.profile}.")

    def record(self) -> dict[str, Any]:
        """The run as plain JSON types. Infinite interval ends are written as null."""
        return {
            "run_id": self.run_id,
            "notebook": self.notebook,
            "slug": self.slug,
            "profile": self.profile,
            "seed": self.seed,
            "overrides": _plain(self.overrides),
            "settings": _plain(values_of(self.settings)),
            "data": self.data,
            "data_source": self.data_source,
            "notices": self.notices,
            "device": device_name(self.device),
            "versions": versions(),
            "commit": commit(),
            "wall_time_s": round(self.wall_time(), 1),
            "experiments": self.experiments,
            "peak_memory_mb": peak_memory_mb(self.device),
            "metrics": {name: _plain(dataclasses.asdict(m)) for name, m in self.measurements.items()},
            "verdicts": self.verdicts(),
        }

    def finish(self) -> None:
        """Write the record into ``out_dir``, whole or not at all, and drop this run's checkpoints: nothing is left to resume.

        The record is ``results.json``. No other run's is overwritten: one of another notebook keeps that name, and this run's is
        called ``<notebook>.results.json``; any other becomes ``results-<its run id>.json``.
        """
        record = self.record()
        write_json(free_record_path(self.out_dir, record), record)
        discard(self.out_dir, self.run_id)


def free_record_path(folder: Path, record: Mapping[str, Any]) -> Path:
    """Where ``record`` goes in ``folder``, after a record that lies there has been renamed; see :meth:`Run.finish`."""
    path, notebook = folder / RECORD_NAME, record["notebook"]
    present = _read_json(path) or {}
    if present.get("notebook") not in (None, notebook):
        path = folder / f"{Path(notebook).stem if notebook else record['run_id'][:8]}.{RECORD_NAME}"
        present = _read_json(path) or {}
    if path.exists():
        path.replace(path.with_name(f"{path.stem}-{str(present.get('run_id', 'unknown'))[:8]}{path.suffix}"))
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def as_json(content: Any) -> str:
    """``content`` as the JSON text of a record.

    Raises:
        ValueError: for a number that is not finite.
    """
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all.

    Raises:
        ValueError: for a number that is not finite; nothing has been written then.
    """
    write_text(path, as_json(content))


def read_measurements(record: Mapping[str, Any]) -> dict[str, Measurement]:
    """The measurements of a record read back from JSON; null interval ends become infinite again."""
    result = {}
    for name, raw in record["metrics"].items():
        low = -math.inf if raw["low"] is None else raw["low"]
        high = math.inf if raw["high"] is None else raw["high"]
        varies = raw.get("varies", "training")
        result[name] = Measurement(raw["mean"], low, high, tuple(raw["values"]), raw["unit"], varies)
    return result


def choose_device(accelerator: object) -> torch.device:
    """Return the torch device for ``auto``, ``cpu``, ``gpu`` or ``mps``.

    Raises:
        ParameterError: for another name, or hardware that is not there.
    """
    name = choose("accelerator", accelerator, ACCELERATORS)
    if name == "gpu" and not torch.cuda.is_available():
        raise ParameterError("accelerator='gpu': no CUDA GPU is visible to torch; allowed here: auto, cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ParameterError("accelerator='mps': no Apple GPU is visible to torch; allowed here: auto, cpu")
    if name == "gpu" or (name == "auto" and torch.cuda.is_available()):
        return torch.device("cuda")
    return torch.device("mps" if name == "mps" else "cpu")


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, and ask torch for deterministic algorithms."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")


def device_name(device: torch.device) -> str:
    """The model of the GPU, or of the CPU with the number of usable cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"CPU {model}, {available_cores()} cores"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def commit() -> str | None:
    """The repository's commit, with ``+changes`` if the working tree differs from it; None outside a repository."""
    try:
        git = ["git", "-C", str(ROOT)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def peak_memory_mb(device: torch.device) -> float | None:
    """Peak memory in MB: of the GPU's allocator on CUDA, else the largest resident size of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def runs_folder() -> Path:
    """Where runs lie that name no folder: ``$PAPERS_RUNS``, or ``runs`` in the repository.

    Raises:
        ParameterError: for a variable that spells no path.
    """
    return typed_path(RUNS_VARIABLE, os.environ.get(RUNS_VARIABLE) or ROOT / "runs")


def papermill_output() -> Path | None:
    """The notebook that papermill is writing, or None where papermill does not say (``--inject-output-path``).

    The injected path is as it was typed: names of parameters in braces are filled in as papermill does, and a relative path counts
    from where papermill was started, which ``--cwd`` hides. The notebook there has to say that it is this one, and unfinished.
    """
    main = sys.modules.get("__main__")
    injected = getattr(main, "PAPERMILL_OUTPUT_PATH", None)
    if not isinstance(injected, str):
        return None
    try:
        path = Path(injected.format(**vars(main)))
    except (
        KeyError,
        IndexError,
        AttributeError,
        ValueError,
    ):  # such as {pm[run_uuid]}, which the kernel cannot know
        return None
    for start in dict.fromkeys((Path.cwd(), Path(os.environ.get("PWD", ".")))):
        candidate = (start / path).absolute()
        written = (_read_json(candidate) or {}).get("metadata", {}).get("papermill", {})
        if written.get("parameters", {}).get("PAPERMILL_OUTPUT_PATH") == injected and not written.get(
            "end_time"
        ):
            return candidate
    return None


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None where the file is missing or holds something else."""
    try:
        content = json.loads(read_text(path, datasets.DataError))
    except (datasets.DataError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
