"""When a build may go on from the last one, and when it begins from nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib.publishing import build


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a book that has been built once, to its end."""
    for name in ("_config.yml", "_toc.yml", "book/_ext/extension.py", "book/_static/style.css"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("first")
    assert begin(tmp_path)
    fill(tmp_path)
    finish(tmp_path)
    return tmp_path


BUILT = (
    "_build/html/page.html",
    "_build/.doctrees/page.doctree",
    "_build/jupyter_execute/picture.png",
    "book/generated/page.md",
)


def begin(root: Path) -> bool:
    return build.begin(root / "_build/.doctrees", root / "_build/html", root)


def fill(root: Path) -> None:
    for name in BUILT:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("built")


def finish(root: Path) -> None:
    """What the Makefile does after a build without a fault."""
    (root / "_build/.doctrees" / build.UNDER_WAY).replace(root / "_build/.doctrees" / build.COMPLETE)


def there(root: Path) -> list[str]:
    return [name for name in BUILT if (root / name).is_file()]


def test_a_build_goes_on_from_a_whole_one(root: Path) -> None:
    assert not begin(root)
    assert there(root) == list(BUILT)


def test_after_a_build_that_was_killed_or_failed_everything_is_built_from_nothing(root: Path) -> None:
    begin(root)  # and never finished
    assert begin(root)
    assert there(root) == []
    fill(root)
    finish(root)
    assert not begin(root)


@pytest.mark.parametrize(
    "change",
    [
        lambda root, patch: (root / "_config.yml").write_text("second"),
        lambda root, patch: (root / "_toc.yml").write_text("second"),
        lambda root, patch: (root / "book/_ext/extension.py").write_text("second"),
        lambda root, patch: (root / "book/_static/style.css").write_text("second"),
        lambda root, patch: (root / "book/_ext/another.py").write_text("new"),
        lambda root, patch: patch.setattr(build, "distributions", list),
        lambda root, patch: patch.setattr(build.sys, "version", "3.99"),
        lambda root, patch: (root / "_build/.doctrees" / build.COMPLETE).write_text("of an older release"),
    ],
)
def test_another_environment_builds_from_nothing(
    root: Path, change: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(root, monkeypatch)  # type: ignore[operator]
    assert begin(root)
    assert there(root) == []


def test_a_folder_that_is_not_the_builds_own_is_not_removed(tmp_path: Path) -> None:
    mine = tmp_path / "public" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert build.begin(tmp_path / "trees", tmp_path / "public", tmp_path)
    assert mine.read_text() == "mine"
