"""What every reader returns: a spectrum or a light curve as plain numpy arrays.

Two frozen records that know no survey. The readers convert units, wavelengths and flags to what is
said here; whatever else a file tells about the star travels in ``meta``. Shown in chapter 01.
"""

from dataclasses import dataclass, field

import numpy as np


class RecordError(ValueError):
    """Arrays that make no record; the message names the array and what was expected."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One star's spectrum.

    Attributes
    ----------
    wave : (n,) float64
        Wavelength in vacuum, Å, strictly increasing within each arm.
    flux : (n,) float64
        In the unit that ``meta["unit"]`` names.
    ivar : (n,) float64
        Inverse variance of ``flux``, in its inverse unit squared.
    mask : (n,) bool
        True = bad: the survey's bad bits and, added here, a flux or inverse variance that is not
        finite and an inverse variance that is not positive. Under the mask flux and ivar are what
        the file holds (NaN stays NaN) and mean nothing.
    meta : dict
        Of spectra that `read_spectrum` returns: ``survey``, ``file``, ``object``; ``unit``;
        ``redshift`` and ``redshift_error``, the star's in the frame of ``wave``, so that
        wave / (1 + redshift) is at rest (NaN: unknown); ``ra, dec`` (deg, NaN: unknown);
        ``labels``, a dict of stellar parameters (``teff`` K, ``logg``, ``feh`` …) that the file
        itself carries; ``header``, the primary FITS header's cards. ``arms``, of an instrument
        with several arms, is a dict of name to slice in ascending order: the arms follow one
        another in the arrays and may overlap in wavelength.

    Raises
    ------
    RecordError
        Naming the array: not one-dimensional, of another length, empty; a wavelength that is not
        finite, not positive or not increasing; arms that do not tile the arrays.
    """

    wave: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    mask: np.ndarray
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        arrays = {name: _vector(self, name, float) for name in ("wave", "flux", "ivar")}
        wave, flux, ivar = arrays.values()
        if not np.isfinite(wave).all() or (wave <= 0).any():
            raise RecordError("wave: expected finite, positive wavelengths")
        mask = _vector(self, "mask", bool)
        _same_length(arrays | {"mask": mask})
        # NaN fails every comparison: it is masked too.
        mask |= ~np.isfinite(flux) | ~((ivar > 0) & (ivar < np.inf))
        arms = self.meta.get("arms", {"": slice(0, len(wave))})
        end = 0
        for name, arm in arms.items():
            if arm.start != end or arm.step not in (None, 1) or not end < arm.stop <= len(wave):
                raise RecordError(f"meta['arms'][{name!r}] is {arm}: the arms must tile the arrays")
            end = arm.stop
            if (np.diff(wave[arm]) <= 0).any():
                where = f" of arm {name}" if name else ""
                raise RecordError(f"wave: the wavelengths{where} do not increase")
        if end != len(wave):
            raise RecordError(f"meta['arms'] ends at pixel {end} of {len(wave)}")
        _store(self, arrays | {"mask": mask})

    def __len__(self) -> int:
        return len(self.wave)

    @property
    def snr(self) -> float:
        """Median flux / standard error of the good pixels; NaN if there is none."""
        good = ~self.mask
        return (
            float(np.median(self.flux[good] * np.sqrt(self.ivar[good]))) if good.any() else np.nan
        )


