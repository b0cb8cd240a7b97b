"""The one HTML table of pages and notebooks. Every value is escaped, unless it is :class:`~markupsafe.Markup`, HTML already."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from lib.claims import VERDICTS

_TABLE = """\
<div class="run-table{{ ' ' + css if css else '' }}"><table><caption>{{ caption }}</caption><thead><tr>
{%- for title in head %}<th{% if narrow %} scope="col"{% endif %}>{{ title }}</th>{% endfor -%}
</tr></thead><tbody>
{%- for row in rows %}<tr>
{%- for title, cell in row %}<td{% if narrow %} data-label="{{ title }}"{% endif -%}
{% if cell | string in verdicts %} class="{{ verdict_class(cell) }}"{% endif %}>{{ cell }}</td>{% endfor -%}
</tr>{% endfor -%}
</tbody></table></div>"""


def escaped(value: Any) -> Markup:
    """``value`` as HTML text, quotes included; :class:`~markupsafe.Markup` stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))  # noqa: S704


def verdict_class(verdict: str) -> str:
    """The class that the style sheet gives a verdict."""
    return f"verdict-{verdict.replace(' ', '-')}"


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, finalize=escaped, undefined=StrictUndefined)
    environment.globals.update(verdicts=VERDICTS, verdict_class=verdict_class)
    return environment.from_string(_TABLE)


def html_table(
    head: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str, css: str = "", narrow: bool = False
) -> Markup:
    """Make a table; a cell that holds a verdict and nothing else gets the verdict's class.

    Args:
        head: the columns' titles.
        rows: one value for each column.
        css: a class of the table, beside ``run-table``.
        narrow: whether each cell carries its column's title, which the style sheet shows on narrow screens.

    Raises:
        ValueError: for a row that has not one value for each column.
    """
    named = [list(zip(head, row, strict=True)) for row in rows]
    return Markup(_template().render(head=head, rows=named, caption=caption, css=css, narrow=narrow))  # noqa: S704
