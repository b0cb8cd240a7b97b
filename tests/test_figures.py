"""Figures carry alternative text and a caption; tables escape what they show."""

from __future__ import annotations

import base64
import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.figures import picture, set_theme, table


def test_picture_holds_a_png_with_escaped_texts() -> None:
    set_theme()
    fig, ax = plt.subplots()
    ax.plot([0, 1])
    markup = picture(fig, caption="a < b", alt='rises "steadily" & fast')._repr_html_()
    plt.close(fig)
    assert 'alt="rises &quot;steadily&quot; &amp; fast"' in markup
    assert "<figcaption>a &lt; b</figcaption>" in markup
    found = re.search(r"base64,([^\"]+)", markup)
    assert found is not None
    assert base64.b64decode(found[1]).startswith(b"\x89PNG")


@pytest.mark.parametrize(("caption", "alt"), [("", "x"), ("x", "  ")])
def test_a_figure_without_words_is_refused(caption: str, alt: str) -> None:
    fig = plt.figure()
    with pytest.raises(ValueError, match="needs a caption"):
        picture(fig, caption, alt)
    plt.close(fig)


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"]), max_size=20))
def test_table_never_lets_markup_through(text: str) -> None:
    markup = table([{"<b>": f"<script>{text}</script>"}], caption=f"<i>{text}")._repr_html_()
    assert "<script>" not in markup
    assert "<b>" not in markup
    assert "<i>" not in markup


def test_numbers_get_significant_digits_and_missing_values_a_dash() -> None:
    frame = pd.DataFrame({"x": [0.123456, float("nan")], "n": [7, 8]})
    markup = table(frame, caption="numbers", digits=2)._repr_html_()
    assert "<td>0.12</td><td>7</td>" in markup
    assert "<td>–</td><td>8</td>" in markup


def test_verdicts_get_a_class() -> None:
    assert 'class="verdict-same-direction"' in table([{"v": "same direction"}], "c").html
    assert "class=" not in table([{"v": "another word"}], "c").html.replace('class="run-table"', "")
