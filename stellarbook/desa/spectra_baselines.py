"""What the spectra encoder has to beat: ridge on principal components, a plain CNN, a GRU.

The networks read the same prepared spectra, learn the same quantiles with the same loss and have
the encoder's call shape: ``.scale`` and ``.read(x)``. Shown in chapter 02.
"""

from itertools import product
from operator import itemgetter

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from stellarbook.desa import spectra_input
from stellarbook.desa.answers import answers
from stellarbook.desa.spectra_encoder import LABELS, SOLAR
from stellarbook.desa.spectra_training import quantiles
from stellarbook.learn import baselines
from stellarbook.learn.conformal import QUANTILES
from stellarbook.learn.scales import Labels


class PlainCNN(nn.Module):
    """Two convolutions, a pooling, two dense layers: StarNet (Fabbro et al. 2018, Fig. 2).

    Parameters
    ----------
    input : str
        As `SpectraEncoder`.
    filters : (int, int)
        Of the convolutions, 8 pixels wide.
    dense : (int, int)
        Hidden units of the dense layers.
    scale : Labels
        As `SpectraEncoder`.

    Notes
    -----
    Departure: it ends in quantiles, as the encoder does. Shown in chapter 02.
    """

    def __init__(self, *, input="normalise", filters=(4, 16), dense=(256, 128), scale=SOLAR):
        super().__init__()
        self.scale = scale
        pixels = (len(spectra_input.GRIDS[input]) - 14) // 4  # two kernels of 8, then the pooling
        self.net = nn.Sequential(
            nn.Conv1d(1, filters[0], 8),
            nn.ReLU(),
            nn.Conv1d(filters[0], filters[1], 8),
            nn.ReLU(),
            nn.MaxPool1d(4),
            nn.Flatten(),
            nn.Linear(filters[1] * pixels, dense[0]),
            nn.ReLU(),
            nn.Linear(dense[0], dense[1]),
            nn.ReLU(),
            nn.Linear(dense[1], len(LABELS) * len(QUANTILES)),
        )

    def read(self, x):
        """(B, N) prepared spectra -> (B, labels, levels) standardised quantiles."""
        return answers(self.net, x[:, None], len(LABELS))


class SpectraGRU(nn.Module):
    """A recurrent network in the manner of StarGRUNet (Li & Lin 2023).

    The spectrum is cut into pieces, each embedded; gated recurrent units read them both ways;
    attention decides which pieces count.

    Parameters
    ----------
    input : str
        As `SpectraEncoder`.
    piece : int
        Pixels in a piece.
    d : int
        Width of the embedding and of each direction.
    layers : int
        Of gated recurrent units.
    dropout : float
        Between these and in the head.
    scale : Labels
        As `SpectraEncoder`.

    Notes
    -----
    Shown in chapter 02.
    """

    def __init__(self, *, input="normalise", piece=32, d=64, layers=2, dropout=0.0, scale=SOLAR):
        super().__init__()
        self.scale, self.piece = scale, piece
        self.pad = -len(spectra_input.GRIDS[input]) % piece
        self.embedding = nn.Sequential(nn.Linear(piece, d), nn.SiLU())
        self.gru = nn.GRU(d, d, layers, batch_first=True, bidirectional=True, dropout=dropout)
        self.attention = nn.Linear(2 * d, 1)
        self.head = nn.Sequential(
            nn.Linear(2 * d, 2 * d),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * d, len(LABELS) * len(QUANTILES)),
        )

    def read(self, x):
        """(B, N) prepared spectra -> (B, labels, levels) standardised quantiles."""
        pieces = nn.functional.pad(x, (0, self.pad)).unflatten(1, (-1, self.piece))
        h, _ = self.gru(self.embedding(pieces))  # (B, pieces, 2d)
        weight = self.attention(h).softmax(dim=1)  # (B, pieces, 1)
        return answers(self.head, (weight * h).sum(dim=1), len(LABELS))


