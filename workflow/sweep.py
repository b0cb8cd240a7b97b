"""Which runs a sweep holds: the configuration of the workflow, checked, as a list of runs.

A mistake in the configuration is one line that names the key, the value and what is allowed; it is found before any run
starts, not by the hundredth.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

from lib.fingerprint import ROOT, cells_fingerprint, content_hash
from lib.plain_files import one_line, read_text
from lib.profiles import (
    ACCELERATORS,
    DATA_POLICIES,
    PROFILE_NAMES,
    ParameterError,
    check_seed,
    choose,
    nearest,
    resolve,
)
from lib.publishing.notebook_faults import NOT_A_NOTEBOOK
from lib.typed_paths import typed_path

KEYS = (
    "chapters",
    "profiles",
    "seeds",
    "out",
    "notebooks",
    "accelerator",
    "data",
    "resources",
)
RESOURCES: dict[str, dict[str, int]] = {
    "smoke": {"threads": 1, "mem_mb": 4000, "runtime": 10, "gpu": 0},
    "default": {"threads": 2, "mem_mb": 4000, "runtime": 20, "gpu": 0},
    "gpu": {"threads": 4, "mem_mb": 32000, "runtime": 60, "gpu": 1},
    "paper": {"threads": 8, "mem_mb": 64000, "runtime": 1440, "gpu": 1},
}
"""What one run of a profile asks for: threads, memory in MB, minutes, GPUs."""


@dataclass(frozen=True)
class Job:
    """One papermill run of a sweep."""

    chapter: str
    profile: str
    variant: str
    seed: int

    @property
    def folder(self) -> str:
        """The run's own folder, relative to the sweep's."""
        return f"{self.chapter}/{self.profile}/{self.variant}/seed{self.seed}"


@dataclass(frozen=True)
class Sweep:
    """A checked configuration."""

    jobs: tuple[Job, ...]
    overrides: Mapping[tuple[str, str], Mapping[str, Any]]  # (chapter, variant) -> setting -> value
    out: str = "runs/sweep"
    notebooks: str = "notebooks"
    accelerator: str = "auto"
    data: str = "auto"
    resources: Mapping[str, Mapping[str, int]] = field(default_factory=lambda: RESOURCES)

    def parameters(self, chapter: str, variant: str) -> str:
        """What a run passes to papermill beside profile and seed, as JSON (which is YAML)."""
        overrides = dict(self.overrides[chapter, variant])
        return json.dumps({"accelerator": self.accelerator, "data": self.data, "overrides": overrides})

    def fingerprint(self, chapter: str, profile: str) -> str:
        """A hash of the code behind a run; see :func:`fingerprint`."""
        return fingerprint(Path(self.notebooks) / f"{chapter}.ipynb", profile)


def read_sweep(config: Mapping[str, Any]) -> Sweep:
    """Check the workflow's configuration and list its runs.

    Raises:
        ParameterError: one line, for an unknown key, chapter, profile, seed, setting or resource.
    """
    for key in config:
        if key not in KEYS:
            raise ParameterError(
                f"sweep: unknown key {key!r}{nearest(key, KEYS)}; allowed: {', '.join(KEYS)}"
            )
    notebooks = _folder(config, "notebooks", "notebooks")
    known = sorted(path.stem for path in Path(notebooks).glob("*.ipynb"))
    if not known:
        raise ParameterError(f"sweep: notebooks={notebooks!r} holds no notebook")
    chapters = _mapping(config.get("chapters"), "chapters", "chapter -> variant -> overrides")
    profiles = [choose("sweep: profiles", p, PROFILE_NAMES) for p in _list(config, "profiles", ["default"])]
    seeds = [check_seed(_number(seed)) for seed in _list(config, "seeds", [0])]
    overrides: dict[tuple[str, str], Mapping[str, Any]] = {}
    for chapter, variants in chapters.items():
        choose("sweep: chapter", chapter, known)
        for variant, changes in _variants(chapter, variants).items():
            if not re.fullmatch(r"\w[\w.=+-]*", str(variant)):
                raise ParameterError(
                    f"sweep: variant {variant!r} of {chapter} names a folder: a letter or digit first, then letters, digits and . _ = + -"
                )
            settings = _mapping(
                changes or {}, f"chapters: {chapter}: {variant}", "setting -> value", empty=True
            )
            for profile in profiles:
                check_overrides(chapter, profile, settings)
            overrides[chapter, str(variant)] = settings
    jobs = tuple(
        Job(chapter, profile, variant, seed)
        for (chapter, variant), profile, seed in itertools.product(overrides, profiles, seeds)
    )
    if len(set(jobs)) != len(jobs):
        raise ParameterError("sweep: a profile or a seed is listed twice")
    return Sweep(
        jobs=jobs,
        overrides=overrides,
        out=_folder(config, "out", "runs/sweep"),
        notebooks=notebooks,
        accelerator=choose("sweep: accelerator", config.get("accelerator", "auto"), ACCELERATORS),
        data=choose("sweep: data", config.get("data", "auto"), DATA_POLICIES),
        resources=read_resources(config.get("resources")),
    )


def read_resources(raw: Any) -> dict[str, dict[str, int]]:
    """The defaults of :data:`RESOURCES` with the configuration's changes.

    Raises:
        ParameterError: for an unknown profile or resource, or a value that is not a whole number.
    """
    found = {profile: dict(values) for profile, values in RESOURCES.items()}
    for profile, changes in _mapping(
        raw or {}, "resources", "profile -> resource -> number", empty=True
    ).items():
        choose("sweep: resources", profile, PROFILE_NAMES)
        for name, value in _mapping(
            changes, f"resources: {profile}", "resource -> number", empty=True
        ).items():
            choose(f"sweep: resources: {profile}", name, RESOURCES["default"])
            number = _number(value)
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ParameterError(f"sweep: resources: {profile}: {name}={value!r} is not a whole number")
            found[profile][name] = number
    return found


def check_overrides(chapter: str, profile: str, overrides: Mapping[str, Any]) -> None:
    """Check overrides against the chapter's profiles, where the chapter has a package in ``lib``.

    Raises:
        ParameterError: for an unknown setting or a value of the wrong type.
    """
    module = f"lib.{chapter}.profiles"
    if overrides and importlib.util.find_spec(f"lib.{chapter}") and importlib.util.find_spec(module):
        resolve(importlib.import_module(module).PROFILES, profile, overrides)


@cache
def fingerprint(notebook: Path, profile: str) -> str:
    """A hash of the code behind a run: the notebook's code cells and, for a chapter of the book, the modules it imports.

    Snakemake keeps it with each run, so that a run is redone when its code changes and not when its wording does.

    Raises:
        ParameterError: if the file is not a notebook.
    """
    text = read_text(notebook, ParameterError)
    try:
        cells = nbformat.reads(text, as_version=4).cells
    except NOT_A_NOTEBOOK as error:
        raise ParameterError(f"sweep: {notebook} is not a notebook ({one_line(error)})") from error
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    digest = hashlib.sha256(cells_fingerprint(code, notebook.name).encode())
    if notebook.resolve().parent == ROOT / "notebooks" and notebook.with_suffix(".py").is_file():
        digest.update(content_hash(notebook.stem, profile).encode())
    return digest.hexdigest()


def _list(config: Mapping[str, Any], key: str, default: list[Any]) -> list[Any]:
    value = config.get(key, default)
    if not isinstance(value, list) or not value:
        raise ParameterError(f"sweep: {key}={value!r} is not a list with at least one entry")
    return value


def _folder(config: Mapping[str, Any], key: str, default: str) -> str:
    value = config.get(key, default)
    if not isinstance(value, str):
        raise ParameterError(f"sweep: {key}={value!r} is not a folder's path")
    path = typed_path(f"sweep: {key}", value)
    if path == Path(path.anchor or "."):
        raise ParameterError(f"sweep: {key}={value!r} is no folder of the sweep's own")
    return path.as_posix()


def _number(value: Any) -> Any:
    """Snakemake hands the numbers of ``--config`` over as texts."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _variants(chapter: str, value: Any) -> Mapping[str, Any]:
    return _mapping(value or {"base": {}}, f"chapters: {chapter}", "variant -> overrides")


def _mapping(value: Any, key: str, form: str, empty: bool = False) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not (value or empty):
        raise ParameterError(f"sweep: {key}={value!r} is not a mapping {form}")
    return value
