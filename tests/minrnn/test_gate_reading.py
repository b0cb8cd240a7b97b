"""What is read off gates and states that are known."""

import numpy as np
import torch

from lib.minrnn.gate_reading import _reading, read_gates
from lib.minrnn.seed_stack import SeedStack
from lib.minrnn.selective_copying import BLANK, VOCABULARY, CopyingSettings, copying_data
from lib.minrnn.token_model import Architecture, Optimisation, TokenModel
from lib.random_streams import stream

SETTINGS = CopyingSettings(length=9, data_tokens=3, evaluation_sequences=40)


def model(seed: int, mixer: str = "min_gru") -> TokenModel:
    with stream(seed, "initialisation").as_global():
        return TokenModel(VOCABULARY, Architecture(mixer, 2, 16), Optimisation(1, 1e-3))


def sequences(seed: int) -> torch.Tensor:
    return copying_data(SETTINGS, seed).evaluation[0][0][:, : SETTINGS.length]


def test_gates_of_layer_one_see_the_token_only_and_those_of_layer_two_its_past() -> None:
    tokens = sequences(0)
    tokens[tokens != BLANK] = 3  # one data symbol: what is left is its order
    (reading,) = read_gates(model(1), tokens, tokens != BLANK)
    assert reading is not None
    assert reading.openings.shape == (2, 3, 16)
    np.testing.assert_allclose(reading.openings[0], reading.openings[0, :1].repeat(3, 0), atol=1e-6)
    assert np.ptp(reading.openings[1], axis=0).max() > 1e-3
    assert reading.explained[0] < 1e-6 < 1e-3 < reading.explained[1] <= 1


def test_a_state_that_counts_is_found_and_noise_is_not() -> None:
    random = stream(0, "noise").numpy()
    data = sequences(0) != BLANK
    number = data.cumsum(1).numpy()
    gates = np.zeros((1, *number.shape[:1], 3, 2))
    gates[..., 0] = [0.0, 0.5, 1.0]  # explained by the order; the second channel is not
    gates[..., 1] = random.normal(size=gates.shape[:-1])
    counter = np.stack([2.0 * number - 1, random.normal(size=number.shape)], axis=-1)
    reading = _reading(gates, counter, number)
    np.testing.assert_allclose(reading.counted, [(n, 0) for n in range(4)], atol=1e-9)
    assert reading.count_r2 > 1 - 1e-9
    np.testing.assert_allclose(reading.openings[0, :, 0], [0, 0.5, 1])
    between = gates.mean(1)[0].var(0)
    np.testing.assert_allclose(
        reading.explained, between.sum() / gates.reshape(-1, 2).var(0).sum(), rtol=1e-12
    )
    assert _reading(gates, random.normal(size=counter.shape), number).count_r2 < 0.2


def test_a_number_that_does_not_occur_has_no_mean() -> None:
    number = np.arange(1, 5)[None].repeat(4, 0)  # data from the first position on
    reading = _reading(np.zeros((1, 4, 4, 1)), number[..., None].astype(float), number)
    assert np.isnan(reading.counted[0]).all()
    assert np.isfinite(reading.counted[1:]).all()
    assert reading.explained == (0.0,)


def test_members_of_a_stack_are_read_as_each_alone() -> None:
    models, tokens = [model(0), model(1)], [sequences(0), sequences(1)]
    together = read_gates(SeedStack(models), torch.cat(tokens), torch.cat(tokens) != BLANK, 2)
    for one, own, found in zip(models, tokens, together, strict=True):
        (alone,) = read_gates(one, own, own != BLANK)
        assert alone is not None
        assert found is not None
        np.testing.assert_allclose(found.openings, alone.openings, atol=1e-5)
        np.testing.assert_allclose(found.count_r2, alone.count_r2, atol=1e-4)
    assert not np.allclose(together[0].openings, together[1].openings, atol=1e-3)  # type: ignore[union-attr]


def test_other_layers_and_single_sequences_have_no_reading() -> None:
    tokens = sequences(0)
    assert read_gates(model(0, "min_lstm"), tokens, tokens != BLANK) == [None]
    assert read_gates(model(0), tokens[:1], tokens[:1] != BLANK) == [None]
