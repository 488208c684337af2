"""Gaia XP spectra from DataLink: XP_CONTINUOUS (coefficients) and XP_SAMPLED, in all its formats.

Data model: https://gea.esac.esa.int/archive/documentation/GDR3/Gaia_archive/chap_datamodel/
sec_dm_spectroscopic_tables/. XP_CONTINUOUS is calibrated with GaiaXPy, to the same 336–1020 nm that
XP_SAMPLED has. Gaia observes from space: its wavelengths are vacuum. They are not corrected for
the star's velocity, which these files do not tell.
"""

import io

import matplotlib
import numpy as np
import pandas as pd
from astropy.io import fits, votable
from astropy.table import Table

from stellarbook.data.readers.desi import pick
from stellarbook.data.readers.files import ReadError, inverse_square, meta, number
from stellarbook.data.records import Spectrum
from stellarbook.data.xp_basis import WAVE

BASES = 55  # coefficients an arm
ARRAYS = {
    "coefficients": BASES,
    "coefficient_errors": BASES,
    "coefficient_correlations": BASES * (BASES - 1) // 2,
}
UNIT = "W m-2 nm-1"


def fits_table(hdus: fits.HDUList) -> dict:
    """Return the first table HDU as a dict of column name to cells, ``{}`` if there is none."""
    for hdu in hdus[1:]:
        if isinstance(hdu, fits.BinTableHDU) and hdu.data is not None:
            table = {name.lower(): hdu.data[name] for name in hdu.data.names}
            if table and "source_id" not in table and "SOURCEID" in hdu.header:
                table["source_id"] = [hdu.header["SOURCEID"]]
            return table
    return {}


def text_table(data: bytes) -> dict:
    """Return an ecsv, VOTable or csv as `fits_table` does, ``{}`` if it is none of DataLink's."""
    start = data[:200].lstrip()
    if start.startswith(b"# %ECSV"):
        rows = Table.read(io.BytesIO(data), format="ascii.ecsv")
    elif start.startswith((b"<?xml", b"<VOTABLE")):
        found = votable.parse(io.BytesIO(data), verify="ignore").get_first_table()
        rows = found.to_table()
        rows.meta |= {str(param.name): param.value for param in found.params}
        if kind({name.lower(): list(rows[name]) for name in rows.colnames}) is None:
            raise ReadError(f"a VOTable of {', '.join(rows.colnames)[:200]}: expected Gaia's XP")
    else:
        header = data[:4000].partition(b"\n")[0].lower()
        if b"source_id" not in header:
            return {}
        rows = pd.read_csv(io.BytesIO(data), dtype=str)
        return {str(name).strip().lower(): rows[name].to_list() for name in rows}
    table = {name.lower(): list(rows[name]) for name in rows.colnames}
    if "source_id" not in table and "source_id" in rows.meta:
        table["source_id"] = [rows.meta["source_id"]]
    return table


def kind(table: dict) -> str | None:
    """Say which of Gaia's products a table is, None if neither."""
    if {"bp_coefficients", "rp_coefficients"} & table.keys():
        return "gaia_xp_continuous"
    if {"flux", "flux_error"} <= table.keys() and "source_id" in table:
        return "gaia_xp_sampled"
    grid = table.get("wavelength")
    if {"flux", "flux_error"} <= table.keys() and grid is not None and len(grid) == len(WAVE):
        return "gaia_xp_sampled" if _numbers(grid, "wavelength")[0] == WAVE[0] else None
    return None


def read(table: dict, product: str, target: int | None, row: int | None) -> Spectrum:
    """Read one star of a table: by source_id, by its place among the stars, or the only one."""
    if product == "gaia_xp_sampled":
        return _sampled(table, target, row)
    return _continuous(table, target, row)


def _sampled(table: dict, target, row) -> Spectrum:
    ids = _ids(table) if "source_id" in table else np.zeros(1, np.int64)
    stars, first = np.unique(ids, return_index=True)
    stars = stars[np.argsort(first)]  # in the file's order
    star = stars[pick(stars, target, row, "source_id")]
    if "wavelength" in table:  # a row a pixel
        wave, flux, error = (
            _numbers(table[name], name) for name in ("wavelength", "flux", "flux_error")
        )
        if len(ids) == len(wave):
            wave, flux, error = (values[ids == star] for values in (wave, flux, error))
    else:  # a row a star
        place = int(np.flatnonzero(ids == star)[0])
        flux, error = (_cell(table, name, place, len(WAVE)) for name in ("flux", "flux_error"))
        wave = WAVE
        if flux is None or error is None:
            raise ReadError("columns flux, flux_error: expected 343 numbers, found none")
    if not np.array_equal(wave, WAVE):
        # A csv has no length of its own: this is how a cut-off download shows.
        raise ReadError(
            f"column wavelength: expected {len(WAVE)} from {WAVE[0]:g} to {WAVE[-1]:g} nm, found "
            f"{len(wave)}: truncated?"
        )
    position = {key: number({key: table.get(key, ())}, key) for key in ("ra", "dec")}
    return Spectrum(
        10 * wave,  # nm
        flux,
        inverse_square(error),
        np.zeros(len(wave), bool),
        meta("gaia_xp_sampled", {}, object=str(star) if star else "", unit=UNIT, **position),
    )


