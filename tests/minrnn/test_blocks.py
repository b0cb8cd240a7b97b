"""Norm, convolution, MLPs, and whole stacks: the same function in both modes, causal, with the right decay groups."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib.minrnn.blocks import GEGLU, GELUMLP, Backbone, Block, CausalConv, RMSNorm, parameter_groups
from lib.minrnn.mixers import MIXERS


def test_rms_norm() -> None:
    norm = RMSNorm(6).double()
    x = 5 * torch.randn(2, 3, 6, dtype=torch.float64)
    torch.testing.assert_close(norm(x).square().mean(-1), torch.ones(2, 3, dtype=torch.float64))
    with torch.no_grad():
        norm.gamma.copy_(torch.arange(6))
    torch.testing.assert_close(norm(x), x / x.norm(dim=-1, keepdim=True) * math.sqrt(6) * torch.arange(1, 7))
    assert bool(norm(torch.zeros(1, 1, 6, dtype=torch.float64)).isfinite().all())


@pytest.mark.parametrize("kernel", [1, 2, 4])
def test_causal_convolution_is_the_sum_over_the_last_taps(kernel: int) -> None:
    conv = CausalConv(3, kernel).double()
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    rows = []
    for t in range(9):
        taps = [
            conv.depthwise.weight[:, 0, kernel - 1 - lag] * x[:, t - lag] for lag in range(kernel) if lag <= t
        ]
        rows.append(conv.depthwise.bias + torch.stack(taps).sum(0))
    torch.testing.assert_close(conv(x)[0], conv.pointwise(torch.stack(rows, dim=1)))
    state, steps = None, []
    for t in range(9):
        y, state = conv(x[:, t : t + 1], state)
        steps.append(y)
    torch.testing.assert_close(torch.cat(steps, dim=1), conv(x)[0])


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def test_mlps_follow_their_equations() -> None:
    x = torch.randn(2, 3, 4)
    gated, plain = GEGLU(4), GELUMLP(4)
    w, b = gated.project_in.weight, gated.project_in.bias
    assert w.shape == (16, 4)  # gate and value of width 2 d each
    torch.testing.assert_close(gated(x), gated.project_out(gelu(x @ w[:8].T + b[:8]) * (x @ w[8:].T + b[8:])))
    assert plain.project_in.weight.shape == (16, 4)
    torch.testing.assert_close(plain(x), plain.project_out(gelu(plain.project_in(x))))


def test_block_is_its_residual_equations() -> None:
    torch.manual_seed(0)
    block = Block("min_gru", 6, 2.0, conv=4, mlp="geglu", dropout=0.5).eval()
    assert block.conv is not None
    assert block.mlp is not None
    assert block.mlp_norm is not None
    x = torch.randn(2, 7, 6)
    y = x + block.conv(x)[0]
    y = y + block.mixer(block.mixer_norm(y))[0]
    torch.testing.assert_close(block(x)[0], y + block.mlp(block.mlp_norm(y)))
    plain = Block("min_gru", 6)
    assert plain.conv is None
    assert plain.mlp is None
    torch.testing.assert_close(plain(x)[0], x + plain.mixer(plain.mixer_norm(x))[0])


def test_dropout_acts_in_the_mlp_only() -> None:
    x = torch.randn(2, 7, 6)
    without = Block("min_gru", 6, conv=4, dropout=0.9).train()
    assert torch.equal(without(x)[0], without(x)[0])
    with_mlp = Block("min_gru", 6, mlp="gelu", dropout=0.9).train()
    assert not torch.equal(with_mlp(x)[0], with_mlp(x)[0])


def backbone(mixer: str, **options: Any) -> Backbone:
    torch.manual_seed(0)
    return Backbone(2, mixer, 12, 1.0, conv=4, mlp="geglu", max_positions=32, **options)


@pytest.mark.parametrize("mixer", list(MIXERS))
def test_stack_runs_in_parallel_step_by_step_and_cut(mixer: str) -> None:
    stack = backbone(mixer)
    x = torch.randn(2, 15, 12)
    whole, _ = stack(x)
    for lengths in ([1] * 15, [1, 14], [6, 1, 8], [3, 3, 9]):
        state, parts = None, []
        for part in x.split(lengths, dim=1):
            y, state = stack(part, state)
            parts.append(y)
        assert bool(((torch.cat(parts, dim=1) - whole).abs() <= 1e-5).all())


@pytest.mark.parametrize("mixer", list(MIXERS))
def test_stack_is_causal(mixer: str) -> None:
    stack = backbone(mixer)
    x = torch.randn(1, 12, 12, requires_grad=True)
    y, _ = stack(x)
    for t in (0, 5, 10):
        (gradient,) = torch.autograd.grad(y[:, t].square().sum(), x, retain_graph=True)
        assert float(gradient[:, t + 1 :].abs().sum()) == 0
        assert float(gradient[:, t].abs().sum()) > 0


def test_a_transformer_without_positions_cannot_tell_order_and_with_them_it_can() -> None:
    x = torch.randn(1, 6, 12)
    swapped = x[:, [1, 0, 2, 3, 4, 5]]
    blind = Backbone(1, "attention", 12)
    torch.testing.assert_close(blind(x)[0][:, 2:], blind(swapped)[0][:, 2:])
    seeing = Backbone(1, "attention", 12, max_positions=6)
    assert seeing.positions is not None
    with torch.no_grad():
        seeing.positions.weight.normal_()
    assert bool(((seeing(x)[0] - seeing(swapped)[0])[:, 2:].abs() > 1e-3).any())


def test_sequences_longer_than_the_positions_are_refused_in_one_line() -> None:
    stack = backbone("attention")
    _, state = stack(torch.randn(1, 30, 12))
    with pytest.raises(ValueError, match="sequence of 33 steps exceeds max_positions=32") as error:
        stack(torch.randn(1, 3, 12), state)
    assert "\n" not in str(error.value)


def test_wrong_parts_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="did you mean 'geglu'"):
        Block("min_gru", 6, mlp="gegluu")
    with pytest.raises(ValueError, match="kernel=0 must be at least 1"):
        Block("min_gru", 6, conv=0)
    with pytest.raises(ValueError, match="mixer='rnn' is not one of"):
        Backbone(1, "rnn", 6)


@pytest.mark.parametrize("mixer", list(MIXERS))
def test_parameter_groups_partition_the_trained_parameters(mixer: str) -> None:
    model = nn.Sequential(nn.Embedding(7, 12), backbone(mixer))
    model[0].weight.requires_grad_(False)
    decayed, free = parameter_groups(model, 0.05)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    free_names = {names[id(p)] for p in free["params"]}
    decayed_names = {names[id(p)] for p in decayed["params"]}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert free_names | decayed_names == trained
    assert not free_names & decayed_names
    expected = {name for name in trained if ".mixer.project_in." in name}
    assert free_names == (expected if mixer in ("min_gru", "min_lstm", "tanh_gate") else set())
    torch.optim.AdamW(parameter_groups(model, 0.05), lr=1e-3)
