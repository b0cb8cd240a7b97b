"""Inputs and stand-in, jobs, a whole small lifetime, and the metrics that the ledger reads."""

import gzip
import math
import re
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib.figure import Figure

from lib.claims import ledger
from lib.compositionality import experiments as ex
from lib.compositionality import figures
from lib.compositionality.geometry import geometry_rows, group_rows, neighbor_row, size_rows
from lib.compositionality.grammar import Lexicon
from lib.compositionality.intrinsic_dimension import intrinsic_dimension
from lib.compositionality.language_model import GPTConfig, make_gpt
from lib.compositionality.lifetime import Plan, lifetime_job
from lib.compositionality.profiles import PROFILES, Settings
from lib.compositionality.question_answering import Language
from lib.datasets import DataError
from lib.profiles import ParameterError
from lib.records import STANDIN_NOTICE, Run


def start(folder: Path, profile: str = "default", **keywords: object) -> Run[Settings]:
    return Run.start(
        "compositionality", PROFILES, profile=profile, accelerator="cpu", out_dir=folder, **keywords
    )  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Run[Settings]:
    return start(tmp_path)


def made_up(
    values: dict[tuple[str, int, int], float],
    seeds: int = 3,
    d: dict[tuple[str, int, int], float] | None = None,
) -> pd.DataFrame:
    """A table with I_d = values[mode, k, step] + seed / 10 in the last of two layers."""
    rows = []
    for (mode, k, step), value in values.items():
        for seed in range(seeds):
            for layer in (1, 2):
                linear = (d or {}).get((mode, k, step), 10.0)
                rows.append(
                    {"model": "main", "width": 8, "seed": seed, "words": 17, "step": step, "mode": mode, "k": k, "layer": layer,
                     "n": 100, "id": value + seed / 10 if layer == 2 else 99.0, "d": linear, "d_official": linear - 1, "pr": 5.0}
                )  # fmt: skip
    return pd.DataFrame(rows)


COHERENT = {1: 20.0, 2: 17.0, 3: 15.0, 4: 11.0}
VALUES = {("coherent", k, s): v for k, v in COHERENT.items() for s in (0, 10, 100)}
VALUES |= {("glued", k, 100): 13.0 - 0.25 * k for k in COHERENT}
VALUES |= {("glued", k, 10): 13.0 - 0.25 * k for k in COHERENT}
VALUES |= {("glued", k, 0): 13.0 - k for k in COHERENT}
VALUES |= {(m, k, s): 21.0 - 0.5 * k for m in ("dot", "inner") for k in COHERENT for s in (0, 10, 100)}


def test_composition_metrics(run: Run[Settings]) -> None:
    d = {("glued", k, 100): 14.0 - 0.5 * k for k in COHERENT}
    ex.measure_composition(run, made_up(VALUES, d=d))
    m = run.measurements
    np.testing.assert_allclose(m["id_smallest_step_in_k"].values, 2)  # 17 → 15
    np.testing.assert_allclose(m["separation_ratio_shuffled_to_coherent"].values, 0.75 / 9)
    np.testing.assert_allclose(m["separation_ratio_shuffled_to_coherent_dot"].values, 1.5 / 9)
    np.testing.assert_allclose(m["id_coherent_minus_shuffled"].values, 20 - 12.75)
    np.testing.assert_allclose(m["d_shuffled_minus_coherent"].values, 2.75)
    np.testing.assert_allclose(m["d_shuffled_first_minus_last_k"].values, 1.5)
    np.testing.assert_allclose(m["id_fixed_stop_minus_glued"].values, 20.5 - 12.75)
    np.testing.assert_allclose(m["id_coherent_minus_glued_untrained"].values, 20 - 12)
    np.testing.assert_allclose(m["id_fixed_stop_minus_coherent_first_k"].values, 0.5)
    np.testing.assert_allclose(m["id_fixed_stop_minus_coherent_last_k"].values, 19 - 11)
    verdicts = run.verdicts()
    assert [verdicts[c] for c in ("C1", "C2", "C2a", "C6")] == ["same direction"] * 4
    assert verdicts["C3"] == "not run"


