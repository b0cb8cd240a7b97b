"""The deceptive grid: a d-dimensional grid whose few best cells are hidden behind a cross of moderate reward.

A state is a point of {0, …, H−1}^d, the walk starts at 0. Actions: +1 in one coordinate, or stop. The episode ends at stop, or as
soon as a coordinate reaches H−1. A state is one integer here, its index in the flattened H^d grid, so the reward, the number of
non-zero coordinates and everything else about it is a look-up, and +1 in coordinate i adds ``strides[i]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lib.profiles import ParameterError, choose

REWARD_FORMS = ("official", "exact")
BACKWARD_FORMS = ("valid", "official")
RewardForm = Literal["official", "exact"]
BackwardForm = Literal["valid", "official"]
LARGEST_GRID = 2**24
PADDING = -1


@dataclass(frozen=True)
class Walks:
    """A batch of trajectories of K runs: every transition, in order, and the end point.

    states (K, B, T): state in which the action is taken; actions (K, B, T): coordinate, d for stop, −1 for padding;
    terminal (K, B): end point.
    """

    states: Tensor
    actions: Tensor
    terminal: Tensor

    @property
    def live(self) -> Tensor:
        """Which transitions exist, (K, B, T)."""
        return self.actions != PADDING


class DeceptiveGrid:
    """Tables of one grid.

    Args:
        dim: d, number of coordinates.
        side: H, positions along each coordinate.
        reward: ``official`` compares |2i/(H−1) − 1| with 0.6 and 0.8 in float64, as the released code does, so that exact ties
            fall by rounding; ``exact`` compares integers.
        pb: backward policy on the border. ``valid`` gives the only valid parent probability 1; ``official`` divides by the
            number of non-zero coordinates there too, as the released code does, and is not normalised.
        device: where the tables lie.

    Raises:
        ParameterError: for sizes without an interior, grids of more than 2^24 states, or an unknown form.
    """

    def __init__(
        self,
        dim: int,
        side: int,
        reward: RewardForm = "official",
        pb: BackwardForm = "valid",
        device: torch.device | str = "cpu",
    ) -> None:
        choose("reward", reward, REWARD_FORMS)
        choose("pb", pb, BACKWARD_FORMS)
        if dim < 1 or side < 3:
            raise ParameterError(f"a grid needs dim >= 1 and side >= 3, got dim={dim}, side={side}")
        if side**dim > LARGEST_GRID:
            raise ParameterError(f"a grid of {side}^{dim} states is larger than {LARGEST_GRID} states")
        self.dim, self.side, self.reward_form, self.pb = dim, side, reward, pb
        self.device = torch.device(device)
        axes = [torch.arange(side, device=self.device)] * dim
        self.coordinates = torch.cartesian_prod(*axes).view(-1, dim)  # (H^d, d)
        powers = [side ** (dim - 1 - i) for i in range(dim)]
        self.strides = torch.tensor([*powers, 0], device=self.device)  # (d+1,): stop adds nothing
        at_limit = (self.coordinates == side - 1).sum(1)
        self.interior = at_limit == 0
        self.border = at_limit == 1
        self.is_terminal = self.interior | self.border
        self.terminals = self.is_terminal.nonzero().squeeze(1)  # indices of the terminal states
        self.reward = self._reward()  # (H^d,) float64
        self.log_reward = torch.log(self.reward + 1e-8)  # the guard of the released code
        self.is_mode = (self.reward > 1) & self.is_terminal
        nonzero = (self.coordinates > 0).sum(1).clamp(min=1)
        log_pb = -nonzero.double().log()
        self.log_pb = log_pb if pb == "official" else torch.where(self.border, 0.0, log_pb)
        """log P_B of the step *into* each state, from any of its valid parents."""

    @property
    def n_states(self) -> int:
        """H^d."""
        return self.side**self.dim

    @property
    def max_steps(self) -> int:
        """Longest episode, d(H−2) + 1 actions."""
        return self.dim * (self.side - 2) + 1

    @property
    def n_modes(self) -> int:
        """Number of terminal states of maximum reward."""
        return int(self.is_mode.sum())

    @property
    def buffer_capacity(self) -> int:
        """A tenth of the terminal states (section 4 of the released settings), at least 1."""
        return max(1, int(0.1 * (self.side - 1 + self.dim) * (self.side - 1) ** (self.dim - 1)))

    @property
    def log_z(self) -> float:
        """log Σ_x R(x) over the terminal states."""
        return float(torch.logsumexp(self.log_reward[self.terminals], 0))

    @property
    def target(self) -> Tensor:
        """R(x)/Z on all H^d states, zero where no episode can end."""
        reward = torch.where(self.is_terminal, self.log_reward.exp(), 0.0)
        return reward / reward.sum()

    def _reward(self) -> Tensor:
        position = torch.arange(self.side, device=self.device)
        if self.reward_form == "official":
            distance = (2 * position.double() / (self.side - 1) - 1).abs()
            outside = distance > 0.2
            ring = (distance > 0.6) & (distance < 0.8)
        else:
            twice = (2 * position - (self.side - 1)).abs() * 5
            outside = twice > self.side - 1
            ring = (twice > 3 * (self.side - 1)) & (twice < 4 * (self.side - 1))
        off_cross = outside[self.coordinates].all(1).double()
        on_mode = ring[self.coordinates].all(1).double()
        return 1e-5 + 0.1 - 0.1 * off_cross + 2 * on_mode

    def index(self, coordinates: Tensor) -> Tensor:
        """Coordinates (..., d) → states (...)."""
        return (coordinates * self.strides[:-1]).sum(-1)

    def step(self, states: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Next states and whether the episode has ended there."""
        following = states + self.strides[actions]
        return following, (actions == self.dim) | ~self.interior[following]

    def end_points(self, walks: Walks) -> Tensor:
        """The state that each transition leads to, (K, B, T); padding keeps its state."""
        return walks.states + self.strides[walks.actions.clamp(min=0)] * walks.live

    def log_pb_of(self, walks: Walks) -> Tensor:
        """log P_B of each transition, (K, B, T); stop and padding have 0."""
        moves = walks.live & (walks.actions != self.dim)
        return torch.where(moves, self.log_pb[self.end_points(walks)], 0.0)

    def backward_walks(self, terminal: Tensor, uniform: Tensor) -> Walks:
        """Draw trajectories from the valid backward policy to given end points, all at once.

        A backward step from an interior state picks one of the non-zero coordinates uniformly. That is a race of independent clocks: give
        the x_i decrements of each coordinate the ticks of a Poisson process of rate 1. As long as a coordinate has ticks left, it
        is as likely as any other to tick next, so sorting all ticks by time *is* the backward walk, and no loop is needed. A
        border state first undoes the coordinate that lies on the border.

        Args:
            terminal: end points, (K, B).
            uniform: numbers in [0, 1), (K, B, d(H−1)).

        Returns:
            walks in forward order; for interior end points the last action is stop.
        """
        shape = terminal.shape
        counts = self.coordinates[terminal]  # (K, B, d)
        last = torch.where(
            self.border[terminal], counts.argmax(-1), self.dim
        )  # action that ended the episode
        gaps = -torch.log1p(-uniform.double()).view(*shape, self.dim, self.side - 1)
        ticks = gaps.cumsum(-1)
        step = torch.arange(self.side - 1, device=self.device)
        remaining = counts - (torch.arange(self.dim, device=self.device) == last.unsqueeze(-1)).long()
        ticks = ticks.masked_fill(step >= remaining.unsqueeze(-1), math.inf)
        moves = remaining.sum(-1)  # (K, B), steps before the last action
        length = int(moves.max()) if moves.numel() else 0
        order = ticks.flatten(-2).argsort(-1)[..., :length] // (self.side - 1)  # coordinates, last move first
        time = torch.arange(length + 1, device=self.device)
        reverse = (moves.unsqueeze(-1) - 1 - time).clamp(min=0)
        padded = torch.cat([order, order.new_zeros(*shape, 1)], -1)
        actions = padded.gather(-1, reverse)
        actions = torch.where(time == moves.unsqueeze(-1), last.unsqueeze(-1), actions)
        actions = actions.masked_fill(time > moves.unsqueeze(-1), PADDING)
        return Walks(self.states_before(actions), actions, terminal)

    def states_before(self, actions: Tensor, start: Tensor | None = None) -> Tensor:
        """States in which actions (K, B, T) are taken when walking from ``start`` (K, B), by default 0."""
        jumps = self.strides[actions.clamp(min=0)] * (actions != PADDING)
        before = jumps.cumsum(-1) - jumps
        return before if start is None else before + start.unsqueeze(-1)

    def optimal_log_z(self) -> float:
        """log Z at the optimum of trajectory balance under this grid's backward policy."""
        return float(torch.logsumexp(self._optimal_log_mass(), 0))

    def optimal_law(self) -> Tensor:
        """The law that trajectory balance is minimised by, on all H^d states.

        With a backward policy that sums to s(x) over all trajectories to x, the optimum is R(x)·s(x) up to a constant: the
        target for ``valid``, border rewards divided by the number of non-zero coordinates for ``official``.
        """
        law = torch.zeros(self.n_states, dtype=torch.float64, device=self.device)
        law[self.terminals] = torch.softmax(self._optimal_log_mass(), 0)
        return law

    def _optimal_log_mass(self) -> Tensor:
        shrink = torch.where(self.border, self.log_pb, 0.0)  # 0 for a valid backward policy
        return (self.log_reward + shrink)[self.terminals]
