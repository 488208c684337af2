"""Features and labels on scales that a network likes, measured on training stars only."""

import warnings
from dataclasses import dataclass

import numpy as np

from stellarbook.learn.metrics import mad_std


@dataclass
class Features:
    """Features on one scale: asinh((x − median) / MAD-std), missing ones 0 and flagged.

    asinh is linear near 0 and logarithmic far out, so that the long tails of coefficients and
    colours do not rule a network. Columns that ever miss in training get an indicator column.

    Attributes
    ----------
    centre, scale : list of float
        One a feature, from the training stars.
    flagged : list of int
        Features with an indicator.

    Notes
    -----
    Shown in chapter 01.
    """

    centre: list
    scale: list
    flagged: list

    @classmethod
    def of(cls, x):
        """Measure the scales on training stars, x (stars, features)."""
        x = finite(x)
        known = np.isfinite(x)
        centre = np.where(known.any(0), _quiet(np.nanmedian, x), 0.0)
        # A feature that is mostly one value has no MAD: then its standard deviation, else 1.
        scale, deviation = mad_std(x, axis=0), _quiet(np.nanstd, x)
        scale = np.where(scale > 0, scale, np.where(deviation > 0, deviation, 1.0))
        return cls(centre.tolist(), scale.tolist(), np.flatnonzero(~known.all(0)).tolist())

    def __call__(self, x):
        """Return (stars, features + flagged) float32; raises ValueError for a wrong width."""
        x = finite(x)
        if x.shape[1] != len(self.centre):
            raise ValueError(f"x has {x.shape[1]} features, the model has {len(self.centre)}")
        z = np.arcsinh((x - self.centre) / self.scale)
        return np.hstack([np.nan_to_num(z), np.isnan(x[:, self.flagged])]).astype(np.float32)


@dataclass
class Labels:
    """Labels on one scale: (y − mean) / standard deviation, of log10 y where asked.

    Attributes
    ----------
    centre, scale : list of float
        One a label, from the training stars.
    log : list of int
        Labels modelled as log10. Teff gains most: on the validation stars of chapter 01 it takes
        ridge from 531 to 300 K and does nothing to speak of for a network.
    """

    centre: list
    scale: list
    log: list

    @classmethod
    def of(cls, y, log=()):
        """Measure the scales on training stars, y (stars, labels)."""
        y = cls([0.0] * y.shape[1], [1.0] * y.shape[1], list(log)).standardise(y)
        if not np.isfinite(y).any(0).all():
            raise ValueError("a label has no value in any training star")
        deviation = np.nanstd(y, axis=0)
        scale = np.where(deviation > 0, deviation, 1.0)
        return cls(np.nanmean(y, axis=0).tolist(), scale.tolist(), list(log))

    def standardise(self, y):
        """(stars, labels) in their units -> standardised; NaN stays NaN."""
        y = finite(y)
        y[:, self.log] = np.log10(y[:, self.log])
        return (y - self.centre) / self.scale

    def restore(self, z):
        """Undo `standardise`; z is (..., stars, labels)."""
        y = np.asarray(z, dtype=float) * self.scale + self.centre
        y[..., self.log] = 10 ** y[..., self.log]
        return y


def finite(x):
    """Check (stars, columns); infinities become NaN: missing. Always a copy."""
    x = np.asarray(x, dtype=float)
    if x.ndim != 2:
        raise ValueError(f"expected (stars, columns), got shape {x.shape}")
    return np.where(np.isfinite(x), x, np.nan)


def blank_unknown(x, prediction):
    """Predict NaN, not the average star, where nothing is known: x (stars, features)."""
    prediction[..., ~np.isfinite(np.asarray(x, dtype=float)).any(1), :] = np.nan
    return prediction


def _quiet(statistic, x):
    with warnings.catch_warnings():  # a column that is all NaN is dealt with above
        warnings.simplefilter("ignore", RuntimeWarning)
        return statistic(x, axis=0)
