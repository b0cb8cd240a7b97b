"""The README's generated parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.claims import Ledger, ledgers
from lib.publishing import readme
from lib.publishing.readme import ReadmeError
from lib.publishing.scorecard import PaperScore, scorecard

TEXT = "\n".join(f"{readme.BEGIN.format(n)}\n{readme.END.format(n)}" for n in ("scorecard", "chapters"))


@pytest.fixture
def scores(ledger: Ledger, tmp_path: Path) -> list[PaperScore]:
    return scorecard({"minrnn": ledger}, tmp_path / "no-runs")


def test_the_readme_is_up_to_date() -> None:
    readme.check(scorecard(ledgers()))


def test_a_stale_table_and_a_stale_picture_are_noticed(scores: list[PaperScore], tmp_path: Path) -> None:
    text, picture = tmp_path / "README.md", tmp_path / "scorecard.png"
    text.write_text(TEXT, encoding="utf-8")
    with pytest.raises(ReadmeError, match=r"README.md no longer follows"):
        readme.check(scores, text, picture, tmp_path)
    text.write_text(readme.updated(TEXT, scores, tmp_path), encoding="utf-8")
    with pytest.raises(ReadmeError, match=r"scorecard.png no longer follows"):
        readme.check(scores, text, picture, tmp_path)
    readme.write_picture(scores, picture)
    readme.check(scores, text, picture, tmp_path)
    text.write_text(text.read_text(encoding="utf-8").replace("3 not run", "3 reproduced"), encoding="utf-8")
    with pytest.raises(ReadmeError, match=r"README.md no longer follows"):
        readme.check(scores, text, picture, tmp_path)


def test_making_it_twice_changes_nothing(scores: list[PaperScore], tmp_path: Path) -> None:
    once = readme.updated(TEXT, scores, tmp_path)
    assert readme.updated(once, scores, tmp_path) == once
    assert "A \\<b\\>title" in once
    assert "| 3 not run |" in once


@pytest.mark.parametrize("text", ["", TEXT + TEXT, TEXT.replace(readme.END.format("chapters"), "")])
def test_missing_or_repeated_markers_are_refused(scores: list[PaperScore], text: str) -> None:
    with pytest.raises(ReadmeError, match="markers of the part"):
        readme.updated(text, scores)


def test_the_command_checks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stale = tmp_path / "README.md"
    stale.write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(readme.check, "__defaults__", (stale, readme.PICTURE, readme.ROOT))
    assert readme.main(["--check"]) == 1
    assert capsys.readouterr().err.strip().count("\n") == 0
