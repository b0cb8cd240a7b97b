"""One look for every figure and table: a seaborn theme, captions, alternative text, escaped HTML."""

from __future__ import annotations

import base64
import html
import io
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import display
from matplotlib.figure import Figure

from lib.tables import html_table

PALETTE: list[str] = [
    "#0173b2",
    "#de8f05",
    "#029e73",
    "#d55e00",
    "#cc78bc",
    "#ca9161",
    "#949494",
    "#56b4e9",
]
"""Seaborn's colour-blind palette, in a fixed order."""


def set_theme() -> None:
    """Set the collection's theme: white grid, colour-blind palette, sizes readable in print and on a phone."""
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
    mpl.rcParams.update(
        {
            "figure.figsize": (8.0, 4.5),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "font.size": 11,
        }
    )


@dataclass(frozen=True)
class Rendered:
    """A table or a figure ready to be displayed: escaped HTML for a page, plain text for a terminal."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def picture(fig: Figure, caption: str, alt: str) -> Rendered:
    """Render ``fig`` to a PNG inside a ``<figure>``.

    Raises:
        ValueError: if the caption or the alternative text is empty.
    """
    if not caption.strip() or not alt.strip():
        raise ValueError("a figure needs a caption (what to see) and alternative text (what is shown)")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    markup = (
        f'<figure class="run-figure"><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"/>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
    return Rendered(markup, f"[figure] {alt}")


def show(fig: Figure, caption: str, alt: str) -> None:
    """Display ``fig`` with its caption and alternative text, and close it.

    Raises:
        ValueError: if the caption or the alternative text is empty.
    """
    image = picture(fig, caption, alt)
    plt.close(fig)
    display(image)


def table(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]], caption: str, digits: int = 3, index: bool = False
) -> Rendered:
    """Make an escaped table.

    Args:
        rows: a data frame, or one mapping per row.
        caption: what the table shows.
        digits: significant digits of floating-point numbers.
        index: whether to show the data frame's index.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))

    def cell(value: Any) -> str:
        if isinstance(value, numbers.Real) and not isinstance(value, (bool, numbers.Integral)):
            number = float(value)
            return "–" if math.isnan(number) else f"{number:.{digits}g}"
        return str(value)

    text = frame.map(cell)
    if index:
        text = text.reset_index()
    markup = html_table(list(text.columns), text.itertuples(index=False), caption)
    return Rendered(str(markup), f"{caption}\n{text.to_string(index=False)}")


def show_table(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]], caption: str, digits: int = 3, index: bool = False
) -> None:
    """Display :func:`table`."""
    display(table(rows, caption, digits, index))
