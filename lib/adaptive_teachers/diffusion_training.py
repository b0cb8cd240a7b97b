"""Training diffusion samplers with PIS, VarGrad, TB (also noisy), loss-prioritised replay, and a Teacher: K runs as one model.

What a Student trains on, at iteration i (the schedule of the released code)::

    TB, ε-noisy, VarGrad, PIS   its own fresh paths, always
    PER                         i even: its own paths, which enter the buffer; i odd: a batch of the buffer
    Teacher                     i even: its own paths; i mod 4 = 1: the Teacher's samples enter the buffer, then a batch of it;
                                i mod 4 = 3: a batch of the buffer

Only points above a reward threshold enter the buffer: the 0.9 quantile of log R over samples of the untrained Student. From a
buffer come end points only; their paths are drawn anew from the bridge. The Teacher trains at every iteration on the end points of
its Student's batch, on fresh bridges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from lib.adaptive_teachers.diffusion_sampler import (
    DriftNetwork,
    Target,
    brownian_bridge,
    log_forward_over_backward,
    residual,
    roll_out,
    score_paths,
)
from lib.adaptive_teachers.replay_buffer import VectorBuffer
from lib.adaptive_teachers.sampler_methods import SAMPLER_METHODS as METHODS
from lib.adaptive_teachers.teacher import ASYMMETRY, teacher_log_reward
from lib.records import Run
from lib.stacked import clip_by_member
from lib.training import fit, make_trainer

LOSS_SCALE = 0.5
"""The loss of diffusion samplers is ½ δ², and so is the Teacher's reward."""
QUANTILE = 0.9
_EVALUATION_CHUNK = 500


@dataclass(frozen=True)
class SamplerRun:
    """One training: its method, its seed and the noise σ of its process; α and C of its Teacher's reward."""

    method: str
    seed: int
    sigma: float
    mixing: float = 0.5
    asymmetry: float = ASYMMETRY

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r} is not one of {', '.join(METHODS)}")
        if not self.sigma > 0:
            raise ValueError(f"sigma={self.sigma} must be positive")


@dataclass(frozen=True)
class SamplerSizes:
    """What all runs of a stack share; the chapter's settings give the values."""

    steps: int
    hidden: int
    harmonics: int
    batch: int
    iterations: int
    capacity: int
    learning_rate: float = 1e-3
    teacher_rate: float = 5e-3
    log_z_rate: float = 0.1
    weight_decay: float = 1e-7
    teacher_clip: float = 0.1
    decay_at: tuple[float, ...] = (0.4, 0.8)
    exploration: float = 0.1
    langevin: bool = False
    evaluation_samples: int = 2000
    transport_samples: int = 2000
    evaluations: int = 6
    snapshots: int = 0


@dataclass
class SamplerResult:
    """One trained sampler.

    Attributes:
        iterations, reward_calls: of each evaluation; a reward call is one evaluation of log R on a new point.
        elbo, eubo, log_z_is: bounds and importance-sampling estimate of log Z at each evaluation, nats.
        log_z_learned: the parameter, nats. modes: modes covered by the evaluation samples.
        w2: Wasserstein distance of the last samples to as many exact ones. w2_floor: of two exact sets of that size.
        student, teacher: samples at ``snapshot_at`` iterations, (S, n, D), where snapshots were asked for.
        parameters: trained numbers, the Teacher's included.
    """

    run: SamplerRun
    target: str
    iterations: list[int] = field(default_factory=list)
    reward_calls: list[int] = field(default_factory=list)
    elbo: list[float] = field(default_factory=list)
    eubo: list[float] = field(default_factory=list)
    log_z_is: list[float] = field(default_factory=list)
    log_z_learned: list[float] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    w2: float = math.nan
    w2_floor: float = math.nan
    snapshot_at: list[int] = field(default_factory=list)
    student: list[np.ndarray] = field(default_factory=list)
    teacher: list[np.ndarray] = field(default_factory=list)
    parameters: int = 0

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.run.seed


