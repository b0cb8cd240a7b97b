"""A small ledger and run records for the tests of the book. Nothing of it reaches the book itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.claims import Claim, Condition, Ledger, Rule


def make_claim(claim_id: str, metric: str, text: str = "An effect.", **fields: Any) -> Claim:
    settings: dict[str, Any] = {
        "id": claim_id,
        "claim": text,
        "where": "Table 1",
        "reported": {"value": 1.0, "text": "1.0", "provenance": "S"},
        "metric": metric,
        "unit": "1",
        "measures": {"default": "the effect"},
        "judged_in": ("default", "gpu", "paper"),
        "conditions": Rule(direction=(Condition(metric=metric, above=0.0),)),
    }
    return Claim(**(settings | fields))


@pytest.fixture
def ledger() -> Ledger:
    """Three claims: an effect, one that only the gpu profile judges, one with hostile text."""
    return Ledger(
        slug="minrnn",
        title="A <b>title</b> with *stars* | bars",
        authors="A. Author, B. Author",
        arxiv="2410.01201",
        version="v2",
        venue="preprint",
        citation="feng2024minrnn",
        summary="- A summary with `ticks` and $x$.",
        claims=(
            make_claim("C1", "effect"),
            make_claim("C2", "large", judged_in=("gpu", "paper")),
            make_claim("C3", "hostile", text='<script>alert("x")</script> & "quotes"'),
        ),
    )


def metric(mean: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high, "values": [mean], "unit": ""}


@pytest.fixture
def write_record(tmp_path: Path) -> Callable[..., Path]:
    """Write ``runs/<slug>/<profile>/results.json`` below the test's folder and return its path."""

    def write(
        profile: str, metrics: dict[str, Any], verdicts: dict[str, str], slug: str = "minrnn", **fields: Any
    ) -> Path:
        folder = tmp_path / "runs" / slug / profile
        folder.mkdir(parents=True)
        record = {
            "slug": slug,
            "profile": profile,
            "seed": 0,
            "device": "CPU <model>",
            "data_source": "real",
            "wall_time_s": 90.0,
            "commit": "0123456789abcdef",
            "metrics": metrics,
            "verdicts": verdicts,
        }
        (folder / "results.json").write_text(json.dumps(record | fields), encoding="utf-8")
        return folder / "results.json"

    return write
