"""Models of the hub, each from a tiny random checkpoint that the test writes."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib.datasets import DataError
from lib.ddpp import hub_models
from lib.ddpp.dit import DiT
from lib.ddpp.proteins import RESIDUES
from lib.ddpp.samplers import sample
from lib.ddpp.steering import steer

transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")
ESM = {
    "vocab_size": 33, "mask_token_id": 32, "pad_token_id": 1, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "max_position_embeddings": 64, "position_embedding_type": "rotary", "token_dropout": False,
    "emb_layer_norm_before": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def protein_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dplm")
    transformers.EsmForMaskedLM(transformers.EsmConfig(**ESM)).save_pretrained(folder)
    return str(folder)


def test_protein_model_is_a_denoiser_that_can_be_sampled_and_steered(protein_folder):
    denoiser = hub_models.load_protein_denoiser(protein_folder, 6, CPU)
    tokens = torch.full((2, 6), 20)
    tokens[:, 2] = hub_models.SYMBOLS.index("W")
    logits = denoiser(tokens)
    assert logits.shape == (2, 6, 21)
    # the same by hand: start, ids, end; residues are ESM's tokens 4 to 23
    ids = torch.tensor([[0, 32, 32, 4 + hub_models.SYMBOLS.index("W"), 32, 32, 32, 2]])
    assert torch.allclose(logits[0, :, :20], denoiser.model(input_ids=ids).logits[0, 1:-1, 4:24], atol=1e-5)

    def fold(sequence):
        return hub_models.Fold(sequence, 0.5, 0.5, np.zeros((len(sequence), 3)), "")

    reward = hub_models.FoldReward(fold, lambda f: f.sequence.count("V") / 6, exponent=8.0)
    tuned = steer(denoiser, reward, "lb", steps=2, batch_size=4, refill_size=8, sampling_steps=3, seed=0)
    drawn = sample(tuned.denoiser, 3, generator=torch.Generator().manual_seed(0))
    letters = hub_models.sequences_of(drawn)
    assert [len(s) for s in letters] == [6, 6, 6]
    assert set("".join(letters)) <= set(RESIDUES)
    assert reward.log_reward(drawn).tolist() == pytest.approx([s.count("V") / 6 for s in letters])
    with pytest.raises(ValueError, match="no gradient"):
        steer(denoiser, reward, "kl", steps=1, batch_size=2, refill_size=2, sampling_steps=2, seed=0)


def test_each_sequence_is_folded_once():
    asked = []

    def fold(sequence):
        asked.append(sequence)
        return hub_models.Fold(sequence, 0.1, 0.2, np.zeros((2, 3)), "")

    reward = hub_models.FoldReward(fold, lambda f: f.ptm + f.plddt, 2.0)
    tokens = torch.tensor([[0, 1], [2, 3], [0, 1]])
    assert torch.allclose(reward(tokens), torch.full((3,), 0.6))
    reward(tokens)
    assert asked == ["LA", "GV"]


def test_vocabulary_is_esm_s():
    assert sorted(hub_models.SYMBOLS) == sorted(RESIDUES)


def test_a_protein_model_needs_no_contacts_but_everything_else(protein_folder, tmp_path):
    from safetensors.torch import load_file

    saved = load_file(f"{protein_folder}/model.safetensors")
    for name, state in (
        ("whole", {k: v for k, v in saved.items() if "contact_head" not in k}),
        ("cut", {k: v for k, v in saved.items() if "layer.1.intermediate" not in k}),
    ):
        (tmp_path / name).mkdir()
        shutil.copy(f"{protein_folder}/config.json", tmp_path / name)
        save_file(state, tmp_path / name / "model.safetensors", metadata={"format": "pt"})
    hub_models.load_protein_denoiser(str(tmp_path / "whole"), 4, CPU)
    with pytest.raises(
        DataError, match=r"lacks weights of EsmForMaskedLM: .*layer\.1\.intermediate.* and 1 more"
    ):
        hub_models.load_protein_denoiser(str(tmp_path / "cut"), 4, CPU)
    with pytest.raises(ValueError, match="length=0"):
        hub_models.load_protein_denoiser(protein_folder, 0, CPU)


def test_a_classifier_without_its_pooler_is_refused(tmp_path):
    """Its scores pass through that layer; filled with random numbers it would be another reward in every run."""
    from safetensors.torch import load_file

    size = word_tokenizer(tmp_path, {})
    config = transformers.BertConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=5
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    state = {k: v for k, v in load_file(tmp_path / "model.safetensors").items() if "pooler" not in k}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"lacks weights .*pooler"):
        hub_models.ReviewReward(str(tmp_path), lambda tokens: ["good"], CPU)


@pytest.fixture(scope="module")
def folding_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("esmfold")
    structure = {
        "sequence_dim": 16, "pairwise_dim": 8, "ipa_dim": 4, "resnet_dim": 4, "num_heads_ipa": 2, "num_qk_points": 2,
        "num_v_points": 2, "num_blocks": 1, "num_transition_layers": 1, "num_resnet_blocks": 1, "num_angles": 7,
    }  # fmt: skip
    trunk = {
        "num_blocks": 1, "sequence_state_dim": 16, "pairwise_state_dim": 8, "sequence_head_width": 8, "pairwise_head_width": 4,
        "position_bins": 4, "chunk_size": None, "structure_module": structure, "max_recycles": 1,
    }  # fmt: skip
    config = transformers.EsmConfig(
        **ESM, is_folding_model=True, esmfold_config={"trunk": trunk, "fp16_esm": False, "lddt_head_hid_dim": 8}
    )  # fmt: skip
    transformers.EsmForProteinFolding(config).save_pretrained(folder)
    return str(folder)


def test_folding_model_gives_confidence_and_coordinates(folding_folder):
    fold = hub_models.Folder(folding_folder, CPU)("MKVLA")
    assert 0 <= fold.ptm <= 1
    assert 0 <= fold.plddt <= 1
    assert fold.alpha_carbons.shape == (5, 3)
    alpha = [line for line in fold.pdb.splitlines() if line[12:16].strip() == "CA"]
    assert [line[17:20] for line in alpha] == ["MET", "LYS", "VAL", "LEU", "ALA"]
    written = np.array([[float(line[i : i + 8]) for i in (30, 38, 46)] for line in alpha])
    assert np.allclose(written, fold.alpha_carbons, atol=2e-3)
    with pytest.raises(ValueError, match="unknown one: \\['X'\\]"):
        hub_models.Folder(folding_folder, CPU)("MX")


def mdlm_state(model: DiT) -> dict[str, torch.Tensor]:
    """The state of a DiT under the names of the released MDLM."""
    names = {
        "body.embedding": "vocab_embed.embedding", "body.time.": "sigma_map.mlp.", ".qkv.": ".attn_qkv.", ".out.": ".attn_out.",
        "body.blocks": "blocks",
    }  # fmt: skip
    state = {"backbone.rotary_emb.inv_freq": torch.ones(4)}
    for name, tensor in model.state_dict().items():
        for own, released in names.items():
            name = name.replace(own, released)
        name = name.replace("modulation.linear", "adaLN_modulation")
        for own, released in (("norm.", "norm_final."), ("output.", "linear."), ("adaLN", "adaLN")):
            if name.startswith(own):
                name = f"output_layer.{name.replace(own, released, 1)}"
        state[f"backbone.{name}"] = tensor.clone()
    return state


@pytest.fixture(scope="module")
def mdlm(tmp_path_factory):
    torch.manual_seed(0)
    model = DiT(8, 30, width=16, blocks=2, heads=2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("mdlm")
    save_file(mdlm_state(model), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"n_heads": 2}))
    return model.eval(), folder


def test_mdlm_is_read_by_name(mdlm):
    model, folder = mdlm
    loaded = hub_models.load_mdlm(str(folder), 5, CPU)
    assert (loaded.n_tokens, loaded.n_symbols) == (5, 30)
    tokens = torch.randint(0, 31, (3, 5))
    assert torch.allclose(loaded(tokens), model(tokens), atol=1e-6)
    assert "backbone.output_layer.adaLN_modulation.weight" in mdlm_state(model)


def test_a_checkpoint_that_is_not_mdlm_s_is_refused(mdlm, tmp_path):
    state = mdlm_state(mdlm[0])
    save_file({k: v for k, v in state.items() if "blocks.1.mlp" not in k}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="does not fit"):
        hub_models.load_mdlm(str(tmp_path), 5, CPU, heads=2)
    save_file({"wrong.name": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="no tensor of MDLM"):
        hub_models.load_mdlm(str(tmp_path), 5, CPU, heads=2)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="damaged"):
        hub_models.load_mdlm(str(tmp_path), 5, CPU)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DataError, match="holds no safetensors"):
        hub_models.load_mdlm(str(tmp_path), 5, CPU)


def word_tokenizer(folder, special):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", "[PAD]", "bad", "good", "case", "the", "was"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", **special
    ).save_pretrained(folder)
    return len(words)


def test_review_reward_is_the_log_probability_of_one_star(tmp_path):
    torch.manual_seed(0)
    size = word_tokenizer(tmp_path, {})
    config = transformers.BertConfig(
        vocab_size=size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=5
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    texts = ["the case was bad", "good"]
    reward = hub_models.ReviewReward(str(tmp_path), lambda tokens: [texts[i] for i in tokens[:, 0]], CPU)
    tokens = torch.tensor([[0], [1]])
    ids = torch.tensor([[5, 4, 6, 2]])
    wanted = reward.model(input_ids=ids).logits.log_softmax(-1)[0, 0]
    assert reward.log_reward(tokens)[0].item() == pytest.approx(wanted.item(), abs=1e-5)
    assert reward(tokens)[0].item() == pytest.approx(2 * wanted.item(), abs=1e-5)
    with pytest.raises(ValueError, match="another vocabulary"):
        reward.log_reward_of_onehot(torch.zeros(1, 1, 7))


def test_generative_perplexity_by_hand(tmp_path):
    torch.manual_seed(0)
    size = word_tokenizer(tmp_path, {})
    config = transformers.GPT2Config(vocab_size=size, n_embd=16, n_layer=1, n_head=2, n_positions=32)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path)
    ids = torch.tensor([[5, 4, 6, 2]])
    logs = model(ids).logits[0, :-1].log_softmax(-1)
    nll = -sum(logs[i, ids[0, i + 1]].item() for i in range(3)) / 3
    found = hub_models.generative_perplexity(str(tmp_path), ["the case was bad", "good"], CPU)
    assert found == pytest.approx(math.exp(nll), rel=1e-4)
    with pytest.raises(ValueError, match="two tokens"):
        hub_models.generative_perplexity(str(tmp_path), ["good"], CPU)


def test_image_features_of_a_vision_transformer(tmp_path):
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path)
    features = hub_models.image_features(str(tmp_path), CPU, size=28)(torch.rand(3, 1, 14, 14))
    assert features.shape == (3, 16)
    assert torch.isfinite(features).all()
