"""A model over tokens: embedding → residual stack of sequence mixers → head, trained by cross-entropy where an answer is asked for.

Logged metrics, each over the positions whose target is not :data:`IGNORE`:

- loss: −(1/n) Σ log softmax(logits)[target], in nats;
- accuracy: (1/n) Σ [argmax logits = target].
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from lib.minrnn.blocks import Backbone, parameter_groups
from lib.minrnn.token_data import IGNORE, Batch
from lib.training import fit, make_trainer

if TYPE_CHECKING:
    from lib.records import Run


@dataclass(frozen=True)
class Architecture:
    """What a residual stack is made of; the words of :class:`lib.minrnn.blocks.Backbone`.

    Attributes:
        mixer: name known to ``make_mixer``. n_layers: residual layers. d_model: width d. expansion: d_h/d inside a mixer.
        conv: kernel of the causal depth-wise convolution before each mixer. mlp: ``"geglu"``, ``"gelu"`` or None.
        mlp_multiple: hidden width of the MLP over d. dropout: probability, in the MLP. max_positions: longest sequence of
            a model with learned positions. options: further arguments of the mixer, as (name, value) pairs.
    """

    mixer: str
    n_layers: int
    d_model: int
    expansion: float = 1.0
    conv: int | None = None
    mlp: str | None = None
    mlp_multiple: float | None = None
    dropout: float = 0.0
    max_positions: int | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def backbone(self) -> Backbone:
        """A freshly initialised stack."""
        return Backbone(
            self.n_layers,
            self.mixer,
            self.d_model,
            expansion=self.expansion,
            conv=self.conv,
            mlp=self.mlp,
            mlp_multiple=self.mlp_multiple,
            dropout=self.dropout,
            max_positions=self.max_positions,
            mixer_options=dict(self.options),
        )


@dataclass(frozen=True)
class Optimisation:
    """How a model is trained: AdamW with a linear warm-up, then a constant or cosine rate.

    Attributes:
        steps: optimiser steps. learning_rate: peak rate. warmup: steps of linear warm-up. cosine: decay the rate to a
            tenth by the last step. weight_decay: on everything that the blocks do not exempt. clip: maximal gradient norm.
    """

    steps: int
    learning_rate: float
    warmup: int = 0
    cosine: bool = False
    weight_decay: float = 0.05
    clip: float = 1.0

    def factor(self, step: int) -> float:
        """Share of the peak rate used by the update after ``step`` updates."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        if not self.cosine:
            return rise
        done = min(1.0, max(0.0, (step - self.warmup) / max(1, self.steps - self.warmup)))
        return rise * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def adamw(module: nn.Module, optimisation: Optimisation) -> dict[str, Any]:
    """The optimiser and its schedule in the form that Lightning expects."""
    optimiser = torch.optim.AdamW(
        parameter_groups(module, optimisation.weight_decay), lr=optimisation.learning_rate, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, optimisation.factor)
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class TokenModel(lightning.LightningModule):
    """Embedding, backbone, and a linear head without bias.

    Args:
        vocabulary: number of tokens, also of outputs.
        architecture: of the backbone.
        optimisation: of the training.
    """

    def __init__(self, vocabulary: int, architecture: Architecture, optimisation: Optimisation) -> None:
        super().__init__()
        self.architecture, self.optimisation = architecture, optimisation
        self.embedding = nn.Embedding(vocabulary, architecture.d_model)
        if architecture.max_positions is not None:
            # learned positions start at this size; token embeddings of size 1 would drown them
            nn.init.normal_(self.embedding.weight, std=0.02)
        self.backbone = architecture.backbone()
        self.head = nn.Linear(architecture.d_model, vocabulary, bias=False)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (B, T, V) and the state after the last token, from tokens (B, T) and an optional earlier state."""
        hidden, state = self.backbone(self.embedding(tokens), state)
        return self.head(hidden), state

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats over the positions that ask for an answer."""
        tokens, targets = batch
        logits, _ = self(tokens)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        loss = self.loss(batch)
        # every 50 steps only: reading the value makes a GPU wait
        if self.global_step % 50 == 0 and not torch.isfinite(loss):
            raise FloatingPointError(
                f"the training loss of {self.architecture.mixer} is {float(loss)} at step {self.global_step}"
            )
        return loss

    def configure_optimizers(self) -> Any:
        return adamw(self, self.optimisation)

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> list[dict[str, float]]:
        """Loss and accuracy over ``batches`` in evaluation mode, as a list of one; the mode is restored afterwards."""
        was_training, losses, hits, n = self.training, 0.0, 0, 0
        self.eval()
        for tokens, targets in batches:
            tokens, targets = tokens.to(self.device), targets.to(self.device)
            logits, _ = self(tokens)
            asked = targets != IGNORE
            wanted, got = targets[asked], logits[asked]
            losses += float(F.cross_entropy(got, wanted, reduction="sum"))
            hits += int((got.argmax(-1) == wanted).sum())
            n += wanted.numel()
        self.train(was_training)
        return [{"loss": losses / n, "accuracy": hits / n}]


