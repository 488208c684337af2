"""What surveys would report of the simulated stars: labels with errors, RUWE, velocities, flags.

The flags are those by which DESA's section 6.3 finds binaries (RUWE, radial velocity, eclipses,
orbits of Gaia's non-single stars), each sensitive to some pairs and blind to most. Shown in
chapter 01.
"""

import numpy as np
import pandas as pd
from scipy.stats import chi2

from stellarbook.data.kepler_field import isochrones
from stellarbook.data.kepler_field.binaries import GAIA_DAYS, anomaly, velocity_amplitude
from stellarbook.data.kepler_field.population import EXTINCTION

RUWE_BINARY = 1.4
RUWE_SINGLE = 1.2
RV_LIMIT = 13.0  # G: Gaia publishes whether a velocity varies only for bright stars
RV_EPOCHS = 15
RV_P = 1e-3  # of constant stars are called variable
MISSING = {"teff_obs": 0.04, "logg_obs": 0.04, "feh_obs": 0.06, "radius_obs": 0.1, "ruwe": 0.03}
ERROR = {"teff": 0.015, "logg": 0.06, "feh": 0.05, "radius": 0.05, "prot": 0.04}
# LAMOST visited many stars of the field again: share that gets a further spectrum each time.
AGAIN, MOST_VISITS = 0.35, 6


def astrometric_error(g: np.ndarray) -> np.ndarray:
    """Return Gaia's error along scan of one transit, mas: 0.12 to G = 13.5, 0.4 at 16.

    Rounded from Lindegren et al. 2021, A&A 649, A2, fig. A.1; remembered.
    """
    return 0.12 * 10 ** (0.21 * np.maximum(g - 13.5, 0))


def wobble(star: dict[str, np.ndarray]) -> np.ndarray:
    """Return the standard deviation (mas) of the photocentre's motion that five parameters leave.

    A pair's light moves by a |m₂/(m₁+m₂) − l₂| / distance. Orbits longer than Gaia's 34 months look
    straight in part and are absorbed in the proper motion: reduced by (34 months / P)², as the
    sagitta of an arc (after Penoyre et al. 2020, MNRAS 495, 321).
    """
    offset = np.abs(star["q"] / (1 + star["q"]) - star["light2"])
    axis = 1000 * star["a"] * offset / star["distance"]  # au / pc = arcsec
    tilt = np.sqrt((1 + np.cos(star["orbit_inclination"]) ** 2) / 2)
    part = np.minimum(1, (GAIA_DAYS / star["porb"]) ** 2)
    return np.nan_to_num(axis * tilt / np.sqrt(2) * part)


def blend(star: dict[str, np.ndarray]) -> np.ndarray:
    """Return what a half-resolved companion, 0.1″–1.2″ away, adds to RUWE's excess.

    Such pairs confuse the fit of every transit; how much is our choice, eight times the ratio of
    the fluxes, so that a companion 2.5 mag fainter is noticed.
    """
    apart = star["a"] / star["distance"]  # au / pc = arcsec
    with np.errstate(invalid="ignore"):
        seen = (apart > 0.1) & (apart < 1.2)
    return np.where(seen, 8 * star["light2"] / (1 - star["light2"]), 0)


def amplitude(star: dict[str, np.ndarray]) -> np.ndarray:
    """Return the primary's radial-velocity amplitude K₁ in km/s; NaN for single stars."""
    names = ("mass_initial", "m2", "porb", "eccentricity", "orbit_inclination")
    return velocity_amplitude(*(star[name] for name in names))


def velocity(star: dict[str, np.ndarray], time: np.ndarray) -> np.ndarray:
    """Return the primary's orbital velocity in km/s, (n, times), at times (n, times) in days.

    v = K₁ [cos(ω + ν) + e cos ω]; 0 for single stars.
    """
    mean = star["phase0"][:, None] + 2 * np.pi * time / star["porb"][:, None]
    e, w = star["eccentricity"][:, None], star["periastron"][:, None]
    k1 = amplitude(star)
    v = np.zeros(time.shape)
    pair = star["binary"]
    nu = anomaly(mean[pair], e[pair])
    v[pair] = k1[pair, None] * (np.cos(w[pair] + nu) + e[pair] * np.cos(w[pair]))
    return v


