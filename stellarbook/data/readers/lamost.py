"""LAMOST low-resolution spectra: DR1 to DR7's image, DR8's and later table.

Data model: https://www.lamost.org/dr8/v1.0/doc/lr-data-production-description and, for the image,
https://www.lamost.org/public/dr/algorithms/ff. Wavelengths are vacuum and heliocentric, the flux is
calibrated in relative units.
"""

import numpy as np
from astropy.io import fits

from stellarbook.data.readers.files import (
    ReadError,
    cards,
    column,
    image,
    meta,
    number,
    required,
    table,
)
from stellarbook.data.records import Spectrum, air_to_vacuum


def matches(hdus: fits.HDUList) -> bool:
    """Say whether a file is LAMOST's."""
    return "LAMOST" in str(hdus[0].header.get("TELESCOP", "")).upper()


def read(hdus: fits.HDUList) -> Spectrum:
    """Read one spectrum; bad are pixels flagged in every exposure (ANDMASK ≠ 0)."""
    header = hdus[0].header
    if any(hdu.name.startswith(("COADD_B", "COADD_R")) for hdu in hdus):
        raise ReadError("a medium-resolution LAMOST file: expected a low-resolution one")
    if hdus[0].data is None:
        rows = table(hdus, "COADD")
        names = ("WAVELENGTH", "FLUX", "IVAR", "ANDMASK")
        wave, flux, ivar, flags = (column(rows, name, "COADD")[0] for name in names)
    else:
        rows = image(hdus, 0)
        if rows.ndim != 2 or len(rows) < 5:
            raise ReadError(f"HDU 0: expected an image of five rows, found shape {rows.shape}")
        # Flux, inverse variance, a third row that changed between releases, and-mask, or-mask.
        flux, ivar, flags = rows[0], rows[1], rows[3]
        wave = 10 ** (
            required(header, "COEFF0") + required(header, "COEFF1") * np.arange(len(flux))
        )
    if header.get("VACUUM") is False:
        wave = air_to_vacuum(wave)
    return Spectrum(
        wave,
        flux,
        ivar,
        flags != 0,
        meta(
            "lamost",
            cards(header),
            object=str(header.get("OBSID", header.get("DESIG", ""))),
            unit="relative",
            # HELIO_RV is the Earth's correction, long applied; Z is the star's.
            redshift=number(header, "Z"),
            redshift_error=number(header, "Z_ERR"),
            ra=number(header, "RA"),
            dec=number(header, "DEC"),
        ),
    )
