"""Strings that grow at both ends: the prepend/append process over an alphabet of A symbols up to length L.

A string of length k is the integer that it spells in base A, most significant symbol first, so that appending, prepending and
deleting are arithmetic on whole tensors and a state is never a Python object.

Two coincidences matter. Prepending and appending give the same string just if all its symbols are one symbol, and so do deleting
the first and the last symbol. Children and parents are counted once: a constant string has 2A − 1 children, the empty one A, any
other 2A; a constant string has one parent, any other two, and the backward policy is uniform over them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SequenceSpace:
    """All strings up to ``length`` L over ``symbols`` A symbols; those of length L are the end points.

    Raises:
        ValueError: for a length below 1, fewer than two symbols, or more end points than an int64 can name.
    """

    length: int
    symbols: int

    def __post_init__(self) -> None:
        if self.length < 1 or self.symbols < 2:
            raise ValueError(
                f"a sequence space needs a length ≥ 1 and two symbols, got {self.length}, {self.symbols}"
            )
        if self.symbols**self.length >= 2**62:
            raise ValueError(f"{self.symbols}^{self.length} end points are too many to be named by integers")

    @property
    def n_leaves(self) -> int:
        return self.symbols**self.length

    @property
    def n_children(self) -> int:
        """Columns of :meth:`children`: A appended, then A prepended."""
        return 2 * self.symbols

    def digits(self, codes: Tensor, length: int) -> Tensor:
        """Symbols of strings of one length, codes (...) → (..., length)."""
        powers = self.symbols ** torch.arange(length - 1, -1, -1, device=codes.device)
        return codes.unsqueeze(-1) // powers % self.symbols

    def encode(self, digits: Tensor) -> Tensor:
        """Codes of strings, symbols (..., k) → (...)."""
        powers = self.symbols ** torch.arange(digits.shape[-1] - 1, -1, -1, device=digits.device)
        return (digits * powers).sum(-1)

    def constant(self, codes: Tensor, length: int) -> Tensor:
        """Whether all symbols are the same, codes (...) → (...); true of the empty string and of single symbols."""
        if length < 2:
            return torch.ones_like(codes, dtype=torch.bool)
        repeated = (self.symbols**length - 1) // (self.symbols - 1)  # 11…1 in base A
        return codes % repeated == 0

    def children(self, codes: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The strings that one more symbol makes of strings of one length < L.

        Returns:
            codes of the children (..., 2A), the A appended ones first, and which of them count (..., 2A): of two equal children the
            prepended one does not.
        """
        symbol = torch.arange(self.symbols, device=codes.device)
        appended = codes.unsqueeze(-1) * self.symbols + symbol
        prepended = symbol * self.symbols**length + codes.unsqueeze(-1)
        if length == 0:
            twice = torch.ones_like(prepended, dtype=torch.bool)
        else:
            last = codes % self.symbols
            twice = self.constant(codes, length).unsqueeze(-1) & (symbol == last.unsqueeze(-1))
        return torch.cat([appended, prepended], -1), torch.cat([torch.ones_like(twice), ~twice], -1)

    def counts_along(self, codes: Tensor) -> Tensor:
        """Which children count, for one string of each length 0, 1, …, L − 1: codes (..., L) → (..., L, 2A)."""
        lengths = torch.arange(self.length, device=codes.device)
        repeated = (self.symbols**lengths - 1) // (self.symbols - 1)  # 11…1 in base A
        constant = codes % repeated.clamp(min=1) == 0
        symbol = torch.arange(self.symbols, device=codes.device)
        same = (symbol == (codes % self.symbols).unsqueeze(-1)) | (lengths == 0).unsqueeze(-1)
        twice = constant.unsqueeze(-1) & same
        return torch.cat([torch.ones_like(twice), ~twice], -1)

    def parents(self, codes: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """What is left of strings of one length ≥ 1 when the last, or the first, symbol is deleted; (...) each."""
        return codes // self.symbols, codes % self.symbols ** (length - 1)

    def log_pb(self, codes: Tensor, length: int) -> Tensor:
        """log of the backward policy's probability of each parent of strings of one length ≥ 1: 0 or −log 2, in float64."""
        return (self.constant(codes, length).double() - 1) * math.log(2)

    def walk_back(self, leaves: Tensor, uniform: Tensor) -> Tensor:
        """Draw backward trajectories: which end loses its symbol is a fair coin, also where both ends give the same parent.

        Args:
            leaves: (...). uniform: numbers in [0, 1), (..., L).

        Returns:
            paths (..., L + 1): the codes of the strings of length 0, 1, …, L.
        """
        path = [leaves]
        for k in range(self.length, 0, -1):
            without_last, without_first = self.parents(path[-1], k)
            path.append(torch.where(uniform[..., k - 1] < 0.5, without_last, without_first))
        return torch.stack(path[::-1], -1)

    def log_pb_of_paths(self, path: Tensor) -> Tensor:
        """log P_B(τ | x) of paths (..., L + 1) → (...), in float64."""
        return torch.stack([self.log_pb(path[..., k], k) for k in range(1, self.length + 1)], -1).sum(-1)

    def actions(self, path: Tensor) -> Tensor:
        """The column of :meth:`children` that each step of paths (..., L + 1) took, (..., L).

        Where both ends could have grown, the column that counts: the appended one.
        """
        taken = []
        for k in range(self.length):
            parent, child = path[..., k], path[..., k + 1]
            appended = child // self.symbols == parent
            taken.append(torch.where(appended, child % self.symbols, self.symbols + child // self.symbols**k))
        return torch.stack(taken, -1)
