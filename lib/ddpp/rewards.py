"""Rewards: log R of clean sequences and of one-hot sequences, floored, with an exponent; and counters of what was asked.

The target of steering is π(x) ∝ p(x) R(x)^exponent with exponent = 1/β. Everything is kept in logarithms:
r = exponent · log R.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F


def floor_log_reward(log_reward: Tensor, floor: float) -> Tensor:
    """max(log R, floor), so that R = 0 has a finite logarithm.

    Raises:
        ValueError: for NaN, +∞, or a floor that is not finite.
    """
    if bool(torch.isnan(log_reward).any()) or bool((log_reward == torch.inf).any()):
        raise ValueError("log R holds NaN or +inf")
    if not abs(floor) < float("inf"):
        raise ValueError(f"floor={floor} must be finite")
    return log_reward.clamp(min=floor)


class Reward:
    """log R of sequences of n tokens over V symbols. A subclass defines both methods.

    Attributes:
        exponent: 1/β; r = exponent · log R.
    """

    def __init__(self, exponent: float = 1.0) -> None:
        if not 0 <= exponent < float("inf"):
            raise ValueError(f"exponent={exponent} must be finite and not negative")
        self.exponent = exponent

    def log_reward(self, clean: Tensor) -> Tensor:
        """log R (N,) of clean tokens (N, n) int64."""
        raise NotImplementedError

    def log_reward_of_onehot(self, onehot: Tensor) -> Tensor:
        """log R (N,) of one-hot sequences (N, n, V), differentiable."""
        raise NotImplementedError

    def log_reward_at_vertex(self, onehot: Tensor, clean: Tensor) -> Tensor:
        """:meth:`log_reward_of_onehot` where ``onehot`` (N, n, V) is exactly the one-hot form of ``clean`` (N, n).

        A subclass that knows its value and gradient at such points without evaluating the whole extension overrides this.
        """
        return self.log_reward_of_onehot(onehot)

    def __call__(self, clean: Tensor) -> Tensor:
        """r = exponent · log R of clean tokens (N, n), (N,)."""
        return self.exponent * self.log_reward(clean)


class _TableAtVertex(torch.autograd.Function):
    """Value and gradient of the multilinear extension of a table at the vertices of the product of simplices: both are look-ups."""

    @staticmethod
    def forward(ctx, onehot: Tensor, clean: Tensor, reward: TableReward) -> Tensor:  # type: ignore[no-untyped-def,override]
        ctx.save_for_backward(clean)
        ctx.reward, ctx.dtype = reward, onehot.dtype
        return reward.log_reward(clean).to(onehot.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def,override]
        (clean,) = ctx.saved_tensors
        return ctx.reward.slopes(clean).to(ctx.dtype) * grad.view(-1, 1, 1), None, None


class TableReward(Reward):
    """log R looked up in a table of shape (V,)·n. Its one-hot form is the multilinear extension, Σ_x log R(x) Π_i onehot_{i, x_i}.

    Raises:
        ValueError: for a table that is not (V,)·n, or not finite.
    """

    def __init__(self, log_reward_table: Tensor, exponent: float = 1.0) -> None:
        super().__init__(exponent)
        if log_reward_table.dim() < 1 or len(set(log_reward_table.shape)) != 1:
            raise ValueError(f"a table of rewards has shape (V,)*n, got {tuple(log_reward_table.shape)}")
        if not bool(torch.isfinite(log_reward_table).all()):
            raise ValueError("the table of log R must be finite: floor it first (floor_log_reward)")
        self.table = log_reward_table
        self._arrange()

    def _arrange(self) -> None:
        n, n_symbols = self.table.dim(), self.table.shape[0]
        self.flat = self.table.reshape(-1).contiguous()
        self.strides = n_symbols ** torch.arange(n - 1, -1, -1, device=self.table.device)
        self.columns: list[Tensor] | None = None

    def _to(self, device: torch.device) -> None:
        if self.table.device != device:
            self.table = self.table.to(device)
            self._arrange()

    def log_reward(self, clean: Tensor) -> Tensor:
        """log R (N,) of clean tokens (N, n)."""
        self._to(clean.device)
        return self.flat[(clean * self.strides).sum(-1)]

    def slopes(self, clean: Tensor) -> Tensor:
        """log R with token i replaced by v, (N, n, V): the gradient of the multilinear extension at one-hots."""
        self._to(clean.device)
        n, n_symbols = self.table.dim(), self.table.shape[0]
        if self.columns is None:  # for each token a table whose rows run over its symbols
            self.columns = [self.table.movedim(i, -1).reshape(-1, n_symbols).contiguous() for i in range(n)]
        result = []
        for i, column in enumerate(self.columns):
            row = torch.zeros(len(clean), dtype=torch.long, device=clean.device)
            for j in range(n):
                if j != i:
                    row = row * n_symbols + clean[:, j]
            result.append(column.index_select(0, row))
        return torch.stack(result, 1)

    def log_reward_of_onehot(self, onehot: Tensor) -> Tensor:
        """The multilinear extension (N,) at points (N, n, V): exact at one-hots, the expectation at probabilities."""
        self._to(onehot.device)
        n, n_symbols = onehot.shape[1:]
        rest = onehot[:, 0] @ self.flat.to(onehot.dtype).view(n_symbols, -1)  # (N, V^(n−1))
        for i in range(1, n):
            rest = torch.einsum("nv,nvr->nr", onehot[:, i], rest.view(len(onehot), n_symbols, -1))
        return rest.squeeze(-1)

    def log_reward_at_vertex(self, onehot: Tensor, clean: Tensor) -> Tensor:
        """Value and gradient at one-hots by look-up."""
        self._to(onehot.device)
        return _TableAtVertex.apply(onehot, clean, self)


class FunctionReward(Reward):
    """A reward given by one differentiable function of one-hot sequences (N, n, V) → log R (N,), floored."""

    def __init__(
        self,
        log_reward_of_onehot: Callable[[Tensor], Tensor],
        n_symbols: int,
        exponent: float = 1.0,
        floor: float = -1e4,
    ) -> None:
        super().__init__(exponent)
        self.function, self.n_symbols, self.floor = log_reward_of_onehot, n_symbols, floor

    @torch.no_grad()
    def log_reward(self, clean: Tensor) -> Tensor:
        """log R (N,) of clean tokens (N, n)."""
        return self.log_reward_of_onehot(F.one_hot(clean, self.n_symbols).float())

    def log_reward_of_onehot(self, onehot: Tensor) -> Tensor:
        """log R (N,) of one-hot sequences (N, n, V)."""
        return floor_log_reward(self.function(onehot), self.floor)


@dataclass
class CallCounter:
    """What a method asked for, per item of a batch and summed over steps.

    A *call* is one evaluation of a network for one item: Table 1 counts these. ``rows`` are evaluations of single sequences
    by any network, the unit of computing time.

    Attributes:
        model: calls of the tuned network in the loss (a trajectory of T steps needs T).
        prior: calls of the frozen network in the loss.
        reward: evaluations of the reward in the loss.
        sampling: calls of a network for replay samples, shared out over the steps that use them.
        sampling_reward: evaluations of the reward for replay samples, likewise.
        rows: network evaluations of single sequences.
        reward_rows: evaluations of the reward on single sequences.
    """

    model: float = 0.0
    prior: float = 0.0
    reward: float = 0.0
    sampling: float = 0.0
    sampling_reward: float = 0.0
    rows: int = 0
    reward_rows: int = 0

    def add(self, **amounts: float) -> None:
        """Add to the named counts."""
        for name, amount in amounts.items():
            setattr(self, name, getattr(self, name) + amount)

    def as_dict(self) -> dict[str, float]:
        """All counts by name, and two totals: ``model_calls`` = model + sampling, ``reward_calls`` = reward + sampling_reward."""
        counts = {field.name: getattr(self, field.name) for field in fields(self)}
        totals = {
            "model_calls": self.model + self.sampling,
            "reward_calls": self.reward + self.sampling_reward,
        }
        return {**counts, **totals}

    @classmethod
    def from_dict(cls, counts: dict[str, float]) -> CallCounter:
        """The counter whose :meth:`as_dict` is ``counts``."""
        return cls(**{field.name: counts[field.name] for field in fields(cls)})  # type: ignore[arg-type]
