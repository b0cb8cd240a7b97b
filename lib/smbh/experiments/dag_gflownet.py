"""DAG-GFlowNet for more variables (section 11; C8, X8): a learned sampler of graphs against the exact posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.experiment import Machine
from lib.kept_results import Array
from lib.profiles import ParameterError, setting, settings_class
from lib.random_streams import stream
from lib.records import Run
from lib.smbh.appearance import COLOURS
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_gflownet import DagGFlowNet, Evaluations, GFlowNetData, Training
from lib.smbh.directions import marginals
from lib.smbh.equivalence_classes import classify, top_classes
from lib.smbh.galaxies import BASE, EXTENDED, TYPE_SHORT, TYPES, Galaxies, load
from lib.smbh.sampled_graphs import LearnedMarginals, compare_marginals
from lib.smbh.state_graph import MAX_LISTED, StateGraph, posterior_law, terminal_law, total_variation
from lib.training import fit, make_trainer

LOOKS = 5  # points of a curve


@settings_class
class Settings(Training):
    """What is trained, on which galaxies, how long; and what every training needs."""

    variables: int = setting(7, "variables", "size of the judged trainings", 7, least=2, most=len(EXTENDED))
    types: tuple[str, ...] = setting(
        ("spr",),
        "galaxy types",
        "types that are learned, the judged one first",
        TYPES,
        among=TYPES,
        distinct=True,
    )
    steps: int = setting(1600, "steps", "optimiser steps of each judged training", 100_000, least=1)
    seeds: int = setting(4, "seeds", "trainings of the first type (one for each further type)", least=1)
    samples: int = setting(20_000, "graphs", "graphs drawn from the trained policy", 100_000, least=1)
    classes: int = setting(10, "classes", "best classes whose frequencies are compared", 10, least=1)
    small: tuple[int, ...] = setting(
        (5,), "variables", "sizes with an exact terminal law", least=2, most=MAX_LISTED, distinct=True
    )
    small_steps: int = setting(400, "steps", "optimiser steps at these sizes", least=LOOKS)
    between: tuple[int, ...] = setting(
        (6,),
        "variables",
        "further sizes compared by their marginals",
        least=2,
        most=len(EXTENDED),
        distinct=True,
        empty=True,
    )
    between_steps: int = setting(300, "steps", "optimiser steps at the further sizes", least=1)

    def __post_init__(self) -> None:
        if self.variables in self.between:
            raise ParameterError(
                f"between={self.between}: {self.variables} is the size of the judged trainings"
            )


TRANSFORMER: dict[str, Any] = {"network": "transformer", "learning_rate": 3e-4}
OFFICIAL: dict[str, Any] = {
    "network": "transformer",
    "environments": 8,
    "replayed": 32,
    "on_policy": False,
    "learning_rate": 1e-5,
    "cosine": False,
    "target_every": 1000,
    "exploration": (1.0, 0.1),
    "prefill": 1000,
}
"""The official code's settings, for 100,000 iterations."""

PROFILES = {
    "smoke": Settings(
        variables=4,
        types=("ell",),
        steps=60,
        seeds=1,
        samples=1_000,
        small=(4,),
        small_steps=60,
        between=(),
        between_steps=5,
    ),
    "default": Settings(),
    "gpu": Settings(
        **TRANSFORMER,
        types=("spr", "ell", "len"),
        steps=3_000,
        samples=100_000,
        small_steps=3_000,
        between=(6, 10),
        between_steps=3_000,
    ),
    "paper": Settings(
        **OFFICIAL,
        types=("spr", "ell", "len"),
        steps=100_000,
        seeds=1,
        samples=100_000,
        small_steps=100_000,
        between=(6, 10),
        between_steps=100_000,
    ),
}


@dataclass(frozen=True)
class Learned:
    """One training's marginals beside the exact ones (n, n)."""

    kind: str
    n: int
    seed: int
    learned: LearnedMarginals
    exact_edges: Array
    exact_paths: Array


