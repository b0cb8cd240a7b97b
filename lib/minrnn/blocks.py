"""The residual stack around a mixer: [conv] → norm → mixer → [norm → MLP], each with a residual, then a final norm.

Every module that looks back in time takes and returns a state, so that a whole stack runs all steps at once or one
step at a time and gives the same answer: ``forward(x, state=None) -> (y, state)``, x and y of shape (B, T, d_model).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.minrnn.mixers import MinGRU, MinLSTM, State, TanhGate, causal_convolution, make_mixer
from lib.profiles import nearest


class RMSNorm(nn.Module):
    """x / ‖x‖ · √d · (γ + 1) over the last axis, γ starting at 0 (the form of the released code)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * (self.gamma + 1) * math.sqrt(x.shape[-1])


class CausalConv(nn.Module):
    """Causal depthwise convolution of ``kernel`` taps, then a 1x1 convolution. State: last taps (B, kernel − 1, d)."""

    def __init__(self, d_model: int, kernel: int = 4) -> None:
        super().__init__()
        if kernel < 1:
            raise ValueError(f"kernel={kernel!r} must be at least 1")
        self.depthwise = nn.Conv1d(d_model, d_model, kernel, groups=d_model)
        self.pointwise = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        x, state = causal_convolution(self.depthwise, x, state)
        return self.pointwise(x), state


class GEGLU(nn.Module):
    """GELU-gated MLP: W_o (GELU(W_g x) ⊙ W_v x), hidden width ``multiple`` · d_model."""

    def __init__(self, d_model: int, multiple: float = 2.0) -> None:
        super().__init__()
        hidden = int(multiple * d_model)
        self.project_in = nn.Linear(d_model, 2 * hidden)  # gate | value
        self.project_out = nn.Linear(hidden, d_model)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.project_in(x).chunk(2, dim=-1)
        return self.project_out(F.gelu(gate) * value)


class GELUMLP(nn.Module):
    """Plain MLP: W_o GELU(W_i x), hidden width ``multiple`` · d_model."""

    def __init__(self, d_model: int, multiple: float = 4.0) -> None:
        super().__init__()
        hidden = int(multiple * d_model)
        self.project_in = nn.Linear(d_model, hidden)
        self.project_out = nn.Linear(hidden, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.project_out(F.gelu(self.project_in(x)))


MLPS: dict[str, type[nn.Module]] = {"geglu": GEGLU, "gelu": GELUMLP}


class Block(nn.Module):
    """One layer: x + conv(x); x + mixer(norm(x)); x + dropout(mlp(norm(x))); conv and MLP are optional.

    Args:
        mixer: name in :data:`lib.minrnn.mixers.MIXERS`. d_model, expansion: its widths.
        conv: taps of the causal convolution, None for none. mlp: ``"geglu"``, ``"gelu"`` or None.
        mlp_multiple: hidden width of the MLP / d_model; None for the MLP's own (2 for geglu, 4 for gelu).
        dropout: probability, on the output of the MLP only. mixer_options: further arguments of the mixer.

    State: (state of the convolution, state of the mixer).

    Raises:
        ValueError: one line, for an unknown mixer, mixer option or MLP.
    """

    def __init__(
        self,
        mixer: str,
        d_model: int,
        expansion: float = 1.0,
        conv: int | None = None,
        mlp: str | None = None,
        mlp_multiple: float | None = None,
        dropout: float = 0.0,
        mixer_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if mlp is not None and mlp not in MLPS:
            raise ValueError(f"mlp={mlp!r} is not one of None, {', '.join(MLPS)}{nearest(mlp, MLPS)}")
        self.conv = None if conv is None else CausalConv(d_model, conv)
        self.mixer_norm = RMSNorm(d_model)
        self.mixer = make_mixer(mixer, d_model, expansion, **(mixer_options or {}))
        self.mlp_norm = None if mlp is None else RMSNorm(d_model)
        width = () if mlp_multiple is None else (mlp_multiple,)
        self.mlp = None if mlp is None else MLPS[mlp](d_model, *width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        conv_state, mixer_state = (None, None) if state is None else state
        if self.conv is not None:
            y, conv_state = self.conv(x, conv_state)
            x = x + y
        y, mixer_state = self.mixer(self.mixer_norm(x), mixer_state)
        x = x + y
        if self.mlp is not None and self.mlp_norm is not None:
            x = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return x, (conv_state, mixer_state)


class Backbone(nn.Module):
    """``n_layers`` blocks and a final norm; with ``max_positions``, learned positions are added to the input.

    Args:
        max_positions: longest sequence with learned positions (what a Transformer needs); None for no positions.
        n_layers, mixer, d_model, expansion, conv, mlp, mlp_multiple, dropout, mixer_options: as :class:`Block`.

    State: (steps seen so far, one state per block).

    Raises:
        ValueError: one line, if a sequence outgrows ``max_positions``; as :class:`Block` at construction.
    """

    def __init__(
        self,
        n_layers: int,
        mixer: str,
        d_model: int,
        expansion: float = 1.0,
        conv: int | None = None,
        mlp: str | None = None,
        mlp_multiple: float | None = None,
        dropout: float = 0.0,
        max_positions: int | None = None,
        mixer_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.positions = None if max_positions is None else nn.Embedding(max_positions, d_model)
        if self.positions is not None:
            nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(
            Block(mixer, d_model, expansion, conv, mlp, mlp_multiple, dropout, mixer_options)
            for _ in range(n_layers)
        )
        self.norm = RMSNorm(d_model)

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        seen, states = (0, [None] * len(self.blocks)) if state is None else state
        total = seen + x.shape[1]
        if self.positions is not None:
            if total > self.positions.num_embeddings:
                raise ValueError(
                    f"sequence of {total} steps exceeds max_positions={self.positions.num_embeddings}"
                )
            x = x + self.positions.weight[seen:total]
        new_states = []
        for block, block_state in zip(self.blocks, states, strict=True):
            x, block_state = block(x, block_state)
            new_states.append(block_state)
        return self.norm(x), (total, new_states)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two optimiser groups: no decay on the fused gate/candidate projections, ``weight_decay`` on the rest.

    The fused projections are those of minGRU, minLSTM and the tanh-gate variant (rule of the released code). Every
    trainable parameter is in exactly one group; a group may be empty.
    """
    free = {
        id(p)
        for layer in module.modules()
        if isinstance(layer, (MinGRU, MinLSTM, TanhGate))
        for p in layer.project_in.parameters()
    }
    trained = [p for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if id(p) not in free], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) in free], "weight_decay": 0.0},
    ]
