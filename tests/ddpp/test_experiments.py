"""The grid, budgets, metrics of the ledger on known results, figures on a small real run, and the arithmetic of noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.claims import ledger
from lib.ddpp import enumerated, exact_law, experiments, figures, gb1, gumbel_precision
from lib.ddpp.enumerated import METHODS, SteeredRun, moments_of_evaluation
from lib.ddpp.exact_law import Distance
from lib.ddpp.grid import SQUARES, GridTask
from lib.ddpp.profiles import PROFILES, Settings
from lib.profiles import ParameterError
from lib.records import Run


def start(tmp_path: Path, **overrides: Any) -> Run[Settings]:
    return Run.start(
        "ddpp",
        PROFILES,
        profile="smoke",
        accelerator="cpu",
        data="standin",
        out_dir=tmp_path,
        overrides=overrides,
    )


def made_up(problem: str, method: str, seed: int, tv: float, **fields: Any) -> SteeredRun:
    law = torch.tensor([0.5, 0.5]).double()
    last = Distance(tv, tv, tv, 0.9, -1.0, 0.5)
    run = SteeredRun(
        problem, method, seed, [0, 10], [0, 5], [last, last], law, None, None, -0.1, 0.002, None, {}
    )
    return replace(run, **fields)


# --- problems -----------------------------------------------------------------------------------------------------------


def data_law(task: GridTask) -> torch.Tensor:
    """The law of the data over clean states, (H²,)."""
    inside = task._inside()
    allowed = inside[:, None] & inside[None, :]
    if task.prior == "diagonal":
        block = torch.arange(task.side) // (task.side // SQUARES)
        allowed &= block[:, None] == block[None, :]
    law = allowed.double().flatten()
    return law / law.sum()


@pytest.mark.parametrize("prior", ["squares", "diagonal"])
def test_grid_samples_follow_the_stated_law(prior: str) -> None:
    task = GridTask(16, prior, "half plane", -10.0)
    law = data_law(task)
    drawn = task.sample(40_000, torch.Generator().manual_seed(0))
    share = torch.bincount(task.space.clean_flat(drawn), minlength=256) / 40_000
    assert (share[law == 0] == 0).all()
    assert exact_law.total_variation(share.double(), law) < 0.02
    independent = torch.outer(law.reshape(16, 16).sum(1), law.reshape(16, 16).sum(0)).flatten()
    assert (exact_law.total_variation(law, independent) < 1e-12) == (prior == "squares")


def test_grid_of_the_paper() -> None:
    task = GridTask(128, "squares", "half plane", -10.0)
    law = data_law(task)
    assert int((law > 0).sum()) == 16 * 16**2
    high = task.rewarded().reshape(128, 128)
    assert not high[:64].any()
    assert high[64:].all()
    target, _ = exact_law.posterior(law, task.log_reward())
    assert exact_law.total_variation(law, target) == pytest.approx(0.5, abs=1e-3)
    corner = GridTask(128, "squares", "corner", -4.0)
    target, _ = exact_law.posterior(law, corner.log_reward())
    assert float(target[corner.rewarded()].sum()) == pytest.approx(1 / (1 + 3 * np.exp(-4)), abs=1e-9)


@pytest.mark.parametrize(
    "wrong", [{"side": 20}, {"prior": "square"}, {"reward": "edge"}, {"floor": 0.0}, {"floor": -np.inf}]
)
def test_wrong_grids_are_one_line(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GridTask(**{"side": 16, "prior": "squares", "reward": "corner", "floor": -4.0, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"grid_side": 12},
        {"grid_network": "cnn"},
        {"grid_methods": ("IS", "LB")},
        {"gb1_methods": ("LBB",)},
        {"gb1_symbols": "AAB"},
        {"grid_pool": 10**6},
        {"grid_floor": 1.0},
        {"kl_samples": 0},
        {"string_calls": 0},
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        start(tmp_path, **wrong)


# --- budgets ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every method, two seeds, on the grid's three tasks (side 8) and on GB1 with three letters."""
    run = start(
        tmp_path_factory.mktemp("run"),
        grid_side=8,
        grid_pretrain_steps=20,
        gb1_pretrain_steps=20,
        gb1_symbols="ADG",
        grid_calls=40,
        grid_control_calls=40,
        gb1_calls=40,
        grid_pool=640,
        gb1_pool=320,
        grid_refill_every=10,
        string_couplings=[1.0],
    )
    s = run.settings
    tasks = experiments.grid_tasks(s)
    landscape = gb1.load_landscape(run, s.gb1_symbols)
    prior = {task.prior: experiments.pretrain_grid(run, task) for task in tasks.values()}
    networks = {name: prior[task.prior] for name, task in tasks.items()}
    protein_network = experiments.pretrain_gb1(run, landscape)
    jobs = [job for name, task in tasks.items() for job in experiments.grid_jobs(run, task, networks[name])]
    jobs += experiments.gb1_jobs(run, landscape, protein_network)
    jobs += experiments.string_jobs(run)
    runs = [experiments.train(*job) for job in jobs]
    grid = {n: experiments.Prior.of(experiments.grid_problem(t), networks[n]) for n, t in tasks.items()}
    protein = experiments.Prior.of(experiments.gb1_problem(landscape, s), protein_network)
    return {
        "run": run,
        "runs": runs,
        "grid": grid,
        "protein": protein,
        "landscape": landscape,
        "networks": networks,
    }


