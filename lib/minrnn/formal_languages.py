"""Formal-language tasks of version 3 of the paper, parity among them, and the one-line variant that solves parity.

A model reads a string of T symbols and answers at a marker token behind it (bucket sort: at T markers). Trained on lengths 1..40
and tested on longer strings, a task shows which state-tracking a recurrence can learn *and extrapolate*.

Why parity: with a gate in (0, 1) that sees x_t only, every state converges to a value that forgets how many ones went by; a
negative eigenvalue (a_t = −1 on a one, +1 on a zero) flips a sign instead, and that is all that parity needs (Grazzi et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib.minrnn.token_data import EVALUATION, IGNORE, Batch, GeneratedData, generator_at
from lib.minrnn.token_model import Architecture, Optimisation, TokenModel, train_tokens
from lib.profiles import nearest
from lib.records import Run


@dataclass(frozen=True)
class FormalTask:
    """One task.

    Attributes:
        name: as in the official code.
        symbols: input alphabet 0..symbols−1; the next number is the marker, the one after it the mask.
        classes: answers 0..classes−1.
        answer: maps strings (B, T) to answers, (B,) or (B, T).
        prepare: draws strings (B, T) in place of uniform ones and returns them with their answers.
    """

    name: str
    symbols: int
    classes: int
    answer: Callable[[Tensor], Tensor] | None
    prepare: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]] | None = None

    @property
    def marker(self) -> int:
        """Token at which an answer is read."""
        return self.symbols

    @property
    def vocabulary(self) -> int:
        """Number of token embeddings and of outputs that a model of this task needs."""
        return max(self.symbols + 2, self.classes)


def parity(strings: Tensor) -> Tensor:
    """Number of ones modulo 2, (B, T) → (B,)."""
    return strings.sum(dim=1) % 2


def even_pairs(strings: Tensor) -> Tensor:
    """1 if the number of places where neighbours differ is even, else 0, (B, T) → (B,)."""
    return ((strings[:, 1:] != strings[:, :-1]).sum(dim=1) % 2 == 0).long()


def cycle_position(strings: Tensor) -> Tensor:
    """Position on a cycle of five after the moves −1, 0, +1 (symbols 0, 1, 2), (B, T) → (B,)."""
    return (strings - 1).sum(dim=1) % 5


def _counts(strings: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(strings, 63).sum(dim=1)  # (B, 63)


def majority(strings: Tensor) -> Tensor:
    """The most frequent of 63 symbols, the smallest such symbol in a tie, (B, T) → (B,)."""
    return _counts(strings).argmax(dim=1)


def majority_count(strings: Tensor) -> Tensor:
    """How often the most frequent symbol occurs, (B, T) → (B,)."""
    return _counts(strings).max(dim=1).values


def _missing_duplicate(batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A binary word written twice, one symbol of the copy masked (token 3): which was it?"""
    half = max(1, length // 2)
    word = torch.randint(2, (batch, half), generator=generator)
    hole = torch.randint(half, (batch, 1), generator=generator)
    copy = word.scatter(1, hole, 3)
    return torch.cat([word, copy], dim=1), word.gather(1, hole).squeeze(1)


LONGEST = 256
TASKS: dict[str, FormalTask] = {
    task.name: task
    for task in (
        FormalTask("parity_check", 2, 2, parity),
        FormalTask("even_pairs", 2, 2, even_pairs),
        FormalTask("cycle_nav", 3, 5, cycle_position),
        FormalTask("majority", 63, 63, majority),
        FormalTask("majority_count", 63, LONGEST + 1, majority_count),
        FormalTask("missing_duplicate", 2, 2, None, _missing_duplicate),
        FormalTask("bucket_sort", 10, 10, lambda strings: strings.sort(dim=1).values),
    )
}


def formal_task(name: str) -> FormalTask:
    """The task called ``name``.

    Raises:
        ValueError: for an unknown name, with the nearest one.
    """
    if name not in TASKS:
        raise ValueError(
            f"formal-language task {name!r} is not one of {', '.join(TASKS)}{nearest(name, TASKS)}"
        )
    return TASKS[name]


def formal_batch(task: FormalTask, batch: int, length: int, generator: torch.Generator) -> Batch:
    """Draw ``batch`` strings of ``length`` symbols with their answers.

    Returns:
        Tokens (batch, T + A) and targets of the same shape, where A markers follow the string (A = T for bucket sort, else 1).

    Raises:
        ValueError: for an empty batch or string.
    """
    if batch < 1 or not 1 <= length <= LONGEST:
        raise ValueError(f"need batch ≥ 1 and 1 ≤ length ≤ {LONGEST}, got batch={batch}, length={length}")
    if task.prepare is not None:
        strings, answers = task.prepare(batch, length, generator)
    else:
        assert task.answer is not None
        strings = torch.randint(task.symbols, (batch, length), generator=generator)
        answers = task.answer(strings)
    answers = answers.reshape(batch, -1)  # (B, A)
    tokens = torch.cat([strings, torch.full_like(answers, task.marker)], dim=1)
    targets = torch.cat([torch.full_like(strings, IGNORE), answers], dim=1)
    return tokens, targets


def formal_data(
    task: FormalTask, batch: int, longest: int, seed: int, test_length: int, test_sequences: int
) -> GeneratedData:
    """Training batches with one length each, uniform on 1..``longest``; evaluation strings of ``test_length``."""

    def draw(generator: torch.Generator) -> Batch:
        length = int(torch.randint(1, longest + 1, (1,), generator=generator))
        return formal_batch(task, batch, length, generator)

    return GeneratedData(
        draw, lambda generator: formal_batch(task, test_sequences, test_length, generator), seed
    )


@dataclass(frozen=True)
class FormalResult:
    """One trained model: accuracy in percent at each test length."""

    task: str
    mixer: str
    n_layers: int
    seed: int
    accuracy: dict[int, float]


def train_formal(
    run: Run[Any],
    task_name: str,
    architecture: Architecture,
    optimisation: Optimisation,
    *,
    batch: int,
    longest: int,
    test_lengths: Sequence[int],
    test_sequences: int,
    seed: int,
    checkpoint_every: int | None = None,
) -> FormalResult:
    """Train one model on strings of up to ``longest`` symbols and test it at ``test_lengths``.

    Args:
        task_name: one of :data:`TASKS`. batch: strings per step. test_sequences: strings per test length.
    """
    task = formal_task(task_name)
    torch.manual_seed(seed)
    model = TokenModel(task.vocabulary, architecture, optimisation)
    data = formal_data(task, batch, longest, seed, longest, test_sequences)
    train_tokens(
        run,
        model,
        data,
        name=f"formal-{task_name}-{architecture.mixer}-{architecture.n_layers}-seed{seed}",
        job=(task_name, batch, longest, test_sequences, seed),
        evaluate_every=optimisation.steps,
        checkpoint_every=checkpoint_every,
    )
    accuracy = {}
    for length in test_lengths:
        strings = formal_batch(task, test_sequences, length, generator_at(seed, EVALUATION, length))
        accuracy[length] = 100 * model.evaluate([strings])[0]["accuracy"]
    return FormalResult(task_name, architecture.mixer, architecture.n_layers, seed, accuracy)
