"""Trainings that are killed and started again, for the tests of every chapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import lightning
import pytest

from lib.checkpoints import KeepCheckpoint
from lib.digest import digest

Result = TypeVar("Result")


class Killed(BaseException):
    """Stands for the end of a process; nothing that handles errors handles it."""


@contextmanager
def killed_after(checkpoints: int) -> Iterator[list[int]]:
    """End the process, as it were, once this many checkpoints have been written; gives the steps of those that were."""
    written: list[int] = []
    original = KeepCheckpoint.on_train_batch_end

    def write_then_die(self: KeepCheckpoint, trainer: lightning.Trainer, *rest: Any) -> None:
        before = self.written_at
        original(self, trainer, *rest)
        if self.written_at != before:
            written.append(self.written_at)
            if len(written) >= checkpoints:
                raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeepCheckpoint, "on_train_batch_end", write_then_die)
        yield written


def check_resumes(
    train: Callable[[Path], Result], folder: Path, content: Callable[[Result], Any] = lambda result: result
) -> None:
    """Kill a run after a third, two thirds and all of its checkpoints; started again it must end with equal numbers.

    Args:
        train: starts a run that keeps checkpoints in the given folder, and gives its result.
        folder: for the runs.
        content: what of a result has to be equal; anything that has a digest.
    """
    with killed_after(10**9) as written:
        whole = digest(content(train(folder / "whole")))
    n = len(written)
    assert n >= 3, f"only {n} checkpoints were written: nothing to interrupt"
    for cut in sorted({n // 3, 2 * n // 3, n}):
        with killed_after(cut), pytest.raises(Killed):
            train(folder / f"cut-{cut}")
        with killed_after(10**9) as rest:
            again = train(folder / f"cut-{cut}")
        assert len(rest) == n - cut, "it did not go on where it stopped"
        assert digest(content(again)) == whole, f"killed after checkpoint {cut} of {n}: other numbers"
