"""Paths that a person typed: a parameter, an environment variable, a key of a configuration."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lib.profiles import OneLineError, ParameterError


def typed_path(what: str, value: str | os.PathLike[str], error: type[OneLineError] = ParameterError) -> Path:
    """The path that ``value`` spells; ``~`` and ``~name`` are home folders.

    Nothing is guessed where a shell or a form left something in it that no path begins with: the message says what to write.

    Args:
        what: the parameter or variable, for the message.

    Raises:
        error: for an empty value, quotes around it, a URL, a home that does not exist, or a NUL.
    """
    text = os.fspath(value)
    if not text.strip():
        raise error(f"{what}={text!r} is empty; name a folder, or leave {what} out")
    bare = text.strip().strip("\"'")
    if text.strip() != bare:
        raise error(f"{what}={text!r} has quotes in it; it should be {what}={bare}")
    if text != bare:
        raise error(f"{what}={text!r} has blanks around it; it should be {what}={bare}")
    if "\x00" in text:
        raise error(f"{what}={text!r} is no path: it holds a NUL")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        plain = re.sub(r"^file:/+(localhost/+)?", "/", text)
        instead = f"it should be {what}={plain}" if plain != text else "it should be a folder's path"
        raise error(f"{what}={text!r} is a URL; {instead}")
    try:
        return Path(text).expanduser()
    except RuntimeError as reason:  # "~nobody"
        raise error(f"{what}={text!r}: there is no such home folder") from reason
