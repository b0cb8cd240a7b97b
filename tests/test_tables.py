"""The one HTML table."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from lib.tables import html_table

TEXTS = st.text(alphabet="<>&\"'|`/= \n\rab", max_size=12)


@given(TEXTS, TEXTS, TEXTS, st.booleans())
def test_every_text_comes_back_as_it_was(title: str, cell: str, caption: str, narrow: bool) -> None:
    markup = html_table([title], [[cell]], caption, "x", narrow)
    assert [
        tag for tag in re.findall(r"<(/?\w+)", markup) if tag not in ("thead", "/thead", "tbody", "/tbody")
    ] == [
        *(
            "div",
            "table",
            "caption",
            "/caption",
            "tr",
            "th",
            "/th",
            "/tr",
            "tr",
            "td",
            "/td",
            "/tr",
            "/table",
            "/div",
        )
    ]
    for tag, text in (("caption", caption), ("th", title), ("td", cell)):
        found = re.search(rf"<{tag}[^>]*>([^<]*)</{tag}>", markup)
        assert found is not None
        assert html.unescape(found[1]) == text
    if narrow:
        assert f'data-label="{html.escape(title)}"' in markup


def test_markup_stays_and_a_verdict_gets_its_class() -> None:
    markup = html_table(["a", "b"], [[Markup("<b>x</b>"), "not run"]], "c")
    assert '<td><b>x</b></td><td class="verdict-not-run">not run</td>' in markup
    assert markup.startswith('<div class="run-table"><table>')


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        html_table(["a", "b"], [["x"]], "c")
