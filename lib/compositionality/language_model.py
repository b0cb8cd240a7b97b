"""A small GPT, trained from scratch on the question-answering language, that can be looked into at every layer.

Pre-norm blocks, learned positions, GELU, a final norm and an untied head. Logged metrics: loss, the mean cross-entropy in
nats over all next tokens of a document; skill, the share of answers whose token has the largest logit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lib.compositionality.question_answering import Language

_TRAINING, _HELD_OUT = 1, 2


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of the model and of its training.

    Attributes:
        width: D. layers: blocks. heads: attention heads, must divide D. steps: optimiser steps. batch: documents per step.
        questions: per document. learning_rate: AdamW's peak rate after ``warmup`` steps; a cosine to a tenth follows.
    """

    width: int = 96
    layers: int = 3
    heads: int = 4
    steps: int = 400
    batch: int = 64
    questions: int = 6
    learning_rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads, self.steps, self.batch, self.questions) < 1:
            raise ValueError(f"all sizes must be at least 1: {self}")
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}")

    def rate_factor(self, step: int) -> float:
        """Learning rate at ``step`` over its peak."""
        warmup = min(self.warmup, self.steps // 4)
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, self.steps - warmup)
        return 0.55 + 0.45 * math.cos(math.pi * min(1.0, progress))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project_in, self.project_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, last_only: bool = False) -> Tensor:
        """From x (B, T, D) the block's output (B, T, D), or (B, 1, D) of the last token alone."""
        b, t, d = x.shape
        qkv = self.project_in(self.norm_attention(x)).view(b, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        if last_only:
            x, q = x[:, -1:], q[:, :, -1:]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=not last_only)
        x = x + self.project_out(mixed.transpose(1, 2).reshape(b, -1, d))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))


class GPT(lightning.LightningModule):
    """The model; :meth:`layers_at_last_token` is what the chapter measures.

    Args:
        vocabulary: number of tokens. positions: longest sequence. config: sizes.
        answer_places: places of a document whose next token is an answer.
    """

    def __init__(self, vocabulary: int, positions: int, config: GPTConfig, answer_places: np.ndarray) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(vocabulary, config.width)
        self.position_embedding = nn.Embedding(positions, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, vocabulary, bias=False)
        self.register_buffer("answer_places", torch.as_tensor(answer_places), persistent=False)
        self.answer_places: Tensor
        for embedding in (self.token_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=0.1)

    def residual_stream(self, tokens: Tensor) -> list[Tensor]:
        """State after the embedding and after every block, L + 1 tensors (B, T, D); the last one passes the final norm.

        The order and the norm are those of ``hidden_states`` in the transformers library, so that the same index means the
        same thing for this model and for Pythia.
        """
        x = self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]
        states = [x]
        for block in self.blocks:
            x = block(x)
            states.append(x)
        states[-1] = self.final_norm(x)
        return states

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of the next token."""
        return self.head(self.residual_stream(tokens)[-1])

    @torch.no_grad()
    def layers_at_last_token(self, tokens: Tensor, batch: int = 64) -> Tensor:
        """Residual stream at the last token after every block; the embedding output is dropped, as in the paper.

        Args:
            tokens: (n, T), no padding. batch: sequences at a time; by default what a core's cache holds, on a GPU many times as many.

        Returns:
            float32, (L, n, D), on the model's device.
        """
        parts = []
        for part in tokens.split(batch if self.device.type == "cpu" else 16 * batch):
            x = self.token_embedding(part.to(self.device)) + self.position_embedding.weight[: part.shape[1]]
            states = []
            for place, block in enumerate(self.blocks, start=1):
                x = block(
                    x, last_only=place == len(self.blocks)
                )  # of the last block nothing else is looked at
                states.append(x[:, -1])
            states[-1] = self.final_norm(states[-1])
            parts.append(torch.stack(states))
        return torch.cat(parts, dim=1).float()

    @torch.no_grad()
    def evaluate(self, documents: Tensor) -> tuple[float, float]:
        """Loss in nats per token and skill (share of right answers) on documents (n, T)."""
        was_training = self.training
        self.eval()
        documents = documents.to(self.device)
        logits = self(documents[:, :-1])
        targets = documents[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        hits = logits.argmax(-1)[:, self.answer_places] == targets[:, self.answer_places]
        self.train(was_training)
        return float(loss), float(hits.float().mean())

    def training_step(self, documents: Tensor, batch_index: int) -> Tensor:
        logits = self(documents[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), documents[:, 1:].flatten())
        if self.global_step % 50 == 0 and not torch.isfinite(loss):  # reading the value makes a GPU wait
            raise FloatingPointError(f"the training loss is {float(loss)} at step {self.global_step}")
        return loss

    def configure_optimizers(self) -> Any:
        config = self.config
        optimiser = torch.optim.AdamW(
            self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.95)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, config.rate_factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Documents(IterableDataset[Tensor]):
    """Endless batches of documents; the one of step i depends on the seed and i alone, so that a resume continues them."""

    def __init__(self, language: Language, config: GPTConfig, seed: int, first: int) -> None:
        self.language, self.config, self.seed, self.first = language, config, seed, first

    def __iter__(self) -> Iterator[Tensor]:
        step = self.first
        while True:
            rng = np.random.default_rng([self.seed, _TRAINING, step])
            yield torch.as_tensor(self.language.documents(self.config.batch, self.config.questions, rng))
            step += 1


class DocumentData(lightning.LightningDataModule):
    """Fresh documents for training, and held-out ones for loss and skill.

    Attributes:
        held_out: int64, (n, T), the same at every checkpoint.
    """

    def __init__(self, language: Language, config: GPTConfig, seed: int, n_held_out: int = 256) -> None:
        super().__init__()
        self.language, self.config, self.seed = language, config, seed
        rng = np.random.default_rng([seed, _HELD_OUT])
        self.held_out = torch.as_tensor(language.documents(n_held_out, config.questions, rng))

    def train_dataloader(self) -> DataLoader[Tensor]:
        first = self.trainer.global_step if self.trainer is not None else 0
        return DataLoader(_Documents(self.language, self.config, self.seed, first), batch_size=None)


def make_gpt(language: Language, config: GPTConfig, seed: int) -> GPT:
    """A freshly initialised model for ``language``; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return GPT(
        language.size,
        language.document_length(config.questions),
        config,
        language.answer_places(config.questions),
    )
