"""Language models of the hub, checkpoint by checkpoint: Pythia through its training, Llama-3 and Mistral at its end.

What the paper needs and the released code does not do: the training step is passed to the loader as ``revision``, and
two steps are checked to hold different weights; weights are bfloat16 instead of 8-bit, and states are kept in float32.
Weights come from safetensors only, and whole (:mod:`lib.hub`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib.datasets import DataError
from lib.hub import load_model, load_tokenizer

HEADS = (r"^(embed_out|lm_head)\.",)
"""What turns the last states into logits, in the names of GPT-NeoX, Llama and Mistral; it is not used here."""


@dataclass(frozen=True)
class HubModel:
    """A model and the steps at which it is measured.

    Attributes:
        source: hub id, or a folder that holds one folder per revision. steps: training steps; empty for the final weights alone.
    """

    source: str
    steps: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Last part of the source."""
        return self.source.rstrip("/").rsplit("/", 1)[-1]

    @property
    def revisions(self) -> dict[int, str]:
        """Step → revision; the key −1 stands for the final weights of a model without published steps."""
        return {step: f"step{step}" for step in self.steps} or {-1: "main"}


def load(
    source: str, revision: str, device: torch.device, dtype: torch.dtype = torch.bfloat16
) -> tuple[Any, Any]:
    """Load one revision of a model and its tokenizer.

    Args:
        source: hub id, or a local folder with one folder per revision. revision: branch or tag of the hub, e.g. ``step1000``.

    Returns:
        The model without a head, in evaluation mode, and the tokenizer, which pads on the right with the end token.

    Raises:
        DataError: if transformers is missing, or the revision cannot be had, or not whole.
    """
    tokenizer = load_tokenizer(source, revision)
    model = load_model("AutoModel", source, revision, unused=HEADS, dtype=dtype)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device), tokenizer


@torch.no_grad()
def fingerprint(model: torch.nn.Module) -> tuple[float, ...]:
    """Sum and sum of squares of every parameter in float64: two checkpoints with equal ones hold equal weights."""
    return tuple(
        float(value)
        for parameter in model.parameters()
        for value in (parameter.double().sum(), parameter.double().square().sum())
    )


def check_different(fingerprints: dict[str, tuple[float, ...]], source: str) -> None:
    """Check that no two revisions hold the same weights, which is what a forgotten ``revision`` looks like.

    Raises:
        DataError: naming the two revisions.
    """
    seen: dict[tuple[float, ...], str] = {}
    for revision, value in fingerprints.items():
        if value in seen:
            raise DataError(f"{source}: revisions {seen[value]!r} and {revision!r} hold the same weights")
        seen[value] = revision


def _batches(lines: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(lines), size):
        yield list(lines[start : start + size])


@torch.no_grad()
def last_token_states(
    model: Any, tokenizer: Any, lines: Sequence[str], batch: int = 64
) -> tuple[Tensor, Tensor]:
    """Residual stream at the last token that is not padding, after every layer; the embedding output is dropped.

    The last layer's state has passed the model's final norm, as in the library's ``hidden_states``.

    Args:
        model, tokenizer: from :func:`load`. lines: sentences. batch: at a time.

    Returns:
        States, float32, (L, n, D), on the CPU, and the last token of every line, (n,).

    Raises:
        ValueError: if there is no line, or one without a token.
    """
    if not lines:
        raise ValueError("last_token_states needs at least one line")
    device = next(model.parameters()).device
    states, tokens = [], []
    for part in _batches(lines, batch):
        encoded = tokenizer(part, return_tensors="pt", padding=True, return_token_type_ids=False).to(device)
        last = encoded["attention_mask"].sum(dim=1) - 1
        if int(last.min()) < 0:
            raise ValueError("a line has no token")
        hidden = model(**encoded, output_hidden_states=True, use_cache=False).hidden_states[1:]
        row = torch.arange(len(part), device=device)
        states.append(torch.stack([layer[row, last].float() for layer in hidden]).cpu())
        tokens.append(encoded["input_ids"][row, last].cpu())
    return torch.cat(states, dim=1), torch.cat(tokens)
