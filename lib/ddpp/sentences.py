"""Short reviews as word sequences: the data and their splits, a reward, a judge, a perplexity, and the built-in stand-in.

Which text serves what, so that nothing is judged by what it was trained on: the diffusion model sees positive sentences and few negative ones
of all sources; the reward is fitted on yelp and imdb; the judge on a half of amazon that nothing else sees; the trigram model, whose
perplexity stands for fluency, on sentences of both classes that the diffusion model never saw.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.datasets import DataError
from lib.ddpp.rewards import Reward
from lib.numeric_files import read_rows

FILE = "ddpp/sentiment_sentences.csv"
SOURCES = ("amazon", "imdb", "yelp")
COLUMNS = ("source", "label", "text")
PAD, UNKNOWN = "<pad>", "<unk>"
END = -1  # symbol that the trigram model puts behind a sentence


@dataclass(frozen=True)
class Sentence:
    """One sentence. ``label``: 1 positive, 0 negative."""

    source: str
    label: int
    text: str


def read_sentences(path: Path) -> list[Sentence]:
    """Read the table of sentences.

    Raises:
        DataError: for a file that is no table, a missing column, an unknown source or label, or no row.
    """
    rows = read_rows(path, DataError, COLUMNS)
    for number, row in enumerate(rows, start=2):
        if row["source"] not in SOURCES or row["label"] not in ("0", "1") or not row["text"]:
            raise DataError(f"{path.name}, row {number}: source, label or text is not valid")
    return [Sentence(row["source"], int(row["label"]), row["text"]) for row in rows]


def standin_sentences(per_class: int = 300, seed: int = 0) -> list[Sentence]:
    """Generated reviews with the same sources and labels: «the food was great .», from small lists of words."""
    things = {
        "amazon": ["phone", "case", "battery", "headset", "charger", "screen"],
        "imdb": ["film", "plot", "acting", "script", "cast", "ending"],
        "yelp": ["food", "service", "place", "waiter", "pizza", "salad"],
    }
    words = {
        1: ["great", "excellent", "good", "wonderful", "amazing", "nice", "perfect", "lovely"],
        0: ["bad", "terrible", "awful", "poor", "horrible", "boring", "broken", "cold"],
    }
    patterns = (
        "the {a} was {w} .",
        "i think the {a} is {w} and {v} !",
        "{w} {a} , {w} {b} .",
        "the {a} and the {b} were very {w} .",
    )
    rng = np.random.default_rng(seed)
    made = []
    for source in SOURCES:
        for label in (0, 1):
            for _ in range(per_class):
                a, b = rng.choice(things[source], 2, replace=False)
                w, v = rng.choice(words[label], 2, replace=False)
                made.append(Sentence(source, label, str(rng.choice(patterns)).format(a=a, b=b, w=w, v=v)))
    return made


def words_of(text: str) -> list[str]:
    """Lower-case words and the marks . , ! ? of a text."""
    return re.findall(r"[a-z]+(?:'[a-z]+)?|[0-9]+|[.,!?]", text.lower())


@dataclass(frozen=True)
class Vocabulary:
    """Words by frequency; symbol 0 is the padding, 1 stands for every rarer word."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[list[str]], size: int) -> Vocabulary:
        """The ``size`` − 2 most frequent words of ``texts``, ties in alphabetical order."""
        counts = Counter(word for text in texts for word in text)
        ranked = sorted(counts, key=lambda w: (-counts[w], w))
        return cls((PAD, UNKNOWN, *ranked[: size - 2]))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, texts: Sequence[list[str]], length: int) -> Tensor:
        """Tokens (N, length) int64, padded on the right; longer texts are cut."""
        index = {word: i for i, word in enumerate(self.words)}
        rows = [[index.get(w, 1) for w in text[:length]] for text in texts]
        return torch.tensor([row + [0] * (length - len(row)) for row in rows], dtype=torch.long)

    def decode(self, tokens: Tensor) -> list[str]:
        """Texts of tokens (N, n), each up to its first padding."""
        return [" ".join(self.words[i] for i in sentence) for sentence in unpad(tokens)]


def unpad(tokens: Tensor) -> list[list[int]]:
    """Symbols of each row of (N, n) up to the first padding."""
    return [row[: row.index(0)] if 0 in row else row for row in tokens.tolist()]


