"""The grammar against the released sentences, its information, and the three shuffles."""

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lib.compositionality.grammar import (
    COUPLINGS,
    SLOTS,
    TEMPLATES,
    Lexicon,
    degrees_of_freedom,
    draw,
    entropy_bits,
    groups,
    load_prompts,
    pair_information,
)
from lib.compositionality.shuffles import MODES, shuffle_lines, shuffle_tokens
from lib.datasets import DataError
from tests.compositionality.conftest import official


@pytest.mark.parametrize("k", COUPLINGS)
def test_rendering_gives_the_released_lines(k: int, lexicon: Lexicon, prompts: dict[str, np.ndarray]) -> None:
    lines = lexicon.render(prompts[f"k{k}_rs0"][8000:])
    assert "\n".join(lines) == official(f"test_prompts_k{k}_rs0.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("k", COUPLINGS)
def test_released_columns_are_equal_exactly_inside_a_group(k: int, prompts: dict[str, np.ndarray]) -> None:
    group = groups(k)
    for split in range(5):
        rows = prompts[f"k{k}_rs{split}"]
        assert len(np.unique(rows, axis=0)) == 10_000
        for i, j in itertools.combinations(range(13), 2):
            assert bool((rows[:, i] == rows[:, j]).all()) == (group[i] == group[j])


@pytest.mark.parametrize("k", COUPLINGS)
def test_drawn_sentences_have_the_same_structure(k: int) -> None:
    rows = draw(k, 500, np.random.default_rng(0))
    assert rows.shape == (500, 13)
    assert len(np.unique(rows, axis=0)) == 500
    group = groups(k)
    for i, j in itertools.combinations(range(13), 2):
        assert bool((rows[:, i] == rows[:, j]).all()) == (group[i] == group[j])


def test_degrees_of_freedom_and_entropy() -> None:
    assert [degrees_of_freedom(k) for k in COUPLINGS] == [13, 7, 5, 4]
    np.testing.assert_allclose([entropy_bits(k) for k in COUPLINGS], [73.4, 39.5, 28.2, 22.6], atol=0.05)


def test_unigrams_are_uniform_for_every_k_and_bigrams_are_not(prompts: dict[str, np.ndarray]) -> None:
    for k in COUPLINGS:
        rows = prompts[f"k{k}_rs0"]
        for first in np.unique(groups(k), return_index=True)[1]:  # one test per independent choice
            counts = np.bincount(rows[:, first], minlength=50)
            assert stats.chisquare(counts).pvalue > 1e-4
        coupled = pair_information(rows[:, 0], rows[:, 1])
        if k == 1:
            assert coupled < 0.25  # the bias of counting is 49²/(2 n ln 2) = 0.17 bits
        else:
            assert coupled == pytest.approx(math.log2(50), abs=0.02)


def test_templates_have_the_official_lengths(lexicon: Lexicon) -> None:
    assert {n: t.n_words for n, t in TEMPLATES.items()} == {3: 5, 6: 8, 9: 11, 11: 15, 13: 17}
    for template in TEMPLATES.values():
        assert len(set(template.slots)) == len(template.slots)
    three = lexicon.render(np.zeros((1, 3), dtype=np.uint8), TEMPLATES[3])[0].split()
    jobs, verbs, animals = (
        lexicon.words[SLOTS.index(s)][0] for s in ("jobs", "person_to_animal_verbs", "animals")
    )
    assert three == ["The", jobs, verbs, "the", f"{animals}."]
    assert len({word for words in lexicon.words for word in words}) == 648


def test_mean_length_of_released_lines(lexicon: Lexicon, prompts: dict[str, np.ndarray]) -> None:
    lengths = [len(line.split()) for line in lexicon.render(prompts["k1_rs0"])]
    assert min(lengths) == 17
    assert np.mean(lengths) == pytest.approx(17.08, abs=0.01)


@pytest.mark.parametrize("mode", MODES)
def test_shuffled_lines_keep_their_words(mode: str, lexicon: Lexicon, prompts: dict[str, np.ndarray]) -> None:
    lines = lexicon.render(prompts["k2_rs0"][:300])
    shuffled = shuffle_lines(lines, mode, np.random.default_rng(0))
    for before, after in zip(lines, shuffled, strict=True):
        assert Counter(before.replace(".", "").split()) == Counter(after.replace(".", "").split())
        assert after.count(".") == 1
    last = {line.split()[-1] for line in shuffled}
    assert (shuffled == lines) == (mode == "coherent")
    if mode == "glued":
        assert sum(line.endswith(".") for line in shuffled) / 300 == pytest.approx(1 / 17, abs=0.05)
        assert len(last) > 100
    else:
        assert all(line.endswith(".") for line in shuffled)
    if mode == "inner":
        assert [line.split()[-1] for line in shuffled] == [line.split()[-1] for line in lines]
    if mode == "dot":
        kept = [a.split()[-1] == b.split()[-1] for a, b in zip(shuffled, lines, strict=True)]
        assert np.mean(kept) < 0.2


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 8), words=st.integers(1, 20), mode=st.sampled_from(MODES), seed=st.integers(0, 999))
def test_shuffled_tokens(n: int, words: int, mode: str, seed: int) -> None:
    stop = 99
    tokens = np.concatenate([np.tile(np.arange(words), (n, 1)), np.full((n, 1), stop)], axis=1)
    out = shuffle_tokens(tokens, mode, np.random.default_rng(seed))
    assert (np.sort(out, axis=1) == np.sort(tokens, axis=1)).all()
    for row in out:
        place = int(np.flatnonzero(row == stop)[0])
        if mode == "glued":  # the stop directly follows the word that was last
            assert row[place - 1] == words - 1
        else:
            assert place == words
        if mode in ("coherent", "inner"):
            assert row[-2] == words - 1


