"""Replay buffers of K runs at once: end points only, drawn by the rank of their priority.

A buffer keeps the ``capacity`` end points that were added last. Adding one that it holds moves it to the newest place and
replaces its priority, so the content is that of an ordered dictionary; here it is a few tensors. Trajectories are never stored:
they are drawn anew from the backward policy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMPTY = -1


def rank_weights(size: Tensor, capacity: int) -> Tensor:
    """Unnormalised probability of each rank, 1 / (0.01 N + rank), rank 0 being the highest priority.

    Args:
        size: N, number of entries of each run, (K,).
        capacity: number of ranks.

    Returns:
        (K, capacity) in float64; zero for ranks that no entry has.
    """
    rank = torch.arange(capacity, device=size.device, dtype=torch.float64)
    n = size.to(torch.float64).unsqueeze(1)
    return torch.where(rank < n, 1 / (0.01 * n.clamp(min=1) + rank), 0.0)


def draw_ranks(size: Tensor, capacity: int, uniform: Tensor) -> Tensor:
    """Ranks drawn with replacement in proportion to :func:`rank_weights`, by inversion.

    Args:
        size: entries of each run, (K,), each at least 1.
        uniform: numbers in [0, 1), (K, n).

    Returns:
        (K, n) integers below ``size``.
    """
    cumulative = rank_weights(size, capacity).cumsum(1)
    ranks = torch.searchsorted(cumulative, uniform.double() * cumulative[:, -1:], right=True)
    return torch.minimum(ranks, size.unsqueeze(1) - 1)


class ReplayBuffer(nn.Module):
    """End points named by an integer (a state's index), for K runs.

    Args:
        runs: K.
        capacity: entries of each run.
        n_states: number of states, for a table state → slot that makes every look-up one step; None compares with all entries
            instead, for state spaces too large for a table.

    Raises:
        ValueError: for a size below 1.
    """

    states: Tensor  # (K, capacity), EMPTY where there is no entry
    priority: Tensor  # (K, capacity)
    stamp: Tensor  # (K, capacity), time of the last addition, EMPTY where there is no entry
    clock: Tensor  # ()
    slot_of: Tensor | None  # (K, n_states)

    def __init__(self, runs: int, capacity: int, n_states: int | None = None) -> None:
        super().__init__()
        if runs < 1 or capacity < 1 or (n_states is not None and n_states < 1):
            raise ValueError(f"a buffer needs sizes of at least 1, got {runs=}, {capacity=}, {n_states=}")
        self.capacity = capacity
        self.register_buffer("states", torch.full((runs, capacity), EMPTY, dtype=torch.long))
        self.register_buffer("priority", torch.full((runs, capacity), -torch.inf, dtype=torch.float64))
        self.register_buffer("stamp", torch.full((runs, capacity), EMPTY, dtype=torch.long))
        self.register_buffer("clock", torch.zeros((), dtype=torch.long))
        table = None if n_states is None else torch.full((runs, n_states), EMPTY, dtype=torch.int32)
        self.register_buffer("slot_of", table)

    @property
    def size(self) -> Tensor:
        """Entries of each run, (K,)."""
        return (self.states != EMPTY).sum(1)

    def _find(self, states: Tensor) -> Tensor:
        """Slot of each state, (K, n), EMPTY where the buffer does not hold it."""
        if self.slot_of is not None:
            return self.slot_of.gather(1, states).long()
        same = states.unsqueeze(2) == self.states.unsqueeze(1)  # (K, n, capacity)
        return torch.where(same.any(2), same.int().argmax(2), EMPTY)

    @torch.no_grad()
    def add(self, states: Tensor, priority: Tensor) -> None:
        """Add n end points a run, in order, oldest first.

        Args:
            states: (K, n) integers.
            priority: (K, n).

        Raises:
            ValueError: for other shapes, or a priority that is not a number.
        """
        runs, n = states.shape
        if runs != len(self.states) or priority.shape != states.shape:
            raise ValueError(
                f"states {tuple(states.shape)} and priority {tuple(priority.shape)} must both be ({len(self.states)}, n)"
            )
        if torch.isnan(priority).any():
            raise ValueError("a priority is not a number")
        # of a state that occurs twice only the last occurrence counts; of more than fit only the newest
        later = torch.ones(n, n, dtype=torch.bool, device=states.device).triu(1)
        repeated = ((states.unsqueeze(2) == states.unsqueeze(1)) & later).any(2)  # (K, n)
        kept = ~repeated
        kept &= kept.flip(1).cumsum(1).flip(1) <= self.capacity
        stamp = (self.clock + torch.arange(n, device=states.device)).expand(runs, n)
        self.clock += n

        slot = self._find(states)
        held = kept & (slot != EMPTY)
        rows = torch.arange(runs, device=states.device).unsqueeze(1).expand(runs, n)
        self.stamp[rows[held], slot[held]] = stamp[held]
        oldest = self.stamp.topk(min(n, self.capacity), dim=1, largest=False, sorted=True).indices
        new = kept & ~held
        order = (new.cumsum(1) - 1).clamp(min=0, max=oldest.shape[1] - 1)
        slot = torch.where(new, oldest.gather(1, order), slot)

        at = (rows[kept], slot[kept])
        if self.slot_of is not None:
            evicted = self.states[rows[new], slot[new]]
            real = evicted != EMPTY
            self.slot_of[rows[new][real], evicted[real]] = EMPTY
            self.slot_of[rows[kept], states[kept]] = slot[kept].int()
        self.states[at] = states[kept]
        self.priority[at] = priority[kept].double()
        self.stamp[at] = stamp[kept]

    def ranked(self) -> Tensor:
        """Slots by falling priority, (K, capacity), ties oldest first; slots without an entry come last."""
        empty = self.stamp == EMPTY
        by_age = self.stamp.masked_fill(empty, torch.iinfo(torch.long).max).argsort(dim=1)
        descending = self.priority.gather(1, by_age).argsort(dim=1, descending=True, stable=True)
        return by_age.gather(1, descending)

    @torch.no_grad()
    def sample(self, uniform: Tensor) -> Tensor:
        """Draw end points with replacement by :func:`rank_weights`.

        Args:
            uniform: (K, n) numbers in [0, 1).

        Returns:
            (K, n) states.

        Raises:
            ValueError: if a run's buffer is empty.
        """
        size = self.size
        if (size == 0).any():
            raise ValueError("a replay buffer is empty")
        ranks = draw_ranks(size, self.capacity, uniform)
        return self.states.gather(1, self.ranked().gather(1, ranks))


class VectorBuffer(nn.Module):
    """End points that are vectors, for K runs: a ring, first in first out, without any notion of equal points.

    Args:
        runs: K.
        capacity: entries of each run.
        dim: D, length of a point.

    Raises:
        ValueError: for a size below 1.
    """

    points: Tensor  # (K, capacity, D)
    priority: Tensor  # (K, capacity)
    added: Tensor  # (K,), points added so far

    def __init__(self, runs: int, capacity: int, dim: int) -> None:
        super().__init__()
        if min(runs, capacity, dim) < 1:
            raise ValueError(f"a buffer needs sizes of at least 1, got {runs=}, {capacity=}, {dim=}")
        self.capacity = capacity
        self.register_buffer("points", torch.zeros(runs, capacity, dim))
        self.register_buffer("priority", torch.full((runs, capacity), -torch.inf, dtype=torch.float64))
        self.register_buffer("added", torch.zeros(runs, dtype=torch.long))

    @property
    def size(self) -> Tensor:
        """Entries of each run, (K,)."""
        return self.added.clamp(max=self.capacity)

    @torch.no_grad()
    def add(self, points: Tensor, priority: Tensor, keep: Tensor | None = None) -> None:
        """Add the points that ``keep`` marks.

        Args:
            points: (K, n, D), n at most the capacity.
            priority: (K, n).
            keep: (K, n) booleans; None keeps all.

        Raises:
            ValueError: for more points than fit, or a priority that is not a number.
        """
        runs, n, _ = points.shape
        keep = torch.ones(runs, n, dtype=torch.bool, device=points.device) if keep is None else keep
        if n > self.capacity:
            raise ValueError(f"{n} points do not fit a buffer of {self.capacity}")
        if torch.isnan(priority[keep]).any():
            raise ValueError("a priority is not a number")
        slot = (self.added.unsqueeze(1) + keep.cumsum(1) - 1) % self.capacity
        rows = torch.arange(runs, device=points.device).unsqueeze(1).expand(runs, n)
        at = (rows[keep], slot[keep])
        self.points[at] = points[keep].to(self.points.dtype)
        self.priority[at] = priority[keep].double()
        self.added += keep.sum(1)

    @torch.no_grad()
    def sample(self, uniform: Tensor) -> Tensor:
        """Draw points with replacement by :func:`rank_weights`, uniform (K, n) → points (K, n, D).

        Raises:
            ValueError: if a run's buffer is empty.
        """
        size = self.size
        if (size == 0).any():
            raise ValueError("a replay buffer is empty")
        ranks = draw_ranks(size, self.capacity, uniform)
        ages = (torch.arange(self.capacity, device=size.device) - self.added.unsqueeze(1)) % self.capacity
        by_age = ages.argsort(
            dim=1
        )  # oldest first once the ring is full; before that entries already lie by age
        by_age = torch.where(
            (size < self.capacity).unsqueeze(1), torch.arange(self.capacity, device=size.device), by_age
        )
        order = self.priority.gather(1, by_age).argsort(dim=1, descending=True, stable=True)
        slots = by_age.gather(1, order).gather(1, ranks)
        return self.points.gather(1, slots.unsqueeze(2).expand(-1, -1, self.points.shape[2]))
