"""A control with natural text: a model of characters that has read Shakespeare, and never the grammar or its word lists.

The same transformer, trained to predict the next character of a play, is shown the same sentences as text. What order in k
it has cannot come from a training on such sentences. A control, not a stand-in for a model of the hub: one megabyte of text is no
training corpus of such a model. Skill is the share of next characters of held-out text whose logit is the largest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lib.compositionality.geometry import Tables, checkpoint_tables
from lib.compositionality.grammar import Lexicon
from lib.compositionality.language_model import GPT, GPTConfig
from lib.compositionality.shuffles import MODES, shuffle_lines
from lib.records import Run
from lib.tiny_shakespeare import TRAIN_SHARE
from lib.training import fit, make_trainer

WINDOW = 192
"""Characters of a training window; the longest sentence of the grammar has fewer."""

SHORTEST = 10 * (WINDOW + 1) + 1
"""Characters that a corpus needs, so that its last tenth holds a window and the character after it."""

_TRAINING, _HELD_OUT, _STANDIN = 3, 4, 5
_SYLLABLES = [c + v for c in "bdfghklmnprst" for v in "aeiou"]


@dataclass(frozen=True)
class Characters:
    """The characters of a corpus, and of the sentences that will be shown.

    Attributes:
        alphabet: distinct characters, sorted; a character's number is its place.
    """

    alphabet: str

    def encode(self, text: str) -> Tensor:
        """Numbers of the characters, int64, (T,).

        Raises:
            ValueError: for a character outside the alphabet.
        """
        unknown = sorted(set(text) - set(self.alphabet))
        if unknown:
            raise ValueError(f"the alphabet lacks {unknown[0]!r}")
        number = {character: i for i, character in enumerate(self.alphabet)}
        return torch.tensor([number[character] for character in text])


def standin_text(seed: int, words: int = 20_000) -> str:
    """Sentences of invented words with Zipf's frequencies, for use where the real text cannot be had."""
    rng = np.random.default_rng([seed, _STANDIN])
    lexicon = ["".join(rng.choice(_SYLLABLES, rng.integers(1, 4))) for _ in range(500)]
    frequency = 1 / np.arange(1, len(lexicon) + 1)
    chosen = rng.choice(lexicon, words, p=frequency / frequency.sum())
    lines = [" ".join(chosen[i : i + 8]).capitalize() + ".\n" for i in range(0, words, 8)]
    return "".join(lines)


class _Windows(IterableDataset[Tensor]):
    """Endless batches of windows at random places; the batch of step i depends on the seed and i alone."""

    def __init__(self, codes: Tensor, batch: int, seed: int, first: int) -> None:
        self.codes, self.batch, self.seed, self.first = codes, batch, seed, first

    def __iter__(self) -> Iterator[Tensor]:
        step = self.first
        while True:
            yield windows(self.codes, self.batch, np.random.default_rng([self.seed, _TRAINING, step]))
            step += 1


def windows(codes: Tensor, n: int, rng: np.random.Generator) -> Tensor:
    """n windows of codes (T,) at random places, one character longer than the model reads, (n, WINDOW + 1)."""
    starts = torch.as_tensor(rng.integers(len(codes) - WINDOW, size=(n, 1)))
    return codes[starts + torch.arange(WINDOW + 1)]


class TextData(lightning.LightningDataModule):
    """Windows of the first 90 % for training, and held-out ones of the rest for loss and skill."""

    def __init__(self, codes: Tensor, batch: int, seed: int, n_held_out: int = 64) -> None:
        super().__init__()
        cut = int(TRAIN_SHARE * len(codes))
        self.codes, self.batch, self.seed = codes[:cut], batch, seed
        self.held_out = windows(codes[cut:], n_held_out, np.random.default_rng([seed, _HELD_OUT]))

    def train_dataloader(self) -> DataLoader[Tensor]:
        first = self.trainer.global_step if self.trainer is not None else 0
        return DataLoader(_Windows(self.codes, self.batch, self.seed, first), batch_size=None)


def states_of_lines(model: GPT, characters: Characters, lines: Sequence[str]) -> tuple[Tensor, np.ndarray]:
    """States at the last character of every line, (L, n, D), and that character's number, (n,).

    Lines of one length go through the model together, so that nothing is padded.
    """
    codes = [characters.encode(line) for line in lines]
    lengths = np.array([len(code) for code in codes])
    out = torch.empty(len(model.blocks), len(lines), model.config.width, device=model.device)
    for length in np.unique(lengths):
        here = np.flatnonzero(lengths == length)
        tokens = torch.stack([codes[i] for i in here])
        out[:, torch.as_tensor(here, device=out.device)] = model.layers_at_last_token(tokens, batch=64)
    return out, np.array([int(code[-1]) for code in codes])


def text_job(
    run: Run[Any],
    config: GPTConfig,
    text: str,
    lexicon: Lexicon,
    prompts: Mapping[int, np.ndarray],
    n: int,
    seed: int,
    checkpoint_every: int | None = None,
) -> Tables:
    """Train one model of characters and measure it before and after.

    Args:
        run: device and output folder. config: sizes; ``batch`` counts windows. text: the corpus. prompts: k → indices (≥ n, S).
        n: sentences of a set. seed: of weights, windows and shuffles. checkpoint_every: steps between checkpoints for a resume.
    """
    lines = {
        (mode, k): shuffle_lines(
            lexicon.render(rows[:n]), mode, np.random.default_rng([seed, k, MODES.index(mode)])
        )
        for mode in ("coherent", "glued", "dot")
        for k, rows in prompts.items()
    }
    characters = Characters("".join(sorted(set(text).union(*(set("".join(own)) for own in lines.values())))))
    torch.manual_seed(seed)
    model = GPT(len(characters.alphabet), WINDOW, config, np.arange(WINDOW))
    data = TextData(characters.encode(text), config.batch, seed)
    trainer = make_trainer(
        run,
        max_steps=config.steps,
        name=f"text-{config.width}-seed{seed}",
        job=(config, text, lexicon, prompts, n, seed),
        gradient_clip=config.clip,
        checkpoint_every=checkpoint_every,
    )
    labels = {"model": "characters", "width": config.width, "seed": seed, "words": 17}
    tables = Tables()

    def measure(step: int) -> None:
        here = {**labels, "step": step}
        loss, skill = model.to(run.device).evaluate(data.held_out)
        tables.history.append({**here, "loss": loss, "skill": skill})
        tables.extend(
            checkpoint_tables(
                lambda mode, k: states_of_lines(model, characters, lines[mode, k]),
                ("coherent", "glued", "dot"),
                tuple(prompts),
                here,
                deep=False,
            )
        )

    measure(0)
    fit(trainer, model, data)
    measure(config.steps)
    return tables
