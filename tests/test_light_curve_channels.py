"""Channels of light curves: closed forms, sums written out, and one star in plain numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import periodogram, savgol_filter

from stellarbook.data import light_curve_channels as module
from stellarbook.data.light_curve_channels import channels, crop, draw_starts, two_views
from stellarbook.data.light_curve_transforms import (
    absolute_magnitude,
    autocorrelation,
    scale_by_magnitude,
    spectrum,
    standard_scores,
)

seeds = st.integers(0, 2**32 - 1)
nan = np.nan


def wave(period, n=4500, phase=0.3):
    return np.sin(2 * np.pi * np.arange(n) / np.asarray(period)[..., None] + phase)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_absolute_magnitudes():
    result = absolute_magnitude([12.0, 12, 12, 12, 12], [10.0, 100, 1, 0, nan])
    np.testing.assert_allclose(result, [12, 7, 17, nan, nan])


def test_two_to_the_magnitude():
    flux = np.array([[1.0, 1.01], [1, 0.5], [1, 1]])
    result = scale_by_magnitude(flux, [3.0, -1, nan])
    np.testing.assert_allclose(result, [[8, 8.08], [0.5, 0.25], [nan, nan]])


@given(seeds, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_level_and_amplitude_do_not_matter(seed, shift, factor):
    rng = np.random.default_rng(seed)
    flux, good = rng.normal(size=(3, 80)), rng.random((3, 80)) < 0.7
    for function in (standard_scores, autocorrelation):
        expected = function(flux, good)
        np.testing.assert_allclose(function(shift + factor * flux, good), expected, atol=1e-6)
    np.testing.assert_allclose(standard_scores(-flux), -standard_scores(flux), atol=1e-12)
    np.testing.assert_allclose(autocorrelation(-flux), autocorrelation(flux), atol=1e-12)


def test_standard_scores_count_what_is_good():
    rng = np.random.default_rng(1)
    flux, good = rng.normal(5, 2, (4, 100)), rng.random((4, 100)) < 0.6
    good[2], good[3], flux[3] = False, True, 0.1
    result = standard_scores(flux, good)
    for row, old, counts in zip(result[:2], flux, good, strict=False):
        np.testing.assert_allclose(row, (old - old[counts].mean()) / old[counts].std())
    assert result[2].isnan().all() and (result[3] == 0).all()


def test_faint_variations_survive_single_precision():
    flux = (1 + 1e-5 * wave(300.0)).astype("f4")  # ten parts in a million
    expected = standard_scores(wave(300.0))
    np.testing.assert_allclose(standard_scores(flux), expected, atol=0.01)
    np.testing.assert_allclose(autocorrelation(flux), autocorrelation(wave(300.0)), atol=0.005)


def acf_written_out(flux, good, tapered):
    flux = flux - flux[good].mean()
    n, result = len(flux), []
    for k in range(n):
        pair = good[: n - k] & good[k:]
        products = (flux[: n - k] * flux[k:])[pair]
        result.append(products.mean() * (1 - k / n if tapered else 1) if pair.any() else nan)
    return np.array(result) / result[0]


@pytest.mark.parametrize("tapered", [True, False])
@given(seeds, st.floats(0, 0.9))
@settings(max_examples=20, deadline=None)
def test_autocorrelation_written_out(tapered, seed, lost):
    rng = np.random.default_rng(seed)
    flux, good = rng.normal(7, 3, (3, 75)).cumsum(-1), rng.random((3, 75)) >= lost
    good[:, [3, 50]] = True  # else there may be no variance
    expected = [acf_written_out(*one, tapered) for one in zip(flux, good, strict=True)]
    result = autocorrelation(flux, good, tapered=tapered)
    np.testing.assert_allclose(result, expected, rtol=1e-9, atol=1e-9)
    # What stands in a gap says nothing; NaN is a gap without being told.
    poisoned = np.where(good, flux, rng.choice([nan, np.inf, 1e6], flux.shape))
    np.testing.assert_allclose(autocorrelation(poisoned, good, tapered=tapered), result, atol=1e-9)
    holes = np.where(good, flux, nan)
    np.testing.assert_allclose(autocorrelation(holes, tapered=tapered), result, atol=1e-9)
    few = autocorrelation(holes, lags=20, tapered=tapered)
    np.testing.assert_allclose(few, result[:, :20], atol=1e-9)


@given(seeds, st.floats(0, 0.5))
@settings(max_examples=20, deadline=None)
def test_autocorrelation_knows_no_direction_of_time(seed, lost):
    rng = np.random.default_rng(seed)
    flux = np.where(rng.random((2, 90)) < lost, nan, rng.normal(size=(2, 90)).cumsum(-1))
    there, back = autocorrelation(flux), autocorrelation(flux[:, ::-1].copy())
    np.testing.assert_allclose(there, back, atol=1e-9)
    scores = spectrum(np.nan_to_num(flux)), spectrum(np.nan_to_num(flux[:, ::-1]))
    np.testing.assert_allclose(*scores, atol=1e-9)


@pytest.mark.parametrize("lost", [0, 0.4])
def test_a_sinusoids_first_peak_is_its_period(lost):
    period = np.array([50.0, 180.0, 450.0])
    rng = np.random.default_rng(2)
    flux = np.where(rng.random((3, 4500)) < lost, nan, 3 + wave(period))
    flux[:, 1000 : 1000 + int(1000 * lost)] = nan
    acf = autocorrelation(flux, lags=2250, tapered=False)
    cosine = np.cos(2 * np.pi * np.arange(2250) / period[:, None])
    np.testing.assert_allclose(acf, cosine, atol=0.12 if lost else 0.03)
    for row, expected in zip(acf.numpy(), period.astype(int), strict=True):
        near = row[expected // 2 : expected * 3 // 2]
        assert expected // 2 + near.argmax() == pytest.approx(expected, rel=0.03)
    assert (acf[:, 0] == 1).all()


def test_white_noise_is_flat():
    noise = np.random.default_rng(3).normal(size=(50, 4500)).astype("f4")
    acf = autocorrelation(noise)[:, 1:]
    # Of variance (N − k) / N² at lag k, about a mean of −1 / N.
    expected = torch.arange(4499, 0, -1).sqrt() / 4500
    assert (acf / expected).abs().max() < 6
    assert (acf / expected).std() == pytest.approx(1, abs=0.02)
    scores = spectrum(standard_scores(noise))[:, 1:-1].square() / 4500  # of mean 1 each
    assert scores.mean() == pytest.approx(1, abs=0.01)
    halves = float(scores[:, :1124].mean()), float(scores[:, 1124:].mean())
    assert halves[0] == pytest.approx(halves[1], rel=0.02)


def test_no_variance_has_no_autocorrelation():
    assert autocorrelation(np.full((2, 10), 0.1)).isnan().all()
    assert autocorrelation(np.full((2, 10), nan)).isnan().all()


@given(seeds, st.integers(2, 200))
@settings(max_examples=30, deadline=None)
def test_parseval(seed, n):
    flux = np.random.default_rng(seed).normal(size=(3, n))
    power = spectrum(flux).square().numpy()
    power[:, 1 : (n + 1) // 2] *= 2
    np.testing.assert_allclose(power.sum(-1), n * (flux**2).sum(-1))


def test_spectrum_agrees_with_scipy_and_finds_a_sinusoid():
    flux = 0.2 * wave(np.array([45.0, 100.0, 900.0]))
    frequency, power = periodogram(flux, detrend=False, scaling="spectrum")
    ours = spectrum(flux).numpy()
    np.testing.assert_allclose(2 * (ours[:, 1:-1] / 4500) ** 2, power[:, 1:-1], atol=1e-12)
    assert frequency[ours.argmax(-1)] == pytest.approx([1 / 45, 1 / 100, 1 / 900])
    np.testing.assert_allclose(ours.max(-1), 0.2 * 4500 / 2)  # amplitude × N / 2


def desa_written_out(flux, magnitude, start, length):
    """One star, one view, as the authors' code does, with the departures that `channels` names."""
    good = np.isfinite(flux)
    flux = np.interp(np.arange(len(flux)), np.flatnonzero(good), flux[good])
    flux, good = flux[start : start + length], good[start : start + length]
    flux = savgol_filter(flux, 13, 1, mode="mirror")
    scores = (flux - flux[good].mean()) / flux[good].std()
    acf = np.nan_to_num(acf_written_out(flux, good, True))
    logarithm = np.log1p(np.abs(np.fft.rfft(scores)))
    position = np.linspace(0, len(logarithm) - 1, length)
    stretched = np.interp(position, np.arange(len(logarithm)), logarithm)
    acf = (acf - acf.mean()) / acf.std()
    return np.stack([flux / 2**-magnitude, scores]), np.stack([acf, stretched])


