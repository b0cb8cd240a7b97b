"""Measurement errors: every value is drawn again within its published error, and the whole posterior computed anew.

The random numbers are the authors': NumPy's legacy generator, seed d for draw d, types in the order E, S0, S, columns one
after the other. Noise is added first, then the columns are standardised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lib.smbh.galaxies import TYPES, Sample


def official_draws(samples: Mapping[str, Sample], seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Redraw the values of all types within their errors, in the authors' order of random numbers.

    Args:
        samples: type → sample with errors, for the types in :data:`lib.smbh.galaxies.TYPES`.
        seeds: one seed per draw (the authors use 0..99).

    Returns:
        Type → values (draws, N, n), not yet standardised.

    Raises:
        ValueError: if a sample has no errors.
    """
    draws: dict[str, list[np.ndarray]] = {t: [] for t in TYPES}
    for seed in seeds:
        rng = np.random.RandomState(seed)
        for t in TYPES:
            draws[t].append(_redraw(samples[t], rng))
    return {t: np.stack(draws[t]) for t in TYPES}


def _redraw(sample: Sample, rng: np.random.RandomState) -> np.ndarray:
    if sample.errors is None:
        raise ValueError("the sample has no measurement errors")
    rows, n = sample.values.shape
    noise = np.stack([rng.normal(0.0, 1.0, rows) for _ in range(n)], axis=1)  # a column at a time
    return sample.values + noise * sample.errors


def separation(forward: np.ndarray, backward: np.ndarray) -> float:
    """The authors' "significance" |mean difference| / sqrt(sd1² + sd2²) of two directions over draws (draws,), ddof 0.

    It treats the two directions as independent although they nearly sum to one, and the draws add noise to values that hold
    it already: a measure of spread, not a p-value for a causal direction.
    """
    return float(abs(forward.mean() - backward.mean()) / np.hypot(forward.std(), backward.std()))
