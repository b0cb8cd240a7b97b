"""The variables of galaxies against one another."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lib.smbh.appearance import COLOURS, LABELS, MARKERS, UNITS
from lib.smbh.galaxies import TYPE_SHORT, Sample


def pair_plot(samples: Mapping[str, Sample]) -> Figure:
    """Every variable against every other one, coloured by type."""
    variables = next(iter(samples.values())).variables
    names = [f"{LABELS[v]}\n[{UNITS[v]}]" for v in variables]
    frames = [
        pd.DataFrame(s.values, columns=names).assign(type=TYPE_SHORT[t])  # (N, n + 1)
        for t, s in samples.items()
    ]
    with plt.rc_context({"figure.constrained_layout.use": False}):  # the grid brings its own layout
        grid = sns.pairplot(
            pd.concat(frames, ignore_index=True),
            hue="type",
            corner=True,
            height=1.25,
            diag_kind="hist",
            palette={TYPE_SHORT[t]: COLOURS[t] for t in samples},
            markers=[MARKERS[t] for t in samples],
            plot_kws={"s": 14, "alpha": 0.8},
            diag_kws={"bins": 12, "element": "step"},
        )
    for ax in grid.axes.flat:
        if ax is not None:
            ax.xaxis.set_major_locator(MaxNLocator(2))
            ax.yaxis.set_major_locator(MaxNLocator(3))
    sns.move_legend(grid, "upper right", bbox_to_anchor=(0.85, 0.95), title="", fontsize=13, markerscale=2)
    return grid.figure
