"""Ways to destroy the order of a sentence's words. They differ in what the last token is, and that matters (claim C6).

- ``coherent``: as generated.
- ``glued``: the official shuffle of the intrinsic-dimension runs: split the finished line on spaces, permute. The full
  stop stays glued to its word, which lands anywhere, so the line ends in an arbitrary word.
- ``dot``: permute the words, then put the full stop at the end: the last token is the stop, as in coherent text. An
  option of the released generator.
- ``inner``: permute all but the last word, which keeps its place and its stop.

On text a "word" is what spaces separate, so that an entry of two words is torn apart. On word-level tokens entries stay
whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MODES = ("coherent", "glued", "dot", "inner")


def check_mode(mode: str) -> str:
    """Return ``mode`` if it is one of :data:`MODES`.

    Raises:
        ValueError: otherwise.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not one of {', '.join(MODES)}")
    return mode


def permutations(n: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """n independent uniform permutations of 0..length−1, (n, length)."""
    return rng.random((n, length)).argsort(axis=1)


def shuffle_lines(lines: Sequence[str], mode: str, rng: np.random.Generator) -> list[str]:
    """Shuffle the words of every line, each line by itself.

    Args:
        lines: sentences that end in a full stop. mode: one of :data:`MODES`. rng: generator.

    Raises:
        ValueError: for an unknown mode, or (dot) a line that does not end in a full stop.
    """
    check_mode(mode)
    out = []
    for line in lines:
        words = line.split(" ")
        if mode == "dot":
            if not line.endswith("."):
                raise ValueError("mode 'dot' needs lines that end in a full stop")
            words[-1] = words[-1][:-1]
        n = len(words) - (mode == "inner")
        order = np.arange(n) if mode == "coherent" else rng.permutation(n)
        shuffled = [words[i] for i in order] + words[n:]
        out.append(" ".join(shuffled) + ("." if mode == "dot" else ""))
    return out


def shuffle_tokens(tokens: np.ndarray, mode: str, rng: np.random.Generator) -> np.ndarray:
    """Shuffle word-level sentences whose last token is the full stop; the same three ways, on tokens.

    Args:
        tokens: (n, T + 1), T words and the stop. mode: one of :data:`MODES`. rng: generator.

    Returns:
        A copy, (n, T + 1). ``glued`` moves the last word and the stop together.

    Raises:
        ValueError: for an unknown mode or tokens that are not (n, ≥ 2).
    """
    check_mode(mode)
    if tokens.ndim != 2 or tokens.shape[1] < 2:
        raise ValueError(f"tokens need the shape (n, words + 1), got {tokens.shape}")
    n, length = tokens.shape
    words = length - 1
    if mode == "coherent":
        return tokens.copy()
    order = np.tile(np.arange(length), (n, 1))
    if mode == "dot":
        order[:, :words] = permutations(n, words, rng)
    elif mode == "inner":
        order[:, : words - 1] = permutations(n, words - 1, rng)
    else:
        units = permutations(n, words, rng)  # the last unit is the last word with its stop
        last = (units == words - 1).argmax(axis=1)[:, None]
        place = np.arange(length)[None]
        # up to its word the order is that of the units; the stop follows; then everything is one place later
        order = np.where(place <= last, np.pad(units, ((0, 0), (0, 1))), np.pad(units, ((0, 0), (1, 0))))
        order = np.where(place == last + 1, words, order)
    return np.take_along_axis(tokens, order, axis=1)
