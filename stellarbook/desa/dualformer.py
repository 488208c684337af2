r"""DualFormer: spectra and light curves of the same stars, aligned through one matrix.

Two sequences of tokens read themselves and each other; each is averaged, gets what is known of the
star, and is projected, one by :math:`A`, the other by :math:`A^T`.

::

    model = DualFormer.load(folder)
    f = model.features(spectra_tokens, light_curve_tokens, labels)

Kamai, Bronstein & Perets (2025), section 3.2 and Fig. 1. Shown in chapter 04.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from stellarbook.desa import dual_loss, eigenspace
from stellarbook.desa.answers import run
from stellarbook.layers.conformer import rotary
from stellarbook.learn.checkpoint import CheckpointError, load_weights, save_weights

FILE = "dualformer.safetensors"
LABELS = ("teff", "logg", "feh", "prot", "radius", "ruwe")  # section 6.2
ATTENTIONS = ("both", "self", "cross")
PAPER = {"d": 256, "blocks": 4, "heads": 8, "labels": len(LABELS)}
SMALL = {"d": 64, "blocks": 2, "heads": 4}
LONG = 512  # tokens of a sequence that `Dense` reads in pieces


class Dual(NamedTuple):
    """What `DualFormer` makes of a batch: (B, D) tensors, D = d + labels; 1 spectra, 2 curves.

    ``z1, z2`` before the projections, ``p1, p2`` after: :math:`A z_1` and :math:`A^T z_2`.
    """

    z1: torch.Tensor
    z2: torch.Tensor
    p1: torch.Tensor
    p2: torch.Tensor


class DualAttention(nn.Module):
    """Attention of each of two sequences to itself, to the other, or to both with one query.

    Parameters
    ----------
    d, heads : int
        Width, and the heads that share it.
    attention : str
        Of `ATTENTIONS`. "both" adds what a query finds in its own sequence and in the other, as
        the authors' code does; no weights are added by it.

    Raises
    ------
    ValueError
        For another attention, heads that do not divide the width, or heads whose half is odd.

    Notes
    -----
    Half of each head's features are turned by the token's position in its own sequence
    (`rotary`), as in the authors' code. No score matrix is kept: memory grows with the tokens, not
    with their square. (Upper panel of Fig. 2.) Shown in chapter 04.
    """

    def __init__(self, d, heads, attention="both"):
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"no attention {attention!r}: there are {', '.join(ATTENTIONS)}")
        if d % heads:
            raise ValueError(f"{heads} heads do not divide a width of {d}")
        self.heads, self.attention, self.turned = heads, attention, d // heads // 2
        if self.turned % 2:
            raise ValueError(f"{self.turned} turned features of a head are not in pairs")
        self.qkv = nn.ModuleList(nn.Linear(d, 3 * d) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(d, d) for _ in range(2))

    def forward(self, x1, x2):
        """(B, L1, d) and (B, L2, d) -> the same shapes."""
        asked = [self._split(qkv(x)) for qkv, x in zip(self.qkv, (x1, x2), strict=True)]
        found = []
        for own, other in (asked, asked[::-1]):
            q = own[0]
            seen = [attend(q, *own[1:])] if self.attention != "cross" else []
            seen += [attend(q, *other[1:])] if self.attention != "self" else []
            found.append(sum(seen).transpose(1, 2).flatten(2))  # (B, L, d)
        return tuple(out(x.to(x1.dtype)) for out, x in zip(self.out, found, strict=True))

    def _split(self, x):
        """(B, L, 3 d) -> queries, keys, values (B, H, L, d / H), the first two turned."""
        q, k, v = x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        t = self.turned
        q, k = (torch.cat([rotary(y[..., :t]), y[..., t:]], dim=-1) for y in (q, k))
        return q, k, v.contiguous()  # a view would keep all three alive


def attend(q, k, v):
    """Scaled dot-product attention; in 32 bits on a CPU, whose kernel is slower in 16."""
    with torch.autocast("cpu", enabled=False):
        if not q.is_cuda:
            kind = torch.promote_types(q.dtype, torch.float32)
            q, k, v = q.to(kind), k.to(kind), v.to(kind)
        return F.scaled_dot_product_attention(q, k, v)


class Dense(nn.Sequential):
    """LayerNorm, Linear to 8 d, GELU, LayerNorm, Dropout, Linear back (the authors' code).

    Of sequences longer than `LONG` the wide activations, which would take most of the memory, are
    not kept for the gradient but computed again, piece by piece.
    """

    def __init__(self, d, dropout):
        super().__init__(
            nn.LayerNorm(d),
            nn.Linear(d, 8 * d),
            nn.GELU(),
            nn.LayerNorm(8 * d),
            nn.Dropout(dropout),
            nn.Linear(8 * d, d),
            nn.Dropout(dropout),
        )

    def forward(self, x):
        """(B, L, d) -> (B, L, d)."""
        if x.shape[1] <= LONG:
            return super().forward(x)
        pieces = x.flatten(0, 1).split(LONG)  # a token is read for itself
        again = super().forward
        done = [checkpoint(again, piece, use_reentrant=False) for piece in pieces]
        return torch.cat(done).view_as(x)


class DualBlock(nn.Module):
    """Pre-norm: `DualAttention`, then for each sequence a dense layer of 8 d hidden units."""

    def __init__(self, d, heads, attention, dropout):
        super().__init__()
        self.attention = DualAttention(d, heads, attention)
        self.before = nn.ModuleList(nn.LayerNorm(d) for _ in range(2))
        self.dense = nn.ModuleList(Dense(d, dropout) for _ in range(2))
        self.drop = nn.Dropout(dropout)

    def forward(self, x1, x2):
        """(B, L1, d) and (B, L2, d) -> the same shapes."""
        found = self.attention(self.before[0](x1), self.before[1](x2))
        x1, x2 = x1 + self.drop(found[0]), x2 + self.drop(found[1])
        return x1 + self.dense[0](x1), x2 + self.dense[1](x2)


class Trunk(nn.Module):
    """What DualFormer and the models that it is compared with share: tokens and labels in, z out.

    Parameters
    ----------
    spectra, light_curve : int
        Width of the tokens of each kind.
    d, blocks, heads, attention, dropout
        Of `DualFormer`.
    labels : int
        Conditional labels that are put behind the d pooled features of both sequences.

    Notes
    -----
    With ``attention="self"`` the two sequences never meet: two towers. Shown in chapter 04.
    """

    def __init__(self, spectra, light_curve, d, blocks, heads, labels, attention, dropout):
        super().__init__()
        self.widths, self.labels, self.size = (spectra, light_curve), labels, d + labels
        self.embed = nn.ModuleList(nn.Linear(width, d) for width in self.widths)
        self.blocks = nn.ModuleList(DualBlock(d, heads, attention, dropout) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2))

    def forward(self, spectra, light_curve, labels=None):
        """(B, L1, W1), (B, L2, W2) and (B, labels) -> (B, D) and (B, D)."""
        x1, x2 = (
            embed(self._check(x, i))
            for i, (embed, x) in enumerate(zip(self.embed, (spectra, light_curve), strict=True))
        )
        for block in self.blocks:
            x1, x2 = block(x1, x2)
        known = self._known(labels, x1)
        return tuple(
            torch.cat([norm(x).mean(dim=1), known], dim=1)
            for norm, x in zip(self.norms, (x1, x2), strict=True)
        )

    def _check(self, x, i):
        name, width = ("spectra", "light_curve")[i], self.widths[i]
        if x.ndim == 2 and width == 1:
            x = x[..., None]  # a vector of features is a sequence of scalars
        if x.ndim != 3 or x.shape[2] != width:
            raise ValueError(f"{name} tokens {tuple(x.shape)}: expected (B, L, {width})")
        return x

    def _known(self, labels, like):
        shape = len(like), self.labels
        if labels is None:
            return like.new_zeros(shape)
        if tuple(labels.shape) != shape:
            raise ValueError(f"labels {tuple(labels.shape)}: expected {shape}")
        return labels.to(like).nan_to_num(nan=0.0)


class DualFormer(nn.Module):
    r"""Tokens of a spectrum and of a light curve in; two aligned views of the star out.

    Without arguments it has the authors' size and, as in their code, reads feature vectors as
    sequences of scalars. Shapes: B stars, L tokens, W their widths, D = d + labels.

    Parameters
    ----------
    spectra, light_curve : int
        Widths W1 and W2 of the tokens.
    d, blocks, heads : int
        Width, depth and attention heads.
    labels : int
        Conditional labels: standardised, NaN where unknown. The authors': `LABELS`.
    attention : str
        "both", or for the ablation of Fig. 2 "self" or "cross" alone.
    transpose : bool
        Whether the light curve is projected by :math:`A^T` (the paper) or by :math:`A`.
    dropout : float

    Attributes
    ----------
    settings : dict
        The arguments above.
    projected : int
        Features that both projections have, together.
    metadata : dict
        What `save` was given.

    Raises
    ------
    ValueError
        As `DualAttention`.

    Notes
    -----
    Departures: an unknown label is 0, the mean of the training stars (the authors: −1); each kind
    of token has an embedding of its own. Shown in chapter 04.
    """

    def __init__(
        self,
        *,
        spectra=1,
        light_curve=1,
        d=PAPER["d"],
        blocks=PAPER["blocks"],
        heads=PAPER["heads"],
        labels=PAPER["labels"],
        attention="both",
        transpose=True,
        dropout=0.1,
    ):
        super().__init__()
        self.settings = {
            **{"spectra": spectra, "light_curve": light_curve, "d": d, "blocks": blocks},
            **{"heads": heads, "labels": labels, "attention": attention},
            **{"transpose": transpose, "dropout": dropout},
        }
        self.trunk = Trunk(spectra, light_curve, d, blocks, heads, labels, attention, dropout)
        self.a = nn.Linear(self.trunk.size, self.trunk.size, bias=False)  # A of Eq. 6
        self.projected = 2 * self.trunk.size
        self.metadata = {}

    def forward(self, spectra_tokens, light_curve_tokens, labels=None):
        """(B, L1, W1), (B, L2, W2) and (B, labels) -> `Dual`.

        Raises
        ------
        ValueError
            For other shapes.
        """
        z1, z2 = self.trunk(spectra_tokens, light_curve_tokens, labels)
        a = self.a.weight
        return Dual(z1, z2, z1 @ a.T, z2 @ (a if self.settings["transpose"] else a.T))

    def project(self, spectra_tokens, light_curve_tokens, labels=None):
        """(B, L1, W1), (B, L2, W2) and (B, labels) -> p1 and p2, (B, D) each."""
        return self(spectra_tokens, light_curve_tokens, labels)[2:]

    def loss(self, spectra_tokens, light_curve_tokens, labels=None, ids=None, **weights):
        """`dual_loss.total` of a batch, a dict with "loss", "dual", "covariance", "variance".

        It does not ask whose the rows are; other aligners do (``ids``).
        """
        return dual_loss.total(*self(spectra_tokens, light_curve_tokens, labels), **weights)

    def embed(self, spectra_tokens, light_curve_tokens, labels=None):
        """Final features (B, D): :math:`f = (z_1 + z_2)^T V`, Eq. 8; V from `eigenspace.basis`."""
        z1, z2 = self.trunk(spectra_tokens, light_curve_tokens, labels)
        return (z1 + z2) @ eigenspace.basis(self.a.weight.detach()).to(z1)

    def features(
        self, spectra_tokens, light_curve_tokens, labels=None, *, batch_size=256, device="auto"
    ):
        """`embed` of many stars, in eval mode, without gradients.

        Parameters
        ----------
        spectra_tokens, light_curve_tokens : (n, L1, W1), (n, L2, W2) tensors
        labels : (n, labels) tensor, optional
            Standardised; NaN where unknown; all unknown by default.
        batch_size, device
            Stars at a time; see `pick_device`. The model stays there.

        Returns
        -------
        (n, D) float32 array

        Raises
        ------
        ValueError
            For other shapes.
        """
        inputs = (spectra_tokens, light_curve_tokens) + (() if labels is None else (labels,))
        return run(self, self.embed, inputs, batch_size, device)

    def save(self, folder, metadata=None, *, half=True):
        """Write weights and settings to ``folder`` as safetensors.

        Parameters
        ----------
        folder, metadata
            Anything JSON can hold, in place of the model's own metadata.
        half : bool
            As in `stellarbook.learn.checkpoint.save_weights`, and so are the errors.
        """
        about = {"settings": self.settings, "metadata": metadata or self.metadata}
        save_weights(Path(folder) / FILE, self, about, half=half)

    @classmethod
    def load(cls, folder):
        """Read what `save` wrote: a model on the CPU, in eval mode.

        Raises
        ------
        FileNotFoundError
            If there is none.
        CheckpointError
            If the file is damaged or of another model.
        """
        path = Path(folder) / FILE
        weights, about = load_weights(path)
        try:
            model = cls(**about["settings"])
            model.load_state_dict(weights)
            model.metadata = about["metadata"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not hold a DualFormer ({error})") from error
        return model.eval()
