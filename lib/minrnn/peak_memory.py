"""The most memory that tensors take at once while something is computed, on any device and to the byte."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the largest sum of bytes, over the time of ``work()``, of all tensors that it made and that were alive.

    Every storage is followed from the operation that returns it to its end; what exists before is not counted, nor is what one
    operation uses and frees inside. Unlike an allocator's own count it is the same in every run, and a CPU has one too.
    """
    with _Storages() as storages:
        work()
    return storages.peak


class _Storages(TorchDispatchMode):
    """Sees every operation, in the forward and the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0  # bytes
        self._made: set[int] = set()  # addresses
        self._older: dict[int, Any] = {}  # held, so that no new storage gets the address of an old one

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for storage in _storages((args, kwargs)):
            if storage.data_ptr() not in self._made:
                self._older[storage.data_ptr()] = storage
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            address, size = storage.data_ptr(), storage.nbytes()
            if address not in self._made and address not in self._older:
                self._made.add(address)
                self.alive += size
                weakref.finalize(storage, self._end, address, size)
        self.peak = max(self.peak, self.alive)
        return result

    def _end(self, address: int, size: int) -> None:
        self._made.discard(address)
        self.alive -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    storages = [x.untyped_storage() for x in tree_leaves(tree) if isinstance(x, Tensor)]
    return [s for s in storages if s.nbytes()]
