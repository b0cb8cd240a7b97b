"""The text: characters, split, stand-in and reference losses."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from lib import datasets, tiny_shakespeare
from lib.datasets import DataError
from lib.minrnn import character_text as ct


@pytest.fixture(scope="module")
def shakespeare() -> ct.CharacterText:
    path = datasets.local_path(tiny_shakespeare.FILE)
    if path is None:
        pytest.skip("Tiny Shakespeare is neither in PAPERS_DATA nor in the cache; run 'make data'")
    return ct.CharacterText.from_file(path)


def test_shakespeare_has_the_known_counts(shakespeare: ct.CharacterText) -> None:
    assert len(shakespeare.alphabet) == 65
    assert (len(shakespeare.train), len(shakespeare.test)) == (1_003_854, 111_540)
    assert ct.uniform_loss(shakespeare) == pytest.approx(4.174, abs=1e-3)
    assert ct.bigram_loss(shakespeare) == pytest.approx(2.45, abs=0.05)


def test_bigram_loss_equals_counting_by_hand() -> None:
    text = ct.CharacterText.from_string("abab" * 10)
    train, test = text.train.tolist(), text.test.tolist()
    total = 0.0
    for before, after in itertools.pairwise(test):
        seen = [b for a, b in itertools.pairwise(train) if a == before]
        total -= math.log((seen.count(after) + 1) / (len(seen) + 2))
    assert ct.bigram_loss(text) == pytest.approx(total / (len(test) - 1))


def test_standin_is_seeded_text_of_the_asked_length() -> None:
    assert ct.standin_text(500, 0) == ct.standin_text(500, 0) != ct.standin_text(500, 1)
    text = ct.text_from(None, 0)
    assert len(text.train) + len(text.test) == ct.STANDIN_CHARACTERS
    assert ct.bigram_loss(text) < ct.uniform_loss(text)


def test_inner_split_never_touches_the_test_text() -> None:
    text = ct.CharacterText("", torch.zeros(100, dtype=torch.long), torch.ones(10, dtype=torch.long))
    inner = ct.inner_split(text)
    assert len(inner.train) + len(inner.test) == 100
    assert inner.train.max() == 0
    assert inner.test.max() == 0


def test_errors_are_one_clear_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"\xff\xfe\xfa" * 10)
    with pytest.raises(DataError, match=r"broken\.txt is not UTF-8 text"):
        ct.CharacterText.from_file(broken)
    broken.write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"broken\.txt: the text has 1 characters; at least 2"):
        ct.CharacterText.from_file(broken)
    with pytest.raises(DataError, match="at least 2"):
        ct.CharacterText.from_string("x")
