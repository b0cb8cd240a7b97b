"""The four profiles of the chapter: every size of a run, with its unit and the paper's own value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.adaptive_teachers.deceptive_grid import BACKWARD_FORMS, LARGEST_GRID, REWARD_FORMS
from lib.adaptive_teachers.grid_methods import METHODS
from lib.profiles import ParameterError, choose, setting


@dataclass(frozen=True)
class Settings:
    """Sizes of one run of the chapter; the fields say what each one sets."""

    workers: int = setting(0, "processes", "trainings side by side; 0: one per core on a CPU, 1 on a GPU")
    checkpoint_every: int | None = setting(
        None, "steps", "steps between checkpoints of a training; None: none"
    )

    # --- deceptive grid (C1, C2, C5, C6, C7, C8) ---
    grid_sizes: tuple[tuple[int, int], ...] = setting(
        ((4, 8),), "(d, H)", "grids on which all methods are compared", "(2, 128), (2, 256), (4, 16), (4, 32)"
    )
    grid_reward_calls: tuple[int, ...] = setting(
        (16_000,), "calls", "reward calls of every method, one number per grid", "96000; 384000 at (4, 32)"
    )
    grid_reward: str = setting(
        "official", "name", "float (official) or integer (exact) comparison of the reward", "official"
    )
    grid_pb: str = setting("valid", "name", "backward policy on the border: valid or official", "official")
    grid_batch: int = setting(16, "trajectories", "batch of every gradient step", 16)
    grid_hidden: int = setting(128, "units", "width of the two hidden layers", 256)
    grid_evaluations: int = setting(10, "evaluations", "exact evaluations along a training")
    grid_l1_samples: int = setting(100_000, "samples", "draws of the paper's sampled L1", 100_000)
    grid_methods: tuple[str, ...] = setting(
        ("TB", "ε-noisy", "GAFN", "PRT", "PER", "Teacher", "Teacher + PER"),
        "names",
        "methods of Table 1 here",
        "TB, ε-noisy, GAFN, PRT, PER, Teacher",
    )
    grid_seeds: int = setting(5, "seeds", "repetitions of these methods", "not found")
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
    )
    grid_further_seeds: int = setting(3, "seeds", "repetitions of the further methods")
    grid_ablation_asymmetries: tuple[float, ...] = setting(
        (0.0, 19.0), "1", "C of the ablation, on the first grid", "appendix; default 19"
    )
    grid_ablation_mixings: tuple[float, ...] = setting(
        (0.0,), "1", "α of the ablation", "appendix; default 0"
    )
    grid_ablation_seeds: int = setting(3, "seeds", "repetitions of every pair (C, α)")
    grid_map_side: int = setting(32, "positions", "side H of the two-dimensional grid that is drawn")
    grid_map_calls: int = setting(12_800, "calls", "reward calls of the run that is drawn")
    finding_sizes: tuple[tuple[int, int], ...] = setting(
        ((2, 32), (2, 64), (2, 128), (2, 256), (4, 8), (4, 16)), "(d, H)", "grids of the findings"
    )

    # --- diffusion samplers (C3) ---

    # --- biochemical sequences (C4) ---

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_number and value < 0:
                raise ParameterError(f"{name}={value} must not be negative")
            counted = name.endswith(("_seeds", "_batch", "_hidden", "_evaluations", "_samples", "_calls"))
            if is_number and counted and value < 1:
                raise ParameterError(f"{name}={value} must be at least 1")
        self._check_grid()

    def _check_grid(self) -> None:
        choose("grid_reward", self.grid_reward, REWARD_FORMS)
        choose("grid_pb", self.grid_pb, BACKWARD_FORMS)
        if not self.grid_sizes or len(self.grid_sizes) != len(self.grid_reward_calls):
            raise ParameterError(
                f"grid_reward_calls={self.grid_reward_calls} needs one number for each of the "
                f"{len(self.grid_sizes)} grid_sizes, and at least one"
            )
        for dim, side in (*self.grid_sizes, *self.finding_sizes, (2, self.grid_map_side)):
            if dim < 1 or side < 3 or side**dim > LARGEST_GRID:
                raise ParameterError(
                    f"grid (d={dim}, H={side}): needs d >= 1, H >= 3 and at most {LARGEST_GRID} states"
                )
        for name in ("grid_methods", "grid_further_methods"):
            for method in getattr(self, name):
                choose(name, method, METHODS)
        if "Teacher" not in self.grid_methods or "TB" not in self.grid_methods:
            raise ParameterError(f"grid_methods={self.grid_methods} must hold 'TB' and 'Teacher'")
        if max(self.grid_further_seeds, self.grid_ablation_seeds) > self.grid_seeds:
            raise ParameterError(
                "grid_further_seeds and grid_ablation_seeds must not exceed grid_seeds: gains are paired by seed"
            )
        if min(*self.grid_reward_calls, self.grid_map_calls) < self.grid_batch:
            raise ParameterError(
                f"grid_reward_calls and grid_map_calls must be at least grid_batch={self.grid_batch}"
            )


_DEFAULT = Settings()

_SMOKE = replace(
    _DEFAULT,
    workers=1,
    # --- grid ---
    grid_sizes=((2, 8),),
    grid_reward_calls=(480,),
    grid_batch=8,
    grid_hidden=16,
    grid_evaluations=3,
    grid_l1_samples=1000,
    grid_methods=("TB", "ε-noisy", "GAFN", "PRT", "PER", "Teacher", "Teacher + PER", "Teacher + PRT"),
    grid_seeds=2,
    grid_further_seeds=2,
    grid_ablation_seeds=2,
    grid_map_side=8,
    grid_map_calls=240,
    finding_sizes=((2, 8), (2, 16), (4, 8)),
    # --- diffusion ---
    # --- sequences ---
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
    # --- sequences ---
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
    # --- sequences ---
)

PROFILES: dict[str, Settings] = {"smoke": _SMOKE, "default": _DEFAULT, "gpu": _GPU, "paper": _PAPER}
