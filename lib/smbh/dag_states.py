"""Directed acyclic graphs that grow edge by edge: the environment of the DAG-GFlowNet.

A state is a graph with its reachability, so that an edge that would close a cycle is seen without a search. Only the score of the child
changes when an edge is added, so the gain of a step is one subtraction in the score table.

Shapes: B graphs, n variables, adjacency [b, i, j] = True for i -> j; closure [b, i, j] = True if i = j or i is an ancestor of j.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class DagStates:
    """A batch of graphs with their reachability.

    Attributes:
        adjacency: (B, n, n) bool.
        closure: (B, n, n) bool, reflexive and transitive.
    """

    adjacency: Tensor
    closure: Tensor

    @classmethod
    def empty(cls, batch: int, n: int, device: torch.device | str = "cpu") -> DagStates:
        """``batch`` graphs of ``n`` variables without edges."""
        adjacency = torch.zeros(batch, n, n, dtype=torch.bool, device=device)
        return cls(adjacency, torch.eye(n, dtype=torch.bool, device=device).expand(batch, n, n).clone())

    @classmethod
    def of(cls, adjacency: Tensor) -> DagStates:
        """States of given acyclic graphs (B, n, n).

        Raises:
            ValueError: if a graph holds a cycle.
        """
        n = adjacency.shape[-1]
        closure = adjacency | torch.eye(n, dtype=torch.bool, device=adjacency.device)
        for _ in range(max(1, math.ceil(math.log2(max(n, 2))))):
            closure = (closure.float() @ closure.float()) > 0
        if (closure & closure.transpose(1, 2)).sum() != adjacency.shape[0] * n:
            raise ValueError("a graph holds a cycle")
        return cls(adjacency, closure)

    def valid_edges(self) -> Tensor:
        """(B, n, n) bool: edges that are absent and would close no cycle (j does not reach i)."""
        return ~(self.adjacency | self.closure.transpose(1, 2))

    def edge_count(self) -> Tensor:
        """(B,) number of edges."""
        return self.adjacency.sum(dim=(1, 2))

    def parent_masks(self) -> Tensor:
        """(B, n) bit mask of each variable's parents: bit i is set if i -> j."""
        bits = 1 << torch.arange(self.adjacency.shape[-1], device=self.adjacency.device)
        return (self.adjacency * bits[:, None]).sum(dim=1)

    def step(self, action: Tensor) -> DagStates:
        """Add the edge ``action = i * n + j`` (B,) to each graph; where ``action = n * n`` the next graph is the empty one.

        The new edge makes every ancestor of i (i included) reach every descendant of j (j included).
        """
        batch, n, _ = self.adjacency.shape
        stop = action == n * n
        edge = torch.where(stop, torch.zeros_like(action), action)
        source, target = edge // n, edge % n
        rows = torch.arange(batch, device=action.device)
        adjacency, closure = self.adjacency.clone(), self.closure.clone()
        adjacency[rows, source, target] = True
        closure |= closure[rows, :, source][:, :, None] & closure[rows, target, :][:, None, :]
        adjacency[stop] = False
        closure[stop] = torch.eye(n, dtype=torch.bool, device=action.device)
        return DagStates(adjacency, closure)

    def __getitem__(self, index: Any) -> DagStates:
        return DagStates(self.adjacency[index], self.closure[index])


def score_gains(states: DagStates, log_scores: Tensor) -> Tensor:
    """(B, n, n) float: s_j(Pa_j + i) - s_j(Pa_j) for every edge i -> j; 0 where the edge is not valid.

    Args:
        states: B graphs.
        log_scores: (n, 2**n) log score of every child and parent mask, -inf where the mask contains the child.
    """
    n = log_scores.shape[0]
    masks = states.parent_masks()  # (B, j)
    bits = 1 << torch.arange(n, device=masks.device)
    child = torch.arange(n, device=masks.device)
    grown = log_scores[child, masks[:, None, :] | bits[None, :, None]]  # (B, i, j)
    now = log_scores[child, masks][:, None, :]  # (B, 1, j)
    return torch.where(states.valid_edges(), grown - now, torch.zeros_like(grown))


def state_codes(adjacency: Tensor) -> Tensor:
    """(B,) whole number that stands for each graph: bit i * n + j is set for i -> j (n at most 7)."""
    bits = 1 << torch.arange(adjacency.shape[-1] ** 2, device=adjacency.device)
    return (adjacency.flatten(1) * bits).sum(dim=1)
