"""Headless Chromium for the tests of the built book: how it is started, and which pages there are."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import BrowserContext, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Path of Chromium or Chrome: the variable CHROMIUM, else what is installed; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("CHROMIUM") or next((path for path in map(shutil.which, names) if path), None)
    mac = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    return found or (str(mac) if mac.is_file() else None)


def built_book() -> Path:
    """Folder of the built book: the variable BOOK_HTML, else ``_build/html``."""
    return Path(os.environ.get("BOOK_HTML", ROOT / "_build" / "html")).resolve()


def pages(book: Path) -> list[Path]:
    """All pages of the book, without the search page's and the index's redirects."""
    return sorted(path for path in book.rglob("*.html") if "_static" not in path.relative_to(book).parts)


@contextmanager
def open_browser(executable: str, width: int = 1280, height: int = 800) -> Iterator[BrowserContext]:
    """A browser context with a fresh profile and no way to the network."""
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=executable,
            headless=True,
            args=ARGUMENTS,
            viewport={"width": width, "height": height},
            offline=True,
        )
        try:
            yield context
        finally:
            context.close()
