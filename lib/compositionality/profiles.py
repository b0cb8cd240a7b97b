"""The four profiles of the chapter: every size of a run, with its unit and the paper's own value."""

from __future__ import annotations

from dataclasses import replace

from lib.compositionality.grammar import COUPLINGS, RELEASED_PROMPTS, SPLITS, TEMPLATES
from lib.profiles import ParameterError, setting, settings_class


@settings_class
class Settings:
    """Sizes of one run of the chapter; the fields say what each one sets."""

    workers: int = setting(
        0, "processes", "trainings side by side; 0: one per core on a CPU, 1 on a GPU", least=0
    )
    checkpoint_every: int | None = setting(
        None, "steps", "steps between checkpoints for a resume; None: none", least=1
    )

    # the small language model
    seeds: int = setting(
        4,
        "seeds",
        "models trained from scratch; the i-th is measured on split i of the released prompts",
        least=0,
    )
    width: int = setting(96, "channels", "width D of the main model", "128..5120", least=1)
    layers: int = setting(3, "layers", "blocks", "6..36", least=1)
    heads: int = setting(4, "heads", "attention heads", "4..40", least=1)
    steps: int = setting(500, "steps", "optimiser steps", 143_000, least=1)
    batch: int = setting(32, "documents", "documents per step", "1024 of 2048 tokens", least=1)
    questions: int = setting(6, "questions", "questions per document", least=1, most=max(TEMPLATES))
    learning_rate: float = setting(2e-3, "1", "AdamW's peak rate", above=0)
    warmup: int = setting(100, "steps", "linear warm-up; a cosine to a tenth follows", least=0)
    checkpoints: tuple[int, ...] = setting(
        (0, 50, 100, 150, 200, 250, 300, 500),
        "steps",
        "training steps at which the model is measured",
        "0..143000",
        least=0,
        distinct=True,
    )

    # what is measured
    prompts: int = setting(
        1200, "sentences", "N, sentences of every data set", 10_000, least=100, most=RELEASED_PROMPTS
    )
    couplings: tuple[int, ...] = setting(
        (1, 2, 3, 4), "slots", "k, slots that share one index", (1, 2, 3, 4), among=COUPLINGS, distinct=True
    )
    group_prompts: int = setting(
        10_000,
        "sentences",
        "shuffled sentences from which groups of equal last token are formed",
        least=0,
        most=RELEASED_PROMPTS,
    )
    sample_sizes: tuple[int, ...] = setting(
        (500, 1000, 2000, 4000),
        "sentences",
        "N of the dependence on N, first seed only",
        least=100,
        most=RELEASED_PROMPTS,
        distinct=True,
        empty=True,
    )
    widths: tuple[int, ...] = setting(
        (32, 64),
        "channels",
        "further widths for the scaling claim, trained alike",
        "128..5120",
        least=1,
        distinct=True,
    )
    width_seeds: int = setting(3, "seeds", "models of every further width", least=1)
    lengths: tuple[int, ...] = setting(
        (),
        "slots",
        "content slots of the length ablation, a model each",
        (3, 6, 9, 11, 13),
        empty=True,
        among=TEMPLATES,
        distinct=True,
    )
    length_prompts: int = setting(
        1000, "sentences", "N of the length ablation", 10_000, least=100, most=RELEASED_PROMPTS
    )
    bag_width: int = setting(48, "channels", "width of the bag of random word vectors", least=1)

    # the control with natural text
    text_seeds: int = setting(1, "seeds", "models of Shakespeare's characters, a control; 0: none", least=0)
    text_width: int = setting(32, "channels", "width of these models", least=1)
    text_steps: int = setting(300, "steps", "optimiser steps of these models", least=1)
    text_batch: int = setting(8, "windows", "windows of 192 characters per step", least=1)
    text_prompts: int = setting(
        500, "sentences", "N, sentences of every data set shown to them", least=100, most=RELEASED_PROMPTS
    )

    # models of the hub
    hub_models: tuple[str, ...] = setting(
        (),
        "ids",
        "hub ids, or folders with one folder per revision",
        "Pythia, Llama-3-8B, Mistral-7B",
        empty=True,
        distinct=True,
    )
    hub_steps: tuple[tuple[int, ...], ...] = setting(
        (),
        "steps",
        "for every hub model its training steps; an empty tuple: the final weights",
        empty=True,
        least=0,
    )
    hub_prompts: int = setting(
        10_000, "sentences", "N for models of the hub", 10_000, least=100, most=RELEASED_PROMPTS
    )
    hub_splits: int = setting(
        5, "splits", "splits of the prompts for models of the hub", 5, least=1, most=SPLITS
    )
    hub_batch: int = setting(64, "sentences", "sentences per forward pass", least=1)
    hub_precision: str = setting(
        "bfloat16",
        "1",
        "type of the weights; states are float32",
        "8 bit",
        among=("bfloat16", "float16", "float32"),
    )
    pile: bool = setting(False, "1", "measure the hub models on The Pile's snippets as well", True)

    def __post_init__(self) -> None:
        if self.seeds == 0 and not self.hub_models:
            raise ParameterError("seeds=0 needs hub_models: there would be nothing to measure")
        for name, widths in (
            ("width", (self.width,)),
            ("widths", self.widths),
            ("text_width", (self.text_width,)),
        ):
            for width in widths:
                if width % self.heads:
                    raise ParameterError(f"heads={self.heads} does not divide {name}={width}")
        if set(self.widths) <= {self.width}:
            raise ParameterError(f"widths={self.widths} must hold another width than width={self.width}")
        steps = self.checkpoints
        if len(steps) < 2 or sorted(steps) != list(steps) or steps[0] != 0 or steps[-1] != self.steps:
            raise ParameterError(f"checkpoints={steps} must rise from 0 to steps={self.steps}")
        if (
            len(self.couplings) < 2
            or self.couplings[0] != 1
            or sorted(self.couplings) != list(self.couplings)
        ):
            raise ParameterError(f"couplings={self.couplings} must be two or more, ascending from 1")
        if len(self.hub_steps) != len(self.hub_models):
            raise ParameterError(
                f"hub_steps={self.hub_steps} needs one tuple for each of the {len(self.hub_models)} hub_models"
            )
        if "" in self.hub_models:
            raise ParameterError(f"hub_models={self.hub_models} holds an empty name")


