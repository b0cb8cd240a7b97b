"""The real galaxies for tests that need them, skipped with a reason where they cannot be had; torch on one thread, seeded."""

from collections.abc import Iterator

import pytest
import torch

from lib.datasets import local_path
from lib.smbh import galaxies


@pytest.fixture(scope="session")
def real() -> galaxies.Galaxies:
    paths = {name: local_path(f"smbh/{name}") for name in galaxies.FILES}
    if any(path is None for path in paths.values()):
        pytest.skip("the galaxies' tables are neither in $PAPERS_DATA nor in the cache: run 'make data'")
    return galaxies.read(paths)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)
