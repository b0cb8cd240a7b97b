"""Speed of losses, samplers and steering steps, side by side with peers and with the plain forms of the same work.

    python benchmarks/ddpp.py --peer-python /path/to/venv/bin/python --out benchmarks/results/ddpp.json [--quick]
    python benchmarks/ddpp.py --peer-python ... --reference tests/ddpp/peer_values.json

bionemo-moco 0.0.2.2 and torchgfn 2.4.1 ask for numpy < 2, so the peers live in an environment of their own (see ``benchmarks/peers/ddpp.py``) and
are called through a process that this script starts with ``--peer-python``. Both sides use the same network. Without it, only what needs
no peer is measured. Each row is the peer's time divided by ours, the median over turns with its distribution-free 95 % interval; results are
compared before anything is timed. One CPU thread.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.peers.ddpp import PACKAGES, network, tiny_network
from benchmarks.peers.ddpp_plain import dictionary_law, kernel_log_ratio, looped_svdd, plain_kl, plain_log_z
from lib.cores import limit_threads
from lib.ddpp.denoisers import EmbeddingMLP
from lib.ddpp.denoising_posterior import importance_log_z, kl_loss, kl_loss_exact, prior_log_probs
from lib.ddpp.exact_law import clean_law, denoising_table, exact_law, space_of
from lib.ddpp.inference_steering import svdd
from lib.ddpp.masked_diffusion import (
    clean_log_probability,
    low_discrepancy_times,
    mask_probability,
    mask_tokens,
)
from lib.ddpp.reinmax import reinmax_one_hot
from lib.ddpp.rewards import FunctionReward, TableReward
from lib.ddpp.samplers import LAST_TIME, cached, draw, first_hitting
from lib.ddpp.steering import METHODS, Steering, SteeringSettings
from lib.ddpp.trajectory_balance import token_log_probs
from lib.publishing.benchmark import (
    Report,
    add_peer_options,
    benchmark_parser,
    check_equal,
    installed,
    keeps_rows,
    median_seconds,
    seconds,
    start_peers,
)
from lib.publishing.peers import PeerProcess
from lib.records import write_json
from tests.ddpp.small_denoisers import histogram, law_by_steps
from tests.ddpp.test_masked_diffusion import peer_inputs

PEERS = Path(__file__).parent / "peers" / "ddpp.py"

# --- this side: peers ------------------------------------------------------------------------------------------------------


def store(peers: PeerProcess, name: str, **tensors: Tensor) -> str:
    """Write tensors where the peers read them."""
    path = peers.path(f"{name}.pt")
    torch.save(tensors, path)
    return str(path)


def write_reference(peers: PeerProcess, path: Path) -> None:
    """The peers' values on the inputs of the tests."""
    logits, clean, noisy, t = peer_inputs()
    file = store(peers, "values", logits=logits, clean=clean, noisy=noisy, t=t)
    peers.make("values", "mdlm values", file=file)
    peers.make("balance", "trajectory balance")
    values = {"mdlm": peers.value("values"), "trajectory_balance": peers.value("balance")}
    write_json(path, {"versions": peers.versions, **values})


def measure_losses(report: Report, peers: PeerProcess, quick: bool) -> None:
    """The NELBO from logits, with its gradient, against MDLM.loss."""

    for batch, n, v in [(8, 32, 50)] if quick else [(64, 64, 1000), (16, 784, 2)]:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn((batch, n, v + 1), generator=generator)
        clean = torch.randint(v, (batch, n), generator=generator)
        t = 0.1 + 0.8 * torch.rand(batch, generator=generator)
        noisy = mask_tokens(clean, t, v, generator)
        name = f"loss {n} {v}"
        peers.make(name, "mdlm loss", file=store(peers, "loss", logits=logits, clean=clean, noisy=noisy, t=t))

        def ours(
            logits: Tensor = logits, clean: Tensor = clean, noisy: Tensor = noisy, t: Tensor = t, v: int = v
        ) -> Any:
            leaf = logits.clone().requires_grad_()
            loss = (-clean_log_probability(leaf, clean, noisy == v) / t).mean() / clean.shape[1]
            loss.backward()
            assert leaf.grad is not None
            return [float(loss.detach()), float(leaf.grad.norm())]

        check_equal(name, torch.tensor(ours()), torch.tensor(peers.value(name)), 1e-5)
        what, shape = "NELBO from logits, and its gradient", f"B = {batch}, n = {n}, V = {v}"
        version = peers.versions["bionemo-moco"]
        theirs = partial(peers.seconds, name)
        report.compare(what, "bionemo-moco", version, shape, ours, theirs, None, clocked=True)


