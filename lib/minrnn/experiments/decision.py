"""Offline reinforcement learning on a pendulum (Table 3, claim C6), and the same with the velocity hidden: is a memory needed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.minrnn.decision_model import MEMORYLESS, DecisionResult, DecisionSettings, pendulum_results
from lib.minrnn.model_styles import LABELS, colours, labels, style_of
from lib.minrnn.pendulum import DATA_SETS, VELOCITY
from lib.minrnn.rate_search import Rates, check_rates, rates_of
from lib.profiles import setting, settings_class
from lib.statistics import mean_interval

if TYPE_CHECKING:
    from lib.records import Run

SEQUENCE_MODELS = ("attention", "s6")
WITHOUT_VELOCITY = (VELOCITY,)


@settings_class
class Settings(DecisionSettings):
    """What is compared, beside the sizes of each training."""

    sets: tuple[str, ...] = setting(
        ("medium-expert",), "names", "pendulum data sets", "nine D4RL sets", among=DATA_SETS, distinct=True
    )
    models: tuple[str, ...] = setting(
        ("min_gru", "attention", MEMORYLESS),
        "names",
        "compared models",
        "minGRU, minLSTM; DT, DS4, DAaren, DMamba",
        among=LABELS,
        distinct=True,
    )
    # In the default profile each model's rate is the best of 2e-3, 4e-3, 8e-3, 16e-3 and 32e-3, found beforehand by
    # choose_learning_rate with the run's seed 0; the profile gpu tries all of its rates in the run.
    learning_rates: Rates = setting(
        ((16e-3,), (16e-3,), (16e-3,)),
        "1",
        "AdamW's peak rates, tried on the first set: one tuple for all models, or one per model",
        1e-4,
        above=0,
    )
    blind_learning_rates: Rates = setting(
        ((16e-3,), (8e-3,)), "1", "the same for minGRU and the memoryless MLP without the velocity", above=0
    )
    episodes: int = setting(200, "episodes", "episodes of a data set, a tenth of them held out", least=2)
    seeds: int = setting(5, "seeds", "repetitions of every model", "5 (unsure)", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates("learning_rates", self.learning_rates, self.models)
        if self.blind_models:
            check_rates("blind_learning_rates", self.blind_learning_rates, self.blind_models)

    @property
    def blind_models(self) -> tuple[str, ...]:
        """The models that are also trained without the velocity."""
        return tuple(m for m in self.models if m in ("min_gru", MEMORYLESS))


_DEFAULT = Settings()
_SMOKE = replace(
    _DEFAULT, width=16, layers=1, context=4, batch=8, steps=4, warmup=1, episodes=20, evaluation_episodes=2, seeds=1
)  # fmt: skip
_GPU = replace(
    _DEFAULT,
    sets=DATA_SETS,
    models=("min_gru", "min_lstm", "attention", "s6", "diagonal_ssm", MEMORYLESS),
    context=20,
    width=48,
    layers=3,
    batch=64,
    steps=500,
    learning_rates=((1e-3, 2e-3, 4e-3),),
    blind_learning_rates=((1e-3, 2e-3, 4e-3),),
    evaluation_episodes=50,
    seeds=3,
)
_PAPER = replace(
    _GPU,
    seeds=5,
    width=128,
    steps=100_000,
    learning_rates=((1e-4,),),
    blind_learning_rates=((1e-4,),),
    dropout=0.1,
)
PROFILES = {"smoke": _SMOKE, "default": _DEFAULT, "gpu": _GPU, "paper": _PAPER}


def jobs(run: Run[Any]) -> list[partial[list[DecisionResult]]]:
    """One job per model, all its sets and seeds; then those without the velocity, on the first set."""
    s = run.of(Settings)
    seeds = run.seeds(s.seeds)
    seeing = [
        partial(
            pendulum_results,
            run,
            s,
            model,
            s.sets,
            s.episodes,
            rates_of(model, s.learning_rates, s.models),
            seeds,
        )
        for model in s.models
    ]
    blind = [
        partial(
            pendulum_results, run, s, model, s.sets[:1], s.episodes,
            rates_of(model, s.blind_learning_rates, s.blind_models), seeds, WITHOUT_VELOCITY,
        )
        for model in s.blind_models
    ]  # fmt: skip
    return [*seeing, *blind]


def metrics(settings: Settings) -> list[str]:
    """Names of the numbers that :func:`measure` records."""
    models = settings.models
    names = [f"decision_score_{model}" for model in models]
    if "min_gru" in models:
        names += ["decision_gap_best_other"] * any(m in models for m in SEQUENCE_MODELS)
        names += ["decision_gap_memoryless"] * (MEMORYLESS in models)
        names += ["decision_gap_s4"] * ("diagonal_ssm" in models)
    if len(settings.blind_models) == 2:
        names.append("hidden_velocity_log_error_ratio")
    return names


def measure(run: Run[Any], results: list[list[DecisionResult]]) -> None:
    """C6: scores by model, and gap = score(minGRU) − score(best other sequence model by mean), paired by seed, in points.

    hidden_velocity_log_error_ratio: log-ratio of held-out action errors, memoryless over minGRU, with the velocity hidden
    (0: memory is of no use).
    """
    full, blind = by_view(results)
    models = list(dict.fromkeys(r.model for r in full))
    scores = {model: scores_by_seed(full, model) for model in models}
    for model in models:
        run.measure(f"decision_score_{model}", scores[model], unit="score")
    if "min_gru" in models:
        others = [m for m in SEQUENCE_MODELS if m in models]
        if others:
            best = max(others, key=lambda m: scores[m].mean())
            run.measure("decision_gap_best_other", scores["min_gru"] - scores[best], unit="points")
        for model, name in ((MEMORYLESS, "memoryless"), ("diagonal_ssm", "s4")):
            if model in models:
                run.measure(f"decision_gap_{name}", scores["min_gru"] - scores[model], unit="points")
    errors = {m: np.array([r.action_error for r in blind if r.model == m]) for m in ("min_gru", MEMORYLESS)}
    if all(e.size for e in errors.values()):
        ratio = np.log(errors[MEMORYLESS] / errors["min_gru"])
        run.measure("hidden_velocity_log_error_ratio", ratio, unit="1")


def by_view(results: Sequence[Sequence[DecisionResult]]) -> tuple[list[DecisionResult], list[DecisionResult]]:
    """Results of models that saw the full state, and of those from which the velocity was hidden."""
    every = [r for own in results for r in own]
    return [r for r in every if not r.hidden], [r for r in every if r.hidden]


def scores_by_seed(results: Sequence[DecisionResult], model: str) -> np.ndarray:
    """Score by seed, averaged over data sets."""
    seeds = sorted({r.seed for r in results})
    return np.array([np.mean([r.score for r in results if r.model == model and r.seed == s]) for s in seeds])


def tables(settings: Settings, results: list[list[DecisionResult]]) -> dict[str, pd.DataFrame]:
    """``models``: number of weights, mean score by data set, and mean action errors with and without the velocity."""
    full, blind = by_view(results)
    rows = []
    for model in settings.models:
        row: dict[str, Any] = {"model": style_of(model).label}
        own = [r for r in full if r.model == model]
        row |= {"rate": own[0].learning_rate, "weights": own[0].parameters}
        for data_set in settings.sets:
            row[f"score, {data_set}"] = float(np.mean([r.score for r in own if r.data_set == data_set]))
        for view, chosen in (("", own), (", velocity hidden", [r for r in blind if r.model == model])):
            errors = [r.action_error for r in chosen if r.data_set == settings.sets[0]]
            row[f"action error{view} (Nm)"] = float(np.mean(errors)) if errors else float("nan")
        rows.append(row)
    return {"models": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[list[DecisionResult]]) -> dict[str, Figure]:
    """``scores``: normalised returns of every model; ``hidden_velocity``: who needs a memory."""
    full, blind = by_view(results)
    drawn = {"scores": _scores(settings, full)}
    if blind:
        seen = [r for r in full if r.data_set == settings.sets[0] and r.model in settings.blind_models]
        drawn["hidden_velocity"] = _hidden_velocity(settings, seen, blind)
    return drawn


def _scores(settings: Settings, results: Sequence[DecisionResult]) -> Figure:
    """Normalised score by model and data set: seeds as dots, mean with 95 % interval, mean of the data as a line."""
    sets, models = settings.sets, settings.models
    fig, axes = plt.subplots(1, len(sets), figsize=(4 + 4 * len(sets), 4.2), sharey=True, squeeze=False)
    for ax, data_set in zip(axes[0], sets, strict=True):
        for i, model in enumerate(models):
            values = [r.score for r in results if r.data_set == data_set and r.model == model]
            interval, style = mean_interval(values), style_of(model)
            ax.plot([i] * len(values), values, style.marker, ms=4, alpha=0.6, color=style.colour)
            error = (
                [[interval.mean - interval.low], [interval.high - interval.mean]] if interval.n > 1 else None
            )
            ax.errorbar(i, interval.mean, yerr=error, fmt=style.marker, ms=8, capsize=5, color=style.colour)
        of_data = float(np.mean([r.data_score for r in results if r.data_set == data_set]))
        ax.axhline(of_data, color="0.4", ls="--", lw=1)
        ax.text(len(models) - 0.5, of_data, "data's mean", ha="right", va="bottom", fontsize=9, color="0.3")
        ax.set_xticks(range(len(models)), [label.replace(" ", "\n") for label in labels(models)])
        ax.set(
            ylabel="score (0 random, 100 expert)",
            title=f"pendulum {data_set}",
            xlim=(-0.6, len(models) - 0.4),
        )
    return fig


def _hidden_velocity(
    settings: Settings, full: Sequence[DecisionResult], blind: Sequence[DecisionResult]
) -> Figure:
    """Held-out action error of models with memory and without, with the full state and with the velocity hidden."""
    rows = [
        {"model": style_of(r.model).label, "error": r.action_error, "the model sees": what}
        for what, results in (("position and velocity", full), ("position only", blind))
        for r in results
    ]
    fig, ax = plt.subplots()
    frame, palette = pd.DataFrame(rows), colours(settings.blind_models)
    shared: dict[str, Any] = {
        "x": "the model sees",
        "y": "error",
        "hue": "model",
        "palette": palette,
        "ax": ax,
    }
    sns.barplot(frame, errorbar=None, alpha=0.55, **shared)
    sns.stripplot(frame, dodge=True, legend=False, size=6, **shared)
    ax.set(ylabel="held-out action error (root mean square, Nm)", title="Who needs a memory?", xlabel="")
    ax.legend(title=None)
    return fig
