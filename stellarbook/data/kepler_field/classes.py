"""Classes on the colour–magnitude diagram, and DESA's sets of sure binaries and sure singles.

Regions about the median sequence of single dwarfs, after Godoy-Rivera et al. 2025 (whose lines are
not at hand: ours are drawn for these isochrones), and the criteria of DESA's section 6.3. Shown in
chapter 01.
"""

from functools import cache

import numpy as np

from stellarbook.data.kepler_field import population
from stellarbook.data.kepler_field.observables import RUWE_BINARY, RUWE_SINGLE

CLASSES = ("dwarf", "subgiant", "giant", "overlap", "photometric_binary", "uncertain_ms")
BELOW_MS = -0.4  # mag fainter than the sequence


@cache
def ridge() -> tuple[np.ndarray, np.ndarray]:
    """Return colours BP−RP and median M_G of single main-sequence stars of the field.

    Of a population of its own, the same for every sample: a star's class does not depend on which
    others were drawn.
    """
    stars = population.draw(40_000, np.random.default_rng(0))
    dwarfs = (stars["phase"] == 0) & (stars["logg"] > 3.9)
    colour, m_g = (stars["bp"] - stars["rp"])[dwarfs], stars["g"][dwarfs]
    edges = np.quantile(colour, np.linspace(0.002, 0.998, 61))
    cell = np.digitize(colour, edges)
    inside = range(1, len(edges))
    return (edges[1:] + edges[:-1]) / 2, np.array([np.median(m_g[cell == i]) for i in inside])


def cmd_class(bprp0: np.ndarray, m_g: np.ndarray) -> np.ndarray:
    """Return the class of stars at a place of the colour–magnitude diagram.

    Parameters
    ----------
    bprp0, m_g : (n,) float
        Corrected for extinction, mag.

    Returns
    -------
    (n,) array of str
        One of `CLASSES`; "" where the colour or the magnitude is missing.
    """
    c = np.asarray(bprp0, float)
    above = np.interp(c, *ridge()) - m_g  # mag brighter than the sequence
    giant = (m_g < 3.6) & (c > 0.95)
    subgiant = ((above > 0.95) & (c > 0.78) & (c < 1.15)) | ((above > 1.1) & (c <= 0.78))
    overlap = ((above > 0.38) & (c <= 0.78)) | ((above > 0.95) & (c >= 1.15))
    binary = (above > 0.38) & (above <= 0.95) & (c > 0.78)
    uncertain = (above < BELOW_MS) | (c < 0.5) | (c > 2.6)
    names = ("giant", "subgiant", "overlap", "photometric_binary", "uncertain_ms")
    found = np.select([giant, subgiant, overlap, binary, uncertain], names, default="dwarf")
    return np.where(np.isfinite(c + m_g), found, "")


def binary_set(star: dict[str, np.ndarray]) -> np.ndarray:
    """Return DESA's label: 1 flagged as a binary, 0 surely single, NaN neither (section 6.3).

    A binary has RUWE > 1.4, varies in velocity, eclipses or has an orbit from Gaia. A single star
    has none of these, RUWE < 1.2, is no candidate for a synchronised pair (a period below 7 days
    and over-luminous) and has |ΔK_iso| < 0.3. RUWE is part of the definition: never give it to a
    classifier as an input as well.
    """
    with np.errstate(invalid="ignore"):
        flagged = (star["ruwe"] > RUWE_BINARY) | star["rv_variable"]
        flagged = flagged | star["eclipsing"] | star["nss"]
        paired = (star["prot_obs"] < 7) & (star["delta_k_iso"] < -0.3)
        single = ~flagged & (star["ruwe"] < RUWE_SINGLE) & (np.abs(star["delta_k_iso"]) < 0.3)
        single &= ~paired & (star["cmd_class"] != "photometric_binary")
    return np.select([flagged, single], [1.0, 0.0], default=np.nan)
