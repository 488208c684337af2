"""The star transformer: any numbers of a star in, any numbers out, each with an error.

::

    model = StarTransformer.load(folder)
    model.predict(stars[["bprp", "jh"]], ["logg"])

Leung & Bovy (2024), Fig. 2: an encoder reads the context, a decoder asks it one question after
another. Shown in chapter 10.
"""

from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from stellarbook.layers.blocks import MLP
from stellarbook.learn.checkpoint import CheckpointError, load_weights, save_weights
from stellarbook.learn.processes import pick_device
from stellarbook.star_transformer.layers import Block, Embedding
from stellarbook.star_transformer.tokens import Scales

FILE = "star_transformer.safetensors"
WINDOW = 64  # tokens in a context at most (section 3)
# The paper's sizes (section 3 and the released code; 8.8 M weights) and ours for two CPU cores.
PAPER = {
    "d": 128,
    "encoder": (1024, 512),
    "encoder_heads": (16, 8),
    "decoder": (3096, 1548, 774),
    "decoder_heads": (16, 8, 4),
    "head": (3096, 1548, 774, 387),
    "dropout": 0.1,
}
SMALL = {
    "d": 128,
    "encoder": (512, 512),
    "encoder_heads": (8, 8),
    "decoder": (512, 512, 256),
    "decoder_heads": (8, 8, 8),
    "head": (256, 256),
    "dropout": 0.0,
}