@dataclass(frozen=True)
class Curve:
    """Exact total variation between the learned law and the posterior, (step, distance) while training."""

    kind: str
    n: int
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class BestClasses:
    """The exact best classes: parent masks (k, n) of a member of each, and their probabilities (k,)."""

    parents: Array
    probability: Array


def train(
    run: Run[Any],
    log_scores: np.ndarray,
    training: Training,
    steps: int,
    seed: int,
    index: tuple[int, ...],
    name: str,
    watch: tuple[int, Callable[[DagGFlowNet], float]] | None = None,
) -> DagGFlowNet:
    """Train a DAG-GFlowNet on a score table (n, 2**n); goes on from its last checkpoint where an interrupted run left one.

    Args:
        run: gives the device, the folder and the steps between checkpoints.
        training, steps: see :class:`DagGFlowNet`.
        seed, index: of the streams of weights and of actions.
        name: of the training, in this run alone.
        watch: (every so many steps, function of the module); its values go to ``module.evaluations``.
    """
    with stream(seed, "initialisation", *index).as_global():
        module = DagGFlowNet(log_scores, training, steps)
    trainer = make_trainer(
        run,
        max_steps=steps,
        name=name,
        job=(training, seed, index, watch and watch[0]),
        gradient_clip=10.0,
        checkpoint_every=run.of(Machine).checkpoint_every,
        callbacks=[] if watch is None else [Evaluations(*watch)],
    )
    with stream(seed, "actions and replay", *index).as_global():
        fit(trainer, module, GFlowNetData(steps))
    return module.to(run.device).eval()


def learn(run: Run[Any], kind: str, values: np.ndarray, settings: Settings, steps: int, seed: int) -> Learned:
    """Train on the columns of ``values`` (N, n), draw graphs and compare their marginals with the exact ones."""
    edges, paths = marginals(values)
    n, table = values.shape[1], log_scores(standardise(values))
    index = TYPES.index(kind), n, 0
    module = train(run, table, settings, steps, seed, index, f"{kind}-{n}-seed{seed}")
    generator = stream(seed, "graphs drawn", *index).torch(run.device)
    learned = compare_marginals(module, edges, paths, settings.samples, generator)
    return Learned(kind, n, seed, learned, edges, paths)


