"""How DualFormer and the models that it is compared with learn, and how their features are read.

The encoders are frozen: what is read here are their tokens, computed once (`pairs`). Shown in
chapter 04.
"""

from dataclasses import replace

import torch

from stellarbook.desa.answers import run
from stellarbook.learn.checkpoint import fingerprint
from stellarbook.learn.fit import fit
from stellarbook.learn.optim import cosine
from stellarbook.learn.processes import pick_device


def align(
    model,
    train,
    val,
    *,
    steps,
    batch_size=64,
    lr=1e-3,
    weight_decay=1e-2,
    labels=True,
    seed=0,
    device="auto",
    weights=None,
    **others,
):
    """Train an aligner in place on pairs; the best validated weights stay.

    Parameters
    ----------
    model : DualFormer or a model of `alignment_baselines`
    train, val : Pairs
        Of different stars.
    steps, batch_size, lr, weight_decay, seed, device, **others
        Of `stellarbook.learn.fit.fit`.
    labels : bool
        Whether the model is given the conditional labels.
    weights : dict, optional
        Of the loss (`dual_loss.total`), for a DualFormer.

    Returns
    -------
    History
        Of the terms of the model's loss.

    Raises
    ------
    ValueError
        If a star is in both samples, or tokens are not finite. As `fit`, too.
    CheckpointError
        If the checkpoint is of other pairs or settings, or began with other weights.

    Notes
    -----
    A row is a spectrum with its star's light curve; a star with several spectra is drawn as often,
    as in the paper, except by a model that is ``clean``: it draws stars, and one spectrum of each.
    Departures: a cosine from a higher learning rate, after a warm-up: the training is short.
    Shown in chapter 04.
    """
    device, weights = pick_device(device), weights or {}
    inputs, held = tensors(train, val, labels, device)
    clean = getattr(model, "clean", False)
    stars = _Stars(train.ids, device) if clean else None
    configuration = {"labels": labels, "weights": weights, "clean": clean}
    configuration |= {"data": fingerprint(*inputs, *held)}
    configuration |= {"start": fingerprint(*model.state_dict().values())}

    def loss(model, inputs, index):
        x1, x2, y, ids = (x[index] for x in inputs)
        return model.loss(x1.float(), x2.float(), y, ids, **weights)

    def step(model, index, generator):
        return loss(model, inputs, stars.draw(index, generator) if clean else index)

    def validate(model):
        total, parts = 0.0, torch.arange(len(held[0]), device=device).split(batch_size)
        for part in parts[: len(held[0]) // batch_size or 1]:  # whole batches: the loss knows B
            total += float(loss(model, held, part)["loss"])
        return total / (len(held[0]) // batch_size or 1)

    n = len(stars) if clean else len(inputs[0])
    return fit(
        model,
        step,
        n,
        steps=steps,
        batch_size=min(batch_size, n),
        lr=lr,
        weight_decay=weight_decay,
        schedule=cosine(warmup=min(100, steps // 10)),
        validate=validate,
        seed=seed,
        device=device,
        configuration=configuration,
        **others,
    )


def features(model, pairs, *, labels=True, batch_size=256, device="auto"):
    """Final features of pairs, (n, D) array, in eval mode.

    Parameters
    ----------
    model : as `align`
    pairs : Pairs
    labels : bool
        Whether the model is given the conditional labels.
    batch_size, device
        Rows at a time; see `pick_device`. The model stays there.

    Notes
    -----
    Shown in chapters 04 and 05.
    """
    inputs = (pairs.spectra, pairs.light_curve) + ((pairs.labels,) if labels else ())
    return run(model, model.embed, inputs, batch_size, device)


def sensitivity(model, pairs, *, labels=True, batch_size=256, device="auto"):
    """How much each final feature changes when one modality is replaced by zeros (Fig. 16).

    Parameters
    ----------
    model, pairs, labels, batch_size, device
        As `align` and `features`.

    Returns
    -------
    spectra_only, light_curve_only : (D,) arrays
        Mean absolute difference from the features with both: without the light curve, and without
        the spectrum. Where the second is the smaller one, the light curve rules the feature.
    """
    options = {"labels": labels, "batch_size": batch_size, "device": device}
    whole = features(model, pairs, **options)
    without = (
        replace(pairs, **{side: torch.zeros_like(getattr(pairs, side))})
        for side in ("light_curve", "spectra")
    )
    return tuple(abs(features(model, x, **options) - whole).mean(axis=0) for x in without)


class _Stars:
    """The rows of each star, for drawing one of them."""

    def __init__(self, ids, device):
        order = torch.argsort(ids, stable=True).to(device)
        _, counts = torch.unique_consecutive(ids.to(device)[order], return_counts=True)
        self.order, self.counts = order, counts
        self.first = counts.cumsum(0) - counts

    def __len__(self):
        return len(self.counts)

    def draw(self, stars, generator):
        """Positions of stars (B,) -> a row of each (B,)."""
        share = torch.rand(len(stars), generator=generator, device=stars.device)
        some = (share * self.counts[stars]).long()
        return self.order[self.first[stars] + some.minimum(self.counts[stars] - 1)]


def tensors(train, val, labels, device):
    """Tokens of both kinds, labels (NaN if they are not to be told) and ids, of two samples.

    Raises
    ------
    ValueError
        If a star is in both samples, or tokens are not finite.
    """
    if both := set(train.ids.tolist()) & set(val.ids.tolist()):
        raise ValueError(f"{len(both)} stars are in both samples, {min(both)} for one")
    return tuple(_tensors(part, labels, device) for part in (train, val))


def _tensors(pairs, labels, device):
    for name in ("spectra", "light_curve"):
        x = getattr(pairs, name)
        if unknown := int((~x.isfinite()).flatten(1).any(dim=1).sum()):
            raise ValueError(f"{unknown} of {len(pairs)} pairs have {name} tokens not finite")
    y = pairs.labels if labels else torch.full_like(pairs.labels, torch.nan)
    return tuple(x.to(device) for x in (pairs.spectra, pairs.light_curve, y, pairs.ids))
