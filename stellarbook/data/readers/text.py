"""Text files of two or three columns: wavelength or time, flux and, if known, its error."""

import re

import numpy as np

from stellarbook.data.readers.cadences import KEPLER_ZERO, TESS_ZERO, light_curve
from stellarbook.data.readers.files import ReadError, inverse_square, meta
from stellarbook.data.records import LightCurve, Spectrum, air_to_vacuum

# Zero points of time that a column's name tells, as (barycentric) Julian dates.
ZEROS = {"bkjd": KEPLER_ZERO, "btjd": TESS_ZERO, "mjd": 2400000.5}
# What a header line may call the columns; without one they are wave or time, flux, error.
NAMES = {
    "wave": ("wave", "wavelength", "lambda", "lam", "wl", "w"),
    "time": ("time", "t", "days", "date", "jd", "bjd", "hjd", *ZEROS),
    "flux": ("flux", "f", "intensity", "pdcsap_flux"),
    "error": (
        *("error", "err", "sigma", "flux_error", "flux_err", "e_flux", "uncertainty"),
        "pdcsap_flux_err",
    ),
    "ivar": ("ivar", "flux_ivar"),
    "quality": ("quality", "sap_quality", "flag", "flags"),
    "quarter": ("quarter", "campaign", "sector"),
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
    columns, _ = _columns(data, "wave")
    if "wave" not in columns or "flux" not in columns:
        hint = ": read light curves with read_light_curve" if "time" in columns else ""
        raise ReadError(f"columns {', '.join(columns)}: expected a wavelength and a flux{hint}")
    wave, flux = columns["wave"], columns["flux"]
    if np.nanmax(wave) < 1200:
        raise ReadError(f"wavelengths up to {np.nanmax(wave):g}: expected Å, these look like nm")
    if np.nanmin(wave) > 2.4e6:
        raise ReadError(
            f"wavelengths from {np.nanmin(wave):.9g}: expected Å, these look like Julian dates: "
            "read light curves with read_light_curve"
        )
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


def read_curve(data: bytes) -> LightCurve:
    """Read columns of time (days), flux and perhaps its error, as `read` reads a spectrum's.

    With a header line also quality and quarter. Bad is any quality but 0, since a text does not
    tell what its bits mean. The zero point of time comes from the head ("BJD - 2454833", a column
    "btjd") or from times that can only be Julian dates; else it is unknown. So is the unit, unless
    the head has it in brackets, as in "flux [ppm]".
    """
    columns, head = _columns(data, "time")
    if "time" not in columns or "flux" not in columns:
        hint = ": read spectra with read_spectrum" if "wave" in columns else ""
        raise ReadError(f"columns {', '.join(columns)}: expected a time and a flux{hint}")
    unit = re.search(r"\bflux\s*[\[(]([^\])]+)[\])]", head, re.IGNORECASE)
    quality = columns.get("quality")
    return light_curve(
        "text",
        {},
        columns["time"],
        columns["flux"],
        flux_err=columns.get("error"),
        bad=None if quality is None else quality != 0,
        quality=quality,
        quarter=columns.get("quarter", -1),
        time_zero=_time_zero(columns["time"], head.lower()),
        unit=unit[1].strip() if unit else "unknown",
    )


def _time_zero(time: np.ndarray, head: str) -> float:
    if subtracted := re.search(r"jd\w*\s*[-−–]\s*(24\d{5}(\.\d+)?)", head):
        return float(subtracted[1])
    for name, zero in ZEROS.items():
        if re.search(rf"\b{name}\b", head):
            return zero
    with np.errstate(invalid="ignore"):
        return 0.0 if 2.4e6 < np.nanmin(time) and np.nanmax(time) < 2.5e6 else np.nan


def _columns(data: bytes, first: str) -> tuple[dict[str, np.ndarray], str]:
    """Return the columns by their meaning, the first of any that mean the same, and the head."""
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ReadError(
            "neither FITS, gzip, zip nor text: garbage, or an unknown format"
        ) from error
    names, rows, head = None, [], []
    for i, line in enumerate(lines, 1):
        if not rows:
            head.append(line)
        cells = SEPARATOR.split(line.partition("#")[0].strip())
        if cells == [""]:
            continue
        try:
            # pandas writes nothing where there is no number.
            rows.append([float(cell or "nan") for cell in cells])
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
        what = "spectrum" if first == "wave" else "light curve"
        raise ReadError(f"{len(rows)} lines of numbers: expected a {what} of two columns or more")
    names = names or [first, "flux", "error"][: len(rows[0])]
    if len(names) < len(rows[0]):
        names += [f"column {i}" for i in range(len(names), len(rows[0]))]
    if len(names) > len(rows[0]):
        raise ReadError(f"the header names {len(names)} columns, the rows have {len(rows[0])}")
    columns = {}
    for name, values in zip(names, np.array(rows).T, strict=True):
        columns.setdefault(name, values)
    return columns, "\n".join(head[:-1])


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
