"""Characters of Shakespeare (Fig. 2): the text, its split, its windows, and the losses that a model must beat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lib.datasets import DataError
from lib.minrnn.mixers import CausalAttention
from lib.minrnn.token_data import (
    EVALUATION,
    Batch,
    GeneratedBatches,
    generator_at,
)
from lib.minrnn.token_model import Architecture, History, Optimisation, TokenModel, train_tokens
from lib.records import Run
from lib.tiny_shakespeare import TRAIN_SHARE, read_plays


@dataclass(frozen=True)
class CharacterText:
    """A text as numbers, split in time order.

    Attributes:
        alphabet: the distinct characters, sorted; a character's number is its place.
        train, test: character numbers, int64, (N_train,) and (N_test,): the first 90 % and the rest, without overlap.
    """

    alphabet: str
    train: Tensor
    test: Tensor

    @classmethod
    def from_string(cls, text: str) -> CharacterText:
        """Number the characters of ``text`` and split it at int(0.9·n).

        Raises:
            DataError: for a text too short to be split into two non-empty parts.
        """
        if len(text) < 2:
            raise DataError(f"the text has {len(text)} characters; at least 2 are needed")
        alphabet = "".join(sorted(set(text)))
        number = {character: i for i, character in enumerate(alphabet)}
        codes = torch.tensor([number[character] for character in text])
        cut = int(TRAIN_SHARE * len(text))
        return cls(alphabet, codes[:cut], codes[cut:])

    @classmethod
    def from_file(cls, path: Path) -> CharacterText:
        """Read a UTF-8 text file.

        Raises:
            DataError: if the file is not text, or too short to be split into two non-empty parts.
        """
        return cls.from_string(read_plays(path, least=2))

    def decode(self, codes: Tensor) -> str:
        """Character numbers (N,) as a string."""
        return "".join(self.alphabet[int(i)] for i in codes)


def standin_text(characters: int, seed: int) -> str:
    """A seeded text in the shape of a play, for use where the real file cannot be had.

    Invented words (syllables, Zipf-distributed) make up speeches under speakers' names; it has spelling and layout to learn and
    no meaning. Losses on it are not comparable with losses on Shakespeare.

    Args:
        characters: length of the text.
        seed: of the word list and of the text.
    """
    rng = np.random.default_rng([seed, 65])
    onsets, vowels, codas = (
        [*"bcdfghklmnprstvw", "th", "sh"],
        [*"aeiouy"],
        ["", "n", "r", "s", "t", "ll", "ng"],
    )

    def word() -> str:
        n = 1 + rng.integers(3)
        return "".join(
            onsets[rng.integers(18)] + vowels[rng.integers(6)] + codas[rng.integers(7)]
            for _ in range(n)  # type: ignore[call-overload]
        )

    lexicon = [word() for _ in range(1500)]
    weights = 1 / np.arange(1, 1501)
    weights /= weights.sum()
    speakers = [word().upper() for _ in range(12)]
    parts: list[str] = []
    length = 0
    while length < characters:
        lines = []
        for _ in range(1 + rng.integers(6)):  # type: ignore[call-overload]
            words = [lexicon[i] for i in rng.choice(1500, size=4 + rng.integers(5), p=weights)]  # type: ignore[call-overload]
            words[0] = words[0].capitalize()
            lines.append(" ".join(words) + ",;.!?"[rng.choice(5, p=[0.4, 0.1, 0.3, 0.1, 0.1])])
        parts.append(f"{speakers[rng.integers(12)]}:\n" + "\n".join(lines) + "\n\n")
        length += len(parts[-1])
    return "".join(parts)[:characters]


def windows(codes: Tensor, starts: Tensor, block: int) -> Batch:
    """Cut windows: inputs codes[s : s+block] and targets one character further, both (len(starts), block)."""
    index = starts[:, None] + torch.arange(block + 1)
    cut = codes[index]
    return cut[:, :-1].contiguous(), cut[:, 1:].contiguous()


class TextData(lightning.LightningDataModule):
    """Random windows of the training part, and evenly spaced windows of the test part.

    Args:
        text: the split text.
        block: characters in a window.
        batch: windows in a training step.
        seed: of the training windows.
        test_windows: number of test windows, the same for every model and seed; they do not overlap as long as
            test_windows·(block + 1) characters fit.

    Raises:
        DataError: if a part of the text is shorter than one window.
    """

    def __init__(self, text: CharacterText, block: int, batch: int, seed: int, test_windows: int) -> None:
        super().__init__()
        for name, part in (("training", text.train), ("test", text.test)):
            if len(part) < block + 1:
                raise DataError(f"the {name} text has {len(part)} characters, a window needs {block + 1}")
        self.text, self.block, self.batch, self.seed = text, block, batch, seed
        starts = torch.linspace(0, len(text.test) - block - 1, test_windows).long()
        self.evaluation = [windows(text.test, some, block) for some in starts.split(64)]

    def draw(self, generator: torch.Generator) -> Batch:
        """A batch of random training windows."""
        starts = torch.randint(len(self.text.train) - self.block, (self.batch,), generator=generator)
        return windows(self.text.train, starts, self.block)

    def train_dataloader(self) -> DataLoader[Batch]:
        first = self.trainer.global_step if self.trainer is not None else 0
        return DataLoader(GeneratedBatches(self.draw, self.seed, first), batch_size=None)


def uniform_loss(text: CharacterText) -> float:
    """Cross-entropy in nats of guessing every character alike: ln(size of the alphabet)."""
    return math.log(len(text.alphabet))


def bigram_loss(text: CharacterText) -> float:
    """Test cross-entropy in nats of a table of add-one-smoothed character pairs counted on the training part."""
    n = len(text.alphabet)
    pairs = torch.bincount(text.train[:-1] * n + text.train[1:], minlength=n * n).reshape(n, n).double() + 1
    log_p = (pairs / pairs.sum(dim=1, keepdim=True)).log()
    return float(-log_p[text.test[:-1], text.test[1:]].mean())


class LanguageModel(TokenModel):
    """A character model: next-character cross-entropy, and sampling token by token with O(1) state per step."""

    @torch.no_grad()
    def sample(self, prompt: Tensor, n: int, seed: int, temperature: float = 1.0) -> Tensor:
        """Continue ``prompt`` (P,) by ``n`` characters in recurrent mode.

        Returns:
            The continuation (n,), on the CPU.

        Raises:
            ValueError: for an empty prompt or a temperature that is not positive.
        """
        if prompt.numel() == 0 or temperature <= 0:
            raise ValueError("sampling needs a non-empty prompt and a positive temperature")
        self.eval()
        generator = generator_at(seed, EVALUATION, 0)
        logits, state = self(prompt[None].to(self.device))
        out = []
        for _ in range(n):
            p = torch.softmax(logits[0, -1].double().cpu() / temperature, dim=0)
            token = torch.multinomial(p, 1, generator=generator)
            out.append(token)
            logits, state = self(token[None].to(self.device), state)
        return torch.cat(out)


@dataclass(frozen=True)
class TextTask:
    """Windows of ``block`` characters, ``batch`` of them per step, ``test_windows`` for the test loss every ``evaluate_every`` steps."""

    block: int
    batch: int
    test_windows: int
    evaluate_every: int


@dataclass(frozen=True)
class TextResult:
    """One trained language model.

    Attributes:
        model: name in the figures. seed: of weights and windows. learning_rate: peak rate. history: test losses.
        parameters: trainable numbers. tokens_per_step: characters read by one step.
        flops_per_token: floating-point operations of forward and backward per character, see :func:`flops_per_token`.
        sample: a continuation by the trained model.
    """

    model: str
    seed: int
    learning_rate: float
    history: History
    parameters: int
    tokens_per_step: int
    flops_per_token: float
    sample: str


def flops_per_token(model: LanguageModel, block: int) -> float:
    """6 per weight of a matrix (a multiply and an add, forward once, backward twice), and for attention 12·T·d_h per layer.

    Element-wise work and scans are left out: they are smaller by a factor of the width.
    """
    matrices = sum(
        m.weight.numel()
        for m in model.modules()
        if isinstance(m, (nn.Linear, nn.Conv1d)) and m.weight is not None
    )
    attention = sum(
        12 * block * m.project_out.in_features for m in model.modules() if isinstance(m, CausalAttention)
    )
    return float(6 * matrices + attention)


def text_from(path: Path | None, standin_characters: int, seed: int) -> CharacterText:
    """The real text at ``path``, or the seeded stand-in where ``path`` is None."""
    if path is None:
        return CharacterText.from_string(standin_text(standin_characters, seed))
    return CharacterText.from_file(path)


def inner_split(text: CharacterText) -> CharacterText:
    """The training part alone, its last 5 % as the part to choose a learning rate on; the test part is not looked at."""
    cut = int(0.95 * len(text.train))
    return CharacterText(text.alphabet, text.train[:cut], text.train[cut:])


def train_language_model(
    run: Run[Any],
    name: str,
    text: CharacterText,
    task: TextTask,
    architecture: Architecture,
    optimisation: Optimisation,
    seed: int,
    sample_characters: int = 0,
    checkpoint_every: int | None = None,
    experiment: str = "text",
) -> TextResult:
    """Train one model on windows of ``text`` and measure its test loss along the way.

    Args:
        name: of the model in the figures. sample_characters: length of the continuation to sample at the end, 0 for none.
        experiment: what the training is part of; with model, rate and seed it names the checkpoints.
    """
    if architecture.mixer == "attention":
        architecture = replace(architecture, max_positions=task.block)
    torch.manual_seed(seed)
    model = LanguageModel(len(text.alphabet), architecture, optimisation)
    data = TextData(text, task.block, task.batch, seed, task.test_windows)
    (history,) = train_tokens(
        run,
        model,
        data,
        name=f"{experiment}-{name}-rate{optimisation.learning_rate}-seed{seed}",
        job=(text, task, seed),
        evaluate_every=task.evaluate_every,
        checkpoint_every=checkpoint_every,
    )
    sample = ""
    if sample_characters:
        prompt = text.test[: task.block // 2]
        if architecture.max_positions:  # a model with learned positions cannot go past the last of them
            sample_characters = min(sample_characters, task.block - len(prompt))
        sample = text.decode(model.sample(prompt, sample_characters, seed))
    return TextResult(
        name,
        seed,
        optimisation.learning_rate,
        history,
        sum(p.numel() for p in model.parameters()),
        task.batch * task.block,
        flops_per_token(model, task.block),
        sample,
    )


def choose_learning_rate(
    run: Run[Any],
    name: str,
    text: CharacterText,
    task: TextTask,
    architecture: Architecture,
    optimisation: Optimisation,
    rates: Sequence[float],
    seed: int,
    checkpoint_every: int | None = None,
) -> float:
    """The rate with the lowest loss on the inner split (:func:`inner_split`); a single rate is taken as it is.

    Every model is tried with the same rates, steps and seed.
    """
    if len(rates) == 1:
        return rates[0]
    losses = []
    for rate in rates:
        trial = replace(optimisation, learning_rate=rate)
        result = train_language_model(
            run,
            name,
            inner_split(text),
            task,
            architecture,
            trial,
            seed,
            checkpoint_every=checkpoint_every,
            experiment="rate",
        )
        losses.append(result.history.loss[-1])
    return rates[losses.index(min(losses))]


def language_model_job(
    run: Run[Any],
    name: str,
    path: Path | None,
    task: TextTask,
    architecture: Architecture,
    optimisation: Optimisation,
    rates: tuple[float, ...],
    seeds: tuple[int, ...],
    sample_characters: int = 0,
    checkpoint_every: int | None = None,
) -> list[TextResult]:
    """Choose the learning rate of one model with the first seed, then train it with every seed."""
    text = text_from(path, 200_000, run.seed)
    rate = choose_learning_rate(
        run, name, text, task, architecture, optimisation, rates, seeds[0], checkpoint_every
    )
    chosen = replace(optimisation, learning_rate=rate)
    return [
        train_language_model(
            run,
            name,
            text,
            task,
            architecture,
            chosen,
            seed,
            sample_characters if seed == seeds[0] else 0,
            checkpoint_every,
        )
        for seed in seeds
    ]
