"""A second, small encoder: from the image of a power spectrum to ν_max and the kind of variable.

::

    images = survey_files.load("kepler_q9").labelled(catalogues.measured())
    encoder = PowerSpectrumEncoder(scale=scale_of(images))
    train(encoder, images, steps=300)
    encoder.calibrate(images, images.split("val"))
    encoder.predict(images, images.split("test"))

A convolutional network in the manner of Hon, Stello & Zinn (2018, ApJ 859, 64), who asked the
images whether a star oscillates. Shown in chapter 03.
"""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from stellarbook.data.survey_files.power_spectra import (
    CLASSES,
    FREQUENCY,
    SIDE,
    PowerSpectrumImages,
)
from stellarbook.desa.answers import restore, run
from stellarbook.learn.checkpoint import fingerprint
from stellarbook.learn.conformal import QUANTILES, calibrate, calibrated, known_pinball
from stellarbook.learn.fit import fit
from stellarbook.learn.optim import cosine
from stellarbook.learn.processes import pick_device
from stellarbook.learn.scales import Labels

UNITS = Labels([2.0], [1.0], [0])  # log10 of ν_max in µHz, about 100
SMALL = (8, 16, 32, 32)
SHIFT = (4, 8)  # pixels, up or down and to the right or left: 0.3 σ of the power, 0.12 dex


