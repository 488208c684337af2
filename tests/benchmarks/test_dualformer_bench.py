"""A step of DualFormer on the authors' sequences of scalars, both ways to attend."""

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
import torch

from stellarbook.desa import DualFormer, dualformer

TOKENS = 2048, 256  # the features of the authors' encoders, each a token
BATCH = 2


def materialised(q, k, v):
    """Attention that keeps its matrix of scores."""
    return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


# As one would write it: neither scores nor the dense layers' activations are computed again.
WAYS = {
    "scaled_dot_product": {"attend": dualformer.attend},
    "materialised": {"attend": materialised, "LONG": max(TOKENS)},
}


def prepared():
    """What does one step."""
    torch.manual_seed(0)
    model = DualFormer(dropout=0.0)
    x, y = (torch.randn(BATCH, n) for n in TOKENS)

    def step():
        model.zero_grad()
        model.loss(x, y)["loss"].backward()

    return step


def peak():
    """Largest memory of this process so far, MB; Linux tells it (`getrusage` the parent's, too)."""
    status = Path("/proc/self/status")
    return int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) / 2**10


def grown(way):
    """By how many MB a process grows in a step."""
    with mock.patch.multiple(dualformer, **WAYS[way]):
        step = prepared()
        before = peak()
        step()
        return peak() - before


@pytest.mark.parametrize("way", WAYS)
def test_dualformer_step(benchmark, way):
    """The first is asked to be 2.5 times as fast as the second, with a fifth of its memory."""
    with mock.patch.multiple(dualformer, **WAYS[way]):
        benchmark.pedantic(prepared(), rounds=3, warmup_rounds=1)
    if not Path("/proc/self/status").exists():
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        benchmark.extra_info["peak_mb"] = alone.submit(grown, way).result()
