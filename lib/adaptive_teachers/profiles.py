"""The four profiles of the chapter: every size of a run, with its unit and the paper's own value."""

from __future__ import annotations

import math
from dataclasses import replace

from lib.adaptive_teachers.deceptive_grid import BACKWARD_FORMS, LARGEST_GRID, REWARD_FORMS
from lib.adaptive_teachers.grid_methods import MAP_EVALUATIONS, METHODS
from lib.adaptive_teachers.sampler_methods import (
    COMPARED,
    MIXING,
    SAMPLER_METHODS,
    SEQUENCE_METHODS,
    TASK_NAMES,
)
from lib.profiles import ParameterError, setting, settings_class


@settings_class
class Settings:
    """Sizes of one run of the chapter; the fields say what each one sets."""

    workers: int = setting(
        0, "processes", "trainings side by side; 0: one per core on a CPU, 1 on a GPU", least=0
    )
    checkpoint_every: int | None = setting(
        None, "steps", "steps between checkpoints of a training; None: none", least=1
    )

    # --- deceptive grid (C1, C2, C5, C6, C7, C8) ---
    grid_sizes: tuple[tuple[int, int], ...] = setting(
        ((4, 8),),
        "(d, H)",
        "grids on which all methods are compared",
        "(2, 128), (2, 256), (4, 16), (4, 32)",
        least=1,
        distinct=True,
    )
    grid_reward_calls: tuple[int, ...] = setting(
        (10_000,),
        "calls",
        "reward calls of every method, one number per grid",
        "96000; 384000 at (4, 32)",
        least=1,
    )
    grid_reward: str = setting(
        "official",
        "name",
        "float (official) or integer (exact) comparison of the reward",
        "official",
        among=REWARD_FORMS,
    )
    grid_pb: str = setting(
        "valid", "name", "backward policy on the border: valid or official", "official", among=BACKWARD_FORMS
    )
    grid_batch: int = setting(16, "trajectories", "batch of every gradient step", 16, least=1)
    grid_hidden: int = setting(128, "units", "width of the two hidden layers", 256, least=1)
    grid_evaluations: int = setting(8, "evaluations", "exact evaluations along a training", least=1)
    grid_l1_samples: int = setting(100_000, "samples", "draws of the paper's sampled L1", 100_000, least=1)
    grid_methods: tuple[str, ...] = setting(
        ("TB", "ε-noisy", "GAFN", "PRT", "PER", "Teacher", "Teacher + PER"),
        "names",
        "methods of Table 1 here",
        "TB, ε-noisy, GAFN, PRT, PER, Teacher",
        among=METHODS,
        distinct=True,
    )
    grid_seeds: int = setting(5, "seeds", "repetitions of these methods", "not found", least=1)
    grid_further_methods: tuple[str, ...] = setting(
        (
            "TB, 2x steps",
            "TB, 2x weights",
            "TB + local search",
            "Teacher + local search",
            "DB",
            "Teacher, DB",
        ),
        "names",
        "compute-matched controls, local search and detailed balance",
        "local search, detailed balance",
        among=METHODS,
        distinct=True,
        empty=True,
    )
    grid_further_seeds: int = setting(3, "seeds", "repetitions of the further methods", least=1)
    grid_ablation_asymmetries: tuple[float, ...] = setting(
        (0.0, 19.0),
        "1",
        "C of the ablation, on the first grid",
        "appendix; default 19",
        least=0,
        distinct=True,
    )
    grid_ablation_mixings: tuple[float, ...] = setting(
        (0.0,), "1", "α of the ablation", "appendix; default 0", least=0, distinct=True
    )
    grid_ablation_seeds: int = setting(3, "seeds", "repetitions of every pair (C, α)", least=1)
    grid_map_side: int = setting(
        32,
        "positions",
        "side H of the two-dimensional grid that is drawn",
        least=3,
        most=math.isqrt(LARGEST_GRID),
    )
    grid_map_calls: int = setting(8000, "calls", "reward calls of the run that is drawn", least=1)
    finding_sizes: tuple[tuple[int, int], ...] = setting(
        ((2, 32), (2, 64), (2, 128), (2, 256), (4, 8), (4, 16)),
        "(d, H)",
        "grids of the findings",
        least=1,
        distinct=True,
    )

    # --- diffusion samplers (C3) ---
    diffusion_methods: tuple[str, ...] = setting(
        ("TB", "PER", "Teacher"),
        "names",
        "samplers that are compared on the 25 Gaussians",
        "TB, exploration, PER, Teacher",
        among=SAMPLER_METHODS,
        distinct=True,
    )
    diffusion_seeds: int = setting(5, "seeds", "repetitions of every sampler", "not found", least=1)
    diffusion_sigma: float = setting(
        1.5, "length / sqrt(time)", "noise of the forward process", "not found; 1 in the code", above=0
    )
    diffusion_steps: int = setting(25, "steps", "time steps T", 100, least=1)
    diffusion_hidden: int = setting(32, "units", "width of all layers", 256, least=1)
    diffusion_harmonics: int = setting(32, "frequencies", "of the time features", 256, least=1)
    diffusion_batch: int = setting(32, "paths", "batch of every gradient step", 500, least=1)
    diffusion_iterations: int = setting(
        1500, "iterations", "gradient steps of every Student", 10_000, least=1
    )
    diffusion_buffer: int = setting(5000, "points", "capacity of the replay buffers", 50_000, least=1)
    diffusion_decay_at: tuple[float, ...] = setting(
        (0.8,),
        "share of the iterations",
        "where all rates fall tenfold",
        (0.4, 0.8),
        above=0,
        below=1,
        distinct=True,
        empty=True,
    )
    diffusion_langevin: bool = setting(
        False, "1", "add the scaled gradient of log R to the Student's drift", False
    )
    diffusion_mixings: tuple[float, ...] = setting(
        (),
        "1",
        "other powers of R in the Teacher's reward, beside the 0.5 of the code",
        empty=True,
        least=0,
        distinct=True,
    )
    diffusion_panel_methods: tuple[str, ...] = setting(
        ("TB", "PER", "Teacher"),
        "names",
        "samplers at the other noise levels",
        among=SAMPLER_METHODS,
        distinct=True,
        empty=True,
    )
    diffusion_other_sigmas: tuple[float, ...] = setting(
        (1.0, 5.0),
        "length / sqrt(time)",
        "other noise levels, which set how hard exploration is",
        above=0,
        distinct=True,
        empty=True,
    )
    diffusion_panel_seeds: int = setting(3, "seeds", "repetitions at the other noise levels", least=1)
    diffusion_panel_iterations: int = setting(
        400, "iterations", "gradient steps at the other noise levels", least=1
    )
    diffusion_manywell_dim: int = setting(32, "coordinates", "dimension of Manywell", 32, least=2)
    diffusion_manywell_methods: tuple[str, ...] = setting(
        ("TB", "PER", "Teacher"), "names", "samplers on Manywell", among=SAMPLER_METHODS, distinct=True
    )
    diffusion_manywell_iterations: int = setting(
        0, "iterations", "gradient steps on Manywell; 0 leaves it out", 10_000, least=0
    )
    diffusion_manywell_sigma: float = setting(
        1.0, "length / sqrt(time)", "noise on Manywell", "not found; 1 in the code", above=0
    )
    diffusion_evaluation_samples: int = setting(
        2000, "samples", "of every bound", "2000; 10000 at the end", least=1
    )
    diffusion_transport_samples: int = setting(
        1000, "samples", "of the Wasserstein distance, on each side", 2000, least=1
    )
    diffusion_evaluations: int = setting(6, "evaluations", "along a training, beside the last one", least=1)

    # --- biochemical sequences (C4) ---
    sequence_tasks: tuple[str, ...] = setting(
        ("TFBind8",), "names", "design tasks", "QM9, sEH, TFBind8, L14-RNA1", among=TASK_NAMES, distinct=True
    )
    sequence_methods: tuple[str, ...] = setting(
        ("TB", "PRT", "Teacher + PRT"),
        "names",
        "samplers that are compared",
        "TB, PRT, PER, Teacher, Teacher + PRT, Teacher + PER",
        among=SEQUENCE_METHODS,
        distinct=True,
    )
    sequence_seeds: int = setting(3, "seeds", "repetitions of every sampler", "3", least=1)
    sequence_rounds: int = setting(
        300, "rounds", "online batches of every sampler; 0: the task's own number", "2000; QM9 1000", least=0
    )
    sequence_hidden: int = setting(
        128, "units", "width of all layers; 0: the task's own", "128; QM9 and sEH 1024", least=0
    )
    sequence_batch: int = setting(32, "strings", "batch of every gradient step", 32, least=1)
    sequence_buffer: int = setting(1000, "strings", "capacity of the replay buffers", 1000, least=1)
    sequence_learning_rate: float = setting(
        1e-4, "1", "of the Student; a Teacher's is five times as large", 1e-4, above=0
    )
    sequence_other_rates: tuple[float, ...] = setting(
        (),
        "1",
        "other learning rates at which Teacher + PRT is compared with PRT",
        empty=True,
        above=0,
        distinct=True,
    )
    sequence_log_z_rate: float = setting(1e-2, "1", "of log Z", 1e-2, least=0)
    sequence_evaluations: int = setting(3, "evaluations", "along a training, beside the last one", least=1)
    sequence_evaluation_samples: int = setting(
        2048, "strings", "of the bounds where strings cannot be enumerated", 2048, least=1
    )

    def __post_init__(self) -> None:
        self._check_grid()
        self._check_diffusion()
        self._check_sequences()

    def _check_grid(self) -> None:
        if len(self.grid_sizes) != len(self.grid_reward_calls):
            raise ParameterError(
                f"grid_reward_calls={self.grid_reward_calls} needs one number for each of the "
                f"{len(self.grid_sizes)} grid_sizes"
            )
        for name in ("grid_sizes", "finding_sizes"):
            for dim, side in getattr(self, name):
                if side < 3 or dim * math.log(side) > math.log(LARGEST_GRID) + 1e-9:
                    raise ParameterError(
                        f"{name}: a grid (d={dim}, H={side}) needs H >= 3 and at most {LARGEST_GRID} states"
                    )
        _must_hold("grid_methods", self.grid_methods, ("TB", "Teacher"))
        if max(self.grid_further_seeds, self.grid_ablation_seeds) > self.grid_seeds:
            raise ParameterError(
                "grid_further_seeds and grid_ablation_seeds must not exceed grid_seeds: gains are paired by seed"
            )
        if min(self.grid_reward_calls) < self.grid_batch:
            raise ParameterError(
                f"grid_reward_calls={self.grid_reward_calls} must be at least grid_batch={self.grid_batch}"
            )
        if self.grid_map_calls < MAP_EVALUATIONS * self.grid_batch:
            raise ParameterError(
                f"grid_map_calls={self.grid_map_calls} must be at least {MAP_EVALUATIONS} times grid_batch={self.grid_batch}: "
                f"so many moments are kept"
            )

    def _check_diffusion(self) -> None:
        for name in ("diffusion_methods", "diffusion_manywell_methods"):
            _must_hold(name, getattr(self, name), ("TB", "PER", "Teacher"))
        if self.diffusion_manywell_dim % 2:
            raise ParameterError(f"diffusion_manywell_dim={self.diffusion_manywell_dim} must be even")
        if MIXING in self.diffusion_mixings:
            raise ParameterError(f"diffusion_mixings={self.diffusion_mixings}: {MIXING} is run in any case")
        if self.diffusion_sigma in self.diffusion_other_sigmas:
            raise ParameterError(
                f"diffusion_other_sigmas={self.diffusion_other_sigmas} holds diffusion_sigma={self.diffusion_sigma}"
            )

    def _check_sequences(self) -> None:
        if self.sequence_learning_rate in self.sequence_other_rates:
            raise ParameterError(
                f"sequence_other_rates={self.sequence_other_rates} holds "
                f"sequence_learning_rate={self.sequence_learning_rate}"
            )
        if self.sequence_other_rates:
            _must_hold("sequence_methods", self.sequence_methods, COMPARED)


