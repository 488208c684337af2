"""Spots on a rotating star: born, carried round at their latitude's own speed, gone.

A spot dims its star by V(μ) = μ (1 − u₁ (1 − μ) − u₂ (1 − μ)²), μ the cosine between its normal
and the line of sight, 0 behind the limb: a rectified cosine that limb darkening bends. As the star
turns, μ = sin i sin λ … cos φ, and V is a Fourier series in the longitude φ whose coefficients
follow from the inclination and the latitude alone. So the flux of all spots of a star is

    Σₖ Re Aₖ(t) exp(i k Ω t),    Aₖ(t) = Σⱼ eⱼ(t) cⱼₖ exp(i k [φⱼ + δⱼ (t − tⱼ)]),

with the spots' sizes e over time and their lead δ over the star's mean rotation Ω. The amplitudes
Aₖ change with the spots' lives, not with the rotation: they are summed once in half a day, only
over spots that are alive, and interpolated. That is exact but for the end of the Fourier series
and for the interpolation, which is tested. Shown in chapter 01.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import csc_array

HARMONICS = 6
STEP = 24  # cadences between two sums over the spots: half a day
COARSE = 4  # cadences between two sums over the harmonics, for stars slower than SLOW
SLOW = 5.0  # days
TAPS = 8  # points that an interpolation takes into account
BEFORE = TAPS // 2  # points before cadence 0
LIMB = (0.40, 0.26)
"""Quadratic limb darkening of the Sun in Kepler's band; remembered, after Claret & Bloemen (2011),
A&A 529, A75, and not checked."""
HALF_LIFE = 2 * (1 - 2**-0.25) ** 0.5  # full width at half maximum of (1 − x²)⁴, over x's 1


@dataclass
class Spots:
    """Spots of some stars, flat arrays (spots,).

    ``star``: whose; ``born``: when they are largest, days; ``life``: full width at half maximum,
    days; ``lead``: angular velocity less the star's mean one, rad/day; ``longitude``: at ``born``
    in the frame of the mean rotation, rad; ``latitude``, rad; ``size``: relative flux that the
    spot takes away at the disc's centre.
    """

    star: np.ndarray
    born: np.ndarray
    life: np.ndarray
    lead: np.ndarray
    longitude: np.ndarray
    latitude: np.ndarray
    size: np.ndarray


def coefficients(
    inclination, latitude, extent=0.0, faculae=0.0, *, limb=LIMB, harmonics=HARMONICS
) -> np.ndarray:
    """Return the cosine series of a spot's visibility over its longitude, (..., harmonics + 1).

    Parameters
    ----------
    inclination, latitude : (...) float
        Radian; an inclination of π/2 sees the equator.
    extent : (...) float
        Of a group of spots in longitude, rad: V is blurred by a Gaussian of this standard
        deviation, which also lets the series converge.
    faculae : (...) float
        Brightness around the spots, added to u₁: none in the middle of the disc.
    limb : (float, float)
        u₁ and u₂; (0, 0) is the rectified cosine.

    Returns
    -------
    (..., harmonics + 1) array
        V(φ) = c₀ + Σ cₖ cos k φ; a point is 1 at the disc's centre.

    Notes
    -----
    By Gauss–Legendre quadrature over the longitudes in sight, from 0 to the limb.
    """
    i, b = np.broadcast_arrays(inclination, latitude)
    mean, swing = np.cos(i) * np.sin(b), np.sin(i) * np.cos(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.arccos(np.clip(-mean / swing, -1, 1))  # the longitude at which μ is 0
    limit = np.where(swing > 0, limit, np.where(mean > 0, np.pi, 0.0))
    x, weight = _quadrature(2 * harmonics)
    phi = limit[..., None] * x
    cosine = np.cos(phi)
    mu = mean[..., None] + swing[..., None] * cosine
    edge = 1 - mu
    seen = mu * (1 - (limb[0] + np.asarray(faculae)[..., None]) * edge - limb[1] * edge**2)
    visible = limit[..., None] * weight * seen
    out = np.empty((*i.shape, harmonics + 1))
    before, now = cosine, np.ones_like(cosine)  # cos(−φ), cos(0)
    for k in range(harmonics + 1):
        out[..., k] = (visible * now).sum(axis=-1) * (2 if k else 1) / np.pi
        before, now = now, 2 * cosine * now - before  # cos (k + 1) φ
    blur = np.exp(-0.5 * (np.arange(harmonics + 1) * np.asarray(extent)[..., None]) ** 2)
    return out * blur


def _quadrature(nodes: int):
    x, weight = np.polynomial.legendre.leggauss(nodes)
    return (x + 1) / 2, weight / 2


def amplitudes(
    spots: Spots, inclination, extent, faculae, points: int, step: float, *, limb=LIMB
) -> np.ndarray:
    """Sum the spots: Aₖ at times 0, step, 2 step …, (stars, points, harmonics + 1) complex64.

    Parameters
    ----------
    spots : Spots
        Their times count days from point 0.
    inclination, extent, faculae : (stars,) float
        As `coefficients` takes them.
    points : int
    step : float
        Days.
    """
    stars = len(inclination)
    star = spots.star
    each = coefficients(inclination[star], spots.latitude, extent[star], faculae[star], limb=limb)
    each *= spots.size[:, None]
    half = spots.life / HALF_LIFE
    low = np.clip(np.ceil((spots.born - half) / step), 0, points).astype(np.intp)
    high = np.clip(np.floor((spots.born + half) / step) + 1, low, points).astype(np.intp)
    count = high - low
    spot = np.repeat(np.arange(len(low)), count)  # one moment of its life a row, from here on
    point = np.arange(len(spot)) - (np.cumsum(count) - count - low)[spot]
    since = point * step - spots.born[spot]
    rise = np.float32((1 - (since / half[spot]) ** 2) ** 4)
    angle = np.float32(spots.longitude[spot] + spots.lead[spot] * since)
    turn = np.empty(len(spot), np.complex64)
    turn.real, turn.imag = np.cos(angle), np.sin(angle)
    power = np.empty((each.shape[1], len(spot)), np.complex64)
    power[0] = rise
    for k in range(1, len(power)):
        np.multiply(power[k - 1], turn, out=power[k])
    rows = np.ascontiguousarray(power.T)
    rows *= np.float32(each)[spot]
    place = np.int32(star[spot] * points + point)
    # A matrix of ones adds up what is in one place: each column has one row.
    pointer = np.arange(len(spot) + 1, dtype=np.int32)
    ones = np.ones(len(spot), np.float32)
    gather = csc_array((ones, place, pointer), (stars * points, len(spot)))
    summed = gather @ rows.view(np.float32)
    return np.ascontiguousarray(summed).view(np.complex64).reshape(stars, points, -1)


def sph(amplitude, period, points, step: float) -> np.ndarray:
    """Return S_ph of spots' amplitudes (stars, moments, harmonics + 1), (stars,).

    The mean over pieces of five rotations, as many as fit into a star's first ``points`` moments
    and at least one, of the curve's standard deviation (Mathur et al. 2014, A&A 562, A124). Within
    a piece the harmonics are taken as uncorrelated, which they are but for a few per cent.
    """
    power = (np.abs(amplitude[..., 1:]) ** 2).sum(axis=-1) / 2
    dim = amplitude[..., 0].real
    out = np.empty(len(amplitude))
    for i, (p, n) in enumerate(zip(period, points, strict=True)):
        pieces = max(1, int(n * step / (5 * p)))
        edges = np.arange(pieces + 1) * n // pieces
        total, level, square = (
            np.add.reduceat(x, edges[:-1]) / np.diff(edges)
            for x in (power[i, :n], dim[i, :n], dim[i, :n] ** 2)
        )
        out[i] = np.sqrt(np.maximum(total + square - level**2, 0)).mean()
    return out


def points_for(cadences: int) -> int:
    """How many moments `curves` interpolates between, STEP cadences apart."""
    return -(-cadences // STEP) + BEFORE + TAPS // 2 + 1


def curves(amplitude, period, cadences: int, cadence: float) -> np.ndarray:
    """Turn amplitudes into the flux that spots take away, (stars, cadences) float32.

    Parameters
    ----------
    amplitude : (stars, points, harmonics + 1) complex64
        Of `amplitudes`, every STEP cadences; cadence 0 is point BEFORE. `points_for` says how
        many are needed; more do no harm.
    period : (stars,) float
        Of the mean rotation, days.
    cadences : int
    cadence : float
        Days.
    """
    out = np.empty((len(amplitude), cadences), np.float32)
    amplitude = amplitude[:, : points_for(cadences)]
    period = np.asarray(period, dtype=float)
    for group, every in ((period < SLOW, 1), (period >= SLOW, COARSE)):
        if group.any():
            out[group] = _curves(amplitude[group], period[group], cadences, cadence, every)
    return out


def _curves(amplitude, period, cadences, cadence, every):
    """As `curves`; the harmonics are summed every so many cadences."""
    step = STEP // every
    wave = amplitude.transpose(2, 0, 1)
    parts = [_windows(x) for x in (wave.real, wave.imag)]
    time = (np.arange((wave.shape[2] - TAPS + 1) * step) - step) * (every * cadence)
    turns = time / period[:, None]
    angle = np.float32(2 * np.pi * (turns - np.floor(turns)))
    z = np.empty(angle.shape, np.complex64)
    np.cos(angle, out=z.real)
    np.sin(angle, out=z.imag)
    total = np.zeros_like(z)
    fine = np.empty(z.shape, np.float32)
    for k in range(len(wave) - 1, -1, -1):  # Horner
        for windows, into in zip(parts, (total.real, total.imag), strict=True):
            np.matmul(windows[k], _lagrange(step), out=fine.reshape(-1, step))
            into += fine
        if k:
            total *= z
    flux = np.ascontiguousarray(total.real)
    if every == 1:
        return flux[:, STEP : STEP + cadences]
    flux = (_windows(flux) @ _lagrange(every)).reshape(len(flux), -1)
    skip = STEP - (TAPS // 2 - 1) * every
    return flux[:, skip : skip + cadences]


def _windows(values: np.ndarray) -> np.ndarray:
    """Every `TAPS` neighbours of values (..., rows, n), (..., rows (n − TAPS + 1), TAPS)."""
    windows = sliding_window_view(values, TAPS, axis=-1)
    return np.ascontiguousarray(windows).reshape(*values.shape[:-2], -1, TAPS)


@cache
def _lagrange(step: int) -> np.ndarray:
    """Weights (TAPS, step) of neighbours for values between the two in the middle.

    Of the polynomial through all of them, by Lagrange's formula; the first is that of the left.
    """
    nodes = np.arange(TAPS) - (TAPS // 2 - 1)
    x = np.arange(step) / step
    weights = [
        np.prod([(x - other) / (node - other) for other in nodes if other != node], axis=0)
        for node in nodes
    ]
    return np.array(weights, dtype=np.float32)
