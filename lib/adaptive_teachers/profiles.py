"""The four profiles of the chapter: every size of a run, with its unit and the paper's own value."""

from __future__ import annotations

from dataclasses import replace

from lib.adaptive_teachers.deceptive_grid import BACKWARD_FORMS, LARGEST_GRID, REWARD_FORMS
from lib.adaptive_teachers.grid_methods import METHODS
from lib.adaptive_teachers.sampler_methods import SAMPLER_METHODS, SEQUENCE_METHODS, TASK_NAMES
from lib.profiles import ParameterError, choose, setting, settings_class


@settings_class
class Settings:
    """Sizes of one run of the chapter; the fields say what each one sets."""

    workers: int = setting(0, "processes", "trainings side by side; 0: one per core on a CPU, 1 on a GPU")
    checkpoint_every: int | None = setting(
        None, "steps", "steps between checkpoints of a training; None: none", least=1
    )

    # --- deceptive grid (C1, C2, C5, C6, C7, C8) ---
    grid_sizes: tuple[tuple[int, int], ...] = setting(
        ((4, 8),), "(d, H)", "grids on which all methods are compared", "(2, 128), (2, 256), (4, 16), (4, 32)"
    )
    grid_reward_calls: tuple[int, ...] = setting(
        (10_000,), "calls", "reward calls of every method, one number per grid", "96000; 384000 at (4, 32)"
    )
    grid_reward: str = setting(
        "official", "name", "float (official) or integer (exact) comparison of the reward", "official"
    )
    grid_pb: str = setting("valid", "name", "backward policy on the border: valid or official", "official")
    grid_batch: int = setting(16, "trajectories", "batch of every gradient step", 16)
    grid_hidden: int = setting(128, "units", "width of the two hidden layers", 256)
    grid_evaluations: int = setting(8, "evaluations", "exact evaluations along a training")
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
    grid_map_calls: int = setting(8000, "calls", "reward calls of the run that is drawn")
    finding_sizes: tuple[tuple[int, int], ...] = setting(
        ((2, 32), (2, 64), (2, 128), (2, 256), (4, 8), (4, 16)), "(d, H)", "grids of the findings"
    )

    # --- diffusion samplers (C3) ---
    diffusion_methods: tuple[str, ...] = setting(
        ("TB", "PER", "Teacher"),
        "names",
        "samplers that are compared on the 25 Gaussians",
        "TB, exploration, PER, Teacher",
    )
    diffusion_seeds: int = setting(5, "seeds", "repetitions of every sampler", "not found")
    diffusion_sigma: float = setting(
        1.5, "length / sqrt(time)", "noise of the forward process", "not found; 1 in the code"
    )
    diffusion_steps: int = setting(25, "steps", "time steps T", 100)
    diffusion_hidden: int = setting(32, "units", "width of all layers", 256)
    diffusion_harmonics: int = setting(32, "frequencies", "of the time features", 256)
    diffusion_batch: int = setting(32, "paths", "batch of every gradient step", 500)
    diffusion_iterations: int = setting(1500, "iterations", "gradient steps of every Student", 10_000)
    diffusion_buffer: int = setting(5000, "points", "capacity of the replay buffers", 50_000)
    diffusion_decay_at: tuple[float, ...] = setting(
        (0.8,), "share of the iterations", "where all rates fall tenfold", (0.4, 0.8)
    )
    diffusion_langevin: bool = setting(
        False, "1", "add the scaled gradient of log R to the Student's drift", False
    )
    diffusion_mixings: tuple[float, ...] = setting(
        (), "1", "other powers of R in the Teacher's reward, beside the 0.5 of the code", empty=True
    )
    diffusion_panel_methods: tuple[str, ...] = setting(
        ("TB", "PER", "Teacher"), "names", "samplers at the other noise levels"
    )
    diffusion_other_sigmas: tuple[float, ...] = setting(
        (1.0, 5.0), "length / sqrt(time)", "other noise levels, which set how hard exploration is"
    )
    diffusion_panel_seeds: int = setting(3, "seeds", "repetitions at the other noise levels")
    diffusion_panel_iterations: int = setting(400, "iterations", "gradient steps at the other noise levels")
    diffusion_manywell_dim: int = setting(32, "coordinates", "dimension of Manywell", 32)
    diffusion_manywell_methods: tuple[str, ...] = setting(
        ("TB", "PER", "Teacher"), "names", "samplers on Manywell"
    )
    diffusion_manywell_iterations: int = setting(
        0, "iterations", "gradient steps on Manywell; 0 leaves it out", 10_000
    )
    diffusion_manywell_sigma: float = setting(
        1.0, "length / sqrt(time)", "noise on Manywell", "not found; 1 in the code"
    )
    diffusion_evaluation_samples: int = setting(2000, "samples", "of every bound", "2000; 10000 at the end")
    diffusion_transport_samples: int = setting(
        1000, "samples", "of the Wasserstein distance, on each side", 2000
    )
    diffusion_evaluations: int = setting(6, "evaluations", "along a training, beside the last one")

    # --- biochemical sequences (C4) ---
    sequence_tasks: tuple[str, ...] = setting(
        ("TFBind8",), "names", "design tasks", "QM9, sEH, TFBind8, L14-RNA1"
    )
    sequence_methods: tuple[str, ...] = setting(
        ("TB", "PRT", "Teacher + PRT"),
        "names",
        "samplers that are compared",
        "TB, PRT, PER, Teacher, Teacher + PRT, Teacher + PER",
    )
    sequence_seeds: int = setting(3, "seeds", "repetitions of every sampler", "3")
    sequence_rounds: int = setting(
        300, "rounds", "online batches of every sampler; 0: the task's own number", "2000; QM9 1000"
    )
    sequence_hidden: int = setting(
        128, "units", "width of all layers; 0: the task's own", "128; QM9 and sEH 1024"
    )
    sequence_batch: int = setting(32, "strings", "batch of every gradient step", 32)
    sequence_buffer: int = setting(1000, "strings", "capacity of the replay buffers", 1000)
    sequence_learning_rate: float = setting(
        1e-4, "1", "of the Student; a Teacher's is five times as large", 1e-4
    )
    sequence_other_rates: tuple[float, ...] = setting(
        (), "1", "other learning rates at which Teacher + PRT is compared with PRT", empty=True
    )
    sequence_log_z_rate: float = setting(1e-2, "1", "of log Z", 1e-2)
    sequence_evaluations: int = setting(3, "evaluations", "along a training, beside the last one")
    sequence_evaluation_samples: int = setting(
        2048, "strings", "of the bounds where strings cannot be enumerated", 2048
    )

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_number and value < 0:
                raise ParameterError(f"{name}={value} must not be negative")
            counted = name.endswith(("_seeds", "_batch", "_hidden", "_evaluations", "_samples", "_calls"))
            if is_number and counted and value < 1 and name != "sequence_hidden":
                raise ParameterError(f"{name}={value} must be at least 1")
        self._check_grid()
        self._check_samplers()

    def _check_grid(self) -> None:
        if len(set(self.grid_sizes)) < len(self.grid_sizes):
            raise ParameterError(f"grid_sizes={self.grid_sizes} names one of them twice")
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

    def _check_samplers(self) -> None:
        for name in ("diffusion_methods", "diffusion_panel_methods", "diffusion_manywell_methods"):
            for method in getattr(self, name):
                choose(name, method, SAMPLER_METHODS)
            missing = [m for m in ("TB", "PER", "Teacher") if m not in getattr(self, name)]
            if missing and name != "diffusion_panel_methods":
                raise ParameterError(f"{name}={getattr(self, name)} must hold {missing[0]!r}")
        for sigma in (self.diffusion_sigma, self.diffusion_manywell_sigma, *self.diffusion_other_sigmas):
            if not sigma > 0:
                raise ParameterError(f"a noise level of {sigma} must be positive")
        if not all(0 < share < 1 for share in self.diffusion_decay_at):
            raise ParameterError(f"diffusion_decay_at={self.diffusion_decay_at} must lie between 0 and 1")
        if min(self.diffusion_steps, self.diffusion_iterations, self.diffusion_panel_iterations) < 1:
            raise ParameterError(
                "diffusion_steps, diffusion_iterations and diffusion_panel_iterations must be at least 1"
            )
        if self.diffusion_manywell_dim < 2 or self.diffusion_manywell_dim % 2:
            raise ParameterError(
                f"diffusion_manywell_dim={self.diffusion_manywell_dim} must be even and at least 2"
            )
        if not self.sequence_tasks:
            raise ParameterError("sequence_tasks must name at least one task")
        rates = (self.sequence_learning_rate, *self.sequence_other_rates)
        for name, values in (
            ("sequence_tasks", self.sequence_tasks),
            ("sequence_learning_rate and sequence_other_rates", rates),
        ):
            if len(set(values)) < len(values):
                raise ParameterError(f"{name}: {values} names one of them twice")
        if min(rates) <= 0:
            raise ParameterError("the learning rates of the sequences must be positive")
        for task in self.sequence_tasks:
            choose("sequence_tasks", task, TASK_NAMES)
        for method in self.sequence_methods:
            choose("sequence_methods", method, SEQUENCE_METHODS)


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
