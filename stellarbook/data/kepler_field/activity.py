"""Photometric activity, and whether a rotation period would have been found.

S_ph is a real star's: of the Santos stars of the half "draw" (`catalogues.half`), one of the
nearest in Teff, log g, mass and period, so that activity falls with rotation as it does in the sky.
The catalogue holds only stars whose rotation was found; the law for the others is ours, and knows
nothing of a star's brightness. Its numbers were chosen on the half "draw", but the half "held" was
looked at in between: comparing with it is a test on other stars, not a blind one. Shown in chapter
01.
"""

from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from stellarbook.data.kepler_field import catalogues
from stellarbook.data.kepler_field.rotation import turnover
from stellarbook.data.light_curves import flares

NEIGHBOURS = 8
# What counts as one apart: K, dex, M☉, dex of the period. Masses count least: at 6000 K those of
# the catalogue are 7 % above the isochrones'.
UNIT = np.array([100.0, 0.1, 0.3, 0.1])
# A period is found with half the probability `MOST` where it reaches 21 d × (τ/13 d)^0.85, and the
# edge is 0.3 × (13 d/τ)^1.2 wide in ln P: cool stars keep large spots for long, Sun-like stars fade
# early and gradually. These four numbers were chosen on the half "draw" (the upper edge of the
# periods), `MOST` on the share of stars with a period; nothing published states them.
EDGE = (21.0, 0.85)
SOFTNESS = (0.3, 1.2)
WIDEST = 1.0  # reached at 6230 K; hotter, τ and with it every spot vanishes
MOST = 0.82
SOLAR_TAU = 13.0
FADED = 0.4  # dex: how much quieter than its donor a star without a period is, half normal


@cache
def _donors() -> tuple[cKDTree, np.ndarray]:
    rows = catalogues.half("draw")
    rows = rows[(rows["sph"] > 0) & rows["prot"].gt(0)]
    points = rows[["teff", "logg", "mass", "prot"]].to_numpy()
    points[:, 3] = np.log10(points[:, 3])
    return cKDTree(points / UNIT), rows[["sph", "kic"]].to_numpy()


def detectable(teff: np.ndarray, prot: np.ndarray) -> np.ndarray:
    """Return the probability that a survey like Santos et al. finds the period of a star.

    Parameters
    ----------
    teff, prot : (n,) float
        K; d.
    """
    tau = turnover(teff) / SOLAR_TAU
    edge, power = EDGE
    width, softer = SOFTNESS
    x = np.log(prot / (edge * tau**power)) / np.minimum(width * tau**-softer, WIDEST)
    return MOST / (1 + np.exp(np.clip(x, -50, 50)))


def draw(star: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Give stars their activity.

    Parameters
    ----------
    star : dict
        ``teff`` (K), ``mass`` (M☉), ``prot`` (d), ``teff_obs, logg_obs``: as the real stars' were
        measured, with errors, or the errors would blur twice.

    Returns
    -------
    dict of str to (n,) array
        ``sph`` (ppm), ``sph_kic`` (the real star whose S_ph it is), ``flare_rate`` (a day,
        `light_curves.flares.rate`), ``prot_found`` (bool).
    """
    tree, donors = _donors()
    n = len(star["teff"])
    points = np.stack(
        [star[x] for x in ("teff_obs", "logg_obs", "mass")] + [np.log10(star["prot"])], 1
    )
    _, nearest = tree.query(points / UNIT, k=NEIGHBOURS)
    chosen = nearest[np.arange(n), rng.integers(NEIGHBOURS, size=n)]
    sph, kic = donors[chosen].T
    found = rng.random(n) < detectable(star["teff"], star["prot"])
    quieter = 10 ** (-FADED * np.abs(rng.standard_normal(n)))
    sph = np.where(found, sph, sph * quieter)
    return {
        "sph": sph,
        "flare_rate": flares.rate(star["teff"], sph),
        "sph_kic": kic.astype(np.int64),
        "prot_found": found,
    }
