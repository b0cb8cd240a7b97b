"""The experiments on digits and sentences at the smallest sizes, and the metrics by hand."""

import dataclasses
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lib.claims import ledger
from lib.ddpp import image_experiments as images
from lib.ddpp import image_figures as figures
from lib.ddpp import text_experiments as texts
from lib.ddpp.mnist import TEST_10K, TRAIN_10K, TRAIN_60K
from lib.ddpp.pixel_mlp import PixelLogZ, PixelMLP
from lib.ddpp.profiles import PROFILES
from lib.profiles import ParameterError
from lib.records import Run

CPU = torch.device("cpu")
SMALL = {
    "image_side": 8, "image_network": "mlp", "image_width": 32, "image_blocks": 1, "image_pretrain_steps": 60, "image_classifier_epochs": 3,
    "image_seeds": 2, "image_steps": 4, "image_batch": 8, "image_rtb_steps": 2, "image_rtb_batch": 4, "image_samples": 20,
    "image_particles": 3, "image_sampling_steps": 6, "image_refill_size": 16, "image_likelihood_images": 40, "image_rare_digit": 5,
    "image_rare_methods": ("lb",), "image_methods": ("kl", "is", "lb", "rtb"), "image_kl_samples": 2, "image_fld_model": "judge",
    "text_seeds": 1, "text_vocabulary": 60, "text_length": 10, "text_width": 16, "text_blocks": 1, "text_heads": 2, "text_pretrain_steps": 20,
    "text_pretrain_batch": 16, "text_steps": 4, "text_batch": 4, "text_rtb_steps": 2, "text_rtb_batch": 4, "text_warm_up": 1, "text_samples": 12,
    "text_particles": 3, "text_sampling_steps": 5, "text_refill_size": 8,
}  # fmt: skip


