"""How the command lines of this package end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from lib.profiles import OneLineError


def or_one_line(work: Callable[[], object]) -> int:
    """Do the work of a command; what a user can mend becomes one line on standard error.

    Returns:
        the exit status.
    """
    try:
        work()
    except OneLineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
