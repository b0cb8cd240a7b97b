"""Digit classifiers: one is the reward, another, with its own architecture and its own half of the training set, is the judge.

A sample must never be judged by the network that it was steered towards: it may have learnt that network's errors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.ddpp.mnist import N_CLASSES
from lib.ddpp.rewards import Reward
from lib.profiles import choose

ARCHITECTURES = ("reward", "judge")
JUDGE_FEATURES = 64


class DigitClassifier(nn.Module):
    """Convolutional classifier of S × S images.

    Args:
        side: S, even. architecture: ``reward`` (two convolutions and two linear layers, in the manner of LeNet-5), or ``judge`` (three
            convolutions, a linear layer of 64 features). Blocks of 2 × 2 pixels enter as channels: on a CPU the gradient with respect
            to the image, which DDPP-KL needs, costs half of that through a strided convolution of one channel.

    Raises:
        ParameterError: for another architecture. ValueError: for an odd side.
    """

    def __init__(self, side: int, architecture: str) -> None:
        super().__init__()
        choose("architecture", architecture, ARCHITECTURES)
        if side % 2:
            raise ValueError(f"side={side} must be even")
        corner = (side + 2) // 4  # side after the second halving
        if architecture == "reward":
            self.body = nn.Sequential(
                nn.PixelUnshuffle(2), nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
                nn.Linear(32 * corner**2, 120), nn.ReLU(),
            )  # fmt: skip
            self.head = nn.Linear(120, N_CLASSES)
        else:
            self.body = nn.Sequential(
                nn.PixelUnshuffle(2), nn.Conv2d(4, 24, 3, padding=1), nn.GELU(),
                nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.GELU(),
                nn.Conv2d(48, 48, 3, padding=1), nn.GELU(), nn.Flatten(),
                nn.Linear(48 * corner**2, JUDGE_FEATURES), nn.GELU(),
            )  # fmt: skip
            self.head = nn.Linear(JUDGE_FEATURES, N_CLASSES)

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 1, S, S) in [0, 1] → the last hidden layer, (B, 120) or (B, 64)."""
        return self.body(2.0 * pixels - 1.0)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 1, S, S) → logits (B, 10)."""
        return self.head(self.features(pixels))


def shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each image (B, 1, S, S) moved by −1, 0 or 1 pixel along both axes; what enters is paper."""
    b, _, height, width = pixels.shape
    padded = F.pad(pixels, (1, 1, 1, 1))[:, 0]  # (B, S + 2, S + 2)
    dy, dx = torch.randint(0, 3, (2, b), generator=generator)
    rows = dy[:, None] + torch.arange(height)
    columns = dx[:, None] + torch.arange(width)
    return padded[torch.arange(b)[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


def train_classifier(
    pixels: Tensor,
    labels: Tensor,
    architecture: str,
    *,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> DigitClassifier:
    """Train a classifier with Adam, a linear decay of the rate, and random shifts by a pixel.

    Args:
        pixels: (N, 1, S, S) in [0, 1]. labels: (N,) int64.

    Returns:
        The classifier in evaluation mode, frozen, on ``device``.

    Raises:
        ValueError: for empty data or lengths that differ.
    """
    if len(pixels) == 0 or len(pixels) != len(labels):
        raise ValueError(f"{len(pixels)} images with {len(labels)} labels cannot train a classifier")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DigitClassifier(pixels.shape[-1], architecture).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    batches = -(-len(pixels) // batch_size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=epochs * batches)
    for _ in range(epochs):
        for index in torch.randperm(len(pixels), generator=generator).split(batch_size):
            batch = shifted(pixels[index], generator).to(device)
            loss = F.cross_entropy(model(batch), labels[index].to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def accuracy(model: DigitClassifier, pixels: Tensor, labels: Tensor, batch: int = 1000) -> float:
    """Share of images (N, 1, S, S) that are put into their class."""
    device = next(model.parameters()).device
    right = 0
    for images, classes in zip(pixels.split(batch), labels.split(batch)):
        right += int((model(images.to(device)).argmax(1) == classes.to(device)).sum())
    return right / len(pixels)


class ClassReward(Reward):
    """r(x) = exponent · log Σ_{y in target} p(y | x), by a classifier; the paper's R is (Σ_{even y} p(y | x))⁵ (§4.2).

    Args:
        classifier: gives p(y | x). target: the wanted classes. n_symbols: V; symbol v has the ink v / (V − 1).
        exponent: the power of R, 5 in the paper. floor: smallest log R before the power.

    Raises:
        ValueError: if no class is wanted, or one does not exist.
    """

    def __init__(
        self,
        classifier: DigitClassifier,
        target: Sequence[int],
        n_symbols: int,
        exponent: float = 5.0,
        floor: float = -50.0,
    ) -> None:
        super().__init__(exponent)
        if not target or not set(target) <= set(range(N_CLASSES)):
            raise ValueError(f"target={list(target)} must name classes in 0..{N_CLASSES - 1}")
        self.classifier, self.target, self.n_symbols = classifier, tuple(target), n_symbols
        self.floor = floor

    @torch.no_grad()
    def log_reward(self, clean: Tensor) -> Tensor:
        """log R (N,) before the power, of clean tokens (N, n)."""
        return self._of_ink(clean.float() / (self.n_symbols - 1))

    def log_reward_of_onehot(self, onehot: Tensor) -> Tensor:
        """log R (N,) before the power, of one-hot tokens (N, n, V), with gradient."""
        levels = torch.linspace(0.0, 1.0, self.n_symbols, dtype=onehot.dtype, device=onehot.device)
        return self._of_ink(onehot @ levels)

    def _of_ink(self, ink: Tensor) -> Tensor:
        side = int(ink.shape[1] ** 0.5)
        log_probs = F.log_softmax(self.classifier(ink.view(-1, 1, side, side)), dim=1)
        return log_probs[:, list(self.target)].logsumexp(1).clamp_min(self.floor)
