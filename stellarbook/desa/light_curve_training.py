"""How DESA's light-curve encoder learns: two views of a star agree, and tell its period.

Kamai, Bronstein & Perets (2025), section 3.1.2; SimSiam: Chen & He (2021), arXiv:2011.10566.
Shown in chapter 03.
"""

import torch
import torch.nn.functional as F

from stellarbook.desa.answers import restore, run
from stellarbook.learn import norms
from stellarbook.learn.checkpoint import fingerprint
from stellarbook.learn.conformal import known_pinball
from stellarbook.learn.fit import fit
from stellarbook.learn.optim import cosine
from stellarbook.learn.processes import pick_device


def simsiam(p1, p2, z1, z2, *, stop=True):
    r"""SimSiam's loss, :math:`-\frac12 [\cos(p_1, \bar z_2) + \cos(p_2, \bar z_1)]`.

    Parameters
    ----------
    p1, p2 : (B, F) tensors
        What the predictor makes of the features of the two views.
    z1, z2 : (B, F) tensors
        The features. No gradient flows through them here,
    stop : bool
        unless this is False: then nothing keeps all features from becoming the same.

    Returns
    -------
    () tensor
        Between −1, where the views agree, and 1; the mean over stars.

    Notes
    -----
    Eqs. 2 and 3 of the paper, with the sign that can be minimised: as printed, the loss is the
    similarity itself, and its minimum sets the views against each other. Shown in chapter 03.
    """
    if stop:
        z1, z2 = z1.detach(), z2.detach()
    first = F.cosine_similarity(p1, z2, dim=-1)
    second = F.cosine_similarity(p2, z1, dim=-1)
    return -0.5 * (first + second).mean()


def embedding_spread(z) -> float:
    """Return how far apart features (n, F) lie: 1 for random directions, 0 once collapsed.

    The standard deviation over stars of each component of z / ‖z‖, averaged over components,
    times √F (Chen & He 2021, Fig. 2).
    """
    z = F.normalize(torch.as_tensor(z).double(), dim=-1)
    return float(z.std(dim=0, correction=0).mean() * z.shape[-1] ** 0.5)


def pretrain(encoder, train, val, *, share=0.5, stop=True, noise=0.0, **training):
    """Train an encoder in place with the hybrid loss (Eq. 1).

    The weights stay that met the period of the validation stars best (at λ = 0: agreed best).

    Parameters
    ----------
    encoder : LightCurveEncoder
    train, val : LightCurveSample
        Of two views at least. Of more, each step draws two for all its stars.
    share : float
        λ: at 0 two views only agree, at 1 they only tell the period.
    stop : bool
        Of `simsiam`.
    noise : float
        Standard deviation of noise added to the transforms at each step.
    **training
        Of `stellarbook.learn.fit.fit`: ``steps`` above all, ``checkpoint``, ``progress``; defaults
        are batch_size=128, lr=2e-3, weight_decay=1e-2, seed=0, device="auto".

    Returns
    -------
    History
        Of loss, ``agreement`` (SimSiam's loss), ``miss`` (the pinball loss of the quantiles) and
        ``spread`` (`embedding_spread` of a batch).

    Raises
    ------
    ValueError
        For samples with one view or with views that are not finite. As `fit`, too.
    CheckpointError
        If the checkpoint is of other stars or settings, or began with other weights.

    Notes
    -----
    The period's loss counts both views of a star; an unknown period (NaN) does not count.
    Departures: a cosine from a hundredfold learning rate, after a warm-up. Shown in chapter 03.
    """
    if min(train.scores.shape[1], val.scores.shape[1]) < 2:
        raise ValueError("one view a star: two are compared")

    def loss(model, inputs, y, pair, generator):
        # Both views in one batch: BatchNorm's statistics are theirs together.
        scores, level, both = (torch.cat([x[:, v] for v in pair]).float() for x in inputs)
        if noise and model.training:
            both = both + noise * torch.randn(both.shape, generator=generator, device=both.device)
        z = model.features(scores, level, both)  # (2 B, F)
        terms = {"loss": 0.0, "spread": embedding_spread(z.detach())}
        if share < 1:
            agreement = simsiam(*model.predictor(z).chunk(2), *z.chunk(2), stop=stop)
            terms["loss"] = terms["loss"] + (1 - share) * agreement
            terms["agreement"] = agreement
        if share > 0:
            miss = known_pinball(y.repeat(2, 1), model.quantiles(z)).mean()
            terms["loss"] = terms["loss"] + share * miss
            terms["miss"] = miss
        return terms

    return _fit(
        encoder, loss, train, val, {"share": share, "stop": stop, "noise": noise}, **training
    )


