"""How DESA's spectra encoder learns: hide pixels, fill them, read labels; then from labels alone.

Kamai, Bronstein & Perets (2025), sections 3.1 and 3.1.1. Shown in chapter 02.
"""

import torch
from torch import nn

from stellarbook.desa.answers import restore, run
from stellarbook.learn import norms
from stellarbook.learn.checkpoint import fingerprint
from stellarbook.learn.conformal import hybrid_loss, known_pinball
from stellarbook.learn.fit import fit
from stellarbook.learn.optim import cosine
from stellarbook.learn.processes import pick_device

MASKED = 0.15  # of the pixels
FIXED = 0.8  # of these become 0; the others a random value


def mask_pixels(x, generator, share=MASKED, fixed=FIXED):
    """Hide pixels of prepared spectra, each pixel for itself.

    Parameters
    ----------
    x : (B, N) tensor
    generator : torch.Generator
    share : float
        Of the pixels that are hidden.
    fixed : float
        Of the hidden ones that become 0, the mean of an arm or the continuum; the others take the
        value that some pixel of the batch has.

    Returns
    -------
    hidden : (B, N) tensor
        A new one.
    masked : (B, N) bool tensor
        True = hidden.

    Notes
    -----
    Section 3.1.1. Departure: the authors' code draws the random values evenly between 0 and the
    maximum of the first spectrum that it sees, so that they are never negative.
    """
    draw = torch.rand(x.shape, generator=generator, device=x.device)
    other = torch.randint(x.numel(), x.shape, generator=generator, device=x.device)
    values = torch.where(draw < share * fixed, 0.0, x.flatten()[other])
    masked = draw < share
    return torch.where(masked, values, x), masked


def pretrain(encoder, train, val, *, share=0.5, masked_only=False, weighted=True, **training):
    """Train an encoder in place with the hybrid loss (Eq. 1); the best validated weights stay.

    Parameters
    ----------
    encoder : SpectraEncoder
    train, val : SpectraSample
    share : float
        λ: at 0 it only fills pixels, at 1 it only reads labels.
    masked_only : bool
        Whether only hidden pixels count as filled; in the authors' code all do.
    weighted : bool
        Whether a star's signal-to-noise weighs its loss.
    **training
        Of `stellarbook.learn.fit.fit`: ``steps`` above all, ``checkpoint``, ``progress``; defaults
        are batch_size=64, lr=2e-3, weight_decay=1e-4, seed=0, device="auto".

    Returns
    -------
    History

    Raises
    ------
    ValueError
        For spectra with NaN, and an S/N that is not positive where it is a weight. As `fit`, too.
    CheckpointError
        If the checkpoint is of other spectra, labels or settings, or began with other weights.

    Notes
    -----
    Section 3.1.1 and 5. Departures: a cosine from a hundredfold learning rate, after a warm-up, in
    place of a constant 2e-5: the training is short. Shown in chapter 02.
    """

    def loss(model, x, y, snr, generator):
        hidden, masked = mask_pixels(x, generator)
        filled, quantiles = model(hidden)
        return hybrid_loss(
            filled,
            x,
            quantiles,
            y,
            share,
            snr if weighted else None,
            masked if masked_only else None,
        )

    settings = {"share": share, "masked_only": masked_only, "weighted": weighted}
    return _fit(encoder, loss, train, val, settings, **training)


