"""Spectra as arrays of pixels: which are bad, what fills them, how they move to rest.

Everything takes tensors or arrays (..., pixels), one spectrum or many, and returns tensors on the
device of the flux, in its precision (at least float32), without gradients. `normalise` in
`stellarbook.data.continuum` puts the steps together. Shown in chapter 01.
"""

import warnings
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch

FLOOR = 0.02  # of the median flux: what lies below is no starlight


def contiguous(wave) -> list[slice]:
    """Return the stretches of a grid (pixels,): it breaks where it falls or jumps by 3 steps."""
    return list(_contiguous(np.asarray(wave, dtype=float).tobytes()))


@lru_cache(64)
def _contiguous(wave: bytes) -> tuple[slice, ...]:
    step = np.diff(np.frombuffer(wave))
    breaks = np.flatnonzero((step <= 0) | (step > 3 * np.median(step))) + 1 if len(step) else []
    ends = [0, *breaks, len(step) + 1]
    return tuple(slice(int(a), int(b)) for a, b in pairwise(ends))


def unusable(flux, ivar) -> torch.Tensor:
    """Say which pixels to interpolate, (..., pixels) bool.

    Those without a finite flux or a finite, positive inverse variance, and those below 2 % of the
    median of the others: a lost pixel's flux falls to zero, whatever its inverse variance says.
    Every pixel, where that median is not positive.
    """
    flux, ivar = tensor(flux), tensor(ivar)
    good = (ivar > 0) & (ivar < torch.inf) & (flux.abs() < torch.inf)  # NaN fails all of them
    ordered = _sorted(flux.masked_fill(~good, torch.inf))  # the good ones come first
    middle = (good.sum(dim=-1, keepdim=True) - 1).clamp(min=0) // 2
    median = ordered.gather(-1, middle)  # infinite where no pixel is good
    return ~(good & (median > 0) & (flux >= FLOOR * median))


def interpolate_masked(wave, flux, mask) -> torch.Tensor:
    """Replace masked pixels by the line between their neighbours, in wavelength.

    Parameters
    ----------
    wave, flux, mask : (pixels,), (..., pixels) float, (..., pixels) bool
        True = replace. What stands there, NaN too, has no influence.

    Returns
    -------
    (..., pixels) tensor
        At an arm's end, the nearest good pixel's flux; NaN in an arm (`contiguous`) without one.
    """
    flux, mask = tensor(flux), torch.as_tensor(mask)
    pixels = flux.shape[-1]
    stretches = contiguous(wave)
    number = torch.zeros(pixels, dtype=torch.long)
    for i, stretch in enumerate(stretches):
        number[stretch] = i
    number = number.to(flux.device)
    wave = torch.tensor(np.asarray(wave, dtype=float)).to(flux)

    def arm(index):  # which spectrum's which arm
        return index // pixels * len(stretches) + number[index % pixels]

    values = flux.flatten().clone()
    bad = mask.flatten().nonzero()[:, 0]
    # Bad pixels in a row share their neighbours: the ones before the first and after the last.
    first = torch.ones_like(bad, dtype=torch.bool)
    first[1:] = bad.diff() > 1
    run = first.cumsum(0) - 1
    left, right = bad[first] - 1, bad[first.roll(-1)] + 1
    left, right = left[run], right[run]
    # In a flat array these may be another arm's, or another star's.
    has_left = (left >= 0) & (arm(left) == arm(bad))
    has_right = (right < len(values)) & (arm(right) == arm(bad))
    left, right = torch.where(has_left, left, right), torch.where(has_right, right, left)
    left, right = left.clamp(max=len(values) - 1), right.clamp(min=0)  # where it has neither
    x, x0, x1 = (wave[k % pixels] for k in (bad, left, right))
    share = torch.where(left == right, 0.0, (x - x0) / (x1 - x0))
    line = torch.lerp(values[left], values[right], share)
    values[bad] = line.masked_fill(~(has_left | has_right), torch.nan)
    return values.view(flux.shape)


