"""The skeleton of a chapter: one experiment that runs, in the places in which a chapter's parts lie.

``python -m lib.publishing.new_chapter <slug>`` (``make new-chapter SLUG=<slug>``) writes what is missing for a paper that has a ledger: notebook,
package with one experiment, tests, benchmark. It overwrites nothing. What it writes passes ``tests/test_chapters.py`` as it is; the
metrics of the ledger that no experiment measures yet stand in ``tests/<slug>/small_sizes.py``, and that list has to become empty.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from lib.atomic import write_text
from lib.claims import Ledger, read_ledger
from lib.fingerprint import ROOT
from lib.profiles import ParameterError, nearest
from lib.publishing.command import or_one_line

PLACES = {
    "package.py": "lib/{slug}/__init__.py",
    "science.py": "lib/{slug}/random_walk.py",
    "experiments.py": "lib/{slug}/experiments/__init__.py",
    "experiment.py": "lib/{slug}/experiments/spread.py",
    "profiles.py": "lib/{slug}/profiles.py",
    "notebook.py": "notebooks/{slug}.py",
    "tests.py": "tests/{slug}/__init__.py",
    "small_sizes.py": "tests/{slug}/small_sizes.py",
    "test_science.py": "tests/{slug}/test_random_walk.py",
    "benchmark.py": "benchmarks/{slug}.py",
}
"""Template → where it goes."""


def skeleton(ledger: Ledger) -> Iterator[tuple[str, str]]:
    """Path from the repository's root and content of every file of a new chapter."""
    # the templates make Python and Markdown, where HTML's escapes would be wrong; what they show is a committed ledger's head
    environment = Environment(  # noqa: S701
        loader=PackageLoader("lib.publishing", "templates/new_chapter"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    to_come = sorted({metric for claim in ledger.claims if claim.judged_in for metric in claim.metrics})
    for template, place in PLACES.items():
        content = environment.get_template(f"{template}.j2").render(
            slug=ledger.slug,
            title=" ".join(ledger.title.split()),
            authors=" ".join(ledger.authors.split()),
            arxiv=ledger.arxiv,
            citation=ledger.citation,
            summary=" ".join(ledger.summary.split()),
            to_come=to_come,
        )
        yield place.format(slug=ledger.slug), with_sorted_imports(content)


def with_sorted_imports(source: str) -> str:
    """``source`` with its lines ``from lib. ...`` in order: where the chapter's own come depends on its name."""
    lines = source.splitlines(keepends=True)
    blocks = groupby(lines, key=lambda line: line.startswith("from lib."))
    return "".join(line for own, block in blocks for line in (sorted(block) if own else block))


def write_chapter(slug: str, root: Path | None = None) -> list[Path]:
    """Write the skeleton of the chapter ``slug`` and return the files written; those that are there stay as they are.

    Raises:
        ParameterError: if there is no ledger of this name, or the chapter has a notebook already.
    """
    root = root or ROOT
    ledgers = sorted(path.stem for path in (root / "book" / "claims").glob("*.yml"))
    if slug not in ledgers:
        raise ParameterError(
            f"SLUG={slug!r} has no ledger book/claims/{slug}.yml; there are {', '.join(ledgers)}{nearest(slug, ledgers)}"
        )
    if (root / "notebooks" / f"{slug}.py").exists():
        raise ParameterError(f"the chapter {slug!r} is there already: notebooks/{slug}.py")
    written = []
    for place, content in skeleton(read_ledger(root / "book" / "claims" / f"{slug}.yml")):
        path = root / place
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, content)
            written.append(path)
    return written


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Write the skeleton of a chapter whose ledger is there.")
    parser.add_argument("slug", help="the ledger's name")
    slug = parser.parse_args(arguments).slug

    def write() -> None:
        for path in write_chapter(slug):
            print(path.relative_to(ROOT))
        print(f"\nNext: pytest tests/test_chapters.py tests/{slug}, then make refresh CHAPTER={slug}")

    return or_one_line(write)


if __name__ == "__main__":
    raise SystemExit(main())
