"""Jobs side by side: order, errors, and what is not allowed."""

from __future__ import annotations

import pytest
import torch

from lib.workers import Workers, available_cores


def test_workers_keep_the_order_and_pass_errors_on() -> None:
    for n in (1, 2):
        workers = Workers(n)
        assert workers.start(divmod, [(7, 2), (9, 4), (1, 1)]).results() == [(3, 1), (2, 1), (1, 0)]
        assert workers.start(int, [("11", {"base": 2})]).results() == [3]
        if n == 2:  # with one worker the error is raised at once
            with pytest.raises(ZeroDivisionError):
                workers.start(divmod, [(1, 0)]).results()
        workers.close()


def test_how_many_workers_there_are() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Workers(-1)
    assert Workers(0, torch.device("cuda")).n == 1  # a GPU is not shared
    assert Workers(0, torch.device("cpu")).n == available_cores() >= 1
