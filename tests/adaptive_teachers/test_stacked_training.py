"""Policies, losses and stacked training against plain references (specification checks 5, 6, 9 and the bugs that look right)."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.adaptive_teachers import experiments, local_search, stacked_training
from lib.adaptive_teachers.deceptive_grid import DeceptiveGrid, Walks
from lib.adaptive_teachers.experiments import train_grid
from lib.adaptive_teachers.grid_methods import METHODS, GridRun, schedule, stacks
from lib.adaptive_teachers.local_search import half_way
from lib.adaptive_teachers.policy_network import StackedPolicy
from lib.adaptive_teachers.profiles import PROFILES, Settings
from lib.adaptive_teachers.stacked_training import GridTask, StackedTraining
from lib.adaptive_teachers.trajectory_balance import roll_out
from lib.profiles import ParameterError, resolve
from lib.records import Run
from lib.stacked import clip_by_member
from tests.adaptive_teachers.small_trainings import train_bare

GRID = DeceptiveGrid(2, 6)
TASK = GridTask(batches=20, batch=4, hidden=12, evaluations=2, l1_samples=1000)


class OneHotPolicy(nn.Module):
    """The plain form: three linear layers on concatenated one-hot vectors."""

    def __init__(self, policy: StackedPolicy, member: int, grid: DeceptiveGrid) -> None:
        super().__init__()
        self.grid = grid
        weights = [w[member].detach().clone() for w in policy.weights()]
        self.layers = nn.ParameterList(nn.Parameter(w) for w in weights)
        self.log_z = nn.Parameter(policy.log_z[member].detach().clone())

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        x = F.one_hot(self.grid.coordinates[states], self.grid.side).flatten(-2).float()
        w1, b1, w2, b2, w3, b3 = self.layers
        h = F.leaky_relu(x @ w1 + b1, 0.01)
        return F.leaky_relu(h @ w2 + b2, 0.01) @ w3 + b3


def plain_residuals(
    grid: DeceptiveGrid, net: OneHotPolicy, walks: Walks, run: int, log_reward: torch.Tensor
) -> torch.Tensor:
    """δ of each walk of one run, transition by transition."""
    deltas = []
    for b in range(walks.terminal.shape[1]):
        delta = log_reward[b] - net.log_z.double()
        for s, a in zip(walks.states[run, b].tolist(), walks.actions[run, b].tolist(), strict=True):
            if a < 0:
                continue
            log_pi = F.log_softmax(net(torch.tensor(s))[: grid.dim + 1], -1)[a]
            after = s + int(grid.strides[a])
            delta = delta + (grid.log_pb[after] if a < grid.dim else 0.0) - log_pi.double()
        deltas.append(delta)
    return torch.stack(deltas)


def test_embedding_sum_equals_one_hot_layers() -> None:
    policy = StackedPolicy(GRID, 12, 3, [torch.Generator().manual_seed(s) for s in range(3)])
    states = torch.randint(0, GRID.n_states, (3, 50), generator=torch.Generator().manual_seed(0))
    for member in range(3):
        expected = OneHotPolicy(policy, member, GRID)(states[member])
        assert torch.allclose(policy(states)[member], expected, atol=1e-6)


def test_initial_weights_are_those_of_linear_layers() -> None:
    policy = StackedPolicy(GRID, 40, 3, [torch.Generator().manual_seed(0)])
    for weight, bias, rows in (
        (policy.embedding, policy.bias1, 12),
        (policy.weight2, policy.bias2, 40),
        (policy.weight3, policy.bias3, 40),
    ):
        bound = rows**-0.5
        assert bound * 0.9 < float(weight.detach().abs().max()) <= bound
        assert float(bias.detach().abs().max()) <= bound


@pytest.mark.parametrize("method", ["TB", "Teacher"])
def test_residuals_loss_and_gradients_equal_the_plain_form(method: str) -> None:
    module = StackedTraining(GRID, [GridRun(method, s) for s in range(2)], TASK)
    walks = module.collect("student")
    losses, taught = module.losses(walks)
    losses.sum().backward()
    for run in range(2):
        net = OneHotPolicy(module.policy, run, GRID)
        delta = plain_residuals(GRID, net, walks, run, GRID.log_reward[walks.terminal[run]])
        loss = delta.square().mean()
        assert float(losses[run]) == pytest.approx(float(loss), rel=1e-5)
        loss.backward()
        gradients = [p.grad for name, p in module.policy.named_parameters() if name != "log_z"]
        for ours, theirs in zip(gradients, net.layers, strict=True):
            assert torch.allclose(ours[run], theirs.grad, rtol=1e-4, atol=1e-4 * float(theirs.grad.norm()))  # type: ignore[index,union-attr,arg-type]
        assert float(module.policy.log_z.grad[run]) == pytest.approx(float(net.log_z.grad), rel=1e-4)  # type: ignore[index,arg-type]
        weight = torch.where(delta > 0, 20.0, 1.0)
        expected = torch.log(torch.log(1.001 + weight * delta**2) + 1e-8)
        assert torch.allclose(taught[run], expected.double(), rtol=1e-4)
        if method == "Teacher":
            teacher = OneHotPolicy(module.policy, 2 + run, GRID)
            own = plain_residuals(GRID, teacher, walks, run, expected.detach()).square().mean()
            assert float(losses[2 + run]) == pytest.approx(float(own), rel=1e-4)


def test_teacher_and_student_do_not_leak_into_each_other() -> None:
    module = StackedTraining(GRID, [GridRun("Teacher", 0)], TASK)
    walks = module.collect("student")
    losses, _ = module.losses(walks)
    losses[1].backward(retain_graph=True)
    assert all(float(p.grad[0].abs().sum()) == 0 for p in module.policy.parameters() if p.grad is not None)
    assert sum(float(p.grad[1].abs().sum()) for p in module.policy.parameters() if p.grad is not None) > 0
    module.zero_grad()
    losses[0].backward()
    assert all(float(p.grad[1].abs().sum()) == 0 for p in module.policy.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "names",
    [
        ("TB", "ε-noisy", "Teacher"),
        ("PRT", "PER", "Teacher + PER", "Teacher + PRT"),
        ("GAFN",),
        ("DB", "Teacher, DB"),
        ("Teacher + local search",),
        ("TB, 2x steps",),
    ],
)
def test_a_stack_equals_separate_runs(names: tuple[str, ...]) -> None:
    """20 gradient steps or more: weights, log Z, visited cells and curves, within 1e-5."""
    runs = [GridRun(name, seed) for name in names for seed in (0, 3)]
    together = train_bare(GRID, runs, TASK)
    teachers = [r for r in runs if r.spec.teacher]
    for i, run in enumerate(runs):
        alone = train_bare(GRID, [run], TASK)
        members = [i, *([len(runs) + teachers.index(run)] if run in teachers else [])]
        for (name, ours), theirs in zip(
            together.policy.named_parameters(), alone.policy.parameters(), strict=True
        ):
            assert torch.allclose(ours[members], theirs, atol=1e-5), (run, name)
        assert torch.equal(together.visited[i], alone.visited[0])
        assert together.results[i].calls == alone.results[0].calls
        assert together.results[i].last("tv") == pytest.approx(alone.results[0].last("tv"), abs=1e-5)


def test_members_differ_by_seed() -> None:
    module = train_bare(GRID, [GridRun("TB", 0), GridRun("TB", 1)], TASK)
    assert not torch.allclose(module.policy.weight2[0], module.policy.weight2[1])


def test_gradients_are_clipped_member_by_member() -> None:
    policy = StackedPolicy(GRID, 8, 3, [torch.Generator().manual_seed(s) for s in range(2)])
    for p in policy.parameters():
        p.grad = torch.ones_like(p)
        p.grad[1] *= 1e-6
    small = policy.weight2.grad[1].clone()  # type: ignore[index]
    clip_by_member(policy.parameters(), 1.0)
    norm = sum(float(p.grad[0].square().sum()) for p in policy.parameters() if p.grad is not None) ** 0.5
    assert norm == pytest.approx(1.0, abs=1e-4)
    assert torch.equal(policy.weight2.grad[1], small)  # type: ignore[index]


def test_log_z_learns_at_its_own_rate() -> None:
    module = StackedTraining(GRID, [GridRun("TB", 0)], TASK)
    groups = module.configure_optimizers().param_groups
    assert [g["lr"] for g in groups] == [1e-3, 0.1]
    assert groups[1]["params"] == [module.policy.log_z]


# --- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("batches", [24, 100, 101])
def test_every_method_has_the_same_reward_calls(name: str, batches: int) -> None:
    steps = schedule(METHODS[name], batches)
    online = [s for s in steps if s.turn in ("student", "teacher")]
    assert sum(1 + s.search_rounds for s in online) == batches
    if METHODS[name].priority:
        assert [s.turn for s in steps[1::2]] == ["replay"] * len(online)
    if METHODS[name].repeats == 2:
        assert len(steps) == 2 * batches


def test_turns_alternate_as_released() -> None:
    assert "".join(s.turn[0] for s in schedule(METHODS["Teacher"], 8)) == "ssttsstt"
    assert "".join(s.turn[0] for s in schedule(METHODS["Teacher + PER"], 4)) == "srtrsrtr"
    searched = [i for i, s in enumerate(schedule(METHODS["TB + local search"], 120)) if s.search_rounds]
    assert searched[:3] == [7, 15, 23]
    taught = [i for i, s in enumerate(schedule(METHODS["Teacher + local search"], 120)) if s.search_rounds]
    assert taught[:4] == [14, 15, 30, 31]


@pytest.mark.parametrize("name", METHODS)
def test_calls_are_counted_where_rewards_are_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every end point of a forward walk is one call, of online batches and of local search alike; replayed ones are none."""
    asked = 0

    def counting(*arguments: object) -> Walks:
        nonlocal asked
        walks = roll_out(*arguments)  # type: ignore[arg-type]
        asked += walks.terminal.numel()
        return walks

    monkeypatch.setattr(stacked_training, "roll_out", counting)
    monkeypatch.setattr(local_search, "roll_out", counting)
    module = train_bare(GRID, [GridRun(name, 0)], TASK)
    assert asked == module.results[0].calls[-1] == TASK.batches * TASK.batch
    assert module.results[0].student_steps[-1] == len(schedule(METHODS[name], TASK.batches))
    assert module.results[0].teacher_steps[-1] == module.results[0].student_steps[-1] * METHODS[name].teacher


