"""Light curves of simulated stars, as Kepler would have measured them. Shown in chapter 01."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from stellarbook.data.cadences import LONG_CADENCE
from stellarbook.data.light_curves import (
    activity,
    eclipses,
    flares,
    granulation,
    noise,
    quarters,
    spots,
)
from stellarbook.data.light_curves.streams import streams

NEEDED = ("prot", "sph", "kp", "teff", "logg")
ECLIPSE = ("eclipse_period", "eclipse_depth", "eclipse_duration")
PARTS = ("spots", "granulation", "flares", "eclipses", "noise", "telescope", "gaps")
CHUNK = 2**17  # cadences at a time: what stays in a core's cache


class LightCurves(NamedTuple):
    """What `simulate` returns.

    ``flux``: (B, N) float32, relative flux of median 1, NaN in gaps. ``time``: (N,) float64, days
    since BJD 2454833, every 29.4 minutes, without gaps. ``quarter``: (N,) int. ``truth``: a table
    of B rows, indexed as the stars.
    """

    flux: np.ndarray
    time: np.ndarray
    quarter: np.ndarray
    truth: pd.DataFrame


def simulate(
    stars: pd.DataFrame,
    *,
    days: float = 4500 * LONG_CADENCE,
    seed: int = 0,
    start: float | None = None,
    parts: tuple[str, ...] = PARTS,
) -> LightCurves:
    """Simulate what Kepler would have measured of stars: light curves of *simulated stars*.

    Parameters
    ----------
    stars : DataFrame
        One star a row. Its index holds whole numbers ≥ 0, which name the stars: together with the
        seed they settle all that is random about a star, whatever stands beside it in the table.

        Needed: ``prot``, rotation period (days), and ``sph``, its photometric activity S_ph over
        the mission (ppm), NaN or 0 for a star without spots; ``kp``, Kepler magnitude; ``teff``
        (K); ``logg``.

        Optional, and so is each of their values (NaN: unknown): ``mass`` (solar; 1); ``numax``
        (µHz; from logg and Teff); ``inclination`` of the rotation axis (degrees, 90 sees the
        equator; isotropic); ``flare_rate`` (flares above 0.1 % a day; from Teff and S_ph);
        ``eclipse_period`` (days), ``eclipse_depth`` (relative flux), ``eclipse_duration`` (days,
        first to last contact) and, with these three, ``eclipse_epoch`` (days since BJD 2454833;
        random), ``eclipse_second_depth`` (0) and ``eclipse_second_phase`` (0.5).
    days : float
        Length, up to the mission's four years. The default is 4,500 cadences.
    seed : int
        0 to 2⁶⁴ − 1.
    start : float
        First cadence, days since BJD 2454833. By default quarter 2 begins with it, or quarter 0
        if the days would not fit otherwise.
    parts : tuple of str
        What is simulated, of `PARTS`. What is left changes no random number of the others.

    Returns
    -------
    LightCurves
        ``truth`` holds what was drawn: the star's habits (`activity.habits`), ``inclination``,
        ``sph_span`` (S_ph that the spots and the flicker have here: that of the mission times the
        cycle's phase), ``noise`` (ppm, of one cadence), ``granulation`` (ppm, rms of both
        components), ``numax``, ``flare_rate`` and ``flares`` (how many), ``eclipse_epoch``.

    Raises
    ------
    ValueError
        If there are no stars, a column is missing, an index value is no whole number, one of kp,
        teff and logg is not finite, a part is unknown, or the days do not lie within the mission.

    Notes
    -----
    Spots (`spots`, `activity`), granulation, oscillations and flicker (`granulation`), flares
    (`flares`), eclipses (`eclipses`), white noise (`noise`) and what the telescope does
    (`quarters`). Not modelled: single modes, spots that an eclipse crosses, ellipsoidal
    and reflected light of close pairs, pulsators, neighbours in the aperture, outliers. Shown in
    chapter 01.
    """
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise ValueError(f"parts {sorted(unknown)}: expected some of {', '.join(PARTS)}")
    columns = _columns(stars)
    if start is None:
        second = quarters.STARTS[1]
        start = second if second + days <= quarters.LAST else quarters.FIRST
    clock = quarters.clock(quarters.cadences(days, start))
    n = len(clock.time)
    flux = np.empty((len(stars), n), np.float32)
    truth = []
    # Together go stars that turn alike: one that takes years costs its neighbours time.
    order = np.argsort(columns["prot"], kind="stable")
    for rows in np.split(order, np.arange(max(1, CHUNK // n), len(order), max(1, CHUNK // n))):
        some = {name: x[rows] for name, x in columns.items()}
        flux[rows], known = _simulate(some, clock, seed, parts)
        truth.append(pd.DataFrame(known, index=rows))
    table = pd.concat(truth).sort_index().set_index(stars.index)
    return LightCurves(flux, clock.time, clock.quarter, table)


def _columns(stars: pd.DataFrame) -> dict[str, np.ndarray]:
    """The stars' columns as arrays (stars,), defaults filled in; ``name`` is the index."""
    missing = [name for name in NEEDED if name not in stars]
    if missing:
        raise ValueError(f"stars: expected columns {', '.join(missing)}")
    index = stars.index.to_numpy()
    if not len(stars):
        raise ValueError("stars: expected at least one")
    if not (np.issubdtype(index.dtype, np.integer) and index.min() >= 0):
        raise ValueError("stars: expected an index of whole numbers, 0 or greater")

    def column(name, default=np.nan):
        if name not in stars:
            return np.full(len(stars), default)
        values = stars[name].to_numpy(dtype=float, na_value=np.nan)
        return np.where(np.isnan(values), default, values)

    out = {name: column(name) for name in (*NEEDED, "inclination", "numax", *ECLIPSE)}
    for name in ("kp", "teff", "logg"):
        if not np.isfinite(out[name]).all():
            raise ValueError(f"stars: expected finite {name}")
    out |= {"name": index.astype(np.uint64), "mass": column("mass", 1.0)}
    out["numax"] = np.where(
        np.isnan(out["numax"]), granulation.numax_of(out["teff"], out["logg"]), out["numax"]
    )
    spotted = (out["prot"] > 0) & (out["sph"] > 0)
    out["sph"] = np.where(spotted, out["sph"], 0.0)
    out["prot"] = np.where(spotted, out["prot"], 25.0)  # any: nothing is seen of it
    rate = flares.rate(out["teff"], out["sph"])
    given = column("flare_rate")
    out["flare_rate"] = np.where(np.isnan(given), rate, given)
    for name, default in (("epoch", np.nan), ("second_depth", 0.0), ("second_phase", 0.5)):
        out[f"eclipse_{name}"] = column(f"eclipse_{name}", default)
    return out


