"""Samplers of masked diffusion: the ancestral one, the same law with far fewer network calls, and the limit T → ∞.

When a token leaves the mask does not depend on what the network says: on the grid of T steps from t = 1 to 10⁻⁵ it does so at
the step that holds an independent uniform time. So all unmasking times can be drawn first, and the network is asked only at
the *events* of a sequence, its steps at which something is unmasked. A sequence has at most min(n, T) events, whatever T is;
the j-th events of all sequences are one batched call. :func:`ancestral` is the slow, obvious form of the same law.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib.ddpp.masked_diffusion import noise_level, symbol_log_probs

LAST_TIME = 1e-5  # where the grid of the ancestral sampler ends


def draw_from_log_probs(log_probs: Tensor, uniforms: Tensor) -> Tensor:
    """Categorical draws by inverting the cumulative law in float64.

    Float32 Gumbel noise has too short a tail and lowers the temperature (Zheng et al., arXiv:2409.02908); here no probability
    above 10⁻¹⁶ is lost.

    Args:
        log_probs: (…, V), normalised.
        uniforms: (…, K) float64 in [0, 1).

    Returns:
        symbols (…, K) int64.
    """
    cumulative = log_probs.detach().double().exp().cumsum(-1)
    threshold = uniforms * cumulative[..., -1:]
    drawn = torch.searchsorted(cumulative, threshold, right=True)
    return drawn.clamp_(max=log_probs.shape[-1] - 1)


def draw(log_probs: Tensor, generator: torch.Generator, draws: int = 1) -> Tensor:
    """``draws`` categorical draws in float64 from each law log_probs (…, V): (…, draws) int64."""
    shape = (*log_probs.shape[:-1], draws)
    uniforms = torch.rand(shape, dtype=torch.float64, generator=generator, device=log_probs.device)
    return draw_from_log_probs(log_probs, uniforms)


@dataclass
class Trajectory:
    """Sequences and how they came to be.

    Attributes:
        tokens: clean sequences, (B, n).
        event: at which event of its sequence a token was unmasked, (B, n); −1 where it was not masked at the start.
        times: t before each event, (B, E); E is the largest number of events. Later columns of a shorter row are unused.
        log_prob: log μ of each token when it was unmasked, (B, n), 0 where event is −1; carries a gradient where one was kept.
        calls: batched network calls, the same as the calls that the longest sequence needed.
        rows: network evaluations of single sequences, all together.
    """

    tokens: Tensor
    event: Tensor
    times: Tensor
    log_prob: Tensor
    calls: int
    rows: int

    @property
    def n_events(self) -> int:
        """E, the largest number of events."""
        return self.times.shape[1]

    def states(self, mask_symbol: int) -> Tensor:
        """What the network saw before each event, (B, E, n); after its last event a sequence is shown clean."""
        return states_before(self.tokens, self.event, self.n_events, mask_symbol)


def states_before(tokens: Tensor, event: Tensor, n_events: int, mask_symbol: int) -> Tensor:
    """States (B, E, n) of clean tokens (B, n) before event 0 … E−1: tokens with a later or equal event are masked."""
    index = torch.arange(n_events, device=tokens.device).view(1, -1, 1)
    return torch.where(event.unsqueeze(1) >= index, mask_symbol, tokens.unsqueeze(1))


def _start(
    denoiser: Any, n_samples: int, start: Tensor | None, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Tokens (B, n) to begin with, a copy, and where they are masked."""
    n, mask_symbol = denoiser.n_tokens, denoiser.n_symbols
    if start is None:
        if n_samples < 1:
            raise ValueError(f"n_samples={n_samples} must be positive")
        tokens = torch.full((n_samples, n), mask_symbol, dtype=torch.long, device=device)
        return tokens, torch.ones_like(tokens, dtype=torch.bool)
    if start.dim() != 2 or start.shape[1] != n or start.dtype != torch.int64:
        raise ValueError(
            f"start must be int64 of shape (B, {n}), got {start.dtype} of shape {tuple(start.shape)}"
        )
    return start.clone(), start == mask_symbol


