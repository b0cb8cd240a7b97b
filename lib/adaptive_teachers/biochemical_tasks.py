"""The biochemical design tasks: strings whose score y is binding strength, a property of a molecule, or a folding energy.

    task          length, alphabet       score                                                       target ∝
    TFBind8       8 of 4 (ACGT)          binding of DNA to the factor SIX6, measured, all 65,536      y²⁰
    QM9           5 of 11 blocks         proxy of a molecular property, tabulated, all 161,051        y²⁰
    sEH           6 of 18 blocks         boosted-tree proxy of binding to soluble epoxide hydrolase   y⁶
    L14-RNA1..3   14 of 4 (UCGA)         hybridisation energy with a fixed RNA, by ViennaRNA          y⁴⁰

The reward is R(x) = R_max (max(y, 10⁻³) / max y)^β, plus 10⁻¹² (TFBind8: at least 10⁻²⁰). Where the data cannot be had, a seeded
stand-in of the same size takes their place.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib import numeric_files
from lib.adaptive_teachers.sequence_policy import effective_support, log_partition
from lib.adaptive_teachers.sequence_space import SequenceSpace
from lib.datasets import DataError
from lib.profiles import choose
from lib.records import STANDIN_NOTICE, Run

FOLDER = "adaptive_teachers"
SMALLEST_SCORE = 1e-3
LARGEST_TABLE = 1 << 20  # end points up to which a task is enumerated and evaluated exactly


@dataclass(frozen=True)
class TaskSizes:
    """Constants of a task in the released code."""

    length: int
    alphabet: str | None
    symbols: int
    beta: float
    reward_max: float
    floor: float
    added: float
    exploration: float
    hidden: int
    rounds: int
    n_modes: int


TASKS: dict[str, TaskSizes] = {
    "TFBind8": TaskSizes(8, "ACGT", 4, 20.0, 10.0, 1e-20, 0.0, 0.01, 128, 2000, 328),
    "QM9": TaskSizes(5, None, 11, 20.0, 100.0, 0.0, 1e-12, 0.01, 1024, 1000, 805),
    "sEH": TaskSizes(6, None, 18, 6.0, 10.0, 0.0, 1e-12, 0.05, 1024, 2000, 129),
    "L14-RNA1": TaskSizes(14, "UCGA", 4, 40.0, 10.0, 0.0, 1e-12, 0.01, 128, 2000, 8967),
    "L14-RNA2": TaskSizes(14, "UCGA", 4, 40.0, 10.0, 0.0, 1e-12, 0.01, 128, 2000, 8402),
    "L14-RNA3": TaskSizes(14, "UCGA", 4, 40.0, 10.0, 0.0, 1e-12, 0.01, 128, 2000, 7400),
}

RNA_TARGETS = {
    "L14-RNA1": "GAACGAGGCACAUUCCGGCUCGCCCGGCCCAUGUGAGCAUGGGCCGGACCCCGUCCGCGCGGGGCCCCCGCGCGGACGGGGGCGAGCCGGAAUGUGCCUC",
    "L14-RNA2": "GAGGCACAUUCCGGCUCGCCCCCGUCCGCGCGGGGGCCCCGCGCGGACGGGGUCCGGCCCGCGCGGGGCCCCCGCGCGGGAGCCGGAAUGUGCCUCGUUC",
    "L14-RNA3": "CCGGUGAUACUGUUAGUGGUCACGGUGCAUUUAUAGCGCUAAAGUACAGUCUUCCCCUGUUGAACGGCGCCAUUGCAUACAGGGCCAGCCGCGUAACGCC",
}
"""The RNAs that the strings are to bind, 100 nucleotides each (FLEXS, Apache-2.0)."""


# --- scores -------------------------------------------------------------------------------------------------------


class Score(Protocol):
    """y of end points, codes (n,) → (n,) in float64."""

    def __call__(self, codes: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class TableScore:
    """Scores read from a complete table, (A^L,)."""

    table: Tensor

    def __call__(self, codes: Tensor) -> Tensor:
        return self.table.to(codes.device)[codes].double()


@dataclass(frozen=True)
class TreeEnsemble:
    """Gradient-boosted regression trees over one-hot strings, y = baseline + Σ_trees leaf value.

    Every inner node asks whether the symbol at one place is one given symbol; "no" goes left, "yes" goes right.

    Args:
        space: the strings. baseline: added to all predictions.
        value: of leaves, (nodes,). feature: place · A + symbol of inner nodes, (nodes,). left, right: children, counted from the
            first node of all trees, (nodes,). is_leaf: (nodes,). roots: first node of each tree, (trees,).
    """

    space: SequenceSpace
    baseline: float
    value: Tensor
    feature: Tensor
    left: Tensor
    right: Tensor
    is_leaf: Tensor
    roots: Tensor

    @classmethod
    def from_arrays(cls, space: SequenceSpace, arrays: dict[str, np.ndarray]) -> TreeEnsemble:
        """Build from per-tree child numbers, as the file has them.

        Raises:
            DataError: if the arrays do not fit each other, a threshold is not ½ (the trees would ask something else), an inner node asks for
                no symbol of the strings, or a child lies outside its tree or does not come after its parent, so that a walk might not end.
        """
        offsets = arrays["tree_offset"].ravel().astype(np.int64)
        leaf = arrays["is_leaf"].astype(bool)
        nodes = [arrays[name] for name in ("value", "feature", "threshold", "left", "right")]
        whole = len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == leaf.size
        if arrays["baseline"].size != 1 or any(array.shape != (leaf.size,) for array in (leaf, *nodes)):
            raise DataError("sehstr_gbtr.npz: the arrays of the nodes differ in length")
        if not whole or (np.diff(offsets) < 1).any():
            raise DataError("sehstr_gbtr.npz: the nodes are not divided into trees")
        if not np.all(arrays["threshold"][~leaf] == 0.5):
            raise DataError(
                "sehstr_gbtr.npz: a threshold is not 0.5; the trees do not ask for single symbols"
            )
        sizes = np.diff(offsets)
        start = np.repeat(offsets[:-1], sizes)
        end = np.repeat(offsets[1:], sizes)
        left, right = (arrays[side].astype(np.int64) + start for side in ("left", "right"))
        inner, own = ~leaf, np.arange(leaf.size)
        if ((left >= end) | (right >= end) | (left <= own) | (right <= own))[inner].any():
            raise DataError("sehstr_gbtr.npz: a node's child lies outside its tree or before the node")
        asked = arrays["feature"][inner]
        if ((asked < 0) | (asked >= space.length * space.symbols)).any():
            raise DataError("sehstr_gbtr.npz: a node asks for a symbol that no string has")
        return cls(
            space,
            float(arrays["baseline"].item()),
            torch.from_numpy(arrays["value"].astype(np.float64)),
            torch.from_numpy(np.where(leaf, 0, arrays["feature"]).astype(np.int64)),
            torch.from_numpy(np.where(leaf, 0, left)),
            torch.from_numpy(np.where(leaf, 0, right)),
            torch.from_numpy(leaf),
            torch.from_numpy(offsets[:-1]),
        )

    def __call__(self, codes: Tensor) -> Tensor:
        """Predictions, (n,) → (n,); all trees of all strings go down one level at a time."""
        device = codes.device
        digits = self.space.digits(codes, self.space.length)
        node = self.roots.to(device).expand(len(codes), -1)
        feature, left, right, leaf = (
            t.to(device) for t in (self.feature, self.left, self.right, self.is_leaf)
        )
        while not leaf[node].all():
            f = feature[node]
            yes = digits.gather(1, f // self.space.symbols) == f % self.space.symbols
            node = torch.where(leaf[node], node, torch.where(yes, right[node], left[node]))
        return self.baseline + self.value.to(device)[node].sum(1)

    def table(self, device: torch.device | str = "cpu", rows_at_once: int = 64) -> Tensor:
        """Predictions of all A^L strings, (A^L,) in float32.

        Of one half of a string a tree sees only the answers to its own questions there: a class, of which there are few. A
        tree is a small table over pairs of classes; a row per class of the first half, spread over all second halves, makes
        the predictions for a first half a sum of one row per tree.
        """
        space, half = self.space, self.space.length // 2
        n_first, n_second = space.symbols**half, space.symbols ** (space.length - half)
        first = space.digits(torch.arange(n_first), half)
        second = space.digits(torch.arange(n_second), space.length - half)
        index = torch.empty(n_first, len(self.roots), dtype=torch.long)
        rows: list[Tensor] = []
        n_rows = 0
        ends = [*self.roots[1:].tolist(), len(self.value)]
        for t, (root, end) in enumerate(zip(self.roots.tolist(), ends, strict=True)):
            asked = self.feature[root:end][~self.is_leaf[root:end]].unique()
            early = asked // space.symbols < half
            of_first, some_first = _classes(first, asked[early], space.symbols)
            of_second, some_second = _classes(second, asked[~early] - half * space.symbols, space.symbols)
            one = replace(self, baseline=0.0, roots=self.roots[t : t + 1])
            pairs = some_first.unsqueeze(1) * n_second + some_second
            values = one(pairs.flatten()).view(pairs.shape).float()
            rows.append(values[:, of_second])
            index[:, t] = n_rows + of_first
            n_rows += len(some_first)
        table = torch.cat(rows).to(device)
        parts = [F.embedding_bag(i.to(device), table, mode="sum") for i in index.split(rows_at_once)]
        return (torch.cat(parts) + self.baseline).flatten()


def _classes(digits: Tensor, asked: Tensor, symbols: int) -> tuple[Tensor, Tensor]:
    """Strings (n, k) by their answers to the questions ``asked``: the class of each (n,), and one string of each class."""
    answers = digits[:, asked // symbols] == asked % symbols  # (n, questions)
    always = torch.ones(len(digits), 1, dtype=torch.bool)  # so that there is a column
    classes, of = torch.unique(torch.cat([always, answers], 1), dim=0, return_inverse=True)
    example = torch.zeros(len(classes), dtype=torch.long)
    example[of] = torch.arange(len(digits))
    return of, example


@dataclass
class DuplexEnergy:
    """Energy of the best duplex of a string with a target RNA, over a norm: ViennaRNA's ``duplexfold``, one call a new string.

    The norm is the energy of the target with its reverse complement, shortened to the string's length: · 14/100.
    """

    space: SequenceSpace
    alphabet: str
    target: str
    known: dict[int, float] = field(default_factory=dict)

    @property
    def norm(self) -> float:
        """kcal/mol; about −36.4, −37.8 and −30.2 for the three targets."""
        return _duplex_norm(self.target, self.space.length)

    def __call__(self, codes: Tensor) -> Tensor:
        fold = _vienna().duplexfold
        own = codes.cpu()
        letters = self.space.digits(own, self.space.length).tolist()
        for code, places in zip(own.tolist(), letters, strict=True):
            if code not in self.known:
                string = "".join(self.alphabet[i] for i in places)
                self.known[code] = fold(self.target, string).energy / self.norm
        return torch.tensor([self.known[c] for c in own.tolist()], dtype=torch.float64, device=codes.device)


@cache
def _duplex_norm(target: str, length: int) -> float:
    reverse_complement = target[::-1].translate(str.maketrans("ACGU", "UGCA"))
    return _vienna().duplexfold(reverse_complement, target).energy * length / len(target)


def _vienna() -> Any:
    import RNA

    return RNA


def vienna_installed() -> bool:
    """Whether the optional package ViennaRNA is there."""
    return importlib.util.find_spec("RNA") is not None


@dataclass(frozen=True)
class NeighbourScore:
    """The stand-in: y is a sum of seeded normal numbers, one for each symbol at its place and one for each pair of neighbours.

    It is scaled to [0, 1] exactly: best, worst and the n best strings come from dynamic programming along the string.

    Args:
        space: the strings. single: (L, A). pair: (L − 1, A, A). low, high: of the unscaled sum.
    """

    space: SequenceSpace
    single: Tensor
    pair: Tensor
    low: float
    high: float

    @classmethod
    def seeded(cls, space: SequenceSpace, seed: int = 0) -> NeighbourScore:
        """A landscape that depends on the size of the space and the seed only."""
        g = torch.Generator().manual_seed(seed)
        single = torch.randn(space.length, space.symbols, generator=g, dtype=torch.float64)
        pair = torch.randn(space.length - 1, space.symbols, space.symbols, generator=g, dtype=torch.float64)
        raw = cls(space, single, pair, 0.0, 1.0)
        negative = cls(space, -single, -pair, 0.0, 1.0)
        low, high = -float(negative(negative.best(1))[0]), float(raw(raw.best(1))[0])
        return cls(space, single, pair, low, high)

    def __call__(self, codes: Tensor) -> Tensor:
        digits = self.space.digits(codes, self.space.length)
        place = torch.arange(self.space.length, device=codes.device)
        single, pair = self.single.to(codes.device), self.pair.to(codes.device)
        total = single[place, digits].sum(-1) + pair[place[:-1], digits[..., :-1], digits[..., 1:]].sum(-1)
        return (total - self.low) / (self.high - self.low)

    def best(self, n: int) -> Tensor:
        """Codes of the n highest-scoring strings, best first (fewer where there are not that many)."""
        a = self.space.symbols
        codes = torch.arange(a).view(a, 1)  # by last symbol
        scores = self.single[0].view(a, 1)
        for j in range(1, self.space.length):
            grown = scores.unsqueeze(0) + self.pair[j - 1].T.unsqueeze(2) + self.single[j].view(a, 1, 1)
            kept = grown.flatten(1).topk(min(n, grown[0].numel()), dim=1)
            before = codes.flatten()[kept.indices]
            codes, scores = before * a + torch.arange(a).view(a, 1), kept.values
        top = scores.flatten().topk(min(n, scores.numel()))
        return codes.flatten()[top.indices]


# --- tasks --------------------------------------------------------------------------------------------------------


@dataclass
class SequenceTask:
    """One design task.

    Attributes:
        space, sizes: the strings and the task's constants. score: y of end points.
        highest: largest score of all strings. modes: sorted codes of the strings that count as modes.
        log_z: log Σ R over all strings, nats, or None where it is not known.
        target_samples: exact samples of R/Z, or None. expected_score: Σ y R/Z, or None.
        source: ``real`` or ``standin``.
    """

    name: str
    space: SequenceSpace
    sizes: TaskSizes
    score: Score
    highest: float
    modes: Tensor
    source: str
    log_z: float | None = None
    expected_score: float | None = None
    target_samples: Tensor | None = None

    @property
    def enumerable(self) -> bool:
        """Whether all end points fit a table, so that the sampler's law is evaluated exactly."""
        return self.space.n_leaves <= LARGEST_TABLE

    def log_reward(self, codes: Tensor) -> Tensor:
        """log R of end points, (...) → (...) in float64."""
        s = self.sizes
        y = self.score(codes.flatten()).clamp(min=SMALLEST_SCORE).view(codes.shape)
        value = math.log(s.reward_max) + s.beta * (torch.log(y) - math.log(self.highest))
        if s.floor:
            value = value.clamp(min=math.log(s.floor))
        return torch.logaddexp(value, value.new_tensor(math.log(s.added))) if s.added else value

    def all_log_rewards(self, device: torch.device | str = "cpu") -> Tensor:
        """log R of every end point in order, (A^L,).

        Raises:
            ValueError: where there are too many.
        """
        if not self.enumerable:
            raise ValueError(f"{self.name} has {self.space.n_leaves} end points, too many for a table")
        return self.log_reward(torch.arange(self.space.n_leaves, device=device))

    def contains_mode(self, codes: Tensor) -> Tensor:
        """Number of the mode that each end point is, or −1, (...) → (...)."""
        modes = self.modes.to(codes.device)
        at = torch.searchsorted(modes, codes.contiguous()).clamp(max=len(modes) - 1)
        return torch.where(modes[at] == codes, at, -1)


