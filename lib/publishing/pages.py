"""Pages of the book that follow from ledgers, run records and code.

Two kinds. *Generated* pages (``book/generated/``, not in git) are written before each build and included by the committed pages:
claims tables, the scorecard, the landing page's cards, the benchmark tables, the list of modules. *Committed* files that follow from
the ledgers (``_toc.yml``, the stub pages of papers without a chapter in ``book/papers/``, the pages of the reference in ``book/api/``) are written by
``python -m lib.publishing.pages sync`` and checked before each build.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
from PIL import Image

from lib.atomic import write_text
from lib.claims import VERDICTS, Claim, Ledger, Verdict, format_measurement, format_reported, ledgers
from lib.datasets import chapter_files
from lib.figures import picture, set_theme
from lib.profiles import OneLineError
from lib.publishing.freshness import standard_error
from lib.publishing.pairing import read_notebook
from lib.publishing.scorecard import (
    CHAPTERS,
    JUDGING_PROFILES,
    ROOT,
    PaperScore,
    Row,
    RunRecord,
    alt_text,
    counts_text,
    figure,
    scorecard,
    total_counts,
)

CARD_TAG = "card"
CARD_SIZE = (440, 300)
BENCHMARK_KEYS = ("peer", "version", "shape", "ratio", "low", "high", "bar", "meets_bar")
_IMAGE = re.compile(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]+)"')


class PageError(OneLineError, RuntimeError):
    """A page that cannot be written, or a committed one that no longer follows from the ledgers."""


# ---------------------------------------------------------------- small pieces of markup


def escape_markdown(text: str) -> str:
    """``text`` as Markdown without any markup: what has a meaning in MyST is escaped, lines are joined.

    Some marks mean something anywhere, others (list bullets, ``(target)=``, comments, fences) only where a line begins.
    """
    text = re.sub(r"([\\`*_{}\[\]<>|$~&#^])", r"\\\1", " ".join(str(text).split()))
    return re.sub(r"^(\d*)([!-/:-@])", r"\1\\\2", text)


def _html(text: Any) -> str:
    return html.escape(" ".join(str(text).split()))


def raw_html(markup: str) -> str:
    """A MyST block of raw HTML. The markup is put on one line, so that nothing in it can end the block."""
    return f"```{{raw}} html\n{' '.join(markup.split(chr(10)))}\n```\n"


def badge(verdict: Verdict, text: str | None = None) -> str:
    """A verdict as an HTML badge; its sign comes from the style sheet, so that it is never told by colour alone."""
    return f'<span class="verdict verdict-{verdict.replace(" ", "-")}">{_html(text or verdict)}</span>'


def counts_badges(counts: Mapping[Verdict, int]) -> str:
    """Verdict counts as a row of badges with a number each."""
    return " ".join(
        f'<span class="verdict verdict-{v.replace(" ", "-")}" title="{n} {v}" aria-label="{n} {v}">{n}</span>'
        for v, n in counts.items()
    )


def html_table(rows: Iterable[Sequence[str]], head: Sequence[str], caption: str, css: str) -> str:
    """A table whose cells are HTML already; each cell carries its column's name for narrow screens."""
    titles = "".join(f'<th scope="col">{_html(title)}</th>' for title in head)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{_html(title)}">{cell}</td>' for title, cell in zip(head, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="run-table {css}"><table><caption>{_html(caption)}</caption>'
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


# ---------------------------------------------------------------- where a chapter's page is


def has_notebook(slug: str, root: Path = ROOT) -> bool:
    """Whether the chapter's executed notebook is there; until then a stub stands in its place."""
    return (root / "notebooks" / f"{slug}.ipynb").is_file()


def chapter_document(slug: str, root: Path = ROOT) -> str:
    """The chapter's document, relative to the root and without suffix."""
    return f"notebooks/{slug}" if has_notebook(slug, root) else f"book/papers/{slug}"


def run_documents(slug: str, root: Path = ROOT) -> list[str]:
    """Executed notebooks of the chapter's larger runs, as documents."""
    return [
        f"book/runs/{slug}/{profile}/{slug}"
        for profile in ("gpu", "paper")
        if (root / "book" / "runs" / slug / profile / f"{slug}.ipynb").is_file()
    ]


