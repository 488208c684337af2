"""The files of each sample as a `SurveySample`: of `build`'s layout, and packed otherwise.

Light curves, each with times of its own, are records by name.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from stellarbook.data import xp_basis
from stellarbook.data.instruments import GALAH
from stellarbook.data.readers import cadences, kepler
from stellarbook.data.records import LightCurve, air_to_vacuum
from stellarbook.data.survey_files.catalogue import stars
from stellarbook.data.survey_files.grid import rebinned
from stellarbook.data.survey_files.layout import (
    SurveyFilesError,
    explained,
    read_array,
    read_rows,
)
from stellarbook.data.survey_files.sample import SurveySample


def built(path: Path, survey: str, where: str | None) -> SurveySample:
    """Read what `build` wrote: the layout of `stellarbook.data.survey_files.layout`."""
    table = _table(path.with_suffix(".csv"), survey)
    n = len(table)
    keep = np.ones(n, bool)
    if where is not None:
        try:
            keep = table.index.isin(table.query(where, engine="python").index)
        except Exception as error:  # of a wrong expression pandas raises almost anything
            raise ValueError(
                f"where={where!r} ({error}); the columns are {', '.join(table)}"
            ) from error
        table = table[keep].reset_index(drop=True)
    wave = read_array(path, "wave", (None,)).astype(float)
    increasing = np.isfinite(wave).all() and (
        survey in ("desi", "galah") or np.all(np.diff(wave) > 0)
    )
    if not increasing:
        raise SurveyFilesError(f"{path}: wave: expected finite, increasing wavelengths")
    flux, ivar = (np.empty((len(table), len(wave)), np.float32) for _ in range(2))
    read_rows(path, "flux", (n, len(wave)), keep, flux)
    read_rows(path, "snr", (n, len(wave)), keep, ivar)
    for i in range(0, len(table), 1024):  # in pieces: no third array of this size
        snr, f = ivar[i : i + 1024], flux[i : i + 1024]
        with np.errstate(invalid="ignore", divide="ignore"):
            known = (snr > 0) & (snr < np.inf) & (np.abs(f) < np.inf) & (f != 0)
            ivar[i : i + 1024] = np.where(known, (snr / f) ** 2, 0)
    return SurveySample(survey, table, wave, flux, ivar, "median")


def _table(path: Path, survey: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, low_memory=False, float_precision="round_trip")
    except (OSError, ValueError) as error:
        raise SurveyFilesError(f"{path}: damaged, or no csv ({error})") from error
    numbers = ["ra", "dec", "z", "med", "teff", "logg", "feh"]
    numbers += ["obsid", "snrg"] if survey == "lamost" else []
    if absent := [column for column in numbers if column not in table]:
        raise SurveyFilesError(
            f"{path}: no column {', '.join(absent)}, only {', '.join(map(str, table))[:300]}"
        )
    for column in numbers:
        try:
            values = pd.to_numeric(table[column])
            table[column] = values.astype("Int64") if column == "obsid" else values.astype(float)
        except (TypeError, ValueError) as error:
            raise SurveyFilesError(f"{path}: {column}: expected numbers ({error})") from error
    for column in ("z", "teff", "logg", "feh"):
        table[column] = table[column].where(table[column] > -9990)
    if survey == "lamost":
        table["snrg"] = table["snrg"].where(table["snrg"] > 0)
    if "star" not in table:
        table["star"] = stars(table)
    return table


def miles(path: Path) -> SurveySample:
    """Read MILES: air made vacuum, at rest, without errors."""
    wave = read_array(path, "wave", (None,))
    flux = read_array(path, "flux", (None, len(wave)))
    labels = read_array(path, "teff_logg_feh", (len(flux), 3))
    table = pd.DataFrame(labels, columns=["teff", "logg", "feh"])
    number = read_array(path, "id", (len(flux),)).astype(np.int64)
    table = table.assign(id=number, star=number, z=0.0)
    return SurveySample(
        "miles", table, air_to_vacuum(wave), flux.astype(np.float32), None, "relative"
    )


def gaia_xp_field(path: Path) -> SurveySample:
    """Read Gaia XP, with the variance that the errors of the coefficients alone give.

    Flux is A c with the design matrix A (`xp_basis`), so its variance is diag(A C Aᵀ); of the
    covariance C only the diagonal is at hand.
    """
    wave = read_array(path, "wave", (None,))
    flux = read_array(path, "flux", (None, len(wave)))
    n = len(flux)
    if not np.array_equal(wave, xp_basis.WAVE):
        raise SurveyFilesError(f"{path}: wave: expected {xp_basis.WAVE[0]} to 1020 nm, by 2")
    columns = dict(source_id="source_id", g="G", bp="BP", rp="RP", n_bp="nbp", n_rp="nrp")
    table = pd.DataFrame({ours: read_array(path, key, (n,)) for ours, key in columns.items()})
    table = table.assign(star=table["source_id"], z=np.nan)
    error = np.hstack([read_array(path, key, (n, 55)) for key in ("ebp", "erp")]).astype(float)
    variance = error**2 @ (xp_basis.design_matrix().T ** 2)
    # Over the median: in W m⁻² nm⁻¹ the inverse variance, 1e37, would not fit float32.
    table["med"] = np.median(flux, axis=1).astype(float)
    scale = table["med"].to_numpy()[:, None]
    with np.errstate(divide="ignore"):
        ivar = np.where(variance > 0, scale**2 / variance, 0).astype(np.float32)
    flux = (flux / scale).astype(np.float32)
    return SurveySample("gaia_xp_field", table, 10.0 * wave, flux, ivar, "median")


def galah(path: Path) -> SurveySample:
    """Read GALAH's arms, whose grids differ from star to star, onto the instrument's."""
    with explained(path), np.load(path) as arrays:
        objects = sorted({key.split("_")[0] for key in arrays.files})
        flux = np.full((len(objects), len(GALAH.wave)), np.nan, np.float32)
        for row, name in enumerate(objects):
            for number, arm in enumerate(GALAH.arms.values(), start=1):
                if f"{name}_{number}" not in arrays:
                    continue
                values = arrays[f"{name}_{number}"].astype(float)
                start, step = arrays[f"{name}_{number}_w"]
                wave = air_to_vacuum(start + step * np.arange(len(values)))
                one = np.ones(len(wave))
                new, weight = rebinned(wave, values, one, ~np.isfinite(values), GALAH.wave[arm])
                flux[row, arm] = np.where(weight > 0, new, np.nan)
    try:
        number = np.array(objects, dtype=np.int64)
    except ValueError as error:
        raise SurveyFilesError(f"{path}: expected <id>_<arm>, found {objects[:3]}") from error
    table = pd.DataFrame({"object": objects, "star": number, "z": np.nan})
    return SurveySample("galah", table, GALAH.wave, flux, None, "continuum")


def mastar_means(path: Path) -> SurveySample:
    """Read means of MaStar's spectra: no single stars."""
    flux = read_array(path, "flux", (None, None)).astype(np.float32)
    first, step = (float(read_array(path, key, ())) for key in ("log10w0", "dlog"))
    wave = 10 ** (first + step * np.arange(flux.shape[1]))
    table = pd.DataFrame({"star": np.arange(len(flux)), "z": 0.0})
    return SurveySample("mastar_means", table, wave, flux, None, "relative")


