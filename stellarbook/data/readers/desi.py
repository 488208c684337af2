"""DESI ``coadd-…`` and ``spectra-…`` files: many stars, up to three arms each.

Data model: https://desidatamodel.readthedocs.io/en/latest/DESI_SPECTRO_REDUX/SPECPROD/healpix/
SURVEY/PROGRAM/PIXGROUP/PIXNUM/coadd-SURVEY-PROGRAM-PIXNUM.html. Wavelengths are vacuum and
barycentric. The redshifts are in other files (``redrock-…``, ``rvtab_…``): here they are NaN.
"""

import numpy as np
from astropy.io import fits

from stellarbook.data.readers.files import ReadError, cards, column, image, meta, number, table
from stellarbook.data.records import Spectrum

ARMS = ("B", "R", "Z")


def matches(hdus: fits.HDUList) -> bool:
    """Say whether a file is a DESI ``coadd`` or ``spectra`` file."""
    names = {hdu.name.upper() for hdu in hdus}
    return "FIBERMAP" in names and any(f"{arm}_FLUX" in names for arm in (*ARMS, "BRZ"))


def read(hdus: fits.HDUList, target: int | None, row: int | None) -> Spectrum:
    """Read one star: by TARGETID, by row, or the file's only one. Bad is MASK ≠ 0.

    The arms follow one another in the arrays, ``meta["arms"]`` has their slices; they overlap by
    some 20–100 Å.
    """
    stars = table(hdus, "FIBERMAP")
    ids = column(stars, "TARGETID", "FIBERMAP").astype(np.int64)
    row = pick(ids, target, row, "TARGETID")
    names = {hdu.name.upper() for hdu in hdus}
    pieces, arms, end = [], {}, 0
    for arm in (arm for arm in (*ARMS, "BRZ") if f"{arm}_FLUX" in names):
        wave = image(hdus, f"{arm}_WAVELENGTH")
        piece = [wave]
        for quantity in ("FLUX", "IVAR", "MASK"):
            if quantity == "MASK" and f"{arm}_MASK" not in names:
                piece.append(np.zeros(len(wave), bool))  # the model calls it optional
                continue
            rows = _hdu_rows(hdus, f"{arm}_{quantity}", (len(ids), len(wave)))
            piece.append(rows[row] != 0 if quantity == "MASK" else rows[row])
        pieces.append(piece)
        arms[arm.lower()] = slice(end, end := end + len(wave))
    star = stars[row]
    wave, flux, ivar, mask = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    return Spectrum(
        wave,
        flux,
        ivar,
        mask,
        meta(
            "desi",
            cards(hdus[0].header),
            object=str(ids[row]),
            unit="1e-17 erg s-1 cm-2 Å-1",
            ra=number(star, "TARGET_RA"),
            dec=number(star, "TARGET_DEC"),
            arms=arms,
        ),
    )


def _hdu_rows(hdus: fits.HDUList, name: str, shape: tuple[int, int]) -> np.ndarray:
    rows = hdus[name].data if name in hdus else image(hdus, name)
    if rows is None or rows.shape != shape:
        raise ReadError(f"HDU {name}: expected shape {shape}, found {getattr(rows, 'shape', None)}")
    return rows


def pick(ids: np.ndarray, target: int | None, row: int | None, name: str) -> int:
    """Return the row of a star among ``ids``.

    Raises
    ------
    ReadError
        No such star or row; or none is asked for, or the star has several rows, and so the choice
        is the caller's.
    """
    if target is not None:
        found = np.flatnonzero(ids == target)
        if not len(found):
            raise ReadError(f"{name} {target} is not among the {len(ids)} of this file")
        if len(found) > 1:
            rows = ", ".join(map(str, found[:20]))
            raise ReadError(f"{name} {target} has several rows ({rows}): choose with row=…")
        return int(found[0])
    if row is None and len(ids) > 1:
        raise ReadError(
            f"{len(ids)} spectra: choose with target=… ({name} {ids[0]}, {ids[1]} …) or row=…"
        )
    row = row or 0
    if not 0 <= row < len(ids):
        raise ReadError(f"row {row}: the file has rows 0 to {len(ids) - 1}")
    return row
