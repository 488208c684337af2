"""The parts of the simulated Kepler field against what is known of each: no archive is needed."""

import numpy as np
import pandas as pd
import pytest
from astropy import constants, units
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import kstest

from stellarbook.data import splits
from stellarbook.data.kepler_field import (
    binaries,
    catalogues,
    gyrochronology,
    isochrones,
    observables,
    population,
    rotation,
)

YEAR = 365.25
one = np.ones(1)


# --- the IMF ----------------------------------------------------------------------------------


@given(st.floats(0.09, 0.49), st.floats(0.51, 60))
def test_imf_is_the_integral_of_its_power_laws(low, high):
    def density(m):
        return m**-1.3 if m < 0.5 else 0.5 * m**-2.3

    total = quad(density, low, 0.5)[0] + quad(density, 0.5, high)[0]
    np.testing.assert_allclose(isochrones.kroupa(high) - isochrones.kroupa(low), total, rtol=1e-8)


def test_imf_slopes_come_back_from_drawn_masses():
    """Maximum likelihood of a power law (Hill's estimator) on either side of the break."""
    grid = np.geomspace(0.08, 400, 20_000)
    number = isochrones.kroupa(grid)
    u = np.random.default_rng(0).random(400_000) * number[-1]
    mass = np.exp(np.interp(u, number, np.log(grid)))
    high = mass[mass > 0.5]
    slope = 1 + 1 / np.mean(np.log(high / 0.5))
    assert abs(slope - 2.3) < 4 * 1.3 / np.sqrt(len(high))
    # Below the break the power law is cut off on both sides: its mean logarithm tells the slope.
    low = np.log(mass[mass < 0.5])
    a, b = np.log(0.08), np.log(0.5)

    def mean(slope):
        k = 1 - slope
        return (b * np.exp(k * b) - a * np.exp(k * a)) / (np.exp(k * b) - np.exp(k * a)) - 1 / k

    assert abs(brentq(lambda s: mean(s) - low.mean(), 1.05, 1.9) - 1.3) < 0.03


def test_resampling_keeps_the_track():
    """On a straight line in (8 log Teff, log L) equal steps of arc are equal steps of both."""
    track = np.zeros((7, len(isochrones.NAMES)))
    t = np.array([0, 0.1, 0.15, 0.4, 0.45, 0.8, 1])
    track[:, 0] = 1 + t
    track[:, isochrones.NAMES.index("log_l")] = 3 * t
    track[:, isochrones.NAMES.index("log_teff")] = 3.7 - t / 2
    out = isochrones.resampled(track)
    steps = np.linspace(0, 1, isochrones.POINTS)
    np.testing.assert_allclose(out[:, 0], 1 + steps)
    np.testing.assert_allclose(out[:, isochrones.NAMES.index("log_teff")], 3.7 - steps / 2)


# --- orbits -----------------------------------------------------------------------------------


@given(st.floats(0.2, 5), st.floats(0.5, 1e6))
def test_keplers_third_law(mass, days):
    a = binaries.semi_major_axis(np.array([mass]), np.array([days]))[0] * units.au
    gm = constants.G * mass * units.Msun
    period = 2 * np.pi * np.sqrt(a**3 / gm)
    np.testing.assert_allclose(period.to_value("day"), days, rtol=2e-4)


def test_the_earth_and_jupiter():
    np.testing.assert_allclose(binaries.semi_major_axis(one, YEAR * one), 1)
    k = binaries.velocity_amplitude(1.0, 9.546e-4, 4332.6, 0.0489, np.pi / 2)
    assert abs(1000 * k - 12.5) < 0.05  # m/s, the textbook's Jupiter


