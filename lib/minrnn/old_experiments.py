"""The chapter's experiments as lists of independent jobs, and the metrics that the ledger reads from their results.

``*_jobs`` turn a run's settings into arguments for one training function each; ``measure_*`` turn results into metrics, with the
formulas in their docstrings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from lib.minrnn.decision_model import MEMORYLESS, DecisionResult
from lib.minrnn.efficiency import BASELINES, Timing, growth_slopes, log_speedups
from lib.minrnn.formal_languages import FormalResult
from lib.minrnn.language_model import TextResult, TextTask
from lib.minrnn.pendulum import ScoreScale
from lib.minrnn.profiles import TEXT_MIXERS, Settings
from lib.minrnn.selective_copying import CopyingResult, CopyingTask
from lib.minrnn.token_model import Architecture, Optimisation
from lib.records import Run
from lib.statistics import mean_interval

Job = tuple[Any, ...]
CELLS = {"min_gru": "mingru", "min_lstm": "minlstm"}
BIAS_OPTION = {"min_gru": "gate_bias", "min_lstm": "forget_bias"}


# --- selective copying: C4, C5, C8 --------------------------------------------------------------------------------


def _copying_options(settings: Settings, mixer: str) -> tuple[tuple[str, Any], ...]:
    if mixer == "min_gru":
        return (("gate_bias", settings.gate_bias),)
    if mixer == "min_lstm":  # un-normalised gates with a forget bias, as in the released code
        return (("normalised", False), ("forget_bias", settings.forget_bias))
    return (("d_state", settings.copying_state_size),)


def _copying_optimisation(settings: Settings, steps: int) -> Optimisation:
    return Optimisation(steps, settings.copying_learning_rate, settings.copying_warmup)


def copying_task(settings: Settings) -> CopyingTask:
    """The task at the profile's main size."""
    s = settings
    return CopyingTask(
        s.copying_length,
        s.copying_data_tokens,
        s.copying_batch,
        s.copying_evaluation_sequences,
        s.copying_evaluate_every,
    )


def _copying_job(
    run: Run[Settings],
    experiment: str,
    mixer: str,
    layers: int,
    expansion: float,
    steps: int,
    seeds: Sequence[int],
    **changes: Any,
) -> Job:
    s = run.settings
    architecture = Architecture(mixer, layers, s.copying_width, expansion, options=_copying_options(s, mixer))
    task = changes.get("task", copying_task(s))
    variants = changes.get("variants", ((),))
    return (
        run,
        task,
        architecture,
        _copying_optimisation(s, steps),
        tuple(seeds),
        variants,
        s.checkpoint_every,
        experiment,
    )


def depth_jobs(run: Run[Settings]) -> list[Job]:
    """minGRU and minLSTM at every depth, all seeds in one job; deepest first."""
    s = run.settings
    return [
        _copying_job(
            run, "depth", mixer, layers, s.copying_expansion, s.copying_steps, run.seeds(s.copying_seeds)
        )
        for layers in sorted(s.copying_layers, reverse=True)
        for mixer in CELLS
    ]


def control_jobs(run: Run[Settings]) -> list[Job]:
    """The other mixers of Table 2 with as many layers as the deepest minGRU, one job per seed."""
    s = run.settings
    return [
        _copying_job(run, "control", mixer, max(s.copying_layers), expansion, s.copying_control_steps, [seed])
        for mixer, expansion in zip(s.copying_controls, s.copying_control_expansions, strict=True)
        for seed in run.seeds(s.copying_seeds)
    ]


def bias_jobs(run: Run[Settings]) -> list[Job]:
    """Two layers with every initial bias of minLSTM's forget gate, and of minGRU's gate z."""
    s = run.settings
    jobs = []
    for mixer, biases in (("min_lstm", s.forget_biases), ("min_gru", s.gate_biases)):
        variants = tuple(((BIAS_OPTION[mixer], bias),) for bias in biases)
        seeds = run.seeds(s.copying_seeds)
        jobs.append(
            _copying_job(
                run,
                "bias",
                mixer,
                2,
                s.copying_expansion,
                s.copying_bias_steps,
                seeds,
                variants=variants,
            )
        )
    return jobs


def long_jobs(run: Run[Settings]) -> list[Job]:
    """Three layers at further lengths with M = 16 (the gpu profile): minGRU, minLSTM and the controls."""
    s = run.settings
    jobs = []
    for length in s.copying_long_lengths:
        task = CopyingTask(
            length, 16, s.copying_batch, s.copying_evaluation_sequences, s.copying_evaluate_every
        )
        for mixer in CELLS:
            seeds = run.seeds(min(3, s.copying_seeds))
            jobs.append(
                _copying_job(
                    run, "long", mixer, 3, s.copying_expansion, s.copying_long_steps, seeds, task=task
                )
            )
    return jobs


