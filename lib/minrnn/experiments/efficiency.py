"""Figure 1, left and middle (claim C2): time of a training step against a step loop, a fused cell and a memory copy.

To be timed alone: :meth:`lib.experiment.Work.here`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.minrnn.efficiency import (
    BASELINES,
    MODELS,
    CopyLimit,
    EfficiencySettings,
    Timing,
    copy_limits,
    growth_slopes,
    log_speedups,
    time_models,
)
from lib.minrnn.model_styles import style_of
from lib.statistics import mean_interval

if TYPE_CHECKING:
    from lib.records import Run

CELLS = {"minGRU": "mingru", "minLSTM": "minlstm"}
TIMED = tuple(model for model in MODELS if not model.startswith("S6"))
REPORTED_AT = (512, 4096)
"""Lengths at which the paper prints speed-ups."""

PROFILES = {
    "smoke": EfficiencySettings(lengths=(16, 512), batch=1, width=8, repeats=2),
    "default": EfficiencySettings(),
    "gpu": EfficiencySettings(
        lengths=(128, 512, 2048, 8192), batch=64, width=384, repeats=3, half_precision=True
    ),
    "paper": EfficiencySettings(
        lengths=(64, 128, 256, 512, 1024, 2048, 4096), batch=64, width=384, repeats=3, half_precision=True
    ),
}


def jobs(run: Run[Any]) -> list[partial[Any]]:
    """Timings in float32, the limits that a copy sets, and timings in bfloat16 where they are asked for."""
    s = run.of(EfficiencySettings)
    timings: list[partial[Any]] = [
        partial(time_models, TIMED, s, run.device, run.seed),
        partial(copy_limits, s, run.device),
    ]
    if s.half_precision:
        timings.append(partial(time_models, TIMED, s, run.device, run.seed, torch.bfloat16))
    return timings


def metrics(settings: EfficiencySettings) -> list[str]:
    """What :func:`measure` records; one length has no growth."""
    kinds = ["fused_log_speedup_{}"]
    kinds += [f"loop_speedup_{{}}_{length}" for length in REPORTED_AT if length in settings.lengths]
    if len(settings.lengths) > 1:
        kinds += ["loop_speedup_slope_{}"]
    return ["copy_limit_multiple", *(kind.format(cell) for kind in kinds for cell in CELLS.values())]


def measure(run: Run[Any], results: list[Any]) -> None:
    """Each metric one value per timing round.

    loop_speedup_*_T: step loop's time / min* time at length T. loop_speedup_slope_*: slope of log(speed-up over the step
    loop) against log T. fused_log_speedup_*: log(nn.GRU or nn.LSTM time / min* time) at the longest T. copy_limit_multiple:
    smallest median min* time over its copy limit.
    """
    timings: list[Timing] = results[0]
    limits: list[CopyLimit] = results[1]
    for model, cell in CELLS.items():
        loop = log_speedups(timings, model, BASELINES[model]["step loop"])
        fused = log_speedups(timings, model, BASELINES[model]["fused"])
        for length in sorted(loop.keys() & set(REPORTED_AT)):
            value = mean_interval(loop[length])
            low, high = math.exp(value.low), math.exp(min(value.high, 700.0))
            name, speedup = f"loop_speedup_{cell}_{length}", math.exp(value.mean)
            run.measure(name, speedup, unit="x", interval=(low, high), varies="clock")
        if len(loop) > 1:
            run.measure(f"loop_speedup_slope_{cell}", growth_slopes(loop), unit="1", varies="clock")
        run.measure(f"fused_log_speedup_{cell}", fused[max(fused)], unit="1", varies="clock")
    multiples = [
        np.median([t.seconds for t in timings if (t.model, t.length) == (limit.model, limit.length)])
        / limit.seconds
        for limit in limits
    ]
    run.measure("copy_limit_multiple", float(min(multiples)), unit="x", varies="clock")


def tables(settings: EfficiencySettings, results: list[Any]) -> dict[str, pd.DataFrame]:
    """``half``, where bfloat16 was timed: median milliseconds of a training step by model and length."""
    if not settings.half_precision:
        return {}
    frame = pd.DataFrame(results[2])
    return {"half": frame.groupby(["model", "length"])["seconds"].median().mul(1e3).unstack().reset_index()}


def figures(settings: EfficiencySettings, results: list[Any]) -> dict[str, Figure]:
    """``speed``. Left: time per training step against T, log-log, with minGRU's copy limit as a band. Right: speed-ups."""
    timings: list[Timing] = results[0]
    limits = {limit.length: limit.seconds for limit in results[1] if limit.model == "minGRU"}
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 5))
    _draw_times(left, timings, limits, settings.batch)
    _draw_speedups(right, timings, limits)
    for ax in (left, right):
        ax.legend(fontsize=8, title=None, loc="upper left", bbox_to_anchor=(0, -0.15), ncol=2)
        ax.set_xticks(sorted(limits), [str(n) for n in sorted(limits)])
        ax.minorticks_off()
    return {"speed": fig}


def _draw_times(ax: Axes, timings: Sequence[Timing], limits: Mapping[int, float], batch: int) -> None:
    """Median of the rounds as a line, their range as a band."""
    lengths = sorted(limits)
    for model in TIMED:
        rounds = np.array(
            [[1e3 * t.seconds for t in timings if (t.model, t.length) == (model, n)] for n in lengths]
        )  # (lengths, rounds), ms
        style = style_of(model)
        middle = np.median(rounds, axis=1)
        ax.plot(lengths, middle, ls=style.line, marker=style.marker, color=style.colour, label=style.label)
        ax.fill_between(lengths, rounds.min(1), rounds.max(1), color=style.colour, alpha=0.15, lw=0)
    floor = 1e3 * min(t.seconds for t in timings) / 200
    ax.fill_between(
        lengths, floor, [1e3 * limits[n] for n in lengths], color="0.8", label="below the copy limit"
    )
    ax.set(xscale="log", yscale="log", xlabel="sequence length T (steps)", ylabel="training step (ms)")
    ax.set_title(f"Forward, loss and backward, batch {batch}")
    ax.set_ylim(bottom=floor)


def _draw_speedups(ax: Axes, timings: Sequence[Timing], limits: Mapping[int, float]) -> None:
    for model in CELLS:
        for line, (kind, baseline) in zip(("-", "--"), BASELINES[model].items(), strict=True):
            speedups = log_speedups(timings, model, baseline)
            label = f"{model} over {kind} {model.removeprefix('min')}"
            _draw_ratio(ax, speedups, label, style_of(model).colour, line)
    copy = {
        n: np.log([limits[n] / t.seconds for t in timings if t.model == "minGRU" and t.length == n])
        for n in sorted(limits)
    }
    _draw_ratio(ax, copy, "minGRU over the copy limit", "0.4", ":")
    ax.axhline(1, color="black", lw=0.8)
    ax.set(xscale="log", yscale="log", xlabel="sequence length T (steps)", ylabel="speed-up (×)")
    ax.set_title("Against three baselines")


def _draw_ratio(ax: Axes, logs: Mapping[int, np.ndarray], label: str, colour: str, style: str) -> None:
    lengths = sorted(logs)
    intervals = [mean_interval(logs[n]) for n in lengths]
    ax.plot(lengths, [np.exp(i.mean) for i in intervals], style, marker="o", ms=4, color=colour, label=label)
    if all(i.n > 1 for i in intervals):
        low, high = [np.exp(i.low) for i in intervals], [np.exp(i.high) for i in intervals]
        ax.fill_between(lengths, low, high, color=colour, alpha=0.15)
