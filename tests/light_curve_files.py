"""Light-curve files for the tests: real ones where they are, others written after data models."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from stellarbook.data import archives, example_light_curves

NATIVE = Path(os.environ.get("STELLARBOOK_DATA", "/nonexistent")).parent / "native"
native = pytest.mark.skipif(
    not NATIVE.is_dir(), reason="real survey files: set STELLARBOOK_DATA (…/real, beside …/native)"
)
QUARTERS = sorted(NATIVE.glob("kepler_llc/*.fits"))  # 0 to 3 of KIC 7660594
ZERO = {"Kepler": 2454833, "TESS": 2457000}


def example(name):
    """Return an example light curve's path, or skip where its archives are not in the cache."""
    for archive in example_light_curves.NEEDS:
        file = archives.ARCHIVES[archive].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")
    return example_light_curves.path(name)


def mission(path, telescope="Kepler", n=30, cards=None, **columns):
    """Write a light-curve file as the missions' pipelines do (Kepler Archive Manual, 2.3.1)."""
    flags = "QUALITY" if telescope == "TESS" else "SAP_QUALITY"
    rows = {"TIME": 100 + 0.02 * np.arange(n), "CADENCENO": np.arange(n, dtype="i4")}
    rows |= {"PDCSAP_FLUX": np.full(n, 5000, "f4"), "PDCSAP_FLUX_ERR": np.full(n, 2, "f4")}
    rows |= {flags: np.zeros(n, "i4")} | columns
    below = fits.table_to_hdu(Table({k: v for k, v in rows.items() if v is not None}))
    below.name = "LIGHTCURVE"
    below.header.update(BJDREFI=ZERO[telescope], BJDREFF=0.0, TIMESYS="TDB", EXTVER=1)
    for i, name in enumerate(below.columns.names, 1):
        below.header[f"TUNIT{i}"] = "e-/s" if "FLUX" in name else ""
    above = fits.PrimaryHDU()
    above.header.update(TELESCOP=telescope, OBJECT="KIC 42", KEPMAG=12.5, QUARTER=7)
    for key, value in (cards or {}).items():
        for header in (above.header, below.header):
            if value is None:
                header.remove(key, ignore_missing=True)
            elif key in header or header is above.header:
                header[key] = value
    hdus = fits.HDUList([above, below, fits.ImageHDU(np.ones((4, 5), "i4"), name="APERTURE")])
    hdus.writeto(path, overwrite=True)
    return path


def kepseismic(path, time, flux, marks, table=True):
    """Write a KEPSEISMIC file, as the archive has it (a table) or as its authors (an image)."""
    above = fits.PrimaryHDU(None if table else np.stack([time, flux], axis=1))
    above.header.update(TELESCOP="Kepler", ORIGIN="CEA & SSI", OBJECT="KIC 42", QUARTER=17)
    above.header.update(DATATYPE="KADACS", TSFILTER=55.0, KEPMAG=11.0)
    hdus = [above, fits.table_to_hdu(Table({"TIME": time, "FLUX": flux}))] if table else [above]
    if marks is not None:
        hdus.append(fits.ImageHDU(np.asarray(marks, "i2")))
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def text(path, *lines):
    """Write lines into a file."""
    path.write_text("\n".join(lines))
    return path
