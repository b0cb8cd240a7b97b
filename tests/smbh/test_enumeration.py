"""The brute-force visit against counts, the list of all DAGs, and the dynamic programme."""

from __future__ import annotations

import numpy as np
import pytest

from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.data_matrix import DataMatrixError
from lib.smbh.enumeration import agreement, dags_in_partition, enumerate_posterior, main, ordered_partitions
from tests.smbh.plain_dags import all_dags, dag_log_scores, posterior, random_table

LABELLED_DAGS = [1, 3, 25, 543, 29281, 3781503, 1138779265]


@pytest.mark.parametrize(
    ("n", "partitions"), [(1, 1), (2, 3), (3, 13), (4, 75), (5, 541), (6, 4683), (7, 47293)]
)
def test_partitions_and_the_dags_inside_them(n: int, partitions: int) -> None:
    lists = list(ordered_partitions(n))
    assert len(lists) == partitions
    assert len({tuple(layers) for layers in lists}) == partitions
    assert sum(map(dags_in_partition, lists)) == LABELLED_DAGS[n - 1]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_equals_the_list_of_all_dags(n: int) -> None:
    table = random_table(np.random.default_rng(n), n, 3.0)
    counted, plain = enumerate_posterior(table), posterior(table)
    assert counted.n_dags == len(all_dags(n))
    assert counted.log_partition == pytest.approx(plain["log_partition"], abs=1e-12)
    for name in ("parent_sets", "edges", "paths", "descendants"):
        np.testing.assert_allclose(getattr(counted, name), plain[name], atol=1e-12, err_msg=name)
    log_p = dag_log_scores(table) - plain["log_partition"]
    edges = all_dags(n).sum(axis=(1, 2))
    expected = np.bincount(edges, np.exp(log_p), minlength=n * (n - 1) // 2 + 1)
    np.testing.assert_allclose(counted.edge_count, expected, atol=1e-12)
    assert counted.histogram.sum() == counted.n_dags
    # Rounding may move a DAG that lies on the limit of a bin, so compare the cumulative counts a little aside.
    for limit, below in zip(counted.bin_edges[1:], np.cumsum(counted.histogram), strict=True):
        assert (log_p < limit - 1e-9).sum() <= below <= (log_p < limit + 1e-9).sum()


def test_six_variables_agree_with_the_dynamic_programme_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(6)
    scores = log_scores(standardise(rng.normal(size=(30, 6)) @ rng.normal(size=(6, 6))))
    counted, threaded = enumerate_posterior(scores), enumerate_posterior(scores, n_threads=2)
    assert counted.n_dags == 3781503
    assert max(agreement(scores, counted).values()) < 1e-12
    assert np.array_equal(counted.parent_sets, threaded.parent_sets)
    assert np.array_equal(counted.descendants, threaded.descendants)


@pytest.mark.slow
def test_all_1138779265_dags() -> None:
    rng = np.random.default_rng(7)
    scores = log_scores(standardise(rng.normal(size=(30, 7)) @ rng.normal(size=(7, 7))))
    counted = enumerate_posterior(scores)
    assert counted.n_dags == counted.histogram.sum() == 1138779265
    assert max(agreement(scores, counted).values()) < 1e-9


def test_agreement_sees_a_difference() -> None:
    table = random_table(np.random.default_rng(8), 3)
    counted = enumerate_posterior(table)
    table[1, 0] += 0.1
    assert max(agreement(table, counted).values()) > 1e-3


@pytest.mark.parametrize(
    ("table", "threads", "message"),
    [
        (np.zeros((8, 256)), 1, "too many DAGs"),
        (np.zeros((2, 3, 8)), 1, "one table"),
        (np.zeros((3, 8)), 0, "n_threads=0"),
        (np.array([[0.0, 0.0, -np.inf, 0.0], [0.0] * 4]), 1, "forbidden"),
        (np.array([[0.0, 0.0, 2000.0, 0.0], [0.0, 2000.0, 0.0, 0.0]]), 1, "orders of magnitude"),
    ],
)
def test_bad_arguments_are_one_clear_line(table: np.ndarray, threads: int, message: str) -> None:
    with pytest.raises(DataMatrixError, match=message) as error:
        enumerate_posterior(table, threads)
    assert "\n" not in str(error.value)


def test_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    from lib.smbh import enumeration
    from lib.smbh.galaxies import BASE, SYMBOLS

    rows = np.random.default_rng(9).normal(size=(12, 7))
    lines = ["Galaxy," + ",".join(f'"{SYMBOLS[v]}"' for v in BASE)]
    lines += [f"G{i}," + ",".join(map(str, row)) for i, row in enumerate(rows)]
    (tmp_path / "galaxies.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(enumeration, "locate", lambda names: [tmp_path / "galaxies.csv"])
    assert main(["--galaxies", "S", "--variables", "4"]) == 0
    printed = capsys.readouterr().out
    assert "543 DAGs visited" in printed
    assert "agreement within 1e-09" in printed
    assert main(["--galaxies", "S", "--variables", "4", "--tolerance", "-1"]) == 1
    monkeypatch.setattr(enumeration, "locate", lambda names: None)
    with pytest.raises(SystemExit):
        main(["--galaxies", "E"])
    assert "PAPERS_DATA" in capsys.readouterr().err
