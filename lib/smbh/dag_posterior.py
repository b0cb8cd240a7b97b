"""The exact posterior over all DAGs: partition function, parent sets, edges and ancestor paths.

The trick: every DAG has one list of layers. Layer 1 holds its sources, layer k + 1 the sources of what is left when
layers 1..k are taken away; so a node of a later layer has all its parents in earlier layers, and at least one in the
layer just before. Summing over DAGs therefore means summing over lists of layers, in which every node chooses its
parents independently of the others. With ``X`` the placed nodes, ``L`` the last layer and ``w_j(P) = exp s_j(P)``,

    beta_j(X, L) = sum of w_j(P) over P within X that meet L
    H(X, L)      = sum over nonempty T outside X of [prod over j in T of beta_j(X, L)] H(X + T, T),    H(V, .) = 1

and the partition function is Z = H(0, 0) with beta_j(0, 0) = w_j(0). Three remarks make this fast and exact:

1. Nothing is ever subtracted. beta_j is built by splitting on the lowest member of L that is a parent, so every
   number is a sum of products of positive terms and has full relative precision. The same code then runs in two
   number systems, weights (+, *) and, where the scores span too many orders of magnitude, their logarithms.
2. For fixed (X, L) the sum over T is a multilinear polynomial in the beta_j, so Horner's rule evaluates it by folding
   the row h[T] = H(X + T, T) in half once per node: h[t] + beta_k h[t + 2**k]. States are stored so that this row is
   contiguous, and several data sets lie side by side ("lanes"): the lattice is the same for all of them. This is one
   multiplication and addition per transition, about 4**n in all.
3. p(Pa_j = P) = w_j(P) dZ/dw_j(P) / Z. One pass backwards through the same polynomial gives all n 2**(n-1) of them.

Ancestors cost one more idea. De(s) = D (the descendants of s, with s itself) holds exactly if no edge goes from D to
the rest W, and s is the only source of the subgraph on D. So

    p(De(s) = D) = Z(W) A_s(W) H_W({s} + W, {s}) / Z,       A_s(W) = sum of w_s(P) over P within W,

where H_W is the same sweep with the nodes of W placed beforehand and never allowed to count as "the layer before":
about 5**n in all. Z(W) comes for free: it is what the backward pass has accumulated when it reaches W.

Sets are bit masks. In the kernels, ``l`` is L written in the positions of X's members (bit 0 = lowest member of X) and
``k`` counts the members outside X.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import ArrayLike, NDArray

from lib.compilation import njit
from lib.smbh.bge_score import membership, set_sizes
from lib.smbh.data_matrix import Array, DataMatrixError

# Data sets that go through the linear sweep side by side, and up to which n: beyond, the tables outgrow the cache and
# the rows are long enough to fill the vector units with one data set.
LANES = 4
LAST_N_WITH_LANES = 8

# The tables of beta hold n 3**(n - 1) numbers: 180 MB per data set at n = 14.
MAX_VARIABLES = 14

# Every DAG of weight above 1e-308 passes through the linear sweep without underflow, because with each child's best
# weight scaled to 1 all partial products are at least as large as the whole. There are 1.4e36 DAGs at n = 14, so if
# the sum Z exceeds this bound, what underflow can remove is below 1e-308 * 1.4e36 / 1e-200 of it.
SMALLEST_LINEAR_PARTITION = 1e-200


@dataclass(frozen=True)
class DagPosterior:
    """Exact posterior marginals over DAGs on n variables; ``...`` is the batch shape of the scores.

    Attributes:
        log_partition: (...) log of the sum over all DAGs of exp(score).
        parent_sets: (..., n, 2**n) p(Pa_j = P), entry [j, P].
        edges: (..., n, n) p(i in Pa_j), entry [i, j]: row = parent, column = child.
        paths: (..., n, n) p(i is an ancestor of j), entry [i, j], diagonal 0; None if not asked for.
        descendants: (..., n, 2**n) p(De(s) = D), entry [s, D], where D contains s; None if not asked for.
    """

    log_partition: Array
    parent_sets: Array
    edges: Array
    paths: Array | None
    descendants: Array | None


# ---------------------------------------------------------------------------------------------- number systems


@register_jitable
def _add_weights(a: float, b: float) -> float:
    return a + b


@register_jitable
def _multiply_weights(a: float, b: float) -> float:
    return a * b


@register_jitable
def _add_logs(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    if b == -np.inf:
        return a
    return a + np.log1p(np.exp(b - a))


@register_jitable
def _larger(a: float, b: float) -> float:
    return max(a, b)


@register_jitable
def _multiply_logs(a: float, b: float) -> float:
    return a + b


class Semiring(NamedTuple):
    """A number system for the sweeps: addition, multiplication and their neutral elements."""

    add: Callable[[float, float], float]
    multiply: Callable[[float, float], float]
    zero: float
    one: float


WEIGHTS = Semiring(_add_weights, _multiply_weights, 0.0, 1.0)
LOGARITHMS = Semiring(_add_logs, _multiply_logs, -np.inf, 0.0)
MAX_PRODUCT = Semiring(_larger, _multiply_logs, -np.inf, 0.0)  # of logarithms: the best instead of the sum


# ----------------------------------------------------------------------------------------------------- lattice


class Lattice(NamedTuple):
    """Where the states (X, L) of n variables are stored.

    Attributes:
        n: number of variables.
        size: (2**n,) number of members of X.
        row: (2**n + 1,) start of the row of H that belongs to X: its entry t is the state (X + T, T).
        beta: (2**n + 1,) start of X's block of beta; entry [l, k] of the block (shape 2**|X|, n - |X|) is
            beta_j(X, L), j the k-th node outside X. The unused place l = 0 keeps A_j(X), the sum over all P within X.
        block: (2**n + 1,) start of X's block in ``state``.
        state: (3**n,) place in H of (X, L), entry ``block[X] + l``.
    """

    n: int
    size: NDArray[np.int64]
    row: NDArray[np.int64]
    beta: NDArray[np.int64]
    block: NDArray[np.int64]
    state: NDArray[np.int32]


@register_jitable
def compress(subset: int, members: int) -> int:
    """Write ``subset`` in the positions of ``members``: bit i of the result is the i-th lowest member."""
    result, bit = 0, 1
    while members:
        low = members & -members
        if subset & low:
            result |= bit
        bit <<= 1
        members ^= low
    return result


@njit()
def _fill_states(row: np.ndarray, block: np.ndarray, state: np.ndarray) -> None:
    everything = row.size - 2
    for X in range(everything + 1):
        L = 0
        for at in range(block[X], block[X + 1]):  # the subsets of X in increasing order, as l counts up
            state[at] = row[X ^ L] + compress(L, everything ^ X ^ L)
            L = (L - X) & X


@cache
def lattice(n: int) -> Lattice:
    """Return the (X, L) lattice of n variables, made once per n and kept."""
    size = set_sizes(n)
    row, block, beta = (
        np.concatenate([[0], np.cumsum(length)])
        for length in (2 ** (n - size), 2**size, 2**size * (n - size))
    )
    state = np.empty(3**n, dtype=np.int32)
    _fill_states(row, block, state)
    return Lattice(n, size, row, beta, block, state)


# ----------------------------------------------------------------------------------------------------- kernels


class Kernels(NamedTuple):
    """The compiled sweeps of one semiring and lane count; the lane counts fastest in all tables.

    The tables of states (beta, H, F) are flat, so that the compiler sees that consecutive entries are neighbours.
    """

    local_sums: Callable[..., None]
    completions: Callable[..., None]
    gradient: Callable[..., None]
    descendants: Callable[..., None]


@cache
def kernels(semiring: Semiring, lanes: int) -> Kernels:
    """Compile the sweeps for one number system and one number of data sets side by side."""
    add, multiply, zero, one = semiring
    compiled = njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz"})

    @compiled
    def local_sums(lattice, w, beta):
        """Fill ``beta`` from the weights ``w`` (n, 2**n, lanes)."""
        n = lattice.n
        values = np.empty((1 << n, lanes))
        for j in range(n):
            for i in range(n):  # L = {i}: sums over the sets within X that contain i, by a zeta transform
                if i == j:
                    continue
                for X in range(1 << n):
                    if X >> i & 1 and not X >> j & 1:
                        for lane in range(lanes):
                            values[X, lane] = w[j, X, lane]
                for b in range(n):
                    if b in (i, j):
                        continue
                    for X in range(1 << n):
                        if X >> b & 1 and X >> i & 1 and not X >> j & 1:
                            for lane in range(lanes):
                                values[X, lane] = add(values[X, lane], values[X ^ 1 << b, lane])
                for X in range(1 << n):
                    if X >> i & 1 and not X >> j & 1:
                        at = place(lattice, X, i, j)
                        for lane in range(lanes):
                            beta[at * lanes + lane] = values[X, lane]
        for X in range(1 << n):
            m = n - lattice.size[X]
            for l in range(
                3, 1 << lattice.size[X]
            ):  # larger L: sets with its lowest member, then sets without
                single, others, below = split(lattice, X, l)
                if others < 0:
                    continue
                here = lattice.beta[X] + l * m
                for k in range(m):
                    without = others + k + (k >= below)
                    for lane in range(lanes):
                        beta[(here + k) * lanes + lane] = add(
                            beta[(single + k) * lanes + lane], beta[without * lanes + lane]
                        )
            k = 0
            for j in range(n):
                if not X >> j & 1:
                    here, meeting = lattice.beta[X] + k, lattice.beta[X + 1] - m + k
                    for lane in range(lanes):
                        beta[here * lanes + lane] = w[j, 0, lane]
                        if X:
                            beta[here * lanes + lane] = add(w[j, 0, lane], beta[meeting * lanes + lane])
                    k += 1

    @compiled
    def completions(lattice, beta, n_backgrounds, H, alone, stage):
        """Sum over the ways to go on from every state, once for each background W < n_backgrounds.

        Background W is placed beforehand and never in a layer: H(X, L) is filled for all X that contain W and all L
        without members of W, and ``alone[s, W]`` (n, 2**n, lanes) keeps H({s} + W, {s}). W = 0 is the plain sweep.
        """
        n = lattice.n
        everything = (1 << n) - 1
        for W in range(n_backgrounds):
            free = everything ^ W
            placed = free  # X without W
            while True:
                X = placed | W
                m, row = n - lattice.size[X], lattice.row[X]
                for lane in range(lanes):
                    H[row * lanes + lane] = zero  # no layer is empty
                allowed = compress(placed, X)
                l = allowed
                while l or not X:
                    at = lattice.state[lattice.block[X] + l]
                    if m == 0:
                        for lane in range(lanes):
                            H[at * lanes + lane] = one
                    else:
                        b = lattice.beta[X] + l * m + m - 1
                        half = 1 << (m - 1)
                        for t in range(half):
                            for lane in range(lanes):
                                stage[t * lanes + lane] = add(
                                    H[(row + t) * lanes + lane],
                                    multiply(beta[b * lanes + lane], H[(row + half + t) * lanes + lane]),
                                )
                        while half > 1:
                            half >>= 1
                            b -= 1
                            for t in range(half):
                                for lane in range(lanes):
                                    stage[t * lanes + lane] = add(
                                        stage[t * lanes + lane],
                                        multiply(beta[b * lanes + lane], stage[(half + t) * lanes + lane]),
                                    )
                        for lane in range(lanes):
                            H[at * lanes + lane] = stage[0 * lanes + lane]
                    if l == 0:
                        break
                    l = (l - 1) & allowed
                if placed == 0:
                    break
                placed = (placed - 1) & free
            for s in range(n):
                if not W >> s & 1:
                    X = W | 1 << s
                    at = lattice.state[lattice.block[X] + compress(1 << s, X)]
                    for lane in range(lanes):
                        alone[s, W, lane] = H[at * lanes + lane]

    @compiled
    def gradient(lattice, beta, H, F, d_beta, d_w, stage, carry):
        """Fill F(X, L), the sum over the ways to get to a state, and d_w = dZ / dw (n, 2**n, lanes)."""
        n = lattice.n
        F[:] = zero
        d_beta[:] = zero
        d_w[:] = zero
        for lane in range(lanes):
            F[lane] = one
        for X in range((1 << n) - 1):
            m, row = n - lattice.size[X], lattice.row[X]
            for l in range(1 if X else 0, 1 << lattice.size[X]):
                if lanes == 1:  # the same as below, with factors and sums in registers
                    base, half = lattice.beta[X] + l * m, 1 << (m - 1)
                    factor = beta[base + m - 1]
                    for t in range(half):
                        stage[half + t] = add(H[row + t], multiply(factor, H[row + half + t]))
                    for k in range(m - 2, 0, -1):
                        half = 1 << k
                        factor = beta[base + k]
                        for t in range(half):
                            stage[half + t] = add(stage[2 * half + t], multiply(factor, stage[3 * half + t]))
                    carry[0] = F[lattice.state[lattice.block[X] + l]]
                    for k in range(m - 1):
                        half = 1 << k
                        factor, total = beta[base + k], zero
                        for t in range(half):
                            total = add(total, multiply(carry[t], stage[3 * half + t]))
                            carry[half + t] = multiply(carry[t], factor)
                        d_beta[base + k] = total
                    half = 1 << (m - 1)
                    factor, total = beta[base + m - 1], zero
                    for t in range(half):
                        total = add(total, multiply(carry[t], H[row + half + t]))
                        F[row + half + t] = add(F[row + half + t], multiply(carry[t], factor))
                    d_beta[base + m - 1] = total
                    for t in range(1, half):
                        F[row + t] = add(F[row + t], carry[t])
                    continue
                base = lattice.beta[X] + l * m
                half = 1 << (m - 1)
                for t in range(half):  # the folding of `completions` again, keeping every stage
                    for lane in range(lanes):
                        stage[(half + t) * lanes + lane] = add(
                            H[(row + t) * lanes + lane],
                            multiply(beta[(base + m - 1) * lanes + lane], H[(row + half + t) * lanes + lane]),
                        )
                for k in range(m - 2, 0, -1):
                    half = 1 << k
                    for t in range(half):
                        for lane in range(lanes):
                            stage[(half + t) * lanes + lane] = add(
                                stage[(2 * half + t) * lanes + lane],
                                multiply(
                                    beta[(base + k) * lanes + lane], stage[(3 * half + t) * lanes + lane]
                                ),
                            )
                at = lattice.state[lattice.block[X] + l]
                for lane in range(lanes):
                    carry[0 * lanes + lane] = F[at * lanes + lane]
                for k in range(m - 1):  # and its transpose
                    half = 1 << k
                    for t in range(half):
                        for lane in range(lanes):
                            d_beta[(base + k) * lanes + lane] = add(
                                d_beta[(base + k) * lanes + lane],
                                multiply(carry[t * lanes + lane], stage[(3 * half + t) * lanes + lane]),
                            )
                            carry[(half + t) * lanes + lane] = multiply(
                                carry[t * lanes + lane], beta[(base + k) * lanes + lane]
                            )
                k, half = m - 1, 1 << (m - 1)
                for t in range(half):
                    for lane in range(lanes):
                        d_beta[(base + k) * lanes + lane] = add(
                            d_beta[(base + k) * lanes + lane],
                            multiply(carry[t * lanes + lane], H[(row + half + t) * lanes + lane]),
                        )
                        F[(row + half + t) * lanes + lane] = add(
                            F[(row + half + t) * lanes + lane],
                            multiply(carry[t * lanes + lane], beta[(base + k) * lanes + lane]),
                        )
                for t in range(1, half):
                    for lane in range(lanes):
                        F[(row + t) * lanes + lane] = add(
                            F[(row + t) * lanes + lane], carry[t * lanes + lane]
                        )
        for X in range((1 << n) - 1, -1, -1):  # transpose of `local_sums`
            m = n - lattice.size[X]
            for l in range((1 << lattice.size[X]) - 1, 2, -1):
                single, others, below = split(lattice, X, l)
                if others < 0:
                    continue
                here = lattice.beta[X] + l * m
                for k in range(m):
                    without = others + k + (k >= below)
                    for lane in range(lanes):
                        d_beta[(single + k) * lanes + lane] = add(
                            d_beta[(single + k) * lanes + lane], d_beta[(here + k) * lanes + lane]
                        )
                        d_beta[without * lanes + lane] = add(
                            d_beta[without * lanes + lane], d_beta[(here + k) * lanes + lane]
                        )
        values = np.empty((1 << n, lanes))
        for j in range(n):
            for lane in range(lanes):
                d_w[j, 0, lane] = d_beta[j * lanes + lane]
            for i in range(n):
                if i == j:
                    continue
                for X in range(1 << n):
                    if X >> i & 1 and not X >> j & 1:
                        at = place(lattice, X, i, j)
                        for lane in range(lanes):
                            values[X, lane] = d_beta[at * lanes + lane]
                for b in range(n):
                    if b in (i, j):
                        continue
                    for X in range(1 << n):
                        if X >> b & 1 and X >> i & 1 and not X >> j & 1:
                            for lane in range(lanes):
                                values[X ^ 1 << b, lane] = add(values[X ^ 1 << b, lane], values[X, lane])
                for X in range(1 << n):
                    if X >> i & 1 and not X >> j & 1:
                        for lane in range(lanes):
                            d_w[j, X, lane] = add(d_w[j, X, lane], values[X, lane])

    @compiled
    def descendants(lattice, beta, F, alone, d_w):
        """Fill ``d_w`` (n, 2**n, lanes) with the sum over the DAGs with De(s) = D, entry [s, D]."""
        n = lattice.n
        everything = (1 << n) - 1
        Z_W = np.empty(lanes)
        d_w[:] = zero
        for W in range(everything):
            for lane in range(lanes):
                Z_W[lane] = zero if W else one
            for l in range(1, 1 << lattice.size[W]):
                at = lattice.state[lattice.block[W] + l]
                for lane in range(lanes):
                    Z_W[lane] = add(Z_W[lane], F[at * lanes + lane])
            here = lattice.beta[W]
            for s in range(n):
                if not W >> s & 1:
                    for lane in range(lanes):
                        sources = multiply(Z_W[lane], beta[here * lanes + lane])
                        d_w[s, everything ^ W, lane] = multiply(sources, alone[s, W, lane])
                    here += 1

    return Kernels(local_sums, completions, gradient, descendants)


@register_jitable
def place(lattice: Any, X: int, i: int, j: int) -> int:
    """Where beta_j(X, {i}) is stored."""
    below = (1 << j) - 1
    k = j - lattice.size[X & below]
    return lattice.beta[X] + (1 << lattice.size[X & ((1 << i) - 1)]) * (lattice.n - lattice.size[X]) + k


@register_jitable
def split(lattice: Any, X: int, l: int) -> tuple[int, int, int]:
    """Split beta(X, L) by the lowest member i of L: sets with i, and sets without i, which meet L - {i}.

    Returns the start of the block row (X, {i}), the start of the block row (X - {i}, L - {i}), or -1 if L has one
    member only, and the number of nodes below i that are outside X: from there on the nodes outside X - {i} are
    counted one higher.
    """
    position = 0
    while not l >> position & 1:
        position += 1
    rest = (l ^ 1 << position) >> 1
    if rest == 0:
        return 0, -1, 0
    members = X
    for _ in range(position):
        members &= members - 1
    i = 0
    while not members >> i & 1:
        i += 1
    m = lattice.n - lattice.size[X]
    single = lattice.beta[X] + (1 << position) * m
    others = lattice.beta[X ^ 1 << i] + rest * (m + 1)
    return single, others, i - position


# ------------------------------------------------------------------------------------------------------ driver


def check_scores(log_scores: ArrayLike) -> Array:
    """Return the score table(s) as float64 (..., n, 2**n), with ``-inf`` where a parent set contains its child.

    Raises:
        DataMatrixError: wrong shape, too many variables, NaN or +inf, or a child without any possible parent set.
    """
    scores = np.array(log_scores, dtype=np.float64)
    if scores.ndim < 2 or scores.shape[-1] != 2 ** scores.shape[-2]:
        raise DataMatrixError(f"log_scores of shape {scores.shape}: expected (..., n, 2**n)")
    n = scores.shape[-2]
    if not 1 <= n <= MAX_VARIABLES:
        raise DataMatrixError(f"log_scores for {n} variables: 1 to {MAX_VARIABLES} are possible")
    scores[..., membership(n).T] = -np.inf
    if not (scores < np.inf).all():
        raise DataMatrixError("log_scores hold NaN or +inf")
    if not np.isfinite(scores[..., 0]).all():
        raise DataMatrixError("log_scores leave a child without the empty parent set")
    return scores


class Sweep:
    """The tables of one sweep over ``lanes`` data sets of n variables in one semiring: beta, H, and their gradients."""

    def __init__(self, n: int, semiring: Semiring, lanes: int = 1) -> None:
        self.lattice, self.kernels, self.semiring, self.lanes = (
            lattice(n),
            kernels(semiring, lanes),
            semiring,
            lanes,
        )
        self.beta, self.d_beta = np.empty((2, self.lattice.beta[-1] * lanes))
        self.H, self.F = np.empty((2, self.lattice.row[-1] * lanes))
        self.stage, self.carry = np.empty((2, 2**n * lanes))
        self.w, self.d_w, self.alone = np.full((3, n, 2**n, lanes), semiring.one)

    def partition(self, scaled: Array) -> Array:
        """Load ``lanes`` or fewer score tables (..., n, 2**n) and return their Z in the semiring's numbers."""
        np.copyto(self.w[..., : len(scaled)], scaled.transpose(1, 2, 0))
        if self.semiring is WEIGHTS:
            np.exp(self.w, out=self.w)
        self.kernels.local_sums(self.lattice, self.w, self.beta)
        self.kernels.completions(self.lattice, self.beta, 1, self.H, self.alone, self.stage)
        return self.H[: len(scaled)].copy()  # state (0, 0)

    def parent_sets(self) -> Array:
        """Return dZ / dw (n, 2**n, lanes) of what :meth:`partition` has loaded."""
        self.kernels.gradient(
            self.lattice, self.beta, self.H, self.F, self.d_beta, self.d_w, self.stage, self.carry
        )
        return self.d_w

    def descendants(self) -> Array:
        """Return the sums over DAGs with De(s) = D, (n, 2**n, lanes); needs :meth:`parent_sets` before."""
        backgrounds = 2**self.lattice.n - 1
        self.kernels.completions(self.lattice, self.beta, backgrounds, self.H, self.alone, self.stage)
        self.kernels.descendants(self.lattice, self.beta, self.F, self.alone, self.d_w)
        return self.d_w


