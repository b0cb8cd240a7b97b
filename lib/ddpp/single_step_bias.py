"""What the single-step losses converge to: their optima by linear algebra, without training a network (section 2.5 of the specification).

At a state x_t with k masked positions M the tuned denoiser is a product, log q(x_0|x_t) = Σ_{i∈M} a_i(x_i) with each a_i normalised, and the loss of
Eq. 11 is E_w (Σ a_i(x_i) − Σ log μ_i(x_i) − r(x_0) + c)², where w is the law of x_0 given x_t in the buffer and c = log Z_t.

LB. Its c is free, so Σ a_i + c ranges over ALL additive functions of x_M. The optimum is the orthogonal projection in L²(w) of Σ log μ_i + r onto
additive functions. The first part is additive already, which leaves the weighted least-squares main effects m_i of r alone,

    q_i(v) ∝ μ_i(v) exp m_i(v),   Σ m_i(x_i) + m_0 ≈ r(x_0) in L²(w).

The normal equations need w only through its one- and two-position marginals: A[(i,v),(j,u)] = w(x_i=v, x_j=u), b[(i,v)] = E_w r 1[x_i=v].

IS. Its c is given, so the constant of the additive function must equal −c + Σ log Σ_v μ_i exp m_i: the same least squares under one non-linear
constraint, solved by Gauss–Newton steps in the same moments.

KL. The factorised minimiser of KL(Π q_i ‖ Π μ_i exp r / Z) is the mean-field fixed point q_i(v) ∝ μ_i(v) exp E_{q_−i}[r | x_i = v].

The sampler of π needs another product: the marginals π(x_i | x_t). All of these agree if r is additive over the masked positions AND the prior's own
conditional factorises over them. With an on-policy buffer w is the law that the solution itself samples, so the optimum is a fixed point, found by iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.ddpp.exact_law import Pattern, Space, clean_law, marginals, posterior
from lib.profiles import choose

BUFFERS = ("prior", "mixed", "on-policy", "target")
"""Laws of x_0 in the buffer: the prior's; half prior and half the tuned sampler's; the tuned sampler's; the target."""
RIDGE = 1e-10
"""Added to the normal equations, which are singular: constants may move between positions without changing the product."""


@dataclass(frozen=True)
class Optimum:
    """The denoiser that an objective converges to."""

    table: Tensor
    """q_i(v | x) of every state with a mask, (S, n, V)."""
    log_z: Tensor
    """The constant c of every state with a mask, (S,): LB's learned log Z, or the given one; NaN where the objective has none."""
    law: Tensor
    """What its sampler draws, (V^n,)."""
    iterations: int = 0
    change: float = 0.0
    """Total variation between the laws of the last two iterations."""


@dataclass(frozen=True)
class Moments:
    """What least squares needs of w and r at the states of one pattern; R rows, D = kV indicators of (position, symbol)."""

    gram: Tensor
    """A, (R, D, D)."""
    cross: Tensor
    """b, (R, D)."""
    means: Tensor
    """w(x_i = v), (R, D): the diagonal of A."""
    reward: Tensor
    """E_w r, (R,)."""


def completion_weights(space: Space, law: Tensor, pattern: Pattern) -> Tensor:
    """w(x_M | x_t) under a law of x_0, (R, V^k); uniform where the law gives the observed tokens no mass."""
    joint = space.arranged(law, pattern)
    total = joint.sum(1, keepdim=True)
    return torch.where(total > 0, joint / total.clamp(min=1e-300), 1 / joint.shape[1])


def moments(weights: Tensor, reward: Tensor, n_masked: int, n_symbols: int) -> Moments:
    """The moments of one pattern.

    Args:
        weights: w over completions, (R, V^k). reward: r of the completions, (R, V^k).
    """
    rows, v = len(weights), n_symbols
    cube = weights.reshape(rows, *[v] * n_masked)
    gram = torch.zeros(rows, n_masked, v, n_masked, v, dtype=weights.dtype)
    cross = torch.zeros(rows, n_masked, v, dtype=weights.dtype)
    weighted = (weights * reward).reshape(cube.shape)
    axes = range(1, n_masked + 1)
    for i in range(n_masked):
        others = [a for a in axes if a != i + 1]
        single = cube.sum(others) if others else cube
        gram[:, i, :, i] = torch.diag_embed(single)
        cross[:, i] = weighted.sum(others) if others else weighted
        for j in range(i + 1, n_masked):
            rest = [a for a in axes if a not in (i + 1, j + 1)]
            pair = cube.sum(rest) if rest else cube
            gram[:, i, :, j] = pair
            gram[:, j, :, i] = pair.transpose(1, 2)
    flat = gram.reshape(rows, n_masked * v, n_masked * v)
    return Moments(flat, cross.flatten(1), flat.diagonal(dim1=1, dim2=2), (weights * reward).sum(1))


