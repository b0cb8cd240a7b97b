"""Strings that grow at both ends: the process, policies, exact law, replay, and stacked trainings, against plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lib.adaptive_teachers.biochemical_tasks import (
    TASKS,
    NeighbourScore,
    SequenceTask,
    TableScore,
    TaskSizes,
    load_task,
)
from lib.adaptive_teachers.profiles import PROFILES
from lib.adaptive_teachers.sequence_policy import (
    ChildScorer,
    effective_support,
    exact_law,
    log_partition,
    mode_recall,
    total_variation,
)
from lib.adaptive_teachers.sequence_space import SequenceSpace
from lib.adaptive_teachers.sequence_training import (
    METHODS,
    SequenceRun,
    SequenceSizes,
    StackedSequences,
    halves,
    squared,
    train_sequences,
)
from lib.records import Run

LETTERS = "ABCD"


def _children(string: str, symbols: int) -> list[str]:
    """Unique children by sets of Python strings, the independent reference."""
    letters = LETTERS[:symbols]
    return list(dict.fromkeys([string + a for a in letters] + [a + string for a in letters]))


def _parents(string: str) -> set[str]:
    return {string[1:], string[:-1]}


def _code(string: str, symbols: int) -> int:
    code = 0
    for letter in string:
        code = code * symbols + LETTERS.index(letter)
    return code


def _strings(symbols: int, length: int) -> list[str]:
    return ["".join(t) for t in itertools.product(LETTERS[:symbols], repeat=length)]


# --- process ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("symbols", "length"), [(2, 5), (3, 4), (4, 3)])
def test_children_and_parents_are_those_of_sets_of_strings(symbols: int, length: int) -> None:
    space = SequenceSpace(length, symbols)
    for k in range(length):
        strings = _strings(symbols, k)
        codes = torch.tensor([_code(s, symbols) for s in strings])
        children, counts = space.children(codes, k)
        for s, row, valid in zip(strings, children, counts, strict=True):
            expected = sorted(_code(c, symbols) for c in _children(s, symbols))
            assert sorted(row[valid].tolist()) == expected
            assert set(row.tolist()) == set(expected)
        below = torch.tensor([_code(s, symbols) for s in _strings(symbols, k + 1)])
        log_pb = space.log_pb(below, k + 1)
        for s, last, first, probability in zip(
            _strings(symbols, k + 1), *space.parents(below, k + 1), log_pb, strict=True
        ):
            assert {int(last), int(first)} == {_code(p, symbols) for p in _parents(s)}
            assert float(probability.exp()) == pytest.approx(1 / len(_parents(s)))


def test_numbers_of_children_and_parents() -> None:
    """'' has A children, a constant string 2A − 1, another one 2A; 'AAA' has one parent, with probability one."""
    space = SequenceSpace(8, 4)
    assert int(space.children(torch.tensor([0]), 0)[1].sum()) == 4
    counts = space.children(torch.tensor([0, 21, 27]), 3)[1].sum(1)  # AAA, CCC, CGT
    assert counts.tolist() == [7, 7, 8]
    assert space.log_pb(torch.tensor([0, 27]), 3).tolist() == pytest.approx([0, -math.log(2)])
    assert space.constant(torch.tensor([0, 5, 6, 15]), 2).tolist() == [True, True, False, True]


@given(st.integers(2, 4), st.integers(1, 5), st.integers(0, 10_000))
def test_backward_walks_reach_the_empty_string_and_their_actions_lead_back(
    symbols: int, length: int, seed: int
) -> None:
    space = SequenceSpace(length, symbols)
    g = torch.Generator().manual_seed(seed)
    leaves = torch.randint(space.n_leaves, (2, 5), generator=g)
    path = space.walk_back(leaves, torch.rand(2, 5, length, generator=g))
    assert not path[..., 0].any()
    torch.testing.assert_close(path[..., -1], leaves)
    actions = space.actions(path)
    for k in range(length):
        children, counts = space.children(path[..., k], k)
        action = actions[..., k, None]
        torch.testing.assert_close(children.gather(-1, action).squeeze(-1), path[..., k + 1])
        assert counts.gather(-1, action).all()
    torch.testing.assert_close(space.encode(space.digits(leaves, length)), leaves)


def test_backward_probabilities_of_all_paths_to_a_string_sum_to_one() -> None:
    space = SequenceSpace(4, 2)
    for leaf in range(space.n_leaves):
        choices = torch.cartesian_prod(*[torch.tensor([0.25, 0.75])] * 4)
        paths = space.walk_back(torch.full((len(choices),), leaf), choices).unique(dim=0)
        assert float(space.log_pb_of_paths(paths).exp().sum()) == pytest.approx(1)


def test_impossible_spaces_are_refused() -> None:
    for length, symbols in ((0, 4), (3, 1), (40, 4)):
        with pytest.raises(ValueError, match=r"needs a length|too many"):
            SequenceSpace(length, symbols)


# --- policy -------------------------------------------------------------------------------------------------------


def _policy(space: SequenceSpace, members: int = 2, hidden: int = 6) -> ChildScorer:
    policy = ChildScorer(space, hidden, [torch.Generator().manual_seed(i) for i in range(members)])
    with torch.no_grad():
        policy.last.weight.mul_(8)  # a policy far from uniform
    return policy


def _plain_log_probabilities(policy: ChildScorer, member: int, string: str) -> dict[str, float]:
    """The definition: encode parent and child from their one-hot vectors, score the pair, softmax over unique children."""
    space = policy.space

    def encode(s: str) -> Tensor:
        x = torch.zeros(space.length * space.symbols)
        for j, letter in enumerate(s):
            x[j * space.symbols + LETTERS.index(letter)] = 1
        h = x @ policy.first.weight[member] + policy.first.bias[member]
        h = torch.nn.functional.leaky_relu(h, 0.01)
        return h @ policy.second.weight[member] + policy.second.bias[member]

    children = _children(string, space.symbols)
    pairs = torch.stack([torch.cat([encode(string), encode(c)]) for c in children])
    h = torch.nn.functional.leaky_relu(pairs @ policy.pair.weight[member] + policy.pair.bias[member], 0.01)
    scores = (h @ policy.last.weight[member] + policy.last.bias[member]).squeeze(1)
    return dict(zip(children, torch.log_softmax(scores, 0).tolist(), strict=True))


def _plain_law(policy: ChildScorer, member: int) -> dict[str, float]:
    """Probabilities of all end points by recursion over Python strings."""
    level = {"": 1.0}
    for _ in range(policy.space.length):
        below: dict[str, float] = {}
        for s, p in level.items():
            for child, log_p in _plain_log_probabilities(policy, member, s).items():
                below[child] = below.get(child, 0) + p * math.exp(log_p)
        level = below
    return level


@torch.no_grad()
def test_scores_are_those_of_the_plain_definition() -> None:
    space = SequenceSpace(4, 3)
    policy = _policy(space)
    weights = policy.weights()
    for k in range(4):
        strings = _strings(3, k)
        codes = torch.tensor([_code(s, 3) for s in strings])
        logits = policy.logits(weights, codes.expand(2, -1), k)
        found = torch.log_softmax(logits, -1)
        children, counts = space.children(codes, k)
        for member in range(2):
            for i, s in enumerate(strings):
                expected = {_code(c, 3): p for c, p in _plain_log_probabilities(policy, member, s).items()}
                valid = counts[i]
                got = dict(zip(children[i][valid].tolist(), found[member, i][valid].tolist(), strict=True))
                assert got == pytest.approx(expected, abs=1e-5)
                assert torch.isinf(found[member, i][~valid]).all()


@torch.no_grad()
def test_a_pass_along_whole_paths_is_the_passes_over_each_length() -> None:
    space = SequenceSpace(5, 3)
    policy = _policy(space)
    g = torch.Generator().manual_seed(0)
    leaves = torch.cat(
        [torch.randint(space.n_leaves, (2, 30), generator=g), torch.tensor([[0, 121], [242, 1]])], 1
    )
    path = space.walk_back(leaves, torch.rand(2, 32, 5, generator=g))
    along = policy.logits_along(policy.weights(), path)
    for k in range(5):
        logits = policy.logits(policy.weights(), path[..., k], k)
        torch.testing.assert_close(along[:, :, k], logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            space.counts_along(path[..., :-1])[:, :, k], space.children(path[..., k], k)[1]
        )


@torch.no_grad()
def test_exact_law_sums_to_one_and_equals_the_recursion_over_strings() -> None:
    space = SequenceSpace(4, 3)
    policy = _policy(space)
    log_r = 3 * torch.randn(space.n_leaves, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    law = exact_law(policy, log_r)
    torch.testing.assert_close(law.leaves.sum(1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-6)
    for member in range(2):
        plain = {_code(s, 3): p for s, p in _plain_law(policy, member).items()}
        expected = torch.tensor([plain[i] for i in range(space.n_leaves)], dtype=torch.float64)
        torch.testing.assert_close(law.leaves[member], expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_exact_bounds_are_the_expectations_over_all_paths() -> None:
    space = SequenceSpace(3, 2)
    policy = _policy(space, members=1)
    log_r = torch.randn(space.n_leaves, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.softmax(log_r, 0)
    elbo = eubo = 0.0
    for leaf in range(space.n_leaves):
        choices = torch.cartesian_prod(*[torch.tensor([0.25, 0.75])] * 3)
        for path in space.walk_back(torch.full((8,), leaf), choices).unique(dim=0):
            log_pf = float(policy.log_pf(path.view(1, 1, -1)).sum())
            log_pb = float(space.log_pb_of_paths(path))
            weight = float(log_r[leaf]) + log_pb - log_pf
            elbo += math.exp(log_pf) * weight
            eubo += float(target[leaf]) * math.exp(log_pb) * weight
    law = exact_law(policy, log_r)
    assert float(law.elbo) == pytest.approx(elbo, abs=1e-5)
    assert float(law.eubo) == pytest.approx(eubo, abs=1e-5)
    assert float(law.elbo) < log_partition(log_r) < float(law.eubo)
    with pytest.raises(ValueError, match="must have 8 entries"):
        exact_law(policy, log_r[:-1])


@torch.no_grad()
def test_samples_follow_the_exact_law_with_and_without_exploration() -> None:
    space, n = SequenceSpace(3, 3), 60_000
    policy = _policy(space)
    law = exact_law(policy, torch.zeros(space.n_leaves)).leaves
    uniform = torch.rand(2, n, 3, generator=torch.Generator().manual_seed(0))
    path = policy.sample(uniform)
    for member in range(2):
        counts = torch.bincount(path[member, :, -1], minlength=space.n_leaves).double()
        expected = n * law[member]
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert chi_square < 26 + 5 * math.sqrt(52)
    wholly = policy.sample(
        uniform, exploration=1.0
    )  # the first step: one of A children; then uniform over the unique ones
    first = torch.bincount(wholly[0, :, 1], minlength=3) / n
    assert (first - 1 / 3).abs().max() < 0.01
    after_constant = wholly[0][wholly[0, :, 1] == 0][:, 2]  # children of 'A': AA (once), AB, AC, BA, CA
    frequencies = torch.bincount(after_constant, minlength=9)[[0, 1, 2, 3, 6]] / len(after_constant)
    assert (frequencies - 0.2).abs().max() < 0.015


def test_distances_and_concentration_of_known_laws() -> None:
    log_r = torch.log(torch.tensor([0.5, 0.25, 0.25, 1e-300], dtype=torch.float64))
    law = torch.tensor([[0.25, 0.5, 0.25, 0.0], [0.5, 0.25, 0.25, 0.0]], dtype=torch.float64)
    assert total_variation(law, log_r).tolist() == pytest.approx([0.25, 0])
    assert mode_recall(torch.tensor([[0.2, 0.5, 0.3, 0.0]]), log_r, torch.tensor([0, 1])).tolist() == [0.5]
    entropy, support = effective_support(torch.zeros(50))
    assert (entropy, support) == pytest.approx((math.log(50), 50))
    assert log_partition(torch.zeros(50)) == pytest.approx(math.log(50))


# --- replay and training ------------------------------------------------------------------------------------------


def test_half_a_replay_batch_comes_from_the_top_tenth() -> None:
    g = torch.Generator().manual_seed(0)
    size = torch.tensor([1000, 15, 1])
    ranks = halves(size, torch.rand(3, 20_000, generator=g))
    top, rest = ranks[:, :10_000], ranks[:, 10_000:]
    assert int(top[0].max()) == 99
    assert int(rest[0].min()) == 100
    assert int(rest[0].max()) == 999
    assert top[1].unique().tolist() == [0, 1]
    assert rest[1].unique().tolist() == list(range(2, 15))
    assert ranks[2].unique().tolist() == [0]
    frequencies = torch.bincount(top[0], minlength=100).double()
    assert float(((frequencies - 100) ** 2 / 100).sum()) < 99 + 5 * math.sqrt(198)


def test_clamped_squares_carry_no_gradient() -> None:
    delta = torch.tensor([3.0, -80.0], requires_grad=True)
    value = squared(delta)
    assert value.tolist() == [9, 5000]
    value.sum().backward()
    assert delta.grad is not None
    assert delta.grad.tolist() == [6, 0]


def _task(length: int = 4, symbols: int = 3) -> SequenceTask:
    space = SequenceSpace(length, symbols)
    y = torch.rand(space.n_leaves, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sizes = TaskSizes(length, None, symbols, 4.0, 10.0, 1e-20, 0.0, 0.01, 8, 10, 5)
    task = SequenceTask(
        "toy", space, sizes, TableScore(y), float(y.max()), y.topk(5).indices.sort().values, "real"
    )
    task.log_z = log_partition(task.all_log_rewards())
    return task


def _run(tmp_path: Path, **options: Any) -> Run[Any]:
    return Run.start(
        "adaptive_teachers", PROFILES, profile="smoke", accelerator="cpu", out_dir=tmp_path, **options
    )


TINY = SequenceSizes(
    rounds=12, hidden=6, exploration=0.05, batch=8, capacity=20, learning_rate=0.002, evaluations=2
)


@pytest.fixture
def _double() -> Iterator[None]:
    """Networks in float64: Adam turns the rounding noise of a vanishing gradient into whole steps."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("methods", [METHODS[:2], METHODS[2:]])
