"""Which survey or mission a FITS file is of, by its content."""

from astropy.io import fits

from stellarbook.data.readers import apogee, desi, gaia, galah, kepler, kepseismic, lamost, sdss

# Surveys and missions with FITS files of their own; each module has `matches` and `read`.
SPECTRA = {"lamost": lamost, "sdss": sdss, "desi": desi, "apogee": apogee, "galah": galah}
# KEPSEISMIC first: its headers began as Kepler's.
LIGHT_CURVES = {"KEPSEISMIC": kepseismic, "Kepler, K2 or TESS": kepler}


def spectrum_of(hdus: fits.HDUList) -> str | None:
    """Return the survey whose spectrum a file holds, None if it is none that is known."""
    known = next((name for name, module in SPECTRA.items() if module.matches(hdus)), None)
    return known or gaia.kind(gaia.fits_table(hdus))


def light_curve_of(hdus: fits.HDUList) -> str | None:
    """Return the key of `LIGHT_CURVES` that fits a file, None if none does."""
    return next((name for name, module in LIGHT_CURVES.items() if module.matches(hdus)), None)


def contents(hdus: fits.HDUList) -> str:
    """Describe a file that nobody knows."""
    found = ", ".join(hdu.name or "unnamed" for hdu in hdus)
    telescope = str(hdus[0].header.get("TELESCOP", "unknown")).strip()
    return f"its telescope: {telescope}; its HDUs: {found[:200]}"
