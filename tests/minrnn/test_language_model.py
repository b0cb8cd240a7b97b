"""Text, windows and reference losses."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lib import datasets, tiny_shakespeare
from lib.datasets import DataError
from lib.minrnn import language_model as lm
from lib.minrnn.token_model import Architecture, Optimisation


@pytest.fixture(scope="module")
def shakespeare() -> lm.CharacterText:
    path = datasets.local_path(tiny_shakespeare.FILE)
    if path is None:
        pytest.skip("Tiny Shakespeare is neither in PAPERS_DATA nor in the cache; run 'make data'")
    return lm.CharacterText.from_file(path)


def test_shakespeare_has_the_known_counts(shakespeare: lm.CharacterText) -> None:
    assert len(shakespeare.alphabet) == 65
    assert (len(shakespeare.train), len(shakespeare.test)) == (1_003_854, 111_540)
    assert lm.uniform_loss(shakespeare) == pytest.approx(4.174, abs=1e-3)
    assert lm.bigram_loss(shakespeare) == pytest.approx(2.45, abs=0.05)


def test_bigram_loss_equals_counting_by_hand() -> None:
    text = lm.CharacterText.from_string("abab" * 10)
    train, test = text.train.tolist(), text.test.tolist()
    total = 0.0
    for before, after in itertools.pairwise(test):
        seen = [b for a, b in itertools.pairwise(train) if a == before]
        total -= math.log((seen.count(after) + 1) / (len(seen) + 2))
    assert lm.bigram_loss(text) == pytest.approx(total / (len(test) - 1))


def test_train_and_test_windows_never_overlap() -> None:
    text = lm.CharacterText.from_string(lm.standin_text(3000, 0))
    marked = lm.CharacterText(text.alphabet, torch.zeros_like(text.train), torch.ones_like(text.test))
    data = lm.TextData(marked, 16, 8, seed=0, test_windows=5)
    for _, (inputs, targets) in zip(range(20), data.train_dataloader(), strict=False):
        assert inputs.max() == 0
        assert targets.max() == 0
    for inputs, targets in data.evaluation:
        assert inputs.min() == 1
        assert targets.min() == 1


def test_targets_are_the_next_characters_and_every_position_can_be_drawn() -> None:
    text = lm.CharacterText("", torch.arange(20), torch.arange(100, 110))
    data = lm.TextData(text, 4, 64, seed=0, test_windows=2)
    seen = set()
    for _, (inputs, targets) in zip(range(10), data.train_dataloader(), strict=False):
        assert torch.equal(targets, inputs + 1)
        seen |= set(inputs[:, 0].tolist())
    assert seen == set(range(16))  # the last window ends with the last character
    inputs, targets = data.evaluation[0]
    assert inputs[0, 0] == 100
    assert targets[-1, -1] == 109


def test_standin_is_seeded_text_of_the_asked_length() -> None:
    assert lm.standin_text(500, 0) == lm.standin_text(500, 0) != lm.standin_text(500, 1)
    text = lm.text_from(None, 5000, 0)
    assert len(text.train) + len(text.test) == 5000
    assert lm.bigram_loss(text) < lm.uniform_loss(text)


def test_inner_split_never_touches_the_test_text() -> None:
    text = lm.CharacterText("", torch.zeros(100, dtype=torch.long), torch.ones(10, dtype=torch.long))
    inner = lm.inner_split(text)
    assert len(inner.train) + len(inner.test) == 100
    assert inner.train.max() == 0
    assert inner.test.max() == 0


def test_errors_are_one_clear_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"\xff\xfe\xfa" * 10)
    with pytest.raises(DataError, match=r"broken\.txt is not UTF-8 text"):
        lm.CharacterText.from_file(broken)
    broken.write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"broken\.txt: the text has 1 characters; at least 2"):
        lm.CharacterText.from_file(broken)
    with pytest.raises(DataError, match="at least 2"):
        lm.CharacterText.from_string("x")
    with pytest.raises(DataError, match="a window needs 65"):
        lm.TextData(lm.CharacterText.from_string("ab" * 50), 64, 2, 0, 1)


def small(mixer: str, **options: object) -> lm.LanguageModel:
    architecture = Architecture(mixer, 2, 16, mlp="gelu", conv=4, **options)  # type: ignore[arg-type]
    return lm.LanguageModel(30, architecture, Optimisation(1, 1e-3))


@pytest.mark.parametrize("mixer", ["min_gru", "min_lstm", "s6", "attention", "gru", "diagonal_ssm"])
def test_no_model_reads_ahead(mixer: str) -> None:
    torch.manual_seed(0)
    options = {"max_positions": 12, "options": (("heads", 2),)} if mixer == "attention" else {}
    model = small(mixer, **options).eval()
    tokens = torch.randint(30, (2, 12))
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 30
    before, after = model(tokens)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().max() > 1e-4


def test_a_transformer_knows_positions() -> None:
    torch.manual_seed(0)
    model = lm.LanguageModel(
        5, Architecture("attention", 1, 16, max_positions=8, options=(("heads", 2),)), Optimisation(1, 1e-3)
    ).eval()
    tokens = torch.tensor([[1, 2, 3, 4]])
    swapped = torch.tensor([[2, 1, 3, 4]])
    assert (model(tokens)[0][0, -1] - model(swapped)[0][0, -1]).abs().max() > 1e-6


def test_sampling_in_recurrent_mode_follows_the_parallel_distribution() -> None:
    torch.manual_seed(0)
    model = small("min_gru")
    prompt = torch.randint(30, (10,))
    drawn = model.sample(prompt, 5, seed=0, temperature=1e-6)  # cold enough to be greedy
    tokens = prompt
    for token in drawn:
        assert model(tokens[None])[0][0, -1].argmax() == token
        tokens = torch.cat([tokens, token[None]])
    with pytest.raises(ValueError, match="non-empty prompt"):
        model.sample(prompt[:0], 1, 0)


def test_learning_rate_is_chosen_by_loss_not_by_order(tmp_path: Path) -> None:
    run = SimpleNamespace(device=torch.device("cpu"), out_dir=tmp_path)
    text = lm.text_from(None, 20_000, 0)
    task = lm.TextTask(16, 8, 8, 100)
    architecture = Architecture("min_gru", 1, 16)
    rates = (1e-5, 1e-2, 1e-4)
    chosen = lm.choose_learning_rate(run, "m", text, task, architecture, Optimisation(30, 1e-3), rates, 0)
    assert chosen == 1e-2


@pytest.mark.slow
def test_a_short_training_beats_the_bigram_table(shakespeare: lm.CharacterText, tmp_path: Path) -> None:
    run = SimpleNamespace(device=torch.device("cpu"), out_dir=tmp_path)
    task = lm.TextTask(64, 8, 64, 150)
    architecture = Architecture("min_gru", 2, 64, 2.0, conv=4, mlp="gelu")
    result = lm.train_language_model(
        run, "minGRU", shakespeare, task, architecture, Optimisation(150, 8e-3, 20, cosine=True), 0
    )
    assert result.history.loss[-1] < lm.bigram_loss(shakespeare) - 0.1
