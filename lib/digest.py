"""One digest for plain values, arrays and modules: the same on every machine, in every process and under every Python."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Set
from pathlib import PurePath
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def digest(value: Any) -> str:
    """SHA-256 of ``value``, in hexadecimal.

    Tuples and lists of equal content are equal, and so are mappings and sets in any order. A dataclass counts with its class
    and its fields, an array or tensor with its type, shape and numbers, a module with its class and its state; a class or
    a function counts by its name.

    Raises:
        TypeError: for a value of a type that has no stable content, such as an open file.
    """
    hasher = hashlib.sha256()
    _feed(hasher, value)
    return hasher.hexdigest()


def _feed(hasher: Any, value: Any) -> None:
    """Hash a tag, the length and the content, so that no two structures read the same."""

    def leaf(tag: str, content: bytes) -> None:
        hasher.update(f"{tag}{len(content)}:".encode())
        hasher.update(content)

    def branch(tag: str, items: Any) -> None:
        items = list(items)
        hasher.update(f"{tag}{len(items)}:".encode())
        for item in items:
            _feed(hasher, item)

    if isinstance(value, np.generic):  # first, since numpy.float64 is a float, too
        _feed(hasher, np.asarray(value))
    elif value is None or isinstance(value, (bool, int, float, str, complex)):
        leaf(type(value).__name__, repr(value).encode("utf-8", "surrogatepass"))
    elif isinstance(value, (bytes, bytearray)):
        leaf("bytes", bytes(value))
    elif isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError(f"an array of {value.dtype} has no digest")
        branch("array", [str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes()])
    elif isinstance(value, Tensor):
        plain = value.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        branch("tensor", [str(value.dtype), tuple(value.shape), plain])
    elif isinstance(value, (torch.device, torch.dtype, PurePath)):
        leaf(type(value).__name__, str(value).encode())
    elif isinstance(value, nn.Module):
        branch("module", [type(value), dict(value.state_dict())])
    elif isinstance(value, functools.partial):
        branch("partial", [value.func, value.args, value.keywords])
    elif isinstance(value, (type, FunctionType, MethodType)):
        leaf("name", f"{value.__module__}.{value.__qualname__}".encode())
    elif dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        branch("dataclass", [type(value), fields])
    elif isinstance(value, Mapping):
        branch("mapping", sorted((digest(k), digest(v)) for k, v in value.items()))
    elif isinstance(value, Set):
        branch("set", sorted(map(digest, value)))
    elif isinstance(value, (list, tuple)):
        branch("sequence", value)
    else:
        raise TypeError(f"a value of type {type(value).__qualname__} has no digest")
