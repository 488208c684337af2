"""GALAH spectra: four arms, a file each (HERMES; reductions 5 and 6, DR2 to DR4).

Data models: https://github.com/sheliak/galah_workshop (reduction 6, named HDUs) and
https://github.com/svenbuder/GALAH_DR3, tutorial 3 (DR3, HDUs by number). Wavelengths in the files
are air, on a linear grid, corrected to the barycentre.
"""

import numpy as np
from astropy.io import fits

from stellarbook.data.readers.files import (
    C_KM_S,
    ReadError,
    cards,
    image,
    inverse_square,
    meta,
    number,
    required,
)
from stellarbook.data.records import Spectrum, air_to_vacuum

# Å, wide enough for every plate; which arm a file is, its header's grid says.
ARMS = {
    "blue": (4690, 4930),
    "green": (5620, 5900),
    "red": (6450, 6770),
    "infrared": (7550, 7920),
}
LABELS = {"teff": "TEFF_R", "logg": "LOGG_R", "feh": "FE_H_R", "alpha_fe": "A_FE_R"}


def matches(hdus: fits.HDUList) -> bool:
    """Say whether a file is of HERMES, GALAH's spectrograph."""
    return "HERMES" in str(hdus[0].header.get("INSTRUME", "")).upper()


def read(hdus: fits.HDUList) -> Spectrum:
    """Read one arm: HDU 0 in counts and its relative error. The files have no mask."""
    header = hdus[0].header
    flux = image(hdus, 0)
    named = any(hdu.name.upper() == "RELATIVE_ERROR" for hdu in hdus)
    error = image(hdus, "RELATIVE_ERROR" if named else 1) * np.abs(flux)
    # DR3 writes a reference pixel of 0 where it means the first, 1.
    pixel = np.arange(len(flux)) + 1 - (number(header, "CRPIX1") or 1)
    step = "CDELT1" if "CDELT1" in header else "CD1_1"
    wave = required(header, "CRVAL1") + required(header, step) * pixel
    arm = [name for name, (low, high) in ARMS.items() if low < wave[0] and wave[-1] < high]
    if not arm:
        raise ReadError(
            f"CRVAL1, {step}: {wave[0]:.6g}–{wave[-1]:.6g} Å is none of the arms {ARMS}"
        )
    velocity = number(header, "RVCOM", "RV")
    if number(header, "RVCOM_OK", "RV_OK") == 0:
        velocity = np.nan
    gaia = str(header.get("GAIA_ID", "")).strip()
    return Spectrum(
        air_to_vacuum(wave),
        flux,
        inverse_square(error),
        np.zeros(len(flux), bool),
        meta(
            "galah",
            cards(header),
            object=gaia or str(header.get("2MASS_ID", header.get("OBJECT", ""))).strip(),
            unit="counts",
            redshift=velocity / C_KM_S,
            redshift_error=number(header, "E_RVCOM", "E_RV") / C_KM_S,
            ra=number(header, "RA_ICRS", "RA_OBS", "MEANRA"),
            dec=number(header, "DEC_ICRS", "DEC_OBS", "MEANDEC"),
            labels={ours: number(header, key) for ours, key in LABELS.items() if key in header},
            arms={arm[0]: slice(0, len(flux))},
        ),
    )


def joined(spectra: list[Spectrum]) -> Spectrum:
    """Join the arms of one star, in ascending wavelength; ``meta`` is the first arm's.

    Raises
    ------
    ReadError
        No file, one of another survey, two of the same arm or two of different stars.
    """
    if not spectra:
        raise ReadError("an empty list: expected the files of one star")
    spectra = sorted(spectra, key=lambda spectrum: spectrum.wave[0])
    files = ", ".join(spectrum.meta["file"] for spectrum in spectra)
    if any(spectrum.meta["survey"] != "galah" for spectrum in spectra):
        raise ReadError(f"{files}: only GALAH's files are arms of one spectrum")
    if len({spectrum.meta["object"] for spectrum in spectra}) > 1:
        raise ReadError(f"{files}: files of different stars")
    arms, end = {}, 0
    for spectrum in spectra:
        (name,) = spectrum.meta["arms"]
        if name in arms:
            raise ReadError(f"{files}: the {name} arm twice")
        arms[name] = slice(end, end := end + len(spectrum))
    return Spectrum(
        *(
            np.concatenate([getattr(s, name) for s in spectra])
            for name in "wave flux ivar mask".split()
        ),
        spectra[0].meta | {"arms": arms, "file": files},
    )