def test_modes_are_counted_on_training_walks_only() -> None:
    module = StackedTraining(GRID, [GridRun("TB", 0)], TASK)
    module.evaluate()
    assert int(module.visited.sum()) == 0
    module.collect("student")
    assert 0 < int(module.visited.sum()) <= TASK.batch


def test_methods_of_different_structure_are_not_stacked() -> None:
    groups = stacks([GridRun(m, 0) for m in METHODS])
    assert [g[0].method for g in groups] == [
        "TB", "GAFN", "PRT", "TB + local search", "Teacher + local search", "DB", "TB, 2x steps", "TB, 2x weights",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="one structure"):
        StackedTraining(GRID, [GridRun("TB", 0), GridRun("PRT", 0)], TASK)
    with pytest.raises(ValueError, match="one structure"):
        StackedTraining(GRID, [], TASK)


# --- pieces of the methods ------------------------------------------------------------------------------------------------


def test_replayed_walks_are_drawn_anew() -> None:
    module = StackedTraining(GRID, [GridRun("PRT", 0)], TASK)
    assert module.buffer is not None
    x = GRID.index(torch.tensor([3, 3])).expand(1, 4)
    module.buffer.add(x, torch.zeros(1, 4))
    drawn = {tuple(a) for _ in range(20) for a in module.collect("replay").actions[0].tolist()}
    assert len(drawn) > 5
    assert int(module.calls) == 0


