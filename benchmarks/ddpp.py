"""Speed of losses, samplers and steering steps, side by side with peers and with the plain forms of the same work.

    python benchmarks/ddpp.py --peer-python /path/to/venv/bin/python --out benchmarks/results/ddpp.json [--quick]
    python benchmarks/ddpp.py --peer-python ... --reference tests/ddpp/peer_values.json

bionemo-moco 0.0.2.2 and torchgfn 2.4.1 ask for numpy < 2, so the peers live in an environment of their own (pip install torch
"numpy<2" jaxtyping beartype pot pydantic einops torchdiffeq tensordict torch_geometric, then pip install --no-deps
bionemo-moco==0.0.2.2 flow-matching==1.0.10 torchgfn and what their imports ask for) and are called through a process that this
script starts with ``--peer-python``. Both sides use the same network. Without it, only what needs no peer is measured. Each row is
the peer's time divided by ours, the median over turns with its distribution-free 95 % interval; results are compared before
anything is timed. One CPU thread. flow-matching is CC BY-NC: it is compared with, and nothing of it is used.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before torch is imported, here and in the peers' process

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.ddpp.denoisers import EmbeddingMLP
from lib.ddpp.dit import DiT

PACKAGES = {"bionemo-moco": "bionemo-moco", "flow-matching": "flow-matching", "torchgfn": "torchgfn"}


def network(n_tokens: int, n_symbols: int) -> nn.Module:
    """The small transformer that both sides sample from: weights from a seed, no layer left at zero."""
    made = DiT(n_tokens, n_symbols, width=64, blocks=2, heads=4, seed=0).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in made.parameters():
        if not parameter.any():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return made


def tiny_network() -> nn.Module:
    """Two tokens of three symbols: its law can be written down."""
    made = EmbeddingMLP(2, 3, 8, 16, 1, seed=3).eval().requires_grad_(False)
    made.output.weight.mul_(6)
    return made


# --- the peers' process: of this collection it uses the network only -----------------------------------------------------


def make_mdlm(n_symbols: int, seed: int = 0) -> Any:
    """bionemo-moco's MDLM with the log-linear schedule; mask symbol V."""
    from bionemo.moco.distributions.prior import DiscreteMaskedPrior
    from bionemo.moco.distributions.time import UniformTimeDistribution
    from bionemo.moco.interpolants import MDLM
    from bionemo.moco.schedules.noise.continuous_noise_transforms import LogLinearExpNoiseTransform

    return MDLM(
        UniformTimeDistribution(),
        DiscreteMaskedPrior(num_classes=n_symbols + 1, mask_dim=n_symbols),
        LogLinearExpNoiseTransform(),
        rng_generator=torch.Generator().manual_seed(seed),
    )


def peer_mdlm_values(logits: Tensor, clean: Tensor, noisy: Tensor, t: Tensor) -> dict[str, Any]:
    """MDLM's SUBS log-probabilities and loss (mean over tokens of each sequence) on given tensors."""
    mdlm = make_mdlm(logits.shape[-1] - 1)
    log_probs = mdlm._subs_parameterization(logits.clone(), noisy)
    return {
        "checksum": float(logits.double().sum()),
        "noisy": noisy.tolist(),
        "log_probs": log_probs.tolist(),
        "loss": mdlm.loss(logits.clone(), clean, noisy, t).tolist(),
    }


def peer_mdlm_loss(file: str) -> Callable[[], Any]:
    """Loss and its gradient on stored tensors."""
    data = torch.load(file, weights_only=True)
    mdlm = make_mdlm(data["logits"].shape[-1] - 1)

    def work() -> Any:
        # the peer writes into the logits it is given, so that a copy stands between them and a leaf
        logits = data["logits"].clone().requires_grad_()
        loss = mdlm.loss(logits * 1.0, data["clean"], data["noisy"], data["t"]).mean()
        loss.backward()
        return [float(loss), float(logits.grad.norm())]

    return work


