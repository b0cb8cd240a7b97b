"""Speed of the intrinsic-dimension estimators, side by side with dadapy and scikit-dimension on the same points.

    python benchmarks/compositionality.py --peer-python /path/to/venv/bin/python --out benchmarks/results/compositionality.json
    python benchmarks/compositionality.py --peer-python ... --reference tests/compositionality/peer_values.json

The peers need NumPy < 2 and an old JAX, so they live in an environment of their own (pip install "numpy<2" dadapy==0.3.4
jax==0.4.30 scikit-dimension==0.5.0) and are called through a process that this script starts with ``--peer-python``. Without
it, only our own times are measured. Each row is the peer's time divided by ours, the median over turns with its
distribution-free 95 % interval; values are compared before anything is timed. One CPU thread.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported, here and in the peers' process

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PACKAGES = {"dadapy": "dadapy", "scikit-dimension": "scikit-dimension"}


# --- the peers' process: this part runs where neither torch nor this collection is installed -------------------------


def peer_calls() -> dict[str, Callable[[np.ndarray], Any]]:
    """Name → call on points (N, D), one thread each."""
    import skdim
    from dadapy import Data
    from sklearn.decomposition import PCA

    def two_nn(points: np.ndarray) -> float:
        return Data(points, n_jobs=1).compute_id_2NN()[0]

    def two_nn_both(points: np.ndarray) -> list[float]:
        data = Data(points, n_jobs=1)
        return [data.compute_id_2NN(algorithm=name)[0] for name in ("base", "ml")]

    def gride(points: np.ndarray) -> list[list[float]]:
        values, errors, _ = Data(points, n_jobs=1).return_id_scaling_gride(range_max=64)
        return [values.tolist(), errors.tolist()]

    def pca(points: np.ndarray) -> int:
        reached = np.cumsum(PCA().fit(points).explained_variance_ratio_)
        return int(np.argmax(reached >= 0.99)) + 1

    return {
        "dadapy 2NN base": two_nn,
        "dadapy 2NN base and ml": two_nn_both,
        "dadapy GRIDE": gride,
        "scikit-dimension TwoNN": lambda x: skdim.id.TwoNN(discard_fraction=0.1).fit(x).dimension_,
        "scikit-dimension MLE": lambda x: skdim.id.MLE().fit(x).dimension_,
        "scikit-dimension MLE mean": lambda x: skdim.id.MLE().fit(x, comb="mean").dimension_,
        "scikit-learn PCA": pca,
    }


def serve() -> int:
    """Answer requests, one JSON object a line: {call, points: file} → {value, seconds}."""
    import warnings
    from importlib import metadata

    warnings.filterwarnings("ignore")
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not mix with the answers
    calls = peer_calls()
    names = [*PACKAGES, "numpy", "scikit-learn"]
    print(json.dumps({name: metadata.version(name) for name in names}), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        points = np.load(request["points"], allow_pickle=False)
        start = time.perf_counter()
        value = calls[request["call"]](points)
        spent = time.perf_counter() - start
        value = np.asarray(value, dtype=float).tolist()
        print(json.dumps({"value": value, "seconds": spent}), file=out, flush=True)
    return 0


class Peers:
    """The peers' process."""

    def __init__(self, python: Path) -> None:
        from lib.publishing.benchmark import PeerProcess  # not needed where this script serves

        self.process = PeerProcess(python, __file__, PACKAGES)
        self.versions = self.process.versions

    def store(self, name: str, points: np.ndarray) -> str:
        """Write points where the peers read them."""
        path = self.process.path(f"{name}.npy")
        np.save(path, points)
        return str(path)

    def call(self, call: str, points: str) -> tuple[Any, float]:
        """Value and seconds of one call."""
        answer = self.process.ask({"call": call, "points": points})
        return answer["value"], answer["seconds"]

    def close(self) -> None:
        """End the process."""
        self.process.close()


# --- this side ------------------------------------------------------------------------------------------------------


