"""What of a change a run has shown: comments mark the lines that the run of a test is said not to have taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lib.publishing.code_changes import Trace, changes

METHOD = """\
from lib.shared import SIZE, scale

LIMIT = 3


def run(n, start=0):
    total = start
    if n > LIMIT:
        total += SIZE  # untaken
    for k in range(n):
        total += scale(k)
    return total


class Model:
    rate = 0.5

    def step(self, x):
        return self.rate * x

    def rare(self, x):
        return x + self.rate  # untaken
"""
SHARED = """\
import math

SIZE = 4
TABLE = {"a": 1, "b": 2}


def scale(x):
    return 2 * x


def unused(x):
    return math.sqrt(x)  # untaken
"""
NOTEBOOK = "# %%\nfrom lib.sample.method import Model, run\n\n# %%\nprint(run(2), Model().step(1.0))\n"


def repository(root: Path, method: str = METHOD, shared: str = SHARED, **files: str) -> Path:
    texts = {"lib/__init__.py": "", "lib/sample/__init__.py": "", "lib/sample/method.py": method}
    texts |= {"lib/shared.py": shared, "notebooks/sample.py": NOTEBOOK}
    texts |= {f"lib/{name.replace('__', '/')}": text for name, text in files.items()}
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def traced(root: Path) -> Trace:
    """All lines but those marked as not taken; each condition has gone both ways but where it is marked."""
    trace = Trace()
    for path in root.rglob("lib/**/*.py"):
        name, lines = path.relative_to(root).as_posix(), path.read_text().splitlines()
        trace.lines[name] = {n for n, line in enumerate(lines, 1) if line and "# untaken" not in line}
        steps = {(n, n + 1) for n in trace.lines[name]}
        steps |= {(n, n + 2) for n in trace.lines[name] if "# one way" not in lines[n - 1]}
        trace.steps[name] = steps
    return trace


def unshown(tmp_path: Path, method: str = METHOD, shared: str = SHARED, old: str = METHOD) -> list[str]:
    before = repository(tmp_path / "before", old)
    after = repository(tmp_path / "after", method, shared)
    return changes("sample", before, after).unshown(traced(before), traced(after))


def edit(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


MOVED = re.search(r"def scale.*?x\n", SHARED, re.DOTALL)[0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("method", "shared"),
    [
        (edit(METHOD, "    for k", "    # a comment\n\n    for k"), SHARED),
        (edit(METHOD, "return total", "return (\n        total\n    )"), SHARED),
        (METHOD, edit(SHARED, "def unused(x):", 'def unused(x):\n    """Why."""')),
        (edit(METHOD, "range(n)", "range(0, n)"), SHARED),
        (edit(METHOD, "if n > LIMIT", "if n >= LIMIT"), SHARED),
        (edit(METHOD, "LIMIT = 3", "LIMIT = 5"), SHARED),
        (METHOD, edit(SHARED, "2 * x", "x * 2")),
        (edit(METHOD, "    return total", "    total = total * 1\n    return total"), SHARED),
        (
            edit(METHOD, "from lib.shared import SIZE, scale", "from lib.shared import SIZE\n\n\n" + MOVED),
            edit(SHARED, MOVED, ""),
        ),
        (METHOD, edit(SHARED, MOVED, "") + "\n\n" + MOVED),
        (METHOD, edit(edit(SHARED, "import math\n\n", ""), "SIZE = 4\n", "SIZE = 4\nimport math\n")),
        (METHOD, SHARED + '\n\nif __name__ == "__main__":\n    print("never in a notebook")  # untaken\n'),
    ],
    ids=[
        "comment",
        "layout",
        "docstring",
        "loop",
        "condition",
        "constant",
        "operator",
        "new",
        "moved",
        "order",
        "imports",
        "main",
    ],
)
def test_a_change_that_smoke_shows(tmp_path: Path, method: str, shared: str) -> None:
    assert unshown(tmp_path, method, shared) == []


@pytest.mark.parametrize(
    ("method", "shared", "place"),
    [
        (edit(METHOD, "total += SIZE", "total -= SIZE"), SHARED, r"lib/sample/method.py:9 \(before\)"),
        (METHOD, edit(SHARED, "math.sqrt(x)", "math.exp(x)"), r"lib/shared.py:12 \(after\)"),
        (
            edit(METHOD, "n > LIMIT:", "n > LIMIT + 1:  # one way"),
            SHARED,
            r"method.py:8 \(after\): smoke takes one branch only",
        ),
        (
            METHOD,
            edit(SHARED, "SIZE = 4", "SIZE = 5"),
            r"lib/shared.py:3 .* is read at lib/sample/method.py:9",
        ),
        (
            edit(METHOD, "rate = 0.5", "rate = 0.25"),
            SHARED,
            r"method.py:16 .* is read at lib/sample/method.py:22",
        ),
        (
            edit(METHOD, "def rare(self, x)", "def rare(self, x, y=1)"),
            SHARED,
            r"method.py:21 \(after\): smoke does not call it",
        ),
        (METHOD, edit(SHARED, '"b": 2', '"b": 3'), r"lib/shared.py:4 .* cannot be measured by lines"),
        (
            edit(METHOD, "return total", "return total if n else 0"),
            SHARED,
            r"method.py:12 \(after\): .* cannot be measured",
        ),
        (
            edit(METHOD, "        total += SIZE  # untaken\n", "        pass  # untaken\n"),
            SHARED,
            r"method.py:9 \(before\)",
        ),
        (
            METHOD,
            edit(SHARED, "def unused(x):\n    return math.sqrt(x)  # untaken\n", ""),
            r"lib/shared.py:12 \(before\)",
        ),
        (
            METHOD,
            SHARED + "\n\ndef added():\n    return 1  # untaken\n",
            r"lib/shared.py:16 \(after\): smoke does not execute it",
        ),
        (
            METHOD,
            edit(SHARED, "import math", "import cmath as math"),
            r"lib/shared.py:1 .* is read at lib/shared.py:12",
        ),
        (
            edit(
                METHOD,
                "    if n > LIMIT:\n        total",
                "    if n > LIMIT:\n        n = 1  # untaken\n        total",
            ),
            SHARED,
            r"method.py:9 \(after\)",
        ),
        (edit(METHOD, "start=0", "start=1"), SHARED, None),
    ],
    ids=[
        *("branch", "function", "one way", "constant", "field", "signature", "mapping"),
        *("conditional", "removed", "gone", "added", "import", "inserted", "default"),
    ],
)
def test_a_change_that_it_does_not_show_names_file_and_line(
    tmp_path: Path, method: str, shared: str, place: str | None
) -> None:
    found = unshown(tmp_path, method, shared)
    if place is None:  # a default is shown where everything that calls the function was executed
        assert found == []
        return
    assert any(re.search(place, line) for line in found), found


def test_a_constant_counts_through_another_one(tmp_path: Path) -> None:
    shared = edit(SHARED, "SIZE = 4", "BASE = 2\nSIZE = 2 * BASE")
    before = repository(tmp_path / "before", shared=shared)
    after = repository(tmp_path / "after", shared=edit(shared, "BASE = 2\n", "BASE = 3\n"))
    assert changes("sample", before, after).unshown(traced(before), traced(after)) == [
        f"lib/shared.py:3 ({version}): what it binds is read at lib/sample/method.py:9, which smoke does not show"
        for version in ("before", "after")
    ]


def test_a_cell_that_reads_a_constant_inside_a_branch_is_not_shown(tmp_path: Path) -> None:
    before, after = (
        repository(tmp_path / "before"),
        repository(tmp_path / "after", edit(METHOD, "LIMIT = 3", "LIMIT = 5")),
    )
    for root in (before, after):
        (root / "notebooks/sample.py").write_text(
            NOTEBOOK + "\n# %%\nif run(2) > 9:\n    print(method.LIMIT)\n"
        )
    found = changes("sample", before, after).unshown(traced(before), traced(after))
    assert any("notebooks/sample.py, code cell 3" in line for line in found)


def test_compiled_code_counts_as_not_taken(tmp_path: Path) -> None:
    compiled = METHOD.replace("def run(n, start=0):", "@numba.njit\ndef run(n, start=0):")
    before = repository(tmp_path / "before", compiled)
    after = repository(tmp_path / "after", edit(compiled, "total = start", "total = 1 * start"))
    traces = [traced(root) for root in (before, after)]
    for trace in traces:
        trace.lines["lib/sample/method.py"] -= set(range(8, 14))  # what the interpreter never executes
    assert any(
        "smoke does not execute it" in line for line in changes("sample", before, after).unshown(*traces)
    )


def test_data_of_a_package_that_changed_is_never_shown(tmp_path: Path) -> None:
    before = repository(tmp_path / "before", sample__table="1\n")
    after = repository(tmp_path / "after", sample__table="2\n")
    found = changes("sample", before, after)
    assert found.files == found.data == ["lib/sample/table"]
    assert found.unshown(traced(before), traced(after)) == [
        "lib/sample/table: not Python, and what a run reads of it cannot be measured"
    ]
