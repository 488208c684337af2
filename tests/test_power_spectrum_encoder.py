"""The encoder of power spectra and its linear rivals, on images whose answers are known."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix
from sklearn.utils.class_weight import compute_class_weight

from stellarbook.data.survey_files.power_spectra import (
    CLASSES,
    FREQUENCY,
    SIDE,
    PowerSpectrumImages,
)
from stellarbook.desa.power_spectrum_baselines import LinearPowerSpectra, hump
from stellarbook.desa.power_spectrum_encoder import (
    PowerSpectrumEncoder,
    class_weights,
    moved,
    scale_of,
    train,
    unpack,
)
from stellarbook.learn.conformal import QUANTILES, pinball

QUIET = {"progress": False, "device": "cpu"}
TINY = {"channels": (4, 4, 8, 8), "features": 16, "dropout": 0.0}


def toy(n=260, seed=0, known=0.7):
    """Oscillators are a hump at ν_max above a floor; rotators a slope; the rest is not there.

    A share of the oscillators has a known ν_max, no rotator has.
    """
    rng = np.random.default_rng(seed)
    numax = np.exp(rng.uniform(np.log(6), np.log(150), n))
    oscillates = rng.random(n) < 0.6
    column = np.log(numax / FREQUENCY[0]) / np.log(FREQUENCY[1] / FREQUENCY[0])
    x = np.arange(SIDE) + 0.5
    hump = 40 * np.exp(-0.5 * ((x - column[:, None]) / 6) ** 2)
    height = np.where(oscillates[:, None], hump, 50 * (1 - x / SIDE)) + rng.normal(0, 3, (n, SIDE))
    upper = np.clip(80 - height, 0, 100).astype(int)[:, None]
    row = np.arange(SIDE)[:, None]
    pixels = (row >= upper) & (row < 110)
    table = pd.DataFrame({"kic": np.arange(n) + 1000 * seed})
    table["cls"] = np.where(oscillates, "SOLARLIKE", "CONTACT_ROT")
    table["numax"] = np.where(oscillates & (rng.random(n) < known), numax, np.nan)
    return PowerSpectrumImages(table, np.packbits(pixels.reshape(n, -1), axis=1)), numax


def make(images, seed=0, **others):
    torch.manual_seed(seed)
    return PowerSpectrumEncoder(**{**TINY, **others}, scale=scale_of(images))


def error(images, numax, predicted, part="test"):
    """Mean absolute error in dex: of the model, and of the constant that is best for these."""
    rows = images.split(part)
    rows = rows[images.table["cls"].iloc[rows] == "SOLARLIKE"]
    truth = np.log10(numax[rows])
    ours = np.abs(np.log10(predicted.loc[rows, "numax"]) - truth).mean()
    return ours, np.abs(truth - np.median(truth)).mean()


@pytest.fixture(scope="module")
def taught():
    images, numax = toy()
    encoder = make(images)
    history = train(encoder, images, steps=120, batch_size=32, lr=5e-3, **QUIET)
    return images, numax, encoder, history


# --- parts ----------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bits_are_numpys(seed):
    packed = np.random.default_rng(seed).integers(0, 256, (3, SIDE * SIDE // 8), dtype=np.uint8)
    bits = np.unpackbits(packed, axis=1).reshape(3, SIDE, SIDE)
    np.testing.assert_array_equal(unpack(torch.from_numpy(packed)), 2.0 * bits - 1)


def test_images_are_moved_whole():
    images, _ = toy(150)  # enough to draw each of the moves
    x, generator = unpack(torch.from_numpy(images.packed)), torch.Generator().manual_seed(0)
    after, right = moved(x, (3, 5), generator)
    downwards = set()
    for one, other, by in zip(x.numpy(), after.numpy(), right.tolist(), strict=True):
        grown = np.pad(one, ((3, 3), (5, 5)), mode="edge")[:, 5 - by : 5 - by + SIDE]
        fits = [d for d in range(-3, 4) if np.array_equal(grown[3 - d : 3 - d + SIDE], other)]
        assert len(fits) == 1
        downwards |= set(fits)
    assert downwards == set(range(-3, 4))
    assert set(right.tolist()) == set(range(-5, 6))
    assert torch.equal(moved(x, (0, 0), generator)[0], x)


def test_a_hump_moved_right_has_a_higher_numax():
    """The label follows the image: columns of one step in the logarithm of frequency."""
    images, numax = toy(30)
    rows = np.flatnonzero((numax > 15) & (numax < 60) & (images.table["cls"] == "SOLARLIKE"))
    x = unpack(torch.from_numpy(images.packed[rows]))
    after, right = moved(x, (0, 10), torch.Generator().manual_seed(0))

    def found(x):  # the hump's centre, by the ink of the columns around its top
        weight = ((x.numpy() + 1) / 2).sum(axis=1)
        weight = np.maximum(weight - 45, 0)
        return (weight * (np.arange(SIDE) + 0.5)).sum(axis=1) / weight.sum(axis=1)

    step = np.log(FREQUENCY[1] / FREQUENCY[0])
    np.testing.assert_allclose(found(x), np.log(numax[rows] / FREQUENCY[0]) / step, atol=1.0)
    np.testing.assert_allclose(found(after) - found(x), right, atol=1e-3)


def test_weights_make_classes_count_alike():
    images, _ = toy()
    cls = images.table["cls"].to_numpy()[images.split("train")]
    present = np.unique(cls)
    each = compute_class_weight("balanced", classes=present, y=cls)
    expected = dict(zip(present, each, strict=True))
    weights = dict(zip(CLASSES, class_weights(images).tolist(), strict=True))
    assert weights == pytest.approx({name: expected.get(name, 0.0) for name in CLASSES})


def test_shapes_and_one_image_at_a_time():
    images, _ = toy(30)
    encoder = make(images).eval()
    x = unpack(torch.from_numpy(images.packed))
    with torch.no_grad():
        quantiles, scores = encoder(x)
        alone = encoder(x[4:5])
    assert quantiles.shape == (30, 1, len(QUANTILES)) and scores.shape == (30, len(CLASSES))
    torch.testing.assert_close(alone[0], quantiles[4:5], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone[1], scores[4:5], atol=1e-5, rtol=1e-5)
    embedded = encoder.embed(images, np.array([3, 1]))
    assert embedded.shape == (2, TINY["features"])


# --- training -------------------------------------------------------------------------------


@pytest.mark.parametrize("balanced", [True, False])
def test_loss_by_hand(balanced):
    """One batch of all training stars, at a learning rate of 0: the loss that is recorded."""
    images, _ = toy(60)
    encoder, rows = make(images), images.split("train")
    stars = images.table.iloc[rows]
    with torch.no_grad():
        quantiles, scores = encoder(unpack(torch.from_numpy(images.packed[rows])))
    truth = torch.from_numpy(encoder.scale.standardise(stars[["numax"]].to_numpy())).float()
    cls = torch.tensor([CLASSES.index(name) for name in stars["cls"]])
    known = truth.isfinite()[:, 0]
    assert 0 < known.sum() < len(rows)
    miss = pinball(truth[known], quantiles[known]).sum() / len(rows)
    each = F.cross_entropy(scores, cls, reduction="none")
    weight = class_weights(images)[cls] if balanced else torch.ones(len(rows))
    expected = 0.3 * miss + 0.7 * (weight * each).mean()
    still = {"shift": (0, 0), "lr": 0.0, "weight_decay": 0.0, "batch_size": len(rows), "steps": 1}
    history = train(encoder, images, share=0.3, balanced=balanced, **still, **QUIET)
    assert history.rows[-1]["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_unknown_numax_teaches_nothing():
    """At λ = 1 images of stars without ν_max may be anything: the weights come out the same."""
    images, _ = toy(80)
    changed = PowerSpectrumImages(images.table, images.packed.copy())
    unknown = images.table["numax"].isna().to_numpy()
    changed.packed[unknown] = 255 - changed.packed[unknown]
    encoders = [make(images), make(images)]
    for encoder, sample in zip(encoders, (images, changed), strict=True):
        train(encoder, sample, share=1.0, steps=6, batch_size=16, **QUIET)
    for one, other in zip(*(e.parameters() for e in encoders), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_test_stars_do_not_teach():
    images, _ = toy(80)
    changed = PowerSpectrumImages(images.table, images.packed.copy())
    changed.packed[images.split("test")] = 0
    encoders = [make(images), make(images)]
    for encoder, sample in zip(encoders, (images, changed), strict=True):
        train(encoder, sample, steps=6, batch_size=16, **QUIET)
    assert all(map(torch.equal, *(list(e.parameters()) for e in encoders)))


def test_the_hump_is_found(taught):
    images, numax, encoder, history = taught
    rows = images.split("test")
    predicted = encoder.predict(images, rows)
    ours, constant = error(images, numax, predicted)
    assert ours < 0.5 * constant
    assert (predicted["cls"] == images.table["cls"].iloc[rows]).mean() > 0.9
    assert history.best < history.rows[0]["loss"]


def test_the_table(taught):
    images, _, encoder, _ = taught
    rows = images.split("val")
    before = encoder.predict(images, rows)
    assert before.index.tolist() == rows.tolist()
    np.testing.assert_allclose(before.filter(like="p_").sum(axis=1), 1, rtol=1e-5)
    likeliest = before.filter(like="p_").idxmax(axis=1).str[2:]
    assert (before["cls"] == likeliest).all()
    table = confusion_matrix(images.table["cls"].iloc[rows], before["cls"], labels=CLASSES)
    assert table.sum() == len(rows)
    counts = images.table["cls"].iloc[rows].value_counts().reindex(CLASSES, fill_value=0)
    assert table.sum(axis=1).tolist() == counts.tolist()

    encoder.calibrate(images, rows)
    after = encoder.predict(images, rows)
    names = ["numax_lo80", "numax_lo50", "numax", "numax_hi50", "numax_hi80"]
    assert (np.diff(after[names].to_numpy(), axis=1) >= 0).all()
    np.testing.assert_allclose(after["numax"], before["numax"])
    stars = images.table.iloc[rows]
    known = stars["numax"].notna().to_numpy()
    inside = stars["numax"].between(after["numax_lo80"], after["numax_hi80"])[known].mean()
    assert inside >= 0.8  # on the stars of the calibration itself by construction
    encoder.margins[:] = 0


# --- linear rivals --------------------------------------------------------------------------


@pytest.mark.parametrize("outlines", [True, False])
def test_linear_models(outlines):
    images, numax = toy()
    linear = LinearPowerSpectra(images, outlines=outlines, components=(10, 30))
    predicted = linear.predict(images, rows := images.split("test"))
    ours, constant = error(images, numax, predicted)
    assert ours < 0.5 * constant
    assert (predicted["cls"] == images.table["cls"].iloc[rows]).mean() > 0.9
    np.testing.assert_allclose(predicted.filter(like="p_").sum(axis=1), 1)
    best = linear.trials.loc[linear.trials.groupby("label")["error"].idxmin()].set_index("label")
    assert linear.ridge[0] == best.loc["numax", "components"]
    assert linear.ridge[1].alpha == best.loc["numax", "penalty"]
    assert linear.logistic[1].C == best.loc["cls", "penalty"]


def test_the_rule_finds_the_hump():
    images, numax = toy()
    inside = (numax > 8) & (numax < 120) & (images.table["cls"] == "SOLARLIKE")
    rows = np.flatnonzero(inside)
    assert np.abs(np.log10(hump(images, rows) / numax[rows])).max() < 0.05


def test_linear_models_know_nothing_of_test_stars():
    images, _ = toy(120)
    changed = PowerSpectrumImages(images.table.copy(), images.packed.copy())
    test = images.split("test")
    changed.packed[test], changed.table.loc[test, "numax"] = 0, 1000.0
    rows = images.split("val")
    one, other = (
        LinearPowerSpectra(each, components=(5,)).predict(each, rows) for each in (images, changed)
    )
    pd.testing.assert_frame_equal(one, other)
