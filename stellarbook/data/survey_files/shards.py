"""The second step of a build: a thousand files as arrays.

A *shard* is written at one stroke: it is there and right, or it is not there. Its key is a hash of
what it was made from (`plan.key`: names, sizes and times of its files), so that a build that was
killed goes on where it was, and a file that was downloaded again is read again.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from stellarbook.data.readers import ReadError, read_spectrum
from stellarbook.data.readers.files import number
from stellarbook.data.records import Spectrum
from stellarbook.data.survey_files.grid import GRIDS, on_grid
from stellarbook.data.survey_files.layout import SurveyFilesError, explained, replacing
from stellarbook.data.survey_files.plan import (
    LARGEST,
    count,
    done,
    key,
    mixture,
    read_plan,
    shard_path,
    units,
)

HALF = 6e4  # what float16 holds
COLUMNS = ("file", "object", "ra", "dec", "z", "z_error", "med")
HEADER = {  # LAMOST's columns and the header keywords of its releases
    "obsid": ("OBSID",),
    "lmjd": ("LMJD",),
    "planid": ("PLANID",),
    "spid": ("SPID",),
    "fiberid": ("FIBERID",),
    "cls": ("CLASS",),
    "subclass": ("SUBCLASS",),
    "snrg": ("SNRG", "SN_G"),
}


def shard(out: str | Path, i: int, content: dict | None = None) -> int:
    """Read the files of shard i of the plan in ``out``, unless that has been done.

    Returns
    -------
    int
        How many units were read or skipped.

    Raises
    ------
    SurveyFilesError
        There is no plan or no such shard; or, where the survey was recognised and not named, a
        file is of another one.
    """
    content = content or read_plan(out)
    if not 0 <= i < count(content):
        raise SurveyFilesError(f"no shard {i}: the plan in {out} has 0 to {count(content) - 1}")
    if done(out, content, i):
        return len(units(content, i))
    instrument = GRIDS[content["survey"]]
    rows, fluxes, snrs, skipped = [], [], [], []
    for unit in units(content, i):
        name = " + ".join(file for file, *_ in unit)
        try:
            spectrum = _read(content, unit)
            row, flux, snr = _packed(spectrum, name, instrument)
        except ReadError as error:
            paths = [str(Path(content["folder"]) / file) for file, *_ in unit]
            reason = str(error)
            for path in paths:
                reason = reason.removeprefix(f"{path}: ")
            skipped.append((name, reason))
            continue
        except SurveyFilesError:
            raise
        except Exception as error:
            error.add_note(f"while reading {name} in {content['folder']}")
            raise
        rows.append(row)
        fluxes.append(flux)
        snrs.append(snr)
    pixels = len(instrument.wave)
    with replacing(shard_path(out, i)) as part, part.open("wb") as file:
        np.savez(
            file,
            key=np.array(key(content, i)),
            flux=np.array(fluxes, np.float16).reshape(-1, pixels),
            snr=np.array(snrs, np.float16).reshape(-1, pixels),
            table=_text(pd.DataFrame(rows, columns=None if rows else list(COLUMNS), dtype=object)),
            skipped=_text(pd.DataFrame(skipped, columns=["file", "reason"])),
        )
    return len(units(content, i))


def part(out: str | Path, i: int, name: str) -> pd.DataFrame:
    """Return shard i's "table" or "skipped"."""
    path = shard_path(out, i)
    with explained(path), np.load(path) as arrays:
        text = arrays[name].tobytes()
    # Names and identifiers as they are: 007 is no number, NA no missing value.
    known = {key: str for key in ("file", "object", "planid", "cls", "subclass", "reason")}
    integers = {key: "Int64" for key in ("obsid", "lmjd", "spid", "fiberid")}
    table = pd.read_csv(
        io.BytesIO(text),
        dtype=known | integers,
        na_values=[""],
        keep_default_na=False,
        float_precision="round_trip",
    )
    return table.fillna({key: "" for key in known if key in table})


def _read(content: dict, unit: list) -> Spectrum:
    largest = max(size for _, size, _ in unit)
    if largest > LARGEST and content["survey"] != "desi":
        raise ReadError(f"{largest:,} bytes: too large for a file of one spectrum")
    paths = [Path(content["folder"]) / file for file, *_ in unit]
    path = paths if content["survey"] == "galah" else paths[0]
    if content["named"]:
        return read_spectrum(path, content["survey"])
    if len(paths) > 1:
        return read_spectrum(path)
    spectrum = read_spectrum(paths[0])
    if (found := spectrum.meta["survey"]) == "text":
        raise ReadError(f"a table of numbers: expected a file of {content['survey']}")
    if found != content["survey"]:
        seen = {content["survey"]: content["example"], found: unit[0][0]}
        raise mixture(content["folder"], seen)
    return spectrum


def _packed(spectrum: Spectrum, name: str, instrument) -> tuple[dict, np.ndarray, np.ndarray]:
    flux, ivar = on_grid(spectrum, instrument)
    if not (ivar > 0).any():
        raise ReadError("no good pixel on the survey's grid")
    median = float(np.median(flux[np.isfinite(flux)]))
    if not median > 0:
        raise ReadError(f"median flux {median:.3g}: expected a positive one")
    meta = spectrum.meta
    row = {
        "file": name,
        "object": meta["object"],
        "ra": meta["ra"],
        "dec": meta["dec"],
        "z": meta["redshift"],
        "z_error": meta["redshift_error"],
        "med": median,
    }
    if meta["survey"] == "lamost":
        row |= {key: _card(meta["header"], *names) for key, names in HEADER.items()}
    with np.errstate(invalid="ignore"):
        snr = np.where(ivar > 0, np.abs(flux) * np.sqrt(ivar), 0)
    clipped = (np.clip(values, -HALF, HALF).astype(np.float16) for values in (flux / median, snr))
    return row | meta["labels"], *clipped


def _card(header: dict, *names: str):
    for name in names:
        if name in header:
            if name in ("CLASS", "SUBCLASS", "PLANID"):
                return str(header[name]).strip()
            value = number(header, name)
            # An S/N that is not positive is the survey's way to say that there is none.
            if name in ("SNRG", "SN_G"):
                return value if value > 0 else np.nan
            return int(value) if np.isfinite(value) else None
    return None


def _text(table: pd.DataFrame) -> np.ndarray:
    return np.frombuffer(table.to_csv(index=False).encode(), np.uint8)
