"""Exact, and how fast (section 4; C1): every graph visited one by one against the short cut, and what both cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.figures import PALETTE
from lib.profiles import setting, settings_class
from lib.random_streams import stream
from lib.records import Run
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.calibration import flat_scores
from lib.smbh.dag_posterior import MAX_VARIABLES, dag_posterior
from lib.smbh.directions import marginals
from lib.smbh.enumeration import MAX_ENUMERATED, enumerate_posterior
from lib.smbh.galaxies import BASE, EXTENDED, Sample, Selection, load
from lib.smbh.reported import reported

BATCH = 100  # tables that are timed together


@settings_class
class Settings:
    """Which graphs are visited one by one, and up to which size the short cut is timed."""

    variables: tuple[int, ...] = setting(
        (4, 5, 6),
        "variables",
        "sizes at which every graph is visited one by one as an audit",
        (7,),
        least=1,
        most=MAX_ENUMERATED,
        distinct=True,
    )
    types: int = setting(1, "types", "types that the enumeration visits", 3, least=1, most=3)
    timed_up_to: int = setting(
        10, "variables", "largest size whose exact edge marginals are timed", least=4, most=MAX_VARIABLES
    )


PROFILES = {
    "smoke": Settings(variables=(4, 5), timed_up_to=8),
    "default": Settings(),
    "gpu": Settings(variables=(4, 5, 6, 7), timed_up_to=13),
    "paper": Settings(variables=(4, 5, 6, 7), types=3, timed_up_to=14),
}


@dataclass(frozen=True)
class Audit:
    """One size of one type: the largest difference of any marginal, and the seconds of the visit."""

    n: int
    gap: float
    seconds: float


@dataclass(frozen=True)
class ShortCut:
    """The short cut: its counts of graphs for 1 to 7 variables, and its seconds.

    Attributes:
        counts: graphs of 1, 2, ... variables.
        one_table, each_of_many: seconds for edges and paths of seven variables, alone and in a batch of :data:`BATCH`.
        sizes, seconds: variables, and the seconds for edges alone.
    """

    counts: tuple[int, ...]
    one_table: float
    each_of_many: float
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]


def visit(sample: Sample, settings: Settings) -> list[Audit]:
    """Visit every graph on the first few variables of one type, and compare all marginals with the short cut's."""
    audits = []
    for n in settings.variables:
        values = sample.values[:, :n]
        table = log_scores(standardise(values))
        edges, paths = marginals(values)
        begin = time.perf_counter()
        listed = enumerate_posterior(table, show_progress=False)
        seconds = time.perf_counter() - begin
        gap = max(np.abs(edges - listed.edges).max(), np.abs(paths - listed.paths).max())
        audits.append(Audit(n, float(gap), seconds))
    return audits


def measure_the_short_cut(base: Sample, extended: Sample, settings: Settings, seed: int) -> ShortCut:
    """Count the graphs, and time the short cut on one type's tables; beyond ten variables on random numbers."""
    scores = log_scores(standardise(base.values))
    hundred = np.repeat(scores[None], BATCH, axis=0)
    counts = [round(float(np.exp(dag_posterior(flat_scores(n)).log_partition))) for n in range(1, 8)]
    sizes, spent = range(4, settings.timed_up_to + 1), []
    for n in sizes:
        values = extended.values[:, :n]
        if n > len(EXTENDED):
            values = stream(seed, "timed tables", n).numpy().standard_normal((len(values), n))
        table = log_scores(standardise(values))
        spent.append(fastest(partial(dag_posterior, table, paths=False), 5 if n < 11 else 1))
    return ShortCut(
        tuple(counts),
        fastest(lambda: dag_posterior(scores), 5),
        fastest(lambda: dag_posterior(hundred), 3) / BATCH,
        tuple(sizes),
        tuple(spent),
    )


def fastest(call: Callable[[], Any], repeats: int) -> float:
    """Smallest wall time of one call, in seconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def jobs(run: Run[Any]) -> list[partial[Any]]:
    s, sample, types = run.of(Settings), load(run), run.of(Selection).types
    visits: list[partial[Any]] = [partial(visit, sample.base[kind], s) for kind in types[: s.types]]
    first = types[0]
    return [*visits, partial(measure_the_short_cut, sample.base[first], sample.extended[first], s, run.seed)]


def metrics(settings: Settings) -> list[str]:
    return ["dag_count_n7", "enumeration_gap"]


def measure(run: Run[Any], results: list[Any]) -> None:
    visits, short = split(results)
    run.measure("dag_count_n7", short.counts[len(BASE) - 1], unit="graphs")
    run.measure("enumeration_gap", max(v.gap for v in visits), unit="probability")


def split(results: list[Any]) -> tuple[list[Audit], ShortCut]:
    """The audits of all types, and the short cut."""
    *of_types, short = results
    return [audit for audits in of_types for audit in audits], short


def tables(settings: Settings, results: list[Any]) -> dict[str, pd.DataFrame]:
    _, short = split(results)
    counts = [{"variables": n + 1, "graphs": f"{count:,}"} for n, count in enumerate(short.counts)]
    return {"counts": pd.DataFrame(counts)}


def figures(settings: Settings, results: list[Any]) -> dict[str, Figure]:
    visits, short = split(results)
    quoted = sum(v for k, v in reported()["runtime"].items() if k != "source")
    largest = max(visits, key=lambda v: (v.n, v.seconds))
    cost = {
        "list of graphs, n = 7, authors' GPU (quoted)": float(quoted),
        f"list of graphs, n = {largest.n}, compiled, this machine": largest.seconds,
        "short cut, n = 7, one table": short.one_table,
        f"short cut, n = 7, {BATCH} tables, each": short.each_of_many,
    }
    return {"cost": draw_cost(cost, visits), "sizes": draw_sizes(short)}


def draw_cost(rows: dict[str, float], visits: list[Audit]) -> Figure:
    """Seconds per data set, and the largest difference between the visit and the short cut at each size."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), width_ratios=(2, 1))
    names = list(rows)
    left.barh(names, list(rows.values()), color=["0.75" if "quoted" in n else "0.35" for n in names])
    left.set_xscale("log")
    left.invert_yaxis()
    left.set_xlabel("seconds per data set, edges and paths")
    for i, seconds in enumerate(rows.values()):
        left.text(seconds * 1.15, i, f"{seconds:.3g} s", va="center", fontsize=9)
    left.set_xlim(right=max(rows.values()) * 12)
    residuals = {n: max(v.gap for v in visits if v.n == n) for n in sorted({v.n for v in visits})}
    right.plot(list(residuals), [max(r, 1e-17) for r in residuals.values()], "o", color="0.35")
    right.set_yscale("log")
    right.set_ylim(1e-17, 1e-6)
    right.set_xticks(list(residuals))
    right.set_xlabel("variables n")
    right.set_ylabel("largest difference")
    return fig


def draw_sizes(short: ShortCut) -> Figure:
    """Seconds of the exact edge marginals against the number of variables."""
    fig, ax = plt.subplots(figsize=(6, 3.2))
    ax.plot(short.sizes, short.seconds, "o-", color=PALETTE[5])
    ax.set(yscale="log", xlabel="variables n", ylabel="seconds, exact edge marginals")
    ax.set_xticks(short.sizes)
    return fig
