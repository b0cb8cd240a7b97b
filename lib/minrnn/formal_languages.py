"""Formal-language tasks of version 3 of the paper, parity among them, and the one-line variant that solves parity.

A model reads a string of T symbols and answers at a marker token behind it (bucket sort: at T markers). Trained on lengths 1..40
and tested on longer strings, a task shows which state-tracking a recurrence can learn *and extrapolate*.

Why parity: with a gate in (0, 1) that sees x_t only, every state converges to a value that forgets how many ones went by; a
negative eigenvalue (a_t = −1 on a one, +1 on a zero) flips a sign instead, and that is all that parity needs (Grazzi et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib.minrnn.token_data import IGNORE, Batch, GeneratedData
from lib.minrnn.token_model import Architecture, Optimisation, TokenModel, train_tokens
from lib.profiles import nearest, setting, settings_class
from lib.random_streams import stream

if TYPE_CHECKING:
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


@settings_class
class FormalSettings:
    """Sizes of the tasks and of a training on them."""

    tasks: tuple[str, ...] = setting(
        ("parity_check",), "names", "formal-language tasks", "seven tasks (v3)", among=TASKS, distinct=True
    )
    width: int = setting(32, "channels", "width", 256, least=1)
    steps: int = setting(700, "steps", "optimiser steps", 500_000, least=1)
    batch: int = setting(64, "strings", "strings per step", 128, least=1)
    learning_rate: float = setting(5e-3, "1", "AdamW's rate, constant after the warm-up", 3e-4, above=0)
    warmup: int = setting(20, "steps", "linear warm-up of the rate", least=0)
    longest: int = setting(40, "symbols", "longest training string", 40, least=1, most=LONGEST)
    test_lengths: tuple[int, ...] = setting(
        (20, 40, 100, 256), "symbols", "test lengths", "40..256", least=1, most=LONGEST, distinct=True
    )
    test_sequences: int = setting(256, "strings", "test strings of each length", least=1)
    seeds: int = setting(3, "seeds", "repetitions of every model", least=1)


def formal_data(task: FormalTask, settings: FormalSettings, seed: int) -> GeneratedData:
    """Training batches with one length each, uniform on 1..``longest``; evaluation strings of the longest such length."""

    def draw(generator: torch.Generator) -> Batch:
        length = int(torch.randint(1, settings.longest + 1, (1,), generator=generator))
        return formal_batch(task, settings.batch, length, generator)

    return GeneratedData(
        draw,
        lambda generator: formal_batch(task, settings.test_sequences, settings.longest, generator),
        seed,
    )


@dataclass(frozen=True)
class FormalResult:
    """One trained model.

    Attributes:
        lengths: test lengths. accuracy: in percent, at each of them.
    """

    task: str
    mixer: str
    n_layers: int
    seed: int
    lengths: tuple[int, ...]
    accuracy: tuple[float, ...]

    def accuracy_at(self, length: int) -> float:
        """Accuracy in percent at one of the test lengths."""
        return self.accuracy[self.lengths.index(length)]


def train_formal(
    run: Run[Any], settings: FormalSettings, task_name: str, mixer: str, n_layers: int, seed: int
) -> FormalResult:
    """Train one model on strings of up to ``longest`` symbols and test it at the test lengths.

    The official setting clips no gradients; short trainings at a higher rate keep the clipping.

    Args:
        task_name: one of :data:`TASKS`. seed: of weights, training strings and test strings, each a stream of its own.
    """
    task = formal_task(task_name)
    architecture = Architecture(mixer, n_layers, settings.width)
    optimisation = Optimisation(settings.steps, settings.learning_rate, settings.warmup)
    with stream(seed, "initialisation").as_global():
        model = TokenModel(task.vocabulary, architecture, optimisation)
    train_tokens(
        run,
        model,
        formal_data(task, settings, seed),
        name=f"formal-{task_name}-{mixer}-{n_layers}-seed{seed}",
        job=(task_name, settings, seed),
        evaluate_every=settings.steps,
    )
    accuracy = []
    for length in settings.test_lengths:
        generator = stream(seed, "test strings", length).torch()
        strings = formal_batch(task, settings.test_sequences, length, generator)
        accuracy.append(100 * model.evaluate([strings])[0]["accuracy"])
    return FormalResult(task_name, mixer, n_layers, seed, settings.test_lengths, tuple(accuracy))