def test_every_method_spends_the_same_number_of_model_calls(small: dict[str, Any]) -> None:
    for problem in (experiments.HALF_PLANE, experiments.CORNER, experiments.DIAGONAL, experiments.GB1):
        spent = {r.method: r.calls[-1] for r in small["runs"] if r.problem == problem}
        assert set(spent) >= {"IS", "LB", "KL", "RTB", "weighted CE"}
        assert max(spent.values()) / min(spent.values()) < 1.25  # whole refills; 40 calls only
        assert max(spent.values()) == pytest.approx(40, rel=0.2)


@pytest.mark.parametrize("n", [2, 4])
def test_budgets_of_the_default_profile_are_equal(n: int) -> None:
    """Steps times the stated calls per step, for every objective, within two per cent of the budget."""
    s = PROFILES["default"]
    budget = experiments.grid_budget(s, s.grid_calls) if n == 2 else experiments.gb1_budget(s)
    refill = budget.refill_size * n / (budget.refill_every * budget.batch)
    for objective in ("is", "lb", "kl"):
        assert budget.steps(objective, n) * (1 + refill) == pytest.approx(budget.calls, rel=0.02)
    assert budget.steps("rtb", n) * n == pytest.approx(budget.calls, rel=0.02)
    pool = budget.pool * n / budget.batch
    assert budget.steps("weighted_ce", n) + pool == pytest.approx(budget.calls, rel=0.02)
    with pytest.raises(ValueError, match="costs"):
        replace(budget, pool=10**7).steps("weighted_ce", n)


def test_evaluations_double_towards_the_end() -> None:
    assert moments_of_evaluation(1000, 4) == [125, 250, 500, 1000]
    assert moments_of_evaluation(2, 5) == [1, 2]


def test_results_of_a_run_are_consistent(small: dict[str, Any]) -> None:
    for r in small["runs"]:
        assert float(r.law.sum()) == pytest.approx(1)
        assert r.bound_excess < 1e-12
        assert len(r.calls) == len(r.reward_calls) == len(r.distances)
        assert (r.log_z is not None) == (METHODS[r.method].objective in ("lb", "subtrajectory"))
        assert (r.log_z_scalar is not None) == (r.method == "RTB")
        assert 0 <= r.last.tv <= 1
    first = next(r for r in small["runs"] if r.problem == experiments.CORNER)
    assert first.distances[0] == small["grid"][experiments.CORNER].base


def test_same_seed_same_numbers(small: dict[str, Any]) -> None:
    run, runs = small["run"], small["runs"]
    task = experiments.grid_tasks(run.settings)[experiments.CORNER]
    job = next(j for j in experiments.grid_jobs(run, task, small["networks"][task.name]) if j[3] == "LB")
    again = experiments.train(*job)
    before = next(r for r in experiments.of(runs, "LB", experiments.CORNER) if r.seed == job[4])
    assert torch.equal(again.law, before.law)


# --- metrics ------------------------------------------------------------------------------------------------------------


