"""Profiles and the validation of a notebook's parameters.

A *profile* holds every size of a run. Each chapter has four: ``smoke``, ``default``, ``gpu`` and ``paper``. Sizes are declared field by
field in a :func:`settings_class`, each with its unit, its meaning, the paper's own value and the values that are allowed. A wrong
parameter stops a run at once, with one line that names the parameter, the value, what is allowed and, for a typo, the nearest
allowed name.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import pydantic

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


def shown(value: object) -> str:
    """``value`` as a message shows it: one line of at most 80 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits than Python writes down, or endless nesting
        return f"<{type(value).__name__}>"
    if "\n" in text:  # an array
        text = " ".join(text.split())
    return text if len(text) <= 80 else text[:79] + "…"


def nearest(name: object, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the allowed name closest to ``name``, or an empty string."""
    text = name if isinstance(name, str) else shown(name)
    matches = difflib.get_close_matches(text, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def choose(parameter: str, value: object, allowed: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``allowed``.

    Raises:
        ParameterError: otherwise, naming the parameter, the value and the allowed names.
    """
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise ParameterError(
            f"{parameter}={shown(value)} is not one of {', '.join(names)}{nearest(value, names)}"
        )
    return value


# --- settings: fields with units and constraints ------------------------------------------------------------------


def setting(
    default: Any,
    unit: str,
    doc: str,
    paper: Any = None,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    among: Iterable[Any] | None = None,
    empty: bool = False,
    distinct: bool = False,
) -> Any:
    """Declare a field of a :func:`settings_class`. Bounds hold for the value, and for every item where the value is a tuple.

    Args:
        default: value of the ``default`` profile; give tuples for lists.
        unit: unit of the value (``"steps"``, ``"characters"``, ``"1"`` for a pure number).
        doc: what the field sets, in one line.
        paper: the value that the paper fixes, if it does.
        least, most: smallest and largest allowed number.
        above, below: numbers that the value has to exceed and to stay under.
        among: the allowed values.
        empty: whether a tuple, or one inside it, may have no item.
        distinct: whether each item of a tuple may occur once only; items of tuples inside it may.
    """
    rule = Constraint(least, most, above, below, None if among is None else tuple(among), empty, distinct)
    return dataclasses.field(
        default=default, metadata={"unit": unit, "doc": doc, "paper": paper, "allowed": rule}
    )


@dataclasses.dataclass(frozen=True)
class Constraint:
    """The values that a field takes; see :func:`setting`."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    among: tuple[Any, ...] | None = None
    empty: bool = False
    distinct: bool = False

    def check(self, value: Any) -> Any:
        """Return ``value`` if it is allowed.

        Raises:
            ValueError: otherwise, with words that follow the value.
        """
        if isinstance(value, tuple) and self.distinct and len(set(value)) < len(value):
            raise ValueError("names one of them twice")
        self._check_items(value, inside=False)
        return value

    def _check_items(self, value: Any, inside: bool) -> None:
        if isinstance(value, tuple):
            if not value and not self.empty:
                raise ValueError("must not be empty")
            for item in value:
                self._check_items(item, inside=True)
        elif self.among is not None and value not in self.among and value is not None:
            names = ", ".join(map(str, self.among))
            which = f"{shown(value)} " if inside else ""
            raise ValueError(f"{which}is not one of {names}{nearest(value, map(str, self.among))}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self._check_number(value)

    def _check_number(self, value: float) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must be finite")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("has more digits than a size can have")
        if self.least is not None and value < self.least:
            raise ValueError(f"must be at least {self.least}")
        if self.most is not None and value > self.most:
            raise ValueError(f"must be at most {self.most}")
        if self.above is not None and value <= self.above:
            raise ValueError(f"must be above {self.above}")
        if self.below is not None and value >= self.below:
            raise ValueError(f"must be below {self.below}")


@typing.dataclass_transform(frozen_default=True)
def settings_class(cls: type[Settings]) -> type[Settings]:
    """Make ``cls`` a frozen pydantic dataclass whose fields, declared by :func:`setting`, are checked whenever one is made.

    Types are taken strictly (no number from text, no whole number from a fraction, no number from True), but for what YAML and JSON
    cannot say: a list is a tuple, and the text ``1e-3``, which YAML does not take for a number, is one where a number with a
    fraction is asked for. A class may compare its fields with one another in ``__post_init__``.

    The class raises :class:`ParameterError`, one line that names the field, when it is given a wrong value.
    """
    for name, hint in list(vars(cls).get("__annotations__", {}).items()):
        declared = getattr(cls, name)
        resolved = typing.get_type_hints(cls)[name]
        cls.__annotations__[name] = Annotated[
            resolved,
            pydantic.BeforeValidator(functools.partial(_from_yaml, takes_fractions="float" in str(hint))),
            pydantic.AfterValidator(declared.metadata["allowed"].check),
        ]
    config = pydantic.ConfigDict(strict=True, extra="forbid", validate_default=True)
    made = pydantic.dataclasses.dataclass(cls, frozen=True, config=config)
    validating = made.__init__  # type: ignore[misc]

    @functools.wraps(validating)
    def checked(self: Any, *positional: Any, **named: Any) -> None:
        try:
            validating(self, *positional, **named)
        except pydantic.ValidationError as error:
            raise ParameterError(one_line(error)) from None

    made.__init__ = checked  # type: ignore[method-assign]
    return made  # type: ignore[return-value]


def _from_yaml(value: Any, takes_fractions: bool) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_from_yaml(item, takes_fractions) for item in value)
    if takes_fractions and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def one_line(error: pydantic.ValidationError) -> str:
    """The first fault that pydantic found, as one line: where, the value, what is wrong with it."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ParameterError):
        return str(cause)
    place = [str(step) for step in first["loc"] if isinstance(step, (str, int))]
    where = "".join([place[0], *(f"[{step}]" for step in place[1:] if step.isdigit())]) if place else "value"
    what = str(cause) if cause is not None else _said(first)
    return f"{where}={shown(first['input'])} {what}"


_PYTHON_NAMES = {"string": "str"}


def _said(fault: Mapping[str, Any]) -> str:
    """Pydantic's words for a fault in the words of this module."""
    kind, _, rest = fault["type"].partition("_")
    if rest in ("type", "parsing", "from_float") or kind == "is":
        return f"is not of type {_PYTHON_NAMES.get(kind, kind)}"
    return f"is not allowed: {fault['msg'][0].lower()}{fault['msg'][1:]}"


# --- the settings of a chapter: those of its experiments, put together ---------------------------------------------


@dataclasses.dataclass(frozen=True)
class ChapterSettings:
    """The settings of a chapter's experiments side by side.

    Attributes:
        parts: prefix → settings of one experiment. ``overrides``, records and the page call the field ``steps`` of the part
            ``copying`` ``copying_steps``; the fields of the part ``""`` have no prefix. More parts than one may be without.
    """

    parts: tuple[tuple[str, Any], ...]

    def of(self, kind: type[Settings]) -> Settings:
        """The part that is a ``kind``, whatever its prefix.

        Raises:
            LookupError: if there is none.
        """
        for _, part in self.parts:
            if type(part) is kind:
                return part
        raise LookupError(f"no experiment of this chapter has {kind.__module__}.{kind.__qualname__}")


def put_together(experiments: Mapping[str, Any], *shared: Mapping[str, Any]) -> dict[str, ChapterSettings]:
    """The four profiles of a chapter.

    Args:
        experiments: prefix → experiment, which has ``PROFILES``: profile name → settings.
        shared: profile name → settings that several experiments read; their fields have no prefix.

    Raises:
        ValueError: if two fields have one name.
    """
    profiles = {}
    for name in PROFILE_NAMES:
        parts = [("", settings[name]) for settings in shared]
        parts += [(prefix, experiment.PROFILES[name]) for prefix, experiment in experiments.items()]
        profiles[name] = ChapterSettings(tuple(parts))
        names = [item.name for item in fields_of(profiles[name])]
        for repeated in {n for n in names if names.count(n) > 1}:
            raise ValueError(f"two settings of one chapter are called {repeated!r}")
    return profiles


@dataclasses.dataclass(frozen=True)
class NamedSetting:
    """One setting of a run under the name that ``overrides`` knows: its value and what its declaration says."""

    name: str
    value: Any
    unit: str
    doc: str
    paper: Any


def fields_of(settings: Any) -> list[NamedSetting]:
    """Every setting of a chapter, whether its settings are one class or several put together."""
    found = []
    for prefix, part in _parts(settings):
        for item in dataclasses.fields(part):
            about = item.metadata
            name = f"{prefix}_{item.name}" if prefix else item.name
            value = getattr(part, item.name)
            found.append(
                NamedSetting(name, value, about.get("unit", ""), about.get("doc", ""), about.get("paper"))
            )
    return found


def values_of(settings: Any) -> dict[str, Any]:
    """Name → value of every setting of a chapter."""
    return {item.name: item.value for item in fields_of(settings)}


def _parts(settings: Any) -> Iterator[tuple[str, Any]]:
    yield from settings.parts if isinstance(settings, ChapterSettings) else [("", settings)]


def resolve(
    profiles: Mapping[str, Settings], name: object, overrides: Mapping[str, Any] | str | None = None
) -> Settings:
    """Return the profile called ``name`` with ``overrides`` applied.

    Args:
        profiles: profile name → settings of a chapter.
        name: the requested profile.
        overrides: setting → value, or the same as a JSON object in a string (as ``papermill -p`` passes it).

    Raises:
        ParameterError: for an unknown profile, an unknown setting or a value that is not allowed.
    """
    settings = profiles[choose("profile", name, profiles)]
    changes = dict(_as_mapping(overrides))
    known = [item.name for item in fields_of(settings)]
    for key in changes:
        if key not in known:
            hint = nearest(key, known) or f"; allowed: {', '.join(sorted(known))}"
            raise ParameterError(f"overrides: unknown setting {shown(key)}{hint}")
    parts = tuple((prefix, _replaced(prefix, part, changes)) for prefix, part in _parts(settings))
    return ChapterSettings(parts) if isinstance(settings, ChapterSettings) else parts[0][1]  # type: ignore[return-value]


def _replaced(prefix: str, part: Any, changes: Mapping[str, Any]) -> Any:
    """``part`` with those of ``changes`` that are its own; messages name settings as ``overrides`` does."""
    lead = f"{prefix}_" if prefix else ""
    own = {
        item.name: changes[lead + item.name]
        for item in dataclasses.fields(part)
        if lead + item.name in changes
    }
    try:
        return dataclasses.replace(part, **own) if own else part
    except ParameterError as error:
        said = str(error)
        said = (
            said if len(said) <= 500 else f"{said[:250]} … {said[-250:]}"
        )  # what is wrong stands at the end
        raise ParameterError(f"overrides: {lead}{said}") from error.__cause__


def _as_mapping(overrides: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    if overrides is None or overrides == "":
        return {}
    if isinstance(overrides, str):
        from lib.plain_files import parse_json  # here, because it imports this module

        overrides = parse_json(overrides, f"overrides={shown(overrides)}", ParameterError)
    if not isinstance(overrides, Mapping):
        raise ParameterError(f"overrides={shown(overrides)} is not a mapping of setting names to values")
    return overrides


def check_seed(seed: Any) -> int:
    """Return ``seed`` if it is a whole number from 0 to 2**32 − 1.

    Raises:
        ParameterError: otherwise.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ParameterError(f"seed={shown(seed)} is not a whole number from 0 to {2**32 - 1}")
    return seed