def edited_file(document: str, root: Path = ROOT) -> str | None:
    """The file that someone edits to change a page, relative to the root; None for a page that no single file makes.

    A chapter's page and the pages of its larger runs come from ``notebooks/<slug>.py``, a paper's stub from its ledger; the pages
    of the reference come from docstrings.
    """
    folder, name = document.rsplit("/", 1) if "/" in document else ("", document)
    if folder == "notebooks" or folder.startswith("book/runs/"):
        candidates = [f"notebooks/{name}.py"]
    elif folder == "book/papers":
        candidates = [f"book/claims/{name}.yml"]
    elif folder == "book/api":
        candidates = []
    else:
        candidates = [f"{document}.md"]
    return next((path for path in candidates if (root / path).is_file()), None)


def check_outputs(root: Path = ROOT) -> None:
    """Check that no cell of a notebook that becomes a page left something on standard error.

    Raises:
        PageError: naming each page, cell and text.
    """
    documents = [f"notebooks/{slug}" for slug in CHAPTERS if has_notebook(slug, root)]
    documents += [document for slug in CHAPTERS for document in run_documents(slug, root)]
    found = [
        f"{document}.ipynb, {line}"
        for document in documents
        for line in standard_error(read_notebook(root / f"{document}.ipynb"))
    ]
    if found:
        raise PageError("; ".join(found) + "; run 'make refresh' for these chapters")


# ---------------------------------------------------------------- committed files that follow from the ledgers

TOC_HEAD = """\
# Written by `python -m lib.publishing.pages sync`: a paper's stub gives way to its notebook when that is there.
format: jb-book
root: book/intro
parts:
"""


def toc(slugs: Iterable[str], root: Path = ROOT) -> str:
    """The table of contents as YAML: all papers, each with its chapter or its stub, and the pages around them."""
    lines = [TOC_HEAD.rstrip("\n")]

    def part(caption: str, documents: Iterable[str]) -> None:
        lines.extend([f"- caption: {caption}", "  chapters:"])
        for document in documents:
            lines.append(f"  - file: {document}")
            name = document.rsplit("/", 1)[1]
            below = [f"book/api/{g}" for g in modules(root)] if name == "api" else run_documents(name, root)
            lines.extend(["    sections:"] if below else [])
            lines.extend(f"    - file: {page}" for page in below)

    part("Start here", ["book/reading", "book/scorecard"])
    part("Ten papers", [chapter_document(slug, root) for slug in slugs])
    pages = ("rerun", "contributing", "benchmarks", "api", "references")
    part("Use and extend", [f"book/{page}" for page in pages])
    return "\n".join(lines) + "\n"


def stub(ledger: Ledger) -> str:
    """The committed page of a paper without a chapter; what it says comes from the ledger."""
    return f"# {escape_markdown(ledger.title)}\n\n```{{include}} ../generated/papers/{ledger.slug}.md\n```\n"


def committed_files(all_ledgers: Mapping[str, Ledger], root: Path = ROOT) -> dict[Path, str | None]:
    """Path → content of every committed file that follows from ledgers and code; None for a page that must go."""
    slugs = [slug for slug in CHAPTERS if slug in all_ledgers]
    files: dict[Path, str | None] = {root / "_toc.yml": toc(slugs, root)}
    for folder in ("papers", "api"):
        files |= dict.fromkeys(sorted((root / "book" / folder).glob("*.md")))
    files |= {root / "book" / "api" / f"{group}.md": api_stub(group) for group in modules(root)}
    for slug in slugs:
        if not has_notebook(slug, root):
            files[root / "book" / "papers" / f"{slug}.md"] = stub(all_ledgers[slug])
    return files


def sync_committed(all_ledgers: Mapping[str, Ledger] | None = None, root: Path = ROOT) -> list[str]:
    """Write ``_toc.yml`` and the stubs, remove stubs of written chapters; returns the paths that changed."""
    changed = []
    for path, content in committed_files(ledgers() if all_ledgers is None else all_ledgers, root).items():
        if content is None:
            path.unlink()
            changed.append(path.relative_to(root).as_posix())
        elif write_if_changed(path, content):
            changed.append(path.relative_to(root).as_posix())
    return changed


