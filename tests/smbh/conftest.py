"""The real galaxies for tests that need them; skipped with a reason where they cannot be had."""

import pytest

from lib.datasets import local_path
from lib.smbh import galaxies


@pytest.fixture(scope="session")
def real() -> galaxies.Galaxies:
    paths = {name: local_path(f"smbh/{name}") for name in galaxies.FILES}
    if any(path is None for path in paths.values()):
        pytest.skip("the galaxies' tables are neither in $PAPERS_DATA nor in the cache: run 'make data'")
    return galaxies.read(paths)
