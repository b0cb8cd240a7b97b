"""The sequence experiments as jobs, and the metrics that the ledger reads from their results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lib.adaptive_teachers.biochemical_tasks import Concentration, SequenceTask, concentration, load_task
from lib.adaptive_teachers.profiles import Settings
from lib.adaptive_teachers.sampler_methods import COMPARED
from lib.adaptive_teachers.sequence_training import SequenceResult, SequenceRun, SequenceSizes
from lib.by_seed import BySeed, lowest, pairs
from lib.records import Run
from lib.statistics import mean_text

Job = tuple[Any, ...]


def load_tasks(run: Run[Settings]) -> list[SequenceTask]:
    """The profile's tasks, with real data where it can be had."""
    return [load_task(run, name) for name in run.settings.sequence_tasks]


def sequence_jobs(run: Run[Settings], tasks: Sequence[SequenceTask]) -> list[Job]:
    """Arguments of ``train_sequences``: for each task the methods with replay as one stack, and those without as another.

    The comparison of C4a is repeated at the profile's other learning rates, on tasks that are evaluated exactly. RNA strings
    are folded one by one on the CPU; there each seed is a stack of its own.
    """
    s = run.settings
    jobs = []
    for task in tasks:
        seeds = run.seeds(s.sequence_seeds)
        groups = [seeds] if task.enumerable else [[seed] for seed in seeds]
        rates = [s.sequence_learning_rate, *(s.sequence_other_rates if task.enumerable else ())]
        for rate in rates:
            methods = s.sequence_methods if rate == s.sequence_learning_rate else COMPARED
            sizes = SequenceSizes(
                rounds=s.sequence_rounds or task.sizes.rounds,
                hidden=s.sequence_hidden or task.sizes.hidden,
                exploration=task.sizes.exploration,
                batch=s.sequence_batch,
                capacity=s.sequence_buffer,
                learning_rate=rate,
                log_z_rate=s.sequence_log_z_rate,
                evaluations=s.sequence_evaluations,
                evaluation_samples=s.sequence_evaluation_samples,
            )
            for with_replay in (True, False):
                for group in groups:
                    runs = [SequenceRun(m, seed) for m in methods for seed in group]
                    chosen = tuple(r for r in runs if bool(r.replay) == with_replay)
                    if chosen:
                        jobs.append((run, task, chosen, sizes, s.checkpoint_every))
    return jobs


def select(
    results: Iterable[SequenceResult], task: str, method: str, rate: float | None = None
) -> list[SequenceResult]:
    """Results of one method on one task by seed, at the learning rate that comes first unless another is given."""
    chosen = [r for r in results if r.task == task and r.run.method == method]
    rate = chosen[0].learning_rate if rate is None and chosen else rate
    return sorted((r for r in chosen if r.learning_rate == rate), key=lambda r: r.seed)


def gains(
    results: Sequence[SequenceResult], task: str, method: str, baseline: str, rate: float | None = None
) -> tuple[BySeed, BySeed]:
    """By seed: share of modes found by ``method`` minus that of ``baseline``, and EUBO of ``baseline`` minus that of ``method``."""
    both = pairs(*(select(results, task, m, rate) for m in (method, baseline)))
    modes = BySeed({a.seed: (a.modes[-1] - b.modes[-1]) / a.n_modes for a, b in both})
    return modes, BySeed({a.seed: b.eubo[-1] - a.eubo[-1] for a, b in both})


def rate_rows(results: Sequence[SequenceResult], task: str = "TFBind8") -> list[dict[str, Any]]:
    """Gain of Teacher + PRT over PRT at every learning rate that was run: means with 95 % intervals over seeds."""
    rows = []
    for rate in dict.fromkeys(r.learning_rate for r in results if r.task == task):
        modes, eubo = gains(results, task, "Teacher + PRT", "PRT", rate)
        found = {m: select(results, task, m, rate) for m in ("PRT", "Teacher + PRT")}
        rows.append(
            {
                "learning rate": f"{rate:g}",
                "modes, PRT": mean_text([r.modes[-1] for r in found["PRT"]], ".0f"),
                "modes, Teacher + PRT": mean_text([r.modes[-1] for r in found["Teacher + PRT"]], ".0f"),
                "gain (share of modes)": mean_text(modes, ".3f"),
                "gain of EUBO (nats)": mean_text(eubo, ".2f"),
            }
        )
    return rows


def measure_sequences(run: Run[Settings], results: Sequence[SequenceResult]) -> None:
    """The metrics of C4a (TFBind8, Teacher + PRT against PRT) and C4 (Teacher + PER against PER, smallest gain over tasks by seed).

    All methods have spent the same reward calls. Modes are those among all strings sampled in training.
    """
    if select(results, "TFBind8", "Teacher + PRT") and select(results, "TFBind8", "PRT"):
        modes, eubo = gains(results, "TFBind8", "Teacher + PRT", "PRT")
        run.measure("tfbind8_mode_gain", modes, unit="share of modes")
        run.measure("tfbind8_eubo_gain", eubo, unit="nats")
    tasks = [
        t
        for t in dict.fromkeys(r.task for r in results)
        if select(results, t, "Teacher + PER") and select(results, t, "PER")
    ]
    if len(tasks) > 1:
        modes_by_task, eubo_by_task = zip(
            *(gains(results, t, "Teacher + PER", "PER") for t in tasks), strict=True
        )
        run.measure("bio_smallest_mode_gain", lowest(modes_by_task), unit="share of modes")
        smallest = lowest(eubo_by_task)
        if np.isfinite(smallest).all():
            run.measure("bio_smallest_eubo_gain", smallest, unit="nats")


def concentrations(run: Run[Settings]) -> list[Concentration]:
    """How concentrated the two tabulated targets are."""
    return [concentration(load_task(run, name)) for name in ("TFBind8", "QM9")]


def concentration_rows(found: Sequence[Concentration]) -> list[dict[str, Any]]:
    """One row per task."""
    return [
        {
            "task": c.task,
            "strings": c.end_points,
            "log Z (nats)": round(c.log_z, 6),
            "entropy (nats)": round(c.entropy, 2),
            "effective support 1/Σp²": round(c.effective_support, 2),
            "modes": c.modes,
            "mass on modes (%)": round(100 * c.mode_mass, 1),
            "data": c.source,
        }
        for c in found
    ]


def sequence_rows(results: Sequence[SequenceResult], task: str) -> list[dict[str, Any]]:
    """Last evaluation of every method on one task: means with 95 % intervals over seeds, and what each method spent."""
    rows = []
    for method in dict.fromkeys(r.run.method for r in results if r.task == task):
        own = select(results, task, method)

        def last(name: str, form: str, own: list[SequenceResult] = own) -> str:
            return mean_text([getattr(r, name)[-1] for r in own], form)

        rows.append(
            {
                "method": method,
                f"modes of {own[0].n_modes}": last("modes", ".0f"),
                "mode recall": last("recall", ".3f"),
                "ELBO (nats)": last("elbo", ".2f"),
                "EUBO (nats)": last("eubo", ".2f"),
                "total variation": last("tv", ".3f"),
                "reward calls": own[0].reward_calls[-1],
                "gradient steps": own[0].gradient_steps[-1],
                "parameters": own[0].parameters,
            }
        )
    return rows
