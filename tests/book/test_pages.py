"""Generated pages: escaping, places of the ten papers, cards, benchmarks, modules."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from lib.claims import Ledger, ledgers
from lib.datasets import DataFile
from lib.publishing import rendering
from lib.publishing.pages import benchmarks, committed, data_files, landing, papers, places, reference
from lib.publishing.rendering import PageError
from lib.publishing.scorecard import CHAPTERS, ROOT, scorecard
from tests.book.conftest import metric

Write = Callable[..., Path]


def tree(root: Path) -> None:
    for folder in ("notebooks", "book/papers", "book/runs", "benchmarks/results"):
        (root / folder).mkdir(parents=True)


def notebook(path: Path, outputs: str, tags: list[str]) -> None:
    cell = nbformat.v4.new_code_cell("show(fig)", metadata={"tags": tags})
    cell.outputs = [nbformat.v4.new_output("display_data", data={"text/html": outputs})]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)


def png(width: int = 900, height: int = 500) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "#0173b2").save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1).filter(str.strip))
def test_escaped_text_shows_as_it_is(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(rendering.escape_markdown(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    children = tokens[1].children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == " ".join(text.split())


def test_what_a_ledger_says_is_escaped(ledger: Ledger, tmp_path: Path) -> None:
    (score,) = scorecard({"minrnn": ledger}, tmp_path)
    table = papers.claims_table(score)
    assert "<script>" not in table
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &quot;quotes&quot;" in table
    page = papers.stub_page(score)
    assert "\\- A summary with \\`ticks\\` and \\$x\\$." in page
    assert committed.stub(ledger).startswith("# A \\<b\\>title\\</b\\> with \\*stars\\* \\| bars\n")


def test_a_device_name_is_escaped(ledger: Ledger, write_record: Write, tmp_path: Path) -> None:
    write_record(
        "default",
        {"effect": metric(1.0, 0.5, 1.5)},
        {"C1": "same direction", "C2": "not run", "C3": "not run"},
    )
    (score,) = scorecard({"minrnn": ledger}, tmp_path / "runs")
    assert "CPU &lt;model&gt;" in papers.runs_table(score)


def test_a_raw_block_cannot_be_left(ledger: Ledger) -> None:
    block = rendering.raw_html(Markup("<p>a\n```\n{include} x\n```</p>"))
    assert block.count("\n") == 2
    assert block.splitlines()[2] == "```"


def test_an_arxiv_number_that_is_none_is_refused(ledger: Ledger) -> None:
    with pytest.raises(PageError, match="is not an arXiv number"):
        papers.paper_facts(ledger.model_copy(update={"arxiv": "x](javascript:y)"}))


def test_a_claim_that_was_not_measured_shows_no_number(
    ledger: Ledger, write_record: Write, tmp_path: Path
) -> None:
    write_record(
        "default",
        {"effect": metric(0.8125, 0.8125, 0.8125), "large": metric(0.4375, 0.4375, 0.4375)},
        {"C1": "same direction", "C2": "not run", "C3": "not run"},
    )
    (score,) = scorecard({"minrnn": ledger}, tmp_path / "runs")
    table = papers.claims_table(score)
    assert "0.812" in table
    assert "0.43" not in table


# ---------------------------------------------------------------- places of the papers


def files_of(toc: str) -> list[str]:
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.extend(value for key, value in node.items() if key == "file")
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(yaml.safe_load(toc))
    return found


def test_every_paper_has_its_place_in_the_table_of_contents() -> None:
    files = files_of((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    for slug in ledgers():
        assert places.chapter_document(slug) in files
    for file in files:
        assert any((ROOT / f"{file}{suffix}").is_file() for suffix in (".md", ".ipynb")), file


def test_committed_pages_follow_from_ledgers_and_notebooks() -> None:
    committed.check_committed()


def test_every_package_has_its_page_of_the_reference() -> None:
    files = files_of((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    for package in [ROOT / "lib", *(path.parent for path in (ROOT / "lib").glob("*/__init__.py"))]:
        assert "book/api/" + ".".join(package.relative_to(ROOT).parts) in files


def test_a_stub_gives_way_to_its_notebook(ledger: Ledger, tmp_path: Path) -> None:
    tree(tmp_path)
    ledgers_here = {"minrnn": ledger}
    committed.sync_committed(ledgers_here, tmp_path)
    stub = tmp_path / "book" / "papers" / "minrnn.md"
    assert stub.is_file()
    assert "book/papers/minrnn" in files_of((tmp_path / "_toc.yml").read_text())
    committed.check_committed(ledgers_here, tmp_path)

    notebook(tmp_path / "notebooks" / "minrnn.ipynb", "", [])
    with pytest.raises(PageError, match=r"_toc.yml no longer follows"):
        committed.check_committed(ledgers_here, tmp_path)
    assert set(committed.sync_committed(ledgers_here, tmp_path)) == {"_toc.yml", "book/papers/minrnn.md"}
    files = files_of((tmp_path / "_toc.yml").read_text())
    assert "notebooks/minrnn" in files
    assert "book/papers/minrnn" not in files
    assert not stub.exists()
    assert committed.sync_committed(ledgers_here, tmp_path) == []


def test_a_larger_run_becomes_a_page_below_its_chapter(ledger: Ledger, tmp_path: Path) -> None:
    tree(tmp_path)
    run = tmp_path / "book" / "runs" / "minrnn" / "gpu"
    run.mkdir(parents=True)
    notebook(tmp_path / "notebooks" / "minrnn.ipynb", "", [])
    notebook(run / "minrnn.ipynb", "", [])
    chapters = yaml.safe_load(committed.toc(["minrnn"], tmp_path))["parts"][1]["chapters"]
    assert chapters == [{"file": "notebooks/minrnn", "sections": [{"file": "book/runs/minrnn/gpu/minrnn"}]}]


# ---------------------------------------------------------------- cards


def test_the_card_shows_the_tagged_figure(ledger: Ledger, tmp_path: Path) -> None:
    tree(tmp_path)
    picture = f'<figure><img alt="a &lt; b" src="data:image/png;base64,{png()}"/></figure>'
    notebook(tmp_path / "notebooks" / "minrnn.ipynb", picture, ["card"])
    shown = landing.card_picture(tmp_path / "notebooks" / "minrnn.ipynb")
    image = Image.open(io.BytesIO(base64.b64decode(shown.source.split(",", 1)[1])))
    assert image.width <= landing.CARD_SIZE[0]
    assert image.height <= landing.CARD_SIZE[1]
    assert image.convert("RGB").getpixel((5, 5)) == (1, 115, 178)
    assert shown.alt == "a < b"
    (score,) = scorecard({"minrnn": ledger}, tmp_path)
    card = landing.card(score, tmp_path)
    assert 'href="../notebooks/minrnn.html"' in card
    assert 'alt="a &lt; b"' in card
    assert "not run yet" not in card


@pytest.mark.parametrize(
    ("tags", "message"), [([], "no cell is tagged 'card'"), (["card"], "shows no figure")]
)
def test_a_chapter_without_a_picture_is_refused(tmp_path: Path, tags: list[str], message: str) -> None:
    path = tmp_path / "minrnn.ipynb"
    notebook(path, "<p>text</p>", tags)
    with pytest.raises(PageError, match=message):
        landing.card_picture(path)


def test_a_paper_without_a_chapter_says_so(ledger: Ledger, tmp_path: Path) -> None:
    tree(tmp_path)
    (score,) = scorecard({"minrnn": ledger}, tmp_path / "book" / "runs")
    card = landing.card(score, tmp_path)
    assert "not run yet" in card
    assert "<img" not in card
    assert 'aria-label="3 not run"' in card
    assert "This chapter is not written yet" in papers.stub_page(score)


# ---------------------------------------------------------------- benchmarks


ROW = {
    "peer": "peer <x>",
    "version": "1.0",
    "shape": "(1, 2)",
    "ratio": 0.5,
    "low": 0.4,
    "high": 0.6,
    "bar": 3.0,
    "meets_bar": False,
}


def write_benchmark(root: Path, slug: str, content: object) -> None:
    (root / "benchmarks" / "results" / f"{slug}.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_missed_bar_is_shown_as_missed(ledger: Ledger, tmp_path: Path) -> None:
    tree(tmp_path)
    write_benchmark(
        tmp_path, "minrnn", {"machine": {"cpu": "a CPU"}, "rows": [ROW, ROW | {"meets_bar": True}]}
    )
    page = benchmarks.benchmarks_page({"minrnn": ledger}, tmp_path)
    assert page.count("✗ missed") == 1
    assert page.count("✓ met") == 1
    assert "peer &lt;x&gt;" in page
    assert "0.5 [0.4, 0.6]" in page


def test_rows_from_a_gpu_stand_beside_those_from_a_cpu(ledger: Ledger, tmp_path: Path) -> None:
    tree(tmp_path)
    for name, machine in (("minrnn", "a CPU"), ("minrnn.gpu", "a GPU")):
        content = {"machine": machine, "rows": [], "note": f"Note on {machine}."}
        (tmp_path / "benchmarks" / "results" / f"{name}.json").write_text(json.dumps(content))
    page = benchmarks.benchmarks_page({"minrnn": ledger}, tmp_path)
    assert page.count("(benchmark-minrnn)=") == 1
    assert page.index("Machine: a CPU") < page.index("Note on a CPU") < page.index("Machine: a GPU")
    assert "`python benchmarks/minrnn.py --gpu-rows`" in page
    (tmp_path / "benchmarks" / "results" / "nobody.gpu.json").write_text("{}")
    with pytest.raises(PageError, match=r"nobody\.gpu\.json: no chapter has this name"):
        benchmarks.benchmarks_page({"minrnn": ledger}, tmp_path)


def test_no_results_say_so(ledger: Ledger, tmp_path: Path) -> None:
    tree(tmp_path)
    assert benchmarks.benchmarks_page({"minrnn": ledger}, tmp_path) == "No benchmark has been run yet."


@pytest.mark.parametrize(
    ("slug", "content", "message"),
    [
        ("other", {"machine": "m", "rows": []}, "no chapter has this name"),
        ("minrnn", {"rows": []}, "needs the keys"),
        ("minrnn", {"machine": "m", "rows": [{"peer": "p"}]}, "row 1 lacks version, shape"),
        ("minrnn", {"machine": "m", "rows": [ROW, "x"]}, "row 2 is no mapping"),
        ("minrnn", {"machine": "m", "rows": [ROW | {"low": "<b>"}]}, "row 1: low is '<b>', no number"),
        ("minrnn", {"machine": "m", "rows": [ROW | {"bar": 10**400}]}, "row 1: bar is '10000"),
        ("minrnn", {"machine": "m", "rows": [ROW | {"meets_bar": [1]}]}, "meets_bar is true, false or null"),
    ],
)
def test_malformed_results_are_refused(
    ledger: Ledger, tmp_path: Path, slug: str, content: object, message: str
) -> None:
    tree(tmp_path)
    write_benchmark(tmp_path, slug, content)
    with pytest.raises(PageError, match=message):
        benchmarks.benchmarks_page({"minrnn": ledger}, tmp_path)


# ---------------------------------------------------------------- the rest


def test_new_modules_appear_in_the_reference() -> None:
    listed = "".join(reference.reference_page(names) for names in reference.modules().values())
    for path in (ROOT / "lib").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            assert f".. automodule:: {name}\n" in listed, name


def test_packages_below_a_package_belong_to_its_page(tmp_path: Path) -> None:
    for name in (
        "shared",
        "a/__init__",
        "a/idea",
        "a/experiments/__init__",
        "a/experiments/copying",
        "a/__main__",
    ):
        (tmp_path / "lib" / name).with_suffix(".py").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib" / name).with_suffix(".py").write_text("")
    assert reference.modules(tmp_path) == {
        "lib": ["lib.shared"],
        "lib.a": ["lib.a", "lib.a.experiments", "lib.a.experiments.copying", "lib.a.idea"],
    }


def test_unchanged_pages_keep_their_time(tmp_path: Path) -> None:
    path = tmp_path / "a" / "page.md"
    assert committed.write_if_changed(path, "x")
    before = path.stat().st_mtime_ns
    assert not committed.write_if_changed(path, "x")
    assert path.stat().st_mtime_ns == before
    assert committed.write_if_changed(path, "y")
    assert [p.name for p in path.parent.iterdir()] == ["page.md"]


def test_every_paper_is_cited() -> None:
    bibliography = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    for slug in CHAPTERS:
        key = ledgers()[slug].citation
        assert f"{{{key}," in bibliography, f"book/claims/{slug}.yml cites {key}, which references.bib lacks"


def test_the_data_page_says_how_each_file_is_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    public = DataFile("https://example.org/x", "0" * 64, "CC0 <1.0>", "nobody", "here")
    mirror = DataFile(None, "1" * 64, "none stated", "nobody", "a pickle")
    files = {"minrnn": {"set/x": public, "set/y": public, "set/z": mirror, "other/x": mirror}}
    monkeypatch.setattr(data_files, "chapter_files", lambda slug: files.get(slug, {}))
    page = data_files.data_page(tmp_path)
    assert page.count("<tr>") == 3  # head, set/, other/
    assert "2: make data<br>1: mirror only" in page
    assert "CC0 &lt;1.0&gt;<br>none stated" in page
    assert "<summary>2 sources</summary>here<br>a pickle" in page
    assert 'href="papers/minrnn.html"' in page
