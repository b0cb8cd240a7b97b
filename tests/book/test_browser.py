"""The built book in a real browser, opened from the file system with no network."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.book.browser import ROOT, Facts, built_book, chromium, inspect, open_browser, pages

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def executable() -> str:
    found = chromium()
    if found is None:
        pytest.skip("no Chromium or Chrome on this machine (install it, or set CHROMIUM)")
    return found


@pytest.fixture(scope="module")
def book() -> Path:
    folder = built_book()
    if not (folder / "index.html").is_file():
        pytest.skip(f"no built book in {folder.name}/ (run 'make book', or set BOOK_HTML)")
    return folder


@pytest.fixture(scope="module")
def desktop(executable: str, book: Path) -> dict[str, Facts]:
    with open_browser(executable, 1280, 800, "light") as context:
        return {path.relative_to(book).as_posix(): inspect(context, path) for path in pages(book)}


@pytest.fixture(scope="module")
def phone(executable: str, book: Path) -> dict[str, Facts]:
    with open_browser(executable, 375, 740, "dark") as context:
        return {path.relative_to(book).as_posix(): inspect(context, path) for path in pages(book)}


def collect(facts: dict[str, Facts], field: str) -> list[str]:
    return [f"{page}: {fault}" for page, found in facts.items() for fault in getattr(found, field)]


def test_there_are_pages_for_all_papers(desktop: dict[str, Facts]) -> None:
    from lib.publishing.scorecard import CHAPTERS

    for slug in CHAPTERS:
        assert any(page.endswith(f"/{slug}.html") for page in desktop), slug


def test_the_index_leads_to_the_landing_page(executable: str, book: Path) -> None:
    with open_browser(executable) as context:
        page = context.new_page()
        page.goto((book / "index.html").as_uri())
        page.wait_for_url("**/book/intro.html")
        assert page.locator(".paper-card").count() == 10


def test_no_console_error(desktop: dict[str, Facts], phone: dict[str, Facts]) -> None:
    assert collect(desktop, "errors") + collect(phone, "errors") == []


def test_no_request_leaves_the_book(desktop: dict[str, Facts], phone: dict[str, Facts]) -> None:
    assert collect(desktop, "outside_requests") + collect(phone, "outside_requests") == []


def test_mathematics_is_rendered(desktop: dict[str, Facts]) -> None:
    assert sum(found.formulas for found in desktop.values()) > 0
    assert collect(desktop, "mathematics_faults") == []


def test_images_have_alternative_text_and_load(desktop: dict[str, Facts]) -> None:
    assert collect(desktop, "image_faults") == []


def test_internal_links_and_anchors_resolve(desktop: dict[str, Facts], book: Path) -> None:
    assert broken_links(desktop, book) == []


def test_edit_buttons_open_files_of_the_repository(desktop: dict[str, Facts]) -> None:
    """A chapter's opens its source, not the executed notebook, which a sync would have to take back."""
    links = {page: [link for link in found.links if "/edit/main/" in link] for page, found in desktop.items()}
    opened = [link.split("/edit/main/")[1] for found in links.values() for link in found]
    assert opened
    assert [path for path in opened if not (ROOT / path).is_file() or path.endswith(".ipynb")] == []


def test_a_phone_never_scrolls_sideways(phone: dict[str, Facts]) -> None:
    assert collect(phone, "too_wide") == []


def test_text_is_readable_in_light_and_dark(desktop: dict[str, Facts], phone: dict[str, Facts]) -> None:
    assert {found.theme for found in desktop.values() if found.theme} == {"light"}
    assert {found.theme for found in phone.values() if found.theme} == {"dark"}
    assert collect(desktop, "low_contrast") + collect(phone, "low_contrast") == []


def broken_links(facts: dict[str, Facts], book: Path) -> list[str]:
    """Links to files that are not in the book, and fragments that no element of their page has."""
    broken = []
    for page, found in facts.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme != "file":
                continue
            path = Path(unquote(parts.path))
            if not path.is_file():
                broken.append(f"{page}: {link} is no file")
                continue
            target = facts.get(path.relative_to(book).as_posix()) if path.is_relative_to(book) else None
            if path.suffix == ".html" and target is None:
                broken.append(f"{page}: {link} leaves the book")
            elif parts.fragment and target and unquote(parts.fragment) not in target.ids:
                broken.append(f"{page}: {link} has no such anchor")
    return broken


def test_the_inspection_notices_what_is_wrong(executable: str, tmp_path: Path) -> None:
    faulty = tmp_path / "faulty.html"
    faulty.write_text(
        """<!doctype html><html><head><meta charset="utf-8"><script src="https://example.org/x.js"></script></head>
        <body style="background:#fff"><div class="bd-article">
        <p style="color:#ccc">pale text</p><p><img src="missing.png"></p>
        <span class="math">\\(x\\)</span><div style="width:900px">wide</div>
        <a href="nowhere.html">a</a><a href="#nothing">b</a>
        <script>console.error("broken"); undefinedFunction();</script></div></body></html>""",
        encoding="utf-8",
    )
    with open_browser(executable, 375, 740, "light") as context:
        found = inspect(context, faulty)
    assert any("broken" in error for error in found.errors)
    assert any("undefinedFunction" in error for error in found.errors)
    assert any("example.org" in request for request in found.outside_requests)
    assert any("pale text" in text for text in found.low_contrast)
    assert any("no alternative text" in image for image in found.image_faults)
    assert any("does not load" in image for image in found.image_faults)
    assert len(found.mathematics_faults) == 2
    assert found.too_wide
    assert len(broken_links({"faulty.html": found}, tmp_path)) == 2
