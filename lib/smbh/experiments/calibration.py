"""Does .8 mean eighty per cent? (Not in the paper; B5.) Marginals of simulated data sets against the graphs that made them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.figures import PALETTE
from lib.profiles import setting, settings_class
from lib.random_streams import stream
from lib.records import Run
from lib.smbh.calibration import (
    CalibrationCurve,
    calibration_curve,
    edge_marginals,
    gap_above,
    simulate_from_prior,
)

HIGH = 0.7  # marginals whose promise is judged
AS_DRAWN, STANDARDISED = "as drawn", "standardised"
METRICS = {AS_DRAWN: "calibration_gap_own", STANDARDISED: "calibration_gap_standardised"}


@settings_class
class Settings:
    """Sizes of the simulated data."""

    datasets: int = setting(20_000, "data sets", "simulated data sets", least=100)
    variables: tuple[int, ...] = setting(
        (4, 5),
        "variables",
        "sizes of the simulated graphs; the largest is judged",
        least=2,
        most=8,
        distinct=True,
    )
    rows: int = setting(28, "rows", "rows of a data set, as many as there are spirals", least=3)


PROFILES = {
    "smoke": Settings(datasets=200, variables=(4,)),
    "default": Settings(),
    "gpu": Settings(datasets=100_000),
    "paper": Settings(datasets=100_000, variables=(4, 5, 7)),
}


@dataclass(frozen=True)
class Calibrated:
    """One size, data as drawn or standardised: the curve, and frequency minus marginal over edges reported above :data:`HIGH`."""

    n: int
    label: str
    curve: CalibrationCurve
    gap: float
    interval: tuple[float, float]


def calibrate(n: int, settings: Settings, seed: int) -> list[Calibrated]:
    """Simulate data sets of ``n`` variables and compare marginals with frequencies, in both ways of scaling."""
    rng = stream(seed, "simulated data", n).numpy()
    made = simulate_from_prior(n, settings.rows, settings.datasets, rng)
    found = []
    for label in (AS_DRAWN, STANDARDISED):
        edges = edge_marginals(made.values, label == STANDARDISED)
        gap, low, high = gap_above(edges, made.truth, HIGH)
        found.append(Calibrated(n, label, calibration_curve(edges, made.truth), gap, (low, high)))
    return found


def jobs(run: Run[Any]) -> list[partial[list[Calibrated]]]:
    s = run.of(Settings)
    return [partial(calibrate, n, s, run.seed) for n in s.variables]


def metrics(settings: Settings) -> list[str]:
    return list(METRICS.values())


def measure(run: Run[Any], results: list[list[Calibrated]]) -> None:
    largest = max(run.of(Settings).variables)
    for found in results:
        for r in found:
            if r.n == largest:
                run.measure(METRICS[r.label], r.gap, interval=r.interval)


def tables(settings: Settings, results: list[list[Calibrated]]) -> dict[str, pd.DataFrame]:
    rows = [
        {
            "variables": r.n,
            "data": r.label,
            f"frequency minus marginal, above {HIGH:g}": r.gap,
            "from": r.interval[0],
            "to": r.interval[1],
        }
        for found in results
        for r in found
    ]
    return {"gaps": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[list[Calibrated]]) -> dict[str, Figure]:
    fig, ax = plt.subplots(figsize=(5.6, 4.6))
    ax.plot([0, 1], [0, 1], color="0.3", lw=0.8)
    styles = {AS_DRAWN: ("o", PALETTE[4]), STANDARDISED: ("s", PALETTE[1])}
    for k, found in enumerate(results):
        line = ("-", "--", ":", "-.")[k % 4]
        for r in found:
            marker, colour = styles[r.label]
            ax.errorbar(
                r.curve.reported,
                r.curve.frequency,
                3 * r.curve.error,
                fmt=marker + line,
                color=colour,
                ms=5,
                label=f"{r.label}, n = {r.n}",
            )
    ax.set(
        xlabel="edge marginal reported",
        ylabel="share of these edges that are there",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    ax.legend(fontsize=8.5)
    return {"curves": fig}
