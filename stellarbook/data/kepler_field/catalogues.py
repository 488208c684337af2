"""Real Kepler stars behind the simulated field: rotation and activity, oscillations, granulation.

Rotation periods and photometric activity S_ph of 55,231 stars (Santos et al. 2019, ApJS 244, 21;
2021, ApJS 255, 17; from the package ``star-privateer``) and fits of ν_max and granulation of 13,413
stars (the prior of ``pbjam``, Nielsen et al.). The rotators are halved by the hash of their KIC
number: the simulation sees the half "draw", tests and chapter 01 compare with the half "held".
Shown in chapter 01.
"""

import hashlib
import io
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from stellarbook.data import archives
from stellarbook.data.solar import SUN

NEEDS = ("star-privateer", "pbjam")
SANTOS = {
    2019: "star_privateer/catalogs/santos_2019_catalog.fit",
    2021: "star_privateer/catalogs/santos_2021_catalog.fit",
}
WITHOUT = "star_privateer/catalogs/santos_2021_norot.fit"
ROTATION = {
    "kic": "KIC",
    "kp": "Kpmag",
    "teff": "Teff",
    "logg": "logg",
    "mass": "Mass",
    "prot": "Prot",
    "sph": "Sph",
}
PRIOR = "pbjam/data/prior_data.csv"
SEISMIC = (
    *("numax", "dnu", "teff", "env_height", "env_width"),
    *("H_power", "H1_nu", "H1_exp", "H2_nu", "H2_exp"),
)
HALVES = ("draw", "held")


@cache
def rotation() -> pd.DataFrame:
    """Real stars with a measured rotation period.

    Returns
    -------
    DataFrame (55,231 rows)
        ``kic``, ``kp`` (mag), ``teff`` (K), ``logg``, ``mass`` (M☉), ``prot`` (d), ``sph`` (ppm),
        ``catalogue`` (2019 or 2021), ``half`` ("draw" or "held"). Ordered by ``kic``.

    Raises
    ------
    ArchiveError
        The archive is neither in the cache nor in reach.
    """
    return pd.read_parquet(_folder() / "rotation.parquet")


def half(part: str) -> pd.DataFrame:
    """Return the rows of `rotation` of one half, "draw" or "held"."""
    if part not in HALVES:
        raise ValueError(f"no half {part!r}: there are {', '.join(HALVES)}")
    rows = rotation()
    return rows[rows["half"] == part].reset_index(drop=True)


def detected_fraction() -> float:
    """Return the share of the stars searched by Santos et al. that have a period."""
    without = int((_folder() / "without.txt").read_text())
    return len(rotation()) / (len(rotation()) + without)


@cache
def seismic() -> pd.DataFrame:
    """Real stars with fitted oscillations and granulation.

    Returns
    -------
    DataFrame (13,401 rows, nearly all giants)
        ``kic``; ``numax, dnu`` (µHz), ``teff`` (K), ``env_height`` (ppm²/µHz), ``env_width`` (µHz),
        ``H_power`` (ppm²/µHz), ``H1_nu, H2_nu`` (µHz), ``H1_exp, H2_exp``: pbjam's names, its
        logarithms undone; ``logg`` by the scaling ν_max ∝ g Teff^−1/2 (Brown et al. 1991).
    """
    return pd.read_parquet(_folder() / "seismic.parquet")


def measured() -> pd.DataFrame:
    """Return ν_max and rotation periods of real stars, from light curves of up to four years.

    Returns
    -------
    DataFrame, indexed by KIC number
        ``numax`` (µHz, of `seismic`; of a star with two fits the first) and ``prot`` (d, of
        `rotation`); NaN where one is unknown. Shown in chapter 03.
    """
    tables = {"numax": seismic(), "prot": rotation()}
    columns = [t.drop_duplicates("kic").set_index("kic")[name] for name, t in tables.items()]
    return pd.concat(columns, axis=1)


def halves(kic: np.ndarray) -> np.ndarray:
    """Return "draw" or "held" for every KIC number: of a digest, since numbers follow the sky."""
    digests = (hashlib.sha256(f"KIC {i}".encode()).digest() for i in np.asarray(kic).tolist())
    return np.array(HALVES)[[digest[0] % 2 for digest in digests]]


def _folder() -> Path:
    return archives.distil("kepler_catalogues", NEEDS, _build, version=1, size=2_500_000)


def _build(folder: Path) -> None:
    tables = []
    for year, member in SANTOS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # null values wider than their columns: none concern us
            with fits.open(io.BytesIO(archives.read("star-privateer", member))) as hdus:
                rows = hdus[1].data
                columns = {o: np.array(rows[t]).astype(float) for o, t in ROTATION.items()}
        tables.append(pd.DataFrame(columns).assign(catalogue=year))
    stars = pd.concat(tables).sort_values("kic", kind="stable").astype({"kic": np.int64})
    stars["half"] = halves(stars["kic"].to_numpy())
    stars.reset_index(drop=True).to_parquet(folder / "rotation.parquet")
    with fits.open(io.BytesIO(archives.read("star-privateer", WITHOUT))) as hdus:
        (folder / "without.txt").write_text(str(len(hdus[1].data)))

    prior = pd.read_csv(io.BytesIO(archives.read("pbjam", PRIOR)))
    prior = prior[prior["ID"].astype(str).str.match(r"^KIC\d+$")]
    chosen = prior[list(SEISMIC)].dropna()
    chosen = chosen.apply(lambda c: c if c.name.endswith("_exp") else 10**c)
    chosen.insert(0, "kic", prior.loc[chosen.index, "ID"].str[3:].astype(np.int64))
    scaled = chosen["numax"] / SUN["numax"] * np.sqrt(chosen["teff"] / SUN["teff"])
    chosen["logg"] = SUN["logg"] + np.log10(scaled)
    chosen.reset_index(drop=True).to_parquet(folder / "seismic.parquet")
