"""How the star transformer is trained. Leung & Bovy (2024), section 5. Shown in chapter 10."""

import copy

import torch

from stellarbook.learn.checkpoint import fingerprint
from stellarbook.learn.fit import fit
from stellarbook.learn.optim import cosine, muon
from stellarbook.learn.processes import bf16_is_fast, pick_device, stream
from stellarbook.star_transformer.model import SMALL, StarTransformer
from stellarbook.star_transformer.sampling import Sampler
from stellarbook.star_transformer.tokens import NAMES, Scales


def robust_loss(mean, log_variance, target, sigma):
    """The loss of one request, J = (ŷ − y)² / 2eˢ + s / 2, eˢ = σ_known² + σ_predicted² (Eq. 11).

    Parameters
    ----------
    mean, log_variance : tensors
        The model's answer; σ_predicted² is the exponential of the second.
    target, sigma : tensors
        The value asked for and its known standard error, of the same shape.

    Returns
    -------
    tensor
        One loss an element.
    """
    variance = log_variance.exp() + sigma**2
    return ((mean - target) ** 2 / variance + variance.log()) / 2


def batch_loss(model, batch):
    """Weighted mean of `robust_loss` over a `Batch`; requests that are padding weigh nothing."""
    mean, log_variance = model(batch.token, batch.value, batch.request)
    loss = robust_loss(mean, log_variance, batch.target, batch.sigma)
    return (batch.weight * loss).sum() / batch.weight.sum()


def train(
    stars,
    val_stars,
    *,
    names=NAMES,
    size=SMALL,
    start=None,
    steps,
    batch_size=64,
    lr=2e-3,
    weight_decay=0.01,
    optimizer=muon,
    schedule=None,
    ema=None,
    seed=0,
    device="auto",
    bf16=True,
    checkpoint=None,
    progress=True,
    **sampling,
):
    """Train a star transformer.

    Parameters
    ----------
    stars, val_stars : DataFrame
        Training and validation stars: a column for each of `names`, ``<name>_error`` where known.
    names : sequence of str
        The vocabulary.
    size : dict
        `PAPER`, `SMALL` or another set of arguments of `StarTransformer`.
    start : StarTransformer, optional
        Go on from a copy of this trained one, whose vocabulary, scales and size then hold.
    steps, batch_size, lr, weight_decay, optimizer, schedule, ema, seed, device
        As in `fit`, and so are checkpoint and progress. The schedule is a cosine by default; the
        paper's is `warm_restarts`.
    bf16 : bool
        Multiply matrices in bfloat16 wherever that is fast: on a GPU, and on CPUs that have it.
    sampling
        Dials of `Sampler`.

    Returns
    -------
    model : StarTransformer
        On the device, in eval mode.
    history : History
        The validation is the paper's task: `Sampler` as the paper has it, but many requests, on
        all validation stars, always the same.
    """
    device = pick_device(device)
    if start is None:
        with torch.random.fork_rng([]):
            torch.manual_seed(stream(seed, 10))
            model = StarTransformer(Scales.of(stars, names), **size)
    else:
        model = copy.deepcopy(start)
    sampler = Sampler.of(model.scales, stars, device, **sampling)
    validate = validation(model.scales, val_stars, device)
    short = bf16 and bf16_is_fast(device)

    def step(model, index, generator):
        with torch.autocast(device.type, torch.bfloat16, enabled=short):
            return batch_loss(model, sampler(index, generator))

    history = fit(
        model,
        step,
        len(stars),
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        optimizer=optimizer,
        schedule=schedule or cosine(warmup=min(200, steps // 10)),
        ema=ema,
        validate=validate,
        validate_every=max(1, steps // 10),
        checkpoint=checkpoint,
        seed=seed,
        device=str(device),
        bf16=bf16,
        progress=progress,
        configuration={
            "sampling": sampler.dials(),
            "size": model.size,
            "autocast": short,
            "names": list(model.scales.names),
            "data": fingerprint(sampler.z, sampler.sigma),
            "start": start and fingerprint(*start.state_dict().values()),
        },
    )
    return model, history


def validation(scales, stars, device="cpu", *, repeats=1, seed=0):
    """Return `model -> float`, the mean loss of the paper's own task on validation stars.

    The task is `Sampler` with the paper's settings, 16 requests a context for a steadier number:
    any tokens, labels not hidden. The draws are the same at every call.
    """
    sampler = Sampler.of(
        scales,
        stars,
        device,
        full=0.0,
        ask_labels=False,
        label_weight=1.0,
        hide=None,
        families={"any": 1.0},
    )

    def validate(model):
        generator = torch.Generator(device).manual_seed(stream(seed, 11))
        # Small batches: each has one length of its contexts.
        parts = torch.arange(len(stars), device=device).repeat(repeats).split(64)
        losses = [batch_loss(model, sampler(index, generator)) * len(index) for index in parts]
        return float(torch.stack(losses).sum() / (len(stars) * repeats))

    return validate
