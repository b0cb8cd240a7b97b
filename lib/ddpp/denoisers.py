"""Small networks over a few tokens: one embedding per position's symbol, then a multilayer perceptron."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


def sinusoidal(values: Tensor, size: int, longest: float = 10_000.0) -> Tensor:
    """Sinusoidal features (B, size) of ``values`` (B,): cosines and sines at geometric frequencies from 1 to 1/longest."""
    half = size // 2
    powers = torch.arange(half, device=values.device, dtype=torch.float32) / half
    angles = values.float().unsqueeze(-1) * longest**-powers
    return torch.cat([angles.cos(), angles.sin()], -1)


class EmbeddingMLP(nn.Module):
    """Denoiser for a few tokens: embeddings of all tokens side by side, ``layers`` hidden GELU layers, logits.

    Args:
        n_tokens, n_symbols: n and V; symbol V is the mask.
        embedding, hidden, layers: sizes.
        outputs: numbers per sequence; None for the logits (B, n, V+1) of a denoiser.
        time_features: sinusoidal features of σ that are appended to the embeddings; 0 ignores the time.
        seed: of the initial weights.

    Raises:
        ValueError: for a size below 1.
    """

    def __init__(
        self,
        n_tokens: int,
        n_symbols: int,
        embedding: int = 64,
        hidden: int = 256,
        layers: int = 2,
        *,
        outputs: int | None = None,
        time_features: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(n_tokens, n_symbols, embedding, hidden, layers) < 1:
            raise ValueError(
                f"sizes must be positive, got n_tokens={n_tokens}, n_symbols={n_symbols}, embedding={embedding}, "
                f"hidden={hidden}, layers={layers}"
            )
        self.n_tokens, self.n_symbols, self.time_features = n_tokens, n_symbols, time_features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(n_symbols + 1, embedding)
            sizes = [n_tokens * embedding + time_features, *[hidden] * layers]
            stack: list[nn.Module] = []
            for wide, narrow in itertools.pairwise(sizes):
                stack += [nn.Linear(wide, narrow), nn.GELU(approximate="tanh")]
            self.hidden = nn.Sequential(*stack)
            self.output = nn.Linear(hidden, n_tokens * (n_symbols + 1) if outputs is None else outputs)
        self.shape = (n_tokens, n_symbols + 1) if outputs is None else (outputs,)

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
        """Logits (B, n, V+1), or (B, outputs), of tokens (B, n)."""
        h = self.embedding(tokens).flatten(1)  # (B, n d)
        if self.time_features:
            time = torch.zeros(len(tokens), device=tokens.device) if sigma is None else sigma
            h = torch.cat([h, sinusoidal(time, self.time_features)], 1)
        return self.output(self.hidden(h)).unflatten(1, self.shape)


class EmbeddingLogZ(EmbeddingMLP):
    """log Z_φ(x_t) of DDPP-LB: one number (B,) per partially masked sequence (B, n). It starts at zero."""

    def __init__(
        self,
        n_tokens: int,
        n_symbols: int,
        embedding: int = 32,
        hidden: int = 128,
        layers: int = 2,
        *,
        time_features: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            n_tokens,
            n_symbols,
            embedding,
            hidden,
            layers,
            outputs=1,
            time_features=time_features,
            seed=seed,
        )
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
        """log Z_φ, (B,)."""
        return super().forward(tokens, sigma).squeeze(-1)


class TabulatedDenoiser(nn.Module):
    """The answers of a denoiser that ignores the time, for all (V+1)^n partial states: a call becomes a look-up.

    Raises:
        ValueError: for more than ``largest`` states.
    """

    def __init__(self, denoiser: nn.Module, largest: int = 2**20, chunk: int = 2**13) -> None:
        super().__init__()
        self.n_tokens, self.n_symbols = int(denoiser.n_tokens), int(denoiser.n_symbols)  # type: ignore[arg-type]
        base = self.n_symbols + 1
        if base**self.n_tokens > largest:
            raise ValueError(f"{base}^{self.n_tokens} states are too many to tabulate; at most {largest}")
        device = next(denoiser.parameters()).device
        strides = base ** torch.arange(self.n_tokens - 1, -1, -1, device=device)
        with torch.no_grad():
            states = torch.arange(base**self.n_tokens, device=device).unsqueeze(1) // strides % base
            logits = torch.cat([denoiser(part) for part in states.split(chunk)])
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("logits", logits, persistent=False)

    strides: Tensor
    logits: Tensor

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> Tensor:
        """Logits (B, n, V+1) of tokens (B, n)."""
        return self.logits.index_select(0, (tokens * self.strides).sum(-1))
