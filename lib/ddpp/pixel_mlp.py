"""A small denoiser for low-resolution images, and a head of the same kind for log Z."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """x + W₂ GELU(W₁ LayerNorm(x)), width d."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d) → (B, d)."""
        return x + self.down(F.gelu(self.up(self.norm(x)), approximate="tanh"))


class PixelBody(nn.Module):
    """Features (B, width) of partly masked images: ink of the open pixels in [−1, 1], 0 where masked, beside the mask itself."""

    def __init__(self, n_tokens: int, n_symbols: int, width: int, blocks: int) -> None:
        super().__init__()
        self.n_symbols = n_symbols
        self.read = nn.Linear(2 * n_tokens, width)
        self.blocks = nn.Sequential(*[ResidualBlock(width) for _ in range(blocks)], nn.LayerNorm(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n) int64 → (B, width)."""
        open_ = (tokens != self.n_symbols).float()  # (B, n)
        ink = (tokens * (2.0 / (self.n_symbols - 1)) - 1.0) * open_
        return self.blocks(self.read(torch.cat([ink, 1.0 - open_], dim=1)))


class PixelMLP(nn.Module):
    """Residual MLP over all pixels at once.

    Args:
        n_tokens: n, pixels. n_symbols: V, without the mask symbol (its index is V).
        width: channels of the body. blocks: residual blocks. seed: of the initial weights.
    """

    def __init__(
        self, n_tokens: int, n_symbols: int, width: int = 256, blocks: int = 2, *, seed: int = 0
    ) -> None:
        super().__init__()
        self.n_tokens, self.n_symbols = n_tokens, n_symbols
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = PixelBody(n_tokens, n_symbols, width, blocks)
            self.write = nn.Linear(width, n_tokens * n_symbols)

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
        """Logits (B, n, V + 1) of tokens (B, n) int64; the mask's own logit is 0, and ``sigma`` is not used."""
        logits = self.write(self.body(tokens)).view(-1, self.n_tokens, self.n_symbols)
        return F.pad(logits, (0, 1))


class PixelLogZ(nn.Module):
    """Scalar log Z of a partly masked image; starts at 0."""

    def __init__(
        self, n_tokens: int, n_symbols: int, width: int = 128, blocks: int = 1, *, seed: int = 0
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = PixelBody(n_tokens, n_symbols, width, blocks)
        self.write = nn.Linear(width, 1)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
        """(B, n) int64 → (B,)."""
        return self.write(self.body(tokens)).squeeze(1)