class RidgePCA:
    """Ridge regression on principal components, their number and the penalty tuned.

    Teff is learnt as log10. Stars whose label is unknown are left out of that label.

    Parameters
    ----------
    train, val : SpectraSample
        Both choose: the penalty and the number of components are those that validate best.
    components : sequence of int
        Numbers of components to try; those that the stars cannot give are left out.
    seed : int
        Of the randomised decomposition.

    Attributes
    ----------
    trials : pandas.DataFrame
        label, components, alpha, mae on the validation stars (standardised label).

    Raises
    ------
    ValueError
        If a spectrum has NaN, or a label has no value in any training star.

    Notes
    -----
    Shown in chapter 02.
    """

    def __init__(self, train, val, components=(20, 50, 100, 200), seed=0):
        from sklearn.decomposition import PCA
        from sklearn.linear_model import Ridge

        most = [c for c in components if c < len(train)] or [len(train) // 2]
        self.pca = PCA(max(most), random_state=seed, svd_solver="randomized")
        x = self.pca.fit_transform(train.x.float().numpy())
        xv = self.pca.transform(val.x.float().numpy())
        y = train.labels.numpy()
        self.scale = Labels.of(y, log=[0])
        z, zv = self.scale.standardise(y), self.scale.standardise(val.labels.numpy())
        tried, self.parts = [], []
        for i in range(z.shape[1]):
            known, held = np.isfinite(z[:, i]), np.isfinite(zv[:, i])
            fits = []
            for c, alpha in product(most, baselines.ALPHAS):
                ridge = Ridge(alpha=alpha).fit(x[known, :c], z[known, i])
                error = np.abs(ridge.predict(xv[held, :c]) - zv[held, i]).mean()
                fits.append((error, c, ridge))
                tried.append({"label": i, "components": c, "alpha": alpha, "mae": error})
            self.parts.append(min(fits, key=itemgetter(0))[1:])
        self.trials = pd.DataFrame(tried)

    def predict(self, sample):
        """SpectraSample -> (n, labels) in physical units."""
        x = self.pca.transform(sample.x.float().numpy())
        columns = [ridge.predict(x[:, :c]) for c, ridge in self.parts]
        return self.scale.restore(np.stack(columns, axis=1))


def search(train, val, *, trials, seed=0, progress="", quantiles=quantiles):
    """Try settings of a network on validation stars, by a tree-structured Parzen estimator.

    Parameters
    ----------
    train : callable
        ``(trial) -> model``: asks Optuna's trial for its settings and returns a trained model.
    val : SpectraSample or LightCurveSample
        Stars that judge. As many trials for each network are the same care for each.
    trials : int
        A setting whose training fails (FloatingPointError) counts as one, its error is NaN.
    seed : int
        Of the estimator.
    progress : str
        Title of the bar; empty for none.
    quantiles : callable
        ``(model, sample) -> (n, labels, levels)``, in the labels' units; of the spectra encoder's
        samples by default.

    Returns
    -------
    table : pandas.DataFrame
        The settings tried, and ``mae``, the mean absolute error of the standardised labels.
    best : dict
        The settings with the least.

    Notes
    -----
    Akiba et al. (2019), arXiv:1907.10902. Shown in chapters 02 and 03.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bar = tqdm(total=trials, desc=progress, disable=not progress)

    def error(trial):
        model = train(trial)
        median = quantiles(model, val)[..., len(QUANTILES) // 2]
        truth = model.scale.standardise(val.labels.numpy())
        return float(np.nanmean(np.abs(model.scale.standardise(median) - truth)))

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(
        error,
        n_trials=trials,
        catch=FloatingPointError,
        callbacks=[lambda study, trial: bar.update()],
    )
    bar.close()
    table = pd.DataFrame([t.params | {"mae": t.value} for t in study.trials])
    return table.astype({"mae": float}), study.best_params
