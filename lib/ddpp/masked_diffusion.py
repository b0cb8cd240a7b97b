"""Masked discrete diffusion (MDLM): schedule, masking, SUBS parametrisation, NELBO, and pretraining.

Letters: B sequences, n tokens, V real symbols 0 … V−1; symbol V is the mask. A denoiser maps tokens (B, n) to logits
(B, n, V+1); its law of one clean token is μ(x^i | x_t). The forward process masks each token on its own with probability
1 − α_t = (1−ε) t (log-linear schedule), so that the weight of the denoising loss is exactly 1/t.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lib.checkpoints import KeepCheckpoint
from lib.ddpp.trainer import fit

EPSILON = 1e-3  # of the log-linear schedule, and the smallest time of a loss
IMPOSSIBLE = -1.0e6  # log-probability of what cannot be; finite, so that 0 · log 0 stays 0


# --- schedule and masking -----------------------------------------------------------------------------------------------


def noise_level(t: Tensor) -> Tensor:
    """σ(t) = −log(1 − (1−ε) t)."""
    return -torch.log1p(-(1 - EPSILON) * t)


def noise_rate(t: Tensor) -> Tensor:
    """dσ/dt = (1−ε) / (1 − (1−ε) t)."""
    return (1 - EPSILON) / (1 - (1 - EPSILON) * t)


def mask_probability(t: Tensor) -> Tensor:
    """1 − α_t = 1 − exp(−σ(t)) = (1−ε) t."""
    return (1 - EPSILON) * t


def low_discrepancy_times(
    batch: int, generator: torch.Generator, device: torch.device | str | None = None
) -> Tensor:
    """Times (B,) in [ε, 1), one in each of B equal strata, each with its own uniform number."""
    device = device or generator.device
    u = torch.rand(batch, generator=generator, device=device)
    u = (u + torch.arange(batch, device=device)) / batch
    return EPSILON + (1 - EPSILON) * u


def mask_tokens(clean: Tensor, t: Tensor, mask_symbol: int, generator: torch.Generator) -> Tensor:
    """x_t of clean tokens (B, n): each becomes ``mask_symbol`` with probability 1 − α_t, t of shape (B,)."""
    hidden = torch.rand(clean.shape, generator=generator, device=clean.device) < mask_probability(
        t
    ).unsqueeze(-1)
    return clean.masked_fill(hidden, mask_symbol)


# --- the law of one token -------------------------------------------------------------------------------------------------


def symbol_log_probs(logits: Tensor) -> Tensor:
    """log μ over the V real symbols at every position, (…, V) from logits (…, V+1); at least float32."""
    real = logits[..., :-1]
    return F.log_softmax(real, -1, dtype=torch.promote_types(real.dtype, torch.float32))


def subs_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """SUBS parametrisation: log μ(x^i = v | x_t), (B, n, V+1).

    The mask is never predicted (zero masking), and a token that is not masked keeps its symbol with probability one
    (carry-over). ``logits`` (B, n, V+1) are not changed; the result is float32, or float64 where they are.
    """
    mask_symbol = logits.shape[-1] - 1
    log_probs = F.pad(symbol_log_probs(logits), (0, 1), value=IMPOSSIBLE)
    certain = torch.full_like(log_probs, IMPOSSIBLE).scatter_(-1, tokens.unsqueeze(-1), 0.0)
    return torch.where((tokens == mask_symbol).unsqueeze(-1), log_probs, certain)


def clean_log_probability(logits: Tensor, clean: Tensor, masked: Tensor) -> Tensor:
    """Σ over masked i of log μ(x_0^i | x_t), (B,): a SUM over masked tokens only, from logits (B, n, V+1).

    Args:
        clean: x_0, (B, n).
        masked: where x_t is masked, (B, n) bool.
    """
    log_probs = symbol_log_probs(logits).gather(-1, clean.unsqueeze(-1)).squeeze(-1)
    return (log_probs * masked).sum(-1)


def nelbo(
    denoiser: Any, clean: Tensor, t: Tensor, generator: torch.Generator, time_conditioned: bool = False
) -> Tensor:
    """One-sample NELBO in nats, (B,): (1/t) Σ over masked i of −log μ(x_0^i | x_t), x_t = mask(clean, t)."""
    noisy = mask_tokens(clean, t, denoiser.n_symbols, generator)
    logits = denoiser(noisy, noise_level(t) if time_conditioned else None)
    return -clean_log_probability(logits, clean, noisy == denoiser.n_symbols) / t


@torch.no_grad()
def mean_nelbo(
    denoiser: nn.Module,
    clean: Tensor,
    *,
    seed: int,
    times: int = 8,
    batch_size: int = 512,
    time_conditioned: bool = False,
) -> float:
    """NELBO in nats averaged over ``clean`` (N, n) and over ``times`` stratified times of each row.

    Raises:
        ValueError: for an empty set or fewer than one time.
    """
    if len(clean) == 0 or times < 1:
        raise ValueError(f"mean_nelbo needs rows and times, got {len(clean)} rows and times={times}")
    generator = torch.Generator(clean.device).manual_seed(seed)
    was_training = denoiser.training
    denoiser.eval()
    total = torch.zeros((), dtype=torch.float64, device=clean.device)
    for rows in clean.split(batch_size):
        # every row meets every one of `times` strata once
        u = torch.rand(len(rows), times, generator=generator, device=clean.device)
        u = (u + torch.arange(times, device=clean.device)) / times
        for j in range(times):
            t = EPSILON + (1 - EPSILON) * u[:, j]
            total += nelbo(denoiser, rows, t, generator, time_conditioned).double().sum()
    denoiser.train(was_training)
    return float(total) / (len(clean) * times)


def bits_per_dim(denoiser: nn.Module, clean: Tensor, **options: Any) -> float:
    """NELBO / (n log 2); the arguments are those of :func:`mean_nelbo`."""
    return mean_nelbo(denoiser, clean, **options) / (clean.shape[1] * math.log(2))


# --- pretraining ----------------------------------------------------------------------------------------------------------

Sampler = Callable[[int, torch.Generator], Tensor]


def rate_factor(step: int, steps: int, warm_up: int, decay: str) -> float:
    """Factor of the learning rate at ``step``: linear warm-up, then constant or linear to zero at ``steps``."""
    rise = min(1.0, (step + 1) / warm_up) if warm_up else 1.0
    return rise * (1 - step / steps) if decay == "linear" else rise


def check_tokens(tokens: Tensor, n_tokens: int, n_symbols: int, what: str) -> None:
    """Stop unless ``tokens`` are (N ≥ 1, n) int64 of real symbols.

    Raises:
        ValueError: naming what is wrong.
    """
    if tokens.dim() != 2 or tokens.shape[1] != n_tokens or len(tokens) == 0:
        raise ValueError(f"{what}: expected shape (N, {n_tokens}) with N > 0, got {tuple(tokens.shape)}")
    if tokens.dtype != torch.int64:
        raise ValueError(f"{what}: expected int64 tokens, got {tokens.dtype}")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= n_symbols:
        raise ValueError(f"{what}: symbols must lie in 0..{n_symbols - 1}, found {low}..{high}")


class MaskedDiffusion(lightning.LightningModule):
    """Pretraining: the mean NELBO over batches of clean data.

    Args:
        denoiser: the network; it is trained in place.
        data: clean tokens (N, n) int64, or a function (batch, generator) → (batch, n).
        steps, batch_size, learning_rate: of AdamW (betas .9/.999, the paper's rate is 3e-4).
        seed: of batches, times and masks.
        warm_up: steps of linear warm-up; decay: ``"constant"`` (the paper's) or ``"linear"``.
        ema_decay: of the moving average of the weights, 0 for none; gradient_clip: maximal norm, None for none.
        time_conditioned: give σ(t) to the network. Off by default: the best denoiser does not depend on t.

    Raises:
        ValueError: for data of the wrong shape, type or symbols.
    """

    automatic_optimization = False

    def __init__(
        self,
        denoiser: nn.Module,
        data: Tensor | Sampler,
        *,
        steps: int,
        batch_size: int,
        learning_rate: float = 3e-4,
        seed: int = 0,
        weight_decay: float = 0.0,
        warm_up: int = 0,
        decay: str = "constant",
        ema_decay: float = 0.0,
        gradient_clip: float | None = 1.0,
        time_conditioned: bool = False,
    ) -> None:
        super().__init__()
        if steps < 1 or batch_size < 1:
            raise ValueError(f"steps={steps} and batch_size={batch_size} must be positive")
        if decay not in ("constant", "linear"):
            raise ValueError(f"decay={decay!r} is not one of constant, linear")
        if isinstance(data, Tensor):
            check_tokens(data, denoiser.n_tokens, denoiser.n_symbols, "data")  # type: ignore[arg-type]
        self.denoiser, self.data, self.seed = denoiser, data, seed
        self.steps, self.batch_size, self.learning_rate = steps, batch_size, learning_rate
        self.weight_decay, self.warm_up, self.decay = weight_decay, warm_up, decay
        self.gradient_clip, self.time_conditioned = gradient_clip, time_conditioned
        self.average = (
            AveragedModel(denoiser, multi_avg_fn=get_ema_multi_avg_fn(ema_decay)) if ema_decay else None
        )
        self.generator: torch.Generator | None = None
        self.losses: list[Tensor] = []
        self.done = 0
        self._saved: Tensor | None = None

    def on_fit_start(self) -> None:
        """Generator and data on the device of the training; what a checkpoint held goes back into the generator."""
        self.generator = torch.Generator(self.device).manual_seed(self.seed)
        if self._saved is not None:
            self.generator.set_state(self._saved.cpu())
        if isinstance(self.data, Tensor):
            self.data = self.data.to(self.device)
        self.denoiser.train()

    def batch(self) -> Tensor:
        """Clean tokens (B, n), drawn with replacement."""
        assert self.generator is not None
        if isinstance(self.data, Tensor):
            rows = torch.randint(
                len(self.data), (self.batch_size,), generator=self.generator, device=self.device
            )
            return self.data[rows]
        return self.data(self.batch_size, self.generator)

    def training_step(self, _: Any, index: int) -> None:
        """One AdamW step on the mean NELBO."""
        assert self.generator is not None
        clean = self.batch()
        t = low_discrepancy_times(len(clean), self.generator)
        loss = nelbo(self.denoiser, clean, t, self.generator, self.time_conditioned).mean()
        optimizer: Any = self.optimizers()
        for group in optimizer.param_groups:
            group["lr"] = self.learning_rate * rate_factor(self.done, self.steps, self.warm_up, self.decay)
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.denoiser.parameters(), self.gradient_clip)
        optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.denoiser)
        self.done += 1
        if self.done % 50 == 0 or self.done == self.steps:
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the pretraining loss is not finite at step {self.done}")
            self.losses.append(loss.detach())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with the paper's betas."""
        return torch.optim.AdamW(
            self.denoiser.parameters(),
            lr=self.learning_rate,
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=self.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )

    def train_dataloader(self) -> Iterable[Any]:
        """One item per step; the batch itself comes from the module's own generator."""
        return torch.utils.data.DataLoader(range(self.steps), batch_size=None)  # type: ignore[arg-type]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Counter, losses and the state of the module's own generator."""
        assert self.generator is not None
        state = self.generator.get_state()
        checkpoint["masked_diffusion"] = {"done": self.done, "generator": state, "losses": self.losses}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue exactly where the checkpoint was written."""
        saved = checkpoint["masked_diffusion"]
        self.done, self.losses, self._saved = saved["done"], saved["losses"], saved["generator"]

    def result(self) -> nn.Module:
        """The trained denoiser in eval mode: its moving average where there is one."""
        trained = self.denoiser if self.average is None else copy.deepcopy(self.average.module)
        return trained.eval().requires_grad_(True)


def pretrain(
    denoiser: nn.Module,
    data: Tensor | Sampler,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float = 3e-4,
    seed: int = 0,
    device: torch.device | str = "cpu",
    precision: Any = "32-true",
    keep: KeepCheckpoint | None = None,
    **options: Any,
) -> nn.Module:
    """Pretrain ``denoiser`` in place and return it (its moving average with ``ema_decay``) in eval mode on ``device``.

    Args:
        keep: where and how often a checkpoint is written; its job has to name a function that stands for the data.
        options: further arguments of :class:`MaskedDiffusion`.
    """
    module = MaskedDiffusion(
        denoiser,
        data,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        **options,
    )
    fit(
        module,
        steps=steps,
        seed=seed,
        device=device,
        precision=precision,
        job=(data, batch_size, learning_rate, options),
        keep=keep,
    )
    return module.result().to(device)


def freeze(denoiser: nn.Module) -> nn.Module:
    """A frozen copy in eval mode: no gradients, no dropout."""
    return copy.deepcopy(denoiser).eval().requires_grad_(False)
