"""Grids, quarters, gaps and running means of light curves against answers that are known."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter1d
from scipy.signal import savgol_filter

from stellarbook.data.cadences import (
    LONG_CADENCE,
    fill_gaps,
    high_pass,
    moving_average,
    on_cadences,
    stitch,
)

REAL = Path(os.environ.get("STELLARBOOK_DATA", "/nonexistent"))
seeds = st.integers(0, 2**32 - 1)
nan = np.nan


def test_measurements_find_their_places():
    time = 100 + np.array([0, 1.1, 1.9, 5.0, 5.2, 7.0]) * 0.02
    flux = np.array([[1.0, 2, 3, 4, 6, nan], [1, nan, 3, 4, nan, np.inf]])
    expected = [[1, 2, 3, nan, nan, 5, nan, nan], [1, nan, 3, nan, nan, 4, nan, nan]]
    np.testing.assert_array_equal(on_cadences(time, flux, 0.02), expected)
    np.testing.assert_array_equal(on_cadences(time, flux[0], 0.02), expected[0])
    assert on_cadences([3.0], [7.0]).tolist() == [7]


@given(seeds, st.floats(0, 0.9), st.floats(1e-3, 10))
@settings(max_examples=30, deadline=None)
def test_an_even_grid_comes_back_from_uneven_times(seed, lost, cadence):
    rng = np.random.default_rng(seed)
    flux, kept = rng.normal(size=(3, 200)), rng.random(200) >= lost
    kept[[0, -1]] = True
    time = 55_000 + cadence * (np.arange(200) + rng.uniform(-0.2, 0.2, 200))
    result = on_cadences(time[kept], flux[:, kept], cadence)
    np.testing.assert_array_equal(result, np.where(kept, flux, nan))


@pytest.mark.parametrize(
    ("time", "flux", "cadence", "said"),
    [
        ([0, 1, 2], [1.0, 2], 1, "shapes"),
        ([[0, 1]], [[1.0, 2]], 1, "shapes"),
        ([], [], 1, "n ≥ 1"),
        ([0, nan], [1.0, 2], 1, "finite days"),
        ([1, 0], [1.0, 2], 1, "do not decrease"),
        ([0, 1], [1.0, 2], 0, "positive number of days"),
        ([0, 1], [1.0, 2], nan, "positive number of days"),
    ],
)
def test_times_that_make_no_grid_are_refused(time, flux, cadence, said):
    with pytest.raises(ValueError, match=said):
        on_cadences(time, flux, cadence)


def test_stitched_quarters_of_a_sinusoid_are_the_sinusoid():
    # Whole periods in each of four quarters of different length; three stars.
    quarter = np.repeat([5, 2, 9, 7], [400, 600, 200, 800])
    sinusoid = 1 + np.array([[1e-2], [1e-4], [0.3]]) * np.sin(2 * np.pi * np.arange(2000) / 40)
    rng = np.random.default_rng(0)
    detectors = rng.uniform(1e3, 1e6, (3, 10))[:, quarter]
    gaps = rng.random((3, 2000)) < 0.01
    gaps[:, 360:440] = True  # a period on both sides of a quarter's end
    raw = np.where(gaps, nan, sinusoid * detectors)
    result = stitch(raw, quarter).numpy()
    np.testing.assert_array_equal(np.isnan(result), gaps)
    # A lost hundredth moves the median of what is left by a cadence's step or two.
    change = np.abs(result - sinusoid).max(axis=1, where=~gaps, initial=0)
    assert (change < 0.3 * np.ptp(sinusoid, axis=1) / 2).all()
    whole = stitch(sinusoid * detectors, quarter)
    np.testing.assert_allclose(whole, sinusoid, atol=1e-9)
    np.testing.assert_allclose(stitch((sinusoid * detectors)[0], quarter), whole[0])


@given(seeds, st.lists(st.floats(1e-3, 1e6), min_size=4, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_detectors_sensitivity_does_not_matter(seed, factors):
    rng = np.random.default_rng(seed)
    quarter, flux = rng.integers(0, 4, 100), rng.uniform(0.5, 2, (3, 100))
    np.testing.assert_allclose(
        stitch(flux * np.array(factors)[quarter], quarter), stitch(flux, quarter), rtol=1e-9
    )


def test_a_quarter_without_a_level_is_lost():
    flux = np.array([1.0, 2, 3, nan, nan, -1, 0, -2])
    result = stitch(flux, [0, 0, 0, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(result, [0.5, 1, 1.5, nan, nan, nan, nan, nan])
    for quarter in ([0, 0], [[0] * 8]):
        with pytest.raises(ValueError, match="flux and quarter have shapes"):
            stitch(flux, quarter)


@given(seeds, st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_gaps_are_filled_as_numpy_does(seed, share):
    rng = np.random.default_rng(seed)
    flux = np.where(rng.random((4, 60)) < share, nan, rng.normal(size=(4, 60)))
    flux[0, 5] = np.inf
    filled, good = fill_gaps(flux)
    np.testing.assert_array_equal(good, np.isfinite(flux))
    for new, old in zip(filled, flux, strict=True):
        at = np.flatnonzero(np.isfinite(old))
        expected = np.interp(np.arange(60), at, old[at]) if len(at) else np.full(60, nan)
        np.testing.assert_allclose(new, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("width", [1, 3, 5, 7, 13, 15, 31, 99])
def test_moving_average_is_the_first_savitzky_golay_filter(width):
    flux = np.random.default_rng(width).normal(size=(3, 100))
    expected = savgol_filter(flux, width, 1, mode="mirror") if width > 1 else flux
    np.testing.assert_allclose(moving_average(flux, width), expected, atol=1e-12)
    np.testing.assert_allclose(moving_average(flux[0], width), expected[0], atol=1e-12)


@pytest.mark.parametrize("width", [0, -1, 4, 21])
def test_a_window_that_does_not_fit_is_refused(width):
    with pytest.raises(ValueError, match="expected an odd number, at most 19"):
        moving_average(np.ones((2, 10)), width)


def test_precision_and_kind():
    flux = np.array([1.0, nan, 3.0, 4.0])
    for kind, out in ((np.float64, torch.float64), (np.float32, torch.float32)):
        values = flux.astype(kind)
        assert stitch(values, [0, 0, 0, 0]).dtype == out
        assert fill_gaps(values)[0].dtype == out
        assert on_cadences([0, 1, 2, 3], values, 1).dtype == out
        assert moving_average(values, 3).dtype == out


@pytest.mark.skipif(not (REAL / "kepler_lightcurves.npz").exists(), reason="no STELLARBOOK_DATA")
def test_a_real_star_lies_on_the_grid():
    with np.load(REAL / "kepler_lightcurves.npz") as file:
        time, flux = file["LLC_2556081_t"], file["LLC_2556081_y"][:, 0]
    time, flux = time[np.isfinite(time)], flux[np.isfinite(time)]
    even = on_cadences(time, flux)
    # Four years of barycentric times: each measurement alone in a cadence.
    assert int(even.isfinite().sum()) == np.isfinite(flux).sum()
    assert (len(even) - 1) * LONG_CADENCE == pytest.approx(np.ptp(time), abs=LONG_CADENCE / 3)


def test_high_pass_keeps_the_fast_and_takes_the_slow():
    n, days = 9000, 20.0
    fast, slow = (1 + 0.01 * np.sin(2 * np.pi * np.arange(n) / period) for period in (48, 6000))
    flux = fast + slow - 1
    flux[100:120] = nan
    inside = slice(2000, 7000)
    assert (high_pass(flux, days) - fast)[inside].abs().max() < 0.15 * 0.01
    assert high_pass(flux, days).isnan().sum() == 20
    assert (high_pass(slow, days) - 1)[inside].abs().max() < 0.01 * (2 * np.pi * 980 / 6000) ** 2
    # Two boxcars, as a library has them; away from the ends, where mirrors differ.
    box = uniform_filter1d(uniform_filter1d(fast, 979), 979)
    np.testing.assert_allclose(high_pass(fast, days)[inside], (fast - box + 1)[inside], atol=1e-9)
