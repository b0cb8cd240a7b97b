"""What is measured of one data set's representations: dimensions by layer, scales, and the role of the last token.

The functions return rows (dictionaries of plain numbers), so that a small model trained here and a model of the hub fill
the same tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.compositionality.intrinsic_dimension import GRIDE_ORDERS, gride, intrinsic_dimension
from lib.compositionality.linear_dimension import dimension_of_spectrum, spectrum
from lib.compositionality.nearest_neighbors import distinct_rows, nearest_neighbors

Row = dict[str, Any]
Represent = Callable[[str, int], tuple[Tensor, np.ndarray]]
"""(mode, k) → states (L, N, D) after every layer, and the last token of every sentence (N,)."""


@dataclass
class Tables:
    """Rows by kind; plain numbers and names only, so that a checkpoint can hold them.

    Attributes:
        geometry: I_d, linear dimension (both counts) and participation ratio by layer. scales: GRIDE of the last layer.
        neighbors: share of nearest neighbours with the same last token. groups: I_d within groups of equal last token.
        sizes: I_d and linear dimension against the number of sentences. history: loss and skill by step.
    """

    geometry: list[Row] = field(default_factory=list)
    scales: list[Row] = field(default_factory=list)
    neighbors: list[Row] = field(default_factory=list)
    groups: list[Row] = field(default_factory=list)
    sizes: list[Row] = field(default_factory=list)
    history: list[Row] = field(default_factory=list)

    def extend(self, other: Tables) -> None:
        """Add the rows of ``other``."""
        for name, rows in vars(other).items():
            getattr(self, name).extend(rows)


def geometry_rows(states: Tensor, labels: Mapping[str, Any]) -> list[Row]:
    """Dimensions of states (L, N, D), one row per layer, layers counted from 1."""
    ids = intrinsic_dimension(states)
    values = spectrum(states)
    textbook = dimension_of_spectrum(values)
    official = dimension_of_spectrum(values, count="official")
    ratio = values.sum(-1).square() / values.square().sum(-1)
    return [
        {
            **labels,
            "layer": layer + 1,
            "n": states.shape[1],
            "id": float(ids[layer]),
            "d": int(textbook[layer]),
            "d_official": int(official[layer]),
            "pr": float(ratio[layer]),
        }
        for layer in range(len(states))
    ]


def allowed_orders(n: int) -> tuple[int, ...]:
    """GRIDE's orders whose 2n-th neighbour lies well inside a set of n points."""
    return tuple(order for order in GRIDE_ORDERS if 4 * order < n)


def scale_rows(states: Tensor, labels: Mapping[str, Any]) -> list[Row]:
    """GRIDE of one layer's states (N, D): dimension, standard error and mean distance by order."""
    points = states[distinct_rows(states)]
    orders = allowed_orders(len(points))
    distances = nearest_neighbors(points, 2 * max(orders)).distances
    values, errors = gride(distances, orders)
    return [
        {
            **labels,
            "order": order,
            "id": float(values[i]),
            "error": float(errors[i]),
            "distance": float(distances[:, 2 * order - 1].mean()),
        }
        for i, order in enumerate(orders)
    ]


def neighbor_row(states: Tensor, last_tokens: np.ndarray, labels: Mapping[str, Any]) -> Row:
    """How often a sentence's nearest neighbour ends in the same token, and how often a random other sentence does."""
    nearest = nearest_neighbors(states, 1).indices[:, 0].cpu().numpy()
    _, counts = np.unique(last_tokens, return_counts=True)
    n = len(last_tokens)
    return {
        **labels,
        "share": float(np.mean(last_tokens[nearest] == last_tokens)),
        "chance": float((counts * (counts - 1)).sum() / (n * (n - 1))),
        "last_tokens": len(counts),
    }


def checkpoint_tables(
    represent: Represent,
    modes: Sequence[str],
    couplings: Sequence[int],
    labels: Mapping[str, Any],
    deep: bool,
) -> Tables:
    """Measure every (mode, k) at one checkpoint; with ``deep`` also scales and neighbours of the last layer."""
    tables = Tables()
    for mode in modes:
        for k in couplings:
            states, last_tokens = represent(mode, k)
            here = {**labels, "mode": mode, "k": k}
            tables.geometry += geometry_rows(states, here)
            if deep:
                tables.scales += scale_rows(states[-1], here)
                tables.neighbors.append(neighbor_row(states[-1], last_tokens, here))
    return tables


def group_rows(
    glued: Tensor,
    last_tokens: np.ndarray,
    coherent: Tensor,
    names: Mapping[int, str],
    labels: Mapping[str, Any],
    at_least: int = 100,
) -> list[Row]:
    """I_d among shuffled sentences with one and the same last token, against sets of equal size.

    Args:
        glued: states of officially shuffled sentences, one layer, (N, D). last_tokens: of these sentences, (N,).
        coherent: states of coherent sentences of the same layer, (M, D).
        names: tokens to look at. labels: of the rows. at_least: smaller groups are left out.

    Returns:
        For each group its size ``n``, ``id`` within it, and ``id_mixed`` and ``id_coherent`` of the first n of all shuffled
        and of all coherent sentences.
    """
    rows = []
    for token, name in names.items():
        members = np.flatnonzero(last_tokens == token)[: len(coherent)]
        n = len(members)
        if n < at_least:
            continue
        rows.append(
            {
                **labels,
                "token": name,
                "n": n,
                "id": float(intrinsic_dimension(glued[torch.as_tensor(members, device=glued.device)])),
                "id_mixed": float(intrinsic_dimension(glued[:n])),
                "id_coherent": float(intrinsic_dimension(coherent[:n])),
            }
        )
    return rows


def size_rows(states: Tensor, sizes: Sequence[int], labels: Mapping[str, Any]) -> list[Row]:
    """I_d and linear dimension of the first n of one layer's states (N, D), for every n that there is."""
    return [
        {**row, "n": n} for n in sizes if n <= len(states) for row in geometry_rows(states[None, :n], labels)
    ]