class NegativityReward(Reward):
    """log p(negative | words), a logistic regression on word counts: log σ(b + Σ_i w[x_i]), with w[padding] = 0.

    Args:
        weights: w, (V,). bias: b.
    """

    def __init__(self, weights: Tensor, bias: float, exponent: float) -> None:
        super().__init__(exponent)
        self.weights, self.bias = weights, bias

    @classmethod
    def fit(
        cls, tokens: Tensor, negative: np.ndarray, n_symbols: int, exponent: float = 2.0, c: float = 1.0
    ) -> NegativityReward:
        """Fit on tokens (N, n) with labels (N,), 1 for negative."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=c, max_iter=1000).fit(
            word_counts(tokens, n_symbols)[:, 1:].numpy(), negative
        )
        weights = torch.cat([torch.zeros(1), torch.from_numpy(model.coef_[0]).float()])
        return cls(weights, float(model.intercept_[0]), exponent)

    @torch.no_grad()
    def log_reward(self, clean: Tensor) -> Tensor:
        """log p(negative) (N,) of tokens (N, n)."""
        return F.logsigmoid(self.weights.to(clean.device)[clean].sum(1) + self.bias)

    def log_reward_of_onehot(self, onehot: Tensor) -> Tensor:
        """log p(negative) (N,) of one-hot tokens (N, n, V), with gradient."""
        return F.logsigmoid((onehot @ self.weights.to(onehot)).sum(1) + self.bias)


def word_counts(tokens: Tensor, n_symbols: int) -> Tensor:
    """Counts (N, V) of each symbol in tokens (N, n)."""
    counts = torch.zeros(len(tokens), n_symbols)
    return counts.scatter_add_(1, tokens.cpu(), torch.ones(tokens.shape))


class Judge:
    """Naive Bayes on words and pairs of words, presence only: another kind of classifier than the reward, on other text."""

    def __init__(self, texts: Sequence[str], negative: np.ndarray) -> None:
        """Fit on texts, words separated by blanks, with labels (N,), 1 for negative.

        Raises:
            ValueError: if a class is missing.
        """
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.naive_bayes import BernoulliNB
        from sklearn.pipeline import make_pipeline

        if len(set(np.asarray(negative).tolist())) != 2:
            raise ValueError("the judge needs texts of both classes")
        counter = CountVectorizer(binary=True, ngram_range=(1, 2), tokenizer=str.split, token_pattern=None)
        self.model = make_pipeline(counter, BernoulliNB(alpha=0.5)).fit(list(texts), negative)

    def negative(self, texts: Sequence[str]) -> np.ndarray:
        """p(negative) (N,) of texts."""
        return self.model.predict_proba(list(texts))[:, 1]


class Trigram:
    """Interpolated trigram model: p(w | u, v) = λ₃ p₃(w | u, v) + λ₂ p₂(w | v) + λ₁ p₁(w) + λ₀ / (V + 1).

    The weights are fitted by expectation-maximisation on every tenth sentence, which the counts leave out. A history that was never seen
    lends its weight to the uniform law.

    Raises:
        ValueError: for fewer than ten sentences.
    """

    def __init__(self, tokens: Tensor, n_symbols: int, rounds: int = 20) -> None:
        sentences = unpad(tokens)
        if len(sentences) < 10:
            raise ValueError(f"a trigram model needs at least ten sentences, got {len(sentences)}")
        self.n_outcomes = n_symbols + 1
        self.counts: tuple[Counter, ...] = (Counter(), Counter(), Counter())
        self.histories: tuple[Counter, ...] = (Counter(), Counter(), Counter())
        for sentence in (s for i, s in enumerate(sentences) if i % 10):
            for u, v, w in _trigrams(sentence):
                for order, history in enumerate(((), (v,), (u, v))):
                    self.counts[order][(*history, w)] += 1
                    self.histories[order][history] += 1
        self.weights = np.full(4, 0.25)
        held = np.array([self._parts(t) for s in sentences[::10] for t in _trigrams(s)])
        for _ in range(rounds):
            share = held * self.weights
            share /= share.sum(1, keepdims=True)
            self.weights = share.mean(0)

    def _parts(self, trigram: tuple[int, int, int]) -> list[float]:
        """Uniform, unigram, bigram and trigram probability of the last symbol."""
        u, v, w = trigram
        uniform = 1.0 / self.n_outcomes
        parts = [uniform]
        for order, history in enumerate(((), (v,), (u, v))):
            total = self.histories[order][history]
            parts.append(self.counts[order][(*history, w)] / total if total else uniform)
        return parts

    def log_prob(self, trigram: tuple[int, int, int]) -> float:
        """log p(w | u, v)."""
        return math.log(float(np.dot(self._parts(trigram), self.weights)))

    def perplexity(self, tokens: Tensor) -> float:
        """exp(−mean log p) per word, the end of each sentence included, of tokens (N, n)."""
        logs = [self.log_prob(t) for sentence in unpad(tokens) for t in _trigrams(sentence)]
        return math.exp(-sum(logs) / len(logs))


def _trigrams(sentence: Sequence[int]) -> list[tuple[int, int, int]]:
    """(u, v, w) for every symbol and for the end; −2 stands before the sentence."""
    padded = [-2, -2, *sentence, END]
    return list(zip(padded, padded[1:], padded[2:]))


def distinct_bigrams(tokens: Tensor) -> float:
    """Distinct-2: different pairs of neighbouring words over all pairs, of tokens (N, n); 0 without any pair."""
    pairs = [pair for sentence in unpad(tokens) for pair in itertools.pairwise(sentence)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


@dataclass(frozen=True)
class SentenceTask:
    """What the text experiment needs.

    Attributes:
        vocabulary: V words. train: tokens (N, n) of the diffusion model, negatives down-sampled. real: tokens of both classes that the
            trigram model is fitted on, negative ones last. unseen: negative sentences that neither of the two models saw.
        reward, judge, trigram: see the module's text. reward_accuracy, judge_accuracy: on held-out sentences. negative_share: of ``train``.
    """

    vocabulary: Vocabulary
    train: Tensor
    real: Tensor
    unseen: Tensor
    reward: NegativityReward
    judge: Judge
    trigram: Trigram
    reward_accuracy: float
    judge_accuracy: float
    negative_share: float


def sentence_task(
    sentences: Sequence[Sentence],
    *,
    vocabulary: int = 1500,
    length: int = 16,
    negative_share: float = 0.05,
    exponent: float = 2.0,
    seed: int = 0,
) -> SentenceTask:
    """Split the sentences and fit reward, judge and trigram model.

    Args:
        vocabulary: V, padding and unknown word included. length: n; longer sentences are left out.
        negative_share: share of negative sentences in the diffusion model's text. exponent: of the reward (2 for Amazon reviews in the paper).

    Raises:
        DataError: if too few sentences are left.
    """
    rng = np.random.default_rng(seed)
    kept = [(s, words_of(s.text)) for s in sentences]
    kept = [(s, w) for s, w in kept if 0 < len(w) <= length]
    kept = [kept[i] for i in rng.permutation(len(kept))]
    amazon = [item for item in kept if item[0].source == "amazon"]
    judged = {id(s) for s, _ in amazon[: len(amazon) // 2]}
    pool = [item for item in kept if id(item[0]) not in judged]
    positive = [item for item in pool if item[0].label == 1]
    negative = [item for item in pool if item[0].label == 0]
    held = min(len(positive), len(negative)) // 4
    n_negative = round(negative_share * (len(positive) - held) / (1 - negative_share))
    if held < 20 or n_negative < 1 or len(negative) <= held + n_negative:
        raise DataError(
            f"{len(kept)} sentences of at most {length} words are too few for the text experiment"
        )
    seen = positive[held:] + negative[held : held + n_negative]
    held_out = positive[:held] + negative[:held]
    words = Vocabulary.of([w for _, w in seen + held_out], vocabulary)

    def encode(items: Sequence[tuple[Sentence, list[str]]]) -> Tensor:
        return words.encode([w for _, w in items], length)

    def labels(items: Sequence[tuple[Sentence, list[str]]]) -> np.ndarray:
        return np.array([1 - s.label for s, _ in items])

    reviewed = [item for item in pool if item[0].source != "amazon"]
    split = len(reviewed) * 4 // 5
    reward = NegativityReward.fit(encode(reviewed[:split]), labels(reviewed[:split]), len(words), exponent)
    says = reward.log_reward(encode(reviewed[split:])).exp().numpy() > 0.5
    own = [item for item in amazon if id(item[0]) in judged]
    cut = len(own) * 4 // 5
    judge = Judge(words.decode(encode(own[:cut])), labels(own[:cut]))
    thinks = judge.negative(words.decode(encode(own[cut:]))) > 0.5
    return SentenceTask(
        words,
        encode(seen),
        encode(held_out),
        encode(negative[held + n_negative :]),
        reward,
        judge,
        Trigram(encode(held_out), len(words)),
        float(np.mean(says == labels(reviewed[split:]))),
        float(np.mean(thinks == labels(own[cut:]))),
        n_negative / len(seen),
    )
