"""Parameter validation: every wrong value is one line that names what is allowed."""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.profiles import (
    ParameterError,
    check_seed,
    choose,
    fields_of,
    put_together,
    resolve,
    setting,
    settings_class,
    shown,
    values_of,
)


@settings_class
class Settings:
    steps: int = setting(10, "steps", "optimiser steps", paper=1000)
    rate: float = setting(1e-3, "1", "learning rate")
    depths: tuple[int, ...] = setting((1, 2), "layers", "depths")
    name: str | None = setting(None, "-", "an optional name")
    flag: bool = setting(False, "-", "a switch")
    checkpoint_every: int | None = setting(None, "steps", "steps between checkpoints", least=1)

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ParameterError("steps must not be negative")


PROFILES = {name: Settings() for name in ("smoke", "default", "gpu", "paper")}


def test_unknown_profile_names_all_four_in_one_line() -> None:
    with pytest.raises(ParameterError) as caught:
        resolve(PROFILES, "tiny")
    message = str(caught.value)
    assert "profile='tiny'" in message
    assert "smoke, default, gpu, paper" in message
    assert "\n" not in message


@pytest.mark.parametrize(("typo", "meant"), [("smok", "smoke"), ("defualt", "default"), ("papr", "paper")])
def test_typo_names_the_nearest_profile(typo: str, meant: str) -> None:
    with pytest.raises(ParameterError, match=f"did you mean '{meant}'"):
        resolve(PROFILES, typo)


def test_overrides_apply_and_convert() -> None:
    found = resolve(PROFILES, "default", {"steps": 3, "rate": 1, "depths": [4, 5], "name": "x"})
    assert found == Settings(steps=3, rate=1.0, depths=(4, 5), name="x")
    assert isinstance(found.rate, float)
    assert resolve(PROFILES, "default", '{"steps": 7}').steps == 7


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"step": 3}, "did you mean 'steps'"),
        ({"zzz": 3}, "allowed: checkpoint_every, depths"),
        ({"steps": "3"}, "is not of type int"),
        ({"steps": True}, "is not of type int"),
        ({"steps": 2.5}, "is not of type int"),
        ({"flag": 1}, "is not of type bool"),
        ({"depths": [1, "two"]}, "'two'"),
        ({"name": 3}, "overrides: name=3 is not of type str"),
        ("{steps: 3}", "not valid JSON"),
        ('{"steps": 3', "not valid JSON"),
        ('{"steps": 3, "steps": 4}', "the name 'steps' occurs twice"),
        ('{"rate": NaN}', "NaN is not a finite number"),
        ("[" * 100_000, "nested deeper than 100 levels"),
        ('{"steps": ' + "9" * 5000 + "}", "not valid JSON"),
        ({"steps": 1 << 20_000}, "more digits than a size can have"),
        ({1 << 20_000: 3}, "unknown setting"),
        ("[1]", "is not a mapping"),
        ({"steps": -1}, "must not be negative"),
        ({"checkpoint_every": 0}, "checkpoint_every=0 must be at least 1"),
        ({"checkpoint_every": -5}, "checkpoint_every=-5 must be at least 1"),
    ],
)
def test_bad_overrides_are_one_line(overrides: object, words: str) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        resolve(PROFILES, "default", overrides)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_every_valid_seed_passes(seed: int) -> None:
    assert check_seed(seed) == seed


@given(
    st.one_of(
        st.text(),
        st.floats(),
        st.booleans(),
        st.none(),
        st.integers(max_value=-1),
        st.integers(min_value=2**32),
    )
)
def test_every_other_seed_fails(seed: object) -> None:
    with pytest.raises(ParameterError, match="seed="):
        check_seed(seed)


@given(st.text(max_size=12))
def test_choose_accepts_exactly_the_allowed(value: str) -> None:
    if value in ("auto", "real"):
        assert choose("data", value, ("auto", "real")) == value
    else:
        with pytest.raises(ParameterError):
            choose("data", value, ("auto", "real"))


@given(st.integers(-(10**6), 10**6).filter(lambda value: value > 0))
def test_whole_numbers_are_taken_for_fractions_without_loss(value: int) -> None:
    assert resolve(PROFILES, "default", {"rate": value}).rate == value


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001"])
def test_numbers_that_yaml_takes_for_text_are_numbers(text: str) -> None:
    assert resolve(PROFILES, "default", {"rate": text}).rate == 1e-3


