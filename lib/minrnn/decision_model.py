"""Return-conditioned sequence models for offline reinforcement learning (Table 3; Chen et al. 2021, Ota 2024).

Every step of an episode becomes three tokens, (return-to-go R_t, state s_t, action a_t); the model reads a window of K steps and predicts
a_t at the token of s_t, so it sees R_1, s_1, a_1, …, R_t, s_t. At evaluation R_1 is a target return, and every reward that
is received is taken off it.

Logged metrics:

- action error: mean over real (not padded) steps and action coordinates of (â_t − a_t)², in squared units of the action;
- score: 100·(R − R_random)/(R_expert − R_random) of the return R of an episode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lib.minrnn.pendulum import (
    RETURN_SCALE,
    STEPS,
    TORQUE_LIMIT,
    Trajectories,
    collect,
    hanging_start,
    observe,
    pendulum_step,
    score_scale,
)
from lib.minrnn.token_model import Architecture, Optimisation, adamw
from lib.profiles import ParameterError, setting, settings_class
from lib.random_streams import stream
from lib.training import fit, make_trainer

if TYPE_CHECKING:
    from lib.records import Run

Window = tuple[Tensor, Tensor, Tensor, Tensor]
"""Returns-to-go (B, K, 1), observations (B, K, d), actions (B, K, k), and 1 at real steps, 0 at padding (B, K)."""

MEMORYLESS = "memoryless"
# Of the episodes of a data set, one in so many is kept for the action error.
HELD_OUT_ONE_IN = 10
HELD_OUT_WINDOWS = 256
TARGET_PERCENTILE = 90.0
MLP_MULTIPLE = 2.0


@settings_class
class DecisionSettings:
    """Sizes of a decision model, of its training and of its evaluation."""

    context: int = setting(10, "steps", "context K", 20, least=1)
    width: int = setting(32, "channels", "width", 128, least=1)
    layers: int = setting(2, "layers", "depth", 3, least=1)
    heads: int = setting(4, "heads", "attention heads of the Transformer", least=1)
    batch: int = setting(32, "windows", "windows per step", 64, least=1)
    steps: int = setting(250, "steps", "optimiser steps of every model", 100_000, least=1)
    learning_rate: float = setting(8e-3, "1", "AdamW's peak rate", 1e-4, above=0)
    warmup: int = setting(20, "steps", "linear warm-up of the rate", least=0)
    cosine: bool = setting(True, "1", "let the rate fall to a tenth along a cosine")
    weight_decay: float = setting(1e-4, "1", "AdamW's, on what the blocks do not exempt", 1e-4, least=0)
    clip: float = setting(0.25, "1", "largest norm of a gradient", 0.25, above=0)
    dropout: float = setting(0.0, "probability", "dropout in the MLP", 0.1, least=0, below=1)
    evaluation_episodes: int = setting(24, "episodes", "evaluation episodes per seed", least=1)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ParameterError(f"heads={self.heads} does not divide width={self.width}")

    def architecture(self, mixer: str) -> Architecture:
        """The model around ``mixer``; :data:`MEMORYLESS` is an MLP with about as many weights as minGRU has."""
        memoryless = mixer == MEMORYLESS
        attends = mixer == "attention"
        return Architecture(
            mixer,
            self.layers + memoryless,
            self.width * (2 if memoryless else 1),
            mlp="gelu",
            mlp_multiple=MLP_MULTIPLE,
            dropout=self.dropout,
            # three tokens a step; the released models add learned positions as well
            max_positions=3 * self.context if attends else None,
            options=(("heads", self.heads),) if attends else (),
        )

    def optimisation(self) -> Optimisation:
        """The training of every model."""
        return Optimisation(
            self.steps, self.learning_rate, self.warmup, self.cosine, self.weight_decay, self.clip
        )


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
        train, held_out: episodes. settings: length of a window and windows per step. seed: of the windows.
        return_scale: see :class:`Normalisation`.
    """

    def __init__(
        self,
        train: Trajectories,
        held_out: Trajectories,
        settings: DecisionSettings,
        seed: int,
        return_scale: float = RETURN_SCALE,
    ) -> None:
        super().__init__()
        self.train_set, self.held_out, self.seed = train, held_out, seed
        self.context, self.batch = settings.context, settings.batch
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
        return self.windows(self.held_out, n, stream(self.seed, "held-out windows").numpy())

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
                self.data.train_set, self.data.batch, stream(self.data.seed, "training windows", step).numpy()
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
    run: Run[Any], settings: DecisionSettings, mixer: str, data: OfflineWindows, seed: int, name: str
) -> DecisionModel:
    """Train one decision model and return it in evaluation mode.

    Args:
        run: device, output folder and steps between checkpoints. mixer: or :data:`MEMORYLESS`. seed: of initial weights and dropout.
        name: of the checkpoints, in this run alone.
    """
    with stream(seed, "initialisation").as_global():
        model = DecisionModel(
            data.train_set.observations.shape[2],
            data.train_set.actions.shape[2],
            data.normalisation.action_limit,
            settings.architecture(mixer),
            settings.optimisation(),
        )
    trainer = make_trainer(
        run,
        max_steps=settings.steps,
        name=name,
        job=(settings, mixer, seed, data.content),
        gradient_clip=settings.clip,
        checkpoint_every=run.checkpoint_every,
    )
    with stream(seed, "dropout").as_global():
        fit(trainer, model, data)
    return model.eval()


