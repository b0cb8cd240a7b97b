"""Checkpoints of a run's trainings: whose they are, how they are written, and how a killed training goes on.

Each training has a folder ``out_dir/checkpoints/<label>-<key>``. The key covers the whole job: the chapter's code, profile, seed
and settings, the data source, whatever the caller names, and the module as it stands before the first step. A training
therefore goes on only from its own checkpoint. The folder bears the mark of the run that uses it, and a finished run removes
the folders that bear its own.
"""

from __future__ import annotations

import functools
import random
import re
import shutil
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from lib.atomic import replacing
from lib.digest import digest
from lib.fingerprint import content_hash
from lib.profiles import OneLineError

if TYPE_CHECKING:
    from lib.records import Run

FOLDER = "checkpoints"
LAST = "last.ckpt"


class CheckpointError(OneLineError, RuntimeError):
    """A checkpoint that cannot be written, or a label that two trainings of one run share."""


@dataclass(frozen=True)
class Kept:
    """A place for what one job of a run keeps until the run has ended. Plain and picklable: a worker claims it when it starts.

    Args:
        root: the run's folder of checkpoints.
        label: names the job; one job in a run bears it.
        run_id: of the run.
        job: digest of everything that the job depends on.
    """

    root: Path
    label: str
    run_id: str
    job: str

    @classmethod
    def of(cls, run: Run[Any], label: str, job: Any) -> Kept:
        """The place of the job ``label`` of ``run``.

        Args:
            job: what distinguishes the job beside the run's code, profile, seed, settings and data source: sizes, seeds, variants.
        """
        whole = (
            run.slug,
            run.profile,
            run.seed,
            run.settings,
            run.data_source,
            run.device.type,
            code_hash(run.slug, run.profile),
            label,
            job,
        )
        return cls(run.out_dir / FOLDER, label, run.run_id, digest(whole))

    def claim(self, *more: Any) -> Path:
        """Make the job's folder, or take over the one that an interrupted run left for the same job.

        Args:
            more: what else belongs to the key and is known only where the job runs.

        Raises:
            CheckpointError: if another job of this run bears the label already.
        """
        name = re.sub(r"[^\w.+-]", "_", self.label)
        folder = self.root / f"{name}-{digest((self.job, more))[:16]}"
        mark = f"run-{self.run_id}"
        twice = CheckpointError(
            f"two jobs of this run are called {self.label!r}; each needs a label of its own"
        )
        if any(path.read_text(encoding="utf-8") == self.label for path in self.root.glob(f"*/{mark}")):
            raise twice
        folder.mkdir(parents=True, exist_ok=True)
        for left in (*folder.glob("run-*"), *folder.glob(".*.tmp")):
            left.unlink(missing_ok=True)
        try:
            with (folder / mark).open("x", encoding="utf-8") as file:
                file.write(self.label)
        except FileExistsError:
            raise twice from None
        return folder


@functools.cache
def code_hash(slug: str, profile: str) -> str:
    """The chapter's code as this process found it, which is the code that it runs; hashing takes half a second, jobs are many."""
    return content_hash(slug, profile)


def discard(out_dir: Path, run_id: str) -> None:
    """Remove what the jobs of the run ``run_id`` kept in ``out_dir``, and nothing else."""
    root = out_dir / FOLDER
    for mark in list(root.glob(f"*/run-{run_id}")):
        shutil.rmtree(mark.parent)
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it: a kill or a full disk leaves the one before.

    Lightning itself writes into the temporary folder and copies where that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """See :class:`TorchCheckpointIO`.

        Raises:
            CheckpointError: if the file cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                torch.save(checkpoint, temporary)
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
            reason = " ".join(str(error).split())[:120]
            raise CheckpointError(
                f"the checkpoint {path.parent.name} cannot be written ({reason})"
            ) from error


class KeepCheckpoint(Checkpoint):
    """Writes one checkpoint every ``every`` steps and after the last one, with the state of the global generators in it.

    Args:
        kept: the training's place.
        every: optimiser steps, as Lightning counts them.

    Raises:
        ValueError: for fewer than one step.
    """

    def __init__(self, kept: Kept, every: int) -> None:
        if every < 1:
            raise ValueError(f"checkpoint_every={every} must be at least 1")
        self.kept, self.every = kept, every
        self.path: Path | None = None
        self.written_at = 0
        self._epoch_ended = False
        self._random: dict[str, Any] | None = None

    def claim(self, module: lightning.LightningModule, *more: Any) -> Path | None:
        """Take the training's folder; the checkpoint to go on from, if there is one that can be read.

        A damaged one is set aside under another name, with a notice, and the training starts anew.

        Raises:
            CheckpointError: see :meth:`Kept.claim`.
        """
        self.path = self.kept.claim(module, *more) / LAST
        if not self.path.is_file():
            return None
        if is_whole(self.path):
            return self.path
        set_aside(self.path, self.kept.label, "the training starts anew")
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"written_at": self.written_at, "epoch_ended": self._epoch_ended, "random": random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.written_at, self._epoch_ended = state_dict["written_at"], state_dict["epoch_ended"]
        self._random = state_dict["random"]

    # A data loader draws a number when its epoch begins. The interrupted run had drawn it where the checkpoint was written inside an
    # epoch, and had not where it was written at the end of one. Lightning begins an epoch between the first two hooks, also for
    # a training that had ended, which comes to the last one without a step.

    def on_fit_start(self, *_: Any) -> None:
        """Go on with the random numbers of a run that was interrupted between two epochs."""
        if self._random is not None and self._epoch_ended:
            set_random_state(self._random)

    def on_train_batch_start(self, *_: Any) -> None:
        """Go on with the random numbers of a run that was interrupted inside an epoch."""
        if self._random is not None and not self._epoch_ended:
            set_random_state(self._random)
        self._random = None

    def on_fit_end(self, *_: Any) -> None:
        """Go on with the random numbers that followed a training that had ended."""
        if self._random is not None:
            set_random_state(self._random)
            self._random = None

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Write the checkpoint when it is due."""
        step = trainer.global_step
        due = step - self.written_at >= self.every or step == trainer.max_steps
        if self.path is not None and due and step != self.written_at:
            self.written_at, self._epoch_ended = step, trainer.is_last_batch
            trainer.save_checkpoint(self.path)


def keeping(run: Run[Any], label: str, job: Any, every: int | None) -> KeepCheckpoint | None:
    """What keeps the checkpoints of the training ``label`` of ``run``; plain and picklable until the training starts.

    Args:
        job: see :meth:`Kept.of`.
        every: optimiser steps between checkpoints; None keeps none, and gives None.
    """
    return None if every is None else KeepCheckpoint(Kept.of(run, label, job), every)


def set_aside(path: Path, label: str, consequence: str) -> None:
    """Rename a damaged file of the job ``label``, and say so with the consequence."""
    aside = path.with_name(f"unreadable-{path.name}")
    path.replace(aside)
    where = f"{FOLDER}/{aside.parent.name}/{aside.name}"
    print(f"NOTICE: the checkpoint of {label!r} is damaged; it now lies in {where}, and {consequence}.")


def is_whole(path: Path) -> bool:
    """Whether the file is a complete zip archive, as torch writes them, with the checksum of every member."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error):
        return False  # what Python's reader raises depends on which byte is wrong


def random_state() -> dict[str, Any]:
    """The state of the global generators of Python, NumPy and torch, in types that ``weights_only`` loads."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """The inverse of :func:`random_state`; another number of GPUs keeps the states of its own."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    devices = state.get("cuda", [])
    if devices and torch.cuda.is_available() and len(devices) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([device.cpu() for device in devices])