def watch_small(run: Run[Any], kind: str, values: np.ndarray, settings: Settings, seed: int) -> Curve:
    """Train on so few variables that the law of the policy's graphs is computed exactly, and watch its distance."""
    n, table = values.shape[1], log_scores(standardise(values))
    graph = StateGraph.of(n)
    law = posterior_law(graph, table)
    look = (settings.small_steps // LOOKS, lambda m: total_variation(terminal_law(m, graph), law))
    index, name = (TYPES.index(kind), n, 1), f"small-{kind}-{n}"
    module = train(run, table, settings, settings.small_steps, seed, index, name, look)
    return Curve(kind, n, tuple(module.evaluations))


def best_classes(values: np.ndarray, settings: Settings) -> BestClasses:
    """The most probable classes of the galaxies ``values`` (N, n), exactly."""
    top = top_classes(log_scores(standardise(values)), settings.classes)
    return BestClasses(top.parents, top.probability)


def jobs(run: Run[Any]) -> list[partial[Any]]:
    s, sample = run.of(Settings), load(run)
    first = s.types[0]
    plan = [(first, s.variables, seed, s.steps) for seed in run.seeds(s.seeds)]
    plan += [(kind, s.variables, run.seed, s.steps) for kind in s.types[1:]]
    plan += [(first, n, run.seed, s.between_steps) for n in s.between]
    work: list[partial[Any]] = [
        partial(learn, run, kind, columns(sample, kind, n), s, steps, seed) for kind, n, seed, steps in plan
    ]
    work += [
        partial(watch_small, run, kind, columns(sample, kind, n), s, run.seed)
        for n in s.small
        for kind in dict.fromkeys(("ell", first))
    ]
    if compares_classes(s):
        work.append(partial(best_classes, columns(sample, first, s.variables), s))
    return work


def columns(sample: Galaxies, kind: str, n: int) -> np.ndarray:
    """The first ``n`` variables of one type (N, n)."""
    return (sample.base if n <= len(BASE) else sample.extended)[kind].values[:, :n]


def compares_classes(settings: Settings) -> bool:
    """Whether the judged training is the one whose class frequencies the authors print."""
    return settings.variables == len(BASE) and settings.types[0] == "spr"


def metrics(settings: Settings) -> list[str]:
    names = ["gflownet_edge_rmse", "gflownet_path_rmse", "gflownet_edge_excess"]
    return [*names, "gflownet_class_deviation"] if compares_classes(settings) else names


def measure(run: Run[Any], results: list[Any]) -> None:
    s = run.of(Settings)
    first = judged(s, results)
    run.measure("gflownet_edge_rmse", [r.edge_rmse for r in first], unit="probability")
    run.measure("gflownet_path_rmse", [r.path_rmse for r in first], unit="probability")
    run.measure("gflownet_edge_excess", [r.edge_rmse - r.sampling_rmse for r in first], unit="probability")
    if compares_classes(s):
        gaps = [class_gap(results[-1], r.parents) for r in first]
        run.measure("gflownet_class_deviation", gaps, unit="percentage points")


def judged(settings: Settings, results: list[Any]) -> list[LearnedMarginals]:
    """The repetitions of the judged training."""
    wanted = settings.types[0], settings.variables
    return [r.learned for r in results if isinstance(r, Learned) and (r.kind, r.n) == wanted]


def class_gap(exact: BestClasses, parents: np.ndarray) -> float:
    """Largest difference between frequency and probability of the best classes, percentage points; parents (samples, n)."""
    best = len(exact.parents)
    member = classify(np.concatenate([exact.parents, parents])).member_of
    share = np.array([np.mean(member[best:] == member[k]) for k in range(best)])
    return float(100 * np.abs(share - exact.probability).max())


def tables(settings: Settings, results: list[Any]) -> dict[str, pd.DataFrame]:
    rows = [
        {
            "type": TYPE_SHORT[r.kind],
            "n": r.n,
            "seed": r.seed,
            "edge error": r.learned.edge_rmse,
            "path error": r.learned.path_rmse,
            "error of as many exact samples": r.learned.sampling_rmse,
        }
        for r in results
        if isinstance(r, Learned)
    ]
    return {"errors": pd.DataFrame(rows)}


def figures(settings: Settings, results: list[Any]) -> dict[str, Figure]:
    curves = [r for r in results if isinstance(r, Curve)]
    return {"learned": draw_learned(results[0], curves)}


def draw_learned(best: Learned, curves: list[Curve]) -> Figure:
    """Learned against exact marginals of one training; distance of the learned law from the posterior at small sizes."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6))
    off = ~np.eye(best.n, dtype=bool)
    for name, exact, learned, face in (
        ("edges", best.exact_edges, best.learned.edges, COLOURS[best.kind]),
        ("paths", best.exact_paths, best.learned.paths, "none"),
    ):
        left.scatter(
            exact[off], learned[off], s=18, facecolors=face, edgecolors=COLOURS[best.kind], label=name
        )
    left.plot([0, 1], [0, 1], color="0.3", lw=0.8)
    left.set(xlabel="exact marginal", ylabel="DAG-GFlowNet marginal", xlim=(0, 1), ylim=(0, 1))
    left.legend(fontsize=8)
    sizes = list(dict.fromkeys(curve.n for curve in curves))
    for curve in curves:
        name = f"{TYPE_SHORT[curve.kind]}, n = {curve.n}"
        line = ("-", "--", ":", "-.")[sizes.index(curve.n) % 4]
        right.plot(
            *zip(*curve.points, strict=True), line, marker="o", ms=4, color=COLOURS[curve.kind], label=name
        )
    right.set(xlabel="optimiser steps", ylabel="total variation to the posterior", ylim=(0, 1))
    right.legend(fontsize=8)
    return fig
