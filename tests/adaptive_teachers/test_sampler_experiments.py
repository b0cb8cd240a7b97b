"""Jobs, metrics, tables and figures of the diffusion and sequence experiments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from lib.adaptive_teachers.biochemical_tasks import TASKS
from lib.adaptive_teachers.diffusion_experiments import (
    MIXTURE,
    diffusion_jobs,
    diffusion_rows,
    equal_call_gains,
    measure_diffusion,
)
from lib.adaptive_teachers.diffusion_figures import bounds_figure, noise_level_figure, samples_figure
from lib.adaptive_teachers.diffusion_training import SamplerResult, SamplerRun, train_samplers
from lib.adaptive_teachers.manywell import Manywell
from lib.adaptive_teachers.profiles import PROFILES, Settings
from lib.adaptive_teachers.sampler_methods import TASK_NAMES
from lib.adaptive_teachers.sequence_experiments import (
    concentration_rows,
    concentrations,
    load_tasks,
    measure_sequences,
    rate_rows,
    sequence_jobs,
    sequence_rows,
)
from lib.adaptive_teachers.sequence_figures import concentration_figure, sequence_figure
from lib.adaptive_teachers.sequence_training import SequenceResult, SequenceRun, train_sequences
from lib.claims import ledger
from lib.profiles import ParameterError, resolve
from lib.records import Run


def _run(tmp_path: Path, profile: str = "smoke", **overrides: Any) -> Run[Settings]:
    return Run.start(
        "adaptive_teachers", PROFILES, profile=profile, accelerator="cpu", out_dir=tmp_path, data="standin",
        overrides=overrides,
    )  # fmt: skip


def _sampler(method: str, seed: int, eubo: list[float], calls: list[int], **more: Any) -> SamplerResult:
    run = SamplerRun(method, seed, more.pop("sigma", 1.5), mixing=more.pop("mixing", 0.5))
    n = len(eubo)
    columns = {"elbo": [-3.0] * n, "log_z_is": [-1.0] * n, "modes": [3] * n, "iterations": list(range(n))}
    return SamplerResult(run, more.pop("target", MIXTURE), eubo=eubo, reward_calls=calls, w2=1.0, w2_floor=0.5, **{**columns, **more})  # fmt: skip


def test_diffusion_metrics_are_paired_gains(tmp_path: Path) -> None:
    calls = {"TB": [0, 100, 200], "PER": [0, 50, 100], "Teacher": [0, 100, 150]}
    eubo = {"TB": 80.0, "PER": 30.0, "Teacher": 10.0}
    results = [
        _sampler(m, s, [20.0, eubo[m] + 2 * s, eubo[m] + s], calls[m], modes=[1, 1, {"TB": 1, "PER": 3, "Teacher": 9}[m] + s])
        for m in ("Teacher", "PER", "TB")
        for s in (1, 0)
    ]  # fmt: skip
    results += [_sampler("Teacher", s, [20.0, 13.0, 13.0 + s], calls["Teacher"], mixing=0.0) for s in (0, 1)]
    results += [_sampler(m, s, [40.0 - 30 * (m == "Teacher")], [1], sigma=5.0) for m in calls for s in (0, 1)]
    run = _run(tmp_path)
    measure_diffusion(run, results)
    values = {name: list(m.values) for name, m in run.measurements.items()}
    assert values["eubo_gain_over_onpolicy_25gmm"] == [70, 70]
    assert values["eubo_gain_over_per_25gmm"] == [20, 20]
    assert values["modes_gain_over_per_25gmm"] == [6, 6]
    assert values["eubo_teacher_25gmm"] == [10, 11]
    assert values["eubo_gain_alpha_half_over_zero"] == [3, 3]
    assert values["eubo_gain_over_per_25gmm_at_equal_calls"] == [
        20,
        19,
    ]  # PER at 100 calls, the Teacher at 100 calls
    rows = diffusion_rows(results, MIXTURE, 1.5)
    assert [r["method"] for r in rows] == ["Teacher", "PER", "TB", "Teacher, α = 0"]
    assert rows[1]["EUBO (nats)"].startswith("30.50 [")
    assert rows[1]["reward calls"] == 100
    uneven = [_sampler("Teacher", 0, [9.0, 5.0, 1.0], [10, 90, 120])]
    assert list(equal_call_gains(uneven, [_sampler("PER", 0, [9.0, 7.0], [10, 100])])) == [2.0]


def test_metrics_of_the_ledger_are_those_that_are_measured(tmp_path: Path) -> None:
    """Every metric of C3, C3a, C4, C4a and C7's diffusion half has a value from these two functions."""
    run = _run(tmp_path, diffusion_manywell_dim=32)
    results = [_sampler(m, s, [5.0], [10]) for m in ("TB", "PER", "Teacher") for s in (0, 1)]
    results += [_sampler("Teacher", s, [6.0], [10], mixing=0.0) for s in (0, 1)]
    results += [
        _sampler(m, s, [166.0 + 40 * (m == "PER")], [10], target="Manywell-32", sigma=1.0)
        for m in ("TB", "PER", "Teacher")
        for s in (0, 1)
    ]
    measure_diffusion(run, results)
    strings = [
        _strings(m, s, task, modes=10 + 5 * ("Teacher" in m) + s, eubo=9.0 - 2 * ("Teacher" in m))
        for task in ("TFBind8", "QM9")
        for m in ("PRT", "PER", "Teacher + PRT", "Teacher + PER")
        for s in (0, 1)
    ]
    measure_sequences(run, strings)
    wanted = {
        term.metric
        for claim in ledger("adaptive_teachers").claims
        if claim.id in ("C3", "C3a", "C4", "C4a")
        for term in (*claim.conditions.direction, *claim.conditions.reproduced)
    }
    assert len(wanted) >= 10
    assert wanted | {"eubo_gain_alpha_half_over_zero"} <= set(run.measurements)
    assert run.measurements["bio_smallest_mode_gain"].values == pytest.approx((0.05, 0.05))
    assert run.measurements["eubo_gain_over_per_manywell32"].values == (40, 40)


