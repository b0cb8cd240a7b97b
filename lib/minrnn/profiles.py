"""The four profiles of the chapter: every size of a run, with its unit and the paper's own value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lib.minrnn.mixers import MIXERS
from lib.profiles import ParameterError, nearest, setting, settings_class


@settings_class
class Settings:
    """Sizes of one run of the chapter; the fields say what each one sets."""

    workers: int = setting(0, "processes", "trainings side by side; 0: one per core on a CPU, 1 on a GPU")
    checkpoint_every: int | None = setting(
        None, "steps", "steps between checkpoints of a training; None: none", least=1
    )

    # C2, C3: efficiency
    efficiency_lengths: tuple[int, ...] = setting(
        (64, 256, 512, 1024), "steps", "lengths T that are timed", "64..4096"
    )
    efficiency_batch: int = setting(8, "sequences", "batch of the timed training step", 64)
    efficiency_width: int = setting(64, "channels", "width d of the timed cells", "not found")
    efficiency_repeats: int = setting(8, "rounds", "timed rounds; every round times every model once")
    efficiency_half_precision: bool = setting(False, "1", "time bfloat16 as well")

    # C4, C5, C8: selective copying
    copying_length: int = setting(16, "tokens", "T, positions among which the data are scattered", 4096)
    copying_data_tokens: int = setting(5, "tokens", "M, data tokens to copy", 16)
    copying_width: int = setting(64, "channels", "width d of the model", 64)
    copying_expansion: float = setting(2.0, "1", "hidden width over d inside a mixer", 6)
    copying_batch: int = setting(32, "sequences", "training sequences per step", 64)
    copying_steps: int = setting(400, "steps", "optimiser steps of every model", 400_000)
    copying_learning_rate: float = setting(5e-3, "1", "AdamW's rate, constant after the warm-up", 3e-4)
    copying_warmup: int = setting(30, "steps", "linear warm-up of the rate", 0)
    copying_layers: tuple[int, ...] = setting((1, 2, 3), "layers", "depths that are compared", (1, 2, 3))
    copying_seeds: int = setting(3, "seeds", "repetitions of every model", "3 (± given)")
    copying_evaluation_sequences: int = setting(192, "sequences", "evaluation set of every seed", 12_800)
    copying_evaluate_every: int = setting(50, "steps", "steps between evaluations", 1000)
    copying_controls: tuple[str, ...] = setting(
        ("s6", "diagonal_ssm"), "names", "other mixers of Table 2", "S4, H3, Hyena, S6"
    )
    copying_control_steps: int = setting(
        300,
        "steps",
        "optimiser steps of the controls; compared with minGRU and minLSTM at this step",
        400_000,
    )
    copying_control_expansions: tuple[float, ...] = setting(
        (0.5, 1.0), "1", "hidden width over d of each control (their states are N times wider)"
    )
    gate_bias: float = setting(-1.5, "1", "added to minGRU's gate z at the start", 0.0)
    copying_bias_steps: int = setting(300, "steps", "optimiser steps of every run of the bias sweep (C8)")
    copying_state_size: int = setting(4, "1", "state size N of S6 and of the S4-type control", 16)
    copying_long_lengths: tuple[int, ...] = setting(
        (), "tokens", "further lengths T, three layers, M = 16", (4096,), empty=True
    )
    copying_long_steps: int = setting(0, "steps", "optimiser steps at the further lengths", 400_000)
    forget_bias: float = setting(1.5, "1", "added to minLSTM's forget gate at the start", 3.0)
    forget_biases: tuple[float, ...] = setting((0.0, 1.5, 3.0), "1", "sweep of C8", "not found")
    gate_biases: tuple[float, ...] = setting(
        (0.0, -1.5), "1", "the same sweep for minGRU's gate z (negative remembers)"
    )
    copying_threshold: float = setting(0.5, "share", "accuracy that C8 counts the steps to", "not found")

    # C7: characters of Shakespeare
    text_models: tuple[str, ...] = setting(
        ("minGRU", "minLSTM", "Transformer", "Transformer + conv"),
        "names",
        "models of Fig. 2",
        "minGRU, minLSTM, Mamba, Transformer",
    )
    text_width: int = setting(64, "channels", "width of the model", 384)
    text_layers: int = setting(2, "layers", "depth", 3)
    text_heads: int = setting(4, "heads", "attention heads of the Transformer", 6)
    text_block: int = setting(64, "characters", "window", 256)
    text_batch: int = setting(8, "windows", "windows per step", 64)
    text_steps: int = setting(125, "steps", "optimiser steps of every model", 5000)
    # In the default profile the rates are the best of 2e-3, 4e-3 and 8e-3 for each model, found beforehand by
    # choose_learning_rate on the inner split; larger profiles try all of them in the run.
    text_learning_rates: tuple[tuple[float, ...], ...] = setting(
        ((8e-3,), (8e-3,), (4e-3,), (8e-3,)),
        "1",
        "peak rates tried on an inner split of the training text: one tuple for all models, or one per model",
        "1e-3",
    )
    text_warmup: int = setting(20, "steps", "linear warm-up; a cosine to a tenth follows")
    text_dropout: float = setting(0.0, "probability", "dropout in the MLP", 0.2)
    text_seeds: int = setting(3, "seeds", "repetitions of every model", "not found")
    text_test_windows: int = setting(64, "windows", "evenly spaced test windows")
    text_evaluate_every: int = setting(25, "steps", "steps between test losses")

    # C6: decision model
    decision_sets: tuple[str, ...] = setting(
        ("medium-expert",), "names", "pendulum data sets", "nine D4RL sets"
    )
    decision_models: tuple[str, ...] = setting(
        ("min_gru", "attention", "memoryless"),
        "names",
        "compared models",
        "minGRU, minLSTM; DT, DS4, DAaren, DMamba",
    )
    decision_context: int = setting(10, "steps", "context K", 20)
    decision_width: int = setting(32, "channels", "width", 128)
    decision_layers: int = setting(2, "layers", "depth", 3)
    decision_batch: int = setting(32, "windows", "windows per step", 64)
    decision_steps: int = setting(250, "steps", "optimiser steps of every model", 100_000)
    decision_learning_rate: float = setting(8e-3, "1", "AdamW's peak rate", 1e-4)
    decision_dropout: float = setting(0.0, "probability", "dropout in the MLP", 0.1)
    decision_episodes: int = setting(200, "episodes", "episodes of a data set, a tenth of them held out")
    decision_evaluation_episodes: int = setting(24, "episodes", "evaluation episodes per seed")
    decision_seeds: int = setting(5, "seeds", "repetitions of every model", "5 (unsure)")
    minari_ids: tuple[str, ...] = setting(
        (), "ids", "Minari data sets to train on instead of looking at the pendulum alone", empty=True
    )

    # beyond the paper
    precision_lengths: tuple[int, ...] = setting(
        (64, 256, 1024, 4096), "steps", "lengths of the precision figure"
    )
    precision_width: int = setting(64, "channels", "channels of the precision figure")
    formal_tasks: tuple[str, ...] = setting(
        ("parity_check",), "names", "formal-language tasks", "seven tasks (v3)"
    )
    formal_width: int = setting(32, "channels", "width", 256)
    formal_steps: int = setting(400, "steps", "optimiser steps", 500_000)
    formal_batch: int = setting(64, "strings", "strings per step", 128)
    formal_learning_rate: float = setting(5e-3, "1", "AdamW's rate", 3e-4)
    formal_longest: int = setting(40, "symbols", "longest training string", 40)
    formal_test_lengths: tuple[int, ...] = setting((20, 40, 100, 256), "symbols", "test lengths", "40..256")
    formal_seeds: int = setting(3, "seeds", "repetitions of every model")

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_number and value < 0 and name not in ("forget_bias", "gate_bias"):
                raise ParameterError(f"{name}={value} must not be negative")
            if name.endswith(("_seeds", "_batch", "_width", "_repeats", "_evaluate_every")) and value < 1:
                raise ParameterError(f"{name}={value} must be at least 1")
        if not 1 <= self.copying_data_tokens <= self.copying_length:
            raise ParameterError(
                f"copying_data_tokens={self.copying_data_tokens} must lie between 1 and copying_length={self.copying_length}"
            )
        for name in ("copying_layers", "copying_controls", "copying_long_lengths", "text_models", "decision_sets",
                     "decision_models", "minari_ids", "formal_tasks"):  # fmt: skip
            self._check_distinct(name, getattr(self, name))
        for rates in self.text_learning_rates:
            self._check_distinct("text_learning_rates", rates)
        if len(self.copying_control_expansions) != len(self.copying_controls):
            raise ParameterError(
                f"copying_control_expansions={self.copying_control_expansions} needs one number for each of the "
                f"{len(self.copying_controls)} copying_controls"
            )
        if self.text_width % self.text_heads:
            raise ParameterError(f"text_heads={self.text_heads} does not divide text_width={self.text_width}")
        for name in ("copying_controls", "decision_models"):
            allowed = [*MIXERS, "memoryless"]
            for mixer in getattr(self, name):
                if mixer not in allowed:
                    raise ParameterError(
                        f"{name}: {mixer!r} is not one of {', '.join(allowed)}{nearest(mixer, allowed)}"
                    )
        for name, allowed in (
            ("text_models", list(TEXT_MIXERS)),
            ("decision_sets", ["medium", "medium-replay", "medium-expert"]),
        ):
            for item in getattr(self, name):
                if item not in allowed:
                    raise ParameterError(
                        f"{name}: {item!r} is not one of {', '.join(allowed)}{nearest(item, allowed)}"
                    )
        if len(self.text_learning_rates) not in (1, len(self.text_models)) or not all(
            self.text_learning_rates
        ):
            raise ParameterError(
                f"text_learning_rates={self.text_learning_rates} needs one non-empty tuple, or one for each of the "
                f"{len(self.text_models)} text_models"
            )

    @staticmethod
    def _check_distinct(name: str, values: Sequence[object]) -> None:
        """Each value stands for trainings of its own, which are named after it."""
        if len(set(values)) < len(values):
            raise ParameterError(f"{name}={values} names one of them twice")


TEXT_MIXERS = {
    "minGRU": "min_gru",
    "minLSTM": "min_lstm",
    "S6": "s6",
    "Transformer": "attention",
    "Transformer + conv": "attention",
}
"""Models of the text experiment by the mixer they are built on."""

_DEFAULT = Settings()

_SMOKE = replace(
    _DEFAULT,
    workers=1,
    efficiency_lengths=(16, 512),
    efficiency_batch=1,
    efficiency_width=8,
    efficiency_repeats=2,
    copying_data_tokens=2,
    copying_width=16,
    copying_batch=8,
    copying_steps=6,
    copying_control_steps=6,
    copying_bias_steps=6,
    copying_seeds=2,
    copying_evaluation_sequences=16,
    copying_evaluate_every=3,
    text_width=16,
    text_block=16,
    text_batch=4,
    text_steps=6,
    text_seeds=1,
    text_test_windows=4,
    text_evaluate_every=3,
    decision_width=16,
    decision_layers=1,
    decision_context=4,
    decision_batch=8,
    decision_steps=4,
    decision_episodes=20,
    decision_evaluation_episodes=2,
    decision_seeds=1,
    precision_lengths=(16, 64),
    precision_width=8,
    formal_width=16,
    formal_steps=4,
    formal_batch=8,
    formal_test_lengths=(20, 40),
    formal_seeds=1,
)

_GPU = replace(
    _DEFAULT,
    workers=4,
    efficiency_lengths=(128, 512, 2048, 8192),
    efficiency_batch=64,
    efficiency_width=384,
    efficiency_repeats=3,
    efficiency_half_precision=True,
    copying_length=32,
    copying_data_tokens=6,
    copying_expansion=2.0,
    copying_batch=64,
    copying_steps=1500,
    copying_learning_rate=5e-3,
    copying_seeds=5,
    copying_evaluation_sequences=1024,
    copying_evaluate_every=50,
    copying_control_steps=600,
    copying_control_expansions=(1.0, 2.0),
    copying_bias_steps=800,
    gate_bias=-2.0,
    copying_state_size=16,
    copying_long_lengths=(256,),
    copying_long_steps=2500,
    forget_bias=3.0,
    forget_biases=(0.0, 1.0, 2.0, 3.0, 4.0),
    gate_biases=(0.0, -1.0, -2.0, -3.0),
    text_models=("minGRU", "minLSTM", "S6", "Transformer", "Transformer + conv"),
    text_width=384,
    text_layers=3,
    text_heads=6,
    text_block=256,
    text_batch=64,
    text_steps=300,
    text_learning_rates=((5e-4, 1e-3, 2e-3),),
    text_dropout=0.1,
    text_warmup=50,
    text_seeds=3,
    text_test_windows=128,
    text_evaluate_every=25,
    decision_sets=("medium", "medium-replay", "medium-expert"),
    decision_models=("min_gru", "min_lstm", "attention", "s6", "diagonal_ssm", "memoryless"),
    decision_context=20,
    decision_width=48,
    decision_layers=3,
    decision_batch=64,
    decision_steps=500,
    decision_learning_rate=2e-3,
    decision_evaluation_episodes=50,
    decision_seeds=3,
    precision_lengths=(64, 256, 1024, 4096, 16384),
    formal_tasks=("parity_check", "cycle_nav", "even_pairs"),
    formal_width=64,
    formal_batch=64,
    formal_steps=600,
    formal_seeds=3,
)

_PAPER = replace(
    _GPU,
    workers=1,
    checkpoint_every=1000,
    efficiency_lengths=(64, 128, 256, 512, 1024, 2048, 4096),
    copying_length=4096,
    copying_data_tokens=16,
    copying_expansion=6.0,
    copying_batch=64,
    copying_steps=400_000,
    copying_learning_rate=3e-4,
    copying_control_steps=400_000,
    copying_bias_steps=20_000,
    gate_bias=0.0,
    copying_warmup=0,
    copying_seeds=3,
    copying_evaluation_sequences=12_800,
    copying_evaluate_every=1000,
    copying_long_lengths=(),
    copying_long_steps=0,
    text_models=("minGRU", "minLSTM", "S6", "Transformer"),
    text_steps=5000,
    text_evaluate_every=100,
    text_dropout=0.2,
    text_test_windows=434,
    decision_seeds=5,
    decision_context=20,
    decision_width=128,
    decision_batch=64,
    decision_steps=100_000,
    decision_learning_rate=1e-4,
    decision_dropout=0.1,
    minari_ids=(
        "mujoco/halfcheetah/medium-v0",
        "mujoco/hopper/medium-v0",
        "mujoco/walker2d/medium-v0",
    ),
    formal_tasks=(
        "parity_check",
        "even_pairs",
        "cycle_nav",
        "majority",
        "majority_count",
        "missing_duplicate",
        "bucket_sort",
    ),
    formal_width=256,
    formal_steps=500_000,
    formal_batch=128,
    formal_learning_rate=3e-4,
)

PROFILES: dict[str, Settings] = {"smoke": _SMOKE, "default": _DEFAULT, "gpu": _GPU, "paper": _PAPER}
