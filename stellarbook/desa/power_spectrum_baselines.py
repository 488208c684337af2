"""What the encoder of power spectra has to beat: linear models, and a rule for the eye's hump.

Shown in chapter 03.
"""

from itertools import product
from operator import itemgetter

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d

from stellarbook.data.survey_files.power_spectra import CLASSES, FREQUENCY, SIDE
from stellarbook.desa.power_spectrum_encoder import class_weights, scale_of
from stellarbook.learn.baselines import ALPHAS

INVERSE_PENALTIES = tuple(np.logspace(-3, 3, 7))


class LinearPowerSpectra:
    """Ridge for log ν_max, multinomial logistic regression for the class, on the same components.

    Number of components and both penalties are those that validate best.

    Parameters
    ----------
    images : PowerSpectrumImages
    outlines : bool
        Whether the components are of the outlines (`PowerSpectrumImages.outlines`) in place of the
        pixels: the same information, but of which log ν_max is more nearly a linear function.
    components : sequence of int
        Numbers of components to try; those that the stars cannot give are left out.
    balanced : bool
        Whether every class counts alike, as in `power_spectrum_encoder.train`.
    seed : int
        Of the randomised decomposition.

    Attributes
    ----------
    trials : pandas.DataFrame
        label, components, penalty (Ridge's alpha, or C), error on the validation stars: mean
        absolute error in dex, or mean cross-entropy.

    Notes
    -----
    Shown in chapter 03.
    """

    def __init__(
        self, images, *, outlines=False, components=(20, 50, 100, 200), balanced=True, seed=0
    ):
        from sklearn.decomposition import PCA
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.metrics import log_loss

        self.outlines = outlines
        train, val = images.split("train"), images.split("val")
        pixels = self._pixels(images, train)
        most = [c for c in components if c < min(pixels.shape)] or [min(pixels.shape) // 2]
        self.pca = PCA(max(most), random_state=seed, svd_solver="randomized").fit(pixels)
        # One number for all: penalties then mean the same whatever the pixels are.
        self.unit = np.sqrt(self.pca.explained_variance_[0])
        x, xv = self.pca.transform(pixels) / self.unit, self._components(images, val)

        self.scale = scale_of(images)
        z, zv = (
            self.scale.standardise(images.table[["numax"]].to_numpy()[rows])[:, 0]
            for rows in (train, val)
        )
        known, held = np.isfinite(z), np.isfinite(zv)
        tried = []
        for c, alpha in product(most, ALPHAS):
            model = Ridge(alpha=alpha).fit(x[known, :c], z[known])
            error = np.abs(model.predict(xv[held, :c]) - zv[held]).mean() * self.scale.scale[0]
            tried.append((error, "numax", c, alpha, model))
        cls, cls_val = (images.table["cls"].to_numpy()[rows] for rows in (train, val))
        weights = dict(zip(CLASSES, class_weights(images).tolist(), strict=True))
        weigh = np.vectorize(weights.get, otypes=[float]) if balanced else lambda c: np.ones(len(c))
        present = sorted(set(cls))
        judged = np.isin(cls_val, present)
        for c, penalty in product(most, INVERSE_PENALTIES):
            model = LogisticRegression(C=penalty, max_iter=1000)
            model.fit(x[:, :c], cls, sample_weight=weigh(cls))
            error = log_loss(
                cls_val[judged],
                model.predict_proba(xv[judged, :c]),
                labels=present,
                sample_weight=weigh(cls_val[judged]),
            )
            tried.append((error, "cls", c, penalty, model))
        best = {
            label: min((t for t in tried if t[1] == label), key=itemgetter(0))
            for label in ("numax", "cls")
        }
        self.ridge, self.logistic = (best[label][2::2] for label in ("numax", "cls"))
        rows = [t[:4] for t in tried]
        self.trials = pd.DataFrame(rows, columns=["error", "label", "components", "penalty"])

    def predict(self, images, rows):
        """Return ``numax`` (µHz), ``cls`` and ``p_<class>`` of stars, indexed by ``rows``."""
        x = self._components(images, rows)
        (c, ridge), (k, logistic) = self.ridge, self.logistic
        table = pd.DataFrame(
            {"numax": self.scale.restore(ridge.predict(x[:, :c])[:, None])[:, 0]}, index=rows
        )
        table["cls"] = logistic.predict(x[:, :k])
        scores = pd.DataFrame(logistic.predict_proba(x[:, :k]), rows, logistic.classes_)
        return table.join(scores.reindex(columns=CLASSES, fill_value=0.0).add_prefix("p_"))

    def _pixels(self, images, rows):
        values = images.outlines(rows) if self.outlines else images.pixels(rows)
        return values.reshape(len(rows), -1).astype(np.float32)

    def _components(self, images, rows):
        return self.pca.transform(self._pixels(images, rows)) / self.unit


def hump(images, rows, *, width=5.0, degree=3, margin=8):
    """Read ν_max off images without learning: where the upper outline stands highest.

    Highest above a polynomial in log frequency, which takes out granulation and noise, after
    smoothing. It cannot say that there is no hump.

    Parameters
    ----------
    images : PowerSpectrumImages
    rows : (m,) int
    width : float
        Standard deviation of the smoothing, columns.
    degree : int
        Of the polynomial.
    margin : int
        Columns at each end that are not looked at.

    Returns
    -------
    (m,) float64
        µHz.

    Notes
    -----
    Shown in chapter 03.
    """
    upper = images.outlines(rows)[:, 0]
    x = np.linspace(-1, 1, SIDE)
    smooth = np.polynomial.legendre.legfit(x, upper.T, degree)
    excess = upper - np.polynomial.legendre.legval(x, smooth)
    excess = gaussian_filter1d(excess, width, axis=1)[:, margin : SIDE - margin]
    middles = np.sqrt(FREQUENCY[:-1] * FREQUENCY[1:])
    return middles[margin + excess.argmax(axis=1)]
