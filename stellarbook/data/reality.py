"""Simulation beside reality: emulated spectra against observed ones of the same stars.

Each comparison brings both sides to the same pixels, at rest, over a continuum that is found in
the same way, and returns a `Comparison`. Stars with catalogue labels are emulated at these labels:
nothing is fitted but, for Gaia XP, the dust and the distance that no label knows. Where nobody
knows the labels, the nearest emulated spectrum is sought (`nearest`), which is another and kinder
question. Shown in chapter 01.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter1d, percentile_filter

from stellarbook.data.continuum import normalise, percentile_continuum
from stellarbook.data.emulator import Emulator
from stellarbook.data.emulator_source import line_spread
from stellarbook.data.instruments import DESI, GAIA_XP, LAMOST
from stellarbook.data.observe import C, Instrument
from stellarbook.data.pixels import interpolate_masked, rest_frame, unusable
from stellarbook.data.records import Spectrum

BLUE = (4000.0, 5600.0)  # Å: where labels are read, free of airglow and tellurics
XP_RANGE = (4000.0, 10_000.0)  # Å
# Gaussian s.d. in pixels, fixed for all stars: what real line spreads are wider than stated.
LAMOST_BLUR, MILES_BLUR = 0.7, 0.5
MILES_FWHM, MILES_STEP = 2.5, 0.9  # Å


@dataclass(frozen=True, eq=False)
class Comparison:
    """Observed and emulated spectra of the same stars.

    Attributes
    ----------
    wave : (pixels,) float
        Vacuum, Å, at rest.
    real, model : (n, pixels) float
        Over the same continuum, or of the same median; NaN where nothing is compared.
    labels : DataFrame (n rows)
        ``teff, logg, feh, alpha_fe`` of the model, and what else a comparison says of the stars.
    """

    wave: np.ndarray
    real: np.ndarray
    model: np.ndarray
    labels: pd.DataFrame

    @property
    def residual(self) -> np.ndarray:
        """Real minus model, (n, pixels)."""
        return self.real - self.model

    @property
    def rms(self) -> np.ndarray:
        """Root mean square of each star's residual, (n,)."""
        return np.sqrt(np.nanmean(self.residual**2, axis=1))

    @property
    def correlation(self) -> np.ndarray:
        """Pearson's correlation of each star's two spectra over the pixels, (n,)."""
        known = np.isfinite(self.residual)
        a, b = (np.where(known, x, np.nan) for x in (self.real, self.model))
        a, b = (x - np.nanmean(x, axis=1, keepdims=True) for x in (a, b))
        return np.nansum(a * b, axis=1) / np.sqrt(np.nansum(a**2, axis=1) * np.nansum(b**2, axis=1))

    def between(self, low: float, high: float) -> "Comparison":
        """Return the comparison in a range of wavelengths (Å) alone."""
        inside = (self.wave >= low) & (self.wave <= high)
        return Comparison(
            self.wave[inside], self.real[:, inside], self.model[:, inside], self.labels
        )

    def of(self, chosen) -> "Comparison":
        """Return the comparison of some stars, by a mask or by positions."""
        chosen = np.arange(len(self.labels))[np.asarray(chosen)]
        return Comparison(
            self.wave, self.real[chosen], self.model[chosen], self.labels.iloc[chosen]
        )


def running_percentile(flux, width: int = 51, percentile: float = 85) -> np.ndarray:
    """Return spectra (n, pixels) over a percentile of the ``width`` pixels around each one.

    NaN where that percentile is not positive: unmasked holes are wider than the window.
    """
    flux = np.asarray(flux)
    level = percentile_filter(flux, percentile, size=(1, width), mode="nearest")
    return flux / np.where(level > 0, level, np.nan)


def alpha_of(feh) -> np.ndarray:
    """Return the disc's mean [α/Fe] at [Fe/H]: from 0 at solar to 0.35 at −1 and below."""
    return np.clip(-0.35 * np.asarray(feh, dtype=float), 0, 0.35)


def lamost_dwarfs(table: pd.DataFrame) -> np.ndarray:
    """Say which LAMOST stars are judged: F, G, K dwarfs with a good spectrum, (n,) bool."""
    return (
        table["teff"].between(4800, 7500)
        & (table["logg"] > 3.2)
        & (table["snrg"] > 40)
        & table["feh"].notna()
        & (table["z"] > -0.01)
    ).to_numpy()


