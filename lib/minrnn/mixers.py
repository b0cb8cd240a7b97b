"""Sequence mixers behind one interface: minGRU, minLSTM, and everything they are compared with.

A mixer is an ``nn.Module`` with ``forward(x, state=None) -> (y, state)`` for x and y of shape (B, T, d_model). All T
steps at once (parallel mode) and one step at a time with the returned state handed back in (recurrent mode, T = 1)
compute the same function; so does a sequence cut at any point. ``state=None`` starts a sequence. What a state holds
is the mixer's own business: a state (B, d_hidden), a convolution's last inputs, a cache of keys and values.

The recurrent mixers project d_model → d_hidden = expansion · d_model, run their recurrence there, and project back.
minGRU and minLSTM compute all their pre-activations by one fused linear map, which therefore holds all their
recurrence weights: 2 d_hidden d_model and 3 d_hidden d_model numbers, against 3 d_hidden (d_model + d_hidden) for a
GRU and 4 d_hidden (d_model + d_hidden) for an LSTM.
"""

from __future__ import annotations

import inspect
import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.minrnn.scan import g, gated_scan, linear_scan, state_dtype
from lib.minrnn.selective_scan import recomputed, selective_scan
from lib.profiles import nearest

State = Any  # None at the start of a sequence; else what the same mixer returned


class _LearnedInitialState(nn.Module):
    """h_0 = g(θ) with θ ~ N(0, 1) learned, (d_hidden,); one per layer, shared by all sequences."""

    def __init__(self, d_hidden: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.randn(d_hidden))

    def forward(self, batch: int) -> Tensor:
        return g(self.theta).expand(batch, -1)  # (B, d_hidden)


class MinGRU(nn.Module):
    """minGRU (section 3.1): z = σ(W_z x), h̃ = g(W_h x), h_t = (1 − z_t) ⊙ h_{t-1} + z_t ⊙ h̃_t.

    Args:
        d_model: width of x and y. expansion: d_hidden / d_model.
        bias: biases on both projections. learned_h0: start from g(θ) in place of zeros.
        gate_bias: added to PyTorch's initial bias of the gate z; −2 makes the layer remember at the start.
        scan: engine of :func:`lib.minrnn.scan.linear_scan`; ``"heinsen"`` is the paper's own.

    State: h (B, d_hidden).
    """

    def __init__(
        self,
        d_model: int,
        expansion: float = 1.0,
        bias: bool = True,
        learned_h0: bool = True,
        gate_bias: float = 0.0,
        scan: str = "auto",
    ) -> None:
        super().__init__()
        self.d_hidden = _width(d_model, expansion)
        self.scan = scan
        self.project_in = nn.Linear(d_model, 2 * self.d_hidden, bias=bias)  # gate z | candidate h̃
        self.project_out = nn.Linear(self.d_hidden, d_model, bias=bias)
        self.initial_state = _LearnedInitialState(self.d_hidden) if learned_h0 else None
        _add_to_bias(self.project_in, 0, self.d_hidden, gate_bias, "gate_bias")

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        h0 = _start(self, x, state)  # (B, d_hidden)
        h = gated_scan(self.project_in(x), h0, "min_gru", self.scan)  # (B, T, d_hidden)
        return self.project_out(h), _last(h, h0)


class MinLSTM(nn.Module):
    """minLSTM (section 3.2): f = σ(W_f x), i = σ(W_i x), h̃ = g(W_h x), h_t = f' ⊙ h_{t-1} + i' ⊙ h̃_t.

    Args:
        normalised: f' = f/(f+i), i' = i/(f+i) (version 2 of the paper); else f' = f, i' = i (the released code).
        forget_bias: added to PyTorch's initial bias of the forget gate f; the released code adds 3.
        d_model, expansion, bias, learned_h0, scan: as for :class:`MinGRU`.

    State: h (B, d_hidden).
    """

    def __init__(
        self,
        d_model: int,
        expansion: float = 1.0,
        bias: bool = True,
        learned_h0: bool = True,
        normalised: bool = True,
        forget_bias: float = 0.0,
        scan: str = "auto",
    ) -> None:
        super().__init__()
        self.d_hidden = _width(d_model, expansion)
        self.normalised = normalised
        self.scan = scan
        self.project_in = nn.Linear(d_model, 3 * self.d_hidden, bias=bias)  # forget f | input i | candidate h̃
        self.project_out = nn.Linear(self.d_hidden, d_model, bias=bias)
        self.initial_state = _LearnedInitialState(self.d_hidden) if learned_h0 else None
        _add_to_bias(self.project_in, 0, self.d_hidden, forget_bias, "forget_bias")

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        h0 = _start(self, x, state)  # (B, d_hidden)
        kind = "min_lstm_normalised" if self.normalised else "min_lstm"
        h = gated_scan(self.project_in(x), h0, kind, self.scan)  # (B, T, d_hidden)
        return self.project_out(h), _last(h, h0)


