"""Parameter validation: every wrong value is one line that names what is allowed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.profiles import ParameterError, check_seed, choose, convert, resolve, setting


@dataclass(frozen=True)
class Settings:
    steps: int = setting(10, "steps", "optimiser steps", paper=1000)
    rate: float = setting(1e-3, "1", "learning rate")
    depths: tuple[int, ...] = setting((1, 2), "layers", "depths")
    name: str | None = setting(None, "-", "an optional name")
    flag: bool = setting(False, "-", "a switch")
    checkpoint_every: int | None = setting(None, "steps", "steps between checkpoints")

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError("steps must not be negative")


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
        ({"name": 3}, "overrides\\['name'\\]=3"),
        ("{steps: 3}", "is not a JSON object"),
        ("[1]", "is not a mapping"),
        ({"steps": -1}, "must not be negative"),
        ({"checkpoint_every": 0}, "checkpoint_every=0 must be at least 1, or None"),
        ({"checkpoint_every": -5}, "checkpoint_every=-5 must be at least 1, or None"),
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


@given(st.integers(-(10**6), 10**6))
def test_int_converts_to_float_without_loss(value: int) -> None:
    assert convert("x", value, float) == value
    assert convert("x", [value], tuple[int, ...]) == (value,)


def test_error_renders_as_one_line_in_a_notebook() -> None:
    assert ParameterError("seed='abc'")._render_traceback_() == ["ParameterError: seed='abc'"]
