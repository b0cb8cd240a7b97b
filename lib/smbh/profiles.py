"""The four profiles of the chapter: the settings of its experiments put together."""

from __future__ import annotations

from lib.experiment import Machine
from lib.profiles import put_together
from lib.smbh.experiments import (
    calibration,
    compelled_edges,
    compendium,
    dag_gflownet,
    distance,
    enumeration,
    larger_systems,
    leave_one_out,
    measurement_error,
    pc_and_fci,
    permutation,
    power,
    priors,
    reversal,
    semi_analytic_model,
)
from lib.smbh.galaxies import SELECTIONS

EXPERIMENTS = {
    "enumeration": enumeration,
    "reversal": reversal,
    "compendium": compendium,
    "model": semi_analytic_model,
    "constraint": pc_and_fci,
    "omission": leave_one_out,
    "error": measurement_error,
    "distance": distance,
    "gflownet": dag_gflownet,
    "compelled": compelled_edges,
    "permutation": permutation,
    "power": power,
    "prior": priors,
    "calibration": calibration,
    "larger": larger_systems,
}
"""Prefix of its settings in ``overrides`` → experiment."""

MACHINES = {
    "smoke": Machine(workers=1),
    "default": Machine(),
    "gpu": Machine(),
    "paper": Machine(checkpoint_every=5_000),
}
PROFILES = put_together(EXPERIMENTS, SELECTIONS, MACHINES)
