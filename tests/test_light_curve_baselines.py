"""Classical features of curves whose period is known, and trees that learn from them."""

import numpy as np
import pytest
import torch
from test_light_curve_training import toy

from stellarbook.desa.light_curve_baselines import BANDS, METHODS, classical, features, trees


@pytest.fixture(scope="module")
def tables():
    samples = toy(200), toy(60, seed=1000)
    return samples, [features(sample) for sample in samples]


def test_the_methods_find_sinusoids(tables):
    samples, (table, _) = tables
    found = classical(table)
    assert list(found) == list(METHODS)
    truth = samples[0].labels[:, 0].numpy()
    searched = truth > np.log10(0.55)  # half a day is the shortest that is looked for
    for name in METHODS:
        error = np.abs(found[name] - truth)[searched]
        assert np.median(error) < 0.02 and np.mean(error < 0.05) > 0.8


def test_features_by_hand(tables):
    (sample, _), (table, _) = tables
    scores = sample.scores[:, 0].double().numpy()
    np.testing.assert_allclose(table["p95"], np.percentile(scores, 95, axis=1), atol=1e-3)
    np.testing.assert_allclose(table["deviation"], np.log10(sample.level[:, 0, 1]), atol=1e-6)
    jump = np.log10(np.square(np.diff(scores, axis=1)).mean(axis=1))
    np.testing.assert_allclose(table["jump"], jump, atol=1e-3)
    assert table[f"band{BANDS - 1}"].notna().all() and f"band{BANDS}" not in table
    other = features(sample, view=1)
    assert not np.allclose(other["p95"], table["p95"])
    assert np.abs(other["lomb_scargle"] - table["lomb_scargle"]).median() < 0.01


def test_unknown_magnitude_is_nan(tables):
    sample = tables[0][0][:3]
    sample.level = torch.full_like(sample.level, torch.nan)
    table = features(sample)
    assert table["deviation"].isna().all() and table.drop(columns="deviation").notna().all(
        axis=None
    )


def test_trees_beat_a_constant(tables):
    (train, val), (x, xv) = tables
    train.labels[:5] = torch.nan  # unknown ones do not count
    predict = trees(x, train.labels, xv, val.labels, trials=2, rounds=100, progress=False)
    error = np.abs(predict(xv) - val.labels.numpy())
    assert error.shape == (60, 1)
    assert np.median(error) < 0.2 * np.median(np.abs(val.labels - np.nanmedian(train.labels)))
