"""Companions, their orbits, and what each way of looking for binaries would notice.

Share, periods and mass ratios of Raghavan et al. 2010 (ApJS 190, 1): 44 % of Sun-like stars, log P
normal (5.03, 2.28; days), flat mass ratios. Remembered; the package COSMIC, which cites the same
paper, has 4.9 and 2.3. A companion is of its primary's age and metallicity. Shown in chapter 01.
"""

import numpy as np

from stellarbook.data import solar
from stellarbook.data.kepler_field import isochrones
from stellarbook.data.kepler_field.isochrones import MAGNITUDES

LOG_PERIOD = (5.03, 2.28)
SHORTEST, LONGEST = -0.5, 9.0  # log10 days; longer pairs would not hold together
Q_MIN = 0.1
CIRCULAR = 12.0  # d: Raghavan et al. find no eccentric orbit below (tidal circularisation)
SYNCHRONOUS = 10.0  # d: most shorter pairs rotate with their orbit (Lurie et al. 2017; remembered)
YEAR = 365.25  # d
R_SUN_AU = 0.00465047
GAIA_DAYS = 1038.0  # 34 months of DR3
K_SUN = 212.91  # km/s: (2πG M☉ / day)^(1/3)


def share(mass: np.ndarray) -> np.ndarray:
    """Return the share of stars with a companion: 26 % of M dwarfs, 44 % at 1 M☉, 50 % from 1.5."""
    return np.interp(mass, [0.3, 0.5, 1.0, 1.5], [0.26, 0.30, 0.44, 0.50])


