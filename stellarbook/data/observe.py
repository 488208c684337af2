"""What a spectrograph makes of a model spectrum: shift, reddening, response, noise, lost pixels.

An `Instrument` holds a survey's pixels, line spread and noise (`stellarbook.data.instruments` has
six). The emulator gives spectra already blurred to it and sampled on its pixels;
`Instrument.observe` does the rest, batched, in torch, on any device. Shown in chapter 01.

What is left out: telluric absorption, line spreads that change from fibre to fibre or are not
Gaussian, the correlation of neighbouring pixels that resampling brings (Gaia XP has its own),
cosmic rays as clusters, scattered light, errors of the wavelength solution.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from stellarbook.data.pixels import contiguous

C = 299_792.458  # km/s
TAPS = 5  # pixels on each side that the interpolation uses
RESPONSE_ORDER = 5
READ_NOISE = 0.02  # variance that does not fall with the flux, over the median pixel's
R_V = 3.1  # the Milky Way's mean


class Observation(NamedTuple):
    """What `Instrument.observe` returns: three (n, pixels) tensors.

    ``flux`` in the model's unit; ``ivar``, its inverse variance; ``mask``, True = bad: gaps, lost
    pixels and those to which the shift brought nothing. There flux and ivar are 0.
    """

    flux: torch.Tensor
    ivar: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, eq=False)
class Instrument:
    """A spectrograph.

    Attributes
    ----------
    name : str
    wave : (pixels,) float64
        Vacuum, Å; increasing within each arm.
    fwhm : (pixels,) float64
        Full width at half maximum of the Gaussian line spread, Å.
    arms : dict of str to slice
        Detectors, each with its own response. Pixels in none of them are gaps: always masked.
    efficiency : dict of str to tuple
        Chebyshev coefficients of the logarithm of each arm's efficiency.
    airglow : tuple of (float, float)
        Vacuum wavelength (Å) and added variance of night-sky lines.
    lost : float
        Share of pixels that are bad at random.
    log : bool
        Whether the grid is even in log wavelength; otherwise it is even in wavelength.
    basis : callable or None
        Returns the orthonormal (pixels, k) basis that every observed spectrum lies in.
    """

    name: str
    wave: np.ndarray
    fwhm: np.ndarray
    arms: dict[str, slice]
    efficiency: dict[str, tuple[float, ...]]
    airglow: tuple[tuple[float, float], ...] = field(repr=False)
    lost: float
    log: bool
    basis: Callable[[], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.wave)

    @property
    def resolution(self) -> np.ndarray:
        """Resolving power λ/FWHM, (pixels,)."""
        return self.wave / self.fwhm

    @property
    def extinction(self) -> np.ndarray:
        """A(λ)/A_V at the pixels, (pixels,): the curve of Gordon et al. (2023), R_V = 3.1."""
        return _extinction(self)

    def observe(
        self,
        flux: torch.Tensor,
        snr: float | torch.Tensor,
        generator: torch.Generator,
        velocity: torch.Tensor | None = None,
        a_v: torch.Tensor | None = None,
        response: float = 0.0,
    ) -> Observation:
        """Observe model spectra.

        Parameters
        ----------
        flux : (n, pixels) tensor
            At rest, with this line spread: from `stellarbook.data.emulator.Emulator`.
        snr : float or (n,) tensor
            Median of flux / standard error over the good pixels.
        generator : torch.Generator
            Source of every random number, on the device of ``flux``.
        velocity : (n,) tensor, optional
            Radial velocity, km/s (`shift`).
        a_v : (n,) tensor, optional
            Extinction A_V, mag (`redden`).
        response : float
            Standard deviation of the logarithm of each arm's response error, a random polynomial
            (`tilt`). 0: perfect.
        """
        mask = ~self._in_arms(flux.device).expand_as(flux)
        if velocity is not None:
            flux, empty = self.shift(flux, velocity)
            mask = mask | empty
        if a_v is not None:
            flux = self.redden(flux, a_v)
        if response:
            shape = (len(flux), len(self.arms), RESPONSE_ORDER)
            flux = self.tilt(flux, response / RESPONSE_ORDER**0.5 * _normal(shape, generator, flux))
        if self.lost:
            lost = torch.rand(flux.shape, generator=generator, device=flux.device) < self.lost
            mask = mask | lost
        if self.basis:
            basis = torch.as_tensor(self.basis(), dtype=flux.dtype, device=flux.device)
            flux = flux @ basis @ basis.T
            noise = _normal((len(flux), basis.shape[1]), generator, flux) @ basis.T
            noise = noise / basis.norm(dim=1)  # of variance 1; `sigma` gives it its size back
        else:
            noise = _normal(flux.shape, generator, flux)
        sigma = self.sigma(flux.detach(), snr, mask)
        flux = (flux + sigma * noise).masked_fill(mask, 0.0)
        return Observation(flux, (sigma**-2).masked_fill(mask, 0.0), mask)

    def shift(
        self, flux: torch.Tensor, velocity: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Shift spectra (n, pixels) by radial velocities (n,), km/s: λ → λ (1 + v/c).

        Returns
        -------
        flux : (n, pixels) tensor
            Differentiable in both arguments. A Lanczos kernel of ten pixels interpolates within
            each stretch of contiguous pixels: good to 0.6 % of the depth of a line 2.4 pixels wide,
            1.3 % at 2 pixels.
        empty : (n, pixels) bool
            Pixels for which the model has none; they hold the nearest one's flux.
        """
        beta = (velocity / C)[:, None]
        if self.log:
            step = np.log(self.wave[1] / self.wave[0])
            moved = (-torch.log1p(beta) / step).expand(-1, 1)  # (n, 1): one for all pixels
        else:
            per_pixel = torch.as_tensor(
                self.wave / self._steps(), dtype=flux.dtype, device=flux.device
            )
            moved = -beta / (1 + beta) * per_pixel  # (n, pixels)
        moved = moved.to(flux.dtype)
        whole = moved.detach().floor()
        fraction = moved - whole  # in [0, 1), differentiable
        low, high = (torch.as_tensor(x, device=flux.device) for x in self._stretches())
        source = torch.arange(len(self), device=flux.device) + whole.long()  # (n, pixels)
        kernel = [_lanczos(fraction - tap) for tap in range(1 - TAPS, TAPS + 1)]
        total = sum(kernel)
        shifted = sum(
            weight / total * flux.gather(1, torch.clamp(source + tap, low, high))
            for tap, weight in zip(range(1 - TAPS, TAPS + 1), kernel, strict=True)
        )
        position = source + fraction.detach()
        return shifted, (position < low) | (position > high)

    def redden(self, flux: torch.Tensor, a_v: torch.Tensor) -> torch.Tensor:
        """Redden spectra (n, pixels) by A_V (n,), mag, with the curve of Gordon et al. (2023)."""
        curve = -0.4 * np.log(10) * self.extinction
        curve = torch.as_tensor(curve, dtype=flux.dtype, device=flux.device)
        return flux * torch.exp(a_v[:, None] * curve)

    def tilt(self, flux: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        """Multiply each arm by exp Σ c_k T_k, Chebyshev from k = 1; coefficients (n, arms, k)."""
        degree = coefficients.shape[2]
        log_response = flux.new_zeros(flux.shape)
        for i, arm in enumerate(self.arms.values()):
            x = np.linspace(-1, 1, arm.stop - arm.start)
            basis = np.polynomial.chebyshev.chebvander(x, degree)[:, 1:].T  # (k, pixels)
            basis = torch.as_tensor(basis, dtype=flux.dtype, device=flux.device)
            log_response[:, arm] = coefficients[:, i].to(flux.dtype) @ basis
        return flux * log_response.exp()

    def sigma(
        self, flux: torch.Tensor, snr: float | torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the standard error (n, pixels) of spectra (n, pixels) at a median S/N of ``snr``.

        Variance grows as the photons do, flux over efficiency, and under the night-sky lines; Gaia
        XP's does not follow the flux but is white in the coefficients of its basis.

        Raises
        ------
        ValueError
            If S/N or a spectrum's median flux is not positive: there is no such noise.
        """
        snr = torch.as_tensor(snr, dtype=flux.dtype, device=flux.device).expand(len(flux))
        good = self._in_arms(flux.device).expand_as(flux) if mask is None else ~mask
        hidden = flux.masked_fill(~good, torch.nan)
        median = hidden.nanmedian(dim=1, keepdim=True).values
        if not ((snr > 0).all() and (median > 0).all()):
            raise ValueError("expected a positive S/N and spectra with a positive median flux")
        per_photon = torch.as_tensor(_variance(self), dtype=flux.dtype, device=flux.device)
        photons = 1.0 if self.basis else flux.clamp(min=0) / median + READ_NOISE
        shape = (photons * per_photon).sqrt() * median
        scale = (hidden / shape).nanmedian(dim=1, keepdim=True).values / snr[:, None]
        return scale * shape

    def _in_arms(self, device) -> torch.Tensor:
        inside = torch.zeros(len(self), dtype=torch.bool)
        for arm in self.arms.values():
            inside[arm] = True
        return inside.to(device)

    def _steps(self) -> np.ndarray:
        """Width of each pixel, (pixels,), Å."""
        return np.concatenate([np.gradient(self.wave[s]) for s in contiguous(self.wave)])

    def _stretches(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last pixel of the contiguous stretch that each pixel is in."""
        parts = contiguous(self.wave)
        size = [s.stop - s.start for s in parts]
        first, last = [s.start for s in parts], [s.stop - 1 for s in parts]
        return np.repeat(first, size), np.repeat(last, size)


def _normal(shape, generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)


def _lanczos(x: torch.Tensor) -> torch.Tensor:
    return torch.sinc(x) * torch.sinc(x / TAPS)


@cache
def _extinction(instrument: Instrument) -> np.ndarray:
    """A(λ)/A_V at the pixels."""
    from astropy import units
    from dust_extinction.parameter_averages import G23  # here: a bare machine may lack it

    return G23(Rv=R_V)(instrument.wave * units.AA)


@cache
def _variance(instrument: Instrument) -> np.ndarray:
    """Variance of a pixel per unit of flux, (pixels,), on any scale; 1 in the gaps."""
    if instrument.basis:
        return (instrument.basis() ** 2).sum(axis=1)
    variance = np.ones(len(instrument))
    for name, arm in instrument.arms.items():
        x = np.linspace(-1, 1, arm.stop - arm.start)
        variance[arm] = np.exp(-np.polynomial.chebyshev.chebval(x, instrument.efficiency[name]))
    for line, added in instrument.airglow:
        width = 2.3548 / instrument.fwhm
        variance *= 1 + added * np.exp(-0.5 * ((instrument.wave - line) * width) ** 2)
    return variance
