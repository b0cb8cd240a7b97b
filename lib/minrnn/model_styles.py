"""How the chapter's models look: one name, one colour and one marker each, in every figure and table."""

from __future__ import annotations

from lib.figures import PALETTE

LABELS = {
    "min_gru": "minGRU",
    "min_lstm": "minLSTM",
    "s6": "S6 (Mamba)",
    "diagonal_ssm": "S4-type control",
    "attention": "Decision Transformer",
    "memoryless": "memoryless MLP",
    "gru": "GRU",
    "lstm": "LSTM",
    "tanh_gate": "tanh gate",
}

COLOURS = dict(zip(LABELS, [*PALETTE, "#000000"], strict=True))
MARKERS = dict(zip(LABELS, "osD^vPX*d", strict=True))
