"""The controlled grammar: thirteen slots of fifty words, and the coupling k that makes a data set less compositional.

A sentence is one index in 0..49 per slot. With coupling k a fresh index is drawn for every k-th slot and shared by the
slots up to the next draw, so that groups of k neighbouring slots say one thing. The number of distinct sentences falls
from 50¹³ (k = 1) to 50⁴ (k = 4); the frequency of every single word stays uniform.

The paper's text speaks of 12 semantic categories; the released generator and every released file have the 13 slots here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.datasets import DataError
from lib.numeric_files import read_arrays
from lib.plain_files import read_json

SLOTS = (
    "quality_adjectives",
    "nationalities",
    "jobs",
    "person_to_animal_verbs",
    "size_adjectives",
    "texture_adjectives",
    "colors",
    "animals",
    "person_to_person_verbs",
    "more_size_adjectives",
    "more_quality_adjectives",
    "more_nationalities",
    "more_jobs",
)
WORDS_PER_SLOT = 50
COUPLINGS = (1, 2, 3, 4)
SPLITS = 5
RELEASED_PROMPTS = 10_000
"""Sentences of every coupling in each of the released splits."""

_Q, _N, _J, _V, _S, _T, _C, _A, _V2, _S2, _Q2, _N2, _J2 = range(13)


@dataclass(frozen=True)
class Template:
    """Which slots a sentence has, in order, and which function word stands before which of them.

    Attributes:
        slots: numbers of the slots in :data:`SLOTS`, (S,).
        before: (place in ``slots``, function word) pairs.
    """

    slots: tuple[int, ...]
    before: tuple[tuple[int, str], ...]

    @property
    def n_words(self) -> int:
        """Words of a sentence: slots and function words."""
        return len(self.slots) + len(self.before)


TEMPLATES: dict[int, Template] = {
    3: Template((_J, _V, _A), ((0, "The"), (2, "the"))),
    6: Template((_N, _J, _V, _C, _T, _A), ((0, "The"), (3, "the"))),
    9: Template((_S2, _Q, _N, _J, _V, _S, _C, _T, _A), ((0, "The"), (5, "the"))),
    11: Template(
        (_Q, _N, _J, _V, _S, _C, _T, _A, _V2, _S2, _J2), ((0, "The"), (4, "the"), (8, "then"), (9, "the"))
    ),
    13: Template(tuple(range(13)), ((0, "The"), (4, "the"), (8, "then"), (9, "the"))),
}
"""Content slots → template. 13 is the paper's grammar; the others are its length ablation (5, 8, 11 and 15 words)."""

KOLMOGOROV_TEMPLATE = Template(
    (_Q, _N, _J, _V, _S, _C, _T, _A, _V2, _S2, _Q2, _N2, _J2), TEMPLATES[13].before
)
"""The released files behind the gzip sizes have the colour before the texture."""


