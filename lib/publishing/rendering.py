"""Pages as Jinja2 templates (``lib/publishing/templates``), in which every value is escaped.

A template ``*.html`` makes HTML and a template ``*.md`` Markdown, and each value that it shows is escaped for that. What is
:class:`~markupsafe.Markup` is escaped already and stays. Where nothing can be escaped (a label, an address, a role, a directive), a
Markdown template asks for the filter ``plain``, which refuses whatever is more than a name; ``html`` is for a value inside a tag.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lib.claims import Verdict
from lib.profiles import OneLineError
from lib.tables import escaped, verdict_class

_NAME = re.compile(r"[\w./:-]+", re.ASCII)


class PageError(OneLineError, RuntimeError):
    """A page that cannot be written, or a committed one that no longer follows from the ledgers."""


def escape_markdown(text: Any) -> Markup:
    """``text`` as Markdown without any markup: what has a meaning in MyST is escaped, lines are joined.

    Some marks mean something anywhere, others (list bullets, ``(target)=``, comments, fences) only where a line begins.
    """
    if isinstance(text, Markup):
        return text
    text = re.sub(r"([\\`*_{}\[\]<>|$~&#^])", r"\\\1", " ".join(str(text).split()))
    return Markup(re.sub(r"^(\d*)([!-/:-@])", r"\1\\\2", text))  # noqa: S704


def plain(text: str) -> Markup:
    """``text`` where it is a name or a path: letters, digits and ``_ . / : -``.

    Raises:
        PageError: for anything else.
    """
    if not _NAME.fullmatch(text):
        raise PageError(f"{text!r} cannot stand in a page as a label or an address")
    return Markup(text)  # noqa: S704


def raw_html(markup: Markup) -> Markup:
    """A MyST block of raw HTML. The markup is put on one line, so that nothing in it can end the block."""
    return Markup("```{{raw}} html\n{}\n```").format(Markup(" ").join(escaped(markup).splitlines()))


def badge(verdict: Verdict) -> Markup:
    """A verdict as an HTML badge; its sign comes from the style sheet, so that it is never told by colour alone."""
    return render("badge.html", verdict=verdict)


@cache
def _environment(kind: str) -> Environment:
    escape: Callable[[Any], Markup] = {"html": escaped, "md": escape_markdown}[kind]
    environment = Environment(
        loader=PackageLoader("lib.publishing"),
        autoescape=True,
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(html=escaped, plain=plain, raw_html=raw_html)
    environment.globals.update(badge=badge, verdict_class=verdict_class)
    return environment


def render(template: str, **values: Any) -> Markup:
    """The template of this name, filled in, without a line break at its end.

    Raises:
        PageError: for a value that the filter ``plain`` refuses.
    """
    filled = _environment(template.rpartition(".")[2]).get_template(template).render(values)
    return Markup(filled.rstrip("\n"))  # noqa: S704
