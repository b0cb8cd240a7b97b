"""Speed of stacked GFlowNets, of exact evaluation, of diffusion scoring and of string policies, side by side with peers.

    python benchmarks/adaptive_teachers.py --out benchmarks/results/adaptive_teachers.json [--quick]
    python benchmarks/adaptive_teachers.py --out benchmarks/results/adaptive_teachers.gpu.json --gpu-rows

Each row is the peer's time divided by ours, above 1 this collection is faster. Peer and ours run in turn; the ratio is the
median over the turns, its interval the distribution-free 95 % interval of a median. What computes the same is compared before it is
timed. One CPU thread; policies are trained for 200 steps first, because untrained ones walk short trajectories that flatter
loops. --gpu-rows measures the stacks on a CUDA GPU and nothing else. torchgfn 2.4.1 asks for numpy < 2, which its hypergrids do not need: install it
with ``--no-deps`` and then tensordict, torch_geometric, linear-attention-transformer, local-attention, dill, einops and xxhash.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.peers.adaptive_teachers import SequentialScoring, StateByState, TorchGfnIteration
from lib.adaptive_teachers.deceptive_grid import DeceptiveGrid
from lib.adaptive_teachers.diffusion_sampler import DriftNetwork, brownian_bridge, score_paths
from lib.adaptive_teachers.diffusion_training import SamplerRun, SamplerSizes, StackedSamplers
from lib.adaptive_teachers.exact_law import exact_law
from lib.adaptive_teachers.gaussian_mixture import GaussianMixture
from lib.adaptive_teachers.grid_methods import GridRun
from lib.adaptive_teachers.sequence_policy import ChildScorer
from lib.adaptive_teachers.sequence_space import SequenceSpace
from lib.adaptive_teachers.stacked_training import GridTask, StackedTraining
from lib.adaptive_teachers.trajectory_balance import roll_out
from lib.cores import limit_threads
from lib.publishing.benchmark import (
    CPU,
    Report,
    Work,
    add_gpu_options,
    benchmark_parser,
    check_device,
    check_equal,
    installed,
    seconds,
)
from lib.records import device_name
from lib.stacked import clip_by_member

BATCH = 16
WARM_UP = 200


def say_where_time_goes(report: Report, what: str, ours: Work, theirs: Work) -> None:
    """Share of the time in matrix products on both sides, from torch's profiler: what no other order of the work can save."""
    from torch.profiler import ProfilerActivity, profile

    shares = []
    for work in (ours, theirs):
        with profile(activities=[ProfilerActivity.CPU]) as record:
            work()
        times = {event.key: event.self_cpu_time_total for event in record.key_averages()}
        products = sum(times.get(f"aten::{name}", 0) for name in ("bmm", "baddbmm", "mm", "addmm"))
        activation = sum(
            times.get(f"aten::{name}", 0)
            for name in ("gelu", "gelu_backward", "leaky_relu", "leaky_relu_backward")
        )
        total = sum(times.values())
        shares.append(
            f"{products / total:.0%} in matrix products and {activation / total:.0%} in activation functions"
        )
    report.remarks.append(f"Where the time goes, {what}: ours {shares[0]}; the peer {shares[1]}.")


# --- the grid -----------------------------------------------------------------------------------------------------


class StackedIteration:
    """Our trajectory-balance iteration of K runs: roll out, score, step."""

    def __init__(self, grid: DeceptiveGrid, runs: int, hidden: int) -> None:
        task = GridTask(batches=1, batch=BATCH, hidden=hidden)
        self.module = StackedTraining(grid, [GridRun("TB", seed) for seed in range(runs)], task).to(
            grid.device
        )
        self.optimizer = self.module.configure_optimizers()
        self.lengths: list[float] = []  # mean transitions of a trajectory, one value a call

    def __call__(self) -> None:
        module = self.module
        walks = module.collect("student")
        losses, _ = module.losses(walks)
        self.optimizer.zero_grad()
        losses.sum().backward()
        clip_by_member(module.policy.parameters(), module.task.clip)
        self.optimizer.step()
        self.lengths.append(float(walks.live.sum()) / (len(module.runs) * BATCH))


