"""The four profiles of the chapter: the settings of its experiments, put together."""

from __future__ import annotations

from lib.experiment import Experiment, Machine
from lib.minrnn.experiments import (
    decision,
    efficiency,
    forget_bias,
    formal_languages,
    memory,
    minari,
    parameter_count,
    precision,
    selective_copying,
    text,
)
from lib.profiles import put_together

EXPERIMENTS: dict[str, Experiment] = {
    "parameters": parameter_count,
    "efficiency": efficiency,
    "memory": memory,
    "copying": selective_copying,
    "bias": forget_bias,
    "text": text,
    "decision": decision,
    "minari": minari,
    "precision": precision,
    "formal": formal_languages,
}
"""Prefix of its settings in ``overrides`` → experiment."""

MACHINE = {
    "smoke": Machine(workers=1),
    "default": Machine(),
    "gpu": Machine(workers=4),
    "paper": Machine(workers=1, checkpoint_every=1000),
}

PROFILES = put_together(EXPERIMENTS, MACHINE)
