"""Every kind of training of the chapter: killed and started again it ends with equal numbers, and takes nobody else's checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lib.checkpoints import KeepCheckpoint, keeping
from lib.ddpp import experiments, gb1
from lib.ddpp import hub_experiments as hub
from lib.ddpp import image_experiments as images
from lib.ddpp import text_experiments as texts
from lib.ddpp.denoisers import EmbeddingMLP
from lib.ddpp.dit import DiT
from lib.ddpp.hub_models import Fold
from lib.ddpp.masked_diffusion import pretrain
from lib.ddpp.profiles import PROFILES, Settings
from lib.ddpp.rewards import TableReward
from lib.ddpp.steering import METHODS, ROUND, SteeringResult, steer
from lib.digest import digest
from lib.records import Run
from tests.interruptions import Killed, check_resumes, killed_after

SIZES: dict[str, Any] = {
    "grid_side": 8, "grid_pretrain_steps": 6, "gb1_pretrain_steps": 6, "gb1_symbols": "ADG", "grid_calls": 80, "gb1_calls": 80,
    "grid_pool": 64, "gb1_pool": 64, "grid_refill_size": 32, "string_calls": 80, "string_symbols": 3,
    "image_pretrain_steps": 6, "image_steps": 60, "image_rtb_steps": 60, "image_rtb_batch": 2, "image_samples": 8,
    "image_methods": ("lb", "rtb"), "image_likelihood_images": 8, "image_sampling_steps": 2, "image_grey_levels": 3,
    "text_seeds": 1, "text_pretrain_steps": 6, "text_pretrain_batch": 4, "text_steps": 30, "text_rtb_steps": 30, "text_rtb_batch": 2, "text_samples": 8, "text_methods": ("lb", "rtb"),
    "text_vocabulary": 60, "text_length": 6, "text_width": 8, "text_blocks": 1, "text_heads": 2, "text_refill_size": 8,
    "text_sampling_steps": 2, "text_batch": 4, "text_completions": 2,
}  # fmt: skip


def start(folder: Path, **changes: Any) -> Run[Settings]:
    overrides = {**SIZES, "checkpoint_every": 2, **changes}
    return Run.start(
        "ddpp", PROFILES, profile="smoke", accelerator="cpu", data="standin", out_dir=folder, overrides=overrides
    )  # fmt: skip


def without_times(rows: Sequence[Any]) -> list[Any]:
    return [dataclasses.replace(row, seconds=0.0) for row in rows]


# --- the two modules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_pretraining(tmp_path: Path, ema: float) -> None:
    data = torch.randint(5, (64, 4), generator=torch.Generator().manual_seed(0))

    def train(folder: Path) -> nn.Module:
        network = DiT(
            4, 5, width=16, blocks=1, heads=2, dropout=0.2
        )  # dropout draws from the global generator
        options: dict[str, Any] = {"learning_rate": 1e-2, "ema_decay": ema, "warm_up": 3}
        keep = keeping(start(folder), "prior", (), 2)
        return pretrain(network, data, steps=12, batch_size=8, seed=3, keep=keep, **options)

    check_resumes(train, tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_steering(tmp_path: Path, method: str) -> None:
    prior = EmbeddingMLP(3, 4, 8, 16, 1)
    table = torch.randn((4, 4, 4), generator=torch.Generator().manual_seed(2))
    options: dict[str, Any] = {
        "steps": 3 * ROUND, "batch_size": 16, "keep_at": (10, 60), "buffer": "mixed", "refill_size": 64,
        "buffer_size": 100, "pool": 100, "ema_decay": 0.9 if method == "is" else 0.0,
    }  # fmt: skip

    def train(folder: Path) -> SteeringResult:
        keep = keeping(start(folder), "tuned", (), ROUND)
        return steer(prior, TableReward(table), method, seed=1, keep=keep, **options)

    check_resumes(train, tmp_path)
    plain = steer(prior, TableReward(table), method, seed=1, **options)
    assert digest(plain) == digest(train(tmp_path / "again"))


# --- the jobs of the experiments ----------------------------------------------------------------------------------------


def test_enumerated_problems(tmp_path: Path) -> None:
    """The priors of the grid and of GB1, and one objective on each kind of problem."""

    def train(folder: Path) -> list[Any]:
        run = start(folder)
        task = experiments.grid_tasks(run.settings)[experiments.HALF_PLANE]
        landscape = gb1.load_landscape(run, run.settings.gb1_symbols)
        grid, protein = experiments.pretrain_grid(run, task), experiments.pretrain_gb1(run, landscape)
        jobs = [
            *experiments.grid_jobs(run, task, grid)[-1:],
            *experiments.gb1_jobs(run, landscape, protein)[-1:],
            *experiments.string_jobs(run)[-1:],
        ]
        return [grid, protein, *(experiments.train(*job) for job in jobs)]

    check_resumes(train, tmp_path)


def test_digits(tmp_path: Path) -> None:
    def train(folder: Path) -> list[Any]:
        run = start(folder)
        prepared = images.prepare(*images.prepare_jobs(run, None)[0])
        tuned = [images.steering_job(*job) for job in images.steering_jobs(run, prepared)]
        return [prepared, *(without_times(rows) for rows in tuned)]

    check_resumes(train, tmp_path)


def test_grey_digits(tmp_path: Path) -> None:
    check_resumes(lambda folder: without_times(images.grey_job(start(folder), None)), tmp_path)


def test_sentences(tmp_path: Path) -> None:
    def train(folder: Path) -> list[Any]:
        run = start(folder)
        prepared = texts.prepare_text(*texts.prepare_text_jobs(run, None)[0])
        tuned = [texts.text_steering_job(*job) for job in texts.text_steering_jobs(run, prepared)]
        return [prepared.prior, *(without_times(rows) for rows in tuned)]

    check_resumes(train, tmp_path)


# --- whose checkpoint it is ---------------------------------------------------------------------------------------------


def test_every_training_of_a_run_has_a_label_of_its_own(tmp_path: Path) -> None:
    """All jobs of the profile, with two seeds and every method, claimed at once."""
    names = {"grid_methods": tuple(experiments.METHODS), "gb1_methods": tuple(experiments.METHODS)}
    seeds = {"grid_seeds": 2, "gb1_seeds": 2, "string_seeds": 2, "image_seeds": 2, "text_seeds": 2}
    rare = {"image_rare_digit": 4, "image_rare_methods": ("lb",), "string_couplings": (0.0, 0.3)}
    run = start(tmp_path, **names, **seeds, **rare)
    s, keeps = run.settings, []
    landscape = gb1.load_landscape(run, s.gb1_symbols)
    prior = EmbeddingMLP(2, 8, 8, 8, 1)
    jobs = [
        job for task in experiments.grid_tasks(s).values() for job in experiments.grid_jobs(run, task, prior)
    ]
    jobs += [*experiments.gb1_jobs(run, landscape, prior), *experiments.string_jobs(run)]
    keeps += [experiments.keep_training(run, problem, *rest) for _, problem, _, *rest in jobs]
    prepared = images.prepare(s, None, run.seed, run.device)
    keeps += [job[-1] for job in (*images.prepare_jobs(run, None), *images.steering_jobs(run, prepared))]
    text = texts.prepare_text(s, None, run.seed, run.device)
    keeps += [job[-1] for job in (*texts.prepare_text_jobs(run, None), *texts.text_steering_jobs(run, text))]
    folders = [keep.kept.claim() for keep in keeps if keep is not None]
    assert len(folders) == len(keeps) == len({keep.kept.job for keep in keeps if keep is not None})


def test_a_training_on_the_stand_in_is_not_gone_on_with_on_real_data(tmp_path: Path) -> None:
    def train(folder: Path, source: str) -> tuple[list[int], nn.Module]:
        run = start(folder)
        landscape = gb1.load_landscape(run, run.settings.gb1_symbols)
        run.data_source = source
        if source == "real":
            landscape = dataclasses.replace(landscape, input_law=landscape.input_law.flip(0))
        with killed_after(10**9) as written:
            return written, experiments.pretrain_gb1(run, landscape)

    with killed_after(2), pytest.raises(Killed):
        train(tmp_path, "standin")
    written, real = train(tmp_path, "real")
    assert written == [2, 4, 6]
    assert digest(real) == digest(train(tmp_path / "fresh", "real")[1])
    assert digest(real) != digest(train(tmp_path / "fresh", "standin")[1])


def test_the_prior_of_other_digits_is_not_taken(tmp_path: Path) -> None:
    """Where the run's own words are equal the data themselves decide."""

    def key(data: torch.Tensor) -> set[str]:
        run = start(tmp_path)
        pretrain(
            EmbeddingMLP(2, 4, 8, 8, 1), data, steps=2, batch_size=2, keep=keeping(run, "digits-prior", (), 1)
        )
        return {path.parent.name for path in tmp_path.glob("checkpoints/*/last.ckpt")}

    first = key(torch.zeros((3, 2), dtype=torch.long))
    assert len(key(torch.ones((3, 2), dtype=torch.long)) - first) == 1
    assert len(key(torch.zeros((3, 2), dtype=torch.long))) == 2


def test_a_protein_to_shrink_is_part_of_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, jobs = tmp_path / "protein.pdb", set()
    run = start(tmp_path / "run", hub_shrink_targets=(str(file),), hub_seeds=1, hub_protein_samples=2)
    prior = EmbeddingMLP(3, 33, 4, 4, 1)

    def remember(*_: Any, keep: KeepCheckpoint, **__: Any) -> SimpleNamespace:
        jobs.add(keep.kept.job)
        return SimpleNamespace(denoiser=prior)

    monkeypatch.setattr(hub, "steer", remember)
    monkeypatch.setattr(hub, "load_protein_denoiser", lambda *_: prior)
    monkeypatch.setattr(hub, "PROTEIN_METHODS", ("rtb",))
    measures = {"protein": (lambda fold: fold.ptm, lambda tm, _: tm, 1.0)}
    for content in ("one", "another", "one"):
        file.write_text(content)
        hub.protein_experiment(run, lambda letters: Fold(letters, 0.5, 0.5, np.zeros((3, 3)), ""), measures)
    assert len(jobs) == 2
