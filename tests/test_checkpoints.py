"""Checkpoints: whose they are, that a kill or a full disk leaves a good one, and that a training goes on to equal numbers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lib import checkpoints
from lib.checkpoints import CheckpointError, KeepCheckpoint, Kept, WholeFiles, discard, is_whole
from lib.records import Run
from lib.training import fit, make_trainer
from tests.interruptions import Killed, check_resumes, killed_after
from tests.sample_chapter import start


class Noisy(lightning.LightningModule):
    """Least squares on a line with noise from every global generator; remembers what it drew."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = torch.nn.Linear(1, 1)
        torch.nn.init.constant_(self.layer.bias, bias)
        self.register_buffer("drawn", torch.zeros(3))
        self.steps_seen = 0

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        self.steps_seen += 1
        noise = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])
        self.drawn += noise
        return (self.layer(batch[0]) - 2 * batch[0] + noise.sum()).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


def loader(batches: int = 1) -> DataLoader:
    """Epochs of ``batches`` equal batches."""
    return DataLoader(TensorDataset(torch.linspace(-1, 1, 8).repeat(batches)[:, None]), batch_size=8)


def train(
    run: Run, name: str = "line", every: int | None = 2, bias: float = 0.0, job: Any = (), batches: int = 1
) -> Noisy:
    module = Noisy(bias)
    trainer = make_trainer(run, max_steps=20, name=name, job=job, checkpoint_every=every)
    fit(trainer, module, loader(batches))
    return module


def folders(run: Run) -> list[Path]:
    return sorted(path.parent for path in run.out_dir.glob("checkpoints/*/last.ckpt"))


@pytest.mark.parametrize("batches", [1, 3, 4, 100])
def test_a_killed_training_ends_with_the_same_numbers(tmp_path: Path, batches: int) -> None:
    check_resumes(lambda folder: train(start(folder, seed=1), batches=batches), tmp_path)
    plain, kept = train(start(tmp_path / "a"), every=None), train(start(tmp_path / "b"))
    assert torch.equal(plain.drawn, kept.drawn)


@pytest.mark.parametrize("batches", [1, 3, 4, 100])
def test_a_training_that_had_ended_takes_no_step(tmp_path: Path, batches: int) -> None:
    def numbers_that_follow() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    whole = train(start(tmp_path), batches=batches)
    expected = numbers_that_follow()
    again = train(start(tmp_path), batches=batches)
    assert again.steps_seen == 0
    assert torch.equal(again.drawn, whole.drawn)
    assert numbers_that_follow() == expected


def test_the_key_covers_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(run: Run, **changes: Any) -> str:
        train(run, **changes)
        return folders(run)[0].name

    one = keys(start(tmp_path / "a"))
    assert keys(start(tmp_path / "b")) == one
    other_data, other_code = start(tmp_path / "c"), start(tmp_path / "d")
    other_data.data_source = "standin"
    different = [
        keys(start(tmp_path / "e", seed=1)),
        keys(start(tmp_path / "f", overrides={"steps": 3})),
        keys(start(tmp_path / "g", profile="gpu")),
        keys(start(tmp_path / "h"), bias=3.0),  # only the initial weights differ
        keys(start(tmp_path / "i"), job=("variant", 2)),
        keys(start(tmp_path / "j"), name="other"),
        keys(other_data),
    ]
    monkeypatch.setattr(checkpoints, "code_hash", lambda slug, profile: "other code")
    different.append(keys(other_code))
    assert len({one, *different}) == 1 + len(different)


def test_a_label_used_twice_in_a_run_is_refused(tmp_path: Path) -> None:
    run = start(tmp_path)
    train(run)
    with pytest.raises(CheckpointError, match="two jobs of this run are called 'line'"):
        train(run, bias=3.0)
    train(run, name="other", bias=3.0)


