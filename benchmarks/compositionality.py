"""Speed of the intrinsic-dimension estimators, side by side with dadapy and scikit-dimension on the same points.

    python benchmarks/compositionality.py --peer-python /path/to/venv/bin/python --out benchmarks/results/compositionality.json
    python benchmarks/compositionality.py --peer-python ... --reference tests/compositionality/peer_values.json

The peers need NumPy < 2 and an old JAX, so they live in an environment of their own (see ``benchmarks/peers/compositionality.py``) and are called through a
process that this script starts with ``--peer-python``. Without it, only our own times are measured. Each row is the peer's time divided
by ours, the median over turns with its distribution-free 95 % interval; values are compared before anything is timed. One CPU thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.compositionality import nearest_neighbors as own
from lib.compositionality.intrinsic_dimension import estimate, gride, intrinsic_dimension, levina_bickel
from lib.compositionality.linear_dimension import pca_dimension
from lib.cores import limit_threads
from lib.publishing.benchmark import (
    Report,
    Work,
    add_peer_options,
    benchmark_parser,
    check_equal,
    keeps_rows,
    median_seconds,
    start_peers,
)
from lib.publishing.peers import PeerProcess
from lib.records import write_json
from tests.compositionality.clouds import CLOUDS

PACKAGES = ("dadapy", "scikit-dimension")
PEERS = Path(__file__).parent / "peers" / "compositionality.py"
MLE = "scikit-dimension MLE"
WHOLE = ("dadapy 2NN base and ml", "dadapy GRIDE", MLE)
CALLS = ("dadapy 2NN base", *WHOLE, "scikit-dimension TwoNN", "scikit-dimension MLE mean", "scikit-learn PCA")


def prepare(peers: PeerProcess, array: np.ndarray) -> None:
    """Let the peers' calls be those on these points (N, D)."""
    path = peers.path("points.npy")
    np.save(path, array)
    for call in CALLS:
        peers.make(call, call, points=str(path))


def write_reference(peers: PeerProcess, path: Path) -> None:
    """The peers' values on the clouds of the tests, with a checksum of each cloud."""
    values: dict[str, dict[str, Any]] = {}
    for name, make in CLOUDS.items():
        cloud = make()
        prepare(peers, cloud.numpy())
        base, ml = peers.value("dadapy 2NN base and ml")
        scales, error = peers.value("dadapy GRIDE")
        values[name] = {
            "checksum": float(cloud.sum()),
            "dadapy 2NN base": base,
            "dadapy 2NN ml": ml,
            "dadapy GRIDE": scales,
            "dadapy GRIDE error": error,
        }
        for call in ("scikit-dimension TwoNN", MLE, "scikit-dimension MLE mean"):
            values[name][call] = peers.value(call)
    write_json(path, {"versions": peers.versions, "values": values})


def make_points(n: int, dim: int) -> np.ndarray:
    """A noisy curved cloud of twelve dimensions, (n, dim)."""
    rng = np.random.default_rng([n, dim])
    u = rng.standard_normal((n, 12))
    return np.tanh(u @ rng.standard_normal((12, dim))) + 0.05 * rng.standard_normal((n, dim))


def check_peers(peers: PeerProcess, points: torch.Tensor) -> None:
    """Every estimate against its peer's, on points that were prepared."""
    ours = estimate(points)

    def check(call: str, value: Any, expected: Any, tolerance: float) -> None:
        check_equal(call, value, expected, tolerance, each=True)

    check("dadapy 2NN base", intrinsic_dimension(points), peers.value("dadapy 2NN base"), 1e-6)
    check("scikit-dimension TwoNN", intrinsic_dimension(points), peers.value("scikit-dimension TwoNN"), 1e-6)
    check("dadapy 2NN ml", [ours.two_nn, ours.two_nn_ml], peers.value("dadapy 2NN base and ml"), 1e-6)
    check("dadapy GRIDE", ours.gride, peers.value("dadapy GRIDE")[0], 1e-5)
    check(MLE, levina_bickel(own.nearest_neighbors(points, 20).distances), peers.value(MLE), 1e-6)
    check("scikit-learn PCA", pca_dimension(points), peers.value("scikit-learn PCA"), 0)


