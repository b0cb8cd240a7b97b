"""Windows, models and the choice of their learning rates."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lib.datasets import DataError
from lib.minrnn import language_model as lm
from lib.minrnn.character_text import CharacterText, standin_text
from lib.minrnn.language_model import TextSettings
from lib.minrnn.token_model import Architecture, Optimisation


def test_train_and_test_windows_never_overlap() -> None:
    text = CharacterText.from_string(standin_text(3000, 0))
    marked = CharacterText(text.alphabet, torch.zeros_like(text.train), torch.ones_like(text.test))
    data = lm.TextData(marked, TextSettings(block=16, batch=8, test_windows=5), seed=0)
    for _, (inputs, targets) in zip(range(20), data.train_dataloader(), strict=False):
        assert inputs.max() == 0
        assert targets.max() == 0
    for inputs, targets in data.evaluation:
        assert inputs.min() == 1
        assert targets.min() == 1


def test_targets_are_the_next_characters_and_every_position_can_be_drawn() -> None:
    text = CharacterText("", torch.arange(20), torch.arange(100, 110))
    data = lm.TextData(text, TextSettings(block=4, batch=64, test_windows=2), seed=0)
    seen = set()
    for _, (inputs, targets) in zip(range(10), data.train_dataloader(), strict=False):
        assert torch.equal(targets, inputs + 1)
        seen |= set(inputs[:, 0].tolist())
    assert seen == set(range(16))  # the last window ends with the last character
    inputs, targets = data.evaluation[0]
    assert inputs[0, 0] == 100
    assert targets[-1, -1] == 109


def test_a_part_shorter_than_a_window_is_one_clear_line() -> None:
    with pytest.raises(DataError, match="a window needs 65"):
        lm.TextData(CharacterText.from_string("ab" * 50), TextSettings(block=64), 0)


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
    run: Any = SimpleNamespace(device=torch.device("cpu"), out_dir=tmp_path, seed=0, checkpoint_every=None)
    text = CharacterText.from_string(standin_text(20_000, 0))
    settings = TextSettings(
        width=16, block=16, batch=8, layers=1, test_windows=8, steps=30, evaluate_every=100
    )
    assert lm.choose_learning_rate(run, settings, "minGRU", text, (1e-5, 1e-2, 1e-4)) == 1e-2


def test_a_transformer_writes_no_further_than_its_positions_reach() -> None:
    text = CharacterText.from_string("abcdefgh" * 20)
    settings = TextSettings(width=8, block=10, heads=2)
    models = {m: lm.LanguageModel(8, settings.architecture(m), Optimisation(1, 1e-3)) for m in lm.MODELS}
    written = {m: lm.continuation(model, text, 4, 20, 0) for m, model in models.items()}
    assert {m: len(t) for m, t in written.items()} == {
        "minGRU": 20, "minLSTM": 20, "S6": 20, "Transformer": 6, "Transformer + conv": 6
    }  # fmt: skip
    assert lm.continuation(models["minGRU"], text, 4, 0, 0) == ""
