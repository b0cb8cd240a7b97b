"""One thread for the chapter's tests, and the official files where they can be had."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.compositionality.grammar import Lexicon, load_prompts
from lib.datasets import locate

torch.set_num_threads(1)


def official(name: str) -> Path:
    """The verified official file, or a skipped test with the reason."""
    paths = locate([f"compositionality/{name}"])
    if paths is None:
        pytest.skip(f"the official file {name} is in neither the mirror nor the cache nor reachable")
    return paths[0]


@pytest.fixture(scope="session")
def lexicon() -> Lexicon:
    return Lexicon.from_file(official("lexicon.json"))


@pytest.fixture(scope="session")
def prompts() -> dict[str, np.ndarray]:
    return load_prompts(official("prompts_index.npz"))


@pytest.fixture(scope="session")
def kc_prompts() -> dict[str, np.ndarray]:
    return load_prompts(official("kc_prompts_index.npz"))
