"""Every experiment on the stand-in: what it announces, measures and shows; sizes that cannot be meant are refused in one line."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.experiment import Work, own_settings
from lib.profiles import ParameterError
from lib.records import Run
from lib.smbh import appearance
from lib.smbh.calibration import CalibrationCurve
from lib.smbh.constraint_based import reported_graph
from lib.smbh.equivalence_classes import classify
from lib.smbh.experiments import (
    calibration,
    compelled_edges,
    compendium,
    dag_gflownet,
    enumeration,
    leave_one_out,
    measurement_error,
    pc_and_fci,
    permutation,
    power,
    priors,
    reversal,
    semi_analytic_model,
)
from lib.smbh.galaxies import TYPES
from lib.smbh.permutation import PermutationTest
from lib.smbh.power import PowerPoint
from lib.smbh.profiles import EXPERIMENTS, PROFILES
from lib.smbh.sampled_graphs import LearnedMarginals

SMALL = {
    "types": ["ell", "len", "spr"],
    "enumeration_timed_up_to": 5,
    "constraint_further_levels": [0.3],
    "error_draws": 3,
    "permutation_shuffles": 4,
    "power_further_sizes": [],
    "power_subsamples": 3,
    "calibration_datasets": 100,
    "larger_variables": [8],
    "gflownet_types": ["spr"],
    "gflownet_variables": 7,
    "gflownet_steps": 3,
    "gflownet_samples": 20,
    "gflownet_small": [2],
    "gflownet_small_steps": 5,
}


def start(folder: Path, **overrides: Any) -> Run[Any]:
    return Run.start(
        "smbh", PROFILES, profile="smoke", accelerator="cpu", data="standin", out_dir=folder, overrides=overrides
    )  # fmt: skip


@pytest.fixture(autouse=True)
def close() -> Any:
    yield
    plt.close("all")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_it_measures_what_it_announces_and_shows_something(tmp_path: Path, experiment: ModuleType) -> None:
    run = start(tmp_path, **SMALL)
    results = Work(run).here(experiment)
    settings = own_settings(run, experiment)
    assert sorted(run.measurements) == sorted(experiment.metrics(settings))
    assert all(np.isfinite(m.mean) for m in run.measurements.values())
    shown = experiment.tables(settings, results)
    assert shown
    assert all(len(table) for table in shown.values())
    for fig in experiment.figures(settings, results).values():
        fig.canvas.draw()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", TYPES)
def test_one_type_is_enough(tmp_path: Path, kind: str) -> None:
    """The experiments that compare types leave out what they cannot say."""
    run = start(tmp_path, **(SMALL | {"types": [kind]}))
    work = Work(run)
    for name, experiment in EXPERIMENTS.items():
        if name in ("reversal", "omission", "distance", "permutation", "prior", "larger"):
            results, settings = work.here(experiment), own_settings(run, experiment)
            experiment.tables(settings, results)
            experiment.figures(settings, results)
    assert "permutation_p" not in run.measurements
    assert ("larger_lead_min" in run.measurements) == (kind != "len")
    assert f"lead_{kind}_edge" in run.measurements


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"types": ["xyz"]}, "types"),
        ({"types": []}, "types"),
        ({"types": ["ell", "ell"]}, "types"),
        ({"constraint_level": 7.0}, "constraint_level"),
        ({"constraint_further_levels": [0.0]}, "constraint_further_levels"),
        ({"permutation_shuffles": 0}, "permutation_shuffles"),
        ({"power_galaxies": 1}, "power_galaxies"),
        ({"power_subsamples": 0}, "power_subsamples"),
        ({"omission_galaxies": 0}, "omission_galaxies"),
        ({"error_draws": 1}, "error_draws"),
        ({"enumeration_variables": [8]}, "enumeration_variables"),
        ({"larger_variables": [11]}, "larger_variables"),
        ({"larger_variables": [7]}, "larger_variables"),
        ({"calibration_variables": []}, "calibration_variables"),
        ({"model_cut": 0.0}, "model_cut"),
        ({"compendium_threshold": 0.0}, "compendium_threshold"),
        ({"gflownet_types": ["nofb"]}, "gflownet_types"),
        ({"gflownet_small": [6]}, "gflownet_small"),
        ({"gflownet_network": "cnn"}, "gflownet_network"),
        ({"gflownet_variables": 11}, "gflownet_variables"),
        ({"gflownet_between": [4]}, r"gflownet_between=\(4,\): 4 is the size of the judged trainings"),
    ],
)
def test_a_size_that_cannot_be_meant_is_one_line(tmp_path: Path, override: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message) as error:
        start(tmp_path, **override)
    assert "\n" not in str(error.value)


def test_too_short_a_list_of_graphs_is_one_line(tmp_path: Path) -> None:
    run = start(tmp_path, compendium_threshold=0.5)
    with pytest.raises(ParameterError, match=r"compendium_threshold=0\.5: .* 10 are shown"):
        Work(run).here(compendium)


def test_the_judged_size_and_level_are_always_among_all(tmp_path: Path) -> None:
    run = start(tmp_path, power_galaxies=50, power_further_sizes=[60, 50], constraint_level=0.2)
    assert run.of(power.Settings).sizes == [50, 60]
    assert run.of(pc_and_fci.Settings).levels == [0.2]


# Numbers of an experiment by hand


def oriented(kind: str) -> compelled_edges.Oriented:
    compelled, reversible = np.zeros((7, 7)), np.zeros((7, 7))
    compelled[1, 0], reversible[1, 0], reversible[0, 1] = 0.6, 0.1, 0.2
    return compelled_edges.Oriented(kind, compelled + reversible, compelled, reversible)


def test_omissions_that_keep_the_order_are_counted() -> None:
    edges, paths = np.zeros((7, 7)), np.zeros((7, 7))
    edges[1, 0], edges[0, 1] = 0.7, 0.2
    four = np.stack([edges, edges, edges.T, edges])
    r = leave_one_out.Omitted("ell", tuple("abcd"), four, four, four, edges, paths)
    assert leave_one_out.kept_edge(r) == 0.75


def test_draws_that_keep_the_order_are_counted() -> None:
    edges = np.zeros((3, 7, 7))
    edges[:, 0, 1], edges[:, 1, 0] = [0.6, 0.5, 0.2], [0.1, 0.2, 0.5]
    r = measurement_error.Redrawn("spr", edges, edges, base_lead=0.4)
    assert r.kept == 2
    np.testing.assert_array_equal(r.pair("edges")[0], [0.6, 0.5, 0.2])


def test_compelled_and_reversible_samples_are_counted() -> None:
    assert oriented("ell").counts(1000) == (600, 100)
    assert oriented("spr").counts(1000) == (0, 200)


def test_frequencies_of_classes_are_compared_with_probabilities() -> None:
    parents = np.array([[0, 1, 0], [0, 0, 0], [0, 1, 2]])  # one edge, none, a chain: three classes
    assert len(classify(parents).sizes) == 3
    drawn = np.repeat(parents, [6, 3, 1], axis=0)
    exact = dag_gflownet.BestClasses(parents, np.array([0.5, 0.3, 0.1]))
    assert dag_gflownet.class_gap(exact, drawn) == pytest.approx(10.0)


def test_the_official_settings_are_those_that_the_fields_name() -> None:
    """``paper`` in the settings table of the page and the values of the profile ``paper`` are one thing."""
    paper = PROFILES["paper"].of(dag_gflownet.Settings)
    for name, field in dag_gflownet.Settings.__dataclass_fields__.items():
        wanted = field.metadata["paper"]
        if wanted is not None:
            value = getattr(paper, name)
            assert sorted(value) == sorted(wanted) if name == "types" else value == wanted, name


def test_rows_cut_off_are_given_in_per_cent() -> None:
    cuts = (semi_analytic_model.Cut(6.0, 1727, -0.9), semi_analytic_model.Cut(None, 1999, 0.2))
    model = semi_analytic_model.Model("spr", np.zeros((4, 4)), np.zeros((4, 4)), cuts)
    table = semi_analytic_model.tables(semi_analytic_model.Settings(), [model])["cuts"]
    assert table["spirals with feedback: rows cut off"].tolist() == ["13.6 %", "0.0 %"]
    assert table["cut (robust deviations)"].tolist() == ["6", "none"]


def test_the_pages_words_on_the_cut_are_true(real: Any) -> None:
    """272 of the 1,999 spirals, 270 of them for low star formation; 0.7 and 2.1 % of the other samples; wider cuts keep the spirals."""
    settings = semi_analytic_model.Settings()
    models = {k: semi_analytic_model.model_galaxies(k, real.sam[k], settings) for k in ("ell", "spr", "nofb")}
    gone = {k: m.cuts[-1].rows - m.cuts[0].rows for k, m in models.items()}
    assert gone == {"ell": 8, "spr": 272, "nofb": 55}
    spirals = real.sam["spr"].values
    spread = 1.4826 * np.median(np.abs(spirals - np.median(spirals, axis=0)), axis=0)
    far = np.abs(spirals - np.median(spirals, axis=0)) > settings.cut * spread
    assert far.sum(axis=0).tolist() == [0, 0, 0, 272]
    assert (spirals[far[:, 3], 3] < np.median(spirals[:, 3])).sum() == 270
    assert models["ell"].cuts[0].lead > 0 > max(models["spr"].cuts[0].lead, models["nofb"].cuts[0].lead)
    assert all(cut.lead > 0 for cut in models["spr"].cuts[1:])


# Figures show the numbers that they are given, a type in its own colour


def test_a_type_has_one_colour_and_marker_of_its_own() -> None:
    assert len(set(appearance.COLOURS.values())) == len(set(appearance.MARKERS.values())) == 4


def test_the_headline_is_drawn_in_the_colours_of_the_types() -> None:
    fig = compelled_edges.draw_headline([oriented("ell"), oriented("spr")])
    widths = [round(p.get_width(), 2) for p in fig.axes[0].patches]
    assert widths == [0.6, 0.0, 0.1, 0.2] * 2
    colours = {plt.matplotlib.colors.to_hex(p.get_facecolor()) for p in fig.axes[0].patches}
    assert colours == {appearance.COLOURS["ell"], appearance.COLOURS["spr"]}


def test_omission_strips_name_influential_spirals() -> None:
    edges = np.zeros((10, 7, 7))
    edges[:, 0, 1] = [0.4, 0.41, *np.linspace(0.6, 0.65, 8)]
    base = np.zeros((7, 7))
    base[0, 1] = 0.62
    names = tuple(f"NGC {i}" for i in range(10))
    fig = leave_one_out.draw_strips([leave_one_out.Omitted("spr", names, edges, edges, edges, base, base)])
    place = {t.get_text(): t.xyann[1] for t in fig.axes[0].texts}
    assert {"NGC 0", "NGC 1"} <= place.keys()
    assert len(place) == leave_one_out.NAMED
    assert place["NGC 1"] - place["NGC 0"] > 0.04


def test_error_histograms_hold_every_draw() -> None:
    edges = np.random.default_rng(0).uniform(0, 1, (20, 7, 7))
    fig = measurement_error.draw_histograms([measurement_error.Redrawn("ell", edges, edges, 0.5)])
    bars = [p for p in fig.axes[0].patches if isinstance(p, plt.Rectangle)]
    assert sum(p.get_height() for p in bars) == 40


def test_power_curves_show_shares() -> None:
    points = (PowerPoint(20, np.array([0.1, -0.2]), 0.5), PowerPoint(35, np.array([0.3, 0.2]), 0.5))
    fig = power.figures(power.Settings(), [power.Subsampled("ell", points)])["curves"]
    np.testing.assert_allclose(fig.axes[1].lines[0].get_ydata(), [0.5, 1.0])
    assert fig.axes[1].lines[0].get_color() == appearance.COLOURS["ell"]


def test_the_null_holds_every_shuffle() -> None:
    fig = permutation.draw_contrast(PermutationTest(1.0, np.array([0.1, -0.5, 0.2])))
    assert sum(p.get_height() for p in fig.axes[0].patches) == 3


def test_leads_are_drawn_towards_the_hole() -> None:
    edges = np.zeros((7, 7))
    edges[1, 0], edges[0, 1] = 0.5, 0.2
    rows = (priors.SensitivityRow("a", edges, edges), priors.SensitivityRow("b", edges.T, edges))
    fig = priors.figures(priors.Settings(), [priors.UnderPriors("ell", rows)])["leads"]
    np.testing.assert_allclose(fig.axes[0].lines[0].get_xdata(), [0.3, -0.3])
    assert priors.UnderPriors("ell", rows).smallest("edges", ("sigma0", "M_bh")) == pytest.approx(-0.3)


def test_calibration_has_a_curve_for_each_way_and_size() -> None:
    curve = CalibrationCurve(np.array([0.1]), np.array([0.2]), np.array([9]), np.array([0.05]))
    found = [calibration.Calibrated(4, label, curve, 0.1, (0.0, 0.2)) for label in calibration.METRICS]
    fig = calibration.figures(calibration.Settings(), [found])["curves"]
    assert len(fig.axes[0].containers) == 2


def test_descendants_are_drawn_as_given() -> None:
    fig = reversal.draw_descendants({"ell": np.array([0.5, 0.25, 0.25])})
    assert [p.get_height() for p in fig.axes[0].patches] == [0.5, 0.25, 0.25]
    assert "mean 0.75" in fig.axes[0].get_legend().get_texts()[0].get_text()


def test_cost_is_logarithmic_and_ranks_are_all_drawn() -> None:
    audits = [enumeration.Audit(4, 1e-16, 0.1), enumeration.Audit(5, 0.0, 0.2)]
    fig = enumeration.draw_cost({"quoted": 300.0, "ours": 0.001}, audits)
    assert fig.axes[0].get_xscale() == "log"
    classes = np.zeros((10, 7, 7), dtype=bool)
    ranks = np.array([1, 2, 3])
    found = compendium.Compendium(
        "ell", np.full(10, 0.01), np.ones(10, dtype=int), classes, classes, ranks / 10, 0.6, ranks, ranks / 10, ranks - 1
    )  # fmt: skip
    assert len(compendium.draw_ranks([found]).axes[0].collections[0].get_offsets()) == 3
    assert len(compendium.draw_classes([found]).axes) == compendium.DRAWN


def test_learned_marginals_are_drawn_against_exact_ones() -> None:
    exact = np.array([[0.0, 0.3], [0.6, 0.0]])
    learned = LearnedMarginals(exact + 0.1, exact, np.zeros((5, 2), dtype=int), 0.1, 0.0, 0.01)
    best = dag_gflownet.Learned("spr", 2, 0, learned, exact, exact)
    curve = dag_gflownet.Curve("ell", 2, ((1, 0.5), (2, 0.4)))
    fig = dag_gflownet.draw_learned(best, [curve])
    np.testing.assert_allclose(fig.axes[0].collections[0].get_offsets(), [[0.3, 0.4], [0.6, 0.7]])
    np.testing.assert_allclose(fig.axes[1].lines[0].get_ydata(), [0.5, 0.4])


def test_every_mark_can_be_drawn() -> None:
    graph = reported_graph(
        ["M_bh -> sigma0", "Re <-> M_bh", "Mstar o-> Re", "sSFR o-o W2W3", "Re -- Sigma_e"]
    )
    found = tuple(pc_and_fci.Found(a, 0.15, tuple(sorted(graph))) for a in ("pc", "fci"))
    none = np.zeros((7, 7), dtype=bool)
    tested = pc_and_fci.TestedType("ell", found, found, np.zeros((7, 7)), none, none)
    fig = pc_and_fci.figures(pc_and_fci.Settings(), [tested])["graphs"]
    assert len(fig.axes) == 3
    assert len(fig.axes[0].patches) == len(graph)