def _choose(generator: torch.Generator, device: torch.device | str | None) -> torch.device:
    return torch.device(device) if device is not None else generator.device


def _reveal(
    denoiser: Any,
    tokens: Tensor,
    event: Tensor,
    times: Tensor,
    generator: torch.Generator,
    time_conditioned: bool,
    greedy: Tensor | None = None,
    keep_gradient: Tensor | None = None,
) -> Trajectory:
    """Unmask ``tokens`` (changed in place) event by event.

    Args:
        event: (B, n), −1 where a token is already open.
        greedy: (B, n) bool, tokens that take the likeliest symbol in place of a draw.
        keep_gradient: (E,) bool, events whose log-probabilities keep their gradient; None keeps none.
    """
    n_events = times.shape[1]
    total = event.amax(1)
    if bool((total == tokens.shape[1] - 1).all()):  # every sequence unmasks one token an event
        order = event.argsort(1)  # (B, n): position unmasked at event j
        return _reveal_one_by_one(
            denoiser, tokens, event, order, times, generator, time_conditioned, greedy, keep_gradient
        )
    log_prob = torch.zeros(tokens.shape, device=tokens.device)
    rows = 0
    for j in range(n_events):
        active = (total >= j).nonzero().squeeze(1)
        rows += len(active)
        with torch.set_grad_enabled(keep_gradient is not None and bool(keep_gradient[j])):
            sigma = noise_level(times[active, j]) if time_conditioned else None
            logits = denoiser(tokens[active].clone(), sigma)
            row, position = (event[active] == j).nonzero(as_tuple=True)
            log_probs = symbol_log_probs(logits[row, position])  # (tokens of this event, V)
            drawn = draw(log_probs, generator).squeeze(-1)
            if greedy is not None:
                drawn = torch.where(greedy[active][row, position], log_probs.argmax(-1), drawn)
            chosen = log_probs.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
            log_prob = log_prob.index_put((active[row], position), chosen.to(log_prob.dtype))
        tokens[active[row], position] = drawn
    return Trajectory(tokens, event, times, log_prob, n_events, rows)


def _reveal_one_by_one(
    denoiser: Any,
    tokens: Tensor,
    event: Tensor,
    order: Tensor,
    times: Tensor,
    generator: torch.Generator,
    time_conditioned: bool,
    greedy: Tensor | None,
    keep_gradient: Tensor | None,
) -> Trajectory:
    """:func:`_reveal` where every sequence unmasks exactly one token at each of n events: no indexing by active rows."""
    rows = torch.arange(len(tokens), device=tokens.device)
    chosen = []
    for j in range(order.shape[1]):
        position = order[:, j]
        with torch.set_grad_enabled(keep_gradient is not None and bool(keep_gradient[j])):
            logits = denoiser(tokens.clone(), noise_level(times[:, j]) if time_conditioned else None)
            log_probs = symbol_log_probs(logits[rows, position])  # (B, V)
            drawn = draw(log_probs, generator)
            if greedy is not None:
                drawn = torch.where(
                    greedy.gather(1, position.unsqueeze(1)), log_probs.argmax(-1, True), drawn
                )
            chosen.append(log_probs.gather(-1, drawn))
        tokens.scatter_(1, position.unsqueeze(1), drawn)
    log_prob = torch.cat(chosen, 1).gather(1, event)
    return Trajectory(tokens, event, times, log_prob, order.shape[1], len(tokens) * order.shape[1])


def random_order(masked: Tensor, generator: torch.Generator) -> Tensor:
    """Events (B, n) of a uniformly random order of the masked tokens of each row; −1 where a token is not masked."""
    noise = torch.rand(masked.shape, dtype=torch.float64, generator=generator, device=masked.device)
    rank = noise.masked_fill_(~masked, 2.0).argsort(1).argsort(1)
    return rank.masked_fill_(~masked, -1)


