"""The galaxies: the authors' tables, the catalogue they were cut from, and a simulated stand-in with a known graph.

The three samples (ellipticals, lenticulars, spirals) are loaded twice, from the tables that the authors ship and from their
145-row catalogue, and must agree to the last digit. All columns are decimal logarithms or magnitudes; the scores do not see
units, because every column is standardised.

Data: ZehaoJin/causalbh, CC BY 4.0, cite Jin et al. 2025, ApJ 979, 212.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from lib import numeric_files
from lib.datasets import DataError
from lib.numeric_files import numbers
from lib.profiles import choose, nearest, setting, settings_class
from lib.random_streams import stream
from lib.records import Run
from lib.smbh.data_matrix import DataMatrixError, check_data, check_names

TYPES = ("ell", "len", "spr")
TYPE_NAMES = {"ell": "ellipticals (E)", "len": "lenticulars (S0)", "spr": "spirals (S)"}
TYPE_SHORT = {"ell": "E", "len": "S0", "spr": "S"}

SYMBOLS = {
    "M_bh": "M_BH",
    "sigma0": "log_sigma0",
    "Re": "log_R_e_sph_eq_kpc",
    "Sigma_e": "log<Sigma>_e",
    "Mstar": "GJC23log(M*,gal/M_sun)",
    "sSFR": "GJC23log(sSFR)",
    "W2W3": "GJC23W2-W3",
    "DL": "D_L",
    "n_sph": "log_n_sph_eq",
    "W1W2": "GJC23W1-W2",
}
"""Symbol in the chapter → column of the authors' files."""

BASE = ("M_bh", "sigma0", "Re", "Sigma_e", "Mstar", "sSFR", "W2W3")
EXTENDED = (*BASE, "DL", "n_sph", "W1W2")
DISTANCE = (*BASE[:-1], "DL")
SIX = BASE[:-1]

SAM_SYMBOLS = {"M_bh": "M_BH", "Mbulge": "M_sph", "Re": "R_e", "sSFR": "sSFR"}
SAM = tuple(SAM_SYMBOLS)
SAM_NAMES = {"ell": "ellipticals", "spr": "spirals with feedback", "nofb": "no feedback"}

CATALOGUE = "SMBH_Data_03_15_24v2.csv"


@settings_class
class Selection:
    """The galaxies that every experiment reads."""

    types: tuple[str, ...] = setting(
        TYPES, "galaxy types", "types that are studied", TYPES, among=TYPES, distinct=True
    )


SELECTIONS = {
    "smoke": Selection(),
    "default": Selection(),
    "gpu": Selection(),
    "paper": Selection(),
}


@dataclass(frozen=True)
class Sample:
    """Galaxies of one kind.

    Attributes:
        names: one name per galaxy (N,).
        variables: symbols of the columns (n,).
        values: measurements (N, n), decimal logarithms or magnitudes.
        errors: symmetric one-sigma measurement errors (N, n) in the same units, or None where they are not published.
        truth: adjacency (n, n) with entry [i, j] = True for i → j where the graph is known (simulated galaxies), else None.

    Raises:
        DataError: if names, variables, errors or graph do not fit the values, or a name stands twice.
    """

    names: tuple[str, ...]
    variables: tuple[str, ...]
    values: np.ndarray
    errors: np.ndarray | None = None
    truth: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.names) != len(self.values):
            raise DataError(f"{len(self.names)} galaxies for values of shape {self.values.shape}")
        if self.errors is not None and self.errors.shape != self.values.shape:
            raise DataError(f"errors of shape {self.errors.shape} for values of shape {self.values.shape}")
        if self.truth is not None and self.truth.shape != 2 * self.values.shape[1:]:
            raise DataError(f"a graph of shape {self.truth.shape} for {self.values.shape[1]} variables")
        for name, times in Counter(self.names).items():
            if times > 1:
                raise DataError(f"galaxy {name!r} stands {times} times in the sample")
        try:
            check_names(self.variables, self.values.shape[1])
        except DataMatrixError as error:
            raise DataError(str(error)) from None

    def select(self, variables: Sequence[str]) -> Sample:
        """The same galaxies with the given variables only, in the given order.

        Raises:
            DataError: for a variable that the sample lacks.
        """
        for name in variables:
            if name not in self.variables:
                raise DataError(f"the sample has no variable {name!r}{nearest(name, self.variables)}")
        index = [self.variables.index(name) for name in variables]
        errors = None if self.errors is None else self.errors[:, index]
        # a sub-graph of the truth is no truth once variables are left out, unless all stay
        truth = (
            self.truth[np.ix_(index, index)]
            if self.truth is not None and len(index) == len(self.variables)
            else None
        )
        return Sample(self.names, tuple(variables), self.values[:, index], errors, truth)