def rest_frame(wave, flux, ivar, redshift) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift spectra to rest, on their own grid: the new flux at λ is the old one at λ (1 + z).

    Parameters
    ----------
    wave, flux, ivar : (pixels,), (..., pixels), (..., pixels) float
        Masked fluxes should be interpolated already (`interpolate_masked`).
    redshift : float or (...) float
        v/c for a velocity.

    Returns
    -------
    flux, ivar : (..., pixels) tensors
        Linear between two pixels; the nearest flux and 0 where the shift brought nothing; NaN and
        0 in an arm (`contiguous`) to which it brought nothing at all. The inverse variance is 0
        where one of two pixels has none. The *variance* is interpolated, not propagated: mixing
        two pixels lowers the noise of one and correlates it with the next, no information is won.
    """
    flux, ivar = tensor(flux), tensor(ivar)
    wave = np.asarray(wave, dtype=float)
    positions, outside = [], []
    for stretch in contiguous(wave):
        position, beyond = _shifted(wave[stretch], wave[stretch], flux, redshift)
        position = position.masked_fill(beyond.all(dim=-1, keepdim=True), torch.nan)
        positions.append(stretch.start + position)
        outside.append(beyond)
    flux, variance = _between(torch.cat(positions, dim=-1), flux, 1 / ivar)
    measured = (variance < torch.inf) & ~torch.cat(outside, dim=-1)  # NaN is not less
    return flux, torch.where(measured, 1 / variance, 0.0)


def resample(wave, flux, new_wave, redshift=0.0) -> torch.Tensor:
    """Sample spectra at rest on another grid, by linear interpolation.

    Parameters
    ----------
    wave, flux, new_wave : (pixels,), (..., pixels), (new pixels,) float
        ``wave`` as observed, ``new_wave`` at rest, Å.
    redshift : float or (...) float
        The new flux at λ is the old one at λ (1 + z).

    Returns
    -------
    (..., new pixels) tensor
        NaN outside ``wave``.

    Raises
    ------
    ValueError
        If the wavelengths do not increase: overlapping arms are no function of wavelength.
    """
    flux, wave = tensor(flux), np.asarray(wave, dtype=float)
    if (np.diff(wave) <= 0).any():
        raise ValueError("wave: expected increasing wavelengths")
    position, beyond = _shifted(wave, np.asarray(new_wave, dtype=float), flux, redshift)
    return _between(position, flux)[0].masked_fill(beyond, torch.nan)


def median_filter(flux, width: int) -> torch.Tensor:
    """Return the running median of an odd ``width`` of pixels; the end pixels are repeated.

    Forgetful selection: of half the values and two more, neither the smallest nor the largest can
    be the median of all; both are dropped, the next value comes in.
    """
    flux, half = tensor(flux), width // 2
    ends = [flux[..., i : i + 1 or None].expand(*flux.shape[:-1], half) for i in (0, -1)]
    padded = torch.cat([ends[0], flux, ends[1]], dim=-1)
    taps = list(padded.unfold(-1, flux.shape[-1], 1).unbind(-2))  # views, one a neighbour
    kept = taps[: half + 1]
    for tap in taps[half + 1 :]:
        kept.append(tap)
        for i in range(len(kept) - 1):  # the largest moves to the end …
            kept[i : i + 2] = torch.minimum(*kept[i : i + 2]), torch.maximum(*kept[i : i + 2])
        kept.pop()
        for i in range(len(kept) - 1, 0, -1):  # … and the smallest to the front
            kept[i - 1 : i + 1] = (f(*kept[i - 1 : i + 1]) for f in (torch.minimum, torch.maximum))
        kept.pop(0)
    return kept[0].clone()


def tensor(values) -> torch.Tensor:
    """Return values as a tensor of at least float32, cut off from gradients."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of read-only arrays: nothing is written
        values = torch.as_tensor(values).detach()
    return values if values.dtype == torch.float64 else values.float()


def smallest(values: torch.Tensor, rank: int) -> torch.Tensor:
    """The rank-th smallest along the last axis."""
    if values.device.type != "cpu":
        return values.kthvalue(rank, dim=-1).values
    partial = np.partition(values.numpy(), rank - 1, axis=-1)  # ten times faster than torch
    return torch.from_numpy(partial[..., rank - 1].copy())


def _sorted(values: torch.Tensor) -> torch.Tensor:
    if values.device.type != "cpu":
        return values.sort(dim=-1).values
    return torch.from_numpy(np.sort(values.numpy(), axis=-1))  # ten times faster than torch


def _shifted(wave: np.ndarray, new_wave: np.ndarray, flux, redshift):
    """Where on ``wave`` is ``new_wave`` (1 + z)? Fractional pixels, the nearest if outside; which.

    Both are (..., new pixels). A redshift that is NaN is outside everywhere.
    """
    z = torch.as_tensor(redshift, dtype=torch.float64, device=flux.device)
    z = z.expand(flux.shape[:-1])[..., None]
    target = torch.tensor(new_wave, device=flux.device) * (1 + z)
    beyond = ~((target >= wave[0]) & (target <= wave[-1]))
    if target.device.type == "cpu":  # numpy's search is eight times faster: targets are in order
        position = np.interp(target.numpy(), wave, np.arange(len(wave), dtype=float))
        return torch.from_numpy(position), beyond
    return _search(torch.tensor(wave, device=flux.device), target), beyond


def _search(wave: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """As ``np.interp(target, wave, pixel numbers)``."""
    low = (torch.searchsorted(wave, target, right=True) - 1).clamp(0, len(wave) - 2)
    position = low + (target - wave[low]) / (wave[low + 1] - wave[low])
    return position.clamp(0, len(wave) - 1)


def _between(position: torch.Tensor, *values: torch.Tensor) -> list[torch.Tensor]:
    """Interpolate (..., pixels) linearly at fractional pixels (..., m); NaN at NaN."""
    low = position.nan_to_num(0).long()  # rounded down
    high = (low + 1).clamp_(max=values[0].shape[-1] - 1)
    share = (position - low).to(values[0].dtype)
    here = share == 0  # at a pixel its neighbour has no weight: not even if it is infinite
    return [
        torch.where(here, left, torch.lerp(left, x.gather(-1, high), share))
        for x, left in ((x, x.gather(-1, low)) for x in values)
    ]
