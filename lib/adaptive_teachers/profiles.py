"""The four profiles of the chapter: every size of a run, with its unit and the paper's own value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lib.profiles import setting


@dataclass(frozen=True)
class Settings:
    """Sizes of one run of the chapter; the fields say what each one sets."""

    workers: int = setting(0, "processes", "trainings side by side; 0: one per core on a CPU, 1 on a GPU")
    checkpoint_every: int | None = setting(
        None, "steps", "steps between checkpoints of a training; None: none"
    )

    # --- deceptive grid (C1, C2, C5, C6, C7, C8) ---
    grid_seeds: int = setting(5, "seeds", "repetitions of every method", "not found")

    # --- diffusion samplers (C3) ---

    # --- biochemical sequences (C4) ---


_DEFAULT = Settings()

_SMOKE = replace(
    _DEFAULT,
    workers=1,
    # --- grid ---
    grid_seeds=2,
    # --- diffusion ---
    # --- sequences ---
)

_GPU = replace(
    _DEFAULT,
    # --- grid ---
    # --- diffusion ---
    # --- sequences ---
)

_PAPER = replace(
    _GPU,
    checkpoint_every=1000,
    # --- grid ---
    # --- diffusion ---
    # --- sequences ---
)

PROFILES: dict[str, Settings] = {"smoke": _SMOKE, "default": _DEFAULT, "gpu": _GPU, "paper": _PAPER}
