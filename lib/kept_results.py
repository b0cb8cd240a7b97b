"""Results of finished work as files: numbers as JSON, arrays as safetensors, nothing that could run.

What a file holds is read back by the annotation of the function that made it, so a file that does not fit is no result.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import pydantic
from pydantic_core import PydanticSerializationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lib.atomic import replacing
from lib.profiles import OneLineError

CONTENT = "content"
_UNWRITABLE: tuple[type[Exception], ...] = (OSError, SafetensorError)
_UNREADABLE: tuple[type[Exception], ...] = (*_UNWRITABLE, KeyError, ValueError, TypeError)


def _write_array(value: Any, info: pydantic.SerializationInfo) -> str:
    arrays: dict[str, np.ndarray] = info.context  # type: ignore[assignment]
    name = f"array {len(arrays)}"
    arrays[name] = np.asarray(value, order="C")
    return name


def _read_array(value: Any, info: pydantic.ValidationInfo) -> np.ndarray:
    arrays: dict[str, np.ndarray] = info.context or {}
    if isinstance(value, np.ndarray):
        return value
    if value not in arrays:
        raise ValueError("is no array of this file")
    return arrays[value]


if TYPE_CHECKING:
    Array = np.ndarray
else:
    Array = Annotated[
        np.ndarray, pydantic.PlainValidator(_read_array), pydantic.PlainSerializer(_write_array)
    ]
    """Annotates the fields of a result that are NumPy arrays."""


class KeptResultError(OneLineError, RuntimeError):
    """A result that cannot be written."""


class Kept(NamedTuple):
    """A result with the seconds that it took."""

    result: Any
    seconds: float


def result_type(function: Callable[..., Any]) -> pydantic.TypeAdapter[Any]:
    """What ``function`` returns, by its annotation.

    Raises:
        TypeError: if it has none, or one that cannot be kept.
    """
    annotated = function.__annotations__.get("return")
    if annotated is None:
        raise TypeError(
            f"{function.__qualname__} does not say what it returns, so its results cannot be kept"
        )
    # the other annotations may name what is imported for type checkers alone
    alone = SimpleNamespace(__annotations__={"return": annotated})
    kind = typing.get_type_hints(alone, function.__globals__, include_extras=True)["return"]
    try:
        return pydantic.TypeAdapter(kind)
    except pydantic.PydanticSchemaGenerationError as error:
        reason = str(error).splitlines()[0]
        raise TypeError(f"results of {function.__qualname__} cannot be kept: {reason}") from error


def keep(path: Path, function: Callable[..., Any], result: Any, seconds: float) -> None:
    """Write what ``function`` returned, whole or not at all.

    Raises:
        TypeError: if the result is not what the function's annotation says.
        KeptResultError: if the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        content = result_type(function).dump_python(result, mode="json", context=arrays, warnings="error")
    except PydanticSerializationError as error:
        reason = " ".join(str(error).split())
        raise TypeError(f"a result of {function.__qualname__} cannot be kept: {reason}") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(arrays, temporary, {CONTENT: json.dumps({"result": content, "seconds": seconds})})
    except _UNWRITABLE as error:
        reason = " ".join(str(error).split())[:120]
        raise KeptResultError(
            f"the result {path.parent.name}/{path.name} cannot be written ({reason})"
        ) from error


def read_kept(path: Path, function: Callable[..., Any]) -> Kept | None:
    """What :func:`keep` wrote; None where there is no such file, or one that is damaged or holds something else."""
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            content = json.loads((file.metadata() or {})[CONTENT])
        result = result_type(function).validate_python(content["result"], context=arrays)
        return Kept(result, float(content["seconds"]))
    except _UNREADABLE:
        return None
