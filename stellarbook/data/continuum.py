"""From a spectrum as observed to one that a model can read: masks, rest frame, continuum.

One function, `normalise`, treats real and simulated spectra alike, *after* the noise: a continuum
from percentiles moves with the noise, so that two normalisers would be two scales. `desa` is the
preprocessing of one paper, `specclip_continuum` the continuum of another.

Everything takes tensors or arrays (..., pixels), one spectrum or many, and returns tensors on the
device of the flux, in its precision (at least float32), without gradients. Shown in chapter 01.
"""

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from stellarbook.data.pixels import (
    contiguous,
    interpolate_masked,
    median_filter,
    resample,
    rest_frame,
    smallest,
    tensor,
    unusable,
)

BIN, PERCENTILE, SMOOTH = 50, 85, 5  # pixels a bin, of its fluxes, bins averaged
CHUNK = {"cpu": 2**19}  # pixels at a time: what stays in a core's cache
OTHER_CHUNK = 2**26  # on other devices

# DESA's two arms, Å, even in log10 wavelength by 1e-4: 1790 + 1810 pixels (the authors' code; the
# paper gives the detectors' ranges, 3700–5900 and 5700–9000).
DESA_ARMS = {
    "blue": 10 ** (np.log10(3841) + 1e-4 * np.arange(1790)),
    "red": 10 ** (np.log10(5800) + 1e-4 * np.arange(1810)),
}
SPECCLIP_WAVE = 10 ** (3.602 + 1e-4 * np.arange(1462))  # Å, 3999–5599
BALMER = ((4030, 4160), (4270, 4410), (4800, 4940))  # Å: Hδ, Hγ, Hβ with their wings


class Normalised(NamedTuple):
    """What `normalise` returns: three (..., pixels) tensors.

    ``flux`` over the continuum, interpolated where masked; ``ivar``, its inverse variance, 0 where
    masked; ``mask``, True where the flux, or one of two pixels it was shifted from, is no
    measurement.
    """

    flux: torch.Tensor
    ivar: torch.Tensor
    mask: torch.Tensor


def normalise(wave, flux, ivar, redshift=None) -> Normalised:
    """Divide spectra by their continuum, masked pixels interpolated first.

    The steps: `unusable`, `interpolate_masked`, `rest_frame`, `percentile_continuum`.

    Parameters
    ----------
    wave : (pixels,) float
        Å. Where it falls back or jumps, one arm ends and another begins (`contiguous`): nothing is
        interpolated or smoothed across.
    flux : (..., pixels) float
        In any unit: the result does not depend on it.
    ivar : (..., pixels) float
        Inverse variance of the flux; not positive = masked.
    redshift : float or (...) float, optional
        Brings the spectra to rest: λ / (1 + z); v/c for a velocity. Without it they stay.

    Returns
    -------
    Normalised
        An arm without one usable pixel, and all of a spectrum whose median is not positive or
        whose redshift takes it off its grid (unknown: NaN, −9999), is NaN: one warning counts
        the spectra. Nothing is made up.

    Raises
    ------
    ValueError
        If the shapes do not match.

    Notes
    -----
    About 10,000 LAMOST spectra a second on one core, 5,000 with redshifts. Shown in chapter 01.
    """

    def each(flux, ivar, redshift):
        mask = unusable(flux, ivar)
        flux = interpolate_masked(wave, flux, mask)
        ivar = ivar.masked_fill(mask, 0)
        if not at_rest:
            flux, ivar = rest_frame(wave, flux, ivar, redshift)
            mask = ivar == 0
        continuum = percentile_continuum(wave, flux)
        # In a lost arm the continuum is NaN, and all is masked already.
        ivar = torch.where(mask, 0.0, ivar * continuum**2)
        return Normalised(flux / continuum, ivar, mask)

    at_rest = redshift is None
    return Normalised(*_in_chunks(each, wave, flux, ivar, 0.0 if at_rest else redshift))