@dataclass(frozen=True)
class Lexicon:
    """The words: for each of the thirteen slots fifty entries, a few of two words.

    Raises:
        DataError: if there are not 13 lists of 50 distinct entries.
    """

    words: tuple[tuple[str, ...], ...]
    real: bool

    def __post_init__(self) -> None:
        if len(self.words) != len(SLOTS):
            raise DataError(f"a lexicon has {len(SLOTS)} word lists, not {len(self.words)}")
        for name, entries in zip(SLOTS, self.words, strict=True):
            if len(set(entries)) != WORDS_PER_SLOT or not all(e.strip() for e in entries):
                raise DataError(
                    f"{name}: {WORDS_PER_SLOT} distinct words are needed, got {len(set(entries))}"
                )

    @classmethod
    def from_file(cls, path: Path) -> Lexicon:
        """Read the official word lists.

        Raises:
            DataError: for a file that is not JSON or lacks a list.
        """
        raw = read_json(path, DataError)
        lists = raw.get("categories") if isinstance(raw, dict) else None
        for name in SLOTS:
            entries = lists.get(name) if isinstance(lists, dict) else None
            if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
                raise DataError(f"{path.name} lacks the word list {name!r}")
        return cls(tuple(tuple(raw["categories"][name]) for name in SLOTS), real=True)

    @classmethod
    def standin(cls, seed: int) -> Lexicon:
        """Invented words with the official lists' structure: four entries of two words, two jobs in both job lists."""
        rng = np.random.default_rng([seed, 13])
        onsets = [
            "b",
            "c",
            "d",
            "f",
            "g",
            "h",
            "k",
            "l",
            "m",
            "n",
            "p",
            "r",
            "s",
            "t",
            "v",
            "w",
            "br",
            "st",
            "tr",
        ]
        vowels, codas = "aeiou", ["", "n", "r", "s", "l"]
        seen: set[str] = set()
        lists: list[list[str]] = []
        for _ in SLOTS:
            entries: list[str] = []
            while len(entries) < WORDS_PER_SLOT:
                word = "".join(
                    onsets[rng.integers(len(onsets))] + vowels[rng.integers(5)] + codas[rng.integers(5)]
                    for _ in range(rng.integers(2, 4))
                )
                if word not in seen:
                    seen.add(word)
                    entries.append(word)
            lists.append(entries)
        lists[_J2][:2] = lists[_J][:2]
        for slot, entry in ((_V2, 10), (_N, 20), (_J, 30), (_J, 31)):
            lists[slot][entry] += " " + lists[slot][entry][::-1]
        return cls(tuple(map(tuple, lists)), real=False)

    def sentence(self, row: np.ndarray, template: Template = TEMPLATES[13]) -> list[str]:
        """The sentence of one row of indices (S,) as its words, two-word entries whole, without the full stop."""
        before = dict(template.before)
        words: list[str] = []
        for place, (slot, index) in enumerate(zip(template.slots, row, strict=True)):
            if place in before:
                words.append(before[place])
            words.append(self.words[slot][int(index)])
        return words

    def render(self, indices: np.ndarray, template: Template = TEMPLATES[13]) -> list[str]:
        """Text of the sentences (n, S): single spaces, a full stop glued to the last word.

        Raises:
            ValueError: if ``indices`` has another number of columns than the template has slots.
        """
        check_indices(indices, template)
        return [" ".join(self.sentence(row, template)) + "." for row in indices]


def check_indices(indices: np.ndarray, template: Template = TEMPLATES[13]) -> None:
    """Check that indices are (n, S) with values 0..49.

    Raises:
        ValueError: otherwise, or if there is no sentence.
    """
    if indices.ndim != 2 or indices.shape[1] != len(template.slots) or not len(indices):
        raise ValueError(f"sentences need the shape (n, {len(template.slots)}), got {indices.shape}")
    if int(indices.max()) >= WORDS_PER_SLOT or int(indices.min()) < 0:
        raise ValueError(f"word numbers lie in 0..{WORDS_PER_SLOT - 1}, got {indices.min()}..{indices.max()}")


def groups(k: int, n_slots: int = 13) -> np.ndarray:
    """Group of every slot under the coupling k, (S,): contiguous runs of k slots share an index.

    Raises:
        ValueError: for k outside 1..S.
    """
    if not 1 <= k <= n_slots:
        raise ValueError(f"k={k} must lie between 1 and the number of slots {n_slots}")
    return np.arange(n_slots) // k


def degrees_of_freedom(k: int, n_slots: int = 13) -> int:
    """G = ⌈S/k⌉, the number of independent choices of a sentence."""
    return int(groups(k, n_slots)[-1]) + 1


def entropy_bits(k: int, n_slots: int = 13) -> float:
    """Entropy of one sentence, G log₂ 50 bits: 73.4, 39.5, 28.2 and 22.6 for k = 1..4."""
    return degrees_of_freedom(k, n_slots) * math.log2(WORDS_PER_SLOT)


