"""Protein rewards: arithmetic, and the packages that a user may lack."""

import math
import sys

import numpy as np
import pytest

from lib.datasets import DataError
from lib.ddpp import proteins


def test_sheet_reward_is_the_weighted_sum():
    p = proteins.FoldProperties(0.8, 0.9, 0.4, 0.5, 0.2)
    assert proteins.sheet_log_reward(p) == pytest.approx(0.8 + 0.9 + 1.8 + 0.4 - 0.05)
    with pytest.raises(ValueError, match="plddt=90"):
        proteins.sheet_log_reward(proteins.FoldProperties(0.8, 90.0, 0.4, 0.5, 0.2))


def test_shrinking_reward_agrees_with_the_printed_pairs():
    # Table 3: TM-score and log R of the same rows
    for tm, log_r in ((0.245, 0.490), (0.345, 0.690), (0.337, 0.673), (0.290, 0.581), (0.361, 0.722)):
        assert proteins.shrinking_log_reward(tm) == pytest.approx(log_r, abs=2e-3)
    with pytest.raises(ValueError, match="tm_score"):
        proteins.shrinking_log_reward(1.2)


def test_entropy_of_the_composition():
    assert proteins.composition_entropy("AAAA") == 0
    assert proteins.composition_entropy(proteins.RESIDUES) == pytest.approx(1.0)
    assert proteins.composition_entropy("AC") == pytest.approx(math.log(2) / math.log(20))
    with pytest.raises(ValueError, match="unknown"):
        proteins.composition_entropy("AXA")


def test_sheet_share():
    assert proteins.sheet_share(list("EEHH-TEB")) == pytest.approx(3 / 8)
    with pytest.raises(ValueError, match="at least one"):
        proteins.sheet_share([])


def test_exposed_hydrophobic_residues():
    area = np.array([100.0, 100.0, 10.0, 40.0])
    # V exposed, K not hydrophobic, L buried, W: 40 of 285 is less than a quarter
    assert proteins.exposed_hydrophobic_share("VKLW", area) == pytest.approx(1 / 4)
    with pytest.raises(ValueError, match="4 residues"):
        proteins.exposed_hydrophobic_share("VKLW", area[:3])


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("biotite", lambda: proteins.read_pdb("")),
        ("biotite", lambda: proteins.dssp_codes(None)),
        ("biotite", lambda: proteins.residue_surface(None)),
        ("tmtools", lambda: proteins.tm_score(np.zeros((3, 3)), "AAA", np.zeros((3, 3)), "AAA")),
    ],
)
def test_a_missing_package_is_named(package, call, monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=f"pip install {package}"):
        call()


def test_tm_score_of_a_moved_copy_is_one():
    pytest.importorskip("tmtools")
    rng = np.random.default_rng(0)
    chain = np.cumsum(rng.normal(size=(40, 3)), axis=0) * 2.0
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    letters = "A" * 40
    assert proteins.tm_score(chain @ rotation.T + 5.0, letters, chain, letters) == pytest.approx(
        1.0, abs=1e-3
    )
    with pytest.raises(ValueError, match="coordinates"):
        proteins.tm_score(chain[:5], letters, chain, letters)
