"""Two files a survey: ``<name>.npz`` with the spectra, ``<name>.csv`` with a row for each.

The arrays are ``wave`` (pixels,) float64, Å, vacuum, in the survey's own frame; ``flux``
(n, pixels) float16, divided by each spectrum's median (``med`` in the table); ``snr`` (n, pixels)
float16, |flux| × √ivar, 0 under the mask. Half precision keeps three digits: rounding is 2000
times smaller than the flux, below the noise of all but the very best spectra.

An ``.npz`` is a zip of ``.npy``. Both are sequences of bytes, so that rows are streamed in and out
of them: neither writing nor reading ever holds more than a shard. A memory-mapped array would have
to lie beside the zip and be copied into it. The members are stored, not compressed, since noise
does not compress; compressed ones are read just as well.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

FILES = {"lamost": "lamost_lrs"}  # names of files that are not the survey's
ROWS = 128  # read at a time: 1 MB of LAMOST


class SurveyFilesError(ValueError):
    """Downloads, catalogue or arrays are not as expected; the message names file and field."""


class SurveyFilesMissing(FileNotFoundError):
    """A survey's arrays are not there; the message says how to obtain them."""


def stem(survey: str) -> str:
    """Return the name that a survey's two files share."""
    return FILES.get(survey, survey)


@contextmanager
def replacing(path: Path):
    """Give a path to write to, which takes this one's place only if nothing fails."""
    part = path.with_name(path.name + ".part")
    yield part
    part.replace(path)


def write_arrays(path: Path, arrays: dict[str, tuple[tuple[int, ...], np.dtype, Iterator]]) -> None:
    """Write an ``.npz`` from pieces, atomically.

    Parameters
    ----------
    path : Path
    arrays : dict of str to (shape, dtype, iterable of arrays)
        The pieces, one after another along the first axis, make an array of this shape.
    """
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, (shape, dtype, pieces) in arrays.items():
            # A ZipInfo has no date of its own: the same spectra are the same bytes.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                header = {
                    "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
                    "fortran_order": False,
                    "shape": shape,
                }
                np.lib.format.write_array_header_1_0(member, header)
                rows = 0
                for piece in pieces:
                    piece = np.ascontiguousarray(piece, dtype=dtype)
                    member.write(memoryview(piece).cast("B") if piece.size else b"")
                    rows += len(piece)
            if rows != shape[0]:
                raise SurveyFilesError(f"{path}: {name} got {rows} rows, expected {shape[0]}")


@contextmanager
def explained(path: Path):
    """Turn whatever a damaged ``.npz`` raises into a `SurveyFilesError` with its name."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError, ValueError) as error:
        if isinstance(error, SurveyFilesError):
            raise
        raise SurveyFilesError(f"{path}: damaged or incomplete ({error})") from error


def read_array(path: Path, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return a small member of an ``.npz``.

    Raises
    ------
    SurveyFilesError
        It is missing, damaged or of another shape (None: any length).
    """
    with explained(path), np.load(path) as arrays:
        if name not in arrays:
            raise SurveyFilesError(f"{path}: no array {name}, only {', '.join(arrays.files)[:200]}")
        values = arrays[name]
    _check_shape(path, name, values.shape, shape)
    return values


def read_rows(path: Path, name: str, shape: tuple[int, ...], keep: np.ndarray, out: np.ndarray):
    """Read chosen rows of an ``.npz``'s member into ``out``, never holding the whole.

    Parameters
    ----------
    path, name
        File and member.
    shape : (int, int)
        Expected of the member.
    keep : (n,) bool
        Which rows.
    out : (m, pixels) array

    Raises
    ------
    SurveyFilesError
        The member is missing, damaged, of another shape, or holds no numbers.
    """
    with explained(path), zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            names = ", ".join(archive.namelist())[:200]
            raise SurveyFilesError(f"{path}: no array {name}, only {names}")
        with archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            reader = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
            found, fortran, dtype = reader(member)
            _check_shape(path, name, found, shape)
            if fortran or dtype.kind not in "fiu":
                raise SurveyFilesError(f"{path}: {name} is {dtype}: expected numbers, in C order")
            width, done = dtype.itemsize * shape[1], 0
            for first in range(0, shape[0], ROWS):
                chosen = keep[first : first + ROWS]
                data = member.read(width * len(chosen))
                if len(data) < width * len(chosen):
                    raise SurveyFilesError(f"{path}: {name} ends early: truncated?")
                rows = np.frombuffer(data, dtype).reshape(len(chosen), shape[1])[chosen]
                out[done : done + len(rows)] = rows
                done += len(rows)


def _check_shape(path: Path, name: str, found: tuple, expected: tuple) -> None:
    fits = len(found) == len(expected) and all(
        e is None or f == e for f, e in zip(found, expected, strict=True)
    )
    if not fits:
        wanted = tuple("any" if e is None else e for e in expected)
        raise SurveyFilesError(f"{path}: {name} has shape {found}, expected {wanted}")
