"""Pytest at the repository's root: notebooks whose real data is out of reach are skipped, with the way to get it."""

from __future__ import annotations

import ast
import os
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent

# nbval starts kernels from this process: no progress bars in what it compares.
os.environ["PAPERS_PROGRESS"] = "0"


@cache
def data_files(slug: str) -> tuple[str, ...]:
    """Names of the registry's files that a chapter uses, by the string constants in its source and its package."""
    from lib.datasets import REGISTRY

    sources = [ROOT / "notebooks" / f"{slug}.py", *(ROOT / "lib" / slug).glob("*.py")]
    constants = {
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return tuple(name for name in REGISTRY if name in constants or name.split("/")[1] in constants)


@cache
def missing_data(slug: str) -> str:
    """Why the chapter's stored outputs cannot be compared here; empty if they can."""
    from lib.datasets import MIRROR_VARIABLE, reachable

    if reachable(data_files(slug)):
        return ""
    return f"the real data of {slug} is in neither ${MIRROR_VARIABLE} nor the cache nor reachable: run 'make data'"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.suffix == ".ipynb" and item.path.parent == ROOT / "notebooks":
            reason = missing_data(item.path.stem)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
