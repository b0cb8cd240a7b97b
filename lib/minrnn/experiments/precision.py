"""Beyond the paper: how many digits the log-space scan loses, against scans in linear space."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.figures import PALETTE
from lib.minrnn.precision import PrecisionPoint, PrecisionSettings, error_slope, precision_table

if TYPE_CHECKING:
    from lib.records import Run

LOG_SPACE = "heinsen"

PROFILES = {
    "smoke": PrecisionSettings(lengths=(16, 64), width=8),
    "default": PrecisionSettings(),
    "gpu": PrecisionSettings(lengths=(64, 256, 1024, 4096, 16384)),
    "paper": PrecisionSettings(lengths=(64, 256, 1024, 4096, 16384)),
}


def jobs(run: Run[Any]) -> list[partial[list[PrecisionPoint]]]:
    """One job: the paper's scan, and the two scans in linear space that a run on this device uses."""
    engines = (LOG_SPACE, "chunked", "triton" if run.device.type == "cuda" else "numba")
    return [partial(precision_table, run.of(PrecisionSettings), engines, run.seed, run.device)]


def metrics(settings: PrecisionSettings) -> list[str]:
    """What :func:`measure` records; one length has no slope."""
    return ["log_space_error_slope"] if len(settings.lengths) > 1 else []


def measure(run: Run[Any], results: list[list[PrecisionPoint]]) -> None:
    """log_space_error_slope: slope of log error against log |Σ log a| of the log-space scan."""
    (points,) = results
    if len(run.of(PrecisionSettings).lengths) > 1:
        run.measure("log_space_error_slope", error_slope(points, LOG_SPACE))


def tables(settings: PrecisionSettings, results: list[list[PrecisionPoint]]) -> dict[str, pd.DataFrame]:
    """No table."""
    return {}


def figures(settings: PrecisionSettings, results: list[list[PrecisionPoint]]) -> dict[str, Figure]:
    """``errors``: largest relative error of each engine in float32 against |Σ log a|, log-log."""
    (points,) = results
    fig, ax = plt.subplots()
    for i, engine in enumerate(dict.fromkeys(p.engine for p in points)):
        own = [p for p in points if p.engine == engine]
        name = f"{engine} (linear space)" if engine != LOG_SPACE else "heinsen (the paper's log-space scan)"
        x, y = [p.log_decay for p in own], [p.error for p in own]
        ax.plot(x, y, marker="osD^"[i % 4], color=PALETTE[i], label=name)
    decays = np.array(sorted({p.log_decay for p in points}))
    ax.plot(decays, 1.2e-7 * decays, color="0.4", ls="--", lw=1, label="1.2·10⁻⁷ · |Σ log a|")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="|Σ log a| over the sequence",
        ylabel="largest relative error, float32",
    )
    ax.set_title("The log-space scan is the inaccurate one")
    ax.legend()
    return {"errors": fig}
