"""Offline episodes from a Minari data set (D4RL's successor), for the ``paper`` profile.

Minari is an optional extra (``pip install "minari[hdf5]"``). Nothing is downloaded here: the user fetches the data set once with
``minari download <id>``; licence of the D4RL data: CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch

from lib.minrnn.decision_model import (
    DecisionModel,
    DecisionResult,
    DecisionSettings,
    choose_learning_rate,
    held_out_error,
    train_decision_model,
)
from lib.minrnn.offline_windows import OfflineWindows, held_out_split, target_return
from lib.minrnn.pendulum import ScoreScale, Trajectories
from lib.plain_files import one_line
from lib.profiles import OneLineError
from lib.random_streams import stream

if TYPE_CHECKING:
    from lib.records import Run

# Return-to-go is fed to the models in units of this many reward points.
RETURN_SCALE = 1000.0


class MinariError(OneLineError, RuntimeError):
    """Minari is not installed, or a data set is not there or not of the expected form."""


def minari_module() -> Any:
    """The package ``minari``.

    Raises:
        MinariError: if it is not installed.
    """
    try:
        import minari
    except ImportError as error:
        raise MinariError('minari is not installed: pip install "minari[hdf5]"') from error
    return minari


def load_minari(dataset_id: str) -> Trajectories:
    """Load a data set that lies in Minari's local store.

    Args:
        dataset_id: for example ``mujoco/hopper/medium-v0``.

    Raises:
        MinariError: if the package or the data set is missing, in one line that says how to get it; if the data set is damaged.
    """
    minari = minari_module()
    try:
        return from_minari(minari.load_dataset(dataset_id))
    except FileNotFoundError as error:
        raise MinariError(
            f"data set {dataset_id!r} is not in Minari's store: minari download {dataset_id}"
        ) from error
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        RecursionError,
    ) as error:
        # Minari opens the arrays when they are asked for, and checks its metadata by assertions
        raise MinariError(f"data set {dataset_id!r} cannot be read ({one_line(error)})") from error


def from_minari(dataset: Any) -> Trajectories:
    """Convert a Minari data set with flat continuous observations and actions.

    Args:
        dataset: a ``minari.MinariDataset``. An episode of L steps holds L + 1 observations; the last is dropped.

    Raises:
        MinariError: for an empty data set, or observations or actions that are not vectors.
    """
    episodes = list(dataset.iterate_episodes())
    if not episodes:
        raise MinariError("the Minari data set holds no episode")
    lengths = np.array([len(episode.rewards) for episode in episodes])
    first = episodes[0]
    for name in ("observations", "actions"):
        value = getattr(first, name)
        if not isinstance(value, np.ndarray) or value.ndim != 2:
            raise MinariError(f"{name} of the Minari data set are not vectors of numbers")
    n, t = len(episodes), int(lengths.max())
    observations = np.zeros((n, t, first.observations.shape[1]))
    actions = np.zeros((n, t, first.actions.shape[1]))
    rewards = np.zeros((n, t))
    try:
        for i, (episode, length) in enumerate(zip(episodes, lengths, strict=True)):
            observations[i, :length] = episode.observations[:length]
            actions[i, :length] = episode.actions[:length]
            rewards[i, :length] = episode.rewards[:length]
        return Trajectories(observations, actions, rewards, lengths)
    except ValueError as error:
        raise MinariError(f"the Minari data set cannot be used: {error}") from error


@torch.no_grad()
def evaluate_environment(
    model: DecisionModel,
    data: OfflineWindows,
    environment: gymnasium.Env[Any, Any],
    target_return: float,
    episodes: int,
    seed: int,
) -> np.ndarray:
    """Run the model in a gymnasium environment, conditioned on ``target_return``, with the context it was trained with.

    Args:
        model: trained model. data: for the normalisation and K. environment: with vector observations and actions.
        target_return: reward points. episodes: run one after the other. seed: of the start states.

    Returns:
        Returns of the episodes (episodes,).
    """
    scale, context = data.normalisation, data.context
    totals = []
    for episode in range(episodes):
        observation, _ = environment.reset(seed=stream(seed, "evaluation start states", episode).integer())
        past: list[tuple[float, np.ndarray, np.ndarray]] = []
        to_go, total, done = target_return, 0.0, False
        while not done:
            none_yet = np.zeros(data.train_set.actions.shape[2])
            past = [*past, (to_go / scale.return_scale, scale.observations(observation), none_yet)][-context:]
            columns = (np.array([[p[0]] for p in past]), *(np.stack([p[i] for p in past]) for i in (1, 2)))
            read = [torch.from_numpy(x.astype(np.float32))[None].to(model.device) for x in columns]
            action = model(*read)[0, -1].cpu().numpy()
            past[-1] = (past[-1][0], past[-1][1], action)
            observation, reward, terminated, truncated, _ = environment.step(action)
            total, to_go = total + float(reward), to_go - float(reward)
            done = terminated or truncated
        totals.append(total)
    return np.array(totals)


def d4rl_results(
    run: Run[Any],
    settings: DecisionSettings,
    mixer: str,
    dataset_id: str,
    rates: Sequence[float],
    seeds: Sequence[int],
) -> list[DecisionResult]:
    """Choose the learning rate of one model on a Minari data set, train it with every seed, evaluate it in the set's own environment.

    Raises:
        MinariError: if the data set is missing or gives no reference scores to normalise with.
    """
    trajectories = load_minari(dataset_id)
    dataset = minari_module().load_dataset(dataset_id)
    low, high = (dataset.storage.metadata.get(name) for name in ("ref_min_score", "ref_max_score"))
    if low is None or high is None:
        raise MinariError(
            f"data set {dataset_id!r} has no reference scores, so no normalised score can be given"
        )
    scale = ScoreScale(float(low), float(high))
    train, rest = held_out_split(trajectories)
    rate = choose_learning_rate(run, settings, mixer, train, rates, f"minari-{dataset_id}", RETURN_SCALE)
    environment = dataset.recover_environment(eval_env=True)
    of_data, goal = float(scale.score(trajectories.returns).mean()), target_return(train)
    results = []
    for seed in seeds:
        data = OfflineWindows(train, rest, settings, seed, RETURN_SCALE)
        name = f"minari-{dataset_id}-{mixer}-seed{seed}"
        model = train_decision_model(run, settings, mixer, data, rate, seed, name)
        returns = evaluate_environment(model, data, environment, goal, settings.evaluation_episodes, seed)
        score, error = float(scale.score(returns).mean()), held_out_error(model, data)
        size = sum(p.numel() for p in model.parameters())
        results.append(DecisionResult(mixer, dataset_id, seed, rate, score, of_data, error, size))
    return results
