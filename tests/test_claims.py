"""Verdict rules, and the ledgers of all ten papers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lib.claims import (
    VERDICTS,
    Claim,
    Condition,
    LedgerError,
    Measurement,
    Rule,
    format_measurement,
    ledgers,
    read_ledger,
)

SLUGS = {
    "minrnn",
    "smbh",
    "adaptive_teachers",
    "meta_flow_matching",
    "ddpp",
    "delusions",
    "kl_regularized_rl",
    "harmaug",
    "compositionality",
    "object_centric",
}
numbers = st.floats(-1e6, 1e6)


def claim(direction: tuple[Condition, ...] = (Condition(metric="gap", above=0.0),), **changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": "C1",
        "claim": "x beats y",
        "where": "Table 1",
        "reported": {"value": 1.0, "text": "1.0", "provenance": "K"},
        "metric": "gap",
        "unit": "",
        "measures": {},
        "judged_in": ("default", "paper"),
        "conditions": Rule(direction=direction, reproduced=(Condition(metric="gap", within=(1.0, 0.1)),)),
        "paper_setting": ("paper",),
    }
    return Claim(**{**fields, **changes})


def exact(value: float) -> dict[str, Measurement]:
    return {"gap": Measurement(value, value, value)}


@pytest.mark.parametrize(
    ("low", "high", "profile", "verdict"),
    [
        (0.95, 1.05, "paper", "reproduced"),
        (0.95, 1.05, "default", "same direction"),  # the numbers agree, but not at the paper's own setting
        (0.50, 0.60, "paper", "same direction"),
        (-0.1, 0.30, "paper", "inconclusive"),
        (-0.3, -0.1, "default", "contradicted"),
        (0.95, 1.05, "smoke", "not run"),
        (0.95, 1.05, "gpu", "not run"),
    ],
)
def test_each_verdict(low: float, high: float, profile: str, verdict: str) -> None:
    measured = {"gap": Measurement((low + high) / 2, low, high)}
    assert claim().judge(measured, profile) == verdict


def test_a_missing_metric_is_not_run() -> None:
    assert claim().judge({}, "paper") == "not run"


def test_a_failing_condition_outweighs_an_unclear_one() -> None:
    both = claim(direction=(Condition(metric="gap", above=0.0), Condition(metric="other", below=1.0)))
    measured = {"gap": Measurement(0, -1, 1), "other": Measurement(2, 2, 2)}
    assert both.judge(measured, "paper") == "contradicted"


def test_stand_in_data_judges_no_claim_that_needs_real_data() -> None:
    assert claim(data="real").judge(exact(1.0), "paper", "standin") == "not run"
    assert claim(data="real").judge(exact(1.0), "paper", "real") == "reproduced"
    assert claim(data="any").judge(exact(1.0), "paper", "standin") == "reproduced"


@given(numbers, numbers, numbers, st.floats(0, 1e6))
def test_conditions_agree_with_their_definition(a: float, b: float, target: float, tolerance: float) -> None:
    low, high = min(a, b), max(a, b)
    measured = Measurement((low + high) / 2, low, high)
    above = Condition(metric="m", above=target).check(measured)
    assert (above == "holds") == (low > target)
    assert (above == "fails") == (high < target or low == high == target)
    inside = Condition(metric="m", within=(target, tolerance)).check(measured)
    assert (inside == "holds") == (target - tolerance <= low and high <= target + tolerance)
    assert (inside == "fails") == (high < target - tolerance or low > target + tolerance)


@given(numbers, numbers, numbers)
def test_below_mirrors_above(a: float, b: float, target: float) -> None:
    low, high = min(a, b), max(a, b)
    mirrored = Condition(metric="m", above=-target).check(Measurement(0, -high, -low))
    assert Condition(metric="m", below=target).check(Measurement(0, low, high)) == mirrored


def test_a_nan_decides_nothing() -> None:
    assert Condition(metric="m", above=0.0).check(Measurement(math.nan, math.nan, math.nan)) == "unclear"


def test_one_run_has_an_infinite_interval_and_is_inconclusive() -> None:
    one = Measurement(1.0, -math.inf, math.inf)
    assert claim().judge({"gap": one}, "paper") == "inconclusive"
    assert format_measurement(one) == "1 (one run)"


def test_all_ten_papers_have_a_valid_ledger() -> None:
    found = ledgers()
    assert set(found) == SLUGS
    for slug, book in found.items():
        assert book.claims, slug
        for row in book.claims:
            assert row.conditions.direction, f"{slug} {row.id}"
            assert row.judge({}, "default") == "not run"


def write(tmp_path: Path, **changes: object) -> Path:
    raw: dict[str, object] = yaml.safe_load((Path(__file__).parent / "data" / "ledger.yml").read_text())
    raw["claims"][0].update(changes)  # type: ignore[index]
    path = tmp_path / "ledger.yml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_the_sample_ledger_reads(tmp_path: Path) -> None:
    assert read_ledger(write(tmp_path)).claims[0].rule() == "gap > 0; reproduced: gap = 1 ± 0.1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"judged_in": ["smoke"]},
            r"claim C1, judged_in\[0\]: profile='smoke' is not one of default, gpu, paper",
        ),
        ({"judged_in": ["defualt"]}, "did you mean 'default'"),
        ({"rules": {}}, "unknown key 'rules'; did you mean 'rule'"),
        ({"rule": {"direction": []}}, r"claim C1, rule\.direction: .*at least 1 item"),
        ({"rule": {"direction": [{"metric": "m"}]}}, "exactly one of above, below, within"),
        (
            {"rule": {"direction": [{"metric": "m", "above": "zero"}]}},
            r"rule\.direction\[0\]\.above: needs a number, got 'zero'",
        ),
        ({"rule": {"direction": [{"metric": "m", "above": True}]}}, "needs a number, got True"),
        ({"rule": {"direction": [{"metric": "m", "above": math.nan}]}}, "a finite number, got nan"),
        ({"rule": {"direction": [{"metric": "m", "above": None}]}}, "exactly one of above"),
        ({"rule": {"direction": [{"metric": "m", "above": 0, "below": None}]}}, "exactly one of above"),
        ({"rule": {"direction": [{"metric": "m", "above": 0, "below": 1}]}}, "exactly one of above"),
        (
            {"rule": {"direction": [{"metric": "m", "abov": 0}]}},
            r"direction\[0\]: unknown key 'abov'; did you mean 'above'",
        ),
        ({"rule": {"direction": [{"metric": "=m", "above": 0}]}}, "metric: String should match pattern"),
        ({"rule": {"direction": {"metric": "m", "above": 0}}}, "should be a valid tuple"),
        ({"rule": {"direction": [{"metric": "m", "within": [1]}]}}, r"within\[1\]"),
        ({"rule": {"direction": [{"metric": "m", "within": [1, -1]}]}}, "greater than or equal to 0, got -1"),
        ({"reported": {"value": 1}}, "claim C1, reported: missing key 'text'"),
        ({"reported": {"value": 1, "text": "1", "provenence": "K"}}, "reported: .*did you mean 'provenance'"),
        (
            {"reported": {"value": 1, "text": "1", "provenance": ""}},
            r"reported\.provenance: .*at least 1 character",
        ),
        ({"reported": [1]}, "claim C1, reported: should be a valid dictionary"),
        ({"measures": {"smo\nke": "x"}}, "did you mean 'smoke'"),
        ({"id": "C\n1", "metric": 2}, "claim C 1, metric: should be a valid string"),
        ({"measures": {"defualt": "x"}}, r"measures\.defualt: .*did you mean 'default'"),
        ({"id": 1}, r"claims\[0\], id: should be a valid string, got 1"),
        ({"claim": None}, "claim C1, claim: should be a valid string, got None"),
        ({"judged_in": "default"}, "judged_in: should be a valid tuple"),
        ({"data": "fake"}, "'any' or 'real'"),
    ],
)
def test_a_broken_ledger_is_one_line(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(LedgerError, match=words) as caught:
        read_ledger(write(tmp_path, **changes))
    assert "ledger.yml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("claims: [unclosed", "not valid YAML"),
        ("", "should be a valid dictionary"),
        ("- a\n- b\n", "should be a valid dictionary"),
        ("slug: ledger\n", "missing key 'title'"),
        ("slug: ledger\nslug: ledger\n", "'slug' occurs twice"),
        ("sluk: ledger\n", "unknown key 'sluk'; did you mean 'slug'"),
        ("slug: &a [*a]\n", "alias"),
        ("slug: 0x" + "f" * 6000 + "\n", "slug: should be a valid string"),
        ("? [1, 2]\n: 3\n", "not valid YAML"),
        ("1: 2\n", "unknown key 1"),
        ("[" * 100_000, "nested"),
        ("{a: " * 100_000, "nested"),
        ("a: !!python/name:os.system\n", "not valid YAML"),
        ("slug: 2024-13-45\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_ledger_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "ledger.yml"
    path.write_text(text)
    with pytest.raises(LedgerError, match=words) as caught:
        read_ledger(path)
    assert str(caught.value).startswith("ledger.yml: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("summary: Güte".encode("latin-1"), "is not UTF-8"),
        ("slug: ledger".encode("utf-16"), "is not UTF-8 text but UTF-16"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_text_is_one_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "ledger.yml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LedgerError, match=rf"ledger\.yml.*{words}") as caught:
        read_ledger(path)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_ledger(tmp_path: Path) -> None:
    path = write(tmp_path)
    without = read_ledger(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_ledger(path) == without


def test_verdict_names() -> None:
    assert VERDICTS == ("reproduced", "same direction", "inconclusive", "contradicted", "not run")
