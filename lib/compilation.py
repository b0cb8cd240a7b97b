"""Functions compiled by numba, kept on disk where that can be done.

:func:`njit` is numba's decorator with a cache that is only a cache: a run goes on where no folder can be written (a read-only
installation and no home), where the disk is full, and where several processes, one of which may be killed, fill it at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

UNKEPT = (
    "NOTICE: no folder for compiled code can be written; every process compiles its functions again, which takes up to a minute. "
    "Set NUMBA_CACHE_DIR to a folder of yours."
)


class _CacheFile(IndexDataCacheFile):
    """The compiled forms of one function, each with the source and the signature that it belongs to.

    numba numbers the files and writes the index before the file. Of two processes at once, or of one killed in between, an index
    may be left that names the code of another signature or of an older source.
    """

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (self._source_stamp, key, data))

    def load(self, key: Any) -> Any:
        entry = super().load(key)
        return entry[2] if entry is not None and entry[:2] == (self._source_stamp, key) else None


class _Cache(FunctionCache):
    """numba's cache of one function, which also counts changes of the other modules in its folder, whose functions it may hold."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        folder = Path(function.__code__.co_filename).parent
        stamp = tuple((p.name, p.stat().st_size, p.stat().st_mtime) for p in sorted(folder.glob("*.py")))
        self._cache_file = _CacheFile(self.cache_path, self._impl.filename_base, stamp)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:  # the disk is full, say: what cannot be kept is compiled again by the next process
            self.disable()


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit(nogil=True, **options)``, cached where a folder for that can be written."""

    def decorate(function: Callable[..., Any]) -> Any:
        compiled = numba.njit(nogil=True, **options)(function)
        cache = _cache(function)
        if cache is not None and compiled is not function:  # which it is where NUMBA_DISABLE_JIT is set
            compiled._cache = cache
        return compiled

    return decorate


def _cache(function: Callable[..., Any]) -> _Cache | None:
    """The function's cache on disk; None where no folder can be written."""
    try:
        return _Cache(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return None


def notice() -> str:
    """One line for the person who started the run where compiled code cannot be kept; else empty."""
    return "" if _cache(notice) else UNKEPT
