"""What the spectra's files do not tell: labels from a catalogue, and which rows are one star."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from astropy.coordinates import SkyCoord, search_around_sky
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stellarbook.data.survey_files.layout import SurveyFilesError

# By which columns of a catalogue its rows find their spectra. LAMOST's first releases wrote no
# OBSID into the files: there, the observation itself is the name.
KEYS = {
    "lamost": (("obsid",), ("lmjd", "planid", "spid", "fiberid")),
    "sdss": (("object",),),  # plate-mjd-fiberid
    "desi": (("targetid",),),
    "apogee": (("apogee_id",),),
    "galah": (("source_id",),),  # Gaia's, as in the files
    "gaia_xp_continuous": (("source_id",),),
    "gaia_xp_sampled": (("source_id",),),
}
LABELS = {
    ours + tail: theirs
    for ours, names in {
        "teff": ("teff",),
        "logg": ("logg",),
        "feh": ("feh", "fe_h"),
        "alpha_m": ("alpha_m", "alpha_fe"),
    }.items()
    for tail, theirs in {
        "": names,
        "_error": tuple(n + end for n in names for end in ("_err", "_error")),
    }.items()
}
UNKNOWN = -9990.0  # the surveys write −9999
ROWS = 200_000  # of a catalogue at a time: LAMOST's has seven million
NEAR = 3.0  # arcsec: a LAMOST fibre's width


def check_labels(path: str | Path, survey: str) -> None:
    """Raise what `add_labels` would, before hours are spent on the spectra.

    Raises
    ------
    SurveyFilesError
        There is no such file, or its columns are not as needed.
    """
    _columns(Path(path), survey)


def add_labels(table: pd.DataFrame, path: str | Path, survey: str) -> int:
    """Fill a table's labels from a catalogue, in place.

    Parameters
    ----------
    table : DataFrame
        Of a build; what it holds already under the names of labels is replaced where matched.
    path : path
        csv (separated by comma, bar, semicolon or tab; also gzipped) or parquet, read piecewise.
        Needed are the survey's identifier (`KEYS`) and at least one of teff (K), logg, feh or
        fe_h, alpha_m or alpha_fe (dex), any with ``_err`` or ``_error``; −9999 is unknown. Of rows
        with the same identifier the first counts.

    Returns
    -------
    int
        How many rows of the table were matched. A warning says so if none was.

    Raises
    ------
    SurveyFilesError
        Naming file and column.
    """
    path = Path(path)
    keys, names = _columns(path, survey)
    for ours in names:
        if ours not in table:
            table[ours] = np.nan
    rows = {}
    for key in keys:
        text = _text_key(table, key if survey == "lamost" else ("object",))
        rows[key] = pd.Series(np.arange(len(table)), index=text)[(text != "").to_numpy()]
    matched = np.zeros(len(table), bool)
    for chunk in _chunks(path, [c for key in keys for c in key] + list(names.values())):
        for key in keys:
            # Compared as text: identifiers of 19 digits do not survive as floats.
            text = _text_key(chunk, key)
            found = chunk[text.isin(rows[key].index)].assign(_key=text)
            found = found.drop_duplicates("_key").set_index("_key")
            hits = rows[key][rows[key].index.isin(found.index)]
            hits = hits[~matched[hits.to_numpy()]]
            for ours, theirs in names.items():
                values = pd.to_numeric(found.loc[hits.index, theirs], errors="coerce").to_numpy()
                table.loc[hits.to_numpy(), ours] = np.where(values > UNKNOWN, values, np.nan)
            matched[hits.to_numpy()] = True
    if not matched.any():
        warnings.warn(f"{path}: no row of it belongs to any of the spectra", stacklevel=2)
    return int(matched.sum())


def stars(table: pd.DataFrame, near: float = NEAR) -> np.ndarray:
    """Say which rows are one star: those whose positions agree.

    Parameters
    ----------
    table : DataFrame
        With ``ra, dec`` (deg; NaN: a star of its own) and perhaps ``obsid``.
    near : float
        Arcsec; chains of neighbours are one star.

    Returns
    -------
    (n,) int64
        The smallest obsid of the star's rows; where there is none, −1 − the first row's number.
    """
    n = len(table)
    known = np.flatnonzero(table[["ra", "dec"]].notna().all(axis=1))
    group = np.arange(n)
    if len(known):
        # Visits mostly share their position to the digit: only different ones are compared.
        places, which = np.unique(
            table[["ra", "dec"]].to_numpy(float)[known], axis=0, return_inverse=True
        )
        sky = SkyCoord(*places.T, unit="deg")
        i, j, _, _ = search_around_sky(sky, sky, near * u.arcsec)
        pairs = coo_array((np.ones(len(i), bool), (i, j)), shape=(len(sky), len(sky)))
        group[known] = n + connected_components(pairs, directed=False)[1][which.ravel()]
    name = -1 - np.arange(n)
    if "obsid" in table:
        obsid = table["obsid"].astype("Int64")
        name = np.where(obsid.notna(), obsid.fillna(0).to_numpy(np.int64), name)
    last = 2**62  # names that are no obsid come behind those that are
    order = np.where(name >= 0, name, last - name)
    least = np.full(2 * n, np.iinfo(np.int64).max)
    np.minimum.at(least, group, order)
    return np.where(least > last, last - least, least)[group]


def _columns(path: Path, survey: str) -> tuple[list[tuple], dict[str, str]]:
    """Which keys a catalogue has, and by our name its columns of labels."""
    if not path.is_file():
        raise SurveyFilesError(f"{path}: no such catalogue of labels")
    try:
        if path.suffix == ".parquet":
            columns = list(pq.read_schema(path).names)
        else:
            columns = list(pd.read_csv(path, nrows=0, sep=_separator(path)).columns)
    except Exception as error:  # of damaged files pandas and pyarrow raise almost anything
        raise SurveyFilesError(f"{path}: neither csv nor parquet ({error})") from error
    lower = {str(name).strip().lower() for name in columns}
    keys = [key for key in KEYS[survey] if lower.issuperset(key)]
    found = ", ".join(map(str, columns))[:200]
    if not keys:
        wanted = " or ".join(" + ".join(key) for key in KEYS[survey])
        raise SurveyFilesError(f"{path}: expected a column {wanted}, found {found}")
    names = {ours: next((t for t in theirs if t in lower), None) for ours, theirs in LABELS.items()}
    names = {ours: theirs for ours, theirs in names.items() if theirs}
    if not any(ours in ("teff", "logg", "feh", "alpha_m") for ours in names):
        raise SurveyFilesError(f"{path}: expected a label (teff, logg, feh …), found {found}")
    return keys, names


def _separator(path: Path) -> str:
    first = pd.read_csv(path, nrows=1, header=None, sep="\0", dtype=str).iloc[0, 0]
    return max(",|;\t", key=first.count)


def _chunks(path: Path, columns: list[str]) -> Iterator[pd.DataFrame]:
    def wanted(name) -> bool:
        return str(name).strip().lower() in columns

    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if wanted(name)]
            for batch in file.iter_batches(ROWS, columns=names):
                yield _plain(batch.to_pandas())
    else:
        with pd.read_csv(
            path, sep=_separator(path), usecols=wanted, dtype=str, chunksize=ROWS
        ) as chunks:
            for chunk in chunks:
                yield _plain(chunk)


def _plain(chunk: pd.DataFrame) -> pd.DataFrame:
    return chunk.rename(columns=lambda name: str(name).strip().lower()).reset_index(drop=True)


def _text_key(table: pd.DataFrame, columns: tuple) -> pd.Series:
    """Identifiers as text, joined by bars, without leading zeros; empty where one is missing."""
    parts = [
        table[c].astype("string").str.strip().str.replace(r"^0+(?=\d)|\.0$", "", regex=True)
        for c in columns
    ]
    text = parts[0].str.cat(parts[1:], sep="|") if len(parts) > 1 else parts[0]
    return text.fillna("")
