"""A Minari store with data sets of three Pendulum episodes each, made offline by Minari itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import gymnasium
import numpy as np
import pytest

STEPS = 12


def make_store(
    ids: Iterable[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, np.ndarray]]:
    """Store the same three episodes under each of ``ids`` in ``folder``, where Minari looks from now on; the episodes."""
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    environment = gymnasium.make("Pendulum-v1", max_episode_steps=STEPS)
    rng = np.random.default_rng(0)
    ends = {"terminations": [False] * STEPS, "truncations": [False] * (STEPS - 1) + [True]}
    buffers, episodes = [], []
    for i in range(3):
        observation, _ = environment.reset(seed=i)
        record: dict[str, list] = {"observations": [observation], "actions": [], "rewards": []}
        for _ in range(STEPS):
            action = rng.uniform(-2, 2, 1).astype(np.float32)
            observation, reward, _, _, _ = environment.step(action)
            record["observations"].append(observation)
            record["actions"].append(action)
            record["rewards"].append(float(reward))
        episodes.append({name: np.array(value) for name, value in record.items()})
        buffers.append(minari.data_collector.EpisodeBuffer(id=i, **record, **ends))
    for name in ids:
        minari.create_dataset_from_buffers(
            name,
            buffers,
            env=environment,
            eval_env=environment,
            ref_min_score=-100.0,
            ref_max_score=0.0,
            num_episodes_average_score=2,
            author="test",
            author_email="test@example.org",
            code_permalink="https://example.org",
            algorithm_name="random",
            description="test",
        )
    return episodes