def check_committed(all_ledgers: Mapping[str, Ledger] | None = None, root: Path = ROOT) -> None:
    """Check that ``_toc.yml`` and the stubs follow from the ledgers and the notebooks that are there.

    Raises:
        PageError: naming the first file that does not, and the command that repairs it.
    """
    for path, content in committed_files(ledgers() if all_ledgers is None else all_ledgers, root).items():
        present = path.read_text(encoding="utf-8") if path.is_file() else None
        if present != content:
            raise PageError(
                f"{path.relative_to(root).as_posix()} no longer follows from the ledgers and notebooks; "
                f"run 'python -m lib.publishing.pages sync'"
            )


def write_if_changed(path: Path, content: str) -> bool:
    """Write ``content`` atomically unless the file holds it already, so that an incremental build sees no change."""
    if path.is_file() and path.read_text(encoding="utf-8") == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, content)
    return True


# ---------------------------------------------------------------- claims


def claim_cell(slug: str, claim: Claim, anchor: bool) -> str:
    """The claim's sentence, with its rule and what else the ledger says folded below it."""
    facts = [("rule", claim.rule())]
    facts += [(f"measured with profile {name}", text) for name, text in claim.measures.items()]
    facts += [("falsified when", claim.falsified_when), ("needs", claim.needs), ("note", claim.note)]
    items = "".join(f"<dt>{_html(name)}</dt><dd>{_html(text)}</dd>" for name, text in facts if text)
    target = f' id="claim-{_html(slug)}-{_html(claim.id)}"' if anchor else ""
    return (
        f"<span{target}><strong>{_html(claim.id)}</strong> {_html(claim.claim)}</span>"
        f"<details><summary>how it is judged</summary><dl>{items}</dl></details>"
    )


def verdict_cell(row: Row) -> str:
    """The verdict with the run that gave it, and the verdicts of lower profiles."""
    if row.record is None:
        return badge(row.verdict)
    text = f"{badge(row.verdict)} <small>profile {_html(row.record.profile)}</small>"
    if row.others:
        text += f" <small>({_html(', '.join(f'{p}: {v}' for p, v in row.others))})</small>"
    return text


def claims_table(score: PaperScore, anchors: bool = False) -> str:
    """Claims of a paper as an escaped HTML table."""
    rows = [
        (
            claim_cell(score.ledger.slug, row.claim, anchors),
            _html(row.claim.where),
            _html(format_reported(row.claim.reported)),
            _html(format_measurement(row.measured)),
            verdict_cell(row),
        )
        for row in score.rows
    ]
    caption = f"Claims of “{score.ledger.title}”: {counts_text(score.counts())}."
    return html_table(
        rows, ["claim", "in the paper", "reported", "measured here", "verdict"], caption, "claims-table"
    )


def runs_table(score: PaperScore) -> str:
    """One line for each profile that judges: on which machine it ran, or that it has not been run."""

    def line(profile: str, record: RunRecord | None) -> list[str]:
        if record is None:
            return [profile, badge("not run"), "–", "–", "–", "–"]
        minutes = f"{record.wall_time_s / 60:.1f} min"
        version = f"<code>{_html(record.commit[:10])}</code>" if record.commit else "–"
        return [
            profile,
            _html(record.device),
            _html(record.data_source),
            str(record.seed),
            minutes,
            version,
        ]

    rows = [line(profile, score.records.get(profile)) for profile in reversed(JUDGING_PROFILES)]
    head = ["profile", "device", "data", "seed", "wall time", "commit"]
    return html_table(rows, head, "Runs behind these rows.", "runs-table")


