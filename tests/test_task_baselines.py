"""Baselines of DESA's tasks: an inverse that inverts, an error that says so, trees that learn."""

import numpy as np
import pytest

from stellarbook.data.kepler_field import gyrochronology, rotation
from stellarbook.desa import task_baselines


def test_rotation_ages_invert_the_law_while_stars_brake():
    rng = np.random.default_rng(0)
    teff, age = rng.uniform(3900, 6100, 500), rng.uniform(1.2, 9, 500)
    prot = rotation.braked(teff, age)
    slope = rotation.braked(teff, age + 0.05) - prot
    clear = slope > 0.05  # a day a Gyr: elsewhere a period does not tell an age
    assert clear.mean() > 0.5
    found = task_baselines.rotation_age(teff, prot)
    np.testing.assert_allclose(found[clear], age[clear], rtol=0.02)


def test_rotation_ages_beyond_what_is_known():
    teff = [5500, 5500, 7000, np.nan, 5000]
    assert np.isnan(task_baselines.rotation_age(teff, [0.1, 500, 10, 10, np.nan])).all()
    assert task_baselines.rotation_age([5500.0], [10.0])[0] > 0.3


def test_stated_errors_are_the_scatter_of_inverted_periods():
    rng = np.random.default_rng(1)
    n, teff, age = 20_000, np.array([4800.0]), np.array([2.0])
    period = rotation.braked(teff, age)
    noise = np.hypot(gyrochronology.width(age), rotation.SCATTER * period) / 10  # linear
    noisy = period + noise * rng.standard_normal(n)
    found = task_baselines.rotation_age(np.repeat(teff, n), noisy)
    stated = task_baselines.rotation_age_error(np.append(teff, 7000), np.repeat(age, 2))
    assert stated[0] / 10 == pytest.approx(found.std(), rel=0.15)
    assert np.isnan(stated[1])
    # Where braking has stopped, a period says nothing.
    assert task_baselines.rotation_age_error(np.array([5800.0]), np.array([9.0])) == [9.0]


def test_trees_learn_what_two_columns_say_and_know_missing_values():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1500, 3))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    x[rng.random(x.shape) < 0.05] = np.nan
    train, val, test = slice(0, 900), slice(900, 1200), slice(1200, None)
    options = {"trials": 3, "rounds": 80}
    model = task_baselines.classifier(x[train], y[train], x[val], y[val], **options)
    assert (model.predict(x[test]) == y[test]).mean() > 0.85
    again = task_baselines.classifier(x[train], y[train], x[val], y[val], **options)
    np.testing.assert_array_equal(model.predict_proba(x), again.predict_proba(x))
