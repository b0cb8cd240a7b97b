"""Characters of Shakespeare (Fig. 2, claim C7): test losses of minGRU and minLSTM beside Transformers after equal steps."""

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

from lib.minrnn.character_text import FILE
from lib.minrnn.language_model import MODELS, TextResult, TextSettings, train_seeds
from lib.minrnn.model_styles import colours, labels, markers, style_of
from lib.profiles import ParameterError, setting, settings_class

if TYPE_CHECKING:
    from lib.records import Run

CELLS = ("minGRU", "minLSTM")
SAMPLED = "minGRU"


@settings_class
class Settings(TextSettings):
    """What is compared, beside the sizes of each training."""

    models: tuple[str, ...] = setting(
        ("minGRU", "minLSTM", "Transformer", "Transformer + conv"),
        "names",
        "models of Fig. 2",
        "minGRU, minLSTM, Mamba, Transformer",
        among=MODELS,
        distinct=True,
    )
    # In the default profile the rates are the best of 2e-3, 4e-3 and 8e-3 for each model, found beforehand by
    # choose_learning_rate on the inner split; larger profiles try all of them in the run.
    learning_rates: tuple[tuple[float, ...], ...] = setting(
        ((8e-3,), (8e-3,), (4e-3,), (8e-3,)),
        "1",
        "peak rates tried on an inner split of the training text: one tuple for all models, or one per model",
        "1e-3",
        above=0,
    )
    seeds: int = setting(3, "seeds", "repetitions of every model", "not found", least=1)
    sample_characters: int = setting(200, "characters", f"length of the text that {SAMPLED} writes", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.learning_rates) not in (1, len(self.models)):
            raise ParameterError(
                f"learning_rates={self.learning_rates} needs one tuple, or one for each of the {len(self.models)} models"
            )
        if any(len(set(rates)) < len(rates) for rates in self.learning_rates):
            raise ParameterError(f"learning_rates={self.learning_rates} names one of them twice")

    def rates(self, model: str) -> tuple[float, ...]:
        """The rates that ``model`` is tried with."""
        return self.learning_rates[self.models.index(model) if len(self.learning_rates) > 1 else 0]


_DEFAULT = Settings()
_SMOKE = replace(
    _DEFAULT, width=16, block=16, batch=4, steps=6, seeds=1, test_windows=4, evaluate_every=3
)  # fmt: skip
_GPU = replace(
    _DEFAULT,
    models=("minGRU", "minLSTM", "S6", "Transformer", "Transformer + conv"),
    width=384,
    layers=3,
    heads=6,
    block=256,
    batch=64,
    steps=300,
    learning_rates=((5e-4, 1e-3, 2e-3),),
    dropout=0.1,
    warmup=50,
    seeds=3,
    test_windows=128,
    evaluate_every=25,
)
_PAPER = replace(
    _GPU,
    models=("minGRU", "minLSTM", "S6", "Transformer"),
    steps=5000,
    evaluate_every=100,
    dropout=0.2,
    test_windows=434,
)
PROFILES = {"smoke": _SMOKE, "default": _DEFAULT, "gpu": _GPU, "paper": _PAPER}


def jobs(run: Run[Any]) -> list[partial[list[TextResult]]]:
    """One job per model of Fig. 2, all its seeds."""
    s = run.of(Settings)
    paths = run.fetch(FILE)
    path = paths[0] if paths else None
    return [
        partial(
            train_seeds,
            run,
            s,
            model,
            path,
            s.rates(model),
            run.seeds(s.seeds),
            s.sample_characters if model == SAMPLED else 0,
        )
        for model in s.models
    ]


def metrics(settings: Settings) -> list[str]:
    """Names of the numbers that :func:`measure` records."""
    models = settings.models
    names = [f"{kind}_{metric_key(m)}" for m in models for kind in ("text_loss", "paper_text_loss")]
    if set(CELLS) & set(models):
        names += [
            f"text_loss_gap_{metric_key(m)}"
            for m in ("Transformer", "Transformer + conv", "S6")
            if m in models
        ]
    if {"minGRU", "Transformer"} <= set(models):
        names += ["transformer_steps_ratio", "transformer_steps_ratio_at_its_loss"]
    return names