@given(st.floats(0.05, 1), st.floats(0.3, 2), st.floats(0.5, 500), st.floats(0, 0.9))
def test_velocity_amplitudes_balance(q, m1, days, e):
    """m₁K₁ = m₂K₂, and K₁ + K₂ is the relative orbit's."""
    m2 = q * m1
    k1 = binaries.velocity_amplitude(m1, m2, days, e, np.pi / 2)
    k2 = binaries.velocity_amplitude(m2, m1, days, e, np.pi / 2)
    np.testing.assert_allclose(m1 * k1, m2 * k2)
    a = binaries.semi_major_axis(np.array([m1 + m2]), np.array([days]))[0]
    relative = (2 * np.pi * a * units.au / (days * units.day)).to_value("km/s")
    np.testing.assert_allclose(k1 + k2, relative / np.sqrt(1 - e**2), rtol=3e-4)


def test_roche_lobes():
    """Eggleton's formula: 0.379 for equal masses, near Paczyński's at small q."""
    np.testing.assert_allclose(binaries.roche(one), 0.379, atol=5e-4)
    q = np.array([0.01, 0.05, 0.1])
    np.testing.assert_allclose(binaries.roche(q), 0.462 * np.cbrt(q / (1 + q)), rtol=0.06)
    assert (np.diff(binaries.roche(np.geomspace(1e-3, 1e3, 50))) > 0).all()


@given(st.floats(-20, 20), st.floats(0, 0.94))
def test_keplers_equation_is_solved(mean, e):
    nu = binaries.anomaly(np.array([mean]), np.array([e]))[0]
    difference = binaries.mean_anomaly(nu, e) - mean
    assert abs(np.sin(difference / 2)) < 1e-9  # equal up to whole turns


def orbit(**given_):
    star = {
        "binary": np.array([True]),
        "mass_initial": one,
        "m2": 0.5 * one,
        "q": 0.5 * one,
        "porb": 10 * one,
        "eccentricity": 0 * one,
        "orbit_inclination": np.pi / 2 * one,
        "periastron": 0 * one,
        "phase0": 0 * one,
        "radius": one,
        "radius2": 0.5 * one,
        "light2": 0.1 * one,
        "distance": 100 * one,
    } | {name: np.atleast_1d(value) for name, value in given_.items()}
    star["a"] = binaries.semi_major_axis(star["mass_initial"] + star["m2"], star["porb"])
    return star


@given(st.floats(0, 0.8), st.floats(0, 6.28), st.floats(0.1, 3))
def test_velocities_average_to_nothing_over_an_orbit(e, w, i):
    star = orbit(eccentricity=e, periastron=w, orbit_inclination=i)
    time = np.linspace(0, 10, 4001)[None, :-1]
    v = observables.velocity(star, time)[0]
    k1 = binaries.velocity_amplitude(1, 0.5, 10, e, i)
    assert abs(v.mean()) < 1e-3 * k1
    np.testing.assert_allclose(v.max() - v.min(), 2 * k1, rtol=2e-3)


def test_a_circular_orbit_is_a_cosine_and_a_single_star_does_not_move():
    time = np.linspace(0, 25, 40)[None]
    star = orbit()
    k1 = binaries.velocity_amplitude(1, 0.5, 10, 0, np.pi / 2)
    wave = k1 * np.cos(2 * np.pi * time / 10)
    np.testing.assert_allclose(observables.velocity(star, time), wave, atol=1e-9)
    assert not observables.velocity(orbit(binary=False), time).any()


def test_eclipse_depths():
    """A smaller companion hides its share of the disc; it disappears itself half an orbit later."""
    seen = binaries.eclipses(orbit())
    np.testing.assert_allclose(seen["eclipse_depth"], 0.9 * 0.25)
    np.testing.assert_allclose(seen["eclipse_second_depth"], 0.1)
    # Central crossing of a circular orbit: the chord is 2 (R₁ + R₂), the speed 2πa/P.
    a = orbit()["a"] / binaries.R_SUN_AU
    np.testing.assert_allclose(seen["eclipse_duration"], 2 * 1.5 * 10 / (2 * np.pi * a))
    off = np.arccos(1.5 / a)
    assert binaries.eclipses(orbit(orbit_inclination=off - 1e-3))["eclipse_depth"] == 0
    assert binaries.eclipses(orbit(orbit_inclination=off + 1e-3))["eclipse_depth"] > 0