def _must_hold(name: str, methods: tuple[str, ...], needed: tuple[str, ...]) -> None:
    for method in needed:
        if method not in methods:
            raise ParameterError(f"{name}={methods} must hold {method!r}")


_DEFAULT = Settings()

_SMOKE = replace(
    _DEFAULT,
    workers=1,
    # --- grid ---
    grid_sizes=((2, 8),),
    grid_reward_calls=(240,),
    grid_batch=8,
    grid_hidden=16,
    grid_evaluations=3,
    grid_l1_samples=1000,
    grid_methods=("TB", "ε-noisy", "GAFN", "PRT", "PER", "Teacher", "Teacher + PER", "Teacher + PRT"),
    grid_seeds=2,
    grid_further_seeds=2,
    grid_ablation_seeds=2,
    grid_map_side=8,
    grid_map_calls=160,
    finding_sizes=((2, 8), (2, 16), (4, 8)),
    # --- diffusion ---
    diffusion_methods=("PIS", "VarGrad", "TB", "ε-noisy", "PER", "Teacher"),
    diffusion_seeds=2,
    diffusion_steps=10,
    diffusion_batch=16,
    diffusion_iterations=18,
    diffusion_buffer=64,
    diffusion_mixings=(0.0,),
    diffusion_panel_seeds=2,
    diffusion_panel_iterations=6,
    diffusion_manywell_dim=4,
    diffusion_manywell_iterations=6,
    diffusion_evaluation_samples=200,
    diffusion_transport_samples=100,
    diffusion_evaluations=3,
    # --- sequences ---
    sequence_methods=("TB", "Teacher", "PRT", "PER", "Teacher + PRT", "Teacher + PER"),
    sequence_seeds=2,
    sequence_rounds=5,
    sequence_hidden=8,
    sequence_other_rates=(1e-3,),
    sequence_evaluations=1,
)