def test_stacked_sequences_equal_separate_ones(tmp_path: Path, methods: tuple[str, ...]) -> None:
    run, task = _run(tmp_path), _task()
    runs = [SequenceRun(m, s) for m in methods for s in (1, 2)]
    runs.append(SequenceRun(methods[-1], 1, mixing=0.0, asymmetry=0.0))
    together = train_sequences(run, task, runs, TINY)
    for alone_run, stacked in zip(runs, together, strict=True):
        alone = train_sequences(run, task, [alone_run], TINY)[0]
        assert stacked.run == alone.run == alone_run
        assert stacked.modes == alone.modes
        assert stacked.gradient_steps == alone.gradient_steps == [0, 6 * (1 + bool(alone_run.replay)), 12 * (1 + bool(alone_run.replay))]  # fmt: skip
        assert stacked.reward_calls == [0, 48, 96]  # the same for all methods
        for name in ("elbo", "eubo", "tv", "recall", "mode_mass"):
            np.testing.assert_allclose(getattr(stacked, name), getattr(alone, name), rtol=1e-9, atol=1e-9)
        for lower, upper in zip(stacked.elbo, stacked.eubo, strict=True):
            assert lower < stacked.log_z < upper
    assert together[-1].elbo[-1] != together[-3].elbo[-1]


