"""Where Triton keeps its compiled kernels: without a folder for them it stops."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def ensure_triton_cache() -> None:
    """Name a temporary folder, removed at the end, in ``TRITON_CACHE_DIR`` where that is not set and the home cannot be written."""
    if "TRITON_CACHE_DIR" in os.environ:
        return
    folder = Path(os.environ.get("TRITON_HOME", "~")).expanduser() / ".triton" / "cache"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(prefix="triton-")
        atexit.register(shutil.rmtree, os.environ["TRITON_CACHE_DIR"], ignore_errors=True)
