"""The dynamic programme against counting, listing all DAGs, inclusion-exclusion, autodiff, a peer, and identities."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.smbh import dag_posterior as module
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_posterior import LOGARITHMS, WEIGHTS, Sweep, dag_posterior, structure_prior
from lib.smbh.data_matrix import DataMatrixError
from tests.smbh.plain_dags import posterior, random_table

LABELLED_DAGS = {1: 1, 2: 3, 3: 25, 4: 543, 5: 29281, 6: 3781503, 7: 1138779265}


def inclusion_exclusion(weights: np.ndarray) -> float:
    """Partition function by inclusion-exclusion over sinks (Tian and He 2009); signs alternate."""
    n = len(weights)
    A = np.array(
        [[sum(weights[j, P] for P in range(2**n) if P & ~U == 0) for U in range(2**n)] for j in range(n)]
    )
    Z = np.zeros(2**n)
    Z[0] = 1
    for S in range(1, 2**n):
        T = S
        while T:
            rest = S & ~T
            factor = np.prod([A[j, rest] for j in range(n) if T >> j & 1])
            Z[S] += (-1) ** (T.bit_count() + 1) * Z[rest] * factor
            T = (T - 1) & S
    return float(Z[-1])


def without_self(n: int) -> np.ndarray:
    """(n, 2**n) True where the set does not contain the child."""
    return np.array([[not P >> j & 1 for P in range(2**n)] for j in range(n)])


@pytest.mark.parametrize("n", LABELLED_DAGS)
def test_flat_weights_count_the_labelled_dags_exactly(n: int) -> None:
    layered = Sweep(n, WEIGHTS).partition(np.where(without_self(n), 0.0, -np.inf)[None])[0]
    assert layered == LABELLED_DAGS[n]
    assert inclusion_exclusion(without_self(n).astype(float)) == LABELLED_DAGS[n]
    # A prior uniform over node orders would give each DAG its number of linear extensions instead.
    assert dag_posterior(np.zeros((n, 2**n))).log_partition == pytest.approx(
        np.log(LABELLED_DAGS[n]), abs=1e-12
    )


def test_two_variables_in_closed_form() -> None:
    X = standardise(np.random.default_rng(0).normal(size=(20, 2)) @ [[1.0, 0.6], [0.0, 1.0]])
    scores = log_scores(X)
    B = np.exp(scores[1, 0b01] - scores[1, 0])
    result = dag_posterior(scores)
    expected = B / (1 + 2 * B)
    np.testing.assert_allclose(result.edges, [[0, expected], [expected, 0]], atol=1e-12)
    np.testing.assert_allclose(result.paths, result.edges, atol=1e-14)


@pytest.mark.parametrize(
    ("n", "scale"), [(1, 1.0), (2, 3.0), (3, 1.0), (4, 1.0), (4, 30.0), (5, 1.0), (5, 30.0)]
)
def test_equals_the_list_of_all_dags(n: int, scale: float) -> None:
    """543 DAGs at n = 4, 29,281 at n = 5; scores are not those of equivalent classes, so no symmetry can hide a bug."""
    table = random_table(np.random.default_rng(n), n, scale)
    result, plain = dag_posterior(table), posterior(table)
    assert result.log_partition == pytest.approx(plain["log_partition"], rel=1e-13, abs=1e-12)
    for name in ("parent_sets", "edges", "paths", "descendants"):
        np.testing.assert_allclose(getattr(result, name), plain[name], atol=1e-12, err_msg=name)


def test_rows_are_parents_and_ancestors() -> None:
    """0 -> 1 -> 2 forced: a transposed matrix would show here."""
    table = np.full((3, 8), -200.0)
    table[0, 0] = table[1, 0b001] = table[2, 0b010] = 0.0
    result = dag_posterior(table)
    np.testing.assert_allclose(result.edges, [[0, 1, 0], [0, 0, 1], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(result.paths, [[0, 1, 1], [0, 0, 1], [0, 0, 0]], atol=1e-12)
    assert result.descendants is not None
    np.testing.assert_allclose(result.descendants[[0, 1, 2], [0b111, 0b110, 0b100]], 1, atol=1e-12)


def test_inclusion_exclusion_agrees_on_moderate_scores() -> None:
    table = random_table(np.random.default_rng(7), 6)
    expected = np.log(inclusion_exclusion(np.where(without_self(6), np.exp(table), 0.0)))
    assert dag_posterior(table, paths=False).log_partition == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("n", range(3, 11))
@pytest.mark.parametrize("scale", [1.0, 500.0])
def test_parent_sets_equal_those_of_sumu(n: int, scale: float) -> None:
    sumu = pytest.importorskip("sumu", reason="the peer package sumu is not installed")
    table = random_table(np.random.default_rng(100 + n), n, scale)
    allowed = without_self(n)
    logs = sumu.aps(np.ascontiguousarray(table[allowed].reshape(n, -1)))
    peer = np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True))
    result = dag_posterior(table, paths=False)
    np.testing.assert_allclose(result.parent_sets[allowed].reshape(n, -1), peer, atol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 500.0, 5000.0])
def test_weights_and_logarithms_agree_and_nothing_overflows(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = np.stack([random_table(np.random.default_rng(seed), 5, scale) for seed in range(3)])
    chosen = dag_posterior(tables)
    monkeypatch.setattr(module, "SMALLEST_LINEAR_PARTITION", np.inf)  # logarithms always
    logs = dag_posterior(tables)
    assert np.isfinite(chosen.log_partition).all()
    np.testing.assert_allclose(chosen.log_partition, logs.log_partition, rtol=1e-13, atol=1e-12)
    for name in ("parent_sets", "edges", "paths", "descendants"):
        np.testing.assert_allclose(getattr(chosen, name), getattr(logs, name), atol=1e-10, err_msg=name)


def test_conflicting_children_need_logarithms() -> None:
    """Each child wants the other as parent, by 2000 nats: Z underflows as a plain number."""
    table = np.array([[0.0, -np.inf, 2000.0, -np.inf], [0.0, 2000.0, -np.inf, -np.inf]])
    linear = Sweep(2, WEIGHTS).partition((table - table.max(axis=1, keepdims=True))[None])[0]
    assert linear == 0.0
    result = dag_posterior(table)
    assert result.log_partition == pytest.approx(2000 + np.log(2), abs=1e-9)
    np.testing.assert_allclose(result.edges, [[0, 0.5], [0.5, 0]], atol=1e-12)


@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(0.1, 40.0))
@settings(max_examples=30, deadline=None)
def test_identities(seed: int, n: int, scale: float) -> None:
    result = dag_posterior(random_table(np.random.default_rng(seed), n, scale))
    E, P, D = result.edges, result.paths, result.descendants
    assert P is not None
    assert D is not None
    np.testing.assert_allclose(result.parent_sets.sum(axis=-1), 1, atol=1e-10)
    np.testing.assert_allclose(D.sum(axis=-1), 1, atol=1e-10)
    assert (E + E.T <= 1 + 1e-10).all()
    assert (P + P.T <= 1 + 1e-10).all()
    assert (P >= E - 1e-10).all()
    assert (np.diag(P) == 0).all()  # no node is its own ancestor
    assert (np.diag(E) == 0).all()
    childless = [D[s, 1 << s] for s in range(n)]
    assert all(1 - p >= E[s].max() - 1e-10 for s, p in enumerate(childless))


@given(st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_permuting_columns_permutes_the_matrices_and_units_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(20, 5)) @ rng.normal(size=(5, 5))
    order = rng.permutation(5)
    result = dag_posterior(log_scores(standardise(X)))
    permuted = dag_posterior(log_scores(standardise(X[:, order])))
    rescaled = dag_posterior(log_scores(standardise(X * rng.uniform(0.1, 10, 5) - rng.normal(size=5))))
    for name in ("edges", "paths"):
        np.testing.assert_allclose(
            getattr(permuted, name), getattr(result, name)[np.ix_(order, order)], atol=1e-9
        )
        np.testing.assert_allclose(getattr(rescaled, name), getattr(result, name), atol=1e-9)


def layered_log_partition(scores: torch.Tensor) -> torch.Tensor:
    """log Z by the recursion of section 2.4 b as it stands, on tensors, with the positive split of beta."""
    n = len(scores)
    everything = 2**n - 1

    def subsets(members: int) -> list[int]:
        result, S = [], members
        while True:
            result.append(S)
            if S == 0:
                return result
            S = (S - 1) & members

    def go_on(X: int, L: int) -> torch.Tensor:
        outside = everything & ~X
        if outside == 0:
            return torch.zeros((), dtype=torch.float64)
        beta = {
            j: torch.logsumexp(torch.stack([scores[j, P] for P in subsets(X) if P & L or X == 0]), dim=0)
            for j in range(n)
            if outside >> j & 1
        }
        terms = [
            sum((beta[j] for j in beta if T >> j & 1), start=torch.zeros((), dtype=torch.float64))
            + go_on(X | T, T)
            for T in subsets(outside)
            if T
        ]
        return torch.logsumexp(torch.stack(terms), dim=0)

    return go_on(0, 0)


def test_parent_sets_are_the_gradient_of_the_log_partition() -> None:
    table = random_table(np.random.default_rng(5), 4, 2.0)
    scores = torch.tensor(table, requires_grad=True)
    log_partition = layered_log_partition(scores)
    log_partition.backward()
    result = dag_posterior(table)
    assert scores.grad is not None
    np.testing.assert_allclose(result.parent_sets, scores.grad.numpy(), atol=1e-12)
    assert result.log_partition == pytest.approx(log_partition.item(), abs=1e-12)
    step = 1e-5
    for j, P in ((0, 0), (1, 0b0101), (3, 0b0111)):
        up, down = table.copy(), table.copy()
        up[j, P] += step
        down[j, P] -= step
        difference = dag_posterior(up).log_partition - dag_posterior(down).log_partition
        assert difference / (2 * step) == pytest.approx(result.parent_sets[j, P], abs=1e-8)


def test_batches_of_any_shape_equal_single_tables_also_next_to_tables_that_need_logarithms() -> None:
    scales = np.array([[1.0, 900.0, 5.0], [1.0, 2.0, 3.0], [400.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    tables = np.stack(
        [
            [random_table(np.random.default_rng(3 * a + b), 5, scales[a, b]) for b in range(3)]
            for a in range(4)
        ]
    )
    together = dag_posterior(tables)
    assert together.paths is not None
    assert together.log_partition.shape == (4, 3)
    assert together.parent_sets.shape == (4, 3, 5, 32)
    assert together.edges.shape == together.paths.shape == (4, 3, 5, 5)
    for a, b in np.ndindex(4, 3):
        alone = dag_posterior(tables[a, b])
        for name in ("log_partition", "parent_sets", "edges", "paths", "descendants"):
            np.testing.assert_allclose(
                getattr(together, name)[a, b], getattr(alone, name), rtol=1e-12, atol=1e-13
            )


def test_one_lane_equals_several(monkeypatch: pytest.MonkeyPatch) -> None:
    table = random_table(np.random.default_rng(8), 6, 3.0)
    several = dag_posterior(table)
    monkeypatch.setattr(module, "LAST_N_WITH_LANES", 0)
    one = dag_posterior(table)
    for name in ("parent_sets", "edges", "paths", "descendants"):
        np.testing.assert_allclose(getattr(one, name), getattr(several, name), atol=1e-13)


def test_scores_are_left_alone_and_paths_are_optional() -> None:
    table = np.zeros((3, 8))
    result = dag_posterior(table, paths=False)
    assert result.paths is None
    assert result.descendants is None
    assert (table == 0).all()
    np.testing.assert_allclose(result.edges, dag_posterior(table).edges, atol=1e-14)


def test_forbidden_parent_sets() -> None:
    """-inf forbids: here nothing may point at variable 0, and no child may have two parents."""
    table = random_table(np.random.default_rng(11), 4)
    table[0, 1:] = -np.inf
    for P in range(16):
        if P.bit_count() > 1:
            table[:, P] = -np.inf
    for semiring_tables in (table, np.where(np.isfinite(table), 600 * table, -np.inf)):
        result, plain = dag_posterior(semiring_tables), posterior(semiring_tables)
        np.testing.assert_allclose(result.edges, plain["edges"], atol=1e-12)
        np.testing.assert_allclose(result.paths, plain["paths"], atol=1e-12)
        assert (result.edges[:, 0] == 0).all()


@pytest.mark.parametrize("kind", ["flat", "fair", 3.0, 1 / 3, 2])
def test_structure_prior(kind: str | float) -> None:
    table = random_table(np.random.default_rng(12), 4)
    prior = structure_prior(4, kind)
    assert prior.shape == (4, 16)
    for j, mask in np.ndindex(4, 16):
        if mask >> j & 1:
            continue
        l = mask.bit_count()
        ways = len(list(combinations(range(3), l)))
        expected = {"flat": 0.0, "fair": -np.log(ways)}[kind] if isinstance(kind, str) else l * np.log(kind)
        assert prior[j, mask] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(
        dag_posterior(table + prior).edges, posterior(table + prior)["edges"], atol=1e-12
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((3, 4)), "expected"),
        (np.zeros(8), "expected"),
        (np.zeros((15, 2**15)), "possible"),
        (np.full((2, 4), np.nan), "NaN"),
        (np.full((2, 4), np.inf), "inf"),
        (np.full((2, 4), -np.inf), "empty parent set"),
    ],
)
def test_bad_tables_are_one_clear_line(table: np.ndarray, message: str) -> None:
    with pytest.raises(DataMatrixError, match=message) as error:
        dag_posterior(table)
    assert "\n" not in str(error.value)


def test_unknown_structure_prior() -> None:
    for kind in ("fairr", 0.0, -1):
        with pytest.raises(DataMatrixError, match="structure prior"):
            structure_prior(3, kind)


def test_sweep_in_logarithms_counts_too() -> None:
    flat = np.where(without_self(5), 0.0, -np.inf)
    assert Sweep(5, LOGARITHMS).partition(flat[None])[0] == pytest.approx(np.log(29281), abs=1e-12)
