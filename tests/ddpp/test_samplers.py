"""Samplers: their exact laws, their counts, their precision."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from lib.ddpp.masked_diffusion import noise_level
from lib.ddpp.samplers import (
    ancestral,
    cached,
    draw,
    draw_from_log_probs,
    first_hitting,
    random_order,
    sample,
    states_before,
)
from tests.ddpp.small_denoisers import (
    TimedDenoiser,
    histogram,
    law_by_orders,
    law_by_steps,
    mu,
    random_denoiser,
)

DRAWS = 200_000


def worst_deviation(counts: Tensor, law: Tensor) -> float:
    """Largest |count − N p| / σ over cells."""
    total = counts.sum()
    sigma = (total * law * (1 - law)).sqrt()
    return float(((counts - total * law).abs() / sigma).max())


def dense(law: dict[tuple[int, ...], float], n: int, n_symbols: int) -> Tensor:
    """A dictionary over clean states as a table."""
    table = torch.zeros((n_symbols,) * n, dtype=torch.float64)
    for state, mass in law.items():
        table[state] = mass
    return table


@pytest.mark.parametrize("steps", [1, 2, 8])
@pytest.mark.parametrize("sampler", [cached, ancestral])
def test_two_tokens_in_t_steps(steps: int, sampler) -> None:
    """p_T = (1 − 1/T) p_∞ + (1/T) μ₁ μ₂ on a uniform grid of times that ends at 0."""
    denoiser = random_denoiser(2, 3, seed=0)
    infinite = law_by_orders(denoiser)
    first, second = (torch.tensor(mu(denoiser, (3, 3), i)) for i in (0, 1))
    expected = (1 - 1 / steps) * infinite + torch.outer(first, second) / steps
    made = sampler(denoiser, DRAWS, steps=steps, generator=torch.Generator().manual_seed(steps))
    assert worst_deviation(histogram(made.tokens, 3), expected.double()) < 3


def test_first_hitting_has_the_law_of_infinitely_many_steps() -> None:
    denoiser = random_denoiser(3, 2, seed=1, scale=2.0)
    made = first_hitting(denoiser, DRAWS, generator=torch.Generator().manual_seed(0))
    assert worst_deviation(histogram(made.tokens, 2), law_by_orders(denoiser)) < 3.5
    assert made.calls == 3
    assert made.rows == 3 * DRAWS


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("sampler", [cached, ancestral])
def test_three_tokens_against_brute_force(timed: bool, sampler) -> None:
    """The events may be skipped to also where the network sees the time."""
    denoiser = random_denoiser(3, 2, seed=2, kind=TimedDenoiser)

    def level(t: float) -> float:
        return float(noise_level(torch.tensor(t)))

    law = dense(law_by_steps(denoiser, 3, timed=level if timed else None), 3, 2)
    generator = torch.Generator().manual_seed(3)
    made = sampler(denoiser, DRAWS, steps=3, generator=generator, time_conditioned=timed)
    assert worst_deviation(histogram(made.tokens, 2), law) < 3.5
    if timed:
        assert worst_deviation(histogram(made.tokens, 2), dense(law_by_steps(denoiser, 3), 3, 2)) > 10


def test_first_hitting_shows_the_network_its_time() -> None:
    denoiser = random_denoiser(2, 2, seed=4, kind=TimedDenoiser)
    made = first_hitting(denoiser, DRAWS, generator=torch.Generator().manual_seed(0), time_conditioned=True)
    fine = cached(
        denoiser, DRAWS, steps=2000, generator=torch.Generator().manual_seed(1), time_conditioned=True
    )
    a, b = histogram(made.tokens, 2).double(), histogram(fine.tokens, 2).double()
    assert float(((a - b).abs() / (a + b).sqrt()).max()) < 4
    # with two masks the first unmasking time is the larger of two uniform numbers
    assert float(made.times[:, 0].mean()) == pytest.approx(2 / 3, abs=0.005)
    assert float(made.times[:, 1].mean()) == pytest.approx(1 / 3, abs=0.005)


def test_partial_start_is_finished_from_where_it_is() -> None:
    denoiser = random_denoiser(3, 2, seed=5)
    start = torch.tensor([[0, 2, 1], [2, 2, 2], [1, 0, 1]])
    for made in (
        first_hitting(denoiser, 0, generator=torch.Generator().manual_seed(0), start=start),
        cached(denoiser, 0, steps=4, generator=torch.Generator().manual_seed(0), start=start),
        ancestral(denoiser, 0, steps=4, generator=torch.Generator().manual_seed(0), start=start),
    ):
        opened = start != 2
        assert torch.equal(made.tokens[opened], start[opened])
        assert (made.tokens < 2).all()
        assert (made.event[opened] == -1).all()
        assert (made.log_prob[opened] == 0).all()
        assert (made.event[~opened] >= 0).all()
    p = torch.tensor(mu(denoiser, (0, 2, 1), 1))
    rows = start[:1].repeat(20_000, 1)
    made = first_hitting(denoiser, 0, generator=torch.Generator().manual_seed(1), start=rows)
    counts = torch.bincount(made.tokens[:, 1], minlength=2)
    assert worst_deviation(counts, p.double()) < 3


def test_log_probabilities_are_those_of_the_states_the_network_saw() -> None:
    denoiser = random_denoiser(4, 3, seed=6)
    for made in (
        first_hitting(denoiser, 20, generator=torch.Generator().manual_seed(0)),
        cached(denoiser, 20, steps=3, generator=torch.Generator().manual_seed(0)),
    ):
        states = made.states(3)
        for b, i in itertools.product(range(20), range(4)):
            state = tuple(states[b, made.event[b, i]].tolist())
            assert state[i] == 3
            expected = math.log(mu(denoiser, state, i)[made.tokens[b, i]])
            assert float(made.log_prob[b, i]) == pytest.approx(expected, abs=1e-6)


def test_gradient_is_kept_at_the_chosen_events_only() -> None:
    denoiser = random_denoiser(3, 2, seed=7)
    keep = torch.tensor([True, False, True])
    made = first_hitting(denoiser, 30, generator=torch.Generator().manual_seed(0), keep_gradient=keep)
    made.log_prob.sum().backward()
    states = made.states(2)
    touched = {tuple(s) for j in (0, 2) for s in states[:, j].tolist()}
    for row, state in enumerate(itertools.product(range(3), repeat=3)):
        got = bool(denoiser.table.grad[row].any())
        assert got == (state in touched), state
    assert not first_hitting(denoiser, 3, generator=torch.Generator()).log_prob.requires_grad


def test_caches_give_the_same_samples_with_fewer_rows() -> None:
    denoiser = random_denoiser(4, 3, seed=8)
    made = {
        cache: ancestral(denoiser, 16, steps=200, generator=torch.Generator().manual_seed(0), cache=cache)
        for cache in ("none", "batch", "row")
    }
    assert torch.equal(made["none"].tokens, made["batch"].tokens)
    assert torch.equal(made["none"].tokens, made["row"].tokens)
    assert made["none"].rows == 16 * 201
    assert made["row"].rows <= 16 * 5
    assert made["row"].rows < made["batch"].rows < made["none"].rows


def test_ten_times_fewer_rows_at_a_thousand_steps_of_64_tokens() -> None:
    class Uniform(torch.nn.Module):
        n_tokens, n_symbols, rows = 64, 5, 0

        def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
            self.rows += len(tokens)
            return torch.zeros((*tokens.shape, 6))

    network = Uniform()
    generator = torch.Generator().manual_seed(0)
    for sampler, options in ((first_hitting, {}), (cached, {"steps": 1000})):
        network.rows = 0
        made = sampler(network, 32, generator=generator, **options)
        assert network.rows == made.rows <= 64 * 32
        assert made.calls <= 64
    network.rows = 0
    plain = ancestral(network, 2, steps=1000, generator=generator)
    assert network.rows == plain.rows
    assert plain.rows / 2 >= 10 * made.rows / 32


def test_argmax_of_left_over_masks_and_only_of_those() -> None:
    denoiser = random_denoiser(2, 3, seed=9)

    generator = torch.Generator().manual_seed(0)
    greedy = cached(denoiser, DRAWS, steps=1, generator=generator, final="argmax")
    assert worst_deviation(histogram(greedy.tokens, 3), dense(law_by_steps(denoiser, 1), 2, 3)) < 4
    from lib.ddpp import samplers

    original = samplers.LAST_TIME
    try:
        samplers.LAST_TIME = 0.9
        best = [max(range(3), key=lambda v, i=i: mu(denoiser, (3, 3), i)[v]) for i in (0, 1)]
        for sampler in (cached, ancestral):
            made = sampler(denoiser, 20_000, steps=1, generator=generator, final="argmax")
            share = float((made.tokens == torch.tensor(best)).all(1).float().mean())
            assert share > 0.8  # both tokens were left over in 81 % of rows
            drawn = sampler(denoiser, 20_000, steps=1, generator=generator)
            assert float((drawn.tokens == torch.tensor(best)).all(1).float().mean()) < 0.6
    finally:
        samplers.LAST_TIME = original


def test_categorical_draws_in_float64() -> None:
    law = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64)
    drawn = draw(law.log(), torch.Generator().manual_seed(0), DRAWS)
    counts = torch.bincount(drawn, minlength=4)
    assert counts[1] == 0
    assert worst_deviation(counts[[0, 2, 3]], law[[0, 2, 3]]) < 3
    # a probability of 1e-12 is still drawn by the uniform numbers that belong to it
    tiny = torch.tensor([1 - 1e-12, 1e-12], dtype=torch.float64).log()
    u = torch.tensor([0.0, 1 - 2e-12, 1 - 0.5e-12], dtype=torch.float64)
    assert draw_from_log_probs(tiny, u).tolist() == [0, 0, 1]


def test_random_orders_are_uniform_over_the_masked_tokens() -> None:
    masked = torch.tensor([True, False, True, True]).expand(60_000, -1)
    event = random_order(masked, torch.Generator().manual_seed(0))
    assert (event[:, 1] == -1).all()
    index = event[:, 0] * 9 + event[:, 2] * 3 + event[:, 3]
    counts = torch.bincount(index, minlength=27)
    counts = counts[counts > 0]
    assert len(counts) == 6
    assert worst_deviation(counts, torch.full((6,), 1 / 6, dtype=torch.float64)) < 3.5
    states = states_before(torch.tensor([[5, 6, 7, 8]]), torch.tensor([[1, -1, 0, 2]]), 3, 9)
    assert states[0].tolist() == [[9, 6, 9, 9], [9, 6, 7, 9], [5, 6, 7, 9]]


def test_same_seed_same_samples_and_batches_do_not_change_the_law() -> None:
    denoiser = random_denoiser(3, 2, seed=10)
    a, b = (sample(denoiser, 100, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    c = sample(denoiser, 90_000, generator=torch.Generator().manual_seed(5), batch_size=7000)
    assert worst_deviation(histogram(c, 2), law_by_orders(denoiser)) < 3.5
    d = sample(denoiser, 10, generator=torch.Generator().manual_seed(5), steps=2, batch_size=4)
    assert d.shape == (10, 3)


def test_errors() -> None:
    denoiser = random_denoiser(2, 2, seed=0)
    generator = torch.Generator()
    with pytest.raises(ValueError, match="n_samples"):
        first_hitting(denoiser, 0, generator=generator)
    with pytest.raises(ValueError, match="steps"):
        cached(denoiser, 1, steps=0, generator=generator)
    with pytest.raises(ValueError, match="final"):
        cached(denoiser, 1, steps=1, generator=generator, final="best")
    with pytest.raises(ValueError, match="cache"):
        ancestral(denoiser, 1, steps=1, generator=generator, cache="all")
    with pytest.raises(ValueError, match="old time"):
        ancestral(denoiser, 1, steps=1, generator=generator, cache="row", time_conditioned=True)
    with pytest.raises(ValueError, match="start"):
        first_hitting(denoiser, 1, generator=generator, start=torch.zeros((1, 3), dtype=torch.long))
