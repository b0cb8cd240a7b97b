"""Measurement errors (section 10; C5, X4): every value drawn again within its error, in the authors' order of random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.kept_results import Array
from lib.profiles import setting, settings_class
from lib.records import Run
from lib.smbh.appearance import COLOURS, HOLE_TO_SIGMA, SIGMA_TO_HOLE
from lib.smbh.directions import HOLE_AND_SIGMA, lead, marginals
from lib.smbh.galaxies import BASE, TYPE_NAMES, TYPES, Sample, Selection, load
from lib.smbh.measurement_error import official_draws, separation
from lib.smbh.reported import entry, reported, spread_deviation
from lib.smbh.wilson import wilson_interval

ARROWS = ("M_bh -> sigma0", "sigma0 -> M_bh")
AUTHORS_DRAWS = slice(0, 100)
BATCH = 500  # tables whose marginals are summed at once


@settings_class
class Settings:
    """How often every value is drawn again."""

    draws: int = setting(100, "draws", "draws of measurement errors per type, seeds 0, 1, ...", 100, least=2)


PROFILES = {
    "smoke": Settings(draws=2),
    "default": Settings(),
    "gpu": Settings(draws=10_000),
    "paper": Settings(draws=10_000),
}


@dataclass(frozen=True)
class Redrawn:
    """One type: marginals (draws, 7, 7) of the redrawn values, and the lead of the headline's direction without errors."""

    kind: str
    edges: Array
    paths: Array
    base_lead: float

    @property
    def kept(self) -> int:
        """Number of draws that keep the order of the two directions."""
        found = lead(self.edges, HOLE_AND_SIGMA[self.kind], BASE)
        return int(np.sum(np.sign(found) == np.sign(self.base_lead)))

    def pair(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Both directions (draws,) of the ``edges`` or the ``paths``."""
        forward, backward = (entry(getattr(self, name), arrow, BASE) for arrow in ARROWS)
        return forward, backward

    def separations(self) -> dict[str, float]:
        """The authors' separation of the two directions over as many draws as theirs, of edges and of paths."""
        return {name: separation(*(x[AUTHORS_DRAWS] for x in self.pair(name))) for name in ("edges", "paths")}


def redraw(kind: str, samples: Mapping[str, Sample], settings: Settings) -> Redrawn:
    """Redraw the values of one type; the random numbers of all types are drawn, so that their order is the authors'."""
    values = official_draws(samples, range(settings.draws))[kind]
    batches = [marginals(values[i : i + BATCH], BASE) for i in range(0, settings.draws, BATCH)]
    edges, paths = (np.concatenate(part) for part in zip(*batches, strict=True))
    base, _ = marginals(samples[kind].values, BASE)
    return Redrawn(kind, edges, paths, float(lead(base, HOLE_AND_SIGMA[kind], BASE)))


def jobs(run: Run[Any]) -> list[partial[Redrawn]]:
    sample, s = load(run), run.of(Settings)
    return [partial(redraw, kind, dict(sample.base), s) for kind in run.of(Selection).types]


def metrics(settings: Settings) -> list[str]:
    names = [f"{metric}_{kind}" for kind in TYPES for metric in ("error_kept", "significance")]
    return [*names, "error_draw_deviation", "significance_deviation"]


def measure(run: Run[Any], results: list[Redrawn]) -> None:
    published = reported()["error_draws"]
    for r in results:
        trials = len(r.edges)
        run.measure(
            f"error_kept_{r.kind}", r.kept / trials, unit="share", interval=wilson_interval(r.kept, trials)
        )
        run.measure(f"significance_{r.kind}", r.separations()["edges"])
    gaps = [
        spread_deviation(r.edges[AUTHORS_DRAWS], r.paths[AUTHORS_DRAWS], published, r.kind, BASE)
        for r in results
    ]
    run.measure("error_draw_deviation", max(gaps), unit="probability")
    gaps = [
        abs(value - published["significance"][name][r.kind])
        for r in results
        for name, value in r.separations().items()
    ]
    run.measure("significance_deviation", max(gaps))


def tables(settings: Settings, results: list[Redrawn]) -> dict[str, pd.DataFrame]:
    published = reported()["error_draws"]["significance"]
    rows = [
        {
            "type": TYPE_NAMES[r.kind],
            "order kept": r.kept / len(r.edges),
            "separation, edges": r.separations()["edges"],
            "reported ": published["edges"][r.kind],
            "separation, paths": r.separations()["paths"],
            "reported": published["paths"][r.kind],
        }
        for r in results
    ]
    return {"separations": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[Redrawn]) -> dict[str, Figure]:
    return {"draws": draw_histograms(results)}


def draw_histograms(results: list[Redrawn]) -> Figure:
    """Both directions over error draws: edges filled, paths as outlines; the direction out of the black hole dark."""
    fig, axes = plt.subplots(1, len(results), figsize=(3.6 * len(results), 3.2), sharex=True, squeeze=False)
    bins = np.linspace(0, 1, 41).tolist()
    for ax, r in zip(axes[0], results, strict=True):
        styles = ((HOLE_TO_SIGMA, 0.8, "-"), (SIGMA_TO_HOLE, 0.35, "--"))
        for (name, strength, line), edges, paths in zip(
            styles, r.pair("edges"), r.pair("paths"), strict=True
        ):
            colour = COLOURS[r.kind]
            ax.hist(edges, bins=bins, alpha=strength, color=colour, label=f"{name}, edge")
            ax.hist(paths, bins=bins, histtype="step", ls=line, lw=1.4, color="0.2", label=f"{name}, path")
        ax.set(title=TYPE_NAMES[r.kind], xlabel="marginal", xlim=(0, 1))
    axes[0, 0].set_ylabel("error draws")
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, fontsize=8.5, loc="outside lower center", ncol=4)
    return fig
