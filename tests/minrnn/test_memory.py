"""Claim C3: the bytes that a training step keeps."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from lib.experiment import Machine, Work
from lib.minrnn import efficiency
from lib.minrnn.experiments import memory as experiment
from lib.profiles import put_together
from lib.records import Run

CPU = torch.device("cpu")
PROFILES = put_together({"memory": experiment}, {n: Machine(workers=1) for n in experiment.PROFILES})


def test_saved_bytes_of_a_known_graph() -> None:
    class Square(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(4))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return (x * self.weight).exp(), None  # keeps x (weight is a parameter) and exp's result

    x = torch.randn(2, 3, 4, requires_grad=True)
    # x, exp(...), which the square of the loss keeps once more
    assert efficiency.saved_bytes(Square(), x) == 2 * x.numel() * 4


def test_the_fused_scan_keeps_at_most_half_of_what_the_log_space_scan_keeps() -> None:
    saved = efficiency.saved_bytes_per_token(
        ["minGRU", "minGRU, log-space scan", "minLSTM", "minLSTM, log-space scan"], (64, 256), 2, 32, CPU
    )
    for cell in ("minGRU", "minLSTM"):
        for length in (64, 256):
            assert saved[cell, length] <= 0.5 * saved[f"{cell}, log-space scan", length]


@pytest.mark.parametrize("profile", list(experiment.PROFILES))
def test_a_run_compares_at_the_longest_length_and_draws(profile: str, tmp_path: Path) -> None:
    small = {"memory_lengths": [32, 8], "memory_width": 8}
    run = Run.start("minrnn", PROFILES, profile=profile, accelerator="cpu", out_dir=tmp_path, overrides=small)
    results = Work(run).finish(experiment)
    settings = run.of(experiment.Settings)
    assert set(run.measurements) == set(experiment.metrics(settings))
    at = {s.model: s.bytes_per_token for s in results[0] if s.length == 32}
    expected = 100 * (at["minGRU, log-space scan"] / at["GRU, step loop"] - 1)
    assert run.measurements["memory_excess_mingru"].mean == expected
    assert run.measurements["memory_excess_mingru_linear"].mean < expected
    left, _ = experiment.figures(settings, results)["memory"].axes
    assert [bar.get_width() for bar in left.patches] == sorted(at.values())
    plt.close("all")
