"""Does a run agree with the record in the book?

Rounding differs between processors, and a training carries it on. What has to be the same everywhere is therefore this: exact
values but for rounding, intervals in that they meet, and those verdicts whose intervals keep a distance from every bound.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from lib.claims import Claim, Ledger, Measurement, Verdict, format_measurement, ledger
from lib.datasets import DataError
from lib.plain_files import read_json
from lib.records import RECORD_NAME, ROOT, Run, read_measurements
from lib.typed_paths import typed_path

BOOK_RECORDS_VARIABLE = "PAPERS_BOOK_RECORDS"
ROUNDING = 1e-6
"""Exact values agree within this, absolutely or relatively, whichever is wider."""

WIDTHS = 1.0
"""An interval keeps its distance from a bound that is further off than this many of its own widths."""


def book_record(slug: str, profile: str) -> dict[str, Any] | None:
    """The record of the chapter in the book, or None; ``PAPERS_BOOK_RECORDS`` names another folder than ``book/runs``.

    Raises:
        ParameterError: for a variable that spells no path.
        DataError: for a record that is no JSON.
    """
    value = os.environ.get(BOOK_RECORDS_VARIABLE) or ROOT / "book" / "runs"
    folder = typed_path(BOOK_RECORDS_VARIABLE, value)
    path = folder / slug / profile / RECORD_NAME
    return read_json(path, DataError) if path.is_file() else None


def shifted(measurement: Measurement, widths: float) -> Measurement:
    """The measurement moved by ``widths`` widths of its interval; an infinite one and an exact one stay where they are."""
    by = widths * (measurement.high - measurement.low)
    if not math.isfinite(by):
        return measurement
    return Measurement(measurement.mean + by, measurement.low + by, measurement.high + by)


def is_firm(claim: Claim, measurements: Mapping[str, Measurement]) -> bool:
    """Whether every condition of the claim's rule comes out the same with each interval moved by :data:`WIDTHS` widths either way.

    What was measured by the clock, or in trainings that show no spread, is never firm.
    """
    for condition in (*claim.conditions.direction, *claim.conditions.reproduced):
        measured = measurements.get(condition.metric)
        if measured is None:
            continue
        without_spread = measured.low == measured.high and measured.varies == "training"
        if measured.varies == "clock" or without_spread:
            return False
        if len({condition.check(shifted(measured, d * WIDTHS)) for d in (-1, 0, 1)}) > 1:
            return False
    return True


def firm_verdicts(book: Ledger, record: Mapping[str, Any]) -> dict[str, Verdict]:
    """Claim → verdict by the ledger's rules, of the record's judged claims whose verdict is firm."""
    measurements = read_measurements(record)
    verdicts = book.judge(measurements, record["profile"], record["data_source"])
    return {
        claim.id: verdicts[claim.id]
        for claim in book.claims
        if verdicts[claim.id] == "not run" or is_firm(claim, measurements)
    }


def differs(here: Measurement, there: Measurement) -> bool:
    """Whether two measurements of one metric disagree.

    Intervals meet where each is twice as wide as it is; this lets pass what chance makes of some hundred pairs.
    """
    if "clock" in (here.varies, there.varies):
        return False
    if there.varies == "nothing":
        return not math.isclose(here.mean, there.mean, rel_tol=ROUNDING, abs_tol=ROUNDING)
    widths = (here.high - here.low) + (there.high - there.low)
    return 0 < widths < abs(here.mean - there.mean)


def comparison(book: Ledger, here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Lines that compare the record ``here`` with the book's: equal wherever the two agree."""
    ours, theirs = read_measurements(here), read_measurements(there)
    names = sorted(ours.keys() | theirs.keys())
    odd = [
        name for name in names if name not in ours or name not in theirs or differs(ours[name], theirs[name])
    ]
    exact = [name for name in theirs if theirs[name].varies == "nothing"]
    spread = [n for n in theirs if theirs[n].varies == "training" and theirs[n].low < theirs[n].high]
    lines = [
        f"exact values that equal the book's: {len(set(exact) - set(odd))} of {len(exact)}",
        f"intervals that meet the book's: {len(set(spread) - set(odd))} of {len(spread)}",
    ]
    for name in odd:
        pair = (format_measurement(side.get(name)) for side in (ours, theirs))
        lines.append("  {}: {} here, {} in the book".format(name, *pair))
    verdicts = book.judge(ours, here["profile"], here["data_source"])
    firm = firm_verdicts(book, there)
    lines.append(
        f"verdicts that keep their distance from every bound: {sum(v != 'not run' for v in firm.values())}"
    )
    for claim, verdict in firm.items():
        if verdicts[claim] != verdict:
            lines.append(f"  {claim}: {verdicts[claim]} here, {verdict} in the book")
        elif verdict != "not run":
            lines.append(f"  {claim}: {verdict}")
    return lines


def compare_with_book(run: Run[Any]) -> None:
    """Print how this run agrees with the chapter's record in the book.

    The run that makes that record compares with itself. Other seeds, settings or data may differ honestly, which is said.
    """
    here = run.record()
    there = book_record(run.slug, run.profile) or here
    changed = [key for key in ("seed", "settings", "data_source") if here[key] != there[key]]
    if changed:
        words = ", ".join(key.replace("_", " ") for key in changed)
        print(f"The book's record of this profile has another {words}: differences are to be expected.")
    print("\n".join(comparison(ledger(run.slug), here, there)))