def measure(run: Run[Any], results: list[list[TextResult]]) -> None:
    """C7: final test losses, and gap = loss(Transformer) − max(loss(minGRU), loss(minLSTM)), paired by seed, nats.

    transformer_steps_ratio: steps of the Transformer to minGRU's best test loss over minGRU's own steps to it; where the
    Transformer never gets there, all its steps count: a lower bound. transformer_steps_ratio_at_its_loss: steps of the
    Transformer to its own best test loss over minGRU's steps to that loss; where minGRU never gets there, all its steps count.
    """
    by_model = {own[0].model: own for own in results}
    for model, own in by_model.items():
        run.measure(f"text_loss_{metric_key(model)}", final_losses(own), unit="nats")
        if run.profile == "paper":
            run.measure(f"paper_text_loss_{metric_key(model)}", best_losses(own), unit="nats")
    cells = [by_model[m] for m in CELLS if m in by_model]
    if not cells:
        return
    worst = np.max([final_losses(own) for own in cells], axis=0)
    for model in ("Transformer", "Transformer + conv"):
        if model in by_model:
            gap = final_losses(by_model[model]) - worst
            run.measure(f"text_loss_gap_{metric_key(model)}", gap, unit="nats")
    if "S6" in by_model:
        gap = np.max([best_losses(own) for own in cells], axis=0) - best_losses(by_model["S6"])
        run.measure("text_loss_gap_s6", gap, unit="nats")
    if {"minGRU", "Transformer"} <= set(by_model):
        ours, theirs = by_model["minGRU"], by_model["Transformer"]
        run.measure("transformer_steps_ratio", steps_ratio(theirs, ours, ours), unit="x")
        run.measure("transformer_steps_ratio_at_its_loss", steps_ratio(theirs, ours, theirs), unit="x")


def metric_key(model: str) -> str:
    """A model's name as a part of the names of metrics."""
    return model.lower().replace(" + ", "_")


def final_losses(results: Sequence[TextResult]) -> np.ndarray:
    """Test losses after the last step, by seed."""
    return np.array([r.history.loss[-1] for r in results])


def best_losses(results: Sequence[TextResult]) -> np.ndarray:
    """Lowest test losses, by seed; the step is chosen on the test text, for all models alike."""
    return np.array([min(r.history.loss) for r in results])


def steps_ratio(
    slower: Sequence[TextResult], faster: Sequence[TextResult], goal: Sequence[TextResult]
) -> list[float]:
    """Steps of ``slower`` over steps of ``faster`` to the best test loss of ``goal``, by seed.

    Whoever never gets there counts with all its steps.
    """

    def steps(result: TextResult, loss: float) -> int:
        return result.history.steps_to_loss(loss) or result.history.steps[-1]

    return [
        steps(a, loss) / steps(b, loss) for a, b, loss in zip(slower, faster, best_losses(goal), strict=True)
    ]


def tables(settings: Settings, results: list[list[TextResult]]) -> dict[str, pd.DataFrame]:
    """``models``: rate, number of weights and mean final test loss of each model."""
    rows = [
        {
            "model": style_of(own[0].model).label,
            "rate": own[0].learning_rate,
            "weights": own[0].parameters,
            "loss": float(final_losses(own).mean()),
        }
        for own in results
    ]
    return {"models": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[list[TextResult]]) -> dict[str, Figure]:
    """``losses``: test loss against steps, and against floating-point operations; bands are the range over seeds."""
    frame = pd.DataFrame(
        [
            {"model": style_of(r.model).label, "seed": r.seed, "step": step, "loss": loss,
             "flops": step * r.tokens_per_step * r.flops_per_token}
            for own in results
            for r in own
            for step, loss in zip(r.history.steps, r.history.loss, strict=True)
        ]
    )  # fmt: skip
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    bigram = results[0][0].bigram_loss
    for ax, x, label in (
        (left, "step", "training steps"),
        (right, "flops", "tokens × operations per token (FLOP)"),
    ):
        sns.lineplot(
            frame, x=x, y="loss", hue="model", style="model", errorbar=("pi", 100), ax=ax, dashes=False, ms=5,
            hue_order=labels(settings.models), palette=colours(settings.models), markers=markers(settings.models),
            legend="auto" if ax is left else False,
        )  # fmt: skip
        ax.axhline(bigram, color="0.5", ls="--", lw=1)
        ax.set(xlabel=label, ylabel="test loss (nats per character)")
    left.text(left.get_xlim()[1], bigram, "bigram table", ha="right", va="bottom", fontsize=9, color="0.3")
    left.legend(title=None)
    left.set_title("Equal steps and tokens")
    right.set_title("Equal computation")
    return {"losses": fig}
