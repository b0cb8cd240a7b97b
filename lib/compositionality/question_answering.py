"""The language of the small model: a sentence of the grammar, then questions about it that only its content answers.

Next-word prediction on the grammar alone would be useless: words are uniform, so nothing of a sentence's content need be
kept. Here a document is [bos], the sentence with its full stop, and pairs of a question (which slot?) and its answer (the
word in that slot). Whoever predicts the answers must represent what the sentence says. Their accuracy is the model's
skill, the analogue of a zero-shot benchmark; chance is 1/50.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.compositionality.grammar import TEMPLATES, WORDS_PER_SLOT, Lexicon, Template, check_indices

BOS, STOP = 0, 1
CHANCE = 1 / WORDS_PER_SLOT


@dataclass(frozen=True)
class Language:
    """Words as numbers, and the documents made of them.

    Attributes:
        template: of the sentences, S slots and W words.
        tokens: names of all tokens; two-word entries are one token.
        slot_tokens: token of every word of every slot of the template, int64, (S, 50).
        layout: token of every place of a sentence, −1 where a slot's word stands, int64, (W,).
        slot_places: place of every slot in the sentence, int64, (S,).
        query_tokens: token of the question for every slot, int64, (S,).
    """

    template: Template
    tokens: tuple[str, ...]
    slot_tokens: np.ndarray
    layout: np.ndarray
    slot_places: np.ndarray
    query_tokens: np.ndarray

    @classmethod
    def build(cls, lexicon: Lexicon, template: Template = TEMPLATES[13]) -> Language:
        """Number the words of ``lexicon`` that ``template`` uses; a word of two lists gets one number."""
        tokens = ["[bos]", ".", *dict.fromkeys(word for _, word in template.before)]
        tokens += dict.fromkeys(word for slot in template.slots for word in lexicon.words[slot])
        number = {token: i for i, token in enumerate(tokens)}
        slot_tokens = np.array([[number[word] for word in lexicon.words[slot]] for slot in template.slots])
        before = dict(template.before)
        layout: list[int] = []
        places: list[int] = []
        for place in range(len(template.slots)):
            if place in before:
                layout.append(number[before[place]])
            places.append(len(layout))
            layout.append(-1)
        queries = len(tokens) + np.arange(len(template.slots))
        names = (*tokens, *(f"[slot {i}?]" for i in range(len(template.slots))))
        return cls(template, names, slot_tokens, np.array(layout), np.array(places), queries)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def sentence_length(self) -> int:
        """Tokens of a sentence with its full stop, W + 1."""
        return len(self.layout) + 1

    def document_length(self, questions: int) -> int:
        """Tokens of a document: [bos], sentence, and two for every question."""
        return 1 + self.sentence_length + 2 * questions

    def sentences(self, indices: np.ndarray) -> np.ndarray:
        """Tokens of the sentences (n, S) with their full stops, without [bos], int64, (n, W + 1).

        Raises:
            ValueError: for indices of the wrong shape or range.
        """
        check_indices(indices, self.template)
        out = np.tile(np.append(self.layout, STOP), (len(indices), 1))
        out[:, self.slot_places] = self.slot_tokens[np.arange(len(self.slot_places)), indices]
        return out

    def documents(self, n: int, questions: int, rng: np.random.Generator) -> np.ndarray:
        """n documents about uniform sentences (k = 1), slots asked without replacement, int64, (n, document_length).

        Raises:
            ValueError: for more questions than slots.
        """
        slots = len(self.template.slots)
        if not 0 <= questions <= slots:
            raise ValueError(f"questions={questions} must lie between 0 and the number of slots {slots}")
        indices = rng.integers(WORDS_PER_SLOT, size=(n, slots))
        asked = rng.random((n, slots)).argsort(axis=1)[:, :questions]
        pairs = np.empty((n, 2 * questions), dtype=np.int64)
        pairs[:, 0::2] = self.query_tokens[asked]
        pairs[:, 1::2] = self.slot_tokens[asked, np.take_along_axis(indices, asked, axis=1)]
        return np.concatenate([np.full((n, 1), BOS), self.sentences(indices), pairs], axis=1)

    def answer_places(self, questions: int) -> np.ndarray:
        """Places in a document whose *next* token is an answer, (questions,)."""
        return 1 + self.sentence_length + 2 * np.arange(questions)