@dataclass(frozen=True)
class Galaxies:
    """All samples of the chapter, keyed by type (``ell``, ``len``, ``spr``; for ``sam`` also ``nofb``)."""

    base: Mapping[str, Sample]
    six: Mapping[str, Sample]
    distance: Mapping[str, Sample]
    extended: Mapping[str, Sample]
    sam: Mapping[str, Sample]
    catalogue_rows: int
    simulated: bool


FILES = (
    CATALOGUE,
    *(
        f"causal_BH_{t}_{form}.csv"
        for t in TYPES
        for form in ("withname", "std_withname", "distance", "6var")
    ),
    *(f"sam_{t}.csv" for t in SAM_NAMES),
)
"""Names of the data set's files; the registry knows them as ``smbh/<name>``."""


def load(run: Run) -> Galaxies:
    """The real samples where they can be had, else the simulated stand-in (see :meth:`lib.records.Run.fetch`).

    Raises:
        DataError: one line, for a corrupt file, a missing column, a missing value, or tables that disagree with the catalogue.
    """
    paths = run.fetch(*(f"smbh/{name}" for name in FILES))
    return simulate(stream(0, "stand-in").numpy()) if paths is None else _read_once(tuple(paths))


@cache
def _read_once(paths: tuple[Path, ...]) -> Galaxies:
    """:func:`read`, once in a process however many experiments ask."""
    return read({path.name: path for path in paths})


def read(paths: Mapping[str, Path]) -> Galaxies:
    """Read all samples from files called as in :data:`FILES`, and check the tables against the catalogue.

    Raises:
        DataError: one line, naming the file and what is wrong with it.
    """
    base = {t: read_table(paths[f"causal_BH_{t}_withname.csv"], BASE) for t in TYPES}
    base = {t: with_errors(base[t], paths[f"causal_BH_{t}_std_withname.csv"]) for t in TYPES}
    six = {t: read_table(paths[f"causal_BH_{t}_6var.csv"], SIX) for t in TYPES}
    distance = {t: read_table(paths[f"causal_BH_{t}_distance.csv"], DISTANCE) for t in TYPES}
    catalogue = read_catalogue(paths[CATALOGUE])
    extended = {t: cut(catalogue, t) for t in TYPES}
    for t in TYPES:
        check_equal(base[t], extended[t].select(BASE), f"{t}: table and catalogue")
        check_equal(six[t], extended[t].select(SIX), f"{t}: 6-variable table and catalogue", names=False)
        check_equal(distance[t], extended[t].select(DISTANCE), f"{t}: distance table", names=False)
    sam = {t: read_table(paths[f"sam_{t}.csv"], SAM, SAM_SYMBOLS) for t in SAM_NAMES}
    return Galaxies(base, six, distance, extended, sam, len(catalogue), simulated=False)


def read_table(path: Path, variables: Sequence[str], symbols: Mapping[str, str] = SYMBOLS) -> Sample:
    """Read a rectangular table with one header line.

    Args:
        path: CSV file, with or without a column ``Galaxy``.
        variables: symbols wanted, in order.
        symbols: symbol → column name.

    Raises:
        DataError: for an empty or ragged file, a missing or repeated column, a value that is missing or not a finite number, a
            column that is constant or the copy of another one, a single row, or a galaxy that stands twice.
    """
    frame = numeric_files.read_table(path, DataError)
    columns = [symbols[v] for v in variables]
    values = numbers(frame, columns, path.name, DataError)
    names = frame["Galaxy"] if "Galaxy" in frame else [f"row {i + 1}" for i in range(len(frame))]
    try:
        return Sample(tuple(map(str, names)), tuple(variables), check_data(values, columns))
    except (DataMatrixError, DataError) as error:
        raise DataError(f"{path.name}: {error}") from None


