"""What the light-curve encoder has to beat: peaks, boosted trees on classical features, a CNN.

All read the views that the encoder reads. Shown in chapter 03.
"""

import numpy as np
import pandas as pd
from torch import nn

from stellarbook.data.cadences import LONG_CADENCE
from stellarbook.desa import light_curve_views
from stellarbook.desa.answers import answers
from stellarbook.desa.light_curve_encoder import DECADES, LABELS
from stellarbook.learn import baselines
from stellarbook.learn.conformal import QUANTILES
from stellarbook.learn.periods import acf_period, lomb_scargle_period

PERCENTILES = (1, 5, 25, 75, 95, 99)
BANDS = 24  # of the spectrum
EVERY = 4  # cadences: the curve is smoothed, one in four says it all
METHODS = {"ACF peak": "acf", "ACF, first two peaks": "acf_two", "Lomb–Scargle": "lomb_scargle"}


class PlainCNN(nn.Module):
    """Three convolutions and two dense layers on the autocorrelation alone.

    In the manner of Blancato et al. (2022), ApJ 933, 241, who read the curve itself.

    Parameters
    ----------
    kind, length : str, int
        As `LightCurveEncoder`.
    filters : (int, int, int)
        Of the convolutions, each followed by a pooling of 4.
    dense : int
        Hidden units.
    scale : Labels
        As `LightCurveEncoder`.

    Notes
    -----
    Departure: it ends in quantiles, as the encoder does. Shown in chapter 03.
    """

    def __init__(
        self,
        *,
        kind="log",
        length=light_curve_views.LENGTH,
        filters=(16, 32, 64),
        dense=128,
        scale=DECADES,
    ):
        super().__init__()
        self.scale = scale
        layers, places = [], light_curve_views.width(length, kind)
        for a, b in zip((1, *filters), filters, strict=False):
            layers += [nn.Conv1d(a, b, 7, padding=3), nn.ReLU(), nn.MaxPool1d(4)]
            places //= 4
        self.net = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(filters[-1] * places, dense),
            nn.ReLU(),
            nn.Linear(dense, len(LABELS) * len(QUANTILES)),
        )

    def read(self, scores, level, transforms):
        """One view each of a `LightCurveSample` -> (B, 1, levels)."""
        return answers(self.net, transforms[:, :1], len(LABELS))


def features(sample, view=0) -> pd.DataFrame:
    """Classical features of one view of each star, (n rows).

    ``acf``, ``acf_two``, ``lomb_scargle``: log10 of the periods (days) where the autocorrelation
    peaks highest, where it does among its first two peaks, and of the best sinusoid;
    ``…_height``: of these peaks (`stellarbook.learn.periods`). ``deviation``: log10 of the flux's,
    by absolute magnitude. ``p1`` …: percentiles of the standard scores. ``band0`` …: the
    spectrum, averaged over equal parts of `transforms`. ``jump``: log10 of the mean square of the
    scores' differences from one cadence to the next. NaN: unknown.
    """
    scores = sample.scores[:, view].float()
    time = LONG_CADENCE * np.arange(0, scores.shape[1], EVERY)
    found = {
        "acf": acf_period(scores),
        "acf_two": acf_period(scores, peaks=2),
        "lomb_scargle": lomb_scargle_period(time, scores[:, ::EVERY].numpy(), samples=5),
    }
    columns = {}
    for name, (period, height) in found.items():
        columns |= {name: np.log10(period), f"{name}_height": height}
    with np.errstate(divide="ignore"):
        columns["deviation"] = np.log10(sample.level[:, view, 1].double().numpy())
        jump = scores.diff(dim=1).double().square().mean(dim=1).log10().numpy()
    columns["jump"] = np.where(np.isfinite(jump), jump, np.nan)
    percentiles = np.percentile(scores.numpy(), PERCENTILES, axis=1)
    columns |= {f"p{p}": row for p, row in zip(PERCENTILES, percentiles, strict=True)}
    bands = sample.transforms[:, view, 1].tensor_split(BANDS, dim=1)
    columns |= {f"band{i}": part.mean(dim=1).numpy() for i, part in enumerate(bands)}
    return pd.DataFrame(columns)


def classical(table) -> pd.DataFrame:
    """From `features`: log10 of the periods of the `METHODS`, a column each."""
    return table[list(METHODS.values())].set_axis(list(METHODS), axis=1)


def trees(train, train_labels, val, val_labels, **tuning):
    """Gradient-boosted trees on `features`, tuned: `stellarbook.learn.baselines.xgboost_tuned`.

    Parameters
    ----------
    train, val : DataFrame
        From `features`.
    train_labels, val_labels : (n, 1) float
        log10 of the period; NaN: unknown.
    **tuning
        ``trials``, ``seed``, ``checkpoint`` …

    Returns
    -------
    callable
        ``(features) -> (n, 1)`` log10 of the period.
    """
    made = baselines.xgboost_tuned(
        train.to_numpy(),
        np.asarray(train_labels, float),
        val.to_numpy(),
        np.asarray(val_labels, float),
        **tuning,
    )
    return lambda table: made.predict(table.to_numpy())
