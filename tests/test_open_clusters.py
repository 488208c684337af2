"""Open clusters: every period in its cluster, ages as published, and stars where they should be."""

import numpy as np
import pandas as pd
import pytest

from stellarbook.data import archives, open_clusters
from stellarbook.data.kepler_field import gyrochronology

# Rows, benchmarks, slow sequence, temperatures, stars.
COUNTS = {
    "α Per": (986, 238, 36, 946, 986),
    "Pleiades": (754, 435, 62, 690, 754),
    "Blanco 1": (127, 86, 41, 127, 127),
    "Psc-Eri": (101, 74, 53, 99, 101),
    "NGC 3532": (279, 120, 87, 279, 279),
    "Group X": (173, 89, 23, 159, 166),
    "Praesepe": (1013, 489, 132, 978, 1013),
    "NGC 6811": (171, 119, 116, 164, 171),
    "NGC 6819": (30, 30, 30, 30, 30),
    "Ruprecht 147": (66, 22, 35, 64, 66),
    "M67": (130, 126, 126, 130, 123),
}


@pytest.fixture(scope="module")
def stars():
    file = archives.ARCHIVES["gyrointerp"].file
    if not (archives.cache() / "archives" / file).exists():
        pytest.skip(f"{file} is not in the archives' cache")
    return open_clusters.load()


def test_the_archive_is_pinned():
    assert set(open_clusters.NEEDS) <= set(archives.ARCHIVES)
    assert "open_clusters" in archives.SAMPLES


def test_effective_temperature():
    # By hand at 1 mag: the sum of the coefficients.
    assert open_clusters.effective_temperature(1.0) == pytest.approx(5247.52)
    # The Sun: (BP−RP)0 = 0.82 (Casagrande & VandenBerg 2018); the relation's scatter is 50 K.
    assert open_clusters.effective_temperature(0.82) == pytest.approx(5772, abs=50)
    colours = np.array([0.55, 3.25, 0.549, 3.251, np.nan])
    found = open_clusters.effective_temperature(colours)
    np.testing.assert_array_equal(np.isfinite(found), [True, True, False, False, False])
    falling = open_clusters.effective_temperature(np.linspace(0.55, 3.2, 200))
    assert (np.diff(falling) < 0).all()


@pytest.mark.archives
def test_counts(stars):
    grouped = stars.groupby("cluster", sort=False)
    found = grouped.agg(
        rows=("prot", "size"),
        benchmark=("benchmark", "sum"),
        slow=("slow_sequence", "sum"),
        teff=("teff", "count"),
        stars=("gaia_id", "nunique"),
    )
    assert {name: tuple(row) for name, row in found.iterrows()} == COUNTS
    other = stars[stars["slow_sequence"] & ~stars["benchmark"]]
    assert set(other["cluster"]) == {"Ruprecht 147"} and len(other) == 13
    for name, row in found.iterrows():  # the documented counts are these
        assert f"{name:<12}  {row['rows']:>4}  {row['benchmark']:>9}" in open_clusters.__doc__


@pytest.mark.archives
def test_columns(stars):
    assert list(stars.columns) == [
        *("cluster", "age", "age_error", "gaia_id", "teff", "bprp0", "prot"),
        *("benchmark", "slow_sequence", "reference"),
    ]
    assert stars["gaia_id"].dtype == np.int64 and (stars["gaia_id"] > 0).all()
    assert stars["benchmark"].dtype == stars["slow_sequence"].dtype == bool
    assert stars["prot"].between(0, 130).all()
    assert stars.drop(columns=["teff", "bprp0"]).notna().all(axis=None)
    assert stars["bprp0"].isna().sum() == 6, "without photometry"
    assert not stars.duplicated(["gaia_id", "prot"]).any()
    assert stars["reference"].nunique() == 13


@pytest.mark.archives
def test_ages_are_the_published_ones(stars):
    """Table 1 of Bouma et al. 2023, and M67 (Dungee et al. 2022), Myr."""
    published = {
        **{"α Per": (80, 5), "Pleiades": (120, 12), "Blanco 1": (120, 12), "Psc-Eri": (120, 12)},
        **{"NGC 3532": (300, 55), "Group X": (300, 65), "Praesepe": (670, 67)},
        **{"NGC 6811": (1000, 100), "NGC 6819": (2600, 200), "Ruprecht 147": (2600, 200)},
        "M67": (4000, 750),
    }
    for name, rows in stars.groupby("cluster"):
        (age,), (error,) = rows["age"].unique(), rows["age_error"].unique()
        assert (1000 * age, 1000 * error) == pytest.approx(published[name])
        assert age in gyrochronology.AGES
    assert set(published) == set(stars["cluster"])


@pytest.mark.archives
@pytest.mark.parametrize("cluster", [name for name in COUNTS if name != "M67"])
def test_temperatures_are_those_of_the_archives_tables(stars, cluster):
    table, _ = open_clusters.TABLES[cluster]
    rows = open_clusters._csv(f"{open_clusters.DATA}/interim/{table}.csv")
    rows = rows[rows["Prot"] > 0]
    ours = stars[stars["cluster"] == cluster]
    np.testing.assert_array_equal(ours["gaia_id"], rows["dr3_source_id"])
    difference = ours["teff"].to_numpy() - rows["Teff_Curtis20"].to_numpy()
    assert np.nanmax(np.abs(difference)) < {"α Per": 34, "NGC 6811": 39}.get(cluster, 1.1)
    assert abs(np.nanmedian(difference)) < {"α Per": 2, "NGC 6811": 35}.get(cluster, 0.1)


@pytest.mark.archives
def test_m67_is_joined_as_in_the_archive(stars):
    joined = open_clusters._csv(f"{open_clusters.DATA}/interim/M67/M67_supplemented.csv")
    ours = stars[stars["cluster"] == "M67"].reset_index(drop=True)
    theirs = joined.rename(columns={"Teff_Curtis20": "teff", "Prot": "prot"})
    pd.testing.assert_frame_equal(ours[["teff", "prot"]], theirs[["teff", "prot"]])
    np.testing.assert_array_equal(ours["benchmark"], joined["flag_benchmark_period"])


@pytest.mark.archives
@pytest.mark.parametrize("cluster", COUNTS)
def test_slow_sequences_are_where_gyrochronology_puts_them(stars, cluster):
    """Tables and polynomials came by different ways, though one was fitted to the other."""
    rows = stars[(stars["cluster"] == cluster) & stars["benchmark"] & stars["slow_sequence"]]
    rows = rows[rows["teff"].between(*gyrochronology.TEFF)]
    teff, age = rows["teff"].to_numpy(), rows["age"].to_numpy()
    residual = rows["prot"].to_numpy() - gyrochronology.slow_sequence(teff, age)
    (width,) = gyrochronology.width(age[:1])
    middle = np.median(residual)
    assert len(rows) >= 15
    assert abs(middle) < 4 * width / np.sqrt(len(rows))
    assert 1.4826 * np.median(np.abs(residual - middle)) < 1.4 * width
    # At another age the same stars lie elsewhere: the check can fail.
    wrong = rows["prot"].to_numpy() - gyrochronology.slow_sequence(teff, 2 * age)
    assert np.median(wrong) < middle - width
