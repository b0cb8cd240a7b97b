"""What float32 loses: each engine against extended precision."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lib.experiment import Machine, Work
from lib.minrnn import precision
from lib.minrnn.experiments import precision as experiment
from lib.minrnn.precision import PrecisionSettings
from lib.profiles import ParameterError, put_together
from lib.records import Run

PROFILES = put_together({"precision": experiment}, {n: Machine(workers=1) for n in experiment.PROFILES})


def test_errors_up_to_length_4096() -> None:
    settings = PrecisionSettings(lengths=(64, 256, 1024, 4096), width=16)
    points = precision.precision_table(settings, ("heinsen", "chunked", "loop"), seed=0)
    error = {(p.engine, p.length): p.error for p in points}
    assert error["chunked", 4096] < 1e-6
    assert error["loop", 4096] < 1e-6
    assert 1e-4 < error["heinsen", 4096] < 1e-2
    assert 0.8 < precision.error_slope(points, "heinsen") < 1.2
    assert abs(precision.error_slope(points, "chunked")) < 0.3
    with pytest.raises(ValueError, match="at least two lengths"):
        precision.error_slope(points[:1], "heinsen")


def test_the_reference_is_the_recurrence() -> None:
    k, v = precision.random_gates(20, 3, seed=1)
    h = np.zeros((1, 3))
    for t in range(20):
        z = 1 / (1 + np.exp(-k[:, t].double().numpy()))
        x = v[:, t].double().numpy()
        h = (1 - z) * h + z * np.where(x >= 0, x + 0.5, 1 / (1 + np.exp(-x)))
    np.testing.assert_allclose(precision.exact_states(k, v)[:, -1].astype(float), h, rtol=1e-12)


def test_gates_of_one_length_are_no_part_of_those_of_another() -> None:
    short, long = (precision.random_gates(length, 16, seed=0) for length in (16, 64))
    for one, other in zip(short, long, strict=True):
        assert not torch.isin(one, other).any()
    assert torch.equal(precision.random_gates(16, 16, seed=0)[0], short[0])


@pytest.mark.parametrize("lengths", [[8, 32], [8]])
@pytest.mark.parametrize("profile", list(experiment.PROFILES))
def test_a_run_measures_and_draws(profile: str, lengths: list[int], tmp_path: Path) -> None:
    run = Run.start(
        "minrnn",
        PROFILES,
        profile=profile,
        accelerator="cpu",
        out_dir=tmp_path,
        overrides={"precision_lengths": lengths, "precision_width": 2},
    )
    results = Work(run).finish(experiment)
    settings = run.of(PrecisionSettings)
    assert set(run.measurements) == set(experiment.metrics(settings))
    assert len(run.measurements) == len(lengths) - 1  # one length has no slope
    (ax,) = experiment.figures(settings, results)["errors"].axes
    assert [len(line.get_xdata()) for line in ax.lines] == 4 * [len(lengths)]  # three engines and the guide
    plt.close("all")


def test_no_length_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"precision_lengths=.* must not be empty"):
        Run.start("minrnn", PROFILES, out_dir=tmp_path / "x", overrides={"precision_lengths": []})
