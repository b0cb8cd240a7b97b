"""The exact law against recursion, sampling and analytic optima (specification checks 3, 4, 7)."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from lib.adaptive_teachers import exact_law
from lib.adaptive_teachers.deceptive_grid import BackwardForm, DeceptiveGrid, Walks
from lib.adaptive_teachers.experiments import stationary_point
from lib.adaptive_teachers.policy_network import StackedPolicy
from lib.adaptive_teachers.teacher import teacher_log_reward
from lib.adaptive_teachers.trajectory_balance import roll_out, trajectory_balance_residual


def random_policy(grid: DeceptiveGrid, members: int = 2, scale: float = 6.0) -> StackedPolicy:
    policy = StackedPolicy(grid, 16, grid.dim + 1, [torch.Generator().manual_seed(s) for s in range(members)])
    with torch.no_grad():
        policy.weight3.mul_(scale)
    return policy


def walk_terms(grid: DeceptiveGrid, walks: Walks, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ log P_F and Σ log P_B of each walk, by plain loops."""
    log_pf, log_pb = (torch.zeros(walks.terminal.shape, dtype=torch.float64) for _ in range(2))
    for k, b, t in walks.live.nonzero().tolist():
        s, a = int(walks.states[k, b, t]), int(walks.actions[k, b, t])
        log_pf[k, b] += table[k, s, a].log()
        if a < grid.dim:
            log_pb[k, b] += grid.log_pb[s + int(grid.strides[a])]
    return log_pf, log_pb


@pytest.mark.parametrize(("dim", "side"), [(1, 6), (2, 8), (3, 5), (4, 4)])
def test_law_sums_to_one_and_equals_a_plain_recursion(dim: int, side: int) -> None:
    grid = DeceptiveGrid(dim, side)
    table = exact_law.policy_table(grid, random_policy(grid))
    law = exact_law.terminal_law(grid, table)
    assert torch.allclose(law.sum(1), torch.ones(2, dtype=torch.float64), atol=1e-12)
    assert (law[:, ~grid.is_terminal] == 0).all()
    rows = table[1].numpy()

    @cache
    def visits(state: tuple[int, ...]) -> float:
        if sum(state) == 0:
            return 1.0
        total = 0.0
        for i in range(dim):
            parent = tuple(c - (j == i) for j, c in enumerate(state))
            if parent[i] >= 0 and max(parent) < side - 1:
                total += visits(parent) * rows[np.ravel_multi_index(parent, (side,) * dim), i]
        return total

    for s in grid.terminals.tolist():
        x = tuple(grid.coordinates[s].tolist())
        expected = visits(x) * (rows[s, dim] if max(x) < side - 1 else 1.0)
        assert float(law[1, s]) == pytest.approx(expected, abs=1e-12)


def test_law_agrees_with_the_sampler() -> None:
    """TV of 1e5 walks to the exact law lies in the band of multinomial noise, and walks end in time."""
    grid = DeceptiveGrid(2, 8)
    policy = random_policy(grid, 1, 3.0)
    law = exact_law.exact_law(grid, policy)[0]
    n = 100_000
    uniform = torch.rand(1, n, grid.max_steps, generator=torch.Generator().manual_seed(0))
    walks = roll_out(grid, policy, torch.tensor([0]), uniform)
    assert walks.actions.shape[-1] <= grid.max_steps
    assert grid.is_terminal[walks.terminal].all()
    counts = torch.bincount(walks.terminal[0], minlength=grid.n_states)
    tv = float(exact_law.total_variation(counts / n, law))
    rng = np.random.default_rng(0)
    p = law.numpy() / law.sum().item()
    band = [0.5 * np.abs(rng.multinomial(n, p) / n - p).sum() for _ in range(200)]
    assert min(band) * 0.9 < tv < max(band) * 1.1


def test_noisy_behaviour_mixes_in_the_uniform_action() -> None:
    grid = DeceptiveGrid(2, 8)
    policy = random_policy(grid, 1, 10.0)
    table = exact_law.policy_table(grid, policy)
    uniform = torch.rand(1, 50_000, grid.max_steps, generator=torch.Generator().manual_seed(3))
    walks = roll_out(grid, policy, torch.tensor([0]), uniform, noise=torch.tensor([0.3]))
    share = torch.bincount(walks.actions[0, :, 0], minlength=3) / 50_000
    assert torch.allclose(share.double(), 0.7 * table[0, 0] + 0.1, atol=0.01)


