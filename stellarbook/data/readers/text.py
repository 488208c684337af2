"""Text files of two or three columns: wavelength, flux and, if known, its error."""

import re

import numpy as np

from stellarbook.data.readers.files import ReadError, inverse_square, meta
from stellarbook.data.records import Spectrum, air_to_vacuum

# What a header line may call the columns; without one they are wave, flux, error.
NAMES = {
    "wave": ("wave", "wavelength", "lambda", "lam", "wl", "w"),
    "flux": ("flux", "f", "intensity"),
    "error": ("error", "err", "sigma", "flux_error", "flux_err", "e_flux", "uncertainty"),
    "ivar": ("ivar", "flux_ivar"),
}
UNIT = re.compile(r"\s*[\[(][^\])]*[\])]")  # as in "wave [Å]"
SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")


def read(data: bytes, air: bool) -> Spectrum:
    """Read columns separated by blanks, commas or semicolons; ``#`` starts a comment.

    Wavelengths are in Å. Where no error is given it is estimated from the flux itself, one number
    for all pixels, and ``meta["ivar_from"]`` says so.

    Notes
    -----
    The estimate is DER_SNR (Stoehr et al. 2008): the median third-order difference of the flux,
    blind to anything smooth over five pixels.
    """
    names, values = _columns(data)
    if "wave" not in names or "flux" not in names:
        raise ReadError(f"columns {', '.join(names)}: expected a wavelength and a flux")
    columns = dict(zip(names, values.T, strict=True))
    wave, flux = columns["wave"], columns["flux"]
    if np.nanmax(wave) < 1200:
        raise ReadError(f"wavelengths up to {np.nanmax(wave):g}: expected Å, these look like nm")
    source = "the file"
    if "ivar" in columns:
        ivar = columns["ivar"]
    elif "error" in columns:
        ivar = inverse_square(columns["error"])
    else:
        source = "estimated (DER_SNR)"
        ivar = np.full(len(flux), inverse_square(_noise(flux)))
    return Spectrum(
        air_to_vacuum(wave) if air else wave,
        flux,
        ivar,
        np.zeros(len(flux), bool),
        meta("text", {}, ivar_from=source),
    )


def _columns(data: bytes) -> tuple[list[str], np.ndarray]:
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ReadError(
            "neither FITS, gzip, zip nor text: garbage, or an unknown format"
        ) from error
    names, rows = None, []
    for i, line in enumerate(lines, 1):
        cells = SEPARATOR.split(line.partition("#")[0].strip())
        if cells == [""]:
            continue
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError as error:
            if names is None and not rows:
                names = [_meaning(cell) for cell in SEPARATOR.split(UNIT.sub("", line).strip())]
                continue
            raise ReadError(f"line {i}: expected numbers, found {line[:60]!r}") from error
        if len(rows[-1]) != len(rows[0]) or len(rows[0]) < 2:
            raise ReadError(
                f"line {i}: expected {max(len(rows[0]), 2)} numbers, found {len(cells)}"
            )
    if len(rows) < 2:
        raise ReadError(f"{len(rows)} lines of numbers: expected a spectrum of two columns or more")
    names = names or ["wave", "flux", "error"][: len(rows[0])]
    if len(names) < len(rows[0]):
        names += [f"column {i}" for i in range(len(names), len(rows[0]))]
    if len(names) > len(rows[0]):
        raise ReadError(f"the header names {len(names)} columns, the rows have {len(rows[0])}")
    return names, np.array(rows)


def _meaning(cell: str) -> str:
    cell = cell.strip("\"' ").lower()
    return next((ours for ours, theirs in NAMES.items() if cell in theirs), cell)


def _noise(flux: np.ndarray) -> np.ndarray:
    flux = flux[np.isfinite(flux)]
    if len(flux) < 5:
        raise ReadError(f"{len(flux)} finite fluxes: too few to estimate their error")
    third = 2 * flux[2:-2] - flux[:-4] - flux[4:]
    noise = 1.482602 / np.sqrt(6) * np.median(np.abs(third))
    # A noiseless model: single precision's rounding, for no error is no number.
    return np.maximum(noise, np.abs(flux).max() * np.finfo(np.float32).eps)
