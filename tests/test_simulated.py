"""Blur against scipy, drawn stars against what is said of them, observed spectra at their S/N."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.ndimage import gaussian_filter1d
from test_emulator import archive_or_skip

from stellarbook.data.emulator import Emulator
from stellarbook.data.instruments import DESI, LAMOST
from stellarbook.data.observe import C
from stellarbook.data.pixels import contiguous
from stellarbook.data.simulated import TAPS, blurred, draw_labels, observe

STILL = {"velocity": 0.0, "velocity_error": 0.0, "a_v": 0.0, "response": 0.0, "blur": 0.0}
NOISELESS = 1e6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def lines(n=3, wave=LAMOST.wave):
    """Spectra with an unblended line every 200 Å."""
    centres = np.arange(4000, 9000, 200)[:, None]
    depth = 0.5 * np.exp(-0.5 * ((wave - centres) / 2.5) ** 2).sum(axis=0)
    return torch.from_numpy(1 - depth).expand(n, -1)


# --- blur -----------------------------------------------------------------------------------


def test_blurred_is_scipy():
    flux = np.random.default_rng(0).normal(size=(5, 200))
    sigma = np.array([0.1, 0.4, 0.8, 1.2, 2.0])
    expected = [
        gaussian_filter1d(row, s, mode="nearest", radius=TAPS)
        for row, s in zip(flux, sigma, strict=True)
    ]
    result = blurred(torch.from_numpy(flux), torch.from_numpy(sigma))
    np.testing.assert_allclose(result, expected, atol=1e-12)


@given(st.integers(0, 2**31), st.floats(0, 1.3))
@settings(max_examples=20, deadline=None)
def test_blur_keeps_flux_and_widens(seed, sigma):
    flux = torch.zeros(2, 80, dtype=torch.float64)
    flux[:, 20:-20] = torch.rand(2, 40, generator=seeded(seed), dtype=torch.float64)
    result = blurred(flux, torch.full((2,), sigma, dtype=torch.float64))
    torch.testing.assert_close(result.sum(dim=1), flux.sum(dim=1))
    assert (result >= 0).all() and result.max() <= flux.max() + 1e-12


def test_no_blur_changes_nothing():
    flux = torch.rand(3, 50, generator=seeded())
    assert torch.equal(blurred(flux, torch.zeros(3)), flux)


# --- observe --------------------------------------------------------------------------------


def test_a_star_at_rest_has_its_noise_and_nothing_else():
    flux, snr = lines(200).float(), torch.linspace(5, 200, 200)
    seen, redshift = observe(LAMOST, flux, snr, seeded(), **STILL)
    assert not redshift.any()
    good, sigma = ~seen.mask, seen.ivar**-0.5
    ratio = (flux / sigma).masked_fill(~good, torch.nan).nanmedian(dim=1).values
    torch.testing.assert_close(ratio, snr, rtol=1e-4, atol=0)
    noise = ((seen.flux - flux) / sigma)[good].numpy()
    assert stats.kstest(noise[::40], "norm").pvalue > 1e-3
    assert not seen.flux[~good].any() and not seen.ivar[~good].any()
    assert 1 - good.double().mean() == pytest.approx(LAMOST.lost, rel=0.03)


def test_lines_move_by_v_over_c():
    flux = lines(20)
    snr = torch.full((20,), NOISELESS)
    moving = STILL | {"velocity": 200.0}
    seen, redshift = observe(LAMOST, flux, snr, seeded(), **moving)
    step = np.log(LAMOST.wave[1] / LAMOST.wave[0])
    assert redshift.abs().max() > 3e-4
    for row, z in zip(seen.flux.numpy(), redshift.numpy(), strict=True):
        for line in (5000.0, 6400.0):
            near = np.abs(LAMOST.wave / line / (1 + z) - 1) < 15 / line
            if row[near].min() > 0:  # no pixel of it is lost
                weight = 1 - row[near]
                centre = (weight * np.log(LAMOST.wave[near])).sum() / weight.sum()
                assert abs(centre - np.log(line * (1 + z))) < 0.03 * step


def test_the_survey_errs_in_the_redshift_only():
    flux, snr = lines(1000).float()[:, :50], torch.full((1000,), 50.0)
    short = _part(LAMOST, 50)
    plain, rest = observe(short, flux, snr, seeded(), **STILL)
    seen, redshift = observe(short, flux, snr, seeded(), **STILL | {"velocity_error": 7.0})
    assert torch.equal(seen.flux, plain.flux) and not rest.any()
    assert stats.kstest(redshift.numpy() * C / 7, "norm").pvalue > 1e-3
    _, redshift = observe(short, flux, snr, seeded(1))  # 60 km/s, and an error of 5
    assert stats.kstest(redshift.numpy() * C / np.hypot(60, 5), "norm").pvalue > 1e-3


def _part(instrument, pixels):
    """The first pixels of an instrument: enough where only the conditions count."""
    return replace(
        instrument,
        wave=instrument.wave[:pixels],
        fwhm=instrument.fwhm[:pixels],
        arms={"blue": slice(0, pixels)},
    )


def test_dust_reddens_and_response_bends():
    flux, snr = torch.ones(50, 3909), torch.full((50,), NOISELESS)
    seen, _ = observe(LAMOST, flux, snr, seeded(), **STILL | {"a_v": 1.0})
    ends = [seen.flux[:, s].max(dim=1).values for s in (slice(0, 100), slice(-100, None))]
    assert (ends[0] < ends[1]).all()  # each by its own A_V, none brightened
    assert (ends[1] <= 1.001).all() and (ends[0] / ends[1]).std() > 0.05
    seen, _ = observe(LAMOST, flux, snr, seeded(), **STILL | {"response": 0.08})
    assert 0.04 < seen.flux[~seen.mask].log().std() < 0.12


@pytest.mark.parametrize("instrument", [LAMOST, DESI], ids=lambda i: i.name)
def test_blur_ends_with_the_arm(instrument):
    flux = torch.ones(4, len(instrument))
    for i, arm in enumerate(contiguous(instrument.wave)):
        flux[:, arm] = 1.0 + i
    snr = torch.full((4,), NOISELESS)
    seen, _ = observe(instrument, flux, snr, seeded(), **STILL | {"blur": 1.2})
    ratio = (seen.flux / flux)[~seen.mask]
    assert (ratio - 1).abs().max() < 1e-3


def test_each_star_is_blurred_by_its_own():
    flux, snr = lines(30), torch.full((30,), NOISELESS)
    seen, wide = (
        observe(LAMOST, flux, snr, seeded(), **STILL | {"blur": blur})[0] for blur in (0.0, 1.2)
    )
    depth = [1 - x.flux.masked_fill(x.mask, 1.0).amin(dim=1) for x in (seen, wide)]
    assert (depth[1] < depth[0] + 1e-3).all() and depth[1].std() > 0.01


def test_observations_are_reproducible():
    flux, snr = lines(4).float(), torch.full((4,), 50.0)
    one, two, other = (observe(LAMOST, flux, snr, seeded(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip((*one[0], one[1]), (*two[0], two[1]), strict=True))
    assert not torch.equal(one[0].flux, other[0].flux)
    with pytest.raises(ValueError, match="positive S/N"):
        observe(LAMOST, flux, torch.tensor([50.0, 0.0, 50.0, 50.0]), seeded())


# --- drawn stars ----------------------------------------------------------------------------


@pytest.mark.archives
def test_draw_labels():
    archive_or_skip()
    emulator = Emulator(LAMOST)
    stars = draw_labels(20_000, emulator, 5)
    assert stars.shape == (20_000, 4) and emulator.inside(stars).all()
    np.testing.assert_array_equal(draw_labels(20_000, emulator, 5), stars)
    assert not np.isin(draw_labels(20_000, emulator, 6)[:, 0], stars[:, 0]).any()
    assert draw_labels(0, emulator, 0).shape == (0, 4)
    # Below 6000 K only [Fe/H] is cut: there the distributions are as they were drawn.
    teff, logg, feh, alpha = stars[stars[:, 0] < 6000].T

    def agrees(values, distribution):
        return stats.kstest(values, distribution.cdf).pvalue > 1e-3

    assert agrees(teff, stats.uniform(4000, 2000))
    dwarfs = stats.uniform(3, 2)
    assert agrees(logg[logg < 3], stats.uniform(0.5, 2.5)) and agrees(logg[logg > 3], dwarfs)
    assert stats.binomtest(int((logg > 3).sum()), len(logg), 0.8 + 0.2 * 2 / 4.5).pvalue > 1e-3
    assert agrees(feh, stats.truncnorm(-2.1 / 0.6, 0.9 / 0.6, -0.4, 0.6))
    assert agrees(alpha - np.interp(feh, [-1, 0], [0.35, 0]), stats.norm(0, 0.07))
    # The same cuts on both sides of 8000 K, where a fifth of what is drawn lies.
    whole = (stars[:, 1] > 3) & (stars[:, 2] > -1.4)
    hot, cool = ((stars[whole, 0] > 8000).sum(), (stars[whole, 0] < 6000).sum())
    assert stats.binomtest(int(hot), int(hot + cool), 0.2 / (0.2 + 0.375)).pvalue > 1e-3