def stars(n=6, cadences=700, seed=4):
    rng = np.random.default_rng(seed)
    flux = 1 + 0.01 * wave(rng.uniform(30, 200, n), cadences)
    flux += 0.002 * rng.normal(size=flux.shape)
    flux[rng.random(flux.shape) < 0.03] = nan
    flux[:, 300:340] = nan
    return flux, rng.uniform(0, 9, n)


@pytest.mark.parametrize("length", [401, 500, 700])
def test_two_views_written_out(length):
    flux, magnitude = stars()
    starts = generator(5)
    views = two_views(flux, magnitude, length, generator(5))
    for view in views:
        start = draw_starts(6, 700, length, starts)
        for i, one in enumerate(zip(flux, magnitude, start.numpy(), strict=True)):
            curve, transforms = desa_written_out(*one, length)
            np.testing.assert_allclose(view.curve[i], curve, atol=1e-8)
            np.testing.assert_allclose(view.transforms[i], transforms, atol=1e-8)
    assert length == 700 or not torch.equal(views[0].curve, views[1].curve)


def test_channels_are_a_view_of_the_whole():
    flux, magnitude = stars()
    whole, _ = two_views(flux, magnitude, 700, generator())
    alone = channels(flux[2], magnitude[2])
    cube = channels(np.stack([flux, flux]), np.stack([magnitude, magnitude]))
    for name in ("curve", "transforms"):
        together = getattr(whole, name)
        np.testing.assert_allclose(getattr(alone, name), together[2], atol=1e-9)
        np.testing.assert_allclose(getattr(cube, name)[1], together, atol=1e-9)