def test_summaries_follow_the_measurements(tmp_path: Path) -> None:
    near = pd.DataFrame(
        [{"mode": "glued", "step": 100, "seed": s, "share": 0.6, "chance": 0.02} for s in range(3)]
    )
    bag = made_up({("any", k, 0): 30.0 - k for k in COHERENT})
    higher = VALUES | {("glued", k, 100): 19.0 - k / 4 for k in COHERENT}
    for name, values, expected in (("low", VALUES, "the whole fall"), ("high", higher, "36 % of the fall")):
        run = start(tmp_path / name)
        changed = values if name == "low" else values | {("dot", k, 100): 19.2 for k in COHERENT}
        ex.measure_composition(run, made_up(changed))
        ex.measure_last_token(run, pd.DataFrame(), near)
        ex.measure_bag(run, ex.pick(bag))
        assert expected in ex.last_token_summary(run)
        assert "no sign of learning" in ex.control_summary(run)
        assert "which say what token is last" not in ex.linear_summary(run)  # the ratios are equal here


def test_broken_order_contradicts(run: Run[Settings]) -> None:
    broken = dict(VALUES)
    broken["coherent", 2, 100] = 14.0
    ex.measure_composition(run, made_up(broken))
    np.testing.assert_allclose(run.measurements["id_smallest_step_in_k"].values, -1)
    assert run.verdicts()["C1"] == "contradicted"


def test_training_metrics(run: Run[Settings]) -> None:
    frame = made_up(VALUES)
    history = pd.DataFrame(
        [
            {"seed": s, "step": step, "skill": v, "loss": 1.0}
            for s in range(3)
            for step, v in ((0, 0.0), (10, 0.0), (100, 1.0))
        ]
    )
    ex.measure_composition(run, frame)
    ex.measure_training(run, frame, history)
    m = run.measurements
    np.testing.assert_allclose(m["shuffled_separation_drop"].values, 3 - 0.75)
    fall = 0.5 * math.log10(11)  # half-way between steps 0 and 10
    rise = math.log10(11) + 0.5 * (math.log10(101) - math.log10(11))
    np.testing.assert_allclose(m["collapse_to_skill_distance"].values, rise - fall)
    np.testing.assert_allclose(m["coherent_id_dip_k1"].values, 0)
    assert run.verdicts()["C3"] == "contradicted"  # the two are 1.0 decades apart


def test_training_and_width_summaries_follow_the_measurements(run: Run[Settings]) -> None:
    spread = {
        "shuffled_separation_drop": [1.0, 1.2],
        "shuffled_separation_drop_dot": [2.0, 2.2],
        "coherent_separation_at_end": [8.0, 8.4],
    }
    for name, values in spread.items():
        run.measure(name, values)
    assert "is not judged" in ex.training_summary(run)
    run.measure("collapse_to_skill_distance", [1.0, 1.02])
    run.measure("collapse_to_skill_distance_dot", [0.1, 0.2])
    text = ex.training_summary(run)
    assert "1.01 [" in text
    assert "does not fall when the skill rises" in text
    for name, value in (("id_width_exponent", 0.4), ("d_width_exponent", 0.9), ("d_width_correlation", 0.99)):
        run.measure(name, [value, value + 0.01])
    text = ex.width_summary(run, pd.DataFrame({"width": [32, 64, 96]}))
    assert "D = 32 to 96 (3 widths, 2 seeds)" in text
    assert "A factor of 3" in text


def test_a_model_that_never_learns_judges_nothing(run: Run[Settings]) -> None:
    frame = made_up(VALUES)
    history = pd.DataFrame(
        [{"seed": s, "step": t, "skill": 0.02, "loss": 1.0} for s in range(3) for t in (0, 10, 100)]
    )
    ex.measure_training(run, frame, history)
    assert "collapse_to_skill_distance" not in run.measurements
    assert run.verdicts()["C3"] == "not run"


def test_crossings() -> None:
    assert ex.crossing([0, 9, 99], [4, 2, 0], 1) == pytest.approx(1.5)
    assert ex.crossing([0, 9, 99], [4, 2, 0], 5) is None
    assert ex.crossing([0, 9], [0, 1], 0.5) == pytest.approx(0.5)


def test_width_metrics(run: Run[Settings]) -> None:
    frames = []
    for width in (10, 20, 40):
        frame = made_up({("coherent", 1, 5): 7.0}, d={("coherent", 1, 5): 0.5 * width})
        frames.append(frame.assign(width=width, id=7.0))
    ex.measure_widths(run, pd.concat(frames))
    assert run.measurements["id_width_exponent"].mean == pytest.approx(0, abs=1e-12)
    assert run.measurements["d_width_exponent"].mean == pytest.approx(1)
    assert run.measurements["d_width_correlation"].mean == pytest.approx(1)