def _strings(method: str, seed: int, task: str, modes: int, eubo: float) -> SequenceResult:
    result = SequenceResult(SequenceRun(method, seed), task, "real", True, 100, 8.0)
    for name in ("elbo", "tv", "recall", "mode_mass"):
        getattr(result, name).append(0.5)
    result.modes, result.eubo, result.rounds, result.reward_calls, result.gradient_steps = (
        [modes],
        [eubo],
        [9],
        [288],
        [18],
    )
    return result


def test_smallest_gain_over_tasks_is_taken_by_seed(tmp_path: Path) -> None:
    results = [
        _strings("PER", s, task, modes=10, eubo=9.0) for task in ("TFBind8", "QM9") for s in (0, 1)
    ] + [
        _strings("Teacher + PER", s, task, modes=m, eubo=e)
        for task, s, m, e in (("TFBind8", 0, 30, 8.0), ("TFBind8", 1, 12, 7.0), ("QM9", 0, 15, 8.5), ("QM9", 1, 40, 10.0))
    ]  # fmt: skip
    run = _run(tmp_path)
    measure_sequences(run, results)
    assert run.measurements["bio_smallest_mode_gain"].values == pytest.approx((0.05, 0.02))
    assert run.measurements["bio_smallest_eubo_gain"].values == pytest.approx((0.5, -1.0))
    assert "tfbind8_mode_gain" not in run.measurements


def test_learning_rates_are_not_mixed(tmp_path: Path) -> None:
    results = [_strings(m, 0, "TFBind8", 10 + 5 * ("Teacher" in m), 9.0) for m in ("PRT", "Teacher + PRT")]
    others = [_strings(m, 0, "TFBind8", 40 + 1 * ("Teacher" in m), 7.0) for m in ("PRT", "Teacher + PRT")]
    for r in others:
        r.learning_rate = 1e-3
    run = _run(tmp_path)
    measure_sequences(run, [*results, *others])
    assert run.measurements["tfbind8_mode_gain"].values == pytest.approx((0.05,))
    assert [r["modes, PRT"] for r in rate_rows([*results, *others])] == ["10", "40"]
    assert [r["gain (share of modes)"] for r in rate_rows([*results, *others])] == ["0.050", "0.010"]


def test_jobs_hold_every_run_once_and_give_all_methods_the_same_sizes(tmp_path: Path) -> None:
    run = _run(tmp_path, "default")
    jobs = diffusion_jobs(run)
    s = run.settings
    runs = [r for job in jobs for r in job[2]]
    assert len(runs) == len(set(runs))
    main = [job for job in jobs if job[3].iterations == s.diffusion_iterations]
    assert {r.sigma for job in main for r in job[2]} == {1.5}
    assert {len(job[2]) for job in main} == {s.diffusion_seeds}
    assert {r.sigma for r in runs} == {1.0, 1.5, 5.0}
    assert len({job[3] for job in main}) == 1  # one size for all methods
    strings = sequence_jobs(run, load_tasks(run))
    assert {len({job[3] for job in strings})} == {1}
    assert sorted(r.method for job in strings for r in job[2]) == sorted(
        [*s.sequence_methods] * s.sequence_seeds
    )
    gpu = replace(PROFILES["gpu"], sequence_tasks=("TFBind8", "L14-RNA1"))
    run.settings = gpu
    assert {job[1].name for job in diffusion_jobs(run)} == {MIXTURE, "Manywell-32"}
    by_task = [(job[1].name, len({r.seed for r in job[2]})) for job in sequence_jobs(run, load_tasks(run))]
    assert ("L14-RNA1", 1) in by_task  # folding is serial: one stack a seed
    assert ("TFBind8", gpu.sequence_seeds) in by_task


