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

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from lib.records import Run
from lib.smbh.profiles import Settings
from lib.training import fit, make_trainer

# The environment ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DagStates:
    """A batch of graphs with their reachability.

    Attributes:
        adjacency: (B, n, n) bool.
        closure: (B, n, n) bool, reflexive and transitive.
    """

    adjacency: Tensor
    closure: Tensor

    @classmethod
    def empty(cls, batch: int, n: int, device: torch.device | str = "cpu") -> DagStates:
        """``batch`` graphs of ``n`` variables without edges."""
        adjacency = torch.zeros(batch, n, n, dtype=torch.bool, device=device)
        return cls(adjacency, torch.eye(n, dtype=torch.bool, device=device).expand(batch, n, n).clone())

    @classmethod
    def of(cls, adjacency: Tensor) -> DagStates:
        """States of given acyclic graphs (B, n, n).

        Raises:
            ValueError: if a graph holds a cycle.
        """
        n = adjacency.shape[-1]
        closure = adjacency | torch.eye(n, dtype=torch.bool, device=adjacency.device)
        for _ in range(max(1, math.ceil(math.log2(max(n, 2))))):
            closure = (closure.float() @ closure.float()) > 0
        if (closure & closure.transpose(1, 2)).sum() != adjacency.shape[0] * n:
            raise ValueError("a graph holds a cycle")
        return cls(adjacency, closure)

    def valid_edges(self) -> Tensor:
        """(B, n, n) bool: edges that are absent and would close no cycle (j does not reach i)."""
        return ~(self.adjacency | self.closure.transpose(1, 2))

    def edge_count(self) -> Tensor:
        """(B,) number of edges."""
        return self.adjacency.sum(dim=(1, 2))

    def parent_masks(self) -> Tensor:
        """(B, n) bit mask of each variable's parents: bit i is set if i -> j."""
        bits = 1 << torch.arange(self.adjacency.shape[-1], device=self.adjacency.device)
        return (self.adjacency * bits[:, None]).sum(dim=1)

    def step(self, action: Tensor) -> DagStates:
        """Add the edge ``action = i * n + j`` (B,) to each graph; where ``action = n * n`` the next graph is the empty one.

        The new edge makes every ancestor of i (i included) reach every descendant of j (j included).
        """
        batch, n, _ = self.adjacency.shape
        stop = action == n * n
        edge = torch.where(stop, torch.zeros_like(action), action)
        source, target = edge // n, edge % n
        rows = torch.arange(batch, device=action.device)
        adjacency, closure = self.adjacency.clone(), self.closure.clone()
        adjacency[rows, source, target] = True
        closure |= closure[rows, :, source][:, :, None] & closure[rows, target, :][:, None, :]
        adjacency[stop] = False
        closure[stop] = torch.eye(n, dtype=torch.bool, device=action.device)
        return DagStates(adjacency, closure)

    def __getitem__(self, index: Any) -> DagStates:
        return DagStates(self.adjacency[index], self.closure[index])


def score_gains(states: DagStates, log_scores: Tensor) -> Tensor:
    """(B, n, n) float: s_j(Pa_j + i) - s_j(Pa_j) for every edge i -> j; 0 where the edge is not valid.

    Args:
        states: B graphs.
        log_scores: (n, 2**n) log score of every child and parent mask, -inf where the mask contains the child.
    """
    n = log_scores.shape[0]
    masks = states.parent_masks()  # (B, j)
    bits = 1 << torch.arange(n, device=masks.device)
    child = torch.arange(n, device=masks.device)
    grown = log_scores[child, masks[:, None, :] | bits[None, :, None]]  # (B, i, j)
    now = log_scores[child, masks][:, None, :]  # (B, 1, j)
    return torch.where(states.valid_edges(), grown - now, torch.zeros_like(grown))


