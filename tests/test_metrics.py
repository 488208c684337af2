import numpy as np
import pytest
import scipy.stats
from astropy.stats import mad_std as astropy_mad_std
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stellarbook.learn.metrics import bias, compare, mad_std, mae, rmse, scatter, standard_error

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
tables = arrays(
    float, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=numbers
)
rows = arrays(float, st.integers(2, 30), elements=numbers)


def test_by_hand():
    residual = np.array([-1.0, 0.0, 0.0, 1.0, 100.0])
    assert bias(residual) == 0
    assert scatter(residual) == pytest.approx(1.4826, abs=1e-4)  # deviations 0 0 1 1 100
    assert mae(residual) == pytest.approx(20.4)
    assert rmse(residual) == pytest.approx(np.sqrt(10002 / 5))


@given(tables, st.sampled_from([None, 0, 1]))
def test_mad_std_agrees_with_astropy_and_scipy(x, axis):
    np.testing.assert_allclose(mad_std(x, axis), astropy_mad_std(x, axis=axis), rtol=1e-9)
    other = scipy.stats.median_abs_deviation(x, axis=axis, scale="normal")
    np.testing.assert_allclose(mad_std(x, axis), other, rtol=1e-9)


@given(tables, st.integers(0, 2**32 - 1))
def test_nan_is_as_if_the_star_were_not_there(x, seed):
    gone = np.random.default_rng(seed).random(len(x)) < 0.4
    holed = np.where(gone[:, None], np.nan, x)
    for statistic in (bias, scatter, mae, rmse):
        left = statistic(holed, axis=0)
        if gone.all():
            assert np.isnan(left).all()
        else:
            np.testing.assert_allclose(left, statistic(x[~gone], axis=0), rtol=1e-9)


@given(rows, st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_offset_and_scale(x, offset, factor):
    size = 1 + np.abs(x).max() * factor + abs(offset)
    assert scatter(factor * x + offset) == pytest.approx(factor * scatter(x), abs=1e-9 * size)
    assert bias(factor * x + offset) == pytest.approx(factor * bias(x) + offset, abs=1e-9 * size)


@given(rows)
def test_ordering(x):
    assert mae(x) <= rmse(x) * (1 + 1e-12) + 1e-100  # tiny squares underflow
    assert scatter(x) >= 0
    assert scatter(-x) == scatter(x)


def test_gaussian_scatter_is_its_standard_deviation():
    x = np.random.default_rng(1).normal(5, 2, 200_000)
    assert scatter(x) == pytest.approx(2, rel=0.01)


def test_standard_error_of_a_mean_is_known():
    x = np.random.default_rng(2).normal(0, 3, 400)
    error = standard_error(lambda v, axis: v.mean(axis), x, draws=2000)
    assert error == pytest.approx(x.std() / 20, rel=0.06)


def test_standard_error_agrees_with_scipy():
    x = np.random.default_rng(3).normal(size=300)
    other = scipy.stats.bootstrap((x,), scatter, n_resamples=2000, method="basic", rng=4)
    assert standard_error(scatter, x, draws=2000) == pytest.approx(other.standard_error, rel=0.08)


def test_standard_error_is_repeatable_leaves_nan_out_and_needs_two_stars():
    x = np.array([1.0, np.nan, 4.0, 2.0])
    assert standard_error(bias, x) == standard_error(bias, x[[0, 2, 3]])
    assert np.isnan(standard_error(bias, x[:2]))


def test_compare():
    rng = np.random.default_rng(5)
    truth = rng.normal(size=(500, 2))
    prediction = truth + [0.3, 0] + rng.normal(size=(500, 2)) * [0.1, 1]
    truth[:20, 1] = np.nan
    prediction[10:30, 1] = np.inf
    table = compare(truth, prediction, ["logg", "feh"])
    assert table.loc["logg", "bias"] == pytest.approx(0.3, abs=0.02)
    assert table.loc["logg", "scatter"] == pytest.approx(0.1, rel=0.2)
    assert table.loc["feh", "rmse"] == pytest.approx(1, rel=0.1)
    assert table["n"].tolist() == [500, 470]
    assert table["missing"].tolist() == [0, 30]
    assert 0.002 < table.loc["logg", "scatter_error"] < 0.01
    assert "scatter_error" not in compare(truth, prediction, ["logg", "feh"], draws=0)


def test_compare_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(stars, 2\)"):
        compare(np.zeros((3, 2)), np.zeros((3, 1)), ["a", "b"])


def test_nothing_left_is_nan_without_a_warning(recwarn):
    table = compare(np.full((3, 1), np.nan), np.zeros((3, 1)), ["teff"])
    assert np.isnan(table.loc["teff", "scatter"]) and table.loc["teff", "n"] == 0
    assert not recwarn.list
