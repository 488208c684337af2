"""How fast the information limit of spectra is."""

import pytest
import torch

from stellarbook.data.emulator import Emulator
from stellarbook.data.instruments import LAMOST
from stellarbook.learn.bounds import continuum, cramer_rao, fisher, jacobian, velocity

N = 64


@pytest.mark.archives
@pytest.mark.parametrize("step", [None, (20, 0.05, 0.03, 0.03)], ids=["exact", "steps"])
def test_slopes(benchmark, step):
    """Four derivatives of 64 LAMOST spectra."""
    labels = torch.tensor([(5772.0, 4.44, 0, 0)]).expand(N, 4)
    slopes = benchmark(jacobian, Emulator(LAMOST), labels, step)
    assert slopes.shape == (N, 3909, 4)


def test_bounds(benchmark):
    """64 stars' bounds on four labels, two continua and a velocity fitted along."""
    rng = torch.Generator().manual_seed(0)
    flux = 1 + 0.1 * torch.rand(N, 3909, generator=rng)
    slopes = torch.randn(N, 3909, 4, generator=rng)

    def bound():
        arms = continuum(LAMOST.wave, flux, 5, LAMOST.arms.values())
        nuisance = torch.cat([arms, velocity(LAMOST.wave, flux)], dim=-1)
        return cramer_rao(fisher(slopes, 2500 / flux, nuisance))

    assert benchmark(bound).isfinite().all()
