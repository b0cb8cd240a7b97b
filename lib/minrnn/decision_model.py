"""Return-conditioned sequence models for offline reinforcement learning (Table 3; Chen et al. 2021, Ota 2024).

Every step of an episode becomes three tokens, (return-to-go R_t, state s_t, action a_t); the model reads a window of K steps and predicts
a_t at the token of s_t, so it sees R_1, s_1, a_1, …, R_t, s_t. At evaluation R_1 is a target return, and every reward that
is received is taken off it.

Logged metrics:

- action error: mean over real (not padded) steps and action coordinates of (â_t − a_t)², in squared units of the action;
- score: 100·(R − R_random)/(R_expert − R_random) of the return R of an episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from lib.minrnn.offline_windows import OfflineWindows, Window, held_out_split, target_return
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
    score_scale,
)
from lib.minrnn.token_model import Architecture, Optimisation, adamw
from lib.profiles import ParameterError, setting, settings_class
from lib.random_streams import stream
from lib.training import fit, make_trainer

if TYPE_CHECKING:
    from lib.records import Run

MEMORYLESS = "memoryless"
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

    def optimisation(self, learning_rate: float) -> Optimisation:
        """The training of every model, at its own rate."""
        return Optimisation(self.steps, learning_rate, self.warmup, self.cosine, self.weight_decay, self.clip)


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
    settings: DecisionSettings,
    mixer: str,
    data: OfflineWindows,
    learning_rate: float,
    seed: int,
    name: str,
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
            settings.optimisation(learning_rate),
        )
    trainer = make_trainer(
        run,
        max_steps=settings.steps,
        name=name,
        job=(settings, mixer, learning_rate, seed, data.content),
        gradient_clip=settings.clip,
        checkpoint_every=run.checkpoint_every,
    )
    with stream(seed, "dropout").as_global():
        fit(trainer, model, data)
    return model.eval()


@torch.no_grad()
def held_out_error(model: DecisionModel, data: OfflineWindows) -> float:
    """Root of the held-out action error, in units of the action (Nm for the pendulum)."""
    window = [x.to(model.device) for x in data.held_out_windows()]
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


@dataclass(frozen=True)
class DecisionResult:
    """One trained model.

    Attributes:
        model: mixer, or :data:`MEMORYLESS`. data_set: what it was trained on. seed: of data, weights and windows.
        learning_rate: peak rate.
        hidden: observation columns that it may not see.
        score: mean over its evaluation episodes. data_score: mean over the episodes that it was trained on.
        action_error: root mean square on held-out episodes, in units of the action. parameters: trainable numbers.
    """

    model: str
    data_set: str
    seed: int
    learning_rate: float
    score: float
    data_score: float
    action_error: float
    parameters: int
    hidden: tuple[int, ...] = ()


def choose_learning_rate(
    run: Run[Any],
    settings: DecisionSettings,
    mixer: str,
    episodes: Trajectories,
    rates: Sequence[float],
    name: str,
    return_scale: float = RETURN_SCALE,
) -> float:
    """The rate with the lowest action error on a part held out of ``episodes``; a single rate is taken as it is.

    Every model is tried with the same steps, initial weights and windows, which no repetition has.

    Args:
        episodes: of which no repetition is evaluated on one. name: of what is trained on, for the checkpoints.
    """
    if len(rates) == 1:
        return rates[0]
    seed = stream(run.seed, "choice of the learning rate").integer()
    data = OfflineWindows(*held_out_split(episodes), settings, seed, return_scale)
    models = [
        train_decision_model(run, settings, mixer, data, rate, seed, f"rate-{name}-{mixer}-rate{rate}")
        for rate in rates
    ]
    errors = [held_out_error(model, data) for model in models]
    return rates[errors.index(min(errors))]


def pendulum_results(
    run: Run[Any],
    settings: DecisionSettings,
    mixer: str,
    data_sets: Sequence[str],
    episodes: int,
    rates: Sequence[float],
    seeds: Sequence[int],
    hidden: tuple[int, ...] = (),
) -> list[DecisionResult]:
    """Choose the learning rate of one model on episodes like those of the first data set, then train it on every set with every seed.

    Args:
        data_sets: see :func:`lib.minrnn.pendulum.collect`. episodes: of a data set, a part of them held out; the two ends of the
            score are measured on as many of their own.
        hidden: observation columns that the model may not see.
    """
    scale = score_scale(episodes, run.seed)
    shown = "".join(map(str, hidden))
    tried = collect(data_sets[0], episodes, run.seed, "choice of the learning rate").hide(hidden)
    rate = choose_learning_rate(run, settings, mixer, tried, rates, f"decision-hidden{shown}")
    results = []
    for data_set in data_sets:
        for seed in seeds:
            whole = collect(data_set, episodes, seed)
            data = OfflineWindows(*held_out_split(whole.hide(hidden)), settings, seed)
            name = f"decision-{data_set}-{mixer}-hidden{shown}-seed{seed}"
            model = train_decision_model(run, settings, mixer, data, rate, seed, name)
            score, error = evaluated(model, data, settings, scale, seed, hidden)
            of_data = float(scale.score(whole.returns).mean())
            size = sum(p.numel() for p in model.parameters())
            results.append(DecisionResult(mixer, data_set, seed, rate, score, of_data, error, size, hidden))
    return results


def evaluated(
    model: DecisionModel,
    data: OfflineWindows,
    settings: DecisionSettings,
    scale: ScoreScale,
    seed: int,
    hidden: tuple[int, ...],
) -> tuple[float, float]:
    """Mean score in the pendulum, where every model of one seed meets the same start states, and the held-out action error."""
    starts = stream(seed, "evaluation start states").numpy()
    goal = target_return(data.train_set)
    returns = evaluate_pendulum(model, data, goal, settings.evaluation_episodes, starts, hidden)
    return float(scale.score(returns).mean()), held_out_error(model, data)
