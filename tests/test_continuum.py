"""Continua that are known, and each recipe against itself written out for one star in numpy."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter as scipy_median

from stellarbook.data import continuum
from stellarbook.data.continuum import (
    DESA_ARMS,
    SPECCLIP_WAVE,
    desa,
    normalise,
    percentile_continuum,
    polynomial,
    specclip_continuum,
    standardise,
)
from stellarbook.data.instruments import DESI, LAMOST

REAL = Path(os.environ.get("STELLARBOOK_DATA", "/nonexistent"))
WAVE = LAMOST.wave
LINES = np.linspace(3900, 8900, 120)


def star(rng, n=1, noise=0.02, wave=WAVE):
    """Draw spectra with lines on a smooth continuum: flux, inverse variance and continuum."""
    x = 2 * (wave - wave[0]) / (wave[-1] - wave[0]) - 1
    smooth = 3 * np.exp(rng.uniform(-1, 1, (n, 1)) * x - 0.3 * rng.random((n, 1)) * x**2)
    depth = rng.uniform(0, 0.5, (n, len(LINES), 1))
    lines = 1 - (depth * np.exp(-0.5 * ((wave - LINES[:, None]) / 2) ** 2)).sum(axis=1)
    sigma = noise * smooth
    flux = smooth * lines + sigma * rng.normal(size=(n, len(wave)))
    return flux, sigma**-2.0, smooth


def test_a_flat_spectrum_is_its_own_continuum():
    flux, ivar, mask = normalise(WAVE, np.full(3909, 7.0), np.full(3909, 4.0))
    np.testing.assert_allclose(flux, 1, rtol=1e-6)
    np.testing.assert_allclose(ivar, 4 * 49, rtol=1e-5)
    assert not mask.any()


@pytest.mark.parametrize("wave", [WAVE, DESI.wave], ids=["lamost", "desi"])
def test_a_smooth_continuum_is_recovered_beneath_lines(wave):
    flux, ivar, smooth = star(np.random.default_rng(0), 20, noise=0.001, wave=wave)
    ratio = flux / normalise(wave, flux, ivar).flux.numpy() / smooth
    inside = np.s_[:, 125:-125]  # within half of five bins of an end, the mean is one-sided
    assert np.abs(ratio[inside] - 1).max() < 0.05
    assert np.abs(np.median(ratio, axis=1) - 1).max() < 0.012


def test_percentile_continuum_written_out():
    rng = np.random.default_rng(1)
    wave = np.r_[WAVE[:1820], WAVE[2500:2530]]  # 36 bins and a rest; an arm shorter than a bin
    flux = rng.random(len(wave))
    bins = [sorted(flux[i : i + 50])[42] for i in range(0, 1800, 50)]
    bins.append(sorted(flux[1770:1820])[42])
    means = [np.mean(bins[max(0, i - 2) : i + 3]) for i in range(37)]
    centres = [*(np.arange(36) * 50 + 24.5), 1794.5]
    expected = np.interp(np.arange(1820), centres, means)
    np.testing.assert_allclose(percentile_continuum(wave, flux)[:1820], expected, rtol=1e-12)
    last = sorted(flux[1820:])[25]  # the smallest that 85 % of 30 pixels do not exceed
    np.testing.assert_allclose(percentile_continuum(wave, flux)[1820:], last, rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0.001, 0.6))
@settings(max_examples=15, deadline=None)
def test_masked_pixels_say_nothing(seed, share):
    rng = np.random.default_rng(seed)
    flux, ivar, _ = star(rng, 3)
    lost = rng.random(flux.shape) < share
    holed = np.where(lost, rng.choice([0, np.nan, np.inf, -5, 1e20], flux.shape), flux)
    ivar = np.where(lost, rng.choice([0, np.nan, -1], flux.shape), ivar)
    one, other = (normalise(WAVE, f, ivar, 1e-4) for f in (flux, holed))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.flux.isfinite().all() and ((one.ivar == 0) == one.mask).all()
    still = normalise(WAVE, holed, ivar)
    assert np.array_equal(still.mask, lost)
    untouched = normalise(WAVE, flux, np.where(lost, np.nan_to_num(ivar), ivar)).flux
    assert np.array_equal(still.flux[~still.mask], untouched[~still.mask])


def test_few_lost_pixels_move_the_rest_little():
    rng = np.random.default_rng(2)
    flux, ivar, _ = star(rng, 20)
    lost = rng.random(flux.shape) < 0.018
    holed = normalise(WAVE, np.where(lost, 0, flux), np.where(lost, 0, ivar))
    change = (holed.flux - normalise(WAVE, flux, ivar).flux)[~holed.mask]
    assert change.abs().max() < 0.02 and change.std() < 0.002


@given(st.floats(1e-15, 1e15), st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_unit_of_flux_does_not_matter(factor, seed):
    flux, ivar, _ = star(np.random.default_rng(seed), 2)
    ivar[:, ::60] = 0
    one = normalise(WAVE, flux, ivar, 1e-4)
    other = normalise(WAVE, flux * factor, ivar / factor**2, 1e-4)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    scaled = desa(WAVE, flux * factor, ivar / factor**2, 1e-4)
    np.testing.assert_allclose(scaled, desa(WAVE, flux, ivar, 1e-4), atol=1e-8)


def test_signal_to_noise_is_kept():
    flux, ivar, _ = star(np.random.default_rng(3), 3)
    result = normalise(WAVE, flux, ivar)
    np.testing.assert_allclose(result.flux * result.ivar.sqrt(), flux * ivar**0.5, rtol=1e-9)


@pytest.mark.parametrize("function", [normalise, desa])
def test_what_has_no_answer_is_nan_and_said(function):
    flux, ivar, _ = star(np.random.default_rng(4), 6)
    redshift = np.zeros(6)
    ivar[0] = 0
    flux[1] = np.nan
    flux[2] *= -1
    redshift[3:5] = -9999, np.nan
    with pytest.warns(UserWarning, match="5 of 6 spectra are NaN") as said:
        result = function(WAVE, flux, ivar, redshift)
    assert len(said) == 1 and said[0].filename == __file__
    values = result if function is desa else result.flux
    assert values[:5].isnan().all() and values[5].isfinite().all()
    if function is normalise:
        assert result.mask[:5].all() and not result.ivar[:5].any()
    with pytest.warns(UserWarning, match="1 of 1"):
        function(WAVE, flux[0], ivar[0], 0.0)


def test_a_lost_arm_is_nan_and_the_others_are_not():
    flux, ivar, _ = star(np.random.default_rng(5), 2, wave=DESI.wave)
    ivar[0, DESI.arms["r"]] = 0
    with pytest.warns(UserWarning, match="1 of 2"):
        result = normalise(DESI.wave, flux, ivar, 1e-4)
    for name, arm in DESI.arms.items():
        assert result.flux[0, arm].isnan().all() == (name == "r") == result.mask[0, arm].all()
    assert result.flux[1].isfinite().all()


@pytest.mark.parametrize("function", [normalise, desa])
def test_every_star_for_itself(function, monkeypatch):
    flux, ivar, _ = star(np.random.default_rng(6), 5)
    ivar[:, ::70] = 0
    redshift = np.linspace(-1e-3, 1e-3, 5)

    def first(*arguments):
        result = function(*arguments)
        return result if function is desa else result.flux

    together = first(WAVE, flux, ivar, redshift)
    alone = torch.stack([first(WAVE, *one) for one in zip(flux, ivar, redshift, strict=True)])
    np.testing.assert_allclose(alone, together, atol=1e-9)
    cube = first(WAVE, *(np.stack([x, x]) for x in (flux, ivar, redshift)))
    np.testing.assert_allclose(cube[1], together, atol=1e-9)
    monkeypatch.setitem(continuum.CHUNK, "cpu", 2 * 3909)
    np.testing.assert_allclose(first(WAVE, flux, ivar, redshift), together, atol=1e-9)
    assert first(WAVE, flux[:0], ivar[:0], redshift[:0]).shape == (0, together.shape[1])


def test_precision_and_kind():
    flux, ivar, _ = star(np.random.default_rng(7), 2)
    for kind, out in ((np.float64, torch.float64), (np.float32, torch.float32)):
        result = normalise(WAVE, flux.astype(kind), ivar.astype(kind))
        assert {x.dtype for x in result} == {out, torch.bool}
    assert normalise(WAVE, flux.astype(np.float16), ivar).flux.dtype == torch.float32
    tensor = torch.from_numpy(flux).requires_grad_()
    assert not normalise(WAVE, tensor, ivar).flux.requires_grad
    np.testing.assert_array_equal(
        normalise(WAVE, tensor, ivar).flux, normalise(WAVE, flux, ivar).flux
    )


@pytest.mark.parametrize("shift", [-200.0, 0.0, 137.0])
def test_a_shifted_line_returns_to_rest(shift):
    redshift = shift / 299_792.458
    line = np.exp(-0.5 * ((WAVE - 6564.61 * (1 + redshift)) / 3) ** 2)
    flux = normalise(WAVE, 5 - 2 * line, np.ones(3909), redshift).flux.numpy()
    depth = np.where(np.abs(WAVE - 6564.61) < 15, 1 - flux, 0)
    assert (depth * WAVE).sum() / depth.sum() == pytest.approx(6564.61, abs=0.02)


@pytest.mark.parametrize(
    "shapes",
    [
        ((3909,), (2, 3908), (2, 3908), ()),
        ((3909,), (2, 3909), (3909,), ()),
        ((3909,), (2, 3909), (2, 3909), (3,)),
        ((2, 3909), (2, 3909), (2, 3909), ()),
    ],
)
def test_other_shapes_are_refused(shapes):
    with pytest.raises(ValueError, match="have shapes"):
        normalise(*(np.ones(shape) for shape in shapes))


@given(st.lists(st.floats(-2, 2), min_size=6, max_size=6))
@settings(max_examples=20, deadline=None)
def test_a_polynomial_is_recovered(coefficients):
    x = np.linspace(-1, 1, 1790)
    flux = np.polynomial.chebyshev.chebval(x, coefficients)
    np.testing.assert_allclose(polynomial(np.arange(1790), flux, 5), flux, atol=1e-10)


def test_standardise_by_hand():
    flux = np.array([[1.0, -1.0] * 20 + [30.0]])
    expected = np.array([[1.0, -1.0] * 20 + [0.0]])
    np.testing.assert_allclose(standardise(5 * flux + 2), expected, atol=1e-12)


def test_desa_written_out():
    rng = np.random.default_rng(8)
    flux, ivar, _ = star(rng)
    ivar[0, rng.random(3909) < 0.02] = 0
    redshift = 2.5e-4
    good = (ivar[0] > 0) & (flux[0] > 0.02 * np.median(flux))
    filled = np.interp(WAVE, WAVE[good], flux[0, good])
    expected = []
    for grid in DESA_ARMS.values():
        arm = np.interp(grid, WAVE / (1 + redshift), filled)
        arm = scipy_median(arm, 3, mode="nearest")
        pixel = np.arange(len(grid)) / len(grid)
        arm = arm / np.polyval(np.polyfit(pixel, arm, 5), pixel)
        removed = np.abs(arm - arm.mean()) > 3 * arm.std()
        assert removed.any()
        arm = (arm - arm[~removed].mean()) / arm[~removed].std()
        expected.append(np.where(removed, 0, arm))
    result = desa(WAVE, flux, ivar, redshift)
    assert result.shape == (1, 3600)
    np.testing.assert_allclose(result[0], np.concatenate(expected), atol=1e-8)
    np.testing.assert_allclose(desa(WAVE, flux.astype("f4"), ivar, redshift), result, atol=2e-4)


def test_desa_grids():
    assert [len(grid) for grid in DESA_ARMS.values()] == [1790, 1810]
    assert DESA_ARMS["blue"][-1] < 5800 and DESA_ARMS["red"][-1] == pytest.approx(8798, abs=2)


def specclip_written_out(wave, flux):
    flux = scipy_median(flux, 7, mode="nearest")
    result = flux.copy()
    blue, red = wave < 5700, wave >= 6100

    def fit(x, y, degree):
        return np.polynomial.Polynomial.fit(x, y, degree)(x)

    x, y = wave[blue], flux[blue].copy()
    if x[fit(x, y, 5).argmax()] < 4500:
        for low, high in ((4030, 4160), (4270, 4410), (4800, 4940)):
            ends = [np.flatnonzero(np.abs(x - edge) < 10) for edge in (low, high)]
            i, j = (pixels[flux[pixels].argmax()] for pixels in ends)
            y[i:j] = np.interp(x[i:j], x[[i, j]], flux[[i, j]])
    for _ in range(10):
        result[blue] = fit(x, y, 5)
        y = np.maximum(y, result[blue])
    x, y = wave[red], flux[red].copy()
    for _ in range(8 if red.any() else 0):
        result[red] = fit(x, y, 4)
        residual = y - result[red]
        outside = (residual < 0) | (residual > 3 * residual.std())
        y = np.where(outside, result[red], y)
    return np.where(result > 0, result, 1)


@pytest.mark.parametrize("slope", [-1.5, 1.5], ids=["hot", "cool"])
@pytest.mark.parametrize("wave", [WAVE, SPECCLIP_WAVE], ids=["lamost", "specclip"])
def test_specclip_written_out(slope, wave):
    flux, _, _ = star(np.random.default_rng(9), wave=wave)
    flux = flux * np.exp(slope * (wave - wave[0]) / 1000)
    for line in (4102.9, 4341.7, 4862.7):
        flux = flux * (1 - 0.6 * np.exp(-0.5 * ((wave - line) / 15) ** 2))
    expected = specclip_written_out(wave, flux[0])
    np.testing.assert_allclose(specclip_continuum(wave, flux)[0], expected, rtol=1e-8)


def test_specclip_recovers_polynomials_and_lifts_over_lines():
    x = (WAVE - 6000) / 3000
    smooth = 5 - 2 * x + 0.5 * x**2 + 0.3 * x**4
    np.testing.assert_allclose(specclip_continuum(WAVE, smooth), smooth, rtol=2e-3)
    lines = 1 - 0.5 * np.exp(-0.5 * ((WAVE - LINES[:, None]) / 2) ** 2).sum(axis=0)
    ratio = specclip_continuum(WAVE, smooth * lines) / smooth
    polynomials = (WAVE < 5700) | (WAVE >= 6100)
    assert np.abs(ratio[polynomials] - 1).max() < 0.04
    assert (specclip_continuum(WAVE, -smooth) == 1).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("function", [normalise, desa])
def test_a_gpu_gives_the_same(function):
    flux, ivar, _ = star(np.random.default_rng(10), 4)
    ivar[:, ::70] = 0
    redshift = np.linspace(-1e-3, 1e-3, 4)
    here = function(WAVE, flux, ivar, redshift)
    there = function(WAVE, torch.from_numpy(flux).cuda(), ivar, redshift)
    for a, b in zip(*((x,) if function is desa else x for x in (here, there)), strict=True):
        np.testing.assert_allclose(b.cpu(), a, rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(not (REAL / "lamost_lrs.npz").exists(), reason="STELLARBOOK_DATA is not set")
def test_real_lamost():
    with np.load(REAL / "lamost_lrs.npz") as file:
        wave, flux, snr = file["wave"], file["flux"][:300], file["snr"][:300].astype("f4")
    z = np.genfromtxt(REAL / "lamost_lrs.csv", delimiter=",", names=True, dtype=None)["z"][:300]
    flux = flux.astype("f4")
    known = z > -1
    ivar = np.where(snr > 0, snr / np.where(flux > 0, flux, 1), 0) ** 2
    result = normalise(wave, flux[known], ivar[known], z[known])
    # In quiet stretches, the median of 50 pixels is a little below their 85th percentile.
    quiet = (wave > 5000) & (wave < 5600)
    assert (result.flux[:, quiet].median(dim=1).values - 0.95).abs().median() < 0.05
    mean = result.flux.median(dim=0).values.numpy()
    line = np.abs(wave - 4862.69) < 12
    depth = 1 - mean[line]
    assert (depth * wave[line]).sum() / depth.sum() == pytest.approx(4862.69, abs=1)
    assert desa(wave, flux[known], ivar[known], z[known]).isfinite().all()