def desa(wave, flux, ivar, redshift) -> torch.Tensor:
    """Preprocess LAMOST spectra as DESA does (Kamai & Perets 2025, section 4.1).

    Rest frame, two arms resampled by linear interpolation; in each a median filter, division by a
    fifth-order polynomial, `standardise`. What the paper leaves open is its code's: the grids, a
    filter of 3 pixels, polynomials in the pixel's number.

    Parameters
    ----------
    wave, flux, ivar
        As for `normalise`; the wavelengths must increase.
    redshift : float or (...) float
        λ / (1 + z) is at rest; v/c for a velocity.

    Returns
    -------
    (..., 3600) tensor
        The blue, then the red pixels of `DESA_ARMS`, each with mean 0 and standard deviation 1.
        Masked pixels and those beyond ``wave`` are interpolated first; NaN as in `normalise`.

    Raises
    ------
    ValueError
        If the shapes do not match or the wavelengths do not increase.

    Notes
    -----
    Departures from the authors' code: it multiplies by 1 + v/c, with the Earth's velocity, and
    standardises with the outliers' mean and deviation. Shown in chapters 01 and 02.
    """

    def each(flux, ivar, redshift):
        flux = interpolate_masked(wave, flux, unusable(flux, ivar))
        arms = []
        for grid in DESA_ARMS.values():
            arm = resample(wave, flux, grid, redshift)
            arm = median_filter(interpolate_masked(grid, arm, arm.isnan()), 3)
            arm = arm / polynomial(np.arange(len(grid)), arm, 5)
            arms.append(standardise(arm))
        return (torch.cat(arms, dim=-1),)

    return _in_chunks(each, wave, flux, ivar, redshift)[0]


def polynomial(x, flux, degree: int) -> torch.Tensor:
    """Return the least-squares polynomial of a degree in ``x`` (pixels,), at every pixel."""
    flux = tensor(flux)
    basis = _basis(x, degree).to(flux)
    return (flux @ basis) @ basis.T


def standardise(flux, clip: float = 3.0) -> torch.Tensor:
    """Remove pixels beyond ± ``clip`` σ and bring the others to mean 0, standard deviation 1.

    A removed pixel becomes 0, the mean: a network's input has no holes.
    """
    flux = tensor(flux)
    centred = flux - flux.mean(dim=-1, keepdim=True)
    kept = centred.abs() <= clip * centred.square().mean(dim=-1, keepdim=True).sqrt()
    n = kept.sum(dim=-1, keepdim=True)
    centred = centred - (centred * kept).sum(dim=-1, keepdim=True) / n
    centred = centred * kept
    return centred / (centred.square().sum(dim=-1, keepdim=True) / n).sqrt()


