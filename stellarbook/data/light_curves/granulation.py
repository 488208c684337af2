"""Granulation, solar-like oscillations and flicker of activity: Gaussian noise of a known spectrum.

A power spectral density in ppm²/µHz, one-sided: its integral over frequency is the variance. What
a cadence of half an hour sees of it is averaged over the exposure and, above 283 µHz, folded back.
Individual modes are not simulated, only the envelope of their power. Shown in chapter 01.
"""

from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfftfreq

from stellarbook.data import solar
from stellarbook.data.cadences import LONG_CADENCE
from stellarbook.data.solar import SUN

SAMPLING = 1e6 / (86400 * LONG_CADENCE)  # µHz
ALIASES = 3  # pairs of bands above the Nyquist frequency that are folded back
FOLDED = 33  # frequencies at which these are summed; between them, lines
ROOM = 512  # cadences: a transform's end meets its start; by so much it is longer than the curve


class Background(NamedTuple):
    """Spectra of some stars' noise, arrays (stars,), amplitudes in ppm, frequencies in µHz.

    ``amplitude``: rms of each of the two components of granulation, with the frequencies ``slow``
    and ``fast``; ``numax``, ``width`` (full, at half maximum) and ``height`` (ppm²/µHz) of the
    modes' envelope; ``flicker``, rms, and ``corner``, frequency, of the noise of activity.
    """

    amplitude: np.ndarray
    slow: np.ndarray
    fast: np.ndarray
    numax: np.ndarray
    width: np.ndarray
    height: np.ndarray
    flicker: np.ndarray
    corner: np.ndarray


def numax_of(teff, logg):
    """Return ν_max, µHz, of stars: it goes as g / √Teff (Brown et al. 1991; `SUN`)."""
    return SUN["numax"] * 10 ** (logg - SUN["logg"]) * (np.asarray(teff) / SUN["teff"]) ** -0.5


def background(teff, logg, mass, numax, flicker=0.0, corner=1.0) -> Background:
    """Return the spectra that stars should have, by published scalings.

    Parameters
    ----------
    teff, logg, mass, numax : (stars,) float
        K, dex, solar masses, µHz.
    flicker, corner : (stars,) float
        As in `Background`.

    Notes
    -----
    Granulation: Kallinger et al. (2014), A&A 570, A41, section 5.2 and Table 2, with mass: a =
    3710 ν_max^−0.613 M^−0.26 ppm for both components, b = 0.317 ν_max^0.970 and 0.948 ν_max^0.992
    µHz. Oscillations: amplitude 2.5 β (R/R☉)² (Teff/5777)^0.5 ppm, β = 1 − exp((Teff − T_red) /
    1550 K), T_red = 8907 K (L/L☉)^−0.093, and 3.1 modes' power an order (Chaplin et al. 2011, ApJ
    732, 54; Campante et al. 2016, ApJ 830, 138); width 0.66 ν_max^0.88 (Mosser et al. 2012, A&A
    537, A30), ν_max / 2 above 100 µHz. These numbers agree with several public codes; the papers
    themselves were not at hand. The R² makes giants ring too loud: their amplitudes are those of
    R^1.85 Teff^0.57 (Campante et al. 2016; remembered, not checked).
    """
    teff, logg, mass, numax = (np.asarray(x, dtype=float) for x in (teff, logg, mass, numax))
    amplitude = 3710 * numax**-0.613 * mass**-0.26
    hot = teff / SUN["teff"]
    radius = solar.radius(mass, logg)
    red = 8907 * (radius**2 * hot**4) ** -0.093
    beta = np.clip(1 - np.exp((teff - red) / 1550), 0, None)
    mode = 2.5 * beta * radius**1.85 * hot**0.57
    width = np.where(numax > 100, numax / 2, 0.66 * numax**0.88)
    height = 3.1 * mode**2 / solar.large_separation(mass, radius)
    flicker, corner = np.broadcast_arrays(flicker, corner, teff)[:2]
    b = 0.317 * numax**0.970, 0.948 * numax**0.992
    return Background(amplitude, *b, numax, width, height, flicker, corner)


def density(stars: Background, frequency) -> np.ndarray:
    """Return the power spectral density of stars at frequencies (n,), µHz: (stars, n) ppm²/µHz.

    Granulation: Σ (2√2/π) a² / b / (1 + (ν/b)⁴). Envelope: a Gaussian. Flicker: as one
    component of granulation.
    """
    nu = np.asarray(frequency)
    column = {name: x[:, None].astype(nu.dtype) for name, x in stars._asdict().items()}
    a2 = nu.dtype.type(2 * 2**0.5 / np.pi) * column["amplitude"] ** 2
    nu4 = (nu * nu) ** 2
    out = (a2 / column["slow"]) / (1 + nu4 / column["slow"] ** 4)
    out += (a2 / column["fast"]) / (1 + nu4 / column["fast"] ** 4)
    if column["height"].any():
        away = (nu - column["numax"]) / column["width"]
        out += column["height"] * np.exp(nu.dtype.type(-4 * np.log(2)) * away**2)
    if column["flicker"].any():
        scale = nu.dtype.type(2 * 2**0.5 / np.pi) * column["flicker"] ** 2 / column["corner"]
        out += scale / (1 + nu4 / column["corner"] ** 4)
    return out


def sampled(stars: Background, frequency) -> np.ndarray:
    """Return the density (stars, n) of long cadences at frequencies from 0 to Nyquist, µHz.

    The exposure's mean takes sinc²(ν t) of the power; what is left above the Nyquist frequency is
    folded back on it (Chaplin et al. 2014, MNRAS 445, 946, on both). Kepler's exposure is all of
    its cadence but for a few parts in a hundred of readout.
    """
    frequency = np.asarray(frequency)
    direct = density(stars, frequency) * np.sinc(frequency / SAMPLING) ** 2
    few = np.linspace(0, SAMPLING / 2, FOLDED, dtype=frequency.dtype)
    band = SAMPLING * np.arange(1, ALIASES + 1, dtype=frequency.dtype)[:, None]
    above = np.concatenate([band - few, band + few])
    folded = density(stars, above.ravel()) * np.sinc(above.ravel() / SAMPLING) ** 2
    folded = folded.reshape(-1, *above.shape).sum(axis=1)
    at = frequency * np.float32(2 * (FOLDED - 1) / SAMPLING)
    low = np.minimum(at.astype(int), FOLDED - 2)
    share = (at - low).astype(frequency.dtype)
    direct += folded[:, low]
    direct += (folded[:, 1:] - folded[:, :-1])[:, low] * share
    return direct


def curves(stars: Background, cadences: int, rngs) -> np.ndarray:
    """Draw one realisation of each star's noise, (stars, cadences) float32, in ppm.

    Random phases and amplitudes of the spectrum (Timmer & König 1995, A&A 300, 707), transformed.
    """
    n = next_fast_len(cadences + min(ROOM, cadences), real=True)
    frequency = rfftfreq(n, 1 / SAMPLING).astype(np.float32)
    power = sampled(stars, frequency)
    power[:, 0] = 0
    power *= np.float32(SAMPLING / n * n**2 / 4)
    np.sqrt(power, out=power)
    wave = np.empty((len(power), len(frequency)), np.complex64)
    for row, scale, rng in zip(wave, power, rngs, strict=True):
        draw = rng.standard_normal(2 * len(frequency), dtype=np.float32)
        np.multiply(draw.reshape(-1, 2), scale[:, None], out=row.view(np.float32).reshape(-1, 2))
    return irfft(wave, n, axis=-1, overwrite_x=True)[:, :cadences]
