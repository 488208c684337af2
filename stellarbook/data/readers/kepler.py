"""Kepler, K2 and TESS light-curve files (``…_llc.fits``, ``…_slc.fits``, ``…_lc.fits``).

The three missions' pipelines write one layout: Kepler Archive Manual (KDMC-10008-006), section
2.3.1, https://archive.stsci.edu/kepler/manuals/archive_manual.pdf, and TESS Science Data Products
Description Document (EXP-TESS-ARC-ICD-0014). Read is PDCSAP_FLUX, cleaned of what the instrument
does to all stars alike. Times are barycentric, TDB, at mid-cadence.

`astropy.timeseries` reads these files too, and the tests compare with it. It is not used here: it
drops the primary header (star, magnitude, quarter) and, with no more than a warning, the cadences
without a time; it turns times into calendar dates; and it knows neither quality nor damage.
"""

import numpy as np
from astropy.io import fits

from stellarbook.data.readers.cadences import light_curve, star
from stellarbook.data.readers.files import cards, column, number, required, table
from stellarbook.data.records import LightCurve

# Bits of SAP_QUALITY (Kepler Archive Manual, table 2-3, where they count from 1) and of QUALITY
# (TESS document, table of quality flags).
KEPLER_BITS = {
    "ATTITUDE_TWEAK": 0,
    "SAFE_MODE": 1,
    "COARSE_POINT": 2,
    "EARTH_POINT": 3,
    "ZERO_CROSSING": 4,
    "DESATURATION": 5,
    "ARGABRIGHTENING": 6,
    "COSMIC_RAY_IN_APERTURE": 7,
    "MANUAL_EXCLUDE": 8,
    "SENSITIVITY_DROPOUT": 10,
    "IMPULSIVE_OUTLIER": 11,
    "ARGABRIGHTENING_ON_CCD": 12,
    "COSMIC_RAY_IN_COLLATERAL": 13,
    "DETECTOR_ANOMALY": 14,
    "NO_FINE_POINT": 15,
    "NO_DATA": 16,
    "ROLLING_BAND_IN_APERTURE": 17,
    "ROLLING_BAND_IN_MASK": 18,
    "POSSIBLE_THRUSTER_FIRING": 19,
    "THRUSTER_FIRING": 20,
}
TESS_BITS = {
    "ATTITUDE_TWEAK": 0,
    "SAFE_MODE": 1,
    "COARSE_POINT": 2,
    "EARTH_POINT": 3,
    "ARGABRIGHTENING": 4,
    "DESATURATION": 5,
    "COSMIC_RAY_IN_APERTURE": 6,
    "MANUAL_EXCLUDE": 7,
    "DISCONTINUITY": 8,
    "IMPULSIVE_OUTLIER": 9,
    "COSMIC_RAY_IN_COLLATERAL": 10,
    "STRAY_LIGHT": 11,
    "SCATTERED_LIGHT": 12,
    "PLANET_SEARCH_EXCLUDE": 13,
    "BAD_CALIBRATION": 14,
    "INSUFFICIENT_TARGETS": 15,
}
# Bad are the bits of lightkurve's default bitmasks (KeplerQualityFlags, TessQualityFlags: 1130799
# and 175), "cadences which are definitely useless". The others warn, or say what was corrected.
USELESS = ("ATTITUDE_TWEAK", "SAFE_MODE", "COARSE_POINT", "EARTH_POINT", "DESATURATION")
BAD = {
    "kepler": (*USELESS, "MANUAL_EXCLUDE", "DETECTOR_ANOMALY", "NO_DATA", "THRUSTER_FIRING"),
    "tess": (*USELESS, "MANUAL_EXCLUDE"),
}
FLUX = "PDCSAP_FLUX"


def bad_bits(telescope: str) -> int:
    """Return the bits of `BAD` as one number: 1130799 for "kepler", 175 for "tess"."""
    bits = KEPLER_BITS if telescope == "kepler" else TESS_BITS
    return sum(1 << bits[name] for name in BAD[telescope])


def matches(hdus: fits.HDUList) -> bool:
    """Say whether a file is Kepler's, K2's or TESS's."""
    return _telescope(hdus) in BAD


def read(hdus: fits.HDUList) -> LightCurve:
    """Read one quarter, campaign or sector; bad are the bits that `BAD` names."""
    header, telescope = hdus[0].header, _telescope(hdus)
    rows = table(hdus, "LIGHTCURVE")
    below = hdus["LIGHTCURVE"].header
    quality = "SAP_QUALITY" if telescope == "kepler" else "QUALITY"
    names = ("TIME", FLUX, f"{FLUX}_ERR", quality)
    time, flux, error, flags = (column(rows, name, "LIGHTCURVE") for name in names)
    k2 = "CAMPAIGN" in header or str(header.get("MISSION", "")).strip().upper() == "K2"
    quarter = number(header, "QUARTER", "CAMPAIGN", "SECTOR")
    return light_curve(
        "k2" if k2 else telescope,
        cards(header),
        time,
        flux,
        flux_err=error,
        bad=(flags.astype(np.int64) & bad_bits(telescope)) != 0,
        quality=flags,
        quarter=int(quarter) if quarter >= 0 else -1,
        time_zero=required(below, "BJDREFI") + required(below, "BJDREFF"),
        unit=str(rows.columns[FLUX].unit or "unknown"),
        **star(header),
    )


def _telescope(hdus: fits.HDUList) -> str:
    return str(hdus[0].header.get("TELESCOP", "")).strip().lower()
