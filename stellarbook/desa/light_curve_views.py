"""From windows of light curves to what DESA's encoder reads: standard scores and two transforms.

The transforms come in two kinds: the paper's ("linear", every lag and every frequency) and the
book's ("log", autocorrelation and power at the same periods, evenly spaced in log P, so that a star
that rotates twice as fast is the same picture, shifted). Shown in chapter 03.
"""

import numpy as np
import torch
from scipy.fft import next_fast_len

from stellarbook.data.cadences import fill_gaps, moving_average
from stellarbook.data.light_curve_channels import SMOOTHED, crop
from stellarbook.data.light_curve_transforms import autocorrelation, spectrum, standard_scores

LENGTH = 4500  # cadences of a view: 92 days, about a quarter
KINDS = ("linear", "log")
PERIODS = 384  # of the kind "log"
SHORTEST, LONGEST = 8, 4900  # cadences: 4 hours to 100 days
FLOOR = 1e-4  # of a sinusoid's share of the variance: below it is noise
CHUNK = 2**18  # cadences at a time: what stays in a core's cache
PADDED = 4  # times the length: the spectrum between its own frequencies


def periods(length: int) -> np.ndarray:
    """Return the periods of the kind "log" in cadences, (P,): up to 3/4 of the view."""
    return np.geomspace(SHORTEST, min(0.75 * length, LONGEST), PERIODS)


def width(length: int, kind: str) -> int:
    """Return how many values a transform of a view has."""
    return length if kind == "linear" else PERIODS


def transforms(flux, good, kind: str) -> torch.Tensor:
    """Make autocorrelation and spectrum of smoothed views without gaps.

    Parameters
    ----------
    flux : (..., length) tensor
        Gaps filled (`fill_gaps`).
    good : (..., length) bool tensor
        What was measured.
    kind : str
        "linear": as `stellarbook.data.light_curve_channels.channels`. "log": the tapered
        autocorrelation at lags `periods`, and log10 of the mean power about the same periods, a
        sinusoid of the view's variance being 0 where it peaks; plus 2, cut off at `FLOOR`.

    Returns
    -------
    (..., 2, width) tensor
    """
    scores = standard_scores(flux, good)
    acf = autocorrelation(flux, good).nan_to_num(0)
    length = flux.shape[-1]
    if kind == "linear":
        logarithm = spectrum(scores).log1p()
        stretched = torch.nn.functional.interpolate(
            logarithm.reshape(-1, 1, logarithm.shape[-1]), length, mode="linear", align_corners=True
        ).reshape(flux.shape)
        return torch.stack([standard_scores(acf), stretched], dim=-2)
    lags = torch.from_numpy(periods(length))
    n = next_fast_len(PADDED * length, real=True)
    # A sinusoid of variance 1 has |FFT| = N / √2.
    power = spectrum(torch.nn.functional.pad(scores, (0, n - length))).square() * (2 / length**2)
    total = torch.nn.functional.pad(power.double().cumsum(dim=-1), (1, 0))
    step = (lags[1] / lags[0]).sqrt()
    low, high = n / (lags * step) + 0.5, n / (lags / step) + 0.5  # edges of bins, in cumsum
    narrow = high - low < 1  # at long periods: one frequency's width
    middle = (low + high) / 2
    low, high = torch.where(narrow, middle - 0.5, low), torch.where(narrow, middle + 0.5, high)
    mean = (_between(total, high) - _between(total, low)) / (high - low)
    mean = mean.clamp(min=FLOOR).log10() + 2
    return torch.stack([_between(acf, lags), mean.to(acf)], dim=-2)


def _between(values, at):
    """Interpolate (..., N) linearly at fractional places (P,) -> (..., P)."""
    left = at.floor().long().clamp(0, values.shape[-1] - 2)
    share = (at - left).to(values)
    return values[..., left] * (1 - share) + values[..., left + 1] * share


def curve(scores, level) -> torch.Tensor:
    """(B, L) scores and (B, 2) level -> (B, 2, L): both normalisations of section 4.2.

    The flux by absolute magnitude, less its level 2^k, and the scores: the level dwarfs the
    variation, and all that the first says beyond the second is one number.
    """
    scores = scores.float()
    absolute = (scores * level[:, 1:]).nan_to_num(0)
    return torch.stack([absolute, scores], dim=1)


def views(flux, magnitude, starts, length: int, kind: str):
    """Cut windows from light curves and make what the encoder reads of them.

    Parameters
    ----------
    flux : (B, N) float
        Relative flux about 1, quarters joined (`stitch`); NaN in gaps.
    magnitude : (B,) float
        Absolute magnitudes; NaN: unknown.
    starts : (B, V) int
        Where the windows begin.
    length : int
        Cadences of a window.
    kind : str
        Of `KINDS`.

    Returns
    -------
    scores, level, transforms
        As in `LightCurveSample`, but float32; NaN in a window without a measurement.

    Raises
    ------
    ValueError
        If there is no such kind or a window does not lie within its curve.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind {kind!r}: there are {', '.join(KINDS)}")
    flux = torch.as_tensor(flux)
    k = torch.as_tensor(magnitude, dtype=torch.float32)
    rows = max(1, CHUNK // max(1, length))
    pieces = [x.split(rows) for x in (flux, k, torch.as_tensor(starts))]
    made = [_views(*some, length, kind) for some in zip(*pieces, strict=True)]
    return tuple(torch.cat(parts) for parts in zip(*made, strict=True))


def _views(flux, k, starts, length, kind):
    """As `views`, of as many curves as are made at a time."""
    filled, good = fill_gaps(flux)
    made = []
    for start in starts.unbind(dim=1):
        some, measured = crop(filled, start, length), crop(good, start, length)
        some = moving_average(some, SMOOTHED)
        count = measured.sum(dim=1, keepdim=True)
        mean = (some * measured).sum(dim=1, keepdim=True) / count
        deviation = (((some - mean).square() * measured).sum(dim=1, keepdim=True) / count).sqrt()
        level = torch.cat([mean, deviation], dim=1) * torch.exp2(k)[:, None]
        made.append((standard_scores(some, measured), level, transforms(some, measured, kind)))
    return tuple(torch.stack(parts, dim=1) for parts in zip(*made, strict=True))
