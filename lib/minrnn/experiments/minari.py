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
from lib.minrnn.minari_data import d4rl_results
from lib.minrnn.model_styles import LABELS, style_of
from lib.minrnn.rate_search import Rates, check_rates, rates_of
from lib.profiles import ParameterError, setting, settings_class

if TYPE_CHECKING:
    from lib.records import Run

CELLS = {"min_gru": "mingru", "min_lstm": "minlstm"}
OTHERS = ("attention", "s6")
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
    learning_rates: Rates = setting(
        ((1e-4,),),
        "1",
        "AdamW's rates, tried on each set: one tuple for all models, or one per model",
        1e-4,
        above=0,
    )
    seeds: int = setting(5, "seeds", "repetitions of every model", "5 (unsure)", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates("learning_rates", self.learning_rates, self.models)
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
    warmup=0,
    cosine=False,
    dropout=0.1,
    evaluation_episodes=50,
)
PROFILES = {"smoke": _NONE, "default": _NONE, "gpu": _NONE, "paper": _PAPER}


def jobs(run: Run[Any]) -> list[partial[list[DecisionResult]]]:
    """One job per data set and model, all its seeds."""
    s = run.of(Settings)
    return [
        partial(
            d4rl_results,
            run,
            s,
            model,
            dataset_id,
            rates_of(model, s.learning_rates, s.models),
            run.seeds(s.seeds),
        )
        for dataset_id in s.ids
        for model in s.models
    ]


def metrics(settings: Settings) -> list[str]:
    """Names of the numbers that :func:`measure` records."""
    if not settings.ids:
        return []
    models = settings.models
    cells = [cell for mixer, cell in CELLS.items() if mixer in models]
    names = [f"d4rl_{cell}_{set_key(i)}" for i in settings.ids for cell in cells]
    if len(settings.ids) == SETS_OF_THE_PAPER:
        names += [f"d4rl_{cell}_average" for cell in cells]
    if set(OTHERS) & set(models):
        names += [f"d4rl_gap_best_other_{cell}" for cell in cells]
    if "diagonal_ssm" in models:
        names += [f"d4rl_gap_s4_{cell}" for cell in cells]
    return names


def measure(run: Run[Any], results: list[list[DecisionResult]]) -> None:
    """Normalised scores of minGRU and minLSTM, by seed.

    - d4rl: by set, named as the rows of Table 3, and their average where there are nine sets.
    - d4rl_gap_best_other: average over the sets minus that of the best other sequence model by mean; d4rl_gap_s4: minus that of
      the S4-type control; in points.
    """
    if not results:
        return
    every = [r for own in results for r in own]
    ids = list(dict.fromkeys(r.data_set for r in every))
    scores = {  # model → (sets, seeds)
        model: np.array([[r.score for r in every if (r.model, r.data_set) == (model, i)] for i in ids])
        for model in dict.fromkeys(r.model for r in every)
    }
    averages = {model: own.mean(0) for model, own in scores.items()}
    others = [m for m in OTHERS if m in averages]
    for mixer, cell in CELLS.items():
        if mixer not in scores:
            continue
        for dataset_id, values in zip(ids, scores[mixer], strict=True):
            run.measure(f"d4rl_{cell}_{set_key(dataset_id)}", values, unit="score")
        if len(ids) == SETS_OF_THE_PAPER:
            run.measure(f"d4rl_{cell}_average", averages[mixer], unit="score")
        if others:
            best = max(others, key=lambda m: averages[m].mean())
            run.measure(f"d4rl_gap_best_other_{cell}", averages[mixer] - averages[best], unit="points")
        if "diagonal_ssm" in averages:
            gap = averages[mixer] - averages["diagonal_ssm"]
            run.measure(f"d4rl_gap_s4_{cell}", gap, unit="points")


def tables(settings: Settings, results: list[list[DecisionResult]]) -> dict[str, pd.DataFrame]:
    """``scores``: one row per data set, model and seed; no table where nothing was run."""
    rows = [
        {
            "data set": r.data_set,
            "model": style_of(r.model).label,
            "seed": r.seed,
            "rate": r.learning_rate,
            "score": r.score,
            "mean score of the data": r.data_score,
            "held-out action error": r.action_error,
        }
        for own in results
        for r in own
    ]
    return {"scores": pd.DataFrame(rows)} if rows else {}


def figures(settings: Settings, results: list[list[DecisionResult]]) -> dict[str, Figure]:
    """None: Table 3 is a table."""
    return {}
