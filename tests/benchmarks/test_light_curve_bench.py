"""Light curves per second: channels of two views, periods. 1,000 over the time; one thread."""

import numpy as np
import pytest
import torch

from stellarbook.data.cadences import LONG_CADENCE, stitch
from stellarbook.data.light_curve_channels import VIEW, channels, two_views
from stellarbook.learn.periods import acf_period, lomb_scargle_period

N = 1000


@pytest.fixture(scope="module")
def curves():
    """Sinusoids of 4,500 cadences with noise, lost cadences and a gap of two days."""
    rng = np.random.default_rng(0)
    time = LONG_CADENCE * np.arange(4500)
    flux = 1 + 0.01 * np.sin(2 * np.pi * time / rng.uniform(1, 40, (N, 1)))
    flux += 1e-3 * rng.normal(size=flux.shape)
    flux[rng.random(flux.shape) < 0.02] = np.nan
    flux[:, 2000:2100] = np.nan
    return torch.from_numpy(flux).float(), torch.from_numpy(rng.uniform(0, 9, N)).float()


@pytest.mark.parametrize("length", [3000, 4500])
def test_two_views(benchmark, curves, length):
    """1,000 curves a second, with both views and all channels, are asked for on two cores."""
    generator = torch.Generator().manual_seed(0)
    views = benchmark(two_views, *curves, length, generator)
    assert all(view.transforms.shape == (N, 2, length) for view in views)


def test_channels_of_the_papers_length(benchmark, curves):
    """A hundred curves of 34,560 cadences, one view; the authors' code: 20 a second."""
    flux = curves[0][:100].repeat(1, VIEW // 4500 + 1)[:, :VIEW]
    made = benchmark(channels, flux, curves[1][:100])
    assert made.curve.isfinite().all()


def test_stitch(benchmark, curves):
    whole = benchmark(stitch, curves[0], np.arange(4500) // 1500)
    assert whole.shape == (N, 4500)


def test_acf_period(benchmark, curves):
    found = benchmark(acf_period, curves[0])
    assert np.isfinite(found.period).all()


def test_lomb_scargle_period(benchmark, curves):
    """A hundred curves, one after another."""
    time = LONG_CADENCE * np.arange(4500)
    found = benchmark.pedantic(lomb_scargle_period, (time, curves[0][:100].numpy()), rounds=3)
    assert np.isfinite(found.period).all()
