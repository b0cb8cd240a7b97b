"""One training of the chapter: Lightning's trainer with everything that prints switched off, on any device, resumable."""

from __future__ import annotations

import warnings
from typing import Any

import lightning
import torch

from lib import training
from lib.checkpoints import KeepCheckpoint

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
    trainer = training.plain_trainer(device, max_steps=steps, precision=precision, keep=keep)
    with (
        torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []),
        warnings.catch_warnings(),
    ):
        for message in MEANT:
            warnings.filterwarnings("ignore", message=message)
        torch.manual_seed(seed)
        training.fit(trainer, module, job=(steps, seed, precision, job))
    module.to(device)  # Lightning brings modules back to the CPU