def check_laws(peers: PeerProcess, draws: int) -> None:
    """Samples of both peers on a tiny space against the exact T-step law; chi-square at the level 10⁻⁴.

    Raises:
        SystemExit: naming the sampler whose law differs.
    """

    steps = 16
    law = torch.zeros((3, 3), dtype=torch.float64)
    for state, mass in law_by_steps(tiny_network(), steps).items():
        law[state] = mass
    peers.make("tiny mdlm", "mdlm sample", kind="tiny", n_samples=draws, steps=steps, cache=False, seed=1)
    peers.make("tiny flow", "flow sample", kind="tiny", n_samples=draws, steps=steps, seed=1)
    samples = {
        "bionemo-moco": torch.tensor(peers.value("tiny mdlm")["tokens"]),
        "flow-matching": torch.tensor(peers.value("tiny flow")["tokens"]),
        "ours": cached(tiny_network(), draws, steps=steps, generator=torch.Generator().manual_seed(1)).tokens,
    }
    for name, tokens in samples.items():
        counts = histogram(tokens, 3).flatten().double().numpy()
        p = stats.chisquare(counts, draws * law.flatten().numpy() / float(law.sum())).pvalue
        if not p > 1e-4:
            raise SystemExit(f"{name}: samples do not follow the exact law (p = {p:.1e}); nothing is timed")


def measure_samplers(report: Report, peers: PeerProcess, quick: bool) -> None:
    """Sequences of 64 tokens in T = 1000 steps: events against steps, in wall time and in rows through the network."""

    check_laws(peers, 3000 if quick else 20_000)
    batch, steps = (4, 50) if quick else (16, 1000)
    turns = 2 if quick else min(report.turns, 5)
    shape = f"B = {batch}, n = 64, V = 32, T = {steps}, transformer of 0.2 M weights"
    model = network(64, 32)
    generator = torch.Generator().manual_seed(0)
    samplers = {
        "ancestral sampling, network asked at events": lambda: cached(
            model, batch, steps=steps, generator=generator
        ),
        "first-hitting sampling": lambda: first_hitting(model, batch, generator=generator),
    }
    works = [
        ("bionemo-moco", "bionemo-moco, step by step", "mdlm sample", {"cache": False}),
        ("bionemo-moco", "bionemo-moco, reused while no sequence changes", "mdlm sample", {"cache": True}),
        ("flow-matching", "flow-matching Euler solver", "flow sample", {}),
    ]
    for package, peer, maker, extra in works:
        peers.make(peer, maker, kind="large", n_samples=batch, steps=steps, seed=0, **extra)
        theirs = peers.value(peer)["rows"] / batch
        ratios: dict[str, list[float]] = {what: [] for what in samplers}
        own: dict[str, list[float]] = {what: [] for what in samplers}
        rows: dict[str, list[float]] = {what: [] for what in samplers}
        for _ in range(turns):
            spent = peers.seconds(peer)
            for what, sampler in samplers.items():
                own[what].append(seconds(sampler))
                ratios[what].append(spent / own[what][-1])
                rows[what].append(theirs / (sampler().rows / batch))
        for what in samplers:
            version = peers.versions[package]
            report.add(what, peer, version, shape, ratios[what], 5.0)
            report.own(what, shape, own[what], peer=peer)
            bar = 10.0 if steps == 1000 else None
            report.add(
                f"{what}: rows through the network", peer, version, shape, rows[what], bar, device="counted"
            )


# --- this side: plain forms ------------------------------------------------------------------------------------------------

PLAIN = "plain form"


