"""Which arrows do the data orient? (Not in the paper; B1.) Every edge's mass, split by independent exact samples of graphs.

In some equivalence classes an edge is compelled: all members have it in one direction, which the data tell. In others it is reversible:
all members have equal scores, and how often it points one way is a matter of counting them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.kept_results import Array
from lib.profiles import setting, settings_class
from lib.random_streams import stream
from lib.records import Run
from lib.smbh.appearance import COLOURS, HOLE_TO_SIGMA, LABELS, SIGMA_TO_HOLE
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_posterior import dag_posterior
from lib.smbh.dag_sampling import sample_dags
from lib.smbh.directions import HOLE_AND_SIGMA
from lib.smbh.equivalence_classes import edge_shares
from lib.smbh.galaxies import BASE, TYPE_NAMES, TYPES, Sample, Selection, load
from lib.smbh.wilson import wilson_interval

HOLE, SIGMA = BASE.index("M_bh"), BASE.index("sigma0")
FADED = 0.35  # opacity of what counting orients


@settings_class
class Settings:
    """How many graphs are drawn."""

    samples: int = setting(50_000, "graphs", "independent exact samples per type", least=100)


PROFILES = {
    "smoke": Settings(samples=2_000),
    "default": Settings(),
    "gpu": Settings(samples=500_000),
    "paper": Settings(samples=500_000),
}


@dataclass(frozen=True)
class Oriented:
    """One type: exact edge marginals, and the shares of samples with the edge compelled and reversible, each (7, 7)."""

    kind: str
    edges: Array
    compelled: Array
    reversible: Array

    def counts(self, samples: int) -> tuple[int, int]:
        """Samples with the headline's edge compelled, and reversible."""
        cause, effect = (BASE.index(v) for v in HOLE_AND_SIGMA[self.kind])
        return (
            round(float(self.compelled[cause, effect]) * samples),
            round(float(self.reversible[cause, effect]) * samples),
        )


def orient(kind: str, sample: Sample, settings: Settings, seed: int) -> Oriented:
    """Draw graphs of one type and split every edge's mass."""
    rng = stream(seed, "sampled graphs", TYPES.index(kind)).numpy()
    table = log_scores(standardise(sample.values, sample.variables))
    compelled, reversible = edge_shares(sample_dags(table, settings.samples, rng))
    return Oriented(kind, dag_posterior(table, paths=False).edges, compelled.share, reversible.share)


def jobs(run: Run[Any]) -> list[partial[Oriented]]:
    sample, s = load(run), run.of(Settings)
    return [partial(orient, kind, sample.base[kind], s, run.seed) for kind in run.of(Selection).types]


def metrics(settings: Settings) -> list[str]:
    return [f"compelled_share_{kind}" for kind in TYPES]


def measure(run: Run[Any], results: list[Oriented]) -> None:
    for r in results:
        fixed, free = r.counts(run.of(Settings).samples)
        interval = wilson_interval(fixed, fixed + free)
        run.measure(f"compelled_share_{r.kind}", fixed / (fixed + free), unit="share", interval=interval)


def tables(settings: Settings, results: list[Oriented]) -> dict[str, pd.DataFrame]:
    rows = []
    for r in results:
        cause, effect = (BASE.index(v) for v in HOLE_AND_SIGMA[r.kind])
        fixed, free = r.counts(settings.samples)
        rows.append(
            {
                "type": TYPE_NAMES[r.kind],
                "edge": f"{BASE[cause]} → {BASE[effect]}",
                "marginal": r.edges[cause, effect],
                "compelled": fixed / settings.samples,
                "reversible": free / settings.samples,
                "reverse, compelled": r.compelled[effect, cause],
            }
        )
    return {"headline": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[Oriented]) -> dict[str, Figure]:
    return {"headline": draw_headline(results), "edges": draw_edges(results)}


def draw_bars(ax: Axes, places: list[Any], fixed: np.ndarray, free: np.ndarray, colour: str) -> None:
    """Bars of two parts: the data's, and the counting's, which is pale and hatched."""
    ax.barh(places, fixed, color=colour)
    ax.barh(places, free, left=fixed, color=colour, alpha=FADED, hatch="///", edgecolor="white", lw=0)


def legend(fig: Figure) -> None:
    """What the two parts of a bar are, in no type's colour."""
    handles = [
        plt.Rectangle((0, 0), 1, 1, color="0.3"),
        plt.Rectangle((0, 0), 1, 1, facecolor="0.3", alpha=FADED, hatch="///", edgecolor="white", lw=0),
    ]
    names = ["oriented by the data (compelled)", "by counting graphs (reversible)"]
    fig.legend(handles, names, loc="outside upper center", ncol=2)


def draw_headline(results: list[Oriented]) -> Figure:
    """The two directions between black-hole mass and velocity dispersion, per type."""
    fig, ax = plt.subplots(figsize=(7.2, 1.1 + 0.85 * len(results)))
    places, names = [], []
    for k, r in enumerate(results):
        rows = [2.6 * k, 2.6 * k + 1]
        arrows = [(SIGMA, HOLE), (HOLE, SIGMA)]
        fixed = np.array([r.compelled[a] for a in arrows])
        free = np.array([r.reversible[a] for a in arrows])
        draw_bars(ax, rows, fixed, free, COLOURS[r.kind])
        ax.text(0.99, rows[0] + 0.5, TYPE_NAMES[r.kind], color=COLOURS[r.kind], ha="right", va="center")
        places += rows
        names += [SIGMA_TO_HOLE, HOLE_TO_SIGMA]
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlim=(0, 1), xlabel="posterior probability of the arrow")
    legend(fig)
    return fig


def draw_edges(results: list[Oriented]) -> Figure:
    """All edges at the black hole: those into it above, those out of it below."""
    fig, axes = plt.subplots(1, len(results), figsize=(3.7 * len(results), 4.4), sharex=True, squeeze=False)
    others = [i for i in range(len(BASE)) if i != HOLE]
    arrows = [(i, HOLE) for i in others] + [(HOLE, i) for i in others]
    names = [f"{LABELS[BASE[i]]} → {LABELS[BASE[j]]}" for i, j in arrows]
    for ax, r in zip(axes[0], results, strict=True):
        fixed = np.array([r.compelled[a] for a in arrows])
        free = np.array([r.reversible[a] for a in arrows])
        draw_bars(ax, names, fixed, free, COLOURS[r.kind])
        ax.invert_yaxis()
        ax.set(title=TYPE_NAMES[r.kind], xlabel="posterior mass", xlim=(0, 1))
        ax.axhline(len(others) - 0.5, color="0.6", lw=0.8)
        if ax is not axes[0, 0]:
            ax.set_yticklabels([])
    legend(fig)
    return fig