def test_width_metrics_leave_out_seeds_without_every_width(run: Run[Settings]) -> None:
    rows = [
        {"seed": seed, "width": width, "step": 9, "mode": "coherent", "k": 1, "layer": 1, "n": 10, "id": 8.0, "d": 0.5 * width,
         "d_official": 0.5 * width - 1, "pr": 4.0, "model": "m", "words": 17}
        for seed in (0, 1) for width in (16, 32, 64) if (seed, width) != (1, 32)
    ]  # fmt: skip
    ex.measure_widths(run, pd.DataFrame(rows))
    assert run.measurements["d_width_exponent"].values == pytest.approx((1.0,))
    assert run.measurements["id_width_exponent"].values == pytest.approx((0.0,), abs=1e-12)


def test_published_table_stands_beside_this_run(run: Run[Settings]) -> None:
    correlations = pd.DataFrame(
        {"seed": [0, 1], "n": [8, 8], "rho_id": [0.1, 0.3], "rho_d": [0.5, 0.7], "rho_pr": [0.0, 0.0]}
    )
    ex.measure_surface(run, correlations)
    table = ex.correlation_table(run, correlations, "ours", 96).set_index("model")
    assert len(table) == 10
    assert table.loc["Pythia 6.9b", "ρ(d, gzip)"] == "0.92*"
    assert table.loc["ours", "ρ(d, gzip)"].startswith("0.60 [")
    assert table.loc["ours", "ρ(I_d, gzip)"].startswith("0.20 [")
    ledger = yaml.safe_load(
        (Path(ex.__file__).parents[2] / "book/claims/compositionality.yml").read_text(encoding="utf-8")
    )
    reported = next(c for c in ledger["claims"] if c["id"] == "C5a")["reported"]["text"]
    numbers = [float(x) for x in re.findall(r"(?<![\d.])(-?\d*\.\d+)(?![\db])", reported)]
    assert numbers == [float(v.rstrip("*†")) for _, _, v in ex.PUBLISHED_CORRELATIONS.values()] + [
        v for _, v, _ in ex.PUBLISHED_CORRELATIONS.values()
    ]


def test_surface_correlations_count_data_sets(run: Run[Settings]) -> None:
    order = {("coherent", 4): 1, ("coherent", 3): 2, ("coherent", 2): 3, ("coherent", 1): 4,
             ("glued", 4): 5, ("glued", 3): 6, ("glued", 2): 7, ("glued", 1): 8}  # fmt: skip
    sizes = pd.DataFrame([{"mode": m, "k": k, "bytes": 1000 * v} for (m, k), v in order.items()])
    values = {(m, k, 1): 5.0 + (v % 2) for (m, k), v in order.items()}
    frame = made_up(values, d={(m, k, 1): float(v) for (m, k), v in order.items()})
    rho = ex.rank_correlations(ex.surface_table(frame, sizes))
    assert set(rho["n"]) == {8}
    np.testing.assert_allclose(rho["rho_d"], 1)
    assert rho["rho_pr"].isna().all()  # the same everywhere: no rank
    assert (rho["rho_id"].abs() < 0.5).all()
    ex.measure_surface(run, rho)
    assert run.verdicts()["C5"] == "same direction"
    assert "rho_pr_kc" not in run.measurements


def test_gzip_and_skill_metrics_of_the_released_numbers(run: Run[Settings]) -> None:
    inputs = ex.load_inputs(run)
    if inputs.official_sizes is None:
        pytest.skip("the official files cannot be had")
    ex.measure_gzip(
        run, ex.kolmogorov.grammar_sizes(inputs.lexicon, inputs.kc_prompts, 0), inputs.official_sizes
    )
    ex.measure_skill(run, inputs.zero_shot)
    assert run.measurements["gzip_bytes_k1"].mean == 225262
    assert run.measurements["lambada_6p9b_step_3000"].mean == pytest.approx(0.301, abs=6e-4)
    verdicts = run.verdicts()
    assert verdicts["C5b"] == "reproduced"
    assert verdicts["C3b"] == "reproduced"