def load_task(run: Run[Any], name: str) -> SequenceTask:
    """A task with its real data where it can be had, else its stand-in.

    Raises:
        ParameterError: for an unknown name.
        DataError: for a corrupt or malformed file, or with ``data="real"`` a file or package that is missing.
    """
    sizes = TASKS[choose("task", name, TASKS)]
    space = SequenceSpace(sizes.length, sizes.symbols)
    if name.startswith("L14") and run.data != "standin" and not vienna_installed():
        if run.data == "real":
            raise DataError(f"{name} needs the optional package ViennaRNA: pip install ViennaRNA")
        run.data_source = "standin"
        run.notices.append(STANDIN_NOTICE)
        print(STANDIN_NOTICE)
        return _standin(name, space, sizes)
    files = {
        "TFBind8": ("tfbind8_six6.npz",),
        "QM9": ("qm9str.npz",),
        "sEH": ("sehstr_gbtr.npz",),
    }.get(name, ("rna_l14.npz", f"rna_l14_{name[4:].lower()}_info.csv"))
    paths = run.fetch(*(f"{FOLDER}/{f}" for f in files))
    if paths is None:
        return _standin(name, space, sizes)
    return _READERS.get(name, _read_rna)(name, space, sizes, paths)


def read_arrays(path: Path, shapes: Mapping[str, tuple[int, ...] | None]) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file, never unpickled.

    Args:
        shapes: wanted names with their shapes; None takes any.

    Raises:
        DataError: if the file cannot be read, an array is missing, or has another shape or a value that is not finite.
    """
    arrays = numeric_files.read_arrays(path, DataError, list(shapes))
    for name, shape in shapes.items():
        if arrays[name].dtype.kind == "U":
            raise DataError(f"{path.name}: array {name!r} holds text, not numbers")
        if shape is not None and arrays[name].shape != shape:
            raise DataError(
                f"{path.name}: array {name!r} has the shape {arrays[name].shape}, expected {shape}"
            )
        if arrays[name].dtype.kind == "f" and not np.isfinite(arrays[name]).all():
            raise DataError(f"{path.name}: array {name!r} has a value that is not finite")
    return arrays


def _sorted_codes(path: Path, name: str, codes: np.ndarray, space: SequenceSpace) -> Tensor:
    modes = torch.from_numpy(np.unique(codes.astype(np.int64)))
    if not len(modes) or int(modes[0]) < 0 or int(modes[-1]) >= space.n_leaves:
        raise DataError(f"{path.name}: array {name!r} names strings that do not exist")
    return modes


def _complete(task: SequenceTask) -> SequenceTask:
    """Fill in log Z and the expected score of an enumerable task."""
    log_r = task.all_log_rewards()
    task.log_z = log_partition(log_r)
    y = task.score(torch.arange(task.space.n_leaves)).clamp(min=SMALLEST_SCORE)
    task.expected_score = float((torch.softmax(log_r, 0) * y).sum())
    return task


def _read_tfbind8(name: str, space: SequenceSpace, sizes: TaskSizes, paths: Sequence[Path]) -> SequenceTask:
    arrays = read_arrays(paths[0], {"score": (space.n_leaves,), "mode_index": None})
    score = torch.from_numpy(arrays["score"])
    modes = _sorted_codes(paths[0], "mode_index", arrays["mode_index"], space)
    return _complete(SequenceTask(name, space, sizes, TableScore(score), float(score.max()), modes, "real"))


def _read_qm9(name: str, space: SequenceSpace, sizes: TaskSizes, paths: Sequence[Path]) -> SequenceTask:
    arrays = read_arrays(paths[0], {"reward": (space.n_leaves,), "modes_top0p5pct": None})
    score = torch.from_numpy(arrays["reward"])
    modes = _sorted_codes(paths[0], "modes_top0p5pct", arrays["modes_top0p5pct"], space)
    return _complete(SequenceTask(name, space, sizes, TableScore(score), float(score.max()), modes, "real"))


def read_seh_trees(path: Path, space: SequenceSpace) -> tuple[TreeEnsemble, dict[str, np.ndarray]]:
    """The sEH proxy's trees, and the lists of modes and target samples beside them."""
    names = ("baseline", "tree_offset", "value", "feature", "threshold", "left", "right", "is_leaf")
    arrays = read_arrays(path, dict.fromkeys((*names, "modes_tanimoto_0p4", "modes_159", "samples_beta6")))
    return TreeEnsemble.from_arrays(space, arrays), arrays