# --- evaluation ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate(
    network: DriftNetwork, target: Target, sigma: Tensor, n: int, generators: Sequence[torch.Generator]
) -> dict[str, Tensor]:
    """Bounds on log Z from n paths each way, and what the samples cover; one value a member.

    With w(τ) = R(x) P_B(τ|x) / P_F(τ): ELBO = E_{P_F}[log w] ≤ log Z ≤ EUBO = E_{R/Z, P_B}[log w], and log mean w estimates log Z.

    Returns:
        elbo, eubo, log_z_is, modes (M,) and samples (M, n, D).
    """
    forward, backward, points = [], [], []
    for first in range(0, n, _EVALUATION_CHUNK):
        b = min(_EVALUATION_CHUNK, n - first)
        path = roll_out(network, sigma, _normal(generators, b, network.steps, network.dim))
        points.append(path[:, :, -1])
        forward.append(target.log_reward(points[-1]).double() - score_paths(network, path, sigma))
        exact = torch.stack([target.sample(b, g) for g in generators])
        path = brownian_bridge(exact, sigma, _normal(generators, b, network.steps, network.dim))
        backward.append(target.log_reward(exact).double() - score_paths(network, path, sigma))
    weights, samples = torch.cat(forward, 1), torch.cat(points, 1)
    return {
        "elbo": weights.mean(1),
        "eubo": torch.cat(backward, 1).mean(1),
        "log_z_is": torch.logsumexp(weights, 1) - math.log(n),
        "modes": target.modes_covered(samples),
        "samples": samples,
    }


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """W2 of two equally large samples, (n, D) each: the square root of the least mean squared distance over all matchings.

    With equal weights the optimal plan is a permutation, so the assignment problem solves it exactly.

    Raises:
        ValueError: for samples of different shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"samples of one shape are needed, got {a.shape} and {b.shape}")
    cost = cdist(a, b, "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def _normal(generators: Sequence[torch.Generator], *shape: int) -> Tensor:
    return torch.stack([torch.randn(*shape, generator=g, device=g.device) for g in generators])


def _uniform(generators: Sequence[torch.Generator], n: int) -> Tensor:
    return torch.stack([torch.rand(n, generator=g, device=g.device) for g in generators])


# --- training -----------------------------------------------------------------------------------------------------


class StackedSamplers(lightning.LightningModule):
    """K Students, and a Teacher for each run that has one, trained side by side.

    Every run has its own random numbers, weights, buffer and clipping, so it is what it would be alone (tested).

    Args:
        target: the density. runs: sorted into the order of :data:`METHODS`. sizes: of all runs.

    Raises:
        ValueError: for no run, or a buffer smaller than the batch.
    """

    def __init__(self, target: Target, runs: Sequence[SamplerRun], sizes: SamplerSizes) -> None:
        super().__init__()
        if not runs:
            raise ValueError("a stack needs at least one run")
        if sizes.capacity < sizes.batch:
            raise ValueError(f"a buffer of {sizes.capacity} is smaller than the batch of {sizes.batch}")
        self.target, self.sizes = target, sizes
        self.runs = sorted(runs, key=lambda r: METHODS.index(r.method))
        at = [METHODS.index(r.method) for r in self.runs]
        first = {name: sum(i < METHODS.index(name) for i in at) for name in METHODS}
        k = len(self.runs)
        self.pis, self.walkers = slice(0, first["VarGrad"]), slice(first["VarGrad"], k)
        self.replaying, self.taught = slice(first["PER"], k), slice(first["Teacher"], k)

        makers = [torch.Generator().manual_seed(r.seed) for r in self.runs]
        shape = {
            "dim": target.dim,
            "hidden": sizes.hidden,
            "steps": sizes.steps,
            "harmonics": sizes.harmonics,
        }
        langevin = target if sizes.langevin else None
        self.student = DriftNetwork(**shape, generators=makers, target=langevin)  # type: ignore[arg-type]
        self.teacher = (
            DriftNetwork(**shape, generators=makers[self.taught]) if len(at[self.taught]) else None  # type: ignore[arg-type]
        )
        self.buffer = (
            VectorBuffer(len(at[self.replaying]), sizes.capacity, target.dim)
            if len(at[self.replaying])
            else None
        )
        self.register_buffer("sigma", torch.tensor([r.sigma for r in self.runs]))
        self.register_buffer("threshold", torch.full((k,), -torch.inf))
        self.register_buffer("reward_calls", torch.zeros(k, dtype=torch.long))
        column = {"mixing": [r.mixing for r in self.runs], "asymmetry": [r.asymmetry for r in self.runs]}
        for name, values in column.items():
            self.register_buffer(
                name, torch.tensor(values, dtype=torch.float64).unsqueeze(1), persistent=False
            )
        self.results = [SamplerResult(r, target.name) for r in self.runs]
        self.generators: list[torch.Generator] = []
        self._generator_states: list[Tensor] = []

    sigma: Tensor
    threshold: Tensor
    reward_calls: Tensor
    mixing: Tensor
    asymmetry: Tensor

    # --- random numbers ---

    def on_fit_start(self) -> None:
        """Seed each run's generator on the device; an interrupted run goes on with the numbers that were next."""
        self.generators = [torch.Generator(self.device).manual_seed(r.seed) for r in self.runs]
        for generator, state in zip(self.generators, self._generator_states, strict=False):
            generator.set_state(state.cpu())
        if not self._generator_states:
            self._set_threshold()

    @torch.no_grad()
    def _set_threshold(self) -> None:
        noise = self._noise(slice(None))
        log_r = self.target.log_reward(roll_out(self.student, self.sigma, noise)[:, :, -1])
        self.threshold.copy_(torch.quantile(log_r.float(), QUANTILE, dim=1))
        self.reward_calls += self.sizes.batch

    def _noise(self, runs: slice) -> Tensor:
        return _normal(self.generators[runs], self.sizes.batch, self.sizes.steps, self.target.dim)

    # --- one iteration ---

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Losses of all Students and Teachers, summed; no gradient passes from one to another."""
        i = self.global_step
        if i in self.evaluate_at:
            self.record(i)
        loss = self.sigma.new_zeros((), dtype=torch.float64)
        if len(self.runs[self.pis]):
            loss = loss + self._reverse_kl()
        if len(self.runs[self.walkers]):
            loss = loss + self._trajectory_balance(i)
        if i % 100 == 0 and not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of a diffusion sampler is not finite at iteration {i}")
        return loss

    def _reverse_kl(self) -> Tensor:
        """PIS: E[log P_F − log P_B − log R] / D by reparametrisation, the gradient running through the whole path."""
        runs, steps = self.pis, self.sizes.steps
        sigma = self.sigma[runs]
        kicks = (sigma / math.sqrt(steps)).view(-1, 1, 1, 1) * self._noise(runs)
        weights = self.student.weights(runs)
        x = torch.zeros_like(kicks[:, :, 0])
        path, drifts = [x], []
        for i, kick in enumerate(kicks.unbind(2)):
            drifts.append(self.student(x, weights, i))
            x = x + drifts[-1] / steps + kick
            path.append(x)
        ratio = log_forward_over_backward(torch.stack(path, 2), torch.stack(drifts, 2), sigma)
        self.reward_calls[runs] += self.sizes.batch
        return ((ratio - self.target.log_reward(x)) / self.target.dim).mean(1).sum()

    def _trajectory_balance(self, i: int) -> Tensor:
        paths = self._behaviour(i)  # (K, B, T + 1, D)
        x = paths[:, :, -1]
        runs = self.walkers
        log_r = self.target.log_reward(x)
        ratio = score_paths(self.student, paths, self.sigma[runs], runs)
        delta = residual(log_r, ratio, self.student.log_z[runs])
        averaged = sum(r.method == "VarGrad" for r in self.runs)
        # VarGrad takes the batch mean of log w for log Z, so its parameter drops out
        centred = delta[:averaged] - delta[:averaged].mean(1, keepdim=True)
        loss = LOSS_SCALE * torch.cat([centred, delta[averaged:]]).square().mean(1).sum()
        if self.buffer is not None and i % 2 == 0:
            self._remember(i, x, log_r, delta.detach())
        if self.teacher is not None:
            loss = loss + self._teacher_loss(x, log_r, delta.detach())
        return loss

    @torch.no_grad()
    def _behaviour(self, i: int) -> Tensor:
        """The paths that each run trains on at iteration i."""
        runs = self.walkers
        if i % 2 == 0 or self.buffer is None:
            self.reward_calls[runs] += self.sizes.batch
            return roll_out(self.student, self.sigma[runs], self._noise(runs), runs, self._exploration(runs))
        parts = []
        direct = slice(runs.start, self.replaying.start)
        if len(self.runs[direct]):
            self.reward_calls[direct] += self.sizes.batch
            parts.append(
                roll_out(
                    self.student, self.sigma[direct], self._noise(direct), direct, self._exploration(direct)
                )
            )
        if self.teacher is not None and i % 4 == 1:
            self._ask_teacher()
        x = self.buffer.sample(_uniform(self.generators[self.replaying], self.sizes.batch))
        parts.append(brownian_bridge(x, self.sigma[self.replaying], self._noise(self.replaying)))
        return torch.cat(parts)

    def _exploration(self, runs: slice) -> Tensor | None:
        noisy = [self.sizes.exploration if r.method == "ε-noisy" else 0.0 for r in self.runs[runs]]
        return self.sigma.new_tensor(noisy) if any(noisy) else None

    def _loss_priority(self, log_r: Tensor, delta: Tensor, runs: slice) -> Tensor:
        """The Teacher's reward without the mixed-in power of R; below the threshold the residual counts as zero."""
        seen = torch.where(log_r < self.threshold[runs].unsqueeze(1), 0.0, delta)
        return teacher_log_reward(seen, log_r.double(), asymmetry=self.asymmetry[runs], scale=LOSS_SCALE)

    def _remember(self, i: int, x: Tensor, log_r: Tensor, delta: Tensor) -> None:
        """Own points enter the buffer: all of the first batch, afterwards PER's points above the threshold."""
        assert self.buffer is not None
        own = slice(self.replaying.start - self.walkers.start, None)
        x, log_r, delta = x[own], log_r[own], delta[own]
        keep = log_r > self.threshold[self.replaying].unsqueeze(1)
        keep[self.taught.start - self.replaying.start :] = False
        if i == 0:
            keep[:] = True
        self.buffer.add(x, self._loss_priority(log_r, delta, self.replaying), keep)

    def _ask_teacher(self) -> None:
        """The Teacher's samples above the threshold enter the buffer, ranked by the Student's residual there."""
        assert self.teacher is not None
        assert self.buffer is not None
        runs = self.taught
        x = roll_out(self.teacher, self.sigma[runs], self._noise(runs))[:, :, -1]
        self.reward_calls[runs] += self.sizes.batch
        log_r = self.target.log_reward(x)
        path = brownian_bridge(x, self.sigma[runs], self._noise(runs))
        ratio = score_paths(self.student, path, self.sigma[runs], runs)
        delta = residual(log_r, ratio, self.student.log_z[runs])
        others = len(self.runs[self.replaying]) - len(self.runs[runs])
        shape = (len(self.runs[self.replaying]), self.sizes.batch)
        points, priority = x.new_zeros(*shape, x.shape[-1]), delta.new_zeros(shape)
        keep = torch.zeros(shape, dtype=torch.bool, device=x.device)
        points[others:], priority[others:] = x, self._loss_priority(log_r, delta, runs)
        keep[others:] = log_r > self.threshold[runs].unsqueeze(1)
        self.buffer.add(points, priority, keep)

    def _teacher_loss(self, x: Tensor, log_r: Tensor, delta: Tensor) -> Tensor:
        """Trajectory balance of the Teachers towards their reward, on the Student's end points above the threshold."""
        assert self.teacher is not None
        own = slice(self.taught.start - self.walkers.start, None)
        x, log_r, delta = x[own].detach(), log_r[own], delta[own]
        log_rt = teacher_log_reward(
            delta,
            log_r.double(),
            asymmetry=self.asymmetry[self.taught],
            mixing=self.mixing[self.taught],
            scale=LOSS_SCALE,
        )
        path = brownian_bridge(x, self.sigma[self.taught], self._noise(self.taught))
        own_delta = residual(
            log_rt, score_paths(self.teacher, path, self.sigma[self.taught]), self.teacher.log_z
        )
        keep = log_r > self.threshold[self.taught].unsqueeze(1)
        squares = torch.where(keep, own_delta.square(), 0.0)
        return LOSS_SCALE * (squares.sum(1) / keep.sum(1).clamp(min=1)).sum()

    # --- optimisation ---

    def configure_optimizers(self) -> Any:
        """Adam; log Z has its own rate, the Teacher its own too; the rates fall tenfold at fixed shares of the training."""
        s = self.sizes
        groups = []
        for network, rate in ((self.student, s.learning_rate), (self.teacher, s.teacher_rate)):
            if network is not None:
                weights = [p for name, p in network.named_parameters() if name != "log_z"]
                groups += [{"params": weights, "lr": rate}, {"params": [network.log_z], "lr": s.log_z_rate}]
        fused = self.device.type in ("cpu", "cuda")
        optimizer = torch.optim.Adam(groups, weight_decay=s.weight_decay, fused=fused)
        milestones = [round(share * s.iterations) for share in s.decay_at]
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Clip each Teacher's gradient, over its network and its log Z."""
        if self.teacher is not None:
            clip_by_member(self.teacher.parameters(), self.sizes.teacher_clip)

    def train_dataloader(self) -> Any:
        """Nothing but a count: the samplers make their own data."""
        return torch.utils.data.DataLoader(range(self.sizes.iterations), batch_size=None)  # type: ignore[arg-type]

    # --- records ---

    @property
    def evaluate_at(self) -> list[int]:
        """Iterations of the evaluations, evenly spaced from 0; the last one comes after the training."""
        n = self.sizes.evaluations
        return sorted({round(self.sizes.iterations * j / n) for j in range(n)})

    @property
    def snapshot_at(self) -> list[int]:
        """The evaluations at which samples are kept: spread over the training, the last one included."""
        every = [*self.evaluate_at, self.sizes.iterations]
        n = min(self.sizes.snapshots, len(every) - 1)
        return [every[round((j + 1) * (len(every) - 1) / n)] for j in range(n)]

    def record(self, iteration: int) -> None:
        """Evaluate all runs, on exact samples that depend on the seed only."""
        judges = [torch.Generator(self.device).manual_seed(10_000 + r.seed) for r in self.runs]
        n = self.sizes.evaluation_samples
        found = evaluate(self.student, self.target, self.sigma, n, judges)
        keep = iteration in self.snapshot_at
        of_teacher = None
        if keep and self.teacher is not None:
            noise = _normal(judges[self.taught], n, self.sizes.steps, self.target.dim)
            with torch.no_grad():
                of_teacher = roll_out(self.teacher, self.sigma[self.taught], noise)[:, :, -1]
        for k, result in enumerate(self.results):
            result.iterations.append(iteration)
            result.reward_calls.append(int(self.reward_calls[k]))
            result.log_z_learned.append(float(self.student.log_z[k].detach()))
            result.modes.append(int(found["modes"][k]))
            for name in ("elbo", "eubo", "log_z_is"):
                getattr(result, name).append(float(found[name][k]))
            if keep:
                result.snapshot_at.append(iteration)
                result.student.append(found["samples"][k].cpu().numpy())
                if of_teacher is not None and k >= self.taught.start:
                    result.teacher.append(of_teacher[k - self.taught.start].cpu().numpy())
        if iteration == self.sizes.iterations:
            self._measure_transport(found["samples"])

    def _measure_transport(self, samples: Tensor) -> None:
        n = min(self.sizes.transport_samples, samples.shape[1])
        floors: dict[int, tuple[np.ndarray, float]] = {}
        for result, own in zip(self.results, samples, strict=True):
            seed = result.run.seed
            if seed not in floors:
                generator = torch.Generator().manual_seed(20_000 + seed)
                exact, other = (self.target.sample(n, generator).numpy() for _ in range(2))
                floors[seed] = (exact, wasserstein(exact, other))
            exact, result.w2_floor = floors[seed]
            result.w2 = wasserstein(own[:n].cpu().numpy(), exact)
            result.parameters = self.student.parameters_per_member()
            if self.teacher is not None and result.run.method == "Teacher":
                result.parameters += self.teacher.parameters_per_member()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Generators and evaluations go with the weights, so that an interrupted training loses nothing."""
        checkpoint["generators"] = [g.get_state() for g in self.generators]
        checkpoint["history"] = [
            {
                k: [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in v]
                for k, v in vars(r).items()
                if isinstance(v, list)
            }
            for r in self.results
        ]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of :meth:`on_save_checkpoint`."""
        self._generator_states = checkpoint["generators"]
        for result, columns in zip(self.results, checkpoint["history"], strict=True):
            for name, values in columns.items():
                setattr(result, name, [x.cpu().numpy() if isinstance(x, Tensor) else x for x in values])


def train_samplers(
    run: Run[Any],
    target: Target,
    runs: Sequence[SamplerRun],
    sizes: SamplerSizes,
    checkpoint_every: int | None = None,
    experiment: str = "diffusion",
) -> list[SamplerResult]:
    """Train a stack of samplers and evaluate them; results in the order of ``runs``.

    Args:
        experiment: what the training is part of; with target and methods it names the checkpoints.
    """
    module = StackedSamplers(target, runs, sizes)
    methods = "-".join(dict.fromkeys(r.method for r in module.runs))
    trainer = make_trainer(
        run,
        max_steps=sizes.iterations,
        name=f"{experiment}-{target.name}-{methods}",
        job=(target, module.runs, sizes),
        checkpoint_every=checkpoint_every,
    )
    fit(trainer, module)
    module.to(run.device).record(sizes.iterations)
    by_run = {r.run: r for r in module.results}
    return [by_run[r] for r in runs]