def lamost(
    table, wave, flux, ivar, blur=LAMOST_BLUR, continuum=running_percentile, interpolate=True
) -> Comparison:
    """Compare LAMOST stars with `Emulator(LAMOST)` at their catalogue labels.

    The model is shifted to the star's velocity; then both go the same way: `rest_frame`,
    continuum.

    Parameters
    ----------
    table : DataFrame (n rows)
        ``teff`` (K), ``logg``, ``feh``, redshift ``z``.
    wave : (3909,) float
        LAMOST's grid, as observed, vacuum Å.
    flux, ivar : (n, 3909) float
    blur : float
        Standard deviation (pixels) of a Gaussian on the model; 0: R 1800 as it is.
    continuum : callable
        From spectra (n, pixels) to spectra over their continuum.
    interpolate : bool
        False: masked pixels keep what the file holds, and are judged with the others. It shows
        what that costs.

    Raises
    ------
    ValueError
        If the grid is not LAMOST's or a label is outside the emulator's.
    """
    if not np.allclose(wave, LAMOST.wave, rtol=1e-6, atol=0):
        raise ValueError("wave is not the grid of LAMOST's low-resolution spectra")
    labels = _labels(table)
    z = table["z"].to_numpy(dtype=float)
    mask = unusable(flux, ivar) if interpolate else torch.zeros(np.shape(flux), dtype=torch.bool)
    ivar = torch.as_tensor(ivar).clamp(min=1e-9).masked_fill(mask, 0)
    real, ivar = rest_frame(wave, interpolate_masked(wave, flux, mask), ivar, z)
    model = torch.from_numpy(_blurred(Emulator(LAMOST)(labels.to_numpy()), blur))
    model, _ = LAMOST.shift(model, torch.from_numpy(C * z))
    model, _ = rest_frame(wave, model, torch.ones_like(model), z)
    real, model = (continuum(x.numpy()) for x in (real, model))
    real = np.where(ivar == 0, np.nan, real)
    return Comparison(LAMOST.wave, real, model, labels.assign(z=z)).between(*BLUE)


def miles(wave, flux, table, blur=MILES_BLUR) -> Comparison:
    """Compare MILES stars with the emulator at their catalogue labels, 4000–5600 Å.

    The library's resolution is none of a survey's: DESI's blue arm, emulated finer, is blurred to
    it with `emulator_source.line_spread`.

    Parameters
    ----------
    wave : (pixels,) float
        Vacuum, Å, at rest.
    flux : (n, pixels) float
    table : DataFrame (n rows)
        ``teff`` (K), ``logg``, ``feh``; stars without, or outside the emulator's, are left out.
    blur : float
        As for `lamost`, in pixels of 0.9 Å.
    """
    inside = (wave > BLUE[0] - 100) & (wave < BLUE[1] + 100)
    wave, flux = wave[inside], np.asarray(flux, dtype=float)[:, inside]
    labels = _labels(table)
    arm = DESI.arms["b"]
    model = Emulator(DESI, outside="nan")(labels.to_numpy())[:, arm].numpy()
    known = np.isfinite(model).all(axis=1) & np.isfinite(flux).all(axis=1)
    known &= np.median(flux, axis=1) > 0
    start, step = DESI.wave[arm][0], DESI.wave[arm][1] - DESI.wave[arm][0]
    wanted = np.hypot(MILES_FWHM, 2.3548 * MILES_STEP * blur)
    more = np.sqrt(wanted**2 - np.interp(wave, DESI.wave[arm], DESI.fwhm[arm]) ** 2)
    spread = line_spread(wave, more, start, step, model.shape[1])
    model = model[known] @ spread.T
    width = 75  # as many Å as LAMOST's 51 pixels
    real, model = running_percentile(flux[known], width), running_percentile(model, width)
    return Comparison(wave, real, model, labels[known]).between(*BLUE)


def xp(wave, flux, table, robust=True) -> Comparison:
    """Compare Gaia XP spectra with the emulator at their catalogue labels, 400–1000 nm.

    Each star's A_V and scale are fitted (`dust_and_scale`): its labels do not know its distance
    and what lies before it. Both sides are over the median real flux.

    Parameters
    ----------
    wave : (343,) float
        nm.
    flux : (n, 343) float
        In any unit.
    table : DataFrame (n rows)
        ``teff`` (K), ``logg``, ``feh``, ``alpha_m``. Stars outside the emulator's labels are left
        out; ``row`` of the result's labels says which are in it.
    robust : bool
        As for `dust_and_scale`.

    Returns
    -------
    Comparison
        With ``a_v`` (mag) and ``row`` among the labels.
    """
    labels = _labels(table.rename(columns={"alpha_m": "alpha_fe"})).reset_index(drop=True)
    model = Emulator(GAIA_XP, outside="nan").flux(labels.to_numpy()).numpy()
    inside = (10 * wave >= XP_RANGE[0]) & (10 * wave <= XP_RANGE[1])
    known = np.isfinite(model).all(axis=1)
    real = np.asarray(flux, dtype=float)[known][:, inside]
    real /= np.median(real, axis=1, keepdims=True)
    model = model[known][:, inside].astype(float)
    model, a_v = dust_and_scale(real, model, GAIA_XP.extinction[inside], robust)
    labels = labels[known].assign(a_v=a_v, row=np.flatnonzero(known))
    return Comparison(10 * wave[inside], real, model, labels)