def test_a_finished_run_removes_what_it_made_and_nothing_else(tmp_path: Path) -> None:
    interrupted = start(tmp_path, seed=7)
    with killed_after(2), pytest.raises(Killed):
        train(interrupted)
    foreign = tmp_path / "checkpoints" / "of somebody else"
    foreign.mkdir()
    (foreign / "weights").write_text("")
    [left] = folders(interrupted)

    run = start(tmp_path)
    train(run)
    run.finish()
    assert folders(run) == [left]
    assert (foreign / "weights").is_file()
    assert train(start(tmp_path, seed=7)).steps_seen == 16  # it goes on at step 4


def test_a_run_that_went_on_from_another_removes_its_checkpoints_too(tmp_path: Path) -> None:
    with killed_after(2), pytest.raises(Killed):
        train(start(tmp_path))
    run = start(tmp_path)
    train(run)
    run.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_moved_run_folder_goes_on_and_keeps_one_checkpoint(tmp_path: Path) -> None:
    with killed_after(3), pytest.raises(Killed):
        train(start(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    run = start(tmp_path / "there")
    with killed_after(2), pytest.raises(Killed):
        train(run)
    again = train(start(tmp_path / "there"))
    assert again.steps_seen == 10  # from step 10, not from step 6
    [folder] = folders(run)
    assert [path.name for path in folder.glob("*.ckpt")] == ["last.ckpt"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_set_aside_and_the_training_starts_anew(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = train(start(tmp_path / "plain"), every=None)
    run = start(tmp_path)
    with killed_after(3), pytest.raises(Killed):
        train(run)
    path = folders(run)[0] / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[content.index(b"state_dict")] ^= 0xFF  # inside a member: between them lie bytes that nobody reads
    damaged = {
        "cut": content[: len(content) // 2],
        "flipped": content,
        "empty": b"",
        "text": b"no checkpoint",
    }[damage]
    path.write_bytes(bytes(damaged))
    again = train(start(tmp_path))
    notice = capsys.readouterr().out
    assert "NOTICE: the checkpoint of 'line' is damaged" in notice
    assert "starts anew" in notice
    assert path.with_name("unreadable-last.ckpt").read_bytes() == bytes(damaged)
    assert again.steps_seen == 20
    assert torch.equal(again.drawn, plain.drawn)


def test_a_kill_or_a_full_disk_during_a_checkpoint_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, save = tmp_path / "folder" / "last.ckpt", torch.save
    WholeFiles().save_checkpoint({"step": 1}, path)

    def fail(error: BaseException) -> Any:
        def half(content: Any, target: Path) -> None:
            assert target.parent == path.parent  # the same file system
            target.write_bytes(b"half")
            raise error

        return half

    monkeypatch.setattr(torch, "save", fail(OSError(28, "No space left on device")))
    with pytest.raises(CheckpointError, match=r"the checkpoint folder cannot be written \(.*No space left"):
        WholeFiles().save_checkpoint({"step": 2}, path)
    monkeypatch.setattr(torch, "save", fail(Killed()))
    with pytest.raises(Killed):
        WholeFiles().save_checkpoint({"step": 2}, path)
    monkeypatch.setattr(torch, "save", save)
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert is_whole(path)


def test_what_a_kill_left_half_written_is_swept_by_the_next_run(tmp_path: Path) -> None:
    run = start(tmp_path)
    with killed_after(1), pytest.raises(Killed):
        train(run)
    half = folders(run)[0] / ".last.ckpt.123.tmp"
    half.write_bytes(b"half")
    train(start(tmp_path))
    assert not half.exists()


def test_labels_become_folder_names(tmp_path: Path) -> None:
    run = start(tmp_path)
    folder = Kept.of(run, "../a model/of a hub", ()).claim()
    assert folder.parent == run.out_dir / "checkpoints"
    discard(run.out_dir, run.run_id)
    assert list(tmp_path.iterdir()) == []


def test_no_step_between_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint_every=-1 must be at least 1"):
        KeepCheckpoint(Kept.of(start(tmp_path), "x", ()), -1)
