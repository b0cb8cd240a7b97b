"""How many cores a process takes: affinity, schedulers' variables, control groups of both versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib import cores
from lib.cores import THREAD_VARIABLES, available_cores


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 cores on which nothing is limited."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(cores, "_quotas", lambda _: iter(()))
    for variable in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", *THREAD_VARIABLES):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 64),
        ({"SLURM_CPUS_PER_TASK": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "4"}, 64),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"OMP_NUM_THREADS": "8", "SLURM_CPUS_PER_TASK": "2"}, 2),
        ({"OMP_NUM_THREADS": "1000"}, 64),
        ({"OMP_NUM_THREADS": "0"}, 64),
        ({"OMP_NUM_THREADS": "-2"}, 64),
        ({"OMP_NUM_THREADS": "", "SLURM_CPUS_PER_TASK": "four"}, 64),
        ({"SLURM_CPUS_PER_TASK": "2.5"}, 64),
    ],
)
def test_what_a_scheduler_grants(
    variables: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert available_cores() == expected


def process(folder: Path, group: str, mount: str) -> Path:
    (folder / "proc").mkdir()
    (folder / "proc" / "cgroup").write_text(group)
    (folder / "proc" / "mountinfo").write_text(mount)
    return folder / "proc"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def quotas(folder: Path) -> list[float]:
    return list(cores_quotas(folder))


cores_quotas = cores._quotas  # before the fixture takes it away


def test_version_2_counts_every_group_above_the_process(tmp_path: Path) -> None:
    top = tmp_path / "fs"
    write(top / "slice" / "job", cpu__max="max 100000")
    write(top / "slice", cpu__max="250000 100000")
    write(top, cpu__max="600000 100000")
    write(tmp_path, cpu__max="1 100000")  # outside the mount
    mount = f"30 23 0:26 / {top} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    assert quotas(process(tmp_path, "0::/slice/job\n", mount)) == [2.5, 6.0]


def test_version_1_inside_a_container(tmp_path: Path) -> None:
    """The mount shows the container's own group as its root, while the process's path is the host's."""
    top = tmp_path / "fs" / "cpu,cpuacct"
    write(top, cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    write(top / "unlimited", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    mount = (
        f"31 25 0:27 /docker/0abc {tmp_path}/memory rw - cgroup cgroup rw,memory\n"
        f"32 25 0:28 /docker/0abc {top} rw - cgroup cgroup rw,cpu,cpuacct\n"
    )
    groups = "5:memory:/docker/0abc\n4:cpu,cpuacct:/docker/0abc/unlimited\n"
    assert quotas(process(tmp_path, groups, mount)) == [1.5]


@pytest.mark.parametrize("text", ["", "max", "abc 100000", "100000 0", "-1 100000"])
def test_a_malformed_quota_is_passed_over(text: str, tmp_path: Path) -> None:
    write(tmp_path / "fs", cpu__max=text)
    mount = f"30 23 0:26 / {tmp_path}/fs rw - cgroup2 cgroup2 rw\n"
    assert quotas(process(tmp_path, "0::/gone\n", mount)) == []
    assert quotas(tmp_path / "no such process") == []


@pytest.mark.parametrize(("quota", "expected"), [(0.25, 1), (2.9, 2), (128.0, 64)])
def test_a_quota_is_rounded_down_and_at_least_one_core(
    quota: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "_quotas", lambda _: iter([quota]))
    assert available_cores() == expected


THREADS = """
import os
import numpy, torch
from threadpoolctl import threadpool_info
from lib.cores import limit_threads
limit_threads(2)
import scipy.linalg, sklearn
pools = [pool["num_threads"] for pool in threadpool_info()]
assert pools and max(pools + [torch.get_num_threads()]) <= 2, pools
limit_threads(1)
pools = [pool["num_threads"] for pool in threadpool_info()]
assert max(pools + [torch.get_num_threads()]) == 1, pools
limit_threads(2)
assert torch.get_num_threads() == 1  # a smaller number that was set before stays
"""


def test_libraries_take_no_more_threads_than_that() -> None:
    """Also those that are loaded afterwards, and whatever the environment asked for."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "7")}
    done = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
