"""The replay buffer: clean sequences with their rewards, first in first out, drawn uniformly."""

from __future__ import annotations

import torch
from torch import Tensor


class ReplayBuffer:
    """At most ``capacity`` clean sequences (n tokens) with r = exponent · log R; the oldest make room.

    Args:
        capacity: the paper's is 10 000.
        mask_symbol: V; a sequence that still holds it is refused.

    Raises:
        ValueError: for a capacity below 1.
    """

    def __init__(self, capacity: int, n_tokens: int, mask_symbol: int, device: torch.device | str) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity} must be positive")
        self.capacity, self.mask_symbol = capacity, mask_symbol
        self.tokens = torch.full((capacity, n_tokens), mask_symbol, dtype=torch.long, device=device)
        self.reward = torch.zeros(capacity, device=device)
        self.size = self.next = 0

    def __len__(self) -> int:
        return self.size

    def add(self, clean: Tensor, reward: Tensor) -> None:
        """Store sequences (N, n) and their r (N,).

        Raises:
            ValueError: if a sequence holds a mask or a symbol that does not exist, or a reward is not finite.
        """
        if bool(((clean >= self.mask_symbol) | (clean < 0)).any()):
            raise ValueError("the buffer takes clean sequences only: one holds a mask")
        if not bool(torch.isfinite(reward).all()):
            raise ValueError("a reward is not finite: floor log R")
        clean, reward = clean[-self.capacity :], reward[-self.capacity :]
        place = (self.next + torch.arange(len(clean), device=clean.device)) % self.capacity
        self.tokens[place] = clean
        self.reward[place] = reward.to(self.reward.dtype)
        self.next = (self.next + len(clean)) % self.capacity
        self.size = min(self.size + len(clean), self.capacity)

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A uniform batch with replacement: sequences (batch, n) and r (batch,).

        Raises:
            ValueError: if the buffer is empty.
        """
        if self.size == 0:
            raise ValueError("the buffer is empty")
        rows = torch.randint(self.size, (batch,), generator=generator, device=self.tokens.device)
        return self.tokens[rows], self.reward[rows]

    def state(self) -> dict[str, Tensor | int]:
        """What a checkpoint holds."""
        return {
            "tokens": self.tokens[: self.size].clone(),
            "reward": self.reward[: self.size].clone(),
            "next": self.next,
        }

    def load(self, state: dict[str, Tensor | int]) -> None:
        """Restore :meth:`state`."""
        tokens, reward, following = state["tokens"], state["reward"], state["next"]
        assert isinstance(tokens, Tensor)
        assert isinstance(reward, Tensor)
        assert isinstance(following, int)
        self.size, self.next = len(tokens), following
        self.tokens[: self.size] = tokens.to(self.tokens.device)
        self.reward[: self.size] = reward.to(self.reward.device)
