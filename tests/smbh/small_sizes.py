"""Sizes that make a walk through every path of a profile small; see ``tests/test_chapters.py``."""

SMALL_GFLOWNET = {
    "gflownet_environments": 4,
    "gflownet_replayed": 4,
    "gflownet_capacity": 200,
    "gflownet_steps": 2,
    "gflownet_small": (2,),
    "gflownet_small_steps": 5,
    "gflownet_between_steps": 2,
    "gflownet_samples": 20,
}
SMALL = {
    profile: {
        **SMALL_GFLOWNET,
        "compelled_samples": 200,
        "prior_samples": 200,
        "permutation_shuffles": 3,
        "power_subsamples": 3,
        "calibration_datasets": 100,
    }
    for profile in ("default", "gpu", "paper")
}
OWN_GENERATORS = {
    "measurement_error.py": "repeats the authors' own random numbers, from NumPy's legacy generator"
}
