"""A page is stamped without being executed only where smoke shows that nothing has changed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lib import fingerprint
from lib.publishing import execute, freshness, restamp
from lib.publishing.restamp import main

NOTEBOOK = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Title

# %% tags=["parameters"]
profile = "default"
out_dir = None
data = "auto"

# %%
import json
from pathlib import Path

from lib.sample.method import measure

metrics = measure(profile)
print("metrics:", ", ".join(sorted(metrics)))

# %%
record = {"slug": "sample", "profile": profile, "data_source": "generated", "metrics": metrics}
Path(out_dir, "results.json").write_text(json.dumps(record));
"""
METHOD = """import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from lib.shared import total


def in_worker(n):
    return total(range(n))


def measure(profile):
    steps = 3
    if profile == "default":
        steps = 5
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        value = pool.submit(in_worker, steps).result()
    return {"total": {"mean": value}, "speed": {"mean": time.perf_counter()}}
"""
SHARED = """def total(values):
    result = 0
    for value in values:
        result = result + value
    return result
"""


def at(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make ``folder`` the repository that the publishing modules work on."""
    for module in (fingerprint, freshness, execute, restamp):
        patch.setattr(module, "ROOT", folder)
    patch.setenv("PYTHONPATH", str(folder))
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        patch.setenv(name, "somebody")
    return folder


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one chapter, executed and committed."""
    folder = tmp_path_factory.mktemp("restamp") / "repository"
    for path in [*fingerprint.ROOT.glob("lib/*.py"), *fingerprint.ROOT.glob("lib/publishing/*.py")]:
        (folder / path.relative_to(fingerprint.ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.relative_to(fingerprint.ROOT))
    for name, text in {
        "lib/sample/__init__.py": "",
        "lib/sample/method.py": METHOD,
        "lib/shared.py": SHARED,
        "notebooks/sample.py": NOTEBOOK,
        ".gitignore": "__pycache__/\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        at(folder, patch)
        git(folder, "init", "--quiet")
        execute.execute("sample")
        commit(folder)
    return folder


@pytest.fixture
def root(executed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that repository, which a test may change."""
    return at(Path(shutil.copytree(executed, tmp_path / "repository")), monkeypatch)


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "a commit")
    return git(folder, "rev-parse", "HEAD").strip()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def record(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "book/runs/sample/default/results.json").read_text())
    return content


def stored_files(root: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for folder in ("notebooks", "book")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }


@pytest.mark.thorough
def test_equal_metrics_and_a_change_that_smoke_takes_are_stamped(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, ran = git(root, "rev-parse", "HEAD").strip(), record(root)
    edit(root / "lib/shared.py", "result = result + value", "result += value")
    edit(root / "notebooks/sample.py", "# # Title", "# # Another title")
    commit(root)
    assert not freshness.is_fresh("sample")
    assert main(["sample", "--check"]) == 0
    assert not freshness.is_fresh("sample")
    assert main(["sample"]) == 0
    assert freshness.is_fresh("sample")
    [stamp] = record(root).pop("restamped")
    assert stamp["base"] == base
    assert stamp["files"] == ["lib/shared.py"]
    assert stamp["key"] == fingerprint.content_hash("sample", "default")
    assert {name: value for name, value in record(root).items() if name != "restamped"} == ran
    said = capsys.readouterr().out
    assert "left out, since two runs of the same code differ: metric speed" in said
    assert "changed: lib/shared.py" in said
    assert git(root, "worktree", "list").count("\n") == 1

    # A second change is compared with the code of the first stamp.
    stamped = commit(root)
    edit(root / "lib/shared.py", "result = 0", "result = 0 * 1")
    assert main(["sample"]) == 0
    assert [stamp["base"] for stamp in record(root)["restamped"]] == [base, stamped]
    assert main(["sample"]) == 0
    assert capsys.readouterr().out.endswith("sample: fresh\n")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("lib/shared.py", "result = 0", "result = 1", "metric total has another value"),
        (
            "lib/sample/method.py",
            "steps = 5",
            "steps = 6",
            "lib/sample/method.py:15 (after): smoke does not execute it",
        ),
        ("lib/sample/method.py", '"speed"', '"rate"', "metric rate has another value"),
        ("notebooks/sample.py", 'print("metrics:"', 'print("names:"', "the code of its cells changed"),
        ("lib/sample/method.py", "import time\n", "import time\n1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_another_number_or_branch_is_not_stamped(
    root: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, words: str
) -> None:
    edit(root / file, old, new)
    files = stored_files(root)
    assert main(["sample", "--check"]) == 1
    assert words in capsys.readouterr().out
    assert stored_files(root) == files
    assert git(root, "worktree", "list").count("\n") == 1


def test_what_cannot_be_stamped_is_executed(root: Path) -> None:
    edit(root / "notebooks/sample.py", 'print("metrics:"', 'print("names:"')
    assert main(["sample"]) == 0
    assert freshness.is_fresh("sample")
    assert "restamped" not in record(root)


def test_a_kill_half_way_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(root / "lib/shared.py", "result = result + value", "result += value")
    files, run_notebook, runs = stored_files(root), restamp.run_notebook, []

    def killed(notebook: nbformat.NotebookNode, *arguments: Any) -> None:
        if runs:
            raise KeyboardInterrupt
        runs.append(1)
        run_notebook(notebook, *arguments)

    monkeypatch.setattr(restamp, "run_notebook", killed)
    with pytest.raises(KeyboardInterrupt):
        restamp.restamp("sample")
    assert stored_files(root) == files
    assert git(root, "worktree", "list").count("\n") == 1


@pytest.mark.thorough
def test_a_stamp_that_was_killed_between_its_two_files_is_named_and_made_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(root / "lib/shared.py", "result = result + value", "result += value")
    write_json = restamp.write_json

    def killed(path: Path, content: Any) -> None:
        write_json(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(restamp, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        restamp.restamp("sample")
    [fault] = freshness.faults("sample")
    assert freshness.HALF_STAMPED in fault
    monkeypatch.setattr(restamp, "write_json", write_json)
    assert restamp.restamp("sample")
    assert len(record(root)["restamped"]) == 1
    assert freshness.faults("sample") == []


def test_a_base_that_did_not_make_the_page_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(root / "lib/shared.py", "result = 0", "result = 2")
    later = commit(root)
    assert main(["sample", "--check", "--base", later]) == 1
    assert f"by its own code the stored page is stale in commit {later}" in capsys.readouterr().out
    assert main(["sample", "--check", "--base", "nothing"]) == 1
    assert "not stamped: git rev-parse" in capsys.readouterr().out


def test_an_edited_record_or_an_uncommitted_page_is_not_stamped(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(root / "lib/shared.py", "result = 0", "result = 2")
    execute.execute("sample")
    edit(root / "lib/shared.py", "result = 2", "result = 1 + 1")
    assert main(["sample", "--check"]) == 1
    assert "the stored page is not that of any commit" in capsys.readouterr().out
    edit(root / "book/runs/sample/default/results.json", '"generated"', '"real"')
    assert main(["sample", "--check"]) == 1
    assert "or the record was edited" in capsys.readouterr().out


def test_pieces_of_a_printed_text_are_one() -> None:
    def printed(*texts: str, name: str = "stdout") -> list[nbformat.NotebookNode]:
        return [nbformat.v4.new_output("stream", name=name, text=text) for text in texts]

    assert restamp.shown(printed("a\n", "b\n")) == restamp.shown(printed("a\nb\n"))
    assert restamp.shown(printed("a\n")) != restamp.shown(printed("b\n"))
    assert restamp.shown(printed("a") + printed("b", name="stderr")) != restamp.shown(printed("ab"))


def test_an_unknown_chapter_is_one_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sampel"]) == 1
    assert (
        capsys.readouterr().err
        == "chapter 'sampel' has no notebook; there are sample; did you mean 'sample'?\n"
    )
