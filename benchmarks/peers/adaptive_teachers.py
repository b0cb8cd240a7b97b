"""The other side of ``benchmarks/adaptive_teachers.py``: torchgfn's iteration, and the same work one step or one string at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.adaptive_teachers.diffusion_sampler import DriftNetwork
from lib.adaptive_teachers.sequence_policy import ChildScorer


class TorchGfnIteration:
    """torchgfn's iteration on its hypergrid: sample with log-probabilities kept (its fastest way), loss, clip, step."""

    def __init__(self, dim: int, side: int, hidden: int, batch: int, version: str) -> None:
        from gfn.estimators import DiscretePolicyEstimator
        from gfn.gflownet import TBGFlowNet
        from gfn.gym import HyperGrid
        from gfn.preprocessors import KHotPreprocessor
        from gfn.utils.modules import MLP

        self.batch, self.version = batch, version
        rewards = {"R0": 1e-5, "R1": 0.1, "R2": 2.0}
        self.env = HyperGrid(
            ndim=dim, height=side, reward_fn_str="deceptive", reward_fn_kwargs=rewards, validate_modes=False
        )
        khot = KHotPreprocessor(height=side, ndim=dim)
        net = MLP(
            khot.output_dim,
            self.env.n_actions,
            hidden_dim=hidden,
            n_hidden_layers=2,
            activation_fn="leaky_relu",
        )
        policy = DiscretePolicyEstimator(net, self.env.n_actions, preprocessor=khot)
        self.flow = TBGFlowNet(policy, None, constant_pb=True)
        groups = [{"params": list(policy.parameters()), "lr": 1e-3}, {"params": [self.flow.logZ], "lr": 0.1}]
        self.optimizer = torch.optim.Adam(groups, fused=True)
        self.lengths: list[float] = []  # mean transitions of a trajectory, one value a call

    def __call__(self) -> None:
        walks = self.flow.sample_trajectories(self.env, self.batch, save_logprobs=True)
        loss = self.flow.loss(self.env, walks, recalculate_all_logprobs=False)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.flow.parameters(), 1.0)
        self.optimizer.step()
        self.lengths.append(float(walks.terminating_idx.float().mean()))

    def sample(self, n: int) -> None:
        """Draw n trajectories, nothing else."""
        with torch.no_grad():
            self.flow.sample_trajectories(self.env, n)


class SequentialScoring(nn.Module):
    """The same network with plain layers, and the loop of a sequential backward trajectory: a step of the bridge, a call, a density."""

    def __init__(self, network: DriftNetwork) -> None:
        super().__init__()

        def plain(*layers: Any) -> nn.Sequential:
            modules: list[nn.Module] = []
            for layer in layers:
                linear = nn.Linear(*layer.weight.shape[1:])
                with torch.no_grad():
                    linear.weight.copy_(layer.weight[0].T)
                    linear.bias.copy_(layer.bias[0])
                modules += [linear, nn.GELU()]
            return nn.Sequential(*modules)

        self.time = plain(network.time1, network.time2)
        self.state = plain(network.state1, network.state2)
        self.joint = plain(network.joint1, network.joint2, network.out)[:-1]
        self.waves, self.steps = network.waves, network.steps

    def forward(self, x: Tensor, sigma: float, noise: Tensor) -> Tensor:
        """log P_F − log P_B of one backward trajectory from each x (B, D), drawn with noise (B, T, D)."""
        dt = 1 / self.steps
        total = torch.zeros(len(x))
        for i in range(self.steps - 1, -1, -1):
            before = x * (i / (i + 1))
            if i:
                spread = sigma * math.sqrt(dt * i / (i + 1))
                before = before + spread * noise[:, i]
                total = total - _log_normal(before - x * (i / (i + 1)), spread**2)
            features = self.time(self.waves[i : i + 1]).expand(len(x), -1)
            drift = self.joint(torch.cat([self.state(before), features], 1))
            total = total + _log_normal(x - before - dt * drift, sigma**2 * dt)
            x = before
        return total

    def path(self, x: Tensor, sigma: float, noise: Tensor) -> Tensor:
        """The trajectory that :meth:`forward` draws, (B, T + 1, D)."""
        path = [x]
        for i in range(self.steps - 1, -1, -1):
            spread = sigma * math.sqrt(i / (self.steps * (i + 1)))
            path.append(path[-1] * (i / (i + 1)) + spread * noise[:, i])
        return torch.stack(path[::-1], 1)


def _log_normal(x: Tensor, variance: float) -> Tensor:
    return (-0.5 * (x.square() / variance + math.log(2 * math.pi * variance))).sum(-1)


class StateByState(nn.Module):
    """The same policy over Python strings: unique children of one state at a time by a dictionary, encoded and scored together."""

    def __init__(self, policy: ChildScorer) -> None:
        super().__init__()

        def plain(first: Any, second: Any) -> nn.Sequential:
            layers = [nn.Linear(*m.weight.shape[1:]) for m in (first, second)]
            with torch.no_grad():
                for layer, m in zip(layers, (first, second), strict=True):
                    layer.weight.copy_(m.weight[0].T)
                    layer.bias.copy_(m.bias[0])
            return nn.Sequential(layers[0], nn.LeakyReLU(0.01), layers[1])

        self.encoder = plain(policy.first, policy.second)
        self.scorer = plain(policy.pair, policy.last)
        self.space = policy.space
        self.letters = [chr(ord("A") + i) for i in range(self.space.symbols)]
        self.features: dict[str, Tensor] = {}  # encoded once, as the released code caches them

    def feature(self, string: str) -> Tensor:
        """One-hot symbols, aligned left, zero padded."""
        if string not in self.features:
            x = torch.zeros(self.space.length * self.space.symbols)
            for j, letter in enumerate(string):
                x[j * self.space.symbols + self.letters.index(letter)] = 1
            self.features[string] = x
        return self.features[string]

    def log_probabilities(self, string: str) -> dict[str, Tensor]:
        """log P_F of every unique child."""
        children = list(
            dict.fromkeys([string + a for a in self.letters] + [a + string for a in self.letters])
        )
        encoded = self.encoder(torch.stack([self.feature(s) for s in (string, *children)]))
        pairs = torch.cat([encoded[:1].expand(len(children), -1), encoded[1:]], 1)
        return dict(zip(children, torch.log_softmax(self.scorer(pairs).squeeze(1), 0), strict=True))

    def sample(self, n: int, rng: np.random.Generator) -> list[list[str]]:
        """Trajectories, all of one length."""
        paths = [[""] for _ in range(n)]
        with torch.no_grad():
            for _ in range(self.space.length):
                for path in paths:
                    chances = self.log_probabilities(path[-1])
                    p = np.exp(np.array([float(v) for v in chances.values()]))
                    path.append(list(chances)[rng.choice(len(p), p=p / p.sum())])
        return paths

    def log_pf(self, paths: Sequence[Sequence[str]]) -> Tensor:
        """log P_F of whole trajectories, (B,)."""
        sums = []
        for path in paths:
            steps = [self.log_probabilities(s)[child] for s, child in pairwise(path)]
            sums.append(torch.stack(steps).sum())
        return torch.stack(sums)
