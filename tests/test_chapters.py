"""What every chapter keeps of the contract in :mod:`lib.experiment`, in every profile.

A chapter whose ``lib/<slug>/experiments`` is a package is held to it. ``tests/<slug>/small_sizes.py`` may hold ``SMALL``: profile → overrides that
make a walk through that profile's paths small where taking the numbers of ``smoke`` does not, ``MAY_MISS``: metrics that so small a
run need not show, ``TO_COME``: metrics of the ledger whose experiment is still to be written, ``OWN_GENERATORS``: file → why its random numbers cannot
come from a stream, and ``prepare(monkeypatch, folder)``, which stands in for what a profile fetches from elsewhere.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure

from lib.claims import ledger
from lib.experiment import Experiment, Machine, Work, name_of, own_settings
from lib.fingerprint import ROOT, imported_modules, slugs
from lib.profiles import PROFILE_NAMES, fields_of, values_of
from lib.records import Run

OLD_FORM = ("adaptive_teachers", "compositionality", "ddpp")
"""Chapters that wait for their port."""

CHAPTERS = [slug for slug in slugs() if (ROOT / "lib" / slug / "experiments" / "__init__.py").is_file()]
GENERATORS = ("manual_seed", "default_rng", "SeedSequence", "seed_everything", "RandomState")
NAMES = ("PROFILES", "jobs", "metrics", "measure", "tables", "figures")


def profiles_of(slug: str) -> Any:
    return importlib.import_module(f"lib.{slug}.profiles")


def experiments_of(slug: str) -> dict[str, Experiment]:
    return profiles_of(slug).EXPERIMENTS


EXPERIMENTS = [(slug, experiment) for slug in CHAPTERS for experiment in experiments_of(slug).values()]
each_experiment = pytest.mark.parametrize(
    ("slug", "experiment"), EXPERIMENTS, ids=[f"{slug}-{name_of(e)}" for slug, e in EXPERIMENTS]
)
each_chapter = pytest.mark.parametrize("slug", CHAPTERS)
each_profile = pytest.mark.parametrize("profile", PROFILE_NAMES)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_no_chapter_is_in_the_old_form_but_those_that_wait() -> None:
    assert set(slugs()) - set(CHAPTERS) == set(OLD_FORM)


@each_chapter
def test_a_chapter_lists_each_of_its_experiments_once(slug: str) -> None:
    folder = ROOT / "lib" / slug / "experiments"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    listed = [name_of(experiment) for experiment in experiments_of(slug).values()]
    assert sorted(listed) == sorted(modules)


@each_experiment
def test_an_experiment_has_what_the_contract_names(slug: str, experiment: Experiment) -> None:
    assert [name for name in NAMES if not hasattr(experiment, name)] == []
    assert tuple(experiment.PROFILES) == PROFILE_NAMES
    assert len({type(settings) for settings in experiment.PROFILES.values()}) == 1
    assert (inspect.getdoc(experiment) or "").strip()


@each_chapter
def test_every_setting_has_a_unit_and_a_meaning(slug: str) -> None:
    for settings in profiles_of(slug).PROFILES.values():
        assert [item.name for item in fields_of(settings) if not item.unit or not item.doc] == []
        settings.of(Machine)


@each_chapter
def test_imports_go_one_way(slug: str) -> None:
    package = f"lib.{slug}"
    for path in (ROOT / "lib" / slug).rglob("*.py"):
        inside = path.relative_to(ROOT / "lib" / slug).parts
        found = imported_modules(
            path.read_text(encoding="utf-8"), ".".join(path.relative_to(ROOT).parent.parts)
        )
        others = {name for name in found if name.split(".")[1:2] and name.split(".")[1] in slugs()}
        assert {name for name in others if name.split(".")[1] != slug} == set(), path
        if inside[0] not in ("experiments", "profiles.py"):
            assert {
                n for n in found if n.startswith(f"{package}.experiments") or n == f"{package}.profiles"
            } == set(), path
        elif inside[0] == "experiments":
            assert f"{package}.profiles" not in found, path


@each_chapter
def test_random_numbers_come_from_streams_alone(slug: str) -> None:
    used = {
        f"{path.name}:{node.lineno} {name}"
        for path in (ROOT / "lib" / slug).rglob("*.py")
        if path.name not in getattr(small_sizes(slug), "OWN_GENERATORS", {})
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        for name in [getattr(node.func, "attr", getattr(node.func, "id", ""))]
        if name in GENERATORS
    }
    assert used == set()


@each_experiment
def test_sizes_stand_in_the_settings(slug: str, experiment: Experiment, tmp_path: Path) -> None:
    """``jobs`` types no number, and hands its own settings to the work as they are."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(experiment.jobs)))
    numbers = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} - {True, False, None}
    assert {n for n in numbers if isinstance(n, (int, float)) and n not in (0, 1)} == set()
    run = start(slug, "default", tmp_path)
    settings = own_settings(run, experiment)
    for job in experiment.jobs(run) if values_of(settings) else []:
        given = [*job.args, *job.keywords.values()]
        assert any(isinstance(argument, type(settings).__mro__[:-1]) for argument in given), job


