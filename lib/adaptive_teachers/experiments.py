"""The chapter's experiments on the grid as lists of independent jobs, and the metrics that the ledger reads from their results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy import stats

from lib.adaptive_teachers import exact_law
from lib.adaptive_teachers.deceptive_grid import DeceptiveGrid
from lib.adaptive_teachers.grid_methods import BASELINES, MAP_EVALUATIONS, METHODS, GridRun, stacks
from lib.adaptive_teachers.profiles import Settings
from lib.adaptive_teachers.stacked_training import GUARD, GridResult, GridTask, StackedTraining
from lib.adaptive_teachers.teacher import ASYMMETRY, teacher_log_reward
from lib.by_seed import BySeed, average, best, by_seed, common, paired
from lib.records import Run
from lib.statistics import mean_text
from lib.training import fit, make_trainer

Job = tuple[Any, ...]
EQUAL_COMPUTE = ("TB, 2x steps", "TB, 2x weights", "PRT", "PER")
"""Baselines that take at least the Teacher's number of network updates, or its number of weights."""
PAPER_CALLS = {(2, 256): 96_000, (4, 32): 384_000}
"""Reward calls of the two grids whose reported numbers were found."""


def make_grid(run: Run[Settings], dim: int, side: int, pb: str = "") -> DeceptiveGrid:
    """The grid of this run's reward and backward policy (or the policy ``pb``), on its device."""
    s = run.settings
    return DeceptiveGrid(dim, side, s.grid_reward, pb or s.grid_pb, run.device)  # type: ignore[arg-type]


def grid_task(settings: Settings, calls: int) -> GridTask:
    """The sizes of every training with ``calls`` reward calls."""
    return GridTask(
        batches=calls // settings.grid_batch,
        batch=settings.grid_batch,
        hidden=settings.grid_hidden,
        evaluations=settings.grid_evaluations,
        l1_samples=settings.grid_l1_samples,
    )


def train_grid(
    run: Run[Settings],
    dim: int,
    side: int,
    runs: list[GridRun],
    task: GridTask,
    pb: str = "",
    experiment: str = "grid",
) -> list[GridResult]:
    """Train one stack of runs on the grid H = ``side``, d = ``dim``; resumes from a checkpoint of an interrupted run.

    Args:
        experiment: what the training is part of; with grid and methods it names the checkpoints.
    """
    module = StackedTraining(make_grid(run, dim, side, pb), runs, task)
    methods = "-".join(dict.fromkeys(r.method for r in runs))
    trainer = make_trainer(
        run,
        max_steps=len(module.steps),
        name=f"{experiment}-{dim}x{side}-{methods}",
        job=(dim, side, runs, task, pb),
        checkpoint_every=run.settings.checkpoint_every,
    )
    fit(trainer, module)
    return module.to(run.device).finish()  # Lightning leaves a trained module on the CPU


def grid_jobs(run: Run[Settings]) -> list[Job]:
    """Every method with every seed on every grid, and the ablation of the Teacher's constants on the first; replay first."""
    s, jobs = run.settings, []
    for number, ((dim, side), calls) in enumerate(zip(s.grid_sizes, s.grid_reward_calls, strict=True)):
        runs = [GridRun(method, seed) for method in s.grid_methods for seed in run.seeds(s.grid_seeds)]
        runs += [GridRun(m, seed) for m in s.grid_further_methods for seed in run.seeds(s.grid_further_seeds)]
        runs += ablation_runs(run) if number == 0 else []
        task = grid_task(s, calls)
        jobs += [(run, dim, side, stack, task) for stack in stacks(list(dict.fromkeys(runs)))]
    return sorted(jobs, key=lambda job: -_cost(job[3], job[4], job[1] * job[2]))


def _cost(runs: Sequence[GridRun], task: GridTask, length: int) -> float:
    """A rough measure of a job's time: network updates times the width."""
    spec = runs[0].spec
    updates = task.batches * (1 + bool(spec.priority)) * spec.repeats
    return sum(1 + r.spec.teacher for r in runs) * updates * spec.width * length