def _read_seh(name: str, space: SequenceSpace, sizes: TaskSizes, paths: Sequence[Path]) -> SequenceTask:
    trees, arrays = read_seh_trees(paths[0], space)
    modes = _sorted_codes(paths[0], "modes_tanimoto_0p4", arrays["modes_tanimoto_0p4"], space)
    y = trees.table().clamp(min=SMALLEST_SCORE)
    highest = float(y.max())
    log_r = math.log(sizes.reward_max) + sizes.beta * (torch.log(y) - math.log(highest))
    log_z = float(torch.logsumexp(log_r, 0))
    expected = float((torch.softmax(log_r, 0) * y).sum())
    samples = torch.from_numpy(arrays["samples_beta6"].astype(np.int64))
    # the maximum of the float32 table may lie an ulp beside the float64 prediction of the same string
    best = float(trees(y.argmax().unsqueeze(0))[0])
    return SequenceTask(name, space, sizes, trees, best, modes, "real", log_z, expected, samples)


def _read_rna(name: str, space: SequenceSpace, sizes: TaskSizes, paths: Sequence[Path]) -> SequenceTask:
    which = name[4:].lower()
    wanted: dict[str, None] = {f"modes_{which}": None}
    if which == "rna1":
        wanted["samples_rna1_beta40"] = None
    arrays = read_arrays(paths[0], wanted)
    constants = read_rna_constants(paths[1], sizes.beta)
    highest = (sizes.reward_max / constants["scale"]) ** (1 / sizes.beta)
    assert sizes.alphabet is not None
    score = DuplexEnergy(space, sizes.alphabet, RNA_TARGETS[name])
    modes = _sorted_codes(paths[0], f"modes_{which}", arrays[f"modes_{which}"], space)
    samples = arrays.get("samples_rna1_beta40")
    return SequenceTask(
        name,
        space,
        sizes,
        score,
        highest,
        modes,
        "real",
        constants["logz_scaled"],
        constants["expected_reward_scaled"],
        None if samples is None else torch.from_numpy(samples.astype(np.int64)),
    )