def check_rewards(report: Report, grid: DeceptiveGrid, peer: TorchGfnIteration) -> None:
    """torchgfn's rewards must be those of exact arithmetic wherever no coordinate lies exactly on an edge of the reward.

    On the edges, |2i/(H−1) − 1| = 0.2, 0.6 or 0.8, its guard of 1e-12 is lost in float32; how many states that concerns is said.
    """
    theirs = peer.env.reward(peer.env.States(grid.coordinates)).double()
    offset = 5 * (2 * grid.coordinates - (grid.side - 1)).abs()  # integers: an edge is k (H − 1), k = 1, 3, 4
    edge = torch.stack([offset == k * (grid.side - 1) for k in (1, 3, 4)]).any(0).any(1)
    ours = grid.log_reward.exp()
    check_equal("torchgfn reward", ours[~edge], theirs[~edge], 1e-4)
    different = int(((ours - theirs).abs() > 1e-3).sum())
    if different:
        report.remarks.append(
            f"On d = {grid.dim}, H = {grid.side} torchgfn's reward differs from exact arithmetic on {different:,} of {grid.n_states:,} "
            "states, all with a coordinate exactly on an edge of the reward, where its guard of 1e-12 is lost in float32; "
            "everywhere else the rewards are equal."
        )


def warm(work: Work, steps: int) -> None:
    """Train for a while, so that what is timed is a trained policy."""
    for _ in range(steps):
        work()


def compare_grid(
    report: Report, dim: int, side: int, hidden: int, warm_up: int, stack: int = 8
) -> TorchGfnIteration | None:
    """One trajectory-balance iteration of a run, alone and in a stack, against torchgfn; returns the trained peer."""
    found = installed("gfn.gym", "torchgfn")
    if found is None:
        return None
    version = found[1]
    grid = DeceptiveGrid(dim, side, reward="exact")
    theirs = TorchGfnIteration(dim, side, hidden, BATCH, version)
    check_rewards(report, grid, theirs)
    warm(theirs, warm_up)
    shape = f"d = {dim}, H = {side}, batch {BATCH}, h = {hidden}"
    for runs, bar in ((stack, 4.0), (1, 2.0)):
        ours = StackedIteration(grid, runs, hidden)
        warm(ours, warm_up)
        columns = ("torchgfn HyperGrid, TB", version, shape)
        what = f"trajectory-balance iteration, per run, K = {runs}"
        ratios = report.compare(what, *columns, ours, theirs, bar, share=1 / runs)
        # since the training ended; both policies go on learning slowly while they are timed
        theirs_mean, ours_mean = (float(np.mean(x.lengths[warm_up:])) for x in (theirs, ours))
        scaled = [ratio * ours_mean / theirs_mean for ratio in ratios]
        report.add(f"the same, per transition, K = {runs}", *columns, scaled, bar)
        report.remarks.append(
            f"A trajectory of torchgfn, whose grid does not end at the border, had {theirs_mean:.0f} transitions on average while it was "
            f"timed, and one of ours (K = {runs}) {ours_mean:.0f}; the rows per transition take that out."
        )
    return theirs