def spectroscopy(star: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Measure ``teff_obs, logg_obs, feh_obs, radius_obs`` with `ERROR`; none is missing yet."""
    normal = rng.standard_normal
    n = len(star["teff"])
    return {
        "teff_obs": star["teff"] * (1 + ERROR["teff"] * normal(n)),
        "logg_obs": star["logg"] + ERROR["logg"] * normal(n),
        "feh_obs": star["feh"] + ERROR["feh"] * normal(n),
        "radius_obs": star["radius"] * (1 + ERROR["radius"] * normal(n)),
    }


def draw(star: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Observe stars.

    Parameters
    ----------
    star : dict
        Everything that the other modules of this package drew.

    Returns
    -------
    dict of str to (n,) array
        ``teff_obs, logg_obs, feh_obs, radius_obs, prot_obs, sph_obs``, with errors as surveys have
        them, NaN where missing; ``parallax``, ``parallax_error`` (mas), ``a_v_obs``,
        ``m_g`` and ``bprp0`` (absolute magnitude and colour, corrected for ``a_v_obs``), ``ruwe``,
        ``k1`` (km/s, truth), ``delta_k_iso`` (mag), ``rv_variable``, ``eclipsing``, ``nss`` (bool),
        ``n_visits``.
    """
    n = len(star["teff"])
    normal = rng.standard_normal
    seen = {x: star[x] for x in ("teff_obs", "logg_obs", "feh_obs", "radius_obs")}
    g = star["g_mag"]
    error = 0.02 * 10 ** (0.2 * np.maximum(g - 14.5, 0))  # mas, Gaia DR3; about 0.04 at G = 16
    seen["parallax_error"] = error
    seen["parallax"] = 1000 / star["distance"] + error * normal(n)
    seen["a_v_obs"] = star["a_v"] * np.exp(0.15 * normal(n))
    with np.errstate(invalid="ignore"):
        modulus = 10 - 5 * np.log10(seen["parallax"])  # NaN where the parallax is not positive
    seen["m_g"] = g - modulus - EXTINCTION["g"] * seen["a_v_obs"]
    seen["bprp0"] = star["bp_mag"] - star["rp_mag"] - 0.449 * seen["a_v_obs"]

    # More luminous in K than a single dwarf of the same Teff and [Fe/H], 2 Gyr old: negative.
    alone = isochrones.load().dwarf_of_teff(
        seen["feh_obs"], np.full(n, 9.3), np.log10(seen["teff_obs"])
    )
    seen["delta_k_iso"] = star["k_mag"] - modulus - EXTINCTION["k"] * seen["a_v_obs"] - alone["k"]

    excess = np.hypot(wobble(star) / astrometric_error(g), blend(star))
    seen["ruwe"] = np.sqrt(1 + excess**2) * np.exp(0.06 * normal(n))
    seen["k1"] = amplitude(star)
    time = rng.uniform(0, GAIA_DAYS, (n, RV_EPOCHS))
    sigma = 0.3 + 2.7 * 10 ** (0.4 * (np.minimum(g, RV_LIMIT) - RV_LIMIT))  # km/s an epoch
    measured = velocity(star, time) + sigma[:, None] * normal((n, RV_EPOCHS))
    score = RV_EPOCHS * measured.var(axis=1) / sigma**2
    seen["rv_variable"] = (g < RV_LIMIT) & (score > chi2.isf(RV_P, RV_EPOCHS - 1))
    with np.errstate(invalid="ignore"):
        deep = np.maximum(star["eclipse_depth"], star["eclipse_second_depth"]) > 1e-3
        # Kepler saw four years: two eclipses of a pair within them.
        seen["eclipsing"] = deep & (star["porb"] < 700)
        solved = (star["porb"] < GAIA_DAYS) & (rng.random(n) < 0.5)
        bright = (g < RV_LIMIT) & (score > 4 * chi2.isf(RV_P, RV_EPOCHS - 1))
        seen["nss"] = solved & ((excess > 5) | bright)
    seen["n_visits"] = np.minimum(rng.geometric(1 - AGAIN, n), MOST_VISITS)

    found = star["prot_found"]
    seen["prot_obs"] = np.where(found, star["prot"] * (1 + ERROR["prot"] * normal(n)), np.nan)
    seen["sph_obs"] = np.where(found, star["sph"], np.nan)
    for name, share in MISSING.items():
        seen[name] = np.where(rng.random(n) < share, np.nan, seen[name])
    return seen


def visits(star: dict[str, np.ndarray], rng: np.random.Generator) -> pd.DataFrame:
    """List the spectra: when each was taken, the velocities then, and its S/N.

    Returns
    -------
    DataFrame
        As `KeplerField.visits` says.
    """
    row = np.repeat(np.arange(len(star["n_visits"])), star["n_visits"])
    first = np.repeat(np.cumsum(star["n_visits"]) - star["n_visits"], star["n_visits"])
    orbit = ("binary", "phase0", "porb", "eccentricity", "periastron", "orbit_inclination")
    pairs = {name: star[name][row] for name in (*orbit, "mass_initial", "m2", "rv", "g_mag")}
    time = rng.uniform(1000, 3500, len(row))  # seven seasons, from autumn 2011
    v = velocity(pairs, time[:, None])[:, 0]
    ratio = pairs["m2"] / pairs["mass_initial"]
    # Brighter stars get better spectra: 30 at G = 14.5, with the scatter of fibres and nights.
    snr = 30 * 10 ** (-0.15 * (pairs["g_mag"] - 14.5) + 0.2 * rng.standard_normal(len(row)))
    return pd.DataFrame(
        {
            "source_id": star["source_id"][row],
            "visit": np.arange(len(row)) - first,
            "time": time,
            "rv": pairs["rv"] + v,
            "rv2": pairs["rv"] - v / ratio,
            "snr": snr,
        }
    )
