"""Masks, the hybrid loss by hand, and what each dial of the encoder's training does."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_spectra_encoder import SCALE, TINY

from stellarbook.desa.spectra_baselines import PlainCNN, SpectraGRU
from stellarbook.desa.spectra_encoder import SpectraEncoder
from stellarbook.desa.spectra_input import SpectraSample
from stellarbook.desa.spectra_training import (
    mask_pixels,
    pretrain,
    train_on_labels,
)
from stellarbook.learn.conformal import QUANTILES
from stellarbook.learn.fit import epoch_order
from stellarbook.learn.processes import stream

QUIET = {"progress": False, "device": "cpu"}
STILL = QUIET | {"lr": 0.0, "weight_decay": 0.0}
N = 1962
NETWORKS = {
    "encoder": lambda **others: SpectraEncoder(
        **{**TINY, "input": "normalise", "dropout": 0.0, "scale": SCALE, **others}
    ),
    "cnn": lambda: PlainCNN(dense=(64, 32), scale=SCALE),
    "gru": lambda: SpectraGRU(piece=64, d=8, layers=1, scale=SCALE),
}


def make(name="encoder", seed=0, **others):
    torch.manual_seed(seed)
    return NETWORKS[name](**others)


def toy(n, seed=0):
    """Spectra in which each label is the depth of lines of one width, among noise."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 3))
    place, width = np.array([[10], [30], [52]]), np.array([[3], [5], [7]])
    lines = np.exp(-0.5 * ((np.arange(N) % 64 - place) / width) ** 2)
    x = z @ lines + 0.3 * rng.normal(size=(n, N))
    x, labels = torch.from_numpy(x), torch.from_numpy(SCALE.restore(z))
    return SpectraSample(x.half(), labels, torch.from_numpy(rng.uniform(10, 100, n)).float())


def holed(n, seed=0):
    """The toy with labels missing: one, two or all of a star's."""
    sample = toy(n, seed)
    sample.labels[1, 0] = sample.labels[2, 1:] = sample.labels[3] = torch.nan
    return sample


def weights(model, part=""):
    return {k: v.clone() for k, v in model.state_dict().items() if k.startswith(part)}


def same(one, other):
    return all(torch.equal(one[k], other[k]) for k in one)


# --- masks ----------------------------------------------------------------------------------


