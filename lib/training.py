"""One factory for Lightning trainers: precision, checkpoints, resume, progress, strategy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import lightning
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from tqdm import tqdm

from lib.checkpoints import KeepCheckpoint, WholeFiles, keeping
from lib.records import Run
from lib.warning_filters import one_process, quiet_lightning

PROGRESS_VARIABLE = "PAPERS_PROGRESS"
Item = TypeVar("Item")

quiet_lightning()


def progress_enabled() -> bool:
    """Progress bars are on unless the variable ``PAPERS_PROGRESS`` is 0, as it is while pages are rendered."""
    return os.environ.get(PROGRESS_VARIABLE, "1") != "0"


def progress(iterable: Iterable[Item], desc: str, total: int | None = None) -> Iterable[Item]:
    """Iterate with a progress bar that stays out of rendered pages."""
    return tqdm(iterable, desc=desc, total=total, leave=False, disable=not progress_enabled())


def make_trainer(
    run: Run[Any],
    *,
    max_steps: int,
    name: str,
    job: Any = (),
    gradient_clip: float | None = None,
    precision: Any = "32-true",
    checkpoint_every: int | None = None,
    **options: Any,
) -> lightning.Trainer:
    """Make the trainer of one training inside a run.

    Args:
        run: gives the device and the output folder.
        max_steps: optimiser steps.
        name: names this training, in this run alone; see :mod:`lib.checkpoints`.
        job: what distinguishes the training beside its module and the run's settings: what its data are made of.
        gradient_clip: maximal gradient norm, or None.
        precision: Lightning's precision string (``"32-true"``, ``"bf16-mixed"``, …).
        checkpoint_every: steps between checkpoints; None keeps none.
        options: further arguments of :func:`plain_trainer`.
    """
    return plain_trainer(
        run.device,
        max_steps=max_steps,
        keep=keeping(run, name, (job, max_steps, gradient_clip, precision), checkpoint_every),
        gradient_clip=gradient_clip,
        precision=precision,
        bars=progress_enabled(),
        **options,
    )


def plain_trainer(
    device: torch.device,
    *,
    max_steps: int,
    keep: KeepCheckpoint | None = None,
    gradient_clip: float | None = None,
    precision: Any = "32-true",
    devices: Any = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
    callbacks: Sequence[Callback] = (),
    log_every: int = 50,
    bars: bool = False,
    **options: Any,
) -> lightning.Trainer:
    """Make a trainer outside a run: the one place where Lightning's defaults are set for all trainings.

    Args:
        device: where to train.
        max_steps: optimiser steps, as Lightning counts them; -1 for as many as the data have.
        keep: keeps the training's checkpoints; None keeps none.
        gradient_clip: maximal gradient norm, or None.
        precision: Lightning's precision string (``"32-true"``, ``"bf16-mixed"``, …).
        devices, num_nodes, strategy: passed to Lightning, for trainings that outgrow one device; ``auto`` is one device, in this
            process, also inside a job of SLURM.
        callbacks: further callbacks.
        log_every: steps between logged values.
        bars: whether to show a progress bar.
        options: further arguments of ``lightning.Trainer``.
    """
    every: list[Callback] = list(callbacks)
    plugins: list[Any] = [*options.pop("plugins", ()), WholeFiles()]
    if keep is not None:
        every.append(keep)
    if bars:
        every.append(TQDMProgressBar(refresh_rate=20))
    if num_nodes == 1 and devices in ("auto", 1):
        plugins += one_process()
    if devices == "auto":
        devices = 1 if device.index is None else [device.index]
    defaults = {"max_epochs": -1, "logger": False, "num_sanity_val_steps": 0}
    return lightning.Trainer(
        max_steps=max_steps,
        accelerator={"cuda": "gpu"}.get(device.type, device.type),
        devices=devices,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,
        gradient_clip_val=gradient_clip,
        callbacks=every,
        log_every_n_steps=log_every,
        enable_checkpointing=keep is not None,
        plugins=plugins,
        enable_progress_bar=bars,
        enable_model_summary=False,
        **(defaults | options),
    )


def fit(
    trainer: lightning.Trainer, module: lightning.LightningModule, data: Any = None, *, job: Any = ()
) -> None:
    """Fit ``module``, from the training's last checkpoint if an interrupted run left one.

    A training that had ended already is loaded and takes no step: what follows a training is therefore done by its caller, not
    in the module's ``on_train_end``.

    Args:
        data: a LightningDataModule, a DataLoader, or None if the module brings its own.
        job: what belongs to the checkpoint's key and is known only here.

    Raises:
        CheckpointError: if two trainings of one run bear the same name, or a checkpoint cannot be written.
        KeyboardInterrupt: passed on, so that an interrupted notebook stops instead of judging half a training.
    """
    last = None
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, KeepCheckpoint):
            last = callback.claim(module, job)
    keywords = (
        {"datamodule": data}
        if isinstance(data, lightning.LightningDataModule)
        else {"train_dataloaders": data}
    )
    trainer.fit(module, ckpt_path=last, weights_only=True, **keywords)
    if trainer.interrupted:
        raise KeyboardInterrupt(f"training stopped at step {trainer.global_step}")