def _continuous(table: dict, target, row) -> Spectrum:
    for arm in ("bp", "rp"):
        for name in (*ARRAYS, "standard_deviation"):
            if f"{arm}_{name}" not in table:
                raise ReadError(f"no column {arm}_{name}: expected all of an XP_CONTINUOUS file's")
    ids = _ids(table)
    row = pick(ids, target, row, "source_id")
    values, arms = {"source_id": int(ids[row])}, {}
    for arm in ("bp", "rp"):
        arrays = {name: _cell(table, f"{arm}_{name}", row, n) for name, n in ARRAYS.items()}
        there = [name for name, array in arrays.items() if array is not None]
        if there and len(there) < len(arrays):
            raise ReadError(f"{arm}: only {', '.join(there)} of {', '.join(arrays)} are there")
        spread = number({"s": [table[f"{arm}_standard_deviation"][row]]}, "s")
        values |= {f"{arm}_{name}": np.nan if not there else arrays[name] for name in arrays}
        values[f"{arm}_n_parameters"] = BASES if there else np.nan
        values[f"{arm}_standard_deviation"] = spread
        if there:
            arms[arm] = arrays["coefficients"]
            arms[f"{arm}_error"] = arrays["coefficient_errors"]
    if not arms:
        raise ReadError("neither bp_coefficients nor rp_coefficients are there: expected one")
    flux, error = _calibrated(values)
    return Spectrum(
        10 * WAVE,  # nm
        flux,
        inverse_square(error),
        np.zeros(len(WAVE), bool),  # the missing half is NaN, and therefore masked
        meta(
            "gaia_xp_continuous",
            {},
            object=str(ids[row]),
            unit=UNIT,
            coefficients=arms,  # bp, bp_error, rp, rp_error: (55,), e⁻ s⁻¹
            missing=[arm for arm in ("bp", "rp") if arm not in arms],
        ),
    )


def _calibrated(values: dict) -> tuple[np.ndarray, np.ndarray]:
    # Imported here: it takes seconds, and only these files need it. The public `calibrate` is
    # this function without the switch that stops it from printing.
    with matplotlib.rc_context():  # it turns on LaTeX for every figure of whoever imports it
        from gaiaxpy.calibrator.calibrator import _calibrate

    # GaiaXPy wants arrays (not lists), and writes a file unless told not to.
    spectra, wave = _calibrate(pd.DataFrame([values]), save_file=False, disable_info=True)
    if not np.array_equal(wave, WAVE):
        raise ValueError("GaiaXPy's default sampling is no longer 336–1020 nm in steps of 2")
    return (np.asarray(spectra[name].iloc[0], dtype=float) for name in ("flux", "flux_error"))


def _ids(table: dict) -> np.ndarray:
    if "source_id" not in table or not len(table["source_id"]):
        raise ReadError("column source_id: expected at least one star")
    # Through int, never float: they have 19 digits.
    return np.array([int(value) for value in table["source_id"]], dtype=np.int64)


def _numbers(cells, name: str) -> np.ndarray:
    try:
        return np.asarray(cells, dtype=float)
    except (TypeError, ValueError) as error:
        raise ReadError(f"column {name}: expected numbers ({str(error)[:100]})") from error


def _cell(table: dict, name: str, row: int, length: int) -> np.ndarray | None:
    """Return one cell that holds an array, None if it is empty (as of a missing BP or RP)."""
    cell = table[name][row]
    if isinstance(cell, str):
        text = cell.strip().strip("()[]")
        cell = text.split(",") if text.strip() else []
    values = np.ma.filled(np.ma.asarray(cell), np.nan) if not isinstance(cell, list) else cell
    values = np.atleast_1d(_numbers(values, name))
    if not len(values) or np.isnan(values).all():
        return None
    if values.shape != (length,):
        raise ReadError(f"column {name}: expected {length} numbers, found shape {values.shape}")
    if not np.isfinite(values).all():
        raise ReadError(f"column {name}: expected finite numbers")
    return values.astype(float)