_DEFAULT = Settings()

_SMOKE = replace(
    _DEFAULT,
    workers=1,
    seeds=1,
    width_seeds=1,
    width=32,
    layers=2,
    steps=30,
    checkpoints=(0, 30),
    prompts=300,
    couplings=(1, 4),
    group_prompts=2000,
    sample_sizes=(150, 300),
    widths=(16,),
    lengths=(3,),
    length_prompts=200,
    text_width=16,
    text_steps=5,
    text_batch=4,
    text_prompts=150,
)

_GPU = replace(
    _DEFAULT,
    seeds=5,
    width_seeds=5,
    width=512,
    layers=8,
    heads=8,
    steps=600,
    batch=128,
    learning_rate=1e-3,
    checkpoints=(0, 10, 20, 30, 40, 50, 60, 75, 90, 100, 125, 150, 175, 200, 250, 300, 350, 400, 500, 600),
    prompts=10_000,
    sample_sizes=(500, 1000, 2000, 4000, 10_000),
    widths=(64, 128, 256, 1024),
    lengths=(3, 6, 9, 11, 13),
    length_prompts=1250,
    text_seeds=3,
    text_width=256,
    text_steps=2000,
    text_batch=64,
    text_prompts=2000,
)

_PYTHIA = "EleutherAI/pythia-{}-deduped"
_DYNAMICS = (0, 64, 512, 1000, 2000, 4000, 13_000, 33_000, 143_000)
_LAST = (143_000,)

_PAPER = replace(
    _GPU,
    seeds=0,
    text_seeds=0,
    hub_models=(
        "EleutherAI/pythia-14m",
        *(_PYTHIA.format(size) for size in ("70m", "160m", "410m", "1.4b", "6.9b", "12b")),
        "mistralai/Mistral-7B-v0.1",
        "meta-llama/Meta-Llama-3-8B",
    ),
    hub_steps=(_LAST, _LAST, _LAST, _DYNAMICS, _DYNAMICS, (0, 512, 1000, 2000, 143_000), _LAST, (), ()),
    pile=True,
)

PROFILES: dict[str, Settings] = {"smoke": _SMOKE, "default": _DEFAULT, "gpu": _GPU, "paper": _PAPER}
