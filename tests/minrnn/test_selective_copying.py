"""The generator of selective copying and what depth does to it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lib.minrnn.selective_copying import (
    BLANK,
    PREDICT,
    VOCABULARY,
    CopyingSettings,
    copying_batch,
    copying_data,
    expansion_of_weights,
    train_copying,
    weights_of,
)
from lib.minrnn.token_data import IGNORE
from lib.minrnn.token_model import Architecture, Optimisation, TokenModel


def draw(batch: int, length: int, n_data: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return copying_batch(batch, length, n_data, torch.Generator().manual_seed(seed))


@given(st.integers(1, 30), st.data())
@settings(max_examples=50, deadline=None)
def test_a_sequence_holds_its_data_in_order_and_asks_for_them_at_the_end(
    length: int, data: st.DataObject
) -> None:
    n_data = data.draw(st.integers(1, length))
    tokens, targets = draw(3, length, n_data, data.draw(st.integers(0, 1000)))
    assert tokens.shape == targets.shape == (3, length + n_data)
    for row, answer in zip(tokens, targets, strict=True):
        body = row[:length]
        shown = body[body != BLANK]
        assert len(shown) == n_data
        assert ((shown >= 1) & (shown <= 14)).all()
        assert torch.equal(answer[length:], shown)
        assert (row[length:] == PREDICT).all()
        assert (answer[:length] == IGNORE).all()


def test_positions_and_tokens_are_uniform() -> None:
    tokens, _ = draw(4000, 12, 3)
    at = (tokens[:, :12] != BLANK).sum(0).numpy()
    assert stats.chisquare(at).pvalue > 1e-3
    counts = torch.bincount(tokens[:, :12][tokens[:, :12] != BLANK], minlength=15)[1:].numpy()
    assert stats.chisquare(counts).pvalue > 1e-3


def test_an_untrained_model_guesses() -> None:
    torch.manual_seed(0)
    model = TokenModel(VOCABULARY, Architecture("min_gru", 2, 32), Optimisation(1, 1e-3))
    accuracy = model.evaluate([draw(512, 32, 6)])[0]["accuracy"]
    assert 0.03 <= accuracy <= 0.11


def test_training_data_are_fresh_and_evaluation_data_are_others() -> None:
    settings = CopyingSettings(batch=4, length=10, data_tokens=3, evaluation_sequences=4)
    data = copying_data(settings, 0)
    stream = iter(data.stream())
    first, second = next(stream), next(stream)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[0], data.evaluation[0][0])
    resumed = next(iter(data.stream(first_step=1)))
    assert torch.equal(resumed[0], second[0])
    assert not torch.equal(next(iter(copying_data(settings, 1).stream()))[0], first[0])


@pytest.mark.parametrize(("length", "n_data", "batch"), [(3, 4, 1), (3, 0, 1), (3, 2, 0)])
def test_impossible_sizes_are_refused(length: int, n_data: int, batch: int) -> None:
    with pytest.raises(ValueError, match="selective copying needs"):
        copying_batch(batch, length, n_data, torch.Generator())


@pytest.mark.parametrize("width", [16, 49, 64])
@pytest.mark.parametrize("mixer", ["s6", "diagonal_ssm"])
def test_a_control_gets_as_many_weights_as_it_is_asked_for(mixer: str, width: int) -> None:
    s = CopyingSettings(width=width, expansion=2.0)
    wanted = weights_of(s, "min_lstm", 3, s.expansion)
    expansion = expansion_of_weights(s, mixer, 3, wanted)
    a_channel = weights_of(s, mixer, 3, 2 / width) - weights_of(s, mixer, 3, 1 / width)
    assert abs(weights_of(s, mixer, 3, expansion) - wanted) <= a_channel / 2
    assert expansion_of_weights(s, mixer, 3, 1) == 1 / width


def test_weights_are_those_of_the_trained_model(tmp_path: Path) -> None:
    run = SimpleNamespace(device=torch.device("cpu"), out_dir=tmp_path, checkpoint_every=None)
    s = CopyingSettings(length=4, data_tokens=2, width=8, batch=2, evaluation_sequences=4)
    for mixer, expansion in (("min_gru", 2.0), ("s6", 1.5)):
        (result,) = train_copying(run, s, mixer, 2, 1, [0], expansion=expansion)
        assert result.parameters == weights_of(s, mixer, 2, expansion)
        assert (result.trained is None) == (result.untrained is None) == (mixer == "s6")


def accuracies(tmp_path: Path, mixer: str, layers: int, steps: int, seeds: list[int]) -> list[float]:
    run = SimpleNamespace(device=torch.device("cpu"), out_dir=tmp_path, checkpoint_every=None)
    settings = CopyingSettings(evaluation_sequences=256, evaluate_every=steps)
    weights = weights_of(settings, "min_lstm", layers, settings.expansion)
    expansion = expansion_of_weights(settings, mixer, layers, weights) if mixer == "diagonal_ssm" else None
    return [
        r.accuracy for r in train_copying(run, settings, mixer, layers, steps, seeds, expansion=expansion)
    ]


def test_two_layers_learn_in_the_time_in_which_one_does_not(tmp_path: Path) -> None:
    one, two = (accuracies(tmp_path, "min_lstm", layers, 350, [0])[0] for layers in (1, 2))
    assert one < 50
    assert two > one + 10


@pytest.mark.slow
def test_depth_at_the_default_setting_every_seed(tmp_path: Path) -> None:
    for mixer, bar in (("min_lstm", 90), ("min_gru", 75)):
        assert max(accuracies(tmp_path, mixer, 1, 600, [0, 1, 2])) < 55
        deeper = [min(accuracies(tmp_path, mixer, layers, 600, [0, 1, 2])) for layers in (2, 3)]
        assert min(deeper) > bar, (mixer, deeper)
    control = accuracies(tmp_path, "diagonal_ssm", 3, 600, [0])
    assert control[0] < 75
