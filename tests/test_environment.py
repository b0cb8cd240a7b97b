"""One dependency set: pyproject names it, the lock file pins it, make and conda install the lock file."""

from __future__ import annotations

import re
import subprocess
import tomllib

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


def test_conda_installs_the_same_lock_file() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    [pip] = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    others = {name(item) for item in environment["dependencies"] if isinstance(item, str)}
    assert others == {"python", "pip", "make"}  # no second list of packages that could drift
    assert environment["name"] in (ROOT / "Makefile").read_text()


def test_help_lists_the_targets() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("book", "test", "run", "data", "refresh", "help"):
        assert f"make {target} " in done.stdout


def test_an_unknown_chapter_is_one_line() -> None:
    done = subprocess.run(["make", "-s", "run", "CHAPTER=minrn"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "CHAPTER='minrn' is not one of" in done.stdout