@torch.no_grad()
def held_out_error(model: DecisionModel, data: OfflineWindows) -> float:
    """Root of the held-out action error, in units of the action (Nm for the pendulum)."""
    window = [x.to(model.device) for x in data.held_out_windows(HELD_OUT_WINDOWS)]
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


def target_return(data: Trajectories) -> float:
    """The return to ask for: a high percentile of what the data reached."""
    return float(np.percentile(data.returns, TARGET_PERCENTILE))


def held_out_split(data: Trajectories) -> tuple[Trajectories, Trajectories]:
    """Episodes to train on, and one in :data:`HELD_OUT_ONE_IN` (at least one) that are kept for the action error."""
    n = len(data.lengths)
    return data.split(n - max(1, n // HELD_OUT_ONE_IN))


@dataclass(frozen=True)
class DecisionResult:
    """One trained model.

    Attributes:
        model: mixer, or :data:`MEMORYLESS`. data_set: what it was trained on. seed: of data, weights and windows.
        hidden: observation columns that it may not see.
        score: mean over its evaluation episodes. data_score: mean over the episodes that it was trained on.
        action_error: root mean square on held-out episodes, in units of the action. parameters: trainable numbers.
    """

    model: str
    data_set: str
    seed: int
    score: float
    data_score: float
    action_error: float
    parameters: int
    hidden: tuple[int, ...] = ()


def pendulum_result(
    run: Run[Any],
    settings: DecisionSettings,
    mixer: str,
    data_set: str,
    episodes: int,
    seed: int,
    hidden: tuple[int, ...] = (),
) -> DecisionResult:
    """Collect a pendulum data set, train one model on it, evaluate it in the pendulum and on held-out episodes.

    Every model of one seed meets the same start states.

    Args:
        data_set: see :func:`lib.minrnn.pendulum.collect`. episodes: collected, a part of them held out; the two ends of the
            score are measured on as many of their own.
        hidden: observation columns that the model may not see.
    """
    scale = score_scale(episodes, run.seed)
    episodes_of_data = collect(data_set, episodes, seed)
    train, rest = held_out_split(episodes_of_data.hide(hidden))
    data = OfflineWindows(train, rest, settings, seed)
    shown = "".join(map(str, hidden))
    name = f"decision-{data_set}-{mixer}-hidden{shown}-seed{seed}"
    model = train_decision_model(run, settings, mixer, data, seed, name)
    rng = stream(seed, "evaluation start states").numpy()
    returns = evaluate_pendulum(model, data, target_return(train), settings.evaluation_episodes, rng, hidden)
    return DecisionResult(
        mixer,
        data_set,
        seed,
        float(scale.score(returns).mean()),
        float(scale.score(episodes_of_data.returns).mean()),
        held_out_error(model, data),
        sum(p.numel() for p in model.parameters()),
        hidden,
    )
