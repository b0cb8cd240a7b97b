"""Sensitivity, permutation, power, calibration and the leads that the claims are judged by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.smbh import calibration, directions, galaxies, sensitivity
from lib.smbh.bge_score import log_scores, standardise
from lib.smbh.dag_posterior import dag_posterior
from lib.smbh.dag_sampling import sample_dags
from lib.smbh.data_matrix import DataMatrixError
from lib.smbh.equivalence_classes import classify
from lib.smbh.experiments import reversal
from lib.smbh.galaxies import BASE, SAM
from lib.smbh.outliers import without_outliers
from lib.smbh.permutation import PermutationTest, lead, permutation_test
from lib.smbh.power import power_curve
from tests.smbh import plain_dags


@pytest.fixture(scope="module")
def standin():
    return galaxies.simulate(np.random.default_rng(0))


# Sensitivity


@given(st.integers(0, 2**31), st.integers(3, 12))
def test_ranks_do_not_see_monotone_transforms(seed, rows):
    values = np.random.default_rng(seed).normal(size=(rows, 3))
    ranks = sensitivity.rank_gaussianise(values)
    np.testing.assert_allclose(ranks, sensitivity.rank_gaussianise(np.exp(values)))
    assert (ranks.argsort(axis=0) == values.argsort(axis=0)).all()
    np.testing.assert_allclose(ranks.mean(axis=0), 0, atol=1e-12)


def test_the_first_setting_is_the_papers_and_all_are_there(standin):
    values = standin.base["spr"].values
    rows = sensitivity.sensitivity(values, samples=500, rng=np.random.default_rng(0))
    np.testing.assert_allclose(rows[0].edges, directions.posterior(values).edges)
    assert len(rows) == len({r.setting for r in rows}) == 13
    for r in rows[1:]:
        assert np.abs(r.edges - rows[0].edges).max() > 1e-4, r.setting


def test_adjacency_and_ancestors_agree_with_plain_lists():
    adjacency = plain_dags.all_dags(4)
    masks = plain_dags.to_masks(adjacency)
    np.testing.assert_array_equal(sensitivity.adjacency_of(masks), adjacency)
    np.testing.assert_array_equal(
        sensitivity.ancestors_of(adjacency.astype(bool)), plain_dags.all_closures(4)
    )


def test_class_uniform_marginals_agree_with_the_sum_over_all_graphs(standin):
    table = log_scores(standardise(standin.base["ell"].values[:, :4]))
    adjacency = plain_dags.all_dags(4).astype(float)
    masks = plain_dags.to_masks(plain_dags.all_dags(4))
    classes = classify(masks)
    weight = np.exp(plain_dags.dag_log_scores(table) - plain_dags.dag_log_scores(table).max())
    weight = weight / classes.sizes[classes.member_of]
    wanted = np.tensordot(weight / weight.sum(), adjacency, axes=1)
    edges, paths = sensitivity.class_uniform(sample_dags(table, 40_000, np.random.default_rng(1)))
    assert np.abs(edges - wanted).max() < 0.02
    assert (paths >= edges - 1e-12).all()
    flat = dag_posterior(table).edges
    assert np.abs(edges - flat).max() > 0.02  # the two priors do differ here


# Permutation


def test_the_lead_is_antisymmetric_and_exact(standin):
    values = standin.base["ell"].values[None]
    paths = directions.posterior(values[0]).paths
    assert lead(values, 0, 1)[0] == pytest.approx(paths[0, 1] - paths[1, 0])
    assert lead(values, 1, 0)[0] == pytest.approx(-lead(values, 0, 1)[0])


def test_batches_do_not_change_leads():
    values = np.random.default_rng(0).normal(size=(7, 12, 3))
    np.testing.assert_allclose(lead(values, 0, 2, batch=3), lead(values, 0, 2))


def test_shuffled_copies_of_one_group_show_no_contrast(standin):
    group = standin.base["spr"].values
    test = permutation_test(group, group, 0, 1, 40, rng=np.random.default_rng(0))
    assert test.observed == pytest.approx(0.0, abs=1e-12)
    assert test.as_large == 40
    assert test.p_value == 1.0


def test_p_counts_the_real_labels_and_both_sides():
    test = PermutationTest(1.0, np.array([-1.2, 0.3, 0.9, 1.0]))
    assert test.as_large == 2
    assert test.p_value == pytest.approx(3 / 5)


def test_the_real_contrast(real):
    test = permutation_test(
        real.base["ell"].values, real.base["spr"].values, 0, 1, 100, rng=np.random.default_rng(0)
    )
    assert test.observed == pytest.approx(1.058, abs=1e-3)
    assert test.p_value < 0.1


# Power


def test_a_subsample_of_all_rows_is_the_full_sample(standin):
    values = standin.sam["ell"].values[:50]
    points = power_curve(values, 1, 0, (20, 50, 51), subsamples=3, rng=np.random.default_rng(0))
    assert [p.rows for p in points] == [20, 50]
    np.testing.assert_allclose(points[1].leads, points[1].full_lead, rtol=1e-9)
    assert points[1].agreeing == 3


def test_no_possible_size_is_an_error(standin):
    with pytest.raises(DataMatrixError, match="at most 10"):
        power_curve(standin.sam["ell"].values[:10], 1, 0, (20,), subsamples=2, rng=np.random.default_rng(0))


# Calibration


@pytest.fixture(scope="module")
def simulated():
    return calibration.simulate_from_prior(4, 28, 6000, rng=np.random.default_rng(3))


def test_graphs_are_uniform_and_data_follow_them(simulated):
    off = ~np.eye(4, dtype=bool)
    everything = plain_dags.all_dags(4)
    share = everything[:, off].mean()
    assert simulated.truth[:, off].mean() == pytest.approx(share, abs=0.01)
    # two nodes without a common ancestor-or-self are independent: correlations of size 1 / sqrt(27) only
    reach = sensitivity.ancestors_of(simulated.truth) | np.eye(4, dtype=bool)
    related = (reach[:, :, 0] & reach[:, :, 1]).any(axis=1)
    X = standardise(simulated.values)
    r = (X[:, :, 0] * X[:, :, 1]).sum(axis=1) / 27
    assert r[~related].std() == pytest.approx(1 / np.sqrt(27), rel=0.1)
    assert r[related].std() > 2 / np.sqrt(27)


def test_reported_marginals_are_frequencies_without_standardising(simulated):
    curve = calibration.calibration_curve(
        calibration.edge_marginals(simulated.values, False), simulated.truth
    )
    enough = curve.count >= 50
    z = (curve.frequency - curve.reported)[enough] / curve.error[enough]
    assert enough.sum() >= 7
    assert np.abs(z).max() < 4  # edges of one data set are dependent, so a little wider than binomial


def test_standardising_makes_marginals_overconfident(simulated):
    edges = calibration.edge_marginals(simulated.values, True)
    gap, low, high = calibration.gap_above(edges, simulated.truth, 0.7)
    assert low < gap < high < 0
    curve = calibration.calibration_curve(edges, simulated.truth)
    assert curve.frequency[0] > curve.reported[0] + 10 * curve.error[0]


def test_calibration_curve_by_hand():
    edges = np.zeros((2, 2, 2))
    edges[:, 0, 1], edges[:, 1, 0] = [0.1, 0.9], [0.12, 0.95]
    truth = np.zeros((2, 2, 2), dtype=bool)
    truth[1, 0, 1] = True
    curve = calibration.calibration_curve(edges, truth, bins=2)
    np.testing.assert_allclose(curve.reported, [0.11, 0.925])
    np.testing.assert_allclose(curve.frequency, [0.0, 0.5])
    assert curve.count.tolist() == [2, 2]
    assert calibration.gap_above(edges, truth, 0.8)[0] == pytest.approx(0.5 - 0.925)
    with pytest.raises(ValueError, match=r"above 0\.99"):
        calibration.gap_above(edges, truth, 0.99)


# Leads


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_between_is_positive_exactly_inside_the_interval(seed):
    e, m, s = np.random.default_rng(seed).uniform(0, 0.5, (3, 7, 7))
    leads = [x[1, 0] - x[0, 1] for x in (e, m, s)]
    assert (directions.between({"ell": e, "len": m, "spr": s}) > 0) == (leads[0] > leads[1] > leads[2])


def test_base_metrics_on_hand_made_matrices():
    edges = np.zeros((7, 7))
    edges[1, 0], edges[0, 1] = 0.7, 0.2
    paths = np.zeros((7, 7))
    paths[5, 0], paths[0, 5] = 0.8, 0.1
    found = reversal.base_metrics({"ell": edges, "spr": edges.T}, {"ell": paths, "spr": paths.T})
    assert found["lead_ell_edge"] == found["lead_spr_edge"] == pytest.approx(0.5)
    assert found["lead_ell_path_ssfr"] == found["lead_spr_path_ssfr"] == pytest.approx(0.7)
    assert found["ell_sigma_to_bh"] == 0.7
    assert found["spr_bh_to_sigma"] == 0.7


def test_outliers_are_rows_far_from_a_median():
    values = np.random.default_rng(0).normal(size=(200, 4))
    values[7, 2] = 40.0
    sample = galaxies.Sample(tuple(map(str, range(200))), SAM, values)
    kept = without_outliers(sample, 6.0)
    assert len(kept.names) == 199
    assert "7" not in kept.names


def test_descendant_counts_follow_from_descendant_sets(standin):
    result = directions.posterior(standin.base["spr"].values)
    law = directions.descendant_count_law(result.descendants, 0)
    assert law.sum() == pytest.approx(1.0)
    assert np.arange(7) @ law == pytest.approx(
        result.paths[0].sum()
    )  # expected number = sum of path marginals


def test_the_real_laws_of_descendants(real):
    for kind, mean in (("ell", 1.27), ("len", 1.66), ("spr", 3.98)):
        result = directions.posterior(real.base[kind].values)
        law = directions.descendant_count_law(result.descendants, BASE.index("M_bh"))
        assert np.arange(7) @ law == pytest.approx(mean, abs=0.006)
