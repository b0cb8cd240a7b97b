"""Steering a model of digits towards a class: one prior, all methods, judged by a classifier that is not the reward (Table 2).

``*_jobs`` turn a run's settings into arguments of one function each, for :class:`lib.workers.Workers`; ``measure_images`` turns results
into the metrics that the ledger names. Every row is measured on the same number of samples, drawn in the same number of denoising steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib import datasets
from lib.by_seed import BySeed, best, by_seed
from lib.checkpoints import KeepCheckpoint, keeping
from lib.ddpp.classifier import ClassReward, DigitClassifier, accuracy, train_classifier
from lib.ddpp.dit import DiT, DiTLogZ
from lib.ddpp.image_metrics import class_histogram, feature_likelihood_divergence, frechet_distance
from lib.ddpp.inference_steering import best_of_n, sir_pool, svdd
from lib.ddpp.masked_diffusion import bits_per_dim, pretrain
from lib.ddpp.mnist import TEST_10K, TRAIN_10K, TRAIN_60K, DigitTask, digit_task
from lib.ddpp.pixel_mlp import PixelLogZ, PixelMLP
from lib.ddpp.profiles import IMAGE_HEADS, Settings
from lib.ddpp.samplers import sample
from lib.ddpp.steering import steer
from lib.ddpp.weighted_denoising import effective_sample_size
from lib.records import Run

Job = tuple[Any, ...]
Features = Callable[[Tensor], Tensor]

EVEN = (0, 2, 4, 6, 8)
EVEN_NAME = "even digits"
DDPP = ("is", "lb", "kl")
SHORT_TRAINING_SET = 10_000
EXAMPLES = 12
LOG_Z_WARM_UP = 0.1  # share of LB's steps in which only log Z learns
SHORT_SET_NOTICE = "NOTICE: the 60 000 training digits could not be had; this run trains on 10 000 of them."
LONG_SET_NOTICE = (
    "NOTICE: the file of 10 000 training digits could not be had; the first 10 000 of the 60 000 are used."
)


@dataclass(frozen=True)
class Prepared:
    """What all methods share.

    Attributes:
        prior: the pretrained denoiser. reward, judge: classifiers trained on different halves of the training digits.
        reward_accuracy, judge_accuracy: on the test digits. reference: target → the judge's features of its test digits.
    """

    task: DigitTask
    prior: nn.Module
    reward: DigitClassifier
    judge: DigitClassifier
    reward_accuracy: float
    judge_accuracy: float
    reference: dict[str, Tensor]

    def to(self, device: torch.device | str) -> None:
        """Move the three networks, in place."""
        for model in (self.prior, self.reward, self.judge):
            model.to(device)


@dataclass(frozen=True)
class ImageRow:
    """One method, one seed.

    Attributes:
        target: name of the wanted classes. method: ``real``, ``base``, ``best_of_n``, ``sir``, ``svdd`` or an objective.
        log_reward: mean of exponent · log p(target | x) by the reward's classifier. judged: share of samples that the judge puts into the target.
        distance: Fréchet distance to the target's test digits in the judge's features. fld: NaN where it is not measured.
        bits_per_dim: NELBO on the target's test digits over n log 2; NaN where no model was tuned.
        distinct: share of different images among the samples. histogram: the judge's classes. examples: ink (k, S, S) of the first samples.
        network_rows, reward_rows: evaluations of single images, the samples that are measured included.
        ess: effective sample size of the pool's weights, NaN elsewhere. seconds: wall time.
    """

    target: str
    method: str
    seed: int
    log_reward: float
    judged: float
    distance: float
    fld: float
    bits_per_dim: float
    distinct: float
    histogram: tuple[float, ...]
    examples: np.ndarray
    network_rows: int
    reward_rows: int
    ess: float
    seconds: float


def targets(settings: Settings) -> dict[str, tuple[int, ...]]:
    """Name → wanted classes: the even digits of the paper, and one rarer digit."""
    named: dict[str, tuple[int, ...]] = {EVEN_NAME: EVEN}
    if settings.image_rare_digit >= 0:
        named[f"digit {settings.image_rare_digit}"] = (settings.image_rare_digit,)
    return named


def _at_hand(names: Sequence[str]) -> bool:
    return datasets.locate(names, "auto") is not None


def fetch_digits(run: Run[Settings]) -> list[Path] | None:
    """Paths for :func:`lib.ddpp.mnist.digit_task`, or None for the built-in 8 × 8 digits; what is missing is said visibly.

    Raises:
        DataError: for a corrupt file, or with ``data="real"`` if no set of training digits can be had.
    """
    if run.settings.image_side == 8:
        return None
    short, long = (TRAIN_10K, TEST_10K), (*TRAIN_60K, TEST_10K)
    first, second = (long, short) if run.settings.image_full_training_set else (short, long)
    if run.data != "standin" and not _at_hand(first) and _at_hand(second):
        notice = SHORT_SET_NOTICE if second == short else LONG_SET_NOTICE
        if notice not in run.notices:
            run.notices.append(notice)
            print(notice)
        return run.fetch(*second)
    return run.fetch(*first)


def make_denoiser(settings: Settings, task: DigitTask, seed: int) -> nn.Module:
    """The untrained prior."""
    sizes = (task.n_tokens, task.n_symbols, settings.image_width, settings.image_blocks)
    if settings.image_network == "mlp":
        return PixelMLP(*sizes, seed=seed)
    return DiT(*sizes, IMAGE_HEADS, seed=seed)


def prepare(
    settings: Settings,
    paths: Sequence[Path] | None,
    seed: int,
    device: torch.device,
    keep: KeepCheckpoint | None = None,
) -> Prepared:
    """Train the two classifiers and pretrain the prior."""
    limit = None if settings.image_full_training_set else SHORT_TRAINING_SET
    task = digit_task(paths, settings.image_side, settings.image_symbols, limit=limit)
    pixels, half = task.pixels(task.train), len(task.train) // 2
    test_pixels = task.pixels(task.test)
    parts = {"reward": slice(0, half), "judge": slice(half, None)}
    classifiers = {
        name: train_classifier(
            pixels[part],
            task.train_labels[part],
            name,
            epochs=settings.image_classifier_epochs,
            seed=2 * seed + i,
            device=device,
        )
        for i, (name, part) in enumerate(parts.items())
    }
    right = {name: accuracy(model, test_pixels, task.test_labels) for name, model in classifiers.items()}
    prior = pretrain(
        make_denoiser(settings, task, seed).to(device),
        task.train,
        steps=settings.image_pretrain_steps,
        batch_size=settings.image_pretrain_batch,
        learning_rate=settings.image_pretrain_rate,
        warm_up=min(100, settings.image_pretrain_steps // 10),
        decay="linear",
        seed=seed,
        device=device,
        precision=settings.image_precision,
        keep=keep,
    )
    judge = classifiers["judge"]
    reference = {
        name: _by_parts(judge.features, task.pixels(task.test_of(classes)), device)
        for name, classes in targets(settings).items()
    }
    made = Prepared(task, prior, classifiers["reward"], judge, right["reward"], right["judge"], reference)
    made.to("cpu")  # any process can take it from there
    return made


def _reward(prepared: Prepared, settings: Settings, classes: Sequence[int]) -> ClassReward:
    return ClassReward(prepared.reward, classes, prepared.task.n_symbols, settings.image_exponent)


def _precision(settings: Settings, device: torch.device) -> torch.autocast:
    """Sampling in the precision of the trainings."""
    half = settings.image_precision.startswith("bf16")
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def _batch(settings: Settings) -> int:
    """Images per network call while sampling."""
    return 4096 if settings.image_network == "mlp" else 512


@torch.no_grad()
def _by_parts(function: Features, pixels: Tensor, device: torch.device, size: int = 1000) -> Tensor:
    return torch.cat([function(part.to(device)).cpu() for part in pixels.split(size)])


def _fld_features(settings: Settings, prepared: Prepared, device: torch.device) -> Features | None:
    """What the feature likelihood divergence is measured in: nothing, the judge's features, or a network of the hub."""
    if settings.image_fld_model in ("", "judge"):
        return prepared.judge.features if settings.image_fld_model else None
    from lib.ddpp.hub_models import image_features

    return image_features(settings.image_fld_model, device)


