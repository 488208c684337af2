"""A spectrum on its survey's grid: copied if the grids agree, else averaged into the new pixels."""

import numpy as np

from stellarbook.data.instruments import APOGEE, DESI, GAIA_XP, GALAH, LAMOST, SDSS
from stellarbook.data.observe import Instrument
from stellarbook.data.records import Spectrum

# Surveys that can be built: those whose instrument we know.
GRIDS = {
    "lamost": LAMOST,
    "sdss": SDSS,
    "desi": DESI,
    "apogee": APOGEE,
    "galah": GALAH,
    "gaia_xp_continuous": GAIA_XP,
    "gaia_xp_sampled": GAIA_XP,
}
SAME = 0.02  # pixels between grids that count as one
COVERED = 0.5  # of a new pixel, by good old ones, or it is bad


def on_grid(spectrum: Spectrum, instrument: Instrument) -> tuple[np.ndarray, np.ndarray]:
    """Return a spectrum's flux and inverse variance on an instrument's grid, arm by arm.

    Returns
    -------
    flux, ivar : (pixels,) float64
        In the spectrum's unit and frame. ``flux`` is NaN where the spectrum has no pixel, ``ivar``
        0 there and wherever it is masked.

    Notes
    -----
    All releases of LAMOST have one grid, 10^(3.5682 + 1e-4 i) Å, and differ only in where it ends.
    The instrument's begins at 3700 Å, 0.016 pixels or 1.1 km/s beside it: less than the error of
    any of its velocities. Pixels that near (`SAME`) are copied. See `rebinned` for all others.
    """
    flux = np.full(len(instrument.wave), np.nan)
    ivar = np.zeros(len(instrument.wave))
    arms = spectrum.meta.get("arms")
    pairs = [(slice(None), slice(None))]
    if arms is not None:
        pairs = [(arms[a], instrument.arms[a]) for a in arms if a in instrument.arms]
    for old, new in pairs:
        arrays = (getattr(spectrum, name)[old] for name in ("wave", "flux", "ivar", "mask"))
        flux[new], ivar[new] = _one_arm(*arrays, instrument.wave[new])
    return flux, ivar


def _one_arm(wave, flux, ivar, mask, new_wave):
    new_flux, new_ivar = np.full(len(new_wave), np.nan), np.zeros(len(new_wave))
    ends = _edges(wave)[[0, -1]]
    inside = (new_wave > ends[0]) & (new_wave < ends[1])
    position = np.interp(new_wave[inside], wave, np.arange(len(wave)))
    pixel = np.rint(position).astype(int)
    if (np.abs(position - pixel) < SAME).all() and (np.diff(pixel) == 1).all():
        new_flux[inside] = flux[pixel]
        new_ivar[inside] = np.where(mask[pixel], 0, ivar[pixel])
        return new_flux, new_ivar
    return rebinned(wave, flux, ivar, mask, new_wave)


def rebinned(wave, flux, ivar, mask, new_wave) -> tuple[np.ndarray, np.ndarray]:
    r"""Average a spectrum into new pixels, so that flux is conserved.

    With :math:`w_{ij}` the share of new pixel j that good old pixel i covers,
    :math:`f_j = \sum_i w_{ij} f_i / \sum_i w_{ij}` and
    :math:`\sigma_j^2 = \sum_i w_{ij}^2 \sigma_i^2 / (\sum_i w_{ij})^2` (Carnall 2017, Eqs. 1, 2).
    New neighbours that share an old pixel are correlated; that is not kept.

    Parameters
    ----------
    wave, flux, ivar, mask : (n,)
        Flux per wavelength; masked pixels have no weight.
    new_wave : (m,) float

    Returns
    -------
    flux, ivar : (m,) float64
        NaN where no good pixel reaches; ``ivar`` 0 where they cover less than half (`COVERED`).
    """
    old, new = _edges(wave), _edges(new_wave)
    cuts = np.unique(np.concatenate([old, new]))
    middle, width = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    i, j = np.searchsorted(old, middle) - 1, np.searchsorted(new, middle) - 1
    there = (i >= 0) & (i < len(wave)) & (j >= 0) & (j < len(new_wave))
    there[there] &= ~mask[i[there]]
    i, j = i[there], j[there]
    share = width[there] / np.diff(new)[j]

    def total(values):
        return np.bincount(j, values, len(new_wave))

    cover = total(share)
    with np.errstate(invalid="ignore", divide="ignore"):
        new_flux = total(share * flux[i]) / cover
        new_ivar = cover**2 / total(share**2 / ivar[i])
    return new_flux, np.where(cover >= COVERED, new_ivar, 0)


def _edges(wave: np.ndarray) -> np.ndarray:
    """Boundaries (n + 1,) half way between pixels; the end pixels are symmetric."""
    if len(wave) < 2:
        return wave[0] + np.array([-0.5, 0.5])
    between = (wave[1:] + wave[:-1]) / 2
    return np.concatenate([[2 * wave[0] - between[0]], between, [2 * wave[-1] - between[-1]]])