def with_errors(sample: Sample, path: Path) -> Sample:
    """``sample`` with the one-sigma errors of the matching ``_std_withname`` file.

    Raises:
        DataError: if the file is malformed, an error is negative, or its values differ from the sample's.
    """
    frame = numeric_files.read_table(path, DataError)
    columns = [SYMBOLS[v] for v in sample.variables]
    check_equal(sample, read_table(path, sample.variables), path.name)
    errors = numbers(frame, [error_column(c) for c in columns], path.name, DataError)
    if (errors < 0).any():
        raise DataError(f"{path.name}: a measurement error is negative")
    return Sample(sample.names, sample.variables, sample.values, errors)


def error_column(column: str) -> str:
    """Name of the column with the symmetric error of ``column``."""
    return "M_BH_std_sym" if column == "M_BH" else f"{column}_std"


def read_catalogue(path: Path) -> pd.DataFrame:
    """Read the 145-row catalogue, whose SECOND line holds the column names (the first describes them).

    Raises:
        DataError: for a file that is no table, or a missing column.
    """
    return numeric_files.read_table(path, DataError, ("Galaxy", "ETG", "Disk", *SYMBOLS.values()), header=1)


def cut(catalogue: pd.DataFrame, kind: str) -> Sample:
    """Cut one type from the catalogue as the authors did, with ten variables; luminosity distance as log10(Mpc).

    Rows with a missing value in one of the seven base variables are dropped; the order is the catalogue's.

    Raises:
        DataError: if a value of the three further variables is missing in a row that stays, or a distance is not positive.
    """
    choose("kind", kind, TYPES)
    early, disk = {"ell": (1, 0), "len": (1, 1), "spr": (0, 1)}[kind]
    rows = catalogue[(catalogue["ETG"] == early) & (catalogue["Disk"] == disk)]
    rows = rows.dropna(subset=[SYMBOLS[v] for v in BASE]).reset_index(drop=True)
    values = numbers(rows, [SYMBOLS[v] for v in EXTENDED], f"catalogue ({kind})", DataError)
    if (values[:, EXTENDED.index("DL")] <= 0).any():
        raise DataError(f"catalogue ({kind}): column {SYMBOLS['DL']!r} has a distance that is not positive")
    values[:, EXTENDED.index("DL")] = np.log10(values[:, EXTENDED.index("DL")])
    return Sample(tuple(map(str, rows["Galaxy"])), EXTENDED, values)


def check_equal(a: Sample, b: Sample, what: str, names: bool = True) -> None:
    """Check that two samples hold the same galaxies and the same values (to 1e-12).

    Raises:
        DataError: naming the first difference.
    """
    if a.variables != b.variables or a.values.shape != b.values.shape:
        raise DataError(f"{what} differ in shape: {a.values.shape} and {b.values.shape}")
    if names and a.names != b.names:
        first = next(i for i, (x, y) in enumerate(zip(a.names, b.names, strict=True)) if x != y)
        raise DataError(f"{what} differ in row {first + 1}: {a.names[first]} and {b.names[first]}")
    gap = np.abs(a.values - b.values)
    if gap.max() > 1e-12:
        row, column = np.unravel_index(gap.argmax(), gap.shape)
        raise DataError(f"{what} differ in {a.names[row]}, {a.variables[column]}, by {gap.max():.3g}")


# The stand-in ------------------------------------------------------------------------------------------------------------

