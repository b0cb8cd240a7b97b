"""The diffusion transformer of masked diffusion (Peebles & Xie, arXiv:2212.09748, as in SEDD and MDLM), and its head for log Z.

Letters: B sequences, n tokens, d width, h heads. Every block is modulated by a conditioning vector c (B, 128) computed from σ(t)
(adaLN-zero: six vectors per block, whose weights and biases start at zero, so that a block starts as the identity). Without time
conditioning σ is 0 throughout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.ddpp.denoisers import sinusoidal

COND_DIM = 128
FREQUENCIES = 256


def rotary_table(n: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (n, dim/2) of rotary positions (Su et al., arXiv:2104.09864)."""
    rates = 10_000.0 ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    angles = torch.outer(torch.arange(n, device=device, dtype=torch.float32), rates)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate queries or keys (B, h, n, e) by their positions; first and second half of the channels form the pairs."""
    cos, sin = (part.to(x.dtype) for part in table)
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class ScaleNorm(nn.Module):
    """LayerNorm with a weight and no bias, in float32 whatever the precision of the run."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        """(…, d) → (…, d)."""
        with torch.autocast(x.device.type, enabled=False):
            normed = F.layer_norm(x.float(), x.shape[-1:])
        return (normed * self.weight).to(x.dtype)


class Modulation(nn.Module):
    """adaLN-zero: ``parts`` vectors (B, 1, d) from the conditioning (B, c); they start at zero."""

    def __init__(self, cond: int, d: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(cond, parts * d)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, c: Tensor) -> tuple[Tensor, ...]:
        """The vectors."""
        return self.linear(c).unsqueeze(1).chunk(self.parts, -1)


class Block(nn.Module):
    """Attention and perceptron, each normalised, shifted, scaled, gated by the conditioning, and added to the stream."""

    def __init__(self, d: int, heads: int, cond: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = ScaleNorm(d), ScaleNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(approximate="tanh"), nn.Linear(4 * d, d))
        self.modulation = Modulation(cond, d, 6)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def forward(self, x: Tensor, c: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """Stream x (B, n, d), conditioning c (B, c)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)
        batch, n, d = x.shape
        qkv = self.qkv(self.norm1(x) * (1 + scale1) + shift1).view(batch, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, h, n, e) each
        mixed = F.scaled_dot_product_attention(rotate(q, table), rotate(k, table), v)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, n, d))
        x = x + gate1 * self._drop(mixed)
        return x + gate2 * self._drop(self.mlp(self.norm2(x) * (1 + scale2) + shift2))


class DiTBody(nn.Module):
    """Embedding, conditioning, blocks: tokens (B, n) → stream (B, n, d) and conditioning (B, c)."""

    def __init__(
        self, n_symbols: int, d: int, blocks: int, heads: int, dropout: float, time_conditioned: bool
    ) -> None:
        super().__init__()
        if d % (2 * heads):
            raise ValueError(f"width={d} must be a multiple of 2·heads={2 * heads}")
        self.d, self.heads, self.time_conditioned = d, heads, time_conditioned
        self.embedding = nn.Parameter(torch.empty(n_symbols + 1, d))
        nn.init.kaiming_uniform_(self.embedding, a=math.sqrt(5))
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, COND_DIM), nn.SiLU(), nn.Linear(COND_DIM, COND_DIM))
        self.blocks = nn.ModuleList(Block(d, heads, COND_DIM, dropout) for _ in range(blocks))

    def forward(self, tokens: Tensor, sigma: Tensor | None) -> tuple[Tensor, Tensor]:
        """Stream and conditioning."""
        if sigma is None or not self.time_conditioned:
            sigma = torch.zeros(len(tokens), device=tokens.device)
        c = F.silu(self.time(sinusoidal(sigma, FREQUENCIES)))
        x = F.embedding(tokens, self.embedding)
        table = rotary_table(tokens.shape[1], self.d // self.heads, tokens.device)
        for block in self.blocks:
            x = block(x, c, table)
        return x, c


class DiT(nn.Module):
    """Denoiser. The paper's sizes: tiny is 512 wide with 8 blocks of 8 heads, small 768 with 12 of 12.

    Args:
        n_tokens, n_symbols: n and V; symbol V is the mask.
        width, blocks, heads, dropout: sizes.
        time_conditioned: whether σ is used; the network without it is asked with σ = 0.
        seed: of the initial weights.

    Raises:
        ValueError: for a width that the heads do not divide into pairs.
    """

    def __init__(
        self,
        n_tokens: int,
        n_symbols: int,
        width: int = 512,
        blocks: int = 8,
        heads: int = 8,
        dropout: float = 0.1,
        *,
        time_conditioned: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.n_tokens, self.n_symbols = n_tokens, n_symbols
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = DiTBody(n_symbols, width, blocks, heads, dropout, time_conditioned)
            self.norm = ScaleNorm(width)
            self.modulation = Modulation(COND_DIM, width, 2)
            self.output = nn.Linear(width, n_symbols + 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
        """Logits (B, n, V+1) of tokens (B, n)."""
        x, c = self.body(tokens, sigma)
        shift, scale = self.modulation(c)
        return self.output(self.norm(x) * (1 + scale) + shift)


class DiTLogZ(nn.Module):
    """log Z_φ(x_t), (B,): a separate small DiT whose mean over tokens gives one number. It starts at zero."""

    def __init__(
        self,
        n_tokens: int,
        n_symbols: int,
        width: int = 128,
        blocks: int = 2,
        heads: int = 4,
        *,
        time_conditioned: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.n_tokens, self.n_symbols = n_tokens, n_symbols
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = DiTBody(n_symbols, width, blocks, heads, 0.0, time_conditioned)
            self.norm = ScaleNorm(width)
            self.output = nn.Linear(width, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
        """log Z_φ of tokens (B, n)."""
        x, _ = self.body(tokens, sigma)
        return self.output(self.norm(x).mean(1)).squeeze(-1).float()
