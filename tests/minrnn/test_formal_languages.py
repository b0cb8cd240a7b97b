"""Formal-language tasks against plain Python, and parity as a matter of signs."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch

from lib.experiment import Machine, Work
from lib.minrnn.experiments import formal_languages as experiment
from lib.minrnn.formal_languages import (
    TASKS,
    FormalResult,
    FormalSettings,
    formal_batch,
    formal_data,
    formal_task,
    train_formal,
)
from lib.minrnn.scan import linear_scan
from lib.minrnn.token_data import IGNORE
from lib.profiles import ParameterError, put_together
from lib.records import Run

PROFILES = put_together({"formal": experiment}, {n: Machine(workers=1) for n in experiment.PROFILES})


def plain_answer(task: str, string: list[int]) -> list[int]:
    if task == "parity_check":
        return [string.count(1) % 2]
    if task == "even_pairs":
        return [int(string[0] == string[-1])]  # an even number of changes ends where it began
    if task == "cycle_nav":
        position = 0
        for move in string:
            position = (position + {0: -1, 1: 0, 2: 1}[move]) % 5
        return [position]
    counts = Counter(string)
    if task == "majority":
        most = max(counts.values())
        return [min(s for s, n in counts.items() if n == most)]
    if task == "majority_count":
        return [max(counts.values())]
    if task == "missing_duplicate":
        half = len(string) // 2
        return [string[string.index(3) - half]]
    return sorted(string)


@pytest.mark.parametrize("name", list(TASKS))
@pytest.mark.parametrize("length", [2, 7, 40])
def test_answers_equal_those_of_plain_python(name: str, length: int) -> None:
    task = formal_task(name)
    tokens, targets = formal_batch(task, 50, length, torch.Generator().manual_seed(0))
    assert tokens.shape == targets.shape
    assert tokens.max() < task.vocabulary
    for row, answer in zip(tokens.tolist(), targets.tolist(), strict=True):
        n = row.index(task.marker) if name != "missing_duplicate" else len(row) - 1
        string, asked = row[:n], answer[n:]
        assert all(token == task.marker for token in row[n:])
        assert answer[:n] == [IGNORE] * n
        assert asked == plain_answer(name, string)
        assert min(asked) >= 0
        assert max(asked) < task.classes
    if name in ("parity_check", "even_pairs"):
        share = (targets[:, -1] == 1).float().mean()
        assert 0.25 < share < 0.75


def test_a_training_batch_has_one_length_and_lengths_vary() -> None:
    settings = FormalSettings(batch=4, longest=10, test_sequences=4)
    stream = iter(formal_data(formal_task("parity_check"), settings, seed=0).stream())
    lengths = {next(stream)[0].shape[1] - 1 for _ in range(60)}
    assert lengths == set(range(1, 11))


def test_a_sign_that_flips_computes_parity_at_any_length() -> None:
    bits = torch.randint(2, (20, 1000, 1)).double()
    h = linear_scan(1 - 2 * bits, torch.zeros_like(bits), torch.ones(20, 1).double())
    assert torch.equal((h[:, -1, 0] < 0).long(), bits.sum((1, 2)).long() % 2)


@pytest.mark.slow
def test_the_tanh_variant_extrapolates_parity_and_min_gru_does_not(tmp_path: Path) -> None:
    run = SimpleNamespace(device=torch.device("cpu"), out_dir=tmp_path, checkpoint_every=None)
    settings = FormalSettings(steps=750, test_lengths=(256,))
    accuracy = {}
    for mixer in ("tanh_gate", "min_gru"):
        result = train_formal(run, settings, "parity_check", mixer, 1, seed=0)
        accuracy[mixer] = result.accuracy_at(256)
    assert accuracy["tanh_gate"] > 95
    assert accuracy["min_gru"] < 65


def start(profile: str, out_dir: Path, **overrides: object) -> Run:
    return Run.start(
        "minrnn", PROFILES, profile=profile, accelerator="cpu", out_dir=out_dir, overrides=overrides
    )


SMALL = {
    "formal_width": 4,
    "formal_steps": 1,
    "formal_batch": 2,
    "formal_seeds": 1,
    "formal_test_lengths": [9, 5],
    "formal_test_sequences": 3,
}


@pytest.mark.parametrize("profile", list(PROFILES))
def test_a_run_measures_parity_at_the_longest_strings_and_draws_every_task(
    profile: str, tmp_path: Path
) -> None:
    run = start(profile, tmp_path, **SMALL)
    results = Work(run).finish(experiment)
    settings = run.of(FormalSettings)
    assert set(run.measurements) == set(experiment.metrics(settings))
    assert ("formal_language_accuracy_mean" in run.measurements) == (profile == "paper")
    gru = next(r for r in results if (r.task, r.mixer) == ("parity_check", "gru"))
    assert run.measurements["parity_accuracy_gru_1"].values == (gru.accuracy_at(9),)
    drawn = experiment.figures(settings, results)
    assert list(drawn) == list(settings.tasks)
    for figure in drawn.values():
        assert len(figure.axes[0].get_legend().get_texts()) == len(experiment.MODELS)
    plt.close("all")


def test_the_mean_over_tasks_is_paired_by_seed(tmp_path: Path) -> None:
    run = start("paper", tmp_path, **{**SMALL, "formal_seeds": 2})
    results = [
        FormalResult(task, mixer, layers, seed, (9, 5), (10.0 * seed, 10.0 * seed + layers))
        for task in TASKS
        for mixer, layers in experiment.MODELS
        for seed in (1, 0)
    ]
    experiment.measure(run, results)
    assert run.measurements["formal_language_accuracy_mean"].values == (1.0, 11.0)


def test_without_parity_nothing_is_said_about_it(tmp_path: Path) -> None:
    run = start("smoke", tmp_path, formal_tasks=["even_pairs"])
    assert experiment.metrics(run.of(FormalSettings)) == []
    experiment.measure(run, [])
    assert not run.measurements


def test_warm_up_and_models_are_the_same_for_every_job(tmp_path: Path) -> None:
    jobs = experiment.jobs(start("gpu", tmp_path))
    assert len({job.args[1] for job in jobs}) == 1
    assert len({job.args[2:] for job in jobs}) == len(jobs) == 3 * 4 * 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"formal_tasks": ["nope"]}, "formal_tasks=.* 'nope' is not one of"),
        ({"formal_tasks": ["parity_chek"]}, "did you mean 'parity_check'"),
        ({"formal_tasks": ["majority", "majority"]}, "names one of them twice"),
        ({"formal_test_lengths": [300]}, "formal_test_lengths=.* must be at most 256"),
        ({"formal_longest": 0}, "formal_longest=0 must be at least 1"),
        ({"formal_learning_rate": 0}, "formal_learning_rate=0.* must be above 0"),
    ],
)
def test_wrong_settings_are_one_line(overrides: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=message):
        start("default", tmp_path / "x", **overrides)
    assert not (tmp_path / "x").exists()


def test_errors_are_one_clear_line() -> None:
    with pytest.raises(ValueError, match="did you mean 'parity_check'"):
        formal_task("parity_chek")
    with pytest.raises(ValueError, match="need batch"):
        formal_batch(formal_task("majority"), 1, 0, torch.Generator())