@given(st.floats(0, 0.8), st.floats(0, 6.28), st.floats(0, 6.28))
def test_eclipses_are_where_the_velocities_say(e, w, phase0):
    """At an eclipse the primary moves across the line of sight: v = K₁ e cos ω, as it is without
    the companion's pull, and falls where the companion is in front of it."""
    star = orbit(eccentricity=e, periastron=w, phase0=phase0)
    seen = binaries.eclipses(star)
    assert 0 <= seen["eclipse_epoch"] <= 10 and seen["eclipse_period"] == 10
    level = binaries.velocity_amplitude(1, 0.5, 10, e, np.pi / 2) * e * np.cos(w)
    second = seen["eclipse_epoch"] + 10 * seen["eclipse_second_phase"]
    for moment, sign in ((seen["eclipse_epoch"], -1), (second, 1)):
        v = observables.velocity(star, moment[:, None] + np.array([[-1e-3, 0, 1e-3]]))[0]
        np.testing.assert_allclose(v[1], level, atol=1e-6)
        assert sign * (v[2] - v[0]) > 0


def test_the_second_eclipse_may_be_the_only_one():
    """Near periastron the companion passes behind its star, near apastron it misses it."""
    seen = binaries.eclipses(
        orbit(eccentricity=0.6, periastron=-np.pi / 2, orbit_inclination=1.50, porb=30)
    )
    assert seen["eclipse_depth"] == 0 < seen["eclipse_second_depth"]
    assert 0 < seen["eclipse_duration"] < 0.3 and seen["eclipse_period"] == 30
    none = binaries.eclipses(orbit(orbit_inclination=0.5))
    assert np.isnan(none["eclipse_period"]) and none["eclipse_duration"] == 0


@given(st.floats(0.1, 2), st.floats(0.1, 2), st.floats(0, 4))
def test_overlap_of_discs_by_counting(behind, front, impact):
    r = behind * np.sqrt((np.arange(400) + 0.5) / 400)
    phi = 2 * np.pi * (np.arange(400) + 0.5) / 400
    x, y = r[:, None] * np.cos(phi), r[:, None] * np.sin(phi)
    counted = ((x - impact) ** 2 + y**2 < front**2).mean()
    assert abs(binaries.overlap(behind, front, np.float64(impact)) - counted) < 0.01


def test_the_photocentre_of_an_invisible_companion_is_the_primary():
    """Dark companion: a m₂/(m₁+m₂) / d, face-on circular: its standard deviation in one axis."""
    star = orbit(light2=0, orbit_inclination=0)
    expected = 1000 * star["a"] / 3 / 100 / np.sqrt(2)
    np.testing.assert_allclose(observables.wobble(star), expected)
    twins = orbit(light2=0.5, q=1, m2=1)
    np.testing.assert_allclose(observables.wobble(twins), 0)
    wide = orbit(porb=1e5), orbit(porb=2e5)
    ratio = observables.wobble(wide[1]) / observables.wobble(wide[0])
    np.testing.assert_allclose(ratio, 2 ** (2 / 3) / 4)  # Kepler's third law, reduced by P²


# --- rotation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(len(gyrochronology.AGES)))
def test_the_clusters_have_their_own_periods(k):
    teff = np.linspace(*gyrochronology.TEFF, 25)
    fitted = np.polyval(gyrochronology.POLYNOMIALS[k], teff)
    if k == 4:  # NGC 6811 is kept above Praesepe
        before = np.polyval(gyrochronology.POLYNOMIALS[3], teff)
        fitted = np.where(fitted < before, before + 0.01, fitted)
    found = gyrochronology.slow_sequence(teff, np.full(25, gyrochronology.AGES[k]))
    np.testing.assert_allclose(found, fitted, rtol=1e-9)