def test_paper_settings_are_the_papers(tmp_path: Path) -> None:
    run = _run(tmp_path)
    run.settings = PROFILES["paper"]
    sizes = {job[1].name: job[3] for job in sequence_jobs(run, load_tasks(run))}
    assert {name: (x.rounds, x.hidden) for name, x in sizes.items()} == {
        "TFBind8": (2000, 128), "QM9": (1000, 1024), "sEH": (2000, 1024), "L14-RNA1": (2000, 128),
    }  # fmt: skip
    assert all(x.learning_rate == 1e-4 and x.batch == 32 and x.capacity == 1000 for x in sizes.values())
    diffusion = diffusion_jobs(run)[0][3]
    assert (diffusion.steps, diffusion.hidden, diffusion.batch, diffusion.iterations) == (
        100,
        256,
        500,
        10_000,
    )
    assert (diffusion.capacity, diffusion.decay_at, diffusion.teacher_clip) == (50_000, (0.4, 0.8), 0.1)
    assert tuple(TASKS) == TASK_NAMES


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"diffusion_methods": ["TB", "PERR", "Teacher"]}, "did you mean 'PER'"),
        ({"diffusion_methods": ["TB", "Teacher"]}, "must hold 'PER'"),
        ({"sequence_tasks": ["TFBind"]}, "did you mean 'TFBind8'"),
        ({"diffusion_sigma": 0.0}, "diffusion_sigma=0.0 must be above 0"),
        ({"diffusion_decay_at": [1.5]}, "must be below 1"),
        ({"diffusion_manywell_dim": 5}, "must be even"),
        ({"sequence_tasks": []}, "must not be empty"),
        ({"sequence_tasks": ["QM9", "QM9"]}, "sequence_tasks=.* names one of them twice"),
        ({"sequence_other_rates": [1e-4]}, "sequence_other_rates=.* holds sequence_learning_rate"),
        ({"diffusion_steps": 0}, "at least 1"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_line(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        resolve(PROFILES, "smoke", overrides)


def test_figures_and_tables_of_a_small_run(tmp_path: Path) -> None:
    run = _run(
        tmp_path, diffusion_methods=["TB", "PER", "Teacher"], diffusion_iterations=8, diffusion_panel_iterations=4,
        diffusion_manywell_iterations=4, diffusion_mixings=[], sequence_rounds=3,
    )  # fmt: skip
    results = [r for job in diffusion_jobs(run) for r in train_samplers(*job)]
    measure_diffusion(run, results)
    figures: list[Figure] = [
        samples_figure(results, 1.5),
        bounds_figure(results, sigma=1.5),
        bounds_figure(results, target="Manywell-4", log_z=Manywell(4).log_z),
        noise_level_figure(results),
    ]
    assert len(figures[0].axes) == 8
    assert [ax.get_title() for ax in figures[0].axes[4:7]][-1].endswith("iteration 8")
    tasks = load_tasks(run)
    strings = [r for job in sequence_jobs(run, tasks) for r in train_sequences(*job)]
    measure_sequences(run, strings)
    figures += [sequence_figure(strings, "TFBind8"), concentration_figure(tasks)]
    for fig in figures:
        assert all(ax.get_xlabel() or ax.get_shared_x_axes().get_siblings(ax) for ax in fig.axes)
        fig.canvas.draw()
        plt.close(fig)
    rows = sequence_rows(strings, "TFBind8")
    assert {r["method"] for r in rows} == set(run.settings.sequence_methods)
    assert len({r["reward calls"] for r in rows}) == 1
    assert np.isfinite(run.measurements["tfbind8_eubo_gain"].mean)
    by_rate = rate_rows(strings)
    assert [r["learning rate"] for r in by_rate] == ["0.0001", "0.001"]
    facts = concentration_rows(concentrations(run))
    assert [f["task"] for f in facts] == ["TFBind8", "QM9"]
    assert {f["data"] for f in facts} == {"standin"}
