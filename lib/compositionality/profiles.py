"""The four profiles of the chapter: every size of a run, with its unit and the paper's own value."""

from __future__ import annotations

from dataclasses import replace

from lib.compositionality.grammar import TEMPLATES
from lib.profiles import ParameterError, setting, settings_class


@settings_class
class Settings:
    """Sizes of one run of the chapter; the fields say what each one sets."""

    workers: int = setting(0, "processes", "trainings side by side; 0: one per core on a CPU, 1 on a GPU")
    checkpoint_every: int | None = setting(
        None, "steps", "steps between checkpoints for a resume; None: none", least=1
    )

    # the small language model
    seeds: int = setting(
        4, "seeds", "models trained from scratch; the i-th is measured on split i of the released prompts"
    )
    width: int = setting(96, "channels", "width D of the main model", "128..5120")
    layers: int = setting(3, "layers", "blocks", "6..36")
    heads: int = setting(4, "heads", "attention heads", "4..40")
    steps: int = setting(500, "steps", "optimiser steps", 143_000)
    batch: int = setting(32, "documents", "documents per step", "1024 of 2048 tokens")
    questions: int = setting(6, "questions", "questions per document")
    learning_rate: float = setting(2e-3, "1", "AdamW's peak rate")
    warmup: int = setting(100, "steps", "linear warm-up; a cosine to a tenth follows")
    checkpoints: tuple[int, ...] = setting(
        (0, 50, 100, 150, 200, 250, 300, 500),
        "steps",
        "training steps at which the model is measured",
        "0..143000",
    )

    # what is measured
    prompts: int = setting(1200, "sentences", "N, sentences of every data set", 10_000)
    couplings: tuple[int, ...] = setting((1, 2, 3, 4), "slots", "k, slots that share one index", (1, 2, 3, 4))
    group_prompts: int = setting(
        10_000, "sentences", "shuffled sentences from which groups of equal last token are formed"
    )
    sample_sizes: tuple[int, ...] = setting(
        (500, 1000, 2000, 4000), "sentences", "N of the dependence on N, first seed only"
    )
    widths: tuple[int, ...] = setting(
        (32, 64), "channels", "further widths for the scaling claim, trained alike", "128..5120"
    )
    width_seeds: int = setting(3, "seeds", "models of every further width")
    lengths: tuple[int, ...] = setting(
        (), "slots", "content slots of the length ablation, a model each", (3, 6, 9, 11, 13), empty=True
    )
    length_prompts: int = setting(1000, "sentences", "N of the length ablation", 10_000)
    bag_width: int = setting(48, "channels", "width of the bag of random word vectors")

    # the control with natural text
    text_seeds: int = setting(1, "seeds", "models of Shakespeare's characters, a control; 0: none")
    text_width: int = setting(32, "channels", "width of these models")
    text_steps: int = setting(300, "steps", "optimiser steps of these models")
    text_batch: int = setting(8, "windows", "windows of 192 characters per step")
    text_prompts: int = setting(500, "sentences", "N, sentences of every data set shown to them")

    # models of the hub
    hub_models: tuple[str, ...] = setting(
        (),
        "ids",
        "hub ids, or folders with one folder per revision",
        "Pythia, Llama-3-8B, Mistral-7B",
        empty=True,
    )
    hub_steps: tuple[tuple[int, ...], ...] = setting(
        (), "steps", "for every hub model its training steps; an empty tuple: the final weights", empty=True
    )
    hub_prompts: int = setting(10_000, "sentences", "N for models of the hub", 10_000)
    hub_splits: int = setting(5, "splits", "splits of the prompts for models of the hub", 5)
    hub_batch: int = setting(64, "sentences", "sentences per forward pass")
    hub_precision: str = setting("bfloat16", "1", "type of the weights; states are float32", "8 bit")
    pile: bool = setting(False, "1", "measure the hub models on The Pile's snippets as well", True)

    def __post_init__(self) -> None:
        for name in (
            "width",
            "layers",
            "heads",
            "steps",
            "batch",
            "questions",
            "bag_width",
            "hub_batch",
            "hub_splits",
            "text_width",
            "text_steps",
            "text_batch",
        ):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name}={getattr(self, name)} must be at least 1")
        if min(self.workers, self.seeds, self.group_prompts, self.width_seeds, self.text_seeds) < 0:
            raise ParameterError(
                "workers, seeds, group_prompts, width_seeds and text_seeds must not be negative"
            )
        if self.seeds == 0 and not self.hub_models:
            raise ParameterError("seeds=0 needs hub_models: there would be nothing to measure")
        for name in ("prompts", "length_prompts", "hub_prompts", "text_prompts"):
            if not 100 <= getattr(self, name) <= 10_000:
                raise ParameterError(
                    f"{name}={getattr(self, name)} must lie between 100 and the 10000 released prompts"
                )
        for name in ("width", "widths", "text_width"):
            values = getattr(self, name)
            for width in values if isinstance(values, tuple) else (values,):
                if width % self.heads:
                    raise ParameterError(f"heads={self.heads} does not divide {name}={width}")
        steps = self.checkpoints
        if len(steps) < 2 or sorted(set(steps)) != list(steps) or steps[0] != 0 or steps[-1] != self.steps:
            raise ParameterError(f"checkpoints={steps} must rise from 0 to steps={self.steps}")
        if (
            not self.couplings
            or not set(self.couplings) <= {1, 2, 3, 4}
            or sorted(self.couplings) != list(self.couplings)
        ):
            raise ParameterError(f"couplings={self.couplings} must be ascending and from 1, 2, 3, 4")
        for length in self.lengths:
            if length not in TEMPLATES:
                raise ParameterError(f"lengths: {length} is not one of {', '.join(map(str, TEMPLATES))}")
        if len(self.hub_steps) != len(self.hub_models):
            raise ParameterError(
                f"hub_steps={self.hub_steps} needs one tuple for each of the {len(self.hub_models)} hub_models"
            )
        if self.hub_precision not in ("bfloat16", "float16", "float32"):
            raise ParameterError(
                f"hub_precision={self.hub_precision!r} is not one of bfloat16, float16, float32"
            )


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
