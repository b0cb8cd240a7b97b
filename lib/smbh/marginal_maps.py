"""Heat maps of edge and path marginals, with their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.smbh.appearance import LABELS


def heat_map(ax: Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], size: float) -> None:
    """Draw grey cells with their numbers in font size ``size``; cells that are no marginal (NaN) stay white and empty."""
    ax.imshow(values, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value > 0.5 else "black"
            text = ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=size, color=colour)
            text.set_in_layout(False)  # it lies inside its cell: no need to measure it
    ax.grid(False)
    ax.set_xticks(range(len(columns)), columns, fontsize=9)
    ax.set_yticks(range(len(rows)), rows, fontsize=9)


def marginal_maps(
    edges: Mapping[str, np.ndarray],
    paths: Mapping[str, np.ndarray],
    variables: Sequence[str],
    names: Mapping[str, str],
) -> Figure:
    """Edge marginals (n, n) above, path marginals (n, n) below, one column per sample; rows are causes.

    Args:
        edges, paths: sample → marginals. variables: their n symbols. names: sample → its name.
    """
    columns = len(edges)
    fig, axes = plt.subplots(2, columns, figsize=(3.6 * columns, 7.4), squeeze=False)
    for column, kind in enumerate(edges):
        for row, (title, values) in enumerate((("edge", edges[kind]), ("path", paths[kind]))):
            ax = axes[row, column]
            labels = [LABELS[v] for v in variables]
            shown = np.where(np.eye(len(variables), dtype=bool), np.nan, values)
            heat_map(ax, shown, labels, labels, 7.5 if len(variables) > 5 else 10)
            ax.tick_params(axis="x", rotation=60)
            ax.set_title(f"{names[kind]}: {title}")
            ax.set_xlabel("child" if row == 0 else "descendant")
            ax.set_ylabel(("parent" if row == 0 else "ancestor") if column == 0 else "")
    return fig
