"""The specialist baseline: small networks trained for these labels and nothing else.

Same call shape as `stellarbook.learn.baselines`. Shown in chapter 01.
"""

from dataclasses import asdict
from pathlib import Path

import torch

from stellarbook.layers.blocks import MLP
from stellarbook.learn.checkpoint import (
    CheckpointError,
    fingerprint,
    load_weights,
    save_weights,
)
from stellarbook.learn.fit import fit
from stellarbook.learn.optim import cosine
from stellarbook.learn.processes import pick_device
from stellarbook.learn.scales import Features, Labels, blank_unknown, finite


class MLPEnsemble:
    """Networks that differ in their seed; the prediction is their mean.

    Attributes
    ----------
    features : Features
    labels : Labels
    nets : list of MLP
    histories : list of History
        How each was trained; empty after `load`.
    """

    def __init__(self, features, labels, nets, histories=()):
        self.features, self.labels, self.nets = features, labels, nets
        self.histories = list(histories)

    @torch.no_grad()
    def each(self, x):
        """(stars, features) -> (nets, stars, labels): every network's own prediction."""
        z = torch.from_numpy(self.features(x))  # (stars, features + flagged)
        z = torch.stack([net(z).chunk(2, dim=1)[0] for net in self.nets])  # (nets, stars, labels)
        return blank_unknown(x, self.labels.restore(z.numpy()))

    def predict(self, x):
        """(stars, features) -> (stars, labels), in physical units; an empty star gives NaN."""
        return self.each(x).mean(0)

    def save(self, path, metadata=None, *, half=True):
        """Write weights (16-bit floats) and scales as safetensors; see `save_weights`."""
        tensors = torch.nn.ModuleList(self.nets).state_dict()  # "<net>.<layer>.weight", …
        # The scales go into the header: coefficients of 1e-6 have no 16-bit float.
        about = {"features": asdict(self.features), "labels": asdict(self.labels)}
        about |= {"metadata": metadata or {}, "nets": len(self.nets)}
        layers = [layer for layer in self.nets[0] if isinstance(layer, torch.nn.Linear)]
        about["widths"] = [layers[0].in_features, *(layer.out_features for layer in layers)]
        save_weights(path, tensors, about, half=half)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote; raises CheckpointError for anything else."""
        tensors, about = load_weights(path)
        try:
            features, labels = Features(**about["features"]), Labels(**about["labels"])
            n_in, *hidden, n_out = about["widths"]
            nets = torch.nn.ModuleList(MLP(n_in, n_out, hidden) for _ in range(about["nets"]))
            nets.load_state_dict(tensors)
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not hold an MLPEnsemble ({error})") from error
        return cls(features, labels, list(nets.eval()))


def mlp(
    x_train,
    y_train,
    x_val,
    y_val,
    *,
    log=(),
    seeds=(0, 1, 2),
    hidden=(384, 384, 384),
    dropout=0.1,
    steps=6000,
    batch_size=256,
    lr=2e-3,
    weight_decay=0.05,
    device="auto",
    checkpoints=None,
    progress=True,
):
    """The specialist: a few small networks, trained for these labels and nothing else.

    The loss is the negative log-likelihood of a Laplace distribution whose width b the network
    predicts beside each label, |y − μ|/b + ln b of standardised labels; a missing label counts 0.
    Stars that are hard to tell, hot ones above all, then do not rule the training. Each network
    keeps the weights with the lowest mean absolute error on the validation stars.

    Parameters
    ----------
    x_train, x_val : array (stars, features)
    y_train, y_val : array (stars, labels)
    log : sequence of int
        Labels modelled as log10.
    seeds : sequence of int
        One network each.
    hidden, dropout
        See `MLP`.
    steps, batch_size, lr, weight_decay, device, progress
        See `fit`; the batch is no larger than the sample.
    checkpoints : path, optional
        Folder for the trainings' checkpoints, one a seed.

    Returns
    -------
    MLPEnsemble

    Notes
    -----
    Shown in chapter 01.
    """
    features, labels = Features.of(x_train), Labels.of(finite(y_train), log)
    device = pick_device(device)
    x, xv = (torch.from_numpy(features(x)).to(device) for x in (x_train, x_val))
    y, yv = (torch.from_numpy(labels.standardise(y)).float().to(device) for y in (y_train, y_val))
    data = fingerprint(x, y)

    known = y.isfinite()
    y.nan_to_num_()  # masking after the subtraction would leave NaN in the gradient

    def step(model, index, generator):
        value, log_width = model(x[index]).chunk(2, dim=1)  # (B, labels) each
        error = (value - y[index]).abs()
        return ((error * torch.exp(-log_width) + log_width) * known[index]).mean()

    def validate(model):
        return (model(xv).chunk(2, dim=1)[0] - yv).abs().nanmean()

    nets, histories = [], []
    for seed in seeds:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            net = MLP(x.shape[1], 2 * y.shape[1], hidden, dropout)
        history = fit(
            net,
            step,
            len(x),
            steps=steps,
            batch_size=min(batch_size, len(x)),
            lr=lr,
            weight_decay=weight_decay,
            schedule=cosine(warmup=min(100, steps // 10)),
            validate=validate,
            checkpoint=checkpoints and Path(checkpoints) / f"mlp-{seed}.pt",
            seed=seed,
            device=device,
            progress=progress and f"network {seed}",
            configuration={"data": data},
        )
        nets.append(net.cpu())
        histories.append(history)
    return MLPEnsemble(features, labels, nets, histories)