_GPU = replace(
    _DEFAULT,
    # --- grid ---
    grid_sizes=((4, 16), (4, 32)),
    grid_reward_calls=(16_000, 16_000),
    grid_hidden=256,
    grid_evaluations=5,
    grid_methods=(*_DEFAULT.grid_methods, "Teacher + PRT"),
    grid_further_seeds=5,
    grid_ablation_asymmetries=(0.0, 1.0, 9.0, 19.0, 99.0),
    grid_ablation_mixings=(0.0, 0.25, 0.5, 1.0),
    finding_sizes=((2, 32), (2, 64), (2, 128), (2, 256), (4, 8), (4, 16), (4, 32)),
    # --- diffusion ---
    diffusion_methods=("PIS", "VarGrad", "TB", "ε-noisy", "PER", "Teacher"),
    diffusion_seeds=5,
    diffusion_steps=100,
    diffusion_hidden=256,
    diffusion_harmonics=256,
    diffusion_batch=256,
    diffusion_iterations=1500,
    diffusion_buffer=50_000,
    diffusion_mixings=(0.0,),
    diffusion_panel_iterations=500,
    diffusion_manywell_iterations=1500,
    diffusion_transport_samples=2000,
    # --- sequences ---
    sequence_tasks=("TFBind8", "QM9"),
    sequence_methods=("TB", "Teacher", "PRT", "PER", "Teacher + PRT", "Teacher + PER"),
    sequence_rounds=1000,
    sequence_other_rates=(1e-3,),
    sequence_evaluations=6,
)

_PAPER = replace(
    _GPU,
    checkpoint_every=1000,
    # --- grid ---
    grid_sizes=((4, 32), (4, 16), (2, 256), (2, 128)),
    grid_reward_calls=(384_000, 96_000, 96_000, 96_000),
    grid_pb="official",
    grid_ablation_seeds=5,
    # --- diffusion ---
    diffusion_batch=500,
    diffusion_iterations=10_000,
    diffusion_decay_at=(0.4, 0.8),
    diffusion_mixings=(0.0, 0.25, 1.0),
    diffusion_panel_iterations=10_000,
    diffusion_manywell_iterations=10_000,
    diffusion_evaluation_samples=10_000,
    # --- sequences ---
    sequence_tasks=("TFBind8", "QM9", "sEH", "L14-RNA1"),
    sequence_rounds=0,
    sequence_other_rates=(),
    sequence_hidden=0,
)

PROFILES: dict[str, Settings] = {"smoke": _SMOKE, "default": _DEFAULT, "gpu": _GPU, "paper": _PAPER}