def test_length_and_hub_metrics(run: Run[Settings]) -> None:
    parts = [
        made_up({("coherent", 1, 5): 8.0 + words, ("glued", 1, 5): 8.0}).assign(words=words)
        for words in (5, 8, 17)
    ]
    ex.measure_lengths(run, pd.concat(parts))
    assert run.measurements["id_gap_slope_with_length"].mean == pytest.approx(1)
    linear = {key: float(i) for i, key in enumerate(VALUES)}
    frame = made_up(VALUES, d=linear).assign(model="pythia-6.9b-deduped")
    pile = made_up({("coherent", 0, 100): 20.0, ("glued", 0, 100): 15.0}, d={("glued", 0, 100): 12.0})
    whole = pd.concat([frame, pile.assign(model="pythia-6.9b-deduped")])
    sizes = pd.DataFrame(
        [
            {"mode": m, "k": k, "bytes": 10 * k + (m == "glued")}
            for m in ("coherent", "glued")
            for k in COHERENT
        ]
    )
    ex.measure_hub(run, whole, sizes)
    assert run.measurements["pythia_collapse_log10_step"].mean == pytest.approx(0.5 * math.log10(11))
    np.testing.assert_allclose(
        run.measurements["pile_id_coherent_minus_shuffled"].values, 2.5
    )  # mean over two layers
    np.testing.assert_allclose(run.measurements["pile_d_shuffled_minus_coherent"].values, 2)
    assert {"rho_d_kc_pythia_6p9b", "rho_id_kc_pythia_6p9b"} <= run.measurements.keys()


def test_ledger_reads_only_metrics_that_exist() -> None:
    source = "".join(p.read_text(encoding="utf-8") for p in Path(ex.__file__).parent.glob("*.py"))
    known_patterns = {"separation_ratio_shuffled_to_coherent", "d_shuffled_minus_coherent", "shuffled_separation_drop",
                      "collapse_to_skill_distance", "id_width_exponent", "d_width_exponent"}  # fmt: skip
    for claim in ledger("compositionality").claims:
        for metric in claim.metrics:
            assert f'"{metric}"' in source or metric in known_patterns, metric


# --- a whole small lifetime -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run[Settings], dict[str, pd.DataFrame]]:
    run = start(tmp_path_factory.mktemp("smoke"), "smoke", data="standin")
    inputs = ex.load_inputs(run)
    return run, ex.merge(lifetime_job(*job) for job in ex.lifetime_jobs(run, inputs))


def test_every_checkpoint_layer_order_and_k_is_measured(
    smoke: tuple[Run[Settings], dict[str, pd.DataFrame]],
) -> None:
    run, tables = smoke
    frame = tables["geometry"]
    keys = frame[["step", "layer", "mode", "k"]]
    assert len(keys.drop_duplicates()) == len(frame) == 2 * 2 * 4 * 2
    assert set(frame["layer"]) == {1, 2}
    assert set(frame["n"]) == {run.settings.prompts}
    assert (frame["d"] == frame["d_official"] + 1).all()
    assert (frame["d"] <= 32).all()
    assert tables["history"]["step"].tolist() == [0, 30]
    assert tables["history"]["loss"].iloc[1] < tables["history"]["loss"].iloc[0]
    near = tables["neighbors"].set_index(["step", "mode", "k"])
    assert (near.xs("dot", level="mode")["share"] == 1).all()
    assert (near.xs("dot", level="mode")["last_tokens"] == 1).all()
    assert (near.xs("glued", level="mode")["last_tokens"] > 100).all()
    assert (near.xs("glued", level="mode")["share"] > 3 * near.xs("glued", level="mode")["chance"]).all()


def test_between_the_ends_only_what_the_separation_needs_is_measured() -> None:
    plan = Plan("test", checkpoints=(0, 1, 2, 3, 4), couplings=(1, 2, 4))
    assert [plan.couplings_at(step) for step in plan.checkpoints] == [
        (1, 2, 4),
        (1, 4),
        (1, 2, 4),
        (1, 4),
        (1, 2, 4),
    ]
    assert replace(plan, couplings=(2,)).couplings_at(1) == (2,)


def test_untrained_model_already_orders_coherent_text() -> None:
    """Whoever says "learned" without step 0 is wrong."""
    language = Language.build(Lexicon.standin(0))
    model = make_gpt(language, GPTConfig(width=96, layers=3), 0)
    ids = []
    for k, rows in ex.standin_prompts(0, 1000)[0].items():
        assert k == len(ids) + 1
        tokens = np.pad(language.sentences(rows), ((0, 0), (1, 0)))
        ids.append(float(intrinsic_dimension(model.layers_at_last_token(torch.as_tensor(tokens))[-1])))
    assert ids == sorted(ids, reverse=True)
    assert ids[0] > 1.5 * ids[3]