def percentile_continuum(wave, flux) -> torch.Tensor:
    """Return a continuum (..., pixels) that lines hardly move.

    The 85th percentile of bins of 50 pixels, averaged over 5 bins, linear between their centres
    and constant beyond; each arm (`contiguous`) for itself.
    """
    flux = tensor(flux)
    continuum = torch.empty_like(flux)
    for stretch in contiguous(wave):
        part = flux[..., stretch]
        n = part.shape[-1]
        width = min(BIN, n)
        rank = math.ceil(PERCENTILE / 100 * width)
        whole = part[..., : n // width * width].unflatten(-1, (-1, width))  # (..., bins, width)
        # What is left over makes a bin with some of its neighbour's pixels.
        bins = [whole] if n % width == 0 else [whole, part[..., None, -width:]]
        level = torch.cat([smallest(b, rank) for b in bins], dim=-1)  # (..., bins)
        continuum[..., stretch] = level @ _smoother(n, width).to(level)
    return continuum


def specclip_continuum(wave, flux) -> torch.Tensor:
    """Return the continuum of SpecCLIP's Appendix B (Zhao et al. 2025).

    Below 5700 Å the last of ten fifth-order polynomials, each fitted to the larger of the flux and
    the fit before it; above 6100 Å the last of eight of fourth order, the flux below the fit or 3σ
    above it replaced by the fit; the flux itself between. Hot stars' Balmer lines are bridged.

    Parameters
    ----------
    wave : (pixels,) float
        Increasing, Å.
    flux : (..., pixels) float
        Masked pixels interpolated (`interpolate_masked`).

    Notes
    -----
    The Savitzky–Golay filter of step 2 is left out: of window 3 and order 2 (the authors' code) it
    returns what it is given. Where the paper's printed symbols are lost (4500 Å, 3σ) the code's
    are used. Shown in chapter 01.
    """
    flux, wave = median_filter(flux, 7), np.asarray(wave, dtype=float)
    continuum = flux.clone()
    blue, red = slice(0, np.searchsorted(wave, 5700)), slice(np.searchsorted(wave, 6100), None)
    if len(wave[blue]) > 5:
        basis = _basis(wave[blue], 5).to(flux)
        part = _bridged(wave[blue], flux[..., blue], basis)
        for _ in range(10):
            fit = (part @ basis) @ basis.T
            part = torch.maximum(part, fit)
        continuum[..., blue] = fit
    if len(wave[red]) > 4:
        basis = _basis(wave[red], 4).to(flux)
        part = flux[..., red]
        for _ in range(8):
            fit = (part @ basis) @ basis.T
            high = 3 * (part - fit).std(dim=-1, correction=0, keepdim=True)
            part = torch.where((part < fit) | (part > fit + high), fit, part)
        continuum[..., red] = fit
    return torch.where(continuum <= 0, 1.0, continuum)


def _bridged(wave: np.ndarray, flux: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Where the spectrum peaks below 4500 Å, draw lines over Hδ, Hγ and Hβ, maximum to maximum."""
    x = torch.tensor(wave).to(flux)
    hot = x[((flux @ basis) @ basis.T).argmax(dim=-1, keepdim=True)] < 4500
    for window in BALMER:
        near = [slice(*np.searchsorted(wave, (edge - 10, edge + 10))) for edge in window]
        if any(len(wave[s]) == 0 for s in near):
            continue
        (y0, i0), (y1, i1) = (flux[..., s].max(dim=-1, keepdim=True) for s in near)
        x0, x1 = x[near[0]][i0], x[near[1]][i1]
        line = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        flux = torch.where(hot & (x > x0) & (x < x1), line, flux)
    return flux


def _basis(x, degree: int) -> torch.Tensor:
    """Orthonormal polynomials at x, (pixels, degree + 1): a fit is a projection on them."""
    x = np.asarray(x, dtype=float)
    x = 2 * (x - x[0]) / (x[-1] - x[0]) - 1
    return torch.from_numpy(np.linalg.qr(np.polynomial.chebyshev.chebvander(x, degree))[0])


@cache
def _smoother(n: int, width: int) -> torch.Tensor:
    """From levels of bins to the continuum at n pixels, (bins, n): mean, then interpolation."""
    pixel = np.arange(n)
    centres = [pixel[i : i + width].mean() for i in range(0, n - width + 1, width)]
    centres += [pixel[-width:].mean()] if n % width else []
    distance = np.abs(np.subtract.outer(np.arange(len(centres)), np.arange(len(centres))))
    window = (distance <= SMOOTH // 2).astype(float)
    mean = window / window.sum(axis=1, keepdims=True)  # fewer bins at the ends
    linear = np.stack([np.interp(pixel, centres, one) for one in np.eye(len(centres))])
    return torch.from_numpy(mean.T @ linear)


def _in_chunks(function: Callable, wave, flux, ivar, redshift) -> list[torch.Tensor]:
    """Call ``function(flux, ivar, redshift)`` on some spectra at a time; warn of NaN."""
    flux = tensor(flux)
    ivar = tensor(ivar).to(flux)
    redshift = torch.as_tensor(redshift, dtype=torch.float64, device=flux.device).detach()
    shapes = np.shape(wave), tuple(flux.shape), tuple(ivar.shape), tuple(redshift.shape)
    stars, pixels = flux.shape[:-1], len(wave)
    if shapes[1] != (*stars, pixels) or shapes[2] != shapes[1] or shapes[3] not in ((), stars):
        raise ValueError(
            f"wave, flux, ivar and redshift have shapes {shapes}: expected (pixels,), twice "
            "(..., pixels) and (...) or a number"
        )
    rows = max(1, CHUNK.get(flux.device.type, OTHER_CHUNK) // pixels)
    flat = flux.reshape(-1, pixels), ivar.reshape(-1, pixels), redshift.expand(stars).flatten()
    results = [function(*piece) for piece in zip(*(x.split(rows) for x in flat), strict=True)]
    results = [torch.cat(parts) for parts in zip(*results, strict=True)]
    if lost := int(results[0].isnan().any(dim=-1).sum()):
        warnings.warn(
            f"{lost} of {stars.numel()} spectra are NaN, whole or an arm: no usable pixel, a "
            "median that is not positive, or a redshift that is unknown",
            stacklevel=3,
        )
    return [x.reshape(stars + x.shape[1:]) for x in results]
