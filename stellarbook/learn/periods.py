"""Rotation periods without a network, from the highest peak of a transform.

They are what an encoder has to beat. Both answer the same question, after which time a curve
resembles itself most, and share one failure: two groups of spots on opposite sides of a star look
like one group that comes round twice as often. Shown in chapter 03.
"""

from typing import NamedTuple

import numpy as np
import torch

from stellarbook.data.cadences import LONG_CADENCE
from stellarbook.data.light_curve_transforms import autocorrelation
from stellarbook.data.pixels import tensor

SHORTEST = 0.5  # days
FWHM, REACH = 18, 28  # lags: the Gaussian that smooths an autocorrelation, and where it is cut off
CHUNK = 2**20  # cadences at a time


class Periods(NamedTuple):
    """Periods of some curves, (...) float64 arrays; NaN where there is no peak.

    ``period``: days. ``height``: of the peak; what it measures depends on the estimate.
    """

    period: np.ndarray
    height: np.ndarray


def acf_period(
    flux, *, cadence=LONG_CADENCE, shortest=SHORTEST, longest=None, peaks=None
) -> Periods:
    """Return the lag at which the smoothed autocorrelation peaks highest above its troughs.

    Parameters
    ----------
    flux : (..., N) float
        At an even cadence, in any unit; NaN in gaps (`on_cadences`).
    cadence : float
        Days.
    shortest, longest : float
        Lags searched, days; up to half of the curve by default.
    peaks : int, optional
        How many compete, from the shortest lag on. All by default.

    Returns
    -------
    Periods
        ``height``: how far the peak lies above the mean of the troughs beside it.

    Raises
    ------
    ValueError
        If the lags searched are not within the curve, or no peak may compete.

    Notes
    -----
    McQuillan, Aigrain & Mazeh (2013), MNRAS 432, 1203: their autocorrelation, smoothing (a
    Gaussian of 18 lags FWHM, cut off at 28) and height. They let the first two peaks compete,
    ``peaks=2``, and look at the curves where that fails: a ripple before the true peak is enough.
    Heights above troughs, not above 0, let no slow trend win; the taper of the autocorrelation
    prefers a period to its multiples. Shown in chapter 03.
    """
    flux = tensor(flux)
    n = flux.shape[-1]
    longest = n * cadence / 2 if longest is None else longest
    low, high = (round(days / cadence) for days in (shortest, longest))
    if not 1 <= low < high <= n - REACH - 2:
        raise ValueError(
            f"lags of {shortest} to {longest:g} days are {low} to {high} cadences: expected 1 ≤ "
            f"shortest < longest ≤ {n - REACH - 2} for curves of {n}"
        )
    if peaks is not None and peaks < 1:
        raise ValueError(f"peaks is {peaks}: expected None or at least 1")
    x = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
    kernel = torch.exp2(-((2 * x / FWHM) ** 2))[None, None]
    parts = []
    for some in flux.reshape(-1, n).split(max(1, CHUNK // n)):
        acf = autocorrelation(some, lags=high + REACH + 2).nan_to_num(0).double()
        acf = torch.cat([acf[:, 1 : REACH + 1].flip(-1), acf], dim=-1)  # it is even
        smooth = torch.nn.functional.conv1d(acf[:, None], kernel.to(acf) / kernel.sum())[:, 0]
        parts.append(_highest_peak(smooth, low, peaks))  # of lags 0 to high + 1
    lag, height = (
        torch.cat(x).reshape(flux.shape[:-1]).cpu().numpy() for x in zip(*parts, strict=True)
    )
    return Periods(lag * cadence, height)


def _highest_peak(acf: torch.Tensor, low: int, peaks: int | None):
    """Where (B, lags) peaks highest above its troughs, from lag ``low`` on, and how high."""
    inner, before, after = acf[:, 1:-1], acf[:, :-2], acf[:, 2:]
    lag = torch.arange(1, acf.shape[-1] - 1, device=acf.device)  # of inner
    peak = (inner > before) & (inner >= after) & (lag >= low)
    if peaks is not None:
        peak &= peak.cumsum(dim=-1) <= peaks
    trough = (inner < before) & (inner <= after)
    # The nearest trough on either side, else the first or last lag.
    left = torch.where(trough, lag, 0).cummax(dim=-1).values
    right = torch.where(trough, lag, lag[-1] + 1).flip(-1).cummin(dim=-1).values.flip(-1)
    above = inner - (acf.gather(-1, left) + acf.gather(-1, right)) / 2
    best = above.masked_fill(~peak, -torch.inf).argmax(dim=-1, keepdim=True)
    height, *around = (x.gather(-1, best) for x in (above, before, inner, after))
    found = peak.any(dim=-1)
    at = lag[best] + _vertex(*around)
    return tuple(x[:, 0].masked_fill(~found, torch.nan) for x in (at, height))


def lomb_scargle_period(time, flux, *, shortest=SHORTEST, longest=None, samples=10) -> Periods:
    """Return the period of the sinusoid that fits best.

    Parameters
    ----------
    time : (N,) float
        Days; they need not be even.
    flux : (..., N) float
        NaN in gaps.
    shortest, longest : float
        Periods searched, days; up to half of the time between first and last by default.
    samples : int
        Frequencies to a peak's width.

    Returns
    -------
    Periods
        ``height``: share of the variance that the sinusoid explains. NaN for a curve of fewer
        than four measurements.

    Raises
    ------
    ValueError
        If the shapes do not match or the periods are not 0 < shortest < longest.

    Notes
    -----
    Zechmeister & Kürster (2009), A&A 496, 577, by astropy, one curve after another. Shown in
    chapter 03.
    """
    from astropy.timeseries import LombScargle

    time, flux = np.asarray(time, dtype=float), np.asarray(flux, dtype=float)
    if time.ndim != 1 or flux.shape[-1:] != time.shape:
        raise ValueError(f"time {time.shape} and flux {flux.shape}: expected (N,) and (..., N)")
    longest = np.ptp(time) / 2 if longest is None else longest
    if not 0 < shortest < longest < np.inf:
        raise ValueError(
            f"periods of {shortest} to {longest} days: expected 0 < shortest < longest"
        )
    found = []
    for curve in flux.reshape(-1, len(time)):
        good = np.isfinite(curve)
        if good.sum() < 4 or np.ptp(curve[good]) == 0:
            found.append((np.nan, np.nan))
            continue
        frequency, power = LombScargle(time[good], curve[good]).autopower(
            minimum_frequency=1 / longest, maximum_frequency=1 / shortest, samples_per_peak=samples
        )
        best = int(power.argmax())
        at = frequency[best]
        if 0 < best < len(power) - 1:
            at += _vertex(*power[best - 1 : best + 2]) * (frequency[1] - frequency[0])
        found.append((1 / at, power[best]))
    return Periods(*np.array(found).reshape(-1, 2).T.reshape(2, *flux.shape[:-1]))


def _vertex(before, top, after):
    """Where the parabola through three even points is highest, in steps from the middle one."""
    return (before - after) / (2 * (before - 2 * top + after))