def dust_and_scale(flux, model, curve, robust=True) -> tuple[np.ndarray, np.ndarray]:
    """Redden and scale each model to its spectrum.

    Gauss–Newton in the logarithm of the scale and A_V; with ``robust`` the weights 1/|residual|
    make it the fit of least absolute deviations, else it is least squares.

    Parameters
    ----------
    flux, model : (n, pixels) float
        Flux of order one.
    curve : (pixels,) float
        A(λ)/A_V.

    Returns
    -------
    model : (n, pixels)
    a_v : (n,)
        mag; negative where the model is redder than the star.
    """
    model = model / np.median(model, axis=1, keepdims=True)
    slope = np.column_stack([np.ones_like(curve), -0.4 * np.log(10) * curve])  # d ln model
    start = np.log(np.clip(flux, 0.02, None) / model)
    fitted = np.linalg.lstsq(slope, start.T, rcond=None)[0].T  # (n, 2)
    for _ in range(40):
        now = model * np.exp(fitted @ slope.T)
        residual = flux - now
        weight = 1 / np.maximum(np.abs(residual), 1e-3) if robust else np.ones_like(now)
        gradient = now[..., None] * slope  # (n, pixels, 2)
        normal = np.einsum("npi,np,npj->nij", gradient, weight, gradient)
        right = np.einsum("npi,np,np->ni", gradient, weight, residual)
        step = np.linalg.solve(normal, right[..., None])[..., 0]
        fitted = fitted + np.clip(step, -0.5, 0.5)
    return model * np.exp(fitted @ slope.T), fitted[:, 1]


def nearest(spectrum: Spectrum, instrument: Instrument, low: float, high: float) -> Comparison:
    """Compare one spectrum of unknown labels with the emulated one that is nearest to it.

    The labels are searched on a lattice of 9 × 9 × 9 values of Teff, log g and [Fe/H], then on
    ever finer ones about the best, by the squared residuals between ``low`` and ``high`` (Å);
    [α/Fe] follows from [Fe/H] (`alpha_of`; 0 where the emulator knows no other). Both sides went
    through `continuum.normalise`.

    Parameters
    ----------
    spectrum : Spectrum
        In the instrument's frame; its redshift is taken out.
    """
    wave, emulator = instrument.wave, Emulator(instrument, outside="nan")
    real, ivar = (np.interp(wave, spectrum.wave, x) for x in (spectrum.flux, spectrum.ivar))
    lost = np.interp(wave, spectrum.wave, spectrum.mask.astype(float), 1, 1) > 0
    real, ivar = np.nan_to_num(real), np.where(lost, 0, np.nan_to_num(ivar))
    real, _, lost = (x.numpy() for x in normalise(wave, real, ivar, spectrum.meta["redshift"]))
    used = ~lost & (wave > low) & (wave < high)

    def emulated(labels):
        alpha = alpha_of(labels[:, 2]) if emulator.has_nets else np.zeros(len(labels))
        model = emulator(np.column_stack([labels, alpha]))
        return (model / percentile_continuum(wave, model)).numpy(), alpha

    centre, half = np.array([6000.0, 2.5, -1.0]), np.array([2500.0, 2.5, 1.5])
    for _ in range(7):
        ticks = [np.linspace(c - h, c + h, 9) for c, h in zip(centre, half, strict=True)]
        lattice = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
        distance = np.square(emulated(lattice)[0][:, used] - real[used]).mean(axis=1)
        centre = lattice[np.nanargmin(distance)]
        half = half / 2.5
    model, alpha = emulated(centre[None])
    labels = pd.DataFrame(centre[None], columns=["teff", "logg", "feh"]).assign(alpha_fe=alpha)
    return Comparison(wave, np.where(lost, np.nan, real)[None], model, labels)


def _labels(table: pd.DataFrame) -> pd.DataFrame:
    labels = table[["teff", "logg", "feh"]].astype(float)
    alpha = table["alpha_fe"] if "alpha_fe" in table else alpha_of(table["feh"])
    return labels.assign(alpha_fe=alpha)


def _blurred(flux: torch.Tensor, pixels: float) -> np.ndarray:
    return gaussian_filter1d(flux.numpy(), pixels, axis=1) if pixels else flux.numpy()
