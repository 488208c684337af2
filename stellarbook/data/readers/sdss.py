"""SDSS and BOSS ``spec-PLATE-MJD-FIBER`` files (DR8 and later, "lite" or full).

Data model: https://data.sdss.org/datamodel/files/BOSS_SPECTRO_REDUX/RUN2D/spectra/PLATE4/spec.html.
Wavelengths are vacuum and heliocentric.
"""

import numpy as np
from astropy.io import fits

from stellarbook.data.readers.files import cards, column, has_columns, meta, number, table
from stellarbook.data.records import Spectrum

# Of SPPIXMASK (https://www.sdss4.org/dr17/algorithms/bitmasks/#SPPIXMASK) the bits that say that
# a pixel is worthless. Others, such as PARTIALREJECT or NEARBADPIXEL, are hints, and what they
# cost is in the inverse variance.
BAD_BITS = {
    "FULLREJECT": 18,
    "NOSKY": 22,
    "BRIGHTSKY": 23,
    "NODATA": 24,
    "COMBINEREJ": 25,
    "BADFLUXFACTOR": 26,
    "BADSKYCHI": 27,
    "REDMONSTER": 28,
}
BAD = sum(1 << bit for bit in BAD_BITS.values())


def matches(hdus: fits.HDUList) -> bool:
    """Say whether a file is an SDSS ``spec`` file."""
    return (
        len(hdus) > 1
        and isinstance(hdus[1], fits.BinTableHDU)
        and hdus[1].data is not None
        and has_columns(hdus[1].data, "loglam", "flux")
    )


def read(hdus: fits.HDUList) -> Spectrum:
    """Read the coadded spectrum; bad are pixels with `BAD_BITS` in every exposure (and_mask)."""
    rows = table(hdus, 1)
    star = {}
    if len(hdus) > 2 and isinstance(hdus[2], fits.BinTableHDU) and len(hdus[2].data):
        first = hdus[2].data
        star = {name.upper(): first[name][0] for name in first.names}
    header = hdus[0].header
    ids = [str(star.get(key, header.get(key, ""))).strip() for key in ("PLATE", "MJD", "FIBERID")]
    return Spectrum(
        10 ** column(rows, "loglam").astype(float),
        column(rows, "flux"),
        column(rows, "ivar"),
        (column(rows, "and_mask").astype(np.int64) & BAD) != 0,
        meta(
            "sdss",
            cards(header),
            object="-".join(filter(None, ids)),
            unit="1e-17 erg s-1 cm-2 Å-1",
            redshift=number(star, "Z"),
            redshift_error=number(star, "Z_ERR"),
            # The primary header's RA and DEC are the telescope's.
            ra=number(star, "PLUG_RA", "FIBER_RA", "RA"),
            dec=number(star, "PLUG_DEC", "FIBER_DEC", "DEC"),
            **{key.lower(): str(star[key]).strip() for key in ("CLASS", "SUBCLASS") if key in star},
        ),
    )
