"""One training of the chapter: Lightning's trainer with everything that prints switched off, on any device, resumable."""

from __future__ import annotations

import warnings
from typing import Any

import lightning
import torch

from lib import training
from lib.checkpoints import KeepCheckpoint, WholeFiles
from lib.warning_filters import one_process

# What Lightning warns of is meant here: a frozen prior and dropout that is off, and batches that come from the module's own
# generator and not from the loader.
MEANT = (
    ".*module.*in eval mode at the start of training.*",
    ".*your dataloader is not resumable.*",
)


def fit(
    module: lightning.LightningModule,
    *,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
    precision: Any = "32-true",
    job: Any = (),
    keep: KeepCheckpoint | None = None,
) -> None:
    """Fit ``module`` for ``steps`` steps as Lightning counts them; with ``keep``, from its last checkpoint if there is one.

    The global random state of the caller is left as it was; dropout is drawn from ``seed``.

    Args:
        precision: Lightning's precision string.
        job: what belongs to the checkpoint's key beside the other arguments and the state of ``module``.
        keep: counts the steps as Lightning does; None keeps nothing.

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
    on_gpu = device.type == "cuda"
    trainer = lightning.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="gpu" if on_gpu else device.type,
        devices=[device.index or 0] if on_gpu else 1,
        precision=precision,
        callbacks=None if keep is None else [keep],
        logger=False,
        enable_checkpointing=keep is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        plugins=[*one_process(), WholeFiles()],
    )
    with (
        torch.random.fork_rng(devices=[device.index or 0] if on_gpu else []),
        warnings.catch_warnings(),
    ):
        for message in MEANT:
            warnings.filterwarnings("ignore", message=message)
        torch.manual_seed(seed)
        training.fit(trainer, module, job=(steps, seed, precision, job))
    module.to(device)  # Lightning brings modules back to the CPU
