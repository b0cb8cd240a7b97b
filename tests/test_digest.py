"""Digests of plain values: equal content, equal digest; anything else differs."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.digest import digest
from lib.fingerprint import ROOT


@dataclass(frozen=True)
class Size:
    width: int = 3
    rate: float = 0.5


@dataclass(frozen=True)
class OtherSize:
    width: int = 3
    rate: float = 0.5


VALUES = [
    None, False, True, 0, 1, 0.0, 1.0, -0.0, math.nan, "", "1", b"1", (), (1,), (1, 2), ((1,), 2), (1, (2,)), "12", ("1", "2"),
    {}, {"a": 1}, {"a": 2}, {1: "a"}, frozenset({1}), Size(), OtherSize(), replace(Size(), rate=0.25), Size, digest, len, Path("a"),
    np.arange(3), np.arange(3.0), np.arange(3.0)[:, None], np.float32(1), torch.arange(3), torch.arange(3.0),
    torch.arange(3.0).bfloat16(), torch.float32, torch.device("cpu"), functools.partial(digest, 1), functools.partial(digest, 2),
]  # fmt: skip


def test_different_values_have_different_digests() -> None:
    known = [v for v in VALUES if v is not len]
    found = {}
    for value in known:
        found.setdefault(digest(value), []).append(value)
    assert {k: v for k, v in found.items() if len(v) > 1} == {}


def test_equal_content_has_equal_digests() -> None:
    assert digest([1, 2]) == digest((1, 2))
    assert digest(np.float64(0.1)) == digest(
        np.array(0.1)
    )  # a float by its class, an array's entry by its content
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(Size()) == digest(Size(3, 0.5))
    assert digest(torch.arange(6).reshape(2, 3).T) == digest(torch.arange(6).reshape(2, 3).T.contiguous())
    assert digest(np.arange(6).reshape(2, 3).T) == digest(np.ascontiguousarray(np.arange(6).reshape(2, 3).T))


def test_a_module_counts_with_its_weights() -> None:
    one, two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert digest(one) != digest(two)
    two.load_state_dict(one.state_dict())
    assert digest(one) == digest(two)


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    code = "from lib.digest import digest; print(digest({'a': (1, 2.5, None, frozenset('xyz'))}))"
    for seed in ("1", "2"):  # of Python's own hashes
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == digest({"a": (1, 2.5, None, frozenset("xyz"))})


@pytest.mark.parametrize("value", [object(), [object()], {"a": open}, np.array([object()])])
def test_what_has_no_stable_content_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="has no digest"):
        digest(value)
