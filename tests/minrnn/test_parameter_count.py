"""Claim C1: counted weights against the formula and the printed percentages."""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from lib.experiment import Machine, Work
from lib.minrnn.experiments import parameter_count as experiment
from lib.minrnn.parameter_count import CountSettings, parameter_shares
from lib.profiles import put_together
from lib.records import Run

PROFILES = put_together({"parameters": experiment}, {n: Machine(workers=1) for n in experiment.PROFILES})


@pytest.mark.parametrize("width", [1, 16])
def test_shares_equal_the_formula_exactly_and_round_to_the_paper(width: int) -> None:
    shares = parameter_shares(CountSettings(width=width))
    assert len(shares) == 8
    for s in shares:
        d_h = s.alpha * width
        assert s.min_weights == {"minGRU": 2, "minLSTM": 3}[s.cell] * d_h * width
        assert s.full_weights == {"minGRU": 3, "minLSTM": 4}[s.cell] * d_h * (width + d_h)
        assert s.ratio == pytest.approx(s.formula, abs=1e-15)
        assert abs(100 * s.ratio - s.reported_percent) <= 0.5


def test_a_run_counts_shows_and_draws(tmp_path: Path) -> None:
    run = Run.start("minrnn", PROFILES, accelerator="cpu", out_dir=tmp_path)
    results = Work(run).finish(experiment)
    settings = run.of(CountSettings)
    assert set(run.measurements) == set(experiment.metrics(settings))
    assert run.measurements["parameter_share_error_points"].mean == 0.5  # 37.5 % is printed as 38
    assert run.measurements["parameter_ratio_error"].mean == 0
    table = experiment.tables(settings, results)["shares"]
    assert list(table.loc[table["cell"] == "minGRU", "share (%)"]) == ["33.33", "22.22", "16.67", "13.33"]
    (ax,) = experiment.figures(settings, results)["shares"].axes
    assert sorted(bar.get_height() for bar in ax.patches)[-1] == pytest.approx(37.5)
    plt.close("all")
