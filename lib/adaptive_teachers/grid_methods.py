"""The compared methods on the grid, and where each of their training batches comes from.

Every method gets the same number of REWARD CALLS. What differs is how often it uses them: a method with replay takes a second gradient
step after every online batch, and a Teacher doubles parameters and gradient work. Both are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from lib.adaptive_teachers.teacher import ASYMMETRY

Turn = Literal["student", "teacher", "replay", "again"]
MAP_EVALUATIONS = 8
"""Evaluations along the training that is drawn."""
SEARCH_ROUNDS = 4
"""Proposals of one local search, each a reward call per trajectory."""


@dataclass(frozen=True)
class Method:
    """What one method switches on.

    noise: ε of the behaviour policy; teacher: a second sampler takes every other pair of batches; priority: of the replay
    buffer, "" for none; objective: trajectory balance (tb), detailed balance (db) or GAFN's augmented trajectory balance (gafn);
    repeats: gradient steps on every online batch; width: factor on the hidden width.
    """

    noise: float = 0.0
    teacher: bool = False
    priority: Literal["", "reward", "loss"] = ""
    objective: Literal["tb", "db", "gafn"] = "tb"
    local_search: bool = False
    repeats: int = 1
    width: float = 1.0

    @property
    def structure(self) -> tuple[object, ...]:
        """Methods of equal structure take the same kind of step at the same time and can be stacked."""
        searching_teacher = self.teacher if self.local_search else None
        return (
            self.objective,
            bool(self.priority),
            self.local_search,
            searching_teacher,
            self.repeats,
            self.width,
        )


METHODS: dict[str, Method] = {
    "TB": Method(),
    "ε-noisy": Method(noise=0.01),
    "GAFN": Method(objective="gafn"),
    "PRT": Method(priority="reward"),
    "PER": Method(priority="loss"),
    "Teacher": Method(teacher=True),
    "Teacher + PRT": Method(teacher=True, priority="reward"),
    "Teacher + PER": Method(teacher=True, priority="loss"),
    "TB + local search": Method(local_search=True),
    "Teacher + local search": Method(teacher=True, local_search=True),
    "DB": Method(objective="db"),
    "Teacher, DB": Method(teacher=True, objective="db"),
    "TB, 2x steps": Method(repeats=2),
    "TB, 2x weights": Method(width=1.5),
}
"""All methods by name; 1.5 times the width is about twice the weights, what a Teacher adds."""

BASELINES = ("TB", "ε-noisy", "GAFN", "PRT", "PER")
"""The methods of Table 1 that the Teacher is compared with."""


@dataclass(frozen=True)
class GridRun:
    """One training: a method with its seed and the Teacher's constants."""

    method: str
    seed: int
    asymmetry: float = ASYMMETRY
    mixing: float = 0.0

    @property
    def spec(self) -> Method:
        """What the method switches on."""
        return METHODS[self.method]


class Step(NamedTuple):
    """One gradient step: where its batch comes from, and how many rounds of local search refine it."""

    turn: Turn
    search_rounds: int = 0


def schedule(method: Method, batches: int) -> list[Step]:
    """The steps of a training whose reward calls equal ``batches`` online batches.

    Online batches come from Student, Student, Teacher, Teacher, … without a buffer and Student, Teacher, … with one (stacked methods
    without a Teacher take the Student's turn); a method with a buffer has a replay batch after every online batch. Local search
    refines every 8th batch, and with a Teacher its batches in every 4th block of four; both are one batch in eight.
    """
    steps: list[Step] = []
    calls = online = 0
    while calls < batches:
        pair = online if method.priority else online // 2
        turn: Turn = "teacher" if pair % 2 else "student"
        searching = method.local_search and (
            (online // 4 % 4 == 3 and turn == "teacher") if method.teacher else online % 8 == 7
        )
        rounds = min(SEARCH_ROUNDS, batches - calls - 1) if searching else 0
        steps.append(Step(turn, rounds))
        steps += [Step("replay")] if method.priority else []
        steps += [Step("again")] * (method.repeats - 1)
        calls += 1 + rounds
        online += 1
    return steps


def stacks(runs: list[GridRun]) -> list[list[GridRun]]:
    """Runs in groups that can be trained as one stack, in order of first appearance."""
    groups: dict[tuple[object, ...], list[GridRun]] = {}
    for run in runs:
        groups.setdefault(run.spec.structure, []).append(run)
    return list(groups.values())