def _accuracies(
    results: Sequence[CopyingResult], mixer: str, layers: int, step: int | None = None
) -> np.ndarray:
    """Accuracy in percent by seed, at the last evaluation or at the last one up to ``step``."""
    chosen = sorted(
        (r for r in results if r.architecture.mixer == mixer and r.architecture.n_layers == layers),
        key=lambda r: r.seed,
    )
    if step is None:
        return np.array([r.accuracy for r in chosen])
    at = [max(i for i, s in enumerate(r.history.steps) if s <= step) for r in chosen]
    return np.array([100 * r.history.accuracy[i] for r, i in zip(chosen, at, strict=True)])


def measure_depth(run: Run[Settings], results: Sequence[CopyingResult]) -> None:
    """C4: accuracies by depth, and gains = accuracy(L layers) − accuracy(1 layer), paired by seed, in points."""
    means = []
    for mixer, cell in CELLS.items():
        one = _accuracies(results, mixer, 1)
        means.append(float(one.mean()))
        for layers in run.settings.copying_layers:
            accuracy = _accuracies(results, mixer, layers)
            run.measure(f"copying_accuracy_{cell}_{layers}", accuracy, unit="%")
            if run.profile == "paper":
                run.measure(f"paper_copying_accuracy_{cell}_{layers}", accuracy, unit="%")
            if layers > 1:
                run.measure(f"depth_gain_{layers}_{cell}", accuracy - one, unit="points")
    run.measure("one_layer_accuracy_best", max(means), unit="%", varies="training")
    deepest = max(run.settings.copying_layers)
    worst = min(CELLS, key=lambda m: _accuracies(results, m, deepest).mean())
    run.measure("copying_accuracy_worst_min", _accuracies(results, worst, deepest), unit="%")


def measure_controls(
    run: Run[Settings], results: Sequence[CopyingResult], controls: Sequence[CopyingResult]
) -> None:
    """C5: gap = accuracy(model) − accuracy(S4-type control) after the same number of steps, paired by seed, in points."""
    s = run.settings
    depth, step = max(s.copying_layers), s.copying_control_steps
    for mixer in s.copying_controls:
        accuracy = _accuracies(controls, mixer, depth)
        run.measure(f"copying_accuracy_{mixer}_{depth}", accuracy, unit="%")
        if run.profile == "paper":
            name = "diagonal" if mixer == "diagonal_ssm" else mixer
            run.measure(f"paper_copying_accuracy_{name}_3", accuracy, unit="%")
    if "diagonal_ssm" not in s.copying_controls:
        return
    control = _accuracies(controls, "diagonal_ssm", depth)
    for mixer, cell in CELLS.items():
        run.measure(f"control_gap_{cell}", _accuracies(results, mixer, depth, step) - control, unit="points")
    if "s6" in s.copying_controls:
        run.measure("control_gap_s6", _accuracies(controls, "s6", depth) - control, unit="points")


def control_table(
    run: Run[Settings], results: Sequence[CopyingResult], controls: Sequence[CopyingResult]
) -> list[dict[str, Any]]:
    """Table 2 with a column "measured here": mean accuracy with interval after the controls' number of steps."""
    depth, step = max(run.settings.copying_layers), run.settings.copying_control_steps
    reported = {
        "min_gru": "99.5 ± 0.2",
        "min_lstm": "96.0 ± 2.8",
        "s6": "97.0 / 99.7 / 99.8",
        "diagonal_ssm": "18.3 / 57.0 / 56.4",
    }
    rows = []
    for mixer in (*CELLS, *run.settings.copying_controls):
        accuracy = _accuracies([*results, *controls], mixer, depth, step)
        interval = mean_interval(accuracy)
        rows.append(
            {
                "model": mixer,
                "paper, T = 4096 (%)": reported.get(mixer, "–"),
                "measured here (%)": interval.mean,
                "95 % low": interval.low,
                "95 % high": interval.high,
                "seeds": interval.n,
                "weights": next(r.parameters for r in [*results, *controls] if r.architecture.mixer == mixer
                                and r.architecture.n_layers == depth),
            }
        )  # fmt: skip
    return rows


