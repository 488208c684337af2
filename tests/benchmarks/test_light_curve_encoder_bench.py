"""A step of the light-curve encoder at 1,728 tokens, both ways to attend; views and samples."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_light_curve_encoder import materialised

from stellarbook.desa import LightCurveEncoder
from stellarbook.desa.light_curve_encoder import SMALL
from stellarbook.desa.light_curve_input import simulated
from stellarbook.desa.light_curve_views import KINDS, views
from stellarbook.layers.conformer import RotaryAttention

LENGTH = 34_560  # 1,728 tokens


@pytest.mark.parametrize("attention", ["scaled_dot_product", "materialised"])
def test_step(benchmark, monkeypatch, attention):
    """The first is asked to be 1.6 times as fast as the second."""
    torch.manual_seed(0)
    if attention == "materialised":
        monkeypatch.setattr(
            RotaryAttention, "forward", lambda self, x, known: materialised(self, x)
        )
    encoder = LightCurveEncoder(**SMALL | {"length": LENGTH}, normalisations="scores")
    curve, transforms = torch.randn(4, 2, LENGTH), torch.randn(4, 2, 384)

    def step():
        encoder.zero_grad()
        encoder.quantiles(encoder(curve, transforms)).sum().backward()

    benchmark.pedantic(step, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("kind", KINDS)
def test_views(benchmark, kind):
    """500 curves of 9,000 cadences, two views each of 4,500; 1,000 a second are asked for.

    Time is that of `views` alone: gaps filled, curves cropped, smoothed, transformed.
    """
    rng = np.random.default_rng(0)
    flux = (1 + 1e-3 * rng.standard_normal((500, 9000))).astype(np.float32)
    flux[rng.random(flux.shape) < 0.02] = np.nan
    starts = rng.integers(0, 4501, (500, 2))
    made = benchmark(views, flux, np.full(500, 4.0), starts, 4500, kind)
    assert made[2].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_simulated_samples(benchmark, kind):
    """500 stars, two views each of 4,500 cadences from curves of 9,000."""
    table = pd.DataFrame({"prot": np.linspace(1, 40, 500), "sph": 1000.0, "kp": 13.0})
    table = table.assign(teff=5500.0, logg=4.5)
    sample = benchmark.pedantic(
        simulated, (table,), {"kind": kind, "progress": False}, rounds=2, warmup_rounds=0
    )
    assert sample.transforms.isfinite().all()
