"""How the chapter's models look: one name, one colour and one marker each, in every figure and table.

A model is known by the name of its mixer (``min_gru``) or by the name that readers see (``minGRU``). Where one model has several
implementations ("GRU, step loop" and "GRU, fused"), colour and marker are the model's, and the line tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lib.figures import PALETTE
from lib.profiles import nearest

LABELS = {
    "min_gru": "minGRU",
    "min_lstm": "minLSTM",
    "s6": "S6 (Mamba)",
    "diagonal_ssm": "S4-type control",
    "attention": "Transformer",
    "memoryless": "memoryless MLP",
    "gru": "GRU",
    "lstm": "LSTM",
    "tanh_gate": "tanh gate",
}
"""Mixer → the name that readers see."""

_LOOKS = {
    "minGRU": (PALETTE[0], "o"),
    "minLSTM": (PALETTE[1], "s"),
    "S6 (Mamba)": (PALETTE[2], "^"),
    "Transformer": (PALETTE[3], "D"),
    "Transformer + conv": (PALETTE[4], "P"),
    "S4-type control": (PALETTE[5], "v"),
    "memoryless MLP": (PALETTE[6], "X"),
    "GRU": (PALETTE[7], "<"),
    "LSTM": ("#000000", ">"),
    "tanh gate": ("#7f3b08", "d"),
}
_ALSO_CALLED = {"S6": "S6 (Mamba)"}
_LINES: dict[str, str | tuple[int, tuple[int, ...]]] = {
    "step loop": ":",
    "fused": "--",
    "log-space scan": "-.",
    "chunked": (0, (6, 2, 1, 2, 1, 2)),
    "states recomputed": "--",
}


@dataclass(frozen=True)
class Style:
    """How one model is drawn.

    Attributes:
        label: the name that readers see.
        colour, marker, line: in Matplotlib's words.
    """

    label: str
    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]] = "-"


def style_of(model: str) -> Style:
    """The style of a model.

    Args:
        model: name of a mixer, or a name that readers see, for one of several implementations with what it is behind a comma.

    Raises:
        ValueError: for a model or an implementation without a style.
    """
    name, _, implementation = LABELS.get(model, model).partition(", ")
    known = _ALSO_CALLED.get(name, name)
    if known not in _LOOKS:
        raise ValueError(f"no style for the model {model!r}{nearest(name, [*LABELS, *_LOOKS])}")
    if implementation and implementation not in _LINES:
        raise ValueError(f"no line for {model!r}{nearest(implementation, _LINES)}")
    colour, marker = _LOOKS[known]
    label = f"{known}, {implementation}" if implementation else known
    return Style(label, colour, marker, _LINES[implementation] if implementation else "-")


def labels(models: Iterable[str]) -> list[str]:
    """The names that readers see."""
    return [style_of(model).label for model in models]


def colours(models: Iterable[str]) -> dict[str, str]:
    """Name that readers see → colour, as seaborn's ``palette``."""
    return {style.label: style.colour for style in map(style_of, models)}


def markers(models: Iterable[str]) -> dict[str, str]:
    """Name that readers see → marker, as seaborn's ``markers``."""
    return {style.label: style.marker for style in map(style_of, models)}