def _simulate(stars, clock, seed, parts):
    """Flux (stars, N) and truth of a few stars."""
    n = len(clock.time)

    def own(part):
        return streams(seed, stars["name"], part)

    habits, uniform, normal = [], [], []
    for *star, rng in zip(*(stars[key] for key in ("prot", "sph", "teff")), own(0), strict=True):
        habits.append(activity.habits(*star, rng))
        uniform.append(rng.random(2))
        normal.append(rng.standard_normal(2))
    uniform, normal = np.array(uniform).T, np.array(normal).T
    habit = {key: np.array([h[key] for h in habits]) for key in habits[0]}
    isotropic = np.degrees(np.arccos(uniform[0]))
    inclination = np.where(np.isnan(stars["inclination"]), isotropic, stars["inclination"])
    epoch = clock.time[0] + uniform[1] * stars["eclipse_period"]
    epoch = np.where(np.isnan(stars["eclipse_epoch"]), epoch, stars["eclipse_epoch"])
    # Stars scatter about the scalings and lie above the noise's lower envelope.
    louder = 10 ** (0.18 * normal[0])
    white = noise.long_cadence_noise(stars["kp"]) * 10 ** (0.06 * np.abs(normal[1]))

    begin = clock.time[0] - quarters.FIRST
    length = n * LONG_CADENCE
    # Five rotations are needed for S_ph; of giants that take years, no more than the mission saw.
    span = np.maximum(length, np.minimum(5 * stars["prot"], activity.MISSION))
    moments = begin + span[:, None] * np.linspace(0, 1, 64)
    columns = {key: values[:, None] for key, values in habit.items()}
    sph = stars["sph"] * activity.cycle(columns, moments).mean(axis=1)
    flicker = habit["flicker"] * sph
    flux = np.ones((len(stars["name"]), n), np.float32)
    truth = habit | {
        "inclination": inclination,
        "sph_span": sph,
        "noise": 1e6 * white,
        "numax": stars["numax"],
        "flare_rate": stars["flare_rate"],
        "flares": np.zeros(len(flux), int),
        "eclipse_epoch": epoch,
    }

    if "spots" in parts and sph.any():
        flux -= _spots(stars, habits, inclination, sph, flicker, span, begin, n, own(1))
    background = granulation.background(
        stars["teff"],
        stars["logg"],
        stars["mass"],
        stars["numax"],
        flicker if "spots" in parts else 0.0,
        1e6 / 86400 / (2 * np.pi * habit["memory"]),
    )
    background = background._replace(
        amplitude=background.amplitude * louder, height=background.height * louder**2
    )
    truth["granulation"] = 2**0.5 * background.amplitude
    if "granulation" not in parts:
        nothing = np.zeros(len(flux))
        background = background._replace(amplitude=nothing, height=nothing)
    if "granulation" in parts or background.flicker.any():
        ripple = granulation.curves(background, n, own(2))
        ripple *= np.float32(1e-6)
        flux += ripple
    if "flares" in parts:
        found = [
            flares.draw(rate, length, rng)
            for rate, rng in zip(stars["flare_rate"], own(3), strict=True)
        ]
        for row, some in zip(flux, found, strict=True):
            flares.add_flares(row, some, LONG_CADENCE)
        truth["flares"] = np.array([len(some) for some in found])
    if "eclipses" in parts:
        deep = (stars["eclipse_depth"] > 0) | (stars["eclipse_second_depth"] > 0)
        for i in np.flatnonzero((stars["eclipse_period"] > 0) & deep):
            keys = ("period", "depth", "duration", "second_depth", "second_phase")
            star = {key: stars[f"eclipse_{key}"][i] for key in keys} | {"epoch": epoch[i]}
            eclipses.add_eclipses(flux[i], clock.time, star, LONG_CADENCE)
    if "telescope" in parts:
        flux *= quarters.systematics(clock, np.maximum(white, 1e-4), own(4))
    if "noise" in parts:
        for row, sigma, rng in zip(flux, white, own(5), strict=True):
            row += np.float32(sigma) * rng.standard_normal(n, dtype=np.float32)
    if "gaps" in parts:
        for row, rng in zip(flux, own(6), strict=True):
            row[quarters.lost(n, rng)] = np.nan
        flux[:, clock.gap] = np.nan
    for row in flux:
        row /= np.median(row[~np.isnan(row)])
    return flux, truth