def test_every_figure_draws(smoke: tuple[Run[Settings], dict[str, pd.DataFrame]]) -> None:
    run, tables = smoke
    frame = tables["geometry"]
    inputs = ex.load_inputs(run)
    bag = ex.merge([ex.bag_tables(run, inputs)])
    sizes = pd.DataFrame(
        [{"mode": m, "k": k, "bytes": 1000 * k} for m in ("coherent", "glued") for k in (1, 4)]
    )
    made = [
        figures.dataset_figure(sizes, None),
        figures.layer_figure(frame, [0, 30], bag["geometry"]),
        figures.training_figure(frame, tables["history"], None),
        figures.width_figure(pd.concat([frame, frame.assign(width=64)])),
        figures.surface_figure(ex.surface_table(frame, sizes)),
        figures.last_token_figure(frame, tables["neighbors"], tables["groups"]),
        figures.scale_figure(tables["scales"], bag["scales"]),
        figures.size_figure(tables["sizes"]),
        figures.freedom_figure(frame, bag["geometry"]),
        figures.length_figure(pd.concat([frame, frame.assign(words=5)])),
    ]
    for fig in made:
        plt.close(fig)
        assert isinstance(fig, Figure)
        assert all(ax.get_xlabel() or ax.get_ylabel() or ax.get_title() or not ax.axison for ax in fig.axes)
    table = ex.composition_table(frame, bag["geometry"])
    assert table["representation"].tolist()[:2] == ["bag of words, any order", "untrained, coherent"]


def small_job(folder: Path, seed: int, **changes: object) -> tuple:
    run = start(folder, "smoke", data="standin")
    prompts = {k: v[:200] for k, v in ex.standin_prompts(0, 200)[0].items()}
    plan = Plan("test", checkpoints=(0, 2, 4), prompts=150, modes=("coherent", "glued"), couplings=(1, 4))
    config = GPTConfig(width=16, layers=2, steps=4, batch=4)
    return (run, replace(plan, **changes), config, Lexicon.standin(0), prompts, seed)  # type: ignore[arg-type]


def test_same_seed_same_numbers_other_seed_others(tmp_path: Path) -> None:
    first, again, other = (ex.merge([lifetime_job(*small_job(tmp_path, s))])["geometry"] for s in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["id"], other["id"])


def test_shuffles_of_different_k_are_different(tmp_path: Path) -> None:
    from lib.compositionality.lifetime import Inspector

    same = {
        1: np.tile(np.arange(13, dtype=np.uint8), (50, 1)),
        4: np.tile(np.arange(13, dtype=np.uint8), (50, 1)),
    }
    inspector = Inspector(Plan("x"), Language.build(Lexicon.standin(0)), same, torch.zeros(1, 31), {}, 0)
    assert not np.array_equal(inspector.tokens("dot", 1, 50), inspector.tokens("dot", 4, 50))
    assert (inspector.tokens("glued", 1, 50)[:, 0] == 0).all()


# --- geometry of known clouds ---------------------------------------------------------------------------------------


def test_clumps_by_last_token_lower_the_estimate_and_groups_undo_it() -> None:
    """What C6 says, on a cloud made for it: two neighbours in a tight clump look low-dimensional."""
    g = torch.Generator().manual_seed(0)
    content = torch.randn(900, 12, generator=g, dtype=torch.float64)
    kinds = torch.arange(900) % 300
    centres = 50 * torch.randn(300, 12, generator=g, dtype=torch.float64)
    mixed = centres[kinds] + content
    row = neighbor_row(mixed, kinds.numpy(), {})
    assert row["share"] > 0.95
    assert row["chance"] == pytest.approx(2 / 899)
    assert float(intrinsic_dimension(mixed)) < 0.5 * float(intrinsic_dimension(content))
    names = np.where(np.arange(900) < 400, 1, kinds.numpy() + 10)
    groups = group_rows(
        torch.cat([content[:400], mixed[400:]]), names, content, {1: "the", 2: "none"}, {"k": 1}
    )
    assert [(r["token"], r["n"]) for r in groups] == [("the", 400)]
    assert groups[0]["id"] == pytest.approx(groups[0]["id_coherent"], rel=1e-9)


