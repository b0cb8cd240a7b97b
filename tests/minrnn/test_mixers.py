"""The sequence mixers: one function in parallel and in recurrent mode, causal, and equal to equations and to peers."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lib.minrnn.mixers import (
    GRU,
    LSTM,
    MIXERS,
    S6,
    CausalAttention,
    DiagonalSSM,
    MinGRU,
    MinLSTM,
    StepGRU,
    StepLSTM,
    TanhGate,
    make_mixer,
)
from lib.minrnn.scan import g

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in MIXERS),
    ("min_gru", {"scan": "heinsen"}),
    ("min_gru", {"scan": "chunked", "learned_h0": False}),
    ("min_lstm", {"normalised": False, "forget_bias": 3.0}),
    ("tanh_gate", {"learned_h0": False}),
    ("s6", {"recompute": 4}),
]
IDS = [name + "".join(f"-{key}={value}" for key, value in options.items()) for name, options in VARIANTS]


def build(name: str, options: dict[str, Any], d_model: int = 12) -> nn.Module:
    """A mixer in its recurrent training state, weights larger than at the start so that gates differ."""
    torch.manual_seed(0)
    mixer = make_mixer(name, d_model, 1.0 if name == "attention" else 2.0, **options)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mixer


# --- parallel mode = recurrent mode, whole or cut -------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_parallel_mode_is_recurrent_mode(name: str, options: dict[str, Any]) -> None:
    mixer = build(name, options)
    x = torch.randn(3, 23, 12)
    whole, last = mixer(x)
    assert whole.shape == x.shape
    state, steps = None, []
    for t in range(x.shape[1]):
        y, state = mixer(x[:, t : t + 1], state)
        steps.append(y)
    assert bool(((torch.cat(steps, dim=1) - whole).abs() <= 1e-5).all())
    after_whole, _ = mixer(x[:, :1], last)  # both states continue in the same way
    after_steps, _ = mixer(x[:, :1], state)
    assert bool(((after_whole - after_steps).abs() <= 1e-5).all())


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_sequence_cut_anywhere_continues_from_the_returned_state(name: str, options: dict[str, Any]) -> None:
    mixer = build(name, options)
    x = torch.randn(2, 11, 12)
    whole, _ = mixer(x)
    for cut in range(1, x.shape[1]):
        left, state = mixer(x[:, :cut])
        right, _ = mixer(x[:, cut:], state)
        assert bool(((torch.cat([left, right], dim=1) - whole).abs() <= 1e-5).all())


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_gradient_flows_through_a_cut(name: str, options: dict[str, Any]) -> None:
    """Parameters receive the same gradient from a sequence as from its two halves."""
    mixer = build(name, options).double()
    x = torch.randn(2, 9, 12, dtype=torch.float64, requires_grad=True)
    leaves = [x, *mixer.parameters()]
    left, state = mixer(x[:, :4])
    right, _ = mixer(x[:, 4:], state)
    whole = torch.autograd.grad(mixer(x)[0].square().sum(), leaves)
    halves = torch.autograd.grad(torch.cat([left, right], dim=1).square().sum(), leaves)
    for one, two in zip(whole, halves, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-9)


# --- causality -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_no_output_depends_on_a_later_input(name: str, options: dict[str, Any]) -> None:
    mixer = build(name, options)
    x = torch.randn(1, 10, 12, requires_grad=True)
    y, _ = mixer(x)
    for t in range(10):
        (gradient,) = torch.autograd.grad(y[:, t].sum(), x, retain_graph=True)
        assert float(gradient[:, t + 1 :].abs().sum()) == 0
        assert float(gradient[:, t].abs().sum()) > 0
        if t and name != "identity":
            assert (
                float(gradient[:, 0].abs().sum()) > 0
            )  # and every one remembers, except the memoryless control


# --- limits and convexity --------------------------------------------------------------------------------


def states_of(mixer: MinGRU | MinLSTM, x: Tensor) -> Tensor:
    """The hidden states themselves: the output projection is made the identity."""
    with torch.no_grad():
        mixer.project_out.weight.copy_(torch.eye(mixer.d_hidden))
        mixer.project_out.bias.zero_()
    return mixer(x)[0]


def test_min_gru_keeps_its_learned_state_when_the_gate_is_shut() -> None:
    mixer = MinGRU(6, gate_bias=-1e4)
    h = states_of(mixer, torch.randn(2, 20, 6))
    assert mixer.initial_state is not None
    torch.testing.assert_close(h, g(mixer.initial_state.theta).expand(2, 20, 6))


def test_min_gru_returns_its_candidate_when_the_gate_is_open() -> None:
    mixer = MinGRU(6, gate_bias=1e4)
    x = torch.randn(2, 20, 6)
    torch.testing.assert_close(states_of(mixer, x), g(mixer.project_in(x)[..., 6:]))


def test_normalised_min_lstm_averages_when_its_gates_are_equal() -> None:
    mixer = MinLSTM(4, normalised=True)
    with torch.no_grad():
        mixer.project_in.weight[4:8] = mixer.project_in.weight[:4]
        mixer.project_in.bias[4:8] = mixer.project_in.bias[:4]
    x = torch.randn(2, 9, 4)
    h = states_of(mixer, x)
    assert mixer.initial_state is not None
    before = torch.cat([g(mixer.initial_state.theta).expand(2, 1, 4), h[:, :-1]], dim=1)
    torch.testing.assert_close(h, (before + g(mixer.project_in(x)[..., 8:])) / 2)


@settings(max_examples=25, deadline=None)
@given(kind=st.sampled_from(["min_gru", "min_lstm"]), seed=st.integers(0, 2**31), scale=st.floats(0.1, 30))
def test_states_stay_in_the_hull_of_initial_state_and_candidates(kind: str, seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    mixer = make_mixer(kind, 5)
    assert isinstance(mixer, (MinGRU, MinLSTM))
    assert mixer.initial_state is not None
    x = scale * torch.randn(2, 15, 5)
    h = states_of(mixer, x)
    candidates = g(mixer.project_in(x)[..., -5:])
    seen = torch.cat([g(mixer.initial_state.theta).expand(2, 1, 5), candidates], dim=1)
    margin = 1e-5 * (1 + candidates.abs().max())
    assert bool((h <= seen.cummax(dim=1).values[:, 1:] + margin).all())
    assert bool((h >= seen.cummin(dim=1).values[:, 1:] - margin).all())


# --- equations, step by step -------------------------------------------------------------------------------------------


def test_min_gru_follows_its_equations() -> None:
    mixer = build("min_gru", {}).double()
    x = torch.randn(2, 8, 12, dtype=torch.float64)
    w, bias, width = mixer.project_in.weight, mixer.project_in.bias, mixer.d_hidden
    h = torch.where(
        mixer.initial_state.theta >= 0, mixer.initial_state.theta + 0.5, mixer.initial_state.theta.sigmoid()
    )
    for t in range(8):
        z = torch.sigmoid(x[:, t] @ w[:width].T + bias[:width])
        v = x[:, t] @ w[width:].T + bias[width:]
        h = (1 - z) * h + z * torch.where(v >= 0, v + 0.5, v.sigmoid())
        y, _ = mixer(x[:, : t + 1])
        torch.testing.assert_close(y[:, t], mixer.project_out(h))


@pytest.mark.parametrize("normalised", [False, True])
def test_min_lstm_follows_its_equations(normalised: bool) -> None:
    mixer = build("min_lstm", {"normalised": normalised}).double()
    x = torch.randn(2, 8, 12, dtype=torch.float64)
    f_hat, i_hat, v = mixer.project_in(x).chunk(3, dim=-1)
    f, i = f_hat.sigmoid(), i_hat.sigmoid()
    if normalised:
        f, i = f / (f + i), i / (f + i)
    h, states = g(mixer.initial_state.theta).expand(2, -1), []
    for t in range(8):
        h = f[:, t] * h + i[:, t] * torch.where(v[:, t] >= 0, v[:, t] + 0.5, v[:, t].sigmoid())
        states.append(h)
    torch.testing.assert_close(mixer(x)[0], mixer.project_out(torch.stack(states, dim=1)))


@pytest.mark.parametrize("name", ["min_gru", "min_lstm"])
def test_log_space_scan_computes_the_same_layer(name: str) -> None:
    fast, paper = build(name, {}).double(), build(name, {"scan": "heinsen"}).double()
    x = torch.randn(2, 30, 12, dtype=torch.float64)
    torch.testing.assert_close(fast(x)[0], paper(x)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("step", "fused"), [(StepGRU, GRU), (StepLSTM, LSTM)])
def test_step_loop_is_the_fused_network(step: type[nn.Module], fused: type[nn.Module]) -> None:
    looped, library = step(5, 2.0).double(), fused(5, 2.0).double()
    weights = {
        key.replace("rnn.", "cell.").replace("_l0", ""): value for key, value in library.state_dict().items()
    }
    looped.load_state_dict(weights)
    x = torch.randn(3, 14, 5, dtype=torch.float64)
    torch.testing.assert_close(looped(x)[0], library(x)[0])


def test_tanh_gate_counts_modulo_two() -> None:
    """a = tanh(±large) = ±1: the state flips with every one in the input, at any length; no gate in (0, 1) can."""
    mixer = TanhGate(1)
    with torch.no_grad():
        mixer.project_in.weight.copy_(torch.tensor([[-100.0], [0.0]]))
        mixer.project_in.bias.copy_(torch.tensor([50.0, 0.0]))
        mixer.theta.fill_(1.0)
        mixer.project_out.weight.fill_(1.0)
        mixer.project_out.bias.zero_()
    bits = torch.randint(2, (4, 300, 1), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(mixer(bits)[0], 1 - 2 * (bits.cumsum(dim=1) % 2))


def test_s6_follows_its_equations() -> None:
    mixer = build("s6", {"d_state": 3})
    assert isinstance(mixer, S6)
    mixer = mixer.double()
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    u, s = mixer.project_in(x).chunk(2, dim=-1)
    u = torch.stack(  # tap 3 of the kernel meets the present, tap 0 the input three steps ago
        [
            mixer.conv.bias
            + sum(u[:, t - 3 + k] * mixer.conv.weight[:, 0, k] for k in range(4) if t - 3 + k >= 0)
            for t in range(9)
        ],
        dim=1,
    )
    u = u * torch.sigmoid(u)
    low_rank, b, c = mixer.project_u(u).split([mixer.rank, 3, 3], dim=-1)
    delta = F.softplus(mixer.project_delta(low_rank))
    h = torch.zeros(2, mixer.d_inner, 3, dtype=torch.float64)
    outputs = []
    for t in range(9):
        step = delta[:, t, :, None]
        h = torch.exp(-step * mixer.log_minus_a.exp()) * h + step * u[:, t, :, None] * b[:, t, None, :]
        y = (h * c[:, t, None, :]).sum(-1) + mixer.skip * u[:, t]
        outputs.append(y * s[:, t] * torch.sigmoid(s[:, t]))
    torch.testing.assert_close(mixer(x)[0], mixer.project_out(torch.stack(outputs, dim=1)))


@pytest.mark.parametrize("recompute", [1, 7, 32])
def test_s6_that_computes_its_states_again_is_the_same_function(recompute: int) -> None:
    """Values, gradients of inputs, of all weights and of the state handed in; the stretches need not divide T."""
    kept, again = (build("s6", {"recompute": steps}).double() for steps in (None, recompute))
    x = torch.randn(2, 30, 12, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(2, 3, 24, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(2, 24 * 16, dtype=torch.float64, requires_grad=True)
    results = []
    for mixer in (kept, again):
        y, (last_taps, last_h) = mixer(x, (taps, h0))
        loss = y.square().sum() + last_taps.sum() + last_h.square().sum()
        gradients = torch.autograd.grad(loss, [x, taps, h0, *mixer.parameters()])
        results.append([y, last_taps, last_h, *gradients])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_time_invariant_control_is_linear_and_time_invariant_inside() -> None:
    """A delayed input gives the delayed output; S6, which selects, does something else with the same shift and scale."""
    mixer = build("diagonal_ssm", {"d_state": 4}).double()
    assert isinstance(mixer, DiagonalSSM)
    with torch.no_grad():
        mixer.project_in.bias.zero_()
    x = torch.randn(1, 12, 12, dtype=torch.float64)
    delayed = torch.cat([torch.zeros(1, 5, 12, dtype=torch.float64), x], dim=1)
    torch.testing.assert_close(mixer(delayed)[0][:, 5:], mixer(x)[0])
    _, state = mixer(x)
    _, doubled = mixer(2 * x)
    torch.testing.assert_close(doubled, 2 * state)
    selective = build("s6", {}).double()
    _, (_, h) = selective(x)
    _, (_, h_doubled) = selective(2 * x)
    assert bool(((h_doubled - 2 * h).abs() > 1e-2).any())


def test_diagonal_control_is_the_exact_integral_of_a_held_input() -> None:
    """Zero-order hold: after long constant input u, the state of h' = A h + u settles at −u/A."""
    mixer = DiagonalSSM(2, d_state=3).double()
    x = torch.ones(1, 4000, 2, dtype=torch.float64)
    with torch.no_grad():
        mixer.log_delta.fill_(-3.0)
        _, state = mixer(x)
        u = mixer.project_in(x)[0, 0]
    torch.testing.assert_close(state.view(2, 3), u[:, None] / mixer.log_minus_a.exp())


