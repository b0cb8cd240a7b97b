"""Collect the records of a sweep into one tidy table and one page.

``python workflow/collect.py runs/sweep`` does it by hand, for what is there so far; the workflow does it when all runs are done.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lib.atomic import write_text
from lib.claims import VERDICTS
from lib.plain_files import one_line, read_json
from lib.profiles import OneLineError

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
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", " ")
"""What a text begins with that spreadsheets take for a formula, or strip in search of one."""

REQUIRED = ("slug", "profile", "seed", "metrics", "verdicts")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1a1a1a; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .5rem 0 2rem; font-size: .9rem; }
th, td { border-bottom: 1px solid #ccc; padding: .25rem .6rem; text-align: left; } td.number { text-align: right; }
@media (prefers-color-scheme: dark) { body { background: #14181c; color: #e8e8e8; } th, td { border-color: #444; } }
"""


class RecordError(OneLineError, ValueError):
    """A ``results.json`` that cannot be read as a run's record."""


def read_record(path: Path) -> list[dict[str, Any]]:
    """The rows of one run: one per metric and one per verdict.

    The folder ``<chapter>/<profile>/<variant>/seed<seed>`` names the run; chapter, profile and seed must be those of the record.

    Raises:
        RecordError: one line, if the file is no record of a run, lies in the wrong folder, or holds a text that a spreadsheet would run.
    """
    record = read_json(path, RecordError, str(path))
    missing = [key for key in REQUIRED if not isinstance(record, dict) or key not in record]
    if missing:
        raise RecordError(f"{path}: not a run record, it lacks {', '.join(missing)}")
    if isinstance(record["seed"], bool) or not isinstance(record["seed"], int):
        raise RecordError(f"{path}: seed is not a whole number")
    chapter, profile, variant, seed = ("", *path.absolute().parent.parts)[-4:]
    if (chapter, profile, seed) != (record["slug"], record["profile"], f"seed{record['seed']}"):
        found = f"{record['slug']}/{record['profile']}/seed{record['seed']}"
        raise RecordError(f"{path}: holds the record of another run ({one_line(found)})")
    overrides = _mapping(path, record.get("overrides") or {}, "overrides")
    common = {
        "chapter": chapter,
        "profile": profile,
        "variant": variant,
        "seed": record["seed"],
        **{key: _text(path, record.get(key), key) for key in ("data_source", "device", "commit")},
        **{key: _number(path, record.get(key), key) for key in ("wall_time_s", "peak_memory_mb")},
        "overrides": json.dumps(overrides, sort_keys=True),
    }
    rows = [common | row for row in (*_metric_rows(path, record), *_verdict_rows(path, record))]
    for cell in (cell for row in rows for cell in row.values()):
        if isinstance(cell, str) and cell.startswith(FORMULA):
            raise RecordError(f"{path}: {cell[:40]!r} begins as a formula does; no spreadsheet should run it")
    return rows


def _metric_rows(path: Path, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, metric in _mapping(path, record["metrics"], "metrics").items():
        mean, low, high = (
            _number(path, _mapping(path, metric, name).get(key), f"{name}: {key}")
            for key in ("mean", "low", "high")
        )
        if mean is None:
            raise RecordError(f"{path}: metric {name!r} has no mean")
        low = -math.inf if low is None else low  # JSON has no infinity: one seed, no interval
        high = math.inf if high is None else high
        unit = _text(path, metric.get("unit", ""), f"{name}: unit")
        yield {
            "kind": "metric",
            "name": name,
            "value": mean,
            "low": low,
            "high": high,
            "unit": unit,
            "verdict": "",
        }


def _verdict_rows(path: Path, record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for claim, verdict in _mapping(path, record["verdicts"], "verdicts").items():
        if verdict not in VERDICTS:
            raise RecordError(f"{path}: {claim}: {verdict!r} is no verdict")
        yield {"kind": "verdict", "name": claim, "unit": "", "verdict": verdict}


def _mapping(path: Path, value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(f"{path}: {what} is not a mapping of names")
    return value


def _text(path: Path, value: Any, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise RecordError(f"{path}: {what} is not a text")
    return value


def _number(path: Path, value: Any, what: str) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise RecordError(f"{path}: {what} is not a number")
    if value is not None and abs(value) > sys.float_info.max:
        raise RecordError(f"{path}: {what} is too large a number")
    return value


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
    except (RecordError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(records)} runs collected into {options.folder / 'results.csv'} and summary.html")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
