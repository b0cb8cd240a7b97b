"""More variables (not in the paper; B6): exact marginals with distance, Sersic index and W1 - W2 added."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lib.kept_results import Array
from lib.profiles import setting, settings_class
from lib.records import Run
from lib.smbh.appearance import HOLE_TO_SIGMA, SIGMA_TO_HOLE
from lib.smbh.directions import HOLE_AND_SIGMA, lead, marginals
from lib.smbh.galaxies import BASE, EXTENDED, TYPE_NAMES, Sample, Selection, load
from lib.smbh.reported import entry

KINDS = ("ell", "spr")


@settings_class
class Settings:
    """Sizes of the larger runs."""

    variables: tuple[int, ...] = setting(
        (8, 9, 10),
        "variables",
        "sizes of the larger exact runs with paths",
        least=len(BASE) + 1,
        most=len(EXTENDED),
        distinct=True,
    )


PROFILES = {
    "smoke": Settings(variables=(8,)),
    "default": Settings(),
    "gpu": Settings(),
    "paper": Settings(),
}


@dataclass(frozen=True)
class Larger:
    """Exact edge marginals (n, n) of one type with ``n`` variables."""

    kind: str
    n: int
    edges: Array

    @property
    def lead(self) -> float:
        """Lead of the headline's direction."""
        return float(lead(self.edges, HOLE_AND_SIGMA[self.kind], EXTENDED[: self.n]))

    def edge(self, arrow: str) -> float:
        """Marginal of one arrow."""
        return float(entry(self.edges, arrow, EXTENDED[: self.n]))


def enlarge(kind: str, sample: Sample, settings: Settings) -> list[Larger]:
    """One type with more and more variables."""
    return [
        Larger(kind, n, marginals(sample.values[:, :n], sample.variables[:n])[0]) for n in settings.variables
    ]


def jobs(run: Run[Any]) -> list[partial[list[Larger]]]:
    sample, s, types = load(run).extended, run.of(Settings), run.of(Selection).types
    return [partial(enlarge, kind, sample[kind], s) for kind in KINDS if kind in types]


def metrics(settings: Settings) -> list[str]:
    return ["larger_lead_min"]


def measure(run: Run[Any], results: list[list[Larger]]) -> None:
    if results:
        run.measure("larger_lead_min", min(r.lead for found in results for r in found), unit="probability")


def tables(settings: Settings, results: list[list[Larger]]) -> dict[str, pd.DataFrame]:
    rows = [
        {
            "type": TYPE_NAMES[r.kind],
            "n": r.n,
            "added": ", ".join(EXTENDED[len(BASE) : r.n]),
            SIGMA_TO_HOLE: r.edge("sigma0 -> M_bh"),
            HOLE_TO_SIGMA: r.edge("M_bh -> sigma0"),
            "lead": r.lead,
        }
        for found in results
        for r in found
    ]
    return {"leads": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[list[Larger]]) -> dict[str, Figure]:
    """None: the table says it all."""
    return {}
