"""Headless Chromium for the tests of the built book: how it is started, and which pages there are."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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

SETTLE_MS = 200
"""Time for scripts that start once a page has loaded."""

PATIENCE_MS = 1_800_000
"""A busy machine may need long for the longest pages; no test measures time."""


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
    """All pages of the book, without the redirect that ``index.html`` is."""
    found = (path for path in book.rglob("*.html") if "_static" not in path.relative_to(book).parts)
    return sorted(path for path in found if path != book / "index.html")


@contextmanager
def open_browser(
    executable: str, width: int = 1280, height: int = 800, theme: str = "light"
) -> Iterator[BrowserContext]:
    """A browser context with a fresh profile, the book's light or dark theme, and no way to the network."""
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=executable,
            headless=True,
            args=ARGUMENTS,
            viewport={"width": width, "height": height},
            offline=True,
        )
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(
            f"try {{ localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}') }} catch {{}}"
        )
        try:
            yield context
        finally:
            context.close()


@dataclass(frozen=True)
class Facts:
    """What a page did in the browser. Lists of faults are empty for a good page."""

    theme: str
    errors: list[str]
    outside_requests: list[str]
    formulas: int
    mathematics_faults: list[str]
    image_faults: list[str]
    links: list[str]
    ids: frozenset[str]
    too_wide: list[str]
    low_contrast: list[str]


# Runs in the page. Contrast is WCAG's ratio of relative luminances; 4.5 is its bar for body text.
INSPECTION = r"""
async () => {
  const article = document.querySelector('.bd-article') || document.body;
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  const mathematics = [...document.querySelectorAll('.math')];
  const mathematicsFaults = mathematics
    .filter(node => !node.querySelector('mjx-container')).map(node => 'not rendered: ' + node.textContent.slice(0, 80));
  document.querySelectorAll('mjx-merror, [data-mjx-error]').forEach(
    node => mathematicsFaults.push('error in a formula: ' + node.textContent.slice(0, 80)));
  const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, parent = text.parentElement;
    if (/\\[(\[]|\$[^\s$][^$]*\$/.test(text.data) && !parent.closest('code, pre, script, style, mjx-container'))
      mathematicsFaults.push('raw TeX: ' + text.data.slice(0, 80));
  }
  const images = [...document.images];
  await Promise.all(images.map(image => image.decode().catch(() => null)));
  const imageFaults = [];
  for (const image of images) {
    const name = image.getAttribute('src').slice(0, 60);
    if (!(image.getAttribute('alt') || '').trim()) imageFaults.push(name + ' has no alternative text');
    if (!image.naturalWidth) imageFaults.push(name + ' does not load');
  }
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = css => {
    const n = css.match(/[\d.]+/g).map(Number);
    return css.startsWith('color(') ? [n[0] * 255, n[1] * 255, n[2] * 255, n[3] ?? 1] : [n[0], n[1], n[2], n[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const background = node => {
    const layers = [];
    for (; node; node = node.parentElement) layers.push(parse(getComputedStyle(node).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const lowContrast = new Map();
  for (const node of article.querySelectorAll('h1, h2, h3, p, li, td, th, dt, dd, a, summary, figcaption, caption, small, .verdict, span')) {
    const own = [...node.childNodes].filter(c => c.nodeType === 3 && c.data.trim());
    if (!own.length || !node.checkVisibility() || node.closest('pre, mjx-container, .headerlink, button')) continue;
    if (node.matches('.headerlink')) continue;
    const below = background(node), ink = over(parse(getComputedStyle(node).color), below);
    const [dark, light] = [luminance(below), luminance(ink)].sort((x, y) => x - y);
    const ratio = (light + 0.05) / (dark + 0.05);
    const key = ink.map(Math.round) + ' on ' + below.map(Math.round);
    if (ratio < 4.5 && !lowContrast.has(key))
      lowContrast.set(key, `${ratio.toFixed(2)}: ${key} (${node.tagName}.${node.className}) ${own[0].data.trim().slice(0, 40)}`);
  }
  const root = document.scrollingElement, tooWide = [];
  if (root.scrollWidth > innerWidth) {
    const wide = [...article.querySelectorAll('*')].filter(node => node.getBoundingClientRect().right > innerWidth + 1)
      .slice(0, 3).map(node => node.tagName + '.' + node.className);
    tooWide.push(`${root.scrollWidth} px on a screen of ${innerWidth}: ${wide}`);
  }
  return {
    theme: document.documentElement.dataset.theme || '',
    formulas: mathematics.length, mathematicsFaults, imageFaults, tooWide,
    links: [...new Set([...document.querySelectorAll('a[href]')].map(a => a.href))],
    ids: [...document.querySelectorAll('[id], a[name]')].map(node => node.id || node.name),
    lowContrast: [...lowContrast.values()],
  };
}
"""


def inspect(context: BrowserContext, path: Path) -> Facts:
    """Open a page, wait until it is still, and gather what the tests judge."""
    errors: list[str] = []
    outside: list[str] = []
    page = context.new_page()
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda r: outside.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None,
    )
    page.goto(path.as_uri(), wait_until="load")
    page.wait_for_timeout(SETTLE_MS)
    found = page.evaluate(INSPECTION)
    page.close()
    return Facts(
        theme=found["theme"],
        errors=errors,
        outside_requests=outside,
        formulas=found["formulas"],
        mathematics_faults=found["mathematicsFaults"],
        image_faults=found["imageFaults"],
        links=found["links"],
        ids=frozenset(found["ids"]),
        too_wide=found["tooWide"],
        low_contrast=found["lowContrast"],
    )
