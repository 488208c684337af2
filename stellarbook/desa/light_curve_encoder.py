"""DESA's light-curve encoder: a CNN on two transforms, a Conformer on the curve, SimSiam's heads.

::

    encoder = LightCurveEncoder.load(folder)
    encoder.predict([read_light_curve(path)])

Kamai, Bronstein & Perets (2025), section 3.1.2 and Fig. 1. Shown in chapter 03.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from stellarbook.data.cadences import LONG_CADENCE
from stellarbook.data.light_curve_channels import VIEW
from stellarbook.desa import light_curve_input, light_curve_views
from stellarbook.desa.answers import answers, intervals, load, run, save
from stellarbook.desa.light_curve_cnn import Peaks, Pooled
from stellarbook.layers.conformer import ConformerBlock, DesaBlock
from stellarbook.learn.conformal import QUANTILES
from stellarbook.learn.scales import Labels

FILE = "light_curve_encoder.safetensors"
LABELS = ("prot",)
DECADES = Labels([0.0], [1.0], [])  # log10 of days
BLOCKS = {"conformer": ConformerBlock, "desa": partial(DesaBlock, dense=False)}
BRANCHES = ("both", "curve", "transforms")
NORMALISATIONS = ("both", "magnitude", "scores")
# The authors' widths and depth, and a size for two CPU cores.
PAPER = {
    "kind": "linear",
    "length": VIEW,
    "channels": (32, 64, 128, 256, 512, 512, 512),
    "d": 512,
    "blocks": 5,
    "heads": 8,
    "features": 256,
    "pooling": "mean",
}
SMALL = {
    "kind": "log",
    "length": light_curve_views.LENGTH,
    "channels": (32, *5 * [64]),
    "d": 32,
    "blocks": 1,
    "heads": 2,
    "features": 128,
    "pooling": "peaks",
}
# The same with the paper's way to read the CNN: what `SMALL` is compared with.
HALVING = SMALL | {"channels": (32, 64, 64, 128, 128), "pooling": "mean"}
POOLINGS = ("mean", "flatten", "peaks")
TOKEN = 20  # cadences: 10 hours


class LightCurveEncoder(nn.Module):
    """Views of a light curve in; features, and quantiles of the rotation period, out.

    Without arguments it has the authors' widths and depth; with ``block="desa"`` also about their
    number of weights, for their blocks have no dense layers. Shapes: B views, L cadences, T values
    of a transform, D features of a token, F features of a view.

    Parameters
    ----------
    kind, length : str, int
        Of the views: `light_curve_views.views`.
    channels : sequence of int
        Of the convolutions on the transforms (`light_curve_cnn`).
    d, blocks, heads : int
        Width of the curve's tokens, blocks that read them, their attention heads.
    block : str
        "conformer", the published one, or "desa", the authors' variant.
    features : int
        F, of what the projector makes.
    pooling : str
        What is read of the CNN: "mean", an average over lags and frequencies, as the authors have
        it; "flatten", each with weights of its own, so that it is known where a peak is; "peaks",
        for the kind "log": the CNN points at a period, and the head says how far from it the
        quantiles lie (`light_curve_cnn.Peaks`). The curve's tokens are averaged.
    branches : str
        "both", "curve" or "transforms".
    normalisations : str
        Of the curve: "both", "magnitude" or "scores" (`light_curve_views.curve`). Where the
        absolute magnitude is unknown the first is 0; with "magnitude" alone such a star cannot be
        judged.
    dropout : float
        In the blocks.
    scale : Labels
        Of log10 of the period in days.

    Attributes
    ----------
    settings : dict
        The arguments above but for the scale.
    margins : (1, intervals) array
        From `stellarbook.learn.conformal.calibrate`, for `predict`, dex; zero in a new encoder.
    metadata : dict
        What `save` was given.

    Raises
    ------
    ValueError
        For a kind, block, pooling, branch or normalisation that does not exist, for "peaks" of
        another kind than "log"; as the block does.

    Notes
    -----
    Departures: SiLU in place of sines between the convolutions; the head reads one view, not two,
    so that one curve is enough to ask; "log", "flatten" and "peaks" are ours. Shown in chapter 03.
    """

    def __init__(
        self,
        *,
        kind=PAPER["kind"],
        length=PAPER["length"],
        channels=PAPER["channels"],
        d=PAPER["d"],
        blocks=PAPER["blocks"],
        heads=PAPER["heads"],
        block="conformer",
        features=PAPER["features"],
        pooling=PAPER["pooling"],
        branches="both",
        normalisations="both",
        dropout=0.0,
        scale=DECADES,
    ):
        super().__init__()
        for name, value, known in (
            ("kind", kind, light_curve_views.KINDS),
            ("block", block, BLOCKS),
            ("pooling", pooling, POOLINGS),
            ("branches", branches, BRANCHES),
            ("normalisations", normalisations, NORMALISATIONS),
        ):
            if value not in known:
                raise ValueError(f"no {name} {value!r}: there are {', '.join(known)}")
        if pooling == "peaks" and kind != "log":
            raise ValueError(f"pooling 'peaks' of kind {kind!r}: expected 'log'")
        self.settings = {
            **{"kind": kind, "length": length, "channels": tuple(channels), "d": d},
            **{"blocks": blocks, "heads": heads, "block": block, "features": features},
            **{"pooling": pooling, "branches": branches, "normalisations": normalisations},
            "dropout": dropout,
        }
        self.scale, self.metadata = scale, {}
        self.margins = np.zeros((len(LABELS), len(QUANTILES) // 2))
        joined = 0
        self.pointed = pooling == "peaks" and branches != "curve"
        if branches != "curve":
            if self.pointed:
                days = light_curve_views.periods(length) * LONG_CADENCE
                self.cnn = Peaks(channels, scale.standardise(np.log10(days)[:, None])[:, 0])
            else:
                places = light_curve_views.width(length, kind)
                self.cnn = Pooled(channels, places, flatten=pooling == "flatten")
            joined += self.cnn.size
        if branches != "transforms":
            rows = 2 if normalisations == "both" else 1
            self.stem = nn.Sequential(
                nn.Conv1d(rows, d, TOKEN, TOKEN, bias=False), nn.BatchNorm1d(d), nn.SiLU()
            )
            self.conformer = nn.ModuleList(
                BLOCKS[block](d, heads, dropout=dropout) for _ in range(blocks)
            )
            joined += d
        self.projector = nn.Sequential(
            *_dense(joined, features),
            *_dense(features, features),
            nn.Linear(features, features - self.pointed, bias=False),
            nn.BatchNorm1d(features - self.pointed),
        )
        self.predictor = nn.Sequential(*_dense(features, features), nn.Linear(features, features))
        self.head = nn.Sequential(
            *_dense(features, features), nn.Linear(features, len(LABELS) * len(QUANTILES))
        )

    def tokens(self, curve):
        """(B, 2, L) both normalisations of the curve -> (B, L / 20, D): after the Conformer."""
        row = {"both": slice(0, 2), "magnitude": slice(0, 1), "scores": slice(1, 2)}
        x = self.stem(curve[:, row[self.settings["normalisations"]]]).transpose(1, 2)
        for block in self.conformer:
            x = block(x)
        return x

    def forward(self, curve, transforms):
        """(B, 2, L) and (B, 2, T) -> (B, F): the features z, which SimSiam compares.

        With the pooling "peaks" the first is the period that the CNN points at.
        """
        joined = [self.cnn(transforms)] if self.settings["branches"] != "curve" else []
        if self.settings["branches"] != "transforms":
            joined.append(self.tokens(curve).mean(dim=1))
        z = self.projector(torch.cat(joined, dim=1))
        return torch.cat([joined[0][:, :1], z], dim=1) if self.pointed else z

    def quantiles(self, features):
        """(B, F) -> (B, 1, levels): standardised log periods at `QUANTILES`, not calibrated."""
        found = answers(self.head, features, len(LABELS))
        return found + features[:, :1, None].float() if self.pointed else found

    def features(self, scores, level, transforms):
        """One view each of a `LightCurveSample`: (B, L), (B, 2), (B, 2, T) -> (B, F)."""
        return self(light_curve_views.curve(scores, level), transforms)

    def read(self, scores, level, transforms):
        """One view each of a `LightCurveSample` -> (B, 1, levels), not calibrated."""
        return self.quantiles(self.features(scores, level, transforms))

    def predict(self, curves, *, magnitudes=None, batch_size=256, device="auto"):
        """Rotation periods and intervals of light curves as they were read.

        A long curve is read window by window; the median over its windows counts.

        Parameters
        ----------
        curves : list of LightCurve
            From `read_light_curve`: half hours or shorter, half of a window at least.
        magnitudes : (n,) float, optional
            Absolute Kepler magnitudes; NaN: unknown.
        batch_size, device
            Windows at a time; see `pick_device`. The encoder stays there.

        Returns
        -------
        pandas.DataFrame
            One row a curve, in their order: ``prot``, days (median); ``prot_lo50, prot_hi50,
            prot_lo80, prot_hi80``, conformal intervals of 50 and 80 % (of one window: the median
            of those of several windows promises nothing); ``windows``, how many were read;
            ``flag``, why a row is NaN (`light_curve_input.prepare_curves`), else empty.

        Notes
        -----
        Shown in chapter 03.
        """
        raw, windows, flags = self._judge(self.read, curves, magnitudes, batch_size, device)
        days = {name: 10.0**x for name, x in intervals(self, raw, LABELS).items()}
        return pd.DataFrame(days | {"windows": windows, "flag": flags})

    def embed(self, curves, *, magnitudes=None, batch_size=256, device="auto"):
        """Return the features of light curves, the median over their windows.

        Parameters are those of `predict`.

        Returns
        -------
        (n, F) float32 array
            Row of NaN where `predict` gives NaN.
        """
        return self._judge(self.features, curves, magnitudes, batch_size, device)[0]

    def _judge(self, function, curves, magnitudes, batch_size, device):
        """Apply a function to the windows of curves; NaN, and a flag, where there is none."""
        settings = {key: self.settings[key] for key in ("length", "kind")}
        sample, flags = light_curve_input.prepare_curves(curves, magnitudes=magnitudes, **settings)
        asked = self.settings["branches"] != "transforms"
        if asked and self.settings["normalisations"] == "magnitude":
            k = np.full(len(curves), np.nan) if magnitudes is None else np.asarray(magnitudes)
            for i in np.flatnonzero(~np.isfinite(k.astype(float))):
                flags[i] = flags[i] or "absolute magnitude unknown"
        # One window more, of zeros: for its shape, should there be no other.
        inputs = (x[:, 0] for x in (sample.scores, sample.level, sample.transforms))
        inputs = tuple(nn.functional.pad(x, (0, 0) * (x.ndim - 1) + (0, 1)) for x in inputs)
        values = run(self, function, inputs, batch_size, device)[:-1]
        judged = np.full((len(curves), *values.shape[1:]), np.nan, np.float32)
        owner, windows = sample.ids.numpy(), np.zeros(len(curves), int)
        for i in np.flatnonzero([not flag for flag in flags]):
            judged[i] = np.median(values[owner == i], axis=0)
            windows[i] = (owner == i).sum()
        return judged, windows, flags

    def save(self, folder, metadata=None, *, half=True):
        """Write weights, settings, scale and margins to ``folder`` as safetensors.

        Parameters
        ----------
        folder, metadata
            Anything JSON can hold, in place of the encoder's own metadata.
        half : bool
            As in `stellarbook.learn.checkpoint.save_weights`, and so are the errors.
        """
        save(Path(folder) / FILE, self, metadata, half=half)

    @classmethod
    def load(cls, folder):
        """Read what `save` wrote: an encoder on the CPU, in eval mode.

        Raises
        ------
        FileNotFoundError
            If there is none.
        CheckpointError
            If the file is damaged or of another model.
        """
        return load(Path(folder) / FILE, cls)


def _dense(a, b):
    return nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.SiLU()