def start(tmp_path, **changes):
    return Run.start("ddpp", PROFILES, profile="smoke", accelerator="cpu", data="standin", out_dir=tmp_path, overrides=SMALL | changes)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return start(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def prepared(run):
    return images.prepare(*images.prepare_jobs(run, None)[0])


@pytest.fixture(scope="module")
def rows(run, prepared):
    found = []
    for job in images.baseline_jobs(run, prepared):
        found += images.baseline_job(*job)
    for job in images.steering_jobs(run, prepared):
        found += images.steering_job(*job)
    return found


def test_every_method_has_a_row_per_seed(rows):
    even = {(r.method, r.seed) for r in rows if r.target == images.EVEN_NAME}
    methods = ("real", "base", "best_of_n", "sir", "svdd", "kl", "is", "lb", "rtb")
    assert even == {(m, s) for m in methods for s in (0, 1)}
    rare = {r.method for r in rows if r.target == "digit 5"}
    assert rare == {"real", "base", "best_of_n", "sir", "lb"}
    for r in rows:
        assert math.isfinite(r.log_reward)
        assert r.log_reward <= 0
        assert 0 <= r.judged <= 1
        assert r.distance >= 0
        assert math.isfinite(r.fld)
        assert sum(r.histogram) == pytest.approx(1.0)
        assert math.isfinite(r.bits_per_dim) == (r.method in ("base", "kl", "is", "lb", "rtb"))
    best, base = (images.values(rows, images.EVEN_NAME, m, "log_reward") for m in ("best_of_n", "base"))
    assert ((best - base).values > 0).all()


def test_judge_and_reward_share_no_weights_and_no_images(prepared):
    first, second = (list(m.state_dict().values()) for m in (prepared.reward, prepared.judge))
    assert [p.shape for p in first] != [p.shape for p in second]
    assert prepared.reference[images.EVEN_NAME].shape[1] == 64


def test_the_prior_is_not_changed_by_tuning(run, prepared):
    before = [p.clone() for p in prepared.prior.parameters()]
    images.steering_job(prepared, run.settings, images.EVEN_NAME, "is", 0, CPU)
    assert all(torch.equal(a, b) for a, b in zip(before, prepared.prior.parameters()))


def test_same_seed_same_row(run, prepared):
    first, second = (
        images.steering_job(prepared, run.settings, images.EVEN_NAME, "lb", 0, CPU)[0] for _ in range(2)
    )
    assert (first.log_reward, first.distance) == (second.log_reward, second.distance)
    assert np.array_equal(first.examples, second.examples)


def test_table_and_figures(rows):
    table = figures.image_table(rows)
    assert list(table["method"])[:2] == ["real digits", "base model"]
    assert table.loc[table["method"] == "DDPP-KL", "paper: log R"].item() == "-3.13 ± 0.06"
    for figure in (figures.image_figure(rows), figures.trade_off_figure(rows)):
        assert figure.axes
        plt.close(figure)


def fake(target, method, seed, log_reward, distance, bits=math.nan):
    return images.ImageRow(
        target, method, seed, log_reward, 1.0, distance, 30.0 + seed, bits, 1.0, (0.1,) * 10, np.zeros((1, 2, 2)), 1, 1, 1.0, 1.0
    )  # fmt: skip


def fake_rows():
    made = []
    numbers = {
        "real": (-0.1, 1, math.nan), "base": (-20.0, 30, 0.20), "sir": (-0.3, 9, math.nan), "svdd": (-0.01, 90, math.nan),
        "is": (-5.0, 20, 0.21), "lb": (-6.0, 25, 0.22), "kl": (-3.0, 12, 0.20), "rtb": (-18.0, 50, 0.25),
    }  # fmt: skip
    for method, (log_reward, distance, bits) in numbers.items():
        for seed in (1, 0):
            shift = 0.01 * seed if method in ("is", "lb", "kl", "rtb") else 0.0
            made.append(fake(images.EVEN_NAME, method, seed, log_reward + shift, distance, bits))
    return made


def test_metrics_by_hand(tmp_path):
    run = start(tmp_path)
    images.measure_images(run, fake_rows(), side=28)
    wanted = {
        "mnist_log_reward_gain_over_base": [14.0, 14.01],  # LB gains least
        "mnist_log_reward_svdd_minus_best_ddpp": [2.99, 2.98],  # KL
        "mnist_distance_svdd_minus_worst_ddpp": [65.0, 65.0],  # LB
        "mnist_bpd_ratio_to_base": [1.1, 1.1],  # LB
        "mnist_distance_sir_minus_best_ddpp": [-3.0, -3.0],  # KL
        "mnist28_log_reward_kl": [-3.0, -2.99],
        "mnist28_log_reward_kl_minus_best_is_lb": [2.0, 2.0],  # IS
        "mnist28_log_reward_worst_ddpp_minus_rtb": [12.0, 12.0],
        "mnist28_bpd_kl": [0.2, 0.2],
        "mnist28_bpd_ratio_to_base": [1.1, 1.1],
    }
    assert {name: list(m.values) for name, m in run.measurements.items()} == {
        name: pytest.approx(values) for name, values in wanted.items()
    }


def test_smaller_images_do_not_speak_for_28_pixels(tmp_path):
    run = start(tmp_path)
    images.measure_images(run, fake_rows(), side=14)
    assert not any(name.startswith("mnist28") for name in run.measurements)
    rules = {m for c in ledger("ddpp").claims if c.id in ("C4", "C4d") for m in c.metrics}
    assert rules <= set(run.measurements)


def test_findings_take_every_number_from_the_rows():
    text = images.findings([r for r in fake_rows() if r.seed == 0])
    assert "KL (-3.00), IS (-5.00), LB (-6.00); the base model has -20.00, SVDD -0.01" in text
    assert "KL stays nearest to the base model's likelihood: 0.2000 bits" in text
    assert "is SIR (9.0)" in text
    assert "RTB reaches -18.00 at a distance of 50" in text


def test_a_missing_method_is_named(rows):
    with pytest.raises(ValueError, match="no row of 'drakes'"):
        images.values(rows, images.EVEN_NAME, "drakes", "distance")


def test_unknown_network(run):
    with pytest.raises(ParameterError, match="image_network='unet'"):
        images.make_denoiser(dataclasses.replace(run.settings, image_network="unet"), None, 0)


def test_grey_levels_run_with_a_transformer(tmp_path):
    run = start(
        tmp_path, image_grey_levels=4, image_network="dit", image_width=16, image_methods=("kl",), image_pretrain_steps=2,
        image_steps=1, image_samples=6, image_likelihood_images=6, image_fld_model="",
    )  # fmt: skip
    found = images.grey_job(run, None)
    assert {r.method for r in found} == {"real", "base", "best_of_n", "sir", "svdd", "kl"}
    assert found[-1].examples.max() <= 1.0
    assert len(np.unique(np.concatenate([r.examples.ravel() for r in found]))) > 2  # more than ink and paper


def test_which_files_are_taken(tmp_path, monkeypatch):
    short, long = (TRAIN_10K, TEST_10K), (*TRAIN_60K, TEST_10K)
    present = {short}

    def locate(names, data):
        return [tmp_path / n for n in names] if tuple(names) in present else None

    monkeypatch.setattr(images.datasets, "locate", locate)
    run = start(tmp_path, image_side=14, image_full_training_set=True)
    run.data = "auto"
    assert len(images.fetch_digits(run)) == 2
    assert run.notices == [images.SHORT_SET_NOTICE]
    present.add(long)
    assert len(images.fetch_digits(run)) == 3
    present.clear()
    assert images.fetch_digits(run) is None
    assert run.data_source == "standin"
    present.add(long)
    other = start(tmp_path, image_side=14, image_full_training_set=False)
    other.data = "auto"
    assert len(images.fetch_digits(other)) == 3
    assert other.notices == [images.LONG_SET_NOTICE]


def test_pixel_network_reads_only_open_pixels():
    net = PixelMLP(9, 3, width=16, blocks=1, seed=0)
    masked = torch.full((1, 9), 3)
    assert net(masked).shape == (1, 9, 4)
    other = masked.clone()
    other[0, 4] = 1
    assert not torch.equal(net(masked), net(other))
    assert not net(other)[..., -1].any()
    assert torch.equal(PixelMLP(9, 3, width=16, blocks=1, seed=0)(other), net(other))
    assert PixelLogZ(9, 3)(masked).tolist() == [0.0]


@pytest.fixture(scope="module")
def text_rows(run):
    prepared = texts.prepare_text(*texts.prepare_text_jobs(run, None)[0])
    found = []
    for job in texts.text_baseline_jobs(run, prepared):
        found += texts.text_baseline_job(*job)
    for job in texts.text_steering_jobs(run, prepared):
        found += texts.text_steering_job(*job)
    return found


def test_text_rows_table_and_figure(text_rows):
    assert [r.method for r in text_rows] == ["real", "base", "best_of_n", "sir", "svdd", "lb", "is", "rtb"]
    for r in text_rows:
        assert r.log_reward <= 0
        assert r.perplexity >= 1
        assert 0 <= r.distinct <= 1
        assert 0 <= r.copied <= 1
    best, base = (next(r for r in text_rows if r.method == m) for m in ("best_of_n", "base"))
    assert best.log_reward > base.log_reward
    assert figures.text_table(text_rows)["paper: log R"].iloc[-1] == "152.08 ± 34.01"
    assert len(figures.sentence_examples(text_rows, 2)) == 16
    plt.close(figures.text_figure(text_rows))


def test_text_metrics_by_hand(tmp_path):
    run = start(tmp_path)
    numbers = {"best_of_n": -3.0, "svdd": -2.0, "rtb": -2.5, "is": -1.0, "lb": -0.5}
    rows = [
        texts.TextRow(m, seed, value + 0.1 * seed * (m == "lb"), 0, 1, 0, 0, (), 0, 0)
        for m, value in numbers.items()
        for seed in (0, 1)
    ]
    texts.measure_text(run, rows)
    assert {n: list(m.values) for n, m in run.measurements.items()} == {
        "text_log_reward_lb_minus_is": pytest.approx([0.5, 0.6]),
        "text_log_reward_is_minus_best_of_svdd_rtb": pytest.approx([1.0, 1.0]),
        "text_log_reward_worst_of_svdd_rtb_minus_best_of_10": pytest.approx([0.5, 0.5]),
    }
    with pytest.raises(ValueError, match="no row of 'svdd'"):
        texts.measure_text(start(tmp_path), [r for r in rows if r.method != "svdd"])
