"""APOGEE ``apStar-…`` (combined visits) and ``aspcapStar-…`` (normalised) files.

Data models: https://data.sdss.org/datamodel/files/APOGEE_REDUX/APRED_VERS/stars/TELESCOPE/FIELD/
apStar.html and https://data.sdss.org/datamodel/files/APOGEE_ASPCAP/APRED_VERS/ASPCAP_VERS/
TELESCOPE/FIELD/aspcapStar.html. Wavelengths are vacuum and already at rest: the redshift is 0, and
the star's barycentric velocity is ``meta["velocity"]``.
"""

import numpy as np
from astropy.io import fits

from stellarbook.data.readers.files import (
    ReadError,
    cards,
    image,
    inverse_square,
    meta,
    number,
    required,
)
from stellarbook.data.records import Spectrum

# Of APOGEE_PIXMASK (https://www.sdss4.org/dr17/algorithms/bitmasks/#APOGEE_PIXMASK) those that its
# own analysis leaves out; ghosts, persistence, sky and telluric lines only warn.
BAD_BITS = {
    "BADPIX": 0,
    "CRPIX": 1,
    "SATPIX": 2,
    "UNFIXABLE": 3,
    "BADDARK": 4,
    "BADFLAT": 5,
    "BADERR": 6,
    "NOSKY": 7,
    "NOT_ENOUGH_PSF": 14,
}
BAD = sum(1 << bit for bit in BAD_BITS.values())
NO_ERROR = 1e10  # the pipeline's error of a pixel without data


def matches(hdus: fits.HDUList) -> bool:
    """Say whether a file has APOGEE's common logarithmic grid (15,100–17,000 Å)."""
    if len(hdus) < 4 or not hdus[1].is_image:
        return False
    header = hdus[1].header if "CRVAL1" in hdus[1].header else hdus[0].header
    return 4.17 < number(header, "CRVAL1") < 4.19 and number(header, "CDELT1") < 1e-4


def read(hdus: fits.HDUList) -> Spectrum:
    """Read the combined spectrum, of an apStar file the first row. Bad are `BAD_BITS`.

    An aspcapStar file has no mask: bad is what it leaves zero (the gaps between the chips) or
    gives an error of 1e10.
    """
    header = hdus[0].header
    flux, error = (np.atleast_2d(image(hdus, i))[0] for i in (1, 2))
    grid = hdus[1].header if "CRVAL1" in hdus[1].header else header
    reference = required(grid, "CRPIX1") if "CRPIX1" in grid else 1
    pixel = np.arange(len(flux)) + 1 - reference
    normalised = len(hdus) > 4 and isinstance(hdus[4], fits.BinTableHDU)
    if normalised:
        mask = (flux == 0) | (error >= NO_ERROR)
    else:
        flags = np.atleast_2d(image(hdus, 3, np.int64))[0]
        if flags.shape != flux.shape:
            raise ReadError(f"HDU 3: expected {len(flux)} flags, found {len(flags)}")
        mask = ((flags & BAD) != 0) | (error >= NO_ERROR)
    return Spectrum(
        10 ** (required(grid, "CRVAL1") + required(grid, "CDELT1") * pixel),
        flux,
        inverse_square(error),
        mask,
        meta(
            "apogee",
            cards(header),
            object=str(header.get("OBJID", "")).strip(),
            unit="normalised" if normalised else "1e-17 erg s-1 cm-2 Å-1",
            redshift=0.0,
            redshift_error=0.0,
            ra=number(header, "RA"),
            dec=number(header, "DEC"),
            velocity=number(header, "VHELIO", "VRAD"),  # km/s, barycentric
            labels=_labels(hdus[4].data) if normalised else {},
        ),
    )


def _labels(rows: fits.FITS_rec) -> dict[str, float]:
    """Return ASPCAP's calibrated labels: PARAM is Teff, log g, log v_mic, [M/H], C, N, [α/M]."""
    if rows is None or not len(rows) or "PARAM" not in rows.names:
        return {}
    values = np.ravel(rows["PARAM"][0]).astype(float)
    if len(values) < 7:
        return {}
    values = np.where(values > -9990, values, np.nan)
    return {name: float(values[i]) for name, i in dict(teff=0, logg=1, m_h=3, alpha_m=6).items()}
