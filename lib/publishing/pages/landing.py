"""The landing page: a card for each paper, and what the verdicts mean."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from PIL import Image

from lib.claims import VERDICTS, Verdict
from lib.publishing.pages.places import chapter_document, from_the_book, has_notebook
from lib.publishing.rendering import PageError, raw_html, render
from lib.publishing.scorecard import ROOT, PaperScore, total_counts

CARD_TAG = "card"
CARD_SIZE = (440, 300)
MEANINGS: dict[Verdict, str] = {
    "reproduced": "numbers agree, at the paper's own setting",
    "same direction": "the effect holds, at a smaller or substitute setting",
    "inconclusive": "the interval does not decide",
    "contradicted": "the measurement speaks against the claim",
    "not run": "nothing was measured",
}
_IMAGE = re.compile(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]+)"')


@dataclass(frozen=True)
class CardPicture:
    """A PNG data URI no larger than :data:`CARD_SIZE` pixels, and its alternative text."""

    source: str
    alt: str


def card_picture(notebook: Path) -> CardPicture:
    """The picture that stands for a chapter: the first figure of its cell tagged ``card``.

    Raises:
        PageError: if the notebook has no such cell, or the cell shows no figure.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if CARD_TAG in cell.metadata.get("tags", [])]
    for cell in tagged:
        for output in cell.get("outputs", []):
            match = _IMAGE.search("".join(output.get("data", {}).get("text/html", "")))
            if match:
                return CardPicture(_thumbnail(base64.b64decode(match[2])), html.unescape(match[1]))
    what = "its cell tagged 'card' shows no figure" if tagged else "no cell is tagged 'card'"
    raise PageError(f"notebooks/{notebook.name}: {what}, so the landing page has no picture for it")


def _thumbnail(png: bytes) -> str:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail(CARD_SIZE, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.quantize(96).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def card(score: PaperScore, root: Path = ROOT) -> str:
    """One paper on the landing page."""
    slug = score.ledger.slug
    return render(
        "card.html",
        target=from_the_book(chapter_document(slug, root) + ".html"),
        picture=card_picture(root / "notebooks" / f"{slug}.ipynb") if has_notebook(slug, root) else None,
        ledger=score.ledger,
        counts=score.counts(),
    )


def landing_cards(scores: list[PaperScore], root: Path = ROOT) -> str:
    """All papers as cards."""
    return raw_html(render("cards.html", cards=[card(score, root) for score in scores]))


def legend(scores: list[PaperScore]) -> str:
    """The five verdicts, what each means, and the number of claims that have it."""
    meanings = {verdict: MEANINGS[verdict] for verdict in VERDICTS}
    return raw_html(render("legend.html", meanings=meanings, counts=total_counts(scores)))
