"""The habits of an active star, and the spots it then has.

Two stars of one rotation period and one S_ph do not look alike: spots are few or many, live for
less than a rotation or for ten, gather at two longitudes or not, and drift apart as the star's
surface shears. `habits` draws how a star is; `spots` what happens to it. Shown in chapter 01.
"""

import numpy as np

from stellarbook.data.light_curves.spots import Spots

MISSION = 1470.5  # days, the span over which a catalogue's S_ph is measured
SHORTEST, LONGEST = 3.0, 200.0  # days that spots live


def habits(prot: float, sph: float, teff: float, rng: np.random.Generator) -> dict[str, float]:
    """Draw how one star is active.

    Parameters
    ----------
    prot, sph, teff : float
        Rotation period, days; S_ph, ppm; effective temperature, K.
    rng : numpy.random.Generator
        The same number of draws is taken for every star.

    Returns
    -------
    dict
        ``alive``: spots at a time. ``life``: the middle of their lives' distribution, days.
        ``shear``: angular velocity of the equator less that of the pole, rad/day. ``latitude`` and
        ``spread`` of the spots' belts, degrees. ``nests``: 1 if spots gather at two opposite
        longitudes, else 0. ``extent`` of a group of spots in longitude (standard deviation),
        degrees. ``faculae``: how much of a group's darkness their brightness takes away towards
        the limb. ``flicker``: the part of S_ph that does not follow the rotation, with a spectrum
        that falls beyond 1 / (2π ``memory``), days. ``cycle`` (days), ``swing`` (relative
        amplitude) and ``phase`` of the activity cycle.

    Notes
    -----
    Shear: about 0.07 rad/day, however a star rotates, more in F stars (Reinhold, Reiners & Basri
    2013, A&A 560, A4; Balona & Abedigamar 2016, MNRAS 461, 497; the numbers are remembered, not
    checked). That spots of active stars live longer follows Giles, Collier Cameron & Haywood
    (2017, MNRAS 472, 1618) in kind. All numbers but the shear's are chosen such that simulated
    curves resemble those of three real stars and the autocorrelations of some hundred others.
    """
    u, normal = rng.random(10), rng.standard_normal(4)
    rotation = 2 * np.pi / prot
    hot = np.clip((teff - 5800) / 700, 0, 1)
    shear = 10 ** (np.log10(0.065) + 0.3 * hot + 0.25 * normal[0])
    # Larger spots live longer, and they are what makes a star more active.
    life = (10 + 0.5 * prot) * (np.clip(sph, 50, 20_000) / 400) ** 0.35 * 10 ** (0.28 * normal[1])
    return {
        "alive": 10 ** (0.35 + 0.7 * u[0]),
        "life": np.clip(life, SHORTEST, LONGEST),
        "shear": min(shear, 0.4 * rotation),
        "latitude": 5 + 35 * u[1],
        "spread": 4 + 10 * u[2],
        "nests": float(u[3] < 0.3),
        "extent": 15 + 40 * u[8],
        "faculae": 1.2 * u[9] ** 2,
        "flicker": 10 ** (-1 + 0.8 * u[4]),
        "memory": prot * 0.06 * 10 ** (0.3 * normal[2]),
        "cycle": 365.25 * 10 ** (0.3 + 0.8 * u[5]),
        "swing": 0.6 * u[6],
        "phase": 2 * np.pi * u[7],
    }


def cycle(habit: dict, time) -> np.ndarray:
    """Return activity at times in days since the mission's begin, relative to the mission's mean.

    The habits may be arrays that broadcast with the times.
    """
    omega = 2 * np.pi / habit["cycle"]
    first, last = habit["phase"], omega * MISSION + habit["phase"]
    mean = 1 + habit["swing"] * (np.sin(last) - np.sin(first)) / (omega * MISSION)
    return (1 + habit["swing"] * np.cos(omega * time + habit["phase"])) / mean


def spots(star: int, habit: dict[str, float], prot, begin, end, rng) -> Spots:
    """Draw the spots that one star has between two times, days since the mission's begin.

    Their number is Poisson's; lives scatter by 0.2 dex about the star's, sizes by 0.25 dex about
    the cycle's activity; latitudes lie in two belts, north and south. The star's rotation period
    is that of the middle of its belts.
    """
    margin = 2 * habit["life"]
    n = rng.poisson(habit["alive"] / habit["life"] * (end - begin + 2 * margin))
    u, normal = rng.random((4, n)), rng.standard_normal((4, n))
    born = begin - margin + u[0] * (end - begin + 2 * margin)
    latitude = np.radians(habit["latitude"] + habit["spread"] * normal[0])
    latitude = np.clip(latitude, -1.4, 1.4) * np.where(u[1] < 0.5, 1, -1)
    middle = np.sin(np.radians(habit["latitude"])) ** 2
    longitude = 2 * np.pi * u[2]
    if habit["nests"]:
        longitude = np.pi * (u[2] < 0.4) + 0.45 * normal[1]
    return Spots(
        star=np.full(n, star),
        born=born,
        life=np.clip(habit["life"] * 10 ** (0.2 * normal[2]), SHORTEST, LONGEST),
        lead=-habit["shear"] * (np.sin(latitude) ** 2 - middle),
        longitude=longitude,
        latitude=latitude,
        size=cycle(habit, born) * 10 ** (0.25 * normal[3]),
    )
