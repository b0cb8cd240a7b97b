"""How many cores this process may use, and no more threads than that.

A batch system, a container or a workflow grants a process fewer cores than its machine has. Libraries count the machine's, and
a hundred threads on four cores are slower than four. How many cores there are changes how long a run takes, never what it measures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from threadpoolctl import ThreadpoolController

# What grants cores: SLURM's cores of one task, and the number of threads that a user, or a workflow for each of its jobs, sets.
# (SLURM_CPUS_ON_NODE counts the cores of all tasks of a node and says nothing about one.)
GRANTS = ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS")
# What libraries read when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cores() -> int:
    """Cores that this process may use, at least 1.

    The smallest of: the cores that the process is bound to, the processor time that its control groups grant (rounded down),
    and the variables of :data:`GRANTS`. A variable that holds no positive number is passed over, as OpenMP does.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = [number for number in map(_number, GRANTS) if number]
    return max(1, int(min([bound, *granted, *_quotas(Path("/proc/self"))])))


def limit_threads(cores: int | None = None) -> None:
    """Let the thread pools of torch, BLAS and OpenMP, also of libraries that are not loaded yet, have at most ``cores`` threads.

    A smaller number that was set before stays.

    Args:
        cores: :func:`available_cores` where it is None.
    """
    most = available_cores() if cores is None else cores
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(min(_number(variable) or most, most))
    if torch.get_num_threads() > most:
        torch.set_num_threads(most)
    for library in ThreadpoolController().lib_controllers:
        if library.num_threads > most:
            library.set_num_threads(most)


def _number(variable: str) -> int | None:
    """The positive whole number that a variable holds, the first where it holds one for each nested level; else None."""
    first = os.environ.get(variable, "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def _quotas(process: Path) -> Iterator[float]:
    """Cores' worth of processor time that each control group above the process grants, versions 1 and 2.

    Args:
        process: the process's folder in ``/proc``; where there is none, nothing is granted and nothing is kept back.
    """
    try:
        groups = (process / "cgroup").read_text(encoding="utf-8").splitlines()
        mounts = (process / "mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in mounts:
            before, _, after = mount.partition(" - ")
            root, point = before.split()[3:5]
            kind, *_, options = after.split()
            version_1 = kind == "cgroup" and "cpu" in options.split(",")
            if version_1 if controllers else kind == "cgroup2":
                yield from _quotas_above(Path(point), group.removeprefix(root.rstrip("/")))


def _quotas_above(top: Path, group: str) -> Iterator[float]:
    """The quotas of the folder of ``group`` below ``top`` and of every folder above it, ``top`` included."""
    below = top / group.strip("/")
    for folder in (below, *below.parents):
        if folder.is_relative_to(top):
            yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    """Quota over period of one control group; nothing where it has no limit."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        yield int(quota) / int(period)
