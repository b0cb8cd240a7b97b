"""Every kind of training of the chapter, killed and started again, ends with equal numbers; no two of a run share a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lib import checkpoints
from lib.adaptive_teachers import experiments
from lib.adaptive_teachers.biochemical_tasks import load_task
from lib.adaptive_teachers.diffusion_experiments import diffusion_jobs
from lib.adaptive_teachers.diffusion_training import METHODS, SamplerRun, SamplerSizes, train_samplers
from lib.adaptive_teachers.experiments import train_grid
from lib.adaptive_teachers.gaussian_mixture import GaussianMixture
from lib.adaptive_teachers.grid_methods import GridRun
from lib.adaptive_teachers.profiles import PROFILES, Settings
from lib.adaptive_teachers.sequence_experiments import load_tasks, sequence_jobs
from lib.adaptive_teachers.sequence_training import SequenceRun, SequenceSizes, train_sequences
from lib.adaptive_teachers.stacked_training import GridTask
from lib.records import Run
from tests.interruptions import check_resumes

GRID = GridTask(batches=20, batch=4, hidden=12, evaluations=2, l1_samples=1000, keep_laws=True)
SAMPLER = SamplerSizes(
    4, 8, 4, 8, 18, 24, evaluation_samples=16, transport_samples=8, evaluations=3, snapshots=2
)
SEQUENCE = SequenceSizes(
    rounds=11, hidden=6, exploration=0.01, batch=4, capacity=12, evaluations=2, evaluation_samples=8
)


@pytest.fixture(autouse=True)
def _same_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources are hashed for every training; here they are the same throughout."""
    monkeypatch.setattr(checkpoints, "content_hash", lambda slug, profile: "code")


def start(folder: Path, **overrides: Any) -> Run[Settings]:
    return Run.start(
        "adaptive_teachers",
        PROFILES,
        profile="smoke",
        accelerator="cpu",
        data="standin",
        out_dir=folder,
        overrides={"checkpoint_every": 5, **overrides},
    )


@pytest.mark.parametrize(
    "methods",
    [
        ("TB", "ε-noisy", "Teacher"),
        ("PER", "Teacher + PER"),
        ("GAFN",),
        ("Teacher + local search",),
        ("DB", "Teacher, DB"),
        ("TB, 2x steps",),
    ],
)
def test_a_killed_grid_ends_with_the_same_numbers(methods: tuple[str, ...], tmp_path: Path) -> None:
    """Killed after the last checkpoint, too: the last evaluation comes behind it."""
    runs = [GridRun(method, seed) for method in methods for seed in (0, 1)]
    check_resumes(lambda folder: train_grid(start(folder), 2, 6, runs, GRID), tmp_path)


def test_killed_samplers_end_with_the_same_numbers(tmp_path: Path) -> None:
    runs = [SamplerRun(method, seed, 1.5) for method in METHODS for seed in (0, 1)]
    check_resumes(lambda folder: train_samplers(start(folder), GaussianMixture(), runs, SAMPLER, 5), tmp_path)


@pytest.mark.parametrize("methods", [("TB", "Teacher"), ("PRT", "PER", "Teacher + PER")])
@pytest.mark.parametrize("task", ["TFBind8", "L14-RNA1"])
def test_killed_sequences_end_with_the_same_numbers(
    methods: tuple[str, ...], task: str, tmp_path: Path
) -> None:
    """TFBind8 is evaluated exactly, L14-RNA1 on samples; a round with replay takes two steps."""
    runs = [SequenceRun(method, seed) for method in methods for seed in (0, 1)]

    def train(folder: Path) -> Any:
        run = start(folder)
        return train_sequences(run, load_task(run, task), runs, SEQUENCE, 3)

    check_resumes(train, tmp_path)


def test_no_two_trainings_of_a_run_share_a_checkpoint(tmp_path: Path) -> None:
    """All experiments at once, where sizes coincide: the drawn grid is the compared one."""
    run = start(
        tmp_path, grid_sizes=[[2, 8], [2, 6]], grid_reward_calls=[64, 8], grid_map_calls=64, grid_pb="official",
        grid_methods=["TB", "PRT", "Teacher"], grid_further_methods=["DB"], grid_seeds=1, grid_further_seeds=1,
        grid_ablation_seeds=1, grid_evaluations=1, grid_l1_samples=10, diffusion_methods=["TB", "PER", "Teacher"],
        diffusion_seeds=1, diffusion_iterations=1, diffusion_panel_iterations=1, diffusion_manywell_iterations=1,
        diffusion_panel_seeds=1, diffusion_other_sigmas=[2.0], diffusion_evaluations=1, diffusion_evaluation_samples=8,
        diffusion_transport_samples=4, sequence_tasks=["TFBind8", "L14-RNA1"], sequence_rounds=1, sequence_evaluations=1,
        sequence_evaluation_samples=4, sequence_batch=2, sequence_methods=["TB", "PRT", "Teacher + PRT"],
        sequence_other_rates=[1e-3, 1.0000001e-3], checkpoint_every=1,
    )  # fmt: skip
    grids = [*experiments.grid_jobs(run), *experiments.map_jobs(run), *experiments.border_jobs(run)]
    samplers, sequences = diffusion_jobs(run), sequence_jobs(run, load_tasks(run))
    for function, jobs in ((train_grid, grids), (train_samplers, samplers), (train_sequences, sequences)):
        for job in jobs:
            function(*job)
    marks = [path.read_text() for path in (tmp_path / "checkpoints").glob(f"*/run-{run.run_id}")]
    assert len(marks) == len(set(marks)) == len(grids) + len(samplers) + len(sequences)
