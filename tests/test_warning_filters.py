"""Libraries' known notes reach neither a page nor a worker's standard error, also on a host with SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import HANG

ROOT = Path(__file__).resolve().parent.parent
RUN = """
import sys
from pathlib import Path

import lib

def train(folder, kind):
    import lightning
    import torch
    from tests.test_training import Line, loader
    from tests.sample_chapter import start
    if kind == "shared":
        from lib.training import fit, make_trainer
        trainer = make_trainer(start(Path(folder)), max_steps=3, name="line", checkpoint_every=2)
        fit(trainer, Line(), loader())
        assert trainer.world_size == 1 and trainer.is_global_zero
        return int(trainer.global_step)
    from lib.ddpp.trainer import fit
    class Own(Line):
        def train_dataloader(self):
            return loader()
    fit(Own(), steps=3, seed=0)
    return 3

if __name__ == "__main__":
    from lib.workers import Workers
    jobs = [(sys.argv[1] + "/a", "shared"), (sys.argv[1] + "/b", "own")]
    assert [train(*job) for job in jobs] == [3, 3]
    workers = Workers(2 if sys.argv[2] == "workers" else 1)
    assert workers.start(train, [(folder + "w", kind) for folder, kind in jobs]).results() == [3, 3]
    workers.close()
"""
ALLOCATIONS = {
    "login node": {},
    "interactive": {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "bash", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"},
    "batch of several tasks": {
        "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "sweep", "SLURM_NTASKS": "4", "SLURM_NNODES": "2",
        "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
    },
    "tasks without a number per node": {
        "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "sweep", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "3",
        "SLURM_NODEID": "0",
    },
}  # fmt: skip
WITH_WORKERS = ("login node", "batch of several tasks")


@pytest.mark.thorough
@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_a_training_on_a_host_with_slurm_is_one_process_and_says_nothing(
    allocation: str, tmp_path: Path
) -> None:
    """In the kernel and in workers; no signal handler asks SLURM to submit the job again."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("srun", "scontrol", "nvidia-smi"):
        (commands / name).write_text("#!/bin/sh\necho called >&2\nexit 1\n")
        (commands / name).chmod(0o755)
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {
        "PATH": os.pathsep.join([str(commands), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "PAPERS_PROGRESS": "0",
        **ALLOCATIONS[allocation],
    }
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "workers" if allocation in WITH_WORKERS else "here"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


UNKNOWN = """
import warnings
import lib
warnings.warn("a new warning of some library")
"""


def test_an_unknown_warning_is_still_seen() -> None:
    done = subprocess.run([sys.executable, "-c", UNKNOWN], cwd=ROOT, capture_output=True, text=True)
    assert "a new warning of some library" in done.stderr


HOMELESS = """
import lib
import matplotlib, matplotlib.pyplot
"""


def test_a_home_that_cannot_be_written_is_not_matplotlibs_to_report(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    environment = {k: v for k, v in os.environ.items() if k not in ("MPLCONFIGDIR", "XDG_CONFIG_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", HOMELESS],
        cwd=ROOT,
        env=environment | {"HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
