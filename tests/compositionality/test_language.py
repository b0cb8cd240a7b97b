"""Documents, the bag of words, the small model: what it sees, and which state is taken out of it."""

import numpy as np
import pytest
import torch

from lib.compositionality.bag_of_words import bag_of_words
from lib.compositionality.grammar import COUPLINGS, TEMPLATES, Lexicon, draw
from lib.compositionality.intrinsic_dimension import intrinsic_dimension
from lib.compositionality.language_model import DocumentData, GPTConfig, make_gpt
from lib.compositionality.question_answering import BOS, STOP, Language
from lib.compositionality.shuffles import MODES, shuffle_tokens

LEXICON = Lexicon.standin(0)
LANGUAGE = Language.build(LEXICON)
CONFIG = GPTConfig(width=32, layers=2, steps=4, batch=8)


def test_sentences_are_the_lexicons_words() -> None:
    indices = draw(1, 20, np.random.default_rng(0))
    tokens = LANGUAGE.sentences(indices)
    assert tokens.shape == (20, 18)
    for row, index in zip(tokens, indices, strict=True):
        assert [LANGUAGE.tokens[t] for t in row] == [*LEXICON.sentence(index), "."]


@pytest.mark.parametrize("slots", sorted(TEMPLATES))
def test_documents_ask_every_slot_at_most_once_and_answer_truly(slots: int) -> None:
    language = Language.build(LEXICON, TEMPLATES[slots])
    questions = min(6, slots)
    documents = language.documents(200, questions, np.random.default_rng(1))
    assert documents.shape == (200, language.document_length(questions))
    assert (documents[:, 0] == BOS).all()
    assert (documents[:, language.sentence_length] == STOP).all()
    asked = documents[:, 1 + language.sentence_length :: 2] - language.query_tokens[0]
    answers = documents[:, 2 + language.sentence_length :: 2]
    assert all(len(set(row)) == questions for row in asked)
    said = np.take_along_axis(documents, 1 + language.slot_places[asked], axis=1)
    assert (said == answers).all()
    places = language.answer_places(questions)
    assert (documents[:, places + 1] == answers).all()
    assert documents.max() < language.size == len(set(language.tokens))


def test_bag_of_words_does_not_see_order_and_orders_by_k() -> None:
    ids = []
    for k in COUPLINGS:
        tokens = LANGUAGE.sentences(draw(k, 1500, np.random.default_rng(k)))
        bag = bag_of_words(tokens, LANGUAGE.size, 48, seed=0)
        for mode in MODES:
            shuffled = shuffle_tokens(tokens, mode, np.random.default_rng(5))
            assert torch.equal(bag_of_words(shuffled, LANGUAGE.size, 48, seed=0), bag)
        ids.append(float(intrinsic_dimension(bag)))
    assert ids == sorted(ids, reverse=True)
    assert ids[0] == pytest.approx(
        29.3, abs=4
    )  # the prototype's value for the official prompts; a lattice, not 13
    assert ids[-1] == pytest.approx(12.9, abs=3)
    with pytest.raises(ValueError, match="values in"):
        bag_of_words(np.array([[5]]), 5, 4, seed=0)


def test_changing_later_tokens_leaves_earlier_states() -> None:
    model = make_gpt(LANGUAGE, CONFIG, 0)
    tokens = torch.as_tensor(LANGUAGE.documents(5, 6, np.random.default_rng(2)))
    changed = tokens.clone()
    changed[:, 10:] = torch.as_tensor(LANGUAGE.documents(5, 6, np.random.default_rng(3)))[:, 10:]
    for before, after in zip(model.residual_stream(tokens), model.residual_stream(changed), strict=True):
        torch.testing.assert_close(before[:, :10], after[:, :10], atol=1e-5, rtol=0)
        assert not torch.allclose(before[:, 12], after[:, 12], atol=1e-3)


def test_measured_state_is_the_last_token_of_every_block_and_not_the_embedding() -> None:
    model = make_gpt(LANGUAGE, CONFIG, 0)
    tokens = torch.as_tensor(LANGUAGE.documents(7, 6, np.random.default_rng(2)))
    whole = model.residual_stream(tokens)
    states = model.layers_at_last_token(tokens, batch=3)
    assert states.shape == (CONFIG.layers, 7, CONFIG.width)
    for layer, state in enumerate(states, start=1):
        torch.testing.assert_close(state, whole[layer][:, -1], atol=1e-5, rtol=1e-5)
    last = states[-1]  # normed: its mean is the norm's bias, its spread the norm's scale
    torch.testing.assert_close(last.mean(1), torch.zeros(7), atol=1e-5, rtol=0)
    logits = model(tokens)[:, -1]
    torch.testing.assert_close(model.head(last), logits, atol=1e-4, rtol=1e-4)


def test_training_stream_continues_after_a_resume_and_seeds_differ() -> None:
    def first(seed: int, start: int) -> torch.Tensor:
        data = DocumentData(LANGUAGE, CONFIG, seed)
        dataset = data.train_dataloader().dataset
        dataset.first = start  # type: ignore[attr-defined]
        return next(iter(dataset))

    data = iter(DocumentData(LANGUAGE, CONFIG, 0).train_dataloader().dataset)
    next(data)
    second = next(data)
    assert torch.equal(first(0, 1), second)
    assert not torch.equal(first(1, 1), second)
    held_out = DocumentData(LANGUAGE, CONFIG, 0).held_out
    assert not any(torch.equal(row, other) for row in held_out for other in second)


def test_learning_rate_rises_then_falls_to_a_tenth() -> None:
    config = GPTConfig(steps=200, warmup=100)
    assert config.rate_factor(0) == pytest.approx(1 / 50)  # a quarter of the steps at most
    assert config.rate_factor(50) == pytest.approx(1)
    assert config.rate_factor(200) == pytest.approx(0.1)


def test_errors() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        GPTConfig(width=30, heads=4)
    with pytest.raises(ValueError, match="at least 1"):
        GPTConfig(steps=0)
    with pytest.raises(ValueError, match="questions=14"):
        LANGUAGE.documents(1, 14, np.random.default_rng(0))
    model = make_gpt(LANGUAGE, CONFIG, 0)
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    with torch.no_grad(), pytest.raises(FloatingPointError, match="training loss is nan"):
        model.training_step(torch.as_tensor(LANGUAGE.documents(2, 6, np.random.default_rng(0))), 0)
