"""Sentences: reader, vocabulary, reward, judge, trigram model."""

import math

import numpy as np
import pytest
import torch

from lib.datasets import DataError
from lib.ddpp.sentences import (
    END,
    SOURCES,
    Judge,
    NegativityReward,
    Sentence,
    Trigram,
    Vocabulary,
    distinct_bigrams,
    read_sentences,
    sentence_task,
    standin_sentences,
    word_counts,
    words_of,
)


@pytest.fixture(scope="module")
def task():
    return sentence_task(standin_sentences(), vocabulary=60, length=12)


def test_reader_checks_columns_and_values(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text('source,label,text\namazon,1,"Good, really"\nyelp,0,Bad\n', encoding="utf-8")
    assert [(s.source, s.label, s.text) for s in read_sentences(path)] == [
        ("amazon", 1, "Good, really"),
        ("yelp", 0, "Bad"),
    ]
    path.write_text("source,text\namazon,Good\n", encoding="utf-8")
    with pytest.raises(DataError, match="column 'label' is missing"):
        read_sentences(path)
    path.write_text("source,label,text\namazon,2,Good\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 2"):
        read_sentences(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="empty or truncated"):
        read_sentences(path)
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        read_sentences(tmp_path / "absent.csv")


def test_words_and_round_trip():
    assert words_of("I don't LIKE it, at 10!") == ["i", "don't", "like", "it", ",", "at", "10", "!"]
    vocabulary = Vocabulary.of([["b", "a", "b"], ["c", "a", "b"]], 4)
    assert vocabulary.words == ("<pad>", "<unk>", "b", "a")
    tokens = vocabulary.encode([["a", "c", "b"], ["b"] * 9], 4)
    assert tokens.tolist() == [[3, 1, 2, 0], [2, 2, 2, 2]]
    assert vocabulary.decode(tokens) == ["a <unk> b", "b b b b"]


def test_reward_is_the_logistic_regression(task):
    tokens = task.real[:30]
    logit = word_counts(tokens, len(task.vocabulary)) @ task.reward.weights + task.reward.bias
    assert torch.allclose(task.reward.log_reward(tokens), torch.nn.functional.logsigmoid(logit), atol=1e-5)
    onehot = torch.nn.functional.one_hot(tokens, len(task.vocabulary)).float().requires_grad_(True)
    value = task.reward.log_reward_of_onehot(onehot)
    assert torch.allclose(value, task.reward.log_reward(tokens), atol=1e-5)
    value.sum().backward()
    assert not onehot.grad[..., 0].any()  # padding says nothing


def test_reward_and_judge_tell_the_classes_apart_but_are_not_the_same(task):
    held = len(task.real) // 2
    negative = np.array([0] * held + [1] * held)
    texts = task.vocabulary.decode(task.real)
    thinks = task.judge.negative(texts)
    says = task.reward.log_reward(task.real).exp().numpy()
    assert np.mean((says > 0.5) == negative) > 0.95
    assert np.mean((thinks > 0.5) == negative) > 0.95
    assert np.abs(thinks - says).max() > 0.05


def test_splits_are_as_announced(task):
    assert task.negative_share == pytest.approx(0.05, abs=0.01)
    assert len(task.real) % 2 == 0
    negative = (task.reward.log_reward(task.unseen).exp() > 0.5).float().mean()
    assert negative > 0.95  # the unseen sentences are all negative


def test_no_sentence_serves_two_ends():
    # every sentence is different, so a shared row would be a shared sentence
    made = [
        Sentence(source, label, f"w{i} {'good' if label else 'bad'}")
        for i, (source, label) in enumerate((s, y) for s in SOURCES for y in (0, 1) for _ in range(80))
    ]
    task = sentence_task(made, vocabulary=600, length=4, seed=1)
    train, real = ({tuple(row) for row in t.tolist()} for t in (task.train, task.real))
    assert not train & real
    judged = len([s for s in made if s.source == "amazon"]) // 2
    assert len(task.train) + len(task.real) + len(task.unseen) == len(made) - judged


def test_trigram_probabilities_sum_to_one(task):
    outcomes = [END, *range(len(task.vocabulary))]
    for history in ((-2, -2), (-2, 5), (5, 7), (58, 59)):
        total = sum(math.exp(task.trigram.log_prob((*history, w))) for w in outcomes)
        assert total == pytest.approx(1.0, abs=1e-9)


def test_perplexity_of_text_is_below_that_of_shuffled_words(task):
    generator = torch.Generator().manual_seed(0)
    rows = []
    for row in task.train.tolist():
        words = [w for w in row if w]
        order = torch.randperm(len(words), generator=generator).tolist()
        rows.append([words[i] for i in order] + [0] * (len(row) - len(words)))
    assert task.trigram.perplexity(task.train) < 0.3 * task.trigram.perplexity(torch.tensor(rows))


def test_perplexity_by_hand():
    tokens = torch.tensor([[2, 3, 0]] * 20)
    model = Trigram(tokens, 4)
    # every sentence is "2 3 end": weights move to the conditional laws, which are certain
    assert model.perplexity(tokens) == pytest.approx(1.0, abs=1e-3)
    assert model.weights.sum() == pytest.approx(1.0)


def test_distinct_bigrams():
    assert distinct_bigrams(torch.tensor([[2, 3, 4], [2, 3, 0]])) == pytest.approx(2 / 3)
    assert distinct_bigrams(torch.tensor([[2, 0, 0]])) == 0.0


def test_too_little_text_is_refused():
    with pytest.raises(DataError, match="too few"):
        sentence_task(standin_sentences(per_class=5), length=12)
    with pytest.raises(ValueError, match="ten sentences"):
        Trigram(torch.tensor([[1, 2]]), 4)
    with pytest.raises(ValueError, match="both classes"):
        Judge(["a", "b"], np.array([1, 1]))


def test_fit_ignores_padding():
    tokens = torch.tensor([[2, 0], [3, 0], [2, 2], [3, 3]])
    reward = NegativityReward.fit(tokens, np.array([1, 0, 1, 0]), 4)
    assert reward.weights[0] == 0
    assert reward.weights[2] > 0 > reward.weights[3]
