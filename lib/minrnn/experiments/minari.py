"""D4RL through Minari (Table 3): the paper's own data sets, for whoever has them; nothing is run where no set is named."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.minrnn.decision_model import MEMORYLESS, DecisionResult, DecisionSettings
from lib.minrnn.minari_data import d4rl_result
from lib.minrnn.model_styles import LABELS, style_of
from lib.profiles import ParameterError, setting, settings_class

if TYPE_CHECKING:
    from lib.records import Run

CELLS = {"min_gru": "mingru", "min_lstm": "minlstm"}
SETS_OF_THE_PAPER = 9
ID = re.compile(r"([\w.-]+/)+[\w.-]+-v\d+")


def set_key(dataset_id: str) -> str:
    """A data set's id as a part of the names of metrics: ``mujoco/hopper/medium-v0`` → ``hopper_medium``."""
    environment, kind = dataset_id.split("/")[-2:]
    return f"{environment}_{kind.rsplit('-v', 1)[0].replace('-', '_')}"


@settings_class
class Settings(DecisionSettings):
    """What is compared, beside the sizes of each training."""

    ids: tuple[str, ...] = setting((), "ids", "Minari data sets to train on", empty=True, distinct=True)
    models: tuple[str, ...] = setting(
        ("min_gru", "min_lstm", "attention", "s6", "diagonal_ssm", MEMORYLESS),
        "names",
        "compared models",
        "minGRU, minLSTM; DT, DS4, DAaren, DMamba",
        among=LABELS,
        distinct=True,
    )
    seeds: int = setting(5, "seeds", "repetitions of every model", "5 (unsure)", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for dataset_id in self.ids:
            if not ID.fullmatch(dataset_id):
                raise ParameterError(f"ids: {dataset_id!r} is not of the form mujoco/hopper/medium-v0")
        if len({set_key(i) for i in self.ids}) < len(self.ids):
            raise ParameterError(f"ids={self.ids} names two versions of one data set")


_NONE = Settings()
_PAPER = replace(
    _NONE,
    ids=("mujoco/halfcheetah/medium-v0", "mujoco/hopper/medium-v0", "mujoco/walker2d/medium-v0"),
    context=20,
    width=128,
    layers=3,
    batch=64,
    steps=100_000,
    learning_rate=1e-4,
    warmup=0,
    cosine=False,
    dropout=0.1,
    evaluation_episodes=50,
)
PROFILES = {"smoke": _NONE, "default": _NONE, "gpu": _NONE, "paper": _PAPER}


def jobs(run: Run[Any]) -> list[partial[DecisionResult]]:
    """One job per data set, model and seed."""
    s = run.of(Settings)
    return [
        partial(d4rl_result, run, s, model, dataset_id, seed)
        for dataset_id in s.ids
        for model in s.models
        for seed in run.seeds(s.seeds)
    ]


def metrics(settings: Settings) -> list[str]:
    """Names of the numbers that :func:`measure` records."""
    cells = [cell for mixer, cell in CELLS.items() if mixer in settings.models]
    names = [f"d4rl_{cell}_{set_key(i)}" for i in settings.ids for cell in cells]
    averaged = len(settings.ids) == SETS_OF_THE_PAPER and "min_gru" in settings.models
    return [*names, "d4rl_mingru_average"] if averaged else names


def measure(run: Run[Any], results: list[DecisionResult]) -> None:
    """Normalised scores by set for minGRU and minLSTM, named as the rows of Table 3, and minGRU's average over nine sets."""
    ids = list(dict.fromkeys(r.data_set for r in results))
    for mixer, cell in CELLS.items():
        scores = [[r.score for r in results if r.data_set == i and r.model == mixer] for i in ids]
        for dataset_id, values in zip(ids, scores, strict=True):
            if values:
                run.measure(f"d4rl_{cell}_{set_key(dataset_id)}", values, unit="score")
        if mixer == "min_gru" and len(ids) == SETS_OF_THE_PAPER and all(scores):
            run.measure("d4rl_mingru_average", np.mean(scores, axis=0), unit="score")


def tables(settings: Settings, results: list[DecisionResult]) -> dict[str, pd.DataFrame]:
    """``scores``: one row per data set, model and seed; no table where nothing was run."""
    rows = [
        {
            "data set": r.data_set,
            "model": style_of(r.model).label,
            "seed": r.seed,
            "score": r.score,
            "mean score of the data": r.data_score,
            "held-out action error": r.action_error,
        }
        for r in results
    ]
    return {"scores": pd.DataFrame(rows)} if rows else {}


def figures(settings: Settings, results: list[DecisionResult]) -> dict[str, Figure]:
    """None: Table 3 is a table."""
    return {}
