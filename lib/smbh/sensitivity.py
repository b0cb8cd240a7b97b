"""How much the directions depend on what the data do not say: structure prior, hyper-parameters, scale of the columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lib.kept_results import Array
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_posterior import dag_posterior, structure_prior
from lib.smbh.dag_sampling import sample_dags
from lib.smbh.data_matrix import check_data
from lib.smbh.equivalence_classes import classify

BASE_SETTING = "as in the paper"
PRIORS: dict[str, str | float] = {
    "prior: fair in the number of parents": "fair",
    "prior: edge odds 1/3": 1 / 3,
    "prior: edge odds 3": 3.0,
}
ALPHA_W = (8.5, 12.0, 20.0, 40.0)
ALPHA_MU = (0.01, 0.1, 10.0)
CLASS_UNIFORM = "prior: flat over classes (sampled)"
RANKS = "columns: ranks made Gaussian"


@dataclass(frozen=True)
class SensitivityRow:
    """Edge and path marginals (n, n) under one setting."""

    setting: str
    edges: Array
    paths: Array


def rank_gaussianise(values: np.ndarray) -> np.ndarray:
    """Replace each column of (N, n) by normal quantiles of its ranks, (rank - 1/2) / N; ties share their mean rank.

    Raises:
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`.
    """
    values = check_data(values)
    return stats.norm.ppf((stats.rankdata(values, axis=0) - 0.5) / len(values))


def sensitivity(
    values: np.ndarray, samples: int, rng: np.random.Generator, names: Sequence[str] | None = None
) -> list[SensitivityRow]:
    """The posterior under every setting, the paper's own first.

    Args:
        values: raw values (N, n) of one type.
        samples: exact samples for the prior that is flat over classes; the rest is exact.
        rng: of these samples.
        names: of the columns, for the errors.

    Raises:
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`.
    """
    X = standardise(values, names)
    n = X.shape[-1]
    base = log_scores(X)
    tables = {BASE_SETTING: base}
    tables |= {name: base + structure_prior(n, kind) for name, kind in PRIORS.items()}
    tables |= {f"alpha_w = {a:g}": log_scores(X, alpha_w=a) for a in ALPHA_W if a > n + 1}
    tables |= {f"alpha_mu = {a:g}": log_scores(X, alpha_mu=a) for a in ALPHA_MU}
    tables[RANKS] = log_scores(standardise(rank_gaussianise(values), names))
    posterior = dag_posterior(np.stack(list(tables.values())))
    assert posterior.paths is not None
    rows = [SensitivityRow(name, posterior.edges[i], posterior.paths[i]) for i, name in enumerate(tables)]
    rows.append(SensitivityRow(CLASS_UNIFORM, *class_uniform(sample_dags(base, samples, rng))))
    return rows


def class_uniform(parents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edge and path marginals (n, n) when every class weighs the same: samples (K, n) weighted by 1 / class size."""
    classes = classify(parents)
    weights = 1.0 / classes.sizes[classes.member_of]
    weights = weights / weights.sum()
    adjacency = adjacency_of(parents)
    edges = np.tensordot(weights, adjacency.astype(float), axes=1)
    return edges, np.tensordot(weights, ancestors_of(adjacency).astype(float), axes=1)


def adjacency_of(parents: np.ndarray) -> np.ndarray:
    """(K, n) parent masks -> (K, n, n) bool, entry [g, i, j] = True for i -> j."""
    n = parents.shape[1]
    return (parents[:, None, :] >> np.arange(n)[None, :, None] & 1).astype(bool)


def ancestors_of(adjacency: np.ndarray) -> np.ndarray:
    """(K, n, n) bool adjacency -> (K, n, n) bool, entry [g, i, j] = True if i is an ancestor of j."""
    reach = adjacency.copy()
    for k in range(adjacency.shape[1]):  # Warshall: ways through k
        reach |= reach[:, :, k, None] & reach[:, None, k, :]
    return reach
