"""The design tasks' data: constants known from full enumeration, readers, stand-ins, and files that are wrong."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib import datasets
from lib.adaptive_teachers import biochemical_tasks
from lib.adaptive_teachers.biochemical_tasks import (
    RNA_TARGETS,
    SMALLEST_SCORE,
    TASKS,
    DuplexEnergy,
    SequenceTask,
    TreeEnsemble,
    concentration,
    load_task,
    read_arrays,
    read_rna_constants,
    read_seh_trees,
    vienna_installed,
)
from lib.adaptive_teachers.profiles import PROFILES
from lib.adaptive_teachers.sequence_space import SequenceSpace
from lib.datasets import DataError
from lib.profiles import ParameterError
from lib.records import Run

FILES = [
    f"adaptive_teachers/{f}" for f in ("tfbind8_six6.npz", "qm9str.npz", "sehstr_gbtr.npz", "rna_l14.npz")
]
needs_data = pytest.mark.skipif(
    any(datasets.local_path(f) is None for f in FILES), reason="the chapter's data files are not here"
)


def _run(tmp_path: Path, data: str = "auto") -> Run[Any]:
    return Run.start(
        "adaptive_teachers", PROFILES, profile="smoke", accelerator="cpu", out_dir=tmp_path, data=data
    )


def _unscaled_log_z(task: SequenceTask) -> float:
    y = task.score(torch.arange(task.space.n_leaves)).clamp(min=SMALLEST_SCORE)
    return float(torch.logsumexp(task.sizes.beta * y.log(), 0))


@needs_data
def test_tfbind8_constants(tmp_path: Path) -> None:
    task = load_task(_run(tmp_path, "real"), "TFBind8")
    assert _unscaled_log_z(task) == pytest.approx(6.032416, abs=1e-5)
    assert task.log_z == pytest.approx(8.335001, abs=1e-5)
    assert task.expected_score == pytest.approx(0.922415, abs=1e-5)
    assert len(task.modes) == 328
    assert float(task.score(task.modes).min()) == pytest.approx(0.889199, abs=1e-6)
    letters = task.space.digits(torch.arange(65_536), 8)
    complement = task.space.encode(3 - letters.flip(1))
    everything = task.score(torch.arange(65_536))
    torch.testing.assert_close(everything, everything[complement])  # both strands bind alike
    assert float(task.all_log_rewards().min()) == pytest.approx(math.log(1e-20))


@needs_data
def test_qm9_constants(tmp_path: Path) -> None:
    task = load_task(_run(tmp_path, "real"), "QM9")
    assert _unscaled_log_z(task) == pytest.approx(57.243869, abs=1e-5)
    assert task.log_z == pytest.approx(4.748651, abs=1e-5)
    assert task.expected_score == pytest.approx(16.774511, abs=1e-5)
    best = task.score(torch.arange(task.space.n_leaves)).topk(805).indices
    assert best.sort().values.tolist() == task.modes.tolist()


@needs_data
def test_concentration_of_the_two_tables(tmp_path: Path) -> None:
    """QM9 at β = 20 is about one molecule; TFBind8 spreads over a thousand strings."""
    run = _run(tmp_path, "real")
    qm9, tfbind8 = (concentration(load_task(run, name)) for name in ("QM9", "TFBind8"))
    assert (qm9.effective_support, qm9.entropy, qm9.mode_mass) == pytest.approx((1.33, 0.97, 0.989), abs=5e-3)
    assert (tfbind8.entropy, tfbind8.mode_mass) == pytest.approx((7.69, 0.238), abs=5e-3)
    assert tfbind8.effective_support == pytest.approx(1292, abs=1)


@needs_data
def test_seh_proxy_predictions(tmp_path: Path) -> None:
    path = datasets.local_path("adaptive_teachers/sehstr_gbtr.npz")
    assert path is not None
    trees, arrays = read_seh_trees(path, SequenceSpace(6, 18))
    modes = trees(torch.from_numpy(arrays["modes_159"].astype(np.int64)))
    assert len(modes) == 159
    assert float(modes.min()) == pytest.approx(6.6989, abs=1e-4)
    codes = torch.randint(18**6, (4000,), generator=torch.Generator().manual_seed(0))
    y = trees(codes)
    assert float(y.mean()) == pytest.approx(4.49, abs=0.05)
    assert float(trees(torch.from_numpy(arrays["samples_beta6"].astype(np.int64))).mean()) == pytest.approx(
        5.40, abs=0.01
    )
    for code, prediction in zip(codes[:3].tolist(), y[:3].tolist(), strict=True):
        digits = [code // 18**j % 18 for j in range(5, -1, -1)]
        total = float(arrays["baseline"])
        for start in arrays["tree_offset"][:-1].tolist():
            node = 0
            while not arrays["is_leaf"][start + node]:
                place, block = divmod(int(arrays["feature"][start + node]), 18)
                side = (
                    "left" if float(digits[place] == block) <= arrays["threshold"][start + node] else "right"
                )
                node = int(arrays[side][start + node])
            total += float(arrays["value"][start + node])
        assert prediction == pytest.approx(total, abs=1e-9)


def _tree_arrays(space: SequenceSpace, n: int) -> dict[str, np.ndarray]:
    """Random trees of depth up to three, as the file has them."""
    rng = np.random.default_rng(0)
    features = space.length * space.symbols
    arrays: dict[str, list[Any]] = {
        k: [] for k in ("value", "feature", "threshold", "left", "right", "is_leaf")
    }
    offsets = [0]
    for t in range(n):
        inner = 7 if t else 0  # the first tree is a single leaf
        for i in range(2 * inner + 1):
            leaf = i >= inner
            arrays["is_leaf"].append(leaf)
            arrays["value"].append(rng.normal())
            arrays["feature"].append(-2 if leaf else int(rng.integers(features)))
            arrays["threshold"].append(-2.0 if leaf else 0.5)
            arrays["left"].append(-1 if leaf else 2 * i + 1)
            arrays["right"].append(-1 if leaf else 2 * i + 2)
        offsets.append(len(arrays["value"]))
    packed = {k: np.array(v) for k, v in arrays.items()}
    return {**packed, "baseline": np.array(4.5), "tree_offset": np.array(offsets)}


@pytest.mark.parametrize("length", [4, 5])
def test_table_of_an_ensemble_is_its_prediction_for_every_string(length: int) -> None:
    space = SequenceSpace(length, 3)
    trees = TreeEnsemble.from_arrays(space, _tree_arrays(space, 12))
    every = trees(torch.arange(3**length))
    torch.testing.assert_close(trees.table(rows_at_once=5).double(), every, rtol=0, atol=1e-5)


def test_seh_task_knows_its_maximum_and_log_z_from_the_whole_table(tmp_path: Path) -> None:
    space = SequenceSpace(4, 3)
    lists = {
        "modes_tanimoto_0p4": np.array([7, 3]),
        "modes_159": np.array([3]),
        "samples_beta6": np.array([7, 7, 2]),
    }
    np.savez(tmp_path / "sehstr_gbtr.npz", **_tree_arrays(space, 12), **lists)
    task = biochemical_tasks._read_seh("sEH", space, TASKS["sEH"], [tmp_path / "sehstr_gbtr.npz"])
    y = task.score(torch.arange(space.n_leaves)).clamp(min=SMALLEST_SCORE)
    assert task.highest == pytest.approx(float(y.max()))
    log_r = math.log(10) + 6 * torch.log(y / y.max())
    assert task.log_z == pytest.approx(float(torch.logsumexp(log_r, 0)), abs=1e-4)
    assert task.expected_score == pytest.approx(float((torch.softmax(log_r, 0) * y).sum()), abs=1e-4)
    assert task.modes.tolist() == [3, 7]
    assert task.target_samples is not None
    torch.testing.assert_close(
        task.log_reward(task.target_samples), log_r[task.target_samples], atol=1e-5, rtol=0
    )


def test_trees_that_ask_something_else_are_refused() -> None:
    space = SequenceSpace(2, 2)
    arrays = {
        "baseline": np.array(0.0),
        "tree_offset": np.array([0, 3]),
        "value": np.zeros(3),
        "feature": np.array([0, -2, -2]),
        "threshold": np.array([0.7, -2, -2]),
        "left": np.array([1, -1, -1]),
        "right": np.array([2, -1, -1]),
        "is_leaf": np.array([False, True, True]),
    }
    with pytest.raises(DataError, match=r"threshold is not 0\.5"):
        TreeEnsemble.from_arrays(space, arrays)
    arrays["threshold"] = np.full(3, 0.5)
    TreeEnsemble.from_arrays(space, arrays)
    for change, said in (
        ({"right": np.array([7, -1, -1])}, "outside its tree"),
        ({"left": np.array([0, -1, -1])}, "before the node"),  # a walk that never ends
        ({"feature": np.array([4, -2, -2])}, "a symbol that no string has"),
        ({"value": np.zeros(2)}, "differ in length"),
        ({"tree_offset": np.array([0, 2])}, "not divided into trees"),
        ({"tree_offset": np.array([0, 3, 3])}, "not divided into trees"),
    ):
        with pytest.raises(DataError, match=said):
            TreeEnsemble.from_arrays(space, {**arrays, **change})


@needs_data
def test_rna_constants_and_modes() -> None:
    for name, log_z, n_modes in (
        ("rna1", 20.460717, 8967),
        ("rna2", 20.452573, 8402),
        ("rna3", 20.449419, 7400),
    ):
        path = datasets.local_path(f"adaptive_teachers/rna_l14_{name}_info.csv")
        assert path is not None
        assert read_rna_constants(path, 1.0)["logz_scaled"] == pytest.approx(log_z, abs=1e-5)
        assert math.isfinite(read_rna_constants(path, 40.0)["scale"])
        assert TASKS[f"L14-{name.upper()}"].n_modes == n_modes
        with pytest.raises(DataError, match="0 rows for the exponent 400"):
            read_rna_constants(path, 400.0)


@needs_data
@pytest.mark.skipif(not vienna_installed(), reason="the optional package ViennaRNA is not here")
def test_rna_energies(tmp_path: Path) -> None:
    norms = [DuplexEnergy(SequenceSpace(14, 4), "UCGA", t).norm for t in RNA_TARGETS.values()]
    assert norms == pytest.approx([-36.414, -37.842, -30.184], abs=5e-3)
    task = load_task(_run(tmp_path, "real"), "L14-RNA1")
    y = task.score(task.modes[:20])
    assert float(y.min()) > 0.75
    assert float(y.max()) < 0.95


@needs_data
def test_rna_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biochemical_tasks, "vienna_installed", lambda: False)
    with pytest.raises(DataError, match="ViennaRNA"):
        load_task(_run(tmp_path, "real"), "L14-RNA2")
    run = _run(tmp_path)
    assert load_task(run, "L14-RNA2").source == run.data_source == "standin"
    assert run.notices


def test_scores_of_rna_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Fake:
        class Duplex:
            energy = -3.0

        def duplexfold(self, target: str, string: str) -> Duplex:
            asked.append(string)
            return self.Duplex()

    monkeypatch.setattr(biochemical_tasks, "_vienna", Fake)
    biochemical_tasks._duplex_norm.cache_clear()
    score = DuplexEnergy(SequenceSpace(2, 4), "UCGA", "GG")
    y = score(torch.tensor([1, 7, 1]))  # UC, CA, UC
    biochemical_tasks._duplex_norm.cache_clear()
    assert y.tolist() == [1.0, 1.0, 1.0]  # −3 over −3 · 2/2
    assert [s for s in asked if s != "GG"] == ["UC", "CA"]  # "GG" is the norm's


@pytest.mark.parametrize("name", list(TASKS))
def test_stand_ins_have_the_tasks_sizes(tmp_path: Path, name: str) -> None:
    run = _run(tmp_path, "standin")
    task = load_task(run, name)
    assert (task.source, run.data_source) == ("standin", "standin")
    assert task.space == SequenceSpace(TASKS[name].length, TASKS[name].symbols)
    assert len(task.modes) == TASKS[name].n_modes
    assert bool((task.modes.diff() > 0).all())
    log_r = task.log_reward(task.modes)
    assert float(log_r.max()) == pytest.approx(math.log(TASKS[name].reward_max), abs=1e-6)
    other = torch.randint(task.space.n_leaves, (500,), generator=torch.Generator().manual_seed(0))
    outside = other[task.contains_mode(other) < 0]
    assert float(task.log_reward(outside).max()) <= float(log_r.min()) + 1e-9
    assert task.contains_mode(task.modes).tolist() == list(range(len(task.modes)))
    if not task.enumerable:
        with pytest.raises(ValueError, match="too many for a table"):
            task.all_log_rewards()
    with pytest.raises(ParameterError, match="TFBind8"):
        load_task(run, "TFBind")


# --- files that are wrong -----------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("damage", ["corrupt", "truncated"])
def test_damaged_file_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    source = datasets.local_path("adaptive_teachers/tfbind8_six6.npz")
    assert source is not None
    copy = tmp_path / "mirror" / "adaptive_teachers" / source.name
    copy.parent.mkdir(parents=True)
    shutil.copyfile(source, copy)
    content = bytearray(copy.read_bytes())
    if damage == "corrupt":
        content[5000] ^= 0xFF
    else:
        del content[len(content) // 2 :]
    copy.write_bytes(bytes(content))
    monkeypatch.setenv(datasets.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    with pytest.raises(DataError, match=r"tfbind8_six6.npz: checksum mismatch .* corrupt or truncated"):
        load_task(_run(tmp_path / "out"), "TFBind8")


def test_arrays_that_are_missing_misshapen_or_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    np.savez(path, score=np.ones(4), other=np.array([1.0, np.nan]))
    assert read_arrays(path, {"score": (4,)})["score"].shape == (4,)
    with pytest.raises(DataError, match=r"table.npz: array 'mode_index' is missing"):
        read_arrays(path, {"score": (4,), "mode_index": None})
    with pytest.raises(DataError, match=r"'score' has the shape \(4,\), expected \(5,\)"):
        read_arrays(path, {"score": (5,)})
    with pytest.raises(DataError, match="'other' has a value that is not finite"):
        read_arrays(path, {"other": None})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="not an archive of arrays"):
        read_arrays(path, {"score": (4,)})
    np.savez(path, score=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="neither numbers nor text"):  # nothing is unpickled
        read_arrays(path, {"score": None})


def test_table_without_a_column(tmp_path: Path) -> None:
    path = tmp_path / "rna.csv"
    path.write_text("reward_exp,logz_scaled,scale\n40,1,2\n")
    with pytest.raises(DataError, match=r"rna.csv: column 'expected_reward_scaled' is missing"):
        read_rna_constants(path, 40.0)


@needs_data
def test_reader_refuses_modes_that_do_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "tfbind8_six6.npz"
    np.savez(path, score=np.ones(65_536, dtype=np.float32), mode_index=np.array([3, 65_536]))
    with pytest.raises(DataError, match="names strings that do not exist"):
        biochemical_tasks._read_tfbind8("TFBind8", SequenceSpace(8, 4), TASKS["TFBind8"], [path])
