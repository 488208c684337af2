"""How fast the training loop and the metrics are: `make bench`."""

import numpy as np
import torch

from stellarbook.layers.blocks import MLP
from stellarbook.learn.fit import fit
from stellarbook.learn.metrics import compare


def specialist(width):
    torch.manual_seed(0)
    x, y = torch.randn(4096, 66), torch.randn(4096, 3)
    model = MLP(66, 3, hidden=(width,) * 3, dropout=0.1)
    return model, lambda model, index, generator: (model(x[index]) - y[index]).abs().mean()


def test_a_hundred_steps_of_the_specialist(benchmark):
    model, step = specialist(384)
    options = {"steps": 100, "batch_size": 256, "device": "cpu", "progress": False}
    benchmark.pedantic(fit, (model, step, 4096), options, rounds=3, warmup_rounds=1)


def test_what_the_loop_itself_costs(benchmark):
    """A hundred steps of a net so small that little but the loop is left."""
    model, step = specialist(1)
    options = {"steps": 100, "batch_size": 1, "ema": 0.9, "device": "cpu", "progress": False}
    benchmark.pedantic(fit, (model, step, 4096), options, rounds=3, warmup_rounds=1)


def test_bootstrap_of_four_thousand_stars(benchmark):
    rng = np.random.default_rng(0)
    truth, prediction = rng.normal(size=(2, 4000, 3))
    table = benchmark(compare, truth, prediction, ["teff", "logg", "feh"])
    assert (table["scatter_error"] < 0.1).all()
