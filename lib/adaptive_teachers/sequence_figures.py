"""Figures of the biochemical tasks; captions live in the notebook."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from lib.adaptive_teachers.biochemical_tasks import SequenceTask
from lib.adaptive_teachers.sampler_methods import SEQUENCE_METHODS
from lib.adaptive_teachers.sequence_experiments import select
from lib.adaptive_teachers.sequence_training import SequenceResult
from lib.figures import PALETTE

COLOURS = {
    "TB": PALETTE[0],
    "Teacher": PALETTE[2],
    "PRT": PALETTE[3],
    "PER": PALETTE[1],
    "Teacher + PRT": PALETTE[4],
    "Teacher + PER": PALETTE[7],
}
MARKERS = dict(zip(SEQUENCE_METHODS, "Po<^sD", strict=True))


def sequence_figure(results: Sequence[SequenceResult], task: str) -> Figure:
    """Modes found, EUBO and ELBO against rounds on one task: every seed as a thin line, the mean as a thick one.

    A dashed line is the true log Z, where it is known.
    """
    fig, axes = plt.subplots(1, 3, figsize=(13, 4.4))
    shown = [r for r in results if r.task == task]
    for method in (m for m in SEQUENCE_METHODS if select(shown, task, m)):
        own = select(shown, task, method)
        for ax, name in zip(axes, ("modes", "eubo", "elbo"), strict=True):
            curves = np.array([getattr(r, name) for r in own], dtype=float)
            for curve in curves:
                ax.plot(own[0].rounds, curve, color=COLOURS[method], lw=0.7, alpha=0.4)
            ax.plot(
                own[0].rounds, curves.mean(0), color=COLOURS[method], marker=MARKERS[method], ms=5, lw=2.2, label=method
            )  # fmt: skip
    log_z, exact = shown[0].log_z, "exact" if shown[0].exact else "sampled"
    axes[0].set(
        ylabel=f"distinct modes sampled, of {shown[0].n_modes}", title=f"{task}: modes found in training"
    )
    axes[1].set(ylabel="nats (dashed: true log Z)", title=f"EUBO, {exact}")
    axes[2].set(ylabel="nats (dashed: true log Z)", title=f"ELBO, {exact}")
    for ax in axes:
        ax.set_xlabel(
            f"rounds ({shown[0].reward_calls[-1] // max(shown[0].rounds[-1], 1)} reward calls each)"
        )
    if np.isfinite(log_z):
        for ax in axes[1:]:
            ax.axhline(log_z, color="0.3", ls="--", lw=1)
    axes[2].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def concentration_figure(tasks: Sequence[SequenceTask]) -> Figure:
    """Share of the target's mass on the k most probable strings, against k; a dot for the mass on the task's list of modes."""
    fig, ax = plt.subplots(figsize=(7.5, 4.4))
    for i, task in enumerate(tasks):
        law = torch.softmax(task.all_log_rewards(), 0)
        mass = law.sort(descending=True).values.cumsum(0).numpy()
        k = np.arange(1, len(mass) + 1)
        label = f"{task.name}, β = {task.sizes.beta:g}"
        ax.plot(k, 100 * mass, color=PALETTE[i], lw=2, ls=("-", "--")[i % 2], label=label)
        n, listed = len(task.modes), 100 * float(law[task.modes].sum())
        ax.plot(n, listed, "os"[i % 2], color=PALETTE[i], ms=9, label=f"its list of {n} modes")
    ax.set(
        xscale="log",
        xlabel="most probable strings k",
        ylabel="share of the target's mass (%)",
        ylim=(0, 103),
        title="How many strings a target is about",
    )
    ax.legend()
    return fig