def main_effects(m: Moments, n_masked: int) -> Tensor:
    """Weighted least-squares main effects of r, (R, D), up to constants that move between positions."""
    if n_masked == 1:  # one position: the effects are r itself
        return torch.where(m.means > 0, m.cross / m.means.clamp(min=1e-300), 0.0)
    return _solve(m.gram, m.cross)


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    ridge = RIDGE * torch.eye(gram.shape[-1], dtype=gram.dtype)
    return torch.linalg.solve(gram + ridge, right.unsqueeze(-1)).squeeze(-1)


def tilt(log_prior: Tensor, effects: Tensor) -> tuple[Tensor, Tensor]:
    """q_i ∝ μ_i exp m_i and K = Σ_i log Σ_v μ_i exp m_i.

    Args:
        log_prior: log μ of the masked positions, (R, k, V). effects: m, (R, kV).
    """
    raw = log_prior + effects.reshape(log_prior.shape)
    return torch.softmax(raw, -1), torch.logsumexp(raw, -1).sum(-1)


def constrained_effects(
    m: Moments, log_prior: Tensor, log_z: Tensor, start: Tensor, iterations: int = 200
) -> Tensor:
    """IS's main effects, (R, D): least squares of Σ m_i(x_i) − K(m) + log Z ≈ r under w, by damped Gauss–Newton steps.

    Args:
        log_prior: log μ of the masked positions, (R, k, V). log_z: the constant given to the loss, (R,). start: effects to start from, (R, D).
    """
    result = start.clone()
    damping = torch.full((len(start),), 1e-9, dtype=start.dtype)
    active = torch.arange(len(start))
    for _ in range(iterations):
        own = Moments(m.gram[active], m.cross[active], m.means[active], m.reward[active])
        effects = result[active]
        q, shift, loss = _constrained_loss(own, log_prior[active], log_z[active], effects)
        error = (own.means * effects).sum(1) + shift - own.reward
        gradient = _product(own.gram, effects) + own.means * shift[:, None] - own.cross - q * error[:, None]
        outer = own.means[:, :, None] * q[:, None]
        hessian = own.gram - outer - outer.transpose(1, 2) + q[:, :, None] * q[:, None]
        hessian.diagonal(dim1=1, dim2=2).add_(damping[active, None])
        step = _solve(hessian, gradient)
        trial = effects - step
        better = _constrained_loss(own, log_prior[active], log_z[active], trial)[2] <= loss + 1e-14
        result[active] = torch.where(better[:, None], trial, effects)
        damping[active] = torch.where(
            better, (damping[active] / 4).clamp(min=1e-9), damping[active].clamp(min=1e-4) * 8
        )
        decrease = (gradient * step).sum(1)  # of the loss, to first order
        active = active[~(better & (decrease < 1e-14))]
        if len(active) == 0:
            break
    return result


