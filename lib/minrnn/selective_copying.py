"""Selective copying (Gu & Dao 2023; Tables 1 and 2 of the paper): remember M tokens scattered over T positions.

Vocabulary of 16: token 15 is blank, 0 asks for an answer, 1..14 are data. A sequence holds M data tokens at random positions
among T, blanks elsewhere, then M tokens 0; the targets are the data tokens in order, read at the last M outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lib.minrnn.token_data import IGNORE, Batch, GeneratedData

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
        raise ValueError(f"selective copying needs batch ≥ 1 and 1 ≤ M ≤ T, got batch={batch}, M={n_data}, T={length}")
    data = torch.randint(1, N_DATA_SYMBOLS + 1, (batch, n_data), generator=generator)
    # the M smallest of T uniform numbers lie at a uniformly drawn set of M positions
    positions = torch.rand(batch, length, generator=generator).topk(n_data, largest=False).indices.sort().values
    tokens = torch.full((batch, length + n_data), BLANK)
    tokens.scatter_(1, positions, data)
    tokens[:, length:] = PREDICT
    targets = torch.full_like(tokens, IGNORE)
    targets[:, length:] = data
    return tokens, targets


def copying_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over the batch and the M answers of [argmax logits = token]; chance is 1/14.

    Args:
        logits: (B, T + M, 16). targets: (B, T + M), :data:`IGNORE` where no answer is asked for.
    """
    asked = targets != IGNORE
    return (logits.argmax(-1)[asked] == targets[asked]).float().mean()


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
