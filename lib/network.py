"""Whether hosts answer: one test of a few seconds before anything waits for them.

Without a name server one look-up takes up to half a minute, and libraries look up again for every file. So each host is asked once in
a process, all of them at the same time, and who has not answered after :data:`PATIENCE` seconds is not asked again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from time import monotonic
from urllib.parse import urlsplit

import requests

PATIENCE = 3.0
"""Seconds for all hosts of one test together."""

_reasons: dict[str, str] = {}  # origin → why it does not answer; empty where it does


def silent_hosts(urls: Iterable[str], others: Iterable[str] = ()) -> dict[str, str]:
    """The hosts of ``urls`` that do not answer, and why. A proxy of the environment is used, and any response is an answer.

    Args:
        urls: what is wanted now.
        others: what may be wanted later, so that one test does for all. Where a test finds no host at all, there is no network,
            and hosts that were not in it are not tried any more.
    """
    wanted = list(dict.fromkeys(map(_origin, urls)))
    if any(origin not in _reasons for origin in wanted):
        origins = [o for o in dict.fromkeys([*wanted, *map(_origin, others)]) if o not in _reasons]
        if _reasons and all(_reasons.values()):
            _reasons.update(dict.fromkeys(origins, "not tried, as no other host answers"))
        else:
            _reasons.update(_test(origins))
    return {str(urlsplit(origin).hostname): _reasons[origin] for origin in wanted if _reasons[origin]}


def note_silence(url: str, error: BaseException) -> None:
    """Remember that the host of ``url``, which answered the test, hung or was lost afterwards, if that is what ``error`` came from."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (TimeoutError, ConnectionError)):
            _reasons[_origin(url)] = f"answered at first, then {type(cause).__name__}"
        cause = cause.__cause__ or cause.__context__


def describe(silent: dict[str, str]) -> str:
    """Hosts and reasons in one line."""
    return "; ".join(f"{host}: {reason}" for host, reason in silent.items())


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _test(origins: list[str]) -> dict[str, str]:
    """Origin → why it does not answer, asked side by side. A look-up cannot be ended: its thread is left behind and holds up no exit."""
    answers: SimpleQueue[tuple[str, str]] = SimpleQueue()
    found = dict.fromkeys(origins, f"no answer within {PATIENCE:g} s")
    for origin in origins:
        threading.Thread(target=_ask, args=(origin, answers), daemon=True).start()
    end = monotonic() + PATIENCE
    for _ in origins:
        try:
            origin, reason = answers.get(timeout=max(0.0, end - monotonic()))
        except Empty:
            break
        found[origin] = reason
    return found


def _ask(origin: str, answers: SimpleQueue[tuple[str, str]]) -> None:
    reason = ""
    try:
        requests.head(f"{origin}/", timeout=PATIENCE, allow_redirects=False)
    except (OSError, ValueError) as error:  # requests' errors, and a malformed host or proxy
        reason = type(error).__name__
    answers.put((origin, reason))