def test_rows_of_states() -> None:
    states = torch.randn(3, 120, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = geometry_rows(states, {"k": 2})
    assert [r["layer"] for r in rows] == [1, 2, 3]
    assert rows[2]["id"] == pytest.approx(float(intrinsic_dimension(states[2])))
    sizes = size_rows(states[0], (50, 100, 500), {})
    assert [r["n"] for r in sizes] == [50, 100]
    assert sizes[0]["id"] == pytest.approx(float(intrinsic_dimension(states[0, :50])))


# --- inputs and settings --------------------------------------------------------------------------------------------


def test_standin_is_announced_and_judges_no_real_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lib import datasets

    monkeypatch.setattr(datasets, "locate", lambda names, data="auto": None)
    run = start(tmp_path)
    inputs = ex.load_inputs(run)
    assert STANDIN_NOTICE in capsys.readouterr().out
    assert run.data_source == "standin"
    assert not inputs.lexicon.real
    assert inputs.prompts[4][4].shape == (10_000, 13)
    assert not np.array_equal(inputs.prompts[0][1], inputs.prompts[1][1])
    ex.measure_skill(run, inputs.zero_shot)
    ex.measure_gzip(run, ex.kolmogorov.grammar_sizes(inputs.lexicon, inputs.kc_prompts, 0), None)
    assert run.verdicts()["C3b"] == run.verdicts()["C5b"] == "not run"


def test_malformed_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "skill.csv"
    path.write_text("task,model_size,step,accuracy\nx,1b,0,1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"skill\.csv: column 'acc' is missing; did you mean 'accuracy'"):
        ex.read_zero_shot(path)
    path.write_text("task,model_size,step,acc,acc_stderr\nx,1b,0,7,0\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"outside 0\.\.1"):
        ex.read_zero_shot(path)
    path.write_text("no gzip", encoding="utf-8")
    with pytest.raises(DataError, match="not a whole gzip file"):
        ex.read_pile(path)
    with gzip.open(tmp_path / "ok.gz", "wt", encoding="utf-8") as file:
        file.write("a b\nc d")
    assert ex.read_pile(tmp_path / "ok.gz") == ["a b", "c d"]
    with gzip.open(tmp_path / "ok.gz", "wt", encoding="utf-8") as file:
        file.write("a b\nc d\n")
    assert ex.read_pile(tmp_path / "ok.gz") == ["a b", "c d"]  # a final line end is no further line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 30}, "does not divide width"),
        ({"widths": (32, 30)}, "does not divide widths=30"),
        ({"checkpoints": (0, 100)}, "rise from 0 to steps=500"),
        ({"checkpoints": (0, 200, 100, 500)}, "rise from 0"),
        ({"prompts": 20_000}, "prompts=20000 must be at most 10000"),
        ({"couplings": (4, 1)}, "ascending"),
        ({"couplings": (1, 5)}, "5 is not one of 1, 2, 3, 4"),
        ({"lengths": (4,)}, "4 is not one of 3, 6, 9, 11, 13"),
        ({"seeds": 0}, "nothing to measure"),
        ({"batch": 0}, "batch=0 must be at least 1"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        replace(PROFILES["default"], **changes)  # type: ignore[arg-type]


def test_too_few_prompts_are_told(tmp_path: Path) -> None:
    run, plan, config, lexicon, prompts, seed = small_job(tmp_path, 0, prompts=1000)
    with pytest.raises(ValueError, match="k=1: 1000 sentences are needed, there are 200"):
        lifetime_job(run, plan, config, lexicon, prompts, seed)


def test_jobs_of_every_profile(tmp_path: Path) -> None:
    for profile in PROFILES:
        run = start(tmp_path / profile, profile, data="standin")
        inputs = ex.Inputs(Lexicon.standin(0), {s: {k: np.zeros((10, 13), np.uint8) for k in (1, 2, 3, 4)} for s in range(5)}, {}, None, None, None)  # fmt: skip
        s = run.settings
        assert len(ex.lifetime_jobs(run, inputs)) == s.seeds
        assert len(ex.width_jobs(run, inputs)) == min(s.seeds, s.width_seeds) * len(s.widths)
        assert len(ex.text_jobs(run, inputs)) == s.text_seeds
        for job in ex.length_jobs(run, inputs):
            plan, config, prompts = job[1], job[2], job[4]
            assert config.questions <= plan.slots
            assert set(plan.couplings) == set(prompts)
            assert all(len(p) == s.length_prompts for p in prompts.values())
    assert PROFILES["default"].seeds >= 3
