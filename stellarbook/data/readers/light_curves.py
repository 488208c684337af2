"""Read a downloaded light curve, of whichever mission: ``read_light_curve("kplr…_llc.fits")``."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from stellarbook.data.readers import gaia, text
from stellarbook.data.readers.files import ReadError, named, open_fits, unpacked
from stellarbook.data.readers.recognise import LIGHT_CURVES, contents, light_curve_of, spectrum_of
from stellarbook.data.records import LightCurve

ARRAYS = ("time", "flux", "flux_err", "mask", "quarter", "quality")


def read_light_curve(path: str | Path | Sequence[str | Path]) -> LightCurve:
    """Read one star's light curve from a file as its archive serves it.

    Parameters
    ----------
    path : str or Path, or a list of them
        Kepler or K2, long or short cadence, or TESS (SPOC's ``…_lc.fits``); KEPSEISMIC; a text
        file of two or three columns (time in days, flux, its error), also csv with named ones; each
        also gzipped. Recognised by the content, never by the name. A list is one star's quarters,
        campaigns or sectors, in any order.

    Returns
    -------
    LightCurve
        Times and fluxes as the file has them, PDCSAP_FLUX of a mission's file; ``meta`` says zero
        point and unit. Gaps are kept, nothing is interpolated, and quarters of a list are not put
        on one level. Masked are the mission's bad bits; each module says which.

    Raises
    ------
    ReadError
        Naming file, HDU or column, and what was expected: a file that is missing, empty,
        truncated or garbage, of no mission that is known, a spectrum (that says so where the file
        does; two columns without a name do not), with an extension or column missing, with times
        that do not increase, or without one good cadence; in a list, files of different stars, or
        of the same time.

    Notes
    -----
    Shown in chapter 01.
    """
    if not isinstance(path, str | Path):
        return _joined([_read(Path(p)) for p in path])
    return _read(Path(path))


def _read(path: Path) -> LightCurve:
    with named(path, "light-curve"):
        curve = _parse(unpacked(path))
        if curve.mask.all():
            raise ReadError("all cadences are masked: expected at least one good cadence")
    curve.meta["file"] = path.name
    return curve


def _parse(data: bytes) -> LightCurve:
    if data[:6] == b"SIMPLE":
        with open_fits(data) as hdus:
            if known := light_curve_of(hdus):
                return LIGHT_CURVES[known].read(hdus)
            if known := spectrum_of(hdus):
                raise ReadError(f"a file of {known}: read spectra with read_spectrum")
            missions = ", ".join(LIGHT_CURVES)
            raise ReadError(f"a FITS file of none of {missions}; {contents(hdus)}")
    start = data[:200].lstrip()
    if start.startswith((b"PK", b"<?xml", b"<VOTABLE")):
        raise ReadError(
            "a zip or a VOTable: expected FITS or text; of Gaia's DataLink read spectra with "
            "read_spectrum"
        )
    if known := gaia.kind(gaia.text_table(data)):
        raise ReadError(f"a file of {known}: read spectra with read_spectrum")
    return text.read_curve(data)


def _joined(curves: list[LightCurve]) -> LightCurve:
    """Join the quarters of one star, in the order of time; ``meta`` is the first one's."""
    if not curves:
        raise ReadError("an empty list: expected the files of one star")
    curves = sorted(curves, key=lambda curve: curve.time[0])
    metas = [curve.meta for curve in curves]
    files = ", ".join(meta["file"] for meta in metas)
    for key in ("survey", "object", "unit", "time_zero"):
        if len(found := {str(meta[key]) for meta in metas}) > 1:
            raise ReadError(f"{files}: expected one {key}, found {', '.join(sorted(found))}")
    for before, after in pairwise(curves):
        if after.time[0] <= before.time[-1]:
            both = f"{before.meta['file']} and {after.meta['file']}"
            raise ReadError(f"{both} overlap in time: expected one after the other")
    arrays = (np.concatenate([getattr(curve, name) for curve in curves]) for name in ARRAYS)
    together = {
        "file": files,
        "quarters": tuple(dict.fromkeys(q for meta in metas for q in meta["quarters"])),
        "untimed": sum(meta["untimed"] for meta in metas),
    }
    return LightCurve(*arrays, metas[0] | together)
