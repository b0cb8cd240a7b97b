"""The Trainer factory: determinism, quiet pages, and a killed training that loses nothing."""

from __future__ import annotations

from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, TensorDataset

from lib.training import checkpoint_folder, fit, make_trainer, progress
from tests.sample_chapter import start


class Line(lightning.LightningModule):
    """Least squares on a line; counts the steps that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.steps_seen = 0

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        self.steps_seen += 1
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


def test_a_killed_training_resumes_where_it_stopped(tmp_path: Path) -> None:
    class Kill(Callback):
        def on_train_batch_end(self, trainer: lightning.Trainer, *rest: object) -> None:
            if trainer.global_step == 12:
                raise RuntimeError("killed")

    run = start(tmp_path, seed=1)
    whole = Line()
    state = {k: v.clone() for k, v in whole.state_dict().items()}
    fit(make_trainer(run, max_steps=20, name="whole"), whole, loader())

    first = Line()
    first.load_state_dict(state)
    with pytest.raises(RuntimeError, match="killed"):
        fit(
            make_trainer(run, max_steps=20, name="cut", checkpoint_every=8, callbacks=[Kill()]),
            first,
            loader(),
        )
    second = Line()
    fit(make_trainer(run, max_steps=20, name="cut", checkpoint_every=8), second, loader())
    assert second.steps_seen == 12  # from the checkpoint of step 8 (an epoch's end), not from zero
    assert torch.allclose(second.layer.weight, whole.layer.weight, atol=1e-6)


def test_checkpoints_of_other_settings_are_never_resumed(tmp_path: Path) -> None:
    one, two = start(tmp_path), start(tmp_path, overrides={"steps": 3})
    assert checkpoint_folder(one, "a") != checkpoint_folder(two, "a")
    assert checkpoint_folder(one, "a") != checkpoint_folder(start(tmp_path, seed=1), "a")
    assert checkpoint_folder(one, "a") == checkpoint_folder(start(tmp_path), "a")


def test_finishing_drops_the_checkpoints(tmp_path: Path) -> None:
    run = start(tmp_path)
    fit(make_trainer(run, max_steps=6, name="line", checkpoint_every=2), Line(), loader())
    assert (checkpoint_folder(run, "line") / "last.ckpt").is_file()
    run.finish()
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


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
