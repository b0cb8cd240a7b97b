"""No test depends on the clock, except to end a hang."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.waiting import HANG

ROOT = Path(__file__).resolve().parent.parent
CLOCKS = {"perf_counter", "monotonic", "time", "process_time"}
FILES = [ROOT / "conftest.py", *sorted((ROOT / "tests").rglob("*.py"))]


def clocks(source: str) -> list[str]:
    """What in a test's source reads the clock, or limits a time to less than a hang takes."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if (
            called in CLOCKS
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "time"
        ):
            found.append(ast.unparse(node))
        for keyword in node.keywords:
            limit = getattr(keyword.value, "value", None)
            short = isinstance(limit, (int, float)) and limit < HANG
            if keyword.arg in ("timeout", "deadline") and short:
                found.append(f"{keyword.arg}={limit}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_reads_the_clock(path: Path) -> None:
    found = clocks(path.read_text(encoding="utf-8"))
    assert found == (["time.monotonic()"] * 2 if path.name == "waiting.py" else [])


def test_a_clock_is_seen() -> None:
    assert clocks("run(x, timeout=300)") == ["timeout=300"]
    assert clocks("time.perf_counter() - start < 1") == ["time.perf_counter()"]
    assert clocks("settings(deadline=200)") == ["deadline=200"]
    assert clocks(f"run(x, timeout={HANG})\nsettings(deadline=None)") == []


def test_limits_outside_the_tests_only_end_a_hang() -> None:
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check
    limits = re.findall(r"--nbval-cell-timeout=(\d+)", (ROOT / "Makefile").read_text())
    assert limits
    assert all(int(limit) >= HANG for limit in limits)
