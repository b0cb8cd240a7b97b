"""Names, colours and markers of the chapter's models."""

from __future__ import annotations

import pytest

from lib.minrnn.efficiency import MODELS
from lib.minrnn.mixers import MIXERS
from lib.minrnn.model_styles import LABELS, colours, labels, markers, style_of


def test_no_two_models_look_alike() -> None:
    styles = [style_of(model) for model in [*LABELS, "Transformer + conv"]]
    for look in ("label", "colour", "marker"):
        assert len({getattr(style, look) for style in styles}) == len(styles)
    assert set(LABELS) <= {*MIXERS, "memoryless"}


def test_a_model_looks_the_same_by_each_of_its_names_and_implementations() -> None:
    assert style_of("min_gru") == style_of("minGRU")
    assert style_of("s6") == style_of("S6") == style_of("S6 (Mamba)")
    looks = {model: style_of(model) for model in MODELS}
    assert len({style.label for style in looks.values()}) == len(MODELS)
    loop, fused = looks["GRU, step loop"], looks["GRU, fused"]
    assert (
        (loop.colour, loop.marker)
        == (fused.colour, fused.marker)
        == (style_of("gru").colour, style_of("gru").marker)
    )
    assert loop.line != fused.line


def test_what_seaborn_takes_is_by_the_name_that_readers_see() -> None:
    models = ["min_gru", "memoryless"]
    assert list(colours(models)) == list(markers(models)) == labels(models) == ["minGRU", "memoryless MLP"]


@pytest.mark.parametrize(
    ("model", "message"), [("min_gruu", "did you mean 'min_gru'"), ("GRU, fuse", "did you mean 'fused'")]
)
def test_an_unknown_model_is_one_line(model: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        style_of(model)
