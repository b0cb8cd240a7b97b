"""The directions that the claims speak of, and what a posterior says about them.

A *lead* is the marginal of a direction minus the marginal of its reverse. The ledger's metrics are leads, shares of repetitions
that keep a lead's sign, and smallest leads over settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_posterior import DagPosterior, dag_posterior
from lib.smbh.data_matrix import check_names
from lib.smbh.galaxies import BASE

HOLE_AND_SIGMA = {"ell": ("sigma0", "M_bh"), "len": ("sigma0", "M_bh"), "spr": ("M_bh", "sigma0")}
"""Cause and effect of the reversal (C2), per type, as the base run has them."""
HOLE_AND_STARS = {"ell": ("sSFR", "M_bh"), "spr": ("M_bh", "sSFR")}
"""Upstream and downstream of the star-formation claim (C3)."""


def posterior(values: np.ndarray, names: Sequence[str] | None = None) -> DagPosterior:
    """Standardise values (..., N, n), score all parent sets, sum over all graphs.

    Raises:
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`; ``names`` are those of the columns.
    """
    return dag_posterior(log_scores(standardise(values, names)))


def marginals(values: np.ndarray, names: Sequence[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Edge and path marginals (..., n, n) of :func:`posterior`."""
    exact = posterior(values, names)
    assert exact.paths is not None
    return exact.edges, exact.paths


def lead(marginals: np.ndarray, direction: tuple[str, str], variables: Sequence[str]) -> np.ndarray:
    """Marginal of cause → effect minus its reverse, (...) from (..., n, n).

    Raises:
        DataMatrixError: unless there is one name of its own for each variable.
    """
    variables = check_names(variables, marginals.shape[-1])
    cause, effect = variables.index(direction[0]), variables.index(direction[1])
    return marginals[..., cause, effect] - marginals[..., effect, cause]


def between(edges: Mapping[str, np.ndarray]) -> float:
    """How far the lenticular lead of sigma0 → M_bh lies inside the interval from spirals to ellipticals; < 0 outside."""
    leads = {kind: float(lead(e, ("sigma0", "M_bh"), BASE)) for kind, e in edges.items()}
    return min(leads["ell"] - leads["len"], leads["len"] - leads["spr"])


def descendant_count_law(descendants: np.ndarray, variable: int) -> np.ndarray:
    """(n,) probability of 0, 1, ..., n - 1 descendants of ``variable``, from p(De(s) = D) (n, 2**n), s in D."""
    n, sets = descendants.shape
    size = np.array([mask.bit_count() for mask in range(sets)])
    return np.bincount(size, descendants[variable], minlength=n + 1)[1 : n + 1]
