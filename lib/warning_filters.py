"""What libraries say about themselves and no reader of a page needs: kept out in one place, in every process that imports ``lib``.

A warning that is not listed here is shown, and the book does not build with it. Nothing is filtered that speaks of numbers.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

# Regular expressions that match the beginning of a message.
MESSAGES = (
    "IProgress not found",  # tqdm: progress bars are plain text here, and need no widgets
    # Lightning: about defaults that are chosen on purpose
    ".*LeafSpec.*is deprecated",
    ".*does not have many workers",
    ".*Checkpoint directory .* exists",
    ".*GPU available but not used",
    # Lightning: what a checkpoint needs (generators, counters, curves) is saved by the modules themselves, after the step
    ".*ModelCheckpoint with manual optimization",
    ".*your dataloader is not resumable",
    # Lightning: trainings run in one process, also where srun is installed
    "The `srun` command is available on your system but is not used",
    # torch: a home that cannot be written costs time only
    "Specified kernel cache directory could not be created",
)

# Loggers of libraries, set here before the library is imported, and the lowest level that is shown.
LOGGERS = {
    "matplotlib": logging.ERROR,  # that it takes a temporary folder for its fonts, and time to list them
    "matplotlib.font_manager": logging.ERROR,
}


def install() -> None:
    """Install the filters; they hold for libraries that are imported later as well."""
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message=message)
    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)


def quiet_lightning() -> None:
    """Silence Lightning's account of devices, seeds and finished steps. Call it after the import, which sets its levels."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)


def one_process() -> list[Any]:
    """Plugins of a trainer in one process on one device, whatever batch system started it.

    Inside an allocation of SLURM, Lightning would take the job's tasks for its own processes, refuse where their numbers differ,
    and set signal handlers that submit the job again.
    """
    from lightning.pytorch.plugins.environments import LightningEnvironment

    environment = LightningEnvironment()
    environment.set_global_rank(
        0
    )  # Lightning reads SLURM's as it is imported, and only rank 0 reports and saves
    return [environment]
