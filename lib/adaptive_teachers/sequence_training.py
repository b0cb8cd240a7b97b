"""Training samplers of strings: on-policy, with replay, and with a Teacher, K runs as one model.

A round (the schedule of the released code): one online batch, then, for methods with replay, one batch from the buffer of the last
1000 distinct strings, half of it from the tenth with the highest priority and half from the rest. Priority is the reward (PRT) or the
Teacher's reward (PER). Paths of buffered strings are drawn anew from the backward policy. With a Teacher, every third online batch
is the Teacher's, and Teacher and Student both train on every batch. All methods spend the same number of reward calls; a method with
replay takes two gradient steps a round, and a Teacher doubles the parameters: both are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from torch import Tensor

from lib.adaptive_teachers.biochemical_tasks import SequenceTask
from lib.adaptive_teachers.replay_buffer import ReplayBuffer
from lib.adaptive_teachers.sampler_methods import SEQUENCE_METHODS as METHODS
from lib.adaptive_teachers.sequence_policy import ChildScorer, exact_law, mode_recall, total_variation
from lib.adaptive_teachers.teacher import ASYMMETRY, teacher_log_reward
from lib.records import Run
from lib.stacked import clip_by_member
from lib.training import fit, make_trainer

LARGEST_SQUARE = 5000.0
"""Squared residuals are clamped here, in the loss (no gradient beyond) and in the Teacher's reward."""
TOP_SHARE = 0.1


@dataclass(frozen=True)
class SequenceRun:
    """One training: its method and seed; α and C of its Teacher's reward."""

    method: str
    seed: int
    mixing: float = 0.5
    asymmetry: float = ASYMMETRY

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r} is not one of {', '.join(METHODS)}")

    @property
    def taught(self) -> bool:
        return self.method.startswith("Teacher")

    @property
    def replay(self) -> str:
        """``PRT``, ``PER`` or an empty string."""
        return self.method.removeprefix("Teacher").removeprefix(" + ").removeprefix("TB")


@dataclass(frozen=True)
class SequenceSizes:
    """What all runs of a stack share; the chapter's settings give the values."""

    rounds: int
    hidden: int
    exploration: float
    batch: int = 32
    capacity: int = 1000
    learning_rate: float = 1e-4
    teacher_factor: float = 5.0
    log_z_rate: float = 0.01
    clip: float = 10.0
    evaluations: int = 6
    evaluation_samples: int = 2048


@dataclass
class SequenceResult:
    """One trained sampler; lists have one value per evaluation.

    Attributes:
        rounds, reward_calls, gradient_steps: spent until then (a Teacher's steps are not counted here: it takes as many).
        modes: distinct modes among all strings sampled in training. elbo, eubo: nats, exact where ``exact``, otherwise means over
            samples (EUBO: NaN without exact samples of the target). tv, recall, mode_mass: from the exact law, else NaN.
        log_z: true log Z, nats (NaN where unknown). n_modes: all modes of the task. parameters: trained numbers.
        learning_rate: of the Student.
    """

    run: SequenceRun
    task: str
    source: str
    exact: bool
    n_modes: int
    log_z: float
    parameters: int = 0
    learning_rate: float = 1e-4
    rounds: list[int] = field(default_factory=list)
    reward_calls: list[int] = field(default_factory=list)
    gradient_steps: list[int] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    elbo: list[float] = field(default_factory=list)
    eubo: list[float] = field(default_factory=list)
    tv: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    mode_mass: list[float] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.run.seed


def halves(size: Tensor, uniform: Tensor) -> Tensor:
    """Ranks of a replay batch: the first half from the top tenth, the second from the rest, uniformly with replacement.

    Args:
        size: entries of each run, (K,), each at least 1. uniform: numbers in [0, 1), (K, n).

    Returns:
        (K, n) ranks below ``size``; where a tenth of the entries is all of them, both halves are drawn from it.
    """
    n = uniform.shape[1]
    size = size.unsqueeze(1)
    top = torch.ceil(TOP_SHARE * size.double()).long()
    in_top = torch.arange(n, device=uniform.device) < n // 2
    low = torch.where(in_top | (top >= size), 0, top)
    high = torch.where(in_top, top, size)
    return torch.minimum(low + (uniform * (high - low)).long(), high - 1)


