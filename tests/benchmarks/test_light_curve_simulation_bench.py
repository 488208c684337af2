"""Simulated light curves per second: all parts, one thread."""

import numpy as np
import pandas as pd
import pytest

from stellarbook.data.cadences import LONG_CADENCE
from stellarbook.data.light_curves import simulate


@pytest.mark.parametrize(("stars", "cadences"), [(400, 4500), (60, 34_560)])
def test_simulate(benchmark, stars, cadences):
    """Stars over the time; 800 a second of 4,500 cadences are asked for, 150 of 34,560."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "prot": np.exp(rng.normal(np.log(17), 0.6, stars)).clip(0.5, 60),
            "sph": np.exp(rng.normal(np.log(800), 0.8, stars)),
            "kp": rng.uniform(10, 16, stars),
            "teff": rng.uniform(4000, 6500, stars),
            "logg": rng.uniform(4, 4.7, stars),
        }
    )
    options = {"days": cadences * LONG_CADENCE}
    curves = benchmark.pedantic(simulate, (table,), options, rounds=3, warmup_rounds=1)
    assert curves.flux.shape == (stars, cadences)