def first_hitting(
    denoiser: Any,
    n_samples: int,
    *,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    start: Tensor | None = None,
    start_time: float = 1.0,
    time_conditioned: bool = False,
    keep_gradient: Tensor | None = None,
) -> Trajectory:
    """Exact law of infinitely many steps with one call per masked token.

    With k masks left the next unmasking time is t·u^(1/k), u uniform: the order statistics of k independent uniform times. A
    uniformly chosen masked token is then drawn from μ.

    Args:
        n_samples: B, ignored with ``start``.
        generator: of all random numbers, on the device of the sampling.
        start: partially masked tokens (B, n) to finish, at time ``start_time``; None starts from masks alone.
        keep_gradient: (n,) bool, events whose ``log_prob`` keeps its gradient; None keeps none.

    Raises:
        ValueError: for no samples or a ``start`` of the wrong shape or type.
    """
    tokens, masked = _start(denoiser, n_samples, start, _choose(generator, device))
    event = random_order(masked, generator)
    left = masked.sum(1, keepdim=True)
    n_events = tokens.shape[1] if start is None else int(left.max())
    steps = torch.arange(n_events, device=tokens.device)
    u = torch.rand((len(tokens), n_events), generator=generator, device=tokens.device)
    falls = u ** (1 / (left - steps).clamp(min=1))
    times = start_time * falls.cumprod(1)
    return _reveal(denoiser, tokens, event, times, generator, time_conditioned, keep_gradient=keep_gradient)


def cached(
    denoiser: Any,
    n_samples: int,
    *,
    steps: int,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    start: Tensor | None = None,
    time_conditioned: bool = False,
    final: str = "draw",
    keep_gradient: Tensor | None = None,
) -> Trajectory:
    """The law of :func:`ancestral` with ``steps`` steps, asking the network only at the events of each sequence.

    Args:
        steps: T. final: ``"draw"`` or ``"argmax"``, what happens to a mask that is left after the last step.
        generator, device, start, keep_gradient: as in :func:`first_hitting`; ``keep_gradient`` has min(n, T + 1) entries.

    Raises:
        ValueError: for ``steps`` below 1, an unknown ``final``, no samples, or a wrong ``start``.
    """
    _check_steps(steps, final)
    tokens, masked = _start(denoiser, n_samples, start, _choose(generator, device))
    uniform = torch.rand(tokens.shape, dtype=torch.float64, generator=generator, device=tokens.device)
    grid = torch.linspace(1, LAST_TIME, steps + 1, dtype=torch.float64, device=tokens.device)
    # a token is unmasked in the step from t_k to t_{k+1} whose interval holds its uniform time; below the grid: at the end
    step = (torch.searchsorted(-grid, -uniform, right=True) - 1).masked_fill_(~masked, steps + 1)
    ordered, position = step.sort(1)
    new = torch.zeros_like(masked)
    new[:, 0] = ordered[:, 0] <= steps
    new[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]) & (ordered[:, 1:] <= steps)
    dense = (new.cumsum(1) - 1).masked_fill(ordered > steps, -1)
    event = torch.empty_like(step).scatter_(1, position, dense)
    n_events = int(event.max()) + 1
    times = torch.zeros((len(tokens), n_events), device=tokens.device)
    row, column = new.nonzero(as_tuple=True)
    times[row, dense[row, column]] = grid[ordered[row, column]].float()
    greedy = step == steps if final == "argmax" else None
    return _reveal(
        denoiser, tokens, event, times, generator, time_conditioned, greedy, keep_gradient=keep_gradient
    )