@dataclass(frozen=True, eq=False)
class LightCurve:
    """One star's brightness over time, cadence by cadence; gaps stay gaps.

    Attributes
    ----------
    time : (n,) float64
        Days since ``meta["time_zero"]``, strictly increasing.
    flux : (n,) float64
        In the unit that ``meta["unit"]`` names.
    flux_err : (n,) float64
        Standard error of ``flux``; NaN: unknown.
    mask : (n,) bool
        True = must not be used: the mission's bad bits and, added here, a flux that is not finite
        and an error that is infinite or not positive. Under the mask flux and flux_err are what
        the file holds (NaN stays NaN).
    quarter : (n,) int64, optional
        Kepler's quarter, K2's campaign, TESS's sector of each cadence; −1, the default: unknown.
    quality : (n,) int64, optional
        The mission's flags as the file has them, 0, the default: none. Which of them are bad
        ``mask`` says; here they are for whoever judges otherwise.
    meta : dict
        Of light curves that `read_light_curve` returns: ``survey``, ``file``, ``object``;
        ``unit``; ``time_zero``, the barycentric Julian date (TDB) at which time is 0 (Kepler
        counts from 2454833, TESS from 2457000; NaN: unknown); ``cadence``, the median step (days);
        ``quarters``, a tuple of those in ``quarter``; ``untimed``, the number of cadences that the
        file gives no time: these alone are left out; ``magnitude`` in ``band``; ``ra, dec`` (deg);
        ``labels``, a dict of stellar parameters (``teff`` K, ``logg``, ``feh`` …) that the file
        itself carries; ``header``, the primary FITS header's cards. Unknown numbers are NaN.

    Raises
    ------
    RecordError
        Naming the array: not one-dimensional, of another length, empty; a time that is not finite
        or does not increase; a quarter below −1, a quality that is negative or no whole number.
    """

    time: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    mask: np.ndarray
    quarter: np.ndarray | None = None
    quality: np.ndarray | None = None
    meta: dict = field(default_factory=dict)

    def __post_init__(self):
        arrays = {name: _vector(self, name, float) for name in ("time", "flux", "flux_err")}
        time, flux, error = arrays.values()
        if not np.isfinite(time).all():
            raise RecordError("time: expected finite times")
        if (late := np.flatnonzero(np.diff(time) <= 0)).size:
            first, second = time[late[0] : late[0] + 2]
            raise RecordError(
                f"time: expected increasing times, {second:.8g} follows {first:.8g} at "
                f"cadence {late[0] + 1}"
            )
        arrays["mask"] = mask = _vector(self, "mask", bool)
        for name, least, default in (("quarter", -1, -1), ("quality", 0, 0)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.full(len(time), default))
            arrays[name] = _vector(self, name, np.int64)
            if (arrays[name] < least).any() or (
                np.asarray(getattr(self, name)) != arrays[name]
            ).any():
                raise RecordError(f"{name}: expected whole numbers, {least} or greater")
        _same_length(arrays)
        mask |= ~np.isfinite(flux) | (error <= 0) | np.isinf(error)
        _store(self, arrays)

    def __len__(self) -> int:
        return len(self.time)


def air_to_vacuum(wave: np.ndarray) -> np.ndarray:
    """Return vacuum wavelengths (Å) of wavelengths in standard air (Å, above 2000).

    Notes
    -----
    N. Piskunov's inversion of the refractive index of Birch & Downs (1994), as the line database
    VALD uses it: good to 1e-5 Å in the optical.
    """
    wave = np.asarray(wave, dtype=float)
    s2 = (1e4 / wave) ** 2  # µm⁻²
    index = (
        1
        + 8.336624212083e-5
        + 0.02408926869968 / (130.1065924522 - s2)
        + 1.599740894897e-4 / (38.92568793293 - s2)
    )
    return wave * index


def _vector(record, name: str, dtype: type) -> np.ndarray:
    """Return a copy of an array in the machine's byte order: FITS is big-endian, torch is not."""
    with np.errstate(invalid="ignore"):
        values = np.array(getattr(record, name), dtype=dtype)
    if values.ndim != 1 or not len(values):
        raise RecordError(f"{name}: expected (n,) with n ≥ 1, not shape {values.shape}")
    return values


def _same_length(arrays: dict[str, np.ndarray]) -> None:
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise RecordError(f"arrays of different lengths: {lengths}")


def _store(record, arrays: dict[str, np.ndarray]) -> None:
    for name, values in arrays.items():
        object.__setattr__(record, name, values)  # frozen: the one way
