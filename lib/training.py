"""One factory for Lightning trainers: seeds, precision, checkpoints, resume, progress, strategy."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from tqdm import tqdm

from lib.checkpoints import KeepCheckpoint, WholeFiles, keeping
from lib.records import Run

PROGRESS_VARIABLE = "PAPERS_PROGRESS"
Item = TypeVar("Item")

# What Lightning says of data loaders' workers, of missing loggers and of tensor cores is about its own defaults,
# which this collection has chosen on purpose.
for _noise in (
    ".*LeafSpec.*is deprecated.*",
    ".*does not have many workers.*",
    ".*GPU available but not used.*",
):
    warnings.filterwarnings("ignore", message=_noise)
for _logger in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
    logging.getLogger(_logger).setLevel(logging.ERROR)


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
    devices: Any = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
    checkpoint_every: int | None = None,
    callbacks: Sequence[Callback] = (),
    log_every: int = 50,
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
        devices, num_nodes, strategy: passed to Lightning, for trainings that outgrow one device.
        checkpoint_every: steps between checkpoints; None keeps none.
        callbacks: further callbacks.
        log_every: steps between logged values.
        options: further arguments of ``lightning.Trainer``.
    """
    every: list[Callback] = list(callbacks)
    keep = keeping(run, name, (job, max_steps, gradient_clip, precision), checkpoint_every)
    if keep is not None:
        every.append(keep)
    if progress_enabled():
        every.append(TQDMProgressBar(refresh_rate=20))
    accelerator = {"cuda": "gpu"}.get(run.device.type, run.device.type)
    return lightning.Trainer(
        max_steps=max_steps,
        max_epochs=-1,
        accelerator=accelerator,
        devices=1 if accelerator == "cpu" and devices == "auto" else devices,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,
        gradient_clip_val=gradient_clip,
        callbacks=every,
        log_every_n_steps=log_every,
        logger=options.pop("logger", False),
        enable_checkpointing=keep is not None,
        plugins=None if keep is None else [WholeFiles()],
        enable_progress_bar=progress_enabled(),
        enable_model_summary=False,
        num_sanity_val_steps=options.pop("num_sanity_val_steps", 0),
        **options,
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
    keeps = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, KeepCheckpoint)]
    for keep in keeps:
        last = keep.claim(module, job)
    keywords = (
        {"datamodule": data}
        if isinstance(data, lightning.LightningDataModule)
        else {"train_dataloaders": data}
    )
    trainer.fit(module, ckpt_path=last, weights_only=True, **keywords)
    for keep in keeps:
        keep.after_fit()
    if trainer.interrupted:
        raise KeyboardInterrupt(f"training stopped at step {trainer.global_step}")