def write_reference(peers: Peers, path: Path) -> None:
    """The peers' values on the clouds of the tests, with a checksum of each cloud."""
    from lib.records import write_json
    from tests.compositionality.clouds import CLOUDS

    values: dict[str, dict[str, Any]] = {}
    for name, make in CLOUDS.items():
        cloud = make()
        points = peers.store(name, cloud.numpy())
        base, ml = peers.call("dadapy 2NN base and ml", points)[0]
        gride, error = peers.call("dadapy GRIDE", points)[0]
        values[name] = {
            "checksum": float(cloud.sum()),
            "dadapy 2NN base": base,
            "dadapy 2NN ml": ml,
            "dadapy GRIDE": gride,
            "dadapy GRIDE error": error,
        }
        for call in ("scikit-dimension TwoNN", "scikit-dimension MLE", "scikit-dimension MLE mean"):
            values[name][call] = peers.call(call, points)[0]
    write_json(path, {"versions": peers.versions, "values": values})


def check(name: str, ours: Any, theirs: Any, tolerance: float) -> None:
    """Stop if values that must be equal are not."""
    difference = float(np.max(np.abs(np.asarray(ours) / np.asarray(theirs) - 1)))
    if not difference <= tolerance:
        raise SystemExit(
            f"{name}: values differ by {difference:.1e}, above {tolerance:.0e}; nothing is timed"
        )


def make_points(n: int, dim: int) -> np.ndarray:
    """A noisy curved cloud of twelve dimensions, (n, dim)."""
    rng = np.random.default_rng([n, dim])
    u = rng.standard_normal((n, 12))
    return np.tanh(u @ rng.standard_normal((12, dim))) + 0.05 * rng.standard_normal((n, dim))


def measure(peers: Peers | None, shapes: list[tuple[int, int]], turns: int) -> tuple[list[Any], list[Any]]:
    """Rows of ratios and our own times on noisy curved clouds of several shapes."""
    import torch

    from lib.compositionality.intrinsic_dimension import estimate, intrinsic_dimension, levina_bickel
    from lib.compositionality.linear_dimension import pca_dimension
    from lib.compositionality.nearest_neighbors import nearest_neighbors
    from lib.publishing.benchmark import Report, seconds

    torch.set_num_threads(1)
    report = Report(turns)
    times: list[Any] = []
    whole = ["dadapy 2NN base and ml", "dadapy GRIDE", "scikit-dimension MLE"]
    for n, dim in shapes:
        array = make_points(n, dim)
        points = torch.as_tensor(array)
        shape = f"N = {n}, D = {dim}"

        def two_nn(points: torch.Tensor = points) -> Any:
            return intrinsic_dimension(points)

        def everything(points: torch.Tensor = points) -> Any:
            return estimate(points)

        def mle(points: torch.Tensor = points) -> Any:
            return levina_bickel(nearest_neighbors(points, 20).distances)

        def linear(points: torch.Tensor = points) -> Any:
            return pca_dimension(points)

        compared: list[tuple[str, list[str], Callable[[], Any], float | None]] = [
            ("TwoNN", ["dadapy 2NN base"], two_nn, 1.5),
            ("TwoNN", ["scikit-dimension TwoNN"], two_nn, 4.0),
            ("Levina-Bickel, 20 neighbours", ["scikit-dimension MLE"], mle, None),
            ("TwoNN, GRIDE and Levina-Bickel from one pass", ["dadapy GRIDE"], everything, None),
            ("TwoNN, GRIDE and Levina-Bickel from one pass", whole, everything, 5.0),
            ("linear dimension d99", ["scikit-learn PCA"], linear, None),
        ]
        stored = None
        if peers:
            stored = peers.store("points", array)
            ours = everything()
            check("dadapy 2NN base", two_nn(), peers.call("dadapy 2NN base", stored)[0], 1e-6)
            check("scikit-dimension TwoNN", two_nn(), peers.call("scikit-dimension TwoNN", stored)[0], 1e-6)
            both = [ours.two_nn, ours.two_nn_ml]
            check("dadapy 2NN ml", both, peers.call("dadapy 2NN base and ml", stored)[0], 1e-6)
            check("dadapy GRIDE", ours.gride, peers.call("dadapy GRIDE", stored)[0][0], 1e-5)
            check("scikit-dimension MLE", mle(), peers.call("scikit-dimension MLE", stored)[0], 1e-6)
            check("scikit-learn PCA", linear(), peers.call("scikit-learn PCA", stored)[0], 0)
        own: dict[str, list[float]] = {}
        for what, calls, work, bar in compared:
            work()
            ratios = []
            for _ in range(turns):
                mine = seconds(work)
                own.setdefault(what, []).append(mine)
                if peers and stored:
                    ratios.append(sum(peers.call(call, stored)[1] for call in calls) / mine)
            if not (peers and ratios):
                continue
            packages = dict.fromkeys(call.split()[0] for call in calls)
            peer = calls[0] if len(calls) == 1 else "sum of " + ", ".join(calls)
            version = ", ".join(peers.versions[p] for p in packages)
            report.add(what, peer, version, shape, ratios, bar, dtype="float64")
        times += [
            {
                "what": what,
                "peer": "",
                "shape": shape,
                "dtype": "float64",
                "milliseconds": 1e3 * float(np.median(values)),
            }
            for what, values in own.items()
        ]
    return report.rows, times


