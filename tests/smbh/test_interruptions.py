"""A DAG-GFlowNet that is killed and started again: equal numbers, nothing lost, and nobody else's checkpoint."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.digest import digest
from lib.experiment import Machine
from lib.records import Run
from lib.smbh import galaxies
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_gflownet import DagGFlowNet, Training
from lib.smbh.experiments.dag_gflownet import Learned, Settings, learn, train
from lib.smbh.profiles import PROFILES
from tests.interruptions import Killed, check_resumes, killed_after

STEPS = 12
SMALL = Training(environments=4, replayed=4, capacity=64, target_every=5)


def start(folder: Path, seed: int = 0, every: int | None = 2) -> Run[Any]:
    overrides = {"checkpoint_every": every}
    return Run.start(
        "smbh", PROFILES, profile="smoke", seed=seed, accelerator="cpu", data="standin", out_dir=folder, overrides=overrides
    )  # fmt: skip


def values(n: int) -> np.ndarray:
    return galaxies.simulate(np.random.default_rng(5)).base["spr"].values[:, :n]


def evaluate(module: DagGFlowNet) -> float:
    """A number of the policy that also draws from the global generator."""
    weights = torch.cat([p.detach().flatten() for p in module.policy.parameters()])
    return float(weights.sum() + torch.rand(()))


@pytest.mark.thorough
@pytest.mark.parametrize("network", ["mlp", "transformer"])
@pytest.mark.parametrize("on_policy", [True, False])
def test_training(tmp_path: Path, network: str, on_policy: bool) -> None:
    options = replace(SMALL, network=network, on_policy=on_policy, cosine=on_policy)
    scores = log_scores(standardise(values(3)))

    def trained(folder: Path, every: int | None = 2) -> Any:
        run = start(folder, every=every)
        module = train(run, scores, options, STEPS, 3, (), "small", (2, evaluate))
        drawn = torch.rand(3)  # what follows in a chapter draws from the same generator
        return module, module.losses, module.evaluations, drawn

    check_resumes(trained, tmp_path)
    plain = trained(tmp_path / "plain", every=None)
    assert len(plain[1]) == STEPS
    assert [step for step, _ in plain[2]] == list(range(2, STEPS + 1, 2))
    assert digest(plain) == digest(trained(tmp_path / "again"))


def test_learned_marginals(tmp_path: Path) -> None:
    settings = Settings(**asdict(SMALL), samples=50)

    def both(folder: Path) -> list[Learned]:
        run = start(folder)
        return [learn(run, "spr", values(3), settings, STEPS, seed) for seed in (0, 1)]

    check_resumes(both, tmp_path)


def test_other_galaxies_other_options_and_another_seed_have_checkpoints_of_their_own(tmp_path: Path) -> None:
    """The same label each time; the stand-in's checkpoint must not serve the real data."""
    scores = log_scores(standardise(values(3)))

    def again(table: np.ndarray = scores, options: Training = SMALL, **changes: Any) -> list[int]:
        run = start(tmp_path, changes.get("run_seed", 0))
        run.data_source = changes.get("source", "standin")
        with killed_after(10**9) as written:
            train(run, table, options, STEPS, changes.get("seed", 0), (), "small")
        return written

    with killed_after(2), pytest.raises(Killed):
        again()
    every_step = list(range(2, STEPS + 1, 2))
    assert again(source="real") == every_step
    assert again(log_scores(standardise(2.0 * values(3) ** 3))) == every_step
    assert again(options=replace(SMALL, learning_rate=1e-3, exploration=(0.5, 0.1))) == every_step
    assert again(seed=1) == every_step
    assert again(run_seed=1) == every_step
    assert again() == every_step[2:]


def test_the_paper_profile_keeps_checkpoints() -> None:
    paper = PROFILES["paper"]
    every = paper.of(Machine).checkpoint_every
    assert every is not None
    assert every < paper.of(Settings).steps / 10
