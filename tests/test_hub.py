"""The loader of hub models, on tiny random checkpoints: what is not whole, or not safetensors, is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib import hub
from lib.datasets import DataError
from lib.hub import load_model, load_tokenizer, load_weights, read_safetensors, snapshot

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
CONFIG = {
    "vocab_size": 3,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}


def write(folder: Path, seed: int = 0, **options: Any) -> Path:
    """A random model of one layer with its tokenizer."""
    torch.manual_seed(seed)
    transformers.GPTNeoXModel(transformers.GPTNeoXConfig(**CONFIG)).save_pretrained(folder, **options)
    core = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"<|endoftext|>": 0, "a": 1, "b": 2}, unk_token="<|endoftext|>")
    )
    core.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>").save_pretrained(
        folder
    )
    return folder


def rewrite(folder: Path, change: Any) -> None:
    """Apply ``change`` to the checkpoint's tensors."""
    state = load_file(folder / "model.safetensors")
    save_file(change(state), folder / "model.safetensors", metadata={"format": "pt"})


def refusal(folder: Path, **options: Any) -> str:
    """The one line in which a folder is refused."""
    with pytest.raises(DataError) as caught:
        load_model("AutoModel", str(folder), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_checkpoint_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    model = load_model("AutoModel", str(tmp_path), dtype=torch.bfloat16)
    assert not model.training
    assert model.dtype == torch.bfloat16
    saved = load_file(tmp_path / "model.safetensors")
    assert {name for name, _ in model.named_parameters()} == saved.keys()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, saved[name].bfloat16())
    assert load_tokenizer(str(tmp_path))("a b")["input_ids"] == [1, 2]


def test_a_missing_weight_is_refused_unless_it_is_of_no_use(tmp_path: Path) -> None:
    rewrite(write(tmp_path), lambda s: {k: v for k, v in s.items() if "final_layer_norm" not in k})
    assert "lacks weights of AutoModel: final_layer_norm.bias and 1 more" in refusal(tmp_path)
    load_model("AutoModel", str(tmp_path), absent=("^final_layer_norm",))


def test_a_weight_too_many_is_refused_unless_it_is_of_no_use(tmp_path: Path) -> None:
    rewrite(write(tmp_path), lambda s: s | {"adapter.weight": torch.ones(2)})
    assert "holds weights that AutoModel does not have: adapter.weight" in refusal(tmp_path)
    load_model("AutoModel", str(tmp_path), unused=("^adapter",))


def test_constants_that_older_versions_saved_are_no_weights(tmp_path: Path) -> None:
    old = {
        "layers.0.attention.rotary_emb.inv_freq": torch.ones(2),
        "layers.0.attention.masked_bias": torch.ones(1),
        "embeddings.position_ids": torch.arange(3),
    }
    rewrite(write(tmp_path), lambda s: s | old)
    load_model("AutoModel", str(tmp_path))


def test_a_weight_of_another_shape_is_refused(tmp_path: Path) -> None:
    rewrite(write(tmp_path), lambda s: s | {"final_layer_norm.bias": torch.ones(9)})
    assert "holds weights of another shape than AutoModel: final_layer_norm.bias" in refusal(tmp_path)


def test_a_checkpoint_with_a_pickle_only_is_refused_unread(tmp_path: Path) -> None:
    write(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    assert "holds no safetensors file; weights in another format are not read" in refusal(tmp_path)
    with pytest.raises(DataError, match="holds no safetensors file"):
        read_safetensors(tmp_path)


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "cut")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be had" in refusal(folder)
    with pytest.raises(DataError, match=r"model\.safetensors is damaged"):
        read_safetensors(folder)
    folder = write(tmp_path / "config")
    (folder / "config.json").write_text("{")
    assert "cannot be had" in refusal(folder)
    folder = write(tmp_path / "sharded", max_shard_size="1KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 1
    shards[0].unlink()
    assert "cannot be had" in refusal(folder)


def test_code_of_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own"}}'
    )
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "cannot be had" in refusal(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_weights_of_this_collection_s_modules_are_read_whole() -> None:
    layer, whole = torch.nn.Linear(2, 2), {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    load_weights(layer, whole, "somebody/model")
    assert layer.weight.tolist() == [[1, 1], [1, 1]]
    for state in (
        {"weight": torch.ones(2, 2)},
        whole | {"more": torch.ones(1)},
        whole | {"bias": torch.ones(3)},
    ):
        with pytest.raises(DataError, match="somebody/model does not fit Linear") as caught:
            load_weights(layer, state, "somebody/model")
        assert "\n" not in str(caught.value)


def test_a_folder_may_hold_revisions(tmp_path: Path) -> None:
    write(tmp_path / "step0")
    assert snapshot(str(tmp_path), "step0") == tmp_path / "step0"
    assert snapshot(str(tmp_path)) == tmp_path
    with pytest.raises(DataError, match="has no revision 'step7'"):
        snapshot(str(tmp_path), "step7")


@pytest.mark.parametrize(
    ("source", "revision", "asked"),
    [
        ("somebody/model", None, ("somebody/model", "main")),
        ("somebody/model", "step512", ("somebody/model", "step512")),
        ("somebody/model@0123abc", None, ("somebody/model", "0123abc")),
    ],
)
def test_one_revision_is_asked_for_once_and_without_pickles(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    revision: str | None,
    asked: tuple[str, str],
) -> None:
    """The model and its tokenizer come from one answer, so they are of one commit."""
    seen = []

    def record(repository: str, **keywords: Any) -> str:
        seen.append((repository, keywords.pop("revision")))
        assert not any("bin" in pattern or pattern == "*" for pattern in keywords["allow_patterns"])
        return str(write(tmp_path))

    hub._downloaded.cache_clear()
    monkeypatch.setattr(hub, "only_cached", lambda _: False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", record)
    load_tokenizer(source, revision)
    load_model("AutoModel", source, revision)
    assert seen == [asked]
    hub._downloaded.cache_clear()


def test_a_source_out_of_reach_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise OSError("no network here\nmore lines")

    monkeypatch.setattr(hub, "only_cached", lambda _: False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(
        DataError, match=r"^somebody/lost at revision 'step512' cannot be had: no network here$"
    ):
        load_tokenizer("somebody/lost", "step512")
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="none is named"):
        load_model("AutoModel", "")
    for source in (str(tmp_path / "absent"), "somebody/never-downloaded", "a/b/c@d"):
        with pytest.raises(DataError, match="cannot be had") as caught:
            load_model("AutoModel", source)
        assert "\n" not in str(caught.value)
