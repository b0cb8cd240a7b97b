"""Section 3 (claim C1): which share of a GRU's and an LSTM's weights minGRU and minLSTM keep."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib.minrnn.model_styles import colours
from lib.minrnn.parameter_count import REPORTED, CountSettings, Share, parameter_shares

if TYPE_CHECKING:
    from lib.records import Run


PROFILES = {name: CountSettings() for name in ("smoke", "default", "gpu", "paper")}


def jobs(run: Run[Any]) -> list[partial[list[Share]]]:
    """One job, which counts."""
    return [partial(parameter_shares, run.of(CountSettings))]


def metrics(settings: CountSettings) -> list[str]:
    """What :func:`measure` records."""
    return ["parameter_share_error_points", "parameter_ratio_error"]


def measure(run: Run[Any], results: list[list[Share]]) -> None:
    """parameter_share_error_points: largest distance of a counted share from the printed one, over both cells and all α.

    parameter_ratio_error: largest distance of a counted ratio from the formula.
    """
    (shares,) = results
    run.measure(
        "parameter_share_error_points",
        max(abs(100 * s.ratio - s.reported_percent) for s in shares),
        unit="points",
    )
    run.measure("parameter_ratio_error", max(abs(s.ratio - s.formula) for s in shares))


def tables(settings: CountSettings, results: list[list[Share]]) -> dict[str, pd.DataFrame]:
    """``shares``: what was counted, beside what the paper prints."""
    rows = [
        {
            "cell": s.cell,
            "α": s.alpha,
            "weights": s.min_weights,
            "of the full cell's": s.full_weights,
            "share (%)": f"{100 * s.ratio:.2f}",
            "paper (%)": s.reported_percent,
        }
        for s in results[0]
    ]
    return {"shares": pd.DataFrame(rows)}


def figures(settings: CountSettings, results: list[list[Share]]) -> dict[str, Figure]:
    """``shares``: bars of counted shares, dots of the paper's percentages, lines of the formula, against α."""
    (shares,) = results
    frame = pd.DataFrame([{"α = d_h / d_x": s.alpha, "cell": s.cell, "share": 100 * s.ratio} for s in shares])
    fig, ax = plt.subplots()
    sns.barplot(frame, x="α = d_h / d_x", y="share", hue="cell", palette=colours(REPORTED), ax=ax, width=0.7)
    for i, cell in enumerate(REPORTED):
        own = [s for s in shares if s.cell == cell]
        x = np.arange(len(own)) + (i - 0.5) * 0.35
        ax.plot(x, [100 * s.formula for s in own], color="black", lw=1, label="formula" if i == 0 else None)
        ax.plot(
            x, [s.reported_percent for s in own], "D", color="white", mec="black", ms=6,
            label="paper (rounded)" if i == 0 else None,
        )  # fmt: skip
    ax.set(ylabel="share of the full cell's weights (%)", title="What dropping h from the gates saves")
    ax.legend(title=None)
    return {"shares": fig}
