"""The chapter's experiments on enumerable problems as lists of independent jobs, and the metrics that the ledger reads from their results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.by_seed import BySeed, best, by_seed, highest
from lib.checkpoints import KeepCheckpoint, keeping
from lib.ddpp import gb1
from lib.ddpp.denoisers import EmbeddingMLP
from lib.ddpp.denoising_posterior import importance_log_z
from lib.ddpp.enumerated import (
    METHODS,
    Budget,
    Problem,
    SteeredRun,
    make_denoiser,
    train_problem,
)
from lib.ddpp.exact_law import (
    Distance,
    best_of_n_law,
    clean_law,
    denoising_table,
    distance,
    law_of_steps,
    log_normalisers,
    mask_weights,
    posterior,
    resampling_law,
    svdd_law,
    total_variation,
)
from lib.ddpp.grid import GridTask, StringTask
from lib.ddpp.inference_steering import svdd
from lib.ddpp.masked_diffusion import pretrain
from lib.ddpp.profiles import Settings
from lib.ddpp.single_step_bias import Optimum, predicted_optimum
from lib.records import Run
from lib.statistics import mean_text

Job = tuple[Any, ...]
HALF_PLANE, CORNER, DIAGONAL, GB1 = "half plane", "corner", "half plane, diagonal data", "GB1"
ONE_MASK = "one token"
OBJECTIVES = tuple(name for name, method in METHODS.items() if method.paper)
"""The paper's three: IS, LB, KL."""
GRID_BUFFERS = {"IS": "mixed", "LB": "mixed", "KL": "on-policy", "weighted CE": "prior"}
STRING_BUFFERS = {"IS": "on-policy", "LB": "on-policy", "KL": "on-policy"}
GB1_BUFFERS = {"LB": "on-policy", "LB, mixed buffer": "mixed", "KL": "on-policy"}
"""Method → law of its buffer, on each kind of problem; what the prediction of the single-step bias takes."""


# --- problems and priors ------------------------------------------------------------------------------------------------


def grid_tasks(settings: Settings) -> dict[str, GridTask]:
    """The paper's half plane, and the two controls: the corner reward is not additive, the diagonal data are dependent."""
    side, floor = settings.grid_side, settings.grid_floor
    tasks = (
        GridTask(side, "squares", "half plane", floor),
        GridTask(side, "squares", "corner", settings.grid_corner_floor),
        GridTask(side, "diagonal", "half plane", floor),
    )
    return {task.name: task for task in tasks}


def grid_problem(task: GridTask) -> Problem:
    """The grid as a problem to steer."""
    return Problem(task.name, 2, task.side, task.log_reward(), task.rewarded())


def gb1_problem(landscape: gb1.Landscape, settings: Settings) -> Problem:
    """GB1 with log fitness as reward; variants at least as fit as the wild type count as rewarded."""
    log_reward = landscape.log_reward(settings.gb1_floor)
    return Problem(GB1, len(gb1.SITES), len(landscape.alphabet), log_reward, log_reward >= 0)


def string_problem(task: StringTask) -> Problem:
    """Strings as a problem to steer; those with a reward above the median count as rewarded."""
    log_reward = task.log_reward()
    name = ONE_MASK if task.n_tokens == 1 else f"strings, coupling {task.coupling:g}"
    return Problem(name, task.n_tokens, task.n_symbols, log_reward, log_reward > log_reward.median())


def pretrain_grid(run: Run[Settings], task: GridTask) -> nn.Module:
    """The prior of one kind of grid data; every task and every seed starts from it, as in the paper."""
    s = run.settings
    network = make_denoiser(
        s.grid_network, 2, task.side, s.grid_embedding, s.grid_width, s.grid_depth, s.grid_heads, run.seed
    )
    return pretrain(
        network,
        task.sample,
        steps=s.grid_pretrain_steps,
        batch_size=s.grid_pretrain_batch,
        learning_rate=s.grid_pretrain_rate,
        decay="linear",
        seed=run.seed,
        device=run.device,
        keep=keeping(run, f"grid-{task.prior}", task, s.checkpoint_every),
    ).cpu()


