"""Schedule, masking, SUBS parametrisation, NELBO, pretraining."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.ddpp.denoisers import EmbeddingLogZ, EmbeddingMLP, TabulatedDenoiser
from lib.ddpp.dit import DiT, DiTLogZ
from lib.ddpp.masked_diffusion import (
    EPSILON,
    bits_per_dim,
    clean_log_probability,
    low_discrepancy_times,
    mask_probability,
    mask_tokens,
    mean_nelbo,
    nelbo,
    noise_level,
    noise_rate,
    pretrain,
    subs_log_probs,
)
from tests.ddpp.small_denoisers import (
    clean_states,
    exact_nelbo,
    random_denoiser,
    random_law,
    true_conditionals,
)

PEER = Path(__file__).parent / "peer_values.json"


def test_weight_of_the_loss_is_one_over_t() -> None:
    t = torch.linspace(1e-3, 1, 500, dtype=torch.float64)
    torch.testing.assert_close(noise_rate(t) / torch.expm1(noise_level(t)), 1 / t, rtol=1e-6, atol=0)
    step = 1e-6
    numeric = (noise_level(t[1:-1] + step) - noise_level(t[1:-1] - step)) / (2 * step)
    torch.testing.assert_close(noise_rate(t[1:-1]), numeric, rtol=1e-4, atol=0)
    torch.testing.assert_close(mask_probability(t), 1 - torch.exp(-noise_level(t)))


def test_times_lie_one_in_each_stratum() -> None:
    t = low_discrepancy_times(64, torch.Generator().manual_seed(0))
    strata = ((t - EPSILON) / (1 - EPSILON) * 64).floor().long()
    assert sorted(strata.tolist()) == list(range(64))
    assert t.min() >= EPSILON
    assert t.max() <= 1
    gaps = (t - EPSILON) / (1 - EPSILON) * 64 - torch.arange(64)
    assert gaps.std() > 0.1  # each stratum its own number, not one shared offset


def test_masks_have_the_probability_of_their_time() -> None:
    generator = torch.Generator().manual_seed(1)
    clean = torch.zeros((40_000, 3), dtype=torch.long)
    t = torch.tensor([0.1, 0.9]).repeat(20_000)
    share = (mask_tokens(clean, t, 7, generator) == 7).float().view(20_000, 2, 3).mean((0, 2))
    expected = mask_probability(torch.tensor([0.1, 0.9]))
    sigma = (expected * (1 - expected) / 60_000).sqrt()
    assert ((share - expected).abs() < 4 * sigma).all()


@given(n=st.integers(1, 6), n_symbols=st.integers(1, 6), seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_subs_log_probs(n: int, n_symbols: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn((4, n, n_symbols + 1), generator=generator, dtype=torch.float64)
    tokens = torch.randint(n_symbols + 1, (4, n), generator=generator)
    before = logits.clone()
    probs = subs_log_probs(logits, tokens).exp()
    assert torch.equal(logits, before), "the caller's logits were changed"
    torch.testing.assert_close(probs.sum(-1), torch.ones(4, n, dtype=torch.float64))
    masked = tokens == n_symbols
    assert (probs[..., -1] == 0).all()
    onehot = torch.nn.functional.one_hot(tokens, n_symbols + 1).double()
    assert torch.equal(probs[~masked], onehot[~masked])
    expected = logits[..., :-1].softmax(-1)
    torch.testing.assert_close(probs[masked][:, :-1], expected[masked])


def test_log_probability_is_a_sum_over_masked_tokens_only() -> None:
    denoiser = random_denoiser(4, 3, seed=2)
    clean = torch.tensor([[0, 1, 2, 0], [1, 1, 0, 2]])
    masked = torch.tensor([[True, False, True, True], [False, False, False, False]])
    logits = denoiser(clean.masked_fill(masked, 3)).detach()
    total = clean_log_probability(logits, clean, masked)
    by_hand = sum(float(logits[0, i, :3].log_softmax(0)[clean[0, i]]) for i in (0, 2, 3))
    assert float(total[0]) == pytest.approx(by_hand, abs=1e-12)
    assert float(total[1]) == 0.0
    through_subs = subs_log_probs(logits, clean.masked_fill(masked, 3)).gather(-1, clean.unsqueeze(-1))
    torch.testing.assert_close(through_subs.squeeze(-1).sum(1), total)


def test_half_precision_logits_are_normalised_in_float32() -> None:
    logits = torch.randn((2, 3, 5), generator=torch.Generator().manual_seed(0))
    low = subs_log_probs(logits.bfloat16(), torch.full((2, 3), 4))
    assert low.dtype == torch.float32
    assert (low.exp().sum(-1) - 1).abs().max() < 1e-6


def peer_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, clean tokens, noisy tokens and times on which the peer's values are stored."""
    generator = torch.Generator().manual_seed(11)
    logits = 2 * torch.randn((3, 5, 8), generator=generator)
    clean = torch.randint(7, (3, 5), generator=generator)
    t = torch.tensor([0.2, 0.5, 0.9])
    noisy = mask_tokens(clean, t, 7, generator)
    return logits, clean, noisy, t


