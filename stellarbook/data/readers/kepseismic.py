"""KEPSEISMIC light curves: four years of Kepler, joined, filtered, and their gaps filled in.

Source: https://archive.stsci.edu/prepds/kepseismic (Mathur, Santos & García; made by KADACS, García
et al. 2011, MNRAS 414, L6; 2014, A&A 568, A10). Two layouts are in circulation: the archive's, a
table of TIME and FLUX, and its authors' own, an image of two columns. Either way a further image
holds one mark a cadence. Files say nothing of the marks; that 1 is a measurement, 2 a flux that was
filled in (Pires et al. 2015, A&A 574, A18) and 0 neither, is seen from the mission's own gaps.
"""

import numpy as np
from astropy.io import fits

from stellarbook.data.readers.cadences import kepler_zero, light_curve, star
from stellarbook.data.readers.files import ReadError, cards, column, image, number, table
from stellarbook.data.records import LightCurve

BITS = {"EMPTY": 0, "FILLED": 1}  # of `LightCurve.quality`, made from the marks
MARKS = {0: 1 << BITS["EMPTY"], 1: 0, 2: 1 << BITS["FILLED"]}


def matches(hdus: fits.HDUList) -> bool:
    """Say whether a file is KEPSEISMIC's."""
    header = hdus[0].header
    origin, kind = (str(header.get(key, "")).strip().upper() for key in ("ORIGIN", "DATATYPE"))
    return origin == "CEA & SSI" or kind == "KADACS"


def read(hdus: fits.HDUList) -> LightCurve:
    """Read one star, in ppm about its mean; bad are cadences that were not measured.

    The flux that its authors filled in stays under the mask: they analyse it too, and
    ``curve.quality & 1`` tells the cadences that even they left empty. Errors and quarters are
    unknown, the header's QUARTER being only the last. ``meta["filter_days"]`` is the period above
    which variations were filtered out, NaN if unknown.
    """
    header = hdus[0].header
    if hdus[0].data is not None:
        columns = image(hdus, 0)
        if columns.ndim != 2 or columns.shape[1] != 2:
            raise ReadError(f"HDU 0: expected two columns, found shape {columns.shape}")
        time, flux = columns.T
        marks = image(hdus, 1)
    else:
        rows = table(hdus, 1)
        time, flux = (column(rows, name).astype(float) for name in ("TIME", "FLUX"))
        marks = image(hdus, 2)
    if marks.shape != time.shape or not np.isin(marks, list(MARKS)).all():
        raise ReadError(
            f"HDU of marks: expected {len(time)} of 0, 1 or 2, found shape {marks.shape} with "
            f"{np.unique(marks)[:5]}"
        )
    return light_curve(
        "kepseismic",
        cards(header),
        time,
        flux,
        bad=marks != 1,
        quality=np.select([marks == mark for mark in MARKS], list(MARKS.values())),
        # TUNIT1 says BJD − 2454833 over times that count from 2400000 or from 0.
        time_zero=kepler_zero(time),
        unit="ppm",
        filter_days=number(header, "TSFILTER"),
        **star(header),
    )
