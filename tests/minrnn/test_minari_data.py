"""The Minari loader against a data set that Minari itself made, offline."""

from pathlib import Path

import numpy as np
import pytest

from lib.experiment import Machine, Work
from lib.minrnn import minari_data
from lib.minrnn.experiments import minari as minari_experiment
from lib.minrnn.minari_data import MinariError
from lib.profiles import PROFILE_NAMES, put_together
from lib.records import Run
from tests.minrnn.pendulum_store import make_store

minari = pytest.importorskip("minari", reason='optional extra: pip install "minari[hdf5]"')
pytest.importorskip("h5py")
ID = "test/pendulum/medium-v0"


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """A store with one data set of three Pendulum episodes."""
    return make_store([ID], tmp_path / "store", monkeypatch)


def test_episodes_come_back_as_they_were_stored(stored: list[dict[str, np.ndarray]]) -> None:
    data = minari_data.load_minari(ID)
    assert data.lengths.tolist() == [12, 12, 12]
    for i, episode in enumerate(stored):
        np.testing.assert_allclose(data.observations[i], episode["observations"][:-1], rtol=1e-6)
        np.testing.assert_allclose(data.actions[i], episode["actions"], rtol=1e-6)
        np.testing.assert_allclose(data.rewards[i], episode["rewards"], rtol=1e-6)


def test_the_paper_profile_trains_on_it_and_is_scored(
    stored: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    small = {
        "minari_ids": [ID],
        "minari_models": ["min_gru", "memoryless"],
        "minari_width": 8,
        "minari_layers": 1,
        "minari_steps": 3,
        "minari_batch": 4,
        "minari_learning_rates": [[1e-3, 1e-2]],
        "minari_context": 4,
        "minari_seeds": 1,
        "minari_evaluation_episodes": 2,
        "checkpoint_every": None,
    }
    chapter = put_together(
        {"minari": minari_experiment}, {name: Machine(workers=1) for name in PROFILE_NAMES}
    )
    run = Run.start("minrnn", chapter, profile="paper", accelerator="cpu", out_dir=tmp_path, overrides=small)
    work = Work(run)
    results = work.finish(minari_experiment)
    work.close()
    assert [r.model for [r] in results] == ["min_gru", "memoryless"]
    assert all(np.isfinite(r.score) and r.data_set == ID for [r] in results)
    assert run.measurements["d4rl_mingru_pendulum_medium"].values == (results[0][0].score,)
    table = minari_experiment.tables(run.of(minari_experiment.Settings), results)["scores"]
    assert list(table["model"]) == ["minGRU", "memoryless MLP"]


def test_a_missing_data_set_is_one_line_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(MinariError, match="minari download mujoco/hopper/medium-v0"):
        minari_data.load_minari("mujoco/hopper/medium-v0")


def test_malformed_data_sets_are_refused() -> None:
    class Fake:
        def __init__(self, episodes: list) -> None:
            self.episodes = episodes

        def iterate_episodes(self) -> list:
            return self.episodes

    class Episode:
        rewards = np.ones(2)
        observations: object = np.ones((3, 4))
        actions: object = np.ones((2, 1))

    with pytest.raises(MinariError, match="holds no episode"):
        minari_data.from_minari(Fake([]))
    wrong = Episode()
    wrong.observations = {"image": 1}
    with pytest.raises(MinariError, match="observations of the Minari data set are not vectors"):
        minari_data.from_minari(Fake([wrong]))
    broken = Episode()
    broken.actions = np.full((2, 1), np.nan)
    with pytest.raises(MinariError, match="actions hold a value that is not finite"):
        minari_data.from_minari(Fake([broken]))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("main_data.hdf5", b""),
        ("main_data.hdf5", b"\x89HDF\r\n\x1a\n" + bytes(64)),
        ("main_data.hdf5", b"\x80\x04K\x01."),
        ("metadata.json", b""),
        ("metadata.json", b"[]"),
        ("metadata.json", b"{}"),
        ("metadata.json", b"[" * 100_000),
        ("metadata.json", "é".encode("latin-1")),
    ],
)
def test_a_damaged_store_is_one_line(
    stored: list[dict[str, np.ndarray]], tmp_path: Path, file: str, content: bytes
) -> None:
    (path,) = (tmp_path / "store").rglob(file)
    path.write_bytes(content)
    with pytest.raises(MinariError, match=ID) as caught:
        minari_data.load_minari(ID)
    assert "\n" not in str(caught.value)
