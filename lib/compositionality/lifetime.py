"""One training with a look inside at every checkpoint: the small model's lifetime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lib.compositionality.geometry import Tables, checkpoint_tables, group_rows, size_rows
from lib.compositionality.grammar import TEMPLATES, Lexicon
from lib.compositionality.language_model import GPT, DocumentData, GPTConfig, make_gpt
from lib.compositionality.question_answering import BOS, STOP, Language
from lib.compositionality.shuffles import MODES, shuffle_tokens
from lib.records import Run
from lib.training import fit, make_trainer


@dataclass(frozen=True)
class Plan:
    """What is measured of a training.

    Attributes:
        name: names the training in files. slots: content slots of the grammar. checkpoints: steps, ascending; 0 is the
            untrained model. prompts: N, sentences of a set. modes, couplings: the sets; see :meth:`couplings_at`.
        deep: whether scales and last tokens are looked at, at the first and the last checkpoint.
        group_prompts: sentences from which groups of equal last token are formed, at the last checkpoint, 0 for none.
        sizes: numbers of sentences for the dependence on N, empty for none.
    """

    name: str
    slots: int = 13
    checkpoints: tuple[int, ...] = (0,)
    prompts: int = 1000
    modes: tuple[str, ...] = MODES
    couplings: tuple[int, ...] = (1, 2, 3, 4)
    deep: bool = False
    group_prompts: int = 0
    sizes: tuple[int, ...] = field(default_factory=tuple)

    def couplings_at(self, step: int) -> tuple[int, ...]:
        """All k at the first, the middle and the last checkpoint; at the others the two whose difference is the separation."""
        steps = self.checkpoints
        if step in (steps[0], steps[len(steps) // 2], steps[-1]):
            return self.couplings
        return tuple(dict.fromkeys((self.couplings[0], self.couplings[-1])))


class Inspector(Callback):
    """Measures the model at the plan's checkpoints; its tables survive a resume.

    Args:
        language: the model's language. prompts: k → indices (≥ N, S). held_out: documents for loss and skill.
        labels: of all rows. seed: of the shuffles.
    """

    def __init__(
        self,
        plan: Plan,
        language: Language,
        prompts: Mapping[int, np.ndarray],
        held_out: Tensor,
        labels: Mapping[str, Any],
        seed: int,
    ) -> None:
        self.plan, self.language, self.prompts = plan, language, prompts
        self.held_out, self.labels, self.seed = held_out, dict(labels), seed
        self.tables = Tables()

    def tokens(self, mode: str, k: int, n: int) -> np.ndarray:
        """[bos] and the first n sentences of coupling k in the given order of words, (n, W + 2). Every k has its own shuffles."""
        sentences = self.language.sentences(self.prompts[k][:n])
        rng = np.random.default_rng([self.seed, k, MODES.index(mode), n])
        return np.pad(shuffle_tokens(sentences, mode, rng), ((0, 0), (1, 0)), constant_values=BOS)

    def inspect(self, model: GPT, step: int) -> None:
        """Measure ``model`` and add the rows."""
        plan, labels = self.plan, {**self.labels, "step": step}
        loss, skill = model.evaluate(self.held_out)
        self.tables.history.append({**labels, "loss": loss, "skill": skill})

        def represent(mode: str, k: int) -> tuple[Tensor, np.ndarray]:
            tokens = self.tokens(mode, k, plan.prompts)
            return model.layers_at_last_token(torch.as_tensor(tokens)), tokens[:, -1]

        ends = step in (plan.checkpoints[0], plan.checkpoints[-1])
        self.tables.extend(
            checkpoint_tables(represent, plan.modes, plan.couplings_at(step), labels, plan.deep and ends)
        )
        if plan.group_prompts and step == plan.checkpoints[-1]:
            self._groups(model, labels)
        if plan.sizes and step == plan.checkpoints[-1]:
            for mode in ("coherent", "glued", "dot"):
                for k in (plan.couplings[0], plan.couplings[-1]):
                    tokens = torch.as_tensor(self.tokens(mode, k, max(plan.sizes)))
                    last = model.layers_at_last_token(tokens)[-1]
                    self.tables.sizes += size_rows(last, plan.sizes, {**labels, "mode": mode, "k": k})

    def _groups(self, model: GPT, labels: Mapping[str, Any]) -> None:
        """Within groups of sentences that end in a function word or the stop, last layer."""
        word = {
            t: self.language.tokens[t]
            for t in (STOP, *self.language.layout[self.language.layout >= 0].tolist())
        }
        for k in (self.plan.couplings[0], self.plan.couplings[-1]):
            glued = self.tokens("glued", k, self.plan.group_prompts)
            kept = glued[: self.plan.prompts]
            wanted = glued[self.plan.prompts :]
            chosen = np.concatenate([kept, wanted[np.isin(wanted[:, -1], list(word))]])
            coherent = self.tokens("coherent", k, self.plan.prompts)
            self.tables.groups += group_rows(
                model.layers_at_last_token(torch.as_tensor(chosen))[-1],
                chosen[:, -1],
                model.layers_at_last_token(torch.as_tensor(coherent))[-1],
                word,
                {**labels, "k": k},
            )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step == 0 and 0 in self.plan.checkpoints:
            self.inspect(pl_module, 0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step in self.plan.checkpoints:
            self.inspect(pl_module, trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.tables)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tables = Tables(**state_dict)


def lifetime_job(
    run: Run[Any],
    plan: Plan,
    config: GPTConfig,
    lexicon: Lexicon,
    prompts: Mapping[int, np.ndarray],
    seed: int,
    checkpoint_every: int | None = None,
) -> Tables:
    """Train one model and measure it at the plan's checkpoints.

    Args:
        run: device and output folder. prompts: k → sentences that are measured, indices (≥ N, S); the training never sees them
            on purpose, it draws its own uniform sentences. seed: of weights, documents and shuffles.
        checkpoint_every: steps between checkpoints for a resume.

    Raises:
        ValueError: for fewer prompts than the plan needs.
    """
    needed = max(plan.prompts, plan.group_prompts, *plan.sizes, 0)
    for k in plan.couplings:
        if len(prompts[k]) < needed:
            raise ValueError(f"k={k}: {needed} sentences are needed, there are {len(prompts[k])}")
    language = Language.build(lexicon, TEMPLATES[plan.slots])
    model = make_gpt(language, config, seed)
    data = DocumentData(language, config, seed)
    labels = {"model": plan.name, "width": config.width, "seed": seed, "words": language.template.n_words}
    inspector = Inspector(plan, language, prompts, data.held_out, labels, seed)
    trainer = make_trainer(
        run,
        max_steps=config.steps,
        name=f"{plan.name}-{config.width}-{plan.slots}-seed{seed}",
        job=(plan, config, lexicon, prompts, seed),
        gradient_clip=config.clip,
        checkpoint_every=checkpoint_every,
        callbacks=[inspector],
    )
    threads = torch.get_num_threads()
    if (
        run.device.type == "cpu"
    ):  # a model this small gains nothing from a second thread, and waits for it on a busy machine
        torch.set_num_threads(1)
    try:
        fit(trainer, model, data)
    finally:
        torch.set_num_threads(threads)
    return inspector.tables
