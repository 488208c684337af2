"""What the spectra encoder has to beat: ridge on principal components, a plain CNN, a GRU.

The networks read the same prepared spectra, learn the same quantiles with the same loss and have
the encoder's call shape: ``.scale`` and ``.read(x)``. Shown in chapter 02.
"""

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from stellarbook.desa import spectra_input
from stellarbook.desa.spectra_encoder import LABELS, SOLAR
from stellarbook.desa.spectra_training import quantiles
from stellarbook.learn import baselines
from stellarbook.learn.conformal import QUANTILES


class PlainCNN(nn.Module):
    """Two convolutions, a pooling, two dense layers: StarNet (Fabbro et al. 2018, Fig. 2).

    Parameters
    ----------
    input : str
        As `SpectraEncoder`.
    filters : (int, int)
        Of the convolutions, 8 pixels wide.
    dense : (int, int)
    scale : Labels
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
        return self.net(x[:, None]).unflatten(1, (len(LABELS), len(QUANTILES)))


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
    dropout : float
    scale : Labels
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
        return self.head((weight * h).sum(dim=1)).unflatten(1, (len(LABELS), len(QUANTILES)))


class RidgePCA:
    """Ridge regression on principal components, their number and the penalty tuned.

    Parameters
    ----------
    train, val : SpectraSample
    components : sequence of int
        Numbers of components to try; those that the stars cannot give are left out.
    seed : int
        Of the randomised decomposition.
    """

    def __init__(self, train, val, components=(20, 50, 100, 200), seed=0):
        from sklearn.decomposition import PCA

        most = [c for c in components if c < len(train)] or [len(train) // 2]
        self.pca = PCA(max(most), random_state=seed, svd_solver="randomized")
        x = self.pca.fit_transform(train.x.float().numpy())
        xv = self.pca.transform(val.x.float().numpy())
        y, yv = train.labels.numpy(), val.labels.numpy()
        fits = [baselines.ridge(x[:, :c], y, xv[:, :c], yv, log=(0,)) for c in most]
        tables = [fit.trials.assign(components=c) for fit, c in zip(fits, most, strict=True)]
        self.trials = pd.concat(tables, ignore_index=True)
        # One number of components for each label: where its best penalty validates best.
        best = self.trials.loc[self.trials.groupby("label").mae.idxmin()]
        self.parts = [(int(c), fits[most.index(c)]) for c in best.components]

    def predict(self, sample):
        """SpectraSample -> (n, labels) in physical units."""
        x = self.pca.transform(sample.x.float().numpy())
        columns = [fit.predict(x[:, :c])[:, i] for i, (c, fit) in enumerate(self.parts)]
        return np.stack(columns, axis=1)


def search(train, val, *, trials, seed=0, progress=""):
    """Try settings of a network on validation stars, by a tree-structured Parzen estimator.

    Parameters
    ----------
    train : callable
        ``(trial) -> model``: asks Optuna's trial for its settings and returns a trained model.
    val : SpectraSample
        Stars that judge. As many trials for each network are the same care for each.
    trials, seed : int
    progress : str
        Title of the bar; empty for none.

    Returns
    -------
    table : pandas.DataFrame
        The settings tried, and ``mae``, the mean absolute error of the standardised labels.
    best : dict
        The settings with the least.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bar = tqdm(total=trials, desc=progress, disable=not progress)

    def error(trial):
        model = train(trial)
        median = quantiles(model, val)[..., len(QUANTILES) // 2]
        truth = model.scale.standardise(val.labels.numpy())
        bar.update()
        return float(np.nanmean(np.abs(model.scale.standardise(median) - truth)))

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(error, n_trials=trials)
    bar.close()
    return pd.DataFrame([t.params | {"mae": t.value} for t in study.trials]), study.best_params