def _product(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _constrained_loss(
    m: Moments, log_prior: Tensor, log_z: Tensor, effects: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """q (R, D), log Z − K (R,), and E_w (Σ m_i + log Z − K − r)² without its constant E_w r², (R,)."""
    q, total = tilt(log_prior, effects)
    shift = log_z - total
    mean = (m.means * effects).sum(1)
    quadratic = (effects * _product(m.gram, effects)).sum(1)
    loss = quadratic - 2 * (m.cross * effects).sum(1) + shift * (2 * mean - 2 * m.reward + shift)
    return q.flatten(1), shift, loss


def _fill(space: Space, prior: Tensor, each: Callable[[Pattern, Tensor], Tensor]) -> Tensor:
    """A table whose masked positions come from ``each(pattern, log μ of its masked positions)``."""
    table = prior.clone()
    for pattern in space.patterns:
        q = each(pattern, prior[pattern.rows][:, pattern.masked].log())
        for column, position in enumerate(pattern.masked):
            table[pattern.rows, position] = q[:, column]
    return table


def lb_optimum(space: Space, prior: Tensor, log_reward: Tensor, buffer_law: Tensor) -> tuple[Tensor, Tensor]:
    """LB's optimum for a fixed buffer: its denoiser (S, n, V) and its learned log Z (S,).

    Args:
        prior: μ, (S, n, V). log_reward: r of clean states, (V^n,). buffer_law: law of x_0 in the buffer, (V^n,).
    """
    log_z = torch.empty(len(space.partial), dtype=torch.float64)

    def each(pattern: Pattern, log_prior: Tensor) -> Tensor:
        m = _moments_of(space, pattern, log_reward, buffer_law)
        effects = main_effects(m, len(pattern.masked))
        q, total = tilt(log_prior, effects)
        log_z[pattern.rows] = total + m.reward - (m.means * effects).sum(1)
        return q

    return _fill(space, prior, each), log_z


def is_optimum(
    space: Space, prior: Tensor, log_reward: Tensor, buffer_law: Tensor, log_z: Tensor
) -> tuple[Tensor, Tensor]:
    """IS's optimum for a fixed buffer and a given log Z (S,): its denoiser (S, n, V), and that log Z."""

    def each(pattern: Pattern, log_prior: Tensor) -> Tensor:
        m = _moments_of(space, pattern, log_reward, buffer_law)
        start = main_effects(m, len(pattern.masked))
        return tilt(log_prior, constrained_effects(m, log_prior, log_z[pattern.rows], start))[0]

    return _fill(space, prior, each), log_z


def _moments_of(space: Space, pattern: Pattern, log_reward: Tensor, buffer_law: Tensor) -> Moments:
    weights = completion_weights(space, buffer_law, pattern)
    reward = space.arranged(log_reward.double(), pattern)
    return moments(weights, reward, len(pattern.masked), space.n_symbols)


def kl_optimum(space: Space, prior: Tensor, log_reward: Tensor, sweeps: int = 200) -> Optimum:
    """KL's optimum: mean-field coordinate ascent from the prior at every state; the nearest one where there are several."""

    def each(pattern: Pattern, log_prior: Tensor) -> Tensor:
        rows, k = len(log_prior), len(pattern.masked)
        reward = space.arranged(log_reward.double(), pattern).reshape(rows, *[space.n_symbols] * k)
        q = log_prior.exp()
        for _ in range(sweeps if k > 1 else 1):
            before = q.clone()
            for i in range(k):
                expected = reward.movedim(i + 1, 1)
                for j in reversed([j for j in range(k) if j != i]):  # the last axis first
                    expected = torch.einsum("r...v,rv->r...", expected, q[:, j])
                q[:, i] = torch.softmax(log_prior[:, i] + expected, -1)
            if float((q - before).abs().max()) < 1e-12:
                break
        return q

    table = _fill(space, prior, each)
    return Optimum(table, torch.full((len(table),), torch.nan), clean_law(space, table))


def forward_kl_optimum(space: Space, prior: Tensor, log_reward: Tensor) -> Optimum:
    """The optimum of reward-weighted denoising cross-entropy: the marginals of π, which sample π exactly."""
    target, _ = posterior(clean_law(space, prior), log_reward)
    table = marginals(space, target)
    return Optimum(table, torch.full((len(table),), torch.nan), clean_law(space, table))


def predicted_optimum(
    space: Space,
    prior: Tensor,
    log_reward: Tensor,
    method: str,
    buffer: str = "on-policy",
    log_z: Tensor | None = None,
    iterations: int = 100,
    tolerance: float = 1e-7,
) -> Optimum:
    """What a single-step objective converges to, with the buffer's law taken as that of its own solution where it is on-policy.

    Args:
        prior: μ of the pretrained denoiser, (S, n, V). log_reward: r, (V^n,).
        method: ``is``, ``lb``, ``kl`` or ``weighted_ce``.
        buffer: law of x_0, one of :data:`BUFFERS`; KL and weighted cross-entropy have the same optimum for all.
        log_z: IS's constants (S,); they are required for IS.
        iterations, tolerance: of the fixed point, the tolerance in total variation between successive laws.

    Raises:
        ParameterError: for an unknown method or buffer. ValueError: for IS without ``log_z``.
    """
    choose("method", method, ("is", "lb", "kl", "weighted_ce"))
    choose("buffer", buffer, BUFFERS)
    if method == "kl":
        return kl_optimum(space, prior, log_reward)
    if method == "weighted_ce":
        return forward_kl_optimum(space, prior, log_reward)
    if method == "is" and log_z is None:
        raise ValueError("IS needs log_z: its constant is given, not learned")
    base = clean_law(space, prior)
    target, _ = posterior(base, log_reward)

    def buffer_law(own: Tensor) -> Tensor:
        return {"prior": base, "target": target, "on-policy": own, "mixed": 0.5 * (base + own)}[buffer]

    law, table, constants, change, done = base, prior, torch.empty(0), torch.inf, 0
    while done < iterations and not change < tolerance:
        if method == "lb":
            table, constants = lb_optimum(space, prior, log_reward, buffer_law(law))
        else:
            assert log_z is not None
            table, constants = is_optimum(space, prior, log_reward, buffer_law(law), log_z)
        new = clean_law(space, table)
        change = float(0.5 * (new - law).abs().sum())
        law, done = new, done + 1
        if buffer in ("prior", "target"):
            break
    return Optimum(table, constants, law, done, change)
