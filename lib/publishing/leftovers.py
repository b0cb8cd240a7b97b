"""Remove what killed runs leave behind: ``.name.<pid>.tmp`` beside the files that they were writing.

What belongs to a process that is alive stays, and so does a file that was written within the last minute: on a file system
that several machines share its process may be alive on another one. The module needs nothing but the standard library,
so that ``make clean`` works before anything is installed.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

RECENT_S = 60.0
TEMPORARY_FILE = re.compile(r"\..+\.(\d+)\.tmp")
NOT_OURS = {".venv", ".git", "node_modules"}


def alive(pid: int) -> bool:
    """Whether a process of this machine has the number ``pid``, whoever owns it."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def written_recently(path: Path) -> bool:
    """Whether the file was written within the last :data:`RECENT_S` seconds, or is just being put in its place."""
    try:
        return time.time() - path.lstat().st_mtime <= RECENT_S
    except FileNotFoundError:
        return True


def leftovers(root: Path) -> Iterator[Path]:
    """Temporary files below ``root`` whose process is gone."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in NOT_OURS]
        for path in (Path(folder, name) for name in names):
            match = TEMPORARY_FILE.fullmatch(path.name)
            if match and not alive(int(match[1])) and not written_recently(path):
                yield path


def main(root: Path | None = None) -> int:
    """Remove them, printing each; exit 1 if one could not be removed."""
    failures = 0
    for path in list(leftovers(root or Path(__file__).resolve().parent.parent.parent)):
        try:
            path.unlink(missing_ok=True)
            print(f"removed {path}")
        except OSError as error:
            failures += 1
            print(f"{path} could not be removed: {error.strerror}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
