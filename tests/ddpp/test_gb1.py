"""The measured landscape: reading, converting, its posterior, and the stand-in."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.datasets import DataError
from lib.ddpp import exact_law, gb1
from lib.ddpp.gb1 import ALPHABET, KEYS, Landscape, convert_flip, read_landscape, standin_landscape

ROWS = [
    ("VDGV", 0, 900, 3000, 1.0),
    ("ADGV", 1, 50, 10, 0.06),
    ("WWLA", 4, 20, 160, 2.4),
    ("AAAA", 4, 30, 0, 0.0),
]


def write_archive(path: Path, rows: list[tuple[str, int, int, int, float]], header: str = "") -> Path:
    head = header or "Variants,HD,Count input,Count selected,Fitness,sequence"
    text = "\n".join([head, *(",".join(map(str, (*row, "MQYK"))) for row in rows)])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("gb1/four_mutations_full_data.csv", text)
    return path


def converted(tmp_path: Path) -> Landscape:
    target = tmp_path / "gb1_four_sites.npz"
    convert_flip([write_archive(tmp_path / "data.zip", ROWS)], target)
    return read_landscape(target)


def test_converter_and_reader_agree_with_the_rows(tmp_path: Path) -> None:
    landscape = converted(tmp_path)
    space = landscape.space
    for word, _, before, after, fitness in ROWS:
        index = int(space.clean_flat(torch.tensor([[ALPHABET.index(c) for c in word]])))
        assert float(landscape.input_law[index]) == pytest.approx(before / 1000)
        assert float(landscape.selected_law[index]) == pytest.approx(after / 3170)
        assert float(landscape.fitness[index]) == fitness
    assert int(landscape.fitness.isfinite().sum()) == 4
    log_reward = landscape.log_reward(0.01)
    assert float(log_reward.min()) == pytest.approx(np.log(0.01))
    assert torch.isfinite(log_reward).all()
    drawn = landscape.sample(2000, torch.Generator().manual_seed(0))
    share = torch.bincount(space.clean_flat(drawn), minlength=20**4) / 2000
    assert exact_law.total_variation(share.double(), landscape.input_law) < 0.04
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.zip", "gb1_four_sites.npz"]


def test_tilting_by_fitness_gives_selection_where_fitness_is_a_ratio_of_counts() -> None:
    landscape = standin_landscape(3)
    tilted, _ = exact_law.posterior(landscape.input_law, landscape.fitness.log())
    assert exact_law.total_variation(tilted, landscape.selected_law) < 1e-10
    assert torch.equal(standin_landscape(3).input_law, landscape.input_law)
    assert not torch.equal(standin_landscape(4).input_law, landscape.input_law)


def test_a_part_of_the_alphabet() -> None:
    part = standin_landscape().restricted("WVA")
    assert part.space.shape == (3,) * 4
    assert float(part.input_law.sum()) == pytest.approx(1)
    full = standin_landscape()
    word = torch.tensor([[ALPHABET.index(c) for c in "WAVV"]])
    small = torch.tensor([[0, 2, 1, 1]])
    assert float(part.fitness[part.space.clean_flat(small)]) == float(
        full.fitness[full.space.clean_flat(word)]
    )
    assert part.site_shares(part.input_law).sum(1) == pytest.approx(np.ones(4))
    with pytest.raises(ValueError, match="symbols='B'"):
        full.restricted("AB")
    with pytest.raises(ValueError, match="floor=0"):
        full.log_reward(0)


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        (ROWS, "Variants,HD,Count input,Count selected,sequence", "not FLIP's archive"),
        ([("VDGX", 0, 1, 1, 1.0)], "", "not a word of 4 amino acids"),
        ([("VDG", 0, 1, 1, 1.0)], "", "not a word of 4 amino acids"),
    ],
)
def test_a_wrong_archive_leaves_nothing(
    tmp_path: Path, rows: list[tuple[str, int, int, int, float]], header: str, words: str
) -> None:
    target = tmp_path / "out.npz"
    with pytest.raises(DataError, match=words):
        convert_flip([write_archive(tmp_path / "data.zip", rows, header)], target)
    assert not target.exists()


@pytest.mark.parametrize("damage", ["text", "key", "symbol", "fitness"])
def test_a_wrong_file_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "gb1.npz"
    content = {
        "variants": np.zeros((2, 4), np.uint8),
        "count_input": np.ones(2, np.int32),
        "count_selected": np.ones(2, np.int32),
        "fitness": np.ones(2),
        "hamming_to_wt": np.zeros(2, np.uint8),
        "alphabet": np.array(list(ALPHABET)),
    }
    assert tuple(content) == KEYS
    if damage == "key":
        del content["fitness"]
    if damage == "symbol":
        content["variants"][0, 0] = 20
    if damage == "fitness":
        content["fitness"][0] = -1
    np.savez(path, **content)  # type: ignore[arg-type]
    if damage == "text":
        path.write_text("no archive")
    with pytest.raises(DataError, match=r"gb1\.npz"):
        read_landscape(path)


def test_the_stand_in_is_used_with_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lib.ddpp.profiles import PROFILES
    from lib.records import Run

    run = Run.start("ddpp", PROFILES, profile="smoke", data="standin", accelerator="cpu", out_dir=tmp_path)
    landscape = gb1.load_landscape(run, "ADGVW")
    assert run.data_source == "standin"
    assert landscape.alphabet == "ADGVW"
