"""The generated parts of ``README.md``: the table of chapters and the picture of the scorecard.

``python -m lib.publishing.readme`` writes them, ``--check`` says whether they still follow from ledgers and records.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from lib.atomic import replacing
from lib.claims import ledgers
from lib.figures import set_theme
from lib.profiles import OneLineError
from lib.publishing.command import or_one_line
from lib.publishing.pages.committed import write_if_changed
from lib.publishing.pages.papers import checked_arxiv
from lib.publishing.pages.places import chapter_source
from lib.publishing.rendering import render
from lib.publishing.scorecard import ROOT, PaperScore, alt_text, counts_text, figure, scorecard, total_counts

README = ROOT / "README.md"
PICTURE = ROOT / "book" / "_static" / "scorecard.png"
BEGIN, END = "<!-- {}: written by python -m lib.publishing.readme -->", "<!-- end of {} -->"


class ReadmeError(OneLineError, RuntimeError):
    """A README that lacks the markers of a generated part, or whose generated parts are stale."""


def chapters_table(scores: list[PaperScore], root: Path = ROOT) -> str:
    """One line for each paper: chapter, paper, what it is about, how many claims have which verdict."""
    papers = [
        {
            "ledger": score.ledger,
            "arxiv": checked_arxiv(score.ledger),
            "path": chapter_source(score.ledger.slug, root),
            "counts": counts_text(score.counts()),
        }
        for score in scores
    ]
    return render("readme_chapters.md", papers=papers)


def picture_lines(scores: list[PaperScore]) -> str:
    """The picture with its alternative text, and the totals."""
    return render("readme_scorecard.md", alt=alt_text(scores), counts=counts_text(total_counts(scores)))


def replace_part(text: str, name: str, content: str) -> str:
    """Replace what stands between the markers of the part ``name``.

    Raises:
        ReadmeError: unless each marker is there exactly once.
    """
    begin, end = BEGIN.format(name), END.format(name)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ReadmeError(f"README.md: the markers of the part {name!r} are missing or repeated")
    head, rest = text.split(begin)
    return f"{head}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def updated(text: str, scores: list[PaperScore], root: Path = ROOT) -> str:
    """``text`` of the README with its generated parts made anew."""
    text = replace_part(text, "scorecard", picture_lines(scores))
    return replace_part(text, "chapters", chapters_table(scores, root))


def digest(scores: list[PaperScore]) -> str:
    """A fingerprint of what the picture shows. Pixels differ between versions of fonts and libraries, this does not."""
    cells = [[s.ledger.slug, [[row.claim.id, row.verdict] for row in s.rows]] for s in scores]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def picture_digest(path: Path = PICTURE) -> str | None:
    """The fingerprint stored in the picture, or None where there is no picture or it holds none."""
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return image.info.get("Description")


def write_picture(scores: list[PaperScore], path: Path = PICTURE) -> None:
    """Draw the scorecard and store its fingerprint in the PNG's description."""
    set_theme()
    fig = figure(scores)
    with replacing(path) as temporary:
        fig.savefig(
            temporary, format="png", dpi=150, metadata={"Description": digest(scores), "Software": None}
        )
    plt.close(fig)


def check(
    scores: list[PaperScore], readme: Path = README, picture: Path = PICTURE, root: Path = ROOT
) -> None:
    """Check the README's table and picture.

    Raises:
        ReadmeError: naming what is stale, and the command that repairs it.
    """
    text = readme.read_text(encoding="utf-8")
    repair = "run 'python -m lib.publishing.readme'"
    if updated(text, scores, root) != text:
        raise ReadmeError(f"README.md no longer follows from the ledgers and records; {repair}")
    if picture_digest(picture) != digest(scores):
        raise ReadmeError(
            f"book/_static/scorecard.png no longer follows from the ledgers and records; {repair}"
        )


def write() -> None:
    """Write what is stale of the README's parts and the picture."""
    scores = scorecard(ledgers())
    write_if_changed(README, updated(README.read_text(encoding="utf-8"), scores))
    if picture_digest() != digest(scores):
        write_picture(scores)


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Write or check the generated parts of README.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something is stale")
    options = parser.parse_args(arguments)
    return or_one_line(lambda: check(scorecard(ledgers())) if options.check else write())


if __name__ == "__main__":
    raise SystemExit(main())