def measure_samples(
    prepared: Prepared,
    settings: Settings,
    target: str,
    method: str,
    seed: int,
    tokens: Tensor,
    device: torch.device,
    *,
    denoiser: nn.Module | None = None,
    network_rows: int = 0,
    reward_rows: int = 0,
    ess: float = math.nan,
    started: float | None = None,
) -> ImageRow:
    """Measure samples (N, n) of one method; ``denoiser`` is asked for bits per dimension."""
    task, classes = prepared.task, targets(settings)[target]
    tokens = tokens.to(device)
    reward = _reward(prepared, settings, classes)
    wanted = task.test_of(classes)
    features = _by_parts(prepared.judge.features, task.pixels(tokens), device)
    with torch.no_grad():
        judged = prepared.judge.head(features.to(device)).argmax(1).cpu()
    seconds = math.nan if started is None else time.perf_counter() - started
    fld, inspect = math.nan, _fld_features(settings, prepared, device)
    if inspect is not None:
        train = task.train[torch.isin(task.train_labels, torch.tensor(classes))]
        real, unseen, made = (
            _by_parts(inspect, task.pixels(part), device, 200).to(device) for part in (train, wanted, tokens)
        )
        fld = feature_likelihood_divergence(real, unseen, made)
    bits = math.nan
    if denoiser is not None:  # the same images, times and masks for every model
        some = wanted[: settings.image_likelihood_images].to(device)
        bits = bits_per_dim(denoiser, some, seed=0, batch_size=_batch(settings) // 8)
    return ImageRow(
        target,
        method,
        seed,
        float(torch.cat([reward(part) for part in tokens.split(2000)]).mean()),
        float(torch.isin(judged, torch.tensor(classes)).float().mean()),
        frechet_distance(features, prepared.reference[target]),
        fld,
        bits,
        len(tokens.unique(dim=0)) / len(tokens),
        tuple(class_histogram(judged)),
        task.pixels(tokens[:EXAMPLES].cpu())[:, 0].numpy(),
        network_rows,
        reward_rows,
        ess,
        seconds,
    )


def baseline_job(
    prepared: Prepared, settings: Settings, seed: int, with_svdd: bool, device: torch.device
) -> list[ImageRow]:
    """Rows that need no training: real digits, base model, Best-of-N, SIR from one pool of N · samples, and SVDD."""
    prepared.to(device)
    n, particles, steps = settings.image_samples, settings.image_particles, settings.image_sampling_steps
    generator = torch.Generator(device).manual_seed(10_000 + seed)
    started = time.perf_counter()
    options: dict[str, Any] = {"generator": generator, "steps": steps, "batch_size": _batch(settings)}
    with _precision(settings, device):
        pool = sample(prepared.prior, particles * n, **options)
    rows = []
    calls = min(steps, prepared.task.n_tokens)

    def row(target: str, method: str, tokens: Tensor, **more: Any) -> None:
        rows.append(
            measure_samples(prepared, settings, target, method, seed, tokens, device, started=started, **more)
        )

    for target, classes in targets(settings).items():
        task = prepared.task
        half = len(task.train) // 2  # the judge was trained on the other half
        own = task.train[:half][torch.isin(task.train_labels[:half], torch.tensor(classes))]
        pick = torch.randperm(len(own), generator=torch.Generator().manual_seed(seed))[:n]
        row(target, "real", own[pick])
        row(target, "base", pool[:n], denoiser=prepared.prior, network_rows=n * calls)
        reward = _reward(prepared, settings, classes)
        scores = torch.cat([reward(part) for part in pool.split(2000)])
        spent = {"network_rows": len(pool) * calls, "reward_rows": len(pool)}
        ess = effective_sample_size(scores)
        row(target, "best_of_n", best_of_n(pool, scores, particles), **spent, ess=ess)
        row(target, "sir", sir_pool(pool, scores, n, generator), **spent, ess=ess)
    if with_svdd:
        started = time.perf_counter()
        with _precision(settings, device):
            guided = svdd(
                prepared.prior,
                _reward(prepared, settings, EVEN),
                n,
                particles=particles,
                steps=steps,
                generator=generator,
                batch_size=_batch(settings),
            )
        row(
            EVEN_NAME,
            "svdd",
            guided.tokens,
            network_rows=guided.counter.rows,
            reward_rows=guided.counter.reward_rows,
        )
    return rows


def steering_job(
    prepared: Prepared,
    settings: Settings,
    target: str,
    method: str,
    seed: int,
    device: torch.device,
    keep: KeepCheckpoint | None = None,
) -> list[ImageRow]:
    """Tune the prior to one target by one objective, and measure the tuned model at its last step."""
    started = time.perf_counter()
    prepared.to(device)
    task, n = prepared.task, settings.image_samples
    options: dict[str, Any] = {
        "steps": settings.image_steps,
        "batch_size": settings.image_batch,
        "learning_rate": settings.image_rate,
        "completions": settings.image_completions,
        "kl_samples": settings.image_kl_samples,
        "pool": settings.image_particles
        * settings.image_samples,  # of the weighted control: as large as SIR's
    }
    if method == "rtb":
        options |= {
            "steps": settings.image_rtb_steps,
            "batch_size": settings.image_rtb_batch,
            "learning_rate": settings.image_rtb_rate,
            "detached": settings.image_rtb_detached,
            "log_z_rate": 0.1,
            "weight_decay": 0.01,
        }
    if method == "lb":
        head = PixelLogZ if settings.image_network == "mlp" else DiTLogZ
        options["log_z_model"] = head(task.n_tokens, task.n_symbols, seed=seed)
        options["log_z_warm_up"] = int(LOG_Z_WARM_UP * settings.image_steps)
    tuned = steer(
        prepared.prior,
        _reward(prepared, settings, targets(settings)[target]),
        method,
        seed=seed,
        device=device,
        precision=settings.image_precision,
        keep=keep,
        gradient_clip=1.0,
        refill_every=settings.image_refill_every,
        refill_size=settings.image_refill_size,
        sampling_steps=settings.image_sampling_steps,
        **options,
    )
    generator = torch.Generator(device).manual_seed(20_000 + seed)
    with _precision(settings, device):
        tokens = sample(
            tuned.denoiser,
            n,
            generator=generator,
            steps=settings.image_sampling_steps,
            batch_size=_batch(settings),
        )
    calls = min(settings.image_sampling_steps, task.n_tokens)
    return [
        measure_samples(
            prepared,
            settings,
            target,
            method,
            seed,
            tokens,
            device,
            denoiser=tuned.denoiser,
            network_rows=tuned.counter.rows + n * calls,
            reward_rows=tuned.counter.reward_rows,
            started=started,
        )
    ]


def prepare_jobs(run: Run[Settings], paths: Sequence[Path] | None) -> list[Job]:
    """One job: the prior and the two classifiers."""
    keep = keeping(run, "digits-prior", (), run.settings.checkpoint_every)
    return [(run.settings, paths, run.seed, run.device, keep)]


def baseline_jobs(run: Run[Settings], prepared: Prepared) -> list[Job]:
    """The rows without training, one job per seed."""
    return [(prepared, run.settings, seed, True, run.device) for seed in run.seeds(run.settings.image_seeds)]


def steering_jobs(run: Run[Settings], prepared: Prepared) -> list[Job]:
    """One job per target, objective and seed."""
    s = run.settings
    jobs: list[Job] = []
    for target in targets(s):
        for method in s.image_methods if target == EVEN_NAME else s.image_rare_methods:
            for seed in run.seeds(s.image_seeds):
                keep = _keep_steering(run, "digits", prepared, target, method, seed)
                jobs.append((prepared, s, target, method, seed, run.device, keep))
    return jobs


def _keep_steering(
    run: Run[Settings], images: str, prepared: Prepared, target: str, method: str, seed: int
) -> KeepCheckpoint | None:
    """The checkpoints of one :func:`steering_job`."""
    label, job = f"{images}-{target}-{method}-{seed}", (target, method, seed, prepared.reward)
    return keeping(run, label, job, run.settings.checkpoint_every)


def grey_settings(settings: Settings) -> Settings:
    """The further experiment with grey levels instead of binary pixels (beside the paper's CelebA, which it does not replace)."""
    return replace(settings, image_symbols=settings.image_grey_levels, image_rare_digit=-1, image_seeds=1)


def grey_job(run: Run[Settings], paths: Sequence[Path] | None) -> list[ImageRow]:
    """Prior with V = grey levels, then base, Best-of-N, SIR, SVDD and every objective on even digits, one seed."""
    own, seed, device = grey_settings(run.settings), run.seed, run.device
    prepared = prepare(own, paths, seed, device, keeping(run, "grey-prior", own, own.checkpoint_every))
    rows = baseline_job(prepared, own, seed, True, device)
    for method in own.image_methods:
        keep = _keep_steering(run, "grey", prepared, EVEN_NAME, method, seed)
        rows += steering_job(prepared, own, EVEN_NAME, method, seed, device, keep)
    return rows


# --- metrics --------------------------------------------------------------------------------------------------------


def values(rows: Sequence[ImageRow], target: str, method: str, field: str) -> BySeed:
    """One field of a method's rows, by seed.

    Raises:
        SeedError: if no row fits.
    """
    own = (r for r in rows if (r.target, r.method) == (target, method))
    return by_seed(own, lambda r: getattr(r, field), f"row of {method!r} with target {target!r}")


def measure_images(run: Run[Settings], rows: Sequence[ImageRow], side: int) -> None:
    """C4, C4a, C4c, C4d, and C4b where a hub network was given; all on the even digits, one value per seed.

    «Worst» and «best» name the objective with the worst or best mean; differences pair equal seeds. Metrics whose name begins with
    ``mnist28`` are measured at 28 × 28 pixels only.

    Args:
        side: pixels of the images that were used.
    """
    methods = {r.method for r in rows if r.target == EVEN_NAME}
    tuned = [m for m in DDPP if m in methods]

    def get(method: str, field: str) -> BySeed:
        return values(rows, EVEN_NAME, method, field)

    def extreme(field: str, largest: bool) -> BySeed:
        found = {m: get(m, field) for m in tuned}
        return found[best(found, largest)]

    base_bits = get("base", "bits_per_dim")
    worst_ratio = extreme("bits_per_dim", True) / base_bits
    lowest, highest = extreme("log_reward", False), extreme("log_reward", True)
    run.measure("mnist_log_reward_gain_over_base", lowest - get("base", "log_reward"), unit="nats")
    run.measure("mnist_log_reward_svdd_minus_best_ddpp", get("svdd", "log_reward") - highest, unit="nats")
    run.measure(
        "mnist_distance_svdd_minus_worst_ddpp", get("svdd", "distance") - extreme("distance", True),
        unit="Frechet distance",
    )  # fmt: skip
    run.measure("mnist_bpd_ratio_to_base", worst_ratio)
    run.measure(
        "mnist_distance_sir_minus_best_ddpp", get("sir", "distance") - extreme("distance", False),
        unit="Frechet distance",
    )  # fmt: skip
    if side != 28:
        return
    run.measure("mnist28_bpd_ratio_to_base", worst_ratio)
    if "kl" in tuned:
        run.measure("mnist28_log_reward_kl", get("kl", "log_reward"), unit="nats")
        run.measure("mnist28_bpd_kl", get("kl", "bits_per_dim"), unit="bits/dim")
    if set(DDPP) <= set(tuned):
        others = {m: get(m, "log_reward") for m in ("is", "lb")}
        gap = get("kl", "log_reward") - others[best(others)]
        run.measure("mnist28_log_reward_kl_minus_best_is_lb", gap, unit="nats")
    if "rtb" in methods:
        run.measure("mnist28_log_reward_worst_ddpp_minus_rtb", lowest - get("rtb", "log_reward"), unit="nats")
    if run.settings.image_fld_model not in ("", "judge") and "rtb" in methods and "kl" in tuned:
        worst_fld = extreme("fld", True)
        run.measure("mnist28_fld_kl", get("kl", "fld"), unit="FLD")
        run.measure("mnist28_fld_worst_ddpp_minus_rtb", worst_fld - get("rtb", "fld"), unit="FLD")
        run.measure("mnist28_fld_worst_ddpp_minus_base", worst_fld - get("base", "fld"), unit="FLD")


def findings(rows: Sequence[ImageRow]) -> str:
    """What the even digits show, in Markdown, every number from ``rows``."""

    def mean(method: str, field: str) -> float:
        return values(rows, EVEN_NAME, method, field).mean()

    methods = {r.method for r in rows if r.target == EVEN_NAME}
    tuned = [m for m in DDPP if m in methods]
    order = sorted(tuned, key=lambda m: -mean(m, "log_reward"))
    nearest = min((m for m in methods if m != "real"), key=lambda m: mean(m, "distance"))
    names = {"is": "IS", "lb": "LB", "kl": "KL", "rtb": "RTB", "sir": "SIR", "svdd": "SVDD", "base": "the base model",
             "best_of_n": "Best-of-N", "weighted_ce": "the weighted control"}  # fmt: skip
    ranked = ", ".join(f"{names[m]} ({mean(m, 'log_reward'):.2f})" for m in order)
    bits = min(tuned, key=lambda m: abs(mean(m, "bits_per_dim") - mean("base", "bits_per_dim")))
    share = mean("sir", "ess") / mean("sir", "reward_rows")
    lines = [
        f"- Log R of the three objectives, best first: {ranked}; the base model has {mean('base', 'log_reward'):.2f}, SVDD "
        f"{mean('svdd', 'log_reward'):.2f} at a distance of {mean('svdd', 'distance'):.0f} (base {mean('base', 'distance'):.0f}).",
        f"- {names[bits]} stays nearest to the base model's likelihood: {mean(bits, 'bits_per_dim'):.4f} bits per dimension against "
        f"{mean('base', 'bits_per_dim'):.4f}.",
        f"- The judge calls {100 * mean('base', 'judged'):.0f} % of the base samples even, and {100 * share:.0f} % of a pool of base samples are effective under the "
        f"weights. Nearest to the test digits of all is {names[nearest]} ({mean(nearest, 'distance'):.1f}); SIR has {mean('sir', 'distance'):.1f} without any training.",
    ]
    if "rtb" in methods:
        lines.append(
            f"- RTB reaches {mean('rtb', 'log_reward'):.2f} at a distance of {mean('rtb', 'distance'):.0f} with {mean('rtb', 'network_rows') / 1e3:.0f} thousand network calls, "
            f"the objectives had {mean(order[0], 'network_rows') / 1e3:.0f} thousand."
        )
    return "\n".join(lines)
