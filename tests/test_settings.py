"""Every setting of every chapter, offered what a person may write by mistake: one line, or a value that the run can work with."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Iterator
from typing import Any

import pytest

from lib.fingerprint import slugs
from lib.profiles import ChapterSettings, Constraint, ParameterError, resolve, values_of


def profiles_of(slug: str) -> dict[str, Any]:
    return importlib.import_module(f"lib.{slug}.profiles").PROFILES


def declared(settings: Any) -> Iterator[tuple[str, Constraint, Any]]:
    """Name that ``overrides`` knows, constraint and value of every setting."""
    parts = settings.parts if isinstance(settings, ChapterSettings) else [("", settings)]
    for prefix, part in parts:
        for field in dataclasses.fields(part):
            name = f"{prefix}_{field.name}" if prefix else field.name
            yield name, field.metadata["allowed"], getattr(part, field.name)


EVERY = [(slug, name) for slug in slugs() for name, _, _ in declared(profiles_of(slug)["default"])]
LONG = 1 << 20_000  # a number that Python does not write down
MISTAKES: list[Any] = [
    -1, 0, 10**9, 10**400, LONG, 0.5, -0.5, 1e300, math.nan, math.inf, -math.inf, True, None,
    "", "nope", "1e-3", "nan", "1", "a\nb", {}, {"a": 1}, [], [[]], [[], []], [None], ["nope"], [True], [0], [-1], [math.nan],
    ["1e-3"], [LONG], [1, 1], [[1, 1], [1, 1]], [[1, 2, 3]], [[1]], [[LONG, LONG]], [10**9, 2], "x" * 10_000, [0.5] * 1000,
]  # fmt: skip


def holds(rule: Constraint, value: Any) -> bool:
    """Whether ``value`` is what the declaration allows, written down a second time."""
    if isinstance(value, tuple):
        return (bool(value) or rule.empty) and all(holds(rule, item) for item in value)
    if value is None:
        return True
    if rule.among is not None:
        return value in rule.among
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return True
    return (
        -math.inf < value < math.inf
        and (rule.least is None or value >= rule.least)
        and (rule.most is None or value <= rule.most)
        and (rule.above is None or value > rule.above)
        and (rule.below is None or value < rule.below)
    )


@pytest.mark.parametrize(("slug", "name"), EVERY)
def test_a_mistake_is_one_line_or_a_value_that_is_allowed(slug: str, name: str) -> None:
    profiles = profiles_of(slug)
    rule, default = next(
        (rule, value) for other, rule, value in declared(profiles["default"]) if other == name
    )
    twice = [list(default) * 2] if isinstance(default, tuple) and default else []
    for mistake in [*MISTAKES, *twice]:
        try:
            found = values_of(resolve(profiles, "default", {name: mistake}))[name]
        except ParameterError as error:
            said = str(error)
            assert said.startswith("overrides: ")
            assert "\n" not in said
            assert len(said) < 1000
            continue
        assert holds(rule, found), (mistake, found)
        if default is not None and not isinstance(default, tuple):
            assert type(found) is type(default), (mistake, found)
        if rule.distinct and mistake in twice:
            pytest.fail(f"{name} takes an item twice: {found}")


@pytest.mark.parametrize("slug", slugs())
@pytest.mark.parametrize("profile", ["smoke", "default", "gpu", "paper"])
def test_every_profile_can_be_written_down_and_read_back(slug: str, profile: str) -> None:
    """A record's settings are overrides that give the run again."""
    settings = profiles_of(slug)[profile]
    assert resolve(profiles_of(slug), profile, values_of(settings)) == settings


@pytest.mark.parametrize("slug", slugs())
def test_every_count_has_a_bound(slug: str) -> None:
    """A whole number without a smallest value, or a text without a choice, is a constraint that was forgotten."""
    free = [
        name
        for name, rule, value in declared(profiles_of(slug)["default"])
        if isinstance(first(value), (int, float))
        and not isinstance(first(value), bool)
        and rule.among is None
        and (rule.least, rule.above, rule.below) == (None, None, None)
    ]
    assert free == []


def first(value: Any) -> Any:
    while isinstance(value, tuple) and value:
        value = value[0]
    return value


@pytest.mark.parametrize(
    ("slug", "overrides", "words"),
    [
        ("adaptive_teachers", {"grid_ablation_mixings": [-0.5]}, "grid_ablation_mixings"),
        ("adaptive_teachers", {"diffusion_methods": ["TB", "TB", "PER", "Teacher"]}, "twice"),
        ("adaptive_teachers", {"diffusion_mixings": [0.5]}, "0.5 is run in any case"),
        ("adaptive_teachers", {"diffusion_other_sigmas": [1.5]}, "holds diffusion_sigma=1.5"),
        ("adaptive_teachers", {"grid_map_calls": 20}, "at least 8 times grid_batch=16"),
        ("adaptive_teachers", {"grid_map_side": 10**9}, "must be at most 4096"),
        ("adaptive_teachers", {"finding_sizes": [[10**9, 10**9]]}, "finding_sizes: a grid"),
        (
            "adaptive_teachers",
            {"sequence_methods": ["TB"], "sequence_other_rates": [1e-3]},
            "must hold 'PRT'",
        ),
        ("compositionality", {"couplings": [2, 3]}, "ascending from 1"),
        ("compositionality", {"couplings": [1]}, "two or more"),
        ("compositionality", {"widths": [96]}, "must hold another width than width=96"),
        ("compositionality", {"sample_sizes": [20_000]}, "must be at most 10000"),
        ("compositionality", {"questions": 14}, "must be at most 13"),
        ("compositionality", {"hub_precision": "int8"}, "is not one of bfloat16"),
        ("ddpp", {"image_methods": ["nope"]}, "'nope' is not one of is, lb"),
        ("ddpp", {"image_methods": ["rtb"]}, "must hold is, lb or kl"),
        ("ddpp", {"image_side": 10}, "is not one of 8, 14, 28"),
        ("ddpp", {"image_grey_levels": 1}, "0 (none) or from 2"),
        ("ddpp", {"image_network": "dit", "image_width": 40}, "must be a multiple of 16"),
        ("ddpp", {"text_heads": 3}, "text_width=128 must be a multiple of 6"),
        ("ddpp", {"gb1_symbols": "A"}, "two or more different letters"),
        ("ddpp", {"image_rtb_detached": 1.0}, "must be below 1"),
        ("ddpp", {"grid_control_methods": ["IS, on-policy"]}, "is not among grid_methods"),
        ("ddpp", {"hub_protein_model": "x", "hub_folding_model": ""}, "hub_folding_model is empty"),
    ],
)
def test_what_would_fail_later_is_refused(slug: str, overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        resolve(profiles_of(slug), "default", overrides)
    assert words in str(caught.value)
