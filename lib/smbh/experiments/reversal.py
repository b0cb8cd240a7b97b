"""Findings: the reversal (section 7; C2, C2-S0, C3, X1): the base run's exact marginals of seven variables, per type."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.kept_results import Array
from lib.profiles import PROFILE_NAMES, settings_class
from lib.records import Run
from lib.smbh.appearance import COLOURS, HOLE_TO_SIGMA, SIGMA_TO_HOLE
from lib.smbh.directions import (
    HOLE_AND_SIGMA,
    HOLE_AND_STARS,
    between,
    descendant_count_law,
    lead,
    posterior,
)
from lib.smbh.galaxies import BASE, TYPE_NAMES, TYPES, Sample, Selection, load
from lib.smbh.marginal_maps import marginal_maps
from lib.smbh.reported import entry, matrix, matrix_deviation, reported

HOLE = BASE.index("M_bh")


@settings_class
class Settings:
    """Nothing can be set: the marginals are exact."""


PROFILES = dict.fromkeys(PROFILE_NAMES, Settings())


@dataclass(frozen=True)
class BaseRun:
    """Exact marginals of one type.

    Attributes:
        kind: the type. edges, paths: (7, 7), row = cause.
        descendants: (7,) probability of 0, 1, ..., 6 descendants of the black-hole mass.
        no_parent: probability that the black-hole mass has no parent.
    """

    kind: str
    edges: Array
    paths: Array
    descendants: Array
    no_parent: float


def base_run(kind: str, sample: Sample) -> BaseRun:
    """The base run of one type."""
    exact = posterior(sample.values, sample.variables)
    assert exact.paths is not None
    assert exact.descendants is not None
    law = descendant_count_law(exact.descendants, HOLE)
    return BaseRun(kind, exact.edges, exact.paths, law, float(exact.parent_sets[HOLE, 0]))


def jobs(run: Run[Any]) -> list[partial[BaseRun]]:
    sample = load(run)
    return [partial(base_run, kind, sample.base[kind]) for kind in run.of(Selection).types]


def metrics(settings: Settings) -> list[str]:
    names = [f"{kind}_{arrow}" for kind in TYPES for arrow in ("sigma_to_bh", "bh_to_sigma")]
    names += [f"lead_{kind}_edge" for kind in TYPES] + [f"lead_{kind}_path_ssfr" for kind in HOLE_AND_STARS]
    return [*names, "ell_ssfr_upstream", "spr_ssfr_downstream", "len_between_base", "base_matrix_deviation"]


def measure(run: Run[Any], results: list[BaseRun]) -> None:
    edges, paths = {r.kind: r.edges for r in results}, {r.kind: r.paths for r in results}
    for name, value in base_metrics(edges, paths).items():
        run.measure(name, value, unit="probability")
    published = reported()["base"]
    gaps = [matrix_deviation(r.edges, published["edges"][r.kind]) for r in results]
    gaps += [matrix_deviation(r.paths, published["paths"][r.kind]) for r in results]
    run.measure("base_matrix_deviation", max(gaps), unit="probability")


def base_metrics(edges: dict[str, np.ndarray], paths: dict[str, np.ndarray]) -> dict[str, float]:
    """Metrics of C2, C2-S0 and C3 from marginals (7, 7); only of the types given."""
    found = {}
    for kind, e in edges.items():
        found[f"{kind}_sigma_to_bh"] = entry(e, "sigma0 -> M_bh", BASE)
        found[f"{kind}_bh_to_sigma"] = entry(e, "M_bh -> sigma0", BASE)
        found[f"lead_{kind}_edge"] = lead(e, HOLE_AND_SIGMA[kind], BASE)
    for kind in HOLE_AND_STARS.keys() & edges.keys():
        found[f"lead_{kind}_path_ssfr"] = lead(paths[kind], HOLE_AND_STARS[kind], BASE)
    if "ell" in paths:
        found["ell_ssfr_upstream"] = entry(paths["ell"], "sSFR -> M_bh", BASE)
    if "spr" in paths:
        found["spr_ssfr_downstream"] = entry(paths["spr"], "M_bh -> sSFR", BASE)
    if edges.keys() >= set(TYPES):
        found["len_between_base"] = np.asarray(between(edges))
    return {name: float(value) for name, value in found.items()}


def tables(settings: Settings, results: list[BaseRun]) -> dict[str, pd.DataFrame]:
    return {"directions": table_of_directions(results), "place": table_of_places(results)}


def table_of_directions(results: list[BaseRun]) -> pd.DataFrame:
    """The two directions of the headline beside the published numbers."""
    published = reported()["base"]["edges"]
    rows = []
    for r in results:
        printed = matrix(published[r.kind])
        rows.append(
            {
                "type": TYPE_NAMES[r.kind],
                SIGMA_TO_HOLE: entry(r.edges, "sigma0 -> M_bh", BASE),
                "reported ": entry(printed, "sigma0 -> M_bh", BASE),
                HOLE_TO_SIGMA: entry(r.edges, "M_bh -> sigma0", BASE),
                "reported": entry(printed, "M_bh -> sigma0", BASE),
                "sSFR ⇝ M∙": entry(r.paths, "sSFR -> M_bh", BASE),
                "M∙ ⇝ sSFR": entry(r.paths, "M_bh -> sSFR", BASE),
            }
        )
    return pd.DataFrame(rows)


def table_of_places(results: list[BaseRun]) -> pd.DataFrame:
    """The black hole's place in the graph."""
    return pd.DataFrame(
        {
            "type": TYPE_NAMES[r.kind],
            "mean number of descendants": float(np.arange(len(r.descendants)) @ r.descendants),
            "no descendant": r.descendants[0],
            "no parent": r.no_parent,
        }
        for r in results
    )


def figures(settings: Settings, results: list[BaseRun]) -> dict[str, Figure]:
    edges, paths = {r.kind: r.edges for r in results}, {r.kind: r.paths for r in results}
    return {
        "maps": marginal_maps(edges, paths, BASE, TYPE_NAMES),
        "descendants": draw_descendants({r.kind: r.descendants for r in results}),
    }


def draw_descendants(laws: dict[str, np.ndarray]) -> Figure:
    """Law of the number of descendants of the black hole; (n,) probabilities for 0, 1, ..., n - 1 per type."""
    fig, ax = plt.subplots(figsize=(7, 3.4))
    width = 0.8 / len(laws)
    for k, (kind, law) in enumerate(laws.items()):
        mean = float(np.arange(len(law)) @ law)
        place = np.arange(len(law)) + (k - (len(laws) - 1) / 2) * width
        ax.bar(place, law, width, color=COLOURS[kind], label=f"{TYPE_NAMES[kind]}, mean {mean:.2f}")
    ax.set(xlabel="descendants of the black-hole mass", ylabel="posterior probability")
    ax.legend()
    return fig
