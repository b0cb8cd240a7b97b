"""Claim C3: the bytes that a training step keeps, and its peak."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from lib.experiment import Machine, Work
from lib.minrnn.efficiency import MODELS, RECOMPUTED_STEPS
from lib.minrnn.experiments import memory as experiment
from lib.minrnn.step_memory import MemorySettings, StepMemory, saved_bytes, step_memory
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
    assert saved_bytes(Square(), x) == 2 * x.numel() * 4


def memory(models: list[str], length: int, batch: int, width: int) -> dict[str, StepMemory]:
    settings = MemorySettings(lengths=(length,), batch=batch, width=width)
    return {m.model: m for m in step_memory(models, settings, CPU, seed=0)}


@pytest.mark.parametrize("length", [64, 256])
def test_a_step_takes_more_than_it_keeps_and_the_same_in_every_run(length: int) -> None:
    found = memory(list(MODELS), length, 2, 32)
    assert found == memory(list(MODELS), length, 2, 32)
    assert all(m.peak > m.saved >= m.saved_without_masks for m in found.values())
    for cell in ("minGRU", "minLSTM"):
        assert found[cell].saved <= 0.5 * found[f"{cell}, log-space scan"].saved
    # all states of S6 at once are many times one stretch of them
    assert found["S6, states recomputed"].peak < found["S6"].peak


def test_a_length_is_counted_without_what_the_one_before_left() -> None:
    alone = memory(["GRU, fused"], 8, 1, 16)["GRU, fused"]
    settings = MemorySettings(lengths=(64, 8), batch=1, width=16)
    assert step_memory(["GRU, fused"], settings, CPU, seed=0)[1] == alone


def test_masks_are_counted_apart() -> None:
    """log g(x) keeps a boolean an element, a quarter of a float32 number; the linear-space scan keeps none but that of g(θ), (d,)."""
    batch, d = 2, 32
    found = memory(["minGRU", "minGRU, log-space scan"], 64, batch, d)
    masks = {model: m.saved - m.saved_without_masks for model, m in found.items()}
    assert masks["minGRU"] == pytest.approx(d / (64 * batch))
    assert masks["minGRU, log-space scan"] == pytest.approx(d + d / (64 * batch))


def test_the_workspace_of_a_fused_kernel_is_counted() -> None:
    """oneDNN's LSTM keeps its four gates and two states in a workspace of bytes, not of booleans."""
    d = 32
    found = memory(["LSTM, fused", "GRU, fused"], 64, 2, d)
    outside = 4 * 4 * d  # x, h as the kernel returns it, and as the projection and the loss take it
    workspace = 6 * 4 * d if torch.backends.mkldnn.is_available() else 0
    assert found["LSTM, fused"].saved_without_masks >= outside + workspace
    assert found["GRU, fused"].saved_without_masks >= outside


def test_s6_that_recomputes_keeps_its_inputs_and_one_state_in_many_steps() -> None:
    d = 16
    found = memory(["S6", "S6, states recomputed"], 4 * RECOMPUTED_STEPS, 1, d)
    state = 4 * 2 * d * 16  # bytes of h
    inputs = 4 * (d + 4 * d + 2 * d + d)  # x; u and gate; the gated output; the output in the loss
    assert inputs <= found["S6, states recomputed"].saved <= inputs + 2 * state / RECOMPUTED_STEPS
    assert found["S6"].saved > 2 * state  # decays and states of every step


@pytest.mark.parametrize("profile", list(experiment.PROFILES))
def test_a_run_compares_at_the_longest_length_and_draws(profile: str, tmp_path: Path) -> None:
    small = {"memory_lengths": [32, 8], "memory_width": 8}
    run = Run.start("minrnn", PROFILES, profile=profile, accelerator="cpu", out_dir=tmp_path, overrides=small)
    results = Work(run).finish(experiment)
    settings = run.of(MemorySettings)
    assert set(run.measurements) == set(experiment.metrics(settings))
    at = {m.model: m for m in results[0] if m.length == 32}
    ours, loop, fused = at["minGRU, log-space scan"], at["GRU, step loop"], at["GRU, fused"]
    excess = {name: m.mean for name, m in run.measurements.items()}
    assert excess["peak_memory_excess_mingru"] == 100 * (ours.peak / loop.peak - 1)
    assert excess["peak_memory_excess_mingru_over_fused"] == 100 * (ours.peak / fused.peak - 1)
    assert excess["memory_excess_mingru"] == 100 * (ours.saved / loop.saved - 1)
    assert excess["memory_excess_mingru_without_masks"] < excess["memory_excess_mingru"]
    table = experiment.tables(settings, results)["bytes"]
    assert list(table["peak"]) == sorted(round(m.peak) for m in at.values())
    left, _ = experiment.figures(settings, results)["memory"].axes
    ordered = sorted(at.values(), key=lambda m: m.peak)
    fields = ("peak", "saved")
    assert [bar.get_width() for bar in left.patches] == [getattr(m, f) for f in fields for m in ordered]
    plt.close("all")
