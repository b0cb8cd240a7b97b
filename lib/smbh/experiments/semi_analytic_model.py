"""Simulated universes (section 8; C6, X7): exact marginals of a semi-analytic model's galaxies, four variables.

Beyond the paper: the same after rows far from the bulk have been cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lib.kept_results import Array
from lib.profiles import setting, settings_class
from lib.records import Run
from lib.smbh.directions import lead, marginals
from lib.smbh.galaxies import SAM, SAM_NAMES, Sample, load
from lib.smbh.marginal_maps import marginal_maps
from lib.smbh.outliers import without_outliers
from lib.smbh.reported import entry, matrix_deviation, reported

CLAIMED = {
    "ell": (("Mbulge", "M_bh"), ("Re", "M_bh")),
    "spr": (("M_bh", "Mbulge"), ("M_bh", "Re"), ("M_bh", "sSFR")),
    "nofb": (("Mbulge", "M_bh"), ("Re", "M_bh")),
}
"""Cause and effect of the claims about the model (C6)."""


@settings_class
class Settings:
    """How far from a column's median a row may lie."""

    cut: float = setting(
        6.0, "robust standard deviations", "rows farther out are cut off for our own check", above=0.0
    )
    further_cuts: tuple[float, ...] = setting(
        (8.0, 10.0, 15.0),
        "robust standard deviations",
        "other cuts that are shown",
        above=0.0,
        distinct=True,
        empty=True,
    )


PROFILES = {"smoke": Settings(), "default": Settings(), "gpu": Settings(), "paper": Settings()}


@dataclass(frozen=True)
class Cut:
    """What is left of a sample, and the smallest lead of its claimed directions; ``deviations`` is None where nothing was cut."""

    deviations: float | None
    rows: int
    lead: float


@dataclass(frozen=True)
class Model:
    """Exact marginals (4, 4) of one sample, whole; and its leads after each cut, the judged one first, no cut last."""

    kind: str
    edges: Array
    paths: Array
    cuts: tuple[Cut, ...]


def model_galaxies(kind: str, sample: Sample, settings: Settings) -> Model:
    """Marginals of one sample of the model, and smallest leads with and without its outliers."""
    edges, paths = marginals(sample.values, sample.variables)
    cuts = []
    for deviations in (settings.cut, *settings.further_cuts):
        left = without_outliers(sample, deviations)
        edges_left, _ = marginals(left.values, left.variables)
        cuts.append(Cut(deviations, len(left.names), smallest_lead(edges_left, kind)))
    whole = Cut(None, len(sample.names), smallest_lead(edges, kind))
    return Model(kind, edges, paths, (*cuts, whole))


def smallest_lead(edges: Array, kind: str) -> float:
    """Smallest lead of a sample's claimed directions over their reverses."""
    return min(float(lead(edges, direction, SAM)) for direction in CLAIMED[kind])


def jobs(run: Run[Any]) -> list[partial[Model]]:
    sample = load(run)
    return [partial(model_galaxies, kind, sample.sam[kind], run.of(Settings)) for kind in SAM_NAMES]


def metrics(settings: Settings) -> list[str]:
    names = [f"sam_{kind}_lead_min" for kind in SAM_NAMES]
    names += [f"sam_clean_{kind}_lead_min" for kind in SAM_NAMES]
    return [*names, "sam_ell_bulge_to_bh", "sam_matrix_deviation"]


def measure(run: Run[Any], results: list[Model]) -> None:
    for r in results:
        run.measure(f"sam_{r.kind}_lead_min", r.cuts[-1].lead, unit="probability")
    for r in results:
        run.measure(f"sam_clean_{r.kind}_lead_min", r.cuts[0].lead, unit="probability")
    ellipticals = next(r for r in results if r.kind == "ell")
    bulge = float(entry(ellipticals.edges, "Mbulge -> M_bh", SAM))
    run.measure("sam_ell_bulge_to_bh", bulge, unit="probability")
    published = reported()["sam"]
    gaps = [matrix_deviation(r.edges, published["edges"][r.kind]) for r in results]
    gaps += [matrix_deviation(r.paths, published["paths"][r.kind]) for r in results]
    run.measure("sam_matrix_deviation", max(gaps), unit="probability")


def tables(settings: Settings, results: list[Model]) -> dict[str, pd.DataFrame]:
    rows = []
    for cuts in zip(*(sorted(r.cuts, key=_width) for r in results), strict=True):
        cut_at = cuts[0].deviations
        row: dict[str, Any] = {"cut (robust deviations)": "none" if cut_at is None else f"{cut_at:g}"}
        for r, cut in zip(results, cuts, strict=True):
            gone = 1 - cut.rows / r.cuts[-1].rows
            row[f"{SAM_NAMES[r.kind]}: rows cut off"] = f"{100 * gone:.1f} %"
            row[f"{SAM_NAMES[r.kind]}: lead"] = cut.lead
        rows.append(row)
    return {"cuts": pd.DataFrame(rows)}


def _width(cut: Cut) -> float:
    return float("inf") if cut.deviations is None else cut.deviations


def figures(settings: Settings, results: list[Model]) -> dict[str, Figure]:
    edges, paths = {r.kind: r.edges for r in results}, {r.kind: r.paths for r in results}
    return {"maps": marginal_maps(edges, paths, SAM, SAM_NAMES)}
