"""What DESA's encoder reads of a light curve, channel by channel: section 4.2 of the paper.

Two normalisations, by absolute magnitude and by mean and standard deviation, and two transforms,
the autocorrelation and the Fourier transform. `stellarbook.data.light_curve_channels` stacks them.

Everything takes tensors or arrays (..., cadences), one curve or many, and returns tensors on the
device of the flux, in its precision (at least float32), without gradients. Shown in chapter 01.
"""

import torch
from scipy.fft import next_fast_len

from stellarbook.data.pixels import tensor


def absolute_magnitude(magnitude, distance) -> torch.Tensor:
    """Return apparent magnitudes as seen from 10 parsec: k = m − 5 log₁₀(d / 10 pc).

    Parameters
    ----------
    magnitude : (...) float
        Kepler magnitudes.
    distance : (...) float
        Parsec; 1000 / parallax for a good parallax in mas. Not positive gives NaN.

    Notes
    -----
    No extinction is taken off, as in section 4.2 of DESA (Kamai, Bronstein & Perets 2025), which
    takes distances from Berger et al. (2020). Shown in chapter 01.
    """
    magnitude, distance = tensor(magnitude), tensor(distance)
    distance = distance.masked_fill(~(distance > 0), torch.nan)
    return magnitude - 5 * (distance / 10).log10()


def scale_by_magnitude(flux, magnitude) -> torch.Tensor:
    """Divide light curves by 2⁻ᵏ, k the absolute magnitude: DESA's first normalisation.

    Parameters
    ----------
    flux : (..., N) float
        Relative flux about 1.
    magnitude : (...) float
        Absolute magnitudes, `absolute_magnitude`.

    Notes
    -----
    Section 4.2, as it is printed. What it does depends on the unit of flux, which the paper
    leaves open. A relative flux gets the level 2ᵏ, from which k can be read, and variations that
    grow the fainter the star is: the inverse of "absolute amplitude", for which relative flux
    would have to be multiplied by 10^(−0.4 k). A flux in e⁻/s, itself proportional to
    10^(−0.4 m), gets a level that falls with distance. A division by the median afterwards, which
    one version of the authors' code has, would take k out again. Shown in chapter 01.
    """
    flux, magnitude = matching(flux, magnitude)
    return flux * torch.exp2(magnitude)[..., None]


def standard_scores(flux, good=None) -> torch.Tensor:
    """Bring light curves to mean 0 and standard deviation 1: DESA's second normalisation.

    Parameters
    ----------
    flux : (..., N) float
    good : (..., N) bool, optional
        What counts for mean and deviation; all by default.

    Returns
    -------
    (..., N) tensor
        0 for a constant curve; NaN where nothing counts.

    Notes
    -----
    Section 4.2 of DESA (Kamai, Bronstein & Perets 2025). The deviation is the population's.
    Shown in chapter 01.
    """
    flux = tensor(flux)
    weight = _weight(flux, good)
    count = weight.sum(dim=-1, keepdim=True)
    # Less a flux that counts: a few parts in a million of 1 need all of float32's digits.
    flux = flux - flux.gather(-1, weight.argmax(dim=-1, keepdim=True))
    centred = flux - (flux * weight).sum(dim=-1, keepdim=True) / count
    deviation = ((centred.square() * weight).sum(dim=-1, keepdim=True) / count).sqrt()
    return centred / torch.where(deviation == 0, 1.0, deviation)


def autocorrelation(flux, good=None, *, lags: int | None = None, tapered=True) -> torch.Tensor:
    """Return the correlation of light curves with themselves, some cadences later.

    Parameters
    ----------
    flux : (..., N) float
        In any unit; NaN in gaps.
    good : (..., N) bool, optional
        What counts; all that is finite by default.
    lags : int, optional
        How many: 0 to lags − 1 cadences. N by default.
    tapered : bool
        Multiply the mean product at lag k by 1 − k / N, as the textbooks' sum of N − k products
        over N does: far lags, of which little is known, go to 0. Without, a strictly periodic
        curve's peaks are all of height 1.

    Returns
    -------
    (..., lags) tensor
        Mean of the products of all pairs of measurements that are k cadences apart, over their
        variance: 1 at lag 0. NaN at lags without a pair and in a curve without variance.

    Raises
    ------
    ValueError
        If the shapes do not match or more lags are asked for than there are cadences.

    Notes
    -----
    By the Wiener–Khinchin theorem, in n log n. Without gaps and tapered it is equation 1 of
    McQuillan, Aigrain & Mazeh (2013), MNRAS 432, 1203, and what the code of DESA takes from
    statsmodels. With gaps only pairs of measurements are averaged. Shown in chapter 01.
    """
    flux = tensor(flux)
    n = flux.shape[-1]
    lags = n if lags is None else lags
    if not 1 <= lags <= n:
        raise ValueError(f"lags is {lags}: expected 1 to {n}, the cadences of a curve")
    good = (flux.abs() < torch.inf) & (_weight(flux, good) > 0)
    flux = standard_scores(flux.masked_fill(~good, 0), good).masked_fill(~good, 0)
    products = _products(flux, lags)
    apart = torch.arange(lags, device=flux.device, dtype=flux.dtype)
    pairs = (n - apart) if good.all() else _products(good.to(flux), lags).round()
    mean = products / pairs  # 0 / 0, or a rounding error over 0, where there is no pair
    mean = mean.masked_fill(pairs == 0, torch.nan) / mean[..., :1]
    return mean * (1 - apart / n) if tapered else mean


def _products(values: torch.Tensor, lags: int) -> torch.Tensor:
    """Sums over i of values[i] values[i + k], for k = 0 … lags − 1."""
    if not values.numel():  # no curves: MKL's transform fails
        return values[..., :lags]
    n = next_fast_len(values.shape[-1] + lags - 1, real=True)  # room: nothing wraps around
    power = torch.fft.rfft(values, n)
    power = torch.view_as_real(power).square().sum(dim=-1)
    return torch.fft.irfft(power, n)[..., :lags]


def spectrum(flux) -> torch.Tensor:
    """Return the modulus of the Fourier transform, (..., N) -> (..., N // 2 + 1).

    Value j belongs to j / N cycles a cadence. Parseval: the squares, those between the first and
    the last (of an even N) counted twice, sum to N times the sum of the squared fluxes. The FFT of
    section 4.2 of DESA (Kamai, Bronstein & Perets 2025). Shown in chapter 01.
    """
    flux = tensor(flux)
    if not flux.numel():  # no curves: MKL's transform fails
        return flux[..., : flux.shape[-1] // 2 + 1]
    return torch.fft.rfft(flux).abs()


def matching(flux, magnitude, dims=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both as tensors of one kind; ValueError unless there is one magnitude a curve."""
    flux = tensor(flux)
    magnitude = tensor(magnitude).to(flux)
    if not flux.ndim or magnitude.shape != flux.shape[:-1] or dims not in (None, flux.ndim):
        raise ValueError(
            f"flux and magnitude have shapes {tuple(flux.shape)} and {tuple(magnitude.shape)}: "
            f"expected {'(B, N) and (B,)' if dims else '(..., N) and (...)'}"
        )
    return flux, magnitude


def _weight(flux, good) -> torch.Tensor:
    if good is None:
        return torch.ones_like(flux)
    good = torch.as_tensor(good, device=flux.device)
    if good.shape != flux.shape:
        raise ValueError(
            f"flux and good have shapes {tuple(flux.shape)} and {tuple(good.shape)}: expected "
            "the same"
        )
    return good.to(flux)
