"""Loading: the real tables, every way in which a file can be broken, and the stand-in whose graph is known."""

import numpy as np
import pandas as pd
import pytest

from lib.datasets import DataError
from lib.profiles import ParameterError
from lib.records import Run
from lib.smbh import galaxies
from lib.smbh.directions import posterior
from lib.smbh.galaxies import BASE, EXTENDED, SIX, SYMBOLS, Sample, Selection
from lib.smbh.profiles import PROFILES


def write(path, rows=4, header=True, **changes):
    frame = pd.DataFrame({"Galaxy": [f"NGC {i}" for i in range(rows)]})
    for k, v in enumerate(BASE):
        frame[SYMBOLS[v]] = np.linspace(k, k + 1, rows) ** 2
    for column, value in changes.items():
        frame[SYMBOLS[column]] = value
    frame.to_csv(path, index=False)
    return path


def test_real_samples_have_the_published_sizes_and_agree_with_the_catalogue(real):
    assert {t: s.values.shape for t, s in real.base.items()} == {
        "ell": (35, 7),
        "len": (38, 7),
        "spr": (28, 7),
    }
    assert {t: len(s.names) for t, s in real.sam.items()} == {"ell": 1189, "spr": 1999, "nofb": 2663}
    assert real.catalogue_rows == 145
    assert not real.simulated
    assert real.extended["spr"].values.shape == (28, 10)
    assert "NGC 4826" in real.base["spr"].names
    assert (real.base["ell"].errors > 0).all()


def test_a_changed_value_in_a_table_is_found(real):
    changed = real.base["ell"].values.copy()
    changed[3, 2] += 1e-9
    broken = Sample(real.base["ell"].names, BASE, changed)
    with pytest.raises(DataError, match=r"differ in .*, Re, by 1e-09"):
        galaxies.check_equal(broken, real.extended["ell"].select(BASE), "table and catalogue")


def test_a_good_table_is_read_in_the_order_asked_for(tmp_path):
    sample = galaxies.read_table(write(tmp_path / "t.csv"), ("Re", "M_bh"))
    np.testing.assert_allclose(sample.values[:, 1], np.linspace(0, 1, 4) ** 2)
    np.testing.assert_allclose(sample.values[:, 0], np.linspace(2, 3, 4) ** 2)
    assert sample.names == ("NGC 0", "NGC 1", "NGC 2", "NGC 3")


def one_line(error):
    return "\n" not in str(error.value)


def test_a_missing_column_is_named_with_the_nearest_one(tmp_path):
    path = write(tmp_path / "t.csv")
    path.write_text(path.read_text().replace("log_sigma0", "log_sigma1"))
    with pytest.raises(
        DataError, match=r"t\.csv: column 'log_sigma0' is missing; did you mean 'log_sigma1'"
    ) as e:
        galaxies.read_table(path, BASE)
    assert one_line(e)


@pytest.mark.parametrize("bad", [np.nan, np.inf, "n/a"])
def test_a_value_that_is_no_number_is_named_by_column_and_row(tmp_path, bad):
    path = write(tmp_path / "t.csv", sSFR=[1.0, 2.0, bad, 3.0])
    with pytest.raises(DataError, match=r"column 'GJC23log\(sSFR\)', data row 3") as e:
        galaxies.read_table(path, BASE)
    assert one_line(e)


def test_a_truncated_last_line_is_found(tmp_path):
    path = write(tmp_path / "t.csv")
    path.write_text(path.read_text().rstrip().rsplit(",", 1)[0])
    with pytest.raises(DataError, match="line 5 has 7 fields instead of 8"):
        galaxies.read_table(path, BASE)


@pytest.mark.parametrize("text", ["", "Galaxy,M_BH\n"])
def test_an_empty_file_is_found(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match="empty or truncated"):
        galaxies.read_table(tmp_path / "t.csv", BASE)


def test_a_catalogue_without_its_first_line_is_found(tmp_path):
    write(tmp_path / "c.csv")
    with pytest.raises(DataError, match="column 'Galaxy' is missing"):
        galaxies.read_catalogue(tmp_path / "c.csv")


def test_a_negative_error_is_found(tmp_path):
    sample = galaxies.read_table(write(tmp_path / "t.csv"), BASE)
    frame = pd.read_csv(tmp_path / "t.csv")
    for v in BASE:
        frame[galaxies.error_column(SYMBOLS[v])] = -0.1
    frame.to_csv(tmp_path / "e.csv", index=False)
    with pytest.raises(DataError, match="negative"):
        galaxies.with_errors(sample, tmp_path / "e.csv")


def test_select_names_an_unknown_variable():
    with pytest.raises(DataError, match="no variable 'sigma'; did you mean 'sigma0'"):
        galaxies.simulate(np.random.default_rng(0), rows=5).base["ell"].select(("sigma",))


def test_the_stand_in_has_the_form_of_the_real_data():
    standin = galaxies.simulate(np.random.default_rng(0))
    assert standin.simulated
    assert {t: s.values.shape for t, s in standin.base.items()} == {
        "ell": (35, 7),
        "len": (38, 7),
        "spr": (28, 7),
    }
    assert standin.extended["len"].variables == EXTENDED
    assert standin.six["spr"].variables == SIX
    assert all(s.errors is not None for s in standin.base.values())
    again = galaxies.simulate(np.random.default_rng(0))
    np.testing.assert_array_equal(standin.base["spr"].values, again.base["spr"].values)


@pytest.mark.parametrize("kind", ["ell", "len", "spr"])
def test_the_posterior_finds_the_graph_that_made_the_stand_in(kind):
    sample = galaxies.simulate(np.random.default_rng(7), rows=3000).base[kind]
    edges = posterior(sample.values).edges
    joined = edges + edges.T
    truth = sample.truth | sample.truth.T
    off = ~np.eye(7, dtype=bool)
    assert joined[truth].min() > 0.99
    assert joined[off & ~truth].max() < 0.5
    assert joined[off & ~truth].mean() < 0.05
    # Re has unjoined parents in every type, so the data orient this edge
    assert edges[BASE.index("Sigma_e"), BASE.index("Re")] > 0.95


def test_a_cycle_in_a_simulated_graph_is_refused():
    with pytest.raises(DataError, match="cycle"):
        galaxies.simulate_linear_gaussian(
            ("a", "b"), (("a", "b"), ("b", "a")), 3, np.random.default_rng(0), 1.0
        )


def test_load_takes_the_stand_in_when_asked_to(tmp_path):
    run = Run.start("smbh", PROFILES, profile="smoke", accelerator="cpu", data="standin", out_dir=tmp_path)
    assert galaxies.load(run).simulated
    assert run.data_source == "standin"


def test_the_stand_in_cannot_judge_claims_about_galaxies(tmp_path):
    run = Run.start("smbh", PROFILES, profile="default", accelerator="cpu", data="standin", out_dir=tmp_path)
    galaxies.load(run)
    run.measure("top_class_max", 0.9)
    run.measure("top_dag_max", 0.2)
    assert run.verdicts()["C4"] == "not run"


@pytest.mark.parametrize("name", ["smoke", "default", "gpu", "paper"])
def test_profiles_start_and_refuse_typos(tmp_path, name):
    run = Run.start("smbh", PROFILES, profile=name, accelerator="cpu", out_dir=tmp_path)
    assert set(run.of(Selection).types) <= {"ell", "len", "spr"}
    with pytest.raises(ParameterError, match="did you mean 'permutation_shuffles'"):
        Run.start(
            "smbh", PROFILES, profile=name, accelerator="cpu", out_dir=tmp_path, overrides={"permutations": 1}
        )