STANDIN_EDGES = {
    "ell": (
        ("sigma0", "M_bh"),
        ("Mstar", "M_bh"),
        ("sSFR", "M_bh"),
        ("sigma0", "Mstar"),
        ("Mstar", "Re"),
        ("Sigma_e", "Re"),
        ("sSFR", "W2W3"),
    ),
    "len": (("sigma0", "M_bh"), ("M_bh", "Re"), ("Sigma_e", "Re"), ("Mstar", "Re"), ("sSFR", "W2W3")),
    "spr": (
        ("M_bh", "sigma0"),
        ("M_bh", "Mstar"),
        ("M_bh", "Re"),
        ("M_bh", "sSFR"),
        ("Sigma_e", "Re"),
        ("sSFR", "W2W3"),
    ),
}
"""Graphs of the simulated galaxies: invented, with the direction at the black hole reversed between E and S."""

STANDIN_SAM_EDGES = {
    "ell": (("Mbulge", "M_bh"), ("Re", "M_bh"), ("Re", "Mbulge"), ("sSFR", "Mbulge")),
    "spr": (("M_bh", "Mbulge"), ("M_bh", "Re"), ("sSFR", "Re"), ("M_bh", "sSFR")),
    "nofb": (("Mbulge", "M_bh"), ("Re", "M_bh"), ("sSFR", "M_bh"), ("Re", "Mbulge")),
}


def simulate(rng: np.random.Generator, rows: int | None = None) -> Galaxies:
    """The stand-in: galaxies drawn from known linear-Gaussian graphs, in the form of the real samples.

    Sizes are those of the real samples (35, 38, 28 galaxies; 1189, 1999, 2663 model galaxies) unless ``rows`` is given.
    Distance, Sersic index and W1-W2 are independent of the rest. Measurement errors are .1 for all.

    Args:
        rng: of the numbers drawn.
        rows: galaxies per sample, or None.
    """
    sizes = {"ell": 35, "len": 38, "spr": 28}
    extended = {
        t: simulate_linear_gaussian(EXTENDED, STANDIN_EDGES[t], rows or sizes[t], rng, strength=0.8)
        for t in TYPES
    }
    base = {}
    for t, sample in extended.items():
        index = [EXTENDED.index(v) for v in BASE]
        assert sample.truth is not None
        # the three further variables are isolated in the graph, so the rest keeps its own graph
        base[t] = Sample(
            sample.names,
            BASE,
            sample.values[:, index],
            np.full((len(sample.names), len(BASE)), 0.1),
            sample.truth[np.ix_(index, index)],
        )
    sam_sizes = {"ell": 1189, "spr": 1999, "nofb": 2663}
    sam = {
        t: simulate_linear_gaussian(SAM, STANDIN_SAM_EDGES[t], rows or sam_sizes[t], rng, strength=0.6)
        for t in SAM_NAMES
    }
    return Galaxies(
        base=base,
        six={t: base[t].select(SIX) for t in TYPES},
        distance={t: extended[t].select(DISTANCE) for t in TYPES},
        extended=extended,
        sam=sam,
        catalogue_rows=sum(len(s.names) for s in base.values()),
        simulated=True,
    )


def simulate_linear_gaussian(
    variables: Sequence[str],
    edges: Sequence[tuple[str, str]],
    rows: int,
    rng: np.random.Generator,
    strength: float,
) -> Sample:
    """Draw ``rows`` galaxies with x_j = strength · sum of the parents of j + unit Gaussian noise, along a known graph.

    Raises:
        DataError: if the edges hold a cycle.
    """
    n = len(variables)
    truth = np.zeros((n, n), dtype=bool)
    for parent, child in edges:
        truth[variables.index(parent), variables.index(child)] = True
    values = np.zeros((rows, n))
    placed: list[int] = []
    while len(placed) < n:
        ready = [
            j for j in range(n) if j not in placed and all(i in placed for i in np.flatnonzero(truth[:, j]))
        ]
        if not ready:
            raise DataError("the edges of the simulated graph hold a cycle")
        for j in ready:
            values[:, j] = strength * values[:, truth[:, j]].sum(axis=1) + rng.standard_normal(rows)
        placed += ready
    return Sample(tuple(f"simulated {i + 1}" for i in range(rows)), tuple(variables), values, None, truth)
