"""The control that has no model: a sentence as the sum of fixed random vectors of its words.

It cannot see word order, so every shuffle leaves it exactly as it is. Whatever order in k it shows was not learned.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def bag_of_words(tokens: np.ndarray, vocabulary: int, width: int, seed: int) -> Tensor:
    """Σ_t v(token_t) with v(·) standard normal in R^width, float64, (n, width).

    Tokens are added in the order of their numbers, so that a shuffled sentence gives the very same sum.

    Args:
        tokens: (n, T). vocabulary: number of tokens. width: of the vectors. seed: of the vectors.

    Raises:
        ValueError: for tokens outside the vocabulary.
    """
    if tokens.ndim != 2 or tokens.min() < 0 or tokens.max() >= vocabulary:
        raise ValueError(f"tokens need the shape (n, T) and values in 0..{vocabulary - 1}")
    vectors = np.random.default_rng([seed, 48]).standard_normal((vocabulary, width))
    total = np.zeros((len(tokens), width))
    for column in np.sort(tokens, axis=1).T:
        total += vectors[column]
    return torch.as_tensor(total)
