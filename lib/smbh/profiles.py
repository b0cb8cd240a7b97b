"""The four profiles of the chapter: every size of a run, with its unit and, where the paper fixes it, the paper's value."""

from __future__ import annotations

from lib.profiles import setting, settings_class


@settings_class
class Settings:
    """Sizes of a run. All marginals are exact in every profile; sizes say how many data sets and samples are treated."""

    types: tuple[str, ...] = setting(
        ("ell", "len", "spr"), "galaxy types", "types of the base run", ("ell", "len", "spr")
    )
    error_draws: int = setting(100, "draws", "draws of measurement errors per type, seeds 0, 1, ...", 100)
    omissions: int = setting(1000, "galaxies", "omitted galaxies per type, at most", 1000)
    class_list_threshold: float = setting(
        3e-7, "probability", "graphs at least this probable are listed and grouped into classes"
    )
    enumerated: tuple[int, ...] = setting(
        (4, 5, 6), "variables", "sizes at which every graph is visited one by one as an audit", (7,)
    )
    enumerated_types: int = setting(1, "types", "types that the enumeration visits", 3)
    constraint_alphas: tuple[float, ...] = setting(
        (0.01, 0.05, 0.15, 0.30), "1", "levels of the independence tests of PC and FCI", (0.15,)
    )
    exact_samples: int = setting(50_000, "graphs", "independent exact samples per type")
    larger: tuple[int, ...] = setting((8, 9, 10), "variables", "sizes of the larger exact runs with paths")
    timed_up_to: int = setting(10, "variables", "largest size whose exact edge marginals are timed")
    permutations: int = setting(1000, "permutations", "shuffles of the morphology labels")
    power_sizes: tuple[int, ...] = setting(
        (20, 35, 60, 100, 200, 400, 1000), "galaxies", "sizes of subsamples of the semi-analytic model"
    )
    power_subsamples: int = setting(200, "subsamples", "subsamples per size")
    calibration_datasets: int = setting(20_000, "data sets", "simulated data sets of the calibration")
    calibration_variables: tuple[int, ...] = setting((4, 5), "variables", "sizes of the calibration's graphs")
    workers: int = setting(0, "processes", "trainings side by side; 0: one per core on a CPU, 1 on a GPU")
    checkpoint_every: int | None = setting(
        None, "steps", "steps between checkpoints of a DAG-GFlowNet for a resume; None: none", least=1
    )
    gflownet_network: str = setting("mlp", "name", "network of the DAG-GFlowNet", "transformer")
    gflownet_official: bool = setting(
        False, "yes/no", "the official learning rate, batches and exploration", True
    )
    gflownet_variables: int = setting(7, "variables", "size of the judged DAG-GFlowNet", 7)
    gflownet_types: tuple[str, ...] = setting(
        ("spr",), "galaxy types", "types it learns", ("ell", "len", "spr")
    )
    gflownet_steps: int = setting(1600, "steps", "optimiser steps of each judged training", 100_000)
    gflownet_seeds: int = setting(4, "seeds", "trainings of the first type (one for each further type)")
    gflownet_samples: int = setting(20_000, "graphs", "graphs drawn from the trained policy", 100_000)
    gflownet_small: tuple[int, ...] = setting(
        (5,), "variables", "sizes with an exact terminal law (at most 5)"
    )
    gflownet_small_steps: int = setting(400, "steps", "optimiser steps at these sizes")
    gflownet_between: tuple[int, ...] = setting(
        (6,), "variables", "further sizes compared by their marginals", empty=True
    )
    gflownet_between_steps: int = setting(300, "steps", "optimiser steps at the further sizes")


PROFILES: dict[str, Settings] = {
    "smoke": Settings(
        types=("ell",),
        error_draws=2,
        omissions=5,
        class_list_threshold=1e-5,
        enumerated=(4, 5),
        constraint_alphas=(0.15,),
        exact_samples=2_000,
        larger=(8,),
        timed_up_to=8,
        permutations=20,
        power_sizes=(35, 100),
        power_subsamples=20,
        calibration_datasets=200,
        calibration_variables=(4,),
        workers=1,
        gflownet_variables=4,
        gflownet_types=("ell",),
        gflownet_steps=60,
        gflownet_seeds=1,
        gflownet_samples=1_000,
        gflownet_small=(4,),
        gflownet_small_steps=60,
        gflownet_between=(),
    ),
    "default": Settings(),
    "gpu": Settings(
        error_draws=10_000,
        enumerated=(4, 5, 6, 7),
        exact_samples=500_000,
        timed_up_to=13,
        permutations=10_000,
        power_subsamples=1_000,
        calibration_datasets=100_000,
        gflownet_network="transformer",
        gflownet_types=("spr", "ell", "len"),
        gflownet_steps=3_000,
        gflownet_samples=100_000,
        gflownet_small_steps=3_000,
        gflownet_between=(6, 10),
        gflownet_between_steps=3_000,
    ),
    "paper": Settings(
        error_draws=10_000,
        enumerated=(4, 5, 6, 7),
        enumerated_types=3,
        exact_samples=500_000,
        timed_up_to=14,
        permutations=10_000,
        power_subsamples=1_000,
        calibration_datasets=100_000,
        calibration_variables=(4, 5, 7),
        checkpoint_every=5_000,
        gflownet_network="transformer",
        gflownet_official=True,
        gflownet_types=("spr", "ell", "len"),
        gflownet_steps=100_000,
        gflownet_seeds=1,
        gflownet_samples=100_000,
        gflownet_small_steps=100_000,
        gflownet_between=(6, 10),
        gflownet_between_steps=100_000,
    ),
}