def test_grid_metrics_take_the_worst_objective_and_pair_by_seed(tmp_path: Path) -> None:
    table = {"IS": (0.03, 0.01), "LB": (0.02, 0.02), "KL": (0.01, 0.04), "RTB": (0.01, 0.015)}
    runs = [made_up(experiments.HALF_PLANE, m, s, tv) for m, row in table.items() for s, tv in enumerate(row)]
    runs += [made_up(experiments.HALF_PLANE, "KL, path gradient", s, 0.5) for s in range(2)]
    run = start(tmp_path)
    experiments.measure_grid(run, runs)
    assert run.measurements["grid_tv_worst_objective"].values == (0.03, 0.04)
    gap = run.measurements["grid_tv_rtb_minus_best_ddpp_equal_calls"]  # IS and LB tie at 0.02: the first
    assert gap.values == pytest.approx((-0.02, 0.005))


def test_identity_and_bound_take_the_worst(tmp_path: Path, small: dict[str, Any]) -> None:
    run = start(tmp_path)
    runs = [
        made_up(experiments.ONE_MASK, m, s, 0.0, single_mask_tv=v)
        for m, row in {"IS": (0.1, 0.3), "LB": (0.2, 0.1), "KL": (0.0, 0.0)}.items()
        for s, v in enumerate(row)
    ]
    experiments.measure_identity(run, runs)
    assert run.measurements["single_mask_tv"].values == (0.2, 0.3)
    prior = small["protein"]
    exact = prior.log_normalisers()
    runs = [
        made_up(experiments.GB1, "LB", s, 0.1, log_z=exact + shift, law=prior.law, bound_excess=-shift)
        for s, shift in enumerate((0.25, 0.5))
    ]
    found = experiments.measure_bound(run, runs, {experiments.GB1: prior})
    assert list(found) == [experiments.GB1]
    assert run.measurements["learned_log_z_excess"].values == pytest.approx((0.25, 0.5))
    assert run.measurements["onpolicy_bound_excess"].mean == -0.25


