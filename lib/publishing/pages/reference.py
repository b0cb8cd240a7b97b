"""The pages of the reference: every public name of ``lib``, from the docstrings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lib.publishing.rendering import render
from lib.publishing.scorecard import ROOT


def modules(root: Path = ROOT) -> dict[str, list[str]]:
    """Modules of ``lib`` by group: the shared ones under ``lib``, then one group for each package with what is below it."""
    groups = {"lib": [f"lib.{p.stem}" for p in sorted((root / "lib").glob("*.py")) if p.stem != "__init__"]}
    for package in sorted(p.parent for p in (root / "lib").glob("*/__init__.py")):
        names = [_name(path, root) for path in package.rglob("*.py") if path.stem != "__main__"]
        groups[f"lib.{package.name}"] = sorted(names)
    return groups


def _name(path: Path, root: Path) -> str:
    """The name by which the module in ``path`` is imported."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def reference_page(names: Iterable[str]) -> str:
    """The reference of one group: every public name of its modules."""
    return render("reference.md", modules=list(names))


def reference_stub(group: str) -> str:
    """The committed page that includes the reference of one group."""
    return render("reference_stub.md", group=group)
