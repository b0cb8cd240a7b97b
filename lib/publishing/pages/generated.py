"""All generated pages, ``book/generated``."""

from __future__ import annotations

from pathlib import Path

from lib.claims import ledgers
from lib.publishing.pages.benchmarks import benchmarks_page
from lib.publishing.pages.committed import write_if_changed
from lib.publishing.pages.data_files import data_page
from lib.publishing.pages.landing import landing_cards, legend
from lib.publishing.pages.papers import scorecard_page, stub_page
from lib.publishing.pages.reference import modules, reference_page
from lib.publishing.scorecard import ROOT, scorecard


def generated_pages(root: Path = ROOT) -> dict[str, str]:
    """Path below ``book/generated`` → content.

    Raises:
        OneLineError: if a ledger, a record, a notebook's card or a benchmark's results are malformed.
    """
    all_ledgers = ledgers()
    scores = scorecard(all_ledgers, root / "book" / "runs")
    pages = {
        "scorecard.md": scorecard_page(scores, root),
        "cards.md": landing_cards(scores, root),
        "legend.md": legend(scores),
        "benchmarks.md": benchmarks_page(all_ledgers, root),
        "data.md": data_page(root),
    }
    pages |= {f"api/{group}.md": reference_page(names) for group, names in modules(root).items()}
    for score in scores:
        pages[f"papers/{score.ledger.slug}.md"] = stub_page(score)
    return {name: f"{page}\n" for name, page in pages.items()}


def write_generated(root: Path = ROOT) -> None:
    """Write ``book/generated``; files that did not change keep their time, files that are no longer made go.

    Raises:
        OneLineError: see :func:`generated_pages`.
    """
    folder = root / "book" / "generated"
    pages = generated_pages(root)
    for name, content in pages.items():
        write_if_changed(folder / name, content)
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()
