"""Masks, shifts and medians of many spectra against one spectrum at a time in numpy and scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter as scipy_median

from stellarbook.data import pixels
from stellarbook.data.instruments import DESI, GALAH, LAMOST
from stellarbook.data.pixels import (
    contiguous,
    interpolate_masked,
    median_filter,
    resample,
    rest_frame,
    unusable,
)

TWO_ARMS = np.r_[np.linspace(4000, 4100, 40), np.linspace(4080, 4300, 60)]  # overlapping
seeds = st.integers(0, 2**32 - 1)


def test_contiguous():
    assert contiguous(LAMOST.wave) == [slice(0, 3909)]
    assert contiguous(DESI.wave) == list(DESI.arms.values())
    assert contiguous(GALAH.wave) == list(GALAH.arms.values())
    assert contiguous([5000.0]) == [slice(0, 1)]
    assert contiguous([1, 2, 3, 7, 8]) == [slice(0, 3), slice(3, 5)]


def test_unusable_by_hand():
    flux = np.array([1, 2, 3, np.nan, np.inf, 2, 2, 0.03, -1, 2])
    ivar = np.array([1, 1, 1, 1, 1, 0, np.nan, 1, 1, np.inf])
    # The median of 1, 2, 3, .03, −1 is 1: .03 is above 2 % of it.
    expected = [False, False, False, True, True, True, True, False, True, True]
    assert unusable(flux, ivar).tolist() == expected
    assert unusable(flux - 2, np.ones(10)).all()  # median ≤ 0
    assert unusable(np.ones((2, 5)), [[0] * 5, [1] * 5]).tolist() == [[True] * 5, [False] * 5]


@given(seeds, st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_interpolation_agrees_with_numpy_arm_by_arm(seed, share):
    rng = np.random.default_rng(seed)
    flux, mask = rng.normal(size=(7, 100)), rng.random((7, 100)) < share
    mask[0], mask[1, :40] = True, True
    expected = flux.copy()
    for row, holes in zip(expected, mask, strict=True):
        for arm in (slice(0, 40), slice(40, 100)):
            x, y, bad = TWO_ARMS[arm], row[arm], holes[arm]
            y[bad] = np.nan if bad.all() else np.interp(x[bad], x[~bad], y[~bad])
    poisoned = np.where(mask, rng.choice([np.nan, np.inf, 1e30], mask.shape), flux)
    filled = interpolate_masked(TWO_ARMS, poisoned, mask)
    np.testing.assert_allclose(filled, expected, rtol=1e-9, atol=1e-12)
    assert np.array_equal(filled[torch.from_numpy(~mask)], flux[~mask])  # untouched
    alone = interpolate_masked(TWO_ARMS, poisoned[3], mask[3])  # one spectrum, one axis
    np.testing.assert_array_equal(alone, filled[3])


@given(st.lists(st.floats(-0.02, 0.02), min_size=1, max_size=4), seeds)
@settings(max_examples=30, deadline=None)
def test_resampling_agrees_with_numpy(redshift, seed):
    flux = np.random.default_rng(seed).normal(size=(len(redshift), len(LAMOST)))
    new = np.linspace(3650, 9200, 500)
    expected = [
        np.interp(new * (1 + z), LAMOST.wave, f, left=np.nan, right=np.nan)
        for z, f in zip(redshift, flux, strict=True)
    ]
    np.testing.assert_allclose(resample(LAMOST.wave, flux, new, redshift), expected, atol=1e-9)


def test_resampling_refuses_overlapping_arms():
    with pytest.raises(ValueError, match="increasing"):
        resample(DESI.wave, np.ones(len(DESI)), LAMOST.wave)


def test_search_is_what_numpy_does():
    # The way to positions on a GPU, where numpy's is used on a CPU.
    wave = torch.from_numpy(LAMOST.wave.copy())
    target = torch.cat([wave, torch.linspace(3600, 9200, 1001, dtype=torch.float64)])
    target = torch.cat([target, torch.tensor([torch.nan])])
    expected = np.interp(target, wave, np.arange(3909))
    np.testing.assert_allclose(pixels._search(wave, target), expected, atol=1e-9)


@pytest.mark.parametrize("instrument", [LAMOST, DESI], ids=lambda i: i.name)
def test_a_shifted_line_returns_to_rest(instrument):
    wave, line = instrument.wave, 5891.58  # in two of DESI's arms
    redshift = np.array([-600.0, -30, 0, 45.7, 600]) / 299_792.458
    width = 3 * instrument.fwhm / 2.3548
    moved = np.exp(-0.5 * ((wave - line * (1 + redshift[:, None])) / width) ** 2)
    flux, ivar = rest_frame(wave, moved, np.ones_like(moved), redshift)
    assert np.abs(flux.numpy() - moved[2]).max() < 0.02
    for arm in instrument.arms.values():
        profile = flux[:, arm].numpy()
        if wave[arm][0] < line - 100 and wave[arm][-1] > line + 100:
            centre = (profile * wave[arm]).sum(1) / profile.sum(1)
            assert np.abs(centre - line).max() < 0.02  # Å, of pixels of .8 to 1.4 Å
    assert flux.isfinite().all()
    assert 0.97 < float((ivar > 0).float().mean()) < 1


def test_beyond_the_grid():
    flux = np.arange(3909.0)
    new_flux, ivar = rest_frame(LAMOST.wave, flux, np.ones(3909), -10e-4)
    assert (new_flux[:4] == 0).all() and (new_flux[5:] > 0).all()  # 4.3 pixels
    assert not ivar[:4].any() and ivar[5:].all()
    for unknown in (-9999.0, np.nan, 5.0):
        new_flux, ivar = rest_frame(LAMOST.wave, flux, np.ones(3909), unknown)
        assert new_flux.isnan().all() and not ivar.any()


def test_no_shift_is_no_change():
    rng = np.random.default_rng(1)
    flux, ivar = rng.normal(size=(2, 3909)), rng.random((2, 3909))
    ivar[:, ::50] = 0
    new_flux, new_ivar = rest_frame(LAMOST.wave, flux, ivar, 0.0)
    np.testing.assert_array_equal(new_flux, flux)
    np.testing.assert_allclose(new_ivar, ivar, rtol=1e-12)


def test_half_a_pixel_mixes_two():
    wave, half = LAMOST.wave, 10**0.5e-4 - 1
    flux, ivar = np.ones(3909), np.ones(3909)
    flux[100], ivar[100], ivar[200] = 3, 1 / 3, 0
    new_flux, new_ivar = rest_frame(wave, flux, ivar, half)
    # Half a pixel in log wavelength is not quite half in wavelength.
    np.testing.assert_allclose(new_flux[98:102], [1, 2, 2, 1], atol=1e-3)
    np.testing.assert_allclose(1 / new_ivar[98:102], [1, 2, 2, 1], atol=1e-3)
    assert new_ivar[198:202].tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("width", [1, 3, 5, 7, 9])
def test_median_filter_agrees_with_scipy(width):
    flux = np.random.default_rng(width).normal(size=(3, 200))
    expected = scipy_median(flux, (1, width), mode="nearest")
    np.testing.assert_array_equal(median_filter(flux, width), expected)
    np.testing.assert_array_equal(median_filter(flux[0], width), expected[0])