def time_parts(shapes: list[tuple[int, int]], turns: int) -> tuple[list[Any], str]:
    """Where a neighbour pass spends its time: rows for the times of every shape, and a sentence for the largest."""
    import torch

    from lib.compositionality import nearest_neighbors as own
    from lib.compositionality.intrinsic_dimension import gride
    from lib.publishing.benchmark import seconds

    rows: list[Any] = []
    parts: dict[str, float] = {}

    def measure_part(shape: str, name: str, work: Callable[..., Any], *arguments: Any) -> None:
        work(*arguments)
        parts[name] = 1e3 * float(np.median([seconds(partial(work, *arguments)) for _ in range(turns)]))
        rows.append({"what": name, "peer": "", "shape": shape, "dtype": "", "milliseconds": parts[name]})

    def every_ordered_pair(tiles: Sequence[torch.Tensor], low: torch.Tensor) -> None:
        for x in tiles:
            x @ low.T

    def every_pair_once(tiles: Sequence[torch.Tensor]) -> None:
        for i, x in enumerate(tiles):
            for y in tiles[i:]:
                x @ y.T

    for n, dim in shapes:
        shape = f"N = {n}, D = {dim}"
        points = torch.as_tensor(make_points(n, dim))
        points -= points.mean(dim=0)
        low, norms = points.float(), points.square().sum(dim=-1).float()
        tiles = low.split(256)
        measure_part(shape, "float32 product, every ordered pair", every_ordered_pair, tiles, low)
        measure_part(shape, "float32 product, each pair once", every_pair_once, tiles)
        for k in (2, 64):
            arguments = (low, norms, k + own.SPARE_CANDIDATES, 2**22)
            measure_part(
                shape, f"product and candidates, {k} neighbours", own._symmetric_candidates, *arguments
            )
            index = own._symmetric_candidates(*arguments)[0]
            name = f"float64 distances and their order, {k} neighbours"
            measure_part(shape, name, own._nearest_of, points, torch.arange(n), index, k)
        measure_part(shape, "GRIDE at six scales", gride, own.nearest_neighbors(points, 64).distances)
    text = f"Where the time goes at {shape}: " + ", ".join(f"{k} {v:.0f} ms" for k, v in parts.items())
    return rows, text + "."


def main() -> int:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description="Speed of intrinsic-dimension estimators against peers.")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--peer-python", type=Path, help="interpreter that has dadapy and scikit-dimension")
    parser.add_argument("--reference", type=Path, help="write the peers' values on the clouds of the tests")
    parser.add_argument("--quick", action="store_true", help="small sizes and few turns")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    if options.peer_python is None and options.reference:
        parser.error("--reference needs --peer-python")
    if options.peer_python is None:
        print("no --peer-python: dadapy and scikit-dimension are skipped", file=sys.stderr)
        if options.out and options.out.exists():
            print(f"{options.out} keeps its rows", file=sys.stderr)
            return 0
    peers = Peers(options.peer_python) if options.peer_python else None
    if options.reference:
        assert peers is not None
        write_reference(peers, options.reference)
        peers.close()
        return 0
    from lib.publishing.benchmark import machine, write_results

    shapes = [(600, 32)] if options.quick else [(2000, 96), (5000, 256)]
    rows, times = measure(peers, shapes, turns=3 if options.quick else 7)
    if peers:
        peers.close()
    if options.out:
        note = (
            "The sum is of separate calls, each peer computing its own neighbours; dadapy's two TwoNN algorithms share one "
            "data object. scikit-dimension's and scikit-learn's calls are with their defaults. No GPU was there: nothing is "
            "said about speed on one."
        )
        parts, sentence = time_parts(shapes, 3)
        times += parts
        note = f"{note} {sentence}"
        write_results(options.out, machine("torch", "numba", "numpy"), rows, times, note)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
