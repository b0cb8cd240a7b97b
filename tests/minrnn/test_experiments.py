"""Profiles, jobs, and the metrics that the ledger reads."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.claims import ledger
from lib.minrnn import experiments as ex
from lib.minrnn.decision_model import DecisionResult
from lib.minrnn.efficiency import Timing
from lib.minrnn.language_model import TextResult, language_model_job
from lib.minrnn.pendulum import ScoreScale
from lib.minrnn.profiles import PROFILES, Settings
from lib.minrnn.selective_copying import CopyingResult, train_copying
from lib.minrnn.token_model import Architecture, History, Optimisation
from lib.profiles import ParameterError
from lib.records import Run
from lib.workers import Workers

SCALE = ScoreScale(-1700.0, -330.0)


@pytest.fixture
def run(tmp_path: Path) -> Run[Settings]:
    return Run.start("minrnn", PROFILES, profile="default", accelerator="cpu", out_dir=tmp_path)


def copying(mixer: str, layers: int, seed: int, accuracy: list[float], **options: float) -> CopyingResult:
    steps = [150 * (i + 1) for i in range(len(accuracy))]
    architecture = Architecture(mixer, layers, 8, options=tuple(options.items()))
    return CopyingResult(architecture, seed, History(steps, [1.0] * len(steps), accuracy), 10)


def test_depth_gains_are_paired_by_seed_whatever_the_order(run: Run[Settings]) -> None:
    results = [
        copying(mixer, layers, seed, [0.1, 0.1 * layers + 0.01 * seed * layers])
        for mixer in ("min_gru", "min_lstm")
        for layers in (3, 1, 2)
        for seed in (2, 0, 1)
    ]
    ex.measure_depth(run, results)
    np.testing.assert_allclose(run.measurements["depth_gain_3_mingru"].values, [20, 22, 24])
    np.testing.assert_allclose(run.measurements["copying_accuracy_minlstm_2"].values, [20, 22, 24])
    assert run.measurements["one_layer_accuracy_best"].mean == pytest.approx(11)
    assert (
        ledger("minrnn").judge(run.measurements, "default")["C4"] == "inconclusive"
    )  # a gain of two layers near 10


def test_controls_are_compared_after_equal_steps(run: Run[Settings]) -> None:
    results = [copying(m, 3, s, [0.2, 0.5, 0.9]) for m in ("min_gru", "min_lstm") for s in (0, 1, 2)]
    controls = [
        copying(m, 3, s, [0.1, a + 0.01 * s])
        for m, a in (("s6", 0.4), ("diagonal_ssm", 0.3))
        for s in (0, 1, 2)
    ]
    ex.measure_controls(run, results, controls)  # the controls stop at step 300
    np.testing.assert_allclose(run.measurements["control_gap_mingru"].values, [20, 19, 18])
    np.testing.assert_allclose(run.measurements["control_gap_s6"].values, [10, 10, 10])


def test_bias_effect_of_known_curves() -> None:
    def curve(first: int) -> list[float]:
        return [0.9 if i >= first else 0.1 for i in range(8)]

    results = [
        copying("min_lstm", 2, seed, curve(first), forget_bias=bias)
        for seed, firsts in ((0, (7, 3, 1)), (1, (9, 9, 9)))
        for bias, first in zip((0.0, 1.0, 2.0), firsts, strict=True)
    ]
    slopes, ranks = ex.bias_effect(results, "min_lstm", 0.5)
    np.testing.assert_allclose(slopes, [-1, 0], atol=1e-9)  # steps 1200, 600, 300; and never, never, never
    np.testing.assert_allclose(ranks, [-1, 0], atol=1e-9)


def written(model: str, seed: int, losses: list[float]) -> TextResult:
    steps = [50 * (i + 1) for i in range(len(losses))]
    return TextResult(model, seed, 1e-3, History(steps, losses, [0.0] * len(losses)), 1, 1, 1.0, "")


def test_text_gap_takes_the_worse_of_the_two_cells_and_the_ratio_is_a_bound(run: Run[Settings]) -> None:
    results = []
    for seed in (0, 1, 2):
        results += [
            written("minGRU", seed, [2.6, 2.2, 2.0]),
            written("minLSTM", seed, [2.6, 2.3, 2.1 + 0.01 * seed]),
            written("Transformer", seed, [3.0, 2.0 if seed else 2.9, 2.5]),
            written("Transformer + conv", seed, [3.0, 2.5, 2.2]),
        ]
    ex.measure_text(run, results)
    np.testing.assert_allclose(run.measurements["text_loss_gap_transformer"].values, [0.4, 0.39, 0.38])
    np.testing.assert_allclose(run.measurements["transformer_steps_ratio"].values, [1, 100 / 150, 100 / 150])


def test_decision_gap_is_to_the_best_other_sequence_model_not_to_the_control(run: Run[Settings]) -> None:
    scores = {"min_gru": 70, "attention": 60, "s6": 65, "memoryless": 99}
    results = [DecisionResult(m, "medium", s, v + s, 0.1, 1) for m, v in scores.items() for s in (0, 1)]
    ex.measure_decision(run, results)
    np.testing.assert_allclose(run.measurements["decision_gap_best_other"].values, [5, 5])
    np.testing.assert_allclose(run.measurements["decision_gap_memoryless"].values, [-29, -29])


def test_speed_metrics_read_all_three_baselines(run: Run[Settings]) -> None:
    seconds = {
        "minGRU": 1.0,
        "minLSTM": 2.0,
        "GRU, step loop": 30.0,
        "LSTM, step loop": 40.0,
        "GRU, fused": 3.0,
        "LSTM, fused": 1.0,
    }
    timings = [
        Timing(m, n, i, s * n ** (1.5 if "loop" in m else 1.0) * (1 + 0.01 * i))
        for m, s in seconds.items()
        for n in (64, 512)
        for i in (0, 1, 2)
    ]
    limits = {(m, n): 0.5 * n for m in ("minGRU", "minLSTM") for n in (64, 512)}
    ex.measure_speed(run, timings, limits)
    assert run.measurements["loop_speedup_mingru_512"].mean == pytest.approx(30 * 512**0.5)
    np.testing.assert_allclose(run.measurements["loop_speedup_slope_mingru"].values, 0.5)
    assert run.measurements["fused_log_speedup_mingru"].mean == pytest.approx(math.log(3))
    assert run.measurements["fused_log_speedup_minlstm"].mean == pytest.approx(math.log(0.5))
    assert run.measurements["copy_limit_multiple"].mean == pytest.approx(2.02)
    assert (
        ledger("minrnn").judge(run.measurements, "default")["C2"] == "contradicted"
    )  # slower than the fused LSTM


def test_the_default_run_measures_every_metric_that_its_ledger_judges_there() -> None:
    source = Path(ex.__file__).read_text() + Path("notebooks/minrnn.py").read_text()
    for claim in ledger("minrnn").claims:
        if "default" in claim.judged_in:
            for metric in claim.metrics:
                stem = metric.replace("mingru", "{cell}").replace("minlstm", "{cell}")
                stems = {
                    metric,
                    stem,
                    metric.replace("transformer", "{name}"),
                    metric.replace("forget_bias", "{name}"),
                }
                stems |= {stem.replace("_2_", "_{layers}_").replace("_3_", "_{layers}_")}
                assert any(f'"{s}"' in source for s in stems), metric


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"copying_data_tokens": 40}, "copying_data_tokens=40 must lie between 1 and copying_length"),
        ({"copying_step": 3}, "did you mean 'copying_steps'"),
        ({"text_models": ["minGRUs"]}, "did you mean 'minGRU'"),
        ({"decision_models": ["attnetion"]}, "did you mean 'attention'"),
        ({"copying_controls": ["s4"]}, "needs one number|is not one of"),
        ({"text_heads": 5}, "text_heads=5 does not divide"),
        ({"text_learning_rates": [[1e-3], [1e-3]]}, "needs one non-empty tuple"),
        ({"copying_steps": "many"}, "not of type int"),
        ({"text_seeds": 0}, "text_seeds=0 must be at least 1"),
        ({"copying_layers": [1, 2, 1]}, r"copying_layers=\(1, 2, 1\) names one of them twice"),
        ({"text_learning_rates": [[1e-3, 2e-3, 1e-3]]}, "text_learning_rates.* names one of them twice"),
        ({"copying_batch": -1}, "must not be negative"),
    ],
)
def test_wrong_settings_are_one_line(overrides: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=message):
        Run.start("minrnn", PROFILES, out_dir=tmp_path / "x", overrides=overrides)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("profile", list(PROFILES))
def test_jobs_of_every_profile_have_equal_budgets(profile: str, tmp_path: Path) -> None:
    run = Run.start("minrnn", PROFILES, profile=profile, accelerator="cpu", out_dir=tmp_path)
    for jobs, at in (
        (ex.depth_jobs(run), 3),
        (ex.control_jobs(run), 3),
        (ex.bias_jobs(run), 3),
        (ex.long_jobs(run), 3),
    ):
        assert len({job[at] for job in jobs}) <= 1
        assert len({job[1] for job in jobs}) <= 1
    texts = ex.text_jobs(run, None)
    assert len({replace(job[5], learning_rate=0.0) for job in texts}) == 1
    assert len({job[3] for job in texts}) == 1
    assert len({len(job[6]) for job in texts}) == 1  # as many rates tried for every model
    decisions = [*ex.decision_jobs(run, SCALE), *ex.decision_jobs(run, SCALE, hidden=(2,))]
    assert len({job[3] for job in decisions}) == 1
    assert len({(job[4]["batch"], job[4]["context"], job[4]["episodes"]) for job in decisions}) == 1
    assert len({job[3] for job in ex.formal_jobs(run)}) == 1


def test_the_paper_profile_starts_at_the_papers_own_task(tmp_path: Path) -> None:
    """The sizes that make a run long are cut; task, optimiser and model stay the paper's."""
    small = {
        "copying_steps": 1,
        "copying_evaluation_sequences": 2,
        "copying_batch": 1,
        "copying_seeds": 1,
        "checkpoint_every": 1,
    }
    run = Run.start("minrnn", PROFILES, profile="paper", accelerator="cpu", out_dir=tmp_path, overrides=small)
    job = next(j for j in ex.depth_jobs(run) if j[2].n_layers == 1)
    assert (job[1].length, job[1].n_data, job[2].expansion, job[3].learning_rate) == (4096, 16, 6.0, 3e-4)
    (result,) = train_copying(*job)
    assert result.history.steps == [1]
    assert (tmp_path / "checkpoints").is_dir()


@pytest.mark.slow
def test_workers_give_the_same_results_as_this_process(tmp_path: Path) -> None:
    small = {"text_models": ["minGRU"], "text_learning_rates": [[1e-2]], "text_width": 8, "text_block": 8, "text_heads": 1,
             "text_steps": 3, "text_seeds": 1, "text_evaluate_every": 3, "text_test_windows": 2}  # fmt: skip
    run = Run.start("minrnn", PROFILES, accelerator="cpu", out_dir=tmp_path, overrides=small)
    jobs = [*ex.text_jobs(run, None), *ex.text_jobs(run, None)]
    losses = []
    for n in (1, 2):
        workers = Workers(n, torch.device("cpu"))
        results = workers.start(language_model_job, jobs).results()
        workers.close()
        losses.append([r[0].history.loss for r in results])
    assert losses[0] == losses[1]


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    schedule = Optimisation(100, 1.0, warmup=10, cosine=True)
    factors = [schedule.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 11)
    assert max(factors) == pytest.approx(1.0, abs=1e-2)
    assert factors[-1] == pytest.approx(0.1, abs=1e-2)
    assert [Optimisation(100, 1.0).factor(s) for s in (0, 50, 99)] == [1, 1, 1]
