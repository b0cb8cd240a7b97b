"""Waiting for what another process does: as long as it takes, with a limit that only ends a hang."""

from __future__ import annotations

import time
from collections.abc import Callable

HANG = 1800
"""Seconds after which a test gives up. A busy machine is slow; it does not fail."""


def wait_for(condition: Callable[[], object], alive: Callable[[], bool] = lambda: True) -> None:
    """Wait until ``condition`` holds, while ``alive`` says that it still may."""
    end = time.monotonic() + HANG
    while not condition():
        assert alive(), "the process ended by itself"
        assert time.monotonic() < end, "nothing happened: this hangs"
        time.sleep(0.1)
