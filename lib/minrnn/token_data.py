"""Batches of generated tokens: an endless seeded stream for training and a fixed set for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lib.random_streams import stream

IGNORE = -100
"""Target at positions where no answer is asked for; cross-entropy and accuracy leave them out."""

Batch = tuple[Tensor, Tensor]
"""Tokens (B, T) and targets (B, T), both int64."""

BatchSource = Callable[[torch.Generator], Batch]
TRAINING, EVALUATION = "training data", "evaluation data"


def generator_at(seed: int, purpose: str, step: int) -> torch.Generator:
    """The generator of one batch: a function of (seed, purpose, step) alone."""
    return stream(seed, purpose, step).torch()


class GeneratedBatches(IterableDataset[Batch]):
    """An endless stream. The batch of step k depends on (seed, k) only, so a resumed training goes on with fresh data."""

    def __init__(self, draw: BatchSource, seed: int, first_step: int = 0) -> None:
        self.draw, self.seed, self.first_step = draw, seed, first_step

    def __iter__(self) -> Iterator[Batch]:
        step = self.first_step
        while True:
            yield self.draw(generator_at(self.seed, TRAINING, step))
            step += 1


class GeneratedData(lightning.LightningDataModule):
    """Fresh generated batches at every training step, and one fixed evaluation set.

    Args:
        draw: makes a training batch from a generator.
        draw_evaluation: makes an evaluation batch from a generator.
        seed: of both streams, which never meet.
        evaluation_batches: number of evaluation batches.
    """

    def __init__(
        self, draw: BatchSource, draw_evaluation: BatchSource, seed: int, evaluation_batches: int = 1
    ) -> None:
        super().__init__()
        self.draw, self.seed = draw, seed
        self.evaluation = [
            draw_evaluation(generator_at(seed, EVALUATION, i)) for i in range(evaluation_batches)
        ]

    def stream(self, first_step: int = 0) -> GeneratedBatches:
        """The training batches from step ``first_step`` on."""
        return GeneratedBatches(self.draw, self.seed, first_step)

    def train_dataloader(self) -> DataLoader[Batch]:
        first = self.trainer.global_step if self.trainer is not None else 0
        return DataLoader(self.stream(first), batch_size=None)
