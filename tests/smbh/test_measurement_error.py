"""Error draws: the authors' order of random numbers, and their published spreads."""

import numpy as np
import pytest

from lib.smbh import galaxies
from lib.smbh.directions import posterior
from lib.smbh.galaxies import BASE, TYPES
from lib.smbh.measurement_error import official_draws, separation
from lib.smbh.reported import ROUNDING, entry, reported, spread_deviation


def test_random_numbers_come_type_by_type_and_column_by_column():
    samples = galaxies.simulate(np.random.default_rng(0), rows=6).base
    draws = official_draws(samples, [3, 5])
    np.random.seed(5)  # the global legacy generator, as a script of the authors' kind would use it
    for t in TYPES:
        for column in range(7):
            noise = np.random.normal(0, 1, 6)
            wanted = samples[t].values[:, column] + noise * samples[t].errors[:, column]
            np.testing.assert_array_equal(draws[t][1, :, column], wanted)


def test_a_sample_without_errors_is_refused():
    with pytest.raises(ValueError, match="no measurement errors"):
        official_draws(galaxies.simulate(np.random.default_rng(0), rows=6).distance, [0])


@pytest.fixture(scope="module")
def noisy(real):
    draws = official_draws(real.base, range(100))
    return {t: posterior(draws[t]) for t in TYPES}


@pytest.mark.parametrize("kind", TYPES)
def test_published_means_spreads_and_separations(noisy, kind):
    paper = reported()["error_draws"]
    assert spread_deviation(noisy[kind].edges, noisy[kind].paths, paper, kind, BASE) < ROUNDING
    for name in ("edges", "paths"):
        found = getattr(noisy[kind], name)
        pair = (entry(found, a, BASE) for a in ("M_bh -> sigma0", "sigma0 -> M_bh"))
        assert abs(separation(*pair) - paper["significance"][name][kind]) < 0.01


def test_separation_by_hand():
    assert separation(np.array([0.0, 2.0]), np.array([4.0, 6.0])) == pytest.approx(4 / np.sqrt(2))
