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
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from lib import claims, datasets
from lib.atomic import write_text
from lib.claims import Measurement, Verdict
from lib.cores import available_cores, limit_threads
from lib.figures import Rendered, table
from lib.profiles import ACCELERATORS, ParameterError, check_seed, choose, resolve
from lib.statistics import mean_interval

ROOT = Path(__file__).resolve().parent.parent
RECORD_NAME = "results.json"
PACKAGES = ("torch", "lightning", "numpy", "scipy", "numba", "pandas", "causal-learn", "gymnasium", "triton")
STANDIN_NOTICE = (
    "NOTICE: the real data could not be had; this run uses the built-in STAND-IN. "
    "Claims that need real data are not judged. Run 'make data' to get it."
)

Settings = TypeVar("Settings")


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
    data_source: str = "generated"
    notices: list[str] = dataclasses.field(default_factory=list)
    measurements: dict[str, Measurement] = dataclasses.field(default_factory=dict)
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
                folder of papermill's output notebook, or ``runs/<slug>/<profile>-seed<seed>`` outside papermill.

        Raises:
            ParameterError: for a wrong value; nothing has been written then.
        """
        settings = resolve(profiles, profile, overrides)
        check_seed(seed)
        choose("data", data, datasets.DATA_POLICIES)
        device = choose_device(accelerator)
        changes = {
            name: value
            for name, value in dataclasses.asdict(settings).items()  # type: ignore[call-overload]
            if value != getattr(profiles[profile], name)
        }
        if out_dir is not None and not isinstance(out_dir, (str, os.PathLike)):
            raise ParameterError(f"out_dir={out_dir!r} is not a folder's path or None")
        folder = Path(out_dir) if out_dir is not None else default_out_dir(slug, profile, seed)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ParameterError(f"out_dir={str(out_dir)!r} cannot be made ({error.strerror})") from error
        limit_threads()
        seed_everything(seed)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        run = cls(slug, profile, settings, seed, device, data, folder.resolve(), changes)
        if not os.access(
            ROOT / "lib", os.W_OK
        ):  # else numba, which is slow to import, keeps its code beside the source
            from lib.compilation import notice

            if notice():
                run.notices.append(notice())
                print(notice())
        return run

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
    ) -> Measurement:
        """Record a metric.

        Args:
            name: the metric's name, as the ledger spells it.
            values: an exact number, or one value per seed (n,), summarised by its mean and 95 % t-interval.
            unit: shown beside the value.
            interval: (low, high) where the interval is computed otherwise than by t over ``values``.

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
        measurement = Measurement(mean, low, high, tuple(array.tolist()), unit)
        self.measurements[name] = measurement
        return measurement

    def verdicts(self) -> dict[str, Verdict]:
        """Claim id → verdict, by the rules of the ledger."""
        return claims.ledger(self.slug).judge(self.measurements, self.profile, self.data_source)

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
        rows = []
        for item in dataclasses.fields(self.settings):  # type: ignore[arg-type]
            paper = item.metadata.get("paper")
            rows.append(
                {
                    "setting": item.name,
                    "value": str(getattr(self.settings, item.name)),
                    "unit": item.metadata.get("unit", ""),
                    "paper": "–" if paper is None else str(paper),
                    "meaning": item.metadata.get("doc", ""),
                }
            )
        return table(rows, caption=f"Settings of the profile {self.profile}.")

    def record(self) -> dict[str, Any]:
        """The run as plain JSON types. Infinite interval ends are written as null."""
        return {
            "slug": self.slug,
            "profile": self.profile,
            "seed": self.seed,
            "overrides": _plain(self.overrides),
            "settings": _plain(dataclasses.asdict(self.settings)),  # type: ignore[call-overload]
            "data": self.data,
            "data_source": self.data_source,
            "notices": self.notices,
            "device": device_name(self.device),
            "versions": versions(),
            "commit": commit(),
            "wall_time_s": round(time.perf_counter() - self.started, 1),
            "peak_memory_mb": peak_memory_mb(self.device),
            "metrics": {name: _plain(dataclasses.asdict(m)) for name, m in self.measurements.items()},
            "verdicts": self.verdicts(),
        }

    def finish(self) -> None:
        """Write ``results.json`` into ``out_dir``, atomically, and drop the checkpoints: nothing is left to resume."""
        write_json(self.out_dir / RECORD_NAME, self.record())
        shutil.rmtree(self.out_dir / "checkpoints", ignore_errors=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as JSON, whole or not at all.

    Raises:
        ValueError: for a number that is not finite; nothing has been written then.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_measurements(record: Mapping[str, Any]) -> dict[str, Measurement]:
    """The measurements of a record read back from JSON; null interval ends become infinite again."""
    result = {}
    for name, raw in record["metrics"].items():
        low = -math.inf if raw["low"] is None else raw["low"]
        high = math.inf if raw["high"] is None else raw["high"]
        result[name] = Measurement(raw["mean"], low, high, tuple(raw["values"]), raw["unit"])
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


def default_out_dir(slug: str, profile: str, seed: int) -> Path:
    """The folder of papermill's output notebook; outside papermill ``runs/<slug>/<profile>-seed<seed>``."""
    output = papermill_output()
    return output.parent if output else ROOT / "runs" / slug / f"{profile}-seed{seed}"


def papermill_output() -> Path | None:
    """Path of the notebook that papermill is writing, or None where papermill's command line did not start this kernel.

    Papermill tells its kernels the path only when asked to (``--inject-output-path``), so the kernel otherwise reads the
    command line of the process that started it.
    """
    injected = getattr(sys.modules.get("__main__"), "PAPERMILL_OUTPUT_PATH", None)
    if injected:
        return Path(injected).absolute()
    import psutil
    from papermill.cli import papermill as command

    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent else []
        folder = parent.cwd() if parent else ""
    except psutil.Error:
        return None
    start = next((i for i, word in enumerate(words[:4]) if Path(word).stem == "papermill"), None)
    if start is None:
        return None
    context = command.make_context("papermill", list(words[start + 1 :]), resilient_parsing=True)
    output = context.params.get("output_path")
    return Path(folder) / output if output and output != "-" else None