def test_training_fits_the_target_where_it_is_small(tmp_path: Path) -> None:
    """On a space of 27 strings with a mild reward the residuals vanish: ELBO, log Z and EUBO meet."""
    task = _task(3, 3)
    sizes = SequenceSizes(
        250, 24, 0.05, batch=32, capacity=27, learning_rate=0.01, log_z_rate=0.1, evaluations=1
    )
    for result in train_sequences(
        _run(tmp_path), task, [SequenceRun("TB", 0), SequenceRun("Teacher", 0)], sizes
    ):
        assert result.eubo[-1] - result.elbo[-1] < 0.2 < result.eubo[0] - result.elbo[0]
        assert result.tv[-1] < 0.1 < result.tv[0]


def test_teacher_and_student_share_no_gradient_and_the_reward_is_the_papers() -> None:
    task = _task()
    module = StackedSequences(task, [SequenceRun("TB", 0), SequenceRun("Teacher", 0)], TINY)
    module.on_fit_start()
    path = module.online_paths()
    log_r = task.log_reward(path[..., -1])
    student, surprise, teacher = module.losses(path, log_r)
    assert teacher is not None
    teacher.sum().backward(retain_graph=True)
    assert all(p.grad is None or not p.grad.any() for p in module.student.parameters())
    module.zero_grad()
    student.sum().backward()
    assert module.teacher is not None
    assert all(p.grad is None or not p.grad.any() for p in module.teacher.parameters())
    log_pf = module.student.log_pf(path).double().sum(-1)
    delta = log_r + task.space.log_pb_of_paths(path) - 5.0 - log_pf
    weight = torch.where(delta > 0, 20.0, 1.0)
    expected = torch.log(torch.log(1.001 + weight * delta.square().clamp(max=5000)))
    torch.testing.assert_close(surprise, expected.detach(), rtol=1e-6, atol=1e-6)


