"""A small experiment that tests share: it counts how often its work was done."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.kept_results import Array
from lib.profiles import setting, settings_class
from lib.records import Run


@settings_class
class Settings:
    steps: int = setting(3, "steps", "optimiser steps", least=1)
    seeds: int = setting(2, "seeds", "repetitions", least=1)


PROFILES = {name: Settings() for name in ("smoke", "default", "gpu", "paper")}


@dataclass(frozen=True)
class Walk:
    seed: int
    positions: Array


def walk(count: Path, settings: Settings, seed: int) -> Walk:
    """Note in the file ``count`` that the work was done, and do it."""
    with count.open("a") as file:
        file.write(f"{seed}\n")
    return Walk(seed, np.cumsum(np.random.default_rng(seed).standard_normal(settings.steps)))


def jobs(run: Run[Any]) -> list[partial[Walk]]:
    s = run.of(Settings)
    return [partial(walk, run.out_dir / "count", s, seed) for seed in run.seeds(s.seeds)]


def metrics(settings: Settings) -> list[str]:
    return ["end", "surprise"] if settings.steps > 100 else ["end"]


def measure(run: Run[Any], results: list[Walk]) -> None:
    run.measure("end", [float(r.positions[-1]) for r in results])
    if run.of(Settings).steps == 99:
        run.measure("surprise", 1.0)


def tables(settings: Settings, results: list[Walk]) -> dict[str, pd.DataFrame]:
    return {"ends": pd.DataFrame([{"seed": r.seed, "end": r.positions[-1]} for r in results])}


def figures(settings: Settings, results: list[Walk]) -> dict[str, Figure]:
    fig, ax = plt.subplots()
    for r in results:
        ax.plot(r.positions)
    return {"walks": fig}
