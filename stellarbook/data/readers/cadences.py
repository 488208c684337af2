"""What the readers of light curves share: making the record, and the zero points of time."""

import numpy as np
from astropy.io import fits

from stellarbook.data.readers.files import ReadError, number
from stellarbook.data.records import LightCurve

KEPLER_ZERO, TESS_ZERO = 2454833.0, 2457000.0  # barycentric Julian dates: BKJD, BTJD
# Barycentric Julian dates between which Kepler watched its field: quarter 0 to quarter 17.
KEPLER_FIELD = (2454953.0, 2456425.0)


def light_curve(
    survey: str,
    header: dict,
    time,
    flux,
    *,
    flux_err=None,
    bad=None,
    quality=None,
    quarter=-1,
    **known,
) -> LightCurve:
    """Make the record of a file's columns, and its ``meta`` (see `LightCurve`), unknown ones empty.

    Cadences without a time are left out, and counted; flux_err and bad may be unknown.

    Raises
    ------
    ReadError
        No cadence has a time, or the columns differ in length.
    """
    time = np.asarray(time, dtype=float)
    columns = {
        "flux": flux,
        "flux_err": np.full(time.shape, np.nan) if flux_err is None else flux_err,
        "mask": np.zeros(time.shape, bool) if bad is None else bad,
        "quarter": np.broadcast_to(quarter, time.shape),
        "quality": np.zeros(time.shape, int) if quality is None else quality,
    }
    shapes = {name: np.shape(values) for name, values in columns.items()} | {"time": time.shape}
    if time.ndim != 1 or len(set(shapes.values())) > 1:
        raise ReadError(f"expected columns of one length, found {shapes}")
    timed = np.isfinite(time)
    if not timed.any():
        raise ReadError("no cadence has a time: expected at least one")
    time = time[timed]
    columns = {name: np.asarray(values)[timed] for name, values in columns.items()}
    empty = dict.fromkeys(("time_zero", "magnitude", "ra", "dec"), np.nan)
    meta = {"survey": survey, "object": "", "unit": "unknown", **empty, "band": "", "labels": {}}
    meta["cadence"] = float(np.median(np.diff(time))) if len(time) > 1 else np.nan
    meta["quarters"] = tuple(int(q) for q in np.unique(columns["quarter"]) if q >= 0)
    meta["untimed"] = int((~timed).sum())
    return LightCurve(time, **columns, meta=meta | {"header": header, **known})


def star(header: fits.Header) -> dict:
    """Return what a header of Kepler, K2 or TESS says about the star."""
    names = {"teff": "TEFF", "logg": "LOGG", "feh": "FEH", "m_h": "MH"}
    return {
        "object": str(header.get("OBJECT", "")).strip(),
        "magnitude": number(header, "KEPMAG", "TESSMAG"),
        "band": "Kp" if "KEPMAG" in header else "T" if "TESSMAG" in header else "",
        "ra": number(header, "RA_OBJ"),
        "dec": number(header, "DEC_OBJ"),
        "labels": {ours: number(header, key) for ours, key in names.items() if key in header},
    }


def kepler_zero(time: np.ndarray) -> float:
    """Return the zero of times in the Kepler field, 2454833 or 2400000, by the mission's dates.

    NaN where neither makes them fall within the mission: files of KEPSEISMIC, for one, count from
    any of the two or from their own first cadence, and their headers do not tell.
    """
    low, high = np.nanmin(time), np.nanmax(time)
    zeros = (KEPLER_ZERO, 2400000.0)
    return next(
        (z for z in zeros if KEPLER_FIELD[0] < low + z and high + z < KEPLER_FIELD[1]), np.nan
    )