def test_gb1_gains_are_zero_for_the_base_law_and_full_for_the_selected_one(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    landscape, prior = small["landscape"], small["protein"]
    laws = (prior.law, landscape.selected_law)
    runs = [
        made_up(experiments.GB1, "LB", s, 0.1, law=law, distances=[prior.compare(law)])
        for s, law in enumerate(laws)
    ]
    run = start(tmp_path)
    experiments.measure_gb1(run, runs, landscape, prior)
    gain = run.measurements["gb1_tv_to_selection_gain_over_base"].values
    assert gain[0] == 0
    assert gain[1] == pytest.approx(exact_law.total_variation(prior.law, landscape.selected_law))
    raised = run.measurements["protein_log_reward_gain_over_base"].values
    assert raised[0] == 0
    assert raised[1] > 0


def test_calls_of_table_1_are_counted(small: dict[str, Any]) -> None:
    half = experiments.HALF_PLANE
    rows = experiments.counted_calls(
        small["run"], small["grid"][half], small["networks"][half], small["runs"]
    )
    counted = {row["method"]: row["training, counted"] for row in rows}
    assert counted == {"SVDD": "–", "RTB": 2.0, "KL": 1.0, "IS": 1.0, "LB": 1.0}
    assert rows[0]["inference, counted"] == 10.0
    assert [row["method"] for row in rows if row["mismatches"]] == ["IS"]


def test_all_metrics_of_the_enumerated_rows_have_a_producer() -> None:
    source = Path(experiments.__file__).read_text() + Path("notebooks/ddpp.py").read_text()
    for claim in ledger("ddpp").claims:
        if claim.id in ("C1", "C2", "C3", "C6", "C8"):
            for metric in claim.metrics:
                assert f'"{metric}"' in source, metric


def test_figures_and_tables_can_be_drawn(small: dict[str, Any]) -> None:
    run, runs, grid, protein = (small[k] for k in ("run", "runs", "grid", "protein"))
    landscape = small["landscape"]
    found = []
    for own in grid.values():
        found += experiments.predictions(own, runs, experiments.GRID_BUFFERS, iterations=3)
    for own in experiments.string_priors(run).values():
        found += experiments.predictions(own, runs, experiments.STRING_BUFFERS, iterations=3)
    found += experiments.predictions(protein, runs, experiments.GB1_BUFFERS, iterations=3)
    rows = experiments.log_z_errors(run, protein, runs, (4, 16), 20)
    assert {row["masks"] for row in rows} == {1, 2, 3, 4}
    drawn = [
        figures.maps_figure(grid, runs, ("IS", "RTB"), run.seed),
        figures.budget_figure(runs, (experiments.HALF_PLANE, experiments.GB1)),
        figures.bias_figure(found, experiments.coupling_curve(run.settings, (0.0, 1.0))),
        figures.log_z_figure(rows),
        figures.frequency_figure(landscape, protein, runs, ("LB",), run.seed),
        figures.logo_figure(landscape, {"base": protein.law, "measured": landscape.selected_law}),
        figures.steps_figure({n: experiments.step_bias(p, p.table, (1, 4)) for n, p in grid.items()}),
        figures.selection_figure({n: experiments.selection_curves(p, (1, 4)) for n, p in grid.items()}),
        figures.gumbel_figure(gumbel_precision.entropy_losses({"a": np.full(4, 0.25)}, (16, 64))),
    ]
    for fig in drawn:
        for ax in fig.axes:
            assert ax.get_xlabel() or ax.get_ylabel() or not ax.axison or ax.get_label() == "<colorbar>"
    assert (
        len(experiments.distance_rows(protein, runs, 5))
        == 2 + len(experiments.present(runs, experiments.GB1)) + 3
    )
    assert len(experiments.gb1_rows(landscape, protein, runs, run.settings)) == 2 + 7 + 3
    assert len(experiments.bias_rows(found)) == len(found)


def test_dit_denoisers_take_the_place_of_perceptrons(tmp_path: Path) -> None:
    run = start(
        tmp_path,
        grid_side=8,
        grid_network="dit",
        grid_width=16,
        grid_depth=1,
        grid_heads=2,
        grid_pretrain_steps=2,
    )
    task = experiments.grid_tasks(run.settings)[experiments.HALF_PLANE]
    network = experiments.pretrain_grid(run, task)
    budget = replace(experiments.grid_budget(run.settings, 10), refill_size=32, evaluations=1)
    tuned = enumerated.train_problem(experiments.grid_problem(task), network, "LB", 0, budget, run.device)
    assert isinstance(enumerated.log_z_head(network, 0), torch.nn.Module)
    assert tuned.log_z is not None
    with pytest.raises(ParameterError, match="network='cnn'"):
        enumerated.make_denoiser("cnn", 2, 8, 8, 8, 1, 1, 0)


# --- single-precision noise ---------------------------------------------------------------------------------------------


def test_exact_noise_loses_nothing_and_coarse_noise_agrees_with_simulation() -> None:
    p, steps, bits = np.array([0.7, 0.25, 0.045, 0.005]), 20, 12
    assert gumbel_precision.single_precision_law(p, steps, bits=50) == pytest.approx(p, abs=1e-6)
    rng, wins = np.random.default_rng(0), np.zeros(5)
    rates = np.append(p / steps, 1 - 1 / steps)
    for _ in range(6):
        u = np.floor(rng.random((1_000_000, 5)) * 2**bits) / 2**bits
        wins += np.bincount(((1e-10 - np.log(u + 1e-10)) / rates).argmin(1), minlength=5)
    law = gumbel_precision.single_precision_law(p, steps, bits)
    share = wins[:4] / wins[:4].sum()
    sigma = np.sqrt(share * (1 - share) / wins[:4].sum())
    assert (np.abs(law - share) < 4 * sigma + 0.02 * share).all()
    assert share[3] < 0.9 * p[3]  # the rare symbol loses


def test_entropy_loss_grows_with_steps_and_vocabulary() -> None:
    words = gumbel_precision.zipf(2000)
    few, many = (
        gumbel_precision.entropy_losses({"w": law}, (64, 1024)) for law in (gumbel_precision.zipf(20), words)
    )
    assert float(many[1]["loss"]) > float(many[0]["loss"]) > 0
    assert float(many[1]["loss"]) > 0.05 > abs(float(few[1]["loss"]))
    with pytest.raises(ValueError, match="sums to one"):
        gumbel_precision.single_precision_law(np.array([0.5, 0.6]), 8)