def test_buffers_hold_reward_or_teacher_reward() -> None:
    module = StackedTraining(GRID, [GridRun("PRT", 0), GridRun("PER", 0)], TASK)
    walks = module.collect("student")
    _, taught = module.losses(walks)
    module.buffer.add(
        walks.terminal, torch.where(module.by_reward.unsqueeze(1), GRID.log_reward[walks.terminal], taught)
    )  # type: ignore[union-attr]
    for k, values in enumerate((GRID.log_reward[walks.terminal[0]], taught[1])):
        held = dict(zip(module.buffer.states[k].tolist(), module.buffer.priority[k].tolist(), strict=True))  # type: ignore[union-attr]
        last = dict(zip(walks.terminal[k].tolist(), values.tolist(), strict=True))
        assert all(held[s] == pytest.approx(last[s]) for s in held if s >= 0)


def test_half_way_drops_half_of_the_states() -> None:
    grid = DeceptiveGrid(2, 8)
    x = grid.index(torch.tensor([[3, 2], [1, 0], [0, 0], [2, 7]])).unsqueeze(0)
    uniform = torch.rand(1, 4, 14, generator=torch.Generator().manual_seed(0))
    state, prefix = half_way(grid, grid.backward_walks(x, uniform))
    moves = grid.coordinates[x].sum(-1)
    assert grid.coordinates[state].sum(-1).tolist() == (moves - (moves + 1) // 2).tolist() == [[2, 0, 0, 4]]
    assert grid.interior[state].all()
    assert ((prefix >= 0).sum(-1) == grid.coordinates[state].sum(-1)).all()


def test_local_search_never_makes_an_end_point_worse_and_gives_valid_walks() -> None:
    module = StackedTraining(GRID, [GridRun("TB + local search", s) for s in range(2)], TASK)
    before = copy.deepcopy(module.generators[0].get_state())
    plain = roll_out(GRID, module.policy, module.behaviour("student"), module.draw(4, GRID.max_steps))
    for g, seed in zip(module.generators, range(2), strict=True):
        g.manual_seed(2**32 + seed)
    assert torch.equal(module.generators[0].get_state(), before)
    walks = module.collect("student", 4)
    assert (GRID.reward[walks.terminal] >= GRID.reward[plain.terminal]).all()
    ends = GRID.end_points(walks)
    for k in range(2):
        for b in range(4):
            live = walks.live[k, b]
            states, following = walks.states[k, b][live], ends[k, b][live]
            assert states[0] == 0
            assert (states[1:] == following[:-1]).all()
            assert following[-1] == walks.terminal[k, b]


def plain_db_loss(net: OneHotPolicy, walks: Walks) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ d² of each walk of run 0, and the Teacher's reward as a sum over transitions."""
    losses, rewards = [], []
    for b in range(walks.terminal.shape[1]):
        path = [
            (s, a)
            for s, a in zip(walks.states[0, b].tolist(), walks.actions[0, b].tolist(), strict=True)
            if a >= 0
        ]
        terms = []
        for i, (s, a) in enumerate(path):
            out = net(torch.tensor(s))
            log_pf = F.log_softmax(out[:3], -1)[a]
            after = s + int(GRID.strides[a])
            log_pb = GRID.log_pb[after] if a < 2 else torch.tensor(0.0)
            last = i == len(path) - 1
            flow = GRID.log_reward[walks.terminal[0, b]] if last else net(torch.tensor(path[i + 1][0]))[3]
            terms.append(flow + log_pb - out[3] - log_pf)
        d = torch.stack(terms)
        losses.append(d.square().sum())
        rewards.append(torch.log(1.001 + torch.where(d > 0, 20.0, 1.0) * d**2).sum())
    return torch.stack(losses), torch.stack(rewards)


def test_detailed_balance_against_the_plain_form() -> None:
    module = StackedTraining(GRID, [GridRun("Teacher, DB", 0)], TASK)
    walks = module.collect("student")
    losses, taught = module.losses(walks)
    expected, rewards = plain_db_loss(OneHotPolicy(module.policy, 0, GRID), walks)
    assert float(losses[0]) == pytest.approx(float(expected.mean()), rel=1e-5)
    assert torch.allclose(taught[0].exp(), rewards.double() + 1e-8, rtol=1e-4)


def test_gafn_against_the_plain_form() -> None:
    module = StackedTraining(GRID, [GridRun("GAFN", 0)], TASK)
    walks = module.collect("student")
    losses, _ = module.losses(walks)
    net, rnd = OneHotPolicy(module.policy, 0, GRID), module.distillation
    assert rnd is not None

    def bonus(state: int) -> torch.Tensor:
        s = torch.tensor([[state]])
        return 0.01 * (rnd.predictor(s) - rnd.target(s))[0, 0].norm().double()

    squares = []
    for b in range(TASK.batch):
        path = [
            (s, a)
            for s, a in zip(walks.states[0, b].tolist(), walks.actions[0, b].tolist(), strict=True)
            if a >= 0
        ]
        x = int(walks.terminal[0, b])
        delta = torch.log(GRID.log_reward[x].exp() + bonus(x)) - net.log_z.double()
        for i, (s, a) in enumerate(path):
            after = s + int(GRID.strides[a])
            log_pb = GRID.log_pb[after] if a < 2 else torch.tensor(0.0)
            if i < len(path) - 1:
                log_pb = torch.log(log_pb.exp() + bonus(after) / net(torch.tensor(after))[3].double().exp())
            delta = delta + log_pb - F.log_softmax(net(torch.tensor(s))[:3], -1)[a].double()
        squares.append(delta.square())
    assert float(losses[0]) == pytest.approx(float(torch.stack(squares).mean()), rel=1e-5)


# --- runs ---------------------------------------------------------------------------------------------------------------


def start(tmp_path: Path, **overrides: object) -> Run[Settings]:
    return Run.start(
        "adaptive_teachers",
        PROFILES,
        profile="smoke",
        accelerator="cpu",
        out_dir=tmp_path,
        overrides=overrides,
    )


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    module = StackedTraining(GRID, [GridRun("TB", 0)], TASK)
    with torch.no_grad():
        module.policy.log_z.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite at step 0"):
        module.training_step(None, 0)


def test_measures_of_the_ledger(tmp_path: Path) -> None:
    run = start(tmp_path)
    results = [r for job in experiments.grid_jobs(run) for r in train_grid(*job)]
    experiments.measure_grid(run, {(2, 8): results})
    needed = {
        "mode_share_gain_over_best_baseline", "mode_share_gain_at_equal_compute", "exact_tv_gain_over_best_baseline",
        "mode_share_gain_over_onpolicy", "mode_share_gain_over_noisy", "mode_share_gain_over_per",
        "mode_gain_local_search", "mode_gain_teacher_in_replay", "mode_gain_teacher_in_detailed_balance",
        "mode_gain_c19_over_c0",
    }  # fmt: skip
    assert needed <= run.measurements.keys()
    shares = {
        m: [r.mode_share for r in results if r.run.method == m and r.run.asymmetry == 19]
        for m in ("Teacher", "TB")
    }
    gain = [a - b for a, b in zip(shares["Teacher"], shares["TB"], strict=True)]
    assert run.measurements["mode_share_gain_over_onpolicy"].values == pytest.approx(tuple(gain))
    assert {r.calls[-1] for r in results} == {240}
    rows = experiments.table_one(results, 1.0, 0.7)
    assert [r["method"] for r in rows] == [m for m in METHODS if any(x.run.method == m for x in results)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"grid_reward_calls": [100, 200]}, "one number for each"),
        ({"grid_sizes": [[4, 100]]}, "at most"),
        ({"grid_methods": ["TB", "Teecher"]}, "did you mean 'Teacher'"),
        ({"grid_methods": ["TB"]}, "must hold"),
        ({"grid_pb": "uniform"}, "is not one of valid, official"),
        ({"grid_seeds": 0}, "at least 1"),
        ({"grid_sizes": [[2, 8], [2, 8]], "grid_reward_calls": [80, 80]}, "names one of them twice"),
        ({"grid_further_seeds": 9}, "must not exceed"),
        ({"grid_reward_calls": [4]}, "at least grid_batch"),
    ],
)
def test_wrong_settings_end_with_one_line(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        resolve(PROFILES, "smoke", overrides)


def test_the_paper_profile_has_the_papers_budgets_and_starts(tmp_path: Path) -> None:
    paper = PROFILES["paper"]
    assert dict(zip(paper.grid_sizes, paper.grid_reward_calls, strict=True)) == {
        (4, 32): 384_000, (4, 16): 96_000, (2, 256): 96_000, (2, 128): 96_000,
    }  # fmt: skip
    assert (paper.grid_hidden, paper.grid_batch, paper.grid_pb, paper.grid_reward) == (
        256,
        16,
        "official",
        "official",
    )
    run = Run.start("adaptive_teachers", PROFILES, profile="paper", accelerator="cpu", out_dir=tmp_path)
    jobs = experiments.grid_jobs(run)
    assert {(dim, side) for _, dim, side, _, _ in jobs} == set(paper.grid_sizes)
    _, dim, side, runs, task = next(j for j in jobs if j[1:3] == (2, 128) and j[3][0].method == "TB")
    module = StackedTraining(experiments.make_grid(run, dim, side), runs[:1], task)
    walks = module.collect("student")
    losses, _ = module.losses(walks)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