def paper_facts(ledger: Ledger) -> str:
    """Authors, arXiv address, venue and citation as one Markdown paragraph."""
    arxiv = ledger.arxiv
    if not re.fullmatch(r"\d{4}\.\d{4,5}", arxiv):
        raise PageError(f"book/claims/{ledger.slug}.yml: arxiv {arxiv!r} is not an arXiv number")
    return (
        f"{escape_markdown(ledger.authors)}. [arXiv:{arxiv}](https://arxiv.org/abs/{arxiv}) "
        f"({escape_markdown(ledger.version)}), {escape_markdown(ledger.venue)} {{cite:p}}`{ledger.citation}`."
    )


def stub_page(score: PaperScore) -> str:
    """What a paper without a chapter shows: the paper, why it matters, its claims, and that nothing was run."""
    ledger = score.ledger
    return "\n".join(
        [
            paper_facts(ledger) + "\n",
            escape_markdown(ledger.summary) + "\n",
            ":::{admonition} This chapter is not written yet\n:class: warning",
            "Below are the paper's claims and the rules by which a run will judge them. Nothing has been run for them here, so",
            "no measured number is shown. How to read the table: [](../reading.md).\n:::\n",
            raw_html(claims_table(score)),
            f"The same rows stand in [the scorecard](../scorecard.md#scorecard-{ledger.slug}).\n",
        ]
    )


def folded(score: PaperScore) -> str:
    """The claims of a paper that nothing has been run for, folded, so that measured rows are not lost among them."""
    return (
        f'<details class="unrun"><summary>{len(score.rows)} claims, {badge("not run")}</summary>'
        f"{claims_table(score, anchors=True)}</details>"
    )


def scorecard_page(scores: list[PaperScore], root: Path = ROOT) -> str:
    """Figure, totals, and for each paper its rows under the target ``scorecard-<slug>``."""
    set_theme()
    fig = figure(scores)
    caption = (
        "Every claim of every paper, one cell each: its id and the sign of its verdict. "
        f"In all: {counts_text(total_counts(scores))}."
    )
    image = picture(fig, caption, alt_text(scores)).html
    plt.close(fig)
    parts = [raw_html(image)]
    for paper in scores:
        slug = paper.ledger.slug
        document = chapter_document(slug, root)
        suffix = ".ipynb" if has_notebook(slug, root) else ".md"
        target = os.path.relpath(document + suffix, "book")
        parts += [
            f"(scorecard-{slug})=\n## {escape_markdown(paper.ledger.title)}\n",
            f"[{'Chapter' if has_notebook(slug, root) else 'Paper (chapter not written yet)'}]({target}) · "
            f"{paper_facts(paper.ledger)}\n",
            raw_html(folded(paper) if not paper.records else claims_table(paper, anchors=True)),
            raw_html(runs_table(paper)),
        ]
    return "\n".join(parts)


# ---------------------------------------------------------------- the landing page