def compare_exact_law(
    report: Report,
    sizes: Sequence[tuple[int, int, int]],
    hidden: int,
    warm_up: int,
    peer: TorchGfnIteration | None,
) -> None:
    """The exact law of the end points against 100,000 samples, drawn in big batches by our own sampler and by torchgfn's.

    Args:
        sizes: d, H and turns. peer: a trained torchgfn sampler; it is timed on the grid of its size.
    """
    n, batch = 100_000, 5000
    draw = torch.Generator().manual_seed(0)
    member = torch.zeros(1, dtype=torch.long)
    for dim, side, turns in sizes:
        grid = DeceptiveGrid(dim, side)
        ours = StackedIteration(grid, 1, hidden)
        warm(ours, warm_up)
        policy = ours.module.policy

        def law(grid: DeceptiveGrid = grid, policy: Any = policy) -> Tensor:
            return exact_law(grid, policy)[0]

        def part(grid: DeceptiveGrid = grid, policy: Any = policy) -> Tensor:
            uniform = torch.rand(1, batch, grid.max_steps, generator=draw)
            walks = roll_out(grid, policy, member, uniform)
            return torch.bincount(walks.terminal[0], minlength=grid.n_states)

        exact, counts = law(), part()
        # squared distance of the counts over its expectation for samples of that law
        distance = float(((counts - batch * exact) ** 2).sum() / (batch * (exact * (1 - exact)).sum()))
        if not 0.5 < distance < 2:
            raise SystemExit(
                f"exact law on ({dim}, {side}): samples lie {distance:.2f} times as far from it as samples of it would; "
                "nothing is timed"
            )
        rivals: list[tuple[str, str, Work]] = [(f"{n:,} samples, our own sampler", torch.__version__, part)]
        if peer is not None and (peer.env.ndim, peer.env.height) == (dim, side):
            rivals.append((f"{n:,} samples, torchgfn", peer.version, lambda: peer.sample(batch)))
        for name, version, work in rivals:

            def of_all(work: Work = work) -> float:
                return seconds(work) * n / batch

            report.compare(
                "exact law of the end points", name, version, f"d = {dim}, H = {side}, h = {hidden}",
                law, of_all, 50.0, clocked=True, turns=turns,
            )  # fmt: skip
    report.remarks.append(
        f"Of the {n:,} samples {batch:,} were drawn in each turn, in one batch, and their time multiplied by {n // batch}; "
        "the exact law has no sampling error at all."
    )


# --- diffusion ----------------------------------------------------------------------------------------------------


def compare_diffusion(report: Report, shapes: Sequence[tuple[int, int, int, int]]) -> None:
    """Off-policy step: draw paths back from end points, score them, and take the gradient."""
    target, sigma = GaussianMixture(), 1.5
    for batch, steps, hidden, turns in shapes:
        generator = torch.Generator().manual_seed(0)
        network = DriftNetwork(2, hidden, steps, [generator])
        with torch.no_grad():
            network.out.weight.normal_(generator=generator)
        loop = SequentialScoring(network)
        x = target.sample(batch, generator)
        noise = torch.randn(batch, steps, 2, generator=generator)
        sigmas = torch.tensor([sigma])
        path = loop.path(x, sigma, noise)
        check_equal(
            "sequential scoring",
            score_paths(network, path.unsqueeze(0), sigmas)[0],
            loop(x, sigma, noise).double(),
            1e-3,
        )

        def ours(
            network: DriftNetwork = network, x: Tensor = x, noise: Tensor = noise, sigmas: Tensor = sigmas
        ) -> None:
            network.zero_grad()
            path = brownian_bridge(x.unsqueeze(0), sigmas, noise.unsqueeze(0))
            score_paths(network, path, sigmas).square().mean().backward()

        def theirs(loop: SequentialScoring = loop, x: Tensor = x, noise: Tensor = noise) -> None:
            loop.zero_grad()
            loop(x, sigma, noise).square().mean().backward()

        report.compare(
            "off-policy diffusion step", "sequential bridge and scoring, T network calls", torch.__version__,
            f"batch {batch}, T = {steps}, h = {hidden}", ours, theirs, 3.0, turns=turns,
        )  # fmt: skip
        say_where_time_goes(
            report, f"off-policy diffusion step (batch {batch}, T = {steps}, h = {hidden})", ours, theirs
        )


# --- strings ------------------------------------------------------------------------------------------------------


