"""The control with natural text: windows, states at the last character, and a training that learns its text."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.compositionality import experiments as ex
from lib.compositionality import natural_text as nt
from lib.compositionality.grammar import Lexicon
from lib.compositionality.language_model import GPT, GPTConfig
from lib.compositionality.profiles import PROFILES, Settings
from lib.datasets import DataError
from lib.records import Run
from lib.tiny_shakespeare import read_plays

TEXT = nt.standin_text(0)


def test_windows_follow_the_seed_and_stay_inside() -> None:
    codes = torch.arange(nt.WINDOW + 5)
    drawn = nt.windows(codes, 200, np.random.default_rng(0))
    assert drawn.shape == (200, nt.WINDOW + 1)
    assert (drawn.diff(dim=1) == 1).all()
    assert set(drawn[:, 0].tolist()) == {0, 1, 2, 3, 4}
    assert torch.equal(drawn, nt.windows(codes, 200, np.random.default_rng(0)))


def test_held_out_windows_are_of_text_that_training_never_sees() -> None:
    codes = torch.arange(5000)
    data = nt.TextData(codes, batch=4, seed=0)
    assert int(data.codes.max()) == 4499
    assert int(data.held_out.min()) >= 4500
    batches = iter(data.train_dataloader())
    assert max(int(next(batches).max()) for _ in range(20)) < 4500


def test_every_sentence_fits_into_a_window(lexicon: Lexicon) -> None:
    longest = np.array([[max(range(50), key=lambda i: len(words[i])) for words in lexicon.words]])
    assert len(lexicon.render(longest)[0]) <= nt.WINDOW


def test_state_is_that_of_the_last_character_whatever_the_other_lines() -> None:
    characters = nt.Characters(" .abc")
    torch.manual_seed(0)
    model = GPT(5, nt.WINDOW, GPTConfig(width=8, layers=2, heads=2), np.arange(nt.WINDOW))
    lines = ["abc a.", "a.", "cab c.", "bb", "a.cab."]
    states, last = nt.states_of_lines(model, characters, lines)
    assert states.shape == (2, 5, 8)
    assert [characters.alphabet[i] for i in last] == [".", ".", ".", "b", "."]
    for i, line in enumerate(lines):
        stream = model.residual_stream(characters.encode(line)[None])
        for layer in (1, 2):
            torch.testing.assert_close(states[layer - 1, i], stream[layer][0, -1], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="lacks 'z'"):
        characters.encode("az")


def test_a_short_training_learns_and_fills_the_tables(tmp_path: Path) -> None:
    run: Run[Settings] = Run.start(
        "compositionality", PROFILES, profile="smoke", accelerator="cpu", data="standin", out_dir=tmp_path,
        overrides={"text_steps": 30, "text_batch": 8, "text_prompts": 100, "text_width": 32},
    )  # fmt: skip
    inputs = ex.load_inputs(run)
    assert inputs.text == TEXT
    tables = ex.merge(nt.text_job(*job) for job in ex.text_jobs(run, inputs))
    history = tables["history"]
    assert history["step"].tolist() == [0, 30]
    assert history["loss"].iloc[1] < 0.9 * history["loss"].iloc[0]
    assert history["skill"].iloc[1] > history["skill"].iloc[0]
    frame = tables["geometry"]
    assert len(frame) == 2 * 3 * 2 * 2  # steps, orders of words, k, layers
    assert set(frame["k"]) == {1, 4}
    ex.measure_text(run, frame, history)
    assert ex.text_table(frame)["model of characters"].tolist()[0] == "untrained, coherent"
    summary = ex.text_summary(run)
    assert f"guesses {100 * history['skill'].iloc[1]:.0f} %" in summary
    own, error = (run.measurements[f"text_coherent_separation{part}"].mean for part in ("", "_error"))
    sets = frame[(frame["step"] == 30) & (frame["mode"] == "coherent") & (frame["layer"] == 2)]
    assert error == pytest.approx(np.sqrt((sets["id"] ** 2).sum() / 100))
    ordered = own > 2 * error
    assert ("comes with the form" in summary) == ordered


def test_the_shortest_text_gives_windows(tmp_path: Path) -> None:
    path = tmp_path / "plays.txt"
    path.write_text("a" * nt.SHORTEST, encoding="utf-8")
    codes = nt.Characters("a").encode(read_plays(path, nt.SHORTEST))
    assert nt.TextData(codes, batch=1, seed=0).held_out.shape == (64, nt.WINDOW + 1)
    path.write_text("a" * (nt.SHORTEST - 1), encoding="utf-8")
    with pytest.raises(DataError, match=rf"plays\.txt: the text has {nt.SHORTEST - 1} characters"):
        read_plays(path, nt.SHORTEST)
