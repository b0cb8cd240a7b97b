"""Models of the hub, on a tiny random GPT-NeoX written here: revisions, padding, and which states are taken."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch

from lib.compositionality import experiments as ex
from lib.compositionality.grammar import Lexicon
from lib.compositionality.hub_models import HubModel, check_different, fingerprint, last_token_states, load
from lib.compositionality.profiles import PROFILES, Settings
from lib.datasets import DataError
from lib.profiles import ParameterError
from lib.records import Run

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
CPU = torch.device("cpu")
LEXICON = Lexicon.standin(0)


def write_revision(folder: Path, seed: int, words: Sequence[str]) -> None:
    """A random GPT-NeoX of two layers with a word-level tokenizer, in the format of the hub."""
    vocabulary = {word: i for i, word in enumerate(["<|endoftext|>", ".", *words])}
    core = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    core.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.WhitespaceSplit(), tokenizers.pre_tokenizers.Punctuation()]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.GPTNeoXConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    transformers.GPTNeoXModel(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "pythia-tiny"
    words = sorted(
        {w for entries in LEXICON.words for entry in entries for w in entry.split()} | {"The", "the", "then"}
    )
    for seed, revision in enumerate(("step0", "step512", "step1000")):
        write_revision(folder / revision, seed, words)
    return folder


def test_revision_is_passed_and_different_revisions_differ(source: Path) -> None:
    prints = {r: fingerprint(load(str(source), r, CPU)[0]) for r in ("step0", "step1000")}
    check_different(prints, "pythia-tiny")
    with pytest.raises(DataError, match="'step0' and 'step1000' hold the same weights"):
        check_different({"step0": prints["step0"], "step1000": prints["step0"]}, "pythia-tiny")
    assert HubModel("EleutherAI/pythia-70m-deduped", (0, 143_000)).revisions == {
        0: "step0",
        143_000: "step143000",
    }
    assert HubModel("mistralai/Mistral-7B-v0.1").revisions == {-1: "main"}


def test_a_model_with_its_head_is_read_without_it(source: Path, tmp_path: Path) -> None:
    """As Pythia lies on the hub: the checkpoint of a model that predicts tokens."""
    shutil.copytree(source / "step0", tmp_path / "step0")
    whole = transformers.GPTNeoXForCausalLM(transformers.AutoConfig.from_pretrained(source / "step0"))
    whole.save_pretrained(tmp_path / "step0")
    model, _ = load(str(tmp_path), "step0", CPU, torch.float32)
    assert torch.equal(model.embed_in.weight, whole.gpt_neox.embed_in.weight)
    assert fingerprint(model) == fingerprint(whole.gpt_neox)


def test_state_is_that_of_the_last_token_before_padding(source: Path) -> None:
    model, tokenizer = load(str(source), "step0", CPU, torch.float32)
    lines = LEXICON.render(ex.standin_prompts(0, 20)[0][1][:12])
    lines[3] = " ".join(lines[3].split()[:5]) + "."  # much shorter than the others
    together, tokens = last_token_states(model, tokenizer, lines, batch=5)
    assert together.shape == (2, 12, 32)
    assert set(tokens.tolist()) == {1}  # the full stop
    for i, line in enumerate(lines):
        ids = torch.tensor([tokenizer(line)["input_ids"]])
        hidden = model(ids, output_hidden_states=True).hidden_states
        assert len(hidden) == 3  # with the embedding, which is dropped
        for layer in (1, 2):
            torch.testing.assert_close(together[layer - 1, i], hidden[layer][0, -1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        together[1, 0], model(torch.tensor([tokenizer(lines[0])["input_ids"]]))[0][0, -1]
    )
    with pytest.raises(ValueError, match="at least one line"):
        last_token_states(model, tokenizer, [])


def test_half_precision_weights_change_little(source: Path) -> None:
    lines = LEXICON.render(ex.standin_prompts(0, 300)[0][1])
    full = last_token_states(*load(str(source), "step0", CPU, torch.float32), lines)[0]
    half = last_token_states(*load(str(source), "step0", CPU, torch.bfloat16), lines)[0]
    assert half.dtype == torch.float32
    assert float((full - half).norm() / full.norm()) < 0.02


def test_paper_profile_runs_on_a_local_stand_in(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {
        "hub_models": [str(source)],
        "hub_steps": [[0, 512, 1000]],
        "hub_prompts": 100,
        "hub_splits": 2,
        "hub_precision": "float32",
        "couplings": [1, 4],
        "pile": True,
    }

    def start() -> Run[Settings]:
        return Run.start(
            "compositionality", PROFILES, profile="paper", accelerator="cpu", data="standin", out_dir=tmp_path, overrides=overrides
        )  # fmt: skip

    run = start()
    inputs = ex.load_inputs(run)
    assert (inputs.pile, inputs.zero_shot) == (None, None)
    tables = ex.hub_tables(run, inputs)
    frame = ex.merge([tables])["geometry"]
    assert len(frame) == 3 * 2 * 4 * 2 * 2  # steps, splits, orders of words, k, layers
    assert set(frame["step"]) == {0, 512, 1000}
    by_step = frame[(frame["mode"] == "dot") & (frame["k"] == 1)].groupby("step")["id"].mean()
    assert by_step.nunique() == 3
    monkeypatch.setattr(ex, "load", None)  # read back, not measured again
    again = start()
    pd.testing.assert_frame_equal(ex.merge([ex.hub_tables(again, ex.load_inputs(again))])["geometry"], frame)
    ex.measure_composition(run, ex.reference_model(frame), "mean")
    assert len(run.measurements["id_smallest_step_in_k"].values) == 2


def test_paper_profile_stops_where_two_steps_hold_the_same_weights(source: Path, tmp_path: Path) -> None:
    """What a loader that forgets the revision looks like: every step has the final weights."""
    forgetful = tmp_path / "pythia-forgetful"
    for revision in ("step0", "step143000"):
        shutil.copytree(source / "step1000", forgetful / revision)
    overrides = {"hub_models": [str(forgetful)], "hub_steps": [[0, 143_000]], "hub_prompts": 100, "hub_splits": 1,
                 "hub_precision": "float32", "couplings": [1, 4], "pile": False}  # fmt: skip
    run: Run[Settings] = Run.start(
        "compositionality", PROFILES, profile="paper", accelerator="cpu", data="standin",
        out_dir=tmp_path / "run", overrides=overrides,
    )  # fmt: skip
    with pytest.raises(DataError, match="'step0' and 'step143000' hold the same weights"):
        ex.hub_tables(run, ex.load_inputs(run))


def test_missing_revision_and_settings_are_told(source: Path) -> None:
    with pytest.raises(DataError, match="has no revision 'step7'"):
        load(str(source), "step7", CPU)
    with pytest.raises(ParameterError, match="one tuple for each of the 1 hub_models"):
        Settings(hub_models=("EleutherAI/pythia-14m",))
    with pytest.raises(ParameterError, match="hub_precision='int8' is not one of bfloat16"):
        Settings(hub_precision="int8")