def test_token_shuffles_are_uniform() -> None:
    """Every unit is last equally often, and the rows differ."""
    tokens = np.tile(np.append(np.arange(4), 9), (8000, 1))
    for mode, last in (("glued", 4), ("dot", 3)):
        out = shuffle_tokens(tokens, mode, np.random.default_rng(1))
        values, counts = np.unique(out[:, last], return_counts=True)
        assert values.tolist() == ([0, 1, 2, 9] if mode == "glued" else [0, 1, 2, 3])
        assert stats.chisquare(counts).pvalue > 1e-4
        assert len(np.unique(out, axis=0)) == math.factorial(4)


def test_standin_lexicon_has_the_official_structure() -> None:
    lexicon = Lexicon.standin(0)
    assert lexicon == Lexicon.standin(0)
    assert lexicon != Lexicon.standin(1)
    assert len({word for words in lexicon.words for word in words}) == 648
    assert sum(" " in word for words in lexicon.words for word in words) == 4
    assert len(set(lexicon.words[2]) & set(lexicon.words[12])) == 2
    assert all(len(set(words)) == 50 for words in lexicon.words)


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    lexicon = Lexicon.standin(0)
    with pytest.raises(ValueError, match="k=14"):
        groups(14)
    with pytest.raises(ValueError, match="too many"):
        draw(3, 2000, np.random.default_rng(0), n_slots=3)
    with pytest.raises(ValueError, match="shape"):
        lexicon.render(np.zeros((2, 12), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"0\.\.49"):
        lexicon.render(np.full((2, 13), 50, dtype=np.uint8))
    with pytest.raises(ValueError, match="mode='mixed'"):
        shuffle_lines(["a b."], "mixed", np.random.default_rng(0))
    with pytest.raises(ValueError, match="full stop"):
        shuffle_lines(["a b"], "dot", np.random.default_rng(0))
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"broken\.json: not valid JSON"):
        Lexicon.from_file(tmp_path / "broken.json")
    (tmp_path / "short.json").write_text(json.dumps({"categories": {"jobs": []}}), encoding="utf-8")
    with pytest.raises(DataError, match="lacks the word list 'quality_adjectives'"):
        Lexicon.from_file(tmp_path / "short.json")
    np.savez(tmp_path / "wide.npz", k1=np.zeros((3, 14), dtype=np.uint8))
    with pytest.raises(DataError, match="k1 has the shape"):
        load_prompts(tmp_path / "wide.npz")
    (tmp_path / "text.npz").write_text("no archive", encoding="utf-8")
    with pytest.raises(DataError, match="not an archive"):
        load_prompts(tmp_path / "text.npz")