def squared(delta: Tensor) -> Tensor:
    """δ², clamped; no gradient where it is."""
    return delta.square().clamp(max=LARGEST_SQUARE)


class StackedSequences(lightning.LightningModule):
    """K Students and a Teacher for each run that has one, trained side by side on one task.

    Args:
        task: gives rewards and modes. runs: all with replay, or all without. sizes: of all runs.

    Raises:
        ValueError: for no run, or runs with and without replay (they do not step at the same times).
    """

    automatic_optimization = False

    def __init__(self, task: SequenceTask, runs: Sequence[SequenceRun], sizes: SequenceSizes) -> None:
        super().__init__()
        if not runs or len({bool(r.replay) for r in runs}) != 1:
            raise ValueError("a stack needs runs that all have replay, or all have none")
        self.task, self.runs, self.sizes = task, list(runs), sizes
        k = len(runs)
        makers = [torch.Generator().manual_seed(r.seed) for r in runs]
        self.student = ChildScorer(task.space, sizes.hidden, makers)
        taught = [i for i, r in enumerate(runs) if r.taught]
        self.teacher = ChildScorer(task.space, sizes.hidden, [makers[i] for i in taught]) if taught else None
        table = task.space.n_leaves if task.enumerable else None
        self.buffer = ReplayBuffer(k, sizes.capacity, table) if runs[0].replay else None

        def constant(name: str, values: Any, dtype: torch.dtype) -> None:
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

        constant("taught", taught, torch.long)
        constant("mixing", [[r.mixing] for r in runs], torch.float64)
        constant("asymmetry", [[r.asymmetry] for r in runs], torch.float64)
        constant("by_reward", [[r.replay == "PRT"] for r in runs], torch.bool)
        self.register_buffer("found", torch.zeros(k, len(task.modes), dtype=torch.bool))
        self.results = [
            SequenceResult(
                run=r,
                task=task.name,
                source=task.source,
                exact=task.enumerable,
                n_modes=len(task.modes),
                log_z=math.nan if task.log_z is None else task.log_z,
                parameters=self.student.parameters_per_member() * (2 if r.taught else 1),
                learning_rate=sizes.learning_rate,
            )
            for r in runs
        ]
        self.done = 0
        self.generators: list[torch.Generator] = []
        self._states: list[Tensor] = []

    taught: Tensor
    mixing: Tensor
    asymmetry: Tensor
    by_reward: Tensor
    found: Tensor

    @property
    def steps_per_round(self) -> int:
        """Gradient steps of a round."""
        return 1 if self.buffer is None else 2

    def on_fit_start(self) -> None:
        """Seed each run's generator on the device; an interrupted run goes on with the numbers that were next."""
        self.generators = [torch.Generator(self.device).manual_seed(r.seed) for r in self.runs]
        for generator, state in zip(self.generators, self._states, strict=False):
            generator.set_state(state.cpu())

    def draw(self, *shape: int) -> Tensor:
        """Uniform numbers (K, *shape), each run's from its own generator."""
        return torch.stack([torch.rand(shape, generator=g, device=self.device) for g in self.generators])

    # --- one round ---

    def training_step(self, batch: Any, index: int) -> None:
        """An online batch, then a replay batch where there is a buffer."""
        if self.done in self.evaluate_at:
            self.record()
        path = self.online_paths()
        x = path[..., -1]
        log_r = self.task.log_reward(x)
        mode = self.task.contains_mode(x)
        hits = torch.zeros_like(self.found, dtype=torch.int32)
        self.found |= hits.scatter_add_(1, mode.clamp(min=0), (mode >= 0).int()) > 0
        surprise = self.learn(path, log_r)
        if self.buffer is not None:
            self.buffer.add(x, torch.where(self.by_reward, log_r, surprise))
            self._replay()
        self.done += 1

    @torch.no_grad()
    def online_paths(self) -> Tensor:
        """Paths of this round's behaviour policies, (K, B, L + 1)."""
        uniform = self.draw(self.sizes.batch, self.task.space.length)
        path = self.student.sample(uniform, self.sizes.exploration)
        if self.teacher is not None and self.done % 3 == 2:
            path[self.taught] = self.teacher.sample(uniform[self.taught], self.sizes.exploration)
        return path

    def _replay(self) -> None:
        assert self.buffer is not None
        batch = self.sizes.batch
        slots = self.buffer.ranked().gather(1, halves(self.buffer.size, self.draw(batch)))
        x = self.buffer.states.gather(1, slots)
        path = self.task.space.walk_back(x, self.draw(batch, self.task.space.length))
        log_r = self.task.log_reward(x)
        surprise = self.learn(path, log_r)
        self.buffer.priority.scatter_(1, slots, torch.where(self.by_reward, log_r, surprise))

    def losses(self, path: Tensor, log_r: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Loss of each Student (K,), the Teacher's reward before mixing (K, B), and the loss of each Teacher.

        The reward is computed from the residuals of the Students as they are, without gradient.
        """
        log_pb = self.task.space.log_pb_of_paths(path)
        log_pf = self.student.log_pf(path).double().sum(-1)
        delta = log_r + log_pb - self.student.log_z.double().unsqueeze(1) - log_pf
        surprise = teacher_log_reward(delta.detach(), log_r, asymmetry=self.asymmetry, clamp=LARGEST_SQUARE)
        of_teacher = None
        if self.teacher is not None:
            target = (surprise + self.mixing * log_r)[self.taught]
            log_pf = self.teacher.log_pf(path[self.taught]).double().sum(-1)
            own = target + log_pb[self.taught] - self.teacher.log_z.double().unsqueeze(1) - log_pf
            of_teacher = squared(own).mean(1)
        return squared(delta).mean(1), surprise, of_teacher

    def learn(self, path: Tensor, log_r: Tensor) -> Tensor:
        """One gradient step of every Student and Teacher; returns the priority of PER, the reward before mixing."""
        loss, surprise, of_teacher = self.losses(path, log_r)
        total = loss.sum() if of_teacher is None else loss.sum() + of_teacher.sum()
        if self.done % 50 == 0 and not torch.isfinite(total):
            raise FloatingPointError(f"a loss on {self.task.name} is not finite in round {self.done}")
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(total)
        networks = [self.student] if self.teacher is None else [self.student, self.teacher]
        for network in networks:
            clip_by_member((p for n, p in network.named_parameters() if n != "log_z"), self.sizes.clip)
        optimizer.step()
        with torch.no_grad():
            for network in networks:
                network.log_z.clamp_(min=0.0)
        return surprise

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; log Z learns a hundred times as fast as the weights, a Teacher's weights five times as fast."""
        s = self.sizes
        groups = []
        for network, rate in (
            (self.student, s.learning_rate),
            (self.teacher, s.teacher_factor * s.learning_rate),
        ):
            if network is not None:
                weights = [p for n, p in network.named_parameters() if n != "log_z" and p.requires_grad]
                groups += [{"params": weights, "lr": rate}, {"params": [network.log_z], "lr": s.log_z_rate}]
        return torch.optim.Adam(groups, fused=self.device.type in ("cpu", "cuda"))

    def train_dataloader(self) -> Any:
        """Nothing but a count of the rounds: the samplers make their own data."""
        return torch.utils.data.DataLoader(range(self.sizes.rounds), batch_size=None)  # type: ignore[arg-type]

    # --- records ---

    @property
    def evaluate_at(self) -> list[int]:
        """Rounds of the evaluations, evenly spaced from 0; the last one comes after the training."""
        n = self.sizes.evaluations
        return sorted({round(self.sizes.rounds * j / n) for j in range(n)})

    @torch.no_grad()
    def record(self) -> None:
        """Append one evaluation of every run: exact where the task is enumerable, else on samples that depend on the seed only."""
        columns = self._exact_columns() if self.task.enumerable else self._sampled_columns()
        columns["modes"] = self.found.sum(1)
        lists = {name: values.tolist() for name, values in columns.items()}
        for k, result in enumerate(self.results):
            result.rounds.append(self.done)
            result.reward_calls.append(self.done * self.sizes.batch)
            result.gradient_steps.append(self.done * self.steps_per_round)
            for name, values in lists.items():
                getattr(result, name).append(values[k])

    def _exact_columns(self) -> dict[str, Tensor]:
        log_r = self.task.all_log_rewards(self.device)
        modes = self.task.modes.to(self.device)
        law = exact_law(self.student, log_r)
        return {
            "elbo": law.elbo,
            "eubo": law.eubo,
            "tv": total_variation(law.leaves, log_r),
            "recall": mode_recall(law.leaves, log_r, modes),
            "mode_mass": law.leaves[:, modes].sum(1),
        }

    def _sampled_columns(self) -> dict[str, Tensor]:
        n, space = self.sizes.evaluation_samples, self.task.space
        judges = [torch.Generator(self.device).manual_seed(10_000 + r.seed) for r in self.runs]

        def uniform(m: int) -> Tensor:
            return torch.stack([torch.rand(m, space.length, generator=g, device=self.device) for g in judges])

        def log_weights(path: Tensor) -> Tensor:
            log_pf = self.student.log_pf(path).double().sum(-1)
            return self.task.log_reward(path[..., -1]) + space.log_pb_of_paths(path) - log_pf

        chunks = [min(256, n - first) for first in range(0, n, 256)]
        elbo = torch.cat([log_weights(self.student.sample(uniform(m))) for m in chunks], 1).mean(1)
        unknown = torch.full_like(elbo, math.nan)
        eubo = unknown
        if self.task.target_samples is not None:
            exact = self.task.target_samples.to(self.device).split(256)
            parts = [
                log_weights(space.walk_back(x.expand(len(self.runs), -1), uniform(len(x)))) for x in exact
            ]
            eubo = torch.cat(parts, 1).mean(1)
        return {"elbo": elbo, "eubo": eubo, "tv": unknown, "recall": unknown, "mode_mass": unknown}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Generators, the count of rounds and the evaluations go with the weights and buffers."""
        checkpoint["sequences"] = {
            "generators": [g.get_state() for g in self.generators],
            "done": self.done,
            "history": [{k: v for k, v in vars(r).items() if isinstance(v, list)} for r in self.results],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse of :meth:`on_save_checkpoint`."""
        saved = checkpoint["sequences"]
        self._states, self.done = saved["generators"], saved["done"]
        for result, columns in zip(self.results, saved["history"], strict=True):
            for name, values in columns.items():
                setattr(result, name, list(values))


def train_sequences(
    run: Run[Any],
    task: SequenceTask,
    runs: Sequence[SequenceRun],
    sizes: SequenceSizes,
    checkpoint_every: int | None = None,
) -> list[SequenceResult]:
    """Train a stack of samplers on one task and evaluate them; results in the order of ``runs``."""
    module = StackedSequences(task, runs, sizes)
    methods = "-".join(dict.fromkeys(r.method for r in runs))
    seeds = "-".join(dict.fromkeys(str(r.seed) for r in runs))
    trainer = make_trainer(
        run,
        max_steps=sizes.rounds * module.steps_per_round,
        name=f"sequences-{task.name}-{methods}-rate{sizes.learning_rate}-seed{seeds}",
        job=(task.name, task.source, task.sizes, task.highest, task.log_z, task.modes, runs, sizes),
        checkpoint_every=checkpoint_every,
    )
    fit(trainer, module)
    module.to(run.device).record()
    return module.results
