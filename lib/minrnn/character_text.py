"""Characters of Shakespeare (Fig. 2): the text, its split, its windows, and the losses that a model must beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.datasets import DataError
from lib.minrnn.token_data import Batch
from lib.random_streams import stream
from lib.tiny_shakespeare import TRAIN_SHARE, read_plays

# Of the training text, to train on while a learning rate is chosen on the rest.
INNER_SHARE = 0.95
STANDIN_CHARACTERS = 200_000


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
    rng = stream(seed, "stand-in text").numpy()
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


def text_from(path: Path | None, seed: int) -> CharacterText:
    """The real text at ``path``, or the stand-in of :data:`STANDIN_CHARACTERS` where ``path`` is None."""
    if path is None:
        return CharacterText.from_string(standin_text(STANDIN_CHARACTERS, seed))
    return CharacterText.from_file(path)


def inner_split(text: CharacterText) -> CharacterText:
    """The training part alone, its end as the part to choose a learning rate on; the test part is not looked at."""
    cut = int(INNER_SHARE * len(text.train))
    return CharacterText(text.alphabet, text.train[:cut], text.train[cut:])


def uniform_loss(text: CharacterText) -> float:
    """Cross-entropy in nats of guessing every character alike: ln(size of the alphabet)."""
    return math.log(len(text.alphabet))


def bigram_loss(text: CharacterText) -> float:
    """Test cross-entropy in nats of a table of add-one-smoothed character pairs counted on the training part."""
    n = len(text.alphabet)
    pairs = torch.bincount(text.train[:-1] * n + text.train[1:], minlength=n * n).reshape(n, n).double() + 1
    log_p = (pairs / pairs.sum(dim=1, keepdim=True)).log()
    return float(-log_p[text.test[:-1], text.test[1:]].mean())