def card_picture(notebook: Path) -> tuple[str, str]:
    """The picture that stands for a chapter: the first figure of its cell tagged ``card``.

    Returns:
        A PNG data URI no larger than :data:`CARD_SIZE` pixels, and its alternative text (escaped HTML).

    Raises:
        PageError: if the notebook has no such cell, or the cell shows no figure.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell for cell in cells if CARD_TAG in cell.metadata.get("tags", [])]
    for cell in tagged:
        for output in cell.get("outputs", []):
            match = _IMAGE.search("".join(output.get("data", {}).get("text/html", "")))
            if match:
                return _thumbnail(base64.b64decode(match[2])), match[1]
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
    target = os.path.relpath(chapter_document(slug, root) + ".html", "book")
    if has_notebook(slug, root):
        uri, alt = card_picture(root / "notebooks" / f"{slug}.ipynb")
        shown = f'<span class="paper-card-picture"><img src="{uri}" alt="{alt}"></span>'
    else:
        shown = (
            f'<span class="paper-card-picture paper-card-empty"><span>arXiv {_html(score.ledger.arxiv)}</span>'
            "<span>not run yet</span></span>"
        )
    return (
        f'<a class="paper-card" href="{_html(target)}">{shown}'
        f'<span class="paper-card-title">{_html(score.ledger.title)}</span>'
        f'<span class="paper-card-counts">{counts_badges(score.counts())}</span></a>'
    )


def landing_cards(scores: list[PaperScore], root: Path = ROOT) -> str:
    """All papers as cards."""
    return raw_html('<div class="paper-cards">' + "".join(card(score, root) for score in scores) + "</div>")


MEANINGS: dict[Verdict, str] = {
    "reproduced": "numbers agree, at the paper's own setting",
    "same direction": "the effect holds, at a smaller or substitute setting",
    "inconclusive": "the interval does not decide",
    "contradicted": "the measurement speaks against the claim",
    "not run": "nothing was measured",
}


def legend(scores: list[PaperScore]) -> str:
    """The five verdicts, what each means, and the number of claims that have it."""
    counts = total_counts(scores)
    items = "".join(f"<li>{badge(v)} <b>{counts.get(v, 0)}</b> {_html(MEANINGS[v])}</li>" for v in VERDICTS)
    return raw_html(f'<ul class="verdict-legend">{items}</ul>')


# ---------------------------------------------------------------- benchmarks


def read_benchmark(path: Path) -> dict[str, Any]:
    """Read and check ``benchmarks/results/<slug>.json`` or ``<slug>.gpu.json``.

    Raises:
        PageError: one line that names the file and what is wrong.
    """
    name = f"benchmarks/results/{path.name}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise PageError(f"{name}: not valid JSON ({error.msg}, line {error.lineno})") from error
    check_benchmark(name, content)
    return content


def check_benchmark(name: str, content: Any) -> None:
    """Check the form of a benchmark's results.

    Raises:
        PageError: one line that says what is wrong with ``name``.
    """
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list) or "machine" not in content:
        raise PageError(f"{name}: needs the keys rows (a list) and machine")
    for number, row in enumerate(content["rows"], start=1):
        missing = [key for key in BENCHMARK_KEYS if key not in row]
        if missing:
            raise PageError(f"{name}: row {number} lacks {', '.join(missing)}")


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def benchmark_table(content: Mapping[str, Any], title: str) -> str:
    """Speed ratios to peers as an escaped HTML table; a missed bar is marked as missed."""
    values = {key: {row.get(key) for row in content["rows"]} for key in ("what", "device", "dtype")}
    optional = [
        key for key, found in values.items() if len(found) > 1
    ]  # what all rows share goes into the caption
    shared = ", ".join(
        str(next(iter(found))) for found in values.values() if len(found) == 1 and found != {None}
    )
    rows = []
    for row in content["rows"]:
        met = {True: "met", False: "missed"}.get(row["meets_bar"], "no bar")
        mark = {"met": "✓ met", "missed": "✗ missed"}.get(met, met)
        ratio = f"{_number(row['ratio'])} [{_number(row['low'])}, {_number(row['high'])}]"
        cells = [row["peer"], row["version"], row["shape"], *(row.get(key, "–") for key in optional)]
        rows.append(
            [
                *(_html(_number(cell)) for cell in cells),
                _html(ratio),
                _html(_number(row["bar"])),
                f'<span class="bar-{met.replace(" ", "-")}">{mark}</span>',
            ]
        )
    head = ["peer", "version", "shape", *optional, "ratio [95 % interval]", "bar", "bar met?"]
    machine = content["machine"]
    if isinstance(machine, Mapping):
        machine = ", ".join(f"{key} {value}" for key, value in machine.items())
    return html_table(
        rows, head, f"{title}. {f'All rows: {shared}. ' if shared else ''}Machine: {machine}.", ""
    )


def benchmarks_page(all_ledgers: Mapping[str, Ledger], root: Path = ROOT) -> str:
    """One section for each chapter with stored benchmark results: ``<slug>.json``, and ``<slug>.gpu.json`` from a GPU session.

    Raises:
        PageError: for a results file whose name is no chapter's.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted((root / "benchmarks" / "results").glob("*.json"), key=lambda p: p.name.count(".")):
        slug = path.name.removesuffix(".json").removesuffix(".gpu")
        if slug not in all_ledgers:
            raise PageError(f"benchmarks/results/{path.name}: no chapter has this name")
        found.setdefault(slug, []).append(path)
    parts = []
    for slug in (slug for slug in CHAPTERS if slug in found):
        parts.append(f"(benchmark-{slug})=\n## {escape_markdown(all_ledgers[slug].title)}\n")
        for path in found[slug]:
            content = read_benchmark(path)
            command = f"python benchmarks/{slug}.py" + (
                " --gpu-rows" if path.name.endswith(".gpu.json") else ""
            )
            table = benchmark_table(content, "Speed as a ratio to a peer; above 1 this collection is faster")
            parts += [f"Measured by `{command}`.\n", raw_html(table)]
            if content.get("note"):
                parts.append(escape_markdown(content["note"]) + "\n")
    return "\n".join(parts) or "No benchmark has been run yet.\n"


