"""Is a sample of 35 enough? (Not in the paper; B3.) Subsamples of the semi-analytic model, as small as the real samples are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.profiles import setting, settings_class
from lib.random_streams import stream
from lib.records import Run
from lib.smbh.appearance import COLOURS, MARKERS
from lib.smbh.galaxies import SAM, SAM_NAMES, Sample, load
from lib.smbh.power import PowerPoint, power_curve
from lib.smbh.wilson import wilson_interval

JUDGED = "ell"


@settings_class
class Settings:
    """Sizes and number of subsamples."""

    galaxies: int = setting(
        35, "galaxies", "size that is judged: that of the real ellipticals", least=2, most=1000
    )
    further_sizes: tuple[int, ...] = setting(
        (20, 60, 100, 200, 400, 1000),
        "galaxies",
        "other sizes of subsamples of the semi-analytic model",
        least=2,
        most=1000,
        distinct=True,
        empty=True,
    )
    subsamples: int = setting(200, "subsamples", "subsamples per size", least=1)

    @property
    def sizes(self) -> list[int]:
        """All sizes, from small to large."""
        return sorted({self.galaxies, *self.further_sizes})


PROFILES = {
    "smoke": Settings(further_sizes=(100,), subsamples=20),
    "default": Settings(),
    "gpu": Settings(subsamples=1_000),
    "paper": Settings(subsamples=1_000),
}


@dataclass(frozen=True)
class Subsampled:
    """The curve of one sample of the model."""

    kind: str
    points: tuple[PowerPoint, ...]

    def at(self, rows: int) -> PowerPoint:
        """Subsamples of one size."""
        return next(p for p in self.points if p.rows == rows)


def subsample(kind: str, sample: Sample, settings: Settings, seed: int) -> Subsampled:
    """Leads between bulge mass and black-hole mass in subsamples of one sample of the model."""
    rng = stream(seed, "subsamples", list(SAM_NAMES).index(kind)).numpy()
    bulge, hole = SAM.index("Mbulge"), SAM.index("M_bh")
    points = power_curve(sample.values, bulge, hole, settings.sizes, settings.subsamples, rng, SAM)
    return Subsampled(kind, tuple(points))


def jobs(run: Run[Any]) -> list[partial[Subsampled]]:
    sample = load(run).sam
    return [partial(subsample, kind, sample[kind], run.of(Settings), run.seed) for kind in SAM_NAMES]


def metrics(settings: Settings) -> list[str]:
    return ["power_at_35"]


def measure(run: Run[Any], results: list[Subsampled]) -> None:
    s = run.of(Settings)
    agreeing = next(r for r in results if r.kind == JUDGED).at(s.galaxies).agreeing
    interval = wilson_interval(agreeing, s.subsamples)
    run.measure("power_at_35", agreeing / s.subsamples, unit="share", interval=interval)


def tables(settings: Settings, results: list[Subsampled]) -> dict[str, pd.DataFrame]:
    rows = [
        {
            "sample": SAM_NAMES[r.kind],
            "lead, all galaxies": r.points[0].full_lead,
            f"mean lead of {settings.galaxies}": r.at(settings.galaxies).leads.mean(),
            "share with the sign of all": r.at(settings.galaxies).agreeing / settings.subsamples,
        }
        for r in results
    ]
    return {"judged": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[Subsampled]) -> dict[str, Figure]:
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6))
    for r in results:
        colour, style = COLOURS[r.kind], f"{MARKERS[r.kind]}-"
        sizes, sign = [p.rows for p in r.points], np.sign(r.points[0].full_lead)
        mean = np.array([sign * p.leads.mean() for p in r.points])
        spread = np.array([p.leads.std() for p in r.points])
        left.plot(sizes, mean, style, color=colour, label=SAM_NAMES[r.kind])
        left.fill_between(sizes, mean - spread, mean + spread, color=colour, alpha=0.15)
        left.axhline(abs(r.points[0].full_lead), color=colour, ls=":", lw=1)
        share = [p.agreeing / len(p.leads) for p in r.points]
        right.plot(sizes, share, style, color=colour, label=SAM_NAMES[r.kind])
    for ax in (left, right):
        ax.axvline(settings.galaxies, color="0.5", lw=0.8, ls="--")
        ax.set(xscale="log", xlabel="galaxies in the subsample")
    left.axhline(0, color="0.3", lw=0.8)
    left.set_ylabel("lead of the full sample's direction")
    right.axhline(0.5, color="0.3", lw=0.8)
    right.set(ylim=(0, 1.02), ylabel="share with that direction")
    right.legend(fontsize=8.5)
    return {"curves": fig}