@settings_class
class Constrained:
    depths: tuple[int, ...] = setting((1, 2), "layers", "depths", least=1, most=9, distinct=True)
    rates: tuple[tuple[float, ...], ...] = setting(((1e-3,),), "1", "rates", above=0, below=1)
    names: tuple[str, ...] = setting((), "names", "models", among=("gru", "lstm"), empty=True)
    pair: tuple[int, float] = setting((1, 0.5), "1", "a whole number and a fraction", least=0)
    size: int | None = setting(None, "1", "a size, or None", least=2)


CONSTRAINED = {name: Constrained() for name in ("smoke", "default", "gpu", "paper")}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"depths": []}, "depths=[] must not be empty"),
        ({"depths": [0]}, "depths=[0] must be at least 1"),
        ({"depths": [1, 10]}, "depths=[1, 10] must be at most 9"),
        ({"depths": [2, 2]}, "depths=[2, 2] names one of them twice"),
        ({"depths": 3}, "depths=3 is not of type tuple"),
        ({"rates": [[]]}, "rates=[[]] must not be empty"),
        ({"rates": [[0]]}, "rates=[[0]] must be above 0"),
        ({"rates": [["1"]]}, "rates=[['1']] must be below 1"),
        ({"rates": [[float("nan")]]}, "rates=[[nan]] must be finite"),
        ({"names": ["grU"]}, "names=['grU'] 'grU' is not one of gru, lstm; did you mean 'gru'?"),
        ({"pair": [1]}, "pair"),
        ({"pair": [1, 0.5, 2]}, "pair"),
        ({"pair": [0.5, 1]}, "pair[0]=0.5 is not of type int"),
        ({"size": 1}, "size=1 must be at least 2"),
        ({"size": "two"}, "size='two' is not of type int"),
    ],
)
def test_constraints_stand_in_the_field(overrides: object, message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        resolve(CONSTRAINED, "default", overrides)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"overrides: {message}")
    assert "\n" not in str(caught.value)


@settings_class
class Pairs:
    sizes: tuple[tuple[int, int], ...] = setting(((4, 8),), "(d, H)", "grids", least=1, distinct=True)


def test_pairs_differ_from_one_another_and_may_hold_a_number_twice() -> None:
    assert Pairs(sizes=((4, 4), (8, 8))).sizes == ((4, 4), (8, 8))
    for wrong, words in (
        (((4, 4), (4, 4)), "twice"),
        (((4, 0),), "at least 1"),
        (((),), "field required"),
        (((4,),), "not allowed"),
    ):
        with pytest.raises(ParameterError, match=words):
            Pairs(sizes=wrong)


def test_a_value_is_shown_in_one_short_line() -> None:
    for value in (np.eye(3), [["a\nb"] * 50], 1 << 20_000, [1 << 20_000], "x" * 1000):
        text = shown(value)
        assert "\n" not in text
        assert len(text) <= 80


def test_a_profile_itself_is_checked() -> None:
    with pytest.raises(ParameterError, match="must be at least 1"):
        Constrained(depths=(0,))


@settings_class
class Shared:
    workers: int = setting(0, "processes", "side by side", least=0)


class Copying:
    PROFILES: ClassVar = PROFILES


class Text:
    PROFILES: ClassVar = CONSTRAINED


def test_settings_of_experiments_are_put_together_under_their_prefixes() -> None:
    shared = {name: Shared() for name in PROFILES}
    chapter = put_together({"copying": Copying, "text": Text}, shared)
    names = [item.name for item in fields_of(chapter["default"])]
    assert names[:3] == ["workers", "copying_steps", "copying_rate"]
    found = resolve(chapter, "default", {"copying_steps": 3, "workers": 2})
    assert found.of(Settings) == Settings(steps=3)
    assert found.of(Shared).workers == 2
    assert values_of(found)["text_depths"] == (1, 2)
    assert chapter["default"].of(Settings) == Settings()
    for overrides, message in (
        ({"steps": 3}, "did you mean 'copying_steps'"),
        ({"copying_steps": 2.5}, "overrides: copying_steps=2.5 is not of type int"),
        ({"text_size": 0}, "overrides: text_size=0 must be at least 2"),
    ):
        with pytest.raises(ParameterError, match=re.escape(message)):
            resolve(chapter, "default", overrides)
    with pytest.raises(LookupError, match="Constrained"):
        put_together({"copying": Copying})["smoke"].of(Constrained)
    with pytest.raises(ValueError, match="'copying_steps'"):
        put_together({"copying": Copying, "": type("Two", (), {"PROFILES": {n: _Two() for n in PROFILES}})})


@settings_class
class _Two:
    copying_steps: int = setting(1, "steps", "a name that another experiment has")


def test_error_renders_as_one_line_in_a_notebook() -> None:
    assert ParameterError("seed='abc'")._render_traceback_() == ["ParameterError: seed='abc'"]
