"""Character models of Fig. 2 on windows of a text, and the choice of their learning rates on an inner split of its training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lib.datasets import DataError
from lib.minrnn.character_text import CharacterText, bigram_loss, inner_split, text_from, windows
from lib.minrnn.mixers import CausalAttention
from lib.minrnn.token_data import (
    Batch,
    GeneratedBatches,
)
from lib.minrnn.token_model import Architecture, History, Optimisation, TokenModel, train_tokens
from lib.profiles import ParameterError, setting, settings_class
from lib.random_streams import stream

if TYPE_CHECKING:
    from lib.records import Run

EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Recipe:
    """What tells the models of Fig. 2 apart; the rest of a block is the same for all.

    Attributes:
        mixer: see :mod:`lib.minrnn.mixers`. expansion: hidden width of the mixer over d.
        conv: taps of the causal convolution before each mixer; None for none.
    """

    mixer: str
    expansion: float = 1.0
    conv: int | None = None


MODELS = {
    # these expansions give the recurrent models about as many weights as the Transformer with convolution has
    "minGRU": Recipe("min_gru", 2.0, conv=4),
    "minLSTM": Recipe("min_lstm", 1.5, conv=4),
    "S6": Recipe("s6", 2.0),  # brings its own convolution
    "Transformer": Recipe("attention"),
    "Transformer + conv": Recipe("attention", conv=4),
}
"""The models of the text experiment by the name that readers see."""


@settings_class
class TextSettings:
    """Sizes of a language model, of its windows and of its training."""

    width: int = setting(32, "channels", "width of the model", 384, least=1)
    layers: int = setting(2, "layers", "depth", 3, least=1)
    heads: int = setting(2, "heads", "attention heads of the Transformer", 6, least=1)
    block: int = setting(32, "characters", "window", 256, least=2)
    batch: int = setting(16, "windows", "windows per step", 64, least=1)
    steps: int = setting(500, "steps", "optimiser steps of every model", 5000, least=1)
    warmup: int = setting(20, "steps", "linear warm-up; a cosine to a tenth follows", least=0)
    weight_decay: float = setting(0.05, "1", "AdamW's, on what the blocks do not exempt", least=0)
    clip: float = setting(1.0, "1", "largest norm of a gradient", 0.25, above=0)
    dropout: float = setting(0.0, "probability", "dropout in the MLP", 0.2, least=0, below=1)
    test_windows: int = setting(64, "windows", "evenly spaced test windows", least=1)
    evaluate_every: int = setting(10, "steps", "steps between test losses", 25, least=1)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ParameterError(f"heads={self.heads} does not divide width={self.width}")

    def architecture(self, model: str) -> Architecture:
        """The backbone of a model of :data:`MODELS`: [convolution] → mixer → MLP in every layer."""
        recipe = MODELS[model]
        attends = recipe.mixer == "attention"
        return Architecture(
            recipe.mixer,
            self.layers,
            self.width,
            recipe.expansion,
            conv=recipe.conv,
            mlp="gelu",
            dropout=self.dropout,
            max_positions=self.block if attends else None,
            options=(("heads", self.heads), ("dropout", self.dropout)) if attends else (),
        )

    def optimisation(self, learning_rate: float) -> Optimisation:
        """The training of every model, at its own rate."""
        return Optimisation(
            self.steps,
            learning_rate,
            self.warmup,
            cosine=True,
            weight_decay=self.weight_decay,
            clip=self.clip,
        )


class TextData(lightning.LightningDataModule):
    """Random windows of the training part, and evenly spaced windows of the test part.

    Args:
        text: the split text.
        settings: length and number of windows. Test windows, the same for every model and seed, do not overlap as long as
            test_windows·(block + 1) characters fit.
        seed: of the training windows.

    Raises:
        DataError: if a part of the text is shorter than one window.
    """

    def __init__(self, text: CharacterText, settings: TextSettings, seed: int) -> None:
        super().__init__()
        block = settings.block
        for name, part in (("training", text.train), ("test", text.test)):
            if len(part) < block + 1:
                raise DataError(f"the {name} text has {len(part)} characters, a window needs {block + 1}")
        self.text, self.block, self.batch, self.seed = text, block, settings.batch, seed
        starts = torch.linspace(0, len(text.test) - block - 1, settings.test_windows).long()
        self.evaluation = [windows(text.test, some, block) for some in starts.split(EVALUATION_BATCH)]

    def draw(self, generator: torch.Generator) -> Batch:
        """A batch of random training windows."""
        starts = torch.randint(len(self.text.train) - self.block, (self.batch,), generator=generator)
        return windows(self.text.train, starts, self.block)

    def train_dataloader(self) -> DataLoader[Batch]:
        first = self.trainer.global_step if self.trainer is not None else 0
        return DataLoader(GeneratedBatches(self.draw, self.seed, first), batch_size=None)


class LanguageModel(TokenModel):
    """A character model: next-character cross-entropy, and sampling token by token with O(1) state per step."""

    @torch.no_grad()
    def sample(self, prompt: Tensor, n: int, seed: int, temperature: float = 1.0) -> Tensor:
        """Continue ``prompt`` (P,) by ``n`` characters in recurrent mode.

        Returns:
            The continuation (n,), on the CPU.

        Raises:
            ValueError: for an empty prompt or a temperature that is not positive.
        """
        if prompt.numel() == 0 or temperature <= 0:
            raise ValueError("sampling needs a non-empty prompt and a positive temperature")
        self.eval()
        generator = stream(seed, "written text").torch()
        logits, state = self(prompt[None].to(self.device))
        out = []
        for _ in range(n):
            p = torch.softmax(logits[0, -1].double().cpu() / temperature, dim=0)
            token = torch.multinomial(p, 1, generator=generator)
            out.append(token)
            logits, state = self(token[None].to(self.device), state)
        return torch.cat(out)


@dataclass(frozen=True)
class TextResult:
    """One trained language model.

    Attributes:
        model: name in the figures. seed: of weights, windows and dropout. learning_rate: peak rate. history: test losses.
        parameters: trainable numbers. tokens_per_step: characters read by one step.
        flops_per_token: floating-point operations of forward and backward per character, see :func:`flops_per_token`.
        bigram_loss: of the text that it was trained on, see :func:`bigram_loss`.
        sample: a continuation by the trained model.
    """

    model: str
    seed: int
    learning_rate: float
    history: History
    parameters: int
    tokens_per_step: int
    flops_per_token: float
    bigram_loss: float
    sample: str = ""


def flops_per_token(model: LanguageModel, block: int) -> float:
    """6 per weight of a matrix (a multiply and an add, forward once, backward twice), and for attention 12·T·d_h per layer.

    Element-wise work and scans are left out: they are smaller by a factor of the width.
    """
    matrices = sum(
        m.weight.numel()
        for m in model.modules()
        if isinstance(m, (nn.Linear, nn.Conv1d)) and m.weight is not None
    )
    attention = sum(
        12 * block * m.project_out.in_features for m in model.modules() if isinstance(m, CausalAttention)
    )
    return float(6 * matrices + attention)


def train_language_model(
    run: Run[Any],
    settings: TextSettings,
    name: str,
    text: CharacterText,
    learning_rate: float,
    seed: int,
    sample_characters: int = 0,
    experiment: str = "text",
) -> TextResult:
    """Train one model on windows of ``text`` and measure its test loss along the way.

    Args:
        name: of the model, see :data:`MODELS`. sample_characters: length of the continuation to sample at the end, 0 for none.
        experiment: what the training is part of; with model, rate and seed it names the checkpoints.
    """
    with stream(seed, "initialisation").as_global():
        model = LanguageModel(
            len(text.alphabet), settings.architecture(name), settings.optimisation(learning_rate)
        )
    with stream(seed, "dropout").as_global():
        (history,) = train_tokens(
            run,
            model,
            TextData(text, settings, seed),
            name=f"{experiment}-{name}-rate{learning_rate}-seed{seed}",
            job=(text, settings, seed),
            evaluate_every=settings.evaluate_every,
        )
    return TextResult(
        name,
        seed,
        learning_rate,
        history,
        sum(p.numel() for p in model.parameters()),
        settings.batch * settings.block,
        flops_per_token(model, settings.block),
        bigram_loss(text),
        continuation(model, text, settings.block // 2, sample_characters, seed),
    )


def continuation(model: LanguageModel, text: CharacterText, prompt: int, characters: int, seed: int) -> str:
    """``characters`` sampled behind the first ``prompt`` characters of the test text; fewer where learned positions end."""
    positions = model.architecture.max_positions
    if positions is not None:
        characters = min(characters, positions - prompt)
    return text.decode(model.sample(text.test[:prompt], characters, seed)) if characters > 0 else ""


def choose_learning_rate(
    run: Run[Any],
    settings: TextSettings,
    name: str,
    text: CharacterText,
    rates: Sequence[float],
) -> float:
    """The rate with the lowest loss on the inner split (:func:`inner_split`); a single rate is taken as it is.

    Every model is tried with the same steps, initial weights and windows, which no repetition has.
    """
    if len(rates) == 1:
        return rates[0]
    inner, seed = inner_split(text), stream(run.seed, "choice of the learning rate").integer()
    losses = [
        train_language_model(run, settings, name, inner, rate, seed, experiment="rate").history.loss[-1]
        for rate in rates
    ]
    return rates[losses.index(min(losses))]


def train_seeds(
    run: Run[Any],
    settings: TextSettings,
    name: str,
    path: Path | None,
    rates: Sequence[float],
    seeds: Sequence[int],
    sample_characters: int = 0,
) -> list[TextResult]:
    """Choose the learning rate of one model, then train it with every seed; the first one is sampled from."""
    text = text_from(path, run.seed)
    rate = choose_learning_rate(run, settings, name, text, rates)
    lengths = [sample_characters, *[0] * (len(seeds) - 1)]
    return [
        train_language_model(run, settings, name, text, rate, seed, length)
        for seed, length in zip(seeds, lengths, strict=True)
    ]
