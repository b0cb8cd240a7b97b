"""Leave one galaxy out (section 10; C5, X5), standardised once as the authors do, and again as would be cleaner."""

from __future__ import annotations

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
from lib.smbh.bge_score import log_scores
from lib.smbh.dag_posterior import dag_posterior
from lib.smbh.directions import HOLE_AND_SIGMA, HOLE_AND_STARS, lead, marginals
from lib.smbh.galaxies import BASE, TYPE_NAMES, TYPE_SHORT, TYPES, Sample, Selection, load
from lib.smbh.leave_one_out import kept_share, most_influential, omissions
from lib.smbh.reported import entry, reported, spread_deviation

NAMED = 4  # galaxies named in the figure
LEAVING, ENTERING = "M_bh -> sigma0", "sigma0 -> M_bh"


@settings_class
class Settings:
    """How many galaxies are left out in turn."""

    galaxies: int = setting(1000, "galaxies", "omitted galaxies per type, at most", 1000, least=1)


PROFILES = {
    "smoke": Settings(galaxies=5),
    "default": Settings(),
    "gpu": Settings(),
    "paper": Settings(),
}


@dataclass(frozen=True)
class Omitted:
    """One type with one galaxy left out after the other.

    Attributes:
        kind: the type. names: (N,) the galaxies left out.
        edges, paths: (N, 7, 7) marginals, standardised once. again: (N, 7, 7) edges, standardised again.
        base_edges, base_paths: (7, 7) marginals of all galaxies.
    """

    kind: str
    names: tuple[str, ...]
    edges: Array
    paths: Array
    again: Array
    base_edges: Array
    base_paths: Array


def leave_out(kind: str, sample: Sample, settings: Settings) -> Omitted:
    """Leave out the galaxies of one type, one at a time, in both ways of standardising."""
    base_edges, base_paths = marginals(sample.values, sample.variables)
    once, again = (
        dag_posterior(log_scores(omissions(sample.values, again, sample.variables)[: settings.galaxies]))
        for again in (False, True)
    )
    assert once.paths is not None
    return Omitted(
        kind, sample.names[: settings.galaxies], once.edges, once.paths, again.edges, base_edges, base_paths
    )


def jobs(run: Run[Any]) -> list[partial[Omitted]]:
    sample, s = load(run), run.of(Settings)
    return [partial(leave_out, kind, sample.base[kind], s) for kind in run.of(Selection).types]


def metrics(settings: Settings) -> list[str]:
    names = [f"loo_kept_{kind}_edge" for kind in TYPES]
    return [*names, *(f"loo_kept_{kind}_path_ssfr" for kind in HOLE_AND_STARS), "loo_deviation"]


def measure(run: Run[Any], results: list[Omitted]) -> None:
    for r in results:
        run.measure(f"loo_kept_{r.kind}_edge", kept_edge(r), unit="share")
    for r in results:
        if r.kind in HOLE_AND_STARS:
            base, direction = r.base_paths, HOLE_AND_STARS[r.kind]
            kept = kept_share(lead(r.paths, direction, BASE), float(lead(base, direction, BASE)))
            run.measure(f"loo_kept_{r.kind}_path_ssfr", kept, unit="share")
    published = reported()["leave_one_out"]
    gaps = [spread_deviation(r.edges, r.paths, published, r.kind, BASE) for r in results]
    for r in results:
        of_galaxy = dict(zip(r.names, entry(r.edges, LEAVING, BASE), strict=True))
        named = published["influential"].get(r.kind, {})
        gaps += [abs(of_galaxy[g] - value) for g, value in named.items() if g in of_galaxy]
    run.measure("loo_deviation", max(gaps), unit="probability")


def kept_edge(r: Omitted) -> float:
    """Share of omissions that keep the order of the headline's two directions."""
    direction = HOLE_AND_SIGMA[r.kind]
    return kept_share(lead(r.edges, direction, BASE), float(lead(r.base_edges, direction, BASE)))


def tables(settings: Settings, results: list[Omitted]) -> dict[str, pd.DataFrame]:
    rows = []
    for r in results:
        leaving, moved = entry(r.edges, LEAVING, BASE), np.abs(r.again - r.edges)
        rows.append(
            {
                "type": TYPE_NAMES[r.kind],
                "order kept, sigma0 and M_bh": kept_edge(r),
                f"{HOLE_TO_SIGMA}, smallest": leaving.min(),
                "largest": leaving.max(),
                "cleaner way moves this by at most": entry(moved, LEAVING, BASE).max(),
                "and any edge by at most": moved.max(),
            }
        )
    return {"omissions": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[Omitted]) -> dict[str, Figure]:
    return {"strips": draw_strips(results)}


def draw_strips(results: list[Omitted]) -> Figure:
    """Both directions with each galaxy left out; names of the spirals whose omission moves the arrow farthest."""
    fig, ax = plt.subplots(figsize=(8, 4.2))
    for place, r in enumerate(results):
        for side, arrow in ((-0.2, LEAVING), (0.2, ENTERING)):
            values = entry(r.edges, arrow, BASE)
            x = place + side + np.linspace(-0.08, 0.08, len(values))  # in the order of the table
            face = COLOURS[r.kind] if arrow == LEAVING else "none"
            ax.scatter(x, values, s=26, alpha=0.8, facecolors=face, edgecolors=COLOURS[r.kind])
        if r.kind == "spr":
            name_points(ax, place, r)
    for face, name in (("0.3", HOLE_TO_SIGMA), ("none", SIGMA_TO_HOLE)):
        ax.scatter([], [], s=26, facecolors=face, edgecolors="0.3", label=name)
    ax.set_xticks(range(len(results)), [TYPE_SHORT[r.kind] for r in results])
    ax.set(ylim=(0, 1), ylabel="edge marginal, one galaxy left out", xlim=(-0.6, len(results)))
    ax.legend(title="", loc="upper left", bbox_to_anchor=(0.2, 1.0))
    return fig


def name_points(ax: plt.Axes, place: float, r: Omitted) -> None:
    """Write the names of the most influential galaxies beside their points, none over another."""
    values, base = entry(r.edges, LEAVING, BASE), float(entry(r.base_edges, LEAVING, BASE))
    above = 1.0
    for name, value in sorted(most_influential(values, base, r.names, NAMED), key=lambda pair: -pair[1]):
        above = min(value, above - 0.045)
        line = {"arrowstyle": "-", "lw": 0.5, "color": "0.5"}
        ax.annotate(
            name, (place - 0.2, value), (place + 0.4, above), fontsize=8, va="center", arrowprops=line
        )