def ablation_runs(run: Run[Settings]) -> list[GridRun]:
    """The Teacher without a buffer for every C and α of the settings."""
    s = run.settings
    return [
        GridRun("Teacher", seed, c, a)
        for c in s.grid_ablation_asymmetries
        for a in s.grid_ablation_mixings
        for seed in run.seeds(s.grid_ablation_seeds)
    ]


def map_jobs(run: Run[Settings]) -> list[Job]:
    """The Teacher on a 2-dimensional grid, small enough to draw; its exact laws are kept."""
    s = run.settings
    task = replace(grid_task(s, s.grid_map_calls), evaluations=MAP_EVALUATIONS, keep_laws=True)
    return [(run, 2, s.grid_map_side, [GridRun("Teacher", run.seed)], task, "", "map")]


def border_jobs(run: Run[Settings]) -> list[Job]:
    """PRT, the method that fits best, with the released code's backward policy, on the first grid (finding F2)."""
    s = run.settings
    runs = [GridRun("PRT", seed) for seed in run.seeds(s.grid_further_seeds)]
    return [(run, *s.grid_sizes[0], runs, grid_task(s, s.grid_reward_calls[0]), "official", "border")]


def border_rows(valid: Sequence[GridResult], official: Sequence[GridResult]) -> list[dict[str, Any]]:
    """Exact distances of trained Students to the target and to the optimum of the loss that they were trained with."""
    return [
        {
            "trained with P_B": name,
            "seeds": len(own),
            "exact TV to the target": float(np.mean([r.last("tv") for r in own])),
            "exact TV to the optimum of its loss": float(np.mean([r.last("tv_optimum") for r in own])),
        }
        for name, own in (("valid", valid), ("official", official))
        if own  # PRT need not be among the methods
    ]


# --- reading results ----------------------------------------------------------------------------------------------------


def of_method(
    results: Sequence[GridResult], method: str, asymmetry: float = ASYMMETRY, mixing: float = 0.0
) -> list[GridResult]:
    """Results of one method with the given constants, by seed."""
    chosen = [
        r
        for r in results
        if r.run.method == method and r.run.asymmetry == asymmetry and r.run.mixing == mixing
    ]
    return sorted(chosen, key=lambda r: r.seed)


def finals(results: Sequence[GridResult], method: str, curve: str) -> BySeed:
    """Final value of a curve, by seed."""
    return by_seed(of_method(results, method), lambda r: r.last(curve), f"result of {method!r}")


def gain(results: Sequence[GridResult], first: str, second: str, curve: str = "modes") -> BySeed:
    """Final value of a curve with ``first`` minus that with ``second``, for the seeds that both have."""
    one, two = common(*(finals(results, m, curve) for m in (first, second)))
    return one - two


def present(results: Sequence[GridResult], methods: Sequence[str]) -> list[str]:
    """Those of ``methods`` that were run."""
    return [m for m in methods if of_method(results, m)]


def best_method(results: Sequence[GridResult], methods: Sequence[str], curve: str, largest: bool) -> str:
    """The method with the largest (or smallest) mean final value of a curve."""
    return best({m: finals(results, m, curve) for m in present(results, methods)}, largest)


