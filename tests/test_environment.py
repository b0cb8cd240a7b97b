"""One dependency set: pyproject names it, the lock file pins it, make and conda install the lock file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from lib.fingerprint import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = [
    line
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


def name(requirement: str) -> str:
    """The normalised project name of a requirement line."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~ ;\[]", requirement, maxsplit=1)[0]).lower()


def test_torch_is_pinned_exactly_and_nothing_pins_its_gpu_libraries() -> None:
    assert "torch==2.13.0" in PROJECT["dependencies"]
    assert [line for line in LOCK if name(line) == "torch"] == ["torch==2.13.0"]
    assert not [line for line in LOCK if name(line).startswith(("nvidia-", "cuda-"))]


def test_every_line_of_the_lock_is_an_exact_pin() -> None:
    loose = [line for line in LOCK if not re.match(r"^[A-Za-z0-9._\[\]-]+==[^ ;]+( ; .+)?$", line)]
    assert loose == []


@pytest.mark.parametrize("requirement", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]])
def test_the_lock_holds_every_direct_dependency(requirement: str) -> None:
    assert name(requirement) in {name(line) for line in LOCK}


def test_every_file_that_is_no_code_is_installed_with_its_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    for path in (ROOT / "lib").rglob("*"):
        if not path.is_file() or "__pycache__" in path.parts or path.suffix in (".py", ".pyc"):
            continue
        package = next(folder for folder in path.parents if (folder / "__init__.py").is_file())
        name, inside = ".".join(package.relative_to(ROOT).parts), path.relative_to(package)
        assert any(inside.match(p) for p in [*patterns["*"], *patterns.get(name, [])]), f"{name}: {inside}"


def test_conda_installs_the_same_lock_file() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    [pip] = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    others = {name(item) for item in environment["dependencies"] if isinstance(item, str)}
    assert others == {"python", "pip", "make"}  # no second list of packages that could drift
    assert environment["name"] in (ROOT / "Makefile").read_text()


VERSIONS = ("3.11", "3.12", "3.13")


def test_everything_names_the_same_range_of_pythons() -> None:
    first, last = VERSIONS[0], VERSIONS[-1]
    below = f"3.{int(last.split('.')[1]) + 1}"
    assert PROJECT["requires-python"] == f">={first},<{below}"
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert f"python>={first},<{below}" in environment["dependencies"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == list(VERSIONS)
    for file in ("README.md", "book/contributing.md", "requirements.lock"):
        text = (ROOT / file).read_text()
        assert f"Python {first} to {last}" in text, file
        assert not re.search(r"3\.\d+ or newer|Python >=", text), file
    assert f"RANGE := {first} to {last}" in (ROOT / "Makefile").read_text()


def test_the_readme_names_what_has_to_be_there() -> None:
    text = (ROOT / "README.md").read_text()
    assert "`make`" in text
    assert "`python3-venv`" in text


def fake_python(path: Path, version: tuple[int, int]) -> Path:
    """A program that says it is another version of Python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo Python {version[0]}.{version[1]}.0 && exit\n'
        f'[ "$1" = -m ] && echo called: "$@" && exit 1\n'
        f"exec {sys.executable} -c 'import sys; sys.version_info = {(*version, 0)}; exec(sys.argv[1])' \"$2\"\n"
    )
    path.chmod(0o755)
    return path


def make_environment(folder: Path, python: Path | str) -> str:
    """The output of the first step of ``make book`` in a folder with another interpreter; the step has to fail."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    variables = {name: value for name, value in os.environ.items() if name != "CONDA_DEFAULT_ENV"}
    command = ["make", "-s", ".venv/installed", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode != 0
    return done.stdout.strip()


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7), (4, 0)])
def test_a_python_out_of_range_is_one_line(tmp_path: Path, version: tuple[int, int]) -> None:
    python = fake_python(tmp_path / "python", version)
    name = f"Python {version[0]}.{version[1]}"
    assert make_environment(tmp_path, python) == (
        f"Python 3.11 to 3.13 is needed, and {name} is not: name one with PYTHON=..."
    )
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_a_python_in_range_goes_on_to_the_environment(tmp_path: Path, version: tuple[int, int]) -> None:
    out = make_environment(tmp_path, fake_python(tmp_path / "python", version))
    assert out.splitlines()[0] == "called: -m venv .venv"
    assert "apt install python3-venv" in out


def test_no_python_at_all_is_one_line(tmp_path: Path) -> None:
    out = make_environment(tmp_path, "no-such-python")
    assert out == "Python 3.11 to 3.13 is needed, and no-such-python is not: name one with PYTHON=..."


@pytest.mark.parametrize("kind", ["too old", "too new", "gone"])
def test_a_stale_environment_is_one_line_and_is_left_alone(tmp_path: Path, kind: str) -> None:
    python = tmp_path / ".venv/bin/python"
    if kind == "gone":
        python.parent.mkdir(parents=True)
        python.symlink_to(tmp_path / "uninstalled")
    else:
        fake_python(python, (3, 10) if kind == "too old" else (3, 14))
    out = make_environment(tmp_path, sys.executable)
    assert out.startswith("The environment in .venv is broken, or not of Python 3.11 to 3.13: remove it")
    assert "\n" not in out
    assert os.path.lexists(python)


def test_help_lists_the_targets() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("book", "test", "check", "run", "data", "refresh", "sync", "clean", "help"):
        assert f"make {target} " in done.stdout


def test_an_unknown_chapter_is_one_line() -> None:
    done = subprocess.run(["make", "-s", "run", "CHAPTER=minrn"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "CHAPTER='minrn' is not one of" in done.stdout
