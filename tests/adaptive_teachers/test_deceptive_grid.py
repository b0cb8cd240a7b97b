"""The environment against tables, enumeration and brute force (specification checks 1 and 2)."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from lib.adaptive_teachers.deceptive_grid import PADDING, DeceptiveGrid
from lib.adaptive_teachers.findings import backward_sum, border_bias, mode_counts, noise_floors
from lib.profiles import ParameterError

# (H, d): terminals, log Z, modes, mode mass, longest episode
TABLE = {
    (8, 2): (63, 2.379604, 4, 0.7407, 13),
    (16, 2): (255, 3.374256, 9, 0.6164, 29),
    (32, 2): (1023, 4.671054, 36, 0.6741, 61),
    (64, 2): (4095, 6.057348, 144, 0.6741, 125),
    (128, 2): (16383, 7.575669, 676, 0.6933, 253),
    (256, 2): (65535, 8.935200, 2601, 0.6850, 509),
    (8, 4): (3773, 5.693186, 16, 0.1078, 25),
    (16, 4): (64125, 8.429158, 81, 0.0354, 57),
    (32, 4): (1042685, 11.027742, 1296, 0.0421, 121),
}


@pytest.mark.parametrize(("size", "expected"), TABLE.items())
def test_table_of_grids(size: tuple[int, int], expected: tuple[int, float, int, float, int]) -> None:
    side, dim = size
    terminals, log_z, modes, mass, steps = expected
    grid = DeceptiveGrid(dim, side)
    assert len(grid.terminals) == terminals == (side - 1) ** dim + dim * (side - 1) ** (dim - 1)
    assert grid.log_z == pytest.approx(log_z, abs=1.5e-6)
    assert grid.n_modes == modes
    assert float(grid.target[grid.is_mode].sum()) == pytest.approx(mass, abs=6e-5)
    assert grid.max_steps == steps
    assert float(grid.target.sum()) == pytest.approx(1.0, abs=1e-12)


def test_rewards_take_three_values() -> None:
    grid = DeceptiveGrid(2, 8)
    values = sorted(set(grid.reward[grid.terminals].tolist()))
    assert values == pytest.approx([1e-5, 0.10001, 2.00001], abs=1e-9)


def test_reward_against_its_formula_in_exact_fractions() -> None:
    from fractions import Fraction

    side = 16
    grid = DeceptiveGrid(2, side, reward="exact")
    for state in grid.terminals.tolist():
        x = [abs(Fraction(2 * int(c), side - 1) - 1) for c in grid.coordinates[state]]
        ring = all(Fraction(3, 5) < v < Fraction(4, 5) for v in x)
        off_cross = all(v > Fraction(1, 5) for v in x)
        assert float(grid.reward[state]) == pytest.approx(1e-5 + 0.1 - 0.1 * off_cross + 2 * ring, abs=1e-12)


def test_floating_point_ties_change_the_number_of_modes() -> None:
    rows = {
        (r["H"], r["d"]): r
        for r in mode_counts([(2, 16), (4, 16), (2, 256), (4, 8), (2, 32), (2, 64), (2, 128)])
    }
    counts = {size: (r["modes, official"], r["modes, exact"]) for size, r in rows.items()}
    assert counts == {
        (16, 2): (9, 4), (16, 4): (81, 16), (256, 2): (2601, 2500), (8, 4): (16, 16), (32, 2): (36, 36),
        (64, 2): (144, 144), (128, 2): (676, 676),
    }  # fmt: skip


@pytest.mark.parametrize(("side", "dim"), [(4, 2), (5, 2), (3, 3), (4, 3)])
def test_valid_backward_policy_sums_to_one_over_all_paths(side: int, dim: int) -> None:
    grid = DeceptiveGrid(dim, side)
    for state in grid.terminals.tolist():
        x = tuple(grid.coordinates[state].tolist())
        assert backward_sum(dim, side, x, "valid") == pytest.approx(1.0, abs=1e-12)


def test_official_backward_policy_loses_mass_on_the_border() -> None:
    assert backward_sum(2, 4, (3, 1), "official") == pytest.approx(0.5, abs=1e-12)
    grid = DeceptiveGrid(2, 5)
    for state in grid.terminals.tolist():
        x = tuple(grid.coordinates[state].tolist())
        border = max(x) == 4
        expected = 1 / sum(c > 0 for c in x) if border else 1.0
        assert backward_sum(2, 5, x, "official") == pytest.approx(expected, abs=1e-12)


def test_bias_of_the_official_optimum() -> None:
    """The numbers of the specification's finding F2."""
    rows = {(r["d"], r["H"]): r for r in border_bias([(2, 32), (2, 64), (2, 256), (4, 8), (4, 16)])}
    for size, tv in {
        (2, 32): 0.0056,
        (2, 64): 0.0028,
        (2, 256): 0.0007,
        (4, 8): 0.190,
        (4, 16): 0.124,
    }.items():
        assert rows[size]["tv"] == pytest.approx(tv, abs=6e-4)
    assert rows[4, 8]["official_log_z"] == pytest.approx(5.455, abs=1e-3)
    assert rows[4, 16]["official_log_z"] == pytest.approx(8.288, abs=1e-3)