@pytest.mark.parametrize("pb", ["valid", "official"])
@pytest.mark.parametrize(("dim", "side"), [(2, 8), (3, 6), (4, 8)])
def test_analytic_optimum(dim: int, side: int, pb: BackwardForm) -> None:
    """δ = 0 on every walk, log Z as tabulated, and the law is R/Z (valid) or R divided on the border (official)."""
    grid = DeceptiveGrid(dim, side, pb=pb)
    table, log_z = exact_law.optimal_policy(grid)
    assert log_z == pytest.approx(grid.optimal_log_z(), abs=1e-9)
    if pb == "valid":
        assert log_z == pytest.approx(grid.log_z, abs=1e-9)
    law = exact_law.terminal_law(grid, table)[0]
    assert float(exact_law.total_variation(law, grid.optimal_law())) < 1e-10
    terminal = grid.terminals[:: max(1, len(grid.terminals) // 60)].unsqueeze(0)
    uniform = torch.rand(
        *terminal.shape, grid.dim * (grid.side - 1), generator=torch.Generator().manual_seed(0)
    )
    walks = grid.backward_walks(terminal, uniform)
    log_pf, log_pb = walk_terms(grid, walks, table)
    delta = trajectory_balance_residual(
        grid.log_reward[terminal], log_pb, torch.tensor([log_z]).double(), log_pf
    )
    assert float(delta.abs().max()) < 1e-6  # log_z passes through float32 in the tensor above
    reward = teacher_log_reward(delta, torch.zeros_like(delta))
    assert torch.allclose(reward.exp(), torch.full_like(reward, np.log(1.001)), rtol=1e-6)


def test_official_optimum_misses_the_target_and_the_valid_one_does_not() -> None:
    official, valid = DeceptiveGrid(4, 8, pb="official"), DeceptiveGrid(4, 8)
    laws = [exact_law.terminal_law(g, exact_law.optimal_policy(g)[0])[0] for g in (official, valid)]
    tv = [float(exact_law.total_variation(law, valid.target)) for law in laws]
    assert tv[0] == pytest.approx(0.1895, abs=5e-4)
    assert tv[1] < 1e-10


@pytest.mark.parametrize("mixing", [0.0, 0.5, 1.0])
def test_stationary_point_of_joint_training(mixing: float) -> None:
    assert stationary_point(2, 8, mixing) < 1e-8
    assert stationary_point(3, 5, mixing) < 1e-8


def test_a_student_off_its_optimum_is_no_stationary_point() -> None:
    """The check above can fail: with a wrong log Z the Teacher's reward is not constant in δ any more."""
    grid = DeceptiveGrid(2, 8)
    policy = random_policy(grid, 1)
    table = exact_law.policy_table(grid, policy)
    delta, _ = exact_law.expected_residual(grid, table, torch.tensor([grid.log_z]), grid.log_reward)
    reward = teacher_log_reward(delta[0], grid.log_reward)
    teacher, _ = exact_law.optimal_policy(grid, reward)
    law = exact_law.terminal_law(grid, teacher)[0]
    uniform = grid.is_terminal.double() / grid.is_terminal.sum()
    assert float(exact_law.total_variation(law, uniform)) > 0.05


def test_expected_residual_against_many_backward_walks() -> None:
    grid = DeceptiveGrid(2, 8)
    policy = random_policy(grid, 1, 3.0)
    table = exact_law.policy_table(grid, policy)
    log_z = torch.tensor([1.3])
    mean, square = exact_law.expected_residual(grid, table, log_z, grid.log_reward)
    x = grid.index(torch.tensor([[3, 4], [2, 7]])).repeat(3000).unsqueeze(0)
    uniform = torch.rand(*x.shape, grid.dim * (grid.side - 1), generator=torch.Generator().manual_seed(0))
    log_pf, log_pb = walk_terms(grid, grid.backward_walks(x, uniform), table)
    delta = trajectory_balance_residual(grid.log_reward[x], log_pb, log_z, log_pf)[0]
    for i in range(2):
        own = delta[i::2]
        assert float(own.mean()) == pytest.approx(
            float(mean[0, x[0, i]]), abs=5 * float(own.std()) / 3000**0.5
        )
        assert float(own.square().mean()) == pytest.approx(float(square[0, x[0, i]]), rel=0.05)
    with pytest.raises(ValueError, match="valid"):
        exact_law.expected_residual(DeceptiveGrid(2, 8, pb="official"), table, log_z, grid.log_reward)


def test_residual_is_positive_where_the_student_gives_almost_no_mass() -> None:
    """The sign: starve one mode by changing the optimal policy in its stop action, and δ is positive there."""
    grid = DeceptiveGrid(2, 8)
    table, log_z = exact_law.optimal_policy(grid)
    mode = int(grid.is_mode.nonzero()[0])
    starved = table.clone()
    starved[0, mode, -1] *= 1e-4
    starved[0, mode] /= starved[0, mode].sum()
    delta, _ = exact_law.expected_residual(grid, starved, torch.tensor([log_z]), grid.log_reward)
    assert float(delta[0, mode]) > 5
    before, after = exact_law.terminal_law(grid, table)[0], exact_law.terminal_law(grid, starved)[0]
    over = int(
        (after / before.clamp(min=1e-300) * grid.is_terminal).argmax()
    )  # a state that now has too much
    assert float(delta[0, over]) < 0


def test_distances_on_small_laws() -> None:
    p, q = torch.tensor([[0.5, 0.5, 0.0]]).double(), torch.tensor([0.25, 0.25, 0.5]).double()
    assert float(exact_law.total_variation(p, q)) == pytest.approx(0.5)
    assert float(exact_law.kl_divergence(p[0], q)) == pytest.approx(np.log(2))
    assert float(exact_law.kl_divergence(q, p[0])) == np.inf


def test_mode_recall_counts_modes_with_half_their_mass() -> None:
    grid = DeceptiveGrid(2, 8)
    law = grid.target.clone()
    assert float(exact_law.mode_recall(grid, law, grid.target)) == 1.0
    law[grid.is_mode.nonzero()[0]] *= 0.4
    assert float(exact_law.mode_recall(grid, law, grid.target)) == 0.75
