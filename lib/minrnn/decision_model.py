"""Return-conditioned sequence models for offline reinforcement learning (Table 3; Chen et al. 2021, Ota 2024).

Every step of an episode becomes three tokens, (return-to-go R_t, state s_t, action a_t); the model reads a window of K steps and predicts
a_t at the token of s_t, so it sees R_1, s_1, a_1, …, R_t, s_t. At evaluation R_1 is a target return, and every reward that
is received is taken off it.

Logged metrics:

- action error: mean over real (not padded) steps and action coordinates of (â_t − a_t)², in squared units of the action;
- score: 100·(R − R_random)/(R_expert − R_random) of the return R of an episode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lib.minrnn.pendulum import (
    RETURN_SCALE,
    STEPS,
    TORQUE_LIMIT,
    ScoreScale,
    Trajectories,
    collect,
    hanging_start,
    observe,
    pendulum_step,
)
from lib.minrnn.token_model import Architecture, Optimisation, adamw
from lib.records import Run
from lib.training import fit, make_trainer

Window = tuple[Tensor, Tensor, Tensor, Tensor]
"""Returns-to-go (B, K, 1), observations (B, K, d), actions (B, K, k), and 1 at real steps, 0 at padding (B, K)."""

MEMORYLESS = "memoryless"


@dataclass(frozen=True)
class Normalisation:
    """How numbers enter the model: observations standardised with the data's mean and sd, returns divided by a scale.

    Attributes:
        mean, sd: of the training observations (d,). action_limit: largest |action| of the data. return_scale: reward points.
    """

    mean: np.ndarray
    sd: np.ndarray
    action_limit: float
    return_scale: float = RETURN_SCALE

    @classmethod
    def of(cls, data: Trajectories, return_scale: float = RETURN_SCALE) -> Normalisation:
        """Measure it on the real steps of the training episodes."""
        real = np.arange(data.rewards.shape[1])[None] < data.lengths[:, None]
        seen = data.observations[real]
        return cls(seen.mean(0), seen.std(0) + 1e-6, float(np.abs(data.actions[real]).max()), return_scale)

    def observations(self, x: np.ndarray) -> np.ndarray:
        """Standardised observations (..., d)."""
        return (x - self.mean) / self.sd


class OfflineWindows(lightning.LightningDataModule):
    """Random windows of K steps: episodes in proportion to their length, any start; padded behind the episode's end.

    Padding comes *after* the real steps, where a causal model cannot see it.

    Args:
        train, held_out: episodes. context: K. batch: windows per step. seed: of the windows.
        return_scale: see :class:`Normalisation`.
    """

    def __init__(
        self,
        train: Trajectories,
        held_out: Trajectories,
        context: int,
        batch: int,
        seed: int,
        return_scale: float = RETURN_SCALE,
    ) -> None:
        super().__init__()
        self.train_set, self.held_out, self.context, self.batch, self.seed = (
            train,
            held_out,
            context,
            batch,
            seed,
        )
        self.normalisation = Normalisation.of(train, return_scale)
        self._returns_to_go = {id(data): data.returns_to_go for data in (train, held_out)}

    @property
    def content(self) -> tuple[Any, ...]:
        """All that the training windows are made of."""
        return (self.train_set, self.normalisation, self.context, self.batch, self.seed)

    def windows(self, data: Trajectories, n: int, rng: np.random.Generator) -> Window:
        """Draw ``n`` windows of ``data``."""
        episode = rng.choice(len(data.lengths), size=n, p=data.lengths / data.lengths.sum())
        start = (rng.random(n) * data.lengths[episode]).astype(int)
        time = start[:, None] + np.arange(self.context)[None]  # (n, K)
        real = time < data.lengths[episode][:, None]
        at = (episode[:, None], np.minimum(time, data.rewards.shape[1] - 1))
        arrays = (
            self._returns_to_go[id(data)][at][..., None] / self.normalisation.return_scale,
            self.normalisation.observations(data.observations[at]),
            data.actions[at],
        )
        masked = [np.where(real[..., None], x, 0) for x in arrays]
        tensors = [torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for x in (*masked, real)]
        return tensors[0], tensors[1], tensors[2], tensors[3]

    def held_out_windows(self, n: int) -> Window:
        """``n`` windows of the held-out episodes, the same at every call."""
        return self.windows(self.held_out, n, np.random.default_rng([self.seed, 1]))

    def train_dataloader(self) -> DataLoader[Window]:
        first = self.trainer.global_step if self.trainer is not None else 0
        return DataLoader(_WindowStream(self, first), batch_size=None)


class _WindowStream(IterableDataset[Window]):
    """Endless batches; batch k depends on (seed, k) only."""

    def __init__(self, data: OfflineWindows, first_step: int) -> None:
        self.data, self.step = data, first_step

    def __iter__(self) -> Iterator[Window]:
        step = self.step
        while True:
            yield self.data.windows(
                self.data.train_set, self.data.batch, np.random.default_rng([self.data.seed, 0, step])
            )
            step += 1


class DecisionModel(lightning.LightningModule):
    """Predicts actions from returns-to-go, states and past actions.

    Args:
        d_observation, d_action: dimensions. action_limit: actions lie in ±action_limit (tanh output).
        architecture: of the backbone; mixer ``"memoryless"`` is an MLP on (R_t, s_t) alone: the control that has no past.
        optimisation: of the training.
    """

    def __init__(
        self,
        d_observation: int,
        d_action: int,
        action_limit: float,
        architecture: Architecture,
        optimisation: Optimisation,
    ) -> None:
        super().__init__()
        self.architecture, self.optimisation, self.action_limit = architecture, optimisation, action_limit
        d = architecture.d_model
        self.memoryless = architecture.mixer == MEMORYLESS
        self.embed_return, self.embed_observation = nn.Linear(1, d), nn.Linear(d_observation, d)
        if self.memoryless:
            layers: list[nn.Module] = []
            for _ in range(architecture.n_layers):
                layers += [nn.Linear(d, d), nn.GELU()]
            self.body: nn.Module = nn.Sequential(nn.GELU(), *layers)
        else:
            self.embed_action = nn.Linear(d_action, d)
            self.body = architecture.backbone()
        self.head = nn.Linear(d, d_action)

    def forward(self, returns: Tensor, observations: Tensor, actions: Tensor) -> Tensor:
        """Predicted actions (B, K, k) from returns-to-go (B, K, 1), observations (B, K, d) and actions (B, K, k).

        The prediction of step t does not depend on a_t nor on anything later.
        """
        r, s = self.embed_return(returns), self.embed_observation(observations)
        if self.memoryless:
            hidden = self.body(r + s)
        else:
            tokens = torch.stack([r, s, self.embed_action(actions)], dim=2)  # (B, K, 3, d)
            hidden, _ = self.body(tokens.flatten(1, 2)[:, :-1])  # the last action has no reader
            hidden = hidden[:, 1::3]  # at the state tokens, (B, K, d)
        return self.action_limit * torch.tanh(self.head(hidden))

    def action_error(self, window: Window) -> Tensor:
        """Mean squared action error over real steps."""
        returns, observations, actions, real = window
        error = (self(returns, observations, actions) - actions).square().mean(-1)
        return (error * real).sum() / real.sum()

    def training_step(self, window: Window, batch_index: int) -> Tensor:
        loss = self.action_error(window)
        if self.global_step % 50 == 0 and not torch.isfinite(loss):
            raise FloatingPointError(
                f"the action error of {self.architecture.mixer} is {float(loss)} at step {self.global_step}"
            )
        return loss

    def configure_optimizers(self) -> Any:
        return adamw(self, self.optimisation)


def train_decision_model(
    run: Run[Any],
    data: OfflineWindows,
    architecture: Architecture,
    optimisation: Optimisation,
    *,
    seed: int,
    name: str,
    checkpoint_every: int | None = None,
) -> DecisionModel:
    """Train one decision model and return it in evaluation mode.

    Args:
        run: device and output folder. data: windows. seed: of the initial weights.
        name: of the checkpoints, in this run alone.
    """
    torch.manual_seed(seed)
    if architecture.mixer == "attention":
        # three tokens a step; the released models add learned positions as well
        architecture = dataclasses.replace(architecture, max_positions=3 * data.context)
    model = DecisionModel(
        data.train_set.observations.shape[2],
        data.train_set.actions.shape[2],
        data.normalisation.action_limit,
        architecture,
        optimisation,
    )
    trainer = make_trainer(
        run,
        max_steps=optimisation.steps,
        name=name,
        job=(architecture, optimisation, seed, data.content),
        gradient_clip=optimisation.clip,
        checkpoint_every=checkpoint_every,
    )
    fit(trainer, model, data)
    return model.eval()


@torch.no_grad()
def held_out_error(model: DecisionModel, data: OfflineWindows, n: int = 256) -> float:
    """Root of the held-out action error, in units of the action (Nm for the pendulum)."""
    window = [x.to(model.device) for x in data.held_out_windows(n)]
    return float(model.action_error((window[0], window[1], window[2], window[3])).sqrt())


@torch.no_grad()
def evaluate_pendulum(
    model: DecisionModel,
    data: OfflineWindows,
    target_return: float,
    episodes: int,
    rng: np.random.Generator,
    hidden: tuple[int, ...] = (),
) -> np.ndarray:
    """Run the model in the pendulum, conditioned on ``target_return``; the last K steps are its context, as in training.

    Args:
        model: trained model. data: for the normalisation and K. target_return: R_1, reward points.
        episodes: run side by side. rng: draws the start states. hidden: observation columns that the model may not see.

    Returns:
        Returns of the episodes (episodes,), reward points.
    """
    theta, speed = hanging_start(episodes, rng)
    kept = [i for i in range(3) if i not in hidden]
    context, scale = data.context, data.normalisation
    returns = np.zeros((episodes, STEPS, 1), dtype=np.float32)
    observations = np.zeros((episodes, STEPS, len(kept)), dtype=np.float32)
    actions = np.zeros((episodes, STEPS, 1), dtype=np.float32)
    to_go, total = np.full(episodes, target_return), np.zeros(episodes)
    for t in range(STEPS):
        returns[:, t, 0] = to_go / scale.return_scale
        observations[:, t] = scale.observations(observe(theta, speed)[:, kept])
        window = slice(max(0, t + 1 - context), t + 1)
        read = (torch.from_numpy(x[:, window]).to(model.device) for x in (returns, observations, actions))
        torque = model(*read)[:, -1, 0].cpu().numpy().astype(float)
        actions[:, t, 0] = np.clip(torque, -TORQUE_LIMIT, TORQUE_LIMIT)
        theta, speed, reward = pendulum_step(theta, speed, torque)
        to_go = to_go - reward
        total += reward
    return total


def target_return(data: Trajectories, percentile: float = 90.0) -> float:
    """The return to ask for: a high percentile of what the data reached."""
    return float(np.percentile(data.returns, percentile))


@dataclass(frozen=True)
class DecisionResult:
    """One trained model: mean score over its evaluation episodes, and the held-out action error (root mean square)."""

    model: str
    data_set: str
    seed: int
    score: float
    action_error: float
    parameters: int


def decision_result(
    model: DecisionModel,
    data: OfflineWindows,
    scale: ScoreScale,
    *,
    data_set: str,
    seed: int,
    episodes: int,
    hidden: tuple[int, ...] = (),
) -> DecisionResult:
    """Evaluate a trained model in the pendulum and on held-out episodes.

    Every model of one seed meets the same start states.
    """
    rng = np.random.default_rng([seed, 2])
    returns = evaluate_pendulum(model, data, target_return(data.train_set), episodes, rng, hidden)
    return DecisionResult(
        model.architecture.mixer,
        data_set,
        seed,
        float(scale.score(returns).mean()),
        held_out_error(model, data),
        sum(p.numel() for p in model.parameters()),
    )


def decision_job(
    run: Run[Any],
    data_set: str,
    architecture: Architecture,
    optimisation: Optimisation,
    *,
    seed: int,
    episodes: int,
    held_out: int,
    context: int,
    batch: int,
    evaluation_episodes: int,
    scale: ScoreScale,
    hidden: tuple[int, ...] = (),
    checkpoint_every: int | None = None,
) -> DecisionResult:
    """Collect a pendulum data set, train one model on it, evaluate it.

    Args:
        data_set: see :func:`lib.minrnn.pendulum.collect`. episodes: collected, of which ``held_out`` are kept for the action error.
        hidden: observation columns that the model may not see (2 is the velocity).
    """
    train, rest = collect(data_set, episodes, seed).hide(hidden).split(episodes - held_out)
    data = OfflineWindows(train, rest, context, batch, seed)
    shown = "".join(map(str, hidden))
    name = f"decision-{data_set}-{architecture.mixer}-hidden{shown}-seed{seed}"
    model = train_decision_model(
        run, data, architecture, optimisation, seed=seed, name=name, checkpoint_every=checkpoint_every
    )
    return decision_result(
        model, data, scale, data_set=data_set, seed=seed, episodes=evaluation_episodes, hidden=hidden
    )