@pytest.mark.parametrize(
    ("age", "periods"), [(0.5, [8.91217943, 6.8423342]), (3.0, [25.73434538, 20.02494727])]
)
def test_between_the_clusters_as_the_authors_code(age, periods):
    """The oracle: what gyrointerp 0.7's ``slow_sequence`` returns for 5000 and 5750 K."""
    found = gyrochronology.slow_sequence(np.array([5000.0, 5750.0]), np.full(2, age))
    np.testing.assert_allclose(found, periods, rtol=1e-8)


@given(st.floats(3500, 6500), st.floats(0.7, 12), st.floats(0.01, 3))
def test_single_stars_only_slow_down_after_praesepe(teff, age, later):
    periods = rotation.braked(np.array([teff, teff]), np.array([age, age + later]))
    assert periods[1] >= periods[0] - 1e-9 and periods[0] > 0


def test_braking_stops_at_the_rossby_number():
    cool = np.array([4500.0, 5000.0, 5400.0])
    end = rotation.braked(cool, np.full(3, 50.0))
    np.testing.assert_allclose(end / rotation.turnover(cool), rotation.ROSSBY)
    assert abs(rotation.turnover(np.array([5772.0]))[0] - 12.9) < 0.1


def rotators(n, **given_):
    star = {
        "age": 3.0,
        "teff": 5000.0,
        "teff_zams": 5000.0,
        "mass": 0.85,
        "radius": 0.8,
        "radius_zams": 0.78,
        "phase": 0,
        "binary": False,
        "porb": np.nan,
        "eccentricity": np.nan,
        "orbit_inclination": np.nan,
    } | given_
    return {name: np.full(n, value) for name, value in star.items()}


def test_close_pairs_rotate_with_their_orbit_and_wide_ones_do_not():
    pair = {"binary": True, "eccentricity": 0.0, "orbit_inclination": 1.0}
    close = rotation.draw(rotators(4000, porb=3.0, **pair), np.random.default_rng(0))
    bound = close["synchronised"]
    assert abs(bound.mean() - rotation.TIDES) < 0.02
    np.testing.assert_allclose(close["prot"][bound], 3)
    np.testing.assert_allclose(close["inclination"][bound], 1)
    wide = rotation.draw(rotators(4000, porb=30.0, **pair), np.random.default_rng(0))
    assert not wide["synchronised"].any()
    # Without tides the inclination's cosine is even.
    assert kstest(np.cos(wide["inclination"]), "uniform").pvalue > 1e-4


def test_periastron_sets_the_pace():
    e = np.array([0, 0.01, 0.02])
    np.testing.assert_allclose(rotation.pseudosynchronous(e), 1 + 6 * e**2, atol=1e-5)
    strong = np.array([0.3, 0.6])
    at_periastron = np.sqrt(1 + strong) / (1 - strong) ** 1.5
    pace = rotation.pseudosynchronous(strong)
    assert (pace > 1).all() and (pace < at_periastron).all()  # 0.8 of it or so (Hut 1981)
    assert (pace > 0.75 * at_periastron).all()


def test_nothing_rotates_faster_than_it_can():
    """The Earth's satellites are the oracle: 84.5 minutes at one Earth radius and mass."""
    earth = (
        (constants.R_earth / constants.R_sun).value,
        (constants.M_earth / constants.M_sun).value,
    )
    assert abs(rotation.breakup(earth[1], earth[0]) * 24 * 60 - 84.5) < 0.2
    drawn = rotation.draw(rotators(3000, age=0.11, teff=4000.0), np.random.default_rng(1))
    assert (drawn["prot"] >= rotation.breakup(0.85, 0.8)).all()