def measure_grid(run: Run[Settings], results: dict[tuple[int, int], list[GridResult]]) -> None:
    """C1, C1a to C1d, C2, C5, C7, C8, from the results of every grid (d, H).

    Gains are paired by seed and averaged over grids, for the seeds that all of them have. The best baseline of a grid is the one with the best mean. mode share =
    maximum-reward cells visited in training / all of them. tv gain = baseline's exact total variation − the Teacher's.
    """
    grids = list(results.values())
    everywhere = set.intersection(*({r.run.method for r in g} for g in grids))

    def share(first: str, second: Callable[[list[GridResult]], str]) -> BySeed:
        return average(common(*(gain(g, first, second(g)) / g[0].n_modes for g in grids)))

    if "Teacher" in everywhere:
        baselines = [m for m in BASELINES if m in everywhere]
        if baselines:
            over = share("Teacher", lambda g: best_method(g, baselines, "modes", True))
            run.measure("mode_share_gain_over_best_baseline", over, unit="share of modes")
            tv = [gain(g, best_method(g, baselines, "tv", False), "Teacher", "tv") for g in grids]
            run.measure("exact_tv_gain_over_best_baseline", average(common(*tv)), unit="total variation")
        matched = [m for m in EQUAL_COMPUTE if m in everywhere]
        if set(EQUAL_COMPUTE[:2]) <= everywhere:
            over = share("Teacher", lambda g: best_method(g, matched, "modes", True))
            run.measure("mode_share_gain_at_equal_compute", over, unit="share of modes")
    pairs = {
        "mode_share_gain_over_onpolicy": ("Teacher", "TB"),
        "mode_share_gain_over_noisy": ("Teacher", "ε-noisy"),
        "mode_share_gain_over_per": ("Teacher", "PER"),
        "mode_share_gain_over_prt": ("Teacher", "PRT"),
        "mode_gain_local_search": ("Teacher + local search", "TB + local search"),
        "mode_gain_teacher_in_replay": ("Teacher + PER", "PER"),
        "mode_gain_teacher_in_detailed_balance": ("Teacher, DB", "DB"),
    }
    for name, (first, second) in pairs.items():
        if {first, second} <= everywhere:
            run.measure(name, share(first, lambda _, name=second: name), unit="share of modes")  # type: ignore[misc]
    _measure_named_grids(run, results)
    _measure_slope(run, results)
    _measure_constants(run, grids[0])
    _measure_unvisited(run, [r for g in grids for r in of_method(g, "Teacher")])


def _measure_named_grids(run: Run[Settings], results: dict[tuple[int, int], list[GridResult]]) -> None:
    """C1b, C1c at the paper's budgets only; C1d wherever the grid (4, 32) was run."""
    for (dim, side), found in results.items():
        name = f"d{dim}_h{side}"
        if found and found[0].calls[-1] == PAPER_CALLS.get((dim, side)):
            modes = {m: finals(found, m, "modes") for m in present(found, ("TB", "PRT", "Teacher"))}
            run.measure(f"modes_{name}_teacher", modes["Teacher"], unit="modes")
            run.measure(f"modes_{name}_teacher_minus_prt", modes["Teacher"] - modes["PRT"], unit="modes")
            run.measure(f"modes_{name}_prt_minus_onpolicy", modes["PRT"] - modes["TB"], unit="modes")
        if (dim, side) == (4, 32):
            floor = exact_law.l1_floor(
                make_grid(run, dim, side), run.settings.grid_l1_samples, np.random.default_rng(run.seed)
            )
            methods = present(found, [m for m in METHODS if "2x" not in m])
            l1 = {m: by_seed(of_method(found, m), lambda r: r.l1) for m in methods}
            run.measure("sampled_l1_d4_h32_largest_over_floor", l1[best(l1)] / floor, unit="ratio")
            if "Teacher" in l1:
                run.measure("sampled_l1_d4_h32_teacher", l1["Teacher"])


def _measure_slope(run: Run[Settings], results: dict[tuple[int, int], list[GridResult]]) -> None:
    """C2: slope, by seed, of log(modes of the Teacher / modes of the best baseline) against log(number of terminal states)."""
    if len(results) < 2:
        return
    logs, sizes = [], []
    for (dim, side), found in results.items():
        baseline = best_method(found, BASELINES, "modes", True)
        own, other = paired(*(finals(found, m, "modes") for m in ("Teacher", baseline))).clip(min=1)
        logs.append(np.log(own / other))
        sizes.append(math.log(side - 1 + dim) + (dim - 1) * math.log(side - 1))
    slope = np.polyfit(sizes, np.array(logs), 1)[0]
    run.measure("mode_gain_slope_with_difficulty", slope, unit="1")


def _measure_constants(run: Run[Settings], results: Sequence[GridResult]) -> None:
    """C7 on the grid: share of modes with C = 19 minus C = 0, α = 0, by seed."""
    without = of_method(results, "Teacher", asymmetry=0.0)
    if len(without) > 1:
        both = (by_seed(own, lambda r: r.mode_share) for own in (of_method(results, "Teacher"), without))
        with_c, without_c = common(*both)
        run.measure("mode_gain_c19_over_c0", with_c - without_c, unit="share of modes")


