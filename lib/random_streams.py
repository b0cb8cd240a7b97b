"""The one source of random numbers: a stream of its own for each purpose.

Two generators with one seed give the same numbers twice: weights and the noise that trains them are copies of one another then,
and what looks like chance is not. A stream is known by the run's seed, by what its numbers are for, and by an index (a member
of a stack, a step, a data set), and NumPy's ``SeedSequence`` keeps streams of different names apart.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Stream:
    """One stream of random numbers; every call of a method starts it from its beginning. Made by :func:`stream`."""

    words: np.random.SeedSequence

    def numpy(self) -> np.random.Generator:
        """A NumPy generator."""
        return np.random.default_rng(self.words)

    def torch(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A torch generator on ``device``."""
        return torch.Generator(device).manual_seed(self.integer(64))

    def integer(self, bits: int = 31) -> int:
        """A whole number of ``bits`` bits, for libraries that take a seed.

        Raises:
            ValueError: for fewer than 1 or more than 64 bits.
        """
        if not 1 <= bits <= 64:
            raise ValueError(f"bits={bits} is not a whole number from 1 to 64")
        return int(self.words.generate_state(1, np.uint64)[0]) >> (64 - bits)

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Within the block the global generators of torch (CPU and CUDA), NumPy and Python draw from this stream; afterwards they go on
        from where they stood. For code that takes no generator, such as the initialisation of ``torch.nn``."""
        of_python, of_numpy = random.getstate(), np.random.get_state()
        with torch.random.fork_rng():
            seed = self.integer(64)
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            try:
                yield
            finally:
                random.setstate(of_python)
                np.random.set_state(of_numpy)


def stream(seed: int, purpose: str, *index: int) -> Stream:
    """The stream of a run for one purpose.

    Args:
        seed: of the run or of the repetition.
        purpose: what the numbers are for, in words: ``"initialisation"``, ``"training data"``, ``"exploration"``.
        index: whole numbers >= 0 that tell apart what has the same purpose, such as members of a stack or steps.

    Raises:
        ValueError: for a negative seed or index, or an empty purpose.
    """
    if seed < 0 or not purpose or any(i < 0 for i in index):
        raise ValueError(f"no stream for seed={seed}, purpose={purpose!r}, index={index}")
    name = int.from_bytes(hashlib.sha256(purpose.encode("utf-8")).digest()[:16], "big")
    return Stream(np.random.SeedSequence([seed, name], spawn_key=index))
