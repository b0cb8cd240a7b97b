"""Figures of the diffusion samplers; captions live in the notebook."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lib.adaptive_teachers.diffusion_experiments import MIXING, MIXTURE, select
from lib.adaptive_teachers.diffusion_training import SamplerResult
from lib.adaptive_teachers.gaussian_mixture import GaussianMixture
from lib.adaptive_teachers.sampler_methods import SAMPLER_METHODS
from lib.figures import PALETTE

COLOURS = {
    "TB": PALETTE[0],
    "ε-noisy": PALETTE[7],
    "PER": PALETTE[1],
    "Teacher": PALETTE[2],
    "PIS": PALETTE[3],
    "VarGrad": PALETTE[4],
}
MARKERS = dict(zip(SAMPLER_METHODS, "Pv^<so", strict=True))


def _methods(results: Sequence[SamplerResult]) -> list[str]:
    present = {r.run.method for r in results}
    return [m for m in SAMPLER_METHODS if m in present]


def samples_figure(results: Sequence[SamplerResult], sigma: float, points: int = 1000) -> Figure:
    """Samples on the 25 Gaussians, all of one seed: above a Student along its training, below its Teacher; right TB and PER at the end.

    Crosses mark the modes.
    """
    mine = [r for r in results if r.run.sigma == sigma]
    taught, per, plain = (select(mine, m)[0] for m in ("Teacher", "PER", "TB"))
    n = len(taught.snapshot_at)
    fig, axes = plt.subplots(2, n + 1, figsize=(3.0 * (n + 1), 6.2), sharex=True, sharey=True)
    panels = [
        *[
            (axes[0, j], taught.student[j], f"Student, iteration {at}", COLOURS["Teacher"])
            for j, at in enumerate(taught.snapshot_at)
        ],
        *[
            (axes[1, j], taught.teacher[j], f"its Teacher, iteration {at}", PALETTE[4])
            for j, at in enumerate(taught.snapshot_at)
        ],
        (axes[0, n], plain.student[-1], f"TB, iteration {plain.snapshot_at[-1]}", COLOURS["TB"]),
        (axes[1, n], per.student[-1], f"PER, iteration {per.snapshot_at[-1]}", COLOURS["PER"]),
    ]
    centres = GaussianMixture.centres().numpy()
    lattice = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)
    for ax, samples, title, colour in panels:
        ax.plot(*lattice.T, "x", color="0.45", ms=7, mew=1.2, zorder=1)
        ax.plot(*samples[:points].T, ".", color=colour, ms=3, alpha=0.45, mec="none", zorder=2)
        ax.set(title=title, xlim=(-14, 14), ylim=(-14, 14), aspect="equal")
        ax.set_xticks((-10, 0, 10))
        ax.set_yticks((-10, 0, 10))
    for ax in axes[1]:
        ax.set_xlabel("$x_1$")
    for ax in axes[:, 0]:
        ax.set_ylabel("$x_2$")
    return fig


def bounds_figure(
    results: Sequence[SamplerResult], target: str = MIXTURE, sigma: float | None = None, log_z: float = 0.0
) -> Figure:
    """EUBO − log Z, ELBO and modes against reward calls: every seed as a thin line, the mean as a thick one.

    Dashed lines: the true log Z, and all modes.
    """
    shown = [
        r
        for r in results
        if r.target == target and (sigma is None or r.run.sigma == sigma) and r.run.mixing == MIXING
    ]
    fig, axes = plt.subplots(1, 3, figsize=(13, 4.4))
    for method in _methods(shown):
        own = [r for r in shown if r.run.method == method]
        calls = np.array(own[0].reward_calls) / 1000
        for ax, name in zip(axes, ("eubo", "elbo", "modes"), strict=True):
            curves = np.array([getattr(r, name) for r in own], dtype=float)
            curves -= log_z if name == "eubo" else 0
            for curve in curves:
                ax.plot(calls, curve, color=COLOURS[method], lw=0.7, alpha=0.4)
            ax.plot(
                calls, curves.mean(0), color=COLOURS[method], marker=MARKERS[method], ms=5, lw=2.2, label=method
            )  # fmt: skip
    axes[0].set(ylabel="EUBO − log Z (nats)", yscale="log", title="What is missed costs")
    axes[1].axhline(log_z, color="0.3", ls="--", lw=1)
    axes[1].set(ylabel="ELBO (nats; dashed: true log Z)", title="Blind to what is missed")
    modes = max(max(r.modes) for r in shown)
    axes[2].set(ylabel="modes covered", title="Modes covered by the Student", ylim=(0, max(modes * 1.1, 1)))
    if target == MIXTURE:
        axes[2].axhline(GaussianMixture.n_modes, color="0.3", ls="--", lw=1)
        axes[2].set_ylim(0, 26.5)
    for ax in axes:
        ax.set_xlabel("reward calls (thousands)")
    axes[2].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def noise_level_figure(results: Sequence[SamplerResult]) -> Figure:
    """Modes covered and EUBO at the end, against the noise σ of the forward process: every seed a point, means joined."""
    shown = [r for r in results if r.target == MIXTURE and r.run.mixing == MIXING]
    sigmas = sorted({r.run.sigma for r in shown})
    common = {r.run.method for r in shown}
    for sigma in sigmas:
        common &= {r.run.method for r in shown if r.run.sigma == sigma}
    methods = [m for m in SAMPLER_METHODS if m in common]
    fig, axes = plt.subplots(1, 2, figsize=(10.5, 4.4))
    places = np.arange(len(sigmas))
    for k, method in enumerate(methods):
        shift = 0.12 * (k - (len(methods) - 1) / 2)
        for ax, name in zip(axes, ("modes", "eubo"), strict=True):
            values = [
                [getattr(r, name)[-1] for r in shown if r.run.method == method and r.run.sigma == s]
                for s in sigmas
            ]
            for place, own in zip(places, values, strict=True):
                ax.plot([place + shift] * len(own), own, "o", ms=4, alpha=0.5, color=COLOURS[method])
            ax.plot(
                places + shift, [np.mean(v) for v in values], color=COLOURS[method], marker=MARKERS[method], ms=7, label=method
            )  # fmt: skip
    lengths = {s: next(r.iterations[-1] for r in shown if r.run.sigma == s) for s in sigmas}
    axes[0].set(ylabel="modes covered, of 25", ylim=(0, 26.5), title="The noise sets how hard exploration is")
    axes[1].set(ylabel="EUBO (nats, log Z = 0)", yscale="log", title="and how much a missed mode costs")
    for ax in axes:
        ax.set_xticks(places, [f"{s:g}\n({lengths[s]} it.)" for s in sigmas])
        ax.set(xlabel="noise σ of the forward process (iterations trained)", xlim=(-0.5, len(sigmas) - 0.5))
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig
