"""DESA's spectra encoder: a CNN that fills in hidden pixels and a Conformer that reads labels.

::

    encoder = SpectraEncoder.load(folder)
    encoder.predict([read_spectrum(path)])

Kamai, Bronstein & Perets (2025), section 3.1.1 and Fig. 1. Shown in chapter 02.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch.nn.functional as F
from torch import nn

from stellarbook.desa import spectra_input
from stellarbook.desa.answers import answers, intervals, load, run, save
from stellarbook.layers.conformer import ConformerBlock, DesaBlock
from stellarbook.learn.conformal import QUANTILES
from stellarbook.learn.scales import Labels

FILE = "spectra_encoder.safetensors"
LABELS = ("teff", "logg", "feh")
BLOCKS = {"desa": DesaBlock, "conformer": ConformerBlock}
SOLAR = Labels([0.0, 0.0, 0.0], [5778.0, 1.0, 1.0], [])  # the authors' units
# The authors' sizes (551 million weights) and ours for two CPU cores.
PAPER = {
    "stem": 64,
    "stride": 1,
    "channels": (128, 256, 1024, 2048, 2048),
    "blocks": 8,
    "heads": 8,
    "head": 1024,
    "pooling": "mean",
}
SMALL = {
    "stem": 32,
    "stride": 4,
    "channels": (64, 64, 64, 64),
    "blocks": 2,
    "heads": 4,
    "head": 128,
    "pooling": "flatten",
}
POOLINGS = ("mean", "flatten")


class SpectraEncoder(nn.Module):
    """A spectrum in; the spectrum with its hidden pixels filled, and quantiles of labels out.

    Without arguments it has the authors' size. Shapes: B spectra, N pixels, L tokens, D features.

    Parameters
    ----------
    input : str
        How spectra are prepared: a key of `spectra_input.GRIDS`.
    block : str
        "conformer", the published one, or "desa", the authors' variant.
    stem, stride : int
        Channels of the first convolution, and its stride in pixels.
    channels : sequence of int
        Channels of the next ones; each halves the pixels. The last is D.
    blocks, heads : int
        Blocks of that kind and their attention heads.
    head : int
        Hidden units of the two-layer perceptron.
    pooling : str
        What of the tokens the perceptron reads: "mean", their average, as the authors have it, or
        "flatten", each token with weights of its own, so that it knows which lines are whose.
    dropout : float
        In the blocks and the head.
    scale : Labels
        Units of the labels that the head speaks; of `LABELS`, in this order.

    Attributes
    ----------
    settings : dict
        The arguments above but for the scale.
    margins : (labels, intervals) array
        From `stellarbook.learn.conformal.calibrate`, for `predict`; zero in a new encoder.
    metadata : dict
        What `save` was given.

    Raises
    ------
    ValueError
        For an input or a block that does not exist, and as the block does.

    Notes
    -----
    Departures: "mean" averages the tokens, which the paper adds up, and "flatten" is ours; the
    spectra are not padded from 3600 to 4096 pixels but to the next multiple of what the pooling
    needs, and the padding is not filled.
    Shown in chapter 02.
    """

    def __init__(
        self,
        *,
        input="desa",
        block="desa",
        stem=PAPER["stem"],
        stride=PAPER["stride"],
        channels=PAPER["channels"],
        blocks=PAPER["blocks"],
        heads=PAPER["heads"],
        head=PAPER["head"],
        pooling=PAPER["pooling"],
        dropout=0.2,
        scale=SOLAR,
    ):
        super().__init__()
        for name, value, known in (
            ("input", input, spectra_input.GRIDS),
            ("block", block, BLOCKS),
            ("pooling", pooling, POOLINGS),
        ):
            if value not in known:
                raise ValueError(f"no {name} {value!r}: there are {', '.join(known)}")
        self.settings = {
            **{"input": input, "block": block, "stem": stem, "stride": stride},
            **{"channels": tuple(channels), "blocks": blocks, "heads": heads},
            **{"head": head, "pooling": pooling, "dropout": dropout},
        }
        self.scale, self.metadata = scale, {}
        self.margins = np.zeros((len(LABELS), len(QUANTILES) // 2))
        widths, d = (stem, *channels), channels[-1]
        pixels, width = len(spectra_input.GRIDS[input]), stride * 2 ** len(channels)
        self.pad = -pixels % width
        tokens = (pixels + self.pad) // width
        self.cnn = nn.Sequential(
            _convolution(1, stem, stride),
            *(
                nn.Sequential(_convolution(a, b), nn.MaxPool1d(2))
                for a, b in zip(widths, channels, strict=False)
            ),
        )
        self.decoder = nn.Sequential(
            *(_deconvolution(a, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)),
            nn.ConvTranspose1d(stem, 1, stride + 2, stride, padding=1),
        )
        self.conformer = nn.ModuleList(
            BLOCKS[block](d, heads, dropout=dropout) for _ in range(blocks)
        )
        self.head = nn.Sequential(
            nn.Linear(d * tokens if pooling == "flatten" else d, head),
            nn.BatchNorm1d(head),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(head, len(LABELS) * len(QUANTILES)),
        )

    def tokens(self, x):
        """(B, N) prepared spectra -> (B, D, L) features of the CNN."""
        return self.cnn(F.pad(x, (0, self.pad))[:, None])

    def fill(self, tokens):
        """(B, D, L) -> (B, N): the spectrum that the CNN decoder makes of the features."""
        filled = self.decoder(tokens)[:, 0]  # (B, N + padding)
        return filled[:, : filled.shape[1] - self.pad]

    def features(self, tokens):
        """(B, D, L) -> (B, L, D): after the Conformer."""
        x = tokens.transpose(1, 2)
        for block in self.conformer:
            x = block(x)
        return x

    def quantiles(self, features):
        """(B, L, D) -> (B, labels, levels): standardised labels at `QUANTILES`, not calibrated."""
        pooled = features.flatten(1) if self.settings["pooling"] == "flatten" else features.mean(1)
        return answers(self.head, pooled, len(LABELS))

    def forward(self, x):
        """(B, N) -> the filled spectrum (B, N) and the quantiles (B, labels, levels)."""
        tokens = self.tokens(x)
        return self.fill(tokens), self.quantiles(self.features(tokens))

    def read(self, x):
        """(B, N) whole spectra -> (B, labels, levels): standardised quantiles, not calibrated."""
        return self.quantiles(self.features(self.tokens(x)))

    def predict(self, spectra, *, batch_size=256, device="auto"):
        """Labels and intervals of spectra as they were read.

        Parameters
        ----------
        spectra : list of Spectrum
            From `read_spectrum`: vacuum Å, with the star's redshift. Made for LAMOST; other
            spectra of resolving power 1500 to 2500 are taken too, at the reader's risk.
        batch_size : int
            Spectra at a time.
        device : str
            See `pick_device`; the encoder stays there.

        Returns
        -------
        pandas.DataFrame
            One row a spectrum, in their order: ``teff`` (K), ``logg``, ``feh`` (medians);
            ``<label>_lo50, _hi50, _lo80, _hi80``, conformal intervals of 50 and 80 %; ``flag``,
            why a row is NaN (`spectra_input.prepare_spectra`), else empty.

        Notes
        -----
        Shown in chapter 02.
        """
        raw, flags = self._judge(self.read, spectra, batch_size, device)
        return pd.DataFrame(intervals(self, raw, LABELS) | {"flag": flags})

    def embed(self, spectra, *, batch_size=256, device="auto"):
        """Return features of spectra as they were read, after the blocks, averaged over tokens.

        Parameters are those of `predict`. With the pooling "flatten" the average leaves out where
        in the spectrum a feature is, which the labels are read from, too: take `tokens` for that.

        Returns
        -------
        (n, D) float32 array
            Row of NaN where `predict` gives NaN.
        """
        return self._judge(
            lambda x: self.features(self.tokens(x)).mean(dim=1), spectra, batch_size, device
        )[0]

    def _judge(self, function, spectra, batch_size, device):
        """Apply a function to spectra; NaN, and a flag, where one cannot be judged."""
        x, flags = spectra_input.prepare_spectra(spectra, self.settings["input"])
        values = run(self, function, x.nan_to_num(), batch_size, device)
        values[x.isnan().any(dim=1).numpy()] = np.nan
        return values, flags

    def save(self, folder, metadata=None, *, half=True):
        """Write weights, settings, scale and margins to ``folder`` as safetensors.

        Parameters
        ----------
        folder : path
        metadata : dict, optional
            Anything JSON can hold, in place of the encoder's own.
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


def _convolution(a, b, stride=1):
    convolution = nn.Conv1d(a, b, 2 * stride + 1, stride, padding=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm1d(b), nn.SiLU())


def _deconvolution(a, b):
    return nn.Sequential(
        nn.ConvTranspose1d(a, b, 4, stride=2, padding=1, bias=False), nn.BatchNorm1d(b), nn.SiLU()
    )
