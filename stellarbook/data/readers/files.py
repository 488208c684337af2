"""Opening files that may be anything: bounded in size, checked before astropy touches the data."""

import gzip
import io
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy.io import fits

from stellarbook.data.records import RecordError

LIMIT = 2**31  # bytes, unpacked: above DESI's largest files, below what a laptop holds
C_KM_S = 299_792.458


class ReadError(ValueError):
    """A file is no such record; the message names file, place and expectation."""


@contextmanager
def named(path: Path, what: str):
    """Turn whatever reading a damaged file raises into a `ReadError` that begins with its path."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # Of a damaged file astropy warns at length: what matters becomes an error below.
            warnings.simplefilter("ignore")
            yield
    except (ReadError, RecordError) as error:
        raise ReadError(f"{path}: {error}") from error.__cause__
    except ImportError:
        raise  # the installation's fault, not the file's
    except Exception as error:
        # Of damaged bytes astropy, zipfile and numpy raise almost anything.
        raise ReadError(
            f"{path}: damaged, or no {what} file ({type(error).__name__}: {str(error)[:300]})"
        ) from error


def unpacked(path: Path) -> bytes:
    """Return a file's bytes, gunzipped if they are gzipped, at most `LIMIT`.

    Raises
    ------
    ReadError
        Missing, empty, too large, or damaged gzip.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise ReadError(f"cannot be opened ({error.strerror or error})") from error
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(LIMIT + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise ReadError(f"damaged gzip: truncated? ({error})") from error
    if not data.strip(b"\0 \r\n\t"):
        raise ReadError("the file is empty")
    return _bounded(data)


def member(data: bytes, survey: str | None) -> tuple[bytes, str]:
    """Return the Gaia product in a DataLink zip, and which it is.

    Parameters
    ----------
    data : bytes
    survey : {"gaia_xp_continuous", "gaia_xp_sampled", None}
        None: the first of these two that is there.

    Raises
    ------
    ReadError
        No such member, or several: DataLink writes a file per star unless told to combine them.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        for kind in [survey] if survey else ["gaia_xp_continuous", "gaia_xp_sampled"]:
            product = kind.removeprefix("gaia_").upper()
            found = [name for name in names if Path(name).name.upper().startswith(product)]
            if len(found) > 1:
                raise ReadError(f"the zip holds {len(found)} {product} files: unpack it, read one")
            if found:
                if archive.getinfo(found[0]).file_size > LIMIT:
                    raise ReadError(f"{found[0]} exceeds {LIMIT:,} bytes")
                with archive.open(found[0]) as file:
                    content = _bounded(file.read(LIMIT + 1))
                if content[:2] == b"PK":
                    raise ReadError(f"{found[0]} is itself a zip: unpack it")
                return content, kind
    wanted = survey.removeprefix("gaia_").upper() if survey else "XP_CONTINUOUS or XP_SAMPLED"
    raise ReadError(f"the zip has no {wanted} file, only {', '.join(names)[:200]}")


def _bounded(data: bytes) -> bytes:
    if len(data) > LIMIT:
        raise ReadError(f"exceeds {LIMIT:,} bytes")
    return data


@contextmanager
def open_fits(data: bytes):
    """Open FITS bytes as an astropy `HDUList`, after checking that every HDU's data are there.

    Raises
    ------
    ReadError
        An HDU's header promises more data than the file holds, or more axes or columns than the
        FITS standard allows (999).
    """
    for keyword in (b"NAXIS   =", b"TFIELDS ="):
        # In the bytes: astropy loops over as many as are promised, be they 10¹⁷.
        at = data.find(keyword)
        while at >= 0:
            value = data[at + len(keyword) : at + 30].strip()
            if value.isdigit() and int(value) > 999:
                raise ReadError(
                    f"header keyword {keyword[:8].decode().strip()}: found {int(value)}"
                )
            at = data.find(keyword, at + 1)
    # Lazily, each HDU checked before the next is looked for: after a negative size astropy would
    # go back and read the same HDU for ever.
    with fits.open(io.BytesIO(data), memmap=False, lazy_load_hdus=True) as hdus:
        i = 0
        while _exists(hdus, i):
            if not hasattr(hdus[i], "fileinfo"):  # astropy's class for what it cannot parse
                raise ReadError(f"HDU {i}: damaged header")
            info, size = hdus[i].fileinfo(), hdus[i].size
            # And before `.data`, which would ask for the memory of whatever NAXIS claims.
            if size < 0 or info["datSpan"] < 0 or info["datLoc"] + size > len(data):
                raise ReadError(
                    f"HDU {i} ({hdus[i].name or 'unnamed'}): its header promises {size:,} bytes of "
                    f"data, the file has {max(len(data) - info['datLoc'], 0):,} left: truncated?"
                )
            i += 1
        yield hdus


def _exists(hdus: fits.HDUList, i: int) -> bool:
    try:
        return hdus[i] is not None
    except IndexError:
        return False


def image(hdus: fits.HDUList, key: int | str, dtype: type = float) -> np.ndarray:
    """Return an image HDU's array.

    Raises
    ------
    ReadError
        There is no such HDU, or it holds no image.
    """
    hdu = _hdu(hdus, key)
    if not hdu.is_image or hdu.data is None or not hdu.data.ndim:
        raise ReadError(f"HDU {key}: expected an image, found none")
    return np.asarray(hdu.data, dtype=dtype)


def table(hdus: fits.HDUList, key: int | str) -> fits.FITS_rec:
    """Return a table HDU's rows, at least one.

    Raises
    ------
    ReadError
        There is no such HDU, or it holds no table or an empty one.
    """
    hdu = _hdu(hdus, key)
    if not isinstance(hdu, fits.BinTableHDU) or hdu.data is None or not len(hdu.data):
        raise ReadError(f"HDU {key}: expected a table with at least one row")
    return hdu.data


def column(rows: fits.FITS_rec, name: str, key: int | str = 1) -> np.ndarray:
    """Return a table's column, whatever the case of its name.

    Raises
    ------
    ReadError
        The table has no such column.
    """
    if not has_columns(rows, name):
        raise ReadError(f"HDU {key}: no column {name}, only {', '.join(rows.names)[:200]}")
    return np.asarray(rows[name])


def has_columns(rows: fits.FITS_rec, *names: str) -> bool:
    """Say whether a table has all these columns, whatever their case."""
    there = {name.lower() for name in rows.names}
    return there.issuperset(name.lower() for name in names)


def _hdu(hdus: fits.HDUList, key: int | str):
    try:
        return hdus[key]
    except (KeyError, IndexError) as error:
        found = ", ".join(f"{i} {hdu.name or 'unnamed'}" for i, hdu in enumerate(hdus))
        raise ReadError(f"no HDU {key}: expected it beside {found[:200]}") from error


def required(header: fits.Header, key: str) -> float:
    """Return a header's number.

    Raises
    ------
    ReadError
        The keyword is missing or no finite number.
    """
    value = number(header, key)
    if not np.isfinite(value):
        raise ReadError(f"header keyword {key}: expected a number, found {header.get(key)!r}")
    return value


def number(header, *keys: str) -> float:
    """Return the first of these keywords (or columns of a row) that is a number, else NaN.

    The surveys' −9999 for "unknown" is NaN too.
    """
    for key in keys:
        try:
            value = float(np.ravel(header[key])[0])
        except (KeyError, IndexError, TypeError, ValueError):
            continue
        return value if np.isfinite(value) and value > -9990 else np.nan
    return np.nan


def cards(header: fits.Header) -> dict:
    """Return a header as a plain dict, without comments."""
    return {
        key: value
        for key, value in header.items()
        if key not in ("", "COMMENT", "HISTORY") and isinstance(value, str | int | float | bool)
    }


def inverse_square(error: np.ndarray) -> np.ndarray:
    """Return 1 / error², and NaN, which a `Spectrum` masks, where the error is not positive."""
    return np.where(error > 0, 1 / error**2, np.nan)


def meta(survey: str, header: dict, **known) -> dict:
    """Return the keys that every spectrum's ``meta`` has (see `Spectrum`), unknown ones empty."""
    empty = {
        "unit": "unknown",
        "redshift": np.nan,
        "redshift_error": np.nan,
        "ra": np.nan,
        "dec": np.nan,
    }
    return {"survey": survey, "object": "", **empty, "labels": {}, "header": header, **known}