def test_attention_is_softmax_over_the_past() -> None:
    mixer = CausalAttention(6, heads=2).double()
    x = torch.randn(1, 5, 6, dtype=torch.float64)
    q, k, v = (part.view(5, 2, 3).transpose(0, 1) for part in mixer.project_in(x)[0].chunk(3, dim=-1))
    rows = []
    for t in range(5):
        weights = torch.softmax((q[:, t : t + 1] @ k[:, : t + 1].transpose(1, 2)) / 3**0.5, dim=-1)
        rows.append((weights @ v[:, : t + 1]).reshape(6))
    torch.testing.assert_close(mixer(x)[0][0], mixer.project_out(torch.stack(rows)))


# --- half precision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "module"])
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_bfloat16_under_autocast_and_as_a_module(name: str, options: dict[str, Any], autocast: bool) -> None:
    """A sequence cut in two, forward and backward: close to float64 with the same weights, and every gradient is there."""
    mixer = build(name, options)
    low = mixer if autocast else mixer.to(torch.bfloat16)
    exact = make_mixer(name, 12, 1.0 if name == "attention" else 2.0, **options).double()
    exact.load_state_dict(low.state_dict())
    x = torch.randn(2, 20, 12).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        start = x.float() if autocast else x
        left, state = low(start[:, :13])
        right, _ = low(start[:, 13:], state)
    y, expected = torch.cat([left, right], dim=1), exact(x.double())[0]
    assert float((y.double() - expected).detach().abs().max()) <= 0.03 * float(expected.detach().abs().max())
    if name == "identity":
        return
    y.float().square().sum().backward()
    expected.square().sum().backward()
    for mine, theirs in zip(low.parameters(), exact.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert float((mine.grad.double() - theirs.grad).norm()) <= 0.1 * float(theirs.grad.norm()) + 1e-3


@pytest.mark.parametrize("name", ["tanh_gate", "s6", "diagonal_ssm"])
def test_slow_decays_are_not_rounded_to_one_in_bfloat16(name: str) -> None:
    """Decays about 1 − 1e-3, closer to 1 than a bfloat16 can be, over 4,000 steps: the state must settle, not grow."""
    torch.manual_seed(0)
    mixer = make_mixer(name, 4, 2.0)
    with torch.no_grad():
        for key, value in {"project_delta.bias": -7.0, "log_delta": -7.0}.items():
            if key in dict(mixer.named_parameters()):
                mixer.get_parameter(key).fill_(value)
        if isinstance(mixer, TanhGate):
            mixer.project_in.weight[:8] = 0
            mixer.project_in.bias[:8] = 3.8  # tanh(3.8) = 1 − 1.0e-3
    mixer = mixer.to(torch.bfloat16)
    exact = make_mixer(name, 4, 2.0).double()
    exact.load_state_dict(mixer.state_dict())
    x = torch.ones(1, 4000, 4, dtype=torch.bfloat16)
    states = []
    for module, inputs in ((mixer, x), (exact, x.double())):
        state = module(inputs)[1]
        states.append((state[1] if isinstance(state, tuple) else state).double())
    assert float((states[0] - states[1]).norm()) <= 0.05 * float(states[1].norm())


# --- parameter counts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1, 2, 3, 4])
def test_parameter_counts_and_ratios(alpha: int) -> None:
    d_x, d_h = 8, 8 * alpha
    counts = {}
    for name in ("min_gru", "min_lstm"):
        counts[name] = make_mixer(name, d_x, alpha, bias=False).project_in.weight.numel()  # type: ignore[union-attr]
    for name in ("gru", "lstm"):
        counts[name] = sum(p.numel() for p in make_mixer(name, d_x, alpha, bias=False).rnn.parameters())  # type: ignore[union-attr]
    assert counts["min_gru"] == 2 * d_h * d_x
    assert counts["min_lstm"] == 3 * d_h * d_x
    assert counts["min_gru"] * 3 * (1 + alpha) == 2 * counts["gru"]
    assert counts["min_lstm"] * 4 * (1 + alpha) == 3 * counts["lstm"]


@pytest.mark.parametrize(
    ("name", "options", "part"), [("min_lstm", {"forget_bias": 3.0}, 0), ("min_gru", {"gate_bias": -2.0}, 0)]
)
def test_gate_bias_lands_on_the_gate_that_keeps(name: str, options: dict[str, float], part: int) -> None:
    """By its effect: a large forget bias (or a shut minGRU gate) makes the layer hold its state."""
    torch.manual_seed(0)
    plain = make_mixer(name, 4, 2.0)
    torch.manual_seed(0)
    biased = make_mixer(name, 4, 2.0, **options)
    difference = biased.project_in.bias - plain.project_in.bias  # type: ignore[union-attr]
    value = next(iter(options.values()))
    expected = torch.zeros_like(difference)
    expected[part * 8 : (part + 1) * 8] = value
    torch.testing.assert_close(difference, expected)
    fixed = (
        {"normalised": False} if name == "min_lstm" else {}
    )  # normalised gates share, they do not only forget
    strong = make_mixer(name, 4, 2.0, **{next(iter(options)): 1e4 * (1 if value > 0 else -1)}, **fixed)
    start = torch.full((1, 8), 5.0)
    _, after = strong(torch.zeros(1, 1, 4), start)
    assert float(after.detach().min()) >= 5.0


# --- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("min_gruu", 8), "did you mean 'min_gru'"),
        (("min_gru", 8, 0.3), "is not a whole number of channels"),
        (("attention", 8), "heads=6 does not divide the attention width 8"),
    ],
)
def test_wrong_mixers_are_refused_in_one_line(arguments: tuple[Any, ...], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment) as error:
        make_mixer(*arguments)
    assert "\n" not in str(error.value)