@torch.no_grad()
def ancestral(
    denoiser: Any,
    n_samples: int,
    *,
    steps: int,
    generator: torch.Generator,
    device: torch.device | str | None = None,
    start: Tensor | None = None,
    time_conditioned: bool = False,
    final: str = "draw",
    cache: str = "none",
) -> Trajectory:
    """The sampler as it is written down: T steps, each asking the network for every sequence.

    From t to s a masked token stays masked with probability (1−α_s)/(1−α_t) = s/t and is drawn from μ otherwise.

    Args:
        cache: ``"none"``; ``"batch"`` asks again only if any sequence has changed (the rule of released samplers);
            ``"row"`` asks again only for the sequences that have changed. Both need a network without time conditioning.

    Returns:
        a :class:`Trajectory` whose ``event`` is the step 0 … T (T: left over), and whose ``log_prob`` is filled.

    Raises:
        ValueError: for ``steps`` below 1, an unknown ``final`` or ``cache``, a cache with time conditioning, or a wrong start.
    """
    _check_steps(steps, final)
    if cache not in ("none", "batch", "row"):
        raise ValueError(f"cache={cache!r} is not one of none, batch, row")
    if cache != "none" and time_conditioned:
        raise ValueError(f"cache={cache!r} would show a time-conditioned network an old time")
    tokens, masked = _start(denoiser, n_samples, start, _choose(generator, device))
    grid = torch.linspace(1, LAST_TIME, steps + 1, dtype=torch.float64, device=tokens.device)
    event = torch.full_like(tokens, -1)
    log_prob = torch.zeros(tokens.shape, device=tokens.device)
    log_probs = torch.zeros((*tokens.shape, denoiser.n_symbols), device=tokens.device)
    stale = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    calls = rows = 0
    for k in range(steps + 1):
        if cache == "none":
            asked = torch.ones_like(stale)
        elif cache == "batch":
            asked = stale.any().expand_as(stale)
        else:
            asked = stale
        if bool(asked.any()):
            sigma = noise_level(grid[k].float().expand(int(asked.sum()))) if time_conditioned else None
            log_probs[asked] = symbol_log_probs(denoiser(tokens[asked], sigma)).to(log_probs.dtype)
            calls, rows = calls + 1, rows + int(asked.sum())
        uniform = torch.rand(tokens.shape, dtype=torch.float64, generator=generator, device=tokens.device)
        leaves = (
            masked & (uniform >= grid[k + 1] / grid[k]) if k < steps else masked
        )  # the rest, after the last step
        stale = leaves.any(1)
        drawn = draw(log_probs, generator).squeeze(-1)
        if k == steps and final == "argmax":
            drawn = log_probs.argmax(-1)
        chosen = log_probs.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
        tokens = torch.where(leaves, drawn, tokens)
        log_prob = torch.where(leaves, chosen, log_prob)
        event = event.masked_fill(leaves, k)
        masked = masked & ~leaves
    times = grid.float().expand(len(tokens), -1)
    return Trajectory(tokens, event, times, log_prob, calls, rows)


def _check_steps(steps: int, final: str) -> None:
    if steps < 1:
        raise ValueError(f"steps={steps} must be positive")
    if final not in ("draw", "argmax"):
        raise ValueError(f"final={final!r} is not one of draw, argmax")


@torch.no_grad()
def sample(
    denoiser: Any,
    n_samples: int,
    *,
    generator: torch.Generator,
    steps: int | None = None,
    batch_size: int = 4096,
    time_conditioned: bool = False,
    final: str = "draw",
) -> Tensor:
    """Clean tokens (n_samples, n): :func:`first_hitting` for ``steps`` None, else :func:`cached`, in batches."""
    parts = []
    for begin in range(0, n_samples, batch_size):
        size = min(batch_size, n_samples - begin)
        if steps is None:
            made = first_hitting(denoiser, size, generator=generator, time_conditioned=time_conditioned)
        else:
            made = cached(
                denoiser,
                size,
                steps=steps,
                generator=generator,
                time_conditioned=time_conditioned,
                final=final,
            )
        parts.append(made.tokens)
    return torch.cat(parts)