def check_against_mdlm(log_probs: torch.Tensor, loss: torch.Tensor) -> None:
    """Equal to the peer's, 1e-5; the peer's log of zero is another large negative number."""
    logits, clean, noisy, t = peer_inputs()
    ours = subs_log_probs(logits, noisy)
    possible = ours > -1e5
    assert torch.equal(possible, log_probs > -1e5)
    torch.testing.assert_close(ours[possible], log_probs[possible], rtol=0, atol=1e-5)
    mean = -clean_log_probability(logits, clean, noisy == 7) / t / clean.shape[1]
    torch.testing.assert_close(mean, loss, rtol=1e-5, atol=1e-6)


def test_equals_stored_values_of_bionemo_moco() -> None:
    stored = json.loads(PEER.read_text())["mdlm"]
    logits, _, noisy, _ = peer_inputs()
    assert float(logits.double().sum()) == pytest.approx(stored["checksum"], abs=1e-4)
    assert noisy.tolist() == stored["noisy"]
    check_against_mdlm(torch.tensor(stored["log_probs"]), torch.tensor(stored["loss"]))


def test_equals_bionemo_moco() -> None:
    pytest.importorskip(
        "bionemo.moco", reason="bionemo-moco is not installed; its stored values are compared instead"
    )
    from benchmarks.ddpp import peer_mdlm_values

    values = peer_mdlm_values(*peer_inputs())
    check_against_mdlm(torch.tensor(values["log_probs"]), torch.tensor(values["loss"]))


def test_nelbo_of_true_conditionals_is_the_entropy() -> None:
    law = random_law(4, 3, seed=3)
    states, p = clean_states(4, 3), law.flatten()
    entropy = float(-(p * p.log()).sum())
    exact = float((p * exact_nelbo(true_conditionals(law), states)).sum())
    assert exact == pytest.approx(entropy, abs=1e-9)
    for seed in range(5):  # never below it
        assert float((p * exact_nelbo(random_denoiser(4, 3, seed), states)).sum()) > entropy


def test_monte_carlo_nelbo_agrees_with_the_exact_one() -> None:
    denoiser = random_denoiser(3, 2, seed=4)
    states = clean_states(3, 2)
    exact = float(exact_nelbo(denoiser, states).mean())
    generator = torch.Generator().manual_seed(5)
    rows = states.repeat(20_000, 1)
    t = EPSILON + (1 - EPSILON) * torch.rand(len(rows), generator=generator)
    with torch.no_grad():
        values = nelbo(denoiser, rows, t, generator)
    error = float(values.std()) / math.sqrt(len(rows))
    assert float(values.mean()) == pytest.approx(exact, abs=4 * error + 2e-3 * exact)
    mean = mean_nelbo(denoiser, states.repeat(2000, 1), seed=6, times=8)
    assert mean == pytest.approx(exact, abs=3 * error)
    bits = bits_per_dim(denoiser, states.repeat(2000, 1), seed=6, times=8)
    assert bits == pytest.approx(mean / (3 * math.log(2)), rel=1e-6)


