"""Steering a pretrained masked diffusion model towards p(x) R(x)^{1/β}: one training, six objectives.

======================  ==================================================================================================
``is``                  single-step residual, log Z_t by importance sampling (DDPP-IS)
``lb``                  single-step residual, log Z_t by a learned network (DDPP-LB)
``kl``                  reverse KL of one denoising step with ReinMax gradients (DDPP-KL)
``rtb``                 relative trajectory balance with one learned log Z, whole trajectories
``subtrajectory``       from x_t to x_0 over many steps, log Z_t by a learned network (Eqs. 7–8)
``weighted_ce``         control: denoising cross-entropy on reward-weighted samples of the prior
======================  ==================================================================================================
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lib.checkpoints import KeepCheckpoint
from lib.ddpp.denoisers import EmbeddingLogZ, TabulatedDenoiser
from lib.ddpp.denoising_posterior import (
    importance_log_z,
    kl_loss,
    kl_loss_exact,
    prior_log_probs,
    single_step_loss,
)
from lib.ddpp.masked_diffusion import (
    check_tokens,
    clean_log_probability,
    freeze,
    low_discrepancy_times,
    mask_tokens,
    noise_level,
    rate_factor,
    symbol_log_probs,
)
from lib.ddpp.replay_buffer import ReplayBuffer
from lib.ddpp.rewards import CallCounter, Reward
from lib.ddpp.samplers import Trajectory, cached, first_hitting, random_order
from lib.ddpp.trainer import fit
from lib.ddpp.trajectory_balance import (
    choose_events,
    relative_trajectory_balance_loss,
    sample_events,
    sub_trajectory_loss,
    token_log_probs,
)
from lib.ddpp.weighted_denoising import effective_sample_size, resample, weighted_denoising_loss
from lib.profiles import choose

METHODS = ("is", "lb", "kl", "rtb", "subtrajectory", "weighted_ce")
BUFFERS = ("on-policy", "mixed", "prior")
ROUND = 25  # steps between two words with the trainer, which counts rounds
CHECK_EVERY = 100  # steps between looks at the loss, each of which waits for the device


@dataclass(frozen=True)
class SteeringSettings:
    """What a training of :func:`steer` may set; a method ignores what it has no use for.

    Attributes:
        steps: optimiser steps. batch_size: sequences per step. learning_rate: of Adam.
        decay: ``"linear"`` to zero at the end, or ``"constant"``. warm_up: steps of linear warm-up of the rate.
        weight_decay, gradient_clip, ema_decay: of the optimiser; None or 0 for none.
        completions: M of IS. proposal: ``"prior"`` or ``"posterior"``, where IS draws them from.
        kl_samples: K of KL, 0 for the exact expectation (rewards with a multilinear one-hot form only).
        path_gradient_only: KL without its score term, whose mean is zero.
        log_z_rate: learning rate of log Z_φ and of RTB's scalar. log_z_warm_up: first steps in which only log Z learns.
        buffer: ``"on-policy"``; ``"prior"``: samples of the prior, or given data; ``"mixed"``: half of each refill of either.
            RTB draws fresh trajectories at each step; half of its batch with ``"mixed"``, and all of it with ``"prior"``, are
            prior samples that are unmasked in a random order.
        buffer_size, refill_every, refill_size: sequences, steps, sequences.
        sampling_steps: T of on-policy samples; None unmasks one token at a time (T → ∞ exactly).
        detached: share of RTB's steps that carry no gradient. vargrad: RTB with the batch's mean in place of log Z.
        sub_steps: steps S of a sub-trajectory that are evaluated (Eq. 8); None for all (Eq. 7).
        pool: prior samples of the weighted control.
        time_conditioned: give σ(t) to the networks.
        tabulate_prior: ask the frozen network once for all partial states, where they are few; it changes the speed only.
    """

    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-3
    decay: str = "linear"
    warm_up: int = 0
    weight_decay: float = 0.0
    gradient_clip: float | None = None
    ema_decay: float = 0.0
    completions: int = 16
    proposal: str = "prior"
    kl_samples: int = 8
    path_gradient_only: bool = False
    log_z_rate: float = 1e-3
    log_z_warm_up: int = 0
    buffer: str = "on-policy"
    buffer_size: int = 10_000
    refill_every: int = 100
    refill_size: int = 1024
    sampling_steps: int | None = None
    detached: float = 0.0
    vargrad: bool = False
    sub_steps: int | None = None
    pool: int = 40_000
    time_conditioned: bool = False
    tabulate_prior: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked.

        Raises:
            ParameterError, ValueError: naming the setting, its value and what is allowed.
        """
        choose("buffer", self.buffer, BUFFERS)
        choose("decay", self.decay, ("linear", "constant"))
        choose("proposal", self.proposal, ("prior", "posterior"))
        positive = (
            "steps batch_size learning_rate completions log_z_rate buffer_size refill_every refill_size pool"
        )
        for name in positive.split():
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must be positive")
        for name in ("kl_samples", "log_z_warm_up", "warm_up", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)!r} must not be negative")
        for name in ("detached", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r} must lie in [0, 1)")
        if self.tabulate_prior and self.time_conditioned:
            raise ValueError("tabulate_prior=True would answer a time-conditioned network without its time")
        if self.sub_steps is not None and self.sub_steps < 1:
            raise ValueError(f"sub_steps={self.sub_steps} must be positive, or None")