def log_policy(edge_logits: Tensor, stop_logit: Tensor, valid: Tensor) -> Tensor:
    """Log probabilities of all actions (B, n * n + 1); the last is stop.

    P(stop) = sigmoid(stop logit); the rest is shared among valid edges by a softmax; without a valid edge stop has
    probability 1.

    Args:
        edge_logits: (B, n, n). stop_logit: (B,). valid: (B, n, n) bool.
    """
    valid = valid.flatten(1)
    some = valid.any(dim=1)
    floor = torch.finfo(edge_logits.dtype).min
    edges = F.log_softmax(edge_logits.flatten(1).masked_fill(~valid, floor), dim=1)
    edges = (edges + F.logsigmoid(-stop_logit)[:, None]).masked_fill(~valid, -math.inf)
    stop = torch.where(some, F.logsigmoid(stop_logit), torch.zeros_like(stop_logit))
    return torch.cat((edges, stop[:, None]), dim=1)


def balance_error(
    gain: Tensor, edges: Tensor, log_stop: Tensor, log_stop_next: Tensor, log_forward: Tensor
) -> Tensor:
    """The left side of equation (1), (B,).

    Args:
        gain: log R(G') - log R(G). edges: number of edges of G. log_stop, log_stop_next: log P(stop) at G and G'.
        log_forward: log P(G' | G).
    """
    return gain - torch.log(edges + 1.0) + log_stop - log_stop_next - log_forward


# Networks: states -> edge logits (B, n, n), stop logit (B,) ------------------------------------------------------------------


class MlpPolicy(nn.Module):
    """The adjacency matrix through a multilayer perceptron; outputs in units of ``scale`` nats.

    Log scores of neighbouring graphs differ by tens of nats, and so do the logits that solve (1).
    """

    def __init__(self, n: int, hidden: int = 256, layers: int = 3, scale: float = 10.0) -> None:
        super().__init__()
        self.n, self.scale = n, scale
        sizes = [n * n] + [hidden] * layers
        blocks = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.GELU())]
        self.body = nn.Sequential(*blocks, nn.Linear(hidden, n * n + 1))

    def forward(self, states: DagStates) -> tuple[Tensor, Tensor]:
        out = self.scale * self.body(states.adjacency.flatten(1).float())
        return out[:, :-1].view(-1, self.n, self.n), out[:, -1]


class LinearAttentionBlock(nn.Module):
    """Pre-norm attention with feature map elu(x) + 1 (linear in the number of tokens), then a two-layer perceptron.

    Both halves read [embedding of the 0/1 adjacency entry, hidden], normalised.
    """

    def __init__(
        self, width: int, heads: int = 4, key_size: int = 64, embedding: int = 128, widening: int = 2
    ) -> None:
        super().__init__()
        self.heads, self.key_size = heads, key_size
        self.entry = nn.Linear(1, embedding)
        joint = embedding + width
        self.norm_attention, self.norm_mlp = nn.LayerNorm(joint), nn.LayerNorm(joint)
        self.queries_keys_values = nn.Linear(joint, 3 * heads * key_size)
        self.out = nn.Linear(heads * key_size, width)
        self.mlp = nn.Sequential(
            nn.Linear(joint, widening * width), nn.GELU(), nn.Linear(widening * width, width)
        )

    def forward(self, hidden: Tensor, entries: Tensor) -> Tensor:
        """hidden (B, tokens, width), entries (B, tokens, 1) -> (B, tokens, width)."""
        batch, tokens, _ = hidden.shape
        entry = self.entry(entries)
        joint = self.norm_attention(torch.cat((entry, hidden), dim=-1))
        q, k, v = self.queries_keys_values(joint).view(batch, tokens, 3, self.heads, self.key_size).unbind(2)
        q, k = F.elu(q) + 1.0, F.elu(k) + 1.0  # (B, tokens, heads, key)
        summary = torch.einsum("bthk,bthv->bhkv", k, v)
        scale = torch.einsum("bthk,bhk->bth", q, k.sum(dim=1)).clamp(min=1e-6)
        mixed = torch.einsum("bthk,bhkv->bthv", q, summary) / scale[..., None]
        hidden = hidden + self.out(mixed.flatten(2))
        return hidden + self.mlp(self.norm_mlp(torch.cat((entry, hidden), dim=-1)))