@given(seeds, st.floats(0.1, 10))
@settings(max_examples=15, deadline=None)
def test_a_factor_moves_the_first_channel_only(seed, factor):
    flux, magnitude = stars(seed=seed)
    one, other = channels(flux, magnitude), channels(flux * factor, magnitude)
    np.testing.assert_allclose(other.curve[:, 0], one.curve[:, 0] * factor, rtol=1e-9)
    np.testing.assert_allclose(other.curve[:, 1], one.curve[:, 1], atol=1e-8)
    np.testing.assert_allclose(other.transforms, one.transforms, atol=1e-8)
    brighter = channels(flux, magnitude - 1)
    np.testing.assert_allclose(brighter.curve[:, 0], one.curve[:, 0] / 2, rtol=1e-9)


def test_draws_are_even_and_repeatable():
    starts = draw_starts(40_000, 14, 5, generator())
    count = torch.bincount(starts)
    assert len(count) == 10  # 0 … 9: the last start too
    assert ((count - 4000).abs() < 5 * 60).all()  # √(40,000 × .1 × .9) = 60
    assert torch.equal(starts, draw_starts(40_000, 14, 5, generator()))
    assert not torch.equal(starts, draw_starts(40_000, 14, 5, generator(1)))


def test_crops_start_where_they_are_told():
    values = np.arange(30).reshape(3, 10)
    result = crop(values, np.array([0, 6, 3]), 4)
    assert result.tolist() == [[0, 1, 2, 3], [16, 17, 18, 19], [23, 24, 25, 26]]


