"""The scorecard: verdicts judged again, the run that speaks, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from lib.claims import VERDICTS, Ledger, ledgers
from lib.publishing.scorecard import (
    CELLS,
    CHAPTERS,
    COLOURS,
    MARKS,
    RecordError,
    alt_text,
    figure,
    read_record,
    read_records,
    score,
    scorecard,
    total_counts,
)
from tests.book.conftest import metric

Write = Callable[..., Path]
GOOD = {"effect": metric(1.0, 0.5, 1.5)}
VERDICTS_OF_GOOD = {"C1": "same direction", "C2": "not run", "C3": "not run"}


def test_every_chapter_has_a_ledger() -> None:
    assert set(ledgers()) == set(CHAPTERS)
    assert len(CHAPTERS) == 10


def test_the_stored_records_agree_with_their_ledgers() -> None:
    assert [s.ledger.slug for s in scorecard(ledgers())] == list(CHAPTERS)


def test_a_record_gives_its_verdicts(ledger: Ledger, write_record: Write, tmp_path: Path) -> None:
    write_record("default", GOOD, VERDICTS_OF_GOOD)
    (paper,) = scorecard({"minrnn": ledger}, tmp_path / "runs")
    assert [row.verdict for row in paper.rows] == ["same direction", "not run", "not run"]
    assert paper.rows[0].measured is not None
    assert paper.rows[0].measured.mean == 1.0
    assert paper.rows[1].measured is None
    assert paper.counts() == {"same direction": 1, "not run": 2}
    assert total_counts([paper, paper]) == {"same direction": 2, "not run": 4}


def test_a_verdict_that_the_rule_does_not_give_is_refused(ledger: Ledger, write_record: Write) -> None:
    path = write_record("default", GOOD, VERDICTS_OF_GOOD | {"C1": "reproduced"})
    with pytest.raises(RecordError, match=r"C1 is stored as 'reproduced'.*gives 'same direction'") as caught:
        read_record(path, ledger)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "verdicts",
    [{"C1": "same direction", "C2": "not run"}, VERDICTS_OF_GOOD | {"C9": "not run"}],
    ids=["claim missing from the record", "claim unknown to the ledger"],
)
def test_a_record_made_with_another_ledger_is_refused(
    ledger: Ledger, write_record: Write, verdicts: dict[str, str]
) -> None:
    with pytest.raises(RecordError, match=r"C[39] is stored as"):
        read_record(write_record("default", GOOD, verdicts), ledger)


def test_a_larger_run_is_judged_anew_by_a_later_rule(ledger: Ledger, write_record: Write) -> None:
    """It stands for its commit, so that a rule or a claim that came later does not make it invalid."""
    path = write_record("gpu", GOOD, {"C1": "reproduced", "C9": "not run"})
    assert read_record(path, ledger).verdicts == VERDICTS_OF_GOOD


def test_the_highest_profile_that_judges_a_claim_speaks(
    ledger: Ledger, write_record: Write, tmp_path: Path
) -> None:
    write_record("default", GOOD, VERDICTS_OF_GOOD)
    write_record(
        "gpu",
        {"effect": metric(-1.0, -2.0, -0.5), "large": metric(1.0, -1.0, 3.0)},
        {"C1": "contradicted", "C2": "inconclusive", "C3": "not run"},
    )
    (paper,) = scorecard({"minrnn": ledger}, tmp_path / "runs")
    assert [row.verdict for row in paper.rows] == ["contradicted", "inconclusive", "not run"]
    assert paper.rows[0].others == (("default", "same direction"),)


def test_a_lower_profile_speaks_where_the_higher_one_measured_nothing(
    ledger: Ledger, write_record: Write, tmp_path: Path
) -> None:
    write_record("default", GOOD, VERDICTS_OF_GOOD)
    write_record("paper", {}, dict.fromkeys(VERDICTS_OF_GOOD, "not run"))
    paper = score(ledger, read_records({"minrnn": ledger}, tmp_path / "runs")["minrnn"])
    assert paper.rows[0].verdict == "same direction"
    assert paper.rows[0].record is not None
    assert paper.rows[0].record.profile == "default"


def test_an_infinite_interval_survives_the_file(ledger: Ledger, write_record: Write) -> None:
    path = write_record(
        "default", {"effect": metric(1.0, None, None)}, VERDICTS_OF_GOOD | {"C1": "inconclusive"}
    )
    assert read_record(path, ledger).verdicts["C1"] == "inconclusive"


def test_an_unknown_slug_is_refused(ledger: Ledger, write_record: Write, tmp_path: Path) -> None:
    write_record("default", GOOD, VERDICTS_OF_GOOD, slug="minrn")
    with pytest.raises(RecordError, match=r"minrn: no ledger has this slug; did you mean 'minrnn'\?"):
        read_records({"minrnn": ledger}, tmp_path / "runs")


def test_a_smoke_record_has_no_place_in_the_book(ledger: Ledger, write_record: Write, tmp_path: Path) -> None:
    write_record("smoke", GOOD, VERDICTS_OF_GOOD)
    with pytest.raises(RecordError, match="smoke: the book shows the profiles paper, gpu, default only"):
        read_records({"minrnn": ledger}, tmp_path / "runs")


def test_a_record_in_the_wrong_folder_is_refused(ledger: Ledger, write_record: Write) -> None:
    path = write_record("gpu", GOOD, VERDICTS_OF_GOOD)
    moved = path.parent.parent / "default"
    path.parent.rename(moved)
    with pytest.raises(RecordError, match="this is the record of 'minrnn', profile 'gpu'"):
        read_record(moved / "results.json", ledger)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not valid JSON"), ("{}", "not a run record"), ("[]", "not a run")]
)
def test_a_malformed_record_is_refused(ledger: Ledger, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "minrnn" / "default" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        read_record(path, ledger)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_no_verdict_is_told_by_colour_alone() -> None:
    assert set(MARKS) == set(COLOURS) == set(VERDICTS)
    assert len(set(MARKS.values())) == len(VERDICTS)
    for background, ink in COLOURS.values():
        dark, light = sorted((luminance(background), luminance(ink)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_figure_has_a_cell_for_each_claim(ledger: Ledger, write_record: Write, tmp_path: Path) -> None:
    write_record("default", GOOD, VERDICTS_OF_GOOD)
    scores = scorecard({"minrnn": ledger}, tmp_path / "runs")
    fig = figure(scores)
    axes = fig.axes[0]
    texts = [text.get_text() for text in axes.texts]
    plt.close(fig)
    assert len(axes.patches) == 3 <= CELLS
    assert texts.count("→") == 1
    assert texts.count("–") == 2
    assert {"C1", "C2", "C3"} <= set(texts)
    assert "minrnn: 1 same direction, 2 not run" in alt_text(scores)