def bias_effect(
    results: Sequence[CopyingResult], mixer: str, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Per seed: slope of log2(steps to ``threshold``) against the bias, and Spearman's rank correlation of the two.

    A run that never reaches the threshold counts with the steps that it had. Equal steps for every bias give 0 for both.
    """
    option = BIAS_OPTION[mixer]
    slopes, ranks = [], []
    for seed in sorted({r.seed for r in results}):
        own = [r for r in results if r.seed == seed]
        bias = np.array([dict(r.architecture.options)[option] for r in own], dtype=float)
        steps = np.array([r.history.steps_to(threshold) or r.history.steps[-1] for r in own], dtype=float)
        slopes.append(float(np.polyfit(bias, np.log2(steps), 1)[0]))
        ranks.append(0.0 if np.ptp(steps) == 0 else float(stats.spearmanr(bias, steps).statistic))
    return np.array(slopes), np.array(ranks)


def measure_biases(run: Run[Settings], lstm: Sequence[CopyingResult], gru: Sequence[CopyingResult]) -> None:
    """C8: :func:`bias_effect` for minLSTM's forget gate (judged), and for minGRU's gate z (shown).

    Where no run reaches the threshold there is no time to compare, and nothing is recorded: the claim stays "not run".
    """
    for results, mixer, name in ((lstm, "min_lstm", "forget_bias"), (gru, "min_gru", "gate_bias")):
        if all(r.history.steps_to(run.settings.copying_threshold) is None for r in results):
            continue
        slope, rank = bias_effect(results, mixer, run.settings.copying_threshold)
        run.measure(f"{name}_slope", slope, unit="1")
        run.measure(f"{name}_rank_correlation", rank, unit="1")


# --- text: C7 -----------------------------------------------------------------------------------------------------


def text_jobs(run: Run[Settings], path: Path | None) -> list[Job]:
    """One job per model of Fig. 2, all its seeds."""
    s = run.settings
    task = TextTask(s.text_block, s.text_batch, s.text_test_windows, s.text_evaluate_every)
    jobs = []
    for i, name in enumerate(s.text_models):
        mixer = TEXT_MIXERS[name]
        # widths that give the recurrent models and the Transformer with convolution about as many weights (table below)
        expansion = {"min_gru": 2.0, "min_lstm": 1.5, "s6": 2.0}.get(mixer, 1.0)
        options = (("heads", s.text_heads), ("dropout", s.text_dropout)) if mixer == "attention" else ()
        architecture = Architecture(
            mixer,
            s.text_layers,
            s.text_width,
            expansion,
            conv=None if name == "Transformer" or mixer == "s6" else 4,  # S6 brings its own convolution
            mlp="gelu",
            dropout=s.text_dropout,
            options=options,
        )
        rates = s.text_learning_rates[i if len(s.text_learning_rates) > 1 else 0]
        optimisation = Optimisation(s.text_steps, rates[0], s.text_warmup, cosine=True)
        seeds = tuple(run.seeds(s.text_seeds))
        jobs.append(
            (run, name, path, task, architecture, optimisation, rates, seeds, 200 if name == "minGRU" else 0,
             s.checkpoint_every)
        )  # fmt: skip
    return jobs


def _final_losses(results: Sequence[TextResult], model: str, best: bool = False) -> np.ndarray:
    chosen = sorted((r for r in results if r.model == model), key=lambda r: r.seed)
    return np.array([min(r.history.loss) if best else r.history.loss[-1] for r in chosen])


def measure_text(run: Run[Settings], results: Sequence[TextResult]) -> None:
    """C7: final test losses, and gap = loss(Transformer) − max(loss(minGRU), loss(minLSTM)), paired by seed, nats.

    transformer_steps_ratio: steps of the Transformer to minGRU's best test loss over minGRU's own steps to it; where the
    Transformer never gets there, all its steps count: a lower bound.
    """
    models = run.settings.text_models
    for model in models:
        key = model.lower().replace(" + ", "_").replace(" ", "_")
        run.measure(f"text_loss_{key}", _final_losses(results, model), unit="nats")
        if run.profile == "paper":
            run.measure(f"paper_text_loss_{key}", _final_losses(results, model, best=True), unit="nats")
    cells = [m for m in ("minGRU", "minLSTM") if m in models]
    if not cells:
        return
    worst = np.max([_final_losses(results, m) for m in cells], axis=0)
    for model, name in (("Transformer", "transformer"), ("Transformer + conv", "transformer_conv")):
        if model in models:
            run.measure(f"text_loss_gap_{name}", _final_losses(results, model) - worst, unit="nats")
    if "S6" in models:
        best = np.max([_final_losses(results, m, best=True) for m in cells], axis=0)
        run.measure("text_loss_gap_s6", best - _final_losses(results, "S6", best=True), unit="nats")
    if {"minGRU", "Transformer"} <= set(models):
        ratios = []
        for ours, theirs in zip(
            (r for r in results if r.model == "minGRU"),
            (r for r in results if r.model == "Transformer"),
            strict=True,
        ):
            loss = min(ours.history.loss)
            own = ours.history.steps_to_loss(loss)
            assert own is not None
            ratios.append((theirs.history.steps_to_loss(loss) or theirs.history.steps[-1]) / own)
        run.measure("transformer_steps_ratio", ratios, unit="x")
        run.measure("transformer_steps_ratio_at_its_loss", steps_ratio_at_its_loss(results), unit="x")


def steps_ratio_at_its_loss(results: Sequence[TextResult]) -> list[float]:
    """By seed: steps of the Transformer to its own best test loss over minGRU's steps to that loss.

    Where minGRU never gets there, all its steps count.
    """
    ratios = []
    for ours, theirs in zip(
        (r for r in results if r.model == "minGRU"),
        (r for r in results if r.model == "Transformer"),
        strict=True,
    ):
        loss = min(theirs.history.loss)
        own = theirs.history.steps_to_loss(loss)
        assert own is not None
        ratios.append(own / (ours.history.steps_to_loss(loss) or ours.history.steps[-1]))
    return ratios


# --- decision model: C6 -------------------------------------------------------------------------------------------


def decision_jobs(run: Run[Settings], scale: ScoreScale, hidden: tuple[int, ...] = ()) -> list[Job]:
    """One job per data set, model and seed. With ``hidden`` columns only minGRU and the memoryless control, first set only."""
    s = run.settings
    models = tuple(m for m in s.decision_models if not hidden or m in ("min_gru", MEMORYLESS))
    jobs = []
    for data_set in s.decision_sets[:1] if hidden else s.decision_sets:
        for mixer in models:
            options = (("heads", 4),) if mixer == "attention" else ()
            # twice the width and a layer more give the memoryless MLP about as many weights as minGRU has
            wider = mixer == MEMORYLESS
            architecture = Architecture(
                mixer,
                s.decision_layers + wider,
                s.decision_width * (2 if wider else 1),
                mlp="gelu",
                mlp_multiple=2.0,
                dropout=s.decision_dropout,
                options=options,
            )
            optimisation = Optimisation(
                s.decision_steps, s.decision_learning_rate, min(20, s.decision_steps // 4), cosine=True,
                weight_decay=1e-4, clip=0.25,
            )  # fmt: skip
            for seed in run.seeds(s.decision_seeds):
                keywords = {
                    "seed": seed,
                    "episodes": s.decision_episodes,
                    "held_out": max(1, s.decision_episodes // 10),
                    "context": s.decision_context,
                    "batch": s.decision_batch,
                    "evaluation_episodes": s.decision_evaluation_episodes,
                    "scale": scale,
                    "hidden": hidden,
                    "checkpoint_every": s.checkpoint_every,
                }
                jobs.append((run, data_set, architecture, optimisation, keywords))
    return jobs


def _scores(results: Sequence[DecisionResult], model: str) -> np.ndarray:
    """Score by seed, averaged over data sets."""
    seeds = sorted({r.seed for r in results})
    return np.array([np.mean([r.score for r in results if r.model == model and r.seed == s]) for s in seeds])


def measure_decision(run: Run[Settings], results: Sequence[DecisionResult]) -> None:
    """C6: scores by model, and gap = score(minGRU) − score(best other sequence model by mean), paired by seed, in points."""
    models = list(dict.fromkeys(r.model for r in results))
    for model in models:
        run.measure(f"decision_score_{model}", _scores(results, model), unit="score")
    others = [m for m in models if m in ("attention", "s6")]
    ours = _scores(results, "min_gru")
    if others:
        best = max(others, key=lambda m: _scores(results, m).mean())
        run.measure("decision_gap_best_other", ours - _scores(results, best), unit="points")
    if MEMORYLESS in models:
        run.measure("decision_gap_memoryless", ours - _scores(results, MEMORYLESS), unit="points")
    if "diagonal_ssm" in models:
        run.measure("decision_gap_s4", ours - _scores(results, "diagonal_ssm"), unit="points")


def measure_hidden(run: Run[Settings], hidden: Sequence[DecisionResult]) -> None:
    """Log-ratio of held-out action errors, memoryless over minGRU, with the velocity hidden (0: memory is of no use)."""
    errors = {
        m: np.array([r.action_error for r in sorted(hidden, key=lambda r: r.seed) if r.model == m])
        for m in ("min_gru", MEMORYLESS)
    }
    if errors["min_gru"].size and errors[MEMORYLESS].size:
        ratio = np.log(errors[MEMORYLESS] / errors["min_gru"])
        run.measure("hidden_velocity_log_error_ratio", ratio, unit="1")


# --- formal languages ---------------------------------------------------------------------------------------------

FORMAL_MODELS = (("gru", 1), ("tanh_gate", 1), ("min_gru", 1), ("min_gru", 2))


def formal_jobs(run: Run[Settings]) -> list[Job]:
    """GRU, the tanh variant and minGRU with one layer, minGRU with two, on every task and seed."""
    s = run.settings
    # the official setting has no clipping; these short runs at a higher rate keep it
    optimisation = Optimisation(s.formal_steps, s.formal_learning_rate, min(20, s.formal_steps // 4))
    jobs = []
    for task in s.formal_tasks:
        for mixer, layers in FORMAL_MODELS:
            architecture = Architecture(mixer, layers, s.formal_width)
            for seed in run.seeds(s.formal_seeds):
                keywords = {
                    "batch": s.formal_batch,
                    "longest": s.formal_longest,
                    "test_lengths": s.formal_test_lengths,
                    "test_sequences": 256,
                    "seed": seed,
                    "checkpoint_every": s.checkpoint_every,
                }
                jobs.append((run, task, architecture, optimisation, keywords))
    return jobs


def measure_formal(run: Run[Settings], results: Sequence[FormalResult]) -> None:
    """Parity at the longest test length, by model, in percent; over all seven tasks also minGRU's mean (version 3)."""
    longest = max(run.settings.formal_test_lengths)
    for mixer, layers in FORMAL_MODELS:
        values = [
            r.accuracy[longest]
            for r in results
            if (r.task, r.mixer, r.n_layers) == ("parity_check", mixer, layers)
        ]
        if values:
            run.measure(f"parity_accuracy_{mixer}_{layers}", values, unit="%")
    if len(run.settings.formal_tasks) == 7:
        own = [r for r in results if (r.mixer, r.n_layers) == ("min_gru", 2)]
        seeds = sorted({r.seed for r in own})
        means = [float(np.mean([list(r.accuracy.values()) for r in own if r.seed == s])) for s in seeds]
        run.measure("formal_language_accuracy_mean", means, unit="%")


# --- efficiency: C2, C3 -------------------------------------------------------------------------------------------


def measure_speed(
    run: Run[Settings], timings: Sequence[Timing], limits: dict[tuple[str, int], float]
) -> None:
    """C2, each metric one value per timing round.

    loop_speedup_mingru_512: step-loop GRU time / minGRU time at T = 512. loop_speedup_slope_*: slope of log(speed-up over the
    step loop) against log T. fused_log_speedup_*: log(nn.GRU or nn.LSTM time / min* time) at the longest T. copy_limit_multiple:
    smallest median min* time over its copy limit.
    """
    multiples = []
    for model, cell in (("minGRU", "mingru"), ("minLSTM", "minlstm")):
        loop = log_speedups(timings, model, BASELINES[model]["step loop"])
        fused = log_speedups(timings, model, BASELINES[model]["fused"])
        if 512 in loop:
            value = mean_interval(loop[512])
            low, high = math.exp(value.low), math.exp(min(value.high, 700.0))
            speedup = math.exp(value.mean)
            run.measure(f"loop_speedup_{cell}_512", speedup, unit="x", interval=(low, high), varies="clock")
        run.measure(f"loop_speedup_slope_{cell}", growth_slopes(loop), unit="1", varies="clock")
        run.measure(f"fused_log_speedup_{cell}", fused[max(fused)], unit="1", varies="clock")
        for length in loop:
            median = np.median([t.seconds for t in timings if t.model == model and t.length == length])
            multiples.append(float(median) / limits[model, length])
    run.measure("copy_limit_multiple", min(multiples), unit="x", varies="clock")


def measure_memory(run: Run[Settings], saved: dict[tuple[str, int], float], length: int) -> None:
    """C3: excess = 100·(bytes of the paper's log-space min* / bytes of the step loop − 1), and S6 over log-space minGRU, in %."""
    gru, lstm = saved["GRU, step loop", length], saved["LSTM, step loop", length]
    paper_gru = saved["minGRU, log-space scan", length]
    run.measure("memory_excess_mingru", 100 * (paper_gru / gru - 1), unit="%")
    run.measure(
        "memory_excess_minlstm", 100 * (saved["minLSTM, log-space scan", length] / lstm - 1), unit="%"
    )
    run.measure("memory_excess_s6_over_mingru", 100 * (saved["S6", length] / paper_gru - 1), unit="%")
    run.measure("memory_excess_mingru_linear", 100 * (saved["minGRU", length] / gru - 1), unit="%")
