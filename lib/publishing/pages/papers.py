"""Claims of a paper as a table, the page of a paper without a chapter, and the scorecard of all papers."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
from markupsafe import Markup

from lib.claims import Claim, Ledger, format_measurement, format_reported
from lib.figures import picture, set_theme
from lib.publishing.pages.places import chapter_source, from_the_book, has_notebook
from lib.publishing.rendering import PageError, badge, render
from lib.publishing.scorecard import (
    JUDGING_PROFILES,
    ROOT,
    PaperScore,
    RunRecord,
    alt_text,
    counts_text,
    figure,
    total_counts,
)
from lib.tables import html_table

CLAIMS_HEAD = ("claim", "in the paper", "reported", "measured here", "verdict")
RUNS_HEAD = ("profile", "device", "data", "seed", "wall time", "commit")


def claim_cell(slug: str, claim: Claim, anchor: bool) -> Markup:
    """The claim's sentence, with its rule and what else the ledger says folded below it."""
    facts = [("rule", claim.rule())]
    facts += [(f"measured with profile {name}", text) for name, text in claim.measures.items()]
    facts += [("falsified when", claim.falsified_when), ("needs", claim.needs), ("note", claim.note)]
    return render("claim.html", slug=slug, claim=claim, facts=facts, anchor=anchor)


def claims_table(score: PaperScore, anchors: bool = False) -> Markup:
    """Claims of a paper as an HTML table."""
    rows = [
        (
            claim_cell(score.ledger.slug, row.claim, anchors),
            row.claim.where,
            format_reported(row.claim.reported),
            format_measurement(row.measured),
            render("verdict.html", row=row),
        )
        for row in score.rows
    ]
    caption = f"Claims of “{score.ledger.title}”: {counts_text(score.counts())}."
    return html_table(CLAIMS_HEAD, rows, caption, "claims-table", narrow=True)


def runs_table(score: PaperScore) -> Markup:
    """One line for each profile that judges: on which machine it ran, or that it has not been run."""

    def line(profile: str, record: RunRecord | None) -> list[object]:
        if record is None:
            return [profile, badge("not run"), "–", "–", "–", "–"]
        minutes = f"{record.wall_time_s / 60:.1f} min"
        version = render("code.html", text=record.commit[:10]) if record.commit else "–"
        return [profile, record.device, record.data_source, record.seed, minutes, version]

    rows = [line(profile, score.records.get(profile)) for profile in reversed(JUDGING_PROFILES)]
    return html_table(RUNS_HEAD, rows, "Runs behind these rows.", "runs-table", narrow=True)


def checked_arxiv(ledger: Ledger) -> str:
    """The paper's arXiv number.

    Raises:
        PageError: if what the ledger says is none.
    """
    if not re.fullmatch(r"\d{4}\.\d{4,5}", ledger.arxiv, re.ASCII):
        raise PageError(f"book/claims/{ledger.slug}.yml: arxiv {ledger.arxiv!r} is not an arXiv number")
    return ledger.arxiv


def paper_facts(ledger: Ledger) -> Markup:
    """Authors, arXiv address, venue and citation as one Markdown paragraph.

    Raises:
        PageError: for an arXiv number or a citation key that is none.
    """
    return render("paper_facts.md", ledger=ledger, arxiv=checked_arxiv(ledger))


def stub_page(score: PaperScore) -> str:
    """What a paper without a chapter shows: the paper, why it matters, its claims, and that nothing was run."""
    ledger = score.ledger
    return render("paper.md", facts=paper_facts(ledger), ledger=ledger, claims=claims_table(score))


def folded(score: PaperScore) -> Markup:
    """The claims of a paper that nothing has been run for, folded, so that measured rows are not lost among them."""
    return render("unrun_claims.html", count=len(score.rows), table=claims_table(score, anchors=True))


def scorecard_picture(scores: list[PaperScore]) -> Markup:
    """The scorecard's figure with its caption."""
    set_theme()
    fig = figure(scores)
    caption = (
        "Every claim of every paper, one cell each: its id and the sign of its verdict. "
        f"In all: {counts_text(total_counts(scores))}."
    )
    image = Markup(picture(fig, caption, alt_text(scores)).html)  # noqa: S704 (its texts are escaped)
    plt.close(fig)
    return image


def scorecard_page(scores: list[PaperScore], root: Path = ROOT) -> str:
    """Figure, totals, and for each paper its rows under the target ``scorecard-<slug>``."""
    papers = [
        {
            "slug": paper.ledger.slug,
            "title": paper.ledger.title,
            "kind": "Chapter" if has_notebook(paper.ledger.slug, root) else "Paper (chapter not written yet)",
            "target": from_the_book(chapter_source(paper.ledger.slug, root)),
            "facts": paper_facts(paper.ledger),
            "claims": claims_table(paper, anchors=True) if paper.records else folded(paper),
            "runs": runs_table(paper),
        }
        for paper in scores
    ]
    return render("scorecard.md", picture=scorecard_picture(scores), papers=papers)