def kepler_lightcurves(path: Path) -> dict[str, LightCurve]:
    """Read light curves of the Kepler field, by "<source>_<KIC>"; none has errors.

    "LLC": the mission's, quarters joined and each over its median, masked as `readers.kepler` does.
    "KEPSEISMIC": ppm, without the marks of what was filled in. "PYSYD": whatever unit and zero
    point pySYD's examples have.
    """
    curves = {}
    with explained(path), np.load(path) as arrays:
        for key in sorted(key for key in arrays.files if key.endswith("_t")):
            found = re.fullmatch(r"(LLC|KEPSEISMIC|PYSYD)_(\d+)_t", key)
            if not found:
                raise SurveyFilesError(f"{path}: expected <source>_<KIC>_t, found {key}")
            source, time, values = found[1], arrays[key], arrays[key[:-2] + "_y"]
            quality = values[:, 1].astype(np.int64) if source == "LLC" else None
            curves[key[:-2]] = cadences.light_curve(
                source.lower(),
                {},
                time,
                values[:, 0],
                bad=None if quality is None else (quality & kepler.bad_bits("kepler")) != 0,
                quality=quality,
                object=found[2] if source == "PYSYD" else f"KIC {int(found[2])}",
                unit={"LLC": "relative", "KEPSEISMIC": "ppm"}.get(source, "unknown"),
                # Not of PYSYD, whose times may be any telescope's.
                time_zero=np.nan if source == "PYSYD" else cadences.kepler_zero(time),
            )
    return curves