def train_on_labels(
    model, train, val=None, *, weighted=False, keep_norms=False, noise=0.0, **training
):
    """Train an encoder or a baseline in place on labels alone, of whole spectra.

    It settles an encoder that has only ever seen spectra with holes, fine-tunes one on real
    stars, and trains the baselines.

    Parameters
    ----------
    model : module with ``.read`` and ``.scale``
    train : SpectraSample
    val : SpectraSample, optional
        The best weights on it stay; without it the last.
    keep_norms : bool
        Whether BatchNorm keeps the statistics that it has: of a few stars they are noise.
    noise : float
        Standard deviation of noise added to the prepared pixels at each step, against learning a
        few real spectra by heart.
    weighted, **training
        As in `pretrain`, and so are the errors.

    Returns
    -------
    History

    Notes
    -----
    The loss is L_sup of Eq. 1. A label that is unknown (NaN) does not count. Shown in chapter 02.
    """

    def loss(model, x, y, snr, generator):
        if keep_norms:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.eval()
        if noise and model.training:
            x = x + noise * torch.randn(x.shape, generator=generator, device=x.device)
        miss = known_pinball(y, model.read(x)).mean(dim=1)  # (B,)
        return (snr * miss).sum() / snr.sum() if weighted else miss.mean()

    settings = {"weighted": weighted, "keep_norms": keep_norms, "noise": noise}
    return _fit(model, loss, train, val, settings, **training)


def measure_norms(model, sample, *, most=12_800, seed=0, batch_size=512, device="auto"):
    """Measure the statistics of BatchNorm anew, on whole spectra: `learn.norms.measure_norms`.

    Parameters
    ----------
    model : module with ``.read``
        In place; it comes back in eval mode.
    sample : SpectraSample
        Spectra like those that it was trained on.
    most, seed, batch_size, device
        As there.

    Notes
    -----
    Shown in chapter 02.
    """
    device = pick_device(device)
    norms.measure_norms(
        model,
        lambda index: model.read(sample.x[index].to(device).float()),
        len(sample),
        **{"most": most, "seed": seed, "batch_size": batch_size, "device": device},
    )


def quantiles(model, sample, batch_size=512, device="auto"):
    """Quantiles of a sample's labels, (n, labels, levels), in their units, not calibrated."""
    return restore(model.scale, run(model, model.read, sample.x, batch_size, device))


def _fit(
    model,
    loss,
    train,
    val,
    settings,
    *,
    steps,
    batch_size=64,
    lr=2e-3,
    weight_decay=1e-4,
    seed=0,
    device="auto",
    **others,
):
    device = pick_device(device)
    x, y, snr = _tensors(model, train, device, settings["weighted"])
    held = val and _tensors(model, val, device, settings["weighted"])
    data = fingerprint(x, y, snr, *(held or ()))  # the labels' scale is in it
    start = fingerprint(*model.state_dict().values())

    def step(model, index, generator):
        return loss(model, x[index].float(), y[index], snr[index], generator)

    def validate(model):
        # The same pixels hidden each time.
        generator = torch.Generator(device).manual_seed(seed)
        losses, sizes = [], []
        for x, y, snr in zip(*(part.split(512) for part in held), strict=True):
            losses.append(loss(model, x.float(), y, snr, generator))
            sizes.append(snr.sum() if settings["weighted"] else snr.new_tensor(len(snr)))
        sizes = torch.stack(sizes)
        return (torch.stack(losses) * sizes).sum() / sizes.sum()

    return fit(
        model,
        step,
        len(x),
        steps=steps,
        batch_size=min(batch_size, len(x)),
        lr=lr,
        weight_decay=weight_decay,
        schedule=cosine(warmup=min(200, steps // 10)),
        validate=validate if held else None,
        seed=seed,
        device=device,
        configuration=settings | {"data": data, "start": start},
        **others,
    )


def _tensors(model, sample, device, weighted):
    if unknown := int((~sample.x.isfinite()).any(dim=1).sum()):
        raise ValueError(f"{unknown} of {len(sample)} spectra have pixels that are not finite")
    if weighted and (unknown := int((~(sample.snr > 0) | sample.snr.isinf()).sum())):
        raise ValueError(f"{unknown} of {len(sample)} S/N are not positive: no weights")
    y = torch.from_numpy(model.scale.standardise(sample.labels.numpy())).float()
    return sample.x.to(device), y.to(device), sample.snr.to(device)
