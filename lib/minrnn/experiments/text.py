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

from lib.minrnn.language_model import MODELS, TextResult, TextSettings, train_seeds
from lib.minrnn.model_styles import colours, labels, markers, style_of
from lib.minrnn.rate_search import Rates, check_rates, rates_of
from lib.profiles import setting, settings_class
from lib.tiny_shakespeare import FILE

if TYPE_CHECKING:
    from lib.records import Run

CELLS = ("minGRU", "minLSTM")
OF_THE_PAPER = (*CELLS, "S6", "Transformer")
TRANSFORMERS = ("Transformer", "Transformer + conv")
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
    # In the default profile each model's rate is the best of 4e-3, 8e-3, 16e-3, 32e-3 and 64e-3, found beforehand by
    # choose_learning_rate with the run's seed 0; larger profiles try all of theirs in the run.
    learning_rates: Rates = setting(
        ((16e-3,), (16e-3,), (8e-3,), (16e-3,)),
        "1",
        "peak rates tried on an inner split of the training text: one tuple for all models, or one per model",
        "1e-3",
        above=0,
    )
    seeds: int = setting(3, "seeds", "repetitions of every model", "not found", least=1)
    sample_characters: int = setting(200, "characters", f"length of the text that {SAMPLED} writes", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates("learning_rates", self.learning_rates, self.models)


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
    evaluate_every=6,
)
_PAPER = replace(
    _GPU,
    models=("minGRU", "minLSTM", "S6", "Transformer"),
    steps=5000,
    evaluate_every=25,
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
            rates_of(model, s.learning_rates, s.models),
            run.seeds(s.seeds),
            s.sample_characters if model == SAMPLED else 0,
        )
        for model in s.models
    ]


def metrics(settings: Settings) -> list[str]:
    """Names of the numbers that :func:`measure` records."""
    models = settings.models
    cells = [m for m in CELLS if m in models]
    names = [f"text_best_loss_{metric_key(m)}" for m in models if m in OF_THE_PAPER]
    if cells:
        names += [f"text_loss_gap_{metric_key(m)}" for m in (*TRANSFORMERS, "S6") if m in models]
    if "Transformer" in models:
        names += [f"transformer_steps_ratio_{metric_key(m)}" for m in cells]
    return [*names, "text_bigram_margin"]


def measure(run: Run[Any], results: list[list[TextResult]]) -> None:
    """C7, by seed.

    - text_best_loss: lowest test loss of the run, for the models of Fig. 2; the step is chosen on the test text, for all alike.
    - text_loss_gap: of the Transformers, final loss − the larger of minGRU's and minLSTM's; of S6, the larger of their best
      losses − its best loss; in nats.
    - transformer_steps_ratio: steps of the Transformer to its own best test loss over the cell's steps to that loss. A cell that
      never gets there counts with all its steps, which gives at most 1.
    - text_bigram_margin: loss of a table of character pairs − the largest final loss. Below 0 one of the models is no
      baseline yet, and nothing follows from a comparison with it.
    """
    by_model = {own[0].model: own for own in results}
    for model in OF_THE_PAPER:
        if model in by_model:
            run.measure(f"text_best_loss_{metric_key(model)}", best_losses(by_model[model]), unit="nats")
    cells = {m: by_model[m] for m in CELLS if m in by_model}
    for model, own in by_model.items() if cells else ():
        if model in TRANSFORMERS:
            worst = np.max([final_losses(cell) for cell in cells.values()], axis=0)
            run.measure(f"text_loss_gap_{metric_key(model)}", final_losses(own) - worst, unit="nats")
        elif model == "S6":
            worst = np.max([best_losses(cell) for cell in cells.values()], axis=0)
            run.measure("text_loss_gap_s6", worst - best_losses(own), unit="nats")
    if "Transformer" in by_model:
        for cell, own in cells.items():
            ratio = steps_ratio(by_model["Transformer"], own)
            run.measure(f"transformer_steps_ratio_{metric_key(cell)}", ratio, unit="x")
    largest = np.max([final_losses(own) for own in results], axis=0)
    run.measure("text_bigram_margin", results[0][0].bigram_loss - largest, unit="nats")


def metric_key(model: str) -> str:
    """A model's name as a part of the names of metrics."""
    return model.lower().replace(" + ", "_")


def final_losses(results: Sequence[TextResult]) -> np.ndarray:
    """Test losses after the last step, by seed."""
    return np.array([r.history.loss[-1] for r in results])


def best_losses(results: Sequence[TextResult]) -> np.ndarray:
    """Lowest test losses, by seed; the step is chosen on the test text, for all models alike."""
    return np.array([min(r.history.loss) for r in results])


def steps_ratio(transformer: Sequence[TextResult], cell: Sequence[TextResult]) -> list[float]:
    """Steps of the Transformer to its best test loss over steps of ``cell`` to that loss, by seed; see :func:`measure`."""
    ratios = []
    for theirs, ours in zip(transformer, cell, strict=True):
        loss = min(theirs.history.loss)
        steps = theirs.history.steps[theirs.history.loss.index(loss)]
        ratios.append(steps / (ours.history.steps_to_loss(loss) or ours.history.steps[-1]))
    return ratios


def tables(settings: Settings, results: list[list[TextResult]]) -> dict[str, pd.DataFrame]:
    """``models``: rate, number of weights and mean final and best test loss of each model."""
    rows = [
        {
            "model": style_of(own[0].model).label,
            "rate": own[0].learning_rate,
            "weights": own[0].parameters,
            "final loss": float(final_losses(own).mean()),
            "best loss": float(best_losses(own).mean()),
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
            legend="auto" if ax is left else False, markevery=5,
        )  # fmt: skip
        ax.axhline(bigram, color="0.5", ls="--", lw=1)
        ax.set(xlabel=label, ylabel="test loss (nats per character)")
    left.text(left.get_xlim()[1], bigram, "bigram table", ha="right", va="bottom", fontsize=9, color="0.3")
    left.legend(title=None)
    left.set_title("Equal steps and tokens")
    right.set_title("Equal computation")
    return {"losses": fig}