def compare_strings(report: Report, tasks: Sequence[tuple[str, int, int, int]], batch: int = 32) -> None:
    """A round of the design tasks: sample a batch, score it, take the gradient; then score a replayed batch and take its gradient."""
    for name, length, symbols, hidden in tasks:
        space = SequenceSpace(length, symbols)
        generator = torch.Generator().manual_seed(0)
        policy = ChildScorer(space, hidden, [generator])
        states = StateByState(policy)
        uniform = torch.rand(1, batch, length, generator=generator)
        leaves = torch.randint(space.n_leaves, (1, batch), generator=generator)
        path = space.walk_back(leaves, uniform)
        strings = [
            [
                "".join(states.letters[int(i)] for i in space.digits(path[0, b, k], k))
                for k in range(length + 1)
            ]
            for b in range(batch)
        ]
        check_equal("state-by-state policy", policy.log_pf(path).sum(-1)[0], states.log_pf(strings), 1e-4)
        rng = np.random.default_rng(0)

        def ours(
            policy: ChildScorer = policy,
            path: Tensor = path,
            shape: Any = uniform.shape,
            draw: Any = generator,
        ) -> None:
            online = policy.sample(torch.rand(shape, generator=draw))
            for batch_of_paths in (online, path):
                policy.zero_grad()
                policy.log_pf(batch_of_paths).sum(-1).square().mean().backward()

        def theirs(states: StateByState = states, strings: Any = strings, rng: Any = rng) -> None:
            online = states.sample(batch, rng)
            for batch_of_paths in (online, strings):
                states.zero_grad()
                states.log_pf(batch_of_paths).square().mean().backward()

        report.compare(
            f"round of {batch} + {batch} strings", "unique children state by state in Python", torch.__version__,
            f"{name}: L = {length}, A = {symbols}, h = {hidden}", ours, theirs, 20.0, turns=min(report.turns, 9),
        )  # fmt: skip
        say_where_time_goes(report, f"round of strings ({name}, h = {hidden})", ours, theirs)


# --- stacking -----------------------------------------------------------------------------------------------------


def stacked_step(runs: int, sizes: SamplerSizes, device: str) -> Work:
    """One on-policy iteration of K diffusion samplers on ``device``."""
    module = StackedSamplers(GaussianMixture(), [SamplerRun("TB", s, 1.5) for s in range(runs)], sizes).to(
        device
    )
    module.on_fit_start()
    optimizer = module.configure_optimizers()["optimizer"]

    def step() -> None:
        loss = module._trajectory_balance(0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def compare_stacking(report: Report, device: str, runs: int, hidden: int, warm_up: int) -> None:
    """K runs as one model against the same K runs one after another (a single one is timed, times K)."""
    name = CPU if device == "cpu" else device_name(torch.device(device))
    grid = DeceptiveGrid(4, 16, device=device)
    together, alone = StackedIteration(grid, runs, hidden), StackedIteration(grid, 1, hidden)
    for work in (together, alone):
        warm(work, warm_up)
    what = f"{runs} runs stacked against one by one"
    report.compare(
        what, "this collection, K = 1", torch.__version__, f"grid TB, d = 4, H = 16, batch {BATCH}, h = {hidden}",
        together, alone, None, share=1 / runs, device=name,
    )  # fmt: skip
    sizes = SamplerSizes(25, 64, 256, 64, 100, 5000)
    together, alone = stacked_step(runs, sizes, device), stacked_step(1, sizes, device)
    report.compare(
        what, "this collection, K = 1", torch.__version__, "25 Gaussians, T = 25, batch 64, h = 64",
        together, alone, None, share=1 / runs, device=name,
    )  # fmt: skip


def main() -> int:
    """Measure, print, and write the results."""
    parser = benchmark_parser("Speed of the adaptive-teachers chapter against peers.")
    add_gpu_options(parser)
    options = parser.parse_args()
    torch.manual_seed(0)
    limit_threads(1)
    report = Report(turns=3 if options.quick else 9 if options.gpu_rows else 20)
    if options.gpu_rows:
        check_device(options.device)
        sizes = (4, 16, 3) if options.quick else (40, 256, WARM_UP)
        compare_stacking(report, options.device, *sizes)
    elif options.quick:
        peer = compare_grid(report, 2, 16, 32, 5)
        compare_exact_law(report, [(2, 16, 3)], 32, 5, peer)
        compare_diffusion(report, [(16, 10, 16, 3)])
        compare_strings(report, [("TFBind8", 8, 4, 16)])
        compare_stacking(report, "cpu", 4, 16, 3)
    else:
        peer = compare_grid(report, 4, 16, 256, WARM_UP)
        compare_exact_law(report, [(2, 64, 9), (2, 256, 3), (4, 16, 9)], 256, WARM_UP, peer)
        compare_diffusion(report, [(64, 25, 64, 20), (64, 100, 64, 20), (500, 100, 256, 5)])
        compare_strings(report, [("TFBind8", 8, 4, 32), ("TFBind8", 8, 4, 128)])
        compare_stacking(report, "cpu", 8, 256, WARM_UP)
    report.write(options.out, ["torch", "numpy"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
