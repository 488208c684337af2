"""Real open-cluster stars with rotation periods and colours, at the ages of their clusters.

3,830 periods in the eleven clusters by which Bouma, Palumbo & Hillenbrand (2023, ApJL 947, L3, and
their code since) calibrate gyrochronology, 80 Myr to 4 Gyr, as ``gyrointerp`` 0.7 carries them.
*Real data*; but `kepler_field.gyrochronology` is fitted to these very slow sequences, so simulated
stars that rotate by it are not independent of them. Shown in chapter 05.

Every period of the code's tables has a row. How many, benchmarks among them, and what is left out:

============  ====  =========  ==================================================================
cluster       rows  benchmark  left out
============  ====  =========  ==================================================================
α Per          986        238  4,240 candidates without a period (many rows are not members)
Pleiades       754        435  5 periods of Rebull et al. 2016 that the code finds no Gaia star for
Blanco 1       127         86
Psc-Eri        101         74
NGC 3532       279        120
Group X        173         89
Praesepe      1013        489
NGC 6811       171        119
NGC 6819        30         30
Ruprecht 147    66         22  374 rows without a period (or ≤ 0); 1 period without a Gaia star
M67            130        126  319 periods that Dungee et al. 2022 do not call converged
============  ====  =========  ==================================================================

Seven stars of Group X (two periods) and seven of M67 (in two papers) have two rows. The archive's
other clusters are left out: M34 and M37 (it states no age, and the usual one of M34 rests on
rotation); NGC 752, M50, NGC 2516, NGC 2547 and associations of 30 to 50 Myr (published tables
without the code's cuts). So are published tables that repeat the chosen ones.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.table import Table

from stellarbook.data import archives

NEEDS = ("gyrointerp",)
DATA = "gyrointerp-0.7/gyrointerp/data"
# Adopted age and its 1 σ bounds, Gyr; A_V, mag (the code's `age_scale.py`, table 1 of the paper,
# and `extinctionpriors.py`, which names its sources).
CLUSTERS = {
    "α Per": (0.080, 0.075, 0.085, 0.279),
    "Pleiades": (0.120, 0.108, 0.132, 0.12),
    "Blanco 1": (0.120, 0.108, 0.132, 0.031),
    "Psc-Eri": (0.120, 0.108, 0.132, 0.0),
    "NGC 3532": (0.300, 0.250, 0.360, 0.034),
    "Group X": (0.300, 0.230, 0.360, 0.0155),
    "Praesepe": (0.670, 0.603, 0.737, 0.035),
    "NGC 6811": (1.000, 0.900, 1.100, 0.15),
    "NGC 6819": (2.600, 2.400, 2.800, 0.44),
    "Ruprecht 147": (2.600, 2.400, 2.800, 0.30),
    "M67": (4.000, 3.500, 5.000, 0.124),
}
# Where the stars are, and who measured the periods; M67 is made of three tables, in `_m67`.
TABLES = {
    "α Per": ("alpha-per/Boyle_table3_full_DR3_supp", "Boyle & Bouma 2023"),
    "Pleiades": ("pleiades/Rebull_2016_X_GDR3_supplemented", "Rebull et al. 2016"),
    "Blanco 1": ("blanco1/Gillen_2020_X_GDR3_supplemented", "Gillen et al. 2020"),
    "Psc-Eri": ("psc-eri/Curtis_2019_X_GDR3_supplemented", "Curtis et al. 2019, AJ 158, 77"),
    "NGC 3532": ("ngc3532/Fritzewski_2021_X_DR3_supplemented", "Fritzewski et al. 2021"),
    "Group X": ("groupx/Messina_2022_X_GDR3_supplemented", "Messina et al. 2022"),
    "Praesepe": (
        "praesepe_rampalli2021/Rampalli_2021_X_DR3_supplemented",
        "Rampalli et al. 2021",
    ),
    "NGC 6811": ("ngc6811/Curtis_2019_X_GDR3_supplemented", "Curtis et al. 2019, ApJ 879, 49"),
    "NGC 6819": ("ngc6819/Curtis_2020_ngc6819_X_GDR3_supplemented", "Meibom et al. 2015"),
    "Ruprecht 147": ("ruprecht147/Curtis_2020_rup147_X_GDR3_supplemented", "Curtis et al. 2020"),
}
REDDENING = 0.415  # E(BP−RP) / A_V in Gaia DR2 (Curtis et al. 2020)
# α Per is dereddened star by star, but its table lists only DR3 colours so: E(BP−RP) of DR2 is this
# many times DR3's, the factor (scatter 0.01) that gives back the table's own temperatures.
DR2_OVER_DR3 = 1.112
# Curtis et al. (2020), table 4; highest power first, K as a function of (BP−RP)0.
COLOUR = (192.865, -2694.76, 15598.5, -48225.9, 85203.9, -84190.5, 39780.0, -416.585)


def effective_temperature(bprp0: np.ndarray) -> np.ndarray:
    """Return the effective temperature of a dwarf of a dereddened Gaia DR2 colour.

    The relation of Curtis et al. (2020, ApJ 904, 140, appendix A), which Bouma et al. (2023) use;
    its scatter is 50 K. Shown in chapter 05.

    Parameters
    ----------
    bprp0 : float, any shape
        (BP−RP)0, mag.

    Returns
    -------
    float, the same shape
        K; NaN where the colour is missing or outside 0.55–3.25.
    """
    bprp0 = np.asarray(bprp0, float)
    inside = (bprp0 >= 0.55) & (bprp0 <= 3.25)
    return np.where(inside, np.polyval(COLOUR, bprp0), np.nan)


def load() -> pd.DataFrame:
    """Real stars of open clusters with a measured rotation period.

    Returns
    -------
    DataFrame (3,830 rows, one for each published period)
        ``cluster``; ``age`` and ``age_error`` (Gyr): the cluster's, the error half of its 1 σ
        range (not symmetric for NGC 3532, Group X, M67: `CLUSTERS`); ``gaia_id``: DR3's, but DR2's
        for M67's stars of Barnes et al. (2016); ``bprp0`` (mag): Gaia DR2's BP−RP less 0.415 A_V,
        for M67's other stars DR3's; ``teff`` (K): `effective_temperature` of it, NaN outside its
        range; ``prot`` (d); ``benchmark``: passes the cuts of Bouma et al. (2023: a period that its
        authors trust and, but for NGC 6819 and M67, no sign of a companion; at any rotation);
        ``slow_sequence``: chosen by them, partly by hand, as the sequence to fit (all benchmark but
        13 stars of Ruprecht 147); ``reference``: who measured the period. Missing is NaN. Shown in
        chapter 05.

    Raises
    ------
    ArchiveError
        The archive is neither in the cache nor in reach.

    Notes
    -----
    The temperatures agree with the tables' own to 1 K; α Per's to 34 K (2 K in the median); and
    NGC 6811's are up to 39 K hotter: the code dereddens it by the Pleiades' A_V, here by its own.
    """
    folder = archives.distil("open_clusters", NEEDS, _build, version=1, size=150_000)
    return pd.read_parquet(folder / "stars.parquet")


def prepare() -> None:
    """Fetch the archive and distil the table."""
    load()


def _csv(member: str) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(archives.read("gyrointerp", member)), low_memory=False)


def _members(cluster: str) -> pd.DataFrame:
    table, reference = TABLES[cluster]
    rows = _csv(f"{DATA}/interim/{table}.csv")
    rows = rows[rows["Prot"] > 0]
    excess, name = REDDENING * CLUSTERS[cluster][3], cluster.replace(" ", "-")
    if cluster == "α Per":
        name = cluster
        observed, intrinsic = (
            rows[f"phot_bp_mean_mag{s}"] - rows[f"phot_rp_mean_mag{s}"] for s in ("", "_0")
        )
        excess = DR2_OVER_DR3 * (observed - intrinsic)
    chosen = _csv(f"{DATA}/interim/slow_sequence_manual_selection/{name}_slow_sequence.csv")
    stars, slow = (  # by the period too: some stars have two
        pd.MultiIndex.from_arrays([t["dr3_source_id"], t["Prot"].round(4)]) for t in (rows, chosen)
    )
    return pd.DataFrame(
        {
            "gaia_id": rows["dr3_source_id"].astype(np.int64),
            "bprp0": rows["dr2_bp_rp"] - excess,
            "prot": rows["Prot"],
            "benchmark": rows["flag_benchmark_period"].astype(bool),
            "slow_sequence": stars.isin(slow),
            "reference": reference,
        }
    )


def _m67() -> pd.DataFrame:
    """Three papers, joined as the code joins them (its own result keeps only Teff and period)."""
    folder, excess = f"{DATA}/literature", REDDENING * CLUSTERS["M67"][3]
    barnes = _csv(f"{folder}/Barnes_2016_apj523472t1_ascii_X_DR2_supplemented.txt")
    text = archives.read("gyrointerp", f"{folder}/Dungee_2022_apjac90bet2_mrt.txt").decode()
    dungee = Table.read(text, format="ascii.cds").to_pandas()
    dungee = dungee[dungee["converged"] == "True"]
    gruner = _csv(f"{folder}/Gruner_Barnes_Weingrill_2023_M67_tableC2.csv")
    observed = dungee["gaiaBPmag"] - dungee["gaiaRPmag"]
    parts = {
        "Barnes et al. 2016": (barnes["source_id"], barnes["bp_rp"] - excess, barnes["P"]),
        "Dungee et al. 2022": (dungee["gaiaid"], observed - excess, dungee["prot"]),
        "Gruner et al. 2023": (gruner["dr3_source_id"], gruner["(BP-RP)0"], gruner["period"]),
    }
    rows = pd.concat(
        pd.DataFrame({"gaia_id": i, "bprp0": c, "prot": p}).assign(reference=reference)
        for reference, (i, c, p) in parts.items()
    )
    trusted = rows["prot"].between(12, 60, inclusive="neither")
    return rows.assign(benchmark=trusted, slow_sequence=trusted)


def _build(folder: Path) -> None:
    tables = []
    for cluster, (age, younger, older, _) in CLUSTERS.items():
        rows = _members(cluster) if cluster in TABLES else _m67()
        rows = rows.assign(cluster=cluster, age=age, age_error=(older - younger) / 2)
        tables.append(rows.assign(teff=effective_temperature(rows["bprp0"])))
    stars = pd.concat(tables, ignore_index=True)
    order = ["cluster", "age", "age_error", "gaia_id", "teff", "bprp0", "prot"]
    stars[[*order, "benchmark", "slow_sequence", "reference"]].to_parquet(folder / "stars.parquet")
