"""Take a picture of every page at desktop and phone width: ``python -m tests.book.screenshots OUT [page …]``.

Pages longer than ``TALLEST`` pixels are cut there: Chromium cannot draw pictures of any height.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.book.browser import built_book, chromium, open_browser, pages

SIZES = {1280: 800, 375: 740}
TALLEST = 8000


def take(out: Path, only: list[str], theme: str = "light") -> list[Path]:
    """Write ``<page>-<width>-<theme>.png`` for every page whose path contains one of ``only`` (all pages if empty).

    Raises:
        RuntimeError: if there is no Chromium.
    """
    executable, book = chromium(), built_book()
    if executable is None:
        raise RuntimeError("no Chromium found; install it or set CHROMIUM")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for width, height in SIZES.items():
        with open_browser(executable, width, height, theme) as context:
            page = context.new_page()
            for path in pages(book):
                name = path.relative_to(book).with_suffix("").as_posix()
                if only and not any(part in name for part in only):
                    continue
                page.goto(path.as_uri())
                page.wait_for_timeout(800)
                target = out / f"{name.replace('/', '-')}-{width}-{theme}.png"
                tall = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
                page.screenshot(
                    path=target, full_page=True, clip={"x": 0, "y": 0, "width": width, "height": tall}
                )
                written.append(target)
    return written


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    for theme in ("light", "dark"):
        for picture in take(Path(sys.argv[1]), sys.argv[2:], theme):
            print(picture)
