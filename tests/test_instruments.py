"""Six instruments: grids, shifts, noise and masks against numbers that are known without them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from stellarbook.data import archives
from stellarbook.data.instruments import (
    APOGEE,
    DESI,
    GAIA_XP,
    GALAH,
    INSTRUMENTS,
    LAMOST,
    SDSS,
)
from stellarbook.data.observe import C

REAL = Path(os.environ.get("STELLARBOOK_DATA", "/nonexistent"))
spectrographs = pytest.mark.parametrize(
    "instrument", [LAMOST, DESI, SDSS, GALAH, APOGEE], ids=lambda i: i.name
)
everyone = pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda i: i.name)
# Vacuum wavelengths (Å) from the NIST Atomic Spectra Database, and a star whose line is unblended.
LINES = {
    "Hβ": (4862.69, (9000, 4.0, -0.5, 0)),
    "Mg b1": (5185.05, (5500, 4.5, -0.5, 0)),
    "Na D2": (5891.58, (5500, 4.5, -1.0, 0)),
    "Ca II 8542": (8544.44, (5500, 4.0, -0.5, 0)),
    "Ca II 8662": (8664.52, (5500, 4.0, -0.5, 0)),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(instrument, n=4):
    """Draw spectra that a low polynomial describes."""
    x = torch.linspace(-1, 1, len(instrument))
    return 1 + 0.2 * torch.outer(torch.linspace(-1, 1, n), x) + 0.1 * x**2


def gaussian(instrument, line):
    sigma = instrument.fwhm / 2.3548
    profile = np.exp(-0.5 * ((instrument.wave - line) / sigma) ** 2)
    return torch.from_numpy(1 - 0.5 * profile)[None]  # float64: positions to 1e-3 pixels


def centre(flux, arm, guess):
    """Return the position (pixels) of the line nearest to a pixel: exact for a Gaussian."""
    depth = 1 - np.asarray(flux[arm], dtype=float)
    first = int(guess) - 6
    i = first + int(np.argmax(depth[first : first + 13]))
    left, middle, right = np.log(depth[i - 1 : i + 2])
    return i + 0.5 * (left - right) / (left - 2 * middle + right)


# --- grids ----------------------------------------------------------------------------------


def test_pixels():
    sizes = {i.name: len(i) for i in INSTRUMENTS}
    assert sizes == {
        "lamost": 3909,
        "desi": 7958,
        "sdss": 4600,
        "galah": 16_384,
        "apogee": 8575,
        "gaia_xp": 343,
    }


@everyone
def test_arms_increase_and_line_spreads_are_positive(instrument):
    for arm in instrument.arms.values():
        assert (np.diff(instrument.wave[arm]) > 0).all()
    assert instrument.fwhm.shape == instrument.wave.shape and (instrument.fwhm > 0).all()


@pytest.mark.parametrize(
    ("instrument", "first", "last", "lowest", "highest"),
    [
        (LAMOST, 3700, 9099.2, 1800, 1800),
        (DESI, 3600, 9824, 2000, 5500),
        (SDSS, 3572.7, 10301.5, 1216, 2564),
        (GALAH, 4714.9, 7888.5, 28_000, 28_000),
        (APOGEE, 15100.8, 16999.8, 22_500, 22_500),
        (GAIA_XP, 3360, 10200, 33, 103),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_range_and_resolution(instrument, first, last, lowest, highest):
    assert instrument.wave[[0, -1]] == pytest.approx([first, last], abs=0.1)
    resolution = instrument.resolution
    assert lowest - 1 <= resolution.min() and resolution.max() <= highest + 1
    assert resolution.max() > 0.85 * highest and resolution.min() < 1.2 * lowest


@pytest.mark.skipif(not REAL.is_dir(), reason="real spectra: set STELLARBOOK_DATA")
def test_lamost_grid_is_that_of_real_files():
    with np.load(REAL / "lamost_lrs.npz") as real:
        np.testing.assert_allclose(LAMOST.wave, real["wave"], rtol=1e-9)


# --- shift ----------------------------------------------------------------------------------


@spectrographs
def test_no_velocity_changes_nothing(instrument):
    flux = smooth(instrument)
    moved, empty = instrument.shift(flux, torch.zeros(4))
    assert torch.allclose(moved, flux, atol=1e-6) and not empty.any()


@spectrographs
@pytest.mark.parametrize("velocity", [-311.7, 7.3, 128.0])
def test_a_line_moves_by_v_over_c(instrument, velocity):
    arm = list(instrument.arms.values())[-1]
    wave = instrument.wave[arm]
    line = wave[len(wave) // 2] + 0.3
    moved, _ = instrument.shift(gaussian(instrument, line), torch.tensor([velocity]).double())
    guess = np.interp(line * (1 + velocity / C), wave, np.arange(len(wave)))
    assert centre(moved[0], arm, guess) == pytest.approx(guess, abs=0.03)
    expected = gaussian(instrument, line * (1 + velocity / C))
    assert (moved - expected)[:, arm].abs().max() < 0.5 * 0.014  # of a depth of 0.5


@pytest.mark.parametrize("instrument", [LAMOST, DESI], ids=lambda i: i.name)
def test_shift_is_differentiable_in_the_velocity(instrument):
    flux = gaussian(instrument, 5000.0)
    velocity = torch.tensor([43.21], dtype=torch.float64)
    one = torch.ones_like(velocity)
    slope = torch.func.jvp(lambda v: instrument.shift(flux, v)[0], (velocity,), (one,))[1]
    step = 1e-3
    ahead, behind = (instrument.shift(flux, velocity + s)[0] for s in (step, -step))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), atol=1e-7)


def test_arms_do_not_mix_and_empty_pixels_are_told():
    flux = torch.ones(1, len(DESI))
    for level, arm in enumerate(DESI.arms.values()):
        flux[:, arm] = level + 1.0
    moved, empty = DESI.shift(flux, torch.tensor([250.0]))
    assert torch.allclose(moved, flux, atol=1e-5)
    starts = [arm.start for arm in DESI.arms.values()]
    assert all(empty[0, start] and not empty[0, start + 20] for start in starts)
    # LAMOST's arms are joined in its files: nothing is lost between them.
    empty = LAMOST.shift(torch.ones(1, len(LAMOST)), torch.tensor([250.0]))[1][0]
    assert empty[: int(empty.sum())].all() and 0 < empty.sum() < 15


@pytest.mark.archives
@pytest.mark.parametrize("instrument", [LAMOST, DESI, SDSS], ids=lambda i: i.name)
def test_emulated_lines_are_where_the_laboratory_has_them(instrument):
    from stellarbook.data.emulator import Emulator

    if not (archives.cache() / "distilled" / f"emulator_{instrument.name}").exists():
        for name in ("thedoppler", "bossbrain"):
            if not (archives.cache() / "archives" / archives.ARCHIVES[name].file).exists():
                pytest.skip(f"{name} is not in the archives' cache")
    emulator = Emulator(instrument)
    flux = emulator(np.array([labels for _, labels in LINES.values()]))
    moved, _ = instrument.shift(flux, torch.full((len(flux),), 150.0))
    for star, (name, (line, _)) in enumerate(LINES.items()):
        for arm in instrument.arms.values():
            wave = instrument.wave[arm]
            if not wave[20] < line < wave[-20]:
                continue
            for spectra, factor in ((flux, 1.0), (moved, 1 + 150.0 / C)):
                guess = np.interp(line * factor, wave, np.arange(len(wave)))
                assert centre(spectra[star], arm, guess) == pytest.approx(guess, abs=0.1), name


# --- light ----------------------------------------------------------------------------------


def test_one_magnitude_of_extinction_is_one_at_5500_angstrom():
    flux = torch.ones(2, len(LAMOST))
    red = LAMOST.redden(flux, torch.tensor([0.0, 1.0]))
    assert torch.equal(red[0], flux[0])
    magnitudes = -2.5 * np.log10(red[1].numpy())
    b, v = magnitudes[np.searchsorted(LAMOST.wave, [4400, 5500])]
    assert v == pytest.approx(1, abs=0.02)
    assert b - v == pytest.approx(1 / 3.1, abs=0.04)  # E(B−V) = A_V / R_V


def test_tilt_by_hand():
    flux = torch.ones(1, len(LAMOST))
    coefficients = torch.zeros(1, 2, 5)
    assert torch.equal(LAMOST.tilt(flux, coefficients), flux)
    coefficients[0, 1, 0] = 0.1  # T₁(x) = x in the red arm
    tilted = LAMOST.tilt(flux, coefficients)[0]
    blue, red = LAMOST.arms.values()
    assert (tilted[blue] == 1).all()
    assert tilted[red][[0, -1]].log().tolist() == pytest.approx([-0.1, 0.1], abs=1e-6)


# --- noise ----------------------------------------------------------------------------------


@everyone
def test_noise_has_the_stated_signal_to_noise(instrument):
    flux = smooth(instrument, 400)
    snr = torch.linspace(20, 200, 400)
    observed = instrument.observe(flux, snr, seeded())
    good = ~observed.mask
    sigma = observed.ivar.masked_fill(~good, torch.nan) ** -0.5
    clean = flux
    if instrument.basis:
        basis = torch.from_numpy(instrument.basis()).float()
        clean = flux @ basis @ basis.T
    ratio = (clean / sigma).nanmedian(dim=1).values
    np.testing.assert_allclose(ratio, snr, rtol=1e-4)
    pulls = ((observed.flux - clean) / sigma)[good]
    assert float(pulls.std()) == pytest.approx(1, abs=0.01)
    assert float(pulls.mean()) == pytest.approx(0, abs=0.03)


def test_photon_noise_grows_as_the_root_of_the_flux():
    flux = torch.ones(1, len(LAMOST))
    flux[:, 1000:1100] = 4.0
    sigma = LAMOST.sigma(flux, 50.0)[0]
    flat = LAMOST.sigma(torch.ones(1, len(LAMOST)), 50.0)[0]
    ratio = (sigma / flat)[1000:1100] / (sigma / flat)[2000]
    np.testing.assert_allclose(ratio, (4.02 / 1.02) ** 0.5, rtol=1e-3)


def test_the_night_sky_is_where_it_is():
    sigma = LAMOST.sigma(torch.ones(1, len(LAMOST)), 50.0)[0]
    for line in (5578.9, 8829.5):  # [O I] and OH in vacuum
        i = int(np.argmin(np.abs(LAMOST.wave - line)))
        assert sigma[i - 3 : i + 4].max() > 1.8 * sigma[[i - 12, i + 12]].mean()
    sigma = APOGEE.sigma(torch.ones(1, len(APOGEE)), 50.0)[0]
    i = int(np.argmin(np.abs(APOGEE.wave - 16194.62)))
    assert sigma[i] > 1.5 * sigma[i - 20]


def test_gaps_and_lost_pixels_are_masked():
    observed = APOGEE.observe(smooth(APOGEE, 50), 100.0, seeded(), velocity=torch.zeros(50))
    gaps = np.ones(len(APOGEE), bool)
    for arm in APOGEE.arms.values():
        gaps[arm] = False
    assert observed.mask[:, gaps].all()
    assert float(observed.mask[:, ~gaps].float().mean()) == pytest.approx(APOGEE.lost, rel=0.05)
    assert (observed.ivar[observed.mask] == 0).all() and (observed.flux[observed.mask] == 0).all()
    assert (observed.ivar[~observed.mask] > 0).all() and observed.flux.isfinite().all()


def test_gaia_xp_noise_lies_in_its_basis():
    observed = GAIA_XP.observe(smooth(GAIA_XP).double(), 100.0, seeded())
    basis = torch.from_numpy(GAIA_XP.basis())
    assert (observed.flux - observed.flux @ basis @ basis.T).abs().max() < 1e-12
    residual = observed.flux - smooth(GAIA_XP).double()
    assert residual.std() > 1e-3  # there is noise


def test_the_generator_decides_everything():
    everything = {
        "velocity": torch.full((4,), 30.0),
        "a_v": torch.full((4,), 0.3),
        "response": 0.08,
    }
    one, two, other = (
        LAMOST.observe(smooth(LAMOST), 50.0, seeded(seed), **everything) for seed in (1, 1, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.flux, other.flux) and not torch.equal(one.mask, other.mask)


@pytest.mark.parametrize("snr", [0.0, -3.0, float("nan")])
def test_impossible_noise_is_refused(snr):
    with pytest.raises(ValueError, match="positive S/N"):
        LAMOST.observe(smooth(LAMOST), snr, seeded())


def test_a_spectrum_without_light_is_refused():
    with pytest.raises(ValueError, match="positive median flux"):
        LAMOST.observe(-smooth(LAMOST), 50.0, seeded())
