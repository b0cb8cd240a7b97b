"""All graphs of a few variables with every step between them: laws of graphs that need no sampling.

Up to five variables (29,281 graphs) the law of the graphs at which a policy stops is computed exactly, by pushing probability along all
steps in order of edge count, and so is the policy whose graphs follow the posterior.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.smbh.dag_gflownet import DagGFlowNet
from lib.smbh.dag_states import DagStates, state_codes
from lib.smbh.graph_policies import TabularPolicy

MAX_LISTED = 5  # variables; 6 have 3,781,503 graphs


def all_dags(n: int) -> Tensor:
    """Every labelled acyclic graph of ``n`` variables, (count, n, n) bool, in order of edge count.

    Grown edge by edge from the empty graph, duplicates removed: 1, 3, 25, 543, 29281 graphs for n = 1 to 5.

    Raises:
        ValueError: for n above 5, where the list would not serve its purpose (an exact law in seconds).
    """
    if not 1 <= n <= MAX_LISTED:
        raise ValueError(f"n={n}: all graphs are listed for 1 to {MAX_LISTED} variables only")
    levels = [DagStates.empty(1, n).adjacency]
    while True:
        states = DagStates.of(levels[-1])
        row, source, target = states.valid_edges().nonzero(as_tuple=True)
        if len(row) == 0:
            return torch.cat(levels)
        grown = states.adjacency[row].clone()
        grown[torch.arange(len(row)), source, target] = True
        codes = state_codes(grown).numpy()
        levels.append(grown[torch.from_numpy(np.unique(codes, return_index=True)[1])])


def log_rewards(dags: Tensor, log_scores: np.ndarray | Tensor) -> Tensor:
    """(B,) log R(G) = sum over children of their local scores, float64."""
    table = torch.as_tensor(log_scores, dtype=torch.float64)
    masks = DagStates(dags, dags).parent_masks()
    return table[torch.arange(table.shape[0]), masks].sum(dim=1)


@dataclass(frozen=True)
class StateGraph:
    """All graphs of n variables with every single-edge step between them.

    Attributes:
        dags: (count, n, n) bool in order of edge count.
        edges: (count,) edge counts.
        origin, action, destination: (steps,) rows and the added edge i * n + j, in order of the origin's edge count.
    """

    dags: Tensor
    edges: Tensor
    origin: Tensor
    action: Tensor
    destination: Tensor

    @classmethod
    def of(cls, n: int) -> StateGraph:
        """The graph on ``n`` variables, at most 5 (see :func:`all_dags`)."""
        dags = all_dags(n)
        states = DagStates.of(dags)
        origin, source, target = states.valid_edges().nonzero(as_tuple=True)
        codes = state_codes(dags)
        order = codes.argsort()
        wanted = codes[origin] + (1 << (source * n + target))
        destination = order[torch.searchsorted(codes[order], wanted)]
        return cls(dags, states.edge_count(), origin, source * n + target, destination)

    def levels(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(origin, action, destination) of the steps from graphs with 0, 1, 2, ... edges."""
        of_step = self.edges[self.origin]
        for k in range(int(self.edges.max())):
            at = of_step == k
            yield self.origin[at], self.action[at], self.destination[at]


@torch.no_grad()
def terminal_law(module: DagGFlowNet, graph: StateGraph) -> Tensor:
    """(count,) exact probability that the policy stops at each graph, float64.

    Probability starts at the empty graph and is pushed along all steps in order of edge count: no sampling.
    """
    log_p, _ = module.log_probabilities(DagStates.of(graph.dags.to(module.log_scores.device)))
    probability = log_p.double().exp().cpu()
    reached = torch.zeros(len(graph.dags), dtype=torch.float64)
    reached[0] = 1.0
    for origin, action, destination in graph.levels():
        reached.index_add_(0, destination, reached[origin] * probability[origin, action])
    return reached * probability[:, -1]


def posterior_law(graph: StateGraph, log_scores: np.ndarray | Tensor) -> Tensor:
    """(count,) exact posterior of each graph of the graph under the flat prior, float64."""
    return torch.softmax(log_rewards(graph.dags, log_scores), dim=0)


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the sum of absolute differences of two laws (count,)."""
    return float((p - q).abs().sum() / 2)


def optimal_policy(graph: StateGraph, log_scores: np.ndarray | Tensor) -> TabularPolicy:
    """The policy that solves (1) exactly, by backward recursion of the flow F(G) = R(G) + sum over G' of F(G') / edges(G').

    Then P(stop | G) = R(G) / F(G) and P(G' | G) = F(G') / (edges(G') F(G)).
    """
    n = graph.dags.shape[-1]
    log_reward = log_rewards(graph.dags, log_scores)
    log_reward = log_reward - log_reward.max()
    flow = log_reward.exp()
    for origin, _, destination in reversed(list(graph.levels())):
        flow.index_add_(0, origin, flow[destination] / graph.edges[destination])
    edge_logits = torch.full((len(flow), n * n), -math.inf, dtype=torch.float64)
    share = (flow[graph.destination] / graph.edges[graph.destination]).log()
    edge_logits[graph.origin, graph.action] = share - flow[graph.origin].log()
    reward = log_reward.exp()
    stop_logit = torch.log(reward) - torch.log((flow - reward).clamp(min=1e-300))
    edge_logits = edge_logits.masked_fill(torch.isinf(edge_logits), 0.0).view(-1, n, n)
    return TabularPolicy(state_codes(graph.dags), edge_logits, stop_logit)
