"""The benchmark page: ratios to peers, from the stored results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lib.claims import Ledger
from lib.plain_files import read_json
from lib.publishing.rendering import PageError, render
from lib.publishing.scorecard import CHAPTERS, ROOT
from lib.tables import html_table

COLUMNS = ("peer", "version", "shape", "ratio", "low", "high", "bar", "meets_bar")
"""What every row of a benchmark's results holds."""
NUMBERS = ("ratio", "low", "high", "bar")
OPTIONAL = ("what", "device", "dtype")
"""Columns that stand in the caption where all rows share one value."""
TITLE = "Speed as a ratio to a peer; above 1 this collection is faster."


def read_benchmark(path: Path) -> dict[str, Any]:
    """Read and check ``benchmarks/results/<slug>.json`` or ``<slug>.gpu.json``.

    Raises:
        PageError: one line that names the file and what is wrong.
    """
    name = f"benchmarks/results/{path.name}"
    content = read_json(path, PageError, name)
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
        if not isinstance(row, dict):
            raise PageError(f"{name}: row {number} is no mapping")
        missing = [key for key in COLUMNS if key not in row]
        if missing:
            raise PageError(f"{name}: row {number} lacks {', '.join(missing)}")
        for key in NUMBERS:
            if not (row[key] is None or _is_number(row[key])):
                raise PageError(f"{name}: row {number}: {key} is {str(row[key])[:40]!r}, no number")
        if not (row["meets_bar"] is None or isinstance(row["meets_bar"], bool)):
            raise PageError(f"{name}: row {number}: meets_bar is true, false or null")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _text(value: object) -> str:
    return "–" if value is None else str(value)


def benchmark_table(content: Mapping[str, Any]) -> Markup:
    """Speed ratios to peers as an HTML table; a missed bar is marked as missed."""
    values = {key: {_text(row.get(key)) for row in content["rows"]} for key in OPTIONAL}
    shown = [key for key in OPTIONAL if len(values[key]) > 1]
    shared = ", ".join(text for key in OPTIONAL if len(values[key]) == 1 for text in values[key] - {"–"})
    rows = [
        [
            *(_text(row.get(key)) for key in ("peer", "version", "shape", *shown)),
            f"{_number(row['ratio'])} [{_number(row['low'])}, {_number(row['high'])}]",
            _number(row["bar"]),
            render("bar.html", meets_bar=row["meets_bar"]),
        ]
        for row in content["rows"]
    ]
    head = ["peer", "version", "shape", *shown, "ratio [95 % interval]", "bar", "bar met?"]
    machine = content["machine"]
    if isinstance(machine, Mapping):
        machine = ", ".join(f"{key} {value}" for key, value in machine.items())
    caption = f"{TITLE} {f'All rows: {shared}. ' if shared else ''}Machine: {machine}."
    return html_table(head, rows, caption, narrow=True)


def benchmarks_page(all_ledgers: Mapping[str, Ledger], root: Path = ROOT) -> str:
    """One section for each chapter with stored benchmark results: ``<slug>.json``, and ``<slug>.gpu.json`` from a GPU session.

    Raises:
        PageError: for a results file whose name is no chapter's, or whose content is not a benchmark's.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted((root / "benchmarks" / "results").glob("*.json"), key=lambda p: p.name.count(".")):
        slug = path.name.removesuffix(".json").removesuffix(".gpu")
        if slug not in all_ledgers:
            raise PageError(f"benchmarks/results/{path.name}: no chapter has this name")
        found.setdefault(slug, []).append(path)
    chapters = [
        (slug, all_ledgers[slug].title, [_section(path) for path in found[slug]])
        for slug in CHAPTERS
        if slug in found
    ]
    return render("benchmarks.md", chapters=chapters)


def _section(path: Path) -> dict[str, Any]:
    """What the page shows of one file of results."""
    content = read_benchmark(path)
    on_gpu = path.name.endswith(".gpu.json")
    return {"on_gpu": on_gpu, "html": benchmark_table(content), "note": content.get("note", "")}
