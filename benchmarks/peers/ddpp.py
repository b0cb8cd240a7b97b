"""bionemo-moco, flow-matching and torchgfn, for ``benchmarks/ddpp.py``: runs in an environment of their own.

    pip install torch "numpy<2" jaxtyping beartype pot pydantic einops torchdiffeq tensordict torch_geometric
    pip install --no-deps bionemo-moco==0.0.2.2 flow-matching==1.0.10 torchgfn  # and what their imports ask for

Of this collection it uses the networks, which both sides sample from. flow-matching is CC BY-NC: it is compared with, and nothing of it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from lib.ddpp.denoisers import EmbeddingMLP
from lib.ddpp.dit import DiT
from lib.publishing.peers import serve

PACKAGES = ("bionemo-moco", "flow-matching", "torchgfn")


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


MAKERS: dict[str, Callable[..., Callable[[], Any]]] = {
    "mdlm loss": peer_mdlm_loss,
    "mdlm sample": peer_mdlm_sample,
    "flow sample": peer_flow_sample,
    "mdlm values": lambda file: lambda: peer_mdlm_values(**torch.load(file, weights_only=True)),
    "trajectory balance": lambda: peer_trajectory_balance,
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(serve(PACKAGES, MAKERS))
