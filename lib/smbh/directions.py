"""The directions that the claims speak of, and what each experiment says about them.

A *lead* is the marginal of a direction minus the marginal of its reverse. The ledger's metrics are leads, shares of repetitions
that keep a lead's sign, and smallest leads over settings; the functions here turn marginals into these metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_posterior import DagPosterior, dag_posterior
from lib.smbh.data_matrix import DataMatrixError, check_names
from lib.smbh.galaxies import BASE, Sample
from lib.smbh.leave_one_out import kept_share
from lib.smbh.sensitivity import SensitivityRow

HOLE_AND_SIGMA = {"ell": ("sigma0", "M_bh"), "len": ("sigma0", "M_bh"), "spr": ("M_bh", "sigma0")}
"""Cause and effect of the reversal (C2), per type, as the base run has them."""
HOLE_AND_STARS = {"ell": ("sSFR", "M_bh"), "spr": ("M_bh", "sSFR")}
"""Upstream and downstream of the star-formation claim (C3)."""
SAM_LEADS = {
    "ell": (("Mbulge", "M_bh"), ("Re", "M_bh")),
    "spr": (("M_bh", "Mbulge"), ("M_bh", "Re"), ("M_bh", "sSFR")),
    "nofb": (("Mbulge", "M_bh"), ("Re", "M_bh")),
}
"""Cause and effect of the semi-analytic claims (C6)."""


def posterior(values: np.ndarray, names: Sequence[str] | None = None) -> DagPosterior:
    """Standardise values (..., N, n), score all parent sets, sum over all graphs.

    Raises:
        DataMatrixError: see :func:`lib.smbh.data_matrix.check_data`; ``names`` are those of the columns.
    """
    return dag_posterior(log_scores(standardise(values, names)))


def lead(marginals: np.ndarray, direction: tuple[str, str], variables: Sequence[str]) -> np.ndarray:
    """Marginal of cause → effect minus its reverse, (...) from (..., n, n).

    Raises:
        DataMatrixError: unless there is one name of its own for each variable.
    """
    variables = check_names(variables, marginals.shape[-1])
    cause, effect = variables.index(direction[0]), variables.index(direction[1])
    return marginals[..., cause, effect] - marginals[..., effect, cause]


def base_metrics(edges: Mapping[str, np.ndarray], paths: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Metrics of C2, C2-S0 and C3 from the base run's marginals (n, n); only of the types given."""
    hole, sigma, stars = (BASE.index(v) for v in ("M_bh", "sigma0", "sSFR"))
    found: dict[str, float] = {}
    for kind, e in edges.items():
        found[f"{kind}_sigma_to_bh"] = e[sigma, hole]
        found[f"{kind}_bh_to_sigma"] = e[hole, sigma]
        found[f"lead_{kind}_edge"] = float(lead(e, HOLE_AND_SIGMA[kind], BASE))
    for kind in HOLE_AND_STARS.keys() & edges.keys():
        found[f"lead_{kind}_path_ssfr"] = float(lead(paths[kind], HOLE_AND_STARS[kind], BASE))
    if "ell" in paths:
        found["ell_ssfr_upstream"] = paths["ell"][stars, hole]
    if "spr" in paths:
        found["spr_ssfr_downstream"] = paths["spr"][hole, stars]
    if edges.keys() >= {"ell", "len", "spr"}:
        found["len_between_base"] = between(edges)
    return {name: float(value) for name, value in found.items()}


def between(edges: Mapping[str, np.ndarray]) -> float:
    """How far the lenticular lead of sigma0 → M_bh lies inside the interval from spirals to ellipticals; < 0 outside."""
    leads = {kind: float(lead(e, ("sigma0", "M_bh"), BASE)) for kind, e in edges.items()}
    return min(leads["ell"] - leads["len"], leads["len"] - leads["spr"])


def omission_metrics(
    edges: Mapping[str, np.ndarray], paths: Mapping[str, np.ndarray], base: Mapping[str, float]
) -> dict[str, float]:
    """Shares of leave-one-out runs that keep the base run's sign; marginals (N, n, n) per type."""
    found = {
        f"loo_kept_{kind}_edge": kept_share(lead(e, HOLE_AND_SIGMA[kind], BASE), base[f"lead_{kind}_edge"])
        for kind, e in edges.items()
    }
    for kind in HOLE_AND_STARS.keys() & paths.keys():
        values = lead(paths[kind], HOLE_AND_STARS[kind], BASE)
        found[f"loo_kept_{kind}_path_ssfr"] = kept_share(values, base[f"lead_{kind}_path_ssfr"])
    return found


def sensitivity_metrics(rows: Mapping[str, Sequence[SensitivityRow]]) -> dict[str, float]:
    """Smallest leads of the base run's directions over all settings, per type and over all."""
    found = {}
    for kind, settings in rows.items():
        found[f"sensitivity_min_{kind}_edge"] = min(
            float(lead(r.edges, HOLE_AND_SIGMA[kind], BASE)) for r in settings
        )
        if kind in HOLE_AND_STARS:
            found[f"sensitivity_min_{kind}_path_ssfr"] = min(
                float(lead(r.paths, HOLE_AND_STARS[kind], BASE)) for r in settings
            )
    found["sensitivity_min_all"] = min(found[f"sensitivity_min_{kind}_edge"] for kind in rows)
    if rows.keys() >= {"ell", "len", "spr"}:
        per_setting = zip(*(rows[k] for k in ("ell", "len", "spr")), strict=True)
        found["len_between_min"] = min(
            between({"ell": e.edges, "len": l.edges, "spr": s.edges}) for e, l, s in per_setting
        )
    return found


def sam_metrics(
    edges: Mapping[str, np.ndarray], variables: Sequence[str], prefix: str = "sam"
) -> dict[str, float]:
    """Smallest lead of each semi-analytic sample's claimed directions; marginals (4, 4) per sample."""
    return {
        f"{prefix}_{kind}_lead_min": min(float(lead(e, d, variables)) for d in SAM_LEADS[kind])
        for kind, e in edges.items()
    }


def without_outliers(sample: Sample, deviations: float = 6.0) -> Sample:
    """The rows within ``deviations`` robust standard deviations (1.4826 MAD) of every column's median.

    Raises:
        DataMatrixError: for a column of which half the values are equal: it has no spread to count in.
    """
    centre = np.median(sample.values, axis=0)
    spread = 1.4826 * np.median(np.abs(sample.values - centre), axis=0)
    for variable, width in zip(sample.variables, spread, strict=True):
        if width == 0:
            raise DataMatrixError(
                f"column {variable!r}: half of the values are equal, so no value is an outlier"
            )
    keep = (np.abs(sample.values - centre) <= deviations * spread).all(axis=1)
    names = tuple(name for name, k in zip(sample.names, keep, strict=True) if k)
    return Sample(names, sample.variables, sample.values[keep], None, sample.truth)


def descendant_count_law(descendants: np.ndarray, variable: int) -> np.ndarray:
    """(n,) probability of 0, 1, ..., n - 1 descendants of ``variable``, from p(De(s) = D) (n, 2**n), s in D."""
    n, sets = descendants.shape
    size = np.array([mask.bit_count() for mask in range(sets)])
    return np.bincount(size, descendants[variable], minlength=n + 1)[1 : n + 1]


def source_probability(parent_sets: np.ndarray, variable: int) -> float:
    """Probability that ``variable`` has no parents, from p(Pa_j = P) (n, 2**n)."""
    return float(parent_sets[variable, 0])