def pretrain_gb1(run: Run[Settings], landscape: gb1.Landscape) -> nn.Module:
    """The prior of GB1, fitted to the input library's counts."""
    s = run.settings
    network = EmbeddingMLP(4, len(landscape.alphabet), s.gb1_embedding, s.gb1_width, 2, seed=run.seed)
    return pretrain(
        network,
        landscape.sample,
        steps=s.gb1_pretrain_steps,
        batch_size=s.gb1_pretrain_batch,
        learning_rate=s.grid_pretrain_rate if s.grid_network == "mlp" else 2e-3,
        decay="linear",
        seed=run.seed,
        device=run.device,
        keep=keeping(run, "gb1-prior", landscape, s.checkpoint_every),
    ).cpu()


def string_prior(task: StringTask, seed: int) -> nn.Module:
    """An untrained network: a prior as good as any for what is shown on strings."""
    return EmbeddingMLP(task.n_tokens, task.n_symbols, 16, 64, 2, seed=seed).eval()


# --- jobs ---------------------------------------------------------------------------------------------------------------


def grid_budget(settings: Settings, calls: int) -> Budget:
    """Sizes and rates of every method on the grid, with ``calls`` model calls."""
    s = settings
    return Budget(
        calls=calls,
        batch=s.grid_batch,
        rate=s.grid_rate,
        log_z_rate=s.grid_rate,
        trajectory_log_z_rate=10 * s.grid_rate,
        completions=s.completions,
        kl_samples=s.kl_samples,
        pool=s.grid_pool,
        refill_every=s.grid_refill_every,
        refill_size=s.grid_refill_size,
        buffer_size=s.grid_buffer,
        evaluations=s.grid_evaluations,
        mixed=s.grid_mixed,
    )


def gb1_budget(settings: Settings) -> Budget:
    """Sizes and rates of every method on GB1."""
    s = settings
    return Budget(
        calls=s.gb1_calls,
        batch=s.gb1_batch,
        rate=s.gb1_rate,
        log_z_rate=s.gb1_rate,
        trajectory_log_z_rate=5 * s.gb1_rate,
        completions=s.completions,
        kl_samples=s.kl_samples,
        pool=s.gb1_pool,
        refill_every=s.grid_refill_every,
        refill_size=s.grid_refill_size,
        buffer_size=s.grid_buffer,
        evaluations=s.gb1_evaluations,
        mixed=False,
    )


