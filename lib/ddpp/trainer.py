"""One training of the chapter: Lightning's trainer with everything that prints switched off, on any device, resumable."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lib import training
from lib.warning_filters import one_process

# What Lightning warns of is meant here: a frozen prior and dropout that is off, weights saved after their step, and batches that
# come from the module's own generator and not from the loader.
MEANT = (
    ".*module.*in eval mode at the start of training.*",
    ".*ModelCheckpoint with manual optimization.*",
    ".*your dataloader is not resumable.*",
)


def fit(
    module: lightning.LightningModule,
    *,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
    precision: Any = "32-true",
    checkpoint_dir: Path | None = None,
    checkpoint_every: int | None = None,
) -> None:
    """Fit ``module`` for ``steps`` steps as Lightning counts them; with a folder, from its last checkpoint if there is one.

    The global random state of the caller is left as it was; dropout is drawn from ``seed``.

    Args:
        precision: Lightning's precision string.

    Raises:
        ValueError: for a GPU that is not there, or a device without float64, in which categoricals are drawn.
        KeyboardInterrupt: passed on, so that half a training is never judged.
    """
    device = torch.device(device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={str(device)!r} asks for a CUDA GPU, and there is none")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device={str(device)!r} has no float64, which categorical draws need; take cpu or cuda"
        )
    callbacks: list[Callback] = []
    if checkpoint_dir is not None and checkpoint_every:
        callbacks.append(
            ModelCheckpoint(
                dirpath=checkpoint_dir, every_n_train_steps=checkpoint_every, save_last=True, save_top_k=0
            )
        )
    on_gpu = device.type == "cuda"
    trainer = lightning.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="gpu" if on_gpu else device.type,
        devices=[device.index or 0] if on_gpu else 1,
        precision=precision,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        plugins=one_process(),
    )
    with (
        torch.random.fork_rng(devices=[device.index or 0] if on_gpu else []),
        warnings.catch_warnings(),
    ):
        for message in MEANT:
            warnings.filterwarnings("ignore", message=message)
        torch.manual_seed(seed)
        training.fit(trainer, module)
    module.to(device)  # Lightning brings modules back to the CPU