# ---------------------------------------------------------------- the list of data files


def data_page(root: Path = ROOT) -> str:
    """One table of all registered data files, by data set: how to get them, licence, citation, where they were published."""
    rows = []
    for slug in CHAPTERS:
        files = chapter_files(slug)
        for data_set in dict.fromkeys(name.split("/")[0] for name in files):
            items = [item for name, item in files.items() if name.split("/")[0] == data_set]
            ways = ["make data" if item.addresses else "mirror only" for item in items]
            target = os.path.relpath(chapter_document(slug, root) + ".html", "book")
            texts = [
                dict.fromkeys(_html(getattr(item, key)) for item in items) for key in ("licence", "origin")
            ]
            rows.append(
                [
                    f"<code>{_html(data_set)}/</code>",
                    f'<a href="{_html(target)}">{_html(slug)}</a>',
                    "<br>".join(f"{ways.count(way)}: {_html(way)}" for way in dict.fromkeys(ways)),
                    "<br>".join(texts[0]),
                    f"<details><summary>{len(texts[1])} source{'s' * (len(texts[1]) > 1)}</summary>"
                    f"{'<br>'.join(texts[1])}</details>",
                ]
            )
    head = ["data set", "chapter", "files, and how to get them", "licence", "published as"]
    return raw_html(html_table(rows, head, "Data files by data set.", "run-data"))


# ---------------------------------------------------------------- the list of modules


def modules(root: Path = ROOT) -> dict[str, list[str]]:
    """Modules of ``lib`` by group: the shared ones under ``lib``, then one group for each package."""
    groups = {"lib": [f"lib.{p.stem}" for p in sorted((root / "lib").glob("*.py")) if p.stem != "__init__"]}
    for package in sorted(p.parent for p in (root / "lib").glob("*/__init__.py")):
        name = f"lib.{package.name}"
        names = [f"{name}.{p.stem}" for p in sorted(package.glob("*.py")) if not p.stem.startswith("__")]
        groups[name] = [name, *names]
    return groups


def api_page(names: Iterable[str]) -> str:
    """The reference of one group: every public name of its modules, from the docstrings."""
    parts = []
    for name in names:
        parts.append(f"## `{name}`\n")
        parts.append(
            f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :member-order: bysource\n```\n"
        )
    return "\n".join(parts)


def api_stub(group: str) -> str:
    """The committed page that includes the reference of one group."""
    title = "Shared modules" if group == "lib" else f"`{group}`"
    return f"# {title}\n\n```{{include}} ../generated/api/{group}.md\n```\n"


# ---------------------------------------------------------------- all of it


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
    pages |= {f"api/{group}.md": api_page(names) for group, names in modules(root).items()}
    for score in scores:
        pages[f"papers/{score.ledger.slug}.md"] = stub_page(score)
    return pages


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


def main(arguments: list[str] | None = None) -> int:
    """Command line: ``sync`` writes the committed files, ``check`` checks them, ``generate`` writes ``book/generated``."""
    parser = argparse.ArgumentParser(description="Write or check the pages that follow from the ledgers.")
    parser.add_argument("action", choices=("sync", "check", "generate"))
    action = parser.parse_args(arguments).action
    try:
        if action == "sync":
            print("\n".join(f"wrote {name}" for name in sync_committed()) or "nothing to change")
        elif action == "check":
            check_committed()
        else:
            write_generated()
    except OneLineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