class TanhGate(nn.Module):
    """The one-line variant that can count modulo two: a = tanh(W_a x) ∈ (−1, 1), h_t = a_t ⊙ h_{t-1} + W_b x_t.

    Same scan and same cost as minGRU; the negative decays are what minGRU's gates cannot express (Grazzi et al. 2024).
    The candidate is linear and the initial state is learned without g: a sign that flips has no use for positivity.

    Args:
        d_model, expansion, bias, learned_h0, scan: as for :class:`MinGRU`; the log-space scan needs a > 0 and is
            refused by the scan itself.

    State: h (B, d_hidden).
    """

    def __init__(
        self,
        d_model: int,
        expansion: float = 1.0,
        bias: bool = True,
        learned_h0: bool = True,
        scan: str = "auto",
    ) -> None:
        super().__init__()
        self.d_hidden = _width(d_model, expansion)
        self.scan = scan
        self.project_in = nn.Linear(d_model, 2 * self.d_hidden, bias=bias)  # decay a | candidate b
        self.project_out = nn.Linear(self.d_hidden, d_model, bias=bias)
        self.theta = nn.Parameter(torch.randn(self.d_hidden)) if learned_h0 else None

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        if state is None:
            state = (
                x.new_zeros(x.shape[0], self.d_hidden)
                if self.theta is None
                else self.theta.expand(len(x), -1)
            )
        a, b = self.project_in(x).chunk(2, dim=-1)  # (B, T, d_hidden) each
        exact = state_dtype(a.dtype)  # a decay near ±1 must not be rounded to ±1
        h = linear_scan(torch.tanh(a.to(exact)), b.to(exact), state, self.scan)
        return self.project_out(h.to(b.dtype)), _last(h, state)


