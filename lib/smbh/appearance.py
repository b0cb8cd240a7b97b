"""One colour and marker for each kind of galaxy, and one label for each variable, in all figures of the chapter."""

from __future__ import annotations

from lib.figures import PALETTE

COLOURS = {"ell": PALETTE[3], "len": PALETTE[2], "spr": PALETTE[0], "nofb": PALETTE[6]}
"""Of the types, and of the model's galaxies without feedback. Nothing else is drawn in these colours."""
MARKERS = {"ell": "o", "len": "s", "spr": "^", "nofb": "D"}

LABELS = {
    "M_bh": r"$M_\bullet$",
    "sigma0": r"$\sigma_0$",
    "Re": r"$R_e$",
    "Sigma_e": r"$\langle\Sigma\rangle_e$",
    "Mstar": r"$M_*$",
    "sSFR": "sSFR",
    "W2W3": "W2−W3",
    "DL": r"$D_L$",
    "n_sph": r"$n_{sph}$",
    "W1W2": "W1−W2",
    "Mbulge": r"$M_{bulge}$",
}
UNITS = {
    "M_bh": "log M☉",
    "sigma0": "log km/s",
    "Re": "log kpc",
    "Sigma_e": "log density",
    "Mstar": "log M☉",
    "sSFR": "log 1/yr",
    "W2W3": "mag",
}
HOLE_TO_SIGMA, SIGMA_TO_HOLE = "M∙ → σ₀", "σ₀ → M∙"
"""How figures spell the two directions of the headline."""