@dataclass
class History:
    """What a training showed: one entry per evaluation.

    Attributes:
        steps: optimiser steps done. loss: evaluation loss, nats. accuracy: evaluation accuracy, a share.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)

    def accuracy_at(self, step: int | None = None) -> float:
        """Accuracy, a share, at the last evaluation, or at the last one up to ``step``.

        Raises:
            ValueError: if there was no evaluation by then.
        """
        if step is None:
            return self.accuracy[-1]
        by_then = [a for s, a in zip(self.steps, self.accuracy, strict=True) if s <= step]
        if not by_then:
            raise ValueError(f"no evaluation up to step {step}; the first was at {self.steps[0]}")
        return by_then[-1]

    def steps_to(self, threshold: float) -> int | None:
        """Steps at the first evaluation with accuracy ≥ ``threshold``, or None if there is none."""
        return next((s for s, a in zip(self.steps, self.accuracy, strict=True) if a >= threshold), None)

    def steps_to_loss(self, threshold: float) -> int | None:
        """Steps at the first evaluation with loss ≤ ``threshold``, or None if there is none."""
        return next((s for s, x in zip(self.steps, self.loss, strict=True) if x <= threshold), None)


class EvaluatedData(Protocol):
    """A LightningDataModule that also holds a fixed list of evaluation batches."""

    evaluation: list[Batch]

    def train_dataloader(self) -> Any:
        """The training stream."""


class EvaluateEvery(Callback):
    """Evaluate on fixed batches every ``every`` steps and after the last one; survives a resume.

    Attributes:
        histories: one per model that is trained (several for a stack of seeds).
    """

    def __init__(self, batches: Iterable[Batch], every: int) -> None:
        self.batches, self.every = list(batches), every
        self.histories: list[History] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        step = trainer.global_step
        if step % self.every and step != trainer.max_steps:
            return
        scores = pl_module.evaluate(self.batches)
        if not self.histories:
            self.histories = [History() for _ in scores]
        for history, score in zip(self.histories, scores, strict=True):
            history.steps.append(step)
            history.loss.append(score["loss"])
            history.accuracy.append(score["accuracy"])

    def state_dict(self) -> dict[str, Any]:
        return {"histories": [asdict(h) for h in self.histories]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.histories = [History(**h) for h in state_dict["histories"]]


def train_tokens(
    run: Run[Any],
    model: lightning.LightningModule,
    data: EvaluatedData,
    *,
    name: str,
    job: Any,
    evaluate_every: int,
    precision: str = "32-true",
) -> list[History]:
    """Train a :class:`TokenModel` (or a stack of them) on ``data``.

    Args:
        run: device, output folder and steps between checkpoints.
        name: names the training's checkpoints, in this run alone.
        job: what the data are made of, and what distinguishes the models beside their architecture and optimisation.
        evaluate_every: steps between evaluations on ``data.evaluation``.
        precision: Lightning's precision string.

    Returns:
        The evaluations, one history per model.
    """
    optimisation: Optimisation = model.optimisation  # type: ignore[assignment]
    evaluations = EvaluateEvery(data.evaluation, evaluate_every)
    trainer = make_trainer(
        run,
        max_steps=optimisation.steps,
        name=name,
        job=(model.architecture, optimisation, evaluate_every, job),
        gradient_clip=optimisation.clip,
        precision=precision,
        checkpoint_every=run.checkpoint_every,
        callbacks=[evaluations],
    )
    fit(trainer, model, data)
    return evaluations.histories
