"""Whatever a ledger, a record or a benchmark says shows as text: no value makes a tag, an attribute, a block or a link."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markupsafe import Markup

from lib.claims import Ledger
from lib.datasets import DataFile
from lib.publishing import readme
from lib.publishing.pages import benchmarks, data_files, landing, papers
from lib.publishing.rendering import PageError
from lib.publishing.scorecard import PaperScore, RecordError, read_record, scorecard
from tests.book.conftest import make_claim, metric

HOSTILE = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "a | b || c",
    "`x` ``` ~~~",
    "x\n```\n<script>alert(1)</script>\n# heading\n\n- item",
    "x\r```\r# heading\u2028```\x0b```\x85```",
    "[link](javascript:alert(1)) ![i](x) <http://x.y> {cite:p}`x` $m$ **b** (t)=",
    "--> <!-- ]]> </td></tr></table></div> &lt;script&gt;",
    "- item",
    "{{ 7 * 7 }} {% raw %} {# x #}",
]
Write = Callable[..., Path]


class Structure(HTMLParser):
    """Tags in their order, each with the names of its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.found.append("comment")


def html_structure(markup: str) -> list[Any]:
    parser = Structure()
    parser.feed(markup)
    parser.close()
    return parser.found


def structure(page: str) -> list[Any]:
    """Blocks and inline marks of a Markdown page, and the tags of its raw HTML."""
    found: list[Any] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page):
        children = [child.type for child in token.children or [] if not child.type.startswith("text")]
        raw = token.content if token.type in ("fence", "html_block") else ""
        found.append((token.type, token.tag, token.info, children, html_structure(raw)))
    return found


def hostile_ledger(ledger: Ledger, text: str) -> Ledger:
    """Each text of a ledger followed by ``text``."""
    words = dict.fromkeys(("claim", "where", "needs", "falsified_when", "note"), f"x {text}")
    claim = make_claim(
        f"C1 {text}",
        "effect",
        reported={"value": 1.0, "text": f"x {text}", "provenance": f"x {text}"},
        measures={"default": f"x {text}"},
        judged_in=("default",),
        **words,
    )
    names = ("title", "authors", "version", "venue", "summary")
    return ledger.model_copy(update={"claims": (claim,), **dict.fromkeys(names, f"{text} x")})


def hostile_score(ledger: Ledger, text: str, root: Path) -> PaperScore:
    """A paper with one judged claim; every value of its record that is shown holds ``text``."""
    record = {
        "effect": {**metric(1.0, 0.5, 1.5), "unit": f"x {text}"},
        f"other {text}": metric(1.0, 0.5, 1.5),
    }
    made = hostile_ledger(ledger, text)
    path = root / "runs" / "minrnn" / "default" / "results.json"
    path.parent.mkdir(parents=True)
    fields = {
        **{"slug": "minrnn", "profile": "default", "seed": 0, "wall_time_s": 1.0, "data_source": f"x {text}"},
        **{"device": f"x {text}", "commit": f"{text}x", "overrides": {text: text}, "notices": [text]},
        **{"versions": {text: text}, "metrics": record, "verdicts": {f"C1 {text}": "same direction"}},
    }
    path.write_text(json.dumps(fields), encoding="utf-8")
    (score,) = scorecard({"minrnn": made}, root / "runs")
    # what a check refuses today must be escaped all the same
    seen = replace(score.records["default"], seed=f"x {text}")  # type: ignore[arg-type]
    row = replace(score.rows[0], record=seen, others=((f"x {text}", f"x {text}"),))  # type: ignore[arg-type]
    return replace(score, rows=(row,), records={"default": seen})


def pages_of(ledger: Ledger, text: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Every page that shows a value of a ledger, a record, a benchmark or the list of data files."""
    score = hostile_score(ledger, text, root)
    row = dict.fromkeys(("peer", "version", "shape", "what", "device", "dtype"), f"x {text}")
    numbers = {"ratio": 2.0, "low": 1.0, "high": 3.0, "bar": 1.0, "meets_bar": True}
    content = {"machine": {f"x {text}": f"x {text}"}, "rows": [{**row, **numbers}], "note": f"{text} x"}
    results = root / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "minrnn.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(papers, "scorecard_picture", lambda scores: Markup("<figure></figure>"))
    file = DataFile("https://example.org/x", "0" * 64, f"x {text}", f"x {text}", f"x {text}")
    monkeypatch.setattr(
        data_files, "chapter_files", lambda slug: {f"x {text}/y": file} if slug == "minrnn" else {}
    )
    return {
        "scorecard": papers.scorecard_page([score], root),
        "paper": papers.stub_page(score),
        "cards": landing.landing_cards([score], root),
        "legend": landing.legend([score]),
        "benchmarks": benchmarks.benchmarks_page({"minrnn": score.ledger}, root),
        "data": data_files.data_page(root),
        "readme": readme.chapters_table([score], root),
    }


@pytest.mark.parametrize("text", HOSTILE)
def test_no_value_changes_the_structure_of_a_page(
    text: str, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benign = pages_of(ledger, "words", tmp_path / "benign", monkeypatch)
    hostile = pages_of(ledger, text, tmp_path / "hostile", monkeypatch)
    for name, page in hostile.items():
        assert structure(page) == structure(benign[name]), name
        assert not re.search(r"(?<!\\)<script", page)
        assert "49" not in page.split("base64", 1)[0]  # 7 * 7: a value is no template


@pytest.mark.parametrize("name", ["$x", "$^$"])
def test_an_id_is_no_formula_in_the_scorecards_figure(name: str, ledger: Ledger, tmp_path: Path) -> None:
    (score,) = scorecard(
        {"minrnn": ledger.model_copy(update={"claims": (make_claim(name, "effect"),)})}, tmp_path
    )
    assert papers.scorecard_picture([score]).startswith("<figure")


@pytest.mark.parametrize("key", ["arxiv", "citation"])
@pytest.mark.parametrize("text", HOSTILE)
def test_what_cannot_be_escaped_is_refused(key: str, text: str, ledger: Ledger) -> None:
    with pytest.raises(PageError) as caught:
        papers.paper_facts(ledger.model_copy(update={key: text}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "<script>alert(1)</script>"),
        ("seed", True),
        ("wall_time_s", "1"),
        ("wall_time_s", 10**400),
        ("commit", 7),
        ("device", ["x"]),
        ("data_source", None),
    ],
)
def test_a_record_with_a_value_of_another_type_is_refused(
    key: str, value: object, ledger: Ledger, write_record: Write
) -> None:
    verdicts = {"C1": "same direction", "C2": "not run", "C3": "not run"}
    path = write_record("default", {"effect": metric(1.0, 0.5, 1.5)}, verdicts, **{key: value})
    with pytest.raises(RecordError, match="not a run record") as caught:
        read_record(path, ledger)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe{}", "not UTF-8"), (b"[" * 100_000, "nested deeper"), (b"{", "not valid JSON")],
    ids=["encoding", "nested", "cut off"],
)
def test_what_is_no_json_is_one_line(content: bytes, message: str, ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "minrnn" / "default" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(RecordError, match=message) as record:
        read_record(path, ledger)
    with pytest.raises(PageError, match=message) as benchmark:
        benchmarks.read_benchmark(path)
    assert "\n" not in f"{record.value}{benchmark.value}"
