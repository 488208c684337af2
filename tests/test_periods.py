"""Periods of sinusoids, of one spot and of two; what neither method can know."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarbook.data.cadences import LONG_CADENCE, on_cadences
from stellarbook.learn.periods import acf_period, lomb_scargle_period

REAL = Path(os.environ.get("STELLARBOOK_DATA", "/nonexistent"))
N = 4500
TIME = LONG_CADENCE * np.arange(N)  # 92 days


def spotted(period, strengths=(0.02,), noise=5e-4, seed=0):
    """Dark spots on the equator, evenly spaced: each dims the star while it faces us."""
    flux = 1 + noise * np.random.default_rng(seed).normal(size=(*np.shape(period), N))
    for i, strength in enumerate(strengths):
        phase = 2 * np.pi * (TIME / np.asarray(period)[..., None] + i / len(strengths))
        flux -= strength * np.cos(phase).clip(0)
    return flux


@pytest.mark.parametrize("lost", [0, 0.3])
@pytest.mark.parametrize("strengths", [(0.02,), (0.02, 0.0, 0.01)])
def test_rotation_is_recovered(lost, strengths):
    period = np.array([1.1, 2.57, 6.0, 10.9, 17.3, 31.7])
    flux = spotted(period, strengths)
    rng = np.random.default_rng(1)
    flux[rng.random(flux.shape) < lost] = np.nan
    flux[:, 2000 : 2000 + int(500 * lost)] = np.nan
    acf, sinusoid = acf_period(flux), lomb_scargle_period(TIME, flux)
    np.testing.assert_allclose(acf.period, period, rtol=0.05)
    np.testing.assert_allclose(sinusoid.period, period, rtol=0.05)
    assert (acf.height[1:] > 0.5).all() and (sinusoid.height > 0.5).all()


def test_a_sinusoid_to_a_fraction_of_a_cadence():
    period = np.array([[2.0, 3.3], [5.7, 9.1]])
    flux = np.sin(2 * np.pi * TIME / period[..., None])
    for estimate in (acf_period(flux), lomb_scargle_period(TIME, flux)):
        assert estimate.period.shape == estimate.height.shape == (2, 2)
        np.testing.assert_allclose(estimate.period, period, rtol=0.005)
    # A cosine of amplitude 1 − P / T, twice, less what a Gaussian of 18 lags FWHM smooths away.
    sigma = 18 / np.sqrt(8 * np.log(2)) * LONG_CADENCE
    height = 2 * (1 - period / (N * LONG_CADENCE)) * np.exp(-2 * (np.pi * sigma / period) ** 2)
    np.testing.assert_allclose(acf_period(flux).height, height, atol=0.03)
    np.testing.assert_allclose(lomb_scargle_period(TIME, flux).height, 1, atol=0.01)


def test_two_spots_half_a_period_apart():
    period = np.array([8.0, 12.0, 20.0])
    unequal, equal = spotted(period, (0.02, 0.013)), spotted(period, (0.02, 0.02))
    # Unequal: the second harmonic is stronger than the first, but the star resembles itself most
    # after a whole turn.
    np.testing.assert_allclose(lomb_scargle_period(TIME, unequal).period, period / 2, rtol=0.05)
    np.testing.assert_allclose(acf_period(unequal).period, period, rtol=0.05)
    # Equal: nothing in the light tells half a turn from a whole one.
    np.testing.assert_allclose(lomb_scargle_period(TIME, equal).period, period / 2, rtol=0.05)
    np.testing.assert_allclose(acf_period(equal).period, period / 2, rtol=0.05)


def test_which_peaks_compete():
    # A slow trend of four times the power does not hide a rotation.
    flux = np.sin(2 * np.pi * TIME / 300) + 0.5 * np.sin(2 * np.pi * TIME / 7)
    assert acf_period(flux).period == pytest.approx(7, rel=0.05)
    # A weaker spot on the far side makes a first, lower peak after half a turn.
    flux = spotted(12.0, (0.02, 0.013))
    for peaks, period in ((1, 6), (2, 12), (None, 12)):
        assert acf_period(flux, peaks=peaks).period == pytest.approx(period, rel=0.05)
    assert acf_period(flux, shortest=15, peaks=1).period == pytest.approx(18, rel=0.05)


@given(st.integers(0, 2**32 - 1), st.floats(1e-2, 1e5), st.floats(-10, 10))
@settings(max_examples=10, deadline=None)
def test_the_unit_of_flux_does_not_matter(seed, factor, shift):
    flux = spotted(np.random.default_rng(seed).uniform(1, 40, 2), noise=0.01, seed=seed)
    for one, other in (
        (acf_period(flux), acf_period(factor * (flux + shift))),
        (lomb_scargle_period(TIME, flux), lomb_scargle_period(TIME, factor * (flux + shift))),
    ):
        np.testing.assert_allclose(other.period, one.period, rtol=1e-5)
        np.testing.assert_allclose(other.height, one.height, atol=1e-5)


def test_noise_has_low_peaks_and_nothing_has_none():
    noise = np.random.default_rng(2).normal(size=(20, N))
    assert (acf_period(noise).height < 0.1).all()
    assert (lomb_scargle_period(TIME, noise).height < 0.02).all()
    for empty in (np.full((2, N), np.nan), np.ones((2, N))):
        for estimate in (acf_period(empty), lomb_scargle_period(TIME, empty)):
            assert np.isnan(estimate.period).all() and np.isnan(estimate.height).all()
    assert acf_period(noise[:0]).period.shape == (0,)
    assert lomb_scargle_period(TIME, noise[:0]).period.shape == (0,)


def test_only_the_range_is_searched():
    flux = spotted(np.array([3.0]))
    assert acf_period(flux, shortest=4.0).period == pytest.approx([6], rel=0.02)
    assert lomb_scargle_period(TIME, flux, longest=2.0).period == pytest.approx([1.5], rel=0.02)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: acf_period(np.ones((1, 20))), "expected 1 ≤ shortest < longest"),
        (lambda: acf_period(np.ones((1, N)), longest=92.0), "≤ 4470 for curves of 4500"),
        (lambda: acf_period(np.ones((1, N)), shortest=0.0), "0 to 2250 cadences"),
        (lambda: acf_period(np.ones((1, N)), peaks=0), "peaks is 0: expected None or at least 1"),
        (lambda: lomb_scargle_period(TIME, np.ones(7)), r"expected \(N,\) and \(..., N\)"),
        (lambda: lomb_scargle_period(TIME, TIME, shortest=50), "0 < shortest < longest"),
    ],
)
def test_what_cannot_be_searched_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.skipif(not (REAL / "kepler_lightcurves.npz").exists(), reason="no STELLARBOOK_DATA")
@pytest.mark.parametrize(
    ("kic", "period"), [("003733735", 2.57), ("008006161", 31.7), ("010644253", 10.9)]
)
def test_real_kepler_stars(kic, period):
    # Published rotation: García et al. (2014); four years of KEPSEISMIC data.
    with np.load(REAL / "kepler_lightcurves.npz") as file:
        time, flux = file[f"KEPSEISMIC_{kic}_t"], file[f"KEPSEISMIC_{kic}_y"][:, 0]
    found = acf_period(on_cadences(time, flux), longest=70.0)
    assert found.period == pytest.approx(period, rel=0.1)
