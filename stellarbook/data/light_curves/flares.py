"""White-light flares. Shown in chapter 01."""

import numpy as np

RISE = (1.941, -0.175, -2.246, -1.125)
DECAY = ((0.6890, 1.600), (0.3030, 0.2783))
MOMENTS = 8  # of an exposure at which a flare is evaluated
LONGEST = 30  # full widths at half maximum until a flare is over


def template(t) -> np.ndarray:
    """Return the shape of a flare, 1 at its peak, at times in units of its full width t_1/2.

    Davenport et al. (2014), ApJ 797, 122, equations 1 and 4: a polynomial that rises from t = −1,
    and two exponentials. The same numbers stand in AltaiPony (Ilin 2021).
    """
    t = np.asarray(t, dtype=float)
    rise = 1 + sum(c * t ** (i + 1) for i, c in enumerate(RISE))
    late = np.maximum(t, 0)
    decay = sum(a * np.exp(-b * late) for a, b in DECAY)
    return np.where(t < -1, 0.0, np.where(t < 0, rise, decay))


def rate(teff, sph):
    """Return flares above a thousandth of the flux, a day: cool and active stars have them.

    Chosen, no published rate is behind it: a very active M star (S_ph 10,000 ppm) flares every
    ten days, an active Sun once in decades.
    """
    teff, sph = np.asarray(teff, dtype=float), np.asarray(sph, dtype=float)
    cool = 1 / (1 + np.exp((teff - 4800) / 400))
    return np.minimum(0.01 * cool * (sph / 3000) ** 2, 1.0)


def draw(rate, days: float, rng: np.random.Generator) -> np.ndarray:
    """Draw flares: (flares, 3) of peak (days), amplitude (relative flux) and width t_1/2 (days).

    Amplitudes from 0.001 to 0.3 with a cumulative number ∝ 1 / amplitude; widths about ten
    minutes, longer the larger the flare (its cube root), ± 0.2 dex. Chosen.
    """
    n = rng.poisson(rate * days)
    peak, u, scatter = rng.random((3, n))
    amplitude = np.minimum(1e-3 / (1 - u), 0.3)
    width = 0.007 * (amplitude / 1e-3) ** (1 / 3) * 10 ** (0.4 * (scatter - 0.5))
    return np.stack([peak * days, amplitude, width], axis=1)


def add_flares(flux: np.ndarray, flares: np.ndarray, cadence: float) -> None:
    """Add flares (flares, 3) to one star's curve (N,) in place; time 0 is cadence 0's middle."""
    moments = ((np.arange(MOMENTS) + 0.5) / MOMENTS - 0.5) * cadence
    for peak, amplitude, width in flares:
        first = max(0, int(np.floor((peak - width) / cadence)))
        last = min(len(flux), int(np.ceil((peak + LONGEST * width) / cadence)) + 1)
        time = np.arange(first, last)[:, None] * cadence + moments
        flux[first:last] += amplitude * template((time - peak) / width).mean(axis=1)