class Steering(lightning.LightningModule):
    """One training. The prior is copied twice: a frozen copy, and the copy that is tuned; the caller's stays as it is.

    Args:
        prior: the pretrained denoiser.
        reward: log R and its exponent.
        method: one of :data:`METHODS`.
        settings: sizes and rates.
        seed: of all random numbers of the training.
        log_z_model: network of log Z_t, (B, n) → (B,), for LB and sub-trajectories; a copy of it is trained. None takes a small one.
        data: clean sequences (N, n) that the buffers ``"mixed"`` and ``"prior"`` take in place of prior samples.
        keep_at: steps at which the tuned weights are kept; 0 is the start.

    Raises:
        ParameterError: for an unknown method. ValueError: for data of the wrong shape.
    """

    automatic_optimization = False

    def __init__(
        self,
        prior: nn.Module,
        reward: Reward,
        method: str,
        settings: SteeringSettings,
        *,
        seed: int = 0,
        log_z_model: nn.Module | None = None,
        data: Tensor | None = None,
        keep_at: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.method = choose("method", method, METHODS)
        self.settings, self.seed, self.reward = settings, seed, reward
        self.n_tokens, self.mask_symbol = int(prior.n_tokens), int(prior.n_symbols)  # type: ignore[arg-type]
        if data is not None:
            check_tokens(data, self.n_tokens, self.mask_symbol, "data")
        self.prior = freeze(prior)
        if settings.tabulate_prior:
            self.prior = TabulatedDenoiser(self.prior)
        self.posterior = copy.deepcopy(prior).eval().requires_grad_(True)
        self.log_z_model = None
        if method in ("lb", "subtrajectory"):
            head = log_z_model or EmbeddingLogZ(self.n_tokens, self.mask_symbol, seed=seed)
            self.log_z_model = copy.deepcopy(head)
        scalar = method == "rtb" and not settings.vargrad
        self.log_z = nn.Parameter(torch.zeros(())) if scalar else None
        average = get_ema_multi_avg_fn(settings.ema_decay) if settings.ema_decay else None
        self.average = None if average is None else AveragedModel(self.posterior, multi_avg_fn=average)
        self.register_buffer("losses", torch.full((settings.steps,), torch.nan))
        self.data = data
        self.keep_at = frozenset(keep_at)
        self.kept: dict[int, dict[str, Tensor]] = {}
        self.kept_log_z: dict[int, dict[str, Tensor]] = {}
        self.history: list[dict[str, float]] = []
        self.counter = CallCounter()
        self.done = 0
        self.ess: float | None = None
        self._saved: dict[str, Any] | None = None
        self._losses: dict[str, Callable[[], Tensor]] = {
            "is": self._single_step_loss,
            "lb": self._single_step_loss,
            "kl": self._kl_loss,
            "rtb": self._rtb_loss,
            "subtrajectory": self._sub_trajectory_loss,
            "weighted_ce": self._weighted_loss,
        }

    losses: Tensor
    generator: torch.Generator
    buffer: ReplayBuffer

    # --- beginning ----------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Generators and buffer on the device of the training; what a checkpoint held goes back into them."""
        self.generator = torch.Generator(self.device).manual_seed(self.seed)
        capacity = self.settings.pool if self.method == "weighted_ce" else self.settings.buffer_size
        self.buffer = ReplayBuffer(capacity, self.n_tokens, self.mask_symbol, self.device)
        if self.data is not None:
            self.data = self.data.to(self.device)
        self.eval()  # dropout is off in both networks
        if self._saved is not None:
            self.generator.set_state(self._saved["generator"].cpu())
            self.buffer.load(self._saved["buffer"])
        elif self.method == "weighted_ce":
            self._fill_with_weighted_pool()
        if self.done == 0:
            self._keep_if_due()

    def _noise(self, t: Tensor) -> Tensor | None:
        return noise_level(t) if self.settings.time_conditioned else None

    def _sample(self, denoiser: nn.Module, size: int) -> Tensor:
        """Clean samples (size, n), counted."""
        s = self.settings
        with torch.no_grad():
            if s.sampling_steps is None:
                made = first_hitting(
                    denoiser, size, generator=self.generator, time_conditioned=s.time_conditioned
                )
            else:
                made = cached(
                    denoiser,
                    size,
                    steps=s.sampling_steps,
                    generator=self.generator,
                    time_conditioned=s.time_conditioned,
                )
        self.counter.add(sampling=made.rows / s.batch_size, rows=made.rows)
        return made.tokens

    @torch.no_grad()
    def _store(self, clean: Tensor) -> None:
        """Score and put into the buffer."""
        self.buffer.add(clean, self.reward(clean))
        self.counter.add(sampling_reward=len(clean) / self.settings.batch_size, reward_rows=len(clean))

    def _fill_with_weighted_pool(self) -> None:
        """A pool of prior samples, resampled by weight; its effective sample size is reported."""
        size = self.settings.pool
        clean = torch.cat([self._sample(self.prior, len(part)) for part in torch.arange(size).split(4096)])
        with torch.no_grad():
            reward = torch.cat([self.reward(part) for part in clean.split(4096)])
        self.counter.add(sampling_reward=size / self.settings.batch_size, reward_rows=size)
        self.ess = effective_sample_size(reward)
        chosen = resample(reward, size, self.generator)
        self.buffer.add(clean[chosen], reward[chosen])

    def _foreign(self, size: int) -> Tensor:
        """Clean sequences that do not come from the tuned model: given data, else samples of the prior."""
        if self.data is None:
            return self._sample(self.prior, size)
        rows = torch.randint(len(self.data), (size,), generator=self.generator, device=self.device)
        return self.data[rows]

    def _refill(self) -> None:
        """New sequences for the buffer, every ``refill_every`` steps."""
        s = self.settings
        if self.method == "weighted_ce" or self.done % s.refill_every:
            return
        if self.method == "rtb":
            if s.buffer != "on-policy":
                self._store(self._foreign(s.refill_size))
            return
        foreign = self._foreign_share(s.refill_size)
        if foreign:
            self._store(self._foreign(foreign))
        if foreign < s.refill_size:
            self._store(self._sample(self.posterior, s.refill_size - foreign))

    def _foreign_share(self, size: int) -> int:
        """How many of ``size`` sequences are not the tuned model's."""
        return {"on-policy": 0, "mixed": size // 2, "prior": size}[self.settings.buffer]

    # --- objectives ---------------------------------------------------------------------------------------------------

    def _noisy_batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x_0 (B, n), r (B,), t (B,) and x_t (B, n)."""
        clean, reward = self.buffer.sample(self.settings.batch_size, self.generator)
        t = low_discrepancy_times(len(clean), self.generator)
        return clean, reward, t, mask_tokens(clean, t, self.mask_symbol, self.generator)

    def _score(self, clean: Tensor) -> Tensor:
        """r of sequences inside a loss, counted."""
        self.counter.add(reward=len(clean) / self.settings.batch_size, reward_rows=len(clean))
        return self.reward(clean)

    def _ask_both(self, noisy: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the tuned model (B, n, V+1) and log μ of the frozen one (B, n, V): one call each."""
        self.counter.add(model=1, prior=1, rows=2 * len(noisy))
        sigma = self._noise(t)
        return self.posterior(noisy, sigma), prior_log_probs(self.prior, noisy, sigma)

    def _ask_log_z(self, noisy: Tensor, t: Tensor) -> Tensor:
        """log Z_φ(x_t), (B,), in float32 whatever the precision of the run: eight bits would round it to steps of 1/32."""
        assert self.log_z_model is not None
        with torch.autocast(self.device.type, enabled=False):
            return self.log_z_model(noisy, self._noise(t))

    def _single_step_loss(self) -> Tensor:
        """IS and LB (Eq. 11)."""
        s = self.settings
        clean, reward, t, noisy = self._noisy_batch()
        masked = noisy == self.mask_symbol
        logits, log_p_all = self._ask_both(noisy, t)
        log_q = clean_log_probability(logits, clean, masked)
        log_p = (log_p_all.gather(-1, clean.unsqueeze(-1)).squeeze(-1) * masked).sum(-1)
        if self.method == "is":
            proposal = symbol_log_probs(logits.detach()) if s.proposal == "posterior" else None
            log_z = importance_log_z(log_p_all, noisy, self._score, s.completions, self.generator, proposal)
        else:
            log_z = self._ask_log_z(noisy, t)
            if self.done < s.log_z_warm_up:
                log_q = log_q.detach()
        return single_step_loss(log_q, log_p, reward, log_z)

    def _kl_loss(self) -> Tensor:
        """KL (Eqs. 12–13)."""
        s = self.settings
        _, _, t, noisy = self._noisy_batch()
        logits, log_p = self._ask_both(noisy, t)
        if s.kl_samples == 0:
            return kl_loss_exact(logits, log_p, noisy, self.reward)
        self.counter.add(reward=s.kl_samples, reward_rows=s.kl_samples * len(noisy))
        return kl_loss(
            logits,
            log_p,
            noisy,
            self.reward,
            s.kl_samples,
            self.generator,
            path_gradient_only=s.path_gradient_only,
        )

    def _trajectories(self, size: int) -> Trajectory:
        """Fresh trajectories of the tuned model whose log-probabilities keep their gradient at the chosen steps."""
        s = self.settings
        if s.sampling_steps is None:
            kept = choose_events(self.n_tokens, s.detached, self.generator)
            return first_hitting(
                self.posterior,
                size,
                generator=self.generator,
                time_conditioned=s.time_conditioned,
                keep_gradient=kept,
            )
        kept = choose_events(min(self.n_tokens, s.sampling_steps + 1), s.detached, self.generator)
        return cached(
            self.posterior,
            size,
            steps=s.sampling_steps,
            generator=self.generator,
            time_conditioned=s.time_conditioned,
            keep_gradient=kept,
        )

    def _rtb_loss(self) -> Tensor:
        """Relative trajectory balance on fresh trajectories and, unless the buffer is on-policy, on reversed ones."""
        s = self.settings
        foreign = self._foreign_share(s.batch_size)
        parts, calls = [], 0
        if foreign < s.batch_size:
            walk = self._trajectories(s.batch_size - foreign)
            times = walk.times if s.time_conditioned else None
            with torch.no_grad():
                log_p = token_log_probs(self.prior, walk.tokens, walk.event, times=times)
                parts.append((walk.log_prob, log_p, self._score(walk.tokens)))
            calls += walk.rows
        if foreign:
            parts.append(self._reversed_trajectories(foreign))
            calls += foreign * self.n_tokens
        log_q, log_p, reward = (torch.cat(columns) for columns in zip(*parts, strict=True))
        self.counter.add(model=calls / s.batch_size, prior=calls / s.batch_size, rows=2 * calls)
        return relative_trajectory_balance_loss(log_q, log_p, reward, self.log_z)

    def _reversed_trajectories(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Stored sequences unmasked in a random order: log q (B, n), log p (B, n) and r (B,)."""
        s = self.settings
        clean, reward = self.buffer.sample(size, self.generator)
        event = random_order(torch.ones_like(clean, dtype=torch.bool), self.generator)
        times = self._ordered_times(clean) if s.time_conditioned else None
        kept = choose_events(self.n_tokens, s.detached, self.generator).expand(size, -1)
        log_q = token_log_probs(self.posterior, clean, event, times=times, kept=kept)
        with torch.no_grad():
            log_p = token_log_probs(self.prior, clean, event, times=times)
            rest = token_log_probs(self.posterior, clean, event, times=times, kept=~kept)
        return log_q + rest, log_p, reward

    def _ordered_times(self, clean: Tensor) -> Tensor:
        """Unmasking times (B, n) of a reversed trajectory: independent uniform times, latest first."""
        u = torch.rand(clean.shape, generator=self.generator, device=self.device)
        return u.sort(1, descending=True).values

    def _sub_trajectory_loss(self) -> Tensor:
        """From x_t to x_0 in a random order (Eq. 7), or at S random steps of it (Eq. 8)."""
        s = self.settings
        clean, reward, t, noisy = self._noisy_batch()
        event = random_order(noisy == self.mask_symbol, self.generator)
        total = event.amax(1) + 1
        times = t.unsqueeze(1) * self._ordered_times(clean) if s.time_conditioned else None
        kept, scale = None, torch.ones_like(reward)
        if s.sub_steps is not None:
            kept = sample_events(total, self.n_tokens, s.sub_steps, self.generator)
            scale = total / total.clamp(min=1, max=s.sub_steps)
        log_q = token_log_probs(self.posterior, clean, event, times=times, kept=kept)
        with torch.no_grad():
            log_p = token_log_probs(self.prior, clean, event, times=times, kept=kept)
        log_z = self._ask_log_z(noisy, t)
        if self.done < s.log_z_warm_up:
            log_q = log_q.detach()
        calls = int((total if s.sub_steps is None else total.clamp(max=s.sub_steps)).sum())
        self.counter.add(model=calls / len(clean), prior=calls / len(clean), rows=2 * calls)
        return sub_trajectory_loss(log_q, log_p, reward, log_z, scale)

    def _weighted_loss(self) -> Tensor:
        """Denoising cross-entropy on the resampled pool."""
        clean, _, t, noisy = self._noisy_batch()
        self.counter.add(model=1, rows=len(noisy))
        logits = self.posterior(noisy, self._noise(t))
        return weighted_denoising_loss(clean_log_probability(logits, clean, noisy == self.mask_symbol), t)

    # --- the step -----------------------------------------------------------------------------------------------------

    def loss(self) -> Tensor:
        """The loss of one batch, a scalar."""
        return self._losses[self.method]()

    def training_step(self, _: Any, index: int) -> None:
        """One round: :data:`ROUND` Adam steps. The last one goes through Lightning, which thus counts rounds.

        Steps of small networks take about as long as what a trainer does around a step, so it is asked once a round.
        """
        steps = min(ROUND, self.settings.steps - self.done)
        counted: Any = self.optimizers()
        for last in [False] * (steps - 1) + [True]:
            self._step(counted.optimizer, counted if last else counted.optimizer)

    def _step(self, optimizer: torch.optim.Optimizer, stepper: Any) -> None:
        """Refill the buffer if it is time; one Adam step on the method's loss."""
        s = self.settings
        self._refill()
        loss = self.loss()
        factor = rate_factor(self.done, s.steps, s.warm_up, s.decay)
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * factor
        optimizer.zero_grad()
        if loss.requires_grad:
            self.manual_backward(loss)
        if s.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.posterior.parameters(), s.gradient_clip)
        stepper.step()
        if self.average is not None:
            self.average.update_parameters(self.posterior)
        self.losses[self.done] = loss.detach()
        self.done += 1
        if (self.done % CHECK_EVERY == 0 or self.done == s.steps) and not torch.isfinite(loss):
            raise FloatingPointError(f"the loss of {self.method} is not finite at step {self.done}")
        self._keep_if_due()

    def _keep_if_due(self) -> None:
        """Keep the weights, and what was asked for so far, at the wanted steps and at the end."""
        if self.done in self.keep_at:
            self.kept[self.done] = _weights(self.trained())
            if self.log_z_model is not None:
                self.kept_log_z[self.done] = _weights(self.log_z_model)
        if self.done in self.keep_at or self.done == self.settings.steps:
            self.history.append({"step": float(self.done), **self.counter.as_dict()})

    def trained(self) -> nn.Module:
        """The tuned denoiser: its moving average where there is one."""
        return self.posterior if self.average is None else self.average.module

    @property
    def rounds(self) -> int:
        """Calls of :meth:`training_step` of a whole training."""
        return math.ceil(self.settings.steps / ROUND)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, with its own rate for log Z."""
        s = self.settings
        groups = [{"params": list(self.posterior.parameters()), "base": s.learning_rate}]
        log_z = [] if self.log_z is None else [self.log_z]
        if self.log_z_model is not None:
            log_z = list(self.log_z_model.parameters())
        if log_z:
            groups.append({"params": log_z, "base": s.log_z_rate, "weight_decay": 0.0})
        return torch.optim.AdamW(
            groups,
            lr=s.learning_rate,
            weight_decay=s.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )

    def train_dataloader(self) -> Iterable[Any]:
        """One item per round; batches come from the buffer."""
        return torch.utils.data.DataLoader(range(self.rounds), batch_size=None)  # type: ignore[arg-type]

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Buffer, generator, counters and kept weights."""
        checkpoint["steering"] = {
            "done": self.done,
            "generator": self.generator.get_state(),
            "buffer": self.buffer.state(),
            "counter": self.counter.as_dict(),
            "history": self.history,
            "kept": self.kept,
            "kept_log_z": self.kept_log_z,
            "ess": self.ess,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue exactly where the checkpoint was written."""
        self._saved = saved = checkpoint["steering"]
        self.done, self.history, self.kept = saved["done"], saved["history"], saved["kept"]
        self.kept_log_z = saved["kept_log_z"]
        self.counter, self.ess = CallCounter.from_dict(saved["counter"]), saved["ess"]


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _with_weights(network: nn.Module, states: dict[int, dict[str, Tensor]]) -> dict[int, nn.Module]:
    """Copies of ``network`` that hold each of ``states``."""
    copies = {step: copy.deepcopy(network).eval() for step in states}
    for step, state in states.items():
        copies[step].load_state_dict(state)
    return copies


@dataclass
class SteeringResult:
    """What a training gave.

    Attributes:
        denoiser: the tuned network, in eval mode. log_z_model: the network of log Z_t (LB, sub-trajectories), else None.
        log_z: RTB's learned scalar, else None.
        history: one entry per kept step and for the end: ``step`` and :meth:`~lib.ddpp.rewards.CallCounter.as_dict`,
            per item of a batch and summed over steps.
        checkpoints, log_z_checkpoints: step → tuned network, and network of log Z_t, at that step.
        losses: the loss of every step.
        buffer_tokens: the sequences of the replay buffer at the end, (N, n).
        ess: effective sample size of the weighted control's pool, else None.
    """

    denoiser: nn.Module
    log_z_model: nn.Module | None
    log_z: float | None
    history: list[dict[str, float]]
    checkpoints: dict[int, nn.Module]
    log_z_checkpoints: dict[int, nn.Module]
    losses: Tensor
    counter: CallCounter
    buffer_tokens: Tensor
    ess: float | None = None
    settings: SteeringSettings = field(default_factory=SteeringSettings)


def steer(
    prior: nn.Module,
    reward: Reward,
    method: str,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    log_z_model: nn.Module | None = None,
    data: Tensor | None = None,
    keep_at: Sequence[int] = (),
    precision: Any = "32-true",
    keep: KeepCheckpoint | None = None,
    **settings: Any,
) -> SteeringResult:
    """Tune a copy of ``prior`` towards p(x) R(x)^{1/β}.

    Args:
        prior, reward, method, log_z_model, data, keep_at: see :class:`Steering`.
        keep: where, and after how many steps (rounded up to whole rounds), a checkpoint is written; its job has to name the
            reward.
        precision: Lightning's precision string, not float16's: inside a round its loss scaling would be bypassed.
        settings: fields of :class:`SteeringSettings`.

    Raises:
        ParameterError: for an unknown method or choice. ValueError: for a setting out of range, or a device that is not there.
        FloatingPointError: if a loss is not finite.
    """
    if str(precision) in ("16", "16-mixed", "16-true"):
        raise ValueError(f"precision={precision!r} is not supported; take bf16-mixed or 32-true")
    chosen = SteeringSettings(**settings)
    module = Steering(
        prior, reward, method, chosen, seed=seed, log_z_model=log_z_model, data=data, keep_at=keep_at
    )
    fit(
        module,
        steps=module.rounds,
        seed=seed,
        device=device,
        precision=precision,
        job=(method, chosen, data, module.keep_at),
        keep=None if keep is None else KeepCheckpoint(keep.kept, math.ceil(keep.every / ROUND)),
    )
    trained = module.trained().eval()
    head = module.log_z_model
    return SteeringResult(
        denoiser=trained,
        log_z_model=None if head is None else head.eval(),
        log_z=None if module.log_z is None else float(module.log_z.detach()),
        history=module.history,
        checkpoints=_with_weights(trained, module.kept),
        log_z_checkpoints={} if head is None else _with_weights(head, module.kept_log_z),
        losses=module.losses.detach().cpu(),
        counter=module.counter,
        buffer_tokens=module.buffer.tokens[: len(module.buffer)],
        ess=module.ess,
        settings=chosen,
    )