def read_rna_constants(path: Path, beta: float) -> dict[str, float]:
    """log Z, expected score and scale of one RNA task at the exponent β, from its table of full enumerations.

    Raises:
        DataError: for a file that is no table, a missing column or exponent, or a value that is no finite number.
    """
    columns = ("reward_exp", "logz_scaled", "expected_reward_scaled", "scale")
    values = numeric_files.numbers(
        numeric_files.read_table(path, DataError, columns), columns, path.name, DataError
    )
    rows = values[values[:, 0] == beta]
    if len(rows) != 1:
        raise DataError(f"{path.name}: {len(rows)} rows for the exponent {beta:g}, expected one")
    return dict(zip(columns, rows[0].tolist(), strict=True))


def _standin(name: str, space: SequenceSpace, sizes: TaskSizes) -> SequenceTask:
    """A landscape of neighbour interactions with as many modes: the highest-scoring strings."""
    score = NeighbourScore.seeded(space)
    modes = score.best(sizes.n_modes).sort().values
    task = SequenceTask(name, space, sizes, score, 1.0, modes, "standin")
    return _complete(task) if task.enumerable else task


_READERS = {"TFBind8": _read_tfbind8, "QM9": _read_qm9, "sEH": _read_seh}


@dataclass(frozen=True)
class Concentration:
    """How concentrated a target is: its entropy in nats, its effective support 1/Σp², and the share of mass on its modes."""

    task: str
    end_points: int
    log_z: float
    entropy: float
    effective_support: float
    modes: int
    mode_mass: float
    source: str


def concentration(task: SequenceTask) -> Concentration:
    """Computed from the complete table of rewards.

    Raises:
        ValueError: where there are too many end points.
    """
    log_r = task.all_log_rewards()
    entropy, support = effective_support(log_r)
    mass = float(torch.softmax(log_r, 0)[task.modes].sum())
    return Concentration(
        task.name,
        task.space.n_leaves,
        log_partition(log_r),
        entropy,
        support,
        len(task.modes),
        mass,
        task.source,
    )
