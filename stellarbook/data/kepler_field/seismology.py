"""Oscillations and granulation, from real fits (`catalogues.seismic`).

ν_max and Δν follow from a star's own mass, radius and temperature; the rest is that of a real star
near in Teff and log g, carried to the star's own ν_max along the trend of all of them. Nearly all
of the real stars are giants: of 13,401, some 200 have ν_max above 500 µHz. Shown in chapter 01.
"""

from functools import cache

import numpy as np
from scipy.spatial import cKDTree

from stellarbook.data.kepler_field import catalogues
from stellarbook.data.solar import SUN, large_separation

CARRIED = ("env_height", "env_width", "H_power", "H1_nu", "H2_nu")
AS_THEY_ARE = ("H1_exp", "H2_exp")
UNIT = np.array([100.0, 0.05])  # K, dex
NODES = np.geomspace(20, 4000, 11)  # µHz


@cache
def _donors():
    rows = catalogues.seismic()
    log_numax = np.log10(rows["numax"].to_numpy())
    nodes = np.log10(NODES)
    # The median between nodes; linear in the logarithms, which also goes beyond the ends.
    cell = np.digitize(log_numax, nodes)
    kept = [k for k in range(1, len(nodes)) if (cell == k).sum() >= 10]
    centres = np.array([np.median(log_numax[cell == k]) for k in kept])
    trends = {
        name: np.array([np.median(np.log10(rows[name].to_numpy()[cell == k])) for k in kept])
        for name in CARRIED
    }
    tree = cKDTree(rows[["teff", "logg"]].to_numpy() / UNIT)
    return rows, log_numax, tree, centres, trends


def draw(star: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Give stars their oscillations and granulation.

    Parameters
    ----------
    star : dict
        ``mass`` (M☉), ``radius`` (R☉), ``teff`` (K), ``logg``.

    Returns
    -------
    dict of str to (n,) array
        ``numax``, ``dnu`` (µHz), by the scaling relations of Kjeldsen & Bedding 1995; and with
        pbjam's names and formulae: the modes' envelope, ``env_height`` (ppm²/µHz), a Gaussian
        about ν_max of standard deviation ``env_width`` (µHz); granulation, two terms
        S(ν) = (H_power / ν_i) / (1 + (ν / ν_i)^c_i) with ``H_power`` (ppm²), ``H1_nu, H2_nu``
        (µHz) and ``H1_exp, H2_exp``; ``seismic_kic``, the real star behind them.
    """
    numax = SUN["numax"] * star["mass"] / star["radius"] ** 2 / np.sqrt(star["teff"] / SUN["teff"])
    dnu = large_separation(star["mass"], star["radius"])
    rows, log_numax, tree, centres, trends = _donors()
    _, nearest = tree.query(np.stack([star["teff"], star["logg"]], axis=1) / UNIT, k=4)
    chosen = nearest[np.arange(len(numax)), rng.integers(4, size=len(numax))]
    result = {"numax": numax, "dnu": dnu}
    # The trends are carried no further than to where they were seen, and a little beyond.
    there, here = log_numax[chosen], np.log10(np.clip(numax, *NODES[[0, -1]] * [0.25, 1.5]))
    for name in CARRIED:
        step = _line(here, centres, trends[name]) - _line(there, centres, trends[name])
        result[name] = rows[name].to_numpy()[chosen] * 10**step
    for name in AS_THEY_ARE:
        result[name] = rows[name].to_numpy()[chosen]
    return result | {"seismic_kic": rows["kic"].to_numpy()[chosen]}


def _line(x: np.ndarray, nodes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Interpolate linearly, and extrapolate with the last pieces' slopes."""
    low = np.clip(np.searchsorted(nodes, x) - 1, 0, len(nodes) - 2)
    slope = (values[low + 1] - values[low]) / (nodes[low + 1] - nodes[low])
    return values[low] + slope * (x - nodes[low])
