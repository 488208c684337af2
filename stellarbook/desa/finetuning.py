"""Fine-tuning an aligner, or one tower alone, on what no label told it: companions, ages.

A small Transformer reads the projected features as a sequence of scalars and answers; everything
learns (Kamai, Bronstein & Perets 2025, sections 6.3 and 6.4). Shown in chapter 05.
"""

import torch
import torch.nn.functional as F
from torch import nn

from stellarbook.desa.alignment_baselines import Towers
from stellarbook.desa.alignment_training import tensors
from stellarbook.desa.answers import run
from stellarbook.learn.checkpoint import fingerprint
from stellarbook.learn.conformal import QUANTILES, known_pinball
from stellarbook.learn.fit import fit
from stellarbook.learn.optim import cosine
from stellarbook.learn.processes import pick_device

PAPER = {"width": 64, "layers": 8, "heads": 4}  # of the head, the authors' code
SMALL = {"width": 32, "layers": 2, "heads": 2}


class Alone(Towers):
    """What an encoder knows without the other: both towers read the same modality.

    So it is as large as the models of both, and all of it learns.

    Parameters
    ----------
    which : int
        0 for spectra, 1 for light curves.
    spectra, light_curve : int
        Width of the tokens of each kind.
    **sizes
        Others of `Towers`.

    Notes
    -----
    Shown in chapter 05.
    """

    def __init__(self, which, *, spectra=1, light_curve=1, **sizes):
        if which not in (0, 1):
            raise ValueError(f"which is {which!r}: expected 0, spectra, or 1, light curves")
        width = (spectra, light_curve)[which]
        super().__init__(spectra=width, light_curve=width, **sizes)
        self.which = which

    def project(self, spectra, light_curve, labels=None):
        """(B, L1, W1), (B, L2, W2) and (B, labels) -> two tensors (B, D / 2)."""
        x = (spectra, light_curve)[self.which]
        return super().project(x, x, labels)


class Finetuned(nn.Module):
    """An aligner and a head that answers.

    Parameters
    ----------
    backbone : module with ``project`` and ``projected``
        `DualFormer`, a model of `alignment_baselines`, or `Alone`.
    out : int
        Numbers that the head gives.
    width, layers, heads : int
        Of the head's Transformer.
    dropout : float

    Notes
    -----
    Each scalar has an embedding of its own: a sequence of scalars does not say by itself which
    feature is which. Shown in chapter 05.
    """

    def __init__(
        self,
        backbone,
        out,
        *,
        width=PAPER["width"],
        layers=PAPER["layers"],
        heads=PAPER["heads"],
        dropout=0.1,
    ):
        super().__init__()
        self.backbone, size = backbone, backbone.projected
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))
        self.scale = nn.Parameter(torch.randn(size, width) * width**-0.5)
        self.place = nn.Parameter(torch.randn(size, width) * width**-0.5)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out))

    def forward(self, spectra, light_curve, labels=None):
        """(B, L1, W1), (B, L2, W2) and (B, labels) -> (B, out)."""
        features = (self._projected(spectra, light_curve, labels) - self.centre) / self.spread
        x = features[..., None] * self.scale + self.place  # (B, size, width)
        return self.out(self.layers(x).mean(dim=1))

    def standardise(self, pairs, *, batch_size=256, device="auto"):
        """Let the head read each projected feature with mean 0 and spread 1 over these stars.

        The authors do not. An alignment may leave the projections of all stars nearly alike: what
        the head reads of a star is then small beside what all stars share.

        Parameters
        ----------
        pairs : Pairs
            Of the training, before it.
        batch_size, device
            Rows at a time; see `pick_device`.
        """
        inputs = pairs.spectra, pairs.light_curve, pairs.labels
        found = torch.from_numpy(run(self, self._projected, inputs, batch_size, device))
        self.centre.copy_(found.mean(dim=0))
        self.spread.copy_(found.std(dim=0).clamp(min=1e-6))

    def _projected(self, *inputs):
        return torch.cat(self.backbone.project(*inputs), dim=1)


def cross_entropy(answer, truth):
    """(B, 1) logits and (B, 1) of 0 and 1 -> the mean over stars, ()."""
    return F.binary_cross_entropy_with_logits(answer, truth)


def quantile_loss(answer, truth):
    """(B, labels · levels) and (B, labels) -> the pinball loss at `QUANTILES`, ()."""
    found = answer.unflatten(1, (truth.shape[1], len(QUANTILES)))
    return known_pinball(truth, found).mean()


def finetune(
    model,
    train,
    truth,
    val,
    val_truth,
    loss,
    *,
    steps,
    batch_size=64,
    lr=5e-4,
    weight_decay=1e-2,
    labels=True,
    seed=0,
    device="auto",
    **others,
):
    """Train all weights in place; the best validated ones stay.

    Parameters
    ----------
    model : Finetuned
    train, val : Pairs
        Of different stars.
    truth, val_truth : (n, k) tensor
        What is learnt, one row a row of the pairs.
    loss : callable
        `cross_entropy` or `quantile_loss`.
    labels : bool
        Whether the model is given the conditional labels.
    steps, batch_size, lr, weight_decay, seed, device, **others
        Of `stellarbook.learn.fit.fit`.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If a star is in both samples, tokens are not finite, or rows and truths differ in number.
        As `fit`, too.
    CheckpointError
        If the checkpoint is of other data or settings, or began with other weights.

    Notes
    -----
    Shown in chapter 05.
    """
    for part, y in ((train, truth), (val, val_truth)):
        if len(part) != len(y):
            raise ValueError(f"{len(part)} rows and {len(y)} truths: expected as many")
    device = pick_device(device)

    inputs, held = (
        (*part[:3], y.to(device).float())  # without ids
        for part, y in zip(tensors(train, val, labels, device), (truth, val_truth), strict=True)
    )

    def judged(model, x1, x2, known, y):
        with torch.autocast(device.type, enabled=False):
            return loss(model(x1.float(), x2.float(), known).float(), y)

    def step(model, index, generator):
        return judged(model, *(x[index] for x in inputs))

    def validate(model):
        parts = list(zip(*(x.split(256) for x in held), strict=True))
        total = sum(float(judged(model, *part)) * len(part[0]) for part in parts)
        return total / len(val)

    return fit(
        model,
        step,
        len(train),
        steps=steps,
        batch_size=min(batch_size, len(train)),
        lr=lr,
        weight_decay=weight_decay,
        schedule=cosine(warmup=min(100, steps // 10)),
        validate=validate,
        seed=seed,
        device=device,
        configuration={
            "labels": labels,
            "loss": loss.__name__,
            "data": fingerprint(*inputs, *held),
            "start": fingerprint(*model.state_dict().values()),
        },
        **others,
    )


def answers(model, pairs, *, labels=True, batch_size=256, device="auto"):
    """What a model says of pairs, (n, out) array, in eval mode."""
    inputs = (pairs.spectra, pairs.light_curve) + ((pairs.labels,) if labels else ())
    return run(model, model, inputs, batch_size, device)
