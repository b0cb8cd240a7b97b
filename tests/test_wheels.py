"""What travels to a GPU machine: neither more than it lacks nor less than a run needs."""

from __future__ import annotations

import ast
import sys
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from lib.publishing import wheels
from lib.publishing.provenance import ROOT
from lib.publishing.wheels import WheelsError, check_sizes, lacking, pins, read_machine, slim

OPTIONAL = {"minari", "biotite", "tmtools", "RNA", "sumu"}
"""Imported where a setting asks for them, which no profile but ``paper`` does, or where they are there."""

PUBLISHING = {"jupyter_book", "sphinx", "docutils"}


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    return {name.split(".")[0] for name in names}


def test_what_a_run_imports_is_there_or_travels() -> None:
    machine = read_machine()
    files = [p for p in ROOT.glob("lib/**/*.py") if p.name != "wheels.py"] + list(ROOT.glob("notebooks/*.py"))
    names = (
        set().union(*(imported(path) for path in files))
        - sys.stdlib_module_names
        - {"lib"}
        - OPTIONAL
        - PUBLISHING
    )
    distributions = metadata.packages_distributions()
    have = machine.present | set(lacking(machine))
    missing = {n for n in names if not {canonicalize_name(d) for d in distributions.get(n, [n])} & have}
    assert missing == set()
    assert {"torch", "jupytext", "nbclient", "lightning"} <= names


def test_nothing_travels_that_is_there_and_everything_is_pinned() -> None:
    machine = read_machine()
    names = lacking(machine)
    assert not set(names) & machine.present
    assert {"papermill", "jupytext", "ipykernel", "pyzmq", "pydantic", "pydantic-core"} <= set(names)
    assert set(names) <= set(pins(machine))


def test_the_lock_is_read_for_the_other_python(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "# head\nA_b==1 ; python_full_version < '3.12'\nA_b==2 ; python_full_version >= '3.12'\nc==3 ; sys_platform == 'darwin'\n"
    )
    assert pins(read_machine(), lock) == {"a-b": "a-b==2"}


def test_a_package_that_is_not_installed_here_is_named() -> None:
    with pytest.raises(WheelsError, match="surely-absent is not installed here"):
        lacking(replace(read_machine(), needed=("surely_absent",)))


def test_a_slimmed_wheel_lists_what_it_holds(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    record = 'a/__init__.py,sha256=x,1\na/examples/big.txt,sha256=y,9\n"a/with,comma.py",,\na-1.dist-info/RECORD,,\n'
    content = {
        "a/__init__.py": "1",
        "a/examples/big.txt": "2" * 9,
        "a/with,comma.py": "",
        "a-1.dist-info/RECORD": record,
    }
    with zipfile.ZipFile(wheel, "w") as file:
        for name, text in content.items():
            file.writestr(name, text)
    slim(wheel, ["a/examples/"])
    with zipfile.ZipFile(wheel) as file:
        assert file.namelist() == ["a/__init__.py", "a/with,comma.py", "a-1.dist-info/RECORD"]
        kept = file.read("a-1.dist-info/RECORD").decode()
    assert kept == 'a/__init__.py,sha256=x,1\n"a/with,comma.py",,\na-1.dist-info/RECORD,,\n'
    before = wheel.read_bytes()
    slim(wheel, ["b/"])
    assert wheel.read_bytes() == before


def test_what_is_too_large_is_refused_with_the_sizes() -> None:
    machine = read_machine()
    check_sizes({"tree": 20, "data": 20, "wheels": 20}, machine)
    with pytest.raises(
        WheelsError, match=r"the wheels are larger than 20 MiB \(tree 1.0, data 1.0, wheels 20.1 MiB\)"
    ):
        check_sizes({"tree": 1, "data": 1, "wheels": 20.1}, machine)
    with pytest.raises(WheelsError, match="together"):
        check_sizes({"tree": 30, "data": 20, "wheels": 11}, machine)


def test_a_failed_collection_leaves_the_folder_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "wheels"
    target.mkdir()
    (target / "old.whl").touch()

    def offline(requirements: object, machine: object, folder: object) -> None:
        raise WheelsError("pip could not fetch the wheels: no network")

    monkeypatch.setattr(wheels, "download", offline)
    with pytest.raises(WheelsError, match="no network"):
        wheels.collect(target, read_machine())
    assert [p.name for p in tmp_path.rglob("*")] == ["wheels", "old.whl"]


def test_a_malformed_configuration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gpu.toml"
    for text in ("[machine", "[machine]\npython = '3.12'\n"):
        path.write_text(text)
        with pytest.raises(WheelsError, match=r"^gpu\.toml: "):
            read_machine(path)
