"""Many independent trainings on one grid as one: seeds × methods × constants of the Teacher, in one stack of networks.

The stack's members are the Students of all runs followed by the Teachers of those that have one. A step scores the batch of each
run with its Student and its Teacher in one forward pass. The Teacher's reward is computed from δ *before* the step, without
gradient, so Student and Teacher can step together: what a run learns is exactly what it would learn alone. Losses are summed, gradient
norms are clipped member by member, Adam acts number by number, and every run draws from its own generator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from lib.adaptive_teachers import exact_law
from lib.adaptive_teachers.deceptive_grid import DeceptiveGrid, Walks
from lib.adaptive_teachers.detailed_balance import detailed_balance_loss, detailed_balance_residual
from lib.adaptive_teachers.gafn import RandomDistillation, augmented_terms
from lib.adaptive_teachers.grid_methods import GridRun, schedule
from lib.adaptive_teachers.local_search import local_search
from lib.adaptive_teachers.policy_network import StackedPolicy
from lib.adaptive_teachers.replay_buffer import ReplayBuffer
from lib.adaptive_teachers.teacher import teacher_log_reward, teacher_log_reward_of_transitions
from lib.adaptive_teachers.trajectory_balance import (
    log_policy,
    pack,
    roll_out,
    sum_by_walk,
    trajectory_balance_loss,
    trajectory_balance_residual,
)
from lib.stacked import clip_by_member

GUARD = 1e-8  # added to the Teacher's reward before its logarithm


@dataclass(frozen=True)
class GridTask:
    """Sizes of a training on the grid, the same for every method."""

    batches: int
    batch: int = 16
    hidden: int = 256
    learning_rate: float = 1e-3
    log_z_rate: float = 0.1
    clip: float = 1.0
    evaluations: int = 10
    l1_samples: int = 100_000
    keep_laws: bool = False


@dataclass
class GridResult:
    """What one run gave; every curve has one value per evaluation.

    calls: reward calls; student_steps, teacher_steps: gradient steps; modes: cells of maximum reward visited in training; recall:
    share of modes with at least half of their target mass under the exact law; tv, kl: exact distances to the target; tv_optimum: to the
    optimum of the loss under the grid's backward policy;
    log_z_error; mode_mass: exact mass on modes; unvisited_teacher, _student, _untrained: log of the exact mass on modes that training has
    not visited, NaN without a Teacher or without such modes; l1: the paper's sampled L1 of the trained Student; laws: exact laws
    (Student, Teacher) by evaluation, if kept.
    """

    run: GridRun
    n_modes: int
    parameters: int
    calls: list[int] = field(default_factory=list)
    student_steps: list[int] = field(default_factory=list)
    teacher_steps: list[int] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    l1: float = float("nan")
    laws: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.run.seed

    def last(self, name: str) -> float:
        """Final value of a curve."""
        return self.curves[name][-1]

    @property
    def mode_share(self) -> float:
        """Modes visited in training, as a share of all."""
        return self.last("modes") / self.n_modes


class StackedTraining(lightning.LightningModule):
    """K runs of equal structure on one grid, trained as one.

    Args:
        grid: the environment, on the device of the training.
        runs: methods with seeds; they must have equal :attr:`Method.structure`.
        task: sizes.

    Raises:
        ValueError: for no run, or runs of different structure.
    """

    automatic_optimization = False

    def __init__(self, grid: DeceptiveGrid, runs: Sequence[GridRun], task: GridTask) -> None:
        super().__init__()
        if not runs or len({r.spec.structure for r in runs}) != 1:
            raise ValueError("a stack needs runs of one structure")
        self.grid, self.runs, self.task = grid, list(runs), task
        self.method = runs[0].spec
        self.steps = schedule(self.method, task.batches)
        k = len(runs)
        taught = [i for i, r in enumerate(runs) if r.spec.teacher]
        teacher_of = torch.full((k,), -1, dtype=torch.long)
        teacher_of[taught] = k + torch.arange(len(taught))
        hidden = round(task.hidden * self.method.width)
        outputs = grid.dim + 1 + (self.method.objective != "tb")
        seeds = [2 * r.seed for r in runs] + [2 * runs[i].seed + 1 for i in taught]
        self.policy = StackedPolicy(grid, hidden, outputs, [torch.Generator().manual_seed(s) for s in seeds])
        self.distillation = None
        if self.method.objective == "gafn":
            streams = [torch.Generator().manual_seed(2**31 + r.seed) for r in runs]
            self.distillation = RandomDistillation(grid, task.hidden, streams)
        self.buffer = ReplayBuffer(k, grid.buffer_capacity, grid.n_states) if self.method.priority else None
        self.generators = [torch.Generator(grid.device).manual_seed(2**32 + r.seed) for r in runs]

        def constant(name: str, values: Any, dtype: torch.dtype) -> None:
            self.register_buffer(name, torch.as_tensor(values, dtype=dtype), persistent=False)

        constant("teacher_of", teacher_of, torch.long)
        constant("run_of", [*range(k), *taught], torch.long)  # the run of each member
        constant("noise", [r.spec.noise for r in runs], torch.float32)
        constant("asymmetry", [r.asymmetry for r in runs], torch.float64)
        constant("mixing", [r.mixing for r in runs], torch.float64)
        constant("by_reward", [r.spec.priority == "reward" for r in runs], torch.bool)
        self.register_buffer("visited", torch.zeros(k, grid.n_states, dtype=torch.bool))
        self.register_buffer("untrained", torch.zeros(k, int(grid.is_mode.sum()), dtype=torch.float64))
        self.calls = self.done = self.evaluated = 0
        self.results = [
            GridResult(r, grid.n_modes, self.policy.parameters_per_member() * (2 if r.spec.teacher else 1))
            for r in runs
        ]
        self._latest: Walks | None = None

    teacher_of: Tensor
    run_of: Tensor
    noise: Tensor
    asymmetry: Tensor
    mixing: Tensor
    by_reward: Tensor
    visited: Tensor
    untrained: Tensor

    # --- one step -----------------------------------------------------------------------------------------------------

    def draw(self, *shape: int) -> Tensor:
        """Uniform numbers (K, *shape), each run's from its own generator."""
        return torch.stack([torch.rand(shape, generator=g, device=self.grid.device) for g in self.generators])

    def behaviour(self, turn: str) -> Tensor:
        """The member that acts in each run, (K,): the Teacher at its turn where there is one, else the Student."""
        students = torch.arange(len(self.runs), device=self.grid.device)
        return torch.where(self.teacher_of >= 0, self.teacher_of, students) if turn == "teacher" else students

    def collect(self, turn: str, search_rounds: int = 0) -> Walks:
        """The batch of a step; end points of online batches count as reward calls and as visited."""
        grid, batch = self.grid, self.task.batch
        if turn == "again":
            assert self._latest is not None
            return self._latest
        if turn == "replay":
            assert self.buffer is not None
            terminal = self.buffer.sample(self.draw(batch))
            return grid.backward_walks(terminal, self.draw(batch, grid.dim * (grid.side - 1)))
        members = self.behaviour(turn)
        noise = self.noise if bool(self.noise.any()) else None
        walks = roll_out(grid, self.policy, members, self.draw(batch, grid.max_steps), noise)
        self.visited.scatter_(1, walks.terminal, True)
        self.calls += batch
        if search_rounds:
            walks, tried = local_search(
                grid, self.policy, members, walks, self.search_score, lambda n: self.draw(batch, n), search_rounds, noise
            )  # fmt: skip
            self.visited.scatter_(1, tried.flatten(1), True)
            self.calls += batch * search_rounds
        self._latest = walks
        return walks

    @torch.no_grad()
    def search_score(self, walks: Walks) -> Tensor:
        """What local search climbs, (K, B): log R_T where there is a Teacher, else log R."""
        if not self.method.teacher:
            return self.grid.log_reward[walks.terminal]
        return self.losses(walks)[1]

    def losses(self, walks: Walks) -> tuple[Tensor, Tensor]:
        """Loss of each member, (M,), and the Teacher's log-reward of each end point, (K, B), which carries no gradient."""
        grid, batch, k = self.grid, walks.terminal.shape[1], len(self.runs)
        packed = pack(walks)
        every = packed.of_runs(self.run_of)  # (M, N)
        outputs = self.policy(every.states)
        log_pf = log_policy(outputs, every.actions, grid.dim)
        log_pb = grid.log_pb_of(walks).flatten(1).gather(1, packed.position)[self.run_of]
        log_reward = grid.log_reward[walks.terminal]  # (K, B)
        if self.method.objective == "db":
            flow = outputs[..., grid.dim + 1]

            def residual(members: slice, end: Tensor) -> Tensor:
                return detailed_balance_residual(
                    flow[members], log_pf[members], log_pb[members], end, every.of_members(members)
                )

            d = residual(slice(0, k), log_reward)
            taught_reward = self._sum_reward(d, packed.walk, log_reward)
            d_teacher = residual(slice(k, None), taught_reward[self.run_of[k:]])
            return detailed_balance_loss(torch.cat([d, d_teacher]), batch), taught_reward
        if self.distillation is not None:
            following = grid.end_points(walks).flatten(1).gather(1, packed.position)
            distance = self.distillation.distance(following)
            real = packed.walk < batch
            self._distillation_loss = (distance * real).sum(1) / real.sum(1)
            intrinsic = self.distillation.scale * distance.detach()
            log_pb, log_reward = augmented_terms(
                intrinsic, outputs[..., grid.dim + 1], log_pb, log_reward, packed
            )
        forward, backward = sum_by_walk(log_pf, every, batch), sum_by_walk(log_pb, every, batch)
        log_z = self.policy.log_z
        delta = trajectory_balance_residual(log_reward, backward[:k], log_z[:k], forward[:k])
        taught_reward = teacher_log_reward(
            delta.detach(),
            log_reward.detach(),
            asymmetry=self.asymmetry.unsqueeze(1),
            mixing=self.mixing.unsqueeze(1),
            floor=GUARD,
        )
        delta_teacher = trajectory_balance_residual(
            taught_reward[self.run_of[k:]], backward[k:], log_z[k:], forward[k:]
        )
        return trajectory_balance_loss(torch.cat([delta, delta_teacher])), taught_reward

    def _sum_reward(self, d: Tensor, walk: Tensor, log_reward: Tensor) -> Tensor:
        """The detailed-balance Teacher's log-reward, (K, B), from residuals of packed transitions (K, N)."""
        batch = log_reward.shape[1]
        of_walk = walk.unsqueeze(1) == torch.arange(batch, device=walk.device).view(1, -1, 1)  # (K, B, N)
        return teacher_log_reward_of_transitions(
            d.detach().unsqueeze(1),
            of_walk,
            log_reward,
            asymmetry=self.asymmetry.view(-1, 1, 1),
            mixing=self.mixing.unsqueeze(1),
            floor=GUARD,
        )

    def training_step(self, _: Any, index: int) -> None:
        """One gradient step of every member."""
        turn, rounds = self.steps[self.done]
        if turn in ("student", "teacher"):
            self.evaluate_if_due()
        walks = self.collect(turn, rounds)
        losses, taught_reward = self.losses(walks)
        total = losses.sum()
        if self.distillation is not None:
            total = total + self._distillation_loss.sum()
        if self.done % 50 == 0 and not torch.isfinite(total):
            raise FloatingPointError(
                f"a loss on the grid is not finite at step {self.done}: {losses.tolist()}"
            )
        optimizer = self.optimizers()
        optimizer.zero_grad()  # type: ignore[union-attr]
        self.manual_backward(total)
        clip_by_member(self.policy.parameters(), self.task.clip)
        optimizer.step()  # type: ignore[union-attr,call-arg]
        if self.buffer is not None and turn != "replay":
            reward = self.grid.log_reward[walks.terminal]
            self.buffer.add(walks.terminal, torch.where(self.by_reward.unsqueeze(1), reward, taught_reward))
        self.done += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with the released rates; log Z learns a hundred times as fast as the weights."""
        log_z = [self.policy.log_z]
        weights = [p for name, p in self.policy.named_parameters() if name != "log_z"]
        if self.distillation is not None:
            weights += [p for p in self.distillation.parameters() if p.requires_grad]
        return torch.optim.Adam(
            [
                {"params": weights, "lr": self.task.learning_rate},
                {"params": log_z, "lr": self.task.log_z_rate},
            ],
            fused=self.grid.device.type in ("cpu", "cuda"),
        )

    def train_dataloader(self) -> Iterable[Tensor]:
        """One item per step; what a step does is read from the schedule."""
        return torch.utils.data.DataLoader(range(len(self.steps)), batch_size=None)  # type: ignore[arg-type]

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate_if_due(self) -> None:
        """Evaluate at the start and whenever another share of the reward calls is spent."""
        if self.calls * self.task.evaluations >= self.evaluated * self.task.batches * self.task.batch:
            self.evaluate()

    def finish(self) -> list[GridResult]:
        """The last evaluation, with the paper's sampled L1 beside the exact distances; call it once, after the training."""
        law = self.evaluate()
        for result, p in zip(self.results, law, strict=True):
            rng = np.random.default_rng(result.run.seed)
            result.l1 = exact_law.sampled_l1(self.grid, p, self.grid.target, self.task.l1_samples, rng)
        return self.results

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """Append one value to every curve; returns the Students' exact laws, (K, H^d)."""
        grid, k = self.grid, len(self.runs)
        target, mode = grid.target, grid.is_mode
        laws = exact_law.exact_law(grid, self.policy)
        student, taught = laws[:k], self.teacher_of >= 0
        teacher = torch.where(taught.unsqueeze(1), laws[self.teacher_of.clamp(min=0)], torch.nan)
        if self.evaluated == 0:
            self.untrained.copy_(teacher[:, mode])
        unseen = ~self.visited[:, mode]

        def unseen_mass(on_modes: Tensor) -> Tensor:
            mass = (on_modes * unseen).sum(1)
            return torch.where(taught & unseen.any(1), mass.log(), torch.nan)

        if self.method.objective == "db":
            log_z = self.policy(torch.zeros(self.policy.members, 1, dtype=torch.long, device=grid.device))
            log_z = log_z[:k, 0, grid.dim + 1]
        else:
            log_z = self.policy.log_z[:k]
        values = {
            "modes": (self.visited & mode).sum(1),
            "visited": self.visited.sum(1),
            "tv": exact_law.total_variation(student, target),
            "tv_optimum": exact_law.total_variation(student, grid.optimal_law()),
            "kl": exact_law.kl_divergence(target, student),
            "recall": exact_law.mode_recall(grid, student, target),
            "mode_mass": student[:, mode].sum(1),
            "log_z_error": (log_z.double() - grid.optimal_log_z()).abs(),
            "unvisited_teacher": unseen_mass(teacher[:, mode]),
            "unvisited_student": unseen_mass(student[:, mode]),
            "unvisited_untrained": unseen_mass(self.untrained),
        }
        lists = {name: v.double().tolist() for name, v in values.items()}
        for i, result in enumerate(self.results):
            result.calls.append(self.calls)
            result.student_steps.append(self.done)
            result.teacher_steps.append(self.done if result.run.spec.teacher else 0)
            for name, column in lists.items():
                result.curves.setdefault(name, []).append(column[i])
            if self.task.keep_laws:
                result.laws.append((student[i].cpu().numpy(), teacher[i].cpu().numpy()))
        self.evaluated += 1
        return student

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Generators, counters, curves and the last batch; weights, buffers and visited cells are saved already."""
        walks = self._latest
        checkpoint["stacked_training"] = {
            "generators": [g.get_state() for g in self.generators],
            "counters": [self.calls, self.done, self.evaluated],
            "curves": [
                [r.calls, r.student_steps, r.teacher_steps, r.curves, [[torch.from_numpy(x) for x in p] for p in r.laws]]
                for r in self.results
            ],
            "latest": None if walks is None else [walks.states, walks.actions, walks.terminal],
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue exactly where the checkpoint was written."""
        saved = checkpoint["stacked_training"]
        for generator, state in zip(self.generators, saved["generators"], strict=True):
            generator.set_state(state.cpu())
        self.calls, self.done, self.evaluated = saved["counters"]
        for result, (calls, student, teacher, curves, laws) in zip(
            self.results, saved["curves"], strict=True
        ):
            result.calls, result.student_steps, result.teacher_steps = calls, student, teacher
            result.curves = curves
            result.laws = [(s.numpy(), t.numpy()) for s, t in laws]
        latest = saved["latest"]
        self._latest = None if latest is None else Walks(*(x.to(self.grid.device) for x in latest))
