"""Would shuffled labels do the same? (Not in the paper; B2.) The contrast of ellipticals and spirals under permuted morphology."""

from __future__ import annotations

from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.profiles import setting, settings_class
from lib.random_streams import stream
from lib.records import Run
from lib.smbh.galaxies import BASE, Sample, Selection, load
from lib.smbh.permutation import PermutationTest, permutation_test
from lib.smbh.wilson import wilson_interval


@settings_class
class Settings:
    """How often the labels are shuffled."""

    shuffles: int = setting(1000, "shuffles", "permutations of the morphology labels", least=1)


PROFILES = {
    "smoke": Settings(shuffles=20),
    "default": Settings(),
    "gpu": Settings(shuffles=10_000),
    "paper": Settings(shuffles=10_000),
}


def shuffle(ellipticals: Sample, spirals: Sample, settings: Settings, seed: int) -> PermutationTest:
    """Contrast the lead of black-hole mass over sigma0 in spirals with that in ellipticals."""
    rng = stream(seed, "shuffled labels").numpy()
    hole, sigma = BASE.index("M_bh"), BASE.index("sigma0")
    return permutation_test(ellipticals.values, spirals.values, hole, sigma, settings.shuffles, rng, BASE)


def jobs(run: Run[Any]) -> list[partial[PermutationTest]]:
    """One, where both types are studied."""
    if not {"ell", "spr"} <= set(run.of(Selection).types):
        return []
    sample = load(run).base
    return [partial(shuffle, sample["ell"], sample["spr"], run.of(Settings), run.seed)]


def metrics(settings: Settings) -> list[str]:
    return ["permutation_p"]


def measure(run: Run[Any], results: list[PermutationTest]) -> None:
    for r in results:
        interval = wilson_interval(r.as_large + 1, len(r.null) + 1)
        run.measure("permutation_p", r.p_value, interval=interval)


def tables(settings: Settings, results: list[PermutationTest]) -> dict[str, pd.DataFrame]:
    rows = [
        {
            "contrast of the real labels": r.observed,
            "standard deviation of shuffled ones": r.null.std(),
            "shuffles as large": f"{r.as_large} of {len(r.null)}",
            "two-sided p": r.p_value,
        }
        for r in results
    ]
    return {"contrast": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[PermutationTest]) -> dict[str, Figure]:
    return {"contrast": draw_contrast(results[0])} if results else {}


def draw_contrast(test: PermutationTest) -> Figure:
    """Contrasts of shuffled labels with the observed one."""
    fig, ax = plt.subplots(figsize=(7, 3.4))
    ax.hist(test.null, bins=40, color="0.7")
    ax.axvline(test.observed, color="black", lw=2.5)
    ax.annotate(
        f"real labels\n{test.observed:.2f}",
        (test.observed, ax.get_ylim()[1] * 0.85),
        (-8, 0),
        textcoords="offset points",
        ha="right",
    )
    ax.set(xlabel="contrast of spirals and ellipticals in the lead of M∙ over σ₀", ylabel="shuffles")
    return fig
