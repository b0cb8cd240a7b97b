"""Graphs drawn by a trained policy, and how far their marginals are from the exact ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.kept_results import Array
from lib.smbh.dag_gflownet import DagGFlowNet
from lib.smbh.dag_states import DagStates


@torch.no_grad()
def sample_graphs(
    module: DagGFlowNet, size: int, generator: torch.Generator, batch: int = 10_000
) -> tuple[Tensor, Tensor]:
    """``size`` independent graphs drawn by the policy: adjacency and closure, each (size, n, n) bool, on the CPU.

    Args:
        generator: of the draws, on the module's device.

    Raises:
        ValueError: for a size below 1.
    """
    if size < 1:
        raise ValueError(f"size={size}: at least one graph must be drawn")
    device, n = module.log_scores.device, module.n
    drawn: list[tuple[Tensor, Tensor]] = []
    for begin in range(0, size, batch):
        states = DagStates.empty(min(batch, size - begin), n, device)
        running = torch.arange(len(states.adjacency), device=device)
        while len(running):
            here = states[running]
            log_p, _ = module.log_probabilities(here)
            action = torch.multinomial(log_p.exp(), 1, generator=generator).squeeze(1)
            moved = action < n * n
            running = running[moved]
            following = here[moved].step(action[moved])
            states.adjacency[running] = following.adjacency
            states.closure[running] = following.closure
        drawn.append((states.adjacency.cpu(), states.closure.cpu()))
    adjacency, closure = (torch.cat(part) for part in zip(*drawn, strict=True))
    return adjacency, closure


def marginals(adjacency: Tensor, closure: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Edge and path frequencies (n, n) of sampled graphs (size, n, n); diagonals 0."""
    edges = adjacency.double().mean(dim=0).numpy()
    paths = closure.double().mean(dim=0).numpy().copy()
    np.fill_diagonal(paths, 0.0)
    return edges, paths


@dataclass(frozen=True)
class LearnedMarginals:
    """What a trained policy says, beside the exact answer.

    Attributes:
        edges, paths: frequencies (n, n) over the graphs drawn.
        parents: (samples, n) bit masks of the graphs drawn.
        edge_rmse, path_rmse: root mean squared error over off-diagonal entries.
        sampling_rmse: the edge error that as many exact samples would have, sqrt(mean p (1 - p) / samples).
    """

    edges: Array
    paths: Array
    parents: Array
    edge_rmse: float
    path_rmse: float
    sampling_rmse: float


def compare_marginals(
    module: DagGFlowNet,
    exact_edges: np.ndarray,
    exact_paths: np.ndarray,
    samples: int,
    generator: torch.Generator,
) -> LearnedMarginals:
    """Draw ``samples`` graphs from the policy and compare their marginals with the exact ones (n, n)."""
    adjacency, closure = sample_graphs(module, samples, generator)
    edges, paths = marginals(adjacency, closure)
    off = ~np.eye(module.n, dtype=bool)
    p = exact_edges[off]
    return LearnedMarginals(
        edges,
        paths,
        DagStates(adjacency, closure).parent_masks().numpy(),
        float(np.sqrt(np.mean((edges - exact_edges)[off] ** 2))),
        float(np.sqrt(np.mean((paths - exact_paths)[off] ** 2))),
        float(np.sqrt(np.mean(p * (1 - p)) / samples)),
    )
