"""Priors, hyper-parameters, ranks (not in the paper; B4): what the directions owe to choices that the data do not make."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.profiles import setting, settings_class
from lib.random_streams import stream
from lib.records import Run
from lib.smbh.appearance import COLOURS, MARKERS
from lib.smbh.directions import HOLE_AND_SIGMA, HOLE_AND_STARS, between, lead
from lib.smbh.galaxies import BASE, TYPE_NAMES, TYPES, Sample, Selection, load
from lib.smbh.sensitivity import SensitivityRow, sensitivity


@settings_class
class Settings:
    """How many graphs the one prior takes that is not summed exactly."""

    samples: int = setting(
        50_000,
        "graphs",
        "independent exact samples per type, for the prior that is flat over classes",
        least=100,
    )


PROFILES = {
    "smoke": Settings(samples=2_000),
    "default": Settings(),
    "gpu": Settings(samples=500_000),
    "paper": Settings(samples=500_000),
}


@dataclass(frozen=True)
class UnderPriors:
    """One type's marginals under every setting, the paper's own first."""

    kind: str
    rows: tuple[SensitivityRow, ...]

    def smallest(self, name: str, direction: tuple[str, str]) -> float:
        """Smallest lead of a direction over the settings, of ``edges`` or ``paths``."""
        return min(float(lead(getattr(row, name), direction, BASE)) for row in self.rows)


def vary(kind: str, sample: Sample, settings: Settings, seed: int) -> UnderPriors:
    """One type under every setting."""
    rng = stream(seed, "graphs for the prior over classes", TYPES.index(kind)).numpy()
    return UnderPriors(kind, tuple(sensitivity(sample.values, settings.samples, rng, sample.variables)))


def jobs(run: Run[Any]) -> list[partial[UnderPriors]]:
    sample, s = load(run), run.of(Settings)
    return [partial(vary, kind, sample.base[kind], s, run.seed) for kind in run.of(Selection).types]


def metrics(settings: Settings) -> list[str]:
    names = [f"sensitivity_min_{kind}_edge" for kind in TYPES]
    names += [f"sensitivity_min_{kind}_path_ssfr" for kind in HOLE_AND_STARS]
    return [*names, "sensitivity_min_all", "len_between_min"]


def measure(run: Run[Any], results: list[UnderPriors]) -> None:
    unit = "difference of probabilities"
    smallest = {r.kind: r.smallest("edges", HOLE_AND_SIGMA[r.kind]) for r in results}
    for r in results:
        run.measure(f"sensitivity_min_{r.kind}_edge", smallest[r.kind], unit=unit)
        if r.kind in HOLE_AND_STARS:
            value = r.smallest("paths", HOLE_AND_STARS[r.kind])
            run.measure(f"sensitivity_min_{r.kind}_path_ssfr", value, unit=unit)
    run.measure("sensitivity_min_all", min(smallest.values()), unit=unit)
    if smallest.keys() >= set(TYPES):
        per_setting = zip(*(r.rows for r in results), strict=True)
        kinds = [r.kind for r in results]
        inside = [between({k: row.edges for k, row in zip(kinds, rows, strict=True)}) for rows in per_setting]
        run.measure("len_between_min", min(inside), unit=unit)


def tables(settings: Settings, results: list[UnderPriors]) -> dict[str, pd.DataFrame]:
    rows = [
        {
            "type": TYPE_NAMES[r.kind],
            "direction": " → ".join(HOLE_AND_SIGMA[r.kind]),
            "its lead, as in the paper": float(lead(r.rows[0].edges, HOLE_AND_SIGMA[r.kind], BASE)),
            "smallest lead": r.smallest("edges", HOLE_AND_SIGMA[r.kind]),
        }
        for r in results
    ]
    return {"smallest": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[UnderPriors]) -> dict[str, Figure]:
    names = [row.setting for row in results[0].rows]
    fig, ax = plt.subplots(figsize=(8, 0.34 * len(names) + 1.2))
    for r in results:
        leads = [float(lead(row.edges, ("sigma0", "M_bh"), BASE)) for row in r.rows]
        ax.plot(leads, names, MARKERS[r.kind], color=COLOURS[r.kind], ms=7, label=TYPE_NAMES[r.kind])
    ax.axvline(0, color="0.3", lw=1)
    ax.invert_yaxis()
    ax.set(xlim=(-1, 1), xlabel="marginal of σ₀ → M∙ minus marginal of M∙ → σ₀")
    ax.legend(fontsize=8.5, loc="upper center", bbox_to_anchor=(0.4, 1.16), ncol=3)
    return {"leads": fig}
