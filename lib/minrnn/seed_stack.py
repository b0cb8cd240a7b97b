"""Several trainings of one architecture as one: the members of a stack differ in seed, data and initial values only.

A small model spends most of a step on overhead that does not depend on its size. A stack pays it once: every weight gains a leading
axis S, the sequences of all members are laid behind one another in the batch, and each linear map becomes one batched product. The members
do not see each other: losses are summed, gradients are clipped member by member, and AdamW acts number by number, so a stack
computes what S separate trainings compute.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.minrnn.blocks import RMSNorm
from lib.minrnn.mixers import _LearnedInitialState
from lib.minrnn.scan import g
from lib.minrnn.token_data import IGNORE, Batch
from lib.minrnn.token_model import TokenModel, adamw


class StackedLinear(nn.Module):
    """S linear maps: (S·B, T, d_in) → (S·B, T, d_out), member s acting on its own rows."""

    def __init__(self, members: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([m.weight.detach() for m in members]))  # (S, d_out, d_in)
        has_bias = members[0].bias is not None
        self.bias = nn.Parameter(torch.stack([m.bias.detach() for m in members])) if has_bias else None

    def forward(self, x: Tensor) -> Tensor:
        members, d_out, d_in = self.weight.shape
        rows = x.reshape(members, -1, d_in)  # (S, B·T, d_in)
        weight = self.weight.transpose(1, 2)
        y = rows @ weight if self.bias is None else torch.baddbmm(self.bias.unsqueeze(1), rows, weight)
        return y.view(*x.shape[:-1], d_out)


class StackedEmbedding(nn.Module):
    """S tables of token vectors: tokens (S·B, T) → (S·B, T, d)."""

    def __init__(self, members: Sequence[nn.Embedding]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([m.weight.detach() for m in members]))  # (S, V, d)

    def forward(self, tokens: Tensor) -> Tensor:
        members, vocabulary, _ = self.weight.shape
        offset = vocabulary * torch.arange(members, device=tokens.device).view(-1, 1, 1)
        rows = (tokens.view(members, -1, tokens.shape[-1]) + offset).view_as(tokens)
        return F.embedding(rows, self.weight.flatten(0, 1))


class StackedNorm(nn.Module):
    """S RMS norms with a γ each, on (S·B, T, d)."""

    def __init__(self, members: Sequence[RMSNorm]) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.stack([m.gamma.detach() for m in members]))  # (S, d)

    def forward(self, x: Tensor) -> Tensor:
        members, d = self.gamma.shape
        unit = F.normalize(x, dim=-1).view(members, -1, d)
        return (unit * ((self.gamma + 1) * d**0.5).unsqueeze(1)).view_as(x)


class StackedInitialState(nn.Module):
    """S learned initial states h_0 = g(θ): batch S·B → (S·B, d_hidden)."""

    def __init__(self, members: Sequence[_LearnedInitialState]) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.stack([m.theta.detach() for m in members]))  # (S, d_hidden)

    def forward(self, batch: int) -> Tensor:
        return g(self.theta).repeat_interleave(batch // len(self.theta), dim=0)


_STACKED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Embedding: StackedEmbedding,
    RMSNorm: StackedNorm,
    _LearnedInitialState: StackedInitialState,
}


def stack_modules(members: Sequence[nn.Module]) -> nn.Module:
    """One module that holds the weights of all ``members`` (same architecture) and acts on (S·B, T, ·).

    Raises:
        TypeError: for a module with weights of its own that is none of those above (convolutions, S6, positions, …).
    """
    first = members[0]
    kind = _STACKED.get(type(first))
    if kind is not None:
        return kind(members)  # type: ignore[call-arg]
    if first._parameters and any(p is not None for p in first._parameters.values()):
        raise TypeError(f"{type(first).__name__} cannot be stacked; train its seeds one by one")
    result = copy.copy(first)
    result._modules = {
        name: None if child is None else stack_modules([m._modules[name] for m in members])  # type: ignore[misc]
        for name, child in first._modules.items()
    }
    return result


def stackable(model: nn.Module) -> bool:
    """Whether every weight of ``model`` lies in a module that can be stacked."""
    return all(
        type(m) in _STACKED or not any(p is not None for p in m._parameters.values()) for m in model.modules()
    )


class StackedBatches(lightning.LightningDataModule):
    """The members' data side by side: batches (S·B, T). Every member keeps its own stream and its own evaluation set."""

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__()
        self.members = list(members)
        self.evaluation: list[Batch] = [join(b) for b in zip(*(m.evaluation for m in members), strict=True)]

    def train_dataloader(self) -> Iterable[Batch]:
        first = self.trainer.global_step if self.trainer is not None else 0
        return torch.utils.data.DataLoader(_Joined([m.stream(first) for m in self.members]), batch_size=None)


