"""Formal-language tasks against plain Python, and parity as a matter of signs."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lib.minrnn.formal_languages import TASKS, formal_batch, formal_data, formal_task, train_formal
from lib.minrnn.scan import linear_scan
from lib.minrnn.token_data import IGNORE
from lib.minrnn.token_model import Architecture, Optimisation


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
    stream = iter(formal_data(formal_task("parity_check"), 4, 10, 0, 10, 4).stream())
    lengths = {next(stream)[0].shape[1] - 1 for _ in range(60)}
    assert lengths == set(range(1, 11))


def test_a_sign_that_flips_computes_parity_at_any_length() -> None:
    bits = torch.randint(2, (20, 1000, 1)).double()
    h = linear_scan(1 - 2 * bits, torch.zeros_like(bits), torch.ones(20, 1).double())
    assert torch.equal((h[:, -1, 0] < 0).long(), bits.sum((1, 2)).long() % 2)


@pytest.mark.slow
def test_the_tanh_variant_extrapolates_parity_and_min_gru_does_not(tmp_path: Path) -> None:
    run = SimpleNamespace(device=torch.device("cpu"), out_dir=tmp_path)
    accuracy = {}
    for mixer in ("tanh_gate", "min_gru"):
        result = train_formal(
            run, "parity_check", Architecture(mixer, 1, 32), Optimisation(750, 5e-3, 20), batch=64, longest=40,
            test_lengths=(256,), test_sequences=256, seed=0,
        )  # fmt: skip
        accuracy[mixer] = result.accuracy[256]
    assert accuracy["tanh_gate"] > 95
    assert accuracy["min_gru"] < 65


def test_errors_are_one_clear_line() -> None:
    with pytest.raises(ValueError, match="did you mean 'parity_check'"):
        formal_task("parity_chek")
    with pytest.raises(ValueError, match="need batch"):
        formal_batch(formal_task("majority"), 1, 0, torch.Generator())
