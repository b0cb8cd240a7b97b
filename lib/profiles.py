"""Profiles and the validation of a notebook's parameters.

A *profile* is a frozen dataclass that holds every size of a run. Each chapter defines one dataclass and four
instances of it: ``smoke``, ``default``, ``gpu`` and ``paper``. A wrong parameter stops a run at once, with one line
that names the parameter, the value, what is allowed and, for a typo, the nearest allowed name.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

PROFILE_NAMES = ("smoke", "default", "gpu", "paper")
ACCELERATORS = ("auto", "cpu", "gpu", "mps")
DATA_POLICIES = ("auto", "real", "standin")

Settings = TypeVar("Settings")


class OneLineError(Exception):
    """An error whose message is for the person who started the run: notebooks show it as one line."""

    def _render_traceback_(self) -> list[str]:
        """IPython's hook for the traceback that a notebook displays."""
        return [f"{type(self).__name__}: {self}"]


class ParameterError(OneLineError, ValueError):
    """A notebook parameter, profile name or override that is not allowed."""


def nearest(name: object, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the allowed name closest to ``name``, or an empty string."""
    matches = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def choose(parameter: str, value: object, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``.

    Raises:
        ParameterError: otherwise, naming the parameter, the value and the allowed names.
    """
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise ParameterError(f"{parameter}={value!r} is not one of {', '.join(names)}{nearest(value, names)}")
    return value


def setting(default: Any, unit: str, doc: str, paper: Any = None) -> Any:
    """Declare a field of a profile.

    Args:
        default: value of the ``default`` profile; give tuples for lists.
        unit: unit of the value (``"steps"``, ``"characters"``, ``"1"`` for a pure number).
        doc: what the field sets, in one line.
        paper: the value that the paper fixes, if it does.
    """
    return dataclasses.field(default=default, metadata={"unit": unit, "doc": doc, "paper": paper})


def resolve(
    profiles: Mapping[str, Settings], name: object, overrides: Mapping[str, Any] | str | None = None
) -> Settings:
    """Return the profile called ``name`` with ``overrides`` applied.

    Args:
        profiles: profile name → frozen dataclass instance.
        name: the requested profile.
        overrides: field name → value, or the same as a JSON object in a string (as ``papermill -p`` passes it).

    Raises:
        ParameterError: for an unknown profile, an unknown field or a value of the wrong type.
    """
    settings = profiles[choose("profile", name, profiles)]
    fields = {field.name for field in dataclasses.fields(settings)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(type(settings))
    changes = {}
    for key, value in _as_mapping(overrides).items():
        if key not in fields:
            hint = nearest(key, fields) or f"; allowed: {', '.join(sorted(fields))}"
            raise ParameterError(f"overrides: unknown setting {key!r}{hint}")
        changes[key] = convert(f"overrides[{key!r}]", value, hints[key])
    every = changes.get("checkpoint_every")
    if every is not None and every < 1:
        raise ParameterError(f"checkpoint_every={every} must be at least 1, or None for no checkpoints")
    try:
        return dataclasses.replace(settings, **changes)  # type: ignore[type-var]
    except ParameterError:
        raise
    except ValueError as error:  # a profile's own __post_init__ may check ranges
        raise ParameterError(f"overrides={changes!r}: {error}") from error


def _as_mapping(overrides: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    if overrides is None or overrides == "":
        return {}
    if isinstance(overrides, str):
        try:
            overrides = json.loads(overrides)
        except json.JSONDecodeError as error:
            raise ParameterError(f"overrides={overrides!r} is not a JSON object ({error.msg})") from error
    if not isinstance(overrides, Mapping):
        raise ParameterError(f"overrides={overrides!r} is not a mapping of setting names to values")
    return overrides


def convert(parameter: str, value: Any, expected: Any) -> Any:
    """Return ``value`` as the annotated type ``expected``; lossless conversions only (int → float, list → tuple).

    Raises:
        ParameterError: if the value has another type.
    """
    origin, args = typing.get_origin(expected), typing.get_args(expected)
    if origin in (typing.Union, types.UnionType):
        for option in args:
            try:
                return convert(parameter, value, option)
            except ParameterError:
                continue
    elif origin is typing.Literal:
        if value in args:
            return value
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            if len(args) == 2 and args[1] is Ellipsis:
                return tuple(convert(parameter, item, args[0]) for item in value)
            if len(args) == len(value):
                return tuple(convert(parameter, item, kind) for item, kind in zip(value, args, strict=True))
    elif expected is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif expected is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    elif expected is types.NoneType and value is None:
        return None
    elif expected not in (int, float) and isinstance(expected, type) and isinstance(value, expected):
        return value
    wanted = getattr(expected, "__name__", str(expected)) if origin is None else str(expected)
    raise ParameterError(f"{parameter}={value!r} is not of type {wanted.replace('typing.', '')}")


def check_seed(seed: Any) -> int:
    """Return ``seed`` if it is a whole number from 0 to 2**32 − 1.

    Raises:
        ParameterError: otherwise.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ParameterError(f"seed={seed!r} is not a whole number from 0 to {2**32 - 1}")
    return seed
