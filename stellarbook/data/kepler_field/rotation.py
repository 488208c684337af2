"""How fast the stars rotate: clusters' gyrochronology, weakened braking, tides, hot stars.

Shown in chapter 01, with what is not modelled: no rotation period gap (McQuillan et al. 2013), no
dependence on metallicity beyond temperature.
"""

import numpy as np

from stellarbook.data.kepler_field import gyrochronology
from stellarbook.data.kepler_field.binaries import SYNCHRONOUS

ROSSBY = 2.0  # where magnetic braking weakens (van Saders et al. 2016, scaled to this τ)
# Above these temperatures (K) stars are born without the wind that brakes them; their periods:
# median in days, scatter in dex. Chosen on the half "draw" of the real stars.
KRAFT = (6300.0, 6600.0)
HOT = (7.0, 0.35)
FAST = (0.02, 0.9)  # periods of stars not yet on the slow sequence, over its period: from, to
SCATTER = 0.12  # of a field star's period beyond a cluster's: metallicity, latitude of the spots
TIDES = 0.9  # share of the pairs closer than `SYNCHRONOUS` that rotate with their orbit


def turnover(teff: np.ndarray) -> np.ndarray:
    """Return the convective turnover time in days (Cranmer & Saar 2011, ApJ 741, 54, eq. 36).

    Remembered: 314.24 exp(−(T/1952.5) − (T/6250)¹⁸) + 0.002, for 3300–7000 K. It gives the Sun 12.9
    days, that is a Rossby number of 2, which is where braking weakens: hence `ROSSBY`.
    """
    teff = np.clip(teff, 3300, 7000)
    return 314.24 * np.exp(-(teff / 1952.5) - (teff / 6250) ** 18) + 0.002


def draw(star: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Give stars their rotation periods.

    Parameters
    ----------
    star : dict
        ``age`` (Gyr), ``teff`` (K), ``radius`` (R☉), ``phase``, ``teff_zams`` (K) and
        ``radius_zams`` (R☉, of the same mass at the start of the main sequence), ``binary``,
        ``porb`` (d), ``eccentricity``, ``orbit_inclination`` (rad).

    Returns
    -------
    dict of str to (n,) array
        ``prot`` (d); ``rossby``, over the turnover time; ``synchronised`` (bool), ``fast`` (bool:
        not on the slow sequence yet); ``inclination`` (of the axis, rad: isotropic, the
        orbit's where tides have aligned them).
    """
    n = len(star["age"])
    dwarf = star["phase"] == 0
    teff = np.where(dwarf, star["teff"], star["teff_zams"])
    slow = braked(teff, star["age"])
    sigma = np.hypot(gyrochronology.width(star["age"]), SCATTER * slow)
    cool = np.maximum(slow + sigma * rng.standard_normal(n), 0.25 * slow)
    fast = rng.random(n) < gyrochronology.fast_share(teff, star["age"], slow)
    cool = np.where(fast, rng.uniform(*FAST, n) * slow, cool)

    hot = HOT[0] * 10 ** (HOT[1] * rng.standard_normal(n))
    # What counts is how hot a star began. The edge varies from star to star.
    share = np.clip((star["teff_zams"] - KRAFT[0]) / (KRAFT[1] - KRAFT[0]), 0, 1)
    is_hot = rng.random(n) < share
    prot = np.where(is_hot, hot, cool)

    # Stars that leave the main sequence keep their angular momentum, less a weak wind's.
    swelling = np.maximum(star["radius"] / (1.3 * star["radius_zams"]), 1)
    prot = np.where(dwarf, prot, prot * swelling**1.6)

    with np.errstate(invalid="ignore"):
        close = star["binary"] & (star["porb"] < SYNCHRONOUS)
    near = close & (rng.random(n) < TIDES)
    period = star["porb"] / pseudosynchronous(star["eccentricity"])
    prot = np.where(near, np.nan_to_num(period, nan=1.0), prot)
    prot = np.maximum(prot, breakup(star["mass"], star["radius"]))
    return {
        "prot": prot,
        "rossby": prot / turnover(star["teff"]),
        "synchronised": near,
        "fast": fast & ~near & ~is_hot,
        "inclination": np.where(near, star["orbit_inclination"], np.arccos(rng.random(n))),
    }


def braked(teff: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return the slow sequence's period (d), its growth stopped where braking weakens.

    It stops at the Rossby number `ROSSBY`. Above 5700 K M67 rotates more slowly than that; there
    it stops half way between the two (in the logarithm), for they cannot both be right and the
    field's F stars lie between. Equation and clusters of `gyrochronology.slow_sequence`, which is
    used outside its 3800–6200 K as at its ends.
    """
    period = gyrochronology.slow_sequence(teff, age)
    in_m67 = gyrochronology.slow_sequence(teff, np.minimum(age, gyrochronology.AGES[-1]))
    limit = ROSSBY * turnover(teff)
    return np.minimum(period, np.where(in_m67 > limit, np.sqrt(in_m67 * limit), limit))


def pseudosynchronous(eccentricity: np.ndarray) -> np.ndarray:
    """Return how often tides let a star turn per orbit: its pace at periastron prevails.

    Hut 1981, A&A 99, 126, eq. 42; 1 in a circular orbit. Remembered, and checked in the tests by
    what it must do: 1 + 6 e² to first order.
    """
    e2 = eccentricity**2
    return (1 + e2 * (7.5 + e2 * (5.625 + 0.3125 * e2))) / (
        (1 + e2 * (3 + 0.375 * e2)) * (1 - e2) ** 1.5
    )


def breakup(mass: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return the Keplerian period at the equator, days: no star rotates faster.

    Kepler's third law at one radius: 0.1159 d √(R³/M) in solar units.
    """
    return 0.11588 * np.sqrt(radius**3 / mass)
