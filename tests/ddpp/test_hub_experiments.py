"""The paper's protein and review experiments start with tiny stand-ins of their models; their metrics by hand."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib.claims import ledger
from lib.datasets import DataError
from lib.ddpp import hub_experiments as hub
from lib.ddpp.dit import DiT
from lib.ddpp.hub_models import Fold
from lib.ddpp.profiles import PROFILES
from lib.ddpp.proteins import shrinking_log_reward
from lib.records import Run
from tests.ddpp.test_hub_models import ESM, mdlm_state

transformers = pytest.importorskip("transformers")


def start(tmp_path, **changes):
    return Run.start("ddpp", PROFILES, profile="smoke", accelerator="cpu", out_dir=tmp_path, overrides={"hub_seeds": 1, **changes})  # fmt: skip


def rules(claim):
    return next(c for c in ledger("ddpp").claims if c.id == claim).metrics


@pytest.fixture
def small_options(monkeypatch):
    for options in (hub.PROTEIN_OPTIONS, hub.REVIEW_OPTIONS):
        for method in options:
            monkeypatch.setitem(options[method], "batch_size", 2)
    monkeypatch.setattr(hub, "PARTICLES", 2)


def test_proteins_run_with_every_method(tmp_path, small_options):
    torch.manual_seed(0)
    transformers.EsmForMaskedLM(transformers.EsmConfig(**ESM)).save_pretrained(tmp_path / "dplm")
    run = start(
        tmp_path, hub_protein_model=str(tmp_path / "dplm"), hub_folding_model="not asked", hub_protein_length=5, hub_protein_samples=3, hub_protein_steps=1
    )  # fmt: skip
    asked = []

    def folder(sequence):
        asked.append(sequence)
        return Fold(sequence, 0.5, sequence.count("V") / 5, np.zeros((5, 3)), "")

    rows = hub.protein_experiment(
        run,
        folder,
        {
            "sheet": (lambda f: f.plddt, lambda share, f: share + f.ptm, 8.0),
            "9rat": (lambda f: f.ptm, lambda tm, _: shrinking_log_reward(tm), 2.0),
        },
    )
    assert [(r.task, r.method) for r in rows] == [
        (t, m) for t in ("sheet", "9rat") for m in hub.PROTEIN_METHODS
    ]
    assert len(asked) == len(set(asked))  # every sequence is folded once, over all methods
    for r in rows:
        wanted = r.plddt + 0.5 if r.task == "sheet" else 1.0
        assert r.log_reward == pytest.approx(wanted, abs=1e-6)
    hub.measure_proteins(run, rows)
    assert rules("C6a") | rules("C6b") <= set(run.measurements)


def test_protein_metrics_by_hand(tmp_path):
    run = start(tmp_path)
    numbers = {"base": (2.0, 0.1, 0.7), "best_of_n": (3.2, 0.3, 0.8), "svdd": (1.7, 0.1, 0.5), "rtb": (3.4, 0.3, 0.8), "lb": (3.7, 0.4, 0.9)}  # fmt: skip
    rows = [hub.ProteinRow("sheet", m, 0, r, share, plddt, 0.5) for m, (r, share, plddt) in numbers.items()]
    rows += [
        hub.ProteinRow(t, m, 0, 0.0, share + shift, 0.5, 0.5)
        for t, shift in (("a", 0.0), ("b", 0.1))
        for m, (_, share, _) in numbers.items()
    ]
    hub.measure_proteins(run, rows)
    found = {name: m.mean for name, m in run.measurements.items()}
    assert found == pytest.approx(
        {
            "dplm_sheet_log_reward_lb": 3.7, "dplm_sheet_log_reward_lb_minus_best": 0.3, "dplm_sheet_share_lb_minus_base": 0.3,
            "dplm_plddt_lb_minus_base": 0.2, "dplm_shrink_tm_lb": 0.45, "dplm_shrink_tm_lb_minus_rtb": 0.1,
            "dplm_shrink_tm_lb_minus_best_of_10": 0.1,
        }
    )  # fmt: skip


def test_reviews_run_with_every_method(tmp_path, small_options):
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    words = ["[END]", "bad", "good", "case", "the", "was"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[END]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[END]", eos_token="[END]", pad_token="[END]"
    )
    sizes = {"vocab_size": len(words), "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}  # fmt: skip
    transformers.BertForSequenceClassification(
        transformers.BertConfig(**sizes, num_labels=5)
    ).save_pretrained(tmp_path / "stars")
    fast.save_pretrained(tmp_path / "stars")
    causal = transformers.GPT2Config(vocab_size=len(words), n_embd=8, n_layer=1, n_head=2, n_positions=16)
    transformers.GPT2LMHeadModel(causal).save_pretrained(tmp_path / "gpt2")
    fast.save_pretrained(tmp_path / "gpt2")
    (tmp_path / "mdlm").mkdir()
    save_file(
        mdlm_state(DiT(4, len(words), width=8, blocks=1, heads=2)), tmp_path / "mdlm" / "model.safetensors"
    )
    (tmp_path / "mdlm" / "config.json").write_text(json.dumps({"n_heads": 2}))
    (tmp_path / "reviews.txt").write_text("the case was bad\n\nthe case was good\n", encoding="utf-8")
    run = start(
        tmp_path / "out", hub_text_model=str(tmp_path / "mdlm"), hub_review_classifier=str(tmp_path / "stars"),
        hub_language_model=str(tmp_path / "gpt2"), hub_review_file=str(tmp_path / "reviews.txt"), hub_review_length=4,
        hub_review_pretrain_steps=2, hub_review_steps=1, hub_review_samples=6,
    )  # fmt: skip
    rows = hub.hub_review_rows(run)
    assert [r.method for r in rows] == list(hub.REVIEW_METHODS)
    assert all(r.log_reward < 0 and r.perplexity >= 1 for r in rows)
    hub.measure_reviews(run, rows)
    assert rules("C7a") <= set(run.measurements)


def test_what_is_missing_leaves_the_experiment_out_visibly(tmp_path, capsys):
    run = start(tmp_path, hub_folding_model=str(tmp_path / "absent"))
    assert hub.or_notice(run, "proteins (C6a, C6b)", lambda: hub.hub_protein_rows(run)) is None
    assert "NOTICE: proteins (C6a, C6b) left out" in capsys.readouterr().out
    assert len(run.notices) == 1
    run.data = "real"
    with pytest.raises(DataError, match="cannot be had"):
        hub.or_notice(run, "proteins", lambda: hub.hub_protein_rows(run))


def test_empty_review_file(tmp_path):
    (tmp_path / "r.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no review"):
        hub.encode_reviews(tmp_path / "r.txt", None, 4)
    with pytest.raises(DataError, match=r"absent\.txt: no such file"):
        hub.encode_reviews(tmp_path / "absent.txt", None, 4)


def test_the_paper_profile_names_the_public_models():
    s = PROFILES["paper"]
    assert s.hub_protein_model == "airkingbd/dplm_150m"
    assert s.hub_folding_model == "facebook/esmfold_v1"
    assert s.hub_text_model == "kuleshov-group/mdlm-owt"
