"""dadapy, scikit-dimension and scikit-learn, for ``benchmarks/compositionality.py``: runs in an environment of their own.

pip install "numpy<2" dadapy==0.3.4 jax==0.4.30 scikit-dimension==0.5.0
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import skdim
from dadapy import Data
from sklearn.decomposition import PCA

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from lib.publishing.peers import serve


def two_nn(points: np.ndarray) -> Any:
    """dadapy's TwoNN."""
    return Data(points, n_jobs=1).compute_id_2NN()[0]


def two_nn_both(points: np.ndarray) -> Any:
    """dadapy's TwoNN by both of its algorithms, from one data object."""
    data = Data(points, n_jobs=1)
    return [data.compute_id_2NN(algorithm=name)[0] for name in ("base", "ml")]


def gride(points: np.ndarray) -> Any:
    """dadapy's GRIDE at scales up to 64: values and errors."""
    values, errors, _ = Data(points, n_jobs=1).return_id_scaling_gride(range_max=64)
    return [values, errors]


def pca(points: np.ndarray) -> Any:
    """Principal components that hold 99 % of the variance."""
    reached = np.cumsum(PCA().fit(points).explained_variance_ratio_)
    return np.argmax(reached >= 0.99) + 1


CALLS: dict[str, Callable[[np.ndarray], Any]] = {
    "dadapy 2NN base": two_nn,
    "dadapy 2NN base and ml": two_nn_both,
    "dadapy GRIDE": gride,
    "scikit-dimension TwoNN": lambda x: skdim.id.TwoNN(discard_fraction=0.1).fit(x).dimension_,
    "scikit-dimension MLE": lambda x: skdim.id.MLE().fit(x).dimension_,
    "scikit-dimension MLE mean": lambda x: skdim.id.MLE().fit(x, comb="mean").dimension_,
    "scikit-learn PCA": pca,
}
"""Name → call on points (N, D), one thread each."""


def prepared(call: Callable[[np.ndarray], Any], points: str) -> Callable[[], Any]:
    """The call on the points in a file."""
    array = np.load(points, allow_pickle=False)
    return lambda: np.asarray(call(array), dtype=float).tolist()


if __name__ == "__main__":
    packages = ["dadapy", "scikit-dimension", "numpy", "scikit-learn"]
    raise SystemExit(serve(packages, {name: partial(prepared, call) for name, call in CALLS.items()}))