def string_budget(settings: Settings, calls: int, batch: int, rate: float) -> Budget:
    """Sizes and rates of every method on strings; the buffer holds the last refill only, so that it is on-policy."""
    s = settings
    return Budget(
        calls=calls,
        batch=batch,
        rate=rate,
        log_z_rate=rate,
        trajectory_log_z_rate=5 * rate,
        completions=s.completions,
        kl_samples=s.kl_samples,
        pool=max(1, calls * batch // 8),
        refill_every=s.string_refill_every,
        refill_size=s.grid_refill_size,
        buffer_size=s.grid_refill_size,
        evaluations=1,
        mixed=False,
    )


def grid_jobs(run: Run[Settings], task: GridTask, prior: nn.Module) -> list[Job]:
    """Every method with every seed on one grid task; slow objectives first."""
    s = run.settings
    main = task.name == HALF_PLANE
    budget = grid_budget(s, s.grid_calls if main else s.grid_control_calls)
    methods = s.grid_methods if main else s.grid_control_methods
    seeds = s.grid_seeds if main else s.grid_control_seeds
    return _jobs(run, grid_problem(task), prior, methods, seeds, budget)


def gb1_jobs(run: Run[Settings], landscape: gb1.Landscape, prior: nn.Module) -> list[Job]:
    """Every method with every seed on GB1."""
    s = run.settings
    return _jobs(run, gb1_problem(landscape, s), prior, s.gb1_methods, s.gb1_seeds, gb1_budget(s))


def string_tasks(settings: Settings) -> list[StringTask]:
    """Two-token strings at every strength of the interaction."""
    return [StringTask(2, settings.string_symbols, c) for c in settings.string_couplings]


def string_priors(run: Run[Settings]) -> dict[str, Prior]:
    """Name → untuned model of the two-token strings."""
    tasks = string_tasks(run.settings)
    priors = [Prior.of(string_problem(task), string_prior(task, run.seed)) for task in tasks]
    return {prior.problem.name: prior for prior in priors}


def string_jobs(run: Run[Settings]) -> list[Job]:
    """IS, LB and KL on two-token strings (single-step bias), and on one token (C1)."""
    s = run.settings
    jobs = []
    for task in string_tasks(s):
        budget = string_budget(s, s.string_calls, s.string_batch, s.string_rate)
        jobs += _jobs(
            run, string_problem(task), string_prior(task, run.seed), OBJECTIVES, s.string_seeds, budget
        )
    one = StringTask(1, s.single_symbols, 0.0)
    budget = string_budget(s, s.single_calls, s.single_batch, s.single_rate)
    jobs += _jobs(run, string_problem(one), string_prior(one, run.seed), OBJECTIVES, s.single_seeds, budget)
    return jobs


def _jobs(
    run: Run[Settings], problem: Problem, prior: nn.Module, methods: Sequence[str], seeds: int, budget: Budget
) -> list[Job]:
    slow = {"kl": 0, "rtb": 1, "subtrajectory": 2}
    ordered = sorted(methods, key=lambda m: slow.get(METHODS[m].objective, 3))
    return [(run, problem, prior, method, seed, budget) for method in ordered for seed in run.seeds(seeds)]


def train(
    run: Run[Settings], problem: Problem, prior: nn.Module, method: str, seed: int, budget: Budget
) -> SteeredRun:
    """One job."""
    keep = keep_training(run, problem, method, seed, budget)
    return train_problem(problem, prior.to(run.device), method, seed, budget, run.device, keep)


def keep_training(
    run: Run[Settings], problem: Problem, method: str, seed: int, budget: Budget
) -> KeepCheckpoint | None:
    """The checkpoints of one :func:`train`."""
    label, job = f"{problem.name}-{method}-{seed}", (problem, method, seed, budget)
    return keeping(run, label, job, run.settings.checkpoint_every)


# --- reading results ----------------------------------------------------------------------------------------------------


def of(runs: Iterable[SteeredRun], method: str, problem: str | None = None) -> list[SteeredRun]:
    """Runs of one method (on one problem), by seed."""
    chosen = [r for r in runs if r.method == method and problem in (None, r.problem)]
    return sorted(chosen, key=lambda r: r.seed)


def finals(runs: Iterable[SteeredRun], method: str, problem: str, column: str = "tv") -> BySeed:
    """Final value of one column of :class:`~lib.ddpp.exact_law.Distance`, by seed."""
    return by_seed(
        of(runs, method, problem), lambda r: getattr(r.last, column), f"result of {method!r} on {problem!r}"
    )


def present(runs: Iterable[SteeredRun], problem: str) -> list[str]:
    """Methods that were run on a problem, in the order of :data:`METHODS`."""
    runs = list(runs)
    return [m for m in METHODS if of(runs, m, problem)]


def measure_identity(run: Run[Settings], runs: Sequence[SteeredRun]) -> None:
    """C1: largest total variation to the exact posterior with one masked token, over IS, LB and KL, by seed."""
    table = (by_seed(of(runs, m, ONE_MASK), lambda r: r.single_mask_tv) for m in OBJECTIVES)
    run.measure("single_mask_tv", highest(table), unit="total variation")


def measure_grid(run: Run[Settings], runs: Sequence[SteeredRun]) -> None:
    """C2: the worst of IS, LB and KL on the half plane, by seed; RTB minus the objective with the best mean, paired by seed."""
    tv = {m: finals(runs, m, HALF_PLANE) for m in OBJECTIVES}
    run.measure("grid_tv_worst_objective", highest(tv.values()), unit="total variation")
    gap = finals(runs, "RTB", HALF_PLANE) - tv[best(tv, largest=False)]
    run.measure("grid_tv_rtb_minus_best_ddpp_equal_calls", gap, unit="total variation")


def log_z_excess(weights: Tensor, exact: Tensor, learned: Tensor) -> float:
    """Mean of learned − exact log Z_t over the states that training sees, nats."""
    return float((weights * (learned - exact)).sum())


def measure_bound(
    run: Run[Settings], runs: Sequence[SteeredRun], problems: dict[str, Prior]
) -> dict[str, list[float]]:
    """C3: the largest excess of the exact expectation under q, over all states, methods, seeds and problems; and the mean excess of LB's
    learned log Z, by seed, on the problem where its mean is largest.

    Args:
        runs: of all problems. problems: name → pretrained model, for the problems on which the learned log Z is looked at.

    Returns:
        name → excess of the learned log Z by seed, nats, the problem with the largest mean first.
    """
    run.measure("onpolicy_bound_excess", max(r.bound_excess for r in runs), unit="nats")
    excesses = {}
    for name, prior in problems.items():
        space, exact = prior.problem.space, prior.log_normalisers()
        excesses[name] = [
            log_z_excess(mask_weights(space, r.law), exact, r.log_z)
            for r in of(runs, "LB", name)
            if r.log_z is not None
        ]
    order = sorted(excesses, key=lambda name: -float(np.mean(excesses[name])))
    run.measure("learned_log_z_excess", excesses[order[0]], unit="nats")
    return {name: excesses[name] for name in order}


def measure_gb1(
    run: Run[Settings], runs: Sequence[SteeredRun], landscape: gb1.Landscape, prior: Prior
) -> None:
    """C6: LB's gain in expected log reward over the base model, and in total variation to the measured selected library, by seed."""
    own = of(runs, "LB", GB1)
    before = prior.base
    gain = [r.last.log_reward - before.log_reward for r in own]
    run.measure("protein_log_reward_gain_over_base", gain, unit="nats")
    base_tv = total_variation(prior.law, landscape.selected_law)
    tv = [base_tv - total_variation(r.law, landscape.selected_law) for r in own]
    run.measure("gb1_tv_to_selection_gain_over_base", tv, unit="total variation")


@dataclass
class Prior:
    """A pretrained model on one problem, with its exact numbers."""

    problem: Problem
    table: Tensor
    law: Tensor
    target: Tensor
    log_z: float

    @classmethod
    def of(cls, problem: Problem, denoiser: nn.Module) -> Prior:
        """Enumerate."""
        table = denoising_table(problem.space, denoiser)
        law = clean_law(problem.space, table)
        target, log_z = posterior(law, problem.log_reward)
        return cls(problem, table, law, target, log_z)

    @property
    def base(self) -> Distance:
        """The untuned model's distance to the target."""
        return self.compare(self.law)

    def compare(self, law: Tensor) -> Distance:
        """A law's distance to the target."""
        return distance(law, self.target, self.problem.log_reward, self.problem.rewarded)

    def log_normalisers(self) -> Tensor:
        """Exact log Z_t of every state with a mask, (S,)."""
        return log_normalisers(self.problem.space, self.table, self.problem.log_reward)


# --- tables -------------------------------------------------------------------------------------------------------------


def inference_laws(prior: Prior, n: int) -> dict[str, Tensor]:
    """Exact laws of the samplers that steer without training: Best-of-N, SIR-N, SVDD with N candidates per unmasking."""
    problem = prior.problem
    return {
        f"Best-of-{n}": best_of_n_law(prior.law, problem.log_reward, n),
        f"SIR-{n}": resampling_law(prior.law, problem.log_reward, n),
        f"SVDD, N = {n}": svdd_law(problem.space, prior.table, problem.log_reward, n),
    }


def distance_rows(prior: Prior, runs: Sequence[SteeredRun], n: int) -> list[dict[str, Any]]:
    """One row per sampler: exact distances to the target and both budgets; means with 95 % intervals over seeds."""
    problem = prior.problem

    def row(name: str, distances: Sequence[Distance], **budget: Any) -> dict[str, Any]:
        return {
            "sampler": name,
            "TV": mean_text([d.tv for d in distances], ".3f"),
            "KL(q‖π)": mean_text([d.kl for d in distances], ".3f"),
            "KL(π‖q)": mean_text([d.reverse_kl for d in distances], ".3f"),
            "rewarded mass": mean_text([d.mass for d in distances], ".3f"),
            "E log R": mean_text([d.log_reward for d in distances], ".2f"),
            "entropy": mean_text([d.entropy for d in distances], ".2f"),
            **budget,
        }

    blank = {"model calls": "–", "reward calls": "–"}
    rows = [row("target π", [prior.compare(prior.target)], **blank), row("base", [prior.base], **blank)]
    for method in present(runs, problem.name):
        own = of(runs, method, problem.name)
        spent = {"model calls": f"{own[0].calls[-1]:,.0f}", "reward calls": f"{own[0].reward_calls[-1]:,.0f}"}
        rows.append(row(method, [r.last for r in own], **spent))
    for name, law in inference_laws(prior, n).items():
        per_sample = {"model calls": "none to train", "reward calls": "none to train"}
        rows.append(row(name, [prior.compare(law)], **per_sample))
    return rows


@dataclass
class Prediction:
    """Predicted and trained laws of one objective on one problem."""

    problem: str
    method: str
    optimum: Optimum
    predicted: Distance
    trained: list[Distance]
    tv_between: list[float]
    """Total variation between the trained law and the predicted one, by seed."""


def predictions(
    prior: Prior, runs: Sequence[SteeredRun], buffers: dict[str, str], iterations: int = 100
) -> list[Prediction]:
    """Solve each objective's optimum and compare it with what was trained.

    Args:
        buffers: method → law of the buffer (see :mod:`~lib.ddpp.single_step_bias`).
    """
    problem, found = prior.problem, []
    for method, buffer in buffers.items():
        own = of(runs, method, problem.name)
        if not own:
            continue
        objective = METHODS[method].objective
        constants = prior.log_normalisers() if objective == "is" else None
        optimum = predicted_optimum(
            problem.space,
            prior.table,
            problem.log_reward,
            objective,
            buffer,
            constants,
            iterations,
        )
        between = [total_variation(r.law, optimum.law) for r in own]
        found.append(
            Prediction(
                problem.name,
                method,
                optimum,
                prior.compare(optimum.law),
                [r.last for r in own],
                between,
            )
        )
    return found


def bias_rows(found: Sequence[Prediction]) -> list[dict[str, Any]]:
    """T2: distance to the target of the predicted optimum and of the trained laws."""
    return [
        {
            "problem": p.problem,
            "objective": p.method,
            "predicted TV to π": f"{p.predicted.tv:.3f}",
            "trained TV to π": mean_text([d.tv for d in p.trained], ".3f"),
            "TV between the two": mean_text(p.tv_between, ".3f"),
            "predicted rewarded mass": f"{p.predicted.mass:.3f}",
            "trained rewarded mass": mean_text([d.mass for d in p.trained], ".3f"),
        }
        for p in found
    ]


def coupling_curve(settings: Settings, couplings: Sequence[float]) -> list[dict[str, Any]]:
    """Predicted total variation of each objective's optimum against the strength of the interaction; uniform prior, no training."""
    rows = []
    for coupling in couplings:
        task = StringTask(2, settings.string_symbols, coupling)
        space, table, log_reward = task.space, task.prior_table(), task.log_reward()
        target, _ = posterior(clean_law(space, table), log_reward)
        constants = log_normalisers(space, table, log_reward)
        for method in ("IS", "LB", "KL"):
            objective = METHODS[method].objective
            optimum = predicted_optimum(space, table, log_reward, objective, "on-policy", constants)
            rows.append(
                {"coupling": coupling, "objective": method, "tv": total_variation(optimum.law, target)}
            )
    return rows


def log_z_errors(
    run: Run[Settings], prior: Prior, runs: Sequence[SteeredRun], draws: Sequence[int], per_layer: int
) -> list[dict[str, Any]]:
    """F2: estimated minus exact log Z_t at states drawn as in training, by number of masks: learned (LB) and sampled (IS with M draws).

    States are drawn from the law of the on-policy LB run with the first seed, ``per_layer`` of each number of masks.
    """
    problem = prior.problem
    space, exact = problem.space, prior.log_normalisers()
    generator = torch.Generator().manual_seed(run.seed)
    reward = problem.reward()
    own = {m: of(runs, m, problem.name) for m in METHODS if METHODS[m].objective == "lb"}
    own = {m: r for m, r in own.items() if r and r[0].log_z is not None}
    first = next(iter(own.values()))[0]
    weights = mask_weights(space, first.law)
    log_p = prior.table.log().float()
    rows: list[dict[str, Any]] = []
    for masks in range(space.n_tokens, 0, -1):
        layer = (space.n_masks == masks).nonzero().squeeze(1)
        states = layer[torch.multinomial(weights[layer], per_layer, True, generator=generator)]
        estimates: dict[str, Tensor] = {
            f"IS, M = {m}": importance_log_z(
                log_p[states], space.partial[states], reward, m, generator
            ).double()
            for m in draws
        }
        for method, found in own.items():
            estimates[f"learned, {method}"] = found[0].log_z[states]  # type: ignore[index]
        for name, values in estimates.items():
            rows += [
                {"masks": masks, "estimate": name, "exact": float(e), "error": float(v - e)}
                for v, e in zip(values, exact[states], strict=True)
            ]
    return rows


def step_bias(prior: Prior, law_table: Tensor, steps: Sequence[int]) -> list[dict[str, float]]:
    """Total variation between the T-step law of a two-token sampler and its limit, for T in ``steps``; exact."""
    space = prior.problem.space
    limit = clean_law(space, law_table)
    return [{"T": t, "tv": total_variation(law_of_steps(space, law_table, t), limit)} for t in steps]


def selection_curves(prior: Prior, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Exact total variation to the target of Best-of-N (argmax) and SIR-N (weights) against N."""
    score = prior.problem.log_reward
    return [
        {"N": n, "selection": name, "tv": prior.compare(law).tv}
        for n in sizes
        for name, law in (
            ("argmax (Best-of-N)", best_of_n_law(prior.law, score, n)),
            ("weights (SIR-N)", resampling_law(prior.law, score, n)),
        )
    ]


# --- Table 1 ------------------------------------------------------------------------------------------------------------


def counted_calls(
    run: Run[Settings], prior: Prior, denoiser: nn.Module, runs: Sequence[SteeredRun]
) -> list[dict[str, Any]]:
    """C8: the entries of Table 1 beside counted calls of the tuned network: per inference step, and per training step and sequence.

    T is the number of steps of a trajectory, n here, since the sampler unmasks one token a step.
    """
    s, problem = run.settings, prior.problem
    n, m, k = problem.n_tokens, s.completions, s.particles
    generator = torch.Generator(run.device).manual_seed(run.seed)
    steps, samples = 16, 64
    drawn = svdd(
        denoiser.to(run.device), problem.reward(), samples, particles=k, steps=steps, generator=generator
    )
    denoiser.cpu()
    per_inference = (drawn.counter.model - 1) / steps  # less the first call, which every sampler needs
    rows: list[dict[str, Any]] = [
        {
            "method": "SVDD",
            "inference, paper": f"N = {k}",
            "inference, counted": round(per_inference, 3),
            "training, paper": "–",
            "training, counted": "–",
            "reward calls": f"{drawn.counter.reward / steps:.3g} per inference step",
            "mismatches": int(round(per_inference) != k),
        }
    ]
    reported = {"RTB": (f"T = {n}", n), "KL": ("1", 1), "IS": (f"M = {m}", m), "LB": ("1", 1)}
    for method, (text, number) in reported.items():
        spent = of(runs, method, problem.name)[0].per_step
        rows.append(
            {
                "method": method,
                "inference, paper": "1",
                "inference, counted": 1,
                "training, paper": text,
                "training, counted": round(spent["model"], 3),
                "reward calls": f"{spent['reward']:.3g} per training step",
                "mismatches": int(abs(spent["model"] - number) > 0.01),
            }
        )
    return rows


def optimum_excess(prior: Prior, optimum: Optimum) -> float:
    """Mean of an optimum's constant − exact log Z_t over the states that its training sees, nats."""
    space = prior.problem.space
    return log_z_excess(mask_weights(space, optimum.law), prior.log_normalisers(), optimum.log_z)


def optimum_of(found: Sequence[Prediction], problem: str, method: str) -> Optimum:
    """The predicted optimum of a method on a problem."""
    return next(p.optimum for p in found if p.problem == problem and p.method == method)


def predicted_tv(found: Sequence[Prediction], problem: str, method: str) -> float:
    """Total variation to the target of a predicted optimum."""
    return next(p.predicted.tv for p in found if p.problem == problem and p.method == method)


def rtb_text(runs: Sequence[SteeredRun]) -> str:
    """RTB against the paper's objectives on GB1 at equal model calls, in words; empty where one of them was not run."""
    methods = [m for m in (*OBJECTIVES, "RTB") if of(runs, m, GB1)]
    if "RTB" not in methods or len(methods) < 2:
        return ""
    gaps = {m: finals(runs, "RTB", GB1) - finals(runs, m, GB1) for m in methods if m != "RTB"}
    listed = ", ".join(f"{m} {mean_text(values, '.3f')}" for m, values in gaps.items())
    return f"At equal model calls RTB's total variation to the target minus that of each objective: {listed} (above zero the objective is closer)."


def gb1_rows(
    landscape: gb1.Landscape, prior: Prior, runs: Sequence[SteeredRun], settings: Settings
) -> list[dict[str, Any]]:
    """Table of GB1: distances to the enumerated posterior and to the measured selected library, mean fitness, entropy."""

    def row(name: str, laws: Sequence[Tensor], calls: str) -> dict[str, Any]:
        distances = [prior.compare(law) for law in laws]
        return {
            "sampler": name,
            "TV to π": mean_text([d.tv for d in distances], ".3f"),
            "KL(q‖π)": mean_text([d.kl for d in distances], ".3f"),
            "KL(π‖q)": mean_text([d.reverse_kl for d in distances], ".3f"),
            "TV to the measured library": mean_text(
                [total_variation(law, landscape.selected_law) for law in laws], ".3f"
            ),
            "mean fitness": mean_text(
                [landscape.mean_fitness(law, settings.gb1_floor) for law in laws], ".3f"
            ),
            "entropy": mean_text([d.entropy for d in distances], ".2f"),
            "model calls": calls,
        }

    rows = [row("target π", [prior.target], "–"), row("base", [prior.law], "–")]
    for method in present(runs, GB1):
        own = of(runs, method, GB1)
        rows.append(row(method, [r.law for r in own], f"{own[0].calls[-1]:,.0f}"))
    for name, law in inference_laws(prior, settings.particles).items():
        rows.append(row(name, [law], "none to train"))
    return rows
