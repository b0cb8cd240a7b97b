"""The list of data files."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from lib.datasets import DataFile, chapter_files
from lib.publishing.pages.places import chapter_document, from_the_book
from lib.publishing.rendering import raw_html, render
from lib.publishing.scorecard import CHAPTERS, ROOT
from lib.tables import html_table

HEAD = ("data set", "chapter", "files, and how to get them", "licence", "published as")


def data_page(root: Path = ROOT) -> str:
    """One table of all registered data files, by data set: how to get them, licence, citation, where they were published."""
    rows = []
    for slug in CHAPTERS:
        sets: dict[str, list[DataFile]] = {}
        for name, item in chapter_files(slug).items():
            sets.setdefault(name.split("/")[0], []).append(item)
        rows += [_row(slug, name, items, root) for name, items in sets.items()]
    return raw_html(html_table(HEAD, rows, "Data files by data set.", "run-data", narrow=True))


def _row(slug: str, data_set: str, items: list[DataFile], root: Path) -> list[Markup]:
    """The cells of one data set."""
    ways = ["make data" if item.addresses else "mirror only" for item in items]
    return [
        render("code.html", text=f"{data_set}/"),
        render("link.html", text=slug, target=from_the_book(chapter_document(slug, root) + ".html")),
        render("lines.html", lines=[f"{ways.count(way)}: {way}" for way in dict.fromkeys(ways)]),
        render("lines.html", lines=list(dict.fromkeys(item.licence for item in items))),
        render("sources.html", sources=list(dict.fromkeys(item.origin for item in items))),
    ]
