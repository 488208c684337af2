"""How far predictions are from the truth, and how sure we are of that number.

Everything here is robust (medians) unless its name says otherwise, and leaves NaN out: a star
without a label says nothing about a model. Shown in chapter 01.
"""

import warnings

import numpy as np
import pandas as pd
from scipy.stats import norm

# The MAD of a unit Gaussian is 0.6745; dividing by it makes MADs read like standard deviations.
MAD_TO_STD = 1 / norm.ppf(0.75)  # 1.4826


def mad_std(values, axis=None):
    """Standard deviation of the Gaussian that has this median absolute deviation.

    Parameters
    ----------
    values : array, any shape
        NaN entries are left out.
    axis : int or None
        Axis to reduce; all of them by default.

    Returns
    -------
    float or array
        1.4826 × median |values − median(values)|; NaN where nothing is left.

    Notes
    -----
    Agrees with `astropy.stats.mad_std`. Shown in chapter 01.
    """
    values = np.asarray(values, dtype=float)
    centre = _median(values, axis, keepdims=True)
    return MAD_TO_STD * _median(np.abs(values - centre), axis)


def scatter(residual, axis=None):
    """Robust scatter of residuals about their median: the book's headline number.

    It is `mad_std` by another name: a constant offset does not enter, see `bias` for that.
    Shown in chapter 01.
    """
    return mad_std(residual, axis)


def bias(residual, axis=None):
    """Median residual (prediction − truth), NaN left out. Shown in chapter 01."""
    return _median(np.asarray(residual, dtype=float), axis)


def mae(residual, axis=None):
    """Mean absolute residual, NaN left out. Shown in chapter 01."""
    return _mean(np.abs(np.asarray(residual, dtype=float)), axis)


def rmse(residual, axis=None):
    """Root mean square residual, NaN left out: outliers rule it. Shown in chapter 01."""
    return np.sqrt(_mean(np.square(np.asarray(residual, dtype=float)), axis))


def standard_error(statistic, values, *, draws=200, seed=0):
    """Bootstrap standard error of a statistic over stars.

    Parameters
    ----------
    statistic : callable
        Takes an array and `axis`, as everything in this module does.
    values : array (stars,)
        One number a star; NaN entries are left out.
    draws : int
        Resamples, each as large as the sample. 200 give the error to about 5 %.
    seed : int
        Seed of the resampling.

    Returns
    -------
    float
        Standard deviation of the statistic over the resamples; NaN with fewer than two stars.

    Notes
    -----
    Efron (1979), Annals of Statistics 7, 1. Stars must be independent: give repeated observations
    of one star as one value. Shown in chapter 01.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return np.nan
    pick = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    return float(np.std(statistic(values[pick], axis=1), ddof=1))  # (draws, stars) -> (draws,)


def compare(truth, prediction, columns, *, draws=200, seed=0):
    """Table of residual statistics, one row a label.

    Parameters
    ----------
    truth, prediction : array (stars, labels)
        In physical units; a star that is NaN in either is left out of that label and counted.
    columns : sequence of str
        Names of the labels.
    draws : int
        Bootstrap resamples for `scatter_error` and `bias_error`; 0 leaves those columns out.
    seed : int
        Seed of the resampling.

    Returns
    -------
    pandas.DataFrame
        Index `columns`; bias, scatter, mae, rmse (label's units), their bootstrap errors,
        n (stars used) and missing (stars left out).

    Raises
    ------
    ValueError
        If the shapes differ, or do not match `columns`.

    Notes
    -----
    Residual means prediction − truth. Shown in chapter 01.
    """
    truth, prediction = np.asarray(truth, dtype=float), np.asarray(prediction, dtype=float)
    if truth.shape != prediction.shape or truth.ndim != 2 or truth.shape[1] != len(columns):
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape} must both be "
            f"(stars, {len(columns)}) for the labels {list(columns)}"
        )
    residual = prediction - truth  # (stars, labels)
    finite = np.isfinite(residual)
    residual = np.where(finite, residual, np.nan)
    table = {f.__name__: f(residual, axis=0) for f in (bias, scatter, mae, rmse)}
    for f in (bias, scatter) if draws else ():
        table[f"{f.__name__}_error"] = [
            standard_error(f, column, draws=draws, seed=seed) for column in residual.T
        ]
    table["n"] = finite.sum(0)
    table["missing"] = (~finite).sum(0)
    return pd.DataFrame(table, index=pd.Index(columns, name="label"))


def _median(values, axis, keepdims=False):
    # numpy's nanmedian is ten times slower and warns about empty slices: use it only for NaN.
    if values.size and not np.isnan(values).any():
        return np.median(values, axis=axis, keepdims=keepdims)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(values, axis=axis, keepdims=keepdims)


def _mean(values, axis):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=axis)