def test_noise_floor_of_a_perfect_sampler() -> None:
    rows = {
        (r["d"], r["H"]): r["floor"] for r in noise_floors([(2, 32), (2, 256), (4, 8), (4, 16)], 100_000, 0)
    }
    for size, floor in {(2, 32): 4.00e-5, (2, 256): 5.01e-6, (4, 8): 3.33e-5, (4, 16): 8.15e-6}.items():
        assert rows[size] == pytest.approx(floor, rel=0.03)


def test_backward_walks_are_valid_trajectories() -> None:
    grid = DeceptiveGrid(3, 5)
    terminal = grid.terminals.repeat(2, 3)
    uniform = torch.rand(
        *terminal.shape, grid.dim * (grid.side - 1), generator=torch.Generator().manual_seed(0)
    )
    walks = grid.backward_walks(terminal, uniform)
    state = torch.zeros_like(terminal)
    ended = torch.zeros_like(terminal, dtype=torch.bool)
    for t in range(walks.actions.shape[-1]):
        live = walks.actions[..., t] != PADDING
        assert not (live & ended).any()
        assert (walks.states[..., t][live] == state[live]).all()
        state, over = grid.step(state, walks.actions[..., t].masked_fill(~live, grid.dim))
        ended = ended | (live & over)
    assert ended.all()
    assert (state == terminal).all()


def test_backward_walks_follow_the_backward_policy() -> None:
    """The closed form by sorting clocks against the product of 1/nnz over every path to (2, 1, 1)."""
    grid = DeceptiveGrid(3, 5)
    x = torch.tensor([2, 1, 1])
    n = 20_000
    uniform = torch.rand(1, n, grid.dim * (grid.side - 1), generator=torch.Generator().manual_seed(1))
    walks = grid.backward_walks(grid.index(x).expand(1, n), uniform)
    drawn = Counter(tuple(a) for a in walks.actions[0, :, :4].tolist())
    expected = {}
    for path in set(product(range(3), repeat=4)):
        if Counter(path) != {0: 2, 1: 1, 2: 1}:
            continue
        probability, state = 1.0, x.clone()
        for action in reversed(path):
            probability /= int((state > 0).sum())
            state[action] -= 1
        expected[path] = probability
    assert sum(expected.values()) == pytest.approx(1.0)
    assert drawn.keys() <= expected.keys()
    observed = np.array([drawn[p] for p in expected])
    assert stats.chisquare(observed, n * np.array(list(expected.values()))).pvalue > 1e-3


def test_backward_walks_undo_the_border_first() -> None:
    grid = DeceptiveGrid(2, 5)
    uniform = torch.rand(1, 500, grid.dim * (grid.side - 1), generator=torch.Generator().manual_seed(2))
    walks = grid.backward_walks(grid.index(torch.tensor([2, 4])).expand(1, 500), uniform)
    assert walks.actions.shape[-1] == 6
    assert (walks.actions[..., -1] == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0, "side": 8}, "dim >= 1"),
        ({"dim": 2, "side": 2}, "side >= 3"),
        ({"dim": 8, "side": 32}, "larger than"),
        ({"dim": 2, "side": 8, "reward": "offical"}, "did you mean 'official'"),
        ({"dim": 2, "side": 8, "pb": "uniform"}, "is not one of valid, official"),
    ],
)
def test_wrong_grids_end_with_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        DeceptiveGrid(**arguments)  # type: ignore[arg-type]
