"""Offline episodes from a Minari data set (D4RL's successor), for the ``paper`` profile.

Minari is an optional extra (``pip install "minari[hdf5]"``). Nothing is downloaded here: the user fetches the data set once with
``minari download <id>``; licence of the D4RL data: CC BY 4.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lib.minrnn.pendulum import Trajectories
from lib.profiles import OneLineError


class MinariError(OneLineError, RuntimeError):
    """Minari is not installed, or a data set is not there or not of the expected form."""


def load_minari(dataset_id: str) -> Trajectories:
    """Load a data set that lies in Minari's local store.

    Args:
        dataset_id: for example ``mujoco/hopper/medium-v0``.

    Raises:
        MinariError: if the package or the data set is missing, in one line that says how to get it.
    """
    try:
        import minari
    except ImportError as error:
        raise MinariError('minari is not installed: pip install "minari[hdf5]"') from error
    try:
        dataset = minari.load_dataset(dataset_id)
    except FileNotFoundError as error:
        raise MinariError(
            f"data set {dataset_id!r} is not in Minari's store: minari download {dataset_id}"
        ) from error
    return from_minari(dataset)


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
    for i, (episode, length) in enumerate(zip(episodes, lengths, strict=True)):
        observations[i, :length] = episode.observations[:length]
        actions[i, :length] = episode.actions[:length]
        rewards[i, :length] = episode.rewards[:length]
    try:
        return Trajectories(observations, actions, rewards, lengths)
    except ValueError as error:
        raise MinariError(f"the Minari data set cannot be used: {error}") from error