def peer_mdlm_sample(kind: str, n_samples: int, steps: int, cache: bool, seed: int) -> Callable[[], Any]:
    """Ancestral sampling with MDLM's step; ``cache`` asks the network only if any sequence has changed, as mdlm's code does."""
    model = tiny_network() if kind == "tiny" else network(64, 32)
    n, v = model.n_tokens, model.n_symbols
    mdlm = make_mdlm(v, seed)

    def work() -> Any:
        rows, stale, logits = 0, True, None
        x = torch.full((n_samples, n), v)
        grid = torch.linspace(1, 1e-5, steps + 1)
        with torch.no_grad():
            for k in range(steps):
                if stale or not cache:
                    logits = model(x)
                    rows += n_samples
                t = grid[k].expand(n_samples)
                new = mdlm.step(logits.clone(), t, x, (grid[k] - grid[k + 1]).expand(n_samples))
                stale = not torch.equal(new, x)
                x = new
            left = x == v
            if left.any():
                x = torch.where(left, model(x)[..., :-1].argmax(-1), x)
        return {"rows": rows, "tokens": x.tolist()}

    return work


def peer_flow_sample(kind: str, n_samples: int, steps: int, seed: int) -> Callable[[], Any]:
    """flow-matching's discrete Euler solver with a masked source and κ_t = t."""
    from flow_matching.path import MixtureDiscreteProbPath
    from flow_matching.path.scheduler import PolynomialConvexScheduler
    from flow_matching.solver import MixtureDiscreteEulerSolver

    model = tiny_network() if kind == "tiny" else network(64, 32)
    n, v = model.n_tokens, model.n_symbols

    class Posterior(nn.Module):
        rows = 0

        def forward(self, x: Tensor, t: Tensor, **extras: Any) -> Tensor:
            self.rows += len(x)
            p = torch.cat([model(x)[..., :-1].softmax(-1), torch.zeros((*x.shape, 1))], -1)
            return torch.where((x == v).unsqueeze(-1), p, nn.functional.one_hot(x, v + 1).float())

    posterior = Posterior()
    path = MixtureDiscreteProbPath(PolynomialConvexScheduler(n=1.0))
    solver = MixtureDiscreteEulerSolver(posterior, path, v + 1)

    def work() -> Any:
        torch.manual_seed(seed)
        posterior.rows = 0
        x = solver.sample(torch.full((n_samples, n), v), step_size=1 / steps)
        return {"rows": posterior.rows, "tokens": x.tolist()}

    return work


def peer_trajectory_balance() -> dict[str, Any]:
    """torchgfn's trajectory-balance loss on its hypergrid, with the terms it is made of."""
    from gfn.estimators import DiscretePolicyEstimator
    from gfn.gflownet import TBGFlowNet
    from gfn.gym import HyperGrid
    from gfn.preprocessors import KHotPreprocessor
    from gfn.utils.modules import MLP

    torch.manual_seed(0)
    env = HyperGrid(ndim=2, height=4, validate_modes=False)
    khot = KHotPreprocessor(height=4, ndim=2)
    policy = DiscretePolicyEstimator(MLP(khot.output_dim, env.n_actions), env.n_actions, preprocessor=khot)
    flow = TBGFlowNet(policy, None, logZ=torch.tensor(0.7), constant_pb=True)
    walks = flow.sample_trajectories(env, 12, save_logprobs=True)
    log_pf, log_pb = flow.get_pfs_and_pbs(walks, recalculate_all_logprobs=False)
    loss = flow.loss(env, walks, recalculate_all_logprobs=False)
    return {
        "log_pf": log_pf.sum(0).tolist(),
        "log_pb": log_pb.sum(0).tolist(),
        "log_reward": walks.log_rewards.tolist(),
        "log_z": float(flow.logZ),
        "loss": float(loss),
    }


