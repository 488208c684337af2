"""What the encoder sees of a light curve: peaks at the period, one scale, a reason where none."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarbook.data.cadences import LONG_CADENCE
from stellarbook.data.light_curve_channels import channels
from stellarbook.data.light_curves import simulate
from stellarbook.data.records import LightCurve
from stellarbook.desa import light_curve_views
from stellarbook.desa.light_curve_input import LightCurveSample, prepare_curves, simulated
from stellarbook.desa.light_curve_views import (
    FLOOR,
    KINDS,
    PERIODS,
    curve,
    periods,
    views,
    width,
)

L = 1200
kinds = pytest.mark.parametrize("kind", KINDS)


def sinusoid(period, n=L, amplitude=0.01, phase=0.3, noise=0.0, seed=0):
    """Relative flux (1, n); the period in cadences."""
    rng = np.random.default_rng(seed)
    wave = amplitude * np.sin(2 * np.pi * np.arange(n) / period + phase)
    return torch.from_numpy(1 + wave + noise * rng.normal(size=n)).float()[None]


def whole(flux, kind="log", k=np.nan):
    n, length = flux.shape
    return views(flux, np.full(n, k), np.zeros((n, 1), int), length, kind)


def record(flux, *, cadence=LONG_CADENCE, start=0.0, mask=None, quarter=None, unit="e-/s", **meta):
    flux = np.asarray(flux, float).ravel()
    mask = np.zeros(len(flux), bool) if mask is None else mask
    time = start + cadence * np.arange(len(flux))
    error = np.full(len(flux), np.nan)
    return LightCurve(time, flux, error, mask, quarter, None, {"unit": unit} | meta)


def stars(n=6):
    columns = {"prot": np.linspace(2, 20, n), "sph": 2000.0, "kp": 12.0, "teff": 5500.0}
    return pd.DataFrame(columns | {"logg": 4.5, "kp_abs": 5.0}, index=np.arange(n) + 7)


# --- transforms -----------------------------------------------------------------------------


@given(st.floats(40, 250), st.floats(0, 6))
@settings(max_examples=20, deadline=None)
def test_a_sinusoid_peaks_at_its_period(period, phase):
    _, _, made = whole(sinusoid(period, phase=phase))
    acf, power = made[0, 0].numpy()
    grid = periods(L)
    step = grid[1] / grid[0]
    # The taper draws the peak of the autocorrelation to shorter lags, by less than this.
    near = (grid > 0.7 * period) & (grid < 1.4 * period)
    assert abs(np.log(grid[near][acf[near].argmax()] / period)) < 2 * np.log(step) + period / L
    # A spectrum is no finer than 1 / L.
    assert abs(1 / grid[power.argmax()] - 1 / period) < 0.3 / L + (step - 1) / period


def test_the_autocorrelation_is_that_of_a_cosine():
    made = whole(sinusoid(100.0))[2][0, 0, 0].numpy()
    lags = periods(L)
    expected = np.cos(2 * np.pi * lags / 100) * (1 - lags / L)
    assert np.abs(made - expected).max() < 0.08  # the window holds no whole number of periods


def test_half_the_period_is_the_same_picture_shifted():
    slow, fast = (whole(sinusoid(period))[2][0, 0].numpy() for period in (200.0, 50.0))
    shift = np.log(200 / 50) / np.log(periods(L)[1] / periods(L)[0])
    peak = [made[1].argmax() for made in (slow, fast)]
    assert abs(peak[0] - peak[1] - shift) < 4


def test_power_has_a_known_height():
    """A sinusoid's power is 1 at its frequency: log10 + 2 is 2, elsewhere the floor's −2."""
    power = whole(sinusoid(120.0))[2][0, 0, 1]
    assert 1.8 < power.max() <= 2.02
    assert power.min() == pytest.approx(np.log10(FLOOR) + 2)


def test_linear_is_the_papers():
    flux = sinusoid(80.0, noise=1e-3).repeat(3, 1)
    flux[1, 300:420] = torch.nan
    expected = channels(flux, np.array([0.0, 1.0, 2.0]))
    scores, level, made = views(flux, np.array([0.0, 1, 2]), np.zeros((3, 1), int), L, "linear")
    torch.testing.assert_close(made[:, 0], expected.transforms, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(scores[:, 0], expected.curve[:, 1], atol=1e-3, rtol=1e-3)
    # Both normalisations can be had from scores and level.
    rebuilt = curve(scores[:, 0], level[:, 0])[:, 0] + level[:, 0, :1]
    torch.testing.assert_close(rebuilt, expected.curve[:, 0], atol=1e-5, rtol=1e-5)


@kinds
def test_neighbours_do_not_matter(kind, monkeypatch):
    """A few curves at a time, or all at once."""
    flux = torch.cat([sinusoid(p, 2 * L, noise=1e-3, seed=p) for p in (40, 55, 70, 90, 130)])
    flux[1, 300:420] = torch.nan
    starts = np.array([[0, 9], [100, 300], [L, 7], [5, 6], [800, 0]])
    arguments = flux, np.arange(5.0), starts, L, kind
    together = views(*arguments)
    monkeypatch.setattr(light_curve_views, "CHUNK", 2 * L)
    for a, b in zip(views(*arguments), together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    moved = views(flux, np.arange(5.0), starts[::-1].copy(), L, kind)
    assert (moved[0] - together[0]).abs().max() > 0.1


@kinds
@given(st.floats(1e-4, 1e2))
@settings(max_examples=5, deadline=None)
def test_the_size_of_the_variation_is_in_the_level_alone(kind, factor):
    flux = sinusoid(90.0, noise=1e-3)
    one, other = whole(flux, kind, 3.0), whole(1 + factor * (flux.double() - 1), kind, 3.0)
    torch.testing.assert_close(other[2].float(), one[2], atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(
        other[1][0, 0, 1].float(), factor * one[1][0, 0, 1], rtol=1e-3, atol=0
    )
    deviation = 0.01 / 2**0.5 * 2**3  # smoothing 13 of 90 cadences takes little
    assert one[1][0, 0, 1] == pytest.approx(deviation, rel=0.1)


def test_an_unknown_magnitude_is_zero_in_the_curve():
    scores, level, _ = whole(sinusoid(90.0))
    assert level.isnan().all()
    both = curve(scores[:, 0], level[:, 0])
    assert (both[:, 0] == 0).all() and torch.equal(both[:, 1], scores[:, 0])


@kinds
def test_no_measurement_is_nan(kind):
    flux = sinusoid(90.0).repeat(2, 1)
    flux[1] = torch.nan
    scores, _, made = whole(flux, kind)
    assert scores[0].isfinite().all() and made[0].isfinite().all() and scores[1].isnan().all()


def test_there_is_no_other_kind():
    with pytest.raises(ValueError, match="no kind 'cepstrum': there are linear, log"):
        whole(sinusoid(90.0), "cepstrum")


# --- samples --------------------------------------------------------------------------------


def test_a_part_of_a_sample():
    shapes = (6, 2, 9), (6, 2, 2), (6, 2, 2, 5), (6, 1), (6,)
    sample = LightCurveSample(*map(torch.rand, shapes))
    for index in (slice(1, 3), torch.tensor([5, 0]), np.array([True, False] * 3)):
        part = sample[index]
        for name in ("scores", "level", "transforms", "labels", "ids"):
            assert torch.equal(getattr(part, name), getattr(sample, name)[index])
    assert len(sample) == 6 and len(sample[1:3]) == 2


@kinds
def test_simulated(kind):
    table = stars().assign(prot_known=[True, False] * 3)
    settings = {"length": L, "kind": kind, "progress": False}
    sample = simulated(table, seed=3, **settings)
    shapes = {"scores": (6, 2, L), "level": (6, 2, 2), "transforms": (6, 2, 2, width(L, kind))}
    for name, shape in shapes.items():
        x = getattr(sample, name)
        assert x.shape == shape and x.isfinite().all()
    assert sample.scores.dtype == torch.float16 and sample.transforms.dtype == torch.float32
    assert sample.ids.tolist() == list(range(7, 13))
    np.testing.assert_array_equal(sample.labels[:, 0].isnan(), [False, True] * 3)
    np.testing.assert_allclose(10 ** sample.labels[::2, 0], table["prot"][::2])
    assert not torch.equal(sample.scores[:, 0], sample.scores[:, 1])  # another place
    again, other = (simulated(table, seed=seed, **settings) for seed in (3, 4))
    assert torch.equal(again.transforms, sample.transforms)
    assert not torch.equal(other.transforms, sample.transforms)


def test_views_may_be_filtered():
    settings = {"length": L, "cadences": L, "progress": False, "seed": 3}  # one place for all
    plain, both = (
        simulated(stars(), **settings, filters=f, crops=3) for f in (None, (0, 3.0, None))
    )
    assert torch.equal(plain.scores[:, 0], plain.scores[:, 1])
    assert torch.equal(both.scores[:, 0], both.scores[:, 2])
    assert torch.equal(both.scores[:, 0], plain.scores[:, 0])
    slow = -1  # twenty days in a window of 25
    assert both.level[slow, 1, 1] < 0.5 * both.level[slow, 0, 1]


# --- records --------------------------------------------------------------------------------


@kinds
def test_real_and_simulated_curves_go_the_same_way(kind):
    table = stars()
    seen = simulate(table, days=L * LONG_CADENCE, seed=3)
    sample = simulated(table, length=L, cadences=L, kind=kind, seed=3, progress=False)
    records = [
        LightCurve(seen.time, flux, np.full(L, np.nan), np.isnan(flux), seen.quarter)
        for flux in 5e4 * seen.flux.astype(float)
    ]
    real, flags = prepare_curves(records, length=L, kind=kind, magnitudes=np.full(6, 5.0))
    assert flags == [""] * 6 and real.ids.tolist() == list(range(6))
    assert real.labels.isnan().all()
    for name, tolerance in (("scores", 5e-3), ("transforms", 5e-3), ("level", 1e-4)):
        one, other = getattr(real, name)[:, 0], getattr(sample, name)[:, 0]
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("n", "windows"),
    [(L // 2, 1), (L - 1, 1), (L, 1), (L + 1, 1), (L + L // 5, 2), (2 * L, 2), (5 * L + 9, 5)],
)
def test_long_curves_are_many_windows(n, windows):
    sample, flags = prepare_curves([record(sinusoid(50.0, n))], length=L)
    assert flags == [""] and sample.ids.tolist() == [0] * windows
    assert sample.scores.isfinite().all() and sample.transforms.isfinite().all()


def test_windows_without_enough_are_left_out():
    flux = sinusoid(50.0, 3 * L)[0].numpy()
    mask = np.zeros(3 * L, bool)
    mask[L + 10 : 2 * L - 10] = True
    sample, flags = prepare_curves([record(flux, mask=mask)], length=L)
    assert flags == [""] and len(sample) == 2


@pytest.mark.parametrize("unit", ["ppm", "e-/s", "relative"])
def test_units_and_quarters(unit):
    """In e⁻/s each quarter has its level; in ppm the curve is one already."""
    flux = sinusoid(77.0)[0].numpy()
    quarter = np.arange(L) // 400
    if unit == "ppm":
        seen = 1e6 * (flux - 1)
    else:
        seen = flux / np.array([np.median(flux[quarter == q]) for q in range(3)])[quarter]
        flux, seen = seen, seen * np.array([3e4, 5e4, 4e4])[quarter]
    sample, flags = prepare_curves([record(seen, unit=unit, quarter=quarter)], length=L)
    assert flags == [""]
    expected = whole(torch.from_numpy(flux).float()[None])[0]
    torch.testing.assert_close(sample.scores.float(), expected, atol=2e-2, rtol=0)


def test_short_cadences_become_long_ones():
    n = 30 * L
    flux = 1 + 0.01 * np.sin(2 * np.pi * np.arange(n) / (30 * 60))
    sample, flags = prepare_curves([record(flux, cadence=LONG_CADENCE / 30)], length=L)
    assert flags == [""] and sample.scores.shape == (1, 1, L)
    power = sample.transforms[0, 0, 1]
    assert periods(L)[power.argmax()] == pytest.approx(60, rel=0.03)


BAD = {
    "all cadences are masked": lambda: record(sinusoid(9), mask=np.ones(L, bool)),
    "25% of a window of 25 days is measured": lambda: record(sinusoid(9, L // 4)),
    "times span 6e\\+06 days": lambda: record(sinusoid(9), cadence=5000.0),
    "does not vary": lambda: record(np.full(L, 7.0)),
    "no quarter has a positive median": lambda: record(-sinusoid(9)),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_reason_where_there_is_nothing_to_judge(reason):
    fine = record(sinusoid(50.0))
    sample, flags = prepare_curves([fine, BAD[reason](), fine], length=L)
    assert sample.ids.tolist() == [0, 2] and flags[0] == flags[2] == ""
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(flags[1])


def test_nothing_at_all():
    for curves in ([], [record(np.full(L, 7.0))]):
        sample, flags = prepare_curves(curves, length=L)
        assert len(sample) == 0 and len(flags) == len(curves)
        assert sample.transforms.shape == (0, 1, 2, PERIODS)
