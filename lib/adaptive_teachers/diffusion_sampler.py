r"""Diffusion samplers: a controlled Brownian motion from the origin whose end point is to follow a density R(x)/Z.

The forward process dX = μ(X, t) dt + σ dW on [0, 1] starts at X_0 = 0 and is cut into T steps of length dt = 1/T. The backward
policy is the Brownian bridge pinned at the origin, which is the exact reversal of the process without a drift. Hence

    log P_F(τ) − log P_B(τ | x) = log N(x; 0, σ²I) + Σ_i (μ_i · Δx_i − ½ |μ_i|² dt) / σ²,

for any path τ that ends in x: of all the Gaussian densities of the T steps only the drift's terms remain (the identity of
Girsanov, here exact at every T). No density of a bridge step is ever computed.

K runs (seeds, methods, noise levels) are one batched model. Shapes: K or M runs or members, B paths, T steps, D coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.adaptive_teachers.stacked_layers import StackedLinear


class Target(Protocol):
    """An unnormalised density that can be sampled exactly, so that its samplers can be judged."""

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def log_z(self) -> float: ...

    @property
    def n_modes(self) -> int: ...

    def log_reward(self, x: Tensor) -> Tensor: ...

    def sample(self, n: int, generator: torch.Generator) -> Tensor: ...

    def modes_covered(self, x: Tensor) -> Tensor: ...


class DriftNetwork(nn.Module):
    """The drifts μ(x, t) of M samplers, each with its log Z.

    Time: sin and cos of 2π k t, k = 1..harmonics, → h → h. State: D → h → h. Both together: 2h → h → h → D, GELU between all
    layers; the last layer starts at zero, so that a sampler starts as plain Brownian motion. The first joint layer is split into
    its state half and its time half: the time half is computed once a step, not once a path.

    Args:
        dim: D. hidden: h. steps: T. harmonics: number of frequencies.
        generators: one for each member; draws its initial weights.
        target: where given, the Langevin parametrisation μ(x, t) + s(x, t) ∇ log R(x) with a further network s that starts at 0.01.

    Raises:
        ValueError: for no member.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        steps: int,
        generators: Sequence[torch.Generator],
        harmonics: int = 256,
        target: Target | None = None,
    ) -> None:
        super().__init__()
        if not generators:
            raise ValueError("a stack needs at least one member")
        self.dim, self.steps, self.members, self.target = dim, steps, len(generators), target
        self.time1 = StackedLinear(2 * harmonics, hidden, generators)
        self.time2 = StackedLinear(hidden, hidden, generators)
        self.state1 = StackedLinear(dim, hidden, generators)
        self.state2 = StackedLinear(hidden, hidden, generators)
        self.joint1 = StackedLinear(2 * hidden, hidden, generators)
        self.joint2 = StackedLinear(hidden, hidden, generators)
        self.out = StackedLinear(hidden, dim, generators, zero=True)
        if target is not None:
            self.scale1 = StackedLinear(2 * hidden, hidden, generators)
            self.scale2 = StackedLinear(hidden, hidden, generators)
            self.scale_out = StackedLinear(hidden, 1, generators, zero=True, bias=0.01)
        self.log_z = nn.Parameter(torch.zeros(self.members))
        angle = 2 * math.pi * torch.arange(steps).unsqueeze(1) / steps * torch.arange(1, harmonics + 1)
        self.register_buffer("waves", torch.cat([angle.sin(), angle.cos()], 1), persistent=False)

    waves: Tensor  # (T, 2 · harmonics)

    def weights(self, members: slice = slice(None)) -> DriftWeights:
        """The weights of ``members``, with everything that depends on the time only computed for all T times."""
        m = len(self.log_z[members])
        e = F.gelu(self.time1(self.waves.expand(m, -1, -1), members))
        e = F.gelu(self.time2(e, members))  # (M, T, h)
        drift = _head(e, self.joint1, self.joint2, self.out, members)
        scale = None
        if self.target is not None:
            scale = _head(e, self.scale1, self.scale2, self.scale_out, members)
        return DriftWeights(_layer(self.state1, members), _layer(self.state2, members), drift, scale)

    def forward(self, x: Tensor, weights: DriftWeights, step: int | None = None) -> Tensor:
        """Drifts at the T times of paths, x (M, B, T, D) → (M, B, T, D), or at one time of them, x (M, B, D) → (M, B, D).

        Args:
            weights: of the M members that act, from :meth:`weights`. step: which of the T times x is at.
        """
        rows = x.reshape(len(x), -1, self.dim)
        e = F.gelu(torch.baddbmm(weights.state1[1], rows, weights.state1[0]))
        e = F.gelu(torch.baddbmm(weights.state2[1], e, weights.state2[0]))  # (M, B·T, h)
        drift = _apply(weights.drift, e, step)
        if weights.scale is not None:
            assert self.target is not None
            drift = drift + _apply(weights.scale, e, step) * score(self.target, rows)
        return drift.view(x.shape)

    def parameters_per_member(self) -> int:
        """Weights of one member, log Z included."""
        return sum(p.numel() for p in self.parameters()) // self.members


Layer = tuple[Tensor, Tensor]
"""A weight (M, d_in, d_out) and a bias (M, 1, d_out)."""