class GRU(nn.Module):
    """A GRU by the library's fused kernel (cuDNN on a GPU), d_model → d_hidden → d_model. State: h (1, B, d_hidden)."""

    def __init__(self, d_model: int, expansion: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.rnn = nn.GRU(d_model, _width(d_model, expansion), bias=bias, batch_first=True)
        self.project_out = nn.Linear(self.rnn.hidden_size, d_model, bias=bias)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        h, state = self.rnn(x, state)  # (B, T, d_hidden)
        return self.project_out(h), state


class LSTM(nn.Module):
    """An LSTM by the library's fused kernel, d_model → d_hidden → d_model. State: (h, c), each (1, B, d_hidden)."""

    def __init__(self, d_model: int, expansion: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.rnn = nn.LSTM(d_model, _width(d_model, expansion), bias=bias, batch_first=True)
        self.project_out = nn.Linear(self.rnn.hidden_size, d_model, bias=bias)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        h, state = self.rnn(x, state)  # (B, T, d_hidden)
        return self.project_out(h), state


class StepGRU(nn.Module):
    """A GRU cell in a Python loop over time: the baseline of the paper's Figure 1. State: h (B, d_hidden)."""

    def __init__(self, d_model: int, expansion: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.cell = nn.GRUCell(d_model, _width(d_model, expansion), bias=bias)
        self.project_out = nn.Linear(self.cell.hidden_size, d_model, bias=bias)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        h = x.new_zeros(x.shape[0], self.cell.hidden_size) if state is None else state
        states = []
        for x_t in x.unbind(1):
            h = self.cell(x_t, h)  # (B, d_hidden)
            states.append(h)
        return self.project_out(torch.stack(states, dim=1)), h


class StepLSTM(nn.Module):
    """An LSTM cell in a Python loop over time: the baseline of the paper's Figure 1. State: (h, c), (B, d_hidden)."""

    def __init__(self, d_model: int, expansion: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(d_model, _width(d_model, expansion), bias=bias)
        self.project_out = nn.Linear(self.cell.hidden_size, d_model, bias=bias)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        if state is None:
            zeros = x.new_zeros(x.shape[0], self.cell.hidden_size)
            state = (zeros, zeros)
        states = []
        for x_t in x.unbind(1):
            state = self.cell(x_t, state)
            states.append(state[0])  # (B, d_hidden)
        return self.project_out(torch.stack(states, dim=1)), state


class S6(nn.Module):
    """Mamba's selective state space (Gu and Dao 2023) on the chapter's own scan: no CUDA package needed.

    u = SiLU(conv(W_u x)); Δ = softplus(W_Δ u), B = W_B u, C = W_C u; per channel and per n = 1..N
    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t with A = −exp(A_log), y_t = Σ_n C_t h_t + D u_t, gated by SiLU(W_s x).
    All d_inner · N states advance as the channels of one linear scan.

    Args:
        expansion: d_inner / d_model. d_state: N. kernel: taps of the causal convolution. scan: engine.
        recompute: None keeps all states for the backward. A number of steps keeps one state in so many, and the backward
            computes the others again, as Mamba's kernel does: same function, less memory, more time.

    State: (last kernel − 1 inputs of the convolution (B, kernel − 1, d_inner), h (B, d_inner · N)).
    """

    def __init__(
        self,
        d_model: int,
        expansion: float = 2.0,
        d_state: int = 16,
        kernel: int = 4,
        scan: str = "auto",
        recompute: int | None = None,
    ) -> None:
        super().__init__()
        if recompute is not None and recompute < 1:
            raise ValueError(f"recompute={recompute!r} is not a number of steps >= 1")
        d_inner = _width(d_model, expansion)
        self.d_inner, self.d_state, self.kernel, self.scan = d_inner, d_state, kernel, scan
        self.recompute = recompute
        self.rank = math.ceil(d_model / 16)  # of the map u → Δ
        self.project_in = nn.Linear(d_model, 2 * d_inner, bias=False)  # u | gate s
        self.conv = nn.Conv1d(d_inner, d_inner, kernel, groups=d_inner)
        self.project_u = nn.Linear(d_inner, self.rank + 2 * d_state, bias=False)  # low-rank Δ | B | C
        self.project_delta = nn.Linear(self.rank, d_inner)
        self.log_minus_a = nn.Parameter(
            torch.arange(1, d_state + 1).float().log().repeat(d_inner, 1)
        )  # (d_inner, N)
        self.skip = nn.Parameter(torch.ones(d_inner))
        self.project_out = nn.Linear(d_inner, d_model, bias=False)
        with torch.no_grad():
            nn.init.uniform_(self.project_delta.weight, -(self.rank**-0.5), self.rank**-0.5)
            self.project_delta.bias.copy_(_inverse_softplus(_log_uniform(d_inner)))

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        u_and_gate = self.project_in(x)  # (B, T, 2 d_inner)
        if state is None:
            taps = u_and_gate.new_zeros(x.shape[0], self.kernel - 1, self.d_inner)
            h = x.new_zeros(x.shape[0], self.d_inner * self.d_state)
        else:
            taps, h = state
        convolution, to_delta = (
            self.conv.parameters(),
            self.project_delta.parameters(),
        )  # weight and bias each
        weights = (*convolution, self.project_u.weight, *to_delta, self.log_minus_a, self.skip)
        scan = partial(selective_scan, engine=self.scan)
        if self.recompute is None:
            y, taps, h = scan(u_and_gate, taps, h, *weights)
            return self.project_out(y), (taps, h)
        parts = []
        for part in u_and_gate.split(self.recompute, dim=1):
            y, taps, h = recomputed(scan, part, taps, h, *weights)
            parts.append(y)
        return self.project_out(torch.cat(parts, dim=1)), (taps, h)


class DiagonalSSM(nn.Module):
    """Time-invariant control: a diagonal state space with real, learned, input-independent decay (S4D-real).

    Per channel and per n = 1..N: A_n = −exp(A_log_n) (starts at −n), step Δ learned, zero-order hold
    a = exp(ΔA), h_t = a h_{t-1} + (a − 1)/A · u_t, y_t = Σ_n C_n h_t + D u_t, then GELU and back to d_model.
    It remembers, but what it forgets cannot depend on what it reads.

    Args:
        expansion: d_inner / d_model. d_state: N. scan: engine.

    State: h (B, d_inner · N).
    """

    def __init__(self, d_model: int, expansion: float = 1.0, d_state: int = 16, scan: str = "auto") -> None:
        super().__init__()
        d_inner = _width(d_model, expansion)
        self.d_inner, self.d_state, self.scan = d_inner, d_state, scan
        self.project_in = nn.Linear(d_model, d_inner)
        self.log_minus_a = nn.Parameter(
            torch.arange(1, d_state + 1).float().log().repeat(d_inner, 1)
        )  # (d_inner, N)
        self.log_delta = nn.Parameter(_log_uniform(d_inner).log())
        self.c = nn.Parameter(torch.randn(d_inner, d_state) / math.sqrt(d_state))
        self.skip = nn.Parameter(torch.ones(d_inner))
        self.project_out = nn.Linear(d_inner, d_model)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        batch, steps, _ = x.shape
        u = self.project_in(x)  # (B, T, d_inner)
        exact = state_dtype(u.dtype)  # a decay near 1 must not be rounded to 1
        minus_a = self.log_minus_a.to(exact).exp()
        exponent = -self.log_delta.to(exact).exp().unsqueeze(-1) * minus_a  # (d_inner, N)
        decay = exponent.exp().flatten().expand(batch, steps, -1)
        drive = u.unsqueeze(-1) * (-torch.expm1(exponent) / minus_a)  # (B, T, d_inner, N)
        h0 = x.new_zeros(batch, self.d_inner * self.d_state) if state is None else state
        h = linear_scan(decay, drive.flatten(2), h0, self.scan)  # (B, T, d_inner·N)
        y = torch.einsum("btdn,dn->btd", h.view(batch, steps, self.d_inner, self.d_state), self.c.to(h.dtype))
        return self.project_out(F.gelu(y + self.skip * u).to(u.dtype)), _last(h, h0)


class CausalAttention(nn.Module):
    """Multi-head causal self-attention. It knows no order by itself: give the backbone ``max_positions``.

    Args:
        expansion: width of all heads together / d_model. heads: number of heads. dropout: on attention weights.

    State: keys and values of all past steps, (B, heads, past, d_head) each.
    """

    def __init__(
        self, d_model: int, expansion: float = 1.0, heads: int = 6, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        d_hidden = _width(d_model, expansion)
        if d_hidden % heads:
            raise ValueError(f"heads={heads} does not divide the attention width {d_hidden}")
        self.heads, self.d_head, self.dropout = heads, d_hidden // heads, dropout
        self.project_in = nn.Linear(d_model, 3 * d_hidden, bias=bias)  # query | key | value
        self.project_out = nn.Linear(d_hidden, d_model, bias=bias)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        batch, steps, _ = x.shape
        heads = self.project_in(x).view(batch, steps, 3 * self.heads, self.d_head).transpose(1, 2)
        q, k, v = heads.chunk(3, dim=1)
        past = 0  # q, k, v: (B, heads, T, d_head)
        if state is not None:
            past = state[0].shape[2]
            k, v = torch.cat([state[0], k], dim=2), torch.cat([state[1], v], dim=2)
        # Step t sees the whole past and the steps up to t; is_causal alone would align the mask with step 1.
        mask = None
        if past and steps > 1:
            mask = torch.ones(steps, past + steps, dtype=torch.bool, device=x.device).tril(past)
        y = F.scaled_dot_product_attention(
            q, k, v, mask, self.dropout if self.training else 0.0, is_causal=past == 0
        )  # (B, heads, T, d_head)
        return self.project_out(y.transpose(1, 2).reshape(batch, steps, self.heads * self.d_head)), (k, v)


class Identity(nn.Module):
    """Memoryless control: y = x. A block around it is left with its MLP. State: None."""

    def __init__(self, d_model: int, expansion: float = 1.0) -> None:
        super().__init__()

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        return x, None


MIXERS: dict[str, type[nn.Module]] = {
    "min_gru": MinGRU,
    "min_lstm": MinLSTM,
    "tanh_gate": TanhGate,
    "gru": GRU,
    "lstm": LSTM,
    "step_gru": StepGRU,
    "step_lstm": StepLSTM,
    "s6": S6,
    "diagonal_ssm": DiagonalSSM,
    "attention": CausalAttention,
    "identity": Identity,
}


def make_mixer(name: str, d_model: int, expansion: float = 1.0, **options: Any) -> nn.Module:
    """Return the mixer ``name`` of :data:`MIXERS` of width ``d_model``, with its own keyword ``options``.

    Raises:
        ValueError: one line, for an unknown name or an option that this mixer does not have.
    """
    if name not in MIXERS:
        raise ValueError(f"mixer={name!r} is not one of {', '.join(MIXERS)}{nearest(name, MIXERS)}")
    allowed = [p for p in inspect.signature(MIXERS[name]).parameters if p not in ("d_model", "expansion")]
    for option in options:
        if option not in allowed:
            listed = ", ".join(allowed) or "no options"
            raise ValueError(
                f"mixer {name!r} has no option {option!r}; it has {listed}{nearest(option, allowed)}"
            )
    return MIXERS[name](d_model, expansion, **options)


def causal_convolution(conv: nn.Conv1d, x: Tensor, taps: Tensor | None) -> tuple[Tensor, Tensor]:
    """Apply ``conv`` (no padding of its own, stride 1) to x (B, T, d) so that step t sees steps t − k + 1 .. t only.

    Args:
        taps: the last k − 1 inputs (B, k − 1, d); zeros if None.

    Returns:
        y (B, T, d_out) and the taps for the continuation.
    """
    reach = conv.kernel_size[0] - 1
    if taps is None:
        taps = x.new_zeros(x.shape[0], reach, x.shape[2])
    padded = torch.cat([taps, x], dim=1)  # (B, k − 1 + T, d)
    y = conv(padded.transpose(1, 2)).transpose(1, 2)
    return y, padded[:, padded.shape[1] - reach :]


def _width(d_model: int, expansion: float) -> int:
    width = round(d_model * expansion)
    if d_model < 1 or width < 1 or abs(width - d_model * expansion) > 1e-9 * width:
        raise ValueError(
            f"expansion={expansion!r} times d_model={d_model!r} is not a whole number of channels"
        )
    return width


def _add_to_bias(linear: nn.Linear, part: int, width: int, value: float, name: str) -> None:
    """Add ``value`` to the bias of output part ``part`` (of ``width`` channels each) of a fused projection."""
    if value == 0:
        return
    if linear.bias is None:
        raise ValueError(f"{name}={value!r} needs bias=True")
    with torch.no_grad():
        linear.bias[part * width : (part + 1) * width] += value


def _start(mixer: MinGRU | MinLSTM, x: Tensor, state: State) -> Tensor:
    """The state (B, d_hidden) before the first step of ``x``."""
    if state is not None:
        return state
    if mixer.initial_state is None:
        return x.new_zeros(x.shape[0], mixer.d_hidden)
    return mixer.initial_state(x.shape[0])


def _last(h: Tensor, h0: Tensor) -> Tensor:
    """The state (B, D) after the last step of h (B, T, D); h0 if there was none."""
    return h[:, -1] if h.shape[1] else h0


def _log_uniform(count: int, low: float = 1e-3, high: float = 1e-1) -> Tensor:
    """Step sizes Δ drawn log-uniformly from [low, high], (count,)."""
    return torch.exp(torch.rand(count) * math.log(high / low) + math.log(low))


def _inverse_softplus(y: Tensor) -> Tensor:
    return y + torch.log(-torch.expm1(-y))
