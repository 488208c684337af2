"""A step of DualFormer on the authors' sequences of scalars, both ways to attend."""

import resource

import pytest
import torch

from stellarbook.desa import DualFormer, dualformer

TOKENS = 2048, 256  # the features of the authors' encoders, each a token
BATCH = 2


def materialised(q, k, v):
    """Attention that keeps its matrix of scores."""
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


@pytest.mark.parametrize("attention", ["scaled_dot_product", "materialised"])
def test_dualformer_step(benchmark, monkeypatch, attention):
    """The first is asked to be 2.5 times as fast as the second, with a fifth of its memory.

    ``peak_mb`` is how far the process grew: run each in a process of its own to compare.
    """
    torch.manual_seed(0)
    if attention == "materialised":
        monkeypatch.setattr(dualformer, "attend", materialised)
    model = DualFormer(dropout=0.0)
    x, y = (torch.randn(BATCH, n) for n in TOKENS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def step():
        model.zero_grad()
        model.loss(x, y)["loss"].backward()

    benchmark.pedantic(step, rounds=3, warmup_rounds=1)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    benchmark.extra_info["peak_mb"] = (after - before) / 2**10