class Head(NamedTuple):
    """The joint layers: the times' part of the first one (M, T, h), its state half (M, h, h), and two more layers."""

    of_time: Tensor
    of_state: Tensor
    second: Layer
    last: Layer


class DriftWeights(NamedTuple):
    """The weights of some members, ready for use."""

    state1: Layer
    state2: Layer
    drift: Head
    scale: Head | None


def _layer(layer: StackedLinear, members: slice) -> Layer:
    return layer.weight[members], layer.bias[members].unsqueeze(1)


def _head(
    time: Tensor, first: StackedLinear, second: StackedLinear, last: StackedLinear, members: slice
) -> Head:
    weight, bias = _layer(first, members)
    hidden = time.shape[-1]
    of_time = torch.baddbmm(bias, time, weight[:, hidden:])
    return Head(of_time, weight[:, :hidden], _layer(second, members), _layer(last, members))


def _apply(head: Head, state: Tensor, step: int | None) -> Tensor:
    """Joint layers on state features (M, B·T, h), or (M, B, h) at one step."""
    if step is None:
        m, rows, hidden = state.shape
        steps = head.of_time.shape[1]
        both = (state @ head.of_state).view(m, rows // steps, steps, hidden) + head.of_time.unsqueeze(1)
        e = F.gelu(both).view(m, rows, hidden)
    else:
        e = F.gelu(torch.baddbmm(head.of_time[:, step : step + 1], state, head.of_state))
    e = F.gelu(torch.baddbmm(head.second[1], e, head.second[0]))
    return torch.baddbmm(head.last[1], e, head.last[0])


def score(target: Target, x: Tensor) -> Tensor:
    """∇ log R(x), same shape as x; a constant for everything downstream."""
    with torch.enable_grad():
        points = x.detach().requires_grad_()
        return torch.autograd.grad(target.log_reward(points).sum(), points)[0]


def roll_out(
    network: DriftNetwork,
    sigma: Tensor,
    noise: Tensor,
    members: slice = slice(None),
    exploration: Tensor | None = None,
) -> Tensor:
    """Run the forward process; gradients flow through it where they are enabled (that is what PIS needs).

    Args:
        sigma: σ of each run, (M,).
        noise: standard normal numbers, (M, B, T, D).
        exploration: added standard deviation per step, (M,): each step's variance is σ² dt plus its square.

    Returns:
        paths (M, B, T + 1, D), X_0 = 0 included.
    """
    steps = noise.shape[2]
    variance = sigma.square() / steps
    if exploration is not None:
        variance = variance + exploration.square()
    kicks = (variance.sqrt().view(-1, 1, 1, 1) * noise).unbind(2)
    weights = network.weights(members)
    x = torch.zeros_like(kicks[0])
    path = [x]
    for i, kick in enumerate(kicks):
        x = torch.add(x + kick, network(x, weights, i), alpha=1 / steps)
        path.append(x)
    return torch.stack(path, 2)


def brownian_bridge(x: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Draw whole backward trajectories in closed form: X_t = t x + W_t − t W_1 with one cumulative sum W, no loop over steps.

    Args:
        x: end points, (M, B, D). sigma: (M,). noise: standard normal numbers, (M, B, T, D).

    Returns:
        paths (M, B, T + 1, D) from the origin to x.
    """
    steps = noise.shape[2]
    scale = (sigma / math.sqrt(steps)).view(-1, 1, 1, 1)
    walk = torch.cat([torch.zeros_like(noise[:, :, :1]), (scale * noise).cumsum(2)], 2)
    time = torch.linspace(0, 1, steps + 1, device=x.device, dtype=x.dtype).view(1, 1, -1, 1)
    path = time * (x.unsqueeze(2) - walk[:, :, -1:]) + walk
    path[:, :, -1] = x  # exactly, whatever the rounding of the sum
    return path


def log_forward_over_backward(path: Tensor, drift: Tensor, sigma: Tensor) -> Tensor:
    """log P_F(τ) − log P_B(τ | x) of each path, (M, B), in float64; see the module's text for the formula.

    Args:
        path: (M, B, T + 1, D). drift: μ at the first T states, (M, B, T, D). sigma: (M,).
    """
    steps, dim = drift.shape[2:]
    variance = sigma.double().square().unsqueeze(1)
    end = path[:, :, -1].double()
    free = -0.5 * (end.square().sum(-1) / variance + dim * torch.log(2 * math.pi * variance))
    work = (drift * (path.diff(dim=2) - (0.5 / steps) * drift)).double().sum((2, 3))
    return free + work / variance


def score_paths(network: DriftNetwork, path: Tensor, sigma: Tensor, members: slice = slice(None)) -> Tensor:
    """log P_F − log P_B of given paths (M, B, T + 1, D) → (M, B): all states in ONE batched forward pass."""
    drift = network(path[:, :, :-1], network.weights(members))
    return log_forward_over_backward(path, drift, sigma)


def residual(log_reward: Tensor, log_ratio: Tensor, log_z: Tensor) -> Tensor:
    """δ(τ) = log R(x) + log P_B − log P_F − log Z, (M, B): positive where the sampler gives x too little mass.

    Args:
        log_reward: (M, B). log_ratio: log P_F − log P_B, (M, B). log_z: (M,).
    """
    return log_reward.double() - log_ratio - log_z.double().unsqueeze(1)
