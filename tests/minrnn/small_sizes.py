"""What ``tests/test_chapters.py`` knows of the chapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lib.minrnn.experiments import minari
from tests.minrnn.pendulum_store import make_store

TWO_RATES: dict[str, Any] = {
    "decision_learning_rates": [[1e-3, 2e-3]],
    "decision_blind_learning_rates": [[1e-3, 2e-3]],
    "text_learning_rates": [[1e-3, 2e-3]],
}
D4RL: dict[str, Any] = {
    "minari_width": 16,
    "minari_layers": 1,
    "minari_context": 4,
    "minari_batch": 8,
    "minari_steps": 2,
    "minari_evaluation_episodes": 1,
    "minari_seeds": 2,
}
LONG: dict[str, Any] = {"copying_long_lengths": [20], "copying_long_steps": 2, "copying_long_seeds": 1}
SMALL = {"gpu": {**TWO_RATES, **LONG}, "paper": {**TWO_RATES, **D4RL}}

# so few steps reach no threshold
MAY_MISS = ("forget_bias_speedup", "gate_bias_speedup")


def prepare(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A store with the data sets that the profile ``paper`` asks Minari for, each of three short episodes of a pendulum."""
    make_store(minari.PROFILES["paper"].ids, folder / "store", monkeypatch)
