"""Simulated light curves as a whole: what they promise, and how they compare with real stars."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from stellarbook.data.cadences import LONG_CADENCE, stitch
from stellarbook.data.light_curve_transforms import autocorrelation
from stellarbook.data.light_curves import PARTS, quarters, simulate
from stellarbook.learn.periods import acf_period

REAL = Path(os.environ.get("STELLARBOOK_DATA", "/nonexistent"))
QUIET = tuple(part for part in PARTS if part not in ("telescope", "gaps"))


def stars(n, **columns):
    rng = np.random.default_rng(5)
    table = {
        "prot": np.exp(rng.uniform(np.log(0.8), np.log(45), n)),
        "sph": np.exp(rng.normal(6.8, 0.7, n)),
        "kp": rng.uniform(9, 16, n),
        "teff": rng.uniform(3900, 6600, n),
        "logg": rng.uniform(4.1, 4.7, n),
    }
    return pd.DataFrame(table | columns, index=10 + 3 * np.arange(n))


@pytest.mark.parametrize(("days", "n"), [(4500 * LONG_CADENCE, 4500), (0.5 * LONG_CADENCE + 1, 50)])
def test_lengths(days, n):
    curves = simulate(stars(3), days=days)
    assert curves.flux.shape == (3, n) and curves.flux.dtype == np.float32
    assert curves.time.shape == curves.quarter.shape == (n,)
    assert list(curves.truth.index) == [10, 13, 16]
    np.testing.assert_allclose(np.nanmedian(curves.flux, axis=1), 1, atol=1e-6)


def test_four_years_have_all_quarters():
    curves = simulate(stars(2), days=1470)
    assert curves.flux.shape[1] == 71_941
    assert np.array_equal(np.unique(curves.quarter), np.arange(18))
    assert np.array_equal(
        np.isnan(curves.flux).all(axis=0) & quarters.in_gap(curves.time),
        quarters.in_gap(curves.time),
    )
    lost = np.isnan(curves.flux[:, ~quarters.in_gap(curves.time)]).mean()
    assert lost == pytest.approx(quarters.LOST, rel=0.15)


def test_the_same_seed_gives_the_same_curves():
    table = stars(5)
    first, again, other = (simulate(table, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.flux, again.flux)
    pd.testing.assert_frame_equal(first.truth, again.truth)
    assert (np.nanstd(first.flux - other.flux, axis=1) > 1e-5).all()


@pytest.mark.parametrize("days", [91.9, 700])
def test_a_star_does_not_depend_on_its_neighbours(days):
    table = stars(40)
    together = simulate(table, days=days, seed=3)
    some = table.iloc[[31, 4, 17]]
    alone = simulate(some, days=days, seed=3)
    # The last digit of float32 may differ: sums of another length are added in another order.
    np.testing.assert_allclose(alone.flux, together.flux[[31, 4, 17]], rtol=3e-7)
    pd.testing.assert_frame_equal(alone.truth, together.truth.iloc[[31, 4, 17]])


def test_parts_do_not_change_one_another():
    table = stars(6, eclipse_period=2.5, eclipse_depth=0.01, eclipse_duration=0.3)
    whole = simulate(table, seed=1, parts=("spots", "noise"))
    without = simulate(table, seed=1, parts=("spots",))
    noise = simulate(table, seed=1, parts=("noise",))
    # Each is divided by its own median: a line relates them, but for float32's last digits.
    for a, b, c in zip(whole.flux, without.flux, noise.flux, strict=True):
        terms = np.stack([b, c, np.ones_like(c)], axis=1).astype(float)
        rest = a - terms @ np.linalg.lstsq(terms, a, rcond=None)[0]
        assert np.abs(rest).max() < 3e-7
    sigma = 1e6 * np.std(noise.flux, axis=1)
    np.testing.assert_allclose(sigma, whole.truth["noise"], rtol=0.05)


def test_nothing_but_the_level_without_parts():
    np.testing.assert_array_equal(simulate(stars(2), parts=()).flux, 1)


def pieces(flux, prot):
    """S_ph of Mathur et al. (2014), one value for each five rotations, ppm."""
    number = max(1, int(flux.shape[-1] * LONG_CADENCE / (5 * prot)))
    return np.array([1e6 * np.nanstd(x) for x in np.array_split(flux, number)])


def test_sph_is_the_one_that_was_asked_for():
    table = stars(60, prot=np.exp(np.linspace(np.log(0.8), np.log(45), 60)))
    curves = simulate(table, days=1470, seed=2, parts=("spots",))
    got = np.array([pieces(x, p).mean() for x, p in zip(curves.flux, table["prot"], strict=True)])
    ratio = got / table["sph"].to_numpy()
    assert np.median(ratio) == pytest.approx(1, abs=0.02)
    assert (np.abs(ratio - 1) < 0.1).mean() > 0.95


def test_stars_that_turn_once_in_years_cost_no_more_than_the_mission():
    """Their S_ph is that of the mission; before it was cut off, one such star filled the memory."""
    table = stars(40, prot=np.geomspace(300, 1400, 40), sph=1000.0)
    curves = simulate(table, days=1470, seed=2, parts=("spots",))
    got = np.array([pieces(x, 1e3).mean() for x in curves.flux])
    assert np.median(got) == pytest.approx(1000, rel=0.15)
    assert np.isfinite(simulate(table.assign(prot=1e6), parts=("spots",)).flux).all()


def test_a_quarter_has_the_cycles_share_of_it():
    table = stars(200, prot=4.0, sph=1000.0)
    short = simulate(table, seed=2, parts=("spots",))
    got = np.array([pieces(x, 4.0).mean() for x in short.flux])
    np.testing.assert_allclose(np.median(got / short.truth["sph_span"]), 1, atol=0.02)
    assert short.truth["sph_span"].mean() == pytest.approx(1000, rel=0.1)
    assert short.truth["sph_span"].std() > 100


def test_stars_without_a_period_have_no_spots():
    table = stars(4, prot=[np.nan, 10, 10, np.nan], sph=[500, np.nan, 0, 0])
    np.testing.assert_array_equal(simulate(table, parts=("spots",)).flux, 1)


def test_periods_come_back():
    """The highest peak of the autocorrelation is the rotation of most steady, bright stars."""
    prot = np.exp(np.linspace(np.log(2), np.log(18), 100))
    curves = simulate(stars(100, prot=prot, sph=5000.0, kp=11.0), seed=4, parts=QUIET)
    found = acf_period(curves.flux).period
    assert (np.abs(found / prot - 1) < 0.2).mean() > 0.7


def test_giants_ring_at_numax():
    giants = stars(30, prot=np.nan, teff=4900.0, logg=2.6, kp=9.0, mass=1.2)
    curves = simulate(giants, seed=1, days=700, parts=("granulation",))
    power = np.square(np.abs(np.fft.rfft(curves.flux - 1))).mean(axis=0)
    nu = np.fft.rfftfreq(curves.flux.shape[1], LONG_CADENCE * 0.0864)
    numax = curves.truth["numax"].iloc[0]
    smooth = gaussian_filter1d(power, 100)
    near = (nu > 0.6 * numax) & (nu < 1.4 * numax)
    background = smooth[np.searchsorted(nu, [0.5 * numax, 1.9 * numax])]
    assert smooth[near].max() > np.sqrt(background.prod())
    given = simulate(giants.assign(numax=80.0), parts=()).truth["numax"]
    assert (given == 80).all()


def test_eclipses_by_the_tables_columns():
    table = stars(3, eclipse_period=[4.0, np.nan, 6.0], eclipse_depth=0.2, eclipse_duration=0.3)
    table["eclipse_epoch"] = 171.0
    curves = simulate(table, parts=("eclipses",))
    assert (curves.flux[1] == 1).all()
    for row, period in ((0, 4.0), (2, 6.0)):
        phase = ((curves.time - 171) / period + 0.5) % 1 - 0.5
        away = np.abs(phase * period)
        assert (curves.flux[row][away < 0.145] < 1).all() and (
            curves.flux[row][away > 0.165] == 1
        ).all()
        np.testing.assert_allclose(curves.flux[row].min(), 0.8, rtol=1e-5)


def test_a_second_eclipse_alone_is_seen():
    table = stars(1, eclipse_period=4.0, eclipse_depth=0.0, eclipse_duration=0.3)
    table = table.assign(eclipse_epoch=171.0, eclipse_second_depth=0.1, eclipse_second_phase=0.25)
    curves = simulate(table, parts=("eclipses",))
    dark = (curves.time[curves.flux[0] < 1] - 171) / 4 % 1
    assert len(dark) and (np.abs(dark - 0.25) < 0.05).all()


def test_stitched_quarters_have_one_level():
    curves = simulate(stars(4, sph=50.0, kp=9.0), days=1470)
    level = [np.nanmedian(curves.flux[:, curves.quarter == q], axis=1) for q in range(18)]
    assert np.std(level, axis=0).min() > 0.004
    whole = stitch(curves.flux, curves.quarter).numpy()
    level = [np.nanmedian(whole[:, curves.quarter == q], axis=1) for q in range(18)]
    np.testing.assert_allclose(level, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda t: t.drop(columns="kp"), {}, "columns prot, sph, kp|kp"),
        (lambda t: t.assign(teff=np.nan), {}, "finite teff"),
        (lambda t: t.set_index(-1 - t.index), {}, "whole numbers"),
        (lambda t: t.set_index(t.index.astype(str)), {}, "whole numbers"),
        (lambda t: t.iloc[:0], {}, "at least one"),
        (lambda t: t, {"days": 2000}, "mission"),
        (lambda t: t, {"days": 0}, "mission"),
        (lambda t: t, {"start": 100.0}, "mission"),
        (lambda t: t, {"parts": ("stars",)}, "expected some of"),
    ],
)
def test_tables_and_options_that_make_no_curves_are_refused(change, options, said):
    with pytest.raises(ValueError, match=said):
        simulate(change(stars(2)), **options)


KEPSEISMIC = {  # prot, sph, Kp, Teff, log g, mass: Santos et al. (2021)
    3733735: (2.57, 239.0, 8.368, 6745, 4.256, 1.35),
    8006161: (31.71, 750.1, 7.364, 5342, 4.474, 0.959),
    10644253: (10.88, 347.6, 9.16, 6039, 4.367, 1.108),
}


def high_pass(flux, days=55):
    """Less two running means: what KEPSEISMIC's filter keeps of slow variations."""
    n = int(days / LONG_CADENCE)
    return flux - uniform_filter1d(uniform_filter1d(flux, n, mode="reflect"), n, mode="reflect")


