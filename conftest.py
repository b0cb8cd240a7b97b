"""Pytest at the repository's root: notebooks whose real data is out of reach are skipped, with the way to get it."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent

# Registered files that only larger profiles read: a stored notebook can be compared without them.
LARGER_PROFILES_ONLY = {"ddpp/train-images-idx3-ubyte.gz", "ddpp/train-labels-idx1-ubyte.gz"}

# nbval starts kernels from this process: no progress bars in what it compares.
os.environ["PAPERS_PROGRESS"] = "0"
# Tests ask the hub of models for nothing.
os.environ["HF_HUB_OFFLINE"] = "1"

# No test depends on the clock: a busy machine is slow and does not fail.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


RUNS = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """The notebooks that nbval runs leave their records in a temporary folder."""
    if config.getoption("nbval", False) or config.getoption("nbval_lax", False):
        config.stash[RUNS] = os.environ["PAPERS_RUNS"] = tempfile.mkdtemp(prefix="nbval-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUNS in config.stash:
        shutil.rmtree(config.stash[RUNS])


@cache
def missing_data(slug: str) -> str:
    """Why the chapter's stored outputs cannot be compared here; empty if they can."""
    from lib.datasets import MIRROR_VARIABLE, DataError, chapter_files, reachable

    try:
        if reachable([name for name in chapter_files(slug) if name not in LARGER_PROFILES_ONLY]):
            return ""
    except DataError as error:
        raise pytest.UsageError(str(error)) from error
    return f"the real data of {slug} is in neither ${MIRROR_VARIABLE} nor the cache nor reachable: run 'make data'"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.suffix == ".ipynb" and item.path.parent == ROOT / "notebooks":
            reason = missing_data(item.path.stem)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