class TransformerPolicy(nn.Module):
    """The official-size network: n * n tokens, three shared blocks, two more for edges, two more for stop."""

    def __init__(self, n: int, embedding: int = 128, heads: int = 4, key_size: int = 64) -> None:
        super().__init__()
        self.n = n
        self.nodes = nn.Embedding(2 * n, embedding)  # as source, as target
        width = 2 * embedding

        def blocks(count: int) -> nn.ModuleList:
            return nn.ModuleList(
                LinearAttentionBlock(width, heads, key_size, embedding) for _ in range(count)
            )

        def head(bias: bool) -> nn.Sequential:
            last = nn.Linear(128, 1, bias=bias)
            return nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 128), nn.GELU(), last)

        self.shared, self.edge_blocks, self.stop_blocks = blocks(3), blocks(2), blocks(2)
        # a bias common to all edges would cancel in the softmax over edges
        self.edge_head, self.stop_head = head(bias=False), head(bias=True)

    def forward(self, states: DagStates) -> tuple[Tensor, Tensor]:
        batch, n = states.adjacency.shape[0], self.n
        token = torch.arange(n * n, device=states.adjacency.device)
        pairs = torch.stack((token // n, n + token % n), dim=1)  # (tokens, 2)
        hidden = self.nodes(pairs).flatten(1).expand(batch, -1, -1)  # (B, tokens, 2 * embedding)
        entries = states.adjacency.flatten(1).unsqueeze(-1).float()
        for block in self.shared:
            hidden = block(hidden, entries)
        edges, stop = hidden, hidden
        for block in self.edge_blocks:
            edges = block(edges, entries)
        for block in self.stop_blocks:
            stop = block(stop, entries)
        return self.edge_head(edges).view(batch, n, n), self.stop_head(stop.mean(dim=1)).squeeze(-1)


class TabularPolicy(nn.Module):
    """A policy given by a table: state code (see :func:`state_codes`) -> log probabilities. For exact checks at small n."""

    codes: Tensor
    edge_logits: Tensor
    stop_logit: Tensor

    def __init__(self, codes: Tensor, edge_logits: Tensor, stop_logit: Tensor) -> None:
        super().__init__()
        order = codes.argsort()
        self.register_buffer("codes", codes[order])
        self.register_buffer("edge_logits", edge_logits[order])
        self.register_buffer("stop_logit", stop_logit[order])

    def forward(self, states: DagStates) -> tuple[Tensor, Tensor]:
        row = torch.searchsorted(self.codes, state_codes(states.adjacency))
        return self.edge_logits[row], self.stop_logit[row]


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"mlp": MlpPolicy, "transformer": TransformerPolicy}

# Training ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GFlowNetOptions:
    """What a training needs besides the scores.

    Attributes:
        network: ``mlp`` or ``transformer``.
        environments: graphs built side by side.
        replayed: transitions replayed per step.
        on_policy: whether the step's own transitions are learned from at once (the official code only replays).
        learning_rate: of Adam. cosine: whether it falls to zero along a cosine.
        target_every: steps between copies of the network into the target network.
        exploration: share of uniformly random actions at the start and from half of the training on.
        capacity: transitions kept for replay. prefill: random steps before training.
    """

    network: str = "mlp"
    environments: int = 256
    replayed: int = 256
    on_policy: bool = True
    learning_rate: float = 1e-3
    cosine: bool = True
    target_every: int = 50
    exploration: tuple[float, float] = (0.5, 0.05)
    capacity: int = 100_000
    prefill: int = 10


OFFICIAL = GFlowNetOptions(
    network="transformer",
    environments=8,
    replayed=32,
    on_policy=False,
    learning_rate=1e-5,
    cosine=False,
    target_every=1000,
    exploration=(1.0, 0.1),
    capacity=100_000,
    prefill=1000,
)
"""The official defaults, for 100,000 iterations."""


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
        options: see :class:`GFlowNetOptions`.
        steps: optimiser steps of the whole training (for the schedules).

    Raises:
        ValueError: for a table of another shape, or one with NaN.
    """

    log_scores: Tensor
    env_adjacency: Tensor
    env_closure: Tensor

    def __init__(self, log_scores: np.ndarray | Tensor, options: GFlowNetOptions, steps: int) -> None:
        super().__init__()
        table = torch.as_tensor(log_scores, dtype=torch.float64)
        if table.ndim != 2 or table.shape[1] != 2 ** table.shape[0]:
            raise ValueError(f"log_scores has shape {tuple(table.shape)}; expected (n, 2**n)")
        if torch.isnan(table).any():
            raise ValueError("log_scores holds NaN")
        n = table.shape[0]
        self.n, self.options, self.steps = n, options, steps
        # only differences within a child enter: centring keeps single precision accurate
        self.register_buffer("log_scores", (table - table[:, :1]).float())
        self.policy = NETWORKS[options.network](n)
        self.target = NETWORKS[options.network](n).requires_grad_(False)
        self.target.load_state_dict(self.policy.state_dict())
        self.replay = ReplayBuffer(options.capacity, n)
        start = DagStates.empty(options.environments, n)
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
        first, last = self.options.exploration
        return first + (last - first) * min(1.0, 2.0 * step / max(self.steps, 1))

    def on_fit_start(self) -> None:
        """Fill the replay buffer with random steps, unless a checkpoint brought one along."""
        steps = self.options.prefill if len(self.replay) == 0 else 0
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
        if step % self.options.target_every == 0:
            self.target.load_state_dict(self.policy.state_dict())
        envs = DagStates(self.env_adjacency, self.env_closure)
        old, old_action = self.replay.sample(self.options.replayed)
        if self.options.on_policy:
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
        optimizer = torch.optim.Adam(self.policy.parameters(), lr=self.options.learning_rate)
        if not self.options.cosine:
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


# What a policy knows -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def sample_graphs(module: DagGFlowNet, size: int, seed: int, batch: int = 10_000) -> tuple[Tensor, Tensor]:
    """``size`` independent graphs drawn by the policy: adjacency and closure, each (size, n, n) bool, on the CPU.

    Raises:
        ValueError: for a size below 1.
    """
    if size < 1:
        raise ValueError(f"size={size}: at least one graph must be drawn")
    device, n = module.log_scores.device, module.n
    generator = torch.Generator(device=device).manual_seed(seed)
    drawn: list[tuple[Tensor, Tensor]] = []
    for begin in range(0, size, batch):
        states = DagStates.empty(min(batch, size - begin), n, device)
        running = torch.arange(len(states.adjacency), device=device)
        while len(running):
            here = states[running]
            log_p, _ = module.log_probabilities(here)
            action = torch.multinomial(log_p.exp(), 1, generator=generator).squeeze(1)
            moved = action < n * n
            running = running[moved]
            following = here[moved].step(action[moved])
            states.adjacency[running] = following.adjacency
            states.closure[running] = following.closure
        drawn.append((states.adjacency.cpu(), states.closure.cpu()))
    adjacency, closure = (torch.cat(part) for part in zip(*drawn, strict=True))
    return adjacency, closure


def marginals(adjacency: Tensor, closure: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Edge and path frequencies (n, n) of sampled graphs (size, n, n); diagonals 0."""
    edges = adjacency.double().mean(dim=0).numpy()
    paths = closure.double().mean(dim=0).numpy().copy()
    np.fill_diagonal(paths, 0.0)
    return edges, paths


def state_codes(adjacency: Tensor) -> Tensor:
    """(B,) whole number that stands for each graph: bit i * n + j is set for i -> j (n at most 7)."""
    bits = 1 << torch.arange(adjacency.shape[-1] ** 2, device=adjacency.device)
    return (adjacency.flatten(1) * bits).sum(dim=1)


def all_dags(n: int) -> Tensor:
    """Every labelled acyclic graph of ``n`` variables, (count, n, n) bool, in order of edge count.

    Grown edge by edge from the empty graph, duplicates removed: 1, 3, 25, 543, 29281 graphs for n = 1 to 5.

    Raises:
        ValueError: for n above 5, where the list would not serve its purpose (an exact law in seconds).
    """
    if not 1 <= n <= 5:
        raise ValueError(f"n={n}: all graphs are listed for 1 to 5 variables only")
    levels = [DagStates.empty(1, n).adjacency]
    while True:
        states = DagStates.of(levels[-1])
        row, source, target = states.valid_edges().nonzero(as_tuple=True)
        if len(row) == 0:
            return torch.cat(levels)
        grown = states.adjacency[row].clone()
        grown[torch.arange(len(row)), source, target] = True
        codes = state_codes(grown).numpy()
        levels.append(grown[torch.from_numpy(np.unique(codes, return_index=True)[1])])


def log_rewards(dags: Tensor, log_scores: np.ndarray | Tensor) -> Tensor:
    """(B,) log R(G) = sum over children of their local scores, float64."""
    table = torch.as_tensor(log_scores, dtype=torch.float64)
    masks = DagStates(dags, dags).parent_masks()
    return table[torch.arange(table.shape[0]), masks].sum(dim=1)


@dataclass(frozen=True)
class StateGraph:
    """All graphs of n variables with every single-edge step between them.

    Attributes:
        dags: (count, n, n) bool in order of edge count.
        edges: (count,) edge counts.
        origin, action, destination: (steps,) rows and the added edge i * n + j, in order of the origin's edge count.
    """

    dags: Tensor
    edges: Tensor
    origin: Tensor
    action: Tensor
    destination: Tensor

    @classmethod
    def of(cls, n: int) -> StateGraph:
        """The graph on ``n`` variables, at most 5 (see :func:`all_dags`)."""
        dags = all_dags(n)
        states = DagStates.of(dags)
        origin, source, target = states.valid_edges().nonzero(as_tuple=True)
        codes = state_codes(dags)
        order = codes.argsort()
        wanted = codes[origin] + (1 << (source * n + target))
        destination = order[torch.searchsorted(codes[order], wanted)]
        return cls(dags, states.edge_count(), origin, source * n + target, destination)

    def levels(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(origin, action, destination) of the steps from graphs with 0, 1, 2, ... edges."""
        of_step = self.edges[self.origin]
        for k in range(int(self.edges.max())):
            at = of_step == k
            yield self.origin[at], self.action[at], self.destination[at]


@torch.no_grad()
def terminal_law(module: DagGFlowNet, graph: StateGraph) -> Tensor:
    """(count,) exact probability that the policy stops at each graph, float64.

    Probability starts at the empty graph and is pushed along all steps in order of edge count: no sampling.
    """
    log_p, _ = module.log_probabilities(DagStates.of(graph.dags.to(module.log_scores.device)))
    probability = log_p.double().exp().cpu()
    reached = torch.zeros(len(graph.dags), dtype=torch.float64)
    reached[0] = 1.0
    for origin, action, destination in graph.levels():
        reached.index_add_(0, destination, reached[origin] * probability[origin, action])
    return reached * probability[:, -1]


def posterior_law(graph: StateGraph, log_scores: np.ndarray | Tensor) -> Tensor:
    """(count,) exact posterior of each graph of the graph under the flat prior, float64."""
    return torch.softmax(log_rewards(graph.dags, log_scores), dim=0)


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the sum of absolute differences of two laws (count,)."""
    return float((p - q).abs().sum() / 2)


def optimal_policy(graph: StateGraph, log_scores: np.ndarray | Tensor) -> TabularPolicy:
    """The policy that solves (1) exactly, by backward recursion of the flow F(G) = R(G) + sum over G' of F(G') / edges(G').

    Then P(stop | G) = R(G) / F(G) and P(G' | G) = F(G') / (edges(G') F(G)).
    """
    n = graph.dags.shape[-1]
    log_reward = log_rewards(graph.dags, log_scores)
    log_reward = log_reward - log_reward.max()
    flow = log_reward.exp()
    for origin, _, destination in reversed(list(graph.levels())):
        flow.index_add_(0, origin, flow[destination] / graph.edges[destination])
    edge_logits = torch.full((len(flow), n * n), -math.inf, dtype=torch.float64)
    share = (flow[graph.destination] / graph.edges[graph.destination]).log()
    edge_logits[graph.origin, graph.action] = share - flow[graph.origin].log()
    reward = log_reward.exp()
    stop_logit = torch.log(reward) - torch.log((flow - reward).clamp(min=1e-300))
    edge_logits = edge_logits.masked_fill(torch.isinf(edge_logits), 0.0).view(-1, n, n)
    return TabularPolicy(state_codes(graph.dags), edge_logits, stop_logit)


# One training inside a run --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LearnedMarginals:
    """What a trained policy says, beside the exact answer.

    Attributes:
        edges, paths: frequencies (n, n) over the graphs drawn.
        parents: (samples, n) bit masks of the graphs drawn.
        edge_rmse, path_rmse: root mean squared error over off-diagonal entries.
        sampling_rmse: the edge error that as many exact samples would have, sqrt(mean p (1 - p) / samples).
    """

    edges: np.ndarray
    paths: np.ndarray
    parents: np.ndarray
    edge_rmse: float
    path_rmse: float
    sampling_rmse: float


def train_gflownet(
    run: Run[Settings],
    log_scores: np.ndarray,
    options: GFlowNetOptions,
    steps: int,
    seed: int,
    name: str,
    on_evaluation: tuple[int, Callable[[DagGFlowNet], float]] | None = None,
) -> DagGFlowNet:
    """Train a DAG-GFlowNet on a score table (n, 2**n); goes on from its last checkpoint where an interrupted run left one.

    Args:
        run: gives device and folder, and the setting ``checkpoint_every``.
        options, steps: see :class:`GFlowNetOptions`. seed: of weights and exploration.
        name: of the training, in this run alone.
        on_evaluation: (every so many steps, function of the module); its values go to ``module.evaluations``.
    """
    torch.manual_seed(seed)
    module = DagGFlowNet(log_scores, options, steps)
    trainer = make_trainer(
        run,
        max_steps=steps,
        name=name,
        job=(options, seed, on_evaluation and on_evaluation[0]),
        gradient_clip=10.0,
        checkpoint_every=run.settings.checkpoint_every,
        callbacks=[] if on_evaluation is None else [Evaluations(*on_evaluation)],
    )
    fit(trainer, module, GFlowNetData(steps))
    return module.to(run.device).eval()


def learned_marginals_job(
    run: Run[Settings],
    log_scores: np.ndarray,
    exact: tuple[np.ndarray, np.ndarray],
    options: GFlowNetOptions,
    steps: int,
    samples: int,
    *,
    seed: int,
    name: str,
) -> LearnedMarginals:
    """Train one DAG-GFlowNet and compare it with the exact edge and path marginals, each (n, n); see
    :func:`train_gflownet` and :func:`compare_marginals`."""
    module = train_gflownet(run, log_scores, options, steps, seed, name)
    return compare_marginals(module, *exact, samples, seed)


def compare_marginals(
    module: DagGFlowNet, exact_edges: np.ndarray, exact_paths: np.ndarray, samples: int, seed: int
) -> LearnedMarginals:
    """Draw ``samples`` graphs from the policy and compare their marginals with the exact ones (n, n)."""
    adjacency, closure = sample_graphs(module, samples, seed)
    edges, paths = marginals(adjacency, closure)
    off = ~np.eye(module.n, dtype=bool)
    p = exact_edges[off]
    return LearnedMarginals(
        edges,
        paths,
        DagStates(adjacency, closure).parent_masks().numpy(),
        float(np.sqrt(np.mean((edges - exact_edges)[off] ** 2))),
        float(np.sqrt(np.mean((paths - exact_paths)[off] ** 2))),
        float(np.sqrt(np.mean(p * (1 - p)) / samples)),
    )
