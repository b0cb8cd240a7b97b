"""The diffusion experiments as jobs, and the metrics that the ledger reads from their results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lib.adaptive_teachers.diffusion_sampler import Target
from lib.adaptive_teachers.diffusion_training import METHODS, SamplerResult, SamplerRun, SamplerSizes
from lib.adaptive_teachers.gaussian_mixture import GaussianMixture
from lib.adaptive_teachers.manywell import Manywell
from lib.adaptive_teachers.profiles import Settings
from lib.adaptive_teachers.sampler_methods import MIXING
from lib.by_seed import BySeed, by_seed, pairs
from lib.records import Run
from lib.statistics import mean_text

Job = tuple[Any, ...]
MIXTURE = GaussianMixture().name


def sampler_sizes(settings: Settings, iterations: int, snapshots: int = 0) -> SamplerSizes:
    """What the profile fixes for all samplers."""
    s = settings
    return SamplerSizes(
        steps=s.diffusion_steps,
        hidden=s.diffusion_hidden,
        harmonics=s.diffusion_harmonics,
        batch=s.diffusion_batch,
        iterations=iterations,
        capacity=max(s.diffusion_buffer, s.diffusion_batch),
        decay_at=s.diffusion_decay_at,
        langevin=s.diffusion_langevin,
        evaluation_samples=s.diffusion_evaluation_samples,
        transport_samples=s.diffusion_transport_samples,
        evaluations=s.diffusion_evaluations,
        snapshots=snapshots,
    )


def diffusion_jobs(run: Run[Settings]) -> list[Job]:
    """Arguments of ``train_samplers``: every method on the 25 Gaussians, longest first, then the other noise levels and Manywell.

    On a GPU all runs of one target and length are one stack; on a CPU every method is a stack of its seeds, so that the
    stacks can be trained side by side.
    """
    s = run.settings
    main = [
        SamplerRun(m, seed, s.diffusion_sigma, mixing)
        for m in s.diffusion_methods
        for mixing in (MIXING, *(s.diffusion_mixings if m == "Teacher" else ()))
        for seed in run.seeds(s.diffusion_seeds)
    ]
    others = [
        SamplerRun(m, seed, sigma)
        for m in s.diffusion_panel_methods
        for sigma in s.diffusion_other_sigmas
        for seed in run.seeds(s.diffusion_panel_seeds)
    ]
    jobs = _jobs(run, "diffusion", GaussianMixture(), main, sampler_sizes(s, s.diffusion_iterations, 3))
    if others:
        jobs += _jobs(
            run, "noise-levels", GaussianMixture(), others, sampler_sizes(s, s.diffusion_panel_iterations)
        )
    if s.diffusion_manywell_iterations:
        wells = [
            SamplerRun(m, seed, s.diffusion_manywell_sigma)
            for m in s.diffusion_manywell_methods
            for seed in run.seeds(s.diffusion_seeds)
        ]
        sizes = sampler_sizes(s, s.diffusion_manywell_iterations, snapshots=1)
        jobs += _jobs(run, "diffusion", Manywell(s.diffusion_manywell_dim), wells, sizes)
    return jobs


def _jobs(
    run: Run[Settings], experiment: str, target: Target, runs: Sequence[SamplerRun], sizes: SamplerSizes
) -> list[Job]:
    every = run.settings.checkpoint_every
    if run.device.type != "cpu":
        return [(run, target, tuple(runs), sizes, every, experiment)]
    by_cost = sorted({r.method for r in runs}, key=lambda m: -METHODS.index(m))
    return [(run, target, tuple(r for r in runs if r.method == m), sizes, every, experiment) for m in by_cost]


def select(
    results: Iterable[SamplerResult],
    method: str,
    *,
    target: str = MIXTURE,
    sigma: float | None = None,
    mixing: float = MIXING,
) -> list[SamplerResult]:
    """Results of one method, by seed."""
    chosen = [
        r
        for r in results
        if r.target == target
        and r.run.method == method
        and (sigma is None or r.run.sigma == sigma)
        and (method != "Teacher" or r.run.mixing == mixing)
    ]
    return sorted(chosen, key=lambda r: r.seed)


def _last(results: Sequence[SamplerResult], name: str) -> BySeed:
    return by_seed(results, lambda r: getattr(r, name)[-1])


def measure_diffusion(run: Run[Settings], results: Sequence[SamplerResult]) -> None:
    """The metrics of C3, C3a and the diffusion part of C7, one value per seed, after the same number of iterations.

    ``eubo_gain_over_*`` is the baseline's EUBO minus the Teacher's, ``modes_gain_over_*`` the Teacher's modes minus the baseline's;
    ``eubo_gain_over_per_25gmm_at_equal_calls`` stops the Teacher where it has spent the reward calls of the whole PER training
    (two thirds of its own). Gains are paired by seed.
    """
    sigma = run.settings.diffusion_sigma
    taught = select(results, "Teacher", sigma=sigma)
    for method, name in (("TB", "onpolicy"), ("PER", "per")):
        baseline = select(results, method, sigma=sigma)
        run.measure(
            f"eubo_gain_over_{name}_25gmm", _last(baseline, "eubo") - _last(taught, "eubo"), unit="nats"
        )
        run.measure(
            f"modes_gain_over_{name}_25gmm", _last(taught, "modes") - _last(baseline, "modes"), unit="modes"
        )
    run.measure("eubo_teacher_25gmm", _last(taught, "eubo"), unit="nats")
    gains = equal_call_gains(taught, select(results, "PER", sigma=sigma))
    run.measure("eubo_gain_over_per_25gmm_at_equal_calls", gains, unit="nats")
    without = select(results, "Teacher", sigma=sigma, mixing=0.0)
    if without:
        gain = _last(without, "eubo") - _last(taught, "eubo")
        run.measure("eubo_gain_alpha_half_over_zero", gain, unit="nats")
    wells = Manywell(run.settings.diffusion_manywell_dim).name
    if run.settings.diffusion_manywell_dim == 32 and any(r.target == wells for r in results):
        taught, per = (select(results, m, target=wells) for m in ("Teacher", "PER"))
        run.measure("eubo_teacher_manywell32", _last(taught, "eubo"), unit="nats")
        run.measure("eubo_gain_over_per_manywell32", _last(per, "eubo") - _last(taught, "eubo"), unit="nats")
        run.measure("w2_teacher_manywell32", [r.w2 for r in taught])


def equal_call_gains(taught: Sequence[SamplerResult], per: Sequence[SamplerResult]) -> BySeed:
    """EUBO of PER at its end minus the Teacher's at its last evaluation that had spent no more reward calls, by seed.

    The Teacher's first batch, by which its threshold is set, is PER's too; a difference of one batch is allowed.
    """
    gains = {}
    for teacher, baseline in pairs(taught, per):
        allowed = baseline.reward_calls[-1] * 1.01
        at = max(i for i, calls in enumerate(teacher.reward_calls) if calls <= allowed)
        gains[teacher.seed] = baseline.eubo[-1] - teacher.eubo[at]
    return BySeed(gains)


def diffusion_rows(
    results: Sequence[SamplerResult], target: str, sigma: float | None = None
) -> list[dict[str, Any]]:
    """Table 2 of the paper for one target: means with 95 % intervals over seeds, and what each method spent."""
    rows = []
    shown = [r for r in results if r.target == target and (sigma is None or r.run.sigma == sigma)]
    for method, mixing in dict.fromkeys((r.run.method, r.run.mixing) for r in shown):
        own = [r for r in shown if (r.run.method, r.run.mixing) == (method, mixing)]
        label = method if mixing == MIXING else f"{method}, α = {mixing:g}"
        rows.append(
            {
                "method": label,
                "ELBO (nats)": mean_text(_last(own, "elbo"), ".2f"),
                "log Z, sampled (nats)": mean_text(_last(own, "log_z_is"), ".2f"),
                "EUBO (nats)": mean_text(_last(own, "eubo"), ".2f"),
                "modes": mean_text(_last(own, "modes"), ".1f"),
                "W2": mean_text([r.w2 for r in own], ".2f"),
                "W2 of exact samples": mean_text([r.w2_floor for r in own], ".2f"),
                "reward calls": own[0].reward_calls[-1],
                "gradient steps": own[0].iterations[-1],
                "parameters": own[0].parameters,
            }
        )
    return rows
