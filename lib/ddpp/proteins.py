"""Rewards of protein sequences: sheets and confidence of a predicted fold, or likeness to a given fold (Tables 3 and 5).

The formulas are plain functions of numbers. Secondary structure (DSSP, through the package biotite and the program mkdssp), exposed
surface (biotite) and structural alignment (tmtools) are asked for only when they are used; none is needed elsewhere in the collection.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from lib.datasets import DataError
from lib.plain_files import one_line

RESIDUES = "ARNDCQEGHILKMFPSTWYV"
HYDROPHOBIC = frozenset("AVILMFYW")
EXPOSED = 0.25  # share of a residue's largest accessible surface above which it counts as exposed
LARGEST_SURFACE = dict(
    zip(
        RESIDUES,
        (129, 274, 195, 193, 167, 225, 223, 104, 224, 197, 201, 236, 224, 240, 159, 155, 172, 285, 263, 174),
    )
)
"""Largest accessible surface of each residue in Å² (Tien et al., PLoS ONE 2013, theoretical values)."""


@dataclass(frozen=True)
class FoldProperties:
    """What Table 3 rewards.

    Attributes:
        ptm, plddt: confidence of the predicted structure, in [0, 1]. sheet_share: residues in sheets, in [0, 1].
        entropy: of the composition, over log 20, in [0, 1]. exposed_hydrophobic: exposed hydrophobic residues over all, in [0, 1].
    """

    ptm: float
    plddt: float
    sheet_share: float
    entropy: float
    exposed_hydrophobic: float


def sheet_log_reward(p: FoldProperties) -> float:
    """log R = pTM + pLDDT + 4.5 · sheet share + 0.8 · entropy − 0.25 · exposed hydrophobic share (§4.4).

    The paper does not say how the entropy is scaled; here it is divided by its largest value, log 20.

    Raises:
        ValueError: for a property outside [0, 1].
    """
    for name, value in vars(p).items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name}={value!r} must lie in [0, 1]")
    return p.ptm + p.plddt + 4.5 * p.sheet_share + 0.8 * p.entropy - 0.25 * p.exposed_hydrophobic


def shrinking_log_reward(tm_score: float) -> float:
    """log R = 2 · TM-score to the protein that is to be shrunk (§4.4).

    Raises:
        ValueError: for a score outside [0, 1].
    """
    if not 0.0 <= tm_score <= 1.0:
        raise ValueError(f"tm_score={tm_score!r} must lie in [0, 1]")
    return 2.0 * tm_score


def composition_entropy(sequence: str) -> float:
    """Entropy of the residues' frequencies over log 20, in [0, 1].

    Raises:
        ValueError: for an empty sequence or an unknown residue.
    """
    unknown = set(sequence) - set(RESIDUES)
    if not sequence or unknown:
        raise ValueError(f"sequence holds no residue, or an unknown one: {sorted(unknown)}")
    shares = [count / len(sequence) for count in Counter(sequence).values()]
    return -sum(p * math.log(p) for p in shares) / math.log(len(RESIDUES))


def sheet_share(codes: Sequence[str]) -> float:
    """Share of E (extended strand) among DSSP codes.

    Raises:
        ValueError: for no code.
    """
    if len(codes) == 0:
        raise ValueError("sheet_share needs at least one code")
    return sum(code == "E" for code in codes) / len(codes)


def exposed_hydrophobic_share(sequence: str, surface: np.ndarray) -> float:
    """Share of residues that are hydrophobic and expose more than a quarter of their largest surface.

    Args:
        surface: accessible surface of each residue in Å², (n,).

    Raises:
        ValueError: for lengths that differ.
    """
    if len(sequence) == 0 or surface.shape != (len(sequence),):
        raise ValueError(f"{len(sequence)} residues with surfaces of shape {surface.shape}")
    return sum(
        residue in HYDROPHOBIC and area > EXPOSED * LARGEST_SURFACE[residue]
        for residue, area in zip(sequence, surface.tolist())
    ) / len(sequence)


def read_pdb(pdb: str, name: str = "the structure") -> Any:
    """Atoms of a structure in PDB format, as biotite's array.

    Args:
        name: of the file that ``pdb`` is from, for the message.

    Raises:
        DataError: if biotite is missing, or the text holds no structure.
    """
    try:
        from biotite import InvalidFileError
        from biotite.structure import BadStructureError
        from biotite.structure.io.pdb import PDBFile
    except ImportError as error:
        raise DataError("protein structures need the package biotite: pip install biotite") from error
    try:
        atoms = PDBFile.read(StringIO(pdb)).get_structure(model=1)
    except (ValueError, IndexError, InvalidFileError, BadStructureError) as error:
        raise DataError(f"{name} is not in PDB format ({one_line(error)})") from error
    if len(atoms) == 0:
        raise DataError(f"{name} holds no atom")
    return atoms


def dssp_codes(atoms: Any) -> list[str]:
    """DSSP's code of each residue.

    Raises:
        DataError: if biotite or the program mkdssp is missing.
    """
    try:
        from biotite.application.dssp import DsspApp
    except ImportError as error:
        raise DataError("secondary structure needs the package biotite: pip install biotite") from error
    try:
        return [str(code) for code in DsspApp.annotate_sse(atoms)]
    except FileNotFoundError as error:
        raise DataError("secondary structure needs the program mkdssp (DSSP) on the path") from error


def residue_surface(atoms: Any) -> np.ndarray:
    """Accessible surface of each residue in Å², (n,), by the rolling-probe method.

    Raises:
        DataError: if biotite is missing.
    """
    try:
        import biotite.structure as structure
    except ImportError as error:
        raise DataError("accessible surface needs the package biotite: pip install biotite") from error
    per_atom = structure.sasa(atoms, vdw_radii="Single")
    return structure.apply_residue_wise(atoms, np.nan_to_num(per_atom), np.sum)


def tm_score(coordinates: np.ndarray, sequence: str, target: np.ndarray, target_sequence: str) -> float:
    """TM-score of two chains by TM-align, normalised by the length of the target.

    Args:
        coordinates, target: Cα positions in Å, (n, 3) and (m, 3).

    Raises:
        DataError: if tmtools is missing. ValueError: for shapes that do not fit.
    """
    for name, xyz, letters in (
        ("coordinates", coordinates, sequence),
        ("target", target, target_sequence),
    ):
        if xyz.shape != (len(letters), 3) or len(letters) < 3:
            raise ValueError(f"{name}: {len(letters)} residues with positions of shape {xyz.shape}")
    try:
        from tmtools import tm_align
    except ImportError as error:
        raise DataError("structural alignment needs the package tmtools: pip install tmtools") from error
    result = tm_align(coordinates.astype(float), target.astype(float), sequence, target_sequence)
    return float(result.tm_norm_chain2)
