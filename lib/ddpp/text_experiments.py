"""Steering a model of short reviews towards rare, negative ones: all methods, judged by a classifier that is not the reward (Table 4)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.by_seed import BySeed, by_seed
from lib.checkpoints import KeepCheckpoint, keeping
from lib.ddpp.dit import DiT, DiTLogZ
from lib.ddpp.inference_steering import best_of_n, sir_pool, svdd
from lib.ddpp.masked_diffusion import pretrain
from lib.ddpp.profiles import Settings
from lib.ddpp.samplers import sample
from lib.ddpp.sentences import (
    SentenceTask,
    distinct_bigrams,
    read_sentences,
    sentence_task,
    standin_sentences,
)
from lib.ddpp.steering import steer
from lib.records import Run

Job = tuple[Any, ...]
EXAMPLES = 6


@dataclass(frozen=True)
class TextRow:
    """One method, one seed.

    Attributes:
        method: ``real``, ``base``, ``best_of_n``, ``sir``, ``svdd`` or an objective.
        log_reward: mean log p(negative) by the reward, without the exponent. judged: share that the judge calls negative.
        perplexity: of the trigram model. distinct: different pairs of words over all pairs.
        copied: share of samples that stand word for word in the diffusion model's training text.
        examples: first samples. network_rows: evaluations of single sentences. seconds: wall time.
    """

    method: str
    seed: int
    log_reward: float
    judged: float
    perplexity: float
    distinct: float
    copied: float
    examples: tuple[str, ...]
    network_rows: int
    seconds: float


@dataclass(frozen=True)
class PreparedText:
    """The sentences with their reward and judge, and the pretrained prior."""

    task: SentenceTask
    prior: nn.Module


def prepare_text(
    settings: Settings,
    path: Path | None,
    seed: int,
    device: torch.device,
    keep: KeepCheckpoint | None = None,
) -> PreparedText:
    """Split the sentences, fit reward, judge and trigram model, and pretrain the prior.

    Args:
        path: the table of sentences, or None for generated ones.
    """
    task = sentence_task(
        standin_sentences() if path is None else read_sentences(path),
        vocabulary=settings.text_vocabulary,
        length=settings.text_length,
        negative_share=settings.text_negative_share,
        exponent=settings.text_exponent,
    )
    denoiser = DiT(
        settings.text_length,
        len(task.vocabulary),
        settings.text_width,
        settings.text_blocks,
        settings.text_heads,
        seed=seed,
    )
    prior = pretrain(
        denoiser.to(device),
        task.train,
        steps=settings.text_pretrain_steps,
        batch_size=settings.text_pretrain_batch,
        learning_rate=settings.text_pretrain_rate,
        warm_up=min(100, settings.text_pretrain_steps // 10),
        decay="linear",
        seed=seed,
        device=device,
        precision=settings.text_precision,
        keep=keep,
    )
    return PreparedText(task, prior.cpu())  # any process can take it from there


def measure_sentences(
    task: SentenceTask,
    method: str,
    seed: int,
    tokens: Tensor,
    network_rows: int = 0,
    started: float | None = None,
) -> TextRow:
    """Measure samples (N, n) of one method."""
    tokens = tokens.cpu()
    texts = task.vocabulary.decode(tokens)
    known = set(task.vocabulary.decode(task.train))
    return TextRow(
        method,
        seed,
        float(task.reward.log_reward(tokens).mean()),
        float(np.mean(task.judge.negative(texts) > 0.5)),
        task.trigram.perplexity(tokens),
        distinct_bigrams(tokens),
        float(np.mean([text in known for text in texts])),
        tuple(texts[:EXAMPLES]),
        network_rows,
        0.0 if started is None else time.perf_counter() - started,
    )


def text_baseline_job(
    prepared: PreparedText, settings: Settings, seed: int, device: torch.device
) -> list[TextRow]:
    """Unseen negative sentences, base model, Best-of-N and SIR from one pool of N · samples, and SVDD."""
    task, n, particles = prepared.task, settings.text_samples, settings.text_particles
    prepared.prior.to(device)
    generator = torch.Generator(device).manual_seed(10_000 + seed)
    started = time.perf_counter()
    steps = settings.text_sampling_steps
    pool = sample(prepared.prior, particles * n, generator=generator, steps=steps)
    scores = task.reward(pool)
    calls = min(steps, settings.text_length)
    rows = [measure_sentences(task, "real", seed, task.unseen[:n])]
    for method, tokens, spent in (
        ("base", pool[:n], n),
        ("best_of_n", best_of_n(pool, scores, particles), len(pool)),
        ("sir", sir_pool(pool, scores, n, generator), len(pool)),
    ):
        rows.append(measure_sentences(task, method, seed, tokens, spent * calls, started))
    started = time.perf_counter()
    guided = svdd(
        prepared.prior, task.reward, n, particles=particles, steps=steps, generator=generator, batch_size=2048
    )
    rows.append(measure_sentences(task, "svdd", seed, guided.tokens, guided.counter.rows, started))
    return rows


def text_steering_job(
    prepared: PreparedText,
    settings: Settings,
    method: str,
    seed: int,
    device: torch.device,
    keep: KeepCheckpoint | None = None,
) -> list[TextRow]:
    """Tune the prior by one objective and measure the tuned model at its last step."""
    started = time.perf_counter()
    task = prepared.task
    prepared.prior.to(device)
    rtb = method == "rtb"
    options: dict[str, Any] = {
        "steps": settings.text_rtb_steps if rtb else settings.text_steps,
        "batch_size": settings.text_rtb_batch if rtb else settings.text_batch,
        "learning_rate": settings.text_rtb_rate if rtb else settings.text_rate,
    }
    if rtb:
        options |= {"detached": settings.text_rtb_detached, "log_z_rate": 0.1}
    if method == "lb":
        options["log_z_model"] = DiTLogZ(settings.text_length, len(task.vocabulary), seed=seed)
        options["log_z_warm_up"] = settings.text_warm_up
    tuned = steer(
        prepared.prior,
        task.reward,
        method,
        seed=seed,
        device=device,
        precision=settings.text_precision,
        keep=keep,
        completions=settings.text_completions,
        refill_every=settings.text_refill_every,
        refill_size=settings.text_refill_size,
        sampling_steps=settings.text_sampling_steps,
        gradient_clip=1.0,
        **options,
    )
    generator = torch.Generator(device).manual_seed(20_000 + seed)
    n, steps = settings.text_samples, settings.text_sampling_steps
    tokens = sample(tuned.denoiser, n, generator=generator, steps=steps)
    spent = tuned.counter.rows + n * min(steps, settings.text_length)
    return [measure_sentences(task, method, seed, tokens, spent, started)]


def prepare_text_jobs(run: Run[Settings], path: Path | None) -> list[Job]:
    """One job: the sentences and the prior."""
    keep = keeping(run, "sentences-prior", (), run.settings.checkpoint_every)
    return [(run.settings, path, run.seed, run.device, keep)]


def text_baseline_jobs(run: Run[Settings], prepared: PreparedText) -> list[Job]:
    """The rows without training, one job per seed."""
    return [(prepared, run.settings, seed, run.device) for seed in run.seeds(run.settings.text_seeds)]


def text_steering_jobs(run: Run[Settings], prepared: PreparedText) -> list[Job]:
    """One job per objective and seed."""
    s, reward = run.settings, prepared.task.reward
    jobs: list[Job] = []
    for method in s.text_methods:
        for seed in run.seeds(s.text_seeds):
            job = (method, seed, reward.weights, reward.bias, reward.exponent)
            keep = keeping(run, f"sentences-{method}-{seed}", job, s.checkpoint_every)
            jobs.append((prepared, s, method, seed, run.device, keep))
    return jobs


def measure_text(run: Run[Settings], rows: Sequence[TextRow]) -> None:
    """C7, one value per seed: LB − IS; IS − the better of SVDD and RTB; the worse of these two − Best-of-N; log reward in nats.

    What needs an objective that was not tuned is left out.

    Raises:
        SeedError: if a method that needs no tuning has no row, or a method other seeds than another one.
    """

    def get(method: str) -> BySeed:
        return by_seed((r for r in rows if r.method == method), lambda r: r.log_reward, f"row of {method!r}")

    tuned = {r.method for r in rows}
    if {"lb", "is"} <= tuned:
        run.measure("text_log_reward_lb_minus_is", get("lb") - get("is"), unit="nats")
    if "rtb" not in tuned:
        return
    weaker, stronger = sorted((get("svdd"), get("rtb")), key=lambda v: v.mean())
    if "is" in tuned:
        run.measure("text_log_reward_is_minus_best_of_svdd_rtb", get("is") - stronger, unit="nats")
    run.measure("text_log_reward_worst_of_svdd_rtb_minus_best_of_10", weaker - get("best_of_n"), unit="nats")