def _sweep(scores: Array, semiring: Semiring, lanes: int, paths: bool) -> tuple[Array, Array, Array | None]:
    """Return log Z (B,), parent-set probabilities (B, n, 2**n) and the law of De(s) for scores (B, n, 2**n).

    A Z below the bound of the linear sweep is returned as NaN, with the rest of that data set undefined.
    """
    work = Sweep(scores.shape[-2], semiring, lanes)
    log_partition, parent_sets = np.empty(len(scores)), np.empty(scores.shape)
    laws = np.empty(scores.shape) if paths else None
    for start in range(0, len(scores), lanes):
        chunk = slice(start, start + lanes)
        best = scores[chunk].max(axis=-1, keepdims=True)
        Z = work.partition(scores[chunk] - best)
        used = len(Z)
        if semiring is WEIGHTS:
            Z[~(Z >= SMALLEST_LINEAR_PARTITION)] = np.nan
            parent_sets[chunk] = (work.parent_sets() * work.w)[..., :used].transpose(2, 0, 1) / Z[
                :, None, None
            ]
            if laws is not None:
                laws[chunk] = work.descendants()[..., :used].transpose(2, 0, 1) / Z[:, None, None]
            Z = np.log(Z)
        else:
            parent_sets[chunk] = np.exp(work.parent_sets() + work.w - Z).transpose(2, 0, 1)
            if laws is not None:
                laws[chunk] = np.exp(work.descendants() - Z).transpose(2, 0, 1)
        log_partition[chunk] = Z + best.sum(axis=(1, 2))
    return log_partition, parent_sets, laws