def train_on_periods(model, train, val, *, noise=0.0, **training):
    """Train a baseline in place on periods alone, one view of a star a step.

    Parameters
    ----------
    model : module with ``.read`` and ``.scale``
    train, val, noise, **training
        As `pretrain`; one view is enough.

    Returns
    -------
    History

    Notes
    -----
    Shown in chapter 03.
    """

    def loss(model, inputs, y, pair, generator):
        scores, level, both = (x[:, pair[0]].float() for x in inputs)
        if noise and model.training:
            both = both + noise * torch.randn(both.shape, generator=generator, device=both.device)
        return {"loss": known_pinball(y, model.read(scores, level, both)).mean()}

    return _fit(model, loss, train, val, {"noise": noise}, **training)


def measure_norms(model, sample, *, device="auto", **others):
    """Measure BatchNorm's statistics anew, on all views: `stellarbook.learn.norms.measure_norms`.

    Parameters
    ----------
    model : module with ``.read``
        In place; it comes back in eval mode.
    sample : LightCurveSample
        Stars like those that it was trained on.
    device, **others
        As there.
    """
    device = pick_device(device)

    def read(index):
        inputs = (x[index].flatten(0, 1).to(device).float() for x in _inputs(sample))
        return model.read(*inputs)

    norms.measure_norms(model, read, len(sample), device=device, **others)


def quantiles(model, sample, view=0, batch_size=512, device="auto"):
    """Quantiles of log10 of the period, (n, 1, levels), not calibrated, from one view a star."""
    inputs = tuple(x[:, view] for x in _inputs(sample))
    return restore(model.scale, run(model, model.read, inputs, batch_size, device))


def embed(encoder, sample, view=0, batch_size=512, device="auto"):
    """Features of one view of each star, (n, F) array."""
    inputs = tuple(x[:, view] for x in _inputs(sample))
    return run(encoder, encoder.features, inputs, batch_size, device)


def _inputs(sample):
    return sample.scores, sample.level, sample.transforms


def _fit(
    model,
    loss,
    train,
    val,
    settings,
    *,
    steps,
    batch_size=128,
    lr=2e-3,
    weight_decay=1e-2,
    seed=0,
    device="auto",
    **others,
):
    device = pick_device(device)
    inputs, y = _tensors(model, train, device)
    held, held_y = _tensors(model, val, device)
    views = inputs[0].shape[1]
    data = fingerprint(*inputs, y, *held, held_y)
    start = fingerprint(*model.state_dict().values())

    def step(model, index, generator):
        pair = torch.randperm(views, generator=generator, device=device)[:2].tolist()
        return loss(model, tuple(x[index] for x in inputs), y[index], pair, generator)

    def validate(model):
        total, parts = 0.0, torch.arange(len(held_y), device=device).split(512)
        for part in parts:
            terms = loss(model, tuple(x[part] for x in held), held_y[part], (0, 1), None)
            # Where a period is learnt, its loss alone chooses the weights that stay.
            total += float(terms.get("miss", terms["loss"])) * len(part) / len(held_y)
        return total

    return fit(
        model,
        step,
        len(y),
        steps=steps,
        batch_size=min(batch_size, len(y)),
        lr=lr,
        weight_decay=weight_decay,
        schedule=cosine(warmup=min(100, steps // 10)),
        validate=validate,
        seed=seed,
        device=device,
        configuration=settings | {"data": data, "start": start},
        **others,
    )


def _tensors(model, sample, device):
    for name in ("scores", "transforms"):
        x = getattr(sample, name)
        if unknown := int((~x.isfinite()).flatten(1).any(dim=1).sum()):
            raise ValueError(f"{unknown} of {len(sample)} stars have {name} that are not finite")
    y = torch.from_numpy(model.scale.standardise(sample.labels.numpy())).float()
    return tuple(x.to(device) for x in _inputs(sample)), y.to(device)
