"""The Trainer factory: determinism, options and quiet pages; checkpoints have tests of their own."""

from __future__ import annotations

from pathlib import Path

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lib.training import fit, make_trainer, plain_trainer, progress
from tests.sample_chapter import start


class Line(lightning.LightningModule):
    """Least squares on a line."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return (self.layer(batch[0]) - 2 * batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


def loader() -> DataLoader:
    return DataLoader(TensorDataset(torch.linspace(-1, 1, 64)[:, None]), batch_size=8)


def test_same_seed_same_weights(tmp_path: Path) -> None:
    weights = []
    for _ in range(2):
        run = start(tmp_path, seed=1)
        module = Line()
        fit(make_trainer(run, max_steps=20, name="line"), module, loader())
        weights.append(module.layer.weight.item())
    assert weights[0] == weights[1]
    assert weights[0] != pytest.approx(0, abs=1e-3)


def test_lightning_options_pass_through(tmp_path: Path) -> None:
    run = start(tmp_path)
    trainer = make_trainer(
        run,
        max_steps=1,
        name="x",
        precision="bf16-mixed",
        devices=2,
        num_nodes=3,
        strategy="ddp",
        gradient_clip=0.25,
    )
    assert trainer.num_devices == 2
    assert trainer.num_nodes == 3
    assert trainer.gradient_clip_val == 0.25
    assert trainer.precision == "bf16-mixed"


def test_a_training_outside_a_run_is_the_same_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = []
    for trainer in (
        make_trainer(start(tmp_path, seed=1), max_steps=20, name="line"),
        plain_trainer(torch.device("cpu"), max_steps=20),
        plain_trainer(torch.device("cpu"), max_steps=-1, max_epochs=3),  # until the data end
    ):
        torch.manual_seed(1)
        module = Line()
        capfd.readouterr()
        fit(trainer, module, loader())
        weights.append(module.layer.weight.item())
    assert weights[0] == weights[1]
    assert trainer.global_step == 24
    shown = capfd.readouterr()
    assert shown.err + shown.out == ""


@pytest.mark.parametrize(("value", "quiet"), [("0", True), ("1", False)])
def test_progress_bars_stay_out_of_pages(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    value: str,
    quiet: bool,
) -> None:
    monkeypatch.setenv("PAPERS_PROGRESS", value)
    run = start(tmp_path)
    fit(make_trainer(run, max_steps=4, name="line"), Line(), loader())
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    shown = capfd.readouterr()
    assert (shown.err + shown.out == "") == quiet
