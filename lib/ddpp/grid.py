"""Problems over a few tokens whose laws are known in every cell: the paper's grid, two controls that break its assumptions, and strings.

On the grid a sequence is a point (x¹, x²) of {0, …, H−1}². The data are uniform on 16 evenly spaced squares, or on the four of them that lie on the
diagonal, where x¹ tells x². The half-plane reward of the paper is R = 0 for x¹ < H/2 and 1 elsewhere; the corner reward is 1 where both coordinates
are at least H/2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib.ddpp.exact_law import Space, space_of
from lib.profiles import choose

SQUARES = 4
"""Squares along one side."""
PRIORS = ("squares", "diagonal")
REWARDS = ("half plane", "corner")


@dataclass(frozen=True)
class GridTask:
    """One steering problem on the grid.

    Attributes:
        side: H, positions of each coordinate; a multiple of 8.
        prior: ``squares`` (all 16) or ``diagonal`` (the four on the diagonal).
        reward: ``half plane`` or ``corner``.
        floor: log R where R = 0.
    """

    side: int
    prior: str
    reward: str
    floor: float

    def __post_init__(self) -> None:
        """Check the parts.

        Raises:
            ParameterError: for an unknown prior or reward. ValueError: for a side or a floor that does not fit.
        """
        choose("prior", self.prior, PRIORS)
        choose("reward", self.reward, REWARDS)
        if self.side < 8 or self.side % (2 * SQUARES):
            raise ValueError(f"side={self.side} must be a multiple of {2 * SQUARES}")
        if not -torch.inf < self.floor < 0:
            raise ValueError(f"floor={self.floor} must be finite and negative")

    @property
    def name(self) -> str:
        """What the page calls it."""
        return self.reward if self.prior == "squares" else f"{self.reward}, diagonal data"

    @property
    def space(self) -> Space:
        """All states."""
        return space_of(2, self.side)

    def _inside(self) -> Tensor:
        """Coordinates that lie in a square: the middle half of each of the four stretches, (H,) bool."""
        stretch = self.side // SQUARES
        offset = torch.arange(self.side) % stretch
        return (offset >= stretch // 4) & (offset < stretch - stretch // 4)

    def sample(self, size: int, generator: torch.Generator) -> Tensor:
        """Data, (size, 2)."""
        device = generator.device
        places = self._inside().nonzero().squeeze(1).to(device)
        if self.prior == "squares":
            return places[torch.randint(len(places), (size, 2), generator=generator, device=device)]
        each = len(places) // SQUARES
        block = torch.randint(SQUARES, (size, 1), generator=generator, device=device)
        return places[block * each + torch.randint(each, (size, 2), generator=generator, device=device)]

    def rewarded(self) -> Tensor:
        """Where R = 1, (H²,) bool."""
        high = torch.arange(self.side) >= self.side // 2
        chosen = (
            high[:, None] & high[None, :] if self.reward == "corner" else high[:, None].expand(-1, self.side)
        )
        return chosen.flatten()

    def log_reward(self) -> Tensor:
        """log R of every clean state, floored, (H²,)."""
        return torch.where(self.rewarded(), 0.0, self.floor).double()


@dataclass(frozen=True)
class StringTask:
    """Words of n symbols with a uniform prior and a reward of adjustable interaction.

    log R(x) = Σ_i h_i(x_i) + coupling · Σ_{i<j} J_ij(x_i, x_j) with h and J drawn once from the unit normal, J centred in both symbols, so that
    it has no main effects under a uniform law. With coupling 0 the reward is additive.
    """

    n_tokens: int
    n_symbols: int
    coupling: float
    seed: int = 0

    @property
    def space(self) -> Space:
        """All states."""
        return space_of(self.n_tokens, self.n_symbols)

    def prior_table(self) -> Tensor:
        """The uniform denoiser, (S, n, V)."""
        table = torch.full((len(self.space.partial), self.n_tokens, self.n_symbols), 1 / self.n_symbols)
        return table.double()

    def log_reward(self) -> Tensor:
        """log R of every clean state, (V^n,)."""
        generator = torch.Generator().manual_seed(self.seed)
        n, v, clean = self.n_tokens, self.n_symbols, self.space.clean
        single = torch.randn(n, v, generator=generator, dtype=torch.float64)
        total = single[torch.arange(n), clean].sum(1)
        for i in range(n):
            for j in range(i + 1, n):
                pair = torch.randn(v, v, generator=generator, dtype=torch.float64)
                pair = pair - pair.mean(0) - pair.mean(1, keepdim=True) + pair.mean()
                total += self.coupling * pair[clean[:, i], clean[:, j]]
        return total