def test_pretraining_learns_a_law() -> None:
    law = random_law(2, 4, seed=7)
    p = law.flatten()
    states = clean_states(2, 4)

    def sampler(batch: int, generator: torch.Generator) -> torch.Tensor:
        return states[torch.multinomial(p.float(), batch, True, generator=generator)]

    network = EmbeddingMLP(2, 4, embedding=16, hidden=32, layers=1)
    trained = pretrain(
        network, sampler, steps=400, batch_size=128, learning_rate=1e-2, decay="linear", ema_decay=0.9
    )
    entropy = float(-(p * p.log()).sum())
    assert not trained.training
    assert float((p * exact_nelbo(trained, states)).sum()) == pytest.approx(entropy, abs=0.02)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros((0, 2), dtype=torch.long), "N > 0"),
        (torch.zeros((3, 5), dtype=torch.long), "expected shape"),
        (torch.zeros((3, 2)), "int64"),
        (torch.full((3, 2), 4), "symbols must lie in 0..3"),
    ],
)
def test_wrong_data_is_refused_in_one_line(data: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        pretrain(EmbeddingMLP(2, 4, 8, 8, 1), data, steps=1, batch_size=2)
    assert "\n" not in str(caught.value)


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="CUDA"):
        pretrain(EmbeddingMLP(2, 4, 8, 8, 1), clean_states(2, 4), steps=1, batch_size=2, device="cuda")


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    network = EmbeddingMLP(2, 4, 8, 8, 1)
    nn.init.constant_(network.output.bias, torch.nan)
    with pytest.raises(FloatingPointError, match="pretraining"):
        pretrain(network, clean_states(2, 4), steps=2, batch_size=2)


def test_tabulated_denoiser_answers_as_the_network() -> None:
    network = EmbeddingMLP(3, 4, 8, 16, 1).eval()
    tokens = torch.randint(5, (50, 3), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(TabulatedDenoiser(network)(tokens), network(tokens))
    with pytest.raises(ValueError, match="too many"):
        TabulatedDenoiser(network, largest=100)


@pytest.mark.parametrize(
    "network",
    [
        DiT(6, 4, width=16, blocks=2, heads=2, time_conditioned=True, seed=1),
        EmbeddingMLP(6, 4, 8, 16, 2, time_features=8, seed=1),
    ],
    ids=["DiT", "EmbeddingMLP"],
)
def test_networks(network: nn.Module) -> None:
    tokens = torch.randint(5, (3, 6), generator=torch.Generator().manual_seed(0))
    network.eval()
    for module in network.modules():  # adaLN-zero starts at zero: give every part a say
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = network(tokens, torch.tensor([0.1, 1.0, 3.0]))
        assert logits.shape == (3, 6, 5)
        assert not torch.allclose(logits, network(tokens, torch.tensor([2.0, 0.2, 0.1])))
        torch.testing.assert_close(network(tokens), network(tokens, torch.zeros(3)))
        swapped = tokens.clone()
        swapped[:, [0, 1]] = tokens[:, [1, 0]]
        assert not torch.allclose(network(swapped)[:, 2:], network(tokens)[:, 2:])  # positions matter


def test_dit_starts_uniform_and_log_z_heads_start_at_zero() -> None:
    tokens = torch.randint(5, (3, 6), generator=torch.Generator().manual_seed(0))
    assert not DiT(6, 4, width=16, blocks=1, heads=2)(tokens).any()
    for head in (DiTLogZ(6, 4, width=16, blocks=1, heads=2), EmbeddingLogZ(6, 4, 8, 16, 1)):
        assert head(tokens).shape == (3,)
        assert not head(tokens).any()
    with pytest.raises(ValueError, match="multiple"):
        DiT(6, 4, width=10, blocks=1, heads=4)
