"""The peak of memory, on allocations and gradients that are known."""

import torch

from lib.minrnn.peak_memory import peak_bytes


def test_the_peak_of_known_allocations() -> None:
    old = torch.ones(300)

    def work() -> None:
        a = torch.empty(1000)
        b = old.add(1)  # 300
        a.view(10, 100).add_(1)  # no new storage, nor is a view of an old one
        old.view(3, 100).mul_(1)
        del a
        c = torch.empty(600)
        d = torch.empty(0)
        del b, c, d

    assert peak_bytes(work) == 4 * 1300
    assert peak_bytes(work) == 4 * 1300
    assert peak_bytes(lambda: old.t()) == 0


def test_the_peak_of_known_gradients() -> None:
    weight = torch.ones(50, requires_grad=True)
    peak = peak_bytes(lambda: weight.exp().sum().backward())
    # exp(w), kept; its sum and the 1 that the backward begins with; the gradient of w, which is left
    assert peak == 4 * (50 + 1 + 1 + 50)
