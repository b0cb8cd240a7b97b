"""JSON that a run, a benchmark or a stranger has left, read with one clear line for whatever is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lib.profiles import OneLineError


def read_json(path: Path, name: str, error: type[OneLineError]) -> Any:
    """The content of a JSON file.

    Args:
        name: what a message calls the file. error: what is raised.

    Raises:
        OneLineError: of the class ``error``, for a file that cannot be read, is not UTF-8 or not JSON, or is nested too deep.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as fault:
        raise error(f"{name}: not valid JSON ({fault.msg}, line {fault.lineno})") from fault
    except UnicodeDecodeError as fault:
        raise error(f"{name}: not UTF-8 (at byte {fault.start})") from fault
    except (OSError, ValueError, RecursionError) as fault:
        raise error(f"{name}: cannot be read ({' '.join(str(fault).split())})") from fault