def dag_posterior(log_scores: ArrayLike, paths: bool = True) -> DagPosterior:
    """Return the exact posterior over all DAGs on n variables whose score is a sum of local scores.

    Args:
        log_scores: (..., n, 2**n), entry [j, P] = s_j(P), natural logarithm; entries with j in P are ignored.
            ``-inf`` forbids a parent set. Add :func:`structure_prior` for a prior that is not flat over DAGs.
        paths: whether to compute ancestor paths and the law of the descendants (about 5**n instead of 4**n).

    Returns:
        The marginals, see :class:`DagPosterior`.

    Raises:
        DataMatrixError: see :func:`check_scores`.
    """
    scores = check_scores(log_scores)
    shape, n = scores.shape, scores.shape[-2]
    flat = scores.reshape(-1, n, 2**n)
    log_partition, parent_sets, laws = _sweep(flat, WEIGHTS, LANES if n <= LAST_N_WITH_LANES else 1, paths)
    weak = np.isnan(log_partition)
    if weak.any():
        repaired = _sweep(flat[weak], LOGARITHMS, 1, paths)
        log_partition[weak], parent_sets[weak] = repaired[:2]
        if laws is not None:
            laws[weak] = repaired[2]
    contains = membership(n).astype(np.float64)
    edges = np.swapaxes(parent_sets @ contains, -1, -2)
    ancestors = None
    if laws is not None:
        ancestors = laws @ contains
        ancestors[:, np.arange(n), np.arange(n)] = 0.0  # a node is not its own ancestor
    return DagPosterior(
        log_partition.reshape(shape[:-2]),
        parent_sets.reshape(shape),
        edges.reshape(*shape[:-1], n),
        None if ancestors is None else ancestors.reshape(*shape[:-1], n),
        None if laws is None else laws.reshape(shape),
    )


def structure_prior(n: int, kind: str | float = "flat") -> Array:
    """Return log weights (n, 2**n) to be added to the log scores: the prior of a DAG is the product of its weights.

    Args:
        n: number of variables.
        kind: ``"flat"``: every DAG alike; ``"fair"``: 1 / binomial(n - 1, |P|), every number of parents alike (the
            default of some samplers); a number c > 0: every edge multiplies the prior odds by c.

    Raises:
        DataMatrixError: another kind.
    """
    sizes = set_sizes(n)
    if kind == "flat":
        by_size = np.zeros(n + 1)
    elif kind == "fair":
        by_size = -np.log([comb(n - 1, size) if size < n else 1 for size in range(n + 1)])
    elif isinstance(kind, int | float) and kind > 0:
        by_size = np.arange(n + 1) * np.log(kind)
    else:
        raise DataMatrixError(f"structure prior {kind!r} is not 'flat', 'fair' or positive edge odds")
    return np.tile(by_size[sizes], (n, 1))