def measures(flux, prot):
    """Height of the autocorrelation at the period above its troughs; scatter of S_ph; noise."""
    lags = int(2 * prot / LONG_CADENCE) + 60
    acf = autocorrelation(torch.as_tensor(flux), lags=lags, tapered=False).numpy()
    acf = gaussian_filter1d(acf, max(2, 0.05 * prot / LONG_CADENCE))
    lag = np.arange(lags) * LONG_CADENCE / prot
    low, peak, high = (
        np.flatnonzero((lag > a) & (lag < b)) for a, b in ((0.3, 0.9), (0.8, 1.2), (1.1, 1.7))
    )
    height = acf[peak].max() - (acf[low].min() + acf[high].min()) / 2
    sph = pieces(flux, prot)
    noise = 1.4826 * np.median(np.abs(np.diff(flux))) / 2**0.5
    return height, sph.std() / sph.mean(), noise


@pytest.mark.skipif(not REAL.exists(), reason="STELLARBOOK_DATA is not set")
@pytest.mark.parametrize("kic", KEPSEISMIC)
def test_simulated_stars_bracket_real_ones(kic):
    """16 to 84 % of simulated stars of the same parameters, four years, enclose the real star."""
    row = dict(zip(("prot", "sph", "kp", "teff", "logg", "mass"), KEPSEISMIC[kic], strict=True))
    with np.load(REAL / "kepler_lightcurves.npz") as archive:
        real = np.nan_to_num(archive[f"KEPSEISMIC_{kic:09d}_y"][:, 0].astype(float))
    table = pd.DataFrame([row] * 150)
    curves = simulate(table, days=1470, seed=1, parts=QUIET)
    found = [measures(high_pass(1e6 * (x.astype(float) - 1)), row["prot"]) for x in curves.flux]
    low, high = np.percentile(found, [16, 84], axis=0)
    truth = np.array(measures(real, row["prot"]))
    assert (low < truth).all() and (truth < high).all()