def semi_major_axis(mass: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Return the relative orbit's semi-major axis in au by Kepler's third law.

    Parameters
    ----------
    mass : (n,) float
        Of both stars together, M☉.
    period : (n,) float
        Days.
    """
    return np.cbrt(mass * (period / YEAR) ** 2)


def roche(q: np.ndarray) -> np.ndarray:
    """Return the Roche lobe's radius over the separation (Eggleton 1983, eq. 2).

    ``q`` is the mass of the star whose lobe it is over the other's.
    """
    third = np.cbrt(q)
    return 0.49 * third**2 / (0.6 * third**2 + np.log1p(third))


def velocity_amplitude(m1, m2, period, eccentricity, inclination):
    """Return the primary's radial-velocity amplitude K₁ in km/s (M☉, days, radians)."""
    return (
        K_SUN
        * m2
        * np.sin(inclination)
        / ((m1 + m2) ** (2 / 3) * np.cbrt(period) * np.sqrt(1 - eccentricity**2))
    )


def anomaly(mean: np.ndarray, eccentricity: np.ndarray) -> np.ndarray:
    """Return the true anomaly from the mean anomaly: Kepler's equation by Newton's method."""
    mean = np.mod(mean + np.pi, 2 * np.pi) - np.pi
    e = eccentricity
    x = mean + e * np.sign(np.sin(mean)) * 0.85  # Danby's start converges for every e < 1
    for _ in range(8):
        x = x - (x - e * np.sin(x) - mean) / (1 - e * np.cos(x))
    return 2 * np.arctan2(np.sqrt(1 + e) * np.sin(x / 2), np.sqrt(1 - e) * np.cos(x / 2))


def mean_anomaly(true: np.ndarray, eccentricity: np.ndarray) -> np.ndarray:
    """Return the mean anomaly from the true anomaly, `anomaly`'s inverse."""
    e = eccentricity
    x = 2 * np.arctan2(np.sqrt(1 - e) * np.sin(true / 2), np.sqrt(1 + e) * np.cos(true / 2))
    return x - e * np.sin(x)


def draw(star: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Give primaries their companions.

    Parameters
    ----------
    star : dict
        ``age``, ``mh``, ``mass_initial``, ``radius`` (R☉) of the primaries.

    Returns
    -------
    dict of str to (n,) array
        ``binary`` (bool) and, NaN where single: ``m2`` (M☉), ``q``, ``porb`` (d),
        ``eccentricity``, ``orbit_inclination``, ``periastron``, ``phase0`` (mean anomaly at time
        0; all three in rad), ``a`` (au), ``teff2`` (K), ``logg2``, ``radius2`` (R☉), ``light2``
        (share of the G light that is the companion's), ``touching`` (bool: was drawn inside the
        Roche limit and is single therefore); absolute magnitudes of system: `MAGNITUDES`.
    """
    n = len(star["mass_initial"])
    m1 = star["mass_initial"]
    binary = rng.random(n) < share(m1)
    q = rng.uniform(Q_MIN, 1, n)
    # Redrawing what lies outside: clipping would pile binaries up at one period.
    log_p = np.full(n, np.inf)
    while (wrong := (log_p > LONGEST) | (log_p < SHORTEST)).any():
        log_p[wrong] = rng.normal(*LOG_PERIOD, wrong.sum())
    porb = 10**log_p
    longest_axis = np.where(porb > CIRCULAR, 1 - (porb / CIRCULAR) ** (-2 / 3), 0)
    eccentricity = longest_axis * 0.95 * rng.random(n)
    orbit_inclination = np.arccos(rng.random(n))  # isotropic
    periastron, phase0 = rng.uniform(0, 2 * np.pi, (2, n))
    m2 = np.maximum(q * m1, 0.1)
    q = m2 / m1
    companion = isochrones.load().dwarf(star["mh"], np.log10(star["age"]) + 9, m2)
    radius2 = solar.radius(companion["mass"], companion["logg"])
    a = semi_major_axis(m1 + m2, porb)
    nearest = a * (1 - eccentricity) / R_SUN_AU  # R☉
    touching = (star["radius"] > nearest * roche(1 / q)) | (radius2 > nearest * roche(q))
    touching &= binary
    binary = binary & ~touching
    system, light2 = {}, np.zeros(n)
    for name in MAGNITUDES:
        ratio = np.where(binary, 10 ** (0.4 * (star[name] - companion[name])), 0)
        system[name] = star[name] - 2.5 * np.log10(1 + ratio)
        if name == "g":
            light2 = ratio / (1 + ratio)
    alone = {
        "m2": m2,
        "q": q,
        "porb": porb,
        "eccentricity": eccentricity,
        "orbit_inclination": orbit_inclination,
        "periastron": periastron,
        "phase0": phase0,
        "a": a,
        "teff2": 10 ** companion["log_teff"],
        "logg2": companion["logg"],
        "radius2": radius2,
    }
    alone = {name: np.where(binary, value, np.nan) for name, value in alone.items()}
    return {"binary": binary, "touching": touching, "light2": light2} | alone | system


def eclipses(star: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Work out which pairs eclipse, how deep and how long.

    Parameters
    ----------
    star : dict
        The orbit (as `draw` gives it), ``radius``, ``teff``, ``light2`` and the companion's.

    Returns
    -------
    dict of str to (n,) array
        As `light_curves.simulate` reads them. ``eclipse_depth``, ``eclipse_second_depth``: lost
        share of the light while the companion is in front and while it is behind (0: none; uniform
        discs, black bodies in the ratio of ``light2``); ``eclipse_duration`` (d, first to last
        contact of the former, of the latter where that is all there is, 0 if there is neither).
        ``eclipse_epoch`` (d), when the companion is in front for the first time after time 0;
        ``eclipse_second_phase``, when it is behind, in periods later; both of every pair.
        ``eclipse_period`` (d), NaN of pairs without eclipses.
    """
    r1, r2 = star["radius"], star["radius2"]
    e, w = star["eccentricity"], star["periastron"]
    separation = star["a"] / R_SUN_AU * (1 - e**2)
    depths, durations, moments = [], [], []
    light = (1 - star["light2"], star["light2"])
    for sign, hidden, behind, front in ((1, light[0], r1, r2), (-1, light[1], r2, r1)):
        d = separation / (1 + sign * e * np.sin(w))
        impact = d * np.cos(star["orbit_inclination"])
        depth = hidden * overlap(behind, front, impact)
        depths.append(np.nan_to_num(depth))
        chord = np.sqrt(np.maximum((r1 + r2) ** 2 - impact**2, 0))
        speed = (
            2 * np.pi * separation / star["porb"] * (1 + sign * e * np.sin(w)) / (1 - e**2) ** 1.5
        )
        durations.append(np.nan_to_num(2 * chord / speed) * (depths[-1] > 0))
        # The primary is nearest to us, or farthest, where its true anomaly and ω make ∓ π/2.
        moments.append((mean_anomaly(sign * np.pi / 2 - w, e) - star["phase0"]) / (2 * np.pi) % 1)
    either = (depths[0] > 0) | (depths[1] > 0)
    return {
        "eclipse_period": np.where(either, star["porb"], np.nan),
        "eclipse_epoch": moments[0] * star["porb"],
        "eclipse_depth": depths[0],
        "eclipse_duration": np.where(depths[0] > 0, *durations),
        "eclipse_second_depth": depths[1],
        "eclipse_second_phase": (moments[1] - moments[0]) % 1,
    }


def overlap(behind: np.ndarray, front: np.ndarray, impact: np.ndarray) -> np.ndarray:
    """Return the share of a disc of radius ``behind`` that one of radius ``front`` covers."""
    b, r1, r2 = np.maximum(impact, 1e-12), behind, front
    with np.errstate(invalid="ignore"):
        one = np.arccos(np.clip((b**2 + r1**2 - r2**2) / (2 * b * r1), -1, 1))
        two = np.arccos(np.clip((b**2 + r2**2 - r1**2) / (2 * b * r2), -1, 1))
        kite = (-b + r1 + r2) * (b + r1 - r2) * (b - r1 + r2) * (b + r1 + r2)
        area = r1**2 * one + r2**2 * two - 0.5 * np.sqrt(np.maximum(kite, 0))
        return np.where(b >= r1 + r2, 0, np.minimum(area / (np.pi * r1**2), 1))
