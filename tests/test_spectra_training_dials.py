"""What each dial of the encoder's training does, what it reaches, what it refuses."""

import copy

import numpy as np
import pytest
import torch
from test_spectra_encoder import SCALE
from test_spectra_training import (
    NETWORKS,
    QUIET,
    STILL,
    first_batch,
    make,
    pinball_by_hand,
    same,
    toy,
    weights,
)

from stellarbook.desa.spectra_training import (
    mask_pixels,
    measure_norms,
    pretrain,
    quantiles,
    train_on_labels,
)
from stellarbook.learn.checkpoint import CheckpointError


def statistics(model):
    return {k: v.clone() for k, v in model.state_dict().items() if "running" in k}


def test_keep_norms():
    sample = toy(16)
    pretrained = make()
    pretrain(pretrained, toy(64, 1), None, steps=5, **QUIET)
    kept, moved = (copy.deepcopy(pretrained) for _ in range(2))
    x, y, *_ = first_batch(sample, pretrained)
    with torch.no_grad():
        prediction = pretrained.eval().read(x).double().numpy()  # statistics used, no dropout
    expected = pinball_by_hand(y, prediction).mean()
    few = {"steps": 3, "batch_size": 16} | QUIET
    history = train_on_labels(kept, sample, keep_norms=True, **few)
    train_on_labels(moved, sample, keep_norms=False, **few)
    assert same(statistics(pretrained), statistics(kept))
    assert not same(statistics(pretrained), statistics(moved))
    assert history.rows[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert not same(weights(pretrained, "head.0"), weights(kept, "head.0"))


def test_norms_are_the_samples_statistics():
    sample, model = toy(21), make(dropout=0.9)
    x = torch.nn.functional.pad(sample.x.float(), (0, model.pad))[:, None]
    before = weights(model)
    measure_norms(model, sample, device="cpu")
    first, second = (part[:2] for part in model.cnn[:2].children())
    with torch.no_grad():
        seen = first[0](x)
        torch.testing.assert_close(first[1].running_mean, seen.mean(dim=(0, 2)))
        torch.testing.assert_close(first[1].running_var, seen.var(dim=(0, 2)))
        # The next one sees what the first makes of its own batch, as in training.
        deeper = second[0][0](torch.nn.functional.silu(first[1].train()(seen)))
        torch.testing.assert_close(second[0][1].running_mean, deeper.mean(dim=(0, 2)))
        # No dropout: the features of the head's norm are those that are read out.
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        features = model.features(model.tokens(sample.x.float())).mean(dim=1)
        hidden = model.head[0](features)
    torch.testing.assert_close(model.head[1].running_var, hidden.var(dim=0), rtol=1e-3, atol=1e-6)
    after = weights(model)
    assert all(torch.equal(before[k], after[k]) for k, _ in model.named_parameters())


def test_norms_are_averaged_over_equal_batches():
    sample, model = toy(9), make()
    means = []
    for part in torch.arange(9).tensor_split(3):
        measure_norms(model, sample[part], device="cpu")
        means.append(model.cnn[0][1].running_mean.clone())
    # In any order: the first convolution's mean does not depend on the batches.
    measure_norms(model, sample, batch_size=4, device="cpu")
    torch.testing.assert_close(model.cnn[0][1].running_mean, torch.stack(means).mean(dim=0))
    assert not model.training and not any(m.training for m in model.modules())
    assert {m.momentum for m in model.modules() if hasattr(m, "momentum")} == {0.1}
    # A remainder of one star would have no variance.
    measure_norms(model, sample, batch_size=8, device="cpu")
    few = statistics(model)
    measure_norms(model, sample, most=2, device="cpu")
    assert all(v.isfinite().all() for v in few.values()) and not same(few, statistics(model))


def test_networks_without_norms_are_left_alone():
    model = make("cnn")
    before = weights(model)
    measure_norms(model, toy(4), device="cpu")
    assert same(before, weights(model))


@pytest.mark.parametrize("network", NETWORKS)
def test_noise_is_for_training_only(network):
    runs = {}
    for noise in (0.0, 5.0):
        model = make(network)
        settings = {"steps": 1, "noise": noise, "keep_norms": True} | STILL
        runs[noise] = train_on_labels(model, toy(16), toy(30, 1), **settings).rows[-1]
    assert runs[0.0]["validation"] == runs[5.0]["validation"]
    assert abs(runs[0.0]["loss"] - runs[5.0]["loss"]) > 1e-3


@pytest.mark.parametrize("network", NETWORKS)
def test_same_seed_same_network(network):
    one, two, other = (make(network) for _ in range(3))
    for model, seed in ((one, 0), (two, 0), (other, 1)):
        settings = {"steps": 3, "batch_size": 8, "seed": seed, "noise": 0.1} | QUIET
        train_on_labels(model, toy(16), toy(8, 1), **settings)
        assert not model.training
    assert same(weights(one), weights(two)) and not same(weights(one), weights(other))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_toy_problem_is_learnt(network):
    train, val, test = toy(400), toy(60, 1), toy(200, 2)
    model = make(network)
    steps, lr = {"encoder": (60, 1e-2), "cnn": (100, 3e-3), "gru": (150, 1e-2)}[network]
    settings = {"batch_size": 32, "lr": lr, "validate_every": steps // 4} | QUIET
    if network == "encoder":
        pretrain(model, train, val, steps=45, share=0.8, **settings)
    train_on_labels(model, train, val, steps=steps, **settings)
    truth = SCALE.standardise(test.labels.numpy())
    predicted = np.sort(quantiles(model, test), axis=-1)
    error = np.abs(SCALE.standardise(predicted[..., 2]) - truth).mean(axis=0)
    mean = np.abs(truth).mean(axis=0)  # the error of who knows the mean only
    assert (error < 0.9 * mean).all() and error.mean() < 0.5 * mean.mean()
    inside = (predicted[..., 0] <= test.labels.numpy()) & (test.labels.numpy() <= predicted[..., 4])
    assert 0.5 < inside.mean() < 0.97


def test_pixels_are_filled():
    train, test = toy(200), toy(50, 2)
    model = make()
    pretrain(model, train, None, share=0.0, steps=60, batch_size=32, lr=1e-2, **QUIET)
    x = test.x.float()
    hidden, masked = mask_pixels(x, torch.Generator().manual_seed(0), fixed=1.0)
    with torch.no_grad():
        filled, _ = model(hidden)
    error = (filled - x)[masked].square().mean()
    assert error < 0.5 * x[masked].square().mean()  # better than the mean


# --- refusals -------------------------------------------------------------------------------


def test_spectra_that_are_nan_are_counted():
    sample = toy(16)
    sample.x[[2, 7], 5] = torch.nan
    sample.x[9] = torch.inf
    for train, val in ((sample, None), (toy(16), sample)):
        with pytest.raises(ValueError, match="3 of 16 spectra have pixels that are not finite"):
            pretrain(make(), train, val, steps=1, **QUIET)
        with pytest.raises(ValueError, match="3 of 16 spectra"):
            train_on_labels(make(), train, val, steps=1, **QUIET)


def test_weights_must_be_positive():
    sample = toy(16)
    sample.snr[:4] = torch.tensor([0, -9999, torch.nan, torch.inf])
    with pytest.raises(ValueError, match="4 of 16 S/N are not positive"):
        pretrain(make(), sample, None, steps=1, **QUIET)
    history = train_on_labels(make(), sample, steps=1, **QUIET)  # weighs nothing
    assert np.isfinite(history.rows[0]["loss"])


def test_a_checkpoint_is_of_one_training(tmp_path):
    sample, val = toy(16), toy(8, 1)
    other = copy.deepcopy(sample)
    other.snr[3] += 1
    relabelled = copy.deepcopy(sample)
    relabelled.labels[3] += 0.1
    touched = copy.deepcopy(sample)
    touched.x[3, 7] += 1
    settings = {"steps": 2, "checkpoint": tmp_path / "a.pt"} | QUIET
    first = make()
    pretrain(first, sample, val, **settings)
    again = make()
    pretrain(again, sample, val, **settings)
    assert same(weights(first), weights(again))
    for name, model, train, held, change in (
        ("share", make(), sample, val, {"share": 0.4}),
        ("masked_only", make(), sample, val, {"masked_only": True}),
        ("weighted", make(), sample, val, {"weighted": False}),
        ("lr", make(), sample, val, {"lr": 1e-3}),
        ("data", make(), other, val, {}),
        ("data", make(), relabelled, val, {}),
        ("data", make(), touched, val, {}),
        ("data", make(), sample, toy(8, 2), {}),
        ("start", make(seed=1), sample, val, {}),
        ("weight conformer", make(block="conformer"), sample, val, {}),
    ):
        with pytest.raises(CheckpointError, match=f"another training.*{name}"):
            pretrain(model, train, held, **settings | change)


def test_a_checkpoint_of_labels_is_of_one_training(tmp_path):
    sample = toy(16)
    settings = {"steps": 2, "checkpoint": tmp_path / "a.pt"} | QUIET
    train_on_labels(make(), sample, **settings)
    for change in ({"weighted": True}, {"noise": 0.1}, {"keep_norms": True}):
        with pytest.raises(CheckpointError, match=f"another training.*{next(iter(change))}"):
            train_on_labels(make(), sample, **settings | change)
    with pytest.raises(CheckpointError, match="another training"):
        pretrain(make(), sample, None, **settings)
