"""Claim C1: how many weights the cells have, counted on real modules and compared with the formulas of section 3."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lib.minrnn.mixers import make_mixer
from lib.profiles import setting, settings_class

# Percentages that section 3 of the paper prints, by cell and α.
REPORTED = {
    "minGRU": {1: 33, 2: 22, 3: 17, 4: 13},
    "minLSTM": {1: 38, 2: 25, 3: 19, 4: 15},
}


@settings_class
class CountSettings:
    """The size of the counted cells; the shares do not depend on it."""

    width: int = setting(64, "channels", "d_x, width of the counted cells' input", least=1)


@dataclass(frozen=True)
class Share:
    """Counted weights of one minimal cell and of its full cell, at one expansion.

    Attributes:
        cell: "minGRU" or "minLSTM". alpha: α = d_h/d_x. min_weights, full_weights: counted numbers.
        formula: 2/(3(1+α)) or 3/(4(1+α)). reported_percent: what the paper prints.
    """

    cell: str
    alpha: int
    min_weights: int
    full_weights: int
    formula: float
    reported_percent: int

    @property
    def ratio(self) -> float:
        """Weights of the minimal cell over those of the full one."""
        return self.min_weights / self.full_weights


def count(module: nn.Module) -> int:
    """Number of trainable numbers in a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def parameter_shares(settings: CountSettings) -> list[Share]:
    """Count minGRU against ``nn.GRU`` and minLSTM against ``nn.LSTM``, without biases, for α = 1..4.

    Only the cells' own weights are counted: the gate and candidate maps (2·d_h·d_x and 3·d_h·d_x), without the projection that
    a block puts behind the cell.
    """
    d_x = settings.width
    shares = []
    for alpha in REPORTED["minGRU"]:
        d_h = alpha * d_x
        for cell, mixer, full, formula in (
            ("minGRU", "min_gru", nn.GRU(d_x, d_h, bias=False), 2 / (3 * (1 + alpha))),
            ("minLSTM", "min_lstm", nn.LSTM(d_x, d_h, bias=False), 3 / (4 * (1 + alpha))),
        ):
            minimal = make_mixer(mixer, d_x, float(alpha), bias=False, learned_h0=False)
            projection = minimal.get_submodule("project_in")
            reported = REPORTED[cell][alpha]
            shares.append(Share(cell, alpha, count(projection), count(full), formula, reported))
    return shares