def measure_reuse(report: Report, quick: bool) -> None:
    """K and M draws from one forward pass, ReinMax of K draws, RTB without kernels, all particles of SVDD in one batch."""

    v, batch = (16, 16) if quick else (128, 64)
    posterior, prior = EmbeddingMLP(2, v, seed=0), EmbeddingMLP(2, v, seed=1).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    reward = TableReward(torch.randn((v, v), generator=generator))
    clean = torch.randint(v, (batch, 2), generator=generator)
    noisy = mask_tokens(clean, low_discrepancy_times(batch, generator), v, generator)
    shape = f"B = {batch}, n = 2, V = {v}, 2 x 256 GELU"

    def step(loss: Callable[[], Tensor]) -> Callable[[], Any]:
        def work() -> float:
            value = loss()
            posterior.zero_grad()
            value.backward()
            return float(value.detach())

        return work

    def kl(draws: int) -> Tensor:
        return kl_loss(posterior(noisy), prior_log_probs(prior, noisy), noisy, reward, draws, generator)

    exact = kl_loss_exact(posterior(noisy), prior_log_probs(prior, noisy), noisy, reward).detach()
    check_equal("KL, one forward", kl(2048).detach(), exact, 0.1)
    many = torch.stack([plain_kl(posterior, prior, noisy, reward, 64, generator).detach() for _ in range(32)])
    check_equal("KL, repeated batch", many.mean(), exact, 0.1)
    ours, theirs = step(lambda: kl(8)), step(lambda: plain_kl(posterior, prior, noisy, reward, 8, generator))
    report.compare("DDPP-KL step, 8 draws from one forward pass", f"{PLAIN}: batch repeated 8 times", "", shape, ours, theirs, 8.0)  # fmt: skip

    measure_kl_of_transformer(report, quick)

    def log_z(draws: int) -> Tensor:
        return importance_log_z(prior_log_probs(prior, noisy), noisy, reward, draws, generator)

    check_equal("IS", log_z(4000).exp(), plain_log_z(prior, noisy, reward, 4000, generator).exp(), 0.2)
    report.compare(
        "log Z of DDPP-IS, 16 completions from one forward pass", f"{PLAIN}: one call per completion", "", shape,
        lambda: log_z(16), lambda: plain_log_z(prior, noisy, reward, 16, generator), None,
    )  # fmt: skip
    measure_reinmax(report, quick)
    measure_balance(report, quick)
    measure_svdd(report, quick)


