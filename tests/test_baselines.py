import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from stellarbook.learn import baselines
from stellarbook.learn.baselines import ridge, xgboost_tuned
from stellarbook.learn.checkpoint import CheckpointError, save_weights
from stellarbook.learn.metrics import scatter
from stellarbook.learn.scales import Features, Labels
from stellarbook.learn.specialist import MLPEnsemble, mlp


def stars(n=600, seed=0, holes=0.0):
    """Two labels that depend on three of four features; the first spans decades."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)) * [1e-5, 1, 100, 1] + [0, 5, 0, 0]
    hidden = (x - [0, 5, 0, 0]) / [1e-5, 1, 100, 1]
    y = np.stack([10 ** (3.7 + 0.1 * hidden[:, 0] + 0.05 * hidden[:, 1]), hidden[:, 2]], axis=1)
    x[rng.random(x.shape) < holes] = np.nan
    return x, y


def parts(**options):
    x, y = stars(**options)
    return x[:400], y[:400], x[400:500], y[400:500], x[500:], y[500:]


quick = {"steps": 200, "batch_size": 64, "hidden": (32,), "dropout": 0.0}
quick |= {"device": "cpu", "progress": False, "log": [0]}


# Scales


def test_features_by_hand():
    features = Features.of([[1.0, 7], [2, 7], [3, np.nan], [4, 7], [5, 7]])
    assert features.centre == [3, 7] and features.flagged == [1]
    assert features.scale == pytest.approx([1.4826, 1], abs=1e-4)
    z = features([[3 + 1.482602, 7], [np.nan, np.nan], [np.inf, 7]])
    np.testing.assert_allclose(z, [[np.arcsinh(1), 0, 0], [0, 0, 1], [0, 0, 0]], atol=1e-6)
    assert z.dtype == np.float32


def test_a_feature_that_is_mostly_one_value_and_an_empty_one():
    x = np.stack([[0.0] * 9 + [1], [np.nan] * 10], axis=1)
    features = Features.of(x)
    assert features.scale == pytest.approx([np.std(x[:, 0]), 1])
    assert np.isfinite(features(x)).all()


def test_features_of_another_width_are_refused():
    with pytest.raises(ValueError, match="x has 3 features, the model has 4"):
        Features.of(stars()[0])(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="expected"):
        Features.of(np.zeros(5))


@given(st.integers(0, 1000), st.floats(1e-8, 1e8), st.floats(-1e3, 1e3))
def test_features_do_not_know_units(seed, factor, offset):
    x = np.random.default_rng(seed).normal(size=(50, 2))
    ours = Features.of(x)(x)
    np.testing.assert_allclose(
        Features.of(factor * (x + offset))(factor * (x + offset)), ours, atol=1e-4
    )


@given(st.integers(0, 1000), st.booleans())
def test_labels_come_back(seed, log):
    y = 10 ** np.random.default_rng(seed).normal(size=(40, 3))
    y[::7, 1] = np.nan
    labels = Labels.of(y, log=[0, 1] if log else ())
    z = labels.standardise(y)
    np.testing.assert_allclose(np.nanmean(z, 0), 0, atol=1e-9)
    np.testing.assert_allclose(np.nanstd(z, 0), 1, rtol=1e-9)
    np.testing.assert_allclose(labels.restore(z), y, rtol=1e-9)


# Ridge


def test_ridge_finds_a_linear_relation_and_picks_its_penalty():
    x, y, xv, yv, xt, yt = parts()
    model = ridge(x, y, xv, yv, log=[0])
    assert model.predict(xt).shape == yt.shape
    assert scatter(np.log10(model.predict(xt)[:, 0] / yt[:, 0])) < 0.03  # asinh is not linear
    assert model.trials.groupby("label")["mae"].idxmin().map(model.trials["alpha"]).max() < 100
    z = Labels.of(y, [0]).standardise(y)
    other = Ridge(alpha=model.models[1].alpha).fit(Features.of(x)(x).astype(float), z[:, 1])
    np.testing.assert_allclose(model.models[1].coef_, other.coef_)


def test_ridge_on_noise_shrinks_to_the_mean():
    x, y, xv, yv, *_ = parts()
    y, yv = (np.random.default_rng(1).normal(size=v.shape) for v in (y, yv))
    assert np.ptp(ridge(x, y, xv, yv).predict(xv), axis=0).max() < 0.5


def test_missing_labels_are_dropped_label_by_label():
    x, y, xv, yv, xt, _ = parts()
    y[::2, 1] = np.nan
    yv[::3, 1] = np.nan
    whole = ridge(x, y[:, :1], xv, yv[:, :1]).predict(xt)
    np.testing.assert_allclose(ridge(x, y, xv, yv).predict(xt)[:, 0], whole[:, 0])
    y[:, 1] = np.nan
    with pytest.raises(ValueError, match="no value in any training star"):
        ridge(x, y, xv, yv)


# XGBoost


def trees(*data, **options):
    options = {"trials": 3, "rounds": 100, "progress": False, "log": [0], **options}
    return xgboost_tuned(*data, **options)


def test_trees_learn_and_are_repeatable():
    x, y, xv, yv, xt, yt = parts(holes=0.02)
    y[::5, 1] = np.nan
    model = trees(x, y, xv, yv)
    known = np.isfinite(xt).all(1)
    assert scatter((model.predict(xt) - yt)[known, 1]) < 0.3 * scatter(yt[:, 1])
    assert model.trials.groupby("label").size().tolist() == [3, 3]
    assert (model.trials["max_depth"].between(3, 9)).all()
    np.testing.assert_array_equal(trees(x, y, xv, yv).predict(xt), model.predict(xt))
    assert (trees(x, y, xv, yv, seed=1).predict(xt) != model.predict(xt)).any()


def test_trees_go_on_from_their_checkpoint(tmp_path, monkeypatch):
    x, y, xv, yv, xt, _ = parts(holes=0.02)
    path = tmp_path / "trees.pt"
    model = trees(x, y, xv, yv, checkpoint=path)
    state = torch.load(path, weights_only=True)
    state["state"]["fitted"] = state["state"]["fitted"][:1]  # as if killed after the first label
    torch.save(state, path)
    grown = []
    real = baselines._trees
    monkeypatch.setattr(baselines, "_trees", lambda *a, **k: grown.append(1) or real(*a, **k))
    for fits in (4, 0):  # three trials and a fit of the second label, then nothing
        grown.clear()
        saved = trees(x, y, xv, yv, checkpoint=path)
        assert len(grown) == fits
        np.testing.assert_array_equal(saved.predict(xt), model.predict(xt))
        pd.testing.assert_frame_equal(saved.trials, model.trials)
        assert saved.settings == model.settings
    with pytest.raises(CheckpointError, match="rounds: 100 there, 50 here"):
        trees(x, y, xv, yv, rounds=50, checkpoint=path)
    with pytest.raises(CheckpointError, match="data: "):
        trees(x[1:], y[1:], xv, yv, checkpoint=path)


# The specialist


def test_the_specialist_learns_with_missing_features_and_labels():
    x, y, xv, yv, xt, yt = parts(holes=0.02)
    y[::3, 1] = np.nan
    model = mlp(x, y, xv, yv, seeds=(0, 1), **quick)
    known = np.isfinite(xt).all(1)
    error = (model.predict(xt) - yt)[known]
    assert scatter(error[:, 1]) < 0.15
    assert scatter(error[:, 0] / yt[known, 0]) < 0.05
    assert model.each(xt).shape == (2, 100, 2)
    np.testing.assert_allclose(model.predict(xt), model.each(xt).mean(0))
    assert [h.best_step is not None for h in model.histories] == [True, True]


def test_a_missing_label_teaches_nothing():
    x, y, xv, yv, xt, _ = parts()
    y[:200] = np.nan  # these stars have no label at all: their features cannot matter
    one = mlp(x, y, xv, yv, seeds=(0,), **quick)
    x[:200] = x[:200][::-1]  # the same set of values: the scales stay
    other = mlp(x, y, xv, yv, seeds=(0,), **quick)
    np.testing.assert_array_equal(one.predict(xt), other.predict(xt))


def test_the_specialist_is_repeatable_and_goes_on_from_its_checkpoint(tmp_path):
    data = parts()
    one = mlp(*data[:4], seeds=(0,), checkpoints=tmp_path, **quick)
    again = mlp(*data[:4], seeds=(0,), **quick)
    np.testing.assert_array_equal(one.predict(data[4]), again.predict(data[4]))
    saved = mlp(*data[:4], seeds=(0,), checkpoints=tmp_path, **quick)
    np.testing.assert_array_equal(one.predict(data[4]), saved.predict(data[4]))
    changed = data[0].copy()
    changed[0, 0] *= 2
    with pytest.raises(CheckpointError, match="data: "):
        mlp(changed, *data[1:4], seeds=(0,), checkpoints=tmp_path, **quick)


@pytest.mark.parametrize(("half", "tolerance"), [(True, 5e-3), (False, 1e-6)])
def test_save_and_load(half, tolerance, tmp_path):
    x, y, xv, yv, xt, yt = parts()
    model = mlp(x, y, xv, yv, seeds=(0, 1), **quick)
    path = tmp_path / "mlp.safetensors"
    model.save(path, {"steps": 200}, half=half)
    loaded = MLPEnsemble.load(path)
    np.testing.assert_allclose(
        loaded.predict(xt) / yt.std(0), model.predict(xt) / yt.std(0), atol=tolerance
    )


def test_other_weights_are_refused(tmp_path):
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="does not hold an MLPEnsemble"):
        MLPEnsemble.load(tmp_path / "other.safetensors")


def test_nothing_known_gives_nothing_predicted():
    x, y, xv, yv, xt, _ = parts()
    xt = xt[:3].copy()
    xt[1] = np.nan
    for model in (ridge(x, y, xv, yv), trees(x, y, xv, yv), mlp(x, y, xv, yv, seeds=(0,), **quick)):
        assert np.isnan(model.predict(xt)).all(1).tolist() == [False, True, False]