def measure(report: Report, peers: PeerProcess | None, shapes: list[tuple[int, int]]) -> None:
    """Rows of ratios on noisy curved clouds of several shapes; without peers our own times alone."""
    for n, dim in shapes:
        array = make_points(n, dim)
        points = torch.as_tensor(array)
        shape = f"N = {n}, D = {dim}"

        def mle(points: torch.Tensor = points) -> Any:
            return levina_bickel(own.nearest_neighbors(points, 20).distances)

        two_nn, everything = partial(intrinsic_dimension, points), partial(estimate, points)
        linear = partial(pca_dimension, points)
        compared: list[tuple[str, Sequence[str], Work, float | None]] = [
            ("TwoNN", ["dadapy 2NN base"], two_nn, 1.5),
            ("TwoNN", ["scikit-dimension TwoNN"], two_nn, 4.0),
            ("Levina-Bickel, 20 neighbours", [MLE], mle, None),
            ("TwoNN, GRIDE and Levina-Bickel from one pass", ["dadapy GRIDE"], everything, None),
            ("TwoNN, GRIDE and Levina-Bickel from one pass", WHOLE, everything, 5.0),
            ("linear dimension d99", ["scikit-learn PCA"], linear, None),
        ]
        if peers is None:
            for what, work in {what: work for what, _, work, _ in compared}.items():
                report.own(what, shape, [median_seconds(work, report.turns)])
            continue
        prepare(peers, array)
        check_peers(peers, points)
        for what, calls, work, bar in compared:
            version = ", ".join(peers.versions[p] for p in dict.fromkeys(call.split()[0] for call in calls))
            name = calls[0] if len(calls) == 1 else "sum of " + ", ".join(calls)

            def theirs(calls: Sequence[str] = calls) -> float:
                return sum(map(peers.seconds, calls))

            report.compare(what, name, version, shape, work, theirs, bar, clocked=True)


def time_parts(report: Report, shapes: list[tuple[int, int]], turns: int) -> None:
    """Where a neighbour pass spends its time: every shape's times, and a remark on the last."""
    parts: dict[str, float] = {}

    def measure_part(shape: str, name: str, dtype: str, work: Callable[..., Any], *arguments: Any) -> None:
        spent = median_seconds(partial(work, *arguments), turns)
        parts[name] = 1e3 * spent
        report.own(name, shape, [spent], dtype=dtype)

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
        measure_part(shape, "float32 product, every ordered pair", "float32", every_ordered_pair, tiles, low)
        measure_part(shape, "float32 product, each pair once", "float32", every_pair_once, tiles)
        for k in (2, 64):
            arguments = (low, norms, k + own.SPARE_CANDIDATES, 2**22)
            measure_part(
                shape,
                f"product and candidates, {k} neighbours",
                "float32",
                own._symmetric_candidates,
                *arguments,
            )
            index = own._symmetric_candidates(*arguments)[0]
            name = f"float64 distances and their order, {k} neighbours"
            measure_part(shape, name, "float64", own._nearest_of, points, torch.arange(n), index, k)
        measure_part(
            shape, "GRIDE at six scales", "float64", gride, own.nearest_neighbors(points, 64).distances
        )
    text = ", ".join(f"{name} {spent:.0f} ms" for name, spent in parts.items())
    report.remarks.append(f"Where the time goes at {shape}: {text}.")


def main() -> int:
    """Measure, print, and write the results."""
    parser = benchmark_parser("Speed of intrinsic-dimension estimators against peers.")
    add_peer_options(parser, PACKAGES)
    options = parser.parse_args()
    if keeps_rows(options, PACKAGES):
        return 0
    limit_threads(1)
    report = Report(turns=3 if options.quick else 7, dtype="float64")
    shapes = [(600, 32)] if options.quick else [(2000, 96), (5000, 256)]
    with start_peers(options, PEERS, PACKAGES) as peers:
        if peers is not None and options.reference:
            write_reference(peers, options.reference)
            return 0
        measure(report, peers, shapes)
    report.remarks.append(
        "The sum is of separate calls, each peer computing its own neighbours; dadapy's two TwoNN algorithms share one "
        "data object. scikit-dimension's and scikit-learn's calls are with their defaults. No GPU was there: nothing is "
        "said about speed on one."
    )
    time_parts(report, shapes, 3)
    report.write(options.out, ["torch", "numba", "numpy"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