def serve() -> int:
    """Answer requests, one JSON object a line: {make, arguments} keeps a piece of work; {call} runs it → {value, seconds}."""
    import warnings
    from importlib import metadata

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not mix with the answers
    makers: dict[str, Callable[..., Any]] = {
        "mdlm loss": peer_mdlm_loss,
        "mdlm sample": peer_mdlm_sample,
        "flow sample": peer_flow_sample,
        "mdlm values": lambda file: lambda: peer_mdlm_values(**torch.load(file, weights_only=True)),
        "trajectory balance": lambda: peer_trajectory_balance,
    }
    kept: dict[str, Callable[[], Any]] = {}
    print(json.dumps({name: metadata.version(name) for name in PACKAGES}), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "make" in request:
            kept[request["name"]] = makers[request["make"]](**request["arguments"])
            print(json.dumps({}), file=out, flush=True)
            continue
        start = time.perf_counter()
        value = kept[request["call"]]()
        spent = time.perf_counter() - start
        print(json.dumps({"value": value, "seconds": spent}), file=out, flush=True)
    return 0


class Peers:
    """The peers' process."""

    def __init__(self, python: Path) -> None:
        from lib.publishing.benchmark import PeerProcess  # not needed where this script serves

        self.process = PeerProcess(python, __file__, PACKAGES)
        self.versions = self.process.versions

    def store(self, name: str, **tensors: Tensor) -> str:
        """Write tensors where the peers read them."""
        path = self.process.path(f"{name}.pt")
        torch.save(tensors, path)
        return str(path)

    def make(self, name: str, make: str, **arguments: Any) -> None:
        """Prepare a piece of work."""
        self.process.ask({"name": name, "make": make, "arguments": arguments})

    def call(self, name: str) -> tuple[Any, float]:
        """Value and seconds of one call."""
        answer = self.process.ask({"call": name})
        return answer["value"], answer["seconds"]

    def close(self) -> None:
        """End the process."""
        self.process.close()


# --- this side: peers ------------------------------------------------------------------------------------------------------


def write_reference(peers: Peers, path: Path) -> None:
    """The peers' values on the inputs of the tests."""
    from lib.records import write_json
    from tests.ddpp.test_masked_diffusion import peer_inputs

    logits, clean, noisy, t = peer_inputs()
    peers.make(
        "values", "mdlm values", file=peers.store("values", logits=logits, clean=clean, noisy=noisy, t=t)
    )
    peers.make("balance", "trajectory balance")
    values = {"mdlm": peers.call("values")[0], "trajectory_balance": peers.call("balance")[0]}
    write_json(path, {"versions": peers.versions, **values})


def alternate(
    peers: Peers, name: str, ours: Callable[[], Any], turns: int
) -> tuple[list[float], list[float]]:
    """Ratios peer over ours in turn, and our seconds."""
    from lib.publishing.benchmark import seconds

    ours(), peers.call(name)
    ratios, own = [], []
    for turn in range(turns):
        if turn % 2:
            theirs, mine = peers.call(name)[1], seconds(ours)
        else:
            mine = seconds(ours)
            theirs = peers.call(name)[1]
        ratios.append(theirs / mine)
        own.append(mine)
    return ratios, own


def own_time(report: Any, what: str, peer: str, shape: str, values: list[float]) -> None:
    """Our absolute time beside a ratio."""
    row = {"what": what, "peer": peer, "shape": shape, "dtype": "float32"}
    report.times.append({**row, "milliseconds": 1e3 * sorted(values)[len(values) // 2]})


def measure_losses(report: Any, peers: Peers, quick: bool) -> None:
    """The NELBO from logits, with its gradient, against MDLM.loss."""
    from lib.ddpp.masked_diffusion import clean_log_probability, mask_tokens
    from lib.publishing.benchmark import check_equal

    for batch, n, v in [(8, 32, 50)] if quick else [(64, 64, 1000), (16, 784, 2)]:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn((batch, n, v + 1), generator=generator)
        clean = torch.randint(v, (batch, n), generator=generator)
        t = 0.1 + 0.8 * torch.rand(batch, generator=generator)
        noisy = mask_tokens(clean, t, v, generator)
        name = f"loss {n} {v}"
        peers.make(name, "mdlm loss", file=peers.store("loss", logits=logits, clean=clean, noisy=noisy, t=t))

        def ours(
            logits: Tensor = logits, clean: Tensor = clean, noisy: Tensor = noisy, t: Tensor = t, v: int = v
        ) -> Any:
            leaf = logits.clone().requires_grad_()
            loss = (-clean_log_probability(leaf, clean, noisy == v) / t).mean() / clean.shape[1]
            loss.backward()
            assert leaf.grad is not None
            return [float(loss.detach()), float(leaf.grad.norm())]

        check_equal(name, torch.tensor(ours()), torch.tensor(peers.call(name)[0]), 1e-5)
        what, shape = "NELBO from logits, and its gradient", f"B = {batch}, n = {n}, V = {v}"
        ratios, own = alternate(peers, name, ours, report.turns)
        report.add(what, "bionemo-moco", peers.versions["bionemo-moco"], shape, ratios, None)
        own_time(report, what, "bionemo-moco", shape, own)


def check_laws(peers: Peers, draws: int) -> None:
    """Samples of both peers on a tiny space against the exact T-step law; chi-square at the level 10⁻⁴.

    Raises:
        SystemExit: naming the sampler whose law differs.
    """
    from scipy import stats

    from lib.ddpp.samplers import cached
    from tests.ddpp.small_denoisers import histogram, law_by_steps

    steps = 16
    law = torch.zeros((3, 3), dtype=torch.float64)
    for state, mass in law_by_steps(tiny_network(), steps).items():
        law[state] = mass
    peers.make("tiny mdlm", "mdlm sample", kind="tiny", n_samples=draws, steps=steps, cache=False, seed=1)
    peers.make("tiny flow", "flow sample", kind="tiny", n_samples=draws, steps=steps, seed=1)
    samples = {
        "bionemo-moco": torch.tensor(peers.call("tiny mdlm")[0]["tokens"]),
        "flow-matching": torch.tensor(peers.call("tiny flow")[0]["tokens"]),
        "ours": cached(tiny_network(), draws, steps=steps, generator=torch.Generator().manual_seed(1)).tokens,
    }
    for name, tokens in samples.items():
        counts = histogram(tokens, 3).flatten().double().numpy()
        p = stats.chisquare(counts, draws * law.flatten().numpy() / float(law.sum())).pvalue
        if not p > 1e-4:
            raise SystemExit(f"{name}: samples do not follow the exact law (p = {p:.1e}); nothing is timed")


def measure_samplers(report: Any, peers: Peers, quick: bool) -> None:
    """Sequences of 64 tokens in T = 1000 steps: events against steps, in wall time and in rows through the network."""
    from lib.ddpp.samplers import cached, first_hitting
    from lib.publishing.benchmark import seconds

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
        theirs = peers.call(peer)[0]["rows"] / batch
        ratios: dict[str, list[float]] = {what: [] for what in samplers}
        own: dict[str, list[float]] = {what: [] for what in samplers}
        rows: dict[str, list[float]] = {what: [] for what in samplers}
        for _ in range(turns):
            spent = peers.call(peer)[1]
            for what, sampler in samplers.items():
                own[what].append(seconds(sampler))
                ratios[what].append(spent / own[what][-1])
                rows[what].append(theirs / (sampler().rows / batch))
        for what in samplers:
            version = peers.versions[package]
            report.add(what, peer, version, shape, ratios[what], 5.0)
            own_time(report, what, peer, shape, own[what])
            bar = 10.0 if steps == 1000 else None
            report.add(
                f"{what}: rows through the network", peer, version, shape, rows[what], bar, device="counted"
            )


# --- this side: plain forms ------------------------------------------------------------------------------------------------

PLAIN = "plain form"


def plain_kl(
    posterior: nn.Module, prior: nn.Module, noisy: Tensor, reward: Any, draws: int, generator: Any
) -> Tensor:
    """DDPP-KL with the batch repeated K times through both networks."""
    from lib.ddpp.denoising_posterior import kl_loss, prior_log_probs

    repeated = noisy.repeat(draws, 1)
    return kl_loss(posterior(repeated), prior_log_probs(prior, repeated), repeated, reward, 1, generator)


def plain_log_z(prior: nn.Module, noisy: Tensor, reward: Any, draws: int, generator: Any) -> Tensor:
    """Importance sampling that asks the network for each completion."""
    from lib.ddpp.denoising_posterior import complete, prior_log_probs

    values = []
    for _ in range(draws):
        one = complete(prior_log_probs(prior, noisy), noisy, prior.n_symbols, 1, generator)  # type: ignore[arg-type]
        values.append(reward(one.squeeze(1)))
    return torch.stack(values, -1).logsumexp(-1) - math.log(draws)


def kernel_log_ratio(posterior: nn.Module, prior: nn.Module, states: Tensor, stays: Tensor) -> Tensor:
    """Σ over T transitions of log q − log p with whole kernels (B, n, V+1) built in the log domain; states (B, T+1, n)."""
    mask, total = posterior.n_symbols, torch.zeros(len(states))
    for k, stay in enumerate(stays.tolist()):
        now, following = states[:, k], states[:, k + 1]
        hidden = (now == mask).unsqueeze(-1)
        certain = nn.functional.one_hot(now, mask + 1).float().clamp(min=1e-30).log()  # type: ignore[operator]
        for sign, model in ((1, posterior), (-1, prior)):
            log_mu = nn.functional.pad(model(now)[..., :-1].log_softmax(-1), (0, 1), value=-torch.inf)
            kernel = torch.logaddexp(log_mu + math.log1p(-stay), certain + math.log(max(stay, 1e-30)))
            kernel = torch.where(hidden, kernel, certain)
            total = total + sign * kernel.gather(-1, following.unsqueeze(-1)).squeeze(-1).sum(-1)
    return total


def measure_reuse(report: Any, quick: bool) -> None:
    """K and M draws from one forward pass, ReinMax of K draws, RTB without kernels, all particles of SVDD in one batch."""
    from lib.ddpp.denoising_posterior import importance_log_z, kl_loss, kl_loss_exact, prior_log_probs
    from lib.ddpp.masked_diffusion import low_discrepancy_times, mask_tokens
    from lib.ddpp.rewards import TableReward
    from lib.publishing.benchmark import check_equal

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


def measure_kl_of_transformer(report: Any, quick: bool) -> None:
    """The same saving where the network is what costs: a transformer over 64 tokens and a linear reward."""
    from lib.ddpp.denoising_posterior import kl_loss, prior_log_probs
    from lib.ddpp.masked_diffusion import low_discrepancy_times, mask_tokens
    from lib.ddpp.rewards import FunctionReward
    from lib.publishing.benchmark import check_equal

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


def measure_reinmax(report: Any, quick: bool) -> None:
    """Gradients of K one-hots that share their logits, against the package on K copies."""
    from importlib import metadata

    from lib.ddpp.reinmax import reinmax_one_hot
    from lib.ddpp.samplers import draw
    from lib.publishing.benchmark import check_equal

    try:
        from reinmax import reinmax
    except ImportError:
        print("reinmax is not installed: its row is left out", file=sys.stderr)
        return
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
        "8 ReinMax one-hots per law, and their gradient", "reinmax", metadata.version("reinmax"),
        f"{rows} laws, V = {v}", ours, theirs, None,
    )  # fmt: skip


def measure_balance(report: Any, quick: bool) -> None:
    """Trajectory log-ratio with gradient: one ratio per token against T kernels."""
    from lib.ddpp.masked_diffusion import mask_probability
    from lib.ddpp.samplers import LAST_TIME, cached
    from lib.ddpp.trajectory_balance import token_log_probs
    from lib.publishing.benchmark import check_equal

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


def looped_svdd(
    model: nn.Module, reward: Any, n_samples: int, particles: int, steps: int, generator: Any
) -> Tensor:
    """SVDD that asks the network for one particle after the other."""
    from lib.ddpp.masked_diffusion import symbol_log_probs
    from lib.ddpp.samplers import LAST_TIME, draw

    mask = model.n_symbols
    x = torch.full((n_samples, model.n_tokens), mask)  # type: ignore[arg-type,list-item]
    grid = torch.linspace(1, LAST_TIME, steps + 1, dtype=torch.float64)
    with torch.no_grad():
        for k in range(steps):
            log_probs = symbol_log_probs(model(x))
            best, best_value = x, torch.full((n_samples,), -torch.inf)
            for _ in range(particles):
                leaves = (x == mask) & (
                    torch.rand(x.shape, dtype=torch.float64, generator=generator) >= grid[k + 1] / grid[k]
                )
                candidate = torch.where(leaves, draw(log_probs, generator).squeeze(-1), x)
                guess = symbol_log_probs(model(candidate)).argmax(-1)
                value = reward(torch.where(candidate == mask, guess, candidate))
                better = value > best_value
                best = torch.where(better.unsqueeze(-1), candidate, best)
                best_value = torch.where(better, value, best_value)
            x = best
    return x


def measure_svdd(report: Any, quick: bool) -> None:
    """All particles of a step in one batch, their answers kept for the next step."""
    from lib.ddpp.inference_steering import svdd
    from lib.ddpp.rewards import TableReward

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


def dictionary_law(
    table: dict[tuple[int, ...], list[list[float]]], n: int, v: int
) -> dict[tuple[int, ...], float]:
    """p_∞ over clean states by a dictionary of partial states: state → μ of each position."""
    layer = {(v,) * n: 1.0}
    for left in range(n, 0, -1):
        following: dict[tuple[int, ...], float] = {}
        for state, mass in layer.items():
            mu = table[state]
            for i in range(n):
                if state[i] != v:
                    continue
                for symbol in range(v):
                    child = (*state[:i], symbol, *state[i + 1 :])
                    following[child] = following.get(child, 0.0) + mass * mu[i][symbol] / left
        layer = following
    return layer


def measure_exact_law(report: Any, quick: bool) -> None:
    """The law over clean states from a table of μ: additions of whole layers against a dictionary."""
    from lib.ddpp.exact_law import clean_law, denoising_table, exact_law, space_of
    from lib.publishing.benchmark import check_equal, seconds

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
        values = [seconds(work) for _ in range(5)]
        own_time(report, what, "", "n = 4, V = 20, 194 481 partial states, 2 x 256 GELU", values)


def time_steps(report: Any, quick: bool) -> None:
    """Our time of one training step of each method on the grid's network, with its refills, without Lightning's start."""
    from lib.ddpp.rewards import TableReward
    from lib.ddpp.steering import METHODS, Steering, SteeringSettings

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
            own_time(report, what, "", f"B = 64, n = 2, V = {v}, 2 x 256 GELU", [spent])


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
    parser = argparse.ArgumentParser(
        description="Speed of masked-diffusion steering against peers and plain forms."
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--peer-python", type=Path, help=f"interpreter that has {', '.join(PACKAGES)}")
    parser.add_argument("--reference", type=Path, help="write the peers' values on the inputs of the tests")
    parser.add_argument("--quick", action="store_true", help="small sizes and few turns")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    if options.peer_python is None and options.reference:
        parser.error("--reference needs --peer-python")
    if options.peer_python is None:
        print(f"no --peer-python: {', '.join(PACKAGES)} are skipped", file=sys.stderr)
        if options.out and options.out.exists():
            print(f"{options.out} keeps its rows", file=sys.stderr)
            return 0
    torch.set_num_threads(1)
    from lib.publishing.benchmark import Report, machine, write_results

    peers = Peers(options.peer_python) if options.peer_python else None
    if options.reference:
        assert peers is not None
        write_reference(peers, options.reference)
        peers.close()
        return 0
    report = Report(turns=3 if options.quick else 9)
    if peers:
        measure_losses(report, peers, options.quick)
        measure_samplers(report, peers, options.quick)
        peers.close()
    measure_reuse(report, options.quick)
    measure_exact_law(report, options.quick)
    time_steps(report, options.quick)
    if options.out:
        write_results(options.out, machine("torch"), report.rows, report.times, note_on(report.times))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
