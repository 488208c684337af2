"""Spots, granulation, flares, eclipses and quarters of simulated light curves: known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarbook.data import example_light_curves
from stellarbook.data.cadences import LONG_CADENCE
from stellarbook.data.light_curves import activity, eclipses, flares, granulation, noise, quarters
from stellarbook.data.light_curves import spots as spotted
from stellarbook.data.light_curves.spots import BEFORE, HALF_LIFE, HARMONICS, LIMB, STEP, Spots
from stellarbook.data.light_curves.streams import streams
from stellarbook.data.readers import read_light_curve

seeds = st.integers(0, 2**32 - 1)


def visibility(mu, limb):
    mu = np.clip(mu, 0, None)
    return mu * (1 - limb[0] * (1 - mu) - limb[1] * (1 - mu) ** 2)


def test_the_series_of_the_rectified_cosine():
    series = spotted.coefficients(np.pi / 2, 0.0, limb=(0, 0))
    known = np.array([1, np.pi / 2, 2 / 3, 0, -2 / 15, 0, 2 / 35]) / np.pi
    np.testing.assert_allclose(series, known, atol=1e-12)


@given(st.floats(0.01, np.pi / 2), st.floats(-1.5, 1.5), st.sampled_from([(0, 0), LIMB]))
@settings(max_examples=30, deadline=None)
def test_many_harmonics_are_the_spot(inclination, latitude, limb):
    k = np.arange(301)
    series = spotted.coefficients(inclination, latitude, limb=limb, harmonics=300)
    phi = np.linspace(0, 2 * np.pi, 50)
    mu = np.cos(inclination) * np.sin(latitude)
    mu = mu + np.sin(inclination) * np.cos(latitude) * np.cos(phi)
    np.testing.assert_allclose(np.cos(phi[:, None] * k) @ series, visibility(mu, limb), atol=2e-3)


def test_a_spot_at_the_pole_or_behind_does_not_turn():
    seen, hidden = spotted.coefficients([0.0, 0.0], [1.0, -1.0])
    assert seen[0] == pytest.approx(visibility(np.sin(1.0), LIMB))
    np.testing.assert_allclose([*seen[1:], *hidden], 0, atol=1e-7)


@pytest.mark.parametrize("period", [0.9, 4.0, 12.0])
def test_a_spot_that_lives_long_is_a_blurred_rectified_cosine(period):
    extent, n = 0.3, 3000
    spot = Spots(*(np.array([x]) for x in (0, 0.0, 1e7, 0.0, 0.7, 0.0, 1.0)))
    points, step = spotted.points_for(n), STEP * LONG_CADENCE
    one = np.array([extent]), np.zeros(1)
    amplitude = spotted.amplitudes(spot, np.array([np.pi / 2]), *one, points, step, limb=(0, 0))
    flux = spotted.curves(amplitude, [period], n, LONG_CADENCE)[0]
    phi = 0.7 + 2 * np.pi * LONG_CADENCE * np.arange(n) / period
    away = np.linspace(-6, 6, 4001) * extent
    weight = np.exp(-0.5 * (away / extent) ** 2)
    blurred = (np.clip(np.cos(phi[:, None] + away), 0, None) * weight).sum(axis=1) / weight.sum()
    # The next harmonic, of 8: 2 / 63 π of the amplitude, blurred.
    np.testing.assert_allclose(flux, blurred, atol=1.5 * 2 / 63 / np.pi * np.exp(-32 * extent**2))


def random_spots(n, stars, days, rng):
    return Spots(
        star=np.repeat(np.arange(stars), n),
        born=rng.uniform(-10, days + 10, stars * n),
        life=np.exp(rng.uniform(np.log(activity.SHORTEST), np.log(80), stars * n)),
        lead=rng.normal(0, 0.06, stars * n),
        longitude=rng.uniform(0, 2 * np.pi, stars * n),
        latitude=rng.normal(0, 0.4, stars * n),
        size=rng.lognormal(0, 0.5, stars * n),
    )


def test_interpolated_sums_are_the_sum_over_spots():
    rng = np.random.default_rng(0)
    period, n = np.array([0.6, 2.57, 4.9, 5.1, 40.0]), 3000
    spots = random_spots(30, len(period), n * LONG_CADENCE, rng)
    inclination = np.arccos(rng.random(len(period)))
    extent, faculae = rng.uniform(0.26, 1, len(period)), rng.uniform(0, 1, len(period))
    points, step = spotted.points_for(n), STEP * LONG_CADENCE
    amplitude = spotted.amplitudes(spots, inclination, extent, faculae, points, step)
    flux = spotted.curves(amplitude, period, n, LONG_CADENCE)
    time = LONG_CADENCE * np.arange(n)
    k = np.arange(HARMONICS + 1)
    for i, p in enumerate(period):
        mine = np.flatnonzero(spots.star == i)
        star = inclination[i], spots.latitude[mine], extent[i], faculae[i]
        since = time[:, None] - (spots.born[mine] - BEFORE * step)
        alive = np.clip(1 - (since * HALF_LIFE / spots.life[mine]) ** 2, 0, None) ** 4
        phi = 2 * np.pi * time[:, None] / p + spots.longitude[mine] + spots.lead[mine] * since
        series = (np.cos(phi[..., None] * k) * spotted.coefficients(*star)).sum(axis=-1)
        direct = (spots.size[mine] * alive * series).sum(axis=1)
        # Under one part in a million of the flux for a star that varies by a third of a per cent.
        assert np.abs(flux[i] - direct).max() < 3e-4 * np.std(direct)


def test_sph_of_harmonics_is_that_of_the_curve():
    rng = np.random.default_rng(1)
    period, n = np.array([1.3, 7.0, 20.0]), 40_000
    spots = random_spots(150, 3, n * LONG_CADENCE, rng)
    points, step = spotted.points_for(n), STEP * LONG_CADENCE
    one = np.ones(3)
    amplitude = spotted.amplitudes(spots, one, 0.4 * one, 0 * one, points, step)
    flux = spotted.curves(amplitude, period, n, LONG_CADENCE)
    found = spotted.sph(amplitude[:, BEFORE:], period, [n // STEP] * 3, step)
    for curve, p, s in zip(flux, period, found, strict=True):
        pieces = np.array_split(curve, int(n * LONG_CADENCE / (5 * p)))
        assert s == pytest.approx(np.mean([np.std(x) for x in pieces]), rel=0.03)


def test_a_cycle_is_one_over_the_mission():
    rng = np.random.default_rng(0)
    for _ in range(5):
        habit = activity.habits(10.0, 500.0, 5500.0, rng)
        level = activity.cycle(habit, np.linspace(0, activity.MISSION, 100_001))
        assert level.mean() == pytest.approx(1, abs=1e-4)
        assert level.min() > 0


def some_background(n=1, flicker=0.0):
    star = (np.full(n, x) for x in (4900.0, 2.7, 1.2, 60.0))
    return granulation.background(*star, flicker, 2.0)


def test_the_spectrum_integrates_to_its_variance():
    nu = np.linspace(0, 60_000, 3_000_001)
    for stars in (some_background(), some_background(flicker=300.0)):
        whole = np.trapezoid(granulation.density(stars, nu)[0], nu)
        envelope = stars.height * stars.width * np.sqrt(np.pi / np.log(16))
        assert whole == pytest.approx(
            (2 * stars.amplitude**2 + envelope + stars.flicker**2)[0], rel=1e-3
        )


def test_cadences_see_the_exposures_mean():
    """Power below and above the Nyquist frequency, less what the exposure averages out."""
    stars = granulation.background(*(np.array([x]) for x in (5777.0, 4.44, 1.0, 3090.0)))
    nu = np.linspace(0, 60_000, 600_001)
    seen = granulation.density(stars, nu)[0] * np.sinc(nu / granulation.SAMPLING) ** 2
    below = np.linspace(0, granulation.SAMPLING / 2, 5001)
    folded = granulation.sampled(stars, below)[0]
    assert np.trapezoid(folded, below) == pytest.approx(np.trapezoid(seen, nu), rel=0.02)


def test_curves_have_the_spectrum():
    n, stars = 4096, 200
    curves = granulation.curves(some_background(stars), n, streams(3, range(stars), 0))
    below = np.linspace(0, granulation.SAMPLING / 2, 5001)
    expected = granulation.sampled(some_background(), below)[0]
    assert np.square(curves).mean() == pytest.approx(np.trapezoid(expected, below), rel=0.02)
    power = np.square(np.abs(np.fft.rfft(curves * np.hanning(n)))).mean(axis=0)
    power *= 2 / granulation.SAMPLING / np.square(np.hanning(n)).sum()
    nu = np.fft.rfftfreq(n, 1 / granulation.SAMPLING)
    bands = np.digitize(nu, [3, 10, 30, 55, 65, 100, 200, 280])
    for band in range(1, 8):
        there = bands == band
        want = np.interp(nu[there], below, expected).mean()
        assert power[there].mean() == pytest.approx(want, rel=0.1)


def test_the_suns_granulation():
    """Both components are about 27 ppm and the modes peak at 2.5 ppm: published, by other means."""
    sun = granulation.background(5777.0, 4.438, 1.0, 3090.0)
    assert 20 < sun.amplitude < 35
    assert granulation.numax_of(5777.0, 4.438) == pytest.approx(3090)
    per_order = sun.height * granulation.SUN["dnu"] / 3.1
    assert per_order**0.5 == pytest.approx(2.5, rel=0.15)


def test_noise_is_that_of_photons_and_of_a_floor():
    electrons = 3.46e8 * 10 ** (0.4 * (12 - np.array([9.0, 12, 16])))
    floor = 7e6 * np.array([1, 1, 16 / 14]) ** 4
    found = noise.long_cadence_noise([9.0, 12, 16])
    np.testing.assert_allclose((found * electrons) ** 2 - electrons, floor, rtol=1e-6)


def test_the_shape_of_a_flare():
    t = np.linspace(-2, 20, 220_001)
    shape = flares.template(t)
    assert shape.max() == pytest.approx(1, abs=0.01)
    assert (shape[t < -1] == 0).all() and shape[-1] < 0.01
    assert np.ptp(t[shape > 0.5]) == pytest.approx(1, abs=0.1)  # its width is its unit


@given(st.floats(0, 3), st.floats(0.0044, 0.1))
@settings(max_examples=30, deadline=None)
def test_cadences_keep_a_flares_energy(peak, width):
    flux = np.zeros(400)
    flares.add_flares(flux, np.array([[1 + peak, 0.2, width]]), LONG_CADENCE)
    t = np.linspace(-1, flares.LONGEST, 100_001)
    energy = 0.2 * width * np.trapezoid(flares.template(t), t)
    assert flux.sum() * LONG_CADENCE == pytest.approx(energy, rel=0.1)
    assert abs(LONG_CADENCE * flux.argmax() - 1 - peak) < LONG_CADENCE + width


def test_flares_come_at_their_rate():
    drawn = [flares.draw(0.5, 100.0, rng) for rng in streams(0, range(200), 3)]
    assert np.mean([len(x) for x in drawn]) == pytest.approx(50, rel=0.03)
    time, amplitude, _ = np.concatenate(drawn).T
    assert 0 <= time.min() and time.max() <= 100 and amplitude.min() >= 1e-3
    assert (amplitude > 1e-2).mean() == pytest.approx(0.1, rel=0.1)
    assert flares.rate(3800, 8000) > 100 * flares.rate(5800, 800)


def test_eclipses_have_their_depth_period_and_area():
    star = {"period": 3.7, "epoch": 2.0, "depth": 0.3, "duration": 0.4}
    star |= {"second_depth": 0.1, "second_phase": 0.4}
    time = LONG_CADENCE * np.arange(40_000)
    flux = np.ones(len(time))
    eclipses.add_eclipses(flux, time, star, LONG_CADENCE)
    phase = (time - 2.0) / 3.7 % 1
    near = np.minimum(phase, 1 - phase) * 3.7
    np.testing.assert_allclose(flux[near < 0.09], 0.7)
    second = np.abs(phase - 0.4) * 3.7
    np.testing.assert_allclose(flux[second < 0.09], 0.9)
    assert (flux[(near > 0.22) & (second > 0.22)] == 1).all()
    area = 0.4 * 0.4 * (1 - eclipses.INGRESS)
    assert (1 - flux).mean() == pytest.approx(area / 3.7, rel=0.01)


def test_an_eclipse_shorter_than_a_cadence_is_not_lost():
    star = {"period": 1.0, "epoch": 0.513, "depth": 0.5, "duration": 0.01}
    star |= {"second_depth": 0.0, "second_phase": 0.5}
    time = LONG_CADENCE * np.arange(40_000)
    flux = np.ones(len(time))
    eclipses.add_eclipses(flux, time, star, LONG_CADENCE)
    assert (1 - flux).mean() == pytest.approx(0.5 * 0.01 * (1 - eclipses.INGRESS), rel=0.1)


def test_gaps_are_the_missions():
    time = quarters.cadences(1470.4, quarters.FIRST)
    gap = quarters.in_gap(time)
    for before, after in quarters.GAPS:
        inside = (time > before + LONG_CADENCE / 2) & (time < after - LONG_CADENCE / 2)
        assert gap[inside].all()
    assert gap.sum() * LONG_CADENCE == pytest.approx(np.diff(quarters.GAPS).sum(), rel=0.02)
    quarter = quarters.quarter_of(time)
    assert quarter[0] == 0 and quarter[-1] == 17 and set(np.diff(quarter)) == {0, 1}


@pytest.mark.archives
@pytest.mark.parametrize("number", [2, 5])
def test_a_real_quarter_lies_between_the_gaps(number):
    curve = read_light_curve(example_light_curves.path(f"kepler_q{number}"))
    assert (quarters.quarter_of(curve.time) == number).all()
    good = curve.time[~curve.mask]
    assert quarters.in_gap(good).mean() < 0.002
    missed = good[:-1][np.diff(good) > 0.5] + 0.25
    assert quarters.in_gap(missed).all() and len(missed)
    even = quarters.cadences(np.ptp(good), good[0])
    share = 1 - len(good) / (~quarters.in_gap(even)).sum()
    assert share == pytest.approx(quarters.LOST, abs=0.02)


def test_the_telescope_shifts_quarters_and_settles_after_gaps():
    clock = quarters.clock(quarters.cadences(600, quarters.FIRST))
    rows = quarters.systematics(clock, np.array([0.0, 1e-3]), streams(0, [1, 1], 4))
    assert np.ptp(rows, axis=1).min() > 0.001
    for quarter in np.unique(clock.quarter):
        assert np.ptp(rows[0][clock.quarter == quarter]) == 0  # a level each
    assert (clock.settling[np.flatnonzero(np.diff(clock.gap.astype(int)) == -1) + 1] > 0.95).all()


@given(seeds, st.integers(0, 2**63), st.integers(0, 6))
@settings(max_examples=20, deadline=None)
def test_streams_are_philoxs(seed, name, part):
    own = [rng.random(5) for rng in streams(seed, [name, 7, name], part)]
    bits = np.random.Philox(key=[seed, name], counter=[0, 0, 0, part])
    np.testing.assert_array_equal(own[0], np.random.Generator(bits).random(5))
    np.testing.assert_array_equal(own[0], own[2])
