"""What the paper's questions need beside the model: its relations between labels, and units.

Leung & Bovy (2024), sections 4.3, 6.2 and 6.5. Shown in chapter 11.
"""

import numpy as np

from stellarbook.data import xp_basis

K_MICRON = 2.159  # effective wavelength of 2MASS K_s (Cohen et al. 2003)


def dwarf_logg(teff):
    """log g of solar-metallicity dwarfs of effective temperatures in K (Eq. 12)."""
    teff = np.asarray(teff, dtype=float)
    return np.clip(4.6 - 0.0005 * (teff - 5000), 3.95, 4.6)


def giant_teff(logg):
    """Effective temperature (K) of solar-metallicity giants of given log g (Eq. 13)."""
    logg = np.asarray(logg, dtype=float)
    return np.where(logg < 3.65, 5200 - 441.86 * (3.65 - logg), 5900 - 1400 * (4.15 - logg))


def fitzpatrick99(wave, r_v=3.1):
    """Extinction A(λ) / E(B−V) of Fitzpatrick (1999) at wavelengths in nm."""
    from astropy import units as u
    from dust_extinction.parameter_averages import F99

    return r_v * F99(Rv=r_v)(np.asarray(wave, dtype=float) * u.nm)


def reddening(a_k, r_v=3.1):
    """E(B−V) (mag) of an extinction A_K (mag), by the law of Fitzpatrick (1999)."""
    return np.asarray(a_k, dtype=float) / fitzpatrick99(1e3 * K_MICRON, r_v)


def spectrum(prediction):
    """Spectra of predicted coefficients.

    Parameters
    ----------
    prediction : DataFrame
        With the columns ``bp0`` … ``rp54``, as `StarTransformer.predict` returns them.

    Returns
    -------
    (stars, 343) array
        Flux divided by the star's G flux (Eq. 8) at `xp_basis.WAVE`, W m⁻² nm⁻¹ per e⁻ s⁻¹.
    """
    coefficients = prediction[list(xp_basis.NAMES)].to_numpy(dtype=float)
    return xp_basis.synthesise(coefficients, np.full(len(coefficients), xp_basis.G_ZERO_POINT))