def test_what_is_hidden():
    x = torch.randn(200, N, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    hidden, masked = mask_pixels(x, torch.Generator().manual_seed(2))
    assert torch.equal(x, before) and masked.dtype == torch.bool
    assert torch.equal(hidden[~masked], x[~masked])
    n = x.numel()
    error = (0.15 * 0.85 / n) ** 0.5
    assert abs(masked.double().mean() - 0.15) < 4 * error
    zero = (hidden == 0) & masked
    share = zero.sum() / masked.sum()
    assert abs(share - 0.8) < 4 * (0.8 * 0.2 / (0.15 * n)) ** 0.5
    others = hidden[masked & ~zero]
    assert np.isin(others.numpy(), x.numpy()).all()
    assert abs(others.mean()) < 0.03 and abs(others.std() - 1) < 0.03  # negative ones too
    # Each pixel for itself: neither stars nor wavelengths are chosen.
    assert masked.double().mean(dim=0).std() < 1.2 * (0.15 * 0.85 / 200) ** 0.5
    assert masked.double().mean(dim=1).std() < 1.2 * (0.15 * 0.85 / N) ** 0.5


@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_shares_and_seeds(seed, share, fixed):
    x = torch.rand(8, 500, generator=torch.Generator().manual_seed(0)) + 1
    one, other = (
        mask_pixels(x, torch.Generator().manual_seed(seed), share, fixed) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    hidden, masked = one
    assert abs(masked.double().mean() - share) < 5 * (0.25 / x.numel()) ** 0.5
    assert abs((hidden == 0).double().mean() - share * fixed) < 5 * (0.25 / x.numel()) ** 0.5
    assert not torch.equal(mask_pixels(x, torch.Generator().manual_seed(seed + 1), 0.5)[1], masked)


# --- the loss, by hand ----------------------------------------------------------------------


def pinball_by_hand(y, prediction):
    """(n, labels), (n, labels, levels) -> (n, labels): summed over levels, NaN unknown."""
    total = np.zeros(y.shape)
    for i, level in enumerate(QUANTILES):
        r = y - prediction[..., i]
        total += np.where(r >= 0, level * r, (level - 1) * r)
    return total


def first_batch(sample, model, seed=0):
    """What `fit` shows the model in its first step, when the batch is the sample."""
    order = epoch_order(len(sample), seed, 0)
    generator = torch.Generator().manual_seed(stream(seed, 1, 0))
    y = model.scale.standardise(sample.labels.numpy())[order]
    return sample.x[order].float(), y, sample.snr.numpy()[order], generator


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("masked_only", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_hybrid_step(share, masked_only, weighted):
    sample, model = holed(20), make()
    x, y, snr, generator = first_batch(sample, model)
    by_hand = copy.deepcopy(model).train()
    hidden, masked = mask_pixels(x, generator)
    with torch.no_grad():
        filled, prediction = (v.double().numpy() for v in by_hand(hidden))
    error = (filled - x.numpy()) ** 2
    error = np.nanmean(np.where(masked | (not masked_only), error, np.nan), axis=1)
    miss = pinball_by_hand(y, prediction)
    known = np.isfinite(y).sum(axis=1)
    miss = np.nansum(miss, axis=1) / np.maximum(known, 1)
    loss = np.average((1 - share) * error + share * miss, weights=snr if weighted else None)
    dials = {"share": share, "masked_only": masked_only, "weighted": weighted}
    history = pretrain(model, sample, None, steps=1, batch_size=20, **dials, **QUIET)
    assert history.rows[0]["loss"] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_labels_step(network, weighted):
    sample, model = holed(20), make(network)
    x, y, snr, _ = first_batch(sample, model)
    by_hand = copy.deepcopy(model).train()
    with torch.no_grad():
        prediction = by_hand.read(x).double().numpy()
    miss = np.nansum(pinball_by_hand(y, prediction), axis=1) / 3
    loss = np.average(miss, weights=snr if weighted else None)
    history = train_on_labels(model, sample, steps=1, batch_size=20, weighted=weighted, **QUIET)
    assert history.rows[0]["loss"] == pytest.approx(loss, rel=1e-5)
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("share", "still", "moved"),
    [(0.0, ("conformer", "head"), ("cnn", "decoder")), (1.0, ("decoder",), ("cnn", "head"))],
)
def test_each_end_of_lambda_leaves_a_branch_alone(share, still, moved):
    model = make()
    before = {k: p.clone() for k, p in model.named_parameters()}
    settings = {"steps": 3, "weight_decay": 0.0} | QUIET
    pretrain(model, holed(20), None, share=share, **settings)
    for name, p in model.named_parameters():
        changed = not torch.equal(p, before[name])
        if name.startswith(still):
            assert not changed, name
        elif name.startswith(moved):
            assert changed, name


def test_stars_without_labels_teach_by_their_flux():
    sample = toy(20)
    sample.labels[:] = torch.nan
    model = make()
    head, cnn = weights(model, "head.4"), weights(model, "cnn.0.0")
    pretrain(model, sample, None, steps=3, **QUIET | {"weight_decay": 0.0})
    assert same(head, weights(model, "head.4")) and not same(cnn, weights(model, "cnn.0.0"))
    assert all(p.isfinite().all() for p in model.parameters())


# --- validation -----------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [True, False])
def test_validation_is_the_mean_over_all_stars(weighted):
    """Whatever parts they are judged in."""
    sample, val = toy(16), holed(530, seed=1)
    val.snr[512:] = 1e3
    model = make()
    history = train_on_labels(
        model, sample, val, steps=1, weighted=weighted, keep_norms=True, **STILL
    )
    with torch.no_grad():
        prediction = model.read(val.x.float()).double().numpy()
    miss = pinball_by_hand(SCALE.standardise(val.labels.numpy()), prediction)
    miss = np.nansum(miss, axis=1) / 3
    expected = np.average(miss, weights=val.snr.numpy() if weighted else None)
    assert history.rows[-1]["validation"] == pytest.approx(expected, rel=1e-5)


def test_validation_hides_the_same_pixels_each_time():
    model = make()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = 0.0  # with lr = 0, nothing else could change
    history = pretrain(model, toy(16), toy(600, 1), steps=4, validate_every=1, **STILL)
    assert history.to_frame()["validation"].nunique() == 1