def draw(k: int, n: int, rng: np.random.Generator, n_slots: int = 13, distinct: bool = True) -> np.ndarray:
    """Draw n sentences of the coupling k as indices, uint8, (n, S).

    Args:
        k: coupling. n: sentences. rng: generator. n_slots: S. distinct: whether no sentence occurs twice.

    Raises:
        ValueError: for k out of range, or more distinct sentences than half of those that there are.
    """
    group = groups(k, n_slots)
    possible = WORDS_PER_SLOT ** int(group[-1] + 1)
    if not distinct:
        return rng.integers(WORDS_PER_SLOT, size=(n, group[-1] + 1), dtype=np.uint8)[:, group]
    if 2 * n > possible:
        raise ValueError(f"n={n} distinct sentences are too many: k={k} has {possible} of them")
    choices = np.empty((0, group[-1] + 1), dtype=np.uint8)
    while len(choices) < n:
        more = rng.integers(WORDS_PER_SLOT, size=(n, group[-1] + 1), dtype=np.uint8)
        choices = np.concatenate([choices, more])
        _, first = np.unique(choices, axis=0, return_index=True)
        choices = choices[np.sort(first)]
    return choices[:n][:, group]


def load_prompts(path: Path, columns: int = 13) -> dict[str, np.ndarray]:
    """The released sentences as index arrays by name (``k1_rs0``, …), each uint8 (n, S).

    Raises:
        DataError: if the file is no array archive, or an array has the wrong shape, type or values.
    """
    arrays = read_arrays(path, DataError)
    for name, array in arrays.items():
        if array.ndim != 2 or array.shape[1] != columns or len(array) == 0 or array.dtype != np.uint8:
            raise DataError(f"{path.name}: {name} has the shape {array.shape} and type {array.dtype}")
        if array.max() >= WORDS_PER_SLOT:
            raise DataError(f"{path.name}: {name} holds word numbers above {WORDS_PER_SLOT - 1}")
    if not arrays:
        raise DataError(f"{path.name} holds no array")
    return arrays


_NEUTRAL = {
    _Q: frozenset(range(0, WORDS_PER_SLOT, 2)),  # the lists of qualities alternate between praise and blame
    _Q2: frozenset(range(0, WORDS_PER_SLOT, 2)),
    _V: frozenset(
        [
            "feeds",
            "walks",
            "grooms",
            "trains",
            "bathes",
            "brushes",
            "adopts",
            "rescues",
            "observes",
            "studies",
            "photographs",
            "films",
            "sketches",
            "paints",
            "draws",
        ]
    ),
    _V2: frozenset(
        [
            "admires",
            "respects",
            "helps",
            "teaches",
            "mentors",
            "guides",
            "advises",
            "supports",
            "praises",
            "congratulates",
            "comforts",
            "inspires",
            "impresses",
            "surprises",
            "delights",
            "understands",
            "trusts",
            "protects",
        ]
    ),
}


def neutral_example(lexicon: Lexicon, indices: np.ndarray) -> str:
    """The first of the sentences (n, 13) that says nothing unkind of anyone, as text; the lists are stimuli, no statements."""
    for row in indices:
        fits = all(
            int(row[slot]) in allowed or lexicon.words[slot][int(row[slot])] in allowed
            for slot, allowed in _NEUTRAL.items()
        )
        if fits or not lexicon.real:
            return lexicon.render(row[None])[0]
    raise ValueError("none of the sentences is neutral")


def pair_information(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information of two columns of indices, in bits, by counting.

    Counting is biased upwards by about (50−1)²/(2 n ln 2) bits for independent columns.
    """
    joint = np.zeros((WORDS_PER_SLOT, WORDS_PER_SLOT))
    np.add.at(joint, (a, b), 1.0)
    joint /= joint.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log2(joint[seen] / independent[seen])).sum())