def test_what_was_not_measured_is_nan_and_said():
    flux, magnitude = stars()
    flux[1], flux[4, :500], magnitude[3] = nan, nan, nan
    with pytest.warns(UserWarning, match="1 of 6 light curves are NaN") as said:
        result = channels(flux, magnitude)
    assert len(said) == 1 and said[0].filename == __file__
    curve, transforms = (x.isnan().all(-1) for x in result)
    assert curve.tolist() == [[i in (1, 3), i == 1] for i in range(6)]
    assert transforms.tolist() == [[i == 1] * 2 for i in range(6)]
    assert result.curve[[0, 2, 4, 5]].isfinite().all()
    with pytest.warns(UserWarning, match="of 6 light curves") as said:
        views = two_views(flux, magnitude, 100, generator(2))
    lost = sum(view.curve[:, 1].isnan().all(-1) for view in views) > 0
    assert lost[1] and int(str(said[0].message).split()[0]) == int(lost.sum())
    assert said[0].filename == __file__


def test_few_at_a_time_is_the_same(monkeypatch):
    flux, magnitude = stars()
    together = two_views(flux, magnitude, 600, generator())
    monkeypatch.setitem(module.CHUNK, "cpu", 2 * 700)
    apart = two_views(flux, magnitude, 600, generator())
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other)
    none = two_views(flux[:0], magnitude[:0], 600, generator())
    assert none[1].curve.shape == none[1].transforms.shape == (0, 2, 600)


def test_precision_and_kind():
    flux, magnitude = stars()
    for kind, out in ((np.float64, torch.float64), (np.float32, torch.float32)):
        view, _ = two_views(flux.astype(kind), magnitude, 600, generator())
        assert view.curve.dtype == view.transforms.dtype == out
    exact, _ = two_views(flux, magnitude, 600, generator())
    for ours, theirs in zip(view, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: two_views(np.ones(9), 1.0, 5, generator()), r"expected \(B, N\) and \(B,\)"),
        (lambda: two_views(np.ones((2, 9)), [1.0], 5, generator()), r"expected \(B, N\)"),
        (lambda: two_views(np.ones((2, 9)), [1.0, 1], 10, generator()), "expected 1 to 9"),
        (lambda: two_views(np.ones((2, 9)), [1.0, 1], 0, generator()), "expected 1 to 9"),
        (lambda: channels(np.ones((2, 6)), [1.0, 1]), "width is 13"),
        (lambda: channels(np.ones((2, 99)), 1.0), r"expected \(..., N\) and \(...\)"),
        (lambda: scale_by_magnitude(1.0, 1.0), "flux and magnitude have shapes"),
        (lambda: standard_scores(np.ones((2, 9)), np.ones(9)), "flux and good have shapes"),
        (lambda: autocorrelation(np.ones((2, 9)), lags=10), "lags is 10: expected 1 to 9"),
        (lambda: autocorrelation(np.ones((2, 9)), np.ones(3)), "flux and good have shapes"),
        (lambda: crop(np.ones((2, 9)), [0], 3), r"expected \(B, N\) and \(B,\)"),
        (lambda: crop(np.ones((2, 9)), [0, 7], 3), "from 0 to 6"),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same():
    flux, magnitude = stars()
    here = two_views(flux, magnitude, 600, generator())
    there = two_views(torch.from_numpy(flux).cuda(), magnitude, 600, generator())
    for one, other in zip(here, there, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(b.cpu(), a, atol=1e-9)
