"""Claim C3: the bytes that a training step keeps."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from lib.experiment import Machine, Work
from lib.minrnn import efficiency
from lib.minrnn.efficiency import MemorySettings, SavedBytes
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


def saved(models: list[str], length: int, batch: int, width: int) -> dict[str, SavedBytes]:
    settings = MemorySettings(lengths=(length,), batch=batch, width=width)
    return {s.model: s for s in efficiency.saved_bytes_per_token(models, settings, CPU, seed=0)}


def test_the_fused_scan_keeps_at_most_half_of_what_the_log_space_scan_keeps() -> None:
    for length in (64, 256):
        found = saved(list(efficiency.MEMORY_MODELS), length, 2, 32)
        for cell in ("minGRU", "minLSTM"):
            assert found[cell].with_masks <= 0.5 * found[f"{cell}, log-space scan"].with_masks


def test_masks_are_counted_apart() -> None:
    """log g(x) keeps a boolean an element, a quarter of a float32 number; the linear-space scan keeps none but that of g(θ), (d,)."""
    batch, d = 2, 32
    found = saved(["minGRU", "minGRU, log-space scan"], 64, batch, d)
    masks = {model: s.with_masks - s.without_masks for model, s in found.items()}
    assert masks["minGRU"] == pytest.approx(d / (64 * batch))
    assert masks["minGRU, log-space scan"] == pytest.approx(d + d / (64 * batch))


def test_the_workspace_of_a_fused_kernel_is_counted() -> None:
    """oneDNN's LSTM keeps its four gates and two states in a workspace of bytes, not of booleans."""
    d = 32
    found = saved(["LSTM, fused", "GRU, fused"], 64, 2, d)
    outside = 4 * 4 * d  # x, h as the kernel returns it, and as the projection and the loss take it
    assert (
        found["LSTM, fused"].without_masks >= outside + 6 * 4 * d or not torch.backends.mkldnn.is_available()
    )
    assert found["GRU, fused"].without_masks >= outside


def test_s6_that_recomputes_keeps_its_inputs_and_one_state_in_many_steps() -> None:
    d = 16
    found = saved(["S6", "S6, states recomputed"], 4 * efficiency.RECOMPUTED_STEPS, 1, d)
    state = 4 * 2 * d * 16  # bytes of h
    inputs = 4 * (d + 4 * d + 2 * d + d)  # x; u and gate; the gated output; the output in the loss
    again = found["S6, states recomputed"].with_masks
    assert inputs <= again <= inputs + 2 * state / efficiency.RECOMPUTED_STEPS
    assert found["S6"].with_masks > 2 * state  # decays and states of every step


@pytest.mark.parametrize("profile", list(experiment.PROFILES))
def test_a_run_compares_at_the_longest_length_and_draws(profile: str, tmp_path: Path) -> None:
    small = {"memory_lengths": [32, 8], "memory_width": 8}
    run = Run.start("minrnn", PROFILES, profile=profile, accelerator="cpu", out_dir=tmp_path, overrides=small)
    results = Work(run).finish(experiment)
    settings = run.of(MemorySettings)
    assert set(run.measurements) == set(experiment.metrics(settings))
    at = {s.model: s for s in results[0] if s.length == 32}
    ours, loop = at["minGRU, log-space scan"], at["GRU, step loop"]
    excess = {name: m.mean for name, m in run.measurements.items()}
    assert excess["memory_excess_mingru"] == 100 * (ours.with_masks / loop.with_masks - 1)
    assert excess["memory_excess_mingru_without_masks"] == 100 * (ours.without_masks / loop.without_masks - 1)
    assert excess["memory_excess_mingru_without_masks"] < excess["memory_excess_mingru"]
    assert excess["memory_excess_recomputed_s6_over_mingru"] < excess["memory_excess_s6_over_mingru"]
    table = experiment.tables(settings, results)["bytes"]
    assert list(table["bytes per token"]) == sorted(table["bytes per token"])
    left, _ = experiment.figures(settings, results)["memory"].axes
    ordered = sorted(at.values(), key=lambda m: m.peak)
    fields = ("peak", "saved")
    assert [bar.get_width() for bar in left.patches] == [getattr(m, f) for f in fields for m in ordered]
    plt.close("all")


def table_of(at: dict[str, SavedBytes], which: str) -> list[float]:
    return [getattr(s, which) for s in sorted(at.values(), key=lambda s: s.with_masks)]
