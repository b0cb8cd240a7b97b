"""Figures show the numbers that they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.smbh import figures, galaxies
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.calibration import CalibrationCurve
from lib.smbh.constraint_based import reported_graph
from lib.smbh.equivalence_classes import top_classes
from lib.smbh.galaxies import BASE
from lib.smbh.permutation import PermutationTest
from lib.smbh.power import PowerPoint


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def classes():
    return top_classes(log_scores(standardise(galaxies.simulate(0).base["ell"].values)), 3, 1e-5)


def test_heat_maps_write_every_marginal_and_leave_the_diagonal_empty():
    values = np.array([[0.0, 0.25, 0.5], [0.75, 0.0, 0.125], [1.0, 0.0, 0.0]])
    fig = figures.marginal_maps({"ell": values}, {"ell": values.T}, BASE[:3], {"ell": "E"})
    texts = [t.get_text() for t in fig.axes[0].texts]
    assert texts == ["0.25", "0.50", "0.75", "0.12", "1.00", "0.00"]
    assert [t.get_text() for t in fig.axes[1].texts][:2] == ["0.75", "1.00"]


def test_class_edges_are_arrows_where_compelled_and_lines_elsewhere(classes):
    edges = figures.class_edges(classes, 0, BASE)
    arrows = {(a, b) for a, mark, b in edges if mark == "->"}
    lines = {(a, b) for a, mark, b in edges if mark == "--"}
    assert arrows == {(BASE[i], BASE[j]) for i, j in np.argwhere(classes.compelled[0])}
    assert 2 * len(lines) == classes.reversible[0].sum()


def test_no_edge_runs_through_a_third_variable():
    place = {v: np.array(p) for v, p in figures._positions(BASE).items()}
    for a in BASE:
        for b in BASE:
            for c in set(BASE) - {a, b}:
                if a < b:
                    along, aside = place[b] - place[a], place[c] - place[a]
                    assert abs(along[0] * aside[1] - along[1] * aside[0]) / np.linalg.norm(along) > 0.1


def test_every_mark_can_be_drawn(classes):
    graph = reported_graph(
        ["M_bh -> sigma0", "Re <-> M_bh", "Mstar o-> Re", "sSFR o-o W2W3", "Re -- Sigma_e"]
    )
    graphs = {("ell", a): graph for a in ("pc", "fci")}
    fig = figures.constraint_graphs(graphs, {"ell": classes}, BASE)
    assert len(fig.axes) == 3
    assert len(fig.axes[0].patches) == 5


def test_omission_strips_name_influential_galaxies():
    values = np.linspace(0.4, 0.7, 10)
    fig = figures.omission_strips({"spr": values}, {"spr": 1 - values}, [("NGC 1", 0.4), ("NGC 2", 0.41)])
    names = {t.get_text(): t.xyann[1] for t in fig.axes[0].texts}
    assert names.keys() == {"NGC 1", "NGC 2"}
    assert names["NGC 2"] - names["NGC 1"] > 0.04


def test_the_other_figures_draw_what_they_get(classes):
    points = [PowerPoint(20, np.array([0.1, -0.2]), 0.5), PowerPoint(40, np.array([0.3, 0.2]), 0.5)]
    power = figures.power_curves({"ell": points}, {"ell": "E"})
    np.testing.assert_allclose(power.axes[1].lines[0].get_ydata(), [0.5, 1.0])
    null = figures.permutation_histogram(PermutationTest(1.0, np.array([0.1, -0.5, 0.2])))
    assert sum(p.get_height() for p in null.axes[0].patches) == 3
    dots = figures.sensitivity_dots({"ell": {"a": 0.1, "b": -0.2}})
    np.testing.assert_allclose(dots.axes[0].lines[0].get_xdata(), [0.1, -0.2])
    curve = CalibrationCurve(np.array([0.1]), np.array([0.2]), np.array([9]), np.array([0.05]))
    assert len(figures.calibration_curves({"x": curve}).axes[0].containers) == 1
    law = figures.descendant_laws({"ell": np.array([0.5, 0.25, 0.25])})
    assert [p.get_height() for p in law.axes[0].patches] == [0.5, 0.25, 0.25]
    assert "mean 0.75" in law.axes[0].get_legend().get_texts()[0].get_text()
    bars = figures.compelled_bars({"ell": np.full((7, 7), 0.3)}, {"ell": np.full((7, 7), 0.2)}, BASE)
    assert len(bars.axes[0].patches) == 24
    cost = figures.cost({"quoted": 300.0, "ours": 0.001}, {4: 1e-16, 5: 0.0})
    assert cost.axes[0].get_xscale() == "log"
    ranks = figures.rank_curves({"ell": np.array([0.3, 0.2, 0.1])}, {"ell": np.array([0, 1, 2])})
    assert len(ranks.axes[0].collections[0].get_offsets()) == 3
    exact = np.array([0.1, 0.9])
    panels = figures.gflownet_panels(
        [("edges", exact, exact)], {"E": [(1, 0.5), (2, 0.4)]}, {4: 1e-4, 5: 1e-3}
    )
    np.testing.assert_allclose(panels.axes[1].lines[0].get_ydata(), [0.5, 0.4])
    draws = {"ell": (np.array([0.1, 0.2]), np.array([0.8, 0.9]))}
    assert len(figures.error_histograms(draws, draws).axes) == 1
    far = figures.distance_maps({"ell": np.full((7, 7), 0.5)}, galaxies.DISTANCE)
    assert len(far.axes[0].texts) == 18
    pairs = figures.pairplot({"ell": galaxies.simulate(0).base["ell"].select(BASE[:2])})
    assert sum(len(c.get_offsets()) for c in pairs.axes[1].collections) == 35
    assert len(figures.class_graphs({"ell": classes}, BASE).axes) == 3
