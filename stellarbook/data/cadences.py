"""Light curves as arrays of cadences: quarters become one curve, gaps are named, filled, smoothed.

Everything takes tensors or arrays (..., cadences), one curve or many, and returns tensors on the
device of the flux, in its precision (at least float32), without gradients. A gap is NaN. What a
model reads is made of it by `stellarbook.data.light_curve_channels`. Shown in chapter 01.
"""

import numpy as np
import torch

from stellarbook.data.pixels import interpolate_masked, tensor

LONG_CADENCE = 270 * (6.01982 + 0.51895) / 86400
"""Days: 270 exposures of Kepler's 6.02 s with 0.52 s of readout, 29.42 minutes."""


def on_cadences(time, flux, cadence=LONG_CADENCE) -> torch.Tensor:
    """Put measurements on an even grid in time, so that what is missing has its place.

    Parameters
    ----------
    time : (n,) float
        Days, not decreasing. They may wander from an even grid by a third of a cadence, as
        barycentric times do.
    flux : (..., n) float
        NaN: no measurement.
    cadence : float
        The grid's step, days.

    Returns
    -------
    (..., N) tensor
        Cadence i is the time ``time[0] + i * cadence``. NaN where no measurement is nearest to
        it, the mean of several: one-minute fluxes become half-hour fluxes.

    Raises
    ------
    ValueError
        If the shapes do not match, a time is not finite or decreases, or the step is not positive.

    Notes
    -----
    Lags and frequencies count cadences: without their places, a gap between two quarters would
    shift the phase of everything after it. Shown in chapter 01.
    """
    flux, time = tensor(flux), np.asarray(time, dtype=float)
    if time.ndim != 1 or not len(time) or flux.shape[-1:] != time.shape:
        raise ValueError(
            f"time and flux have shapes {time.shape} and {tuple(flux.shape)}: "
            "expected (n,) and (..., n), n ≥ 1"
        )
    if not np.isfinite(time).all() or (np.diff(time) < 0).any():
        raise ValueError("time: expected finite days that do not decrease")
    if not 0 < cadence < np.inf:
        raise ValueError(f"cadence is {cadence}: expected a positive number of days")
    number = np.rint((time - time[0]) / cadence).astype(np.int64)
    measured = flux.abs() < torch.inf  # NaN is not less
    place = torch.from_numpy(number).to(flux.device)
    empty = flux.new_zeros((*flux.shape[:-1], int(number[-1]) + 1))
    total = empty.index_add(-1, place, torch.where(measured, flux, 0.0))
    return total / empty.index_add(-1, place, measured.to(flux))  # 0 / 0 is NaN: a gap


def stitch(flux, quarter) -> torch.Tensor:
    """Join quarters: each is divided by its own median.

    Parameters
    ----------
    flux : (..., N) float
        In the detector's unit, e⁻/s; NaN in gaps.
    quarter : (N,) int
        Which quarter a cadence belongs to; any numbers.

    Returns
    -------
    (..., N) tensor
        Relative flux, about 1. Gaps stay NaN; so does a quarter whose median is not positive.

    Raises
    ------
    ValueError
        If the shapes do not match.

    Notes
    -----
    A star falls on another detector each quarter: its flux jumps by a factor. Section 4.2 of DESA
    (Kamai, Bronstein & Perets 2025) is silent about it. Its code subtracts the difference of the
    means instead, which leaves the size of the star's variation in each detector's own unit.
    Either way, variations that are slower than a quarter are lost, and a quarter that ends within
    a rotation starts with a step. Shown in chapter 01.
    """
    flux, quarter = tensor(flux), np.asarray(quarter)
    if quarter.ndim != 1 or flux.shape[-1:] != quarter.shape:
        raise ValueError(
            f"flux and quarter have shapes {tuple(flux.shape)} and {quarter.shape}: "
            "expected (..., N) and (N,)"
        )
    relative = torch.empty_like(flux)
    for number in np.unique(quarter):
        where = torch.from_numpy(np.flatnonzero(quarter == number)).to(flux.device)
        part = flux[..., where]
        level = part.nanmedian(dim=-1, keepdim=True).values
        relative[..., where] = part / level.masked_fill(~(level > 0), torch.nan)
    return relative


def fill_gaps(flux) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace what is not finite by the line between its neighbours.

    Parameters
    ----------
    flux : (..., N) float

    Returns
    -------
    flux : (..., N) tensor
        The nearest measurement before the first and after the last; NaN in a curve without any.
    good : (..., N) bool tensor
        True where there was a measurement.

    Notes
    -----
    As DESA's code does, before anything else; the paper does not say. A line is a poor guess of
    what a star did in three months: `autocorrelation` and `standard_scores` of
    `stellarbook.data.light_curve_channels` therefore count only what ``good`` names. Shown in
    chapter 01.
    """
    flux = tensor(flux)
    good = flux.abs() < torch.inf  # NaN is not less
    if good.all():
        return flux, good
    return interpolate_masked(np.arange(flux.shape[-1]), flux, ~good), good


def moving_average(flux, width: int) -> torch.Tensor:
    """Return the mean of an odd ``width`` of cadences about each; mirrored at the curve's ends.

    It is the Savitzky–Golay filter of order 1, by which DESA's code smooths 13 cadences (6.4
    hours); the paper does not mention it. Shown in chapter 01.

    Raises
    ------
    ValueError
        If the width is even, not positive, or more than the curve and its mirror images have.
    """
    flux, half = tensor(flux), width // 2
    if width < 1 or width % 2 == 0 or half >= flux.shape[-1]:
        raise ValueError(
            f"width is {width}: expected an odd number, at most {2 * flux.shape[-1] - 1} "
            f"for {flux.shape[-1]} cadences"
        )
    ends = flux[..., 1 : half + 1].flip(-1), flux[..., flux.shape[-1] - half - 1 : -1].flip(-1)
    window = torch.cat([ends[0], flux, ends[1]], dim=-1)
    # Sums of 1, 2, 4, … neighbours, each from the one before; a width's binary digits choose.
    total, taken, size = 0, 0, 1
    while size <= width:
        if width & size:
            total = total + window[..., taken : taken + flux.shape[-1]]
            taken += size
        if 2 * size <= width:
            window = window[..., size:] + window[..., :-size]
        size *= 2
    return total / width


def high_pass(flux, days: float, cadence=LONG_CADENCE) -> torch.Tensor:
    """Take slow variations off relative fluxes (..., N) about 1: two running means of so many days.

    What KEPSEISMIC's filter (García et al. 2011, MNRAS 414, L6: two boxcars; 55 days in the files
    at hand) does to a curve. Ends are mirrored, gaps stay, and a window wider than the curve and
    its images is cut to these. Shown in chapters 01 and 03.
    """
    filled, good = fill_gaps(flux)
    wide = min(2 * round(days / cadence / 2) + 1, 2 * (filled.shape[-1] // 2) - 1)
    # About 0, where single precision is finest.
    slow = moving_average(moving_average(filled - 1, wide), wide)
    return (filled - slow).masked_fill(~good, torch.nan)
