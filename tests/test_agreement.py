"""A run against the book's record: what has to be the same on any machine, and what may honestly differ."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from lib.agreement import compare_with_book, comparison, differs, firm_verdicts, is_firm
from lib.claims import Claim, Condition, Ledger, Measurement, Reported, Rule
from lib.records import write_json
from tests.sample_chapter import start


def exact(value: float) -> Measurement:
    return Measurement(value, value, value, (value,), varies="nothing")


def spread(mean: float, half: float, varies: Any = "training") -> Measurement:
    return Measurement(mean, mean - half, mean + half, (mean,) * 3, varies=varies)


REPORTED = Reported(value=None, text="1", provenance="K")


def claim(condition: Condition, *, reproduced: tuple[Condition, ...] = (), **fields: Any) -> Claim:
    defaults: dict[str, Any] = {
        "id": "C1", "claim": "c", "where": "w", "reported": REPORTED, "metric": condition.metric, "unit": "", "measures": {},
        "judged_in": ("default",), "conditions": Rule(direction=(condition,), reproduced=reproduced),
    }  # fmt: skip
    return Claim(**{**defaults, **fields})


ABOVE = Condition(metric="m", above=0.0)


@pytest.mark.parametrize(
    ("condition", "measured", "firm"),
    [
        (ABOVE, spread(4.0, 1.0), True),  # [3, 5]: the bound is 1.5 widths away
        (ABOVE, spread(2.9, 1.0), False),  # [1.9, 3.9]: less than its width of 2
        (ABOVE, spread(-4.0, 1.0), True),
        (ABOVE, spread(0.1, 1.0), False),  # inconclusive, and a width away it would not be
        (ABOVE, exact(1e-9), True),
        (ABOVE, spread(4.0, 1.0, "clock"), False),
        (ABOVE, spread(4.0, 0.0), False),  # three equal trainings show no spread
        (ABOVE, Measurement(1.0, -math.inf, math.inf, (1.0,)), True),  # one run: inconclusive on any machine
        (Condition(metric="m", within=(0.0, 5.0)), spread(0.0, 1.0), True),
        (Condition(metric="m", within=(0.0, 5.0)), spread(3.0, 1.0), False),
        (Condition(metric="m", below=0.0), spread(-4.0, 1.0), True),
    ],
)
def test_which_verdicts_are_firm(condition: Condition, measured: Measurement, firm: bool) -> None:
    assert is_firm(claim(condition), {"m": measured}) == firm


def test_a_reproduced_condition_on_its_bound_makes_the_verdict_loose() -> None:
    rule = claim(ABOVE, reproduced=(Condition(metric="m", within=(4.0, 1.1)),), paper_setting=("default",))
    assert not is_firm(rule, {"m": spread(4.0, 1.0)})
    assert is_firm(claim(ABOVE), {"m": spread(4.0, 1.0)})


@pytest.mark.parametrize(
    ("here", "there", "unequal"),
    [
        (exact(1.0), exact(1.0 + 1e-9), False),
        (exact(1.0), exact(1.0 + 1e-4), True),
        (exact(1e9), exact(1e9 + 1), False),
        (exact(3e-16), exact(7e-16), False),
        (spread(1.0, 0.5), spread(2.9, 0.5), False),  # twice as wide they meet
        (spread(1.0, 0.5), spread(3.1, 0.5), True),
        (spread(1.0, 0.0), spread(1.0, 0.0), False),
        (spread(1.0, 0.5, "clock"), spread(9.0, 0.5, "clock"), False),
        (Measurement(5.0, -math.inf, math.inf), Measurement(1.0, -math.inf, math.inf), False),
    ],
)
def test_which_measurements_differ(here: Measurement, there: Measurement, unequal: bool) -> None:
    assert differs(here, there) == unequal
    assert differs(there, here) == unequal


def record(measurements: dict[str, Measurement]) -> dict[str, Any]:
    metrics = {
        name: {
            "mean": m.mean,
            "low": m.low,
            "high": m.high,
            "values": list(m.values),
            "unit": "",
            "varies": m.varies,
        }
        for name, m in measurements.items()
    }
    return {"profile": "default", "data_source": "real", "metrics": metrics}


BOOK = Ledger(
    slug="s", title="t", authors="a", arxiv="2410.00001", version="v1", venue="x", citation="c", summary="y",
    claims=(claim(ABOVE), claim(Condition(metric="n", above=0.0), id="C2")),
)  # fmt: skip


def test_equal_records_say_the_same_and_unequal_ones_do_not() -> None:
    stored = record({"m": spread(4.0, 1.0), "n": spread(0.1, 1.0), "e": exact(2.0)})
    lines = comparison(BOOK, stored, stored)
    assert lines == [
        "exact values that equal the book's: 1 of 1",
        "intervals that meet the book's: 2 of 2",
        "verdicts that keep their distance from every bound: 1",
        "  C1: same direction",
    ]
    assert firm_verdicts(BOOK, stored) == {"C1": "same direction"}
    on_another_processor = record({"m": spread(4.3, 1.2), "n": spread(1.5, 1.0), "e": exact(2.0 + 1e-12)})
    assert comparison(BOOK, on_another_processor, stored) == lines  # C2 has turned, and sat on its bound
    for name, wrong in (("m", spread(-4.0, 1.0)), ("e", exact(2.1)), ("n", spread(5.0, 1.0))):
        changed = record({"m": spread(4.0, 1.0), "n": spread(0.1, 1.0), "e": exact(2.0), name: wrong})
        found = comparison(BOOK, changed, stored)
        assert found != lines
        assert any(line.startswith(f"  {name}: ") and "in the book" in line for line in found)
    missing = record({"m": spread(4.0, 1.0), "n": spread(0.1, 1.0)})
    assert "  e: – here, 2 in the book" in comparison(BOOK, missing, stored)


def test_a_run_compares_with_the_record_of_its_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAPERS_BOOK_RECORDS", str(tmp_path / "book"))
    run = start(tmp_path / "out")
    run.measure("some_count", 3.0)
    compare_with_book(run)
    alone = capsys.readouterr().out
    assert (
        "exact values that equal the book's: 1 of 1" in alone
    )  # the run that makes the record is its own measure

    stored = run.record()
    stored["metrics"]["some_count"]["mean"] = 4.0
    folder = tmp_path / "book" / run.slug / run.profile
    folder.mkdir(parents=True)
    write_json(folder / "results.json", stored)
    compare_with_book(run)
    assert "some_count: 3 here, 4 in the book" in capsys.readouterr().out

    stored["seed"] = 5
    write_json(folder / "results.json", stored)
    compare_with_book(run)
    assert "has another seed" in capsys.readouterr().out
    assert json.loads((folder / "results.json").read_text())["seed"] == 5