def _spots(stars, habits, inclination, sph, flicker, span, begin, n, rngs):
    """What spots take away, (stars, n) relative flux."""
    step = spots.STEP * LONG_CADENCE
    # Each star has its own number of moments: those it needs, and five rotations for its S_ph.
    moments = np.maximum(spots.points_for(n), np.ceil(span / step).astype(int))
    origin = begin - spots.BEFORE * step
    each = [
        activity.spots(i, habit, prot, origin, origin + m * step, rng)
        for i, (habit, prot, m, rng) in enumerate(
            zip(habits, stars["prot"], moments, rngs, strict=True)
        )
    ]
    together = spots.Spots(
        *(np.concatenate([getattr(x, name) for x in each]) for name in spots.Spots.__annotations__)
    )
    together.born -= origin
    extent = np.radians([habit["extent"] for habit in habits])
    faculae = np.array([habit["faculae"] for habit in habits])
    amplitude = spots.amplitudes(
        together, np.radians(inclination), extent, faculae, moments.max(), step
    )
    raw = spots.sph(amplitude, stars["prot"], moments, step)
    wanted = 1e-6 * np.sqrt(np.maximum(sph**2 - flicker**2, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(raw > 0, wanted / raw, 0.0)
    taken = spots.curves(amplitude, stars["prot"], n, LONG_CADENCE)
    taken *= np.float32(scale)[:, None]
    return taken