def test_every_third_online_batch_is_the_teachers() -> None:
    module = StackedSequences(_task(), [SequenceRun("TB", 0), SequenceRun("Teacher", 0)], TINY)
    assert module.teacher is not None
    with torch.no_grad():
        module.teacher.last.weight.mul_(50)
    same = []
    for module.done in range(6):
        module.on_fit_start()  # the same numbers every time
        path = module.online_paths()
        same.append(torch.equal(path[0], path[1]))  # both Students start from the same weights
    assert same == [True, True, False, True, True, False]


def test_tasks_too_large_for_a_table_are_judged_on_samples(tmp_path: Path) -> None:
    """The estimates agree with the exact law of the same policy."""
    task = _task(5, 3)
    module = StackedSequences(
        task, [SequenceRun("PRT", 0)], SequenceSizes(1, 6, 0.0, evaluation_samples=4096)
    )
    exact = module._exact_columns()
    p = torch.softmax(task.all_log_rewards(), 0)
    task.target_samples = torch.multinomial(
        p, 4096, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    sampled = module._sampled_columns()
    for name in ("elbo", "eubo"):
        assert sampled[name].item() == pytest.approx(exact[name].item(), abs=0.15)
    assert math.isnan(float(sampled["tv"]))
    result = train_sequences(
        _run(tmp_path, data="standin"), load_task(_run(tmp_path, data="standin"), "L14-RNA1"),
        [SequenceRun("Teacher + PER", 0)], SequenceSizes(2, 6, 0.01, batch=4, evaluations=1, evaluation_samples=8),
    )[0]  # fmt: skip
    assert math.isfinite(result.elbo[-1])
    assert math.isnan(result.eubo[-1])
    assert not result.exact


def test_mixed_or_unknown_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="all have replay, or all have none"):
        StackedSequences(_task(), [SequenceRun("TB", 0), SequenceRun("PRT", 0)], TINY)
    with pytest.raises(ValueError, match="not one of TB"):
        SequenceRun("PRTT", 0)
    assert [SequenceRun(m, 0).replay for m in METHODS] == ["", "", "PRT", "PER", "PRT", "PER"]
    assert set(TASKS) == {"TFBind8", "QM9", "sEH", "L14-RNA1", "L14-RNA2", "L14-RNA3"}


@given(st.integers(2, 4), st.integers(2, 5), st.integers(0, 1000))
def test_stand_in_knows_its_best_strings(symbols: int, length: int, seed: int) -> None:
    space = SequenceSpace(length, symbols)
    score = NeighbourScore.seeded(space, seed)
    y = score(torch.arange(space.n_leaves))
    assert float(y.min()) == pytest.approx(0, abs=1e-9)
    assert float(y.max()) == pytest.approx(1, abs=1e-9)
    n = min(7, space.n_leaves)
    torch.testing.assert_close(y[score.best(n)], y.topk(n).values)
