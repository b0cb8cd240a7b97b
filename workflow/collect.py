"""Collect the records of a sweep into one tidy table and one page.

``python workflow/collect.py runs/sweep`` does it by hand, for what is there so far; the workflow does it when all runs are done.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lib.atomic import write_text

RUN_COLUMNS = ["chapter", "profile", "variant", "seed"]
COLUMNS = [
    *RUN_COLUMNS,
    "kind",  # "metric" or "verdict"
    "name",  # metric, or id of the claim
    "value",  # mean of the metric, empty for a verdict
    "low",
    "high",
    "unit",
    "verdict",  # empty for a metric
    "data_source",
    "device",
    "commit",
    "wall_time_s",
    "peak_memory_mb",
    "overrides",
]
REQUIRED = ("slug", "profile", "seed", "metrics", "verdicts")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .5rem 0 2rem; font-size: .9rem; }
th, td { border-bottom: 1px solid #ccc; padding: .25rem .6rem; text-align: left; } td.number { text-align: right; }
@media (prefers-color-scheme: dark) { body { background: #14181c; color: #e8e8e8; } th, td { border-color: #444; } }
"""


class RecordError(ValueError):
    """A ``results.json`` that cannot be read as a run's record."""


def read_record(path: Path) -> list[dict[str, Any]]:
    """The rows of one run: one per metric and one per verdict.

    The folder ``<chapter>/<profile>/<variant>/seed<seed>`` names the run; chapter, profile and seed must be those of the record.

    Raises:
        RecordError: one line, if the file is no JSON object, misses a field, or lies in the wrong folder.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not valid JSON ({error})") from error
    missing = [key for key in REQUIRED if not isinstance(record, dict) or key not in record]
    if missing:
        raise RecordError(f"{path}: not a run record, it lacks {', '.join(missing)}")
    *_, chapter, profile, variant, seed = path.parent.parts
    if (chapter, profile, seed) != (record["slug"], record["profile"], f"seed{record['seed']}"):
        found = f"{record['slug']}/{record['profile']}/seed{record['seed']}"
        raise RecordError(f"{path}: holds the record of another run ({found})")
    common = {
        "chapter": chapter,
        "profile": profile,
        "variant": variant,
        "seed": record["seed"],
        **{
            key: record.get(key)
            for key in ("data_source", "device", "commit", "wall_time_s", "peak_memory_mb")
        },
        "overrides": json.dumps(record.get("overrides") or {}, sort_keys=True),
    }
    rows = []
    for name, metric in record["metrics"].items():
        low = (
            -math.inf if metric["low"] is None else metric["low"]
        )  # JSON has no infinity: one seed, no interval
        high = math.inf if metric["high"] is None else metric["high"]
        numbers = {"value": metric["mean"], "low": low, "high": high, "unit": metric.get("unit", "")}
        rows.append({**common, "kind": "metric", "name": name, **numbers, "verdict": ""})
    for claim, verdict in record["verdicts"].items():
        rows.append({**common, "kind": "verdict", "name": claim, "unit": "", "verdict": verdict})
    return rows


def tidy_table(records: Iterable[Path]) -> pd.DataFrame:
    """All runs' rows, sorted by run.

    Raises:
        RecordError: if a record cannot be read.
    """
    rows = [row for path in records for row in read_record(path)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values([*RUN_COLUMNS, "kind", "name"], kind="stable", ignore_index=True)


def metrics_by_variant(table: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and range over the runs (seeds) of each metric."""
    metrics = table[table.kind == "metric"].assign(value=lambda rows: rows.value.astype(float))
    groups = metrics.groupby(["chapter", "profile", "variant", "name", "unit"], sort=False, dropna=False)
    summary = groups.value.agg(runs="count", mean="mean", sd="std", smallest="min", largest="max")
    return summary.reset_index().rename(columns={"name": "metric"})


def verdicts_by_variant(table: pd.DataFrame) -> pd.DataFrame:
    """How many runs (seeds) gave each verdict."""
    verdicts = table[table.kind == "verdict"]
    counts = verdicts.groupby(["chapter", "profile", "variant", "name", "verdict"], sort=False).size()
    return counts.reset_index(name="runs").rename(columns={"name": "claim"})


def html_table(frame: pd.DataFrame) -> str:
    """A table in which every text is escaped and every number has four significant digits."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f'<td class="number">{"–" if math.isnan(value) else f"{value:.4g}"}</td>'
        number = ' class="number"' if isinstance(value, int) else ""
        return f"<td{number}>{html.escape(str(value))}</td>"

    head = "".join(f"<th>{html.escape(str(column))}</th>" for column in frame.columns)
    body = "\n".join(
        "<tr>" + "".join(map(cell, row)) + "</tr>" for row in frame.astype(object).itertuples(index=False)
    )
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def summary_page(table: pd.DataFrame) -> str:
    """One page for the whole sweep: runs, verdicts and metrics. It loads nothing from elsewhere."""
    runs = table.drop_duplicates(RUN_COLUMNS)
    shown = [*RUN_COLUMNS, "overrides", "data_source", "device", "commit", "wall_time_s", "peak_memory_mb"]
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sweep of {len(runs)} runs</title><style>{STYLE}</style></head>
<body>
<h1>Sweep of {len(runs)} runs</h1>
<p>Made from the runs' results.json. A metric's spread here is over the seeds of the sweep; the interval inside each run is in
results.csv.</p>
<h2>Verdicts</h2>
{html_table(verdicts_by_variant(table))}
<h2>Metrics</h2>
{html_table(metrics_by_variant(table))}
<h2>Runs</h2>
{html_table(runs[shown].fillna("–"))}
</body>
</html>
"""


def collect(records: Sequence[Path], table_path: Path, summary_path: Path) -> pd.DataFrame:
    """Write the tidy table and the page of the runs whose records are given.

    Raises:
        RecordError: if a record cannot be read; nothing has been written then.
    """
    table = tidy_table(records)
    page = summary_page(table)
    write_text(table_path, table.to_csv(index=False))
    write_text(summary_path, page)
    return table


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Collect the records of a sweep that are there so far.")
    parser.add_argument("folder", type=Path, help="the sweep's folder, e.g. runs/sweep")
    options = parser.parse_args(arguments)
    records = sorted(options.folder.glob("*/*/*/seed*/results.json"))
    if not records:
        print(f"{options.folder}: no results.json of a finished run below it", file=sys.stderr)
        return 1
    try:
        collect(records, options.folder / "results.csv", options.folder / "summary.html")
    except RecordError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(records)} runs collected into {options.folder / 'results.csv'} and summary.html")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
