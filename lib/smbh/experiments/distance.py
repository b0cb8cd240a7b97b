"""Distance as a possible common cause (section 10; C5, X6): luminosity distance in place of the colour W2 - W3."""

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
from lib.smbh.appearance import LABELS
from lib.smbh.directions import HOLE_AND_SIGMA, lead, marginals
from lib.smbh.galaxies import DISTANCE, TYPE_NAMES, TYPES, Sample, Selection, load
from lib.smbh.marginal_maps import heat_map
from lib.smbh.reported import entry, matrix_deviation, reported

HOLE, FAR = DISTANCE.index("M_bh"), DISTANCE.index("DL")


@settings_class
class Settings:
    """Nothing can be set: the marginals are exact."""


PROFILES = dict.fromkeys(PROFILE_NAMES, Settings())


@dataclass(frozen=True)
class WithDistance:
    """Exact marginals (7, 7) of one type with distance among its variables."""

    kind: str
    edges: Array
    paths: Array

    @property
    def lead(self) -> float:
        """Lead of the headline's direction."""
        return float(lead(self.edges, HOLE_AND_SIGMA[self.kind], DISTANCE))


def with_distance(kind: str, sample: Sample) -> WithDistance:
    """The run with distance of one type."""
    return WithDistance(kind, *marginals(sample.values, sample.variables))


def jobs(run: Run[Any]) -> list[partial[WithDistance]]:
    sample = load(run)
    return [partial(with_distance, kind, sample.distance[kind]) for kind in run.of(Selection).types]


def metrics(settings: Settings) -> list[str]:
    return [*(f"distance_lead_{kind}" for kind in TYPES), "distance_deviation"]


def measure(run: Run[Any], results: list[WithDistance]) -> None:
    published, gaps = reported()["distance"], []
    for r in results:
        for variable, row in published["rows"][r.kind].items():
            gaps.append(matrix_deviation(r.edges[[DISTANCE.index(variable)]], row))
        gaps.append(matrix_deviation(r.edges[:, HOLE][None], published["into_M_bh"][r.kind]))
        for arrow, value in published["paths"][r.kind].items():
            gaps.append(abs(float(entry(r.paths, arrow, DISTANCE)) - value))
        run.measure(f"distance_lead_{r.kind}", r.lead)
    run.measure("distance_deviation", max(gaps), unit="probability")


def tables(settings: Settings, results: list[WithDistance]) -> dict[str, pd.DataFrame]:
    rows = [
        {
            "type": TYPE_NAMES[r.kind],
            "direction": " → ".join(HOLE_AND_SIGMA[r.kind]),
            "its lead, with distance": r.lead,
            "M_bh → distance": r.edges[HOLE, FAR],
            "distance → M_bh": r.edges[FAR, HOLE],
        }
        for r in results
    ]
    return {"leads": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[WithDistance]) -> dict[str, Figure]:
    fig, axes = plt.subplots(len(results), 1, figsize=(6.4, 2.1 * len(results)), squeeze=False)
    rows = ["M∙ → column", "$D_L$ → column", "column → M∙"]
    for ax, r in zip(axes[:, 0], results, strict=True):
        shown = np.stack([r.edges[HOLE], r.edges[FAR], r.edges[:, HOLE]])
        shown[0, HOLE] = shown[1, FAR] = shown[2, HOLE] = np.nan
        heat_map(ax, shown, rows, [LABELS[v] for v in DISTANCE], 9)
        ax.set_title(TYPE_NAMES[r.kind])
    return {"maps": fig}