def test_wrong_options_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="did you mean 'normalised'"):
        make_mixer("min_lstm", 8, normalized=True)
    with pytest.raises(ValueError, match=r"forget_bias=3\.0 needs bias=True"):
        make_mixer("min_lstm", 8, bias=False, forget_bias=3.0)
    with pytest.raises(ValueError, match=r"needs a >= 0"):
        make_mixer("tanh_gate", 8, scan="heinsen")(torch.randn(1, 5, 8))
    with pytest.raises(ValueError, match=r"recompute=0 is not a number of steps >= 1"):
        make_mixer("s6", 8, recompute=0)
    with pytest.raises(ValueError, match=r"engine='fast' is not one of"):
        make_mixer("s6", 8, scan="fast")(torch.randn(1, 5, 8))


def test_every_mixer_takes_the_common_arguments() -> None:
    for mixer in MIXERS.values():
        assert list(inspect.signature(mixer).parameters)[:2] == ["d_model", "expansion"]


@pytest.mark.parametrize("name", list(MIXERS))
def test_empty_batch_gives_an_empty_output(name: str) -> None:
    for options in [{}, *([{"recompute": 2}] if name == "s6" else [])]:
        assert make_mixer(name, 12, **options)(torch.randn(0, 3, 12))[0].shape == (0, 3, 12)


