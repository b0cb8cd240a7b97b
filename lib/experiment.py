"""The contract of an experiment, and the work that a run does by it.

An experiment is one module, ``lib/<slug>/experiments/<name>.py``, that holds one experiment of the paper whole: its sizes in each profile,
the pieces of work it consists of, the numbers it measures, the tables and figures it shows. It needs no base class: a module
that has the names of :class:`Experiment` is one.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.digest import digest
from lib.fingerprint import module_hash
from lib.kept_results import Kept, keep, read_kept
from lib.profiles import setting, settings_class
from lib.records import Run, device_name, versions
from lib.training import progress
from lib.workers import Pending, Workers

KEPT = "kept"
Job = functools.partial[Any]


class Experiment(Protocol):
    """What a module of ``lib/<slug>/experiments`` offers."""

    __name__: str

    @property
    def PROFILES(self) -> Mapping[str, Any]:
        """Profile name → the experiment's settings, a :func:`lib.profiles.settings_class` that the work gets as it is."""

    def jobs(self, run: Run[Any]) -> list[Job]:
        """Independent pieces of work: each a ``partial`` of an importable function whose annotation says what it returns (plain types,
        dataclasses and :data:`lib.kept_results.Array`)."""

    def metrics(self, settings: Any) -> Sequence[str]:
        """The names of the numbers that :meth:`measure` records with these settings."""

    def measure(self, run: Run[Any], results: list[Any]) -> None:
        """Turn the jobs' results, in the order of :meth:`jobs`, into numbers of the run (:meth:`lib.records.Run.measure`)."""

    def tables(self, settings: Any, results: list[Any]) -> dict[str, pd.DataFrame]:
        """What the page shows as tables."""

    def figures(self, settings: Any, results: list[Any]) -> dict[str, Figure]:
        """What the page shows as figures."""


@settings_class
class Machine:
    """How a run uses its machine; no number depends on it."""

    workers: int = setting(
        0,
        "processes",
        "pieces of work side by side; 0: one per core on a CPU, 1 on a GPU",
        least=0,
        most=1024,
    )
    checkpoint_every: int | None = setting(
        None, "steps", "steps between checkpoints of a training; None: none", least=1
    )


class Work:
    """The work of a run's experiments: side by side in worker processes, each result kept when it is there.

    Results lie in ``out_dir/kept/<experiment>-<key>``. The key covers everything that they depend on: the code of the experiment and
    of what it imports, its settings, the seed, the data source, the device and the versions. So a run that was killed, or is
    repeated in the same folder, does what is missing, and after a change of one experiment only that one is done again.
    """

    def __init__(self, run: Run[Any]) -> None:
        self.run = run
        plt.switch_backend("agg")  # a figure appears where the page shows it, not below the cell that drew it
        self._workers = Workers(run.settings.of(Machine).workers, run.device)
        self._under_way: dict[str, _UnderWay] = {}

    def start(self, *experiments: Experiment) -> None:
        """Queue the work of ``experiments`` and return; a run on one process does it at once."""
        for experiment in experiments:
            self._begin(experiment, self._workers)

    def here(self, experiment: Experiment) -> list[Any]:
        """Do the work of ``experiment`` in this process, and nothing beside it: for what is timed. Otherwise as :meth:`finish`."""
        self._begin(experiment, Workers(1))
        return self.finish(experiment)

    def finish(self, experiment: Experiment) -> list[Any]:
        """Wait for the work of ``experiment``, measure, and return the jobs' results in their order.

        Raises:
            ValueError: if it measures something that it does not announce in ``metrics``.
        """
        name = name_of(experiment)
        if name not in self._under_way:
            self.start(experiment)
        work = self._under_way[name]
        done = work.results(name)
        reused = [kept.seconds for kept in work.present if kept is not None]
        self.run.note_experiment(name, work.key, len(done), reused, self._workers.n)
        before = set(self.run.measurements)
        results = [kept.result for kept in done]
        experiment.measure(self.run, results)
        measured = set(self.run.measurements) - before
        announced = set(experiment.metrics(own_settings(self.run, experiment)))
        if measured - announced:
            raise ValueError(f"{name} measures {sorted(measured - announced)}, which its metrics do not name")
        return results

    def close(self) -> None:
        """End the processes."""
        self._workers.close()

    def _begin(self, experiment: Experiment, workers: Workers) -> None:
        name = name_of(experiment)
        if name in self._under_way:
            raise ValueError(f"{name} is under way already")
        jobs = experiment.jobs(self.run)
        key = results_key(self.run, experiment, jobs)
        folder = self.run.out_dir / KEPT / f"{name}-{key[:16]}"
        paths = [folder / f"{number:03d}.safetensors" for number in range(len(jobs))]
        present = [read_kept(path, job.func) for path, job in zip(paths, jobs, strict=True)]
        missing = [(path, job) for path, job, kept in zip(paths, jobs, present, strict=True) if kept is None]
        self._under_way[name] = _UnderWay(folder.name, present, workers.start(do_job, missing))


@dataclass(frozen=True)
class _UnderWay:
    """The jobs of one experiment: results that lay there (None where one did not), and the others as they are being done."""

    key: str
    present: list[Kept | None]
    pending: Pending[Kept]

    def results(self, name: str) -> list[Kept]:
        done = iter([future.result() for future in progress(self.pending, name)])
        return [next(done) if kept is None else kept for kept in self.present]


def name_of(experiment: Experiment) -> str:
    """The experiment's name: that of its module."""
    return experiment.__name__.rpartition(".")[2]


def own_settings(run: Run[Any], experiment: Experiment) -> Any:
    """The settings of ``experiment`` in this run."""
    return run.settings.of(type(experiment.PROFILES["default"]))


def results_key(run: Run[Any], experiment: Experiment, jobs: Sequence[Job]) -> str:
    """SHA-256 over everything that the results of ``experiment`` depend on; see :class:`Work`.

    Raises:
        TypeError: if an argument of a job has no stable content, such as an open file.
    """
    shared = [part for prefix, part in run.settings.parts if not prefix and not isinstance(part, Machine)]
    arguments = [
        (job.func, [a for a in job.args if not isinstance(a, Run)],
         {name: a for name, a in job.keywords.items() if not isinstance(a, Run)})
        for job in jobs
    ]  # fmt: skip
    circumstances = (run.slug, run.profile, run.seed, run.data_source, device_name(run.device), versions())
    code = module_hash(experiment.__name__)
    return digest((code, circumstances, own_settings(run, experiment), shared, arguments))


def do_job(path: Path, job: Job) -> Kept:
    """Do one job and keep its result in the file ``path``; what the caller gets is what was kept."""
    begin = time.perf_counter()
    keep(path, job.func, job(), time.perf_counter() - begin)
    kept = read_kept(path, job.func)
    if kept is None:
        raise TypeError(f"a result of {job.func.__qualname__} does not read back as its annotation says")
    return kept