def unvisited_gain(result: GridResult, over: str) -> float:
    """Mean over evaluations of log(Teacher's mass on unvisited modes) minus that of the Student or of the untrained net, nats.

    The first evaluation is left out, since nothing has been trained there; so are those without an unvisited mode.
    """
    own = np.array(result.curves["unvisited_teacher"][1:])
    other = np.array(result.curves[f"unvisited_{over}"][1:])
    gains = (own - other)[np.isfinite(own - other)]
    return float(gains.mean()) if len(gains) else math.nan


def _measure_unvisited(run: Run[Settings], results: Sequence[GridResult]) -> None:
    for name, over in (
        ("teacher_log_mass_gain_unvisited", "student"),
        ("teacher_log_mass_gain_over_untrained", "untrained"),
    ):
        gains = np.array([unvisited_gain(r, over) for r in results])
        gains = gains[np.isfinite(gains)]
        if len(gains):
            run.measure(name, gains, unit="nats")


def sign_test(results: Sequence[GridResult], baseline: str) -> float:
    """One-sided sign test over seeds that the Teacher visits more modes than ``baseline``; ties are left out. Returns p."""
    gains = gain(results, "Teacher", baseline).values
    wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
    return float(stats.binomtest(wins, wins + losses, alternative="greater").pvalue) if wins + losses else 1.0


def stationary_point(dim: int, side: int, mixing: float) -> float:
    """C6: total variation between the Teacher's exact optimum at an exact Student and R^α / Σ R^α.

    The Student is the analytic optimum, so δ = 0 everywhere and log R_T = log log(1.001) + α log R; the Teacher's flow for this reward
    is solved by backward recursion and its law computed by forward recursion.
    """
    grid = DeceptiveGrid(dim, side)
    student, log_z = exact_law.optimal_policy(grid)
    delta, _ = exact_law.expected_residual(grid, student, torch.tensor([log_z]), grid.log_reward)
    reward = teacher_log_reward(delta[0], grid.log_reward, mixing=mixing, floor=GUARD)
    teacher, _ = exact_law.optimal_policy(grid, reward)
    law = exact_law.terminal_law(grid, teacher)[0]
    power = torch.where(grid.is_terminal, (mixing * grid.log_reward).exp(), 0.0)
    return float(exact_law.total_variation(law, power / power.sum()))


def table_one(results: Sequence[GridResult], floor: float, target_mass: float) -> list[dict[str, Any]]:
    """One row per method: modes visited, exact distances, sampled L1 over its floor, and both budgets; means with 95 % intervals.

    Args:
        floor: L1 of a perfect sampler. target_mass: mass of all modes under the target.
    """
    rows = []
    for method in present(results, list(METHODS)):
        own = of_method(results, method)
        rows.append(
            {
                "method": method,
                f"modes visited (of {own[0].n_modes})": mean_text([r.last("modes") for r in own]),
                "mode recall of the exact law": mean_text([r.last("recall") for r in own]),
                f"exact mass on modes (target {target_mass:.3f})": mean_text(
                    [r.last("mode_mass") for r in own], ".2g"
                ),
                "exact TV": mean_text([r.last("tv") for r in own]),
                "exact KL (nats)": mean_text([r.last("kl") for r in own]),
                "sampled L1 / floor": mean_text([r.l1 / floor for r in own]),
                "log Z error": mean_text([r.last("log_z_error") for r in own], ".2g"),
                "reward calls": own[0].calls[-1],
                "network updates": own[0].student_steps[-1] + own[0].teacher_steps[-1],
                "weights": own[0].parameters,
            }
        )
    return rows


def gain_text(results: Sequence[GridResult], baseline: str) -> str:
    """The Teacher's gain in modes over a baseline as words: mean, interval, sign test."""
    gained = gain(results, "Teacher", baseline)
    return (
        f"- over {baseline}: {mean_text(gained, '+.1f')} modes "
        f"(sign test over {len(gained)} seed(s) p = {sign_test(results, baseline):.3f})"
    )