# --- peers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["min_gru", "min_lstm"])
def test_agreement_with_mingru_pytorch(name: str) -> None:
    """Outputs and gradients of the peer's whole sequences; its layout is candidate first, ours is candidate last."""
    if name == "min_gru":
        peer_type = pytest.importorskip(
            "minGRU_pytorch.minGRU", reason="minGRU-pytorch is not installed"
        ).minGRU
    else:
        peer_type = pytest.importorskip(
            "minGRU_pytorch.minLSTM", reason="minGRU-pytorch is not installed"
        ).minLSTM
    torch.manual_seed(0)
    peer = peer_type(6, expansion_factor=2.0, proj_out=True).double()
    mine = make_mixer(name, 6, 2.0, bias=False, learned_h0=False).double()
    fused = peer.to_hidden_and_gate if name == "min_gru" else peer.to_hidden_and_f_i_gate
    with torch.no_grad():
        fused.weight.mul_(4)
        mine.project_in.weight.copy_(fused.weight.roll(-12, dims=0))  # type: ignore[union-attr]
        mine.project_out.weight.copy_(peer.to_out.weight)  # type: ignore[union-attr]
    x = torch.randn(3, 40, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 40, 6, dtype=torch.float64)
    theirs = torch.autograd.grad((peer(x) * weight).sum(), [x, fused.weight, peer.to_out.weight])
    y, _ = mine(x)
    ours = torch.autograd.grad((y * weight).sum(), [x, mine.project_in.weight, mine.project_out.weight])  # type: ignore[union-attr]
    assert float((y - peer(x)).detach().abs().max()) <= 1e-10
    assert float((ours[0] - theirs[0]).abs().max()) <= 1e-10
    assert float((ours[1] - theirs[1].roll(-12, dims=0)).abs().max()) <= 1e-10
    assert float((ours[2] - theirs[2]).abs().max()) <= 1e-10


def test_agreement_with_mambapy() -> None:
    mamba = pytest.importorskip("mambapy.mamba", reason="mambapy is not installed")
    torch.manual_seed(0)
    peer = mamba.MambaBlock(mamba.MambaConfig(d_model=10, n_layers=1, d_state=4)).double()
    mine = S6(10, 2.0, d_state=4).double()
    names = {
        "in_proj": "project_in",
        "conv1d": "conv",
        "x_proj": "project_u",
        "dt_proj": "project_delta",
        "A_log": "log_minus_a",
        "D": "skip",
        "out_proj": "project_out",
    }
    weights = {}
    for key, value in peer.state_dict().items():
        head, *tail = key.split(".")
        weights[".".join([names[head], *tail])] = value
    mine.load_state_dict(weights)
    x = torch.randn(2, 21, 10, dtype=torch.float64, requires_grad=True)
    y, theirs = mine(x)[0], peer(x)
    assert float((y - theirs).detach().abs().max()) <= 1e-6  # the peer casts A and D to float32
    ours_x, theirs_x = (torch.autograd.grad(out.square().sum(), x)[0] for out in (y, theirs))
    assert float((ours_x - theirs_x).abs().max()) <= 1e-5
