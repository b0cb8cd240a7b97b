"""What single-precision Gumbel noise does to a masked sampler, computed exactly.

A step from t to s draws each masked token from q = (…, p_v / T, …, 1 − 1/T for the mask), here by the exponential race arg min e_v / q_v with
e = c − log(u + c), c = 10⁻¹⁰, the form in which released samplers write the Gumbel trick. A single-precision uniform number is a multiple of 2⁻²⁴, so e
takes no value between c and 6·10⁻⁸: a symbol with q_v below that can hardly beat the mask. The rarer a symbol, the more of its chance is lost, which
lowers the temperature without anyone asking (Zheng et al., arXiv:2409.02908).
"""

from __future__ import annotations

import numpy as np

GUARD = 1e-10
BITS = 24
TAIL = 50.0
"""Races later than this many mean times of the rivals are not followed."""
NODES = 400
"""Different probabilities that are computed one by one."""


def survival(x: np.ndarray, bits: int = BITS, guard: float = GUARD) -> np.ndarray:
    """P(e > x) with e = guard − log(u + guard) and u uniform on the multiples of 2^−bits in [0, 1)."""
    largest = np.exp(guard - x) - guard  # e > x means u below this
    return np.clip(np.ceil(largest * 2.0**bits), 0, 2.0**bits) / 2.0**bits


def single_precision_law(p: np.ndarray, steps: int, bits: int = BITS, points: int = 4000) -> np.ndarray:
    """The law of a token at the step at which it leaves the mask, in single precision, (V,); in exact arithmetic it is ``p``.

    The race's winner is the symbol, or the mask, whose e / q is smallest. The others are taken as one competitor of rate 1 − q_v, which is exact
    for exact noise, so that the chance of v is Σ_j P(e_v = e_j) P(e > e_j (1 − q_v) / q_v) over the values e_j that v's noise can take. Values are
    summed one by one where they are few, else by quadrature; where the vocabulary is large the chance is interpolated between laws.

    Args:
        p: the denoiser's law of the token, (V,). steps: T of the sampler; the step is the first one, from t = 1.

    Raises:
        ValueError: for a law that does not sum to one, or fewer than two steps.
    """
    p = np.asarray(p, dtype=float)
    if abs(p.sum() - 1) > 1e-9 or (p < 0).any() or steps < 2:
        raise ValueError(
            f"needs a law that sums to one and at least 2 steps, got Σ = {p.sum()} and T = {steps}"
        )
    q = p / steps
    own = np.unique(q[q > 0])
    if len(own) > NODES:
        own = np.geomspace(own[0], own[-1], NODES)
    ratio = np.array([_chance(x, bits, points) / x for x in own])
    law = np.where(q > 0, q * np.interp(np.log(np.maximum(q, 1e-300)), np.log(own), ratio), 0.0)
    return law / law.sum()


def _chance(q: float, bits: int, points: int) -> float:
    """The chance that a symbol of rate ``q`` wins the race against all others together."""
    unit, rivals = 2.0**-bits, (1 - q) / q
    reach = TAIL / rivals  # the largest e that may still win
    j = np.arange(1, points + 1)
    if reach / unit <= points:
        j = j[: max(int(np.ceil(reach / unit)), 1)]
        u, weight = 1 - j * unit, np.full(len(j), unit)
    else:  # a dense set of values
        edges = np.exp(-np.linspace(0, min(reach, TAIL), points + 1))
        u, weight = (edges[1:] + edges[:-1]) / 2, edges[:-1] - edges[1:]
    keep = u >= 0
    e = GUARD - np.log(u[keep] + GUARD)
    return float((weight[keep] * survival(e * rivals, bits)).sum())


def entropy_of(p: np.ndarray) -> float:
    """−Σ p log p in nats."""
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())


def zipf(n_symbols: int, shift: float = 2.7) -> np.ndarray:
    """A law like that of words, p_v ∝ 1 / (v + shift), (V,)."""
    p = 1 / (np.arange(n_symbols) + shift)
    return p / p.sum()


def entropy_losses(
    vocabularies: dict[str, np.ndarray], steps: tuple[int, ...]
) -> list[dict[str, float | str]]:
    """Entropy in nats lost to single precision, one row per vocabulary (name → law) and number of steps."""
    return [
        {"law": name, "T": t, "loss": entropy_of(p) - entropy_of(single_precision_law(p, t))}
        for name, p in vocabularies.items()
        for t in steps
    ]
