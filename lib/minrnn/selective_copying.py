"""Selective copying (Gu & Dao 2023; Tables 1 and 2 of the paper): remember M tokens scattered over T positions.

Vocabulary of 16: token 15 is blank, 0 asks for an answer, 1..14 are data. A sequence holds M data tokens at random positions
among T, blanks elsewhere, then M tokens 0; the targets are the data tokens in order, read at the last M outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.minrnn.mixers import MinGRU
from lib.minrnn.seed_stack import SeedStack, StackedBatches, stackable
from lib.minrnn.token_data import IGNORE, Batch, GeneratedData
from lib.minrnn.token_model import Architecture, History, Optimisation, TokenModel, train_tokens
from lib.records import Run

VOCABULARY = 16
BLANK = 15
PREDICT = 0
N_DATA_SYMBOLS = 14
CHANCE = 1 / N_DATA_SYMBOLS


def copying_batch(batch: int, length: int, n_data: int, generator: torch.Generator) -> Batch:
    """Draw a batch of selective copying.

    Args:
        batch: sequences. length: T, positions among which the data are scattered. n_data: M, data tokens.
        generator: draws tokens (with replacement) and positions (without).

    Returns:
        Tokens and targets, both (batch, T + M); targets are :data:`IGNORE` except at the last M places.

    Raises:
        ValueError: unless 1 ≤ M ≤ T and batch ≥ 1.
    """
    if batch < 1 or not 1 <= n_data <= length:
        raise ValueError(
            f"selective copying needs batch ≥ 1 and 1 ≤ M ≤ T, got batch={batch}, M={n_data}, T={length}"
        )
    data = torch.randint(1, N_DATA_SYMBOLS + 1, (batch, n_data), generator=generator)
    # the M smallest of T uniform numbers lie at a uniformly drawn set of M positions
    positions = (
        torch.rand(batch, length, generator=generator).topk(n_data, largest=False).indices.sort().values
    )
    tokens = torch.full((batch, length + n_data), BLANK)
    tokens.scatter_(1, positions, data)
    tokens[:, length:] = PREDICT
    targets = torch.full_like(tokens, IGNORE)
    targets[:, length:] = data
    return tokens, targets


def copying_data(
    batch: int, length: int, n_data: int, seed: int, evaluation_sequences: int, evaluation_batch: int = 512
) -> GeneratedData:
    """Fresh training batches and a fixed evaluation set of ``evaluation_sequences`` sequences of their own.

    Args:
        batch: training sequences per step. length: T. n_data: M. seed: of both streams.
        evaluation_sequences: size of the evaluation set, in batches of at most ``evaluation_batch``.
    """
    size = min(evaluation_batch, evaluation_sequences)
    return GeneratedData(
        lambda generator: copying_batch(batch, length, n_data, generator),
        lambda generator: copying_batch(size, length, n_data, generator),
        seed,
        evaluation_batches=-(-evaluation_sequences // size),
    )


@dataclass(frozen=True)
class CopyingTask:
    """Size of the task: T, M, training sequences per step, evaluation sequences and steps between evaluations."""

    length: int
    n_data: int
    batch: int
    evaluation_sequences: int
    evaluate_every: int


@dataclass(frozen=True)
class CopyingResult:
    """One trained model.

    Attributes:
        architecture: with the member's own options. seed: of weights and data. history: evaluations on its own fixed set.
        parameters: trainable numbers. sequence, openings: for minGRU, one evaluation sequence (T + M,) and the mean over
            channels of its gate z_t in each layer, (layers, T + M).
    """

    architecture: Architecture
    seed: int
    history: History
    parameters: int
    sequence: np.ndarray | None = None
    openings: np.ndarray | None = None

    @property
    def accuracy(self) -> float:
        """Accuracy at the last evaluation, in percent."""
        return 100 * self.history.accuracy[-1]


Variant = tuple[tuple[str, Any], ...]


def train_copying(
    run: Run[Any],
    task: CopyingTask,
    architecture: Architecture,
    optimisation: Optimisation,
    seeds: Sequence[int],
    variants: Sequence[Variant] = ((),),
    checkpoint_every: int | None = None,
    experiment: str = "copying",
) -> list[CopyingResult]:
    """Train one architecture with every seed and every variant of its options.

    Seeds and variants of minGRU and minLSTM train as one stack; other mixers train one by one, in the same way otherwise.

    Args:
        variants: further mixer options that change initial values only, e.g. ``((("forget_bias", 3.0),), …)``.
        experiment: what the training is part of; with length, mixer, layers and seed it names the checkpoints.
    """
    members = [
        (seed, replace(architecture, options=(*architecture.options, *variant)))
        for variant in variants
        for seed in seeds
    ]
    models, data = [], []
    for seed, member in members:
        torch.manual_seed(seed)
        models.append(TokenModel(VOCABULARY, member, optimisation))
        data.append(copying_data(task.batch, task.length, task.n_data, seed, task.evaluation_sequences))
    label = f"{experiment}-T{task.length}-{architecture.mixer}-{architecture.n_layers}"
    every = {"evaluate_every": task.evaluate_every, "checkpoint_every": checkpoint_every}
    if len(models) > 1 and stackable(models[0]):
        stack = SeedStack(models)
        histories = train_tokens(
            run,
            stack,
            StackedBatches(data),
            name=label,
            job=(task, members),
            **every,  # type: ignore[arg-type]
        )
        pictures = gate_openings(stack, data[0].evaluation[0][0][:1].expand(len(models), -1))
    else:
        histories, pictures = [], []
        for (seed, member), model, own in zip(members, models, data, strict=True):
            changed = "".join(
                f"-{option}{value}" for option, value in member.options[len(architecture.options) :]
            )
            name = f"{label}{changed}-seed{seed}"
            histories += train_tokens(run, model, own, name=name, job=(task, seed), **every)  # type: ignore[arg-type]
            pictures += gate_openings(model, data[0].evaluation[0][0][:1])
    sequence = data[0].evaluation[0][0][0].numpy()
    return [
        CopyingResult(
            member,
            seed,
            history,
            sum(p.numel() for p in model.parameters()),
            None if picture is None else sequence,
            picture,
        )
        for (seed, member), model, history, picture in zip(members, models, histories, pictures, strict=True)
    ]


@torch.no_grad()
def gate_openings(model: nn.Module, tokens: Tensor) -> list[np.ndarray | None]:
    """Mean gate z_t over the channels of each minGRU layer, one array (layers, T) per row of ``tokens`` (rows, T).

    z = 1 writes the candidate into the state, z = 0 keeps the state. None where the layers are not minGRU.
    """
    layers = [m for m in model.modules() if isinstance(m, MinGRU)]
    if not layers:
        return [None] * len(tokens)
    seen: list[Tensor] = []
    hooks = [
        layer.project_in.register_forward_hook(lambda _, __, out: seen.append(out.chunk(2, dim=-1)[0]))
        for layer in layers
    ]
    try:
        model(tokens.to(next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    openings = torch.stack([torch.sigmoid(k).mean(-1) for k in seen])  # (layers, rows, T)
    return [openings[:, i].cpu().numpy() for i in range(len(tokens))]