def test_young_cool_stars_are_partly_fast_and_old_ones_are_not():
    young = rotation.draw(rotators(4000, age=0.12, teff=4200.0), np.random.default_rng(1))
    period = gyrochronology.slow_sequence(np.array([4200.0]), np.array([0.12]))
    share = gyrochronology.fast_share(np.array([4200.0]), np.array([0.12]), period)[0]
    assert 0.5 < share < 1 and abs(young["fast"].mean() - share) < 0.03
    assert not rotation.draw(rotators(500, age=2.0), np.random.default_rng(1))["fast"].any()


# --- the sky ----------------------------------------------------------------------------------


def test_dust_is_the_integral_of_its_density():
    density, height = population.DUST
    sine = np.sin(np.deg2rad(population.CENTRE[1]))
    for d in (0.1, 1.0, 5.0):
        total = quad(lambda s: density * np.exp(-s * sine / height), 0, d)[0]
        np.testing.assert_allclose(population.dust(np.array([d])), total, rtol=1e-7)


def test_velocities_have_their_dispersions_and_the_suns_reflex():
    n = 200_000
    rng = np.random.default_rng(0)
    zero = np.zeros(n)
    moved = population.motion(np.full(n, 10.0), zero, zero, np.ones(n), rng)
    expected = population.DISPERSION[0]
    for name, sigma in zip(("u_lsr", "v_lsr", "w_lsr"), expected, strict=True):
        assert abs(moved[name].std() / sigma - 1) < 0.01
    drift = expected[0] ** 2 / population.DRIFT
    # Towards the Galactic centre the velocity away from us is U, that along l is V.
    assert abs(moved["rv"].mean() + population.SUN[0]) < 0.5
    along = moved["pm_l"].mean() * 4.74047
    assert abs(along + drift + population.SUN[1]) < 0.5
    young = population.motion(np.full(n, 0.5), zero, zero, np.ones(n), rng)
    ratio = young["w_lsr"].std() / moved["w_lsr"].std()
    assert abs(ratio - 20 ** -population.DISPERSION[1][2]) < 0.01


def test_larger_targets_had_to_be_brighter():
    """Photons alone: a transit of the same planet is as significant at the limit for all dwarfs."""
    teff = np.array([5600.0, 6000.0, 6400.0])
    radius = (teff / 5772) ** 2.2
    limit = population.faintest(radius, teff)
    significance = radius**-2 * 10 ** (-0.2 * limit)
    np.testing.assert_allclose(significance, significance[0])
    assert population.faintest(np.array([10.0]), np.array([4800.0])) == 13.5


# --- splits and halves ------------------------------------------------------------------------


@given(st.sets(st.integers(0, 2**62), min_size=1, max_size=80))
def test_a_star_keeps_its_part_whoever_else_is_there(ids):
    ids = np.array(sorted(ids), dtype=np.int64)
    together = splits.hashed(ids)
    alone = np.array([splits.hashed(ids[i : i + 1])[0] for i in range(len(ids))])
    assert (together == alone).all() and set(together) <= set(splits.PARTS)


def test_parts_have_their_sizes():
    part = splits.hashed(np.arange(50_000))
    for name, share in zip(splits.PARTS, (0.8, 0.1, 0.1), strict=True):
        assert abs((part == name).mean() - share) < 4 * np.sqrt(share * (1 - share) / 50_000)


def test_halves_are_halves_and_depend_on_the_number_alone():
    kic = np.random.default_rng(0).permutation(np.arange(7e5, 13e6, 300, dtype=np.int64))
    half = pd.Series(catalogues.halves(kic), index=kic)
    assert set(half) == set(catalogues.HALVES)
    assert abs((half == "draw").mean() - 0.5) < 2 / np.sqrt(len(kic))
    again = pd.Series(catalogues.halves(np.sort(kic)), index=np.sort(kic))
    assert (half.sort_index() == again).all()
    with pytest.raises(ValueError, match="no half 'left'"):
        catalogues.half("left")
