"""Selective copying (Gu & Dao 2023; Tables 1 and 2 of the paper): remember M tokens scattered over T positions.

Vocabulary of 16: token 15 is blank, 0 asks for an answer, 1..14 are data. A sequence holds M data tokens at random positions
among T, blanks elsewhere, then M tokens 0; the targets are the data tokens in order, read at the last M outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lib.minrnn.gate_reading import GateReading, read_gates
from lib.minrnn.seed_stack import SeedStack, StackedBatches, stackable
from lib.minrnn.token_data import IGNORE, Batch, GeneratedData
from lib.minrnn.token_model import Architecture, History, Optimisation, TokenModel, train_tokens
from lib.profiles import ParameterError, setting, settings_class
from lib.random_streams import stream

if TYPE_CHECKING:
    from lib.records import Run

VOCABULARY = 16
BLANK = 15
PREDICT = 0
N_DATA_SYMBOLS = 14
CHANCE = 1 / N_DATA_SYMBOLS
EVALUATION_BATCH = 512
READ_TOKENS = 32_768
"""Of evaluation sequences whose gates are read, at most this many tokens a model."""


def copying_batch(batch: int, length: int, n_data: int, generator: torch.Generator) -> Batch:
    """Draw a batch of selective copying.

    Args:
        batch: sequences. length: T, positions among which the data are scattered. n_data: M, data tokens.
        generator: draws tokens (with replacement) and positions (without).

    Returns:
        Tokens and targets, both (batch, T + M); targets are :data:`IGNORE` except at the last M places.

    Raises:
        ValueError: unless 1 ≤ M ≤ T and batch ≥ 1.
    """
    if batch < 1 or not 1 <= n_data <= length:
        raise ValueError(
            f"selective copying needs batch ≥ 1 and 1 ≤ M ≤ T, got batch={batch}, M={n_data}, T={length}"
        )
    data = torch.randint(1, N_DATA_SYMBOLS + 1, (batch, n_data), generator=generator)
    # the M smallest of T uniform numbers lie at a uniformly drawn set of M positions
    positions = (
        torch.rand(batch, length, generator=generator).topk(n_data, largest=False).indices.sort().values
    )
    tokens = torch.full((batch, length + n_data), BLANK)
    tokens.scatter_(1, positions, data)
    tokens[:, length:] = PREDICT
    targets = torch.full_like(tokens, IGNORE)
    targets[:, length:] = data
    return tokens, targets


def as_text(tokens: Tensor, targets: Tensor) -> str:
    """One sequence (T + M,) and its targets (T + M,) in two lines: ``·`` a blank, ``?`` asks for an answer."""
    symbols = {BLANK: "·", PREDICT: "?"}
    shown = " ".join(f"{symbols.get(int(i), int(i)):>2}" for i in tokens)
    wanted = " ".join(f"{int(i) if i != IGNORE else '':>2}" for i in targets)
    return f"input : {shown}\ntarget: {wanted}"


@settings_class
class CopyingSettings:
    """Sizes of the task and of a training on it: what every experiment with selective copying sets."""

    length: int = setting(12, "tokens", "T, positions among which the data are scattered", 4096, least=1)
    data_tokens: int = setting(4, "tokens", "M, data tokens to copy", 16, least=1)
    width: int = setting(32, "channels", "width d of the model", 64, least=1)
    expansion: float = setting(2.0, "1", "hidden width over d inside a mixer", 6, above=0)
    batch: int = setting(32, "sequences", "training sequences per step", 64, least=1)
    learning_rate: float = setting(5e-3, "1", "AdamW's rate, constant after the warm-up", 3e-4, above=0)
    warmup: int = setting(30, "steps", "linear warm-up of the rate", 0, least=0)
    seeds: int = setting(5, "seeds", "repetitions of every model", "3 (± given)", least=1)
    evaluation_sequences: int = setting(192, "sequences", "evaluation set of every seed", 12_800, least=1)
    evaluate_every: int = setting(50, "steps", "steps between evaluations", 1000, least=1)
    gate_bias: float = setting(
        -1.5, "1", "added to minGRU's gate z at the start (negative remembers)", 0.0, least=-20, most=20
    )
    forget_bias: float = setting(
        1.5, "1", "added to minLSTM's forget gate at the start", 3.0, least=-20, most=20
    )
    state_size: int = setting(4, "1", "state size N of S6 and of the S4-type control", 16, least=1)

    def __post_init__(self) -> None:
        if self.data_tokens > self.length:
            raise ParameterError(f"data_tokens={self.data_tokens} must be at most length={self.length}")

    def mixer_options(self, mixer: str) -> tuple[tuple[str, Any], ...]:
        """Further arguments of ``mixer`` on this task; minLSTM has un-normalised gates, as in the released code."""
        if mixer == "min_gru":
            return (("gate_bias", self.gate_bias),)
        if mixer == "min_lstm":
            return (("normalised", False), ("forget_bias", self.forget_bias))
        return (("d_state", self.state_size),)


def copying_data(settings: CopyingSettings, seed: int) -> GeneratedData:
    """Fresh training batches, and a fixed evaluation set of its own in batches of at most :data:`EVALUATION_BATCH`.

    Args:
        seed: of both streams.
    """
    size = min(EVALUATION_BATCH, settings.evaluation_sequences)
    length, data_tokens = settings.length, settings.data_tokens
    return GeneratedData(
        lambda generator: copying_batch(settings.batch, length, data_tokens, generator),
        lambda generator: copying_batch(size, length, data_tokens, generator),
        seed,
        evaluation_batches=-(-settings.evaluation_sequences // size),
    )


@dataclass(frozen=True)
class CopyingResult:
    """One trained model.

    Attributes:
        architecture: with the member's own options. seed: of weights and data. history: evaluations on its own fixed set.
        parameters: trainable numbers. untrained, trained: for minGRU, what its layers do before and after the training.
    """

    architecture: Architecture
    seed: int
    history: History
    parameters: int
    untrained: GateReading | None = None
    trained: GateReading | None = None

    @property
    def accuracy(self) -> float:
        """Accuracy at the last evaluation, in percent."""
        return 100 * self.history.accuracy[-1]


Variant = tuple[tuple[str, Any], ...]


def train_copying(
    run: Run[Any],
    settings: CopyingSettings,
    mixer: str,
    n_layers: int,
    steps: int,
    seeds: Sequence[int],
    *,
    expansion: float | None = None,
    variants: Sequence[Variant] = ((),),
    name: str = "copying",
) -> list[CopyingResult]:
    """Train one architecture with every seed and every variant of its options.

    Seeds and variants of minGRU and minLSTM train as one stack; other mixers train one by one, in the same way otherwise.

    Args:
        steps: optimiser steps.
        expansion: of the mixer's hidden width, where it is not that of the settings.
        variants: further mixer options that change initial values only, e.g. ``((("forget_bias", 3.0),), …)``.
        name: of the experiment; with length, mixer, layers and seed it names the checkpoints.
    """
    expansion = settings.expansion if expansion is None else expansion
    base = Architecture(mixer, n_layers, settings.width, expansion, options=settings.mixer_options(mixer))
    optimisation = Optimisation(steps, settings.learning_rate, settings.warmup)
    members = [(seed, replace(base, options=(*base.options, *v))) for v in variants for seed in seeds]
    models, data = [], []
    for seed, architecture in members:
        with stream(seed, "initialisation").as_global():
            models.append(TokenModel(VOCABULARY, architecture, optimisation))
        data.append(copying_data(settings, seed))
    train = functools.partial(train_tokens, run, evaluate_every=settings.evaluate_every)
    label = f"{name}-T{settings.length}-{mixer}-{n_layers}"
    histories, readings = [], []
    if len(models) > 1 and stackable(models[0]):
        stack = SeedStack(models)
        untrained = _read(stack, data, settings.length)
        histories = train(stack, StackedBatches(data), name=label, job=(settings, members))
        readings = list(zip(untrained, _read(stack, data, settings.length), strict=True))
    else:
        for (seed, architecture), model, own in zip(members, models, data, strict=True):
            changed = "".join(f"-{o}{v}" for o, v in architecture.options[len(base.options) :])
            untrained = _read(model, [own], settings.length)
            histories += train(model, own, name=f"{label}{changed}-seed{seed}", job=(settings, seed))
            readings += zip(untrained, _read(model, [own], settings.length), strict=True)
    return [
        CopyingResult(architecture, seed, history, parameters_of(model), *reading)
        for (seed, architecture), history, model, reading in zip(
            members, histories, models, readings, strict=True
        )
    ]


def _read(model: nn.Module, data: Sequence[GeneratedData], length: int) -> list[GateReading | None]:
    """What a model, or each member of a stack, does with its own first evaluation sequences."""
    most = max(2, READ_TOKENS // length)
    tokens = torch.cat([own.evaluation[0][0][:most, :length] for own in data])
    return read_gates(model, tokens, tokens != BLANK, len(data))


def parameters_of(model: nn.Module) -> int:
    """Trainable numbers of a model."""
    return sum(p.numel() for p in model.parameters())


def weights_of(settings: CopyingSettings, mixer: str, n_layers: int, expansion: float) -> int:
    """Trainable numbers of a model that is not made."""
    options = settings.mixer_options(mixer)
    with torch.device("meta"):
        architecture = Architecture(mixer, n_layers, settings.width, expansion, options=options)
        return parameters_of(TokenModel(VOCABULARY, architecture, Optimisation(1, 1.0)))


def expansion_of_weights(settings: CopyingSettings, mixer: str, n_layers: int, weights: int) -> float:
    """The hidden width over d with which a model comes nearest to ``weights`` trainable numbers.

    Args:
        mixer: one whose number of weights is linear in its hidden width.
    """
    one, two = (weights_of(settings, mixer, n_layers, hidden / settings.width) for hidden in (1, 2))
    return max(1, 1 + round((weights - one) / (two - one))) / settings.width
