"""DAG-GFlowNet: a policy that builds a graph edge by edge, trained so that finished graphs follow the posterior.

A state is a directed acyclic graph G. An action adds one edge that closes no cycle, or stops; every state may be the last.
Steps backward remove one of the edges at random, P_B = 1 / edges(G'). If for every step G -> G' = G + (i -> j)

    log R(G') - log R(G) - log(edges(G) + 1) + log P(stop | G) - log P(stop | G') - log P(G' | G) = 0,          (1)

with log R(G) the log score, then the graphs at which the policy stops follow the posterior R(G) / sum of R exactly
(modified detailed balance; Deleu et al. 2022). Training drives the left side of (1) to 0. Only the score of the child
j changes, so log R(G') - log R(G) = s_j(Pa_j + i) - s_j(Pa_j) is one subtraction in the score table.

Shapes: B graphs, n variables, adjacency [b, i, j] = True for i -> j; closure [b, i, j] = True if i = j or i is an ancestor of j.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from lib.profiles import setting, settings_class
from lib.smbh.dag_states import DagStates, score_gains
from lib.smbh.graph_policies import NETWORKS, log_policy


def balance_error(
    gain: Tensor, edges: Tensor, log_stop: Tensor, log_stop_next: Tensor, log_forward: Tensor
) -> Tensor:
    """The left side of equation (1), (B,).

    Args:
        gain: log R(G') - log R(G). edges: number of edges of G. log_stop, log_stop_next: log P(stop) at G and G'.
        log_forward: log P(G' | G).
    """
    return gain - torch.log(edges + 1.0) + log_stop - log_stop_next - log_forward


@settings_class
class Training:
    """What a training needs besides the scores and its number of steps; the values of the paper are the official code's."""

    network: str = setting("mlp", "name", "network of the policy", "transformer", among=tuple(NETWORKS))
    environments: int = setting(256, "graphs", "graphs built side by side", 8, least=1)
    replayed: int = setting(256, "transitions", "stored transitions replayed per step", 32, least=1)
    on_policy: bool = setting(
        True, "yes/no", "learn from a step's own transitions at once, not from replayed ones alone", False
    )
    learning_rate: float = setting(1e-3, "1", "learning rate of Adam", 1e-5, above=0.0)
    cosine: bool = setting(True, "yes/no", "let the learning rate fall to zero along a cosine", False)
    target_every: int = setting(
        50, "steps", "steps between copies of the network into the target network", 1000, least=1
    )
    exploration: tuple[float, float] = setting(
        (0.5, 0.05),
        "share",
        "uniformly random actions at the start, and from half of the training on",
        (1.0, 0.1),
        least=0.0,
        most=1.0,
    )
    capacity: int = setting(100_000, "transitions", "transitions kept for replay", 100_000, least=1)
    prefill: int = setting(10, "steps", "random steps of all graphs before the training", 1000, least=1)


class ReplayBuffer(nn.Module):
    """A ring of transitions (graph, closure, added edge); a module, so that checkpoints and devices take it along."""

    adjacency: Tensor
    closure: Tensor
    action: Tensor
    counters: Tensor

    def __init__(self, capacity: int, n: int) -> None:
        super().__init__()
        self.register_buffer("adjacency", torch.zeros(capacity, n, n, dtype=torch.bool))
        self.register_buffer("closure", torch.zeros(capacity, n, n, dtype=torch.bool))
        self.register_buffer("action", torch.zeros(capacity, dtype=torch.long))
        self.register_buffer("counters", torch.zeros(2, dtype=torch.long))  # next slot, filled slots

    def __len__(self) -> int:
        return int(self.counters[1])

    def add(self, states: DagStates, action: Tensor) -> None:
        """Store the transitions that add an edge; stops teach nothing and are left out."""
        keep = action < states.adjacency.shape[-1] ** 2
        count, capacity = int(keep.sum()), self.action.shape[0]
        slots = (int(self.counters[0]) + torch.arange(count, device=action.device)) % capacity
        self.adjacency[slots] = states.adjacency[keep]
        self.closure[slots] = states.closure[keep]
        self.action[slots] = action[keep]
        self.counters[0] = (self.counters[0] + count) % capacity
        self.counters[1] = torch.clamp(self.counters[1] + count, max=capacity)

    def sample(self, count: int) -> tuple[DagStates, Tensor]:
        """``count`` stored transitions, with replacement.

        Raises:
            ValueError: if nothing is stored.
        """
        if len(self) == 0:
            raise ValueError("the replay buffer is empty")
        index = torch.randint(len(self), (count,), device=self.action.device)
        return DagStates(self.adjacency[index], self.closure[index]), self.action[index]


class _Steps(IterableDataset):
    """Counts optimiser steps; the data of a step are made by the module's own policy."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.steps))


class GFlowNetData(lightning.LightningDataModule):
    """Feeds a training with step numbers: the transitions themselves come from the policy being trained."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def train_dataloader(self) -> DataLoader:
        return DataLoader(_Steps(self.steps), batch_size=None)


class DagGFlowNet(lightning.LightningModule):
    """DAG-GFlowNet on a table of local scores.

    Args:
        log_scores: (n, 2**n) log score of every child and parent mask, -inf where the mask contains the child.
        training: see :class:`Training`.
        steps: optimiser steps of the whole training (for the schedules).

    Raises:
        ValueError: for a table of another shape, or one with NaN.
    """

    log_scores: Tensor
    env_adjacency: Tensor
    env_closure: Tensor

    def __init__(self, log_scores: np.ndarray | Tensor, training: Training, steps: int) -> None:
        super().__init__()
        table = torch.as_tensor(log_scores, dtype=torch.float64)
        if table.ndim != 2 or table.shape[1] != 2 ** table.shape[0]:
            raise ValueError(f"log_scores has shape {tuple(table.shape)}; expected (n, 2**n)")
        if torch.isnan(table).any():
            raise ValueError("log_scores holds NaN")
        n = table.shape[0]
        self.n, self.settings, self.steps = n, training, steps
        # only differences within a child enter: centring keeps single precision accurate
        self.register_buffer("log_scores", (table - table[:, :1]).float())
        self.policy = NETWORKS[training.network](n)
        self.target = NETWORKS[training.network](n).requires_grad_(False)
        self.target.load_state_dict(self.policy.state_dict())
        self.replay = ReplayBuffer(training.capacity, n)
        start = DagStates.empty(training.environments, n)
        self.register_buffer("env_adjacency", start.adjacency)
        self.register_buffer("env_closure", start.closure)
        self.evaluations: list[tuple[int, float]] = []
        self.losses: list[float] = []

    def log_probabilities(self, states: DagStates, network: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """Log policy (B, n * n + 1) and score gains (B, n, n) at ``states``."""
        gains = score_gains(states, self.log_scores)
        logits, stop = (network or self.policy)(states)
        return log_policy(logits, stop, states.valid_edges()), gains

    def exploration(self, step: int) -> float:
        """Share of uniformly random actions: linear from the first to the second value over the first half."""
        first, last = self.settings.exploration
        return first + (last - first) * min(1.0, 2.0 * step / max(self.steps, 1))

    def on_fit_start(self) -> None:
        """Fill the replay buffer with random steps, unless a checkpoint brought one along."""
        steps = self.settings.prefill if len(self.replay) == 0 else 0
        for _ in range(steps):
            states = DagStates(self.env_adjacency, self.env_closure)
            self._advance(states, self._explore(states, None, 1.0))

    @torch.no_grad()
    def _explore(self, states: DagStates, log_probabilities: Tensor | None, share: float) -> Tensor:
        valid = F.pad(states.valid_edges().flatten(1), (0, 1), value=True)
        action = torch.multinomial(valid.float(), 1).squeeze(1)
        if log_probabilities is None:
            return action
        own = torch.multinomial(log_probabilities.exp(), 1).squeeze(1)
        random = torch.rand(own.shape, device=own.device) < share
        return torch.where(random, action, own)

    def _advance(self, states: DagStates, action: Tensor) -> DagStates:
        self.replay.add(states, action)
        following = states.step(action)
        self.env_adjacency, self.env_closure = following.adjacency, following.closure
        return following

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Every environment takes one action; the loss is Huber's, of equation (1), over new and replayed transitions."""
        step = self.global_step
        if step % self.settings.target_every == 0:
            self.target.load_state_dict(self.policy.state_dict())
        envs = DagStates(self.env_adjacency, self.env_closure)
        old, old_action = self.replay.sample(self.settings.replayed)
        if self.settings.on_policy:
            states = DagStates(
                torch.cat((envs.adjacency, old.adjacency)), torch.cat((envs.closure, old.closure))
            )
            log_p, gains = self.log_probabilities(states)
            new_action = self._explore(envs, log_p[: len(envs.adjacency)].detach(), self.exploration(step))
            action = torch.cat((new_action, old_action))
        else:
            states, action = old, old_action
            log_p, gains = self.log_probabilities(states)
            with torch.no_grad():
                here, _ = self.log_probabilities(envs)
            new_action = self._explore(envs, here, self.exploration(step))
        loss = self.transition_loss(states, action, log_p, gains)
        self._advance(envs, new_action)
        self.losses.append(float(loss.detach()))
        return loss

    def transition_loss(self, states: DagStates, action: Tensor, log_p: Tensor, gains: Tensor) -> Tensor:
        """Mean Huber loss (delta 1) of equation (1) over the transitions that add an edge; stops are left out."""
        moved = action < self.n * self.n
        states, action, log_p, gains = states[moved], action[moved], log_p[moved], gains[moved]
        with torch.no_grad():
            log_stop_next = self.log_probabilities(states.step(action), self.target)[0][:, -1]
        error = balance_error(
            gains.flatten(1).gather(1, action[:, None]).squeeze(1),
            states.edge_count(),
            log_p[:, -1],
            log_stop_next,
            log_p.gather(1, action[:, None]).squeeze(1),
        )
        return F.huber_loss(error, torch.zeros_like(error))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["dag_gflownet"] = {"evaluations": self.evaluations, "losses": self.losses}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["dag_gflownet"]
        self.evaluations, self.losses = saved["evaluations"], saved["losses"]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.policy.parameters(), lr=self.settings.learning_rate)
        if not self.settings.cosine:
            return optimizer
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(self.steps, 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Evaluations(Callback):
    """Adds (step, ``function(module)``) to the module's evaluations every ``every`` steps.

    A callback, since Lightning writes a checkpoint after all other callbacks, and before the module's own hook of the step.
    """

    def __init__(self, every: int, function: Callable[[DagGFlowNet], float]) -> None:
        self.every, self.function = every, function

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *_: Any) -> None:
        if trainer.global_step % self.every == 0:
            module.evaluations.append((trainer.global_step, self.function(module)))