class PowerSpectrumEncoder(nn.Module):
    """An image in; quantiles of log ν_max and scores of the classes out.

    Parameters
    ----------
    channels : (int, int, int, int)
        Of the convolutions, 3 pixels wide, the first 5. Each halves the rows, the first two also
        the columns: to 8 rows of 32.
    features : int
        Of an image: D, what both heads read and `embed` gives.
    dropout : float
        Of these features, in training.
    scale : Labels
        Units of the one label, ν_max, as log10: `scale_of`.

    Attributes
    ----------
    margins : (1, intervals) array
        From `calibrate`, for `predict`; zero in a new encoder.

    Notes
    -----
    Where a hump is says what ν_max is. Each of the 32 columns is given a share, and ν_max's median
    is the shares' mean frequency, plus what the features make of it: so a hump that was learnt
    in one place is known in all. Groups of one image are normalised, not batches: no moving
    averages. Shapes: B images, K classes. Shown in chapter 03.
    """

    def __init__(self, *, channels=SMALL, features=64, dropout=0.2, scale=UNITS):
        super().__init__()
        self.scale = scale
        self.margins = np.zeros((1, len(QUANTILES) // 2))
        a, b, c, d = channels
        self.cnn = nn.Sequential(
            *(_convolution(1, a, 5, 2), _convolution(a, b, 3, 2)),
            *(_convolution(b, c, 3, (2, 1)), _convolution(c, d, 3, (2, 1))),
            nn.Conv2d(d, features, (SIDE // 16, 1)),  # all rows of a column
            nn.SiLU(),
        )
        self.weigh = nn.Conv1d(features, 1, 1)
        self.neck = nn.Sequential(
            nn.Flatten(), nn.Linear(features * SIDE // 4, features), nn.SiLU()
        )
        self.dropout = nn.Dropout(dropout)
        middles = scale.standardise(np.sqrt(FREQUENCY[:-1:4] * FREQUENCY[4::4])[:, None])
        self.register_buffer("middles", torch.from_numpy(middles[:, 0]).float())
        self.numax = nn.Linear(features, len(QUANTILES))
        self.cls = nn.Linear(features, len(CLASSES))

    def features(self, x):
        """(B, 128, 128), from `unpack` -> (B, D)."""
        return self.neck(self.columns(x))

    def columns(self, x):
        """(B, 128, 128) -> (B, D, 32): of each column of the last convolution."""
        return self.cnn(x[:, None])[:, :, 0]

    def forward(self, x):
        """(B, 128, 128) -> standardised quantiles (B, 1, levels), scores (B, K)."""
        columns = self.columns(x)
        features = self.dropout(self.neck(columns))
        centre = self.weigh(columns)[:, 0].softmax(dim=1) @ self.middles  # (B,)
        return (centre[:, None] + self.numax(features))[:, None], self.cls(features)

    def calibrate(self, images, rows):
        """Set the margins from stars held back (`learn.conformal.calibrate`), in dex of ν_max."""
        truth = images.table["numax"].to_numpy()[rows, None]
        self.margins = calibrate(np.log10(truth), self._log_numax(images, rows))

    def predict(self, images, rows, *, batch_size=256):
        """Predict ν_max and classes of stars.

        Parameters
        ----------
        images : PowerSpectrumImages
        rows : (m,) int
        batch_size : int
            Images at a time.

        Returns
        -------
        pandas.DataFrame
            Indexed by ``rows``: ``numax`` (µHz, the median) and ``numax_lo50, _hi50, _lo80,
            _hi80``, conformal once `calibrate` was called; ``cls``, the likeliest class, and
            ``p_<class>``. A star that does not oscillate is given a ν_max, too: it means nothing.

        Notes
        -----
        Shown in chapter 03.
        """
        quantiles = 10 ** calibrated(self._log_numax(images, rows, batch_size), self.margins)[:, 0]
        names = ("numax_lo80", "numax_lo50", "numax", "numax_hi50", "numax_hi80")
        scores = self._run(lambda x: self(x)[1].softmax(1), images, rows, batch_size)
        table = pd.DataFrame(quantiles, index=rows, columns=names)
        table["cls"] = np.array(CLASSES)[scores.argmax(1)]
        return table.join(pd.DataFrame(scores, rows, [f"p_{name}" for name in CLASSES]))

    def embed(self, images, rows, *, batch_size=256):
        """Return the features of images, (m, D) float32."""
        return self._run(self.features, images, rows, batch_size)

    def _log_numax(self, images, rows, batch_size=256):
        quantiles = self._run(lambda x: self(x)[0], images, rows, batch_size)
        return np.log10(restore(self.scale, quantiles))

    def _run(self, function, images, rows, batch_size):
        packed = torch.from_numpy(images.packed[rows])
        return run(self, lambda x: function(unpack(x)), packed, batch_size)


def unpack(packed):
    """(B, 2048) bytes -> (B, 128, 128) float, −1 or 1: `numpy.unpackbits` on the model's device."""
    shift = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    bits = (packed.byte()[..., None] >> shift) & 1  # `run` makes floats of them, which is exact
    return 2.0 * bits.reshape(-1, SIDE, SIDE) - 1


def scale_of(images: PowerSpectrumImages) -> Labels:
    """Measure the scale of log10 ν_max on the training stars; the images must be `labelled`."""
    return Labels.of(images.table["numax"].to_numpy()[images.split("train"), None], log=[0])


def class_weights(images: PowerSpectrumImages) -> torch.Tensor:
    """Return a weight for each class, (K,): inverse to its share of the training stars.

    The mean over these stars is 1. A class without a star has weight 0.
    """
    counts = images.table["cls"].iloc[images.split("train")].value_counts().reindex(CLASSES)
    counts = counts.fillna(0).to_numpy()
    share = np.divide(1, counts, out=np.zeros(len(CLASSES)), where=counts > 0)
    return torch.from_numpy(share * counts.sum() / (counts > 0).sum()).float()


def train(
    encoder,
    images,
    *,
    steps,
    share=0.5,
    balanced=True,
    shift=SHIFT,
    batch_size=64,
    lr=2e-3,
    weight_decay=1e-2,
    seed=0,
    device="auto",
    **others,
):
    """Train an encoder in place on the training stars; the best weights on validation stars stay.

    The loss of a star is λ times the pinball loss of log ν_max, summed over levels, plus 1 − λ
    times the cross-entropy of its class. A ν_max that is unknown (NaN) does not count.

    Parameters
    ----------
    encoder : PowerSpectrumEncoder
    images : PowerSpectrumImages
        `labelled` with ``numax``, NaN where unknown; ``cls`` of every star.
    share : float
        λ.
    balanced : bool
        Whether the cross-entropy is weighted by `class_weights`, so that every class counts alike.
    shift : (int, int)
        In training images are moved by up to so many pixels, up or down and to the left or right.
        To the right is a higher ν_max, which is what it then has to say.
    **others
        Of `stellarbook.learn.fit.fit`, as are ``steps`` and all the rest.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        No training star has a ν_max. As `fit`, too.
    CheckpointError
        If the checkpoint is of other images, labels or settings, or began with other weights.

    Notes
    -----
    Shown in chapter 03.
    """
    device = pick_device(device)
    weight = class_weights(images).to(device) if balanced else None
    x, numax, cls = _tensors(encoder, images, "train", device)
    held = _tensors(encoder, images, "val", device)
    column = np.log10(FREQUENCY[1] / FREQUENCY[0]) / encoder.scale.scale[0]  # ν_max's, standardised

    def loss(model, pixels, numax, cls):
        quantiles, scores = model(pixels)
        miss = known_pinball(numax, quantiles)  # (B, 1)
        # Over the batch, not over the sum of its weights: every star's share stays the same.
        wrong = F.cross_entropy(scores, cls, weight, reduction="none")
        return share * miss.mean() + (1 - share) * wrong.mean()

    def step(model, index, generator):
        pixels, right = moved(unpack(x[index]), shift, generator)
        return loss(model, pixels, numax[index] + right[:, None] * column, cls[index])

    return fit(
        encoder,
        step,
        len(x),
        steps=steps,
        batch_size=min(batch_size, len(x)),
        lr=lr,
        weight_decay=weight_decay,
        schedule=cosine(warmup=min(100, steps // 10)),
        validate=lambda model: loss(model, unpack(held[0]), *held[1:]),
        seed=seed,
        device=device,
        configuration={
            **{"share": share, "balanced": balanced, "shift": list(shift)},
            "data": fingerprint(x, numax, cls, *held),
            "start": fingerprint(*encoder.state_dict().values()),
        },
        **others,
    )


def moved(x, most, generator):
    """Move images, each by −most to most pixels, downwards and to the right.

    Parameters
    ----------
    x : (B, 128, 128) tensor
    most : (int, int)
        Downwards, to the right.
    generator : torch.Generator

    Returns
    -------
    (B, 128, 128) tensor
        What comes in at an end is what was at it.
    right : (B,) tensor
        By how many columns.
    """
    pixel = torch.arange(SIDE, device=x.device)
    for dim, limit in zip((1, 2), most, strict=True):
        by = torch.randint(-limit, limit + 1, (len(x),), generator=generator, device=x.device)
        source = (pixel - by[:, None]).clamp(0, SIDE - 1)  # (B, 128)
        x = x.gather(
            dim, source[:, :, None].expand_as(x) if dim == 1 else source[:, None].expand_as(x)
        )
    return x, by


def _tensors(encoder, images, part, device):
    rows = images.split(part)
    stars = images.table.iloc[rows]
    numax = torch.from_numpy(encoder.scale.standardise(stars[["numax"]].to_numpy())).float()
    cls = torch.from_numpy(pd.Categorical(stars["cls"], CLASSES).codes.astype(np.int64))
    return tuple(t.to(device) for t in (torch.from_numpy(images.packed[rows]), numax, cls))


def _convolution(a, b, width, stride):
    return nn.Sequential(
        nn.Conv2d(a, b, width, stride, padding=width // 2, bias=False),
        nn.GroupNorm(1, b),
        nn.SiLU(),
    )
