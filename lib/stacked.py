"""Many small trainings of one architecture as one: their weights have a leading axis of members, and torch.func does the rest.

A small model spends most of a step on overhead that does not depend on its size; a stack of S members pays it once. What a
member computes is written once, for one member: :func:`torch.func.functional_call` gives it its slice of the weights, and
:func:`torch.func.vmap` turns it into one computation for all. The members do not see each other: losses are summed, gradients are
clipped member by member, and AdamW acts number by number, so a stack computes what S separate trainings compute, to rounding.

What differs in members are initial values and data. Random numbers that a module draws itself (dropout) come from one generator
for all members, and are not those of a separate training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.data import IterableDataset, default_collate

CHECK_EVERY = 50
"""Steps between looks at the losses: reading a value makes a GPU wait."""


class Stack(nn.Module):
    """S modules of one architecture as one.

    Its parameters are those of one member, under the same names in ``module``, each with a leading axis S.

    Args:
        members: equal in everything but the values of parameters and buffers; they are copied.

    Raises:
        ValueError: for no member, or members that differ in architecture or mode.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("a stack needs at least one member")
        first = _architecture(members[0])
        for i, member in enumerate(members):
            if _architecture(member) != first:
                raise ValueError(f"member {i} of a stack has another architecture or mode than member 0")
        self.members = len(members)
        parameters, buffers = stack_module_state(list(members))
        stacked = {name: nn.Parameter(p, requires_grad=p.requires_grad) for name, p in parameters.items()}
        self.module = _with_values(members[0], stacked, buffers)

    def each(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """``function(member, *inputs of this member)`` of all members at once.

        Args:
            function: what one member computes of its inputs, in terms of tensors. It is called once, with the module of a member.
            inputs: tensors, or nested tuples, lists and dictionaries of tensors, each with a leading axis S.

        Returns:
            What ``function`` returns, every tensor with a leading axis S.
        """
        call = _Call(self.module, function)
        state = dict(self.named_parameters()) | dict(self.named_buffers())
        return vmap(lambda own, own_inputs: functional_call(call, own, own_inputs), randomness="different")(
            state, inputs
        )

    def forward(self, *inputs: Any) -> Any:
        """The members' own ``forward``, see :meth:`each`."""
        return self.each(lambda member, *own: member(*own), *inputs)

    def member(self, index: int) -> nn.Module:
        """A copy of one member as it is now, an ordinary module.

        Raises:
            IndexError: for a member that is not there.
        """
        if not -self.members <= index < self.members:
            raise IndexError(f"a stack of {self.members} has no member {index}")
        parameters = {
            name: nn.Parameter(p.detach()[index].clone(), requires_grad=p.requires_grad)
            for name, p in self.module.named_parameters()
        }
        buffers = {name: b.detach()[index].clone() for name, b in self.module.named_buffers()}
        return _with_values(self.module, parameters, buffers)


def _architecture(module: nn.Module) -> Any:
    """What members share: how they print, their modes, and the shapes of what they hold."""
    shapes = [(name, p.shape, p.dtype, p.requires_grad) for name, p in module.named_parameters()]
    shapes += [(name, b.shape, b.dtype, b.requires_grad) for name, b in module.named_buffers()]
    return str(module), [part.training for part in module.modules()], shapes


class _Call(nn.Module):
    """A function of a module as the ``forward`` of one; the names of its parameters are those of :class:`Stack`."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *inputs: Any) -> Any:
        return self.function(self.module, *inputs)


def _with_values(
    module: nn.Module, parameters: dict[str, nn.Parameter], buffers: dict[str, Tensor]
) -> nn.Module:
    """A copy of ``module`` that holds other parameters and buffers; those that were shared in it stay shared."""
    result = copy.deepcopy(module)
    shared = {id(p): name for name, p in result.named_parameters()}
    for name, parameter in list(result.named_parameters(remove_duplicate=False)):
        owner, _, leaf = name.rpartition(".")
        result.get_submodule(owner)._parameters[leaf] = parameters[shared[id(parameter)]]
    for name, buffer in buffers.items():
        owner, _, leaf = name.rpartition(".")
        result.get_submodule(owner)._buffers[leaf] = buffer
    return result


def clip_by_member(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale the gradients of each member to a norm of at most ``largest``, over all its parameters; in place.

    A common norm would couple the members, and runs in one stack would no longer be what they are alone.

    Args:
        parameters: each with the members along its first axis; those without a gradient are left out.
        largest: the norm.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    squares = torch.stack([g.reshape(len(g), -1).square().sum(1) for g in gradients])  # (parameters, M)
    factor = (largest / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor.view(-1, *[1] * (g.dim() - 1)))


class StackedModule(lightning.LightningModule):
    """S Lightning modules trained as one.

    Args:
        members: modules with a method ``loss(batch)``, a scalar. The optimiser is the one that a member configures, over all
            members' weights: it must act number by number, as SGD, Adam and AdamW do, and its groups must not be chosen by the
            number of a weight's axes.

    Raises:
        ValueError: see :class:`Stack`.
    """

    def __init__(self, members: Sequence[lightning.LightningModule]) -> None:
        super().__init__()
        self.stack = Stack(members)

    def member_losses(self, batch: Any) -> Tensor:
        """The loss of each member, (S,), on its own slice of a batch whose tensors have a leading axis S."""
        return self.stack.each(lambda member, own: member.loss(own), batch)

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        losses = self.member_losses(batch)
        if self.global_step % CHECK_EVERY == 0 and not torch.isfinite(losses).all():
            raise FloatingPointError(
                f"a loss of {type(self.stack.module).__name__} is not finite at step {self.global_step}: {losses.tolist()}"
            )
        return losses.sum()

    def configure_optimizers(self) -> Any:
        return self.stack.module.configure_optimizers()  # type: ignore[operator]

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each member by itself to the trainer's largest norm."""
        if gradient_clip_algorithm not in (None, "norm"):
            raise ValueError(f"a stack clips norms, not by {gradient_clip_algorithm!r}")
        if gradient_clip_val:
            clip_by_member(self.parameters(), gradient_clip_val)


class SideBySide(IterableDataset[Any]):
    """The members' streams of batches as one stream, whose tensors have a leading axis S. Every member keeps its own data.

    Args:
        streams: one for each member; each starts anew with every epoch.

    Raises:
        ValueError: while iterating, if one stream ends before another, or batches differ in shape.
    """

    def __init__(self, streams: Sequence[Iterable[Any]]) -> None:
        self.streams = list(streams)

    def __iter__(self) -> Iterator[Any]:
        for batches in zip(*self.streams, strict=True):
            yield default_collate(list(batches))
