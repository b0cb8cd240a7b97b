"""Windows of offline episodes, as decision models read them: returns-to-go, normalised observations, actions, padding behind the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lib.minrnn.pendulum import RETURN_SCALE, Trajectories
from lib.random_streams import stream

if TYPE_CHECKING:
    from lib.minrnn.decision_model import DecisionSettings

Window = tuple[Tensor, Tensor, Tensor, Tensor]
"""Returns-to-go (B, K, 1), observations (B, K, d), actions (B, K, k), and 1 at real steps, 0 at padding (B, K)."""

# Of the episodes of a data set, one in so many is kept for the action error.
HELD_OUT_ONE_IN = 10
HELD_OUT_WINDOWS = 256
TARGET_PERCENTILE = 90.0


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

    def held_out_windows(self) -> Window:
        """:data:`HELD_OUT_WINDOWS` windows of the held-out episodes, the same at every call."""
        return self.windows(self.held_out, HELD_OUT_WINDOWS, stream(self.seed, "held-out windows").numpy())

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


def target_return(data: Trajectories) -> float:
    """The return to ask for: a high percentile of what the data reached."""
    return float(np.percentile(data.returns, TARGET_PERCENTILE))


def held_out_split(data: Trajectories) -> tuple[Trajectories, Trajectories]:
    """Episodes to train on, and one in :data:`HELD_OUT_ONE_IN` (at least one) that are kept for the action error."""
    n = len(data.lengths)
    return data.split(n - max(1, n // HELD_OUT_ONE_IN))
