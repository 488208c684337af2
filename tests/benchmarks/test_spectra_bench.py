"""Spectra per second: emulated, observed, normalised. 1,000 over the time; one thread."""

import numpy as np
import pytest
import torch

from stellarbook.data.continuum import normalise, specclip_continuum
from stellarbook.data.emulator import Emulator
from stellarbook.data.instruments import GALAH, LAMOST

N = 1000

pytestmark = pytest.mark.archives


@pytest.fixture(scope="module")
def labels():
    """Draw giants and dwarfs below 6000 K, where all of the emulator works."""
    rng = np.random.default_rng(0)
    drawn = rng.uniform([3800, 0.5, -2, -0.2], [6000, 4.8, 0.4, 0.4], (N, 4))
    return torch.from_numpy(drawn).float()


@pytest.fixture(scope="module")
def spectra(labels):
    flux = Emulator(LAMOST).flux(labels)
    generator = torch.Generator().manual_seed(0)
    seen = LAMOST.observe(flux, 50.0, generator)
    return seen.flux, seen.ivar


@pytest.mark.parametrize("instrument", [LAMOST, GALAH], ids=lambda one: one.name)
def test_emulator(benchmark, labels, instrument):
    """10,000 LAMOST or 5,000 GALAH spectra a second are asked for."""
    emulator = Emulator(instrument)
    flux = benchmark(emulator, labels)
    assert flux.shape == (N, len(instrument))


def test_observe(benchmark, labels):
    """Velocity, dust, response, noise and lost pixels of LAMOST."""
    flux = Emulator(LAMOST).flux(labels)
    velocity, a_v = 50 * torch.randn(N), torch.rand(N)
    generator = torch.Generator().manual_seed(0)
    seen = benchmark(
        LAMOST.observe, flux, 50.0, generator, velocity=velocity, a_v=a_v, response=0.05
    )
    assert seen.flux.shape == (N, len(LAMOST))


@pytest.mark.parametrize("at_rest", [True, False], ids=["at_rest", "redshifts"])
def test_normalise(benchmark, spectra, at_rest):
    redshift = None if at_rest else torch.linspace(-5e-4, 5e-4, N)
    result = benchmark(normalise, LAMOST.wave, *spectra, redshift)
    assert result.flux.isfinite().all()


def test_specclip_continuum(benchmark, spectra):
    level = benchmark(specclip_continuum, LAMOST.wave, spectra[0])
    assert (level > 0).all()
