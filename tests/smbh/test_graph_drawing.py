"""Heat maps, graphs and pair plots show the numbers that they are given."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.smbh import galaxies
from lib.smbh.appearance import COLOURS
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.equivalence_classes import top_classes
from lib.smbh.galaxies import BASE
from lib.smbh.graph_drawing import class_edges, positions_of
from lib.smbh.marginal_maps import marginal_maps
from lib.smbh.pair_plot import pair_plot


@pytest.fixture(autouse=True)
def close() -> Any:
    yield
    plt.close("all")


def test_heat_maps_write_every_marginal_and_leave_the_diagonal_empty() -> None:
    values = np.array([[0.0, 0.25, 0.5], [0.75, 0.0, 0.125], [1.0, 0.0, 0.0]])
    fig = marginal_maps({"ell": values}, {"ell": values.T}, BASE[:3], {"ell": "E"})
    texts = [t.get_text() for t in fig.axes[0].texts]
    assert texts == ["0.25", "0.50", "0.75", "0.12", "1.00", "0.00"]
    assert [t.get_text() for t in fig.axes[1].texts][:2] == ["0.75", "1.00"]


def test_class_edges_are_arrows_where_compelled_and_lines_elsewhere() -> None:
    top = top_classes(
        log_scores(standardise(galaxies.simulate(np.random.default_rng(0)).base["ell"].values)), 3, 1e-5
    )
    edges = class_edges(top.compelled[0], top.reversible[0], BASE)
    arrows = {(a, b) for a, mark, b in edges if mark == "->"}
    lines = {(a, b) for a, mark, b in edges if mark == "--"}
    assert arrows == {(BASE[i], BASE[j]) for i, j in np.argwhere(top.compelled[0])}
    assert 2 * len(lines) == top.reversible[0].sum()


def test_no_edge_runs_through_a_third_variable() -> None:
    place = {v: np.array(p) for v, p in positions_of(BASE).items()}
    for a in BASE:
        for b in BASE:
            for c in set(BASE) - {a, b}:
                if a < b:
                    along, aside = place[b] - place[a], place[c] - place[a]
                    assert abs(along[0] * aside[1] - along[1] * aside[0]) / np.linalg.norm(along) > 0.1


def test_a_pair_plot_holds_every_galaxy_in_its_types_colour() -> None:
    fig = pair_plot({"spr": galaxies.simulate(np.random.default_rng(0)).base["spr"].select(BASE[:2])})
    points = [c for c in fig.axes[1].collections if len(c.get_offsets())]
    assert sum(len(c.get_offsets()) for c in points) == 28
    assert {plt.matplotlib.colors.to_hex(c.get_facecolor()[0]) for c in points} == {COLOURS["spr"]}