class _Joined(torch.utils.data.IterableDataset[Batch]):
    def __init__(self, streams: Sequence[Iterable[Batch]]) -> None:
        self.streams = list(streams)

    def __iter__(self) -> Any:
        return (join(batches) for batches in zip(*self.streams, strict=True))


def join(batches: Sequence[Batch]) -> Batch:
    """Lay the members' batches behind one another."""
    return torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])


class SeedStack(lightning.LightningModule):
    """S token models trained as one.

    Args:
        members: models of one architecture; options that only change initial values (biases) may differ.

    Raises:
        TypeError: see :func:`stack_modules`.
        ValueError: for no member.
    """

    def __init__(self, members: Sequence[TokenModel]) -> None:
        super().__init__()
        if not members:
            raise ValueError("a stack needs at least one member")
        self.n = len(members)
        self.architecture, self.optimisation = members[0].architecture, members[0].optimisation
        self.embedding = stack_modules([m.embedding for m in members])
        self.backbone = stack_modules([m.backbone for m in members])
        self.head = stack_modules([m.head for m in members])

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (S·B, T, V) and the state after the last token."""
        hidden, state = self.backbone(self.embedding(tokens), state)
        return self.head(hidden), state

    def member_losses(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of each member over its own answers, (S,), nats."""
        tokens, targets = batch
        logits, _ = self(tokens)
        losses = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none"
        )
        asked = (targets != IGNORE).view(self.n, -1).sum(1)
        return losses.view(self.n, -1).sum(1) / asked

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        losses = self.member_losses(batch)
        if self.global_step % 50 == 0 and not torch.isfinite(losses).all():
            raise FloatingPointError(
                f"a training loss of {self.architecture.mixer} is not finite at step {self.global_step}: "
                f"{losses.tolist()}"
            )
        return losses.sum()

    def configure_optimizers(self) -> Any:
        return adamw(self, self.optimisation)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient norm of each member by itself; a common norm would couple them."""
        if not gradient_clip_val:
            return
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = torch.stack([x.flatten(1).square().sum(1) for x in gradients]).sum(0).sqrt()  # (S,)
        factor = (gradient_clip_val / (norm + 1e-6)).clamp(max=1.0)
        for x in gradients:
            x.mul_(factor.view(-1, *[1] * (x.dim() - 1)))

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> list[dict[str, float]]:
        """Loss and accuracy of each member over its own part of ``batches``."""
        was_training = self.training
        self.eval()
        totals = torch.zeros(3, self.n, dtype=torch.float64)
        for tokens, targets in batches:
            logits, _ = self(tokens.to(self.device))
            targets = targets.to(self.device)
            losses = F.cross_entropy(
                logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none"
            ).view(self.n, -1)
            asked = targets != IGNORE
            hits = ((logits.argmax(-1) == targets) & asked).view(self.n, -1)
            for i, value in enumerate((losses, hits, asked.view(self.n, -1))):
                totals[i] += value.double().sum(1).cpu()
        self.train(was_training)
        loss, accuracy = (totals[:2] / totals[2]).tolist()
        return [{"loss": x, "accuracy": y} for x, y in zip(loss, accuracy, strict=True)]