class StarTransformer(nn.Module):
    """A model of stars that takes any of its vocabulary and returns any of it.

    Parameters
    ----------
    scales : Scales
        The vocabulary and its units.
    d : int
        Width of the embedding.
    encoder, decoder : sequence of int
        Dense units of each block; self-attention in the encoder, cross-attention from the request
        to the context in the decoder.
    encoder_heads, decoder_heads : sequence of int
        Attention heads of each block.
    head : sequence of int
        Dense layers between the decoder and its two numbers.
    dropout : float
        In the dense layers, not in the embedding.
    value_in_keys : bool
        False is an ablation: the keys, and in the encoder the queries, are the kinds of the
        tokens without their values, which come through the attention's values only (section 7.1).

    Notes
    -----
    Leung & Bovy (2024), sections 2 and 3; `PAPER` has the released code's 8,845,529 weights with
    the paper's 118 tokens. Shown in chapter 10.
    """

    def __init__(
        self,
        scales,
        *,
        d,
        encoder,
        encoder_heads,
        decoder,
        decoder_heads,
        head,
        dropout=0.0,
        value_in_keys=True,
    ):
        super().__init__()
        self.scales = scales
        self.size = {
            "d": d,
            "encoder": tuple(encoder),
            "encoder_heads": tuple(encoder_heads),
            "decoder": tuple(decoder),
            "decoder_heads": tuple(decoder_heads),
            "head": tuple(head),
            "dropout": dropout,
            "value_in_keys": value_in_keys,
        }
        self.value_in_keys = value_in_keys
        self.embedding = Embedding(len(scales), d)
        self.encoder = nn.ModuleList(
            Block(d, h, n, dropout) for h, n in zip(encoder_heads, encoder, strict=True)
        )
        self.decoder = nn.ModuleList(
            Block(d, h, n, dropout) for h, n in zip(decoder_heads, decoder, strict=True)
        )
        self.head = nn.Sequential(
            MLP(d, head[-1], head[:-1], dropout), nn.GELU(), nn.Dropout(dropout)
        )
        self.mean, self.log_variance = nn.Linear(head[-1], 1), nn.Linear(head[-1], 1)

    def encode(self, token, value):
        """Read a context.

        Parameters
        ----------
        token : (B, L) long tensor
            From `Scales.tokens`; 0 where there is none.
        value : (B, L) float tensor
            Standardised (`Scales.standardise`), finite.

        Returns
        -------
        x : (B, L, d) tensor
        keys : (B, L, d) tensor
            What attention looks at: x itself, unless `value_in_keys` is False.
        known : (B, L) bool tensor or None
            None where nothing is padded: attention without a mask is faster.
        """
        known = token > 0
        known = None if bool(known.all()) else known
        x = self.embedding(token, value)
        kind = None if self.value_in_keys else self.embedding.kind(token)
        for block in self.encoder:
            seen = x if kind is None else kind
            x = block(x, seen, seen, x, known)
        return x, x if kind is None else kind, known

    def decode(self, context, request):
        """Ask the context that `encode` returned: (B, R) tokens -> (B, R) means, log variances.

        Requests do not see one another: R of them are R questions at the price of one reading.
        """
        x, keys, known = context
        y = self.embedding.request(request)  # (B, R, d)
        for block in self.decoder:
            y = block(y, y, keys, x, known)
        # 16 bits hold three digits of an answer: too few for a value that is in the context.
        with torch.autocast(y.device.type, enabled=False):
            y = self.head(y.float())
            return self.mean(y)[..., 0], self.log_variance(y)[..., 0]

    def forward(self, token, value, request):
        """(B, L), (B, L), (B, R) -> two (B, R): mean and log variance of the standardised value."""
        return self.decode(self.encode(token, value), request)

    def prepare(self, context):
        """Turn a table into (token, value), both (stars, columns), after checking it.

        What is known comes first, so that a table of many half-empty columns costs no more than
        its longest star.

        Raises
        ------
        ValueError
            If the table is none, or empty, or has a column that is repeated or not in the
            vocabulary, or a star has more than `WINDOW` values, or one is infinite.
        """
        token, value = self._read(context)
        most = max(1, int((token > 0).sum(1).max()))
        order = (token == 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        return token.gather(1, order), value.gather(1, order)

    def _read(self, context):
        if not isinstance(context, pd.DataFrame):
            raise ValueError(f"the context must be a DataFrame, not {type(context).__name__}")
        if not len(context) or not len(context.columns):
            raise ValueError(f"the context is empty: its shape is {context.shape}")
        if context.columns.has_duplicates:
            twice = context.columns[context.columns.duplicated()][0]
            raise ValueError(f"the context has two columns {twice!r}")
        token, value = self.scales.read(context, context.columns)
        if (most := int((token > 0).sum(1).max())) > WINDOW:
            raise ValueError(
                f"a star has {most} values, the context window is {WINDOW}: choose columns"
            )
        return token, value

    def _asked(self, request):
        names = [] if request is None or isinstance(request, str) else list(request)
        if not names:
            raise ValueError(f"request must be a list of names, not {request!r}")
        if len(set(names)) < len(names):
            raise ValueError(f"a name is requested twice: {names}")
        return names, self.scales.tokens(names)

    @torch.no_grad()
    def predict(self, context, request, *, extrapolate=False, batch_size=256):
        """Predict anything from anything.

        Parameters
        ----------
        context : DataFrame
            One row a star, one column a token (`Scales.names`), in the units of
            `xp_apogee.XPApogee.table`; NaN where a value is missing.
        request : list of str
            What to predict, in any order. `WITHHELD` were never asked for in training: of their
            answers neither the scale nor the error can be trusted.
        extrapolate : bool
            Predict even where a value lies outside the range of the training stars.
        batch_size : int
            Stars at a time.

        Returns
        -------
        DataFrame
            Index of `context`; for each request ``name`` and ``name_error``, the model's standard
            error, in the same units; and ``flag``: empty, or why a star has NaN: "nothing known",
            "outside: " and the columns beyond the training range by more than a tenth of it.

        Raises
        ------
        ValueError
            As `prepare`, and for a request that is no list of different names.

        Notes
        -----
        Chapter 11 asks all the paper's questions through this one function.
        """
        request, asked = self._asked(request)
        token, value = self.prepare(context)
        device, parts = self.mean.weight.device, []
        with evaluating(self):
            for rows in torch.arange(len(token)).split(batch_size):
                t, v = token[rows].to(device), value[rows].to(device)
                mean, log_variance = self(t, v, asked.to(device).expand(len(rows), -1))
                parts.append(torch.stack([mean, (log_variance / 2).exp()]).cpu())
        mean, sigma = torch.cat(parts, dim=1).numpy()  # (stars, requests) each
        mean, sigma = self.scales.restore(mean, sigma, request)

        flag = np.where((token == 0).all(1), "nothing known", "").astype(object)
        outside = self.scales.outside(context)
        patterns, which = np.unique(outside, axis=0, return_inverse=True)
        columns = [", ".join(np.take(self.scales.names, np.flatnonzero(p))) for p in patterns]
        reasons = np.array([c and f"outside: {c}" for c in columns], dtype=object)[which.ravel()]
        flag = np.where(outside.any(axis=1), reasons, flag)
        blank = (flag == "nothing known") | (outside.any(axis=1) & (not extrapolate))
        mean[blank], sigma[blank] = np.nan, np.nan
        columns = {}
        for j, name in enumerate(request):
            columns |= {name: mean[:, j], f"{name}_error": sigma[:, j]}
        return pd.DataFrame(columns | {"flag": flag}, index=context.index)

    @torch.no_grad()
    def attention(self, context, request):
        """How much each request looks at each column of the context (Eq. 3, Fig. 12).

        Parameters
        ----------
        context, request
            As in `predict`; a missing value gets nothing.

        Returns
        -------
        (decoder blocks, stars, requests, columns + 1) array
            Mean over the heads; each row sums to one. The last column is the learned extra key.

        Raises
        ------
        ValueError
            As `predict`.

        Notes
        -----
        Shown in chapter 10.
        """
        device = self.mean.weight.device
        token, value = (x.to(device) for x in self._read(context))
        asked = self._asked(request)[1].to(device)
        looks = []
        with evaluating(self):
            x, keys, known = self.encode(token, value)
            y = self.embedding.request(asked.expand(len(context), -1))
            for block in self.decoder:
                looks.append(block.attention.weights(y, keys, known).mean(1))
                y = block(y, y, keys, x, known)
        return torch.stack(looks).cpu().numpy()

    def save(self, folder, metadata=None, *, half=True):
        """Write ``star_transformer.safetensors``; vocabulary, scales, sizes are its JSON header."""
        about = {"scales": asdict(self.scales), "size": self.size, "metadata": metadata or {}}
        save_weights(Path(folder) / FILE, self, about, half=half)

    @classmethod
    def load(cls, folder, device="cpu"):
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is none.
        CheckpointError
            If the file is damaged, or of another model or vocabulary.
        """
        path = Path(folder) / FILE
        tensors, about = load_weights(path)
        try:
            scales = Scales(**{k: tuple(v) for k, v in about["scales"].items()})
            model = cls(scales, **about["size"])
            model.load_state_dict(tensors)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not hold a StarTransformer ({error})") from error
        model.metadata = about.get("metadata", {})
        return model.to(pick_device(device)).eval()


@contextmanager
def evaluating(model):
    """Have a model in eval mode for a while."""
    training = model.training
    try:
        yield model.eval()
    finally:
        model.train(training)