def measure_kl_of_transformer(report: Report, quick: bool) -> None:
    """The same saving where the network is what costs: a transformer over 64 tokens and a linear reward."""

    batch, draws = (2, 4) if quick else (8, 8)
    posterior, prior = network(64, 32).requires_grad_(True), network(64, 32)
    prior.output.bias.add_(torch.linspace(0, 1, 33))
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn((64, 32), generator=generator) / 8
    reward = FunctionReward(lambda onehot: (onehot * weights).sum((-1, -2)), 32)
    clean = torch.randint(32, (batch, 64), generator=generator)
    noisy = mask_tokens(clean, low_discrepancy_times(batch, generator), 32, generator)

    def once(k: int) -> Tensor:
        return kl_loss(posterior(noisy), prior_log_probs(prior, noisy), noisy, reward, k, generator)

    def step(loss: Callable[[], Tensor]) -> Callable[[], Any]:
        def work() -> None:
            posterior.zero_grad()
            loss().backward()

        return work

    with torch.no_grad():
        repeated = torch.stack(
            [plain_kl(posterior, prior, noisy, reward, 8, generator) for _ in range(128 // batch)]
        )
        check_equal("KL of the transformer", once(2048), repeated.mean(), 0.1)
    report.compare(
        f"DDPP-KL step, {draws} draws from one forward pass", f"{PLAIN}: batch repeated {draws} times", "",
        f"B = {batch}, n = 64, V = 32, transformer of 0.2 M weights",
        step(lambda: once(draws)), step(lambda: plain_kl(posterior, prior, noisy, reward, draws, generator)),
        float(draws), turns=5,
    )  # fmt: skip


def measure_reinmax(report: Report, quick: bool) -> None:
    """Gradients of K one-hots that share their logits, against the package on K copies."""

    found = installed("reinmax", "reinmax")
    if not found:
        return
    reinmax, version = found[0].reinmax, found[1]
    rows, v, draws = (64, 16, 8) if quick else (2048, 128, 8)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((rows, v), generator=generator)
    weights = torch.randn((draws, rows, v), generator=generator)

    def theirs() -> tuple[Tensor, Tensor]:
        leaf = logits.clone().requires_grad_()
        onehot, _ = reinmax(leaf.expand(draws, -1, -1).reshape(-1, v), 1.0)
        (onehot.view(draws, rows, v) * weights).sum().backward()
        return onehot.detach().view(draws, rows, v).argmax(-1), leaf.grad  # type: ignore[return-value]

    def ours(drawn: Tensor | None = None) -> Tensor:
        leaf = logits.clone().requires_grad_()
        if drawn is None:
            drawn = draw(leaf.log_softmax(-1), generator, draws).movedim(-1, 0)
        (reinmax_one_hot(leaf, drawn) * weights).sum().backward()
        return leaf.grad  # type: ignore[return-value]

    torch.manual_seed(0)
    drawn, expected = theirs()
    check_equal("ReinMax", ours(drawn), expected, 1e-5)
    report.compare(
        "8 ReinMax one-hots per law, and their gradient", "reinmax", version,
        f"{rows} laws, V = {v}", ours, theirs, None,
    )  # fmt: skip


def measure_balance(report: Report, quick: bool) -> None:
    """Trajectory log-ratio with gradient: one ratio per token against T kernels."""

    n, v, batch, steps = (4, 5, 8, 8) if quick else (16, 20, 64, 64)
    posterior, prior = (
        EmbeddingMLP(n, v, 32, 256, seed=0),
        EmbeddingMLP(n, v, 32, 256, seed=1).requires_grad_(False),
    )
    grid = torch.linspace(1, LAST_TIME, steps + 1)
    stays = mask_probability(grid[1:]) / mask_probability(grid[:-1])
    made = cached(posterior, batch, steps=steps, generator=torch.Generator().manual_seed(0))
    step = (made.times.unsqueeze(-1) - grid).abs().argmin(-1).gather(1, made.event)  # (B, n)
    index = torch.arange(steps + 1).view(1, -1, 1)
    states = torch.where(step.unsqueeze(1) >= index, v, made.tokens.unsqueeze(1))

    def ours() -> Tensor:
        log_q = token_log_probs(posterior, made.tokens, made.event)
        with torch.no_grad():
            log_p = token_log_probs(prior, made.tokens, made.event)
        ratio = (log_q - log_p).sum(-1)
        posterior.zero_grad()
        ratio.square().mean().backward()
        return ratio.detach()

    def theirs() -> Tensor:
        ratio = kernel_log_ratio(posterior, prior, states, stays)
        posterior.zero_grad()
        ratio.square().mean().backward()
        return ratio.detach()

    check_equal("trajectory log-ratio", ours(), theirs(), 1e-4)
    report.compare(
        "trajectory log-ratio and its gradient, one ratio per token", f"{PLAIN}: a kernel (B, n, V+1) per step", "",
        f"B = {batch}, n = {n}, V = {v}, T = {steps}", ours, theirs, None, turns=5,
    )  # fmt: skip


def measure_svdd(report: Report, quick: bool) -> None:
    """All particles of a step in one batch, their answers kept for the next step."""

    n, v, samples, steps = (3, 4, 64, 4) if quick else (4, 20, 64, 16)
    model = EmbeddingMLP(n, v, 32, 256, seed=0).requires_grad_(False)
    reward = TableReward(torch.randn((v,) * n, generator=torch.Generator().manual_seed(0)))
    generator = torch.Generator().manual_seed(1)
    many = 4000
    a = reward(svdd(model, reward, many, particles=4, steps=steps, generator=generator).tokens)
    b = reward(looped_svdd(model, reward, many, 4, steps, generator))
    error = math.sqrt(float(a.var() + b.var()) / many)
    if not abs(float(a.mean() - b.mean())) < 4 * error:
        raise SystemExit("SVDD: mean rewards of the batched and the looped form differ; nothing is timed")
    report.compare(
        "SVDD, 10 particles in one batch", f"{PLAIN}: a loop over particles", "",
        f"{samples} sequences, n = {n}, V = {v}, T = {steps}",
        lambda: svdd(model, reward, samples, particles=10, steps=steps, generator=generator),
        lambda: looped_svdd(model, reward, samples, 10, steps, generator), None, turns=5,
    )  # fmt: skip


def measure_exact_law(report: Report, quick: bool) -> None:
    """The law over clean states from a table of μ: additions of whole layers against a dictionary."""

    n, v = (3, 6) if quick else (4, 20)  # GB1's alphabet
    space, model = space_of(n, v), EmbeddingMLP(n, v, 32, 256, seed=0).requires_grad_(False)
    table = denoising_table(space, model)
    as_dictionary = {tuple(s): m for s, m in zip(space.partial.tolist(), table.tolist(), strict=True)}
    slow = dictionary_law(as_dictionary, n, v)
    expected = torch.tensor([slow[tuple(s)] for s in space.clean.tolist()], dtype=torch.float64)
    check_equal("exact law", clean_law(space, table), expected, 1e-10)
    report.compare(
        "exact law of the sampler from a table", f"{PLAIN}: a dictionary of partial states", "",
        f"n = {n}, V = {v}, {(v + 1) ** n} partial states", lambda: clean_law(space, table),
        lambda: dictionary_law(as_dictionary, n, v), 100.0, dtype="float64", turns=3,
    )  # fmt: skip

    n, v = (3, 6) if quick else (4, 12)
    small, narrow = space_of(n, v), EmbeddingMLP(n, v, 32, 256, seed=0).requires_grad_(False)

    def state_by_state() -> dict[tuple[int, ...], float]:
        table = {}
        for state in small.partial:
            mu = narrow(state.unsqueeze(0))[0, :, :-1].double().softmax(-1)
            table[tuple(state.tolist())] = mu.tolist()
        return dictionary_law(table, n, v)

    report.compare(
        "exact law of the sampler, network included", f"{PLAIN}: a dictionary, one state at a time", "",
        f"n = {n}, V = {v}, {(v + 1) ** n} partial states, 2 x 256 GELU", lambda: exact_law(small, narrow),
        state_by_state, 100.0, dtype="float64", turns=3,
    )  # fmt: skip
    if quick:
        return
    exact_law(space, model)
    for what, work in (
        ("exact law, network included", lambda: exact_law(space, model)),
        ("the network on all partial states alone", lambda: denoising_table(space, model)),
    ):
        spent = [median_seconds(work, 5)]
        report.own(what, "n = 4, V = 20, 194 481 partial states, 2 x 256 GELU", spent)


def time_steps(report: Report, quick: bool) -> None:
    """Our time of one training step of each method on the grid's network, with its refills, without Lightning's start."""

    v, steps = (16, 20) if quick else (128, 200)
    prior = EmbeddingMLP(2, v)
    reward = TableReward(
        torch.where(torch.arange(v).view(-1, 1) >= v // 2, 0.0, -10.0).expand(v, v).contiguous()
    )
    for method in METHODS:
        for tabulate in (False, True):
            module = Steering(prior, reward, method, SteeringSettings(steps=10**6, tabulate_prior=tabulate))
            module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
            module.on_fit_start()
            optimizer = module.configure_optimizers()
            for _ in range(20):
                module._step(optimizer, optimizer)
            start = time.perf_counter()
            for _ in range(steps):
                module._step(optimizer, optimizer)
            spent = (time.perf_counter() - start) / steps
            what = f"training step, {method}" + (", prior looked up" if tabulate else "")
            report.own(what, f"B = 64, n = 2, V = {v}, 2 x 256 GELU", [spent])


def note_on(times: list[dict[str, Any]]) -> str:
    """What the table needs to be read, with the share of the exact law's time that its network takes."""
    note = (
        "Rows named plain form compare with the same work without the saving, written in the benchmark itself. Counted rows are "
        "ratios of network evaluations per sequence, not of times; reuse while no sequence changes saves less the more sequences a "
        "batch holds. The draws of DDPP-KL share a forward pass, but each still pays for its one-hots and its reward. No GPU was "
        "there: nothing is said about speed on one."
    )
    of = {row["what"]: row["milliseconds"] for row in times}
    if "exact law, network included" in of:
        whole = of["exact law, network included"]
        share = of["the network on all partial states alone"] / whole
        note += (
            f" The exact law of 194 481 partial states (GB1) takes {whole:.0f} ms on one core, network included (aim: 2 s); "
            f"{share:.0%} of it in the network, the rest in the sums."
        )
    return note


def main() -> int:
    """Measure, print, and write the results."""
    parser = benchmark_parser("Speed of masked-diffusion steering against peers and plain forms.")
    add_peer_options(parser, PACKAGES)
    options = parser.parse_args()
    if keeps_rows(options, PACKAGES):
        return 0
    limit_threads(1)
    report = Report(turns=3 if options.quick else 9)
    with start_peers(options, PEERS, PACKAGES) as peers:
        if peers is not None and options.reference:
            write_reference(peers, options.reference)
            return 0
        if peers is not None:
            measure_losses(report, peers, options.quick)
            measure_samplers(report, peers, options.quick)
    measure_reuse(report, options.quick)
    measure_exact_law(report, options.quick)
    time_steps(report, options.quick)
    report.remarks.append(note_on(report.times))
    report.write(options.out, ["torch"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