@each_chapter
@each_profile
def test_every_metric_that_a_rule_reads_is_measured_where_it_is_judged(slug: str, profile: str) -> None:
    settings = profiles_of(slug).PROFILES[profile]
    produced, to_come = announced(slug, settings), set(getattr(small_sizes(slug), "TO_COME", ()))
    missing = {
        (claim.id, metric)
        for claim in ledger(slug).claims
        if profile in claim.judged_in
        for metric in claim.metrics - produced - to_come
    }
    assert missing == set()
    assert produced & to_come == set(), "these have come: take them off the list"


@each_chapter
def test_nothing_is_measured_that_nobody_reads(slug: str) -> None:
    read = set().union(*(claim.metrics for claim in ledger(slug).claims))
    page = (ROOT / "notebooks" / f"{slug}.py").read_text(encoding="utf-8")
    produced = set().union(*(announced(slug, settings) for settings in profiles_of(slug).PROFILES.values()))
    assert {metric for metric in produced - read if metric not in page} == set()


def announced(slug: str, settings: Any) -> set[str]:
    """The metrics that the chapter's experiments say they measure with ``settings``."""
    return {
        metric
        for experiment in experiments_of(slug).values()
        for metric in experiment.metrics(settings.of(type(experiment.PROFILES["default"])))
    }


def small_sizes(slug: str) -> Any:
    try:
        return importlib.import_module(f"tests.{slug}.small_sizes")
    except ModuleNotFoundError:
        return None


def small_overrides(slug: str, profile: str) -> dict[str, Any]:
    """The numbers of ``smoke``, beside the words and switches of ``profile``: every path of it, walked in small steps."""
    profiles = profiles_of(slug).PROFILES
    smoke = values_of(profiles["smoke"])
    small = {
        name: smoke[name]
        for name, value in values_of(profiles[profile]).items()
        if is_numeric(value) and is_numeric(smoke[name])
    }
    return {
        **small,
        "workers": 1,
        "checkpoint_every": None,
        **getattr(small_sizes(slug), "SMALL", {}).get(profile, {}),
    }


def is_numeric(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(map(is_numeric, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def start(slug: str, profile: str, folder: Path, **overrides: Any) -> Run[Any]:
    return Run.start(
        slug,
        profiles_of(slug).PROFILES,
        profile=profile,
        accelerator="cpu",
        data="standin",
        out_dir=folder,
        overrides=overrides,
    )


@each_chapter
def test_a_page_shows_no_figure_but_with_its_caption(slug: str) -> None:
    """What an experiment draws and the page does not show, Jupyter must not show either."""
    page = ROOT / "notebooks" / f"{slug}.ipynb"
    notebook = json.loads(page.read_text(encoding="utf-8")) if page.exists() else {"cells": []}
    bare = [
        number
        for number, cell in enumerate(notebook["cells"])
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert bare == []


@pytest.mark.thorough
@each_chapter
@each_profile
def test_every_path_of_a_profile_is_walked(
    slug: str, profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = small_sizes(slug)
    if hasattr(sizes, "prepare"):
        sizes.prepare(monkeypatch, tmp_path)
    run = start(slug, profile, tmp_path, **small_overrides(slug, profile))
    work = Work(run)
    for experiment in experiments_of(slug).values():
        settings, before = own_settings(run, experiment), set(run.measurements)
        results = work.here(experiment)
        missing = set(experiment.metrics(settings)) - (set(run.measurements) - before)
        assert missing <= set(getattr(sizes, "MAY_MISS", ())), name_of(experiment)
        for table in experiment.tables(settings, results).values():
            assert isinstance(table, pd.DataFrame)
        for figure in experiment.figures(settings, results).values():
            assert isinstance(figure, Figure)
            assert figure.axes
        plt.close("all")
    work.close()
    run.finish()
    assert (tmp_path / "results.json").is_file()
